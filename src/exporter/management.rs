//! The management API on the management port.
//!
//! Reading is open to all. Reloading the configuration is open too, at a limited rate. Changing settings needs
//! authentication ([`crate::http::access`]); where no credentials are configured, only clients on this machine may
//! change settings, unless the configuration allows others. Requests from pages of other origins change nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Map, Value};

use super::Exporter;
use crate::config::MAX_METRICS;
use crate::http::page::{self, Page};
use crate::http::{
    foreign_page, ErrorFormat, Handler, Limits, Method, RateLimiter, Request, Response,
    WriteAccess, BEARER,
};
use crate::sources::SCHEMA;
use crate::store::SelectError;
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// The limit of a request's body in bytes, as in seed 001.
const MAX_BODY_BYTES: usize = 102_400;
/// A reload examines the whole board: this many reloads are allowed at once, and one in each period in the long run.
const RELOAD_BURST: u32 = 10;
const RELOAD_PERIOD: Duration = Duration::from_secs(1);
/// How many series of a metric are listed with their values. The rest is counted.
const MAX_LISTED_SERIES: usize = 8;
/// How many names an error message lists.
const MAX_LISTED_NAMES: usize = 20;

const NOT_FOUND_HELP: &str = "there is only the page at /, POST /reload, GET /metrics/list, POST /metrics/enable, GET /health, \
                        GET /config and GET /history here";

/// The bounds of the management port's listener.
pub(super) fn limits() -> Limits {
    Limits {
        body: MAX_BODY_BYTES,
        error_format: ErrorFormat::Json,
        ..Limits::default()
    }
}

/// The routes of the management port.
pub(super) fn routes(exporter: Arc<Exporter>) -> Arc<Handler> {
    let reloads = RateLimiter::new(RELOAD_BURST, RELOAD_PERIOD);
    Arc::new(move |request| match request.path.as_str() {
        "/health" => read_only(request, || Response::json(200, &exporter.health())),
        "/config" => read_only(request, || {
            Response::json(200, &SCHEMA.to_json(&exporter.store.current()))
        }),
        "/history" => read_only(request, || history(&exporter, request)),
        "/metrics/list" => read_only(request, || Response::json(200, &list(&exporter, request))),
        "/metrics/enable" => action(&exporter, request, || {
            if let Some(refused) = refuse_change(&exporter, request) {
                return refused;
            }
            enable(&exporter, request)
        }),
        "/reload" => action(&exporter, request, || reload(&exporter, &reloads)),
        path => match page::file(Page::Board, path) {
            Some(file) => read_only(request, || file),
            None => Response::error(404, "Not Found", NOT_FOUND_HELP),
        },
    })
}

/// The response of a resource that can only be read.
fn read_only(request: &Request, respond: impl FnOnce() -> Response) -> Response {
    match request.method {
        Method::Get | Method::Head => respond(),
        _ => not_allowed(request, "GET, HEAD"),
    }
}

/// The response of an action, which pages of other origins may not trigger.
fn action(exporter: &Exporter, request: &Request, respond: impl FnOnce() -> Response) -> Response {
    if request.method != Method::Post {
        return not_allowed(request, "POST");
    }
    let hostname = lock::read(&exporter.identity).hostname.clone();
    let config = exporter.store.current();
    let mut names: Vec<_> = config.management.hosts.iter().map(String::as_str).collect();
    names.push(&hostname);
    match foreign_page(request, &names) {
        Some(why) => Response::error(403, "Forbidden", &why),
        None => respond(),
    }
}

fn not_allowed(request: &Request, allowed: &str) -> Response {
    let message = format!("{} takes {allowed}", request.path);
    Response::error(405, "Method Not Allowed", &message).with_header("Allow", allowed)
}

/// The refusal, if the client may not change settings.
fn refuse_change(exporter: &Exporter, request: &Request) -> Option<Response> {
    let allow_remote = exporter.store.current().management.allow_remote;
    match WriteAccess::of(request, allow_remote) {
        WriteAccess::Allowed => None,
        WriteAccess::LoginRequired => Some(
            Response::error(
                401,
                "Unauthorized",
                "settings may be changed by those who show a token (Authorization: Bearer ...) or a certificate",
            )
            .with_header(BEARER.0, BEARER.1),
        ),
        WriteAccess::LocalOnly => Some(Response::error(
            403,
            "Forbidden",
            "settings may be changed from this machine alone: tokens (`management: {token_file: ...}` in the \
             configuration) or users (--web.config.file) let others do so too, and `management: {allow_remote: true}` \
             everybody",
        )),
    }
}

fn list(exporter: &Exporter, request: &Request) -> Value {
    let mut list = json!({
        "metrics": exporter.metrics(),
        "device_type": lock::read(&exporter.identity).device_type,
        "source": "local",
    });
    if request.query_values("values").next().is_some() {
        list["values"] = values(exporter);
    }
    list
}

