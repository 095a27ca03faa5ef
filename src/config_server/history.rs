//! `/changes`: what was changed, by whom, and how it was before; and undoing a change.

use std::collections::{HashMap, HashSet};

use serde_json::{json, Map, Value};

use super::group_routes::is_set;
use super::many::{self, Prepared};
use super::requests::{self, invalid_query};
use super::responses::{error, store_error};
use super::store::{Lookup, RecordHeads, Store, StoreError, Stored};
use super::transaction::{id_of, Edit, Kind, Transaction, TransactionId};
use super::{Action, ConfigServer};
use crate::http::{Request, Response};
use crate::sys::lock;
use crate::wire::DeviceId;

/// The most changes, and the most documents of one, in a response.
const MAX_PAGE: usize = 1000;
/// The number of them without `limit`.
const DEFAULT_PAGE: usize = 100;
/// The bytes of documents after which a response ends.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// The most documents that are read one by one. Beyond it all are scanned.
const MAX_LOOKUPS: usize = 100;
/// The most documents that a refusal names.
const MAX_NAMED: usize = 20;

/// The response of `/changes`.
pub(super) fn list(server: &ConfigServer, request: &Request) -> Response {
    try_list(server, request).unwrap_or_else(|refusal| refusal)
}

fn try_list(server: &ConfigServer, request: &Request) -> Result<Response, Response> {
    requests::known_parameters(request, &["limit", "before"], None)?;
    let limit = limit(request)?;
    let before = match request.query_values("before").last() {
        None => None,
        Some(text) => Some(
            TransactionId::parse(&text)
                .ok_or_else(|| invalid_query("`before` is the id of a change"))?,
        ),
    };
    requests::counts_as_search(server)?;
    let heads = server.with_store(|store| store.record_heads());
    let RecordHeads {
        finished,
        unfinished,
    } = heads.map_err(|e| store_error(&e))?;
    let is_older = |head: &&Value| before.is_none_or(|before| id_of(head) < Some(before));
    let page: Vec<&Value> = finished.iter().filter(is_older).take(limit + 1).collect();
    let shown = page.get(..limit.min(page.len())).unwrap_or_default();
    let mut body = json!({"total": finished.len(), "changes": shown});
    if !unfinished.is_empty() {
        body["unfinished"] = unfinished.into();
    }
    if let (true, Some(last)) = (page.len() > limit, shown.last()) {
        body["next"] = last["id"].clone();
    }
    Ok(Response::json(200, &body))
}

fn limit(request: &Request) -> Result<usize, Response> {
    let Some(limit) = request.query_values("limit").last() else {
        return Ok(DEFAULT_PAGE);
    };
    let parsed = limit.parse().ok();
    parsed
        .filter(|limit| (1..=MAX_PAGE).contains(limit))
        .ok_or_else(|| invalid_query(&format!("`limit` is a number from 1 to {MAX_PAGE}")))
}

fn unknown() -> Response {
    let why = "there is no record of it (GET /changes has those that are kept)";
    error(404, "Change not found", None, why)
}

fn record(server: &ConfigServer, id: &str) -> Result<Transaction, Response> {
    let id = TransactionId::parse(id).ok_or_else(unknown)?;
    let record = server.with_store(|store| store.record(id));
    let record = record.map_err(|why| match why {
        StoreError::Unreadable(why) => error(500, "Invalid record", None, &why),
        other => store_error(&other),
    })?;
    record.ok_or_else(unknown)
}

/// The response of `/changes/{id}`.
pub(super) fn one(server: &ConfigServer, request: &Request, id: &str) -> Response {
    try_one(server, request, id).unwrap_or_else(|refusal| refusal)
}

fn try_one(server: &ConfigServer, request: &Request, id: &str) -> Result<Response, Response> {
    requests::known_parameters(request, &["limit", "from"], None)?;
    let limit = limit(request)?;
    let from: usize = match request.query_values("from").last() {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| invalid_query("`from` is the number of a document, from 0"))?,
    };
    requests::counts_as_search(server)?;
    // One at a time, since all of the record is in memory.
    let _alone = lock::lock(&server.reading_record);
    let mut record = record(server, id)?;
    let total = record.edits.len();
    let mut bytes = 0;
    let edits = record.edits.drain(from.min(total)..).take(limit);
    // The first one in any case.
    let edits: Vec<Edit> = edits
        .take_while(|edit| {
            let is_first = bytes == 0;
            bytes += edit.bytes();
            is_first || bytes <= MAX_PAGE_BYTES
        })
        .collect();
    let now = present(server, &edits).map_err(|e| store_error(&e))?;
    let next = from.saturating_add(edits.len());
    let documents = edits.iter().map(|edit| {
        let state = match now
            .get(&(edit.kind, edit.id.clone()))
            .map(Result::as_ref)
            .transpose()
        {
            // Its text is not known, so it is neither of those that were recorded.
            Err(_) => "changed_since",
            Ok(stored) => {
                let text = stored.map(|stored| &stored.text[..]);
                match (edit.is_after(text), edit.is_before(text)) {
                    (true, _) => "as_after",
                    (_, true) => "as_before",
                    _ => "changed_since",
                }
            }
        };
        let before = edit.before.as_ref();
        let before = before.map(|stored| String::from_utf8_lossy(&stored.text).into_owned());
        json!({
            "kind": edit.kind.as_str(),
            "id": edit.id.as_str(),
            "before": before,
            "after": edit.after,
            "now": state,
        })
    });
    let mut body = record.head.clone();
    body["documents"] = documents.collect();
    if next < total && from < total {
        body["next"] = next.into();
    }
    Ok(Response::json(200, &body))
}

