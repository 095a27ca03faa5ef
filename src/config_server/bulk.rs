//! `PATCH /config?selector=…`: one JSON Merge Patch for the own documents of many boards, all of them or none.

use std::collections::HashSet;

use super::changes::{invalid_body, parse_body};
use super::device::ADDRESS_KEY;
use super::many::{self, Prepared};
use super::requests::invalid_query;
use super::responses::{error, store_error};
use super::selector::Selector;
use super::store::{Lookup, StoreError};
use super::transaction::{Edit, Kind, MAX_TRANSACTION_BYTES};
use super::{Action, ConfigServer};
use crate::config::{Document, Rejection};
use crate::http::{Request, Response};
use crate::sys::lock;
use crate::wire::{DeviceId, INVALID_CONFIGURATION};

/// The boards that a selector selects, and what a patch makes of them.
#[derive(Default)]
struct Patched {
    /// The number of boards that are selected.
    boards: usize,
    edits: Vec<Edit>,
    bytes: usize,
    /// Boards whose document cannot be patched, with the reason.
    broken: Vec<(DeviceId, Rejection)>,
}

/// The response to PATCH of many devices' configurations.
pub(super) fn patch(server: &ConfigServer, request: &Request) -> Response {
    try_patch(server, request).unwrap_or_else(|refusal| refusal)
}

fn try_patch(server: &ConfigServer, request: &Request) -> Result<Response, Response> {
    many::allowed(server, request, &["selector", "dry_run", "force"])?;
    let mut selectors = request.query_values("selector");
    let (text, more) = (selectors.next().unwrap_or_default(), selectors.next());
    if more.is_some() {
        let why = "there are several selectors: write their terms into one, with commas";
        return Err(invalid_query(why));
    }
    let selector = Selector::parse(&text).map_err(|why| invalid_query(&why))?;
    let patch = parse_body(request).map_err(invalid_body)?.document;
    for key in ["device_id", ADDRESS_KEY] {
        if patch.has(key) {
            let why = format!("`{key}` is for a single board: PATCH /config/{{device_id}}");
            return Err(error(400, INVALID_CONFIGURATION, None, &why));
        }
    }
    // One at a time: each may read all boards, and none sees half of another one.
    let _alone = lock::lock(&server.changing_many);
    many::prepare_and_make(server, request, || {
        let patched = patched(server, &selector, &patch).map_err(|e| store_error(&e))?;
        if patched.bytes > MAX_TRANSACTION_BYTES {
            return Err(many::too_large(patched.bytes));
        }
        Ok(Prepared {
            action: Action::new("bulk").with("selector", text.as_str()),
            status: "patched",
            edits: patched.edits,
            broken: patched.broken,
            answer: many::answer("boards", patched.boards),
        })
    })
}

/// What the patch makes of the boards that are selected. Ends when there are more bytes than are allowed.
fn patched(
    server: &ConfigServer,
    selector: &Selector,
    patch: &Document,
) -> Result<Patched, StoreError> {
    server.sync()?;
    let groups = server.groups()?;
    let is_selected = selector.matcher(&groups);
    let selected = server.page("", usize::MAX, &is_selected).devices;
    let selected: HashSet<DeviceId> = selected.into_iter().map(|device| device.id).collect();
    let mut patched = Patched {
        boards: selected.len(),
        ..Patched::default()
    };
    let known = |id: &DeviceId| match selected.contains(id) {
        true => None,
        false => server.catalog.trusted_revision(id),
    };
    let mut found = |id: DeviceId, look: Result<Lookup, StoreError>| {
        if !selected.contains(&id) || patched.bytes > MAX_TRANSACTION_BYTES {
            return;
        }
        let stored = match look {
            Ok(Lookup::Found(stored)) => stored,
            Ok(Lookup::Missing | Lookup::Unchanged) => return,
            Err(why) => return patched.broken.push((id, why.to_string().into())),
        };
        let after = Document::from_yaml(&stored.text)
            .map_err(|why| {
                format!("what is kept is broken, PUT a whole configuration instead: {why}")
            })
            .and_then(|before| {
                let mut after = before.clone();
                after.merge(patch);
                match after == before {
                    true => Ok(None),
                    false => after.to_yaml().map(Some).map_err(|why| why.to_string()),
                }
            });
        match after {
            Err(why) => patched.broken.push((id, why.into())),
            Ok(None) => {}
            Ok(after) => {
                let edit = Edit {
                    kind: Kind::Device,
                    id,
                    before: Some(stored),
                    after,
                };
                patched.bytes += edit.bytes();
                patched.edits.push(edit);
            }
        }
    };
    server.with_store(|store| store.devices().scan(&known, &mut found))?;
    patched.edits.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(patched)
}
