//! Aggregates the values of one series into columns of equal duration, for charts.

use std::collections::VecDeque;
use std::time::Duration;

use super::energy::Integrator;
use super::is_absent;
use crate::sys::clock::BootTime;

/// The last columns of one series.
#[derive(Debug)]
pub struct Columns {
    /// Duration of a column, in nanoseconds.
    width: u64,
    max_columns: usize,
    columns: VecDeque<Column>,
    integrator: Integrator,
}

/// The values read during one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column {
    /// Number of columns since the machine started.
    pub number: u64,
    /// The least value.
    pub low: f32,
    /// The greatest value.
    pub high: f32,
    /// Integral over time from the last value before this column to its own last value, in value × seconds.
    pub integral: f32,
    sum: f64,
    count: u32,
    /// The revision of the last change.
    revision: u32,
}

impl Column {
    /// The mean of the column's values.
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.count)
    }
}

impl Columns {
    /// An empty list that keeps at most `max_columns` columns of `width` each.
    pub fn new(width: Duration, max_columns: usize) -> Columns {
        Columns {
            width: (width.as_nanos() as u64).max(1),
            max_columns: max_columns.max(1),
            columns: VecDeque::new(),
            integrator: Integrator::default(),
        }
    }

    /// Adds a value that was read at `at`, in this revision; revisions never decrease. Absent, infinite and NaN values, and
    /// values older than the newest column, are ignored. A silence longer than `max_gap` seconds is not integrated.
    pub fn push(&mut self, at: BootTime, value: f64, max_gap: f64, revision: u32) {
        if is_absent(value) || !value.is_finite() {
            return;
        }
        let number = at.0 / self.width;
        let newest = self.columns.back().map(|column| column.number);
        if newest.is_some_and(|newest| number < newest) {
            return;
        }
        let integral = self.integrator.advance(at, value, max_gap) as f32;
        let short = value as f32;
        match self.columns.back_mut() {
            Some(column) if column.number == number => {
                column.low = column.low.min(short);
                column.high = column.high.max(short);
                column.integral += integral;
                column.sum += value;
                column.count += 1;
                column.revision = revision;
            }
            _ => self.columns.push_back(Column {
                number,
                low: short,
                high: short,
                integral,
                sum: value,
                count: 1,
                revision,
            }),
        }
        self.drop_before((number + 1).saturating_sub(self.max_columns as u64));
    }

    /// Drops the columns before this number.
    pub fn drop_before(&mut self, number: u64) {
        while self.columns.front().is_some_and(|c| c.number < number) {
            self.columns.pop_front();
        }
    }

    /// The columns that changed after `revision`, oldest first.
    pub fn changed_after(&self, revision: u32) -> impl Iterator<Item = &Column> {
        let unchanged = self.columns.partition_point(|c| c.revision <= revision);
        self.columns.range(unchanged..)
    }

    /// All columns, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ABSENT;
    use super::*;

    const MS: u64 = 1_000_000;

    fn columns(max_columns: usize, values: &[(u64, f64)]) -> Columns {
        let mut columns = Columns::new(Duration::from_millis(100), max_columns);
        for (i, (ms, value)) in values.iter().enumerate() {
            columns.push(BootTime(ms * MS), *value, 5.0, i as u32 + 1);
        }
        columns
    }

    fn shown(columns: &Columns) -> Vec<(u64, f32, f32, f64)> {
        let all = columns.all();
        all.map(|c| (c.number, c.low, c.high, c.mean())).collect()
    }

    #[test]
    fn one_peak_in_a_thousand_samples_shows() {
        let mut values: Vec<_> = (0..1000).map(|ms| (ms, 5.0)).collect();
        values[437].1 = 50.0;
        values[911].1 = 0.5;
        let columns = columns(100, &values);
        assert_eq!(columns.all().count(), 10);
        assert_eq!(shown(&columns)[4], (4, 5.0, 50.0, 5.45));
        assert_eq!(shown(&columns)[9], (9, 0.5, 5.0, 4.955));
    }

    #[test]
    fn oldest_columns_are_dropped() {
        let columns = columns(
            3,
            &[(0, 1.0), (100, 2.0), (200, 3.0), (300, 4.0), (1000, 9.0)],
        );
        assert_eq!(shown(&columns), [(10, 9.0, 9.0, 9.0)]);
        let columns = self::columns(3, &[(0, 1.0), (100, 2.0), (250, 3.0), (300, 4.0)]);
        assert_eq!(columns.all().next().unwrap().number, 1);
    }

    #[test]
    fn changed_after_returns_only_changed_columns() {
        let columns = columns(
            10,
            &[(0, 1.0), (50, 1.0), (120, 2.0), (210, 3.0), (220, 4.0)],
        );
        let after = |revision| {
            columns
                .changed_after(revision)
                .map(|c| c.number)
                .collect::<Vec<_>>()
        };
        assert_eq!(after(0), [0, 1, 2]);
        assert_eq!(after(2), [1, 2]);
        assert_eq!(after(3), [2]);
        assert_eq!(after(4), [2]);
        assert_eq!(after(5), [0; 0]);
    }

    #[test]
    fn absent_infinite_and_late_values_are_ignored() {
        let values = [
            (0, ABSENT),
            (1, f64::NAN),
            (2, f64::INFINITY),
            (250, 1.0),
            (90, 7.0),
        ];
        assert_eq!(shown(&columns(10, &values)), [(2, 1.0, 1.0, 1.0)]);
    }

    #[test]
    fn integral_covers_the_time_that_passed() {
        let values = [(0, 10.0), (60, 20.0), (160, 20.0), (9000, 5.0), (9100, 5.0)];
        let columns = columns(1000, &values);
        let integrals: Vec<_> = columns.all().map(|c| c.integral).collect();
        // The silence of nearly nine seconds is not integrated.
        assert_eq!(integrals, [0.9, 2.0, 0.0, 0.5]);
    }
}
