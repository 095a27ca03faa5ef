//! The groups in memory, kept in step with the store, and what they make of a board's own document.
//!
//! A configuration is made of the groups of which the board is a member, in their order, and of the board's own document:
//! each is merged into what came before it (RFC 7396). Nothing but the store's present content decides of it: a group that
//! cannot be read makes the configurations of its members invalid, so that boards keep what they have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use serde_json::{json, Map, Value};

use super::boards::Revision;
use super::device::{Own, ParsedConfig};
use super::etag::Etag;
use super::rounds::Rounds;
use super::store::{Change, Changes, Documents, Lookup, StoreError, Stored, MAX_GROUPS};
use super::transaction::{Edit, Kind};
use super::ConfigServer;
use crate::config::{
    with_constant_labels, Document, Group, Members, Membership, Rejection, Says, TargetLabels,
    MAX_LABELS, MAX_SIZE,
};
use crate::sources::SCHEMA;
use crate::sys::lock;
use crate::wire::DeviceId;

/// The most bytes of all groups together. They are kept in memory, parsed.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// The most merged configurations that are kept, each of at most [`MAX_SIZE`] as the JSON that is sent.
const MAX_BASES: usize = 64;
/// The most groups that an error names.
const MAX_NAMED: usize = 5;

/// A group as it is stored.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: DeviceId,
    /// The tag of the text; of the error if the text could not be read.
    pub(super) etag: Etag,
    pub(super) order: i64,
    /// The members; every board if it is not known who they are.
    pub(super) members: Members,
    /// What the members have from the group; or why the group is not valid.
    pub(super) content: Result<Content, String>,
    bytes: usize,
}

/// What the members of a group have from it.
#[derive(Debug)]
pub(super) struct Content {
    labels: TargetLabels,
    /// Whether labels are on the series of members too; `None`: the groups before it decide.
    apply_labels: Option<bool>,
    config: Part,
    /// The configuration with the labels as those of all series.
    labelled: Part,
}

/// A part of a configuration.
#[derive(Debug)]
struct Part {
    document: Document,
    /// `None`: there is nothing in it.
    etag: Option<Etag>,
}

/// All groups, in their order.
#[derive(Debug)]
pub(super) struct GroupSet {
    /// A number that every change raises, from 1.
    pub(super) version: u64,
    pub(super) entries: Vec<Arc<Entry>>,
    /// The number of groups that are too many, or too large together. With any, all configurations are invalid.
    pub(super) left_out: usize,
    /// What [`Layers::base`] has returned, by the addresses of the groups. Most boards are in the same few groups.
    bases: Mutex<HashMap<Vec<usize>, Base>>,
}

/// The merged configurations of some groups. The error is a message for the user.
type Base = Result<Arc<Document>, String>;

impl Default for GroupSet {
    fn default() -> GroupSet {
        GroupSet {
            version: 1,
            entries: Vec::new(),
            left_out: 0,
            bases: Mutex::default(),
        }
    }
}

/// The groups of a board, in their order.
pub(super) struct Layers<'a> {
    pub(super) groups: Vec<&'a Entry>,
    /// Whether labels are on the board's series too: what the last group decides that says so or not.
    labels_apply: bool,
    bases: &'a Mutex<HashMap<Vec<usize>, Base>>,
    /// Why no board has a valid configuration.
    refusal: Option<String>,
}

/// The tags of a board's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LayerTags {
    /// The tag of all that it is made of, labels included.
    pub(super) inputs: Etag,
    /// The tag of the configuration.
    pub(super) etag: Etag,
}

impl Entry {
    /// Reads a stored group.
    pub(super) fn of(name: &DeviceId, stored: &Stored) -> Entry {
        let document = Document::from_yaml(&stored.text);
        let group = match &document {
            Ok(document) => Group::read(document, Some(&stored.text)),
            Err(diagnostic) => Err(Rejection::from(diagnostic.clone())),
        };
        let etag = stored.etag();
        let bytes = stored.text.len();
        match group {
            Ok(group) => Entry::valid(name, etag, bytes, group),
            Err(why) => Entry {
                members: document
                    .ok()
                    .and_then(|document| Members::read(&document))
                    .unwrap_or_default(),
                bytes,
                ..Entry::broken(name, etag, message_of(&why))
            },
        }
    }

