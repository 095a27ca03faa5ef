//! What changes a configuration: PUT, POST, PATCH and DELETE.
//!
//! Each is a comparison and a swap: what was read is judged, and replaced only if it is still there. So nobody's change
//! is lost by two at once, on one server or on several.

use serde_json::{json, Value};

use super::answers::{error, failure, precondition_failed, refused_access, unknown_device};
use super::device::{take_apart, ADDRESS};
use super::etag::{Conditions, Tags, Verdict};
use super::store::{Failure, Stored};
use super::{access, Central};
use crate::config::{Document, Rejection};
use crate::http::{host_address, Method, Request, Response};
use crate::sources::SCHEMA;
use crate::wire::DeviceId;

/// How often a change is tried anew when others change the same device at the same moment.
const TRIES: usize = 64;
/// The most warnings that an answer has.
const MAX_WARNINGS: usize = 20;

/// What a body says.
struct Body {
    document: Document,
    /// What it was read from, if that was YAML: it is kept to the letter, with its comments.
    yaml: Option<String>,
}

/// What is to be kept, and what there is to say about it.
struct Wanted {
    text: String,
    warnings: Vec<String>,
}

/// Answers PUT, POST or PATCH of a device's configuration.
pub(super) fn change(central: &Central, request: &Request, id: &DeviceId) -> Response {
    try_change(central, request, id).unwrap_or_else(|refusal| refusal)
}

fn try_change(central: &Central, request: &Request, id: &DeviceId) -> Result<Response, Response> {
    allowed(central, request, id)?;
    let conditions = conditions(request)?;
    let body = read_body(request, id)?;
    for _ in 0..TRIES {
        let current = current(central, id, &conditions)?;
        match (&request.method, &current) {
            (Method::Post, Some(_)) => {
                return Err(error(
                    409,
                    "Device already exists",
                    Some(id),
                    "Use PUT to update existing device",
                ));
            }
            (Method::Patch, None) => {
                return Err(unknown_device(id, "Use POST or PUT to create new device"));
            }
            _ => {}
        }
        let wanted = match (&request.method, &current) {
            (Method::Patch, Some(current)) => patched(&body, current, id)?,
            (_, current) => whole(&body, current.as_ref(), id)?,
        };
        let new = Stored {
            text: wanted.text.clone().into_bytes(),
            revision: 0,
        };
        let is_new = current
            .as_ref()
            .is_none_or(|current| current.text != new.text);
        if is_new {
            let swapped = central.ask(|store| store.swap(id, current.as_ref(), Some(&wanted.text)));
            if !swapped.map_err(|e| unsaved(&e))? {
                // Somebody else was quicker; or etcd did it, and its answer was lost.
                let now = central
                    .ask(|store| store.get(id))
                    .map_err(|e| failure(&e))?;
                if now.is_none_or(|now| now.text != new.text) {
                    continue;
                }
            }
            log::info!(
                "{id}: configuration {}",
                if current.is_some() {
                    "changed"
                } else {
                    "registered"
                }
            );
        }
        let by_board = central.report(request);
        let reloading = match by_board {
            Some(report) => {
                central.heard_of(id, request, report);
                false
            }
            // One that was not registered until now, too: it may be there, and wait for this.
            None => is_new && central.reload_later(id),
        };
        let mut answer = match request.method {
            Method::Post => json!({"status": "created", "device_id": id.as_str()}),
            _ => {
                let status = match (&request.method, &current) {
                    (Method::Patch, _) => "patched",
                    (_, Some(_)) => "updated",
                    (_, None) => "registered",
                };
                json!({"status": status, "device_id": id.as_str(), "reload_triggered": reloading})
            }
        };
        if !wanted.warnings.is_empty() {
            answer["warnings"] = wanted.warnings.into();
        }
        let status = if request.method == Method::Post {
            201
        } else {
            200
        };
        return Ok(Response::json(status, &answer).with_header("ETag", &new.etag().to_string()));
    }
    Err(busy(id))
}

/// Answers DELETE.
pub(super) fn delete(central: &Central, request: &Request, id: &DeviceId) -> Response {
    try_delete(central, request, id).unwrap_or_else(|refusal| refusal)
}

fn try_delete(central: &Central, request: &Request, id: &DeviceId) -> Result<Response, Response> {
    allowed(central, request, id)?;
    let conditions = conditions(request)?;
    for _ in 0..TRIES {
        let current = current(central, id, &conditions)?;
        if current.is_none() {
            return Err(unknown_device(id, ""));
        }
        let swapped = central.ask(|store| store.swap(id, current.as_ref(), None));
        if swapped.map_err(|e| unsaved(&e))? {
            // If it is registered again at once, it is another one.
            central.fleet.forget(id);
            central.catalog.heard_of(id, true);
            log::info!("{id}: deleted");
            return Ok(Response::json(
                200,
                &json!({"status": "deleted", "device_id": id.as_str()}),
            ));
        }
    }
    Err(busy(id))
}

fn allowed(central: &Central, request: &Request, id: &DeviceId) -> Result<(), Response> {
    match access::refusal_of_change(request, central.allow_remote) {
        Some(refusal) => Err(refused_access(refusal, Some(id))),
        None => Ok(()),
    }
}

/// What is kept now, if the conditions of the request hold for it.
fn current(
    central: &Central,
    id: &DeviceId,
    conditions: &Conditions,
) -> Result<Option<Stored>, Response> {
    let current = central.ask(|store| store.get(id));
    let current = current.map_err(|e| failure(&e))?;
    let tag = current.as_ref().map(Stored::etag);
    match conditions.judge(tag.as_ref()) {
        Verdict::Go => Ok(current),
        Verdict::Changed | Verdict::Same => Err(precondition_failed(id, tag)),
    }
}

