//! The routes of the server.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{json, Value};

use super::device::Own;
use super::etag::Evaluation;
use super::group_routes::{self, is_set};
use super::groups::message_of;
use super::responses::{
    access_refused, error, method_not_allowed, precondition_failed, store_error, too_many_requests,
    unknown_device,
};
use super::store::{StoreError, Stored};
use super::{access, bulk, changes, history, listing, reload, requests, transfer, ConfigServer};
use crate::config::Document;
use crate::http::page::{self, Page};
use crate::http::{Handler, Method, Request, Response};
use crate::wire::{DeviceId, INVALID_CONFIGURATION};

/// The handler of all requests, which also counts them.
pub(super) fn handler(server: Arc<ConfigServer>) -> Arc<Handler> {
    Arc::new(move |request| {
        let (route, response) = respond(&server, request);
        server
            .metrics
            .answered(&request.method, route, response.status());
        response
    })
}

/// The name of the route, and the response.
fn respond(server: &Arc<ConfigServer>, request: &Request) -> (&'static str, Response) {
    let segments: Vec<&str> = request.path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["health"] => ("/health", reads(request, || health(server))),
        ["metrics"] => (
            "/metrics",
            reads(request, || {
                let known = (&server.catalog, &server.groups);
                let dropped_records = server.store.dropped_records();
                server.metrics.scrape(request, known, dropped_records)
            }),
        ),
        ["sd"] => ("/sd", reads(request, || listing::targets(server, request))),
        ["devices"] => (
            "/devices",
            reads(request, || listing::devices(server, request)),
        ),
        ["devices", "reload"] => (
            "/devices/reload",
            posts(request, || reload_all(server, request)),
        ),
        ["devices", id, "reload"] => (
            "/devices/{device_id}/reload",
            with_id(id, |id| posts(request, || reload_one(server, request, &id))),
        ),
        ["groups"] => ("/groups", reads(request, || group_routes::list(server))),
        ["groups", name] => (
            "/groups/{name}",
            with_id(name, |name| group_routes::one(server, request, &name)),
        ),
        ["config"] => (
            "/config",
            match request.method {
                Method::Patch => bulk::patch(server, request),
                _ => method_not_allowed(request, "PATCH"),
            },
        ),
        ["export"] => (
            "/export",
            reads(request, || transfer::export(server, request)),
        ),
        ["import"] => (
            "/import",
            match request.method {
                Method::Put => transfer::import(server, request),
                _ => method_not_allowed(request, "PUT"),
            },
        ),
        ["changes"] => (
            "/changes",
            reads(request, || history::list(server, request)),
        ),
        ["changes", id] => (
            "/changes/{id}",
            match request.method {
                Method::Get | Method::Head => history::one(server, request, id),
                Method::Delete => history::remove(server, request, id),
                _ => method_not_allowed(request, "GET, HEAD, DELETE"),
            },
        ),
        ["changes", id, "undo"] => (
            "/changes/{id}/undo",
            posts(request, || history::undo(server, request, id)),
        ),
        ["config", id] => (
            "/config/{device_id}",
            with_id(id, |id| match request.method {
                Method::Get | Method::Head => read(server, request, &id),
                Method::Put | Method::Post | Method::Patch => changes::change(server, request, &id),
                Method::Delete => changes::delete(server, request, &id),
                _ => method_not_allowed(request, "GET, HEAD, PUT, POST, PATCH, DELETE"),
            }),
        ),
        _ => match page::file(Page::Fleet, &request.path) {
            Some(file) => ("/", reads(request, || file)),
            None => ("other", not_found()),
        },
    }
}