    fn valid(name: &DeviceId, etag: Etag, bytes: usize, group: Group) -> Entry {
        let labelled = match group.labels.is_empty() {
            true => group.config.clone(),
            false => with_constant_labels(&group.config, &group.labels),
        };
        Entry {
            name: name.clone(),
            etag,
            order: group.order,
            members: group.members,
            content: Ok(Content {
                labels: group.labels,
                // A group that has labels applied changes also configurations with labels of others.
                labelled: Part::new(labelled, group.apply_labels.is_some()),
                apply_labels: group.apply_labels,
                config: Part::new(group.config, false),
            }),
            bytes,
        }
    }

    fn broken(name: &DeviceId, etag: Etag, why: String) -> Entry {
        Entry {
            name: name.clone(),
            etag,
            order: 0,
            members: Members::default(),
            content: Err(why),
            bytes: 0,
        }
    }
}

impl Part {
    /// A part, which counts also without settings if it `counts`.
    fn new(document: Document, counts: bool) -> Part {
        // Writing JSON to memory cannot fail.
        let json = serde_json::to_vec(&document).unwrap_or_default();
        Part {
            etag: (counts || !document.is_empty()).then(|| Etag::of(&json)),
            document,
        }
    }
}

/// The message of a rejection with its position.
pub(super) fn message_of(why: &Rejection) -> String {
    match (why.line, why.column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: {}", why.message),
        _ => why.message.clone(),
    }
}

impl GroupSet {
    fn new(version: u64, mut entries: Vec<Arc<Entry>>, left_out: usize) -> GroupSet {
        entries.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        GroupSet {
            version,
            entries,
            left_out,
            bases: Mutex::default(),
        }
    }

    /// The groups after changes of documents, of which some may be groups.
    pub(super) fn after(&self, edits: &[Edit]) -> GroupSet {
        let edits = edits.iter().filter(|edit| edit.kind == Kind::Group);
        let edited: BTreeSet<&DeviceId> = edits.clone().map(|edit| &edit.id).collect();
        let others = self.entries.iter();
        let others = others.filter(|entry| !edited.contains(&entry.name));
        let new = edits.filter_map(|edit| {
            let text = edit.after.clone()?.into_bytes();
            Some(Arc::new(Entry::of(&edit.id, &Stored { text, revision: 0 })))
        });
        let entries = others.cloned().chain(new).collect();
        GroupSet::new(self.version, entries, self.left_out)
    }

    /// Whether the groups take more memory than is allowed.
    pub(super) fn is_too_large(&self) -> bool {
        self.entries.iter().map(|entry| entry.bytes).sum::<usize>() > MAX_BYTES
    }

    /// Whether there are no groups.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.left_out == 0
    }

    /// The number of groups that are not valid.
    pub(super) fn broken(&self) -> usize {
        let entries = self.entries.iter();
        entries.filter(|entry| entry.content.is_err()).count()
    }

    /// The groups of a board.
    pub(super) fn layers(&self, board: Membership<'_>) -> Layers<'_> {
        let entries = self.entries.iter().map(AsRef::as_ref);
        let groups: Vec<&Entry> = entries.filter(|entry| entry.members.has(board)).collect();
        let mut decisions = groups.iter().rev().filter_map(|entry| {
            let content = entry.content.as_ref().ok()?;
            content.apply_labels
        });
        Layers {
            labels_apply: decisions.next() == Some(true),
            groups,
            bases: &self.bases,
            refusal: self.refusal(),
        }
    }

    /// Why no board has a valid configuration.
    pub(super) fn refusal(&self) -> Option<String> {
        (self.left_out > 0).then(|| {
            format!(
                "{} groups are not read, so that no board gets a configuration: at most {MAX_GROUPS} are read, and {} MiB of all together (remove groups)",
                self.left_out,
                MAX_BYTES >> 20
            )
        })
    }
}

impl LayerTags {
    /// The tags of a configuration that is made of an own document alone.
    pub(super) fn without_groups(own: Etag) -> LayerTags {
        LayerTags {
            inputs: own,
            etag: own,
        }
    }
}

