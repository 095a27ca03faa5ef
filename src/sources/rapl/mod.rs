//! RAPL: the energy counters of Intel's and AMD's processors, by the kernel's powercap zones or, where there are none
//! or when asked for, by the registers themselves.
//!
//! Every domain that counts is a rail (see [`domain`] for their names). Beside them there are three sums, each absent
//! while one of its parts is:
//!
//! * `power_package_watts`, of all packages, with all that is in them: `core` and `uncore` are parts of a package;
//! * `power_dram_watts`, of all memory domains, which lie outside the packages (Intel SDM vol. 3, "RAPL Interfaces");
//! * `power_total_watts`: the platform's own counter `psys` where there is one that can be believed, else packages and
//!   memory. A `psys` that has never moved is one that the board's maker did not wire; one that counts less than
//!   packages and memory, which are parts of the platform, covers something else or nothing. Once seen to, it is the total no more
//!   until the source is opened anew, so that the total does not change its meaning from poll to poll.

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

use domain::{Domain, Found, Kind};
use settings::{Interface, Settings};

use super::io_log::files;
use super::{Board, Context, Error, Meter, Pace, Source};
use crate::config::{Config, SectionSpec};
use crate::metrics::{Comparison, Desc, Grade, Readings, SeriesId, Total};
use crate::sys::clock::BootTime;

/// The meter.
pub(super) const METER: Meter = Meter {
    name: "rapl",
    summary: "energy counters of Intel and AMD processors (powercap, MSR)",
    device_types: &["lattepanda"],
    pace: Pace::Interval,
    section: SectionSpec::of::<Settings>(),
    switch: |config| config.meter::<Settings>().enabled,
    devices: None,
    probe,
    claims: None,
    open: |context| Ok(Box::new(Rapl::open(context)?)),
};

fn probe(board: &Board, config: &Config) -> Result<String, Error> {
    let health = board.health();
    let by_powercap = || {
        let zones = powercap::zones(&health, &board.roots.sysfs);
        let rails: Vec<&str> = zones.iter().map(|zone| zone.rail.as_str()).collect();
        match rails.is_empty() {
            false => Ok(format!("{} by powercap", rails.join(", "))),
            true => Err(no_zones(board)),
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

fn no_zones(board: &Board) -> Error {
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
    /// The sums that there is something for.
    package: Option<SeriesId>,
    dram: Option<SeriesId>,
    total: Option<Total>,
    duration: Option<alias::Duration>,
    psys: Psys,
    polled_at: Option<BootTime>,
    /// The processors that were online when the registers were looked for.
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
                Interface::Powercap => return Err(no_zones(&context.board)),
                Interface::Msr => rapl.find_registers()?,
                Interface::Auto => rapl.find_registers().map_err(|error| {
                    Error::new(format!("{}, and {error}", no_zones(&context.board)))
                })?,
            };
        } else {
            powercap::check_readable(&mut found)?;
        }
        rapl.adopt(found);
        // After the domains, whose metric it comes after.
        rapl.duration = alias::Duration::new(&context.group, &rapl.settings);
        Ok(rapl)
    }

    /// The powercap zones, if they may be used.
    fn find_zones(&self) -> Vec<Found> {
        let Context { board, health, .. } = &self.context;
        if self.settings.interface == Interface::Msr {
            return Vec::new();
        }
        let zones = powercap::zones(health, &board.roots.sysfs).into_iter();
        zones.map(|zone| zone.find(health)).collect()
    }

    fn find_registers(&mut self) -> Result<Vec<Found>, Error> {
        let Context { board, health, .. } = &self.context;
        self.online = topology::online(health, &board.roots.sysfs);
        msr::find(board, health)
    }

    /// Reads these domains from now on. Those that are read already go on counting where they were.
    fn adopt(&mut self, found: Vec<Found>) {
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
        let (package, dram, psys) = (has(Kind::Package), has(Kind::Dram), has(Kind::Psys));
        self.package = package.then(|| group.series(&package_watts(), &[]));
        self.dram = dram.then(|| group.series(&dram_watts(), &[]));
        if !package && !psys {
            group.claim_board(None);
        }
        self.total = (package || psys).then(|| Total::new(group, Grade::Parts));
    }
}

