//! What all changes of many documents have in common: who may make them, and how they are checked, made and answered.

use serde_json::{Map, Value};

use super::changes::change_error;
use super::effect::{effect, Effect};
use super::group_routes::is_set;
use super::groups::{self, GroupSet};
use super::responses::{error, store_error};
use super::store::{StoreError, MAX_GROUPS};
use super::transaction::{Edit, Kind, MAX_TRANSACTION_BYTES};
use super::{requests, Action, ConfigServer};
use crate::config::Rejection;
use crate::http::{Request, Response};
use crate::wire::{DeviceId, INVALID_CONFIGURATION};

/// How often a change of many documents is tried while others change some of them.
const MAX_ATTEMPTS: usize = 8;
/// The most documents of a kind that a response names without a reason.
const MAX_CHANGED_NAMED: usize = 100;

/// Changes that are to be made together.
pub(super) struct Prepared {
    pub(super) action: Action,
    /// The status of the response when they are made.
    pub(super) status: &'static str,
    pub(super) edits: Vec<Edit>,
    /// Boards that are refused already. Nothing is changed of them, also with `force`.
    pub(super) broken: Vec<(DeviceId, Rejection)>,
    /// What the response says besides.
    pub(super) answer: Map<String, Value>,
}

/// Refuses a request that may not change anything, that has other parameters than these (a misspelled `dry_run` must not change a
/// fleet), or a precondition, which would be about one document.
pub(super) fn allowed(
    server: &ConfigServer,
    request: &Request,
    parameters: &[&str],
) -> Result<(), Response> {
    requests::may_change(server, request, parameters, None)?;
    for header in ["If-Match", "If-None-Match"] {
        if request.header(header).is_some() {
            let why = format!("{header} is about one document, and this changes many");
            return Err(error(400, "Invalid header", None, &why));
        }
    }
    Ok(())
}

/// Prepares changes by what there is, and makes them: again if others have changed it meanwhile.
pub(super) fn prepare_and_make(
    server: &ConfigServer,
    request: &Request,
    prepare: impl Fn() -> Result<Prepared, Response>,
) -> Result<Response, Response> {
    for _ in 0..MAX_ATTEMPTS {
        let groups = server.groups().map_err(|e| store_error(&e))?;
        if let Some(response) = make(server, request, &groups, prepare()?)? {
            return Ok(response);
        }
    }
    let why = "nothing is changed: others change the same documents all the time: try again";
    Err(error(503, "Busy", None, why).with_header("Retry-After", "1"))
}

/// Checks the changes, and makes them unless the request has `dry_run`. `None`: nothing was changed, since a document is no longer
/// what is to be replaced.
fn make(
    server: &ConfigServer,
    request: &Request,
    groups: &GroupSet,
    prepared: Prepared,
) -> Result<Option<Response>, Response> {
    let Prepared {
        action,
        status,
        edits,
        broken,
        mut answer,
    } = prepared;
    let bytes = edits.iter().map(Edit::bytes).sum();
    if bytes > MAX_TRANSACTION_BYTES {
        return Err(too_large(bytes));
    }
    let new_groups = groups.after(&edits);
    if new_groups.entries.len() > MAX_GROUPS.max(groups.entries.len()) {
        return Err(store_error(&StoreError::Full {
            what: "groups",
            limit: MAX_GROUPS,
        }));
    }
    if new_groups.is_too_large() && !groups.is_too_large() {
        let why = format!(
            "all groups together would have too much text: at most {} MiB are kept",
            groups::MAX_BYTES >> 20
        );
        return Err(error(507, "Groups too large", None, &why));
    }
    let mut effect = effect(server, &edits, groups, &new_groups).map_err(|e| store_error(&e))?;
    let unreadable = broken.len();
    effect.refused.extend(broken);
    effect.refused.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let of_kind = |kind: Kind| edits.iter().filter(move |edit| edit.kind == kind);
    let names = |kind: Kind| -> Value {
        let first = of_kind(kind).take(MAX_CHANGED_NAMED);
        first.map(|edit| edit.id.as_str()).collect()
    };
    answer.insert("changed_total".into(), of_kind(Kind::Device).count().into());
    answer.insert("changed".into(), names(Kind::Device));
    if of_kind(Kind::Group).next().is_some() {
        answer.insert("groups_changed".into(), names(Kind::Group));
    }
    answer.insert("invalid_total".into(), effect.refused.len().into());
    answer.insert("invalid".into(), effect.refused_json("error").into());
    if effect.warned_total > 0 {
        answer.insert("warnings_total".into(), effect.warned_total.into());
        answer.insert("warnings".into(), effect.warned_json().into());
    }
    let answered = |status: &str, answer: Map<String, Value>| {
        let mut all = Map::from_iter([("status".to_owned(), status.into())]);
        all.extend(answer);
        Ok(Some(Response::json(200, &all.into())))
    };
    if is_set(request, "dry_run") {
        return answered("dry_run", answer);
    }
    if !effect.refused.is_empty() && !is_set(request, "force") {
        return Err(refused(&effect, unreadable, answer));
    }
    if edits.is_empty() {
        return answered("unchanged", answer);
    }
    let removed: Vec<DeviceId> = of_kind(Kind::Device)
        .filter(|edit| edit.after.is_none())
        .map(|edit| edit.id.clone())
        .collect();
    let total = edits.len();
    let committed = server.commit(request, action, edits);
    let Some(id) = committed.map_err(|e| change_error(&e))? else {
        return Ok(None);
    };
    log::info!("change {id}: {total} documents {status}");
    for id in &removed {
        // What was known of the board must not apply to one that is registered under the same id later.
        server.fleet.forget(id);
        server.catalog.mark_outdated(id, true);
    }
    server.reload_members(effect.changed);
    answer.insert("change".into(), id.to_string().into());
    answer.insert("reload_triggered".into(), effect.callable.into());
    answered(status, answer)
}

/// 409: boards would have no valid configuration, of which so many have stored documents that cannot be read.
fn refused(effect: &Effect, unreadable: usize, answer: Map<String, Value>) -> Response {
    let forced = match unreadable {
        0 => "?force changes all the same".to_owned(),
        _ if unreadable == effect.refused.len() => {
            "their documents cannot be read, and ?force changes the others alone".to_owned()
        }
        some => format!("?force changes all the same but {some}, whose documents cannot be read"),
    };
    let message = format!(
        "nothing is changed: the configuration would not be valid for {} (`invalid` has the reasons; {forced})",
        effect.refused_names()
    );
    let mut body = Map::from_iter([
        ("error".to_owned(), INVALID_CONFIGURATION.into()),
        ("message".to_owned(), message.into()),
    ]);
    body.extend(answer);
    Response::json(409, &body.into())
}

/// 413: a transaction has too many bytes.
pub(super) fn too_large(bytes: usize) -> Response {
    let most = MAX_TRANSACTION_BYTES >> 20;
    let why = format!(
        "the documents have {bytes} bytes or more before and after the change: at most {most} MiB are changed together (change fewer boards at a time)"
    );
    error(413, "Change too large", None, &why)
}

/// An answer with this key alone.
pub(super) fn answer(key: &str, value: impl Into<Value>) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert(key.to_owned(), value.into());
    answer
}
