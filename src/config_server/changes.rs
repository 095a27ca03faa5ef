//! The requests that change a board's own document: PUT, POST, PATCH and DELETE. What is checked is the configuration that it
//! makes with the board's groups.
//!
//! Each is a compare-and-swap: the configuration that was read is replaced only if it is still the stored one. So concurrent
//! changes on one or several servers do not overwrite each other.

use std::sync::Arc;

use serde_json::{json, Value};

use super::device::{Own, ADDRESS_KEY, LABELS_KEY};
use super::etag::{Conditions, Evaluation, Tags};
use super::group_routes::is_set;
use super::groups::GroupSet;
use super::requests;
use super::responses::{error, precondition_failed, store_error, unknown_device};
use super::store::{StoreError, Stored};
use super::transaction::{Edit, Kind};
use super::{Action, ConfigServer};
use crate::config::{Document, Membership, Rejection};
use crate::http::{host_address, Method, Request, Response};
use crate::sources::SCHEMA;
use crate::wire::DeviceId;

/// How often a change is tried while other requests change the same device.
pub(super) const MAX_ATTEMPTS: usize = 64;
/// The most warnings of a response.
pub(super) const MAX_WARNINGS: usize = 20;

/// The body of a request.
#[derive(Clone)]
pub(super) struct Body {
    pub(super) document: Document,
    /// The text of a YAML body, which is stored as it is, with its comments.
    pub(super) yaml: Option<String>,
}