impl Layers<'_> {
    /// The tags of the configuration with an own document of this tag. Without groups they are that tag.
    pub(super) fn tags(&self, own: Etag) -> LayerTags {
        let of = |text: &str| Etag::of(text.as_bytes());
        let refusal = self.refusal.as_deref().map(of);
        let all = self.groups.iter().map(|entry| entry.etag);
        let configs = self.groups.iter().filter_map(|entry| match &entry.content {
            Ok(content) => self.part(content).etag,
            Err(why) => Some(of(why)),
        });
        LayerTags {
            inputs: own.chain(all.chain(refusal)),
            etag: own.chain(configs.chain(refusal)),
        }
    }

    /// What the members of a group get from it.
    fn part<'c>(&self, content: &'c Content) -> &'c Part {
        match self.labels_apply {
            true => &content.labelled,
            false => &content.config,
        }
    }

    /// The configurations of the groups, merged.
    pub(super) fn base(&self) -> Base {
        if let Some(why) = &self.refusal {
            return Err(why.clone());
        }
        let addresses = self.groups.iter().map(|entry| std::ptr::from_ref(*entry));
        let key: Vec<usize> = addresses.map(|address| address as usize).collect();
        if let Some(base) = lock::lock(self.bases).get(&key) {
            return base.clone();
        }
        let base = self.merge();
        let mut bases = lock::lock(self.bases);
        // They are merged again when they are needed.
        if bases.len() >= MAX_BASES {
            bases.clear();
        }
        bases.insert(key, base.clone());
        base
    }

    /// The same with the board's own labels, where labels are on its series: all that is not in its own document.
    pub(super) fn base_of(&self, own: &Own) -> Base {
        let base = self.base()?;
        if own.labels.is_empty() || !self.labels_apply {
            return Ok(base);
        }
        let mut document = Document::clone(&base);
        document.merge(&with_constant_labels(&Document::default(), &own.labels));
        Ok(Arc::new(document))
    }

    fn merge(&self) -> Base {
        let mut base = Document::default();
        for entry in &self.groups {
            match &entry.content {
                Ok(content) => base.merge(&self.part(content).document),
                Err(why) => return Err(format!("group `{}`: {why}", entry.name)),
            }
        }
        let bytes = serde_json::to_vec_pretty(&base).map_or(0, |json| json.len());
        match bytes {
            0..=MAX_SIZE => Ok(Arc::new(base)),
            _ => Err(format!(
                "the configuration{} has {bytes} bytes as JSON: at most {MAX_SIZE} are read",
                self.names()
            )),
        }
    }

    /// The labels of the groups, and of the own document. The error is a message for the user.
    fn labels(&self, own: TargetLabels) -> Result<Vec<(String, String)>, String> {
        let mut labels = TargetLabels::new();
        for content in self.groups.iter().flat_map(|entry| &entry.content) {
            labels.extend(content.labels.clone());
        }
        labels.extend(own);
        let labels: Vec<_> = labels
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        match labels.len() {
            0..=MAX_LABELS => Ok(labels),
            count => Err(format!(
                "the board has {count} labels{}: at most {MAX_LABELS} are allowed",
                self.names()
            )),
        }
    }

    /// The names of the groups, for a message.
    fn names(&self) -> String {
        if self.groups.is_empty() {
            return String::new();
        }
        let named = self.groups.iter().take(MAX_NAMED);
        let named: Vec<_> = named.map(|entry| format!("`{}`", entry.name)).collect();
        let more = match self.groups.len().checked_sub(MAX_NAMED) {
            None | Some(0) => String::new(),
            Some(more) => format!(" and {more} more"),
        };
        format!(" (with its groups {}{more})", named.join(", "))
    }

    /// The configuration with this own document.
    pub(super) fn configuration(&self, own: &Own) -> Result<ParsedConfig, Rejection> {
        let base = self.base_of(own).map_err(Rejection::from)?;
        let labels = self.labels(own.labels.clone()).map_err(Rejection::from)?;
        let has_base = !base.is_empty();
        let document = match has_base {
            true => {
                let mut document = Document::clone(&base);
                document.merge(&own.document);
                document
            }
            false => own.document.clone(),
        };
        let (config, warnings) = document.read(&SCHEMA).map_err(|why| match has_base {
            true => self.named(own, why),
            false => why,
        })?;
        if has_base {
            let bytes = serde_json::to_vec_pretty(&document).map_or(0, |json| json.len());
            if bytes > MAX_SIZE {
                let names = self.names();
                return Err(Rejection::from(format!(
                    "the configuration{names} has {bytes} bytes as JSON: at most {MAX_SIZE} are read"
                )));
            }
        }
        Ok(ParsedConfig {
            document,
            config,
            warnings,
            address: own.address,
            labels,
        })
    }

    /// The same rejection with the group that the rejected key comes from.
    fn named(&self, own: &Own, mut why: Rejection) -> Rejection {
        let source = |key: &str| {
            let path: Vec<&str> = key.split('.').collect();
            self.source(own, &path)
        };
        match why.key.as_deref().map(source) {
            Some(Source::Group(name)) => why.message = format!("group `{name}`: {}", why.message),
            Some(Source::Own) if own.document.read(&SCHEMA).is_err() => {}
            _ => why.message.push_str(&self.names()),
        }
        why
    }

    /// Where the value of a setting comes from, by its path.
    pub(super) fn source(&self, own: &Own, path: &[&str]) -> Source {
        let own_labels = match self.labels_apply {
            true => with_constant_labels(&Document::default(), &own.labels),
            false => Document::default(),
        };
        let own = [&own.document, &own_labels].map(|document| (Source::Own, document));
        let groups = self.groups.iter().rev().filter_map(|entry| {
            let content = entry.content.as_ref().ok()?;
            let document = &self.part(content).document;
            Some((Source::Group(entry.name.clone()), document))
        });
        for (source, document) in own.into_iter().chain(groups) {
            match document.says(path) {
                Says::Nothing => {}
                Says::Null => return Source::Default,
                Says::Value => return source,
            }
        }
        Source::Default
    }
}

