//! The meters of this board, read by this process.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::rail::{identify, Quantity, Rail};
use super::sampler::{Clock, Meter, Readings};
use crate::config::Config;
use crate::exporter::LocalBoard;
use crate::metrics::{is_absent, Cursor, Group, Registry, Rows};
use crate::sources::io_log::IoLogs;
use crate::sources::{Roots, METERS};
use crate::sys::clock::BootTime;

/// Sources that measure no power of their own.
const UNUSED: [&str; 2] = ["thermal", "workloads"];
/// How often the readings are collected. The histories keep minutes of them.
const PAUSE: Duration = Duration::from_millis(100);

/// The board.
pub struct Local {
    board: LocalBoard,
    reader: Reader,
    /// Sources that had neither been read nor failed before the readings were last collected.
    unsettled: Vec<String>,
}

/// Reads the histories of a registry.
#[derive(Default)]
struct Reader {
    /// The registry's version that `groups` is complete for.
    version: Option<u64>,
    groups: Vec<GroupReader>,
    /// Samples that gave way to newer ones before they were read.
    dropped: u64,
}

/// Where the readings of one group are.
struct GroupReader {
    group: Weak<Group>,
    cursor: Cursor,
    /// The place in a row of each series that is read.
    series: Vec<(usize, Rail, Quantity)>,
}

impl Local {
    /// Starts the board's meters, read every `interval`.
    pub fn start(roots: Roots, config: Config, interval: Duration) -> Result<Local, String> {
        let listed = config.sources.clone();
        let listed = listed.unwrap_or_else(|| METERS.iter().map(|m| m.name.to_string()).collect());
        let sources = listed.into_iter();
        let config = Config {
            interval,
            sources: Some(sources.filter(|name| !UNUSED.contains(&&**name)).collect()),
            // What is not exported is measured all the same.
            metrics: None,
            labels: false,
            self_metrics: false,
            history: Default::default(),
            ..config
        };
        Ok(Local {
            board: LocalBoard::start(roots, config, IoLogs::Off)?,
            reader: Reader::default(),
            unsettled: Vec::new(),
        })
    }
}

impl Reader {
    /// The readings since the last call.
    fn collect(&mut self, registry: &Registry) -> Vec<Readings> {
        self.find_series(registry);
        let mut all = Vec::new();
        for group in &mut self.groups {
            self.dropped += group.collect(&mut all);
        }
        all.retain(|readings| !readings.values.is_empty());
        all
    }

    /// Looks for series that have come or gone. Of the board's totals only that of their owner is shown.
    fn find_series(&mut self, registry: &Registry) {
        let version = registry.version();
        if self.version == Some(version) {
            return;
        }
        let layout = registry.layout();
        let mut before = std::mem::take(&mut self.groups);
        for group in registry.groups() {
            let known = before.iter().position(|reader| reader.is_of(&group));
            self.groups.push(match known {
                Some(place) => GroupReader {
                    series: Vec::new(),
                    ..before.swap_remove(place)
                },
                None => GroupReader {
                    group: Arc::downgrade(&group),
                    cursor: Cursor::default(),
                    series: Vec::new(),
                },
            });
        }
        for (family, all) in layout.families() {
            for (group, place, series) in all {
                let reader = self.groups.iter_mut().find(|reader| reader.is_of(group));
                if let (Some((rail, quantity)), Some(reader)) =
                    (identify(&family.name, |name| series.label(name)), reader)
                {
                    reader.series.push((place, rail, quantity));
                }
            }
        }
        self.version = Some(version);
    }
}

impl GroupReader {
    fn is_of(&self, group: &Group) -> bool {
        std::ptr::eq(self.group.as_ptr(), group)
    }

    /// Adds the readings since the last call. Returns how many samples were dropped before.
    fn collect(&mut self, all: &mut Vec<Readings>) -> u64 {
        let Some(group) = self.group.upgrade() else {
            return 0;
        };
        let first = all.len();
        all.extend(self.series.iter().map(|(_, rail, quantity)| Readings {
            rail: rail.clone(),
            quantity: *quantity,
            max_gap: group.staleness_limit(),
            values: Vec::new(),
        }));
        let (mut rows, mut values) = (Rows::default(), Vec::new());
        while group.history().read(&mut self.cursor, &mut rows) {
            for (at, row) in rows.iter() {
                values.clear();
                values.extend(row);
                let of_group = all.iter_mut().skip(first);
                for ((place, ..), readings) in self.series.iter().zip(of_group) {
                    let value = values.get(*place).filter(|value| !is_absent(**value));
                    if let Some(value) = value {
                        readings.values.push((Clock::default().at(at), *value));
                    }
                }
            }
        }
        rows.dropped
    }
}

