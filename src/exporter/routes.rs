//! The routes of the metrics port.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use super::history_csv::Refusal;
use super::multirate::{resolution, Delivery};
use super::Exporter;
use crate::exposition::{accepts_gzip, negotiate, Format};
use crate::http::gzip::Compressor;
use crate::http::{Handler, Method, Request, Response};
use crate::sys::lock;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
/// The header with the time by the clock that time stamps are made with, in seconds since 1970. `Date` has whole seconds only.
const BOARD_TIME: &str = "Board-Time";
const CSV: &str = "text/csv; charset=utf-8; header=present";
/// Compressing less than this saves no packet.
const WORTH_COMPRESSING: usize = 1400;

/// `/metrics`, `/multirate`, `/history.csv`, and a landing page.
pub(super) fn metrics(exporter: Arc<Exporter>) -> Arc<Handler> {
    Arc::new(move |request| match request.path.as_str() {
        "/metrics" if exporter.multirate_on_metrics.load(Ordering::Relaxed) => {
            read_only(request, || {
                let format = format_for(request);
                deliver(
                    exporter.own_and_every_sample(request, format),
                    format,
                    request,
                    &exporter,
                )
            })
        }
        "/metrics" if exporter.window_statistics.load(Ordering::Relaxed) => {
            read_only(request, || {
                let format = format_for(request);
                let delivery = exporter.with_window(request, format);
                deliver(Ok(delivery), format, request, &exporter)
            })
        }
        "/metrics" => read_only(request, || {
            let format = format_for(request);
            let text = exporter.scrape_of(requested(request), format);
            exposition(&exporter, text, format, request)
        }),
        "/multirate" => read_only(request, || {
            let format = format_for(request);
            if let Err(why) = resolution(request, format) {
                return Response::new(400, TEXT, why);
            }
            deliver(
                exporter.every_sample(request, format),
                format,
                request,
                &exporter,
            )
        }),
        "/history.csv" => read_only(request, || history(&exporter, request)),
        "/" => read_only(request, || match &*lock::read(&exporter.landing) {
            Some(text) => Response::new(200, TEXT, text.as_str()),
            None => Response::new(200, HTML, landing_page()),
        }),
        _ => not_found("/metrics, /multirate, /history.csv and /"),
    })
}

/// The format that the client prefers.
fn format_for(request: &Request) -> Format {
    negotiate(request.header_list("Accept").as_deref())
}

/// Whether a metric is requested: those that the query names by `name[]`; all, if the query names none.
pub(super) fn requested(request: &Request) -> impl Fn(&str) -> bool {
    let names: Vec<_> = request.query_values("name[]").collect();
    move |name| names.is_empty() || names.iter().any(|requested| requested == name)
}

/// The response with samples that are delivered once: they count as delivered when the response has been written.
fn deliver(
    delivery: Result<Delivery, &'static str>,
    format: Format,
    request: &Request,
    exporter: &Exporter,
) -> Response {
    match delivery {
        Ok(Delivery { text, done }) => {
            let response = exposition(exporter, text, format, request).on_done(done);
            match exporter.clock.offset() {
                Some(offset) => response.with_header(BOARD_TIME, &seconds(offset.now_ms())),
                None => response,
            }
        }
        Err(why) => Response::new(503, TEXT, why).with_header("Retry-After", "1"),
    }
}

/// Milliseconds as seconds, with three decimals.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

/// The response with the kept samples as a table.
fn history(exporter: &Exporter, request: &Request) -> Response {
    let (csv, reserved) = match exporter.history_csv(request) {
        Ok(table) => table,
        Err(Refusal(status, why)) => {
            let response = Response::new(status, TEXT, format!("{status}: {why}\n"));
            return match status {
                503 => response.with_header("Retry-After", "1"),
                _ => response,
            };
        }
    };
    // With a compressor of its own: a scrape would wait for that of the scrapes.
    let (body, coding) = compressed(&Compressor::default(), csv.into_bytes(), request);
    let response = Response::new(200, CSV, body)
        .with_header("Content-Disposition", "attachment; filename=history.csv")
        .with_header("Cache-Control", "no-store")
        .with_header("Vary", "Accept-Encoding")
        .on_done(move |_| drop(reserved));
    match coding {
        Some(coding) => response.with_header("Content-Encoding", coding),
        None => response,
    }
}

/// The response to a scrape.
fn exposition(exporter: &Exporter, text: Vec<u8>, format: Format, request: &Request) -> Response {
    let (body, coding) = compressed(&exporter.compressor, text, request);
    let response = Response::new(200, format.content_type(), body)
        .with_header("Vary", "Accept, Accept-Encoding");
    match coding {
        Some(coding) => response.with_header("Content-Encoding", coding),
        None => response,
    }
}

fn compressed(
    compressor: &Compressor,
    text: Vec<u8>,
    request: &Request,
) -> (Vec<u8>, Option<&'static str>) {
    let is_accepted = accepts_gzip(request.header_list("Accept-Encoding").as_deref());
    if !is_accepted || text.len() < WORTH_COMPRESSING {
        return (text, None);
    }
    match compressor.compress(&text) {
        Some(compressed) => (compressed, Some("gzip")),
        None => (text, None),
    }
}

/// The response of a resource that can only be read.
fn read_only(request: &Request, respond: impl FnOnce() -> Response) -> Response {
    match request.method {
        Method::Get | Method::Head => respond(),
        _ => not_allowed(request, "GET, HEAD"),
    }
}

fn not_allowed(request: &Request, allowed: &str) -> Response {
    let body = format!(
        "405: {} takes {allowed}, not {}\n",
        request.path, request.method
    );
    Response::new(405, TEXT, body).with_header("Allow", allowed)
}

fn not_found(routes: &str) -> Response {
    Response::new(404, TEXT, format!("404: there is only {routes} here\n"))
}

fn landing_page() -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>edge-metrics-exporter</title></head><body>\
         <h1>edge-metrics-exporter {}</h1><p><a href=\"/metrics\">Metrics</a></p>\
         <p><a href=\"/multirate\">Every sample since you last asked</a></p>\
         <p><a href=\"/history.csv?step=1s\">The last minutes as a table (CSV)</a></p>\
         </body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}
