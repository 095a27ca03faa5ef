//! The fleet, told: `/devices`, whole, by pages, or those that are searched for; and `/sd`.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::answers::{error, failure, too_many};
use super::boards::{Counts, Kind};
use super::device::Device;
use super::pieces::{self, Piece};
use super::{sd, Central};
use crate::exposition::accepts_gzip;
use crate::http::{Request, Response};
use crate::sys::calendar::rfc3339;

/// The most devices of one page.
const MOST: usize = 1000;
/// Searches that may come at once, and how often one more.
pub(super) const SEARCHES: (u32, Duration) = (50, Duration::from_millis(100));
/// The longest text that is searched for, and the longest id, in characters.
const LONGEST_SEARCH: usize = 256;
const LONGEST_ID: usize = 128;
const STATUSES: [&str; 5] = ["healthy", "degraded", "unhealthy", "unreachable", "unknown"];

/// What a query asks for.
struct Query {
    limit: usize,
    after: String,
    /// In small letters.
    search: String,
    /// Empty: whatever they are.
    statuses: Vec<String>,
}

/// Answers `/sd`.
pub(super) fn targets(central: &Central, request: &Request) -> Response {
    let gzip = wants_gzip(request);
    let write = |device: &Device, text: &mut Vec<u8>| {
        if let Some(target) = sd::target(device) {
            written(&target, text);
        }
    };
    match central.pieces(Kind::Targets, gzip, &write) {
        Ok((pieces, _)) => answer(central, pieces, b"[\n", b"\n]\n".to_vec(), gzip),
        Err(error) => failure(&error),
    }
}

/// Answers `/devices`: all of them, where neither a limit is given nor anything that they are to be like.
pub(super) fn devices(central: &Central, request: &Request) -> Response {
    let query = match Query::read(request) {
        Ok(query) => query,
        Err(why) => return error(400, "Invalid query", None, &why),
    };
    let gzip = wants_gzip(request);
    let write = |device: &Device, text: &mut Vec<u8>| written(&entry(device), text);
    let (pieces, counts) = match central.pieces(Kind::Devices, gzip, &write) {
        Ok(all) => all,
        Err(error) => return failure(&error),
    };
    match query {
        None => {
            let end = format!("\n],\n{}}}\n", totals(counts));
            answer(central, pieces, b"{\"devices\":[\n", end.into_bytes(), gzip)
        }
        Some(query) => {
            drop(pieces);
            page(central, request, &query, counts)
        }
    }
}

fn page(central: &Central, request: &Request, query: &Query, counts: Counts) -> Response {
    if query.is_search() {
        if let Err(wait) = central.searches.take(Instant::now()) {
            return too_many("the fleet is searched too often", wait.as_secs() + 1);
        }
    }
    let page = central.page(&query.after, query.limit, &|device| query.wants(device));
    let mut text = b"{\"devices\":[".to_vec();
    for (place, device) in page.devices.iter().enumerate() {
        text.extend_from_slice(if place == 0 { b"\n" } else { b",\n" });
        written(&entry(device), &mut text);
    }
    text.extend(format!("\n],\n{}", totals(counts)).into_bytes());
    let last = page.devices.last().filter(|_| page.more);
    if let Some(last) = last {
        text.extend(format!(",\n\"next\":\"{}\"", last.id).into_bytes());
    }
    text.extend(b"}\n");
    let response = Response::new(200, "application/json", text);
    match last {
        Some(last) => {
            let others = request.query.as_deref().unwrap_or_default().split('&');
            let others =
                others.filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("after"));
            let after = format!("after={}", last.id);
            let query: Vec<&str> = others.chain([after.as_str()]).collect();
            let link = format!("</devices?{}>; rel=\"next\"", query.join("&"));
            response.with_header("Link", &link)
        }
        None => response,
    }
}

