//! How the collecting goes, for those who ask.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::join::Kind;
use crate::sys::clock::BootTime;
use crate::sys::lock::lock;

/// How a round went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every query was answered.
    Complete,
    /// Some were not.
    Partial,
    /// None: Prometheus could not be asked.
    Failed,
}

impl Outcome {
    /// All there are.
    pub const ALL: [Outcome; 3] = [Outcome::Complete, Outcome::Partial, Outcome::Failed];

    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::Partial => "partial",
            Outcome::Failed => "failed",
        }
    }
}

/// What is asked for: a group and one of its columns.
pub type Subject = (&'static str, &'static str);

/// How the asking for one column goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// How often it failed.
    pub failures: u64,
    /// Why it failed the last time, if it did.
    pub trouble: Option<String>,
}

/// Everything there is to say.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Rounds, by [`Outcome::ALL`].
    pub rounds: [u64; Outcome::ALL.len()],
    /// How the last one went.
    pub last: Option<Outcome>,
    /// Why the last one failed, if it did.
    pub trouble: Option<String>,
    /// When the last one that did not fail began.
    pub success: Option<BootTime>,
    /// How long the last one took, in seconds.
    pub seconds: f64,
    /// Rounds left out because the one before took too long.
    pub missed: u64,
    /// By what was asked for.
    pub subjects: BTreeMap<Subject, Health>,
    /// Series that no row was left for, by [`Kind::ALL`].
    pub left_out: [u64; Kind::ALL.len()],
    /// Series beside another of the same row, by [`Kind::ALL`].
    pub doubled: [u64; Kind::ALL.len()],
}

/// A report that is being written and read.
#[derive(Debug, Default)]
pub struct Status(Mutex<Report>);

impl Status {
    /// The report as it stands.
    pub fn report(&self) -> Report {
        lock(&self.0).clone()
    }

    /// Notes how the asking for something went, and logs it when that has changed.
    pub fn note(&self, subject: Subject, result: Result<(), String>) {
        let mut report = lock(&self.0);
        let health = report.subjects.entry(subject).or_default();
        let before = health.trouble.take();
        health.failures += u64::from(result.is_err());
        health.trouble = result.err();
        let (group, column) = subject;
        match (&before, &health.trouble) {
            (None, Some(trouble)) => log::warn!("{group}.{column}: {trouble}"),
            (Some(_), None) => log::info!("{group}.{column}: is answered again"),
            _ => {}
        }
    }

    /// Adds what a table could not take.
    pub fn add(&self, kind: Kind, left_out: u64, doubled: u64) {
        let mut report = lock(&self.0);
        if left_out > 0 && report.left_out[kind as usize] == 0 {
            log::warn!(
                "{}: more rows than `keep.{}` allows: those beyond are left out",
                kind.as_str(),
                kind.as_str()
            );
        }
        report.left_out[kind as usize] += left_out;
        report.doubled[kind as usize] += doubled;
    }

    /// Notes a round, which began then. `Err`: Prometheus could not be asked.
    pub fn round(&self, began: BootTime, result: Result<Outcome, String>) {
        let mut report = lock(&self.0);
        let outcome = *result.as_ref().unwrap_or(&Outcome::Failed);
        match (&result, &report.trouble) {
            (Err(trouble), None) => log::warn!("{trouble}"),
            (Ok(_), Some(_)) => log::info!("Prometheus answers again"),
            _ => {}
        }
        report.trouble = result.err();
        report.rounds[outcome as usize] += 1;
        report.last = Some(outcome);
        if outcome != Outcome::Failed {
            report.success = Some(began);
        }
        report.seconds = BootTime::now().seconds_since(began);
    }

    /// Notes rounds that were left out.
    pub fn missed(&self, rounds: u64) {
        lock(&self.0).missed += rounds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_it_goes() {
        let status = Status::default();
        let began = BootTime::now();
        status.round(began, Err("down".into()));
        assert_eq!(status.report().trouble.as_deref(), Some("down"));
        assert_eq!(status.report().success, None);
        status.note(("nodes", "wattage"), Err("no".into()));
        status.round(began, Ok(Outcome::Partial));
        let report = status.report();
        assert_eq!(
            (report.rounds, report.last),
            ([0, 1, 1], Some(Outcome::Partial))
        );
        assert_eq!((report.trouble, report.success), (None, Some(began)));
        let health = &report.subjects[&("nodes", "wattage")];
        assert_eq!(
            (health.failures, health.trouble.as_deref()),
            (1, Some("no"))
        );
        status.note(("nodes", "wattage"), Ok(()));
        status.round(began, Ok(Outcome::Complete));
        let report = status.report();
        assert_eq!(report.subjects[&("nodes", "wattage")].trouble, None);
        assert_eq!(report.rounds, [1, 1, 1]);
        status.add(Kind::Pods, 3, 1);
        status.add(Kind::Pods, 3, 1);
        assert_eq!(
            (status.report().left_out, status.report().doubled),
            ([0, 6], [0, 2])
        );
    }
}
