//! A board's total that is the sum of some of a source's rails.

use super::board::{Grade, Total};
use super::group::Group;
use super::readings::Readings;

/// The power of several rails together: unknown while that of one of them is.
#[derive(Debug, Clone, Copy, Default)]
pub struct PowerSum {
    watts: f64,
    joules: f64,
    rails: usize,
    /// How many of the rails have a power.
    known: usize,
    /// How many of the rails have an energy counter of their own.
    counted: usize,
}

impl PowerSum {
    /// Adds a rail: its power in watts, if that is known, and, if its chip counts energy, the joules since the last poll.
    pub fn add(&mut self, watts: Option<f64>, joules: Option<f64>) {
        self.rails += 1;
        self.known += usize::from(watts.is_some());
        self.counted += usize::from(joules.is_some());
        self.watts += watts.unwrap_or(0.0);
        self.joules += joules.unwrap_or(0.0);
    }

    /// The sum of the rails of both.
    pub fn with(&self, other: &PowerSum) -> PowerSum {
        PowerSum {
            watts: self.watts + other.watts,
            joules: self.joules + other.joules,
            rails: self.rails + other.rails,
            known: self.known + other.known,
            counted: self.counted + other.counted,
        }
    }

    /// Whether the power of one of the rails is unknown.
    pub fn is_incomplete(&self) -> bool {
        self.known < self.rails
    }

    /// The power in watts; `None` if that of a rail is unknown, or there are no rails.
    pub fn watts(&self) -> Option<f64> {
        (self.rails > 0 && !self.is_incomplete()).then_some(self.watts)
    }

    /// The energy that the chips counted since the last poll, in joules.
    pub fn joules(&self) -> f64 {
        self.joules
    }
}

/// Rails without an energy counter, by their power in watts.
impl FromIterator<Option<f64>> for PowerSum {
    fn from_iter<I: IntoIterator<Item = Option<f64>>>(watts: I) -> PowerSum {
        let mut sum = PowerSum::default();
        watts.into_iter().for_each(|watts| sum.add(watts, None));
        sum
    }
}

/// The board's total as the sum of a source's rails: those that the configuration names, or else those that the source
/// chooses.
#[derive(Debug)]
pub struct RailTotal {
    named: Vec<String>,
    total: Option<(Grade, Total)>,
}

impl RailTotal {
    /// The sum of the rails that the configuration names; of none, it is left to the source.
    pub fn new(named: Vec<String>) -> RailTotal {
        RailTotal { named, total: None }
    }

    /// Whether the configuration names the rails.
    pub fn is_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// Whether the rail of this name is part of the total, if the source's own choice is `chosen`.
    pub fn includes(&self, rail: &str, chosen: bool) -> bool {
        match self.is_named() {
            true => self.named.iter().any(|name| name == rail),
            false => chosen,
        }
    }

    /// The grade that was claimed last.
    pub fn grade(&self) -> Option<Grade> {
        self.total.as_ref().map(|(grade, _)| *grade)
    }

    /// Claims the board's total with this grade, or with that of named rails; `None`: the source knows no total.
    pub fn claim(&mut self, group: &Group, chosen: Option<Grade>) {
        let grade = match self.is_named() {
            true => Some(Grade::Configured),
            false => chosen,
        };
        if grade != self.grade() {
            self.total = grade.map(|grade| (grade, Total::new(group, grade)));
        }
        if grade.is_none() {
            group.claim_total(None);
        }
    }

    /// Warns of names that none of the source's rails has.
    pub fn warn_of_unknown_names(&self, source: &str, rails: &[&str]) {
        for name in &self.named {
            if !rails.contains(&name.as_str()) {
                log::warn!(
                    "{source}: power_total lists {name:?}, but there is no such rail (rails: {})",
                    rails.join(", ")
                );
            }
        }
    }

    /// Publishes what one poll read of the total's rails. The energy is what the chips counted, if all of them do; else
    /// the power is integrated.
    pub fn publish(&mut self, out: &mut Readings, sum: &PowerSum) {
        let has_all = !self.is_named() || sum.rails == self.named.len();
        let Some((_, total)) = self.total.as_mut().filter(|_| has_all) else {
            return;
        };
        match sum.watts() {
            watts if sum.counted == sum.rails => total.set_counted(out, watts, sum.joules),
            Some(watts) => total.set_watts(out, watts),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_is_unknown_while_one_rail_is() {
        let sum: PowerSum = [Some(1.5), Some(2.0)].into_iter().collect();
        assert_eq!(sum.watts(), Some(3.5));
        let sum: PowerSum = [Some(1.5), None].into_iter().collect();
        assert_eq!(sum.watts(), None);
        assert_eq!(PowerSum::default().watts(), None);
        assert!(!PowerSum::default().is_incomplete());
    }

    #[test]
    fn named_rails_replace_the_chosen_ones() {
        let named = RailTotal::new(vec!["a".to_string()]);
        assert!(named.includes("a", false) && !named.includes("b", true));
        let chosen = RailTotal::new(vec![]);
        assert!(chosen.includes("b", true) && !chosen.includes("a", false));
    }
}
