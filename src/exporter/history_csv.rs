//! `GET /history.csv`: what the histories of all sources keep, as one table. It is nobody's in particular: no consumer of every
//! sample has less for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Exporter;
use crate::config::parse_duration;
use crate::exposition::{render_history, HistoryRange, TimeFormat, TooLong};
use crate::http::{InFlight, Request, Reservation};
use crate::metrics::{Offset, Series};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// A table has at most this much text.
const MAX_BYTES: usize = 8 << 20;
/// Tables that have not been read yet are limited to this for each address, and to one more in all: one address keeps no other
/// from a table.
const MAX_BYTES_PER_PEER: usize = 2 * MAX_BYTES;

/// Limits of the tables that are on their way.
pub(super) struct HistoryLimits {
    in_flight: Arc<InFlight>,
    /// One table is made at a time.
    rendering: Mutex<()>,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        HistoryLimits {
            in_flight: Arc::new(InFlight::new(
                MAX_BYTES_PER_PEER,
                MAX_BYTES_PER_PEER + MAX_BYTES,
            )),
            rendering: Mutex::default(),
        }
    }
}

/// Why there is no table: status, and a message for the user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u16, pub(super) String);

impl Exporter {
    /// The table that the request asks for, and what to hold until it has been sent.
    pub(super) fn history_csv(&self, request: &Request) -> Result<(String, Reservation), Refusal> {
        let config = self.store.current();
        let history = config.history.clone();
        if history.keep.is_zero() || history.bytes == 0 {
            return Err(Refusal(
                404,
                "no history is kept here: set `history: {seconds: 300, bytes: 4194304}` in the configuration".into(),
            ));
        }
        let now = BootTime::now();
        let (time, offset) = self.time_of(request)?;
        let last = span(request, "last")?.unwrap_or(history.keep);
        let nanos = u64::try_from(last.as_nanos()).unwrap_or(u64::MAX);
        let range = HistoryRange {
            since: BootTime(now.0.saturating_sub(nanos)),
            until: now,
            step: span(request, "step")?,
            offset,
            time,
            microseconds: config.interval < Duration::from_millis(1),
            max_bytes: MAX_BYTES,
        };
        let names: Vec<_> = request.query_values("name[]").collect();
        let wanted = |series: &Series| {
            let is_it =
                |name: &String| *name == series.family.name || name == series.prefix.trim_end();
            names.is_empty() || names.iter().any(is_it)
        };
        let limits = &self.history_limits;
        let _rendering = lock::lock(&limits.rendering);
        let peer = request.peer.ip();
        let Some(mut reserved) = limits.in_flight.reserve(peer, MAX_BYTES, MAX_BYTES) else {
            return Err(Refusal(
                503,
                super::multirate::TOO_MUCH_UNREAD.trim_end().into(),
            ));
        };
        match render_history(&self.registry.groups(), &range, wanted) {
            Ok((_, 0)) if !names.is_empty() => Err(Refusal(
                404,
                format!("there is no series {}: /metrics has the names", names.join(" or ")),
            )),
            Ok((csv, _)) => {
                reserved.resize(csv.len());
                Ok((csv, reserved))
            }
            Err(TooLong) => Err(Refusal(
                413,
                format!(
                    "the table would be longer than {} MiB: ask for less time (?last=30s), fewer series \
                     (?name[]=power_watts) or fewer rows (?step=1s)",
                    MAX_BYTES >> 20
                ),
            )),
        }
    }

    /// How the request wants the time, and what is added to that of the readings.
    fn time_of(&self, request: &Request) -> Result<(TimeFormat, Offset), Refusal> {
        let format = match request.query_values("time").last().as_deref() {
            None | Some("rfc3339") => TimeFormat::Rfc3339,
            Some("unix") => TimeFormat::Seconds,
            Some("boot") => return Ok((TimeFormat::Seconds, Offset::of_boot_time())),
            Some(_) => {
                let what = "time is rfc3339, unix (seconds since 1970) or boot (seconds since the board started)";
                return Err(Refusal(400, what.into()));
            }
        };
        let wrong = || {
            let what = "this board's clock is wrong: request ?time=boot for seconds since the board started";
            Refusal(503, what.into())
        };
        Ok((format, self.clock.offset().ok_or_else(wrong)?))
    }
}