fn busy(id: &DeviceId) -> Response {
    let why = "others change this device all the time: try again";
    error(503, "Busy", Some(id), why).with_header("Retry-After", "1")
}

/// The failure of a change: whether it was made may not be known.
fn unsaved(why: &Failure) -> Response {
    match why {
        Failure::Away(why) => failure(&Failure::Away(format!(
            "{why} (whether the change was saved is not known: GET it)"
        ))),
        other => failure(other),
    }
}

/// The conditions of a request.
pub(super) fn conditions(request: &Request) -> Result<Conditions, Response> {
    let tags = |name: &str| {
        let mut values = request.header_values(name).peekable();
        if values.peek().is_none() {
            return Ok(None);
        }
        let all: Vec<_> = values.collect();
        match Tags::parse(&all.join(",")) {
            Some(tags) => Ok(Some(tags)),
            None => {
                let message = format!("{name} is not `*` or a list of entity tags in quotes");
                Err(error(400, "Invalid header", None, &message))
            }
        }
    };
    Ok(Conditions {
        if_match: tags("If-Match")?,
        if_none_match: tags("If-None-Match")?,
    })
}

fn read_body(request: &Request, id: &DeviceId) -> Result<Body, Response> {
    let kind = request.header("Content-Type").unwrap_or("application/json");
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let is_patch = request.method == Method::Patch;
    let is_yaml = match kind.as_str() {
        "application/json" => false,
        "application/merge-patch+json" if is_patch => false,
        "application/yaml" | "application/x-yaml" | "text/yaml" if !is_patch => true,
        _ => {
            let message = "Content-Type is to be application/json (or, for a whole configuration, application/yaml)";
            return Err(error(415, "Unsupported media type", Some(id), message));
        }
    };
    let read = match is_yaml {
        true => Document::from_yaml(&request.body),
        false => Document::from_json(&request.body),
    };
    let mut document = read.map_err(|diagnostic| {
        let what = if is_yaml {
            "Invalid YAML"
        } else {
            "Invalid JSON"
        };
        refused(what, id, Rejection::from(diagnostic))
    })?;
    if document.has("device_id") && document.text("device_id") != Some(id.as_str()) {
        let message = "`device_id` is another one than in the path";
        return Err(error(400, "Invalid configuration", Some(id), message));
    }
    let had_id = document.remove("device_id");
    if document.has(ADDRESS) && document.text(ADDRESS).and_then(host_address).is_none() {
        let message = format!("`{ADDRESS}` is no IP address of a device");
        return Err(error(400, "invalid_ip_address", Some(id), &message));
    }
    let yaml = (is_yaml && !had_id).then(|| String::from_utf8_lossy(&request.body).into_owned());
    Ok(Body { document, yaml })
}

/// What a whole configuration has kept. An address that the device was registered with stays unless another is given.
fn whole(body: &Body, current: Option<&Stored>, id: &DeviceId) -> Result<Wanted, Response> {
    let warnings = check(&body.document, body.yaml.as_deref(), id)?;
    if let Some(yaml) = &body.yaml {
        let text = yaml.clone();
        return Ok(Wanted { text, warnings });
    }
    let mut document = body.document.clone();
    let registered = current.and_then(|current| take_apart(current).ok()?.address);
    match (document.has(ADDRESS), registered) {
        (false, Some(address)) => document.set_text(ADDRESS, &address.to_string()),
        (false, None) => {
            document.remove(ADDRESS);
        }
        (true, _) => {}
    }
    written(&document, warnings, id)
}

/// What is kept once the body has been merged into it.
fn patched(body: &Body, current: &Stored, id: &DeviceId) -> Result<Wanted, Response> {
    let mut document = Document::from_yaml(&current.text).map_err(|e| {
        let message = format!("what is kept is broken, PUT a whole configuration instead: {e}");
        error(409, "Invalid configuration", Some(id), &message)
    })?;
    document.merge(&body.document);
    let warnings = check(&document, None, id)?;
    written(&document, warnings, id)
}

fn written(document: &Document, warnings: Vec<String>, id: &DeviceId) -> Result<Wanted, Response> {
    match document.to_yaml() {
        Ok(text) => Ok(Wanted { text, warnings }),
        Err(diagnostic) => Err(refused(
            "Invalid configuration",
            id,
            Rejection::from(diagnostic),
        )),
    }
}

/// Looks at a configuration as check-config does, and says its warnings.
fn check(document: &Document, yaml: Option<&str>, id: &DeviceId) -> Result<Vec<String>, Response> {
    let mut document = document.clone();
    document.remove(ADDRESS);
    if !document.has("device_type") {
        return Err(error(
            400,
            "Missing required field",
            Some(id),
            "device_type is required",
        ));
    }
    match document.read(&SCHEMA) {
        Ok((_, warnings)) => {
            let warnings = warnings.into_iter().map(|warning| warning.message);
            Ok(warnings.take(MAX_WARNINGS).collect())
        }
        Err(why) => {
            // Again from the text, for the place in it.
            let placed = yaml.and_then(|yaml| Document::read_yaml(&SCHEMA, yaml.as_bytes()).err());
            let why = match placed {
                Some(placed) => Rejection {
                    key: why.key,
                    ..placed
                },
                None => why,
            };
            Err(refused("Invalid configuration", id, why))
        }
    }
}

fn refused(what: &str, id: &DeviceId, why: Rejection) -> Response {
    let mut body = json!({"error": what, "device_id": id.as_str(), "message": why.message});
    let number = |number: Option<usize>| number.map(Value::from);
    for (name, value) in [
        ("key", why.key.map(Value::from)),
        ("line", number(why.line)),
        ("column", number(why.column)),
    ] {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    Response::json(400, &body)
}