/// The values of each metric that can be switched, exported or not.
fn values(exporter: &Exporter) -> Value {
    let snapshot = exporter.registry.snapshot(BootTime::now());
    let mut values = Map::new();
    for view in snapshot.all().filter(|view| !view.family.own) {
        let samples = view
            .samples()
            .take(MAX_LISTED_SERIES)
            .map(|(series, value)| {
                let labels = series.labels();
                let labels: Map<_, _> = labels
                    .filter(|(name, _)| !["device_type", "hostname"].contains(name))
                    .map(|(name, value)| (name.to_owned(), value.into_owned().into()))
                    .collect();
                json!({"labels": labels, "value": value})
            });
        let series: Vec<_> = samples.collect();
        let more = view.samples().count() - series.len();
        let help = view.family.help.as_str();
        values.insert(
            view.family.name.clone(),
            json!({"help": help, "series": series, "more": more}),
        );
    }
    values.into()
}

/// The JSON has no white space: a program reads it once a second.
fn history(exporter: &Exporter, request: &Request) -> Response {
    let since = request.query_values("since").next();
    let history = exporter.history(since.as_deref(), BootTime::now());
    Response::new(200, "application/json", history.to_string())
        .with_header("Cache-Control", "no-store")
}

fn reload(exporter: &Exporter, rate: &RateLimiter) -> Response {
    if let Err(wait) = rate.take(Instant::now()) {
        let seconds = wait.as_secs() + 1;
        let message = format!("the configuration was just loaded again: try again in {seconds} s");
        return Response::error(429, "Too Many Requests", &message)
            .with_header("Retry-After", &seconds.to_string());
    }
    match exporter.store.reload() {
        Ok(()) => Response::text(200, "Config reload triggered\n"),
        Err(why) => Response::error(
            422,
            "Invalid configuration",
            &format!("the configuration stays as it was: {why}"),
        ),
    }
}

fn enable(exporter: &Exporter, request: &Request) -> Response {
    if !is_json(request) {
        return Response::error(
            415,
            "Unsupported Media Type",
            "the body must be JSON, and say so: Content-Type: application/json",
        );
    }
    let requested = match parse(&request.body) {
        Ok(requested) => requested,
        Err(error) => return bad_request(&error),
    };
    let switches = requested
        .iter()
        .filter_map(|(n, on)| Some((n.clone(), on.as_bool()?)));
    let switches: BTreeMap<_, _> = switches.collect();
    let outcome = exporter
        .store
        .switch(&switches, &exporter.registry.switchable());
    match outcome {
        Ok(unsaved) => {
            let mut response = json!({
                "status": "success",
                "updated": requested.len(),
                "metrics": requested,
            });
            if let Some(why) = unsaved {
                response["saved"] = json!(false);
                response["message"] = json!(format!(
                    "The change is not saved and will be lost at the next reload or restart: {why}"
                ));
            }
            Response::json(200, &response)
        }
        Err(SelectError::Unknown(names)) => bad_request(&format!(
            "Unknown metrics: [{}{}]",
            names
                .iter()
                .take(MAX_LISTED_NAMES)
                .map(|n| quoted(n))
                .collect::<Vec<_>>()
                .join(", "),
            if names.len() > MAX_LISTED_NAMES {
                ", ..."
            } else {
                ""
            },
        )),
        Err(SelectError::TooMany(count)) => bad_request(&format!(
            "Too many metrics: the configuration would name {count} (max {MAX_METRICS})"
        )),
        Err(SelectError::Failed(why)) => Response::error(503, "Service Unavailable", &why),
    }
}

/// The error is seed 001's, word for word, where seed 001 had one.
fn bad_request(error: &str) -> Response {
    let help = "nothing was changed; the body is an object of names and true or false, the names as in GET /metrics/list";
    Response::error(400, error, help)
}

/// Whether the request declares its body as JSON. A form or script of a foreign page cannot do so without a preflight
/// request of the browser, which is refused.
fn is_json(request: &Request) -> bool {
    let kind = request.header("Content-Type").unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The names and whether each is to be enabled, in the order of the request.
fn parse(body: &[u8]) -> Result<Map<String, Value>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|e| format!("Invalid JSON: {e}"))?;
    let Value::Object(requested) = value else {
        return Err("Request body must be a JSON object".into());
    };
    if requested.len() > MAX_METRICS {
        return Err(format!("Too many metrics (max {MAX_METRICS})"));
    }
    match requested.iter().find(|(_, on)| !on.is_boolean()) {
        Some((name, _)) => Err(format!(
            "Invalid type for {}: expected bool",
            quoted(name).trim_matches('\'')
        )),
        None => Ok(requested),
    }
}

/// A name from a request, quoted as Python would, and cut to the longest legal name.
fn quoted(name: &str) -> String {
    const MAX_CHARS: usize = 255;
    let shown: String = name.chars().take(MAX_CHARS).collect();
    format!("'{}'", shown.escape_debug())
}

#[cfg(test)]
#[path = "management_tests.rs"]
mod tests;
