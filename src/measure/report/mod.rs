//! What was measured, and what follows from it. Pure; [`text`] and [`machine`] write it down.

pub mod machine;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::rail::Rail;
use super::statistics::{estimate, Estimate};
use super::window::Measured;
use crate::sources::workloads::domain_of_rail;
use crate::sys::child::Status;

/// Everything that was measured.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The exporter that was asked, without a password; `None`: this process read the meters.
    pub url: Option<String>,
    /// How often this process read the meters.
    pub interval: Option<Duration>,
    /// The board before the command.
    pub idle: Option<Idle>,
    /// How often the command was to be run.
    pub repeat: u32,
    /// Each run.
    pub runs: Vec<Run>,
    /// What people should know.
    pub notes: Vec<String>,
}

/// The idle board.
#[derive(Debug, Clone, Default)]
pub struct Idle {
    /// How long it was measured.
    pub seconds: f64,
    /// The mean power of each rail, in watts.
    pub watts: BTreeMap<Rail, f64>,
}

/// One run of the command.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// How long it took.
    pub seconds: f64,
    /// How it ended; `None`: it was still running when the measurement was ended.
    pub status: Option<Status>,
    /// Whether the measurement was interrupted.
    pub is_interrupted: bool,
    /// How many processes of the command were running at its end.
    pub left_behind: usize,
    /// CPU time of the command and its descendants.
    pub cpu_seconds: Option<f64>,
    /// CPU time of everything on the board; `None`: unknown, or the command ran elsewhere.
    pub busy_seconds: Option<f64>,
    /// What each rail used.
    pub rails: BTreeMap<Rail, Measured>,
}

impl Run {
    /// The command's share of all CPU time, 0 to 1.
    pub fn cpu_share(&self) -> Option<f64> {
        let busy = self.busy_seconds.filter(|busy| *busy > 0.0)?;
        Some((self.cpu_seconds? / busy).min(1.0))
    }
}

/// What one rail used in one run, with what follows from it.
#[derive(Debug, Clone, Copy)]
pub struct RailRun {
    /// As measured.
    pub measured: Measured,
    /// Power of the idle board, in watts.
    pub idle_watts: Option<f64>,
    /// Joules above idle. Negative where the board drew less than before.
    pub above_idle: Option<f64>,
    /// The command's joules of those, by its share of the CPU time; `None` also for a rail that feeds no processor.
    pub attributed: Option<f64>,
}

/// Mean and interval of the runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct RailMean {
    /// Joules.
    pub joules: Option<Estimate>,
    /// Mean power, in watts.
    pub mean_watts: Option<Estimate>,
    /// The highest power of all runs, in watts.
    pub peak_watts: Option<f64>,
    /// Joules above idle.
    pub above_idle: Option<Estimate>,
    /// Joules by share of the CPU time.
    pub attributed: Option<Estimate>,
}

impl Results {
    /// All rails that were measured in some run, the board first.
    pub fn rails(&self) -> BTreeSet<&Rail> {
        self.runs.iter().flat_map(|run| run.rails.keys()).collect()
    }

    /// One rail in one run.
    pub fn rail_run(&self, run: &Run, rail: &Rail) -> Option<RailRun> {
        let measured = *run.rails.get(rail)?;
        let idle = self.idle.as_ref();
        let idle_watts = idle.and_then(|idle| idle.watts.get(rail)).copied();
        let above_idle = idle_watts.map(|watts| measured.joules - watts * measured.seconds);
        let share = run.cpu_share().filter(|_| feeds_processor(rail));
        let attributed = above_idle.and_then(|joules| Some(joules.max(0.0) * share?));
        Some(RailRun {
            measured,
            idle_watts,
            above_idle,
            attributed,
        })
    }

