//! The program's own metrics, which are written anew at each scrape.

use std::sync::Arc;
use std::time::Duration;

use super::family::{Desc, Kind};
use super::group::Group;
use super::readings::Readings;
use super::registry::Registry;
use super::series::SeriesId;
use crate::sys::clock::BootTime;

/// A group of the program's own metrics. A scrape writes all of them between [`SelfGroup::begin`] and
/// [`SelfGroup::publish`], so that a metric's name, help, labels and value stand in one place. A series is registered when
/// it is written for the first time.
pub(crate) struct SelfGroup {
    group: Arc<Group>,
    generation: u64,
    rank: u32,
    readings: Readings,
    /// The series in the order of the last scrape. The next scrape writes them in that order again: to find a series takes
    /// a comparison and no allocation.
    written: Vec<Written>,
    /// The place in `written` of the series that is expected next.
    next: usize,
    /// A scrape left out a series of the group.
    has_gone: bool,
    history_limit: (Duration, usize),
}

struct Written {
    name: &'static str,
    labels: Box<[(&'static str, Box<str>)]>,
    id: SeriesId,
}

impl Written {
    fn is(&self, name: &'static str, labels: &[(&'static str, &str)]) -> bool {
        if !is_same(self.name, name) || self.labels.len() != labels.len() {
            return false;
        }
        let mut pairs = self.labels.iter().zip(labels);
        pairs.all(|((known, known_value), (label, value))| {
            is_same(known, label) && **known_value == **value
        })
    }
}

/// Whether two names are equal. As a rule the same line of code has written both, and the texts need not be compared.
fn is_same(a: &'static str, b: &'static str) -> bool {
    std::ptr::eq(a, b) || a == b
}

impl SelfGroup {
    /// Adds a group without series to the registry. All its series will have these labels.
    pub(crate) fn new(
        registry: &Registry,
        rank: u32,
        source: &str,
        labels: Vec<(String, String)>,
    ) -> SelfGroup {
        let group = registry.add_group(rank, source, labels);
        SelfGroup {
            generation: group.new_generation(),
            group,
            rank,
            readings: Readings::default(),
            written: Vec::new(),
            next: 0,
            has_gone: false,
            history_limit: (Duration::ZERO, 0),
        }
    }

    /// Limits the history of the group in time and bytes.
    pub(crate) fn limit_history(&mut self, keep: Duration, bytes: usize) {
        self.history_limit = (keep, bytes);
        self.group.history().limit(keep, bytes);
    }

    /// Takes the group and its series out of the registry.
    pub(crate) fn remove_from(&self, registry: &Registry) {
        registry.remove_group(&self.group);
    }

    /// Replaces the group if a scrape left out a series of it: otherwise a group whose labels come and go
    /// (with the configuration) would grow without bound.
    pub(crate) fn forget_gone(&mut self, registry: &Registry) {
        if !self.has_gone {
            return;
        }
        let labels = self.group.const_labels().to_vec();
        let mut new = SelfGroup::new(registry, self.rank, &self.group.source, labels);
        new.limit_history(self.history_limit.0, self.history_limit.1);
        self.remove_from(registry);
        *self = new;
    }

    /// Begins a scrape. What is not written until [`SelfGroup::publish`] is absent.
    pub(crate) fn begin(&mut self, now: BootTime) {
        self.readings.begin(now);
        self.next = 0;
    }