impl Layers<'_> {
    /// Every setting of the configuration with its value and where that comes from, defaults included, secrets hidden.
    pub(super) fn explain(&self, own: &Own) -> Result<Value, Rejection> {
        let parsed = self.configuration(own)?;
        let mut settings = Map::new();
        flatten(
            &mut Vec::new(),
            SCHEMA.to_json(&parsed.config),
            &mut |path, value| {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let source = match (self.source(own, &path), path.first()) {
                    // The list of names is the old form of the switches.
                    (Source::Default, Some(&"metrics")) => self.source(own, &["enabled_metrics"]),
                    (source, _) => source,
                };
                let mut setting = json!({"value": value, "from": source.word()});
                if let Source::Group(name) = source {
                    setting["group"] = name.as_str().into();
                }
                settings.insert(path.join("."), setting);
            },
        );
        let groups: Vec<&str> = self
            .groups
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
        let labels: Map<String, Value> = parsed
            .labels
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        Ok(json!({"groups": groups, "labels": labels, "settings": settings}))
    }
}

/// Passes every value that is no mapping, or an empty one, to `found`, with its path.
fn flatten(path: &mut Vec<String>, value: Value, found: &mut dyn FnMut(&[String], Value)) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                path.push(key);
                flatten(path, value, found);
                path.pop();
            }
        }
        value => found(path, value),
    }
}

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The program.
    Default,
    /// The group of this name.
    Group(DeviceId),
    /// The board's own document.
    Own,
}

impl Source {
    fn word(&self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::Group(_) => "group",
            Source::Own => "own",
        }
    }
}

/// The groups, kept in step with the store.
#[derive(Default)]
pub(super) struct Groups {
    rounds: Rounds<Loaded>,
    current: Mutex<Arc<GroupSet>>,
}

#[derive(Default)]
struct Loaded {
    /// Whether everything has been read once, and no change was missed since then.
    is_complete: bool,
    known: BTreeMap<DeviceId, Known>,
    left_out: usize,
    /// Whether anything has changed that [`Groups::current`] does not have: also what a round found that failed later.
    has_changed: bool,
}

struct Known {
    revision: Revision,
    entry: Arc<Entry>,
}

impl Groups {
    /// The groups as they were read last.
    pub(super) fn current(&self) -> Arc<GroupSet> {
        Arc::clone(&lock::lock(&self.current))
    }