    /// One rail in all runs.
    pub fn rail_mean(&self, rail: &Rail) -> RailMean {
        let runs = self.runs.iter();
        let runs: Vec<_> = runs.filter_map(|run| self.rail_run(run, rail)).collect();
        let of = |value: fn(&RailRun) -> Option<f64>| {
            let values: Vec<_> = runs.iter().filter_map(value).collect();
            estimate(&values)
        };
        let peaks = runs.iter().filter_map(|run| run.measured.peak_watts);
        RailMean {
            joules: of(|run| Some(run.measured.joules)),
            mean_watts: of(|run| Some(run.measured.mean_watts())),
            peak_watts: peaks.max_by(f64::total_cmp),
            above_idle: of(|run| run.above_idle),
            attributed: of(|run| run.attributed),
        }
    }

    /// A value of all runs.
    pub fn mean(&self, value: fn(&Run) -> Option<f64>) -> Option<Estimate> {
        let values: Vec<_> = self.runs.iter().filter_map(value).collect();
        estimate(&values)
    }

    /// What the numbers cannot say, a sentence for each.
    pub fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        let mut add = |rails: Vec<&Rail>, text: &dyn Fn(&str) -> String| {
            if !rails.is_empty() {
                caveats.push(text(&listed(&rails)));
            }
        };
        let having = |applies: &dyn Fn(&Run, &Measured) -> bool| -> Vec<&Rail> {
            let applies_to = |rail: &&Rail| {
                let mut runs = self.runs.iter();
                runs.any(|run| run.rails.get(*rail).is_some_and(|m| applies(run, m)))
            };
            self.rails().into_iter().filter(applies_to).collect()
        };
        let unread = having(&|_, measured| measured.readings == 0);
        add(unread.clone(), &|rails| {
            format!(
                "the command was shorter than the time between two readings of {rails}: its joules are a share by time of what was \
                 used between the readings before and after it (between `least` and `most` of each run)"
            )
        });
        // Over several runs the interval of the mean has this uncertainty, too.
        let is_single = self.runs.len() == 1;
        let few = having(&|_, m| {
            let spread = m.at_most - m.at_least;
            is_single && m.readings > 0 && spread > 0.1 * m.joules.abs()
        });
        let few = few.into_iter().filter(|rail| !unread.contains(rail));
        add(few.collect(), &|rails| {
            format!("{rails}: read so seldom that the joules are certain to lie between `least` and `most` only")
        });
        let partial = having(&|run, m| run.seconds - m.seconds > (0.01 * run.seconds).max(1e-6));
        add(partial, &|rails| {
            format!(
                "{rails}: not measured all the time that the command took; joules are those of the time that was measured"
            )
        });
        let anew = having(&|_, measured| measured.began_anew);
        add(anew, &|rails| {
            format!("{rails}: the counter began anew while the command ran (a restart?)")
        });
        if let Some(idle) = &self.idle {
            let without = self.rails().into_iter();
            let without = without.filter(|rail| !idle.watts.contains_key(*rail));
            add(without.collect(), &|rails| {
                format!("{rails}: not measured while the board was idle")
            });
        }
        caveats
    }
}

/// Whether the power of a rail can be the work of a processor, as docs/workloads.md has it.
fn feeds_processor(rail: &Rail) -> bool {
    match rail {
        Rail::Board => true,
        Rail::Of { source, rail } => domain_of_rail(source, rail).is_some(),
    }
}

