//! What the server answers to which path.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{json, Value};

use super::answers::{
    error, failure, not_allowed, precondition_failed, refused_access, too_many, unknown_device,
};
use super::etag::Verdict;
use super::store::Failure;
use super::{access, changes, listing, reload, Central};
use crate::http::page::{self, Page};
use crate::http::{Handler, Method, Request, Response};
use crate::wire::{DeviceId, INVALID_CONFIGURATION};

/// Answers every request, and counts it.
pub(super) fn handler(central: Arc<Central>) -> Arc<Handler> {
    Arc::new(move |request| {
        let (route, response) = answer(&central, request);
        central
            .metrics
            .answered(&request.method, route, response.status());
        response
    })
}

/// The answer, and the name of the route.
fn answer(central: &Arc<Central>, request: &Request) -> (&'static str, Response) {
    let steps: Vec<&str> = request.path.split('/').skip(1).collect();
    match steps.as_slice() {
        ["health"] => ("/health", reads(request, || health(central))),
        ["metrics"] => (
            "/metrics",
            reads(request, || {
                central.metrics.scrape(request, &central.catalog)
            }),
        ),
        ["sd"] => ("/sd", reads(request, || listing::targets(central, request))),
        ["devices"] => (
            "/devices",
            reads(request, || listing::devices(central, request)),
        ),
        ["devices", "reload"] => (
            "/devices/reload",
            posts(request, || reload_all(central, request)),
        ),
        ["devices", id, "reload"] => (
            "/devices/{device_id}/reload",
            with_id(id, |id| {
                posts(request, || reload_one(central, request, &id))
            }),
        ),
        ["config", id] => (
            "/config/{device_id}",
            with_id(id, |id| match request.method {
                Method::Get | Method::Head => get(central, request, &id),
                Method::Put | Method::Post | Method::Patch => {
                    changes::change(central, request, &id)
                }
                Method::Delete => changes::delete(central, request, &id),
                _ => not_allowed(request, "GET, HEAD, PUT, POST, PATCH, DELETE"),
            }),
        ),
        _ => match page::file(Page::Fleet, &request.path) {
            Some(file) => ("/", reads(request, || file)),
            None => ("other", not_found()),
        },
    }
}

fn not_found() -> Response {
    let there_is = "there is the page at /, /config/{device_id}, /devices, /devices/reload, /devices/{device_id}/reload, /sd, \
                    /health and /metrics here";
    error(404, "Not found", None, there_is)
}

fn with_id(text: &str, answer: impl FnOnce(DeviceId) -> Response) -> Response {
    match DeviceId::parse(text) {
        Ok(id) => answer(id),
        Err(why) => error(400, "Invalid device id", None, why),
    }
}

/// The answer of a resource that can only be read.
fn reads(request: &Request, answer: impl FnOnce() -> Response) -> Response {
    match request.method {
        Method::Get | Method::Head => answer(),
        _ => not_allowed(request, "GET, HEAD"),
    }
}

/// The answer of a resource that can only be posted to.
fn posts(request: &Request, answer: impl FnOnce() -> Response) -> Response {
    match request.method {
        Method::Post => answer(),
        _ => not_allowed(request, "POST"),
    }
}

/// The configuration of a device.
fn get(central: &Central, request: &Request, id: &DeviceId) -> Response {
    let conditions = match changes::conditions(request) {
        Ok(conditions) => conditions,
        Err(refusal) => return refusal,
    };
    let found = match central.configuration(id) {
        Ok(Some(found)) => found,
        Ok(None) => return unknown_device(id, "No configuration available for this device"),
        Err(Failure::Unreadable(why)) => {
            heard_of(central, request, id);
            return error(500, INVALID_CONFIGURATION, Some(id), &why);
        }
        Err(error) => return failure(&error),
    };
    heard_of(central, request, id);
    let response = match conditions.judge(Some(&found.etag)) {
        Verdict::Changed => return precondition_failed(id, Some(found.etag)),
        Verdict::Same => Response::new(304, "application/json", ""),
        Verdict::Go => match found.json {
            Ok(json) => Response::shared(200, "application/json", vec![json]),
            Err(why) => return error(500, INVALID_CONFIGURATION, Some(id), &why),
        },
    };
    response
        .with_header("ETag", &found.etag.to_string())
        .with_header("Cache-Control", "no-cache")
}

/// Notes that a board has asked, if it is one.
fn heard_of(central: &Central, request: &Request, id: &DeviceId) {
    if let Some(report) = central.report(request) {
        central.heard_of(id, request, report);
    }
}

fn health(central: &Central) -> Response {
    let mut body = json!({
        "status": "healthy",
        "service": "config-server",
        "version": env!("CARGO_PKG_VERSION"),
        "store": central.store.describe(),
    });
    // Any device will do: whether the store answers is the question.
    let asked = DeviceId::parse("health").map(|id| central.ask(|store| store.get(&id)));
    match asked {
        Ok(Err(error)) => {
            body["status"] = "unhealthy".into();
            body["error"] = "Store unavailable".into();
            body["message"] = error.to_string().into();
            Response::json(503, &body)
        }
        _ => Response::json(200, &body),
    }
}

fn reload_one(central: &Central, request: &Request, id: &DeviceId) -> Response {
    if let Err(refusal) = may_reload(central, request) {
        return refusal;
    }
    let device = match central.device(id) {
        Ok(Some(device)) => device,
        Ok(None) => return unknown_device(id, ""),
        Err(error) => return failure(&error),
    };
    let outcome = reload::call(&central.boards, &device);
    central.was_called(id, &outcome);
    match outcome {
        Ok(()) => Response::json(
            200,
            &json!({"status": "reloaded", "device_id": id.as_str()}),
        ),
        Err(why) => Response::json(
            503,
            &json!({"status": "failed", "device_id": id.as_str(), "error": why.to_string()}),
        ),
    }
}

fn reload_all(central: &Central, request: &Request) -> Response {
    if let Err(refusal) = may_reload(central, request) {
        return refusal;
    }
    // One at a time: a second one would only call the same boards again.
    let Ok(_alone) = central.reloading_all.try_lock() else {
        return too_many("all boards are being told to reload already", 5);
    };
    let devices = match central.devices() {
        Ok(devices) => devices,
        Err(error) => return failure(&error),
    };
    let outcomes = reload::call_all(&central.boards, &devices);
    let mut success = 0;
    let mut results: Vec<Value> = Vec::new();
    for (device, outcome) in devices.iter().zip(outcomes) {
        central.was_called(&device.id, &outcome);
        let id = device.id.as_str();
        results.push(match outcome {
            Ok(()) => {
                success += 1;
                json!({"device_id": id, "status": "reloaded"})
            }
            Err(why) => json!({"device_id": id, "status": "failed", "error": why.to_string()}),
        });
    }
    let total = results.len();
    Response::json(
        200,
        &json!({"results": results, "total": total, "success": success, "failed": total - success}),
    )
}

/// Everybody may have boards load again what they are meant to have, within measure; a page from elsewhere may not.
fn may_reload(central: &Central, request: &Request) -> Result<(), Response> {
    if let Some(refusal) = access::refusal_of_page(request) {
        return Err(refused_access(refusal, None));
    }
    if access::refusal_of_change(request, central.allow_remote).is_none() {
        return Ok(());
    }
    central
        .pace
        .take(Instant::now())
        .map_err(|wait| too_many("boards are told to reload too often", wait.as_secs() + 1))
}
