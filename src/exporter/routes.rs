//! What the metrics port answers.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use super::multirate::Delivery;
use super::Exporter;
use crate::exposition::{accepts_gzip, negotiate, Format};
use crate::http::{Handler, Method, Request, Response};
use crate::sys::lock;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
/// Compressing less than this saves no packet.
const WORTH_COMPRESSING: usize = 1400;

/// The metrics port: `/metrics`, and a page that says so.
pub(super) fn metrics(exporter: Arc<Exporter>) -> Arc<Handler> {
    Arc::new(move |request| match request.path.as_str() {
        "/metrics" if exporter.multirate_on_metrics.load(Ordering::Relaxed) => {
            reads(request, || {
                let format = format_for(request);
                deliver(
                    exporter.own_and_every_sample(request, format),
                    format,
                    request,
                    &exporter,
                )
            })
        }
        "/metrics" if exporter.window_statistics.load(Ordering::Relaxed) => reads(request, || {
            let format = format_for(request);
            let delivery = exporter.with_window(request, format);
            deliver(Ok(delivery), format, request, &exporter)
        }),
        "/metrics" => reads(request, || {
            let format = format_for(request);
            let text = exporter.scrape_of(wanted(request), format);
            exposition(&exporter, text, format, request)
        }),
        "/multirate" => reads(request, || {
            let format = format_for(request);
            deliver(
                exporter.every_sample(request, format),
                format,
                request,
                &exporter,
            )
        }),
        "/" => reads(request, || match &*lock::read(&exporter.landing) {
            Some(text) => Response::new(200, TEXT, text.as_str()),
            None => Response::new(200, HTML, landing_page()),
        }),
        _ => not_found("/metrics, /multirate and /"),
    })
}

/// The format that the client wants most.
fn format_for(request: &Request) -> Format {
    negotiate(request.header_list("Accept").as_deref())
}

/// Which metrics are asked for: those that the query names by `name[]`; all, if it names none.
pub(super) fn wanted(request: &Request) -> impl Fn(&str) -> bool {
    let names: Vec<_> = request.query_values("name[]").collect();
    move |name| names.is_empty() || names.iter().any(|wanted| wanted == name)
}

/// Samples that are delivered once: they count as delivered when they have been written out.
fn deliver(
    delivery: Result<Delivery, &'static str>,
    format: Format,
    request: &Request,
    exporter: &Exporter,
) -> Response {
    match delivery {
        Ok(Delivery { text, done }) => exposition(exporter, text, format, request).on_done(done),
        Err(why) => Response::new(503, TEXT, why).with_header("Retry-After", "1"),
    }
}

/// The answer to a scrape.
fn exposition(exporter: &Exporter, text: Vec<u8>, format: Format, request: &Request) -> Response {
    let (body, coding) = compressed(
        exporter,
        text,
        accepts_gzip(request.header_list("Accept-Encoding").as_deref()),
    );
    let response = Response::new(200, format.content_type(), body)
        .with_header("Vary", "Accept, Accept-Encoding");
    match coding {
        Some(coding) => response.with_header("Content-Encoding", coding),
        None => response,
    }
}

fn compressed(
    exporter: &Exporter,
    text: Vec<u8>,
    accepted: bool,
) -> (Vec<u8>, Option<&'static str>) {
    if !accepted || text.len() < WORTH_COMPRESSING {
        return (text, None);
    }
    match exporter.compressor.compress(&text) {
        Some(compressed) => (compressed, Some("gzip")),
        None => (text, None),
    }
}

/// The answer of a resource that can only be read.
fn reads(request: &Request, answer: impl FnOnce() -> Response) -> Response {
    match request.method {
        Method::Get | Method::Head => answer(),
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

fn not_found(there_is: &str) -> Response {
    Response::new(404, TEXT, format!("404: there is only {there_is} here\n"))
}

fn landing_page() -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>edge-metrics-exporter</title></head><body>\
         <h1>edge-metrics-exporter {}</h1><p><a href=\"/metrics\">Metrics</a></p>\
         <p><a href=\"/multirate\">Every sample since you last asked</a></p>\
         </body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}