/// A span of time that the request names.
fn span(request: &Request, key: &str) -> Result<Option<Duration>, Refusal> {
    let Some(text) = request.query_values(key).last() else {
        return Ok(None);
    };
    match parse_duration(&text) {
        Some(span) => Ok(Some(span)),
        None => Err(Refusal(
            400,
            format!("{key} is a time such as 60s, 1m30s or 500ms, longer than none"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Method;
    use crate::metrics::{Desc, Readings, WallClock};

    fn request(query: &str, peer: &str) -> Request {
        Request {
            method: Method::Get,
            path: "/history.csv".into(),
            query: Some(query.into()),
            version: (1, 1).into(),
            headers: Vec::new(),
            body: Vec::new(),
            peer: peer.parse().unwrap(),
            login: Default::default(),
        }
    }

    /// An exporter with a group of so many series and rows, the last one read now.
    fn exporter(series: usize, rows: u64, clock: WallClock) -> Exporter {
        let exporter = Exporter {
            clock: Arc::new(clock),
            ..Exporter::idle()
        };
        let group = exporter.registry.add_group(0, "rapl", vec![]);
        group.history().limit(Duration::from_secs(300), 64 << 20);
        let id = |n: usize| {
            let desc = Desc::gauge("power_watts", "Power.");
            group.series(&desc, &[("rail", &n.to_string())])
        };
        let ids: Vec<_> = (0..series).map(id).collect();
        let (now, generation) = (BootTime::now(), group.new_generation());
        let mut out = Readings::new(5.0);
        for row in 0..rows {
            out.begin(BootTime(now.0 - (rows - 1 - row) * 1_000_000));
            ids.iter().for_each(|id| out.set(*id, 1234.5678));
            assert!(group.publish(generation, &out));
        }
        exporter
    }

    fn status(exporter: &Exporter, query: &str) -> Option<u16> {
        let table = exporter.history_csv(&request(query, "192.0.2.1:1"));
        table.err().map(|Refusal(status, _)| status)
    }

    #[test]
    fn table_that_is_too_long_says_what_to_ask_for() {
        let exporter = exporter(100, 9_000, WallClock::default());
        let asked = request("", "192.0.2.1:1");
        let Err(Refusal(413, why)) = exporter.history_csv(&asked) else {
            panic!("9 MB of text");
        };
        assert!(why.contains("?last=30s"), "{why}");
        assert_eq!(status(&exporter, "last=2s"), None);
        assert_eq!(status(&exporter, "step=1s"), None);
        assert_eq!(
            status(&exporter, "name[]=power_watts{rail%3D%227%22}"),
            None
        );
    }

    #[test]
    fn unread_tables_of_one_address_keep_no_other_from_one() {
        let exporter = exporter(100, 7_000, WallClock::default());
        let ask = |peer: &str| {
            exporter
                .history_csv(&request("", peer))
                .map(|(_, held)| held)
        };
        let first = ask("192.0.2.1:1").ok().unwrap();
        assert_eq!(
            ask("192.0.2.1:2").err().map(|Refusal(status, _)| status),
            None
        );
        let second = ask("192.0.2.1:2").ok();
        let refused = ask("192.0.2.1:3").err();
        assert_eq!(refused.map(|Refusal(status, _)| status), Some(503));
        assert!(ask("192.0.2.2:1").is_ok());
        drop((first, second));
        assert!(ask("192.0.2.1:3").is_ok());
    }

    #[test]
    fn wrong_clock_leaves_the_time_since_boot() {
        let clock = WallClock::new(|| (BootTime::now(), 0));
        let exporter = exporter(1, 3, clock);
        for (query, expected) in [
            ("", Some(503)),
            ("time=unix", Some(503)),
            ("time=boot", None),
            ("time=x", Some(400)),
        ] {
            assert_eq!(status(&exporter, query), expected, "{query}");
        }
        let asked = request("time=boot", "192.0.2.1:1");
        let (csv, _) = exporter.history_csv(&asked).ok().unwrap();
        assert_eq!(csv.lines().count(), 4, "{csv}");
    }
}