/// The response to GET of a device's configuration.
fn read(server: &ConfigServer, request: &Request, id: &DeviceId) -> Response {
    // A misspelled parameter must not give another document than the one that was meant.
    if let Err(refusal) = requests::known_parameters(request, &["own", "explain"], Some(id)) {
        return refusal;
    }
    match request {
        _ if is_set(request, "own") => own(server, request, id),
        _ if is_set(request, "explain") => match server.search_rate.take(Instant::now()) {
            // It looks at every setting in every group.
            Err(wait) => {
                too_many_requests("too many requests for explanations", wait.as_secs() + 1)
            }
            Ok(()) => explain(server, id),
        },
        _ => get(server, request, id),
    }
}

fn not_found() -> Response {
    let routes = "there is the page at /, /config, /config/{device_id}, /groups, /groups/{name}, /changes, /changes/{id}, \
                    /changes/{id}/undo, /export, /import, /devices, /devices/reload, \
                    /devices/{device_id}/reload, /sd, /health and /metrics here";
    error(404, "Not found", None, routes)
}

fn with_id(text: &str, respond: impl FnOnce(DeviceId) -> Response) -> Response {
    match DeviceId::parse(text) {
        Ok(id) => respond(id),
        Err(why) => error(400, "Invalid device id", None, why),
    }
}

/// The response of a resource that can only be read.
fn reads(request: &Request, respond: impl FnOnce() -> Response) -> Response {
    match request.method {
        Method::Get | Method::Head => respond(),
        _ => method_not_allowed(request, "GET, HEAD"),
    }
}

/// The response of a resource that only accepts POST.
fn posts(request: &Request, respond: impl FnOnce() -> Response) -> Response {
    match request.method {
        Method::Post => respond(),
        _ => method_not_allowed(request, "POST"),
    }
}

/// The response to GET of a device's configuration.
fn get(server: &ConfigServer, request: &Request, id: &DeviceId) -> Response {
    let conditions = match changes::conditions(request) {
        Ok(conditions) => conditions,
        Err(refusal) => return refusal,
    };
    let found = match server.configuration(id, &|| record_contact(server, request, id)) {
        Ok(Some(found)) => found,
        Ok(None) => return unknown_device(id, "No configuration available for this device"),
        Err(StoreError::Unreadable(why)) => {
            return error(500, INVALID_CONFIGURATION, Some(id), &why);
        }
        Err(error) => return store_error(&error),
    };
    let response = match conditions.evaluate(&[found.etag]) {
        Evaluation::Failed => return precondition_failed(id, Some(found.etag)),
        Evaluation::NotModified => Response::new(304, "application/json", ""),
        Evaluation::Proceed => match found.json {
            Ok(json) => Response::shared(200, "application/json", vec![json]),
            Err(why) => return error(500, INVALID_CONFIGURATION, Some(id), &why),
        },
    };
    response
        .with_header("ETag", &found.etag.to_string())
        .with_header("Cache-Control", "no-cache")
}

/// The response to GET of a device's own document, as it is stored.
fn own(server: &ConfigServer, request: &Request, id: &DeviceId) -> Response {
    let conditions = match changes::conditions(request) {
        Ok(conditions) => conditions,
        Err(refusal) => return refusal,
    };
    let stored = match stored(server, id) {
        Ok(stored) => stored,
        Err(refusal) => return refusal,
    };
    let response = match conditions.evaluate(&[stored.etag()]) {
        Evaluation::Failed => return precondition_failed(id, Some(stored.etag())),
        Evaluation::NotModified => Response::new(304, "application/json", ""),
        Evaluation::Proceed => {
            let document = Document::from_yaml(&stored.text).map_err(|e| e.to_string());
            let json = document.and_then(|document| {
                serde_json::to_vec_pretty(&document).map_err(|e| e.to_string())
            });
            match json {
                Ok(json) => Response::new(200, "application/json", json),
                Err(why) => return error(500, INVALID_CONFIGURATION, Some(id), &why),
            }
        }
    };
    response
        .with_header("ETag", &stored.etag().to_string())
        .with_header("Cache-Control", "no-cache")
}