/// Some names, and how many more there are.
fn listed(rails: &[&Rail]) -> String {
    const SHOWN: usize = 4;
    let names: Vec<_> = rails.iter().take(SHOWN).map(|r| r.to_string()).collect();
    match rails.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::measure::window::Method;

    /// Runs of 2 s in which the board drew so many joules, and RAPL's package half of them.
    pub(in crate::measure) fn results(joules: &[f64]) -> Results {
        let rail = |joules: f64| Measured {
            joules,
            at_least: joules * 0.99,
            at_most: joules * 1.01,
            seconds: 2.0,
            peak_watts: Some(joules),
            readings: 200,
            method: Method::Counter,
            began_anew: false,
        };
        let runs = joules.iter().map(|joules| Run {
            seconds: 2.0,
            status: Some(Status::Exited(0)),
            cpu_seconds: Some(1.5),
            busy_seconds: Some(2.0),
            rails: [
                (Rail::Board, rail(*joules)),
                (Rail::of("rapl", "package-0"), rail(joules / 2.0)),
                (Rail::of("nvidia", "0"), rail(1.0)),
            ]
            .into(),
            ..Run::default()
        });
        Results {
            command: vec!["make".into(), "a b".into()],
            interval: Some(Duration::from_millis(10)),
            idle: Some(Idle {
                seconds: 5.0,
                watts: [
                    (Rail::Board, 2.0),
                    (Rail::of("rapl", "package-0"), 1.0),
                    (Rail::of("nvidia", "0"), 0.25),
                ]
                .into(),
            }),
            repeat: joules.len() as u32,
            runs: runs.collect(),
            ..Results::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joules_above_idle_are_attributed_by_cpu_time() {
        let results = testing::results(&[12.0]);
        let run = &results.runs[0];
        let board = results.rail_run(run, &Rail::Board).unwrap();
        assert_eq!(board.above_idle, Some(8.0));
        assert_eq!(board.attributed, Some(6.0));
        let gpu = results.rail_run(run, &Rail::of("nvidia", "0")).unwrap();
        assert_eq!((gpu.above_idle, gpu.attributed), (Some(0.5), None));
        assert!(results.caveats().is_empty(), "{:?}", results.caveats());
        // A board that draws less than before: nobody's.
        let results = testing::results(&[3.0]);
        let board = results.rail_run(&results.runs[0], &Rail::Board).unwrap();
        assert_eq!(
            (board.above_idle, board.attributed),
            (Some(-1.0), Some(0.0))
        );
    }

    #[test]
    fn what_is_unknown_is_absent() {
        let mut results = testing::results(&[12.0]);
        results.runs[0].busy_seconds = Some(0.0);
        let board = results.rail_run(&results.runs[0], &Rail::Board).unwrap();
        assert_eq!((board.above_idle, board.attributed), (Some(8.0), None));
        results.idle = None;
        let board = results.rail_run(&results.runs[0], &Rail::Board).unwrap();
        assert_eq!((board.idle_watts, board.above_idle), (None, None));
        results.runs[0].cpu_seconds = None;
        assert_eq!(results.runs[0].cpu_share(), None);
        assert!(results.rail_mean(&Rail::of("x", "y")).joules.is_none());
    }

    #[test]
    fn repeats_have_a_mean_and_an_interval() {
        let results = testing::results(&[10.0, 12.0, 14.0]);
        let board = results.rail_mean(&Rail::Board);
        let joules = board.joules.unwrap();
        assert_eq!(joules.mean, 12.0);
        // 4.303 times a deviation of 2, by the square root of 3.
        assert!((joules.half_width.unwrap() - 4.9687).abs() < 1e-3);
        assert_eq!(board.peak_watts, Some(14.0));
        assert_eq!(board.mean_watts.unwrap().mean, 6.0);
    }

    #[test]
    fn caveats_name_the_rails() {
        let mut results = testing::results(&[10.0]);
        let run = &mut results.runs[0];
        let board = run.rails.get_mut(&Rail::Board).unwrap();
        (board.readings, board.at_least) = (0, 0.0);
        let package = run.rails.get_mut(&Rail::of("rapl", "package-0")).unwrap();
        (package.seconds, package.at_most) = (1.0, 20.0);
        let caveats = results.caveats();
        assert_eq!(caveats.len(), 3, "{caveats:?}");
        assert!(
            caveats[0].contains("two readings of board: "),
            "{caveats:?}"
        );
        assert!(caveats[1].starts_with("rapl package-0: read so seldom"));
        assert!(caveats[2].starts_with("rapl package-0: not measured all"));
    }
}
