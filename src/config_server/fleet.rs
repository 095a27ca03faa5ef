//! What is known of the boards besides their configurations: when they were last heard of, where they are, how they are.
//!
//! It is kept in memory, and as a note in the store: so that a server that restarts knows the fleet at once, and
//! servers side by side know of the boards that asked another of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::reload::Outcome;
use super::store::Store;
use crate::sys::clock::wall_seconds;
use crate::sys::lock;
use crate::wire::DeviceId;
use crate::wire::{Ports, Report};

/// A note is written again, though nothing but its time has changed, when it is so old, in seconds.
const NOTE_AGE: i64 = 60;

/// A board as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whence it asked.
    pub(super) address: IpAddr,
    pub(super) report: Report,
    /// In seconds since 1970.
    pub(super) at: i64,
}

#[derive(Debug, Default)]
struct Known {
    state: State,
    /// What the note in the store says of it, as far as we know.
    noted: Option<Arc<Seen>>,
}

/// Of every device, by its id.
#[derive(Debug)]
pub(super) struct Fleet {
    known: Mutex<HashMap<DeviceId, Known>>,
    since: Instant,
}

impl Default for Fleet {
    fn default() -> Fleet {
        Fleet {
            known: Mutex::default(),
            since: Instant::now(),
        }
    }
}

/// What there is to say of one board.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) seen: Option<Arc<Seen>>,
    /// When it was heard of, if that was by us: however the clock may be set since.
    pub(super) heard: Option<Instant>,
    /// Why it could not be called, if the last call failed.
    pub(super) unreachable: Option<Arc<str>>,
}

impl State {
    /// The same, with what the note says where nothing else is known.
    pub(super) fn or_noted(mut self, note: Option<&str>) -> State {
        self.seen = self.seen.or_else(|| Some(Arc::new(read(note?)?)));
        self
    }
}

impl Fleet {
    /// A board has asked for its configuration, or sent it. `id` is one that the store has: so there are no more of them
    /// than it keeps. True: it says something else than before.
    pub(super) fn heard_of(
        &self,
        id: &DeviceId,
        address: IpAddr,
        report: Report,
        store: &dyn Store,
    ) -> bool {
        let seen = Arc::new(Seen {
            address: address.to_canonical(),
            report,
            at: wall_seconds(),
        });
        let mut all = lock::lock(&self.known);
        let known = all.entry(id.clone()).or_default();
        let before = std::mem::replace(
            &mut known.state,
            State {
                seen: Some(Arc::clone(&seen)),
                heard: Some(Instant::now()),
                unreachable: None,
            },
        );
        let was = before.seen.as_ref();
        let matters = before.unreachable.is_some()
            || !was.is_some_and(|was| was.says_as(&seen))
            || self.is_long(&before);
        let stale = known.noted.as_ref().is_none_or(|noted| {
            !noted.says_as(&seen) || seen.at.saturating_sub(noted.at).saturating_abs() >= NOTE_AGE
        });
        if !stale {
            return matters;
        }
        known.noted = Some(Arc::clone(&seen));
        drop(all);
        if let Err(error) = store.note(id, &write(&seen)) {
            log::debug!("{id}: {error}");
            // Once more the next time.
            if let Some(known) = lock::lock(&self.known).get_mut(id) {
                known.noted = None;
            }
        }
        matters
    }

    /// There is a note on a board. Whether it says something else than was known, or is merely newer; `None`: neither.
    pub(super) fn noted(&self, id: &DeviceId, note: &str) -> Option<bool> {
        let noted = Arc::new(read(note)?);
        let mut all = lock::lock(&self.known);
        let known = all.entry(id.clone()).or_default();
        let state = &mut known.state;
        if state.seen.as_ref().is_some_and(|seen| seen.at >= noted.at) {
            return None;
        }
        let was = state.seen.replace(Arc::clone(&noted));
        state.heard = None;
        known.noted = Some(Arc::clone(&noted));
        Some(!was.is_some_and(|was| was.says_as(&noted)))
    }

