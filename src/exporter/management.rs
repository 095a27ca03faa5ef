//! The management API: what the management port answers, and whom.
//!
//! Reading is open. Loading the configuration again is open too, but not more often than it costs nothing. What changes a
//! setting is for those who show that they may (`http::gate`), and where nobody can, for this machine's own, unless the
//! configuration says otherwise; and none of it is for the pages that somebody reads elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Map, Value};

use super::Exporter;
use crate::config::MAX_METRICS;
use crate::http::page::{self, Page};
use crate::http::{
    foreign_page, Form, Handler, Limits, Method, Rate, Request, Response, Standing, BEARER,
};
use crate::sources::SCHEMA;
use crate::store::SelectError;
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// Bytes of a request's body, as in seed 001.
const MOST_BYTES: usize = 102_400;
/// Loading the configuration looks at the whole board: so many at once, and one a second in the long run.
const RELOADS: (u32, Duration) = (10, Duration::from_secs(1));
/// Names that an answer repeats.
const SHOWN: usize = 20;

const THERE_IS: &str = "there is only the page at /, POST /reload, GET /metrics/list, POST /metrics/enable, GET /health, \
                        GET /config and GET /history here";

/// The bounds of the management port's listener.
pub(super) fn limits() -> Limits {
    Limits {
        body: MOST_BYTES,
        refusals: Form::Json,
        ..Limits::default()
    }
}

/// What it answers.
pub(super) fn routes(exporter: Arc<Exporter>) -> Arc<Handler> {
    let reloads = Rate::new(RELOADS.0, RELOADS.1);
    Arc::new(move |request| match request.path.as_str() {
        "/health" => reads(request, || Response::json(200, &exporter.health())),
        "/config" => reads(request, || {
            Response::json(200, &SCHEMA.to_json(&exporter.store.current()))
        }),
        "/history" => reads(request, || history(&exporter, request)),
        "/metrics/list" => reads(request, || Response::json(200, &list(&exporter))),
        "/metrics/enable" => changes(&exporter, request, || {
            if let Some(refused) = from_elsewhere(&exporter, request) {
                return refused;
            }
            enable(&exporter, request)
        }),
        "/reload" => changes(&exporter, request, || reload(&exporter, &reloads)),
        path => match page::file(Page::Board, path) {
            Some(file) => reads(request, || file),
            None => Response::error(404, "Not Found", THERE_IS),
        },
    })
}

/// The answer of a resource that can only be read.
fn reads(request: &Request, answer: impl FnOnce() -> Response) -> Response {
    match request.method {
        Method::Get | Method::Head => answer(),
        _ => not_allowed(request, "GET, HEAD"),
    }
}

/// The answer of something that is done: to everybody but other people's pages.
fn changes(exporter: &Exporter, request: &Request, answer: impl FnOnce() -> Response) -> Response {
    if request.method != Method::Post {
        return not_allowed(request, "POST");
    }
    let hostname = lock::read(&exporter.identity).hostname.clone();
    let config = exporter.store.current();
    let mut names: Vec<_> = config.management.hosts.iter().map(String::as_str).collect();
    names.push(&hostname);
    match foreign_page(request, &names) {
        Some(why) => Response::error(403, "Forbidden", &why),
        None => answer(),
    }
}

fn not_allowed(request: &Request, allowed: &str) -> Response {
    let message = format!("{} takes {allowed}", request.path);
    Response::error(405, "Method Not Allowed", &message).with_header("Allow", allowed)
}

/// The refusal for those who may not change settings.
fn from_elsewhere(exporter: &Exporter, request: &Request) -> Option<Response> {
    let allow_remote = exporter.store.current().management.allow_remote;
    match Standing::of(request, allow_remote) {
        Standing::Allowed => None,
        Standing::Unknown => Some(
            Response::error(
                401,
                "Unauthorized",
                "settings may be changed by those who show a token (Authorization: Bearer ...) or a certificate",
            )
            .with_header(BEARER.0, BEARER.1),
        ),
        Standing::Elsewhere => Some(Response::error(
            403,
            "Forbidden",
            "settings may be changed from this machine alone: tokens (`management: {token_file: ...}` in the \
             configuration) or users (--web.config.file) let others do so too, and `management: {allow_remote: true}` \
             everybody",
        )),
    }
}

fn list(exporter: &Exporter) -> Value {
    json!({
        "metrics": exporter.metrics(),
        "device_type": lock::read(&exporter.identity).device_type,
        "source": "local",
    })
}

/// Without white space: it goes to a program, once a second.
fn history(exporter: &Exporter, request: &Request) -> Response {
    let since = request.query_values("since").next();
    let history = exporter.history(since.as_deref(), BootTime::now());
    Response::new(200, "application/json", history.to_string())
        .with_header("Cache-Control", "no-store")
}

fn reload(exporter: &Exporter, rate: &Rate) -> Response {
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
    let asked = match parse(&request.body) {
        Ok(asked) => asked,
        Err(error) => return bad_request(&error),
    };
    let changes = asked
        .iter()
        .filter_map(|(n, on)| Some((n.clone(), on.as_bool()?)));
    let changes: BTreeMap<_, _> = changes.collect();
    let outcome = exporter
        .store
        .switch(&changes, &exporter.registry.switchable());
    match outcome {
        Ok(unsaved) => {
            let mut answer = json!({
                "status": "success",
                "updated": asked.len(),
                "metrics": asked,
            });
            if let Some(why) = unsaved {
                answer["saved"] = json!(false);
                answer["message"] = json!(format!(
                    "this holds until the next reload or restart, because it could not be saved: {why}"
                ));
            }
            Response::json(200, &answer)
        }
        Err(SelectError::Unknown(names)) => bad_request(&format!(
            "Unknown metrics: [{}{}]",
            names
                .iter()
                .take(SHOWN)
                .map(|n| quoted(n))
                .collect::<Vec<_>>()
                .join(", "),
            if names.len() > SHOWN { ", ..." } else { "" },
        )),
        Err(SelectError::TooMany(count)) => bad_request(&format!(
            "Too many metrics: the configuration would name {count} (max {MAX_METRICS})"
        )),
        Err(SelectError::Failed(why)) => Response::error(503, "Service Unavailable", &why),
    }
}

/// The error is seed 001's word for word, where that had one.
fn bad_request(error: &str) -> Response {
    let help = "nothing was changed; the body is an object of names and true or false, the names as in GET /metrics/list";
    Response::error(400, error, help)
}

/// Whether the body says that it is JSON. No form and no script of a foreign page can say so without the browser asking
/// us first.
fn is_json(request: &Request) -> bool {
    let kind = request.header("Content-Type").unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The names and what they are to be, in the order of the request.
fn parse(body: &[u8]) -> Result<Map<String, Value>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|e| format!("Invalid JSON: {e}"))?;
    let Value::Object(asked) = value else {
        return Err("Request body must be a JSON object".into());
    };
    if asked.len() > MAX_METRICS {
        return Err(format!("Too many metrics (max {MAX_METRICS})"));
    }
    match asked.iter().find(|(_, on)| !on.is_boolean()) {
        Some((name, _)) => Err(format!(
            "Invalid type for {}: expected bool",
            quoted(name).trim_matches('\'')
        )),
        None => Ok(asked),
    }
}

/// A name that somebody sent, as Python would show it, at most as long as names are.
fn quoted(name: &str) -> String {
    const LONGEST: usize = 255;
    let shown: String = name.chars().take(LONGEST).collect();
    format!("'{}'", shown.escape_debug())
}

#[cfg(test)]
#[path = "management_tests.rs"]
mod tests;
