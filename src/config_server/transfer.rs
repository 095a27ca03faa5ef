//! `/export`: all groups and own documents as one YAML; and `/import`, which reads it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use serde_json::Map;

use super::export_format::{self, Imported};
use super::group_routes::is_set;
use super::many::{self, Prepared};
use super::requests;
use super::responses::{error, store_error, too_many_requests};
use super::store::{Lookup, StoreError};
use super::transaction::{Edit, Kind, MAX_TRANSACTION_BYTES};
use super::{Action, ConfigServer};
use crate::config::{Document, Group, Rejection};
use crate::http::{Request, Response};
use crate::sys::lock;
use crate::wire::DeviceId;

/// The most bytes of an export, and of the body of an import.
pub(super) const MAX_BYTES: usize = 32 << 20;
/// The bytes after which a piece of an export ends.
const PIECE: usize = 256 << 10;
/// How many seconds a client may take to receive an export.
const EXPORT_SECONDS: u16 = 120;
const YAML: &str = "application/yaml";

/// An export in the making.
#[derive(Default)]
struct Export {
    pieces: Vec<Arc<[u8]>>,
    piece: String,
    bytes: usize,
}

impl Export {
    fn write(&mut self, write: impl FnOnce(&mut String)) {
        let before = self.piece.len();
        write(&mut self.piece);
        self.bytes += self.piece.len() - before;
        if self.piece.len() >= PIECE {
            self.end_piece();
        }
    }

    fn end_piece(&mut self) {
        self.pieces
            .push(std::mem::take(&mut self.piece).into_bytes().into());
    }
}

/// The response of `/export`.
pub(super) fn export(server: &ConfigServer, request: &Request) -> Response {
    let exported = requests::known_parameters(request, &[], None).and_then(|()| try_export(server));
    exported.unwrap_or_else(|refusal| refusal)
}

fn try_export(server: &ConfigServer) -> Result<Response, Response> {
    requests::counts_as_search(server)?;
    let is_exporting = Arc::clone(&server.is_exporting);
    // One at a time, until it is received, since all of it is in memory.
    if is_exporting.swap(true, Ordering::SeqCst) {
        return Err(too_many_requests("another export is being sent", 5));
    }
    let text = exported(server);
    if text.is_err() {
        is_exporting.store(false, Ordering::SeqCst);
    }
    let response = Response::shared(200, YAML, text?)
        .with_header("Cache-Control", "no-store")
        .within(EXPORT_SECONDS);
    Ok(response.on_done(move |_| is_exporting.store(false, Ordering::SeqCst)))
}

fn exported(server: &ConfigServer) -> Result<Vec<Arc<[u8]>>, Response> {
    let mut export = Export::default();
    export.write(|out| out.push_str(export_format::HEAD));
    for kind in [Kind::Group, Kind::Device] {
        let section = export_format::section(kind);
        let mut count = 0_usize;
        let mut broken = None;
        let mut found = |id: DeviceId, look: Result<Lookup, StoreError>| {
            let text = match look {
                Ok(Lookup::Found(stored)) => String::from_utf8(stored.text).map_err(|_| {
                    format!("the document of the {} {id} is not UTF-8", kind.as_str())
                }),
                Ok(Lookup::Missing | Lookup::Unchanged) => return,
                Err(why) => Err(why.to_string()),
            };
            match text {
                Err(why) => broken = broken.take().or(Some(why)),
                Ok(_) if export.bytes > MAX_BYTES => {}
                Ok(text) => export.write(|out| {
                    if count == 0 {
                        out.push_str(&format!("{section}:\n"));
                    }
                    count += 1;
                    export_format::write(out, &id, &text);
                }),
            }
        };
        server
            .with_store(|store| kind.of(store).scan(&|_| None, &mut found))
            .map_err(|e| store_error(&e))?;
        if let Some(why) = broken {
            // An import of an export without it could remove the board.
            let why = format!("{why}: repair or DELETE it");
            return Err(error(500, "Not exported", None, &why));
        }
        if export.bytes > MAX_BYTES {
            let why = format!(
                "the documents have more than {} MiB: copy the store itself",
                MAX_BYTES >> 20
            );
            return Err(error(507, "Export too large", None, &why));
        }
        if count == 0 {
            export.write(|out| out.push_str(&format!("{section}: {{}}\n")));
        }
    }
    export.end_piece();
    Ok(export.pieces)
}

/// The response of `/import`.
pub(super) fn import(server: &ConfigServer, request: &Request) -> Response {
    try_import(server, request).unwrap_or_else(|refusal| refusal)
}