/// The response to DELETE of `/changes/{id}`.
pub(super) fn remove(server: &ConfigServer, request: &Request, id: &str) -> Response {
    try_remove(server, request, id).unwrap_or_else(|refusal| refusal)
}

fn try_remove(server: &ConfigServer, request: &Request, id: &str) -> Result<Response, Response> {
    requests::may_change(server, request, &[], None)?;
    let id = TransactionId::parse(id).ok_or_else(unknown)?;
    let removed = server.with_store(|store| store.remove_record(id));
    if !removed.map_err(|e| store_error(&e))? {
        let heads = server.with_store(|store| store.record_heads());
        let unfinished = heads.map_err(|e| store_error(&e))?.unfinished;
        return Err(
            match unfinished.iter().any(|head| id_of(head) == Some(id)) {
                true => {
                    let why = "the change is under way, or was broken off and is put back first";
                    error(409, "Change not finished", None, why)
                }
                false => unknown(),
            },
        );
    }
    let by = request
        .login_name()
        .unwrap_or_else(|| request.peer.ip().to_canonical().to_string());
    log::info!("the record of the change {id} is removed, by {by}");
    Ok(Response::new(204, "application/json", ""))
}

/// A document, none, or why it cannot be read.
type Present = HashMap<(Kind, DeviceId), Result<Stored, String>>;

/// The documents that there are now of those that these changes are about.
fn present(server: &ConfigServer, edits: &[Edit]) -> Result<Present, StoreError> {
    let mut present = Present::new();
    for kind in [Kind::Group, Kind::Device] {
        let ids = edits.iter().filter(|edit| edit.kind == kind);
        let ids: HashSet<&DeviceId> = ids.map(|edit| &edit.id).collect();
        server.with_store(|store| read(store, kind, &ids, &mut present))?;
    }
    Ok(present)
}

fn read(
    store: &dyn Store,
    kind: Kind,
    ids: &HashSet<&DeviceId>,
    present: &mut Present,
) -> Result<(), StoreError> {
    let documents = kind.of(store);
    if ids.len() <= MAX_LOOKUPS {
        for id in ids {
            match documents.get(id) {
                Ok(stored) => {
                    present.extend(stored.map(|stored| ((kind, (*id).clone()), Ok(stored))))
                }
                Err(StoreError::Unreadable(why)) => {
                    present.insert((kind, (*id).clone()), Err(why));
                }
                Err(error) => return Err(error),
            }
        }
        return Ok(());
    }
    documents.scan(&|_| None, &mut |id, look| {
        if ids.contains(&id) {
            match look {
                Ok(Lookup::Found(stored)) => {
                    present.insert((kind, id), Ok(stored));
                }
                Ok(Lookup::Missing | Lookup::Unchanged) => {}
                Err(why) => {
                    present.insert((kind, id), Err(why.to_string()));
                }
            }
        }
    })
}

/// The response of `/changes/{id}/undo`.
pub(super) fn undo(server: &ConfigServer, request: &Request, id: &str) -> Response {
    try_undo(server, request, id).unwrap_or_else(|refusal| refusal)
}

fn try_undo(server: &ConfigServer, request: &Request, id: &str) -> Result<Response, Response> {
    many::allowed(server, request, &["dry_run", "force"])?;
    let _alone = lock::lock(&server.changing_many);
    let record = record(server, id)?;
    many::prepare_and_make(server, request, || {
        let mut now = present(server, &record.edits).map_err(|e| store_error(&e))?;
        let (mut edits, mut changed_since) = (Vec::new(), Vec::new());
        let mut broken = Vec::new();
        for edit in &record.edits {
            let current = match now.remove(&(edit.kind, edit.id.clone())).transpose() {
                Ok(current) => current,
                Err(why) => {
                    broken.push((edit.id.clone(), why.into()));
                    continue;
                }
            };
            let text = current.as_ref().map(|stored| &stored.text[..]);
            if edit.is_before(text) {
                continue;
            }
            if !edit.is_after(text) {
                changed_since.push(edit);
            }
            let before = edit.before.as_ref();
            edits.push(Edit {
                kind: edit.kind,
                id: edit.id.clone(),
                before: current,
                after: before.map(|stored| String::from_utf8_lossy(&stored.text).into_owned()),
            });
        }
        if !changed_since.is_empty() && !is_set(request, "force") {
            return Err(refused(&changed_since));
        }
        let mut answer = Map::new();
        answer.insert("undoes".into(), id.into());
        answer.insert("changed_since_total".into(), changed_since.len().into());
        Ok(Prepared {
            action: Action::new("undo").with("undoes", id),
            status: "undone",
            edits,
            broken,
            answer,
        })
    })
}

/// 409: documents are no longer what the change has made of them.
fn refused(changed_since: &[&Edit]) -> Response {
    let first = changed_since.iter().take(MAX_NAMED);
    let first: Vec<Value> = first
        .map(|edit| json!({"kind": edit.kind.as_str(), "id": edit.id.as_str()}))
        .collect();
    Response::json(
        409,
        &json!({
            "error": "Changed since",
            "message": "nothing is changed: these documents were changed after that change (?force restores them all the same, as they were before it)",
            "changed_since_total": changed_since.len(),
            "changed_since": first,
        }),
    )
}
