//! What the server answers to which path.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{json, Value};

use super::answers::{
    error, failure, not_allowed, precondition_failed, refused_access, too_many, unknown_device,
};
use super::device::{take_apart, Device};
use super::etag::Verdict;
use super::store::Stored;
use super::{access, changes, reload, sd, Central};
use crate::http::page::{self, Page};
use crate::http::{Handler, Method, Request, Response};
use crate::sys::calendar::rfc3339;
use crate::wire::DeviceId;

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
            reads(request, || central.metrics.scrape(request)),
        ),
        ["sd"] => ("/sd", reads(request, || service_discovery(central))),
        ["devices"] => ("/devices", reads(request, || devices(central))),
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
    let stored = match central.ask(|store| store.get(id)) {
        Ok(stored) => stored,
        Err(error) => return failure(&error),
    };
    let tag = stored.as_ref().map(Stored::etag);
    let Some(stored) = stored else {
        return unknown_device(id, "No configuration available for this device");
    };
    if let Some(report) = central.report(request) {
        central
            .fleet
            .heard_of(id, request.peer.ip(), report, central.store.as_ref());
    }
    let response = match conditions.judge(tag.as_ref()) {
        Verdict::Changed => return precondition_failed(id, tag),
        Verdict::Same => Response::new(304, "application/json", ""),
        Verdict::Go => match take_apart(&stored) {
            Ok(kept) => match serde_json::to_string_pretty(&kept.document) {
                Ok(text) => Response::new(200, "application/json", text),
                Err(e) => return error(500, "Invalid configuration", Some(id), &e.to_string()),
            },
            Err(why) => return error(500, "Invalid configuration", Some(id), &why),
        },
    };
    response
        .with_header("ETag", &stored.etag().to_string())
        .with_header("Cache-Control", "no-cache")
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

/// The whole fleet, or the answer that says why there is none.
fn fleet(central: &Central) -> Result<Vec<Device>, Response> {
    let all = central.ask(|store| Device::all(store, &central.fleet));
    let all = all.map_err(|e| failure(&e))?;
    central.metrics.counted(all.len());
    Ok(all)
}

fn service_discovery(central: &Central) -> Response {
    match fleet(central) {
        Ok(devices) => Response::json(200, &sd::targets(&devices)),
        Err(refusal) => refusal,
    }
}

fn devices(central: &Central) -> Response {
    let devices = match fleet(central) {
        Ok(devices) => devices,
        Err(refusal) => return refusal,
    };
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut list = Vec::new();
    for device in &devices {
        let (status, why) = device.status();
        *counts.entry(status).or_default() += 1;
        let (host, from) = device.host();
        let mut entry = json!({
            "device_id": device.id.as_str(),
            "device_type": device.device_type(),
            "hostname": device.hostname(),
            "ip_address": host,
            "address_from": from.as_str(),
            "port": device.port(),
            "reload_port": device.reload_port(),
            "scheme": device.scheme(),
            "status": status,
        });
        if let Some(seen) = &device.state.seen {
            entry["last_seen"] = rfc3339(seen.at).into();
            entry["version"] = seen.report.version.as_str().into();
        }
        if let Some(why) = why {
            entry["error"] = why.into();
        }
        list.push(entry);
    }
    let count = |status: &str| counts.get(status).copied().unwrap_or_default();
    let body = json!({
        "devices": list,
        "total": devices.len(),
        "healthy": count("healthy"),
        "unhealthy": count("unhealthy") + count("unreachable"),
        "unknown": count("unknown"),
    });
    Response::json(200, &body)
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
    let devices = match fleet(central) {
        Ok(devices) => devices,
        Err(refusal) => return refusal,
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
