//! RAPL: the energy counters of Intel's and AMD's processors, by the first of these that can be read, or by the configured
//! one: the kernel's powercap zones, its performance events, the registers themselves.
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
mod counter;
mod domain;
pub mod event_source;
mod msr;
mod perf;
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

use super::{Board, Context, Error, Meter, Pace, Source};
use crate::config::Config;
use crate::metrics::{Comparison, Desc, Grade, PowerSum, Readings, SeriesId, Total};
use crate::sys::clock::BootTime;

/// The names of metrics that the configuration gives to this meter.
pub(super) fn names_in(config: &Config) -> Vec<String> {
    let settings = config.meter::<Settings>();
    let names = [settings.metric, settings.duration_metric];
    names.into_iter().flatten().collect()
}

/// The meter.
pub(super) const METER: Meter = Meter {
    device_types: &["lattepanda"],
    pace: Pace::Interval,
    ..Meter::of::<Settings>(
        "rapl",
        "energy counters of Intel and AMD processors (powercap, perf events, MSR)",
        |config| config.meter::<Settings>().enabled,
        probe,
        |context| Ok(Box::new(Rapl::open(context)?)),
    )
};

fn probe(board: &Board, config: &Config) -> Result<String, Error> {
    let health = board.health();
    match config.meter::<Settings>().interface {
        Interface::Powercap => powercap::probe(board, &health),
        Interface::Perf => perf::probe(board, &health),
        Interface::Msr => msr::probe(board, &health, true),
        Interface::Auto => {
            let by_zones = powercap::probe(board, &health);
            let by_events = perf::probe(board, &health);
            match (by_zones, by_events) {
                (Ok(_), Ok(events)) if !powercap::may_be_read(board, &health) => Ok(events),
                (Ok(found), _) | (Err(_), Ok(found)) => Ok(found),
                (Err(no_zones), Err(no_events)) => msr::probe(board, &health, false)
                    .map_err(|no_registers| join(vec![no_zones, no_events, no_registers])),
            }
        }
    }
}

/// The error of all interfaces. What is there and must not be read explains more than what is not there.
fn join(mut errors: Vec<Error>) -> Error {
    if errors.iter().any(Error::is_denied) {
        errors.retain(Error::is_denied);
    }
    match errors.pop() {
        Some(last) if errors.is_empty() => last,
        last => {
            let first: Vec<String> = errors.iter().map(Error::to_string).collect();
            let last = last.map(|error| error.to_string()).unwrap_or_default();
            Error::new(format!("{}, and {last}", first.join(", ")))
        }
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
    /// The interface in use.
    interface: Interface,
    /// The processors that were online when counters of processors were opened.
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
            interface: Interface::Auto,
            online: None,
        };
        let found = match rapl.settings.interface {
            Interface::Auto => rapl.find_any()?,
            interface => rapl.find_by(interface)?,
        };
        rapl.adopt(found);
        // Registered after the domains, so that the metric follows theirs.
        rapl.duration = alias::DurationMetric::new(&context.group, &rapl.settings);
        Ok(rapl)
    }

    /// The domains by the first interface that has any.
    fn find_any(&mut self) -> Result<Vec<FoundDomain>, Error> {
        let mut errors: Vec<Error> = Vec::new();
        for interface in [Interface::Powercap, Interface::Perf, Interface::Msr] {
            match self.find_by(interface) {
                Ok(found) => {
                    if let Some(denied) = errors.iter().find(|error| error.is_denied()) {
                        log::info!(
                            "rapl: reading by {} instead, because {denied}",
                            interface.word()
                        );
                    }
                    return Ok(found);
                }
                Err(error) => errors.push(error),
            }
        }
        Err(join(errors))
    }

    fn find_by(&mut self, interface: Interface) -> Result<Vec<FoundDomain>, Error> {
        let Context { board, health, .. } = &self.context;
        let by_cpu = matches!(interface, Interface::Perf | Interface::Msr);
        let online = || topology::online(health, &board.roots.sysfs);
        let online = by_cpu.then(online).flatten();
        let found = match interface {
            Interface::Auto | Interface::Powercap => powercap::find(board, health)?,
            Interface::Perf => perf::find(board, health)?,
            Interface::Msr => msr::find(board, health)?,
        };
        (self.interface, self.online) = (interface, online);
        Ok(found)
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
        // With `auto`, the zones are used as soon as they can be.
        if matches!(
            self.settings.interface,
            Interface::Auto | Interface::Powercap
        ) {
            if let Ok(zones) = self.find_by(Interface::Powercap) {
                self.adopt(zones);
                return;
            }
        }
        // Looking at the topology of every processor at each rescan would cost too much.
        let Context { board, health, .. } = &self.context;
        if self.online.is_some() && topology::online(health, &board.roots.sysfs) != self.online {
            if let Ok(found) = self.find_by(self.interface) {
                self.adopt(found);
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
