//! RAPL: the energy counters of Intel's and AMD's processors, by the kernel's powercap zones or, where there are none
//! or when asked for, by the registers themselves.
//!
//! Every domain with a counter is a rail (see [`domain`] for their names). There are also three sums, each absent while one
//! of its parts is:
//!
//! * `power_package_watts`, of all packages. `core` and `uncore` are parts of a package;
//! * `power_dram_watts`, of all memory domains, which lie outside the packages (Intel SDM vol. 3, "RAPL Interfaces");
//! * `power_total_watts`: the platform's own counter `psys` if it is credible, else packages and memory. A `psys` that has
//!   never moved is not wired on this board. A `psys` that counts less than packages and memory, which are parts of the
//!   platform, covers something else or nothing: it is not used again until the source is reopened, so that the total does not
//!   change its meaning from poll to poll.

mod alias;
mod domain;
mod msr;
mod powercap;
mod processor;
mod registers;
mod settings;
mod topology;

#[cfg(test)]
mod tests;

use std::path::Path;

use domain::{Domain, DomainKind, FoundDomain};
use settings::{Interface, Settings};

use super::io_log::files;
use super::{Board, Context, Error, Meter, Source};
use crate::config::Config;
use crate::metrics::{Comparison, Desc, Grade, PowerSum, Readings, SeriesId, Total};
use crate::sys::clock::BootTime;

/// The meter.
pub(super) const METER: Meter = Meter {
    device_types: &["lattepanda"],
    ..Meter::of::<Settings>(
        "rapl",
        "energy counters of Intel and AMD processors (powercap, MSR)",
        |config| config.meter::<Settings>().enabled,
        probe,
        |context| Ok(Box::new(Rapl::open(context)?)),
    )
};

fn probe(board: &Board, config: &Config) -> Result<String, Error> {
    let health = board.health();
    let by_powercap = || {
        let zones = powercap::zones(&health, &board.roots.sysfs);
        let rails: Vec<&str> = zones.iter().map(|zone| zone.rail.as_str()).collect();
        match rails.is_empty() {
            false => Ok(format!("{} by powercap", rails.join(", "))),
            true => Err(no_zones_error(board)),
        }
    };
    match config.meter::<Settings>().interface {
        Interface::Powercap => by_powercap(),
        Interface::Msr => msr::probe(board, &health, true),
        Interface::Auto => by_powercap().or_else(|no_zones| {
            msr::probe(board, &health, false)
                .map_err(|error| Error::new(format!("{no_zones}, and {error}")))
        }),
    }
}

fn no_zones_error(board: &Board) -> Error {
    let class = board.roots.sysfs.join("class/powercap");
    let error = Error::new(format!("{} has no intel-rapl zones", class.display()));
    // The class directory still links to what is covered up (moby's advisory GHSA-jq35-85cj-fj4p).
    let control_type = class.join("intel-rapl");
    match control_type.is_symlink() && !files::exists(&board.io_log, &control_type) {
        true => error.hint(
            "hidden, as container runtimes do: mount the host's /sys and set --path.sysfs to it",
        ),
        false => error,
    }
}

/// The open meter.
struct Rapl {
    context: Context,
    settings: Settings,
    domains: Vec<Domain>,
    /// The sums that have at least one domain.
    package: Option<SeriesId>,
    dram: Option<SeriesId>,
    total: Option<Total>,
    duration: Option<alias::DurationMetric>,
    psys: Psys,
    polled_at: Option<BootTime>,
    /// The processors that were online when the registers were opened.
    online: Option<String>,
}

impl Rapl {
    fn open(context: &Context) -> Result<Rapl, Error> {
        let mut rapl = Rapl {
            context: context.clone(),
            settings: context.config.meter(),
            domains: Vec::new(),
            package: None,
            dram: None,
            total: None,
            duration: None,
            psys: Psys::Still,
            polled_at: None,
            online: None,
        };
        let mut found = rapl.find_zones();
        if found.is_empty() {
            found = match rapl.settings.interface {
                Interface::Powercap => return Err(no_zones_error(&context.board)),
                Interface::Msr => rapl.find_registers()?,
                Interface::Auto => rapl.find_registers().map_err(|error| {
                    Error::new(format!("{}, and {error}", no_zones_error(&context.board)))
                })?,
            };
        } else {
            powercap::check_readable(&mut found)?;
        }
        rapl.adopt(found);
        // Registered after the domains, so that the metric follows theirs.
        rapl.duration = alias::DurationMetric::new(&context.group, &rapl.settings);
        Ok(rapl)
    }

    /// The powercap zones, if the configuration allows them.
    fn find_zones(&self) -> Vec<FoundDomain> {
        let Context { board, health, .. } = &self.context;
        if self.settings.interface == Interface::Msr {
            return Vec::new();
        }
        let zones = powercap::zones(health, &board.roots.sysfs).into_iter();
        zones.map(|zone| zone.find(health)).collect()
    }

    fn find_registers(&mut self) -> Result<Vec<FoundDomain>, Error> {
        let Context { board, health, .. } = &self.context;
        self.online = topology::online(health, &board.roots.sysfs);
        msr::find(board, health)
    }