    /// The same; `None`: they were not read yet.
    pub(super) fn known(&self) -> Option<Arc<GroupSet>> {
        self.rounds.has_succeeded().then(|| self.current())
    }

    fn catch_up(&self, store: &dyn Documents, loaded: &mut Loaded) -> Result<(), StoreError> {
        match store.changes()? {
            Changes::Listed(changes) if loaded.is_complete && loaded.left_out == 0 => {
                for change in changes {
                    if let Change::Touched(name) = change {
                        let look = store.lookup(&name, None);
                        loaded.apply(&name, of_one(look)?, store);
                    }
                }
            }
            _ => loaded.scan(store)?,
        }
        let is_changed = std::mem::take(&mut loaded.has_changed);
        if is_changed || loaded.left_out != self.current().left_out {
            let entries = loaded.known.values();
            let entries = entries.map(|known| Arc::clone(&known.entry)).collect();
            let mut current = lock::lock(&self.current);
            let set = GroupSet::new(current.version + 1, entries, loaded.left_out);
            match set.refusal() {
                Some(why) if set.left_out != current.left_out => log::error!("{why}"),
                _ => {}
            }
            *current = Arc::new(set);
        }
        Ok(())
    }
}

/// The result of looking up one document, unless the error is about the whole store.
pub(super) fn of_one(
    look: Result<Lookup, StoreError>,
) -> Result<Result<Lookup, StoreError>, StoreError> {
    match look {
        Err(error @ (StoreError::Unavailable(_) | StoreError::Failed(_))) => Err(error),
        look => Ok(look),
    }
}

impl Loaded {
    /// Reads all groups that may have changed.
    fn scan(&mut self, store: &dyn Documents) -> Result<(), StoreError> {
        // Groups that are gone are known until all others were read: those that were left out for them are read then.
        while self.scan_once(store)? && self.left_out > 0 {}
        Ok(())
    }

    /// The same. Returns whether any group is gone.
    fn scan_once(&mut self, store: &dyn Documents) -> Result<bool, StoreError> {
        let known: BTreeMap<DeviceId, u64> = self
            .known
            .iter()
            .filter_map(|(name, known)| Some((name.clone(), known.revision.trusted()?)))
            .collect();
        self.left_out = 0;
        let mut found = BTreeSet::new();
        let outcome = store.scan(&|name| known.get(name).copied(), &mut |name, look| {
            self.apply(&name, look, store);
            found.insert(name);
        });
        self.is_complete = outcome.is_ok();
        outcome?;
        let before = self.known.len();
        self.known.retain(|name, _| found.contains(name));
        let is_any_gone = self.known.len() < before;
        self.has_changed |= is_any_gone;
        Ok(is_any_gone)
    }

    /// Applies the result of looking up a group.
    fn apply(&mut self, name: &DeviceId, look: Result<Lookup, StoreError>, store: &dyn Documents) {
        let is_changed = self.update(name, look, store);
        self.has_changed |= is_changed;
    }

    /// The same. Returns whether the group has changed.
    fn update(
        &mut self,
        name: &DeviceId,
        look: Result<Lookup, StoreError>,
        store: &dyn Documents,
    ) -> bool {
        let is_unique = store.has_unique_revisions();
        let (entry, revision) = match look {
            Ok(Lookup::Unchanged) => return false,
            Ok(Lookup::Missing) => return self.known.remove(name).is_some(),
            Ok(Lookup::Found(stored)) => {
                if let Some(known) = self.known.get_mut(name) {
                    if known.entry.etag == stored.etag() {
                        known.revision.confirm(stored.revision, is_unique);
                        return false;
                    }
                }
                // Before it is parsed: it may be left out each time.
                if self.is_too_much(name, stored.text.len()) {
                    return self.leave_out(name);
                }
                let entry = Entry::of(name, &stored);
                (entry, Revision::new(stored.revision, is_unique))
            }
            Err(error) => {
                let why = error.to_string();
                let etag = Etag::of(format!("unreadable: {why}").as_bytes());
                let known = self.known.get(name);
                if known.is_some_and(|known| known.entry.etag == etag) {
                    return false;
                }
                if self.is_too_much(name, 0) {
                    return self.leave_out(name);
                }
                // Never trusted, so that it is looked up again each time.
                (Entry::broken(name, etag, why), Revision::new(0, false))
            }
        };
        if let Err(why) = &entry.content {
            log::warn!("group {name} is not valid: {why}");
        }
        let entry = Arc::new(entry);
        self.known.insert(name.clone(), Known { revision, entry });
        true
    }

