//! The collector's own metrics.

use std::sync::Mutex;

use super::app_state::AppState;
use super::client::StreamEnd;
use super::join::RowKind;
use super::status::{Report, RoundOutcome};
use crate::exposition::{render, Format};
use crate::metrics::{Policy, Process, Registry, SelfGroup, BUILD};
use crate::sys::clock::BootTime;
use crate::sys::lock::lock;

/// The collector's own metrics, which are written at each scrape.
pub struct SelfMetrics {
    registry: Registry,
    state: Mutex<(SelfGroup, Process)>,
}

impl SelfMetrics {
    /// No metrics before the first scrape.
    pub fn new() -> SelfMetrics {
        let registry = Registry::new(Policy::All);
        let group = SelfGroup::new(&registry, 0, "collector", vec![]);
        SelfMetrics {
            state: Mutex::new((group, Process::default())),
            registry,
        }
    }

    /// The text of a scrape.
    pub fn render(&self, app: &AppState, format: Format) -> Vec<u8> {
        let now = BootTime::now();
        self.refresh(app, now);
        let mut text = Vec::with_capacity(8 * 1024);
        render(&self.registry.snapshot(now), format, &mut text);
        text
    }

    fn refresh(&self, app: &AppState, now: BootTime) {
        let mut state = lock(&self.state);
        let (out, process) = &mut *state;
        let report = app.status.report();
        out.begin(now);
        process.write(out);
        out.gauge(
            "exporter_build_info",
            "1. The labels describe this collector's build.",
            &BUILD,
            1.0,
        );
        write_rounds(out, &report, now);
        write_rows(out, &report, app);
        write_streams(out, app);
        write_columns(out, &report);
        out.publish();
    }
}

impl Default for SelfMetrics {
    fn default() -> Self {
        SelfMetrics::new()
    }
}

fn write_rounds(out: &mut SelfGroup, report: &Report, now: BootTime) {
    for outcome in RoundOutcome::ALL {
        out.counter(
            "collector_rounds_total",
            "Rounds of queries, by whether all, some or none were answered.",
            &[("outcome", outcome.as_str())],
            report.rounds[outcome as usize] as f64,
        );
    }
    out.counter(
        "collector_missed_rounds_total",
        "Rounds skipped because the previous one took longer than the interval.",
        &[],
        report.missed as f64,
    );
    out.gauge(
        "collector_prometheus_up",
        "Whether Prometheus answered in the last round: 1 or 0.",
        &[],
        f64::from(report.last.is_some_and(|last| last != RoundOutcome::Failed)),
    );
    out.gauge(
        "collector_round_duration_seconds",
        "How long the last round took.",
        &[],
        report.seconds,
    );
    if let Some(at) = report.success {
        out.gauge(
            "collector_last_success_age_seconds",
            "Time since the start of the last round in which Prometheus answered.",
            &[],
            now.seconds_since(at),
        );
    }
}

fn write_rows(out: &mut SelfGroup, report: &Report, app: &AppState) {
    for (kind, feed) in RowKind::ALL.into_iter().zip(&app.feeds) {
        let labels = [("kind", kind.as_str())];
        let (kept, published) = feed.counts();
        out.counter(
            "collector_rows_total",
            "Rows collected.",
            &labels,
            published as f64,
        );
        out.gauge(
            "collector_rows_kept",
            "Rows that can be downloaded.",
            &labels,
            kept as f64,
        );
        out.counter(
            "collector_left_out_series_total",
            "Series dropped because their rows exceed the limit.",
            &labels,
            report.left_out[kind as usize] as f64,
        );
        out.counter(
            "collector_doubled_series_total",
            "Series dropped because another one has the same row and column.",
            &labels,
            report.duplicates[kind as usize] as f64,
        );
    }
}

fn write_streams(out: &mut SelfGroup, app: &AppState) {
    for (kind, clients) in RowKind::ALL.into_iter().zip(app.streams.permits().open()) {
        out.gauge(
            "collector_streams",
            "WebSockets that are open.",
            &[("kind", kind.as_str())],
            clients as f64,
        );
    }
    for (end, count) in StreamEnd::ALL.into_iter().zip(app.streams.ended()) {
        out.counter(
            "collector_streams_ended_total",
            "WebSockets closed, by reason: the client left, was too slow or silent, violated the protocol or lost its access, or the collector stopped.",
            &[("reason", end.as_str())],
            count as f64,
        );
    }
    out.counter(
        "collector_streams_refused_total",
        "WebSockets refused because the limit was reached.",
        &[],
        app.streams.permits().refused() as f64,
    );
}

fn write_columns(out: &mut SelfGroup, report: &Report) {
    for (subject, health) in &report.columns {
        let labels = [("group", subject.0), ("column", subject.1)];
        out.gauge(
            "collector_column_up",
            "Whether all queries of the column were answered in the last round: 1 or 0.",
            &labels,
            f64::from(health.last_error.is_none()),
        );
        out.counter(
            "collector_column_failures_total",
            "Rounds in which a query of the column was not answered.",
            &labels,
            health.failures as f64,
        );
    }
}