    /// Whether so little was heard of it that this may have been said.
    fn is_long(&self, state: &State) -> bool {
        self.quiet(state) > Duration::from_secs(NOTE_AGE.unsigned_abs())
    }

    /// A board was called. One that answers is there, whatever it answers. True: it was not so before.
    pub(super) fn called(&self, id: &DeviceId, outcome: &Outcome) -> bool {
        let silent = outcome.as_ref().err().filter(|failed| failed.silent);
        let silent: Option<Arc<str>> = silent.map(|why| why.to_string().into());
        let mut all = lock::lock(&self.known);
        let state = &mut all.entry(id.clone()).or_default().state;
        let is_new = state.unreachable != silent;
        state.unreachable = silent;
        is_new
    }

    /// How long nothing has been heard of a board while somebody was here to hear it.
    pub(super) fn quiet(&self, state: &State) -> Duration {
        let here = self.since.elapsed();
        if let Some(heard) = state.heard {
            return heard.elapsed();
        }
        let Some(seen) = &state.seen else {
            return here;
        };
        let quiet = wall_seconds().saturating_sub(seen.at);
        Duration::from_secs(u64::try_from(quiet).unwrap_or(0)).min(here)
    }

    /// What is known of one board.
    pub(super) fn state(&self, id: &DeviceId) -> State {
        lock::lock(&self.known)
            .get(id)
            .map(|known| known.state.clone())
            .unwrap_or_default()
    }

    /// Forgets all others.
    pub(super) fn retain(&self, kept: impl Fn(&DeviceId) -> bool) {
        lock::lock(&self.known).retain(|id, _| kept(id));
    }

    /// The device is no longer kept.
    pub(super) fn forget(&self, id: &DeviceId) {
        lock::lock(&self.known).remove(id);
    }
}

impl Seen {
    /// Whether it says the same, at another time perhaps.
    fn says_as(&self, other: &Seen) -> bool {
        (self.address, &self.report) == (other.address, &other.report)
    }
}

fn write(seen: &Seen) -> String {
    let Report {
        version,
        ports,
        tls,
        device_type,
        refused,
        degraded,
    } = &seen.report;
    let mut note = json!({
        "address": seen.address.to_string(),
        "at": seen.at,
        "version": version,
        "tls": tls,
        "device_type": device_type,
        "refused": refused,
        "degraded": degraded,
    });
    if let Some(Ports {
        metrics,
        management,
    }) = ports
    {
        note["ports"] = json!([metrics, management]);
    }
    note.to_string()
}

/// `None` for what is no note of ours: it is only a note.
fn read(note: &str) -> Option<Seen> {
    let note: Value = serde_json::from_str(note).ok()?;
    let text = |key: &str| note.get(key)?.as_str().map(str::to_string);
    let port = |place: usize| u16::try_from(note.get("ports")?.get(place)?.as_u64()?).ok();
    let ports = || Ports {
        metrics: port(0),
        management: port(1),
    };
    Some(Seen {
        address: text("address")?.parse().ok()?,
        at: note.get("at")?.as_i64()?,
        report: Report {
            version: text("version").unwrap_or_default(),
            ports: note.get("ports").map(|_| ports()),
            tls: note.get("tls").and_then(Value::as_bool).unwrap_or(false),
            device_type: text("device_type"),
            refused: text("refused"),
            degraded: text("degraded"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_was_seen() {
        let seen = Seen {
            address: "fd00::7".parse().unwrap(),
            report: Report {
                version: "0.1.0".into(),
                ports: Some(Ports {
                    metrics: None,
                    management: Some(9101),
                }),
                tls: true,
                device_type: Some("shelly".into()),
                refused: Some("\"no\"".into()),
                degraded: Some("no chip".into()),
            },
            at: 1_700_000_000,
        };
        assert_eq!(read(&write(&seen)), Some(seen));
        for bad in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"address":"x","at":1}"#,
            r#"{"address":"::1"}"#,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