impl Meter for Local {
    fn collect(&mut self) -> Result<Vec<Readings>, String> {
        self.board.restart_hung_sources();
        // Before, so that the readings of those that have settled are among those that are collected.
        let sources = self.board.sources();
        let unsettled = sources.iter().filter(|s| !s.context().group.is_settled());
        self.unsettled = unsettled.map(|source| source.name().to_string()).collect();
        Ok(self.reader.collect(self.board.registry()))
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    fn unsettled(&self) -> Vec<String> {
        self.unsettled.clone()
    }

    fn may_come(&self) -> bool {
        // A source that was read and has no power will have none.
        false
    }

    fn problems(&self) -> Vec<String> {
        let now = BootTime::now();
        let sources = self.board.sources();
        let failed = sources.iter().filter_map(|source| {
            let context = source.context();
            let error = context.health.last_error()?;
            let is_read = context.group.is_fresh(now);
            (!is_read).then(|| format!("{}: {error}", source.name()))
        });
        let lost = (self.reader.dropped > 0).then(|| {
            let lost = self.reader.dropped;
            format!("{lost} samples gave way to newer ones before they were collected: a longer interval would help")
        });
        failed.chain(lost).collect()
    }

    fn pause(&self) -> Duration {
        PAUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::sampler::State;
    use crate::metrics::{self, Grade, Policy, Total};

    const SECOND: u64 = 1_000_000_000;

    /// The microjoules that a processor has used after so many seconds: 20 W for half a second, then 4 W, and so on.
    fn microjoules(seconds: f64) -> u64 {
        let whole = seconds.floor();
        let rest = seconds - whole;
        let joules = whole * 12.0 + rest.min(0.5) * 20.0 + (rest - 0.5).max(0.0) * 4.0;
        (joules * 1e6) as u64
    }

    #[test]
    fn known_waveform_is_measured_through_the_histories() {
        let registry = Registry::new(Policy::All);
        let [rapl, plug] = ["rapl", "shelly"].map(|source| {
            let group = registry.add_group(u32::from(source == "rapl"), source, vec![]);
            group.history().limit(Duration::from_secs(60), 1 << 20);
            group
        });
        let mut rail = metrics::Rail::with_range(&rapl, "package-0", 1 << 32);
        let mut total = Total::new(&plug, Grade::Input);
        let (mut reader, mut state) = (Reader::default(), State::default());
        state.begin(BootTime(SECOND / 4));
        let mut out = metrics::Readings::new(5.0);
        for n in 0..=1000u64 {
            let at = BootTime(1 + n * SECOND / 100);
            out.begin(at);
            // It wraps on the way.
            let counter = (microjoules(at.0 as f64 / 1e9) + (1 << 32) - 50_000_000) % (1 << 32);
            rail.set_counter(&mut out, counter, 1e-6);
            rapl.publish(rapl.new_generation(), &out);
            out.begin(at);
            total.set_watts(&mut out, 30.0);
            plug.publish(plug.new_generation(), &out);
            if n % 50 == 0 {
                state.take(Ok(reader.collect(&registry)));
                state.add_up(BootTime(at.0.saturating_sub(SECOND)));
            }
        }
        let end = BootTime(SECOND * 9 + SECOND / 3);
        let measured = state.finish(end);
        let expected = (microjoules(9.0 + 1.0 / 3.0) - microjoules(0.25)) as f64 / 1e6;
        let package = measured[&Rail::of("rapl", "package-0")];
        let error = (package.joules - expected).abs() / expected;
        assert!(error < 1e-3, "{package:?} and not {expected}");
        assert!((package.peak_watts.unwrap() - 20.0).abs() < 0.1);
        let board = measured[&Rail::Board];
        assert!((board.joules - 30.0 * (9.0 + 1.0 / 3.0 - 0.25)).abs() < 0.1);
        assert_eq!(measured.len(), 2, "{measured:?}");
    }
}
