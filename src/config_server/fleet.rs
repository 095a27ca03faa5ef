//! What is known of boards besides their configurations: the last contact, with address and report, and failed calls.
//!
//! The last contact is kept in memory, and as a note in the store: so a restarted server knows the fleet at once, and several
//! servers with one store know of the boards that contacted another one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::power::{Curve, Moment, PowerHistory};
use super::reload::Outcome;
use super::store::Store;
use crate::sys::clock::wall_seconds;
use crate::sys::lock;
use crate::wire::DeviceId;
use crate::wire::{EnergyReading, Ports, PowerReading, Report};

/// The shortest silence after which a board may be listed as unreachable.
const SILENCE: Duration = Duration::from_secs(60);

/// A contact of a board.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contact {
    /// The address that the request came from.
    pub(super) address: IpAddr,
    pub(super) report: Report,
    /// What the board draws; `None`: it did not say.
    pub(super) power: Option<PowerReading>,
    /// The time, in seconds since 1970.
    pub(super) at: i64,
}

#[derive(Debug, Default)]
struct Entry {
    state: BoardState,
    /// The contact in the store's note, as far as this server knows.
    noted: Option<Arc<Contact>>,
    /// What the board draws; `None`: it has never said.
    power: Option<Box<PowerHistory>>,
}

/// What is known of a board's power.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Power {
    /// The power now, in watts.
    pub(super) watts: Option<f64>,
    /// The energy of the last day, as far as it is known, in joules.
    pub(super) day_joules: Option<f64>,
}

/// The state of every board, by device id.
#[derive(Debug)]
pub(super) struct Fleet {
    boards: Mutex<HashMap<DeviceId, Entry>>,
    started_at: Instant,
}

impl Default for Fleet {
    fn default() -> Fleet {
        Fleet {
            boards: Mutex::default(),
            started_at: Instant::now(),
        }
    }
}

/// What is known of one board.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct BoardState {
    pub(super) last_contact: Option<Arc<Contact>>,
    /// The monotonic time of the last contact, if it was with this server. Unlike the wall clock it is never set.
    pub(super) contacted_at: Option<Instant>,
    /// Why the last call failed, if the board could not be reached.
    pub(super) unreachable: Option<Arc<str>>,
}

impl BoardState {
    /// The same, with the contact of the note if no other is known.
    pub(super) fn or_from_note(mut self, note: Option<&str>) -> BoardState {
        self.last_contact = self
            .last_contact
            .or_else(|| Some(Arc::new(parse_note(note?)?)));
        self
    }
}

impl Fleet {
    /// Records that a board asked for its configuration, or sent it. The store must have `id`, which bounds the number of
    /// entries. Returns whether anything but the time is new.
    pub(super) fn record_contact(
        &self,
        id: &DeviceId,
        contact: Contact,
        store: &dyn Store,
    ) -> bool {
        let contact = Arc::new(contact);
        let mut all = lock::lock(&self.boards);
        let entry = all.entry(id.clone()).or_default();
        entry.record_power(contact.power, Moment::now());
        let before = std::mem::replace(
            &mut entry.state,
            BoardState {
                last_contact: Some(Arc::clone(&contact)),
                contacted_at: Some(Instant::now()),
                unreachable: None,
            },
        );
        let was = before.last_contact.as_ref();
        let is_change = before.unreachable.is_some()
            || !was.is_some_and(|was| was.reports_as(&contact))
            || self.was_silent(&before);
        let stale = entry.noted.as_ref().is_none_or(|note| {
            !note.reports_as(&contact)
                || contact.at.abs_diff(note.at) >= store.max_note_age().as_secs()
        });
        if !stale {
            return is_change;
        }
        entry.noted = Some(Arc::clone(&contact));
        drop(all);
        if let Err(error) = store.put_note(id, &note_text(&contact)) {
            log::debug!("{id}: {error}");
            // The next contact tries again.
            if let Some(entry) = lock::lock(&self.boards).get_mut(id) {
                entry.noted = None;
            }
        }
        is_change
    }

    /// Applies a note from the store. Returns whether anything but the time is new; `None`: the note is not newer than the
    /// known contact.
    pub(super) fn apply_note(&self, id: &DeviceId, note: &str) -> Option<bool> {
        let noted = Arc::new(parse_note(note)?);
        let mut all = lock::lock(&self.boards);
        let entry = all.entry(id.clone()).or_default();
        let state = &mut entry.state;
        if state
            .last_contact
            .as_ref()
            .is_some_and(|last| last.at >= noted.at)
        {
            return None;
        }
        let was = state.last_contact.replace(Arc::clone(&noted));
        state.contacted_at = None;
        // It has reached another server since this one called it in vain.
        let was_unreachable = state.unreachable.take().is_some();
        let age = wall_seconds().saturating_sub(noted.at);
        entry.record_power(noted.power, Moment::ago(age as f64));
        entry.noted = Some(Arc::clone(&noted));
        Some(was_unreachable || !was.is_some_and(|was| was.reports_as(&noted)))
    }

    /// Whether the last contact was so long ago that the board may have been listed as unreachable.
    fn was_silent(&self, state: &BoardState) -> bool {
        self.silence(state) > SILENCE
    }

    /// Records the outcome of a call to a board. A board that answers is reachable, whatever it answers. Returns whether that
    /// is new.
    pub(super) fn record_call(&self, id: &DeviceId, outcome: &Outcome) -> bool {
        let error = outcome.as_ref().err().filter(|error| error.is_unreachable);
        let unreachable: Option<Arc<str>> = error.map(|why| why.to_string().into());
        let mut all = lock::lock(&self.boards);
        let state = &mut all.entry(id.clone()).or_default().state;
        let is_new = state.unreachable != unreachable;
        state.unreachable = unreachable;
        is_new
    }