/// The answer of these pieces between two others.
fn answer(
    central: &Central,
    pieces: Vec<Piece>,
    begin: &[u8],
    end: Vec<u8>,
    gzip: bool,
) -> Response {
    let mut all = Vec::with_capacity(pieces.len() * 2 + 2);
    all.push(Piece::new(begin.to_vec()));
    let comma = Piece::new(b",\n".to_vec());
    for (place, piece) in pieces.into_iter().enumerate() {
        if place > 0 {
            all.push(comma.clone());
        }
        all.push(piece);
    }
    all.push(Piece::new(end));
    if gzip {
        central.catalog.compress(&mut all);
    }
    pieces::response(&all, gzip)
}

fn wants_gzip(request: &Request) -> bool {
    accepts_gzip(request.header_list("Accept-Encoding").as_deref())
}

fn written(value: &Value, text: &mut Vec<u8>) {
    // A Vec takes everything.
    let _ = serde_json::to_writer(text, value);
}

/// What there is to say of a device.
fn entry(device: &Device) -> Value {
    let (status, why) = device.status();
    let (host, from) = device.host();
    let mut entry = json!({
        "device_id": device.id.as_str(),
        "device_type": device.device_type(),
        "hostname": device.hostname(),
        "ip_address": host,
        "address_from": from.as_str(),
        "port": device.port(),
        "reload_port": device.reload_port(),
        "scheme": device.scheme(),
        "status": status,
    });
    if let Some(seen) = &device.state.seen {
        entry["last_seen"] = rfc3339(seen.at).into();
        entry["version"] = seen.report.version.as_str().into();
    }
    if let Some(why) = why {
        entry["error"] = why.into();
    }
    entry
}

/// How many are how, as members of an object.
fn totals(counts: Counts) -> String {
    let Counts {
        total,
        healthy,
        degraded,
        unhealthy,
        unknown,
    } = counts;
    format!(
        "\"total\":{total},\"healthy\":{healthy},\"degraded\":{degraded},\"unhealthy\":{unhealthy},\"unknown\":{unknown}"
    )
}

impl Query {
    /// `None`: all are asked for. The error is for people.
    fn read(request: &Request) -> Result<Option<Query>, String> {
        let one = |key: &str| request.query_values(key).last();
        let (limit, after) = (one("limit"), one("after"));
        let search = one("search").filter(|search| !search.trim().is_empty());
        let statuses = one("status").filter(|statuses| !statuses.is_empty());
        if limit.is_none() && after.is_none() && search.is_none() && statuses.is_none() {
            return Ok(None);
        }
        let limit = match limit {
            None => MOST,
            Some(limit) => match limit.parse() {
                Ok(limit) if (1..=MOST).contains(&limit) => limit,
                _ => return Err(format!("`limit` is a number from 1 to {MOST}")),
            },
        };
        let search = search.unwrap_or_default();
        let after = after.unwrap_or_default();
        for (name, text, most) in [
            ("search", &search, LONGEST_SEARCH),
            ("after", &after, LONGEST_ID),
        ] {
            if text.chars().count() > most {
                return Err(format!("`{name}` has at most {most} characters"));
            }
        }
        let statuses: Vec<String> = statuses
            .iter()
            .flat_map(|statuses| statuses.split(','))
            .map(str::to_owned)
            .collect();
        if !statuses
            .iter()
            .all(|status| STATUSES.contains(&status.as_str()))
        {
            return Err(format!("`status` is a list of {}", STATUSES.join(",")));
        }
        Ok(Some(Query {
            limit,
            after,
            search: search.trim().to_lowercase(),
            statuses,
        }))
    }

    fn is_search(&self) -> bool {
        !self.search.is_empty() || !self.statuses.is_empty()
    }

    fn wants(&self, device: &Device) -> bool {
        if !self.is_search() {
            return true;
        }
        let (status, why) = device.status();
        let is_status =
            self.statuses.is_empty() || self.statuses.iter().any(|wanted| wanted == status);
        let has = |text: &str| text.to_lowercase().contains(&self.search);
        is_status
            && (self.search.is_empty()
                || has(device.id.as_str())
                || has(device.hostname())
                || has(device.device_type())
                || has(&device.host().0)
                || has(status)
                || why.is_some_and(|why| has(&why)))
    }
}