fn try_import(server: &ConfigServer, request: &Request) -> Result<Response, Response> {
    many::allowed(server, request, &["dry_run", "force", "prune"])?;
    let kind = request.header("Content-Type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !["application/yaml", "application/x-yaml", "text/yaml"]
        .iter()
        .any(|yaml| kind.eq_ignore_ascii_case(yaml))
    {
        let why = "Content-Type is to be application/yaml";
        return Err(error(415, "Unsupported media type", None, why));
    }
    let prune = is_set(request, "prune");
    let _alone = lock::lock(&server.changing_many);
    let wrong = |line: usize, message: &str| {
        let body = serde_json::json!({"error": "Invalid import", "message": message, "line": line});
        Response::json(400, &body)
    };
    let text = std::str::from_utf8(&request.body).map_err(|why| {
        let read = request.body.get(..why.valid_up_to()).unwrap_or_default();
        let line = read.iter().filter(|b| **b == b'\n').count() + 1;
        wrong(line, "it is not UTF-8")
    })?;
    let import = export_format::read(text).map_err(|why| wrong(why.line, &why.message))?;
    for group in import.groups.iter().flatten() {
        let read = Document::from_yaml(group.text.as_bytes()).map_err(Into::into);
        let read = read.and_then(|document| Group::read(&document, Some(group.text.as_bytes())));
        if let Err(why) = read {
            let at = why
                .line
                .map_or(String::new(), |line| format!("line {line} of it: "));
            let message = format!("the group `{}` is not valid: {at}{}", group.id, why.message);
            return Err(wrong(group.line, &message));
        }
    }
    many::prepare_and_make(server, request, || {
        let (mut edits, mut broken) = (Vec::new(), Vec::new());
        let mut answer = Map::new();
        for (kind, section) in [
            (Kind::Group, &import.groups),
            (Kind::Device, &import.devices),
        ] {
            let Some(section) = section else {
                continue;
            };
            let of_kind = edits_of(server, kind, section, prune, &mut broken)?;
            let count =
                |is_so: fn(&Edit) -> bool| of_kind.iter().filter(|edit| is_so(edit)).count();
            let counts = serde_json::json!({
                "total": section.len(),
                "created": count(|edit| edit.before.is_none()),
                "updated": count(|edit| edit.before.is_some() && edit.after.is_some()),
                "deleted": count(|edit| edit.after.is_none()),
            });
            answer.insert(export_format::section(kind).into(), counts);
            edits.extend(of_kind);
        }
        Ok(Prepared {
            action: Action::new("import").with("prune", prune),
            status: "imported",
            edits,
            broken,
            answer,
        })
    })
}

/// The changes that make the documents of a kind those of the import; with `prune` others are removed.
fn edits_of(
    server: &ConfigServer,
    kind: Kind,
    section: &[Imported],
    prune: bool,
    broken: &mut Vec<(DeviceId, Rejection)>,
) -> Result<Vec<Edit>, Response> {
    let mut wanted: HashMap<&DeviceId, &Imported> = section
        .iter()
        .map(|imported| (&imported.id, imported))
        .collect();
    let (mut edits, mut bytes) = (Vec::new(), 0);
    let mut found = |id: DeviceId, look: Result<Lookup, StoreError>| {
        let before = match look {
            Ok(Lookup::Found(stored)) => stored,
            Ok(Lookup::Missing | Lookup::Unchanged) => return,
            Err(why) => {
                if wanted.remove(&id).is_some() || prune {
                    broken.push((id, why.to_string().into()));
                }
                return;
            }
        };
        let after = match wanted.remove(&id) {
            Some(imported) if imported.text.as_bytes() == before.text => return,
            Some(imported) => Some(imported.text.clone()),
            None if prune => None,
            None => return,
        };
        let edit = Edit {
            kind,
            id,
            before: Some(before),
            after,
        };
        bytes += edit.bytes();
        if bytes <= MAX_TRANSACTION_BYTES {
            edits.push(edit);
        }
    };
    server
        .with_store(|store| kind.of(store).scan(&|_| None, &mut found))
        .map_err(|e| store_error(&e))?;
    for imported in wanted.into_values() {
        bytes += imported.text.len();
        if bytes <= MAX_TRANSACTION_BYTES {
            edits.push(Edit {
                kind,
                id: imported.id.clone(),
                before: None,
                after: Some(imported.text.clone()),
            });
        }
    }
    if bytes > MAX_TRANSACTION_BYTES {
        return Err(many::too_large(bytes));
    }
    edits.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(edits)
}
