//! The routes of the groups. A change is checked for every member before it is made.

use std::cell::Cell;

use serde_json::{json, Value};

use super::access::{self, Refusal};
use super::changes::{
    action_of, change_error, conditions, parse_body, rejection_json, Body, BodyError, MAX_ATTEMPTS,
    MAX_WARNINGS,
};
use super::effect::{effect, Effect, MAX_NAMED};
use super::etag::Evaluation;
use super::requests;
use super::responses::{method_not_allowed, store_error, too_many_requests};
use super::store::{StoreError, Stored, MAX_GROUPS};
use super::transaction::{Edit, Kind};
use super::ConfigServer;
use crate::config::{Document, Group, Rejection};
use crate::http::{Method, Request, Response, BEARER};
use crate::sources::SCHEMA;
use crate::sys::lock;
use crate::wire::{DeviceId, INVALID_CONFIGURATION};

/// The response of `/groups`.
pub(super) fn list(server: &ConfigServer) -> Response {
    if let Err(wait) = server.search_rate.take(std::time::Instant::now()) {
        return too_many_requests("the fleet is searched too often", wait.as_secs() + 1);
    }
    let groups = match server.sync().and_then(|()| server.groups()) {
        Ok(groups) => groups,
        Err(error) => return store_error(&error),
    };
    let counts: Vec<Cell<usize>> = groups.entries.iter().map(|_| Cell::new(0)).collect();
    server.visit(&|device| {
        let board = device.membership();
        for (entry, count) in groups.entries.iter().zip(&counts) {
            count.set(count.get() + usize::from(entry.members.has(board)));
        }
    });
    let list = groups.entries.iter().zip(&counts).map(|(entry, count)| {
        let mut group = json!({
            "name": entry.name.as_str(),
            "members": count.get(),
            "status": if entry.content.is_ok() { "healthy" } else { "unhealthy" },
        });
        match &entry.content {
            Ok(_) => group["order"] = entry.order.into(),
            Err(why) => group["error"] = why.as_str().into(),
        }
        group
    });
    let list: Vec<Value> = list.collect();
    let mut body = json!({"total": list.len(), "groups": list});
    if let Some(why) = groups.refusal() {
        body["error"] = why.into();
    }
    Response::json(200, &body)
}

/// The response of `/groups/{name}`.
pub(super) fn one(server: &ConfigServer, request: &Request, name: &DeviceId) -> Response {
    let response = match request.method {
        Method::Get | Method::Head => get(server, request, name),
        Method::Put | Method::Patch | Method::Delete => change(server, request, name),
        _ => Ok(method_not_allowed(request, "GET, HEAD, PUT, PATCH, DELETE")),
    };
    response.unwrap_or_else(|refusal| refusal)
}

/// An error about a group.
fn error(status: u16, error: &str, name: &DeviceId, message: &str) -> Response {
    let body = json!({"error": error, "group": name.as_str(), "message": message});
    Response::json(status, &body)
}

fn unknown(name: &DeviceId) -> Response {
    error(404, "Group not found", name, "PUT creates a group")
}

fn invalid(what: &str, name: &DeviceId, why: Rejection) -> Response {
    let mut body = rejection_json(what, why);
    body["group"] = name.as_str().into();
    Response::json(400, &body)
}

/// The stored group, and its tag.
fn stored(server: &ConfigServer, name: &DeviceId) -> Result<Option<Stored>, Response> {
    let stored = server.with_store(|store| store.groups().get(name));
    stored.map_err(|why| match why {
        StoreError::Unreadable(why) => error(500, "Invalid group", name, &why),
        other => store_error(&other),
    })
}

fn precondition_failed(name: &DeviceId, current: Option<&Stored>) -> Response {
    let message = "the group is not what If-Match or If-None-Match say: GET it again";
    let response = error(412, "Precondition failed", name, message);
    match current {
        Some(stored) => response.with_header("ETag", &stored.etag().to_string()),
        None => response,
    }
}

fn get(server: &ConfigServer, request: &Request, name: &DeviceId) -> Result<Response, Response> {
    let conditions = conditions(request)?;
    let stored = stored(server, name)?.ok_or_else(|| unknown(name))?;
    let response = match conditions.evaluate(&[stored.etag()]) {
        Evaluation::Failed => return Err(precondition_failed(name, Some(&stored))),
        Evaluation::NotModified => Response::new(304, "application/json", ""),
        Evaluation::Proceed => {
            let document = Document::from_yaml(&stored.text).map_err(|e| e.to_string());
            let json = document.and_then(|document| {
                serde_json::to_vec_pretty(&document).map_err(|e| e.to_string())
            });
            let json = json.map_err(|why| error(500, "Invalid group", name, &why))?;
            Response::new(200, "application/json", json)
        }
    };
    Ok(response
        .with_header("ETag", &stored.etag().to_string())
        .with_header("Cache-Control", "no-cache"))
}