    /// Writes a gauge. With `None` the series is registered, and has no value in this scrape.
    pub(crate) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: impl Into<Option<f64>>,
    ) {
        self.write(Kind::Gauge, name, help, labels, value.into());
    }

    /// Writes a counter's total, which is kept elsewhere. `None`: there is no value now.
    pub(crate) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        total: impl Into<Option<f64>>,
    ) {
        self.write(Kind::Counter, name, help, labels, total.into());
    }

    /// Ends a scrape: makes all that was written visible at once.
    pub(crate) fn publish(&mut self) {
        self.has_gone |= self.next < self.written.len();
        self.written.truncate(self.next);
        self.group.publish(self.generation, &self.readings);
    }

    fn write(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: Option<f64>,
    ) {
        let id = self.find(name, labels);
        let id = id.unwrap_or_else(|| self.register(kind, name, help, labels));
        if let Some(value) = value {
            self.readings.set(id, value);
        }
    }

    fn find(&mut self, name: &'static str, labels: &[(&'static str, &str)]) -> Option<SeriesId> {
        let expected = self.written.get(self.next..)?;
        let skipped = expected.iter().position(|it| it.is(name, labels))?;
        if skipped > 0 {
            self.written.drain(self.next..self.next + skipped);
            self.has_gone = true;
        }
        let found = self.written.get(self.next)?;
        self.next += 1;
        Some(found.id)
    }

    fn register(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> SeriesId {
        let desc = match kind {
            Kind::Gauge => Desc::gauge(name, help),
            Kind::Counter => Desc::counter(name, help),
        };
        let id = self.group.series(&desc.own(), labels);
        if id != SeriesId::NONE {
            let labels = labels
                .iter()
                .map(|(label, value)| (*label, Box::from(*value)));
            let labels = labels.collect();
            self.written.insert(self.next, Written { name, labels, id });
            self.next += 1;
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Policy;

    fn text(registry: &Registry) -> Vec<String> {
        let snapshot = registry.snapshot(BootTime(1));
        let families: Vec<_> = snapshot.families().collect();
        let lines = families.iter().flat_map(|family| family.lines());
        lines
            .map(|(prefix, value)| format!("{prefix}{value}"))
            .collect()
    }

    /// Writes a gauge for each name, with its place as its value.
    fn scrape(own: &mut SelfGroup, names: &[&str]) {
        own.begin(BootTime(1));
        for (place, name) in names.iter().enumerate() {
            own.gauge("a", "A.", &[("name", name)], place as f64);
        }
        own.counter("b_total", "B.", &[], None);
        own.publish();
    }

    #[test]
    fn series_come_and_go_between_scrapes() {
        let registry = Registry::new(Policy::All);
        let mut own = SelfGroup::new(&registry, 0, "exporter", vec![]);
        scrape(&mut own, &["x", "y"]);
        assert_eq!(text(&registry), ["a{name=\"x\"} 0", "a{name=\"y\"} 1"]);
        let version = registry.version();
        scrape(&mut own, &["x", "y"]);
        assert_eq!(registry.version(), version, "nothing is registered twice");
        scrape(&mut own, &["x", "z", "y"]);
        assert_eq!(
            text(&registry),
            ["a{name=\"x\"} 0", "a{name=\"y\"} 2", "a{name=\"z\"} 1"]
        );
        assert!(!own.has_gone);
        scrape(&mut own, &["y"]);
        assert_eq!(text(&registry), ["a{name=\"y\"} 0"]);
        scrape(&mut own, &["y", "x"]);
        assert_eq!(text(&registry), ["a{name=\"x\"} 1", "a{name=\"y\"} 0"]);
    }

    #[test]
    fn series_that_are_not_written_any_more_are_forgotten() {
        let registry = Registry::new(Policy::All);
        let mut own = SelfGroup::new(&registry, 0, "exporter", vec![]);
        let series = |own: &SelfGroup| own.group.all_series().len();
        scrape(&mut own, &["x", "y"]);
        own.forget_gone(&registry);
        scrape(&mut own, &["y"]);
        assert_eq!(series(&own), 3);
        own.forget_gone(&registry);
        scrape(&mut own, &["y"]);
        assert_eq!(series(&own), 2);
        assert_eq!(registry.groups().len(), 1);
        assert_eq!(text(&registry), ["a{name=\"y\"} 0"]);
    }

    #[test]
    fn two_series_of_one_name_and_labels_are_one() {
        let registry = Registry::new(Policy::All);
        let mut own = SelfGroup::new(&registry, 0, "exporter", vec![]);
        for _ in 0..2 {
            scrape(&mut own, &["x", "x"]);
            assert_eq!(text(&registry), ["a{name=\"x\"} 1"]);
        }
    }
}
