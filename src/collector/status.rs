//! The status of the collecting: outcomes of rounds, and errors by column.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::join::RowKind;
use crate::sys::clock::BootTime;
use crate::sys::lock::lock;

/// The outcome of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoundOutcome {
    /// Every query was answered.
    Complete,
    /// Some queries were not answered.
    Partial,
    /// Prometheus could not be queried at all.
    Failed,
}

impl RoundOutcome {
    /// Every outcome.
    pub const ALL: [RoundOutcome; 3] = [
        RoundOutcome::Complete,
        RoundOutcome::Partial,
        RoundOutcome::Failed,
    ];

    /// The value of the label `outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            RoundOutcome::Complete => "complete",
            RoundOutcome::Partial => "partial",
            RoundOutcome::Failed => "failed",
        }
    }
}

/// A column: its group (`nodes`, `pods` or `names`) and its name.
pub type ColumnId = (&'static str, &'static str);

/// The status of one column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnHealth {
    /// In how many rounds a query of the column failed.
    pub failures: u64,
    /// Why a query failed in the last round, if one did.
    pub last_error: Option<String>,
}

/// The status of everything.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The number of rounds, by [`RoundOutcome::ALL`].
    pub rounds: [u64; RoundOutcome::ALL.len()],
    /// The outcome of the last round.
    pub last: Option<RoundOutcome>,
    /// Why the last round failed, if it did.
    pub last_error: Option<String>,
    /// When the last round began that did not fail.
    pub success: Option<BootTime>,
    /// The duration of the last round, in seconds.
    pub seconds: f64,
    /// The number of rounds left out because the one before took too long.
    pub missed: u64,
    /// The status of each column.
    pub columns: BTreeMap<ColumnId, ColumnHealth>,
    /// The number of series left out because the table was full, by [`RowKind::ALL`].
    pub left_out: [u64; RowKind::ALL.len()],
    /// The number of series left out because another one had filled the same row and column, by [`RowKind::ALL`].
    pub duplicates: [u64; RowKind::ALL.len()],
}

/// The current report.
#[derive(Debug, Default)]
pub struct Status(Mutex<Report>);

impl Status {
    /// A copy of the current report.
    pub fn report(&self) -> Report {
        lock(&self.0).clone()
    }

    /// Records the result of a column's queries. A change between success and failure is logged.
    pub fn note(&self, id: ColumnId, result: Result<(), String>) {
        let mut report = lock(&self.0);
        let health = report.columns.entry(id).or_default();
        let before = health.last_error.take();
        health.failures += u64::from(result.is_err());
        health.last_error = result.err();
        let (group, column) = id;
        match (&before, &health.last_error) {
            (None, Some(error)) => log::warn!("{group}.{column}: {error}"),
            (Some(_), None) => log::info!("{group}.{column}: the queries are answered again"),
            _ => {}
        }
    }

    /// Adds to the numbers of series left out. The first time that a table is full is logged.
    pub fn add(&self, kind: RowKind, left_out: u64, duplicates: u64) {
        let mut report = lock(&self.0);
        if left_out > 0 && report.left_out[kind as usize] == 0 {
            log::warn!(
                "{}: there are more rows than `keep.{}` allows: the others are dropped",
                kind.as_str(),
                kind.as_str()
            );
        }
        report.left_out[kind as usize] += left_out;
        report.duplicates[kind as usize] += duplicates;
    }

    /// Records a round that began at `began`. `Err`: Prometheus could not be queried.
    pub fn round(&self, began: BootTime, result: Result<RoundOutcome, String>) {
        let mut report = lock(&self.0);
        let outcome = *result.as_ref().unwrap_or(&RoundOutcome::Failed);
        match (&result, &report.last_error) {
            (Err(error), None) => log::warn!("{error}"),
            (Ok(_), Some(_)) => log::info!("Prometheus answers again"),
            _ => {}
        }
        report.last_error = result.err();
        report.rounds[outcome as usize] += 1;
        report.last = Some(outcome);
        if outcome != RoundOutcome::Failed {
            report.success = Some(began);
        }
        report.seconds = BootTime::now().seconds_since(began);
    }

    /// Adds to the number of rounds left out.
    pub fn missed(&self, rounds: u64) {
        lock(&self.0).missed += rounds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_has_outcomes_and_last_errors() {
        let status = Status::default();
        let began = BootTime::now();
        status.round(began, Err("down".into()));
        assert_eq!(status.report().last_error.as_deref(), Some("down"));
        assert_eq!(status.report().success, None);
        status.note(("nodes", "wattage"), Err("no".into()));
        status.round(began, Ok(RoundOutcome::Partial));
        let report = status.report();
        assert_eq!(
            (report.rounds, report.last),
            ([0, 1, 1], Some(RoundOutcome::Partial))
        );
        assert_eq!((report.last_error, report.success), (None, Some(began)));
        let health = &report.columns[&("nodes", "wattage")];
        assert_eq!(
            (health.failures, health.last_error.as_deref()),
            (1, Some("no"))
        );
        status.note(("nodes", "wattage"), Ok(()));
        status.round(began, Ok(RoundOutcome::Complete));
        let report = status.report();
        assert_eq!(report.columns[&("nodes", "wattage")].last_error, None);
        assert_eq!(report.rounds, [1, 1, 1]);
        status.add(RowKind::Pods, 3, 1);
        status.add(RowKind::Pods, 3, 1);
        assert_eq!(
            (status.report().left_out, status.report().duplicates),
            ([0, 6, 0], [0, 2, 0])
        );
    }
}