/// Why the body of a request is refused.
pub(super) enum BodyError {
    /// Its media type is not accepted; a message for the user.
    MediaType(&'static str),
    /// It is not valid: the kind of error, and why.
    Invalid(&'static str, Rejection),
}

/// A configuration to be stored, and the warnings about it.
struct NewConfiguration {
    text: String,
    warnings: Vec<String>,
}

/// The response to PUT, POST or PATCH of a device's configuration.
pub(super) fn change(server: &ConfigServer, request: &Request, id: &DeviceId) -> Response {
    try_change(server, request, id).unwrap_or_else(|refusal| refusal)
}

fn try_change(
    server: &ConfigServer,
    request: &Request,
    id: &DeviceId,
) -> Result<Response, Response> {
    requests::may_change(server, request, &["dry_run"], Some(id))?;
    let conditions = conditions(request)?;
    let body = read_body(request, id)?;
    for _ in 0..MAX_ATTEMPTS {
        let groups = server.groups().map_err(|e| store_error(&e))?;
        let current = current(server, id, &groups, &conditions)?;
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
        let NewConfiguration { text, warnings } = match (&request.method, &current) {
            (Method::Patch, Some(current)) => patched(server, &groups, &body, current, id)?,
            (_, current) if server.report(request).is_some() && !groups.is_empty() => {
                let body = of_board(server, &groups, &body, current.as_ref(), id)?;
                replaced(server, &groups, &body, current.as_ref(), id)?
            }
            (_, current) => replaced(server, &groups, &body, current.as_ref(), id)?,
        };
        let is_new = current
            .as_ref()
            .is_none_or(|current| current.text != text.as_bytes());
        if is_set(request, "dry_run") {
            let mut answer =
                json!({"status": "dry_run", "device_id": id.as_str(), "changed": is_new});
            if !warnings.is_empty() {
                answer["warnings"] = warnings.into();
            }
            return Ok(Response::json(200, &answer));
        }
        if is_new {
            let edit = Edit {
                kind: Kind::Device,
                id: id.clone(),
                before: current.clone(),
                after: Some(text.clone()),
            };
            let committed = server.commit(request, action_of(&request.method), vec![edit]);
            if committed.map_err(|e| change_error(&e))?.is_none() {
                continue;
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
        let reloading = match server.report(request) {
            Some(report) => {
                server.record_contact(id, request, report);
                false
            }
            // Also if the device was not registered before: the board may be waiting for its configuration.
            None => is_new && server.reload_later(id),
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
        if !warnings.is_empty() {
            answer["warnings"] = warnings.into();
        }
        let status = if request.method == Method::Post {
            201
        } else {
            200
        };
        let stored = Stored {
            text: text.into_bytes(),
            revision: 0,
        };
        let etag = server.tags(id, &stored, &groups).etag;
        return Ok(Response::json(status, &answer).with_header("ETag", &etag.to_string()));
    }
    Err(too_many_conflicts(id))
}

/// What a request with this method does to one document.
pub(super) fn action_of(method: &Method) -> Action {
    Action::new(match method {
        Method::Delete => "delete",
        Method::Patch => "patch",
        _ => "put",
    })
}

/// The response to DELETE of a device's configuration.
pub(super) fn delete(server: &ConfigServer, request: &Request, id: &DeviceId) -> Response {
    try_delete(server, request, id).unwrap_or_else(|refusal| refusal)
}

fn try_delete(
    server: &ConfigServer,
    request: &Request,
    id: &DeviceId,
) -> Result<Response, Response> {
    requests::may_change(server, request, &[], Some(id))?;
    let conditions = conditions(request)?;
    for _ in 0..MAX_ATTEMPTS {
        let groups = server.groups().map_err(|e| store_error(&e))?;
        let current = current(server, id, &groups, &conditions)?;
        if current.is_none() {
            return Err(unknown_device(id, ""));
        }
        let edit = Edit {
            kind: Kind::Device,
            id: id.clone(),
            before: current,
            after: None,
        };
        let committed = server.commit(request, Action::new("delete"), vec![edit]);
        if committed.map_err(|e| change_error(&e))?.is_some() {
            // What was known of the board must not apply to one that is registered under the same id later.
            server.fleet.forget(id);
            server.catalog.mark_outdated(id, true);
            log::info!("{id}: deleted");
            return Ok(Response::json(
                200,
                &json!({"status": "deleted", "device_id": id.as_str()}),
            ));
        }
    }
    Err(too_many_conflicts(id))
}

/// The stored document, if the preconditions of the request hold: those for the configuration, or for the document alone.
fn current(
    server: &ConfigServer,
    id: &DeviceId,
    groups: &GroupSet,
    conditions: &Conditions,
) -> Result<Option<Stored>, Response> {
    let current = server.with_store(|store| store.devices().get(id));
    let current = current.map_err(|e| store_error(&e))?;
    let tags = match &current {
        Some(stored) => vec![server.tags(id, stored, groups).etag, stored.etag()],
        None => Vec::new(),
    };
    match conditions.evaluate(&tags) {
        Evaluation::Proceed => Ok(current),
        Evaluation::Failed | Evaluation::NotModified => {
            Err(precondition_failed(id, tags.first().copied()))
        }
    }
}

fn too_many_conflicts(id: &DeviceId) -> Response {
    let why = "others change this device all the time: try again";
    error(503, "Busy", Some(id), why).with_header("Retry-After", "1")
}

/// What a board sends is its whole configuration, with what it has from its groups. Only what goes beyond them is for its own
/// document: else no change of a group would reach it any more.
fn of_board(
    server: &ConfigServer,
    groups: &GroupSet,
    body: &Body,
    current: Option<&Stored>,
    id: &DeviceId,
) -> Result<Body, Response> {
    let own = match current {
        Some(current) => Own::parse(current),
        // A board that registers again has the last configuration that it got.
        None => Own::of(body.document.clone()),
    };
    let Ok(own) = own else {
        return Ok(body.clone());
    };
    let base = server.with_layers(id, &own.device_type(), groups, |layers| {
        layers.base_of(&own)
    });
    let base = base.map_err(|why| error(409, "Invalid group", Some(id), &why))?;
    if base.is_empty() {
        return Ok(body.clone());
    }
    Ok(Body {
        document: match current {
            Some(_) => body.document.beyond(&base, &own.document),
            // What is not there was not removed.
            None => body.document.without(&base),
        },
        yaml: None,
    })
}

/// The response to a change that failed. With an unavailable store the change may have been made.
pub(super) fn change_error(why: &StoreError) -> Response {
    match why {
        StoreError::Unavailable(why) => store_error(&StoreError::Unavailable(format!(
            "{why} (whether the change was saved is not known: GET it)"
        ))),
        other => store_error(other),
    }
}

/// The preconditions of a request.
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

/// The body of a request: JSON, or YAML if it is a whole document.
pub(super) fn parse_body(request: &Request) -> Result<Body, BodyError> {
    let kind = request.header("Content-Type").unwrap_or("application/json");
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let is_patch = request.method == Method::Patch;
    let (read, what) = match kind.as_str() {
        "application/json" => (Document::from_json(&request.body), "Invalid JSON"),
        "application/merge-patch+json" if is_patch => {
            (Document::from_json(&request.body), "Invalid JSON")
        }
        "application/yaml" | "application/x-yaml" | "text/yaml" if !is_patch => {
            let document = Document::from_yaml(&request.body)
                .map_err(|why| BodyError::Invalid("Invalid YAML", why.into()))?;
            let yaml = Some(String::from_utf8_lossy(&request.body).into_owned());
            return Ok(Body { document, yaml });
        }
        _ => return Err(BodyError::MediaType("Content-Type is to be application/json (or, for a whole configuration, application/yaml)")),
    };
    let document = read.map_err(|why| BodyError::Invalid(what, why.into()))?;
    Ok(Body {
        document,
        yaml: None,
    })
}

/// The response to a body that is refused, if it is about no single device.
pub(super) fn invalid_body(why: BodyError) -> Response {
    match why {
        BodyError::MediaType(why) => error(415, "Unsupported media type", None, why),
        BodyError::Invalid(what, why) => Response::json(400, &rejection_json(what, why)),
    }
}

fn read_body(request: &Request, id: &DeviceId) -> Result<Body, Response> {
    let Body {
        mut document,
        mut yaml,
    } = parse_body(request).map_err(|why| match why {
        BodyError::MediaType(why) => error(415, "Unsupported media type", Some(id), why),
        BodyError::Invalid(what, why) => invalid_configuration(what, id, why),
    })?;
    if document.has("device_id") && document.text("device_id") != Some(id.as_str()) {
        let message = "`device_id` is another one than in the path";
        return Err(error(400, "Invalid configuration", Some(id), message));
    }
    if document.remove("device_id") {
        yaml = None;
    }
    if document.has(ADDRESS_KEY) && document.text(ADDRESS_KEY).and_then(host_address).is_none() {
        let message = format!("`{ADDRESS_KEY}` is no IP address of a device");
        return Err(error(400, "invalid_ip_address", Some(id), &message));
    }
    Ok(Body { document, yaml })
}

/// The document that a PUT or POST stores. The registered address and the labels stay unless the body has others.
fn replaced(
    server: &ConfigServer,
    groups: &GroupSet,
    body: &Body,
    current: Option<&Stored>,
    id: &DeviceId,
) -> Result<NewConfiguration, Response> {
    let warnings = check(server, groups, &body.document, body.yaml.as_deref(), id)
        .map_err(|rejected| rejected.response(id))?;
    if let Some(yaml) = &body.yaml {
        let text = yaml.clone();
        return Ok(NewConfiguration { text, warnings });
    }
    let mut document = body.document.clone();
    let registered = current.and_then(|current| Own::parse(current).ok()?.address);
    match (document.has(ADDRESS_KEY), registered) {
        (false, Some(address)) => document.set_text(ADDRESS_KEY, &address.to_string()),
        (false, None) => {
            document.remove(ADDRESS_KEY);
        }
        (true, _) => {}
    }
    let current = current.and_then(|current| Document::from_yaml(&current.text).ok());
    document.keep(LABELS_KEY, &current.unwrap_or_default());
    new_configuration(&document, warnings, id)
}

/// The document that a PATCH stores: the current one with the body merged into it.
fn patched(
    server: &ConfigServer,
    groups: &GroupSet,
    body: &Body,
    current: &Stored,
    id: &DeviceId,
) -> Result<NewConfiguration, Response> {
    let mut document = Document::from_yaml(&current.text).map_err(|e| {
        let message = format!("what is kept is broken, PUT a whole configuration instead: {e}");
        error(409, "Invalid configuration", Some(id), &message)
    })?;
    document.merge(&body.document);
    let warnings =
        check(server, groups, &document, None, id).map_err(|rejected| rejected.response(id))?;
    new_configuration(&document, warnings, id)
}

fn new_configuration(
    document: &Document,
    warnings: Vec<String>,
    id: &DeviceId,
) -> Result<NewConfiguration, Response> {
    match document.to_yaml() {
        Ok(text) => Ok(NewConfiguration { text, warnings }),
        Err(diagnostic) => Err(invalid_configuration(
            "Invalid configuration",
            id,
            Rejection::from(diagnostic),
        )),
    }
}

/// Why an own document is refused.
pub(super) struct Rejected {
    /// The kind of error.
    what: &'static str,
    pub(super) why: Rejection,
}

impl Rejected {
    fn response(self, id: &DeviceId) -> Response {
        invalid_configuration(self.what, id, self.why)
    }
}

/// Checks as check-config does the configuration that an own document makes, and returns the warnings.
pub(super) fn check(
    server: &ConfigServer,
    groups: &GroupSet,
    document: &Document,
    yaml: Option<&str>,
    id: &DeviceId,
) -> Result<Vec<String>, Rejected> {
    let rejected = |what, why| Rejected { what, why };
    let what = "Invalid configuration";
    let own = Own::of(document.clone()).map_err(|why| rejected(what, why.into()))?;
    server.with_layers(id, &own.device_type(), groups, |layers| {
        let (base, broken) = match layers.base() {
            Ok(base) => (base, None),
            Err(why) => (Arc::default(), Some(why)),
        };
        if !own.document.has("device_type") && !base.has("device_type") {
            let why = "device_type is required".to_owned();
            return Err(rejected("Missing required field", why.into()));
        }
        // A group that is not valid must not prevent a change of a board.
        let none = GroupSet::default();
        let none = none.layers(Membership {
            id,
            device_type: "",
        });
        let layers = if broken.is_some() { &none } else { layers };
        match layers.configuration(&own) {
            Ok(parsed) => {
                let warnings = parsed.warnings.into_iter().map(|warning| warning.message);
                let broken = broken.map(|why| {
                    format!("the board has no valid configuration until its groups are: {why}")
                });
                Ok(broken
                    .into_iter()
                    .chain(warnings)
                    .take(MAX_WARNINGS)
                    .collect())
            }
            Err(why) => {
                // Read once more from the text, for line and column, if the text is what is wrong.
                let placed =
                    yaml.and_then(|yaml| Document::read_yaml(&SCHEMA, yaml.as_bytes()).err());
                let why = match placed {
                    Some(placed) if placed.message == why.message => Rejection {
                        key: why.key,
                        ..placed
                    },
                    _ => why,
                };
                Err(rejected(what, why))
            }
        }
    })
}

fn invalid_configuration(what: &str, id: &DeviceId, why: Rejection) -> Response {
    let mut body = rejection_json(what, why);
    body["device_id"] = id.as_str().into();
    Response::json(400, &body)
}

/// The body of the response to a document that is not valid.
pub(super) fn rejection_json(what: &str, why: Rejection) -> Value {
    let mut body = json!({"error": what, "message": why.message});
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
    body
}
