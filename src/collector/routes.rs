//! The responses on the collector's port.

use std::sync::Arc;

use serde_json::json;

use super::app_state::AppState;
use super::join::RowKind;
use super::layout::Layout;
use super::self_metrics::SelfMetrics;
use super::status::RoundOutcome;
use crate::exposition::negotiate;
use crate::http::websocket::accept;
use crate::http::{Handler, Method, Request, Response};
use crate::sys::clock::BootTime;

/// The number of rows of a download without `?size`.
const DEFAULT_SIZE: usize = 100;
const CSV: &str = "text/csv; charset=utf-8";

/// The handler of all requests.
pub fn handler(state: AppState, self_metrics: SelfMetrics) -> Arc<Handler> {
    Arc::new(move |request| {
        if !matches!(request.method, Method::Get | Method::Head) {
            let body = format!("405: only GET and HEAD, not {}\n", request.method);
            return Response::text(405, body).with_header("Allow", "GET, HEAD");
        }
        // The original program accepted a slash at the end, too.
        match request.path.trim_end_matches('/') {
            "" => Response::text(200, state.index(request)),
            "/download" | "/nodes" => state.download(request, RowKind::Nodes),
            "/pods" => state.download(request, RowKind::Pods),
            "/workloads" => state.download(request, RowKind::Workloads),
            "/metrics" | "/metrics/nodes" => state.stream(request, RowKind::Nodes),
            "/metrics/pods" => state.stream(request, RowKind::Pods),
            "/metrics/workloads" => state.stream(request, RowKind::Workloads),
            "/metrics/self" => {
                let format = negotiate(request.header_list("Accept").as_deref());
                let body = self_metrics.render(&state, format);
                Response::new(200, format.content_type(), body).with_header("Vary", "Accept")
            }
            "/health" => Response::new(200, "application/json", state.health()),
            _ => Response::text(
                404,
                "404: there is only /download, /nodes, /pods, /workloads, /metrics, /metrics/nodes, /metrics/pods, \
                 /metrics/workloads, /metrics/self, /health and / here\n",
            ),
        }
    })
}

impl AppState {
    fn download(&self, request: &Request, kind: RowKind) -> Response {
        let size = match request.query_values("size").last() {
            None => DEFAULT_SIZE,
            Some(text) => match text.parse() {
                Ok(size) => size,
                Err(_) => {
                    return Response::text(400, "400: size is to be a whole number: ?size=100\n")
                }
            },
        };
        let layout = match layout_of(request, kind) {
            Ok(layout) => layout,
            Err(refusal) => return refusal,
        };
        let file = self.feeds[kind as usize].csv(size, &layout);
        let reserved = self
            .in_flight
            .reserve(request.peer.ip(), file.len(), file.len());
        let Some(reserved) = reserved else {
            return Response::text(503, "503: too much is on its way that has not been read\n")
                .with_header("Retry-After", "1");
        };
        Response::new(200, CSV, file)
            .with_header("Content-Disposition", "attachment; filename=metrics.csv")
            .with_header("Cache-Control", "no-store")
            .on_done(move |_| drop(reserved))
    }

    fn stream(&self, request: &Request, kind: RowKind) -> Response {
        let accepted = match accept(request) {
            Ok(accepted) => accepted,
            Err(refusal) => return refusal.response(&how_to_stream(request)),
        };
        let layout = match layout_of(request, kind) {
            Ok(layout) => layout,
            Err(refusal) => return refusal,
        };
        let Some(permit) = self.streams.permits().acquire(kind) else {
            let body = format!(
                "503: there are {} streams already\n",
                self.streams.permits().limit()
            );
            return Response::text(503, body).with_header("Retry-After", "10");
        };
        let (streams, feed) = (
            Arc::clone(&self.streams),
            Arc::clone(&self.feeds[kind as usize]),
        );
        Response::switching("websocket", move |upgraded| {
            streams.add(upgraded, feed, layout, permit);
        })
        .with_header("Sec-WebSocket-Accept", &accepted)
    }

    fn index(&self, request: &Request) -> String {
        let host = host(request);
        let (url, namespace) = (&self.prometheus_url, &self.namespace);
        format!(
            "edge-metrics-exporter {} collect: energy of nodes, pods and workloads out of Prometheus\n\n\
             Collected from {url}, pods of the namespace {namespace}.\n\n\
             /download, /nodes   the last {DEFAULT_SIZE} rows of nodes, as CSV; ?size=N: the last N\n\
             /pods               the same of pods\n\
             /workloads          the same of services, containers and other workloads\n\
             /metrics/nodes, /metrics, /metrics/pods, /metrics/workloads\n\
             \x20                   a WebSocket: the header, then each new row, as one text message\n\
             /health             how the collecting goes, as JSON\n\
             /metrics/self       the collector's own metrics, for Prometheus\n\n\
             ?columns=instance,wattage,energy_joules chooses columns, ?columns=all takes all that there are. With\n\
             ?header=original, header, order and formats are those of the original program.\n\n\
             curl http://{host}/nodes > nodes.csv\n\
             websocat -n ws://{host}/metrics/pods > pods.csv\n",
            env!("CARGO_PKG_VERSION")
        )
    }

    fn health(&self) -> Vec<u8> {
        let report = self.status.report();
        let status = match report.last {
            None => "starting",
            Some(RoundOutcome::Complete) => "healthy",
            Some(RoundOutcome::Partial | RoundOutcome::Failed) => "degraded",
        };
        let now = BootTime::now();
        let failing = report
            .columns
            .iter()
            .filter_map(|((group, column), health)| {
                let last_error = health.last_error.as_deref()?;
                Some((format!("{group}.{column}"), json!(last_error)))
            });
        let kept = self.feeds.iter();
        let kept = kept.map(|feed| (feed.kind().as_str().to_owned(), json!(feed.counts().0)));
        let mut body = json!({
            "status": status,
            "prometheus": self.prometheus_url,
            "namespace": self.namespace,
            "last_error": report.last_error,
            "failing": failing.collect::<serde_json::Map<_, _>>(),
            "last_success_age_seconds": report.success.map(|at| now.seconds_since(at)),
            "rows": kept.collect::<serde_json::Map<_, _>>(),
            "streams": self.streams.permits().open().iter().sum::<usize>(),
        })
        .to_string();
        body.push('\n');
        body.into_bytes()
    }
}

fn layout_of(request: &Request, kind: RowKind) -> Result<Layout, Response> {
    let refused = |why: &str| Err(Response::text(400, format!("400: {why}\n")));
    let columns: Vec<_> = request.query_values("columns").collect();
    match request.query_values("header").last().as_deref() {
        None if columns.is_empty() => Ok(Layout::own(kind)),
        None => Layout::chosen(kind, &columns.join(",")).or_else(|why| refused(&why)),
        Some("original") if !columns.is_empty() => {
            refused("?header=original has the original's columns: leave out ?columns")
        }
        Some("original") => Layout::original(kind)
            .map_or_else(|| refused("the original program has no workloads"), Ok),
        Some(_) => refused("there is ?header=original, and no header else"),
    }
}

fn host(request: &Request) -> &str {
    let host = request.header("Host").filter(|host| !host.is_empty());
    host.unwrap_or("localhost:8000")
}

fn how_to_stream(request: &Request) -> String {
    let (host, path) = (host(request), &request.path);
    format!(
        "426: this is a WebSocket: the header, then each new row, as one text message. For example\n\n    \
         websocat -n ws://{host}{path} > rows.csv\n\n\
         The last rows as a file are at /nodes, /pods and /workloads, the collector's own metrics at /metrics/self.\n"
    )
}
