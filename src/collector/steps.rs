//! The energy between two rows, out of cumulative counters. Pure.
//!
//! Differences are taken of each series, not of a row's sum: the sum of a pod's containers falls when one of them ends.

use std::collections::hash_map::Entry;
use std::collections::HashMap;

use super::prometheus::Series;

/// A series that is not in so many answers in a row is forgotten: it may have been scraped with gaps.
const MAX_MISSED: u64 = 100;
/// The most series that are remembered; those beyond have no difference.
const MAX_REMEMBERED: usize = 100_000;

/// The query, and the labels of a series.
type Key = (usize, Vec<(&'static str, Box<str>)>);

/// What each counter stood at when it was last seen.
#[derive(Debug, Default)]
pub struct Steps {
    seen: HashMap<Key, Seen>,
    round: u64,
}

#[derive(Debug)]
struct Seen {
    value: f64,
    round: u64,
}

/// What a counter has counted since it was last seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// So much.
    Since(f64),
    /// It was not seen before, and stands at this.
    New(f64),
}

impl Steps {
    /// Begins a round, and forgets what has not been seen for long.
    pub fn begin_round(&mut self) {
        self.round += 1;
        let round = self.round;
        self.seen.retain(|_, seen| round - seen.round <= MAX_MISSED);
    }

    /// What this series of the query's answer has counted. A counter that fell began anew.
    pub fn advance(&mut self, query: usize, series: &Series) -> Step {
        let value = series.value;
        let round = self.round;
        let is_full = self.seen.len() >= MAX_REMEMBERED;
        match self.seen.entry((query, series.labels.clone())) {
            Entry::Vacant(entry) => {
                if !is_full {
                    entry.insert(Seen { value, round });
                }
                Step::New(value)
            }
            Entry::Occupied(mut entry) => {
                let before = std::mem::replace(entry.get_mut(), Seen { value, round }).value;
                Step::Since(match value >= before {
                    true => value - before,
                    false => value,
                })
            }
        }
    }
}

/// The sum of the steps of a row's series.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowStep {
    since: Option<f64>,
    new: f64,
}

impl RowStep {
    /// Adds a series.
    pub fn add(&mut self, step: Step) {
        match step {
            Step::Since(joules) => *self.since.get_or_insert(0.0) += joules,
            Step::New(joules) => self.new += joules,
        }
    }

    /// The sum; `None` if no series was seen before. A container that began since then is counted from its beginning.
    pub fn joules(&self) -> Option<f64> {
        self.since.map(|since| since + self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(container: &str, value: f64) -> Series {
        Series {
            labels: vec![("pod_name", "web".into()), ("container", container.into())],
            at: 0.0,
            value,
        }
    }

    /// The steps of one pod whose containers stand at these joules.
    fn step(steps: &mut Steps, containers: &[(&str, f64)]) -> Option<f64> {
        steps.begin_round();
        let mut sum = RowStep::default();
        for (name, joules) in containers {
            sum.add(steps.advance(0, &series(name, *joules)));
        }
        sum.joules()
    }

    #[test]
    fn steps_are_differences_of_each_container() {
        let mut steps = Steps::default();
        assert_eq!(step(&mut steps, &[("a", 1000.0), ("b", 50.0)]), None);
        assert_eq!(step(&mut steps, &[("a", 1002.0), ("b", 51.0)]), Some(3.0));
        // a has ended, and c has begun.
        assert_eq!(step(&mut steps, &[("b", 52.0), ("c", 0.5)]), Some(1.5));
        // b has begun anew.
        assert_eq!(step(&mut steps, &[("b", 0.25), ("c", 0.5)]), Some(0.25));
        assert_eq!(step(&mut steps, &[]), None);
    }

    #[test]
    fn series_that_comes_back_goes_on_unless_it_was_away_for_long() {
        let mut steps = Steps::default();
        step(&mut steps, &[("a", 1.0)]);
        for _ in 1..MAX_MISSED {
            step(&mut steps, &[]);
        }
        assert_eq!(step(&mut steps, &[("a", 9.0)]), Some(8.0));
        for _ in 0..MAX_MISSED {
            step(&mut steps, &[]);
        }
        assert_eq!(step(&mut steps, &[("a", 9.0)]), None);
    }

    #[test]
    fn answers_of_two_queries_are_not_compared() {
        let mut steps = Steps::default();
        assert_eq!(steps.advance(0, &series("a", 5.0)), Step::New(5.0));
        assert_eq!(steps.advance(1, &series("a", 7.0)), Step::New(7.0));
        assert_eq!(steps.advance(0, &series("a", 6.0)), Step::Since(1.0));
    }
}