    /// Whether there are too many groups with this one, or too many bytes.
    fn is_too_much(&self, name: &DeviceId, bytes: usize) -> bool {
        let others = self.known.iter().filter(|(other, _)| *other != name);
        let (count, of_others) = others.fold((0, 0), |(count, bytes), (_, known)| {
            (count + 1, bytes + known.entry.bytes)
        });
        count >= MAX_GROUPS || of_others + bytes > MAX_BYTES
    }

    /// Leaves a group out. Returns whether it was there.
    fn leave_out(&mut self, name: &DeviceId) -> bool {
        self.left_out += 1;
        self.known.remove(name).is_some()
    }
}

impl ConfigServer {
    /// The groups that the store has.
    pub(super) fn groups(&self) -> Result<Arc<GroupSet>, StoreError> {
        self.groups.rounds.run(|loaded| {
            let outcome = self.with_store(|store| self.groups.catch_up(store.groups(), loaded));
            loaded.is_complete &= outcome.is_ok();
            outcome
        })?;
        Ok(self.groups.current())
    }

    /// The same for a request that has just looked something else up: the store's answer may tell that no group has changed.
    pub(super) fn groups_after_lookup(&self) -> Result<Arc<GroupSet>, StoreError> {
        let round = self.groups.rounds.idle();
        let is_known = round.is_some_and(|round| round.state.is_complete);
        match is_known && self.store.groups().is_unchanged() {
            true => Ok(self.groups.current()),
            false => self.groups(),
        }
    }

    /// The type of a board whose own document has this one, as rules see it.
    pub(super) fn member_type(&self, id: &DeviceId, own_type: &str) -> String {
        let reported = match own_type {
            "auto" => self.fleet.reported_type(id),
            _ => None,
        };
        reported.unwrap_or_else(|| own_type.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with one group, which breaks off its first scan after it.
    #[derive(Default)]
    struct BreaksOff {
        scans: Mutex<u32>,
    }

    impl Documents for BreaksOff {
        fn get(&self, _: &DeviceId) -> Result<Option<Stored>, StoreError> {
            unreachable!()
        }

        fn changes(&self) -> Result<Changes, StoreError> {
            Ok(Changes::Unknown)
        }

        fn lookup(&self, _: &DeviceId, _: Option<u64>) -> Result<Lookup, StoreError> {
            unreachable!()
        }

        fn scan(
            &self,
            _: &dyn Fn(&DeviceId) -> Option<u64>,
            found: &mut dyn FnMut(DeviceId, Result<Lookup, StoreError>),
        ) -> Result<(), StoreError> {
            let stored = Stored {
                text: b"config: {interval: 2}".to_vec(),
                revision: 7,
            };
            found(
                DeviceId::parse("default").unwrap(),
                Ok(Lookup::Found(stored)),
            );
            let mut scans = lock::lock(&self.scans);
            *scans += 1;
            match *scans {
                1 => Err(StoreError::Unavailable("gone".into())),
                _ => Ok(()),
            }
        }

        fn has_unique_revisions(&self) -> bool {
            true
        }

        fn compare_and_swap(
            &self,
            _: &DeviceId,
            _: Option<&Stored>,
            _: Option<&str>,
        ) -> Result<bool, StoreError> {
            unreachable!()
        }
    }

    #[test]
    fn what_a_round_found_before_it_failed_counts_in_the_next() {
        let (groups, store) = (Groups::default(), BreaksOff::default());
        let mut loaded = Loaded::default();
        assert!(groups.catch_up(&store, &mut loaded).is_err());
        assert!(groups.current().is_empty());
        groups.catch_up(&store, &mut loaded).unwrap();
        let current = groups.current();
        assert_eq!((current.entries.len(), current.version), (1, 2));
        groups.catch_up(&store, &mut loaded).unwrap();
        assert_eq!(groups.current().version, 2, "nothing has changed");
    }
}