/// What is known of the platform's counter.
#[derive(Debug)]
enum Psys {
    /// It has not moved.
    Still,
    /// It counts as much as packages and memory, or more, as a platform does.
    Whole(Comparison),
    /// It counts less.
    Less,
}

/// By how many seconds of readings the platform's counter is judged: it may be brought up to date less often than others.
const JUDGED_BY: f64 = 0.4;

impl Rapl {
    /// Decides whether the platform's counter can be the board's total.
    fn judge_psys(&mut self, seconds: f64, longest_gap: f64, psys: &Sum, parts: &Sum) {
        if matches!(self.psys, Psys::Still) && psys.joules > 0.0 {
            self.psys = Psys::Whole(Comparison::default());
        }
        let Psys::Whole(comparison) = &mut self.psys else {
            return;
        };
        let (Some(whole), Some(parts)) = (psys.total(), parts.total()) else {
            return;
        };
        if seconds <= 0.0 || seconds > longest_gap {
            return;
        }
        // By power, since a counter that could not be read for a while has counted more than this poll's energy.
        comparison.add(seconds, whole * seconds, parts * seconds);
        if !comparison.is_less(JUDGED_BY) {
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
        let (mut package, mut dram, mut psys) = (Sum::default(), Sum::default(), Sum::default());
        for domain in &mut self.domains {
            let (watts, joules) = domain.poll(out);
            match domain.kind() {
                Kind::Package => package.add(watts, joules),
                Kind::Dram => dram.add(watts, joules),
                Kind::Psys => psys.add(watts, joules),
                Kind::Core | Kind::Uncore | Kind::Other => {}
            }
        }
        if let Some(duration) = &mut self.duration {
            duration.set(out);
        }
        for (series, sum) in [(self.package, &package), (self.dram, &dram)] {
            if let (Some(series), Some(watts)) = (series, sum.total()) {
                out.set(series, watts);
            }
        }
        let then = self.polled_at.replace(out.at);
        let seconds = then.map_or(0.0, |then| out.at.seconds_since(then));
        let parts = package.with(&dram);
        // Memory that cannot be read leaves the packages to go by.
        let least = if dram.missing { &package } else { &parts };
        self.judge_psys(seconds, out.longest_gap, &psys, least);
        let Some(total) = &self.total else {
            return Ok(());
        };
        match &self.psys {
            Psys::Whole(_) => {
                let watts = psys.total();
                // A reading that is less than its parts is wrong, whatever the others are.
                let watts = watts.filter(|watts| least.missing || *watts >= least.watts);
                total.counted(out, watts, psys.joules);
            }
            Psys::Still | Psys::Less => total.counted(out, parts.total(), parts.joules),
        }
        if let Some(watts) = least.total() {
            total.parts(out, watts);
        }
        Ok(())
    }

    fn rescan(&mut self) {
        let zones = self.find_zones();
        if !zones.is_empty() {
            self.adopt(zones);
            return;
        }
        // Looking at every processor is too much to do every time.
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

/// A sum that is not known while a part of it is not.
#[derive(Debug, Default)]
struct Sum {
    watts: f64,
    /// What was counted since the readings before, in joules.
    joules: f64,
    parts: u32,
    missing: bool,
}

impl Sum {
    fn add(&mut self, watts: Option<f64>, joules: f64) {
        self.joules += joules;
        self.parts += 1;
        self.watts += watts.unwrap_or(0.0);
        self.missing |= watts.is_none();
    }

    /// Both together.
    fn with(&self, other: &Sum) -> Sum {
        Sum {
            watts: self.watts + other.watts,
            joules: self.joules + other.joules,
            parts: self.parts + other.parts,
            missing: self.missing || other.missing,
        }
    }

    fn total(&self) -> Option<f64> {
        (self.parts > 0 && !self.missing).then_some(self.watts)
    }
}
