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
            "/metrics" | "/metrics/nodes" => state.stream(request, RowKind::Nodes),
            "/metrics/pods" => state.stream(request, RowKind::Pods),
            "/metrics/self" => {
                let format = negotiate(request.header_list("Accept").as_deref());
                let body = self_metrics.render(&state, format);
                Response::new(200, format.content_type(), body).with_header("Vary", "Accept")
            }
            "/health" => Response::new(200, "application/json", state.health()),
            _ => Response::text(
                404,
                "404: there is only /download, /nodes, /pods, /metrics, /metrics/nodes, /metrics/pods, \
                 /metrics/self, /health and / here\n",
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
        let layout = match layout_of(request) {
            Ok(layout) => layout,
            Err(refusal) => return refusal,
        };
        let file = self.feeds[kind as usize].csv(size, layout);
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
        let layout = match layout_of(request) {
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
            "edge-metrics-exporter {} collect: energy of nodes and pods out of Prometheus\n\n\
             Collected from {url}, pods of the namespace {namespace}.\n\n\
             /download, /nodes   the last {DEFAULT_SIZE} rows of nodes, as CSV; ?size=N: the last N\n\
             /pods               the same of pods\n\
             /metrics/nodes, /metrics, /metrics/pods\n\
             \x20                   a WebSocket: the header, then each new row, as one text message\n\
             /health             how the collecting goes, as JSON\n\
             /metrics/self       the collector's own metrics, for Prometheus\n\n\
             With ?header=original, header, order and formats are those of the original program.\n\n\
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
        let [nodes, pods] = &self.feeds;
        let mut body = json!({
            "status": status,
            "prometheus": self.prometheus_url,
            "namespace": self.namespace,
            "last_error": report.last_error,
            "failing": failing.collect::<serde_json::Map<_, _>>(),
            "last_success_age_seconds": report.success.map(|at| now.seconds_since(at)),
            "rows": { "nodes": nodes.counts().0, "pods": pods.counts().0 },
            "streams": self.streams.permits().open().iter().sum::<usize>(),
        })
        .to_string();
        body.push('\n');
        body.into_bytes()
    }
}

fn layout_of(request: &Request) -> Result<Layout, Response> {
    match request.query_values("header").last().as_deref() {
        None => Ok(Layout::Own),
        Some("original") => Ok(Layout::Original),
        Some(_) => Err(Response::text(
            400,
            "400: there is ?header=original, and no header else\n",
        )),
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
         The last rows as a file are at /nodes and /pods, the collector's own metrics at /metrics/self.\n"
    )
}