/// The response to PUT, PATCH and DELETE.
fn change(server: &ConfigServer, request: &Request, name: &DeviceId) -> Result<Response, Response> {
    match access::refusal_of_change(request, server.allow_remote) {
        Some(Refusal::Unauthorized(why)) => {
            let response = error(401, "Unauthorized", name, &why);
            return Err(response.with_header(BEARER.0, BEARER.1));
        }
        Some(Refusal::Forbidden(why)) => return Err(error(403, "Forbidden", name, &why)),
        None => {}
    }
    requests::known_parameters(request, &["dry_run", "force"], None)?;
    let conditions = conditions(request)?;
    let body = match request.method {
        Method::Delete => None,
        _ => Some(parse_body(request).map_err(|why| match why {
            BodyError::MediaType(why) => error(415, "Unsupported media type", name, why),
            BodyError::Invalid(what, why) => invalid(what, name, why),
        })?),
    };
    // One at a time: each may read all boards.
    let _alone = lock::lock(&server.changing_many);
    for _ in 0..MAX_ATTEMPTS {
        let groups = server.groups().map_err(|e| store_error(&e))?;
        let current = stored(server, name)?;
        let tag = current.as_ref().map(Stored::etag);
        if conditions.evaluate(tag.as_slice()) != Evaluation::Proceed {
            return Err(precondition_failed(name, current.as_ref()));
        }
        if current.is_none() && request.method != Method::Put {
            return Err(unknown(name));
        }
        let (text, warnings) = match &body {
            None => (None, Vec::new()),
            Some(body) => {
                let (text, warnings) = new_text(request, name, body, current.as_ref())?;
                (Some(text), warnings)
            }
        };
        let edits = vec![Edit {
            kind: Kind::Group,
            id: name.clone(),
            before: current.clone(),
            after: text.clone(),
        }];
        let new = groups.after(&edits);
        if current.is_none() && new.entries.len() > MAX_GROUPS {
            return Err(store_error(&StoreError::Full {
                what: "groups",
                limit: MAX_GROUPS,
            }));
        }
        if text.is_some() && new.is_too_large() {
            let why = "all groups together have too much text: at most 4 MiB are kept";
            return Err(error(507, "Groups too large", name, why));
        }
        let effect = effect(server, &edits, &groups, &new).map_err(|e| store_error(&e))?;
        if is_set(request, "dry_run") {
            let mut answer = json!({
                "status": "dry_run",
                "group": name.as_str(),
                "changed": named(&effect.changed),
                "refused": refused(&effect),
            });
            add_warnings(&mut answer, warnings);
            return Ok(Response::json(200, &answer));
        }
        if !effect.refused.is_empty() && !is_set(request, "force") {
            return Err(Response::json(409, &refusal_json(name, &effect)));
        }
        let is_new = current.as_ref().map(|current| &current.text[..])
            != text.as_ref().map(String::as_bytes);
        if is_new {
            let committed = server.commit(request, action_of(&request.method), edits);
            if committed.map_err(|e| change_error(&e))?.is_none() {
                continue;
            }
        }
        let status = match (&request.method, &current) {
            (Method::Delete, _) => "deleted",
            (Method::Patch, _) => "patched",
            (_, Some(_)) => "updated",
            (_, None) => "created",
        };
        let changed = effect.changed.len();
        log::info!("group {name}: {status}; {changed} configurations have changed");
        server.reload_members(effect.changed);
        let mut answer = json!({
            "status": status,
            "group": name.as_str(),
            "changed": changed,
            "reload_triggered": effect.callable,
        });
        add_warnings(&mut answer, warnings);
        let response = Response::json(200, &answer);
        return Ok(match text {
            Some(text) => {
                let etag = super::Etag::of(text.as_bytes());
                response.with_header("ETag", &etag.to_string())
            }
            None => response,
        });
    }
    let why = "others change this group all the time: try again";
    Err(error(503, "Busy", name, why).with_header("Retry-After", "1"))
}

/// Whether a query has this key, with no value or another one than `false` or `0`.
pub(super) fn is_set(request: &Request, key: &str) -> bool {
    let last = request.query_values(key).last();
    last.is_some_and(|value| !matches!(value.as_str(), "false" | "0"))
}

fn add_warnings(answer: &mut Value, warnings: Vec<String>) {
    if !warnings.is_empty() {
        answer["warnings"] = warnings.into();
    }
}

/// The first of some boards, and their number.
fn named(boards: &[DeviceId]) -> Value {
    let first = boards.iter().take(MAX_NAMED).map(DeviceId::as_str);
    json!({"total": boards.len(), "devices": first.collect::<Vec<_>>()})
}

fn refused(effect: &Effect) -> Value {
    json!({"total": effect.refused.len(), "devices": effect.refused_json("message")})
}

fn refusal_json(name: &DeviceId, effect: &Effect) -> Value {
    let boards = effect.refused_names();
    json!({
        "error": INVALID_CONFIGURATION,
        "group": name.as_str(),
        "message": format!(
            "the configuration would not be valid any more for {boards} (`refused` has the reasons; ?force does it all the same)"
        ),
        "refused": refused(effect),
    })
}

/// The text of the group that a request makes, with warnings.
fn new_text(
    request: &Request,
    name: &DeviceId,
    body: &Body,
    current: Option<&Stored>,
) -> Result<(String, Vec<String>), Response> {
    let what = "Invalid group";
    let document = match (&request.method, current) {
        (Method::Patch, Some(current)) => {
            let mut document = Document::from_yaml(&current.text).map_err(|e| {
                let message = format!("what is kept is broken, PUT a whole group instead: {e}");
                error(409, what, name, &message)
            })?;
            document.merge(&body.document);
            document
        }
        _ => body.document.clone(),
    };
    let yaml = body.yaml.as_ref().map(String::as_bytes);
    let group = Group::read(&document, yaml).map_err(|why| invalid(what, name, why))?;
    let text = match &body.yaml {
        Some(yaml) => yaml.clone(),
        None => document
            .to_yaml()
            .map_err(|why| invalid(what, name, why.into()))?,
    };
    let warnings = match group.config.read(&SCHEMA) {
        // A group may have labels alone.
        Ok(_) if group.config.is_empty() => Vec::new(),
        Ok((_, warnings)) => warnings.into_iter().map(|warning| warning.message).collect(),
        Err(why) => vec![format!(
            "`config` alone is no valid configuration; with the boards' own documents it may be: {}",
            why.message
        )],
    };
    Ok((text, warnings.into_iter().take(MAX_WARNINGS).collect()))
}