    /// Replaces the domains by these. Domains that are already open continue their counters.
    fn adopt(&mut self, found: Vec<FoundDomain>) {
        let group = &self.context.group;
        let mut known = std::mem::take(&mut self.domains);
        for found in found {
            let domain = match known.iter().position(|domain| domain.is(&found)) {
                Some(place) => known.swap_remove(place),
                None => Domain::new(group, &self.settings, found),
            };
            self.domains.push(domain);
        }
        let has = |kind| self.domains.iter().any(|domain| domain.kind() == kind);
        let (package, dram, psys) = (
            has(DomainKind::Package),
            has(DomainKind::Dram),
            has(DomainKind::Psys),
        );
        self.package = package.then(|| group.series(&package_watts(), &[]));
        self.dram = dram.then(|| group.series(&dram_watts(), &[]));
        if !package && !psys {
            group.claim_total(None);
        }
        self.total = (package || psys).then(|| Total::new(group, Grade::Parts));
    }
}

/// Whether the platform's counter can be the board's total.
#[derive(Debug)]
enum Psys {
    /// Unknown: it has not moved.
    Still,
    /// Yes: it counts at least as much as packages and memory.
    Whole(Comparison),
    /// No: it counts less than packages and memory.
    Less,
}

/// Minimum seconds of readings before the platform's counter is rejected: it may be updated less often than the others.
const MIN_COMPARED_SECONDS: f64 = 0.4;

impl Rapl {
    /// Decides whether the platform's counter can be the board's total.
    fn judge_psys(&mut self, seconds: f64, max_gap: f64, psys: &PowerSum, parts: &PowerSum) {
        if matches!(self.psys, Psys::Still) && psys.joules() > 0.0 {
            self.psys = Psys::Whole(Comparison::default());
        }
        let Psys::Whole(comparison) = &mut self.psys else {
            return;
        };
        let (Some(whole), Some(parts)) = (psys.watts(), parts.watts()) else {
            return;
        };
        if seconds <= 0.0 || seconds > max_gap {
            return;
        }
        // Compares power, since a counter that could not be read for a while has counted more than this poll's energy.
        comparison.add(seconds, whole * seconds, parts * seconds);
        if !comparison.is_less(MIN_COMPARED_SECONDS) {
            return;
        }
        self.psys = Psys::Less;
        let why = format!(
            "rapl: psys counts less ({whole:.1} W) than packages and memory, which are parts of the platform ({parts:.1} W): \
             the board's total is these instead"
        );
        log::warn!("{why}");
        let psys = Path::new("psys");
        self.context.health.set_value_error(psys, Some(why));
    }
}

impl Source for Rapl {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let [mut package, mut dram, mut psys] = [PowerSum::default(); 3];
        for domain in &mut self.domains {
            let (watts, joules) = domain.poll(out);
            match domain.kind() {
                DomainKind::Package => package.add(watts, Some(joules)),
                DomainKind::Dram => dram.add(watts, Some(joules)),
                DomainKind::Psys => psys.add(watts, Some(joules)),
                DomainKind::Core | DomainKind::Uncore | DomainKind::Other => {}
            }
        }
        if let Some(duration) = &mut self.duration {
            duration.set(out);
        }
        for (series, sum) in [(self.package, &package), (self.dram, &dram)] {
            if let (Some(series), Some(watts)) = (series, sum.watts()) {
                out.set(series, watts);
            }
        }
        let then = self.polled_at.replace(out.at);
        let seconds = then.map_or(0.0, |then| out.at.seconds_since(then));
        let parts = package.with(&dram);
        // If memory cannot be read, the packages alone are the lower bound.
        let least = if dram.is_incomplete() {
            &package
        } else {
            &parts
        };
        self.judge_psys(seconds, out.max_gap, &psys, least);
        let Some(total) = &self.total else {
            return Ok(());
        };
        match &self.psys {
            Psys::Whole(_) => {
                let watts = psys.watts();
                // A single reading below its parts is wrong.
                let watts = watts.filter(|watts| least.watts().is_none_or(|parts| *watts >= parts));
                total.set_counted(out, watts, psys.joules());
            }
            Psys::Still | Psys::Less => total.set_counted(out, parts.watts(), parts.joules()),
        }
        if let Some(watts) = least.watts() {
            total.set_parts(out, watts);
        }
        Ok(())
    }

    fn rescan(&mut self) {
        let zones = self.find_zones();
        if !zones.is_empty() {
            self.adopt(zones);
            return;
        }
        // Reading the topology of every processor at each rescan would cost too much.
        let Context { board, health, .. } = &self.context;
        if self.online.is_some() && topology::online(health, &board.roots.sysfs) != self.online {
            if let Ok(registers) = self.find_registers() {
                self.adopt(registers);
            }
        }
    }
}

fn package_watts() -> Desc {
    Desc::gauge(
        "power_package_watts",
        "Electric power of all processor packages by RAPL, in watts.",
    )
}

fn dram_watts() -> Desc {
    Desc::gauge(
        "power_dram_watts",
        "Electric power of the memory at all processor packages by RAPL, in watts.",
    )
}
