//! The collector's own metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::app_state::AppState;
use super::client::StreamEnd;
use super::join::RowKind;
use super::status::{ColumnId, RoundOutcome};
use crate::exposition::{render, Format};
use crate::metrics::{Desc, Group, Policy, Readings, Registry, SeriesId};
use crate::metrics::{Process, BUILD};
use crate::sys::clock::BootTime;
use crate::sys::lock::lock;

/// The series, brought up to date at each scrape.
pub struct SelfMetrics {
    registry: Registry,
    group: Arc<Group>,
    generation: u64,
    state: Mutex<State>,
}

struct State {
    readings: Readings,
    process: Process,
    /// By what they are about.
    columns: BTreeMap<ColumnId, [SeriesId; 2]>,
}

impl SelfMetrics {
    /// All of them, at nothing.
    pub fn new() -> SelfMetrics {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "collector", vec![]);
        SelfMetrics {
            generation: group.new_generation(),
            state: Mutex::new(State {
                readings: Readings::default(),
                process: Process::new(&group),
                columns: BTreeMap::new(),
            }),
            group,
            registry,
        }
    }

    /// The answer to a scrape.
    pub fn render(&self, app: &AppState, format: Format) -> Vec<u8> {
        let now = BootTime::now();
        self.refresh(app, now);
        let mut text = Vec::with_capacity(8 * 1024);
        render(&self.registry.snapshot(now), format, &mut text);
        text
    }

    fn refresh(&self, app: &AppState, now: BootTime) {
        let mut state = lock(&self.state);
        let State {
            readings,
            process,
            columns,
        } = &mut *state;
        readings.begin(now);
        let mut out = Out {
            group: &self.group,
            readings,
        };
        out.gauge(
            "exporter_build_info",
            "1, with what this collector was built from as labels.",
            &BUILD,
            1.0,
        );
        out.rounds(app, now);
        out.rows(app);
        out.streams(app);
        for (subject, health) in app.status.report().columns {
            let [up, failures] = *columns.entry(subject).or_insert_with(|| {
                let labels = [("group", subject.0), ("column", subject.1)];
                let up = Desc::gauge(
                    "collector_column_up",
                    "Whether all queries of the column were answered the last time: 1 or 0.",
                );
                let failures = Desc::counter(
                    "collector_column_failures_total",
                    "Rounds in which a query of the column was not answered.",
                );
                [up, failures].map(|desc| self.group.series(&desc.own(), &labels))
            });
            out.readings.set(up, f64::from(health.last_error.is_none()));
            out.readings.set(failures, health.failures as f64);
        }
        process.set(readings);
        self.group.publish(self.generation, readings);
    }
}

impl Default for SelfMetrics {
    fn default() -> Self {
        SelfMetrics::new()
    }
}

/// Where values go. A series that is there already is found again.
struct Out<'o> {
    group: &'o Group,
    readings: &'o mut Readings,
}

impl Out<'_> {
    fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let id = self.group.series(&Desc::gauge(name, help).own(), labels);
        self.readings.set(id, value);
    }

    fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: u64,
    ) {
        let id = self.group.series(&Desc::counter(name, help).own(), labels);
        self.readings.set(id, value as f64);
    }

    fn rounds(&mut self, app: &AppState, now: BootTime) {
        let report = app.status.report();
        for outcome in RoundOutcome::ALL {
            self.counter(
                "collector_rounds_total",
                "Rounds of queries, by whether all, some or none were answered.",
                &[("outcome", outcome.as_str())],
                report.rounds[outcome as usize],
            );
        }
        self.counter(
            "collector_missed_rounds_total",
            "Rounds left out because the one before took longer than the interval.",
            &[],
            report.missed,
        );
        self.gauge(
            "collector_prometheus_up",
            "Whether Prometheus answered in the last round: 1 or 0.",
            &[],
            f64::from(report.last.is_some_and(|last| last != RoundOutcome::Failed)),
        );
        self.gauge(
            "collector_round_duration_seconds",
            "How long the last round took.",
            &[],
            report.seconds,
        );
        if let Some(at) = report.success {
            self.gauge(
                "collector_last_success_age_seconds",
                "Time since the last round began in which Prometheus answered.",
                &[],
                now.seconds_since(at),
            );
        }
    }

    fn rows(&mut self, app: &AppState) {
        let report = app.status.report();
        for (kind, feed) in RowKind::ALL.into_iter().zip(&app.feeds) {
            let labels = [("kind", kind.as_str())];
            let (kept, published) = feed.counts();
            self.counter(
                "collector_rows_total",
                "Rows collected.",
                &labels,
                published,
            );
            self.gauge(
                "collector_rows_kept",
                "Rows that can be downloaded.",
                &labels,
                kept as f64,
            );
            self.counter(
                "collector_left_out_series_total",
                "Series of rows that there was no room for.",
                &labels,
                report.left_out[kind as usize],
            );
            self.counter(
                "collector_doubled_series_total",
                "Series beside another of the same row and column, of which one was taken.",
                &labels,
                report.duplicates[kind as usize],
            );
        }
    }

    fn streams(&mut self, app: &AppState) {
        for (kind, clients) in RowKind::ALL.into_iter().zip(app.streams.permits().open()) {
            self.gauge(
                "collector_streams",
                "WebSockets that are open.",
                &[("kind", kind.as_str())],
                clients as f64,
            );
        }
        for (end, count) in StreamEnd::ALL.into_iter().zip(app.streams.ended()) {
            self.counter(
                "collector_streams_ended_total",
                "WebSockets that ended: the client left, was too slow, was silent, broke the rules, is not let in any more, or we stopped.",
                &[("reason", end.as_str())],
                count,
            );
        }
        self.counter(
            "collector_streams_refused_total",
            "WebSockets refused because there were as many as may be.",
            &[],
            app.streams.permits().refused(),
        );
    }
}
