//! What a change of documents does to the boards' configurations, before it is made.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{json, Map, Value};

use super::changes::check;
use super::device::{AddressSource, Own};
use super::groups::{message_of, Entry, GroupSet};
use super::store::{Lookup, StoreError, Stored};
use super::transaction::{Edit, Kind};
use super::ConfigServer;
use crate::config::{Document, Rejection};
use crate::wire::DeviceId;

/// The most boards that a response names with a reason.
pub(super) const MAX_NAMED: usize = 20;

/// What a change does.
#[derive(Default)]
pub(super) struct Effect {
    /// The boards whose configuration changes. Boards that are removed are not among them.
    pub(super) changed: Vec<DeviceId>,
    /// How many of them can be told to reload.
    pub(super) callable: usize,
    /// The boards whose configuration would not be valid, with the reason: those whose own document changes, and those whose
    /// configuration is valid now.
    pub(super) refused: Vec<(DeviceId, Rejection)>,
    /// How many boards have own documents that change and have warnings, such as unknown keys.
    pub(super) warned_total: usize,
    /// The warnings of the first of them.
    warned: BTreeMap<DeviceId, Vec<String>>,
}

/// What is known of a board before the change.
#[derive(Clone, Copy)]
struct Known {
    is_valid: bool,
    is_callable: bool,
}

impl Effect {
    fn add_changed(&mut self, id: &DeviceId, known: Option<Known>) {
        self.changed.push(id.clone());
        self.callable += usize::from(known.is_some_and(|known| known.is_callable));
    }

    fn add_warned(&mut self, id: &DeviceId, warnings: Vec<String>) {
        self.warned_total += 1;
        self.warned.insert(id.clone(), warnings);
        if self.warned.len() > MAX_NAMED {
            self.warned.pop_last();
        }
    }

    /// The first boards with warnings.
    pub(super) fn warned_json(&self) -> Vec<Value> {
        let boards = self.warned.iter();
        boards
            .map(|(id, warnings)| json!({"device_id": id.as_str(), "warnings": warnings}))
            .collect()
    }

    /// The first boards of `refused` with the reasons, under this key.
    pub(super) fn refused_json(&self, reason: &str) -> Vec<Value> {
        let board = |(id, why): &(DeviceId, Rejection)| {
            let mut board = Map::new();
            board.insert("device_id".into(), id.as_str().into());
            board.insert(reason.into(), message_of(why).into());
            if let Some(key) = &why.key {
                board.insert("key".into(), key.as_str().into());
            }
            Value::Object(board)
        };
        self.refused.iter().take(MAX_NAMED).map(board).collect()
    }

    /// The names of the first boards of `refused`, for a message.
    pub(super) fn refused_names(&self) -> String {
        let first = self.refused.iter().take(MAX_NAMED);
        let first: Vec<&str> = first.map(|(id, _)| id.as_str()).collect();
        let more = match self.refused.len().checked_sub(MAX_NAMED) {
            None | Some(0) => String::new(),
            Some(more) => format!(" and {more} more"),
        };
        format!("{}{more}", first.join(", "))
    }
}

/// What it does to make these changes. `old` are the groups now, `new` those after the changes.
pub(super) fn effect(
    server: &ConfigServer,
    edits: &[Edit],
    old: &GroupSet,
    new: &GroupSet,
) -> Result<Effect, StoreError> {
    server.sync()?;
    let of_kind = |kind: Kind| edits.iter().filter(move |edit| edit.kind == kind);
    let edited: HashMap<&DeviceId, &Edit> = of_kind(Kind::Device).map(|e| (&e.id, e)).collect();
    let names: HashSet<&DeviceId> = of_kind(Kind::Group).map(|edit| &edit.id).collect();
    let entries = old.entries.iter().chain(&new.entries);
    let differing: Vec<&Entry> = entries
        .filter(|entry| names.contains(&entry.name))
        .map(AsRef::as_ref)
        .collect();
    let concerned: RefCell<HashMap<DeviceId, Known>> = RefCell::default();
    server.visit(&|device| {
        let board = device.membership();
        if edited.contains_key(&device.id) || differing.iter().any(|group| group.members.has(board))
        {
            let (_, from) = device.host();
            let known = Known {
                is_valid: device.parsed.is_ok(),
                is_callable: from != AddressSource::Name && device.reload_port().is_some(),
            };
            concerned.borrow_mut().insert(device.id.clone(), known);
        }
    });
    let concerned = concerned.into_inner();
    let mut effect = Effect::default();
    for (id, edit) in &edited {
        of_edit(
            server,
            (old, new),
            edit,
            concerned.get(*id).copied(),
            &mut effect,
        );
    }
    if !differing.is_empty() {
        let is_member = |id: &DeviceId| concerned.contains_key(id) && !edited.contains_key(id);
        let known = |id: &DeviceId| match is_member(id) {
            true => None,
            false => server.catalog.trusted_revision(id),
        };
        let mut found = |id: DeviceId, look: Result<Lookup, StoreError>| {
            if let (true, Ok(Lookup::Found(stored))) = (is_member(&id), look) {
                let known = concerned.get(&id).copied();
                of_groups(server, (old, new), (&id, &stored), known, &mut effect);
            }
        };
        server.with_store(|store| store.devices().scan(&known, &mut found))?;
    }
    effect.changed.sort_unstable();
    effect.refused.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(effect)
}

/// The effect on a board whose own document changes.
fn of_edit(
    server: &ConfigServer,
    (old, new): (&GroupSet, &GroupSet),
    edit: &Edit,
    known: Option<Known>,
    effect: &mut Effect,
) {
    let Some(text) = &edit.after else {
        return;
    };
    let stored = Stored {
        text: text.clone().into_bytes(),
        revision: 0,
    };
    let before = edit.before.as_ref();
    let before = before.map(|before| server.tags(&edit.id, before, old).etag);
    if before != Some(server.tags(&edit.id, &stored, new).etag) {
        effect.add_changed(&edit.id, known);
    }
    server.catalog.count_parsed();
    let document = Document::from_yaml(text.as_bytes()).map_err(Rejection::from);
    let checked = document.and_then(|document| {
        check(server, new, &document, Some(text), &edit.id).map_err(|rejected| rejected.why)
    });
    match checked {
        Ok(warnings) if warnings.is_empty() => {}
        Ok(warnings) => effect.add_warned(&edit.id, warnings),
        Err(why) => effect.refused.push((edit.id.clone(), why)),
    }
}

/// The effect on a board of which only groups change.
fn of_groups(
    server: &ConfigServer,
    (old, new): (&GroupSet, &GroupSet),
    (id, stored): (&DeviceId, &Stored),
    known: Option<Known>,
    effect: &mut Effect,
) {
    let before = server.tags(id, stored, old);
    let after = server.tags(id, stored, new);
    if before.inputs == after.inputs {
        return;
    }
    let Ok(own) = Own::parse(stored) else {
        return;
    };
    let outcome = server.with_layers(id, &own.device_type(), new, |layers| {
        server.catalog.count_parsed();
        layers.configuration(&own)
    });
    match outcome {
        Err(why) if known.is_some_and(|known| known.is_valid) => {
            effect.refused.push((id.clone(), why));
        }
        _ => {}
    }
    if before.etag != after.etag {
        effect.add_changed(id, known);
    }
}