    /// The time since the board's last contact, but at most the time since this server started.
    pub(super) fn silence(&self, state: &BoardState) -> Duration {
        let uptime = self.started_at.elapsed();
        if let Some(at) = state.contacted_at {
            return at.elapsed();
        }
        let Some(last) = &state.last_contact else {
            return uptime;
        };
        let silence = wall_seconds().saturating_sub(last.at);
        Duration::from_secs(u64::try_from(silence).unwrap_or(0)).min(uptime)
    }

    /// What is known of one board.
    pub(super) fn state(&self, id: &DeviceId) -> BoardState {
        lock::lock(&self.boards)
            .get(id)
            .map(|entry| entry.state.clone())
            .unwrap_or_default()
    }

    /// What is known of a board's power, of which the last reading is of now if it is not older than `max_age`.
    pub(super) fn power(&self, id: &DeviceId, now: Moment, max_age: Duration) -> Power {
        let boards = lock::lock(&self.boards);
        let history = boards.get(id).and_then(|entry| entry.power.as_deref());
        history.map_or_else(Power::default, |history| Power {
            watts: history.watts(now, max_age),
            day_joules: history.day_joules(now),
        })
    }

    /// The curve of a board's power in the last day; `None`: nothing of it is known.
    pub(super) fn power_curve(&self, id: &DeviceId, now: Moment) -> Option<Curve> {
        let boards = lock::lock(&self.boards);
        boards.get(id)?.power.as_ref()?.curve(now)
    }

    /// The type of board that a board reported last.
    pub(super) fn reported_type(&self, id: &DeviceId) -> Option<String> {
        let boards = lock::lock(&self.boards);
        let contact = boards.get(id)?.state.last_contact.as_ref()?;
        contact.report.device_type.clone()
    }

    /// Forgets the boards for which `kept` is false.
    pub(super) fn retain(&self, kept: impl Fn(&DeviceId) -> bool) {
        lock::lock(&self.boards).retain(|id, _| kept(id));
    }

    /// Forgets a board.
    pub(super) fn forget(&self, id: &DeviceId) {
        lock::lock(&self.boards).remove(id);
    }
}

impl Entry {
    fn record_power(&mut self, reading: Option<PowerReading>, at: Moment) {
        if reading.is_some() || self.power.is_some() {
            self.power.get_or_insert_default().record(reading, at);
        }
    }
}

impl Contact {
    /// A contact at this moment.
    pub(super) fn now(address: IpAddr, report: Report, power: Option<PowerReading>) -> Contact {
        Contact {
            address: address.to_canonical(),
            report,
            power,
            at: wall_seconds(),
        }
    }

    /// Whether address and report are the same. What the board draws is always another, and is no reason to write a note.
    fn reports_as(&self, other: &Contact) -> bool {
        (self.address, &self.report) == (other.address, &other.report)
    }
}

fn note_text(contact: &Contact) -> String {
    let Report {
        version,
        ports,
        tls,
        device_type,
        refused,
        degraded,
    } = &contact.report;
    let mut note = json!({
        "address": contact.address.to_string(),
        "at": contact.at,
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
    if let Some(PowerReading { watts, energy }) = contact.power {
        note["watts"] = json!(watts);
        note["energy"] = json!(energy.map(|energy| [energy.joules, energy.seconds]));
    }
    note.to_string()
}

/// Parses a note. A malformed one is ignored, since losing a note does no harm.
fn parse_note(note: &str) -> Option<Contact> {
    let note: Value = serde_json::from_str(note).ok()?;
    let text = |key: &str| note.get(key)?.as_str().map(str::to_string);
    let port = |index: usize| u16::try_from(note.get("ports")?.get(index)?.as_u64()?).ok();
    let ports = || Ports {
        metrics: port(0),
        management: port(1),
    };
    let energy = || {
        let number = |index: usize| note.get("energy")?.get(index)?.as_f64();
        EnergyReading::new(number(0)?, number(1)?)
    };
    let watts = note.get("watts").and_then(Value::as_f64);
    Some(Contact {
        address: text("address")?.parse().ok()?,
        power: PowerReading::new(watts, energy()),
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
    fn note_round_trips() {
        let contact = Contact {
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
            power: PowerReading::new(Some(12.5), EnergyReading::new(4211.5, 360.0)),
            at: 1_700_000_000,
        };
        assert_eq!(parse_note(&note_text(&contact)), Some(contact));
        for bad in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"address":"x","at":1}"#,
            r#"{"address":"::1"}"#,
        ] {
            assert_eq!(parse_note(bad), None, "{bad}");
        }
    }

    #[test]
    fn newer_note_of_another_server_ends_unreachability() {
        let (fleet, id) = (Fleet::default(), DeviceId::parse("edge-01").unwrap());
        let note = |at: i64| format!(r#"{{"address":"10.0.0.7","at":{at},"version":"1"}}"#);
        assert_eq!(fleet.apply_note(&id, &note(100)), Some(true));
        lock::lock(&fleet.boards)
            .get_mut(&id)
            .unwrap()
            .state
            .unreachable = Some("no route".into());
        // An older note is no news.
        assert_eq!(fleet.apply_note(&id, &note(100)), None);
        assert!(fleet.state(&id).unreachable.is_some());
        assert_eq!(fleet.apply_note(&id, &note(101)), Some(true));
        assert_eq!(fleet.state(&id).unreachable, None);
        assert_eq!(fleet.apply_note(&id, &note(102)), Some(false));
    }
}