/// The stored own document of a device.
fn stored(server: &ConfigServer, id: &DeviceId) -> Result<Stored, Response> {
    match server.with_store(|store| store.devices().get(id)) {
        Ok(Some(stored)) => Ok(stored),
        Ok(None) => Err(unknown_device(
            id,
            "No configuration available for this device",
        )),
        Err(StoreError::Unreadable(why)) => Err(error(500, INVALID_CONFIGURATION, Some(id), &why)),
        Err(error) => Err(store_error(&error)),
    }
}

/// The response to GET of where a device's settings come from.
fn explain(server: &ConfigServer, id: &DeviceId) -> Response {
    let stored = match stored(server, id) {
        Ok(stored) => stored,
        Err(refusal) => return refusal,
    };
    let groups = match server.groups() {
        Ok(groups) => groups,
        Err(error) => return store_error(&error),
    };
    let explained = Own::parse(&stored).and_then(|own| {
        server.with_layers(id, &own.device_type(), &groups, |layers| {
            layers.explain(&own).map_err(|why| message_of(&why))
        })
    });
    match explained {
        Ok(mut explained) => {
            explained["device_id"] = id.as_str().into();
            Response::json(200, &explained)
        }
        Err(why) => error(500, INVALID_CONFIGURATION, Some(id), &why),
    }
}

/// Records a contact, if the client is a board.
fn record_contact(server: &ConfigServer, request: &Request, id: &DeviceId) {
    if let Some(report) = server.report(request) {
        server.record_contact(id, request, report);
    }
}

fn health(server: &ConfigServer) -> Response {
    let mut body = json!({
        "status": "healthy",
        "service": "config-server",
        "version": env!("CARGO_PKG_VERSION"),
        "store": server.store.describe(),
    });
    // Any device will do: whether the store responses is the question.
    let result =
        DeviceId::parse("health").map(|id| server.with_store(|store| store.devices().get(&id)));
    match result {
        Ok(Err(error)) => {
            body["status"] = "unhealthy".into();
            body["error"] = "Store unavailable".into();
            body["message"] = error.to_string().into();
            Response::json(503, &body)
        }
        _ => Response::json(200, &body),
    }
}

fn reload_one(server: &ConfigServer, request: &Request, id: &DeviceId) -> Response {
    if let Err(refusal) = may_reload(server, request) {
        return refusal;
    }
    let device = match server.device(id) {
        Ok(Some(device)) => device,
        Ok(None) => return unknown_device(id, ""),
        Err(error) => return store_error(&error),
    };
    let outcome = reload::call(&server.board_http, &device);
    server.record_call(id, &outcome);
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

fn reload_all(server: &ConfigServer, request: &Request) -> Response {
    if let Err(refusal) = may_reload(server, request) {
        return refusal;
    }
    // One at a time: a second request would only call the same boards again.
    let Ok(_alone) = server.reloading_all.try_lock() else {
        return too_many_requests("all boards are being told to reload already", 5);
    };
    let devices = match server.devices() {
        Ok(devices) => devices,
        Err(error) => return store_error(&error),
    };
    let outcomes = reload::call_all(&server.board_http, &devices);
    let mut success = 0;
    let mut results: Vec<Value> = Vec::new();
    for (device, outcome) in devices.iter().zip(outcomes) {
        server.record_call(&device.id, &outcome);
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

/// Every client may make boards reload the configuration that is meant for them, at a limited rate. A page of another site
/// may not.
fn may_reload(server: &ConfigServer, request: &Request) -> Result<(), Response> {
    if let Some(refusal) = access::refusal_of_page(request) {
        return Err(access_refused(refusal, None));
    }
    if access::refusal_of_change(request, server.allow_remote).is_none() {
        return Ok(());
    }
    server.reload_rate.take(Instant::now()).map_err(|wait| {
        too_many_requests("boards are told to reload too often", wait.as_secs() + 1)
    })
}
