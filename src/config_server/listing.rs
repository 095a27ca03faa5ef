//! The lists of the fleet: `/devices` (all, a page, or a search) and `/sd`.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::boards::{Counts, ListKind};
use super::device::Device;
use super::pieces::{self, Piece};
use super::responses::{error, store_error, too_many_requests};
use super::{sd, ConfigServer};
use crate::exposition::accepts_gzip;
use crate::http::{Request, Response};
use crate::sys::calendar::rfc3339;

/// The most devices of a page.
const MAX_PAGE: usize = 1000;
/// The limit of searches: a burst, and the interval for one more.
pub(super) const SEARCH_RATE: (u32, Duration) = (50, Duration::from_millis(100));
/// The longest `search` and `after`, in characters.
const MAX_SEARCH_CHARS: usize = 256;
const MAX_ID_CHARS: usize = 128;
const STATUSES: [&str; 5] = ["healthy", "degraded", "unhealthy", "unreachable", "unknown"];

/// The parameters of a page or search.
struct ListQuery {
    limit: usize,
    after: String,
    /// In lower case.
    search: String,
    /// Empty: any status.
    statuses: Vec<String>,
}

/// The response of `/sd`.
pub(super) fn targets(server: &ConfigServer, request: &Request) -> Response {
    let gzip = wants_gzip(request);
    let write = |device: &Device, text: &mut Vec<u8>| {
        if let Some(target) = sd::target(device) {
            write_json(&target, text);
        }
    };
    match server.pieces(ListKind::Targets, gzip, &write) {
        Ok((pieces, _)) => pieces_response(server, pieces, b"[\n", b"\n]\n".to_vec(), gzip),
        Err(error) => store_error(&error),
    }
}

/// The response of `/devices`: all devices if the request has no parameters.
pub(super) fn devices(server: &ConfigServer, request: &Request) -> Response {
    let query = match ListQuery::read(request) {
        Ok(query) => query,
        Err(why) => return error(400, "Invalid query", None, &why),
    };
    let gzip = wants_gzip(request);
    let write = |device: &Device, text: &mut Vec<u8>| write_json(&device_json(device), text);
    let (pieces, counts) = match server.pieces(ListKind::Devices, gzip, &write) {
        Ok(all) => all,
        Err(error) => return store_error(&error),
    };
    match query {
        None => {
            let end = format!("\n],\n{}}}\n", totals(counts));
            pieces_response(server, pieces, b"{\"devices\":[\n", end.into_bytes(), gzip)
        }
        Some(query) => {
            drop(pieces);
            page(server, request, &query, counts)
        }
    }
}

fn page(server: &ConfigServer, request: &Request, query: &ListQuery, counts: Counts) -> Response {
    if query.is_search() {
        if let Err(wait) = server.search_rate.take(Instant::now()) {
            return too_many_requests("the fleet is searched too often", wait.as_secs() + 1);
        }
    }
    let page = server.page(&query.after, query.limit, &|device| query.matches(device));
    let mut text = b"{\"devices\":[".to_vec();
    for (index, device) in page.devices.iter().enumerate() {
        text.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        write_json(&device_json(device), &mut text);
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

/// A response of `begin`, the pieces separated by commas, and `end`.
fn pieces_response(
    server: &ConfigServer,
    pieces: Vec<Piece>,
    begin: &[u8],
    end: Vec<u8>,
    gzip: bool,
) -> Response {
    let mut all = Vec::with_capacity(pieces.len() * 2 + 2);
    all.push(Piece::new(begin.to_vec()));
    let comma = Piece::new(b",\n".to_vec());
    for (index, piece) in pieces.into_iter().enumerate() {
        if index > 0 {
            all.push(comma.clone());
        }
        all.push(piece);
    }
    all.push(Piece::new(end));
    if gzip {
        server.catalog.compress(&mut all);
    }
    pieces::response(&all, gzip)
}

fn wants_gzip(request: &Request) -> bool {
    accepts_gzip(request.header_list("Accept-Encoding").as_deref())
}

fn write_json(value: &Value, text: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = serde_json::to_writer(text, value);
}

/// A device's object in `/devices`.
fn device_json(device: &Device) -> Value {
    let (status, why) = device.status();
    let (host, from) = device.host();
    let mut device_json = json!({
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
    if let Some(contact) = &device.state.last_contact {
        device_json["last_seen"] = rfc3339(contact.at).into();
        device_json["version"] = contact.report.version.as_str().into();
    }
    if let Some(why) = why {
        device_json["error"] = why.into();
    }
    device_json
}

/// The number of devices by status, as members of an object.
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

impl ListQuery {
    /// Reads the parameters; `None`: there are none. The error is a message for the user.
    fn read(request: &Request) -> Result<Option<ListQuery>, String> {
        let one = |key: &str| request.query_values(key).last();
        let (limit, after) = (one("limit"), one("after"));
        let search = one("search").filter(|search| !search.trim().is_empty());
        let statuses = one("status").filter(|statuses| !statuses.is_empty());
        if limit.is_none() && after.is_none() && search.is_none() && statuses.is_none() {
            return Ok(None);
        }
        let limit = match limit {
            None => MAX_PAGE,
            Some(limit) => match limit.parse() {
                Ok(limit) if (1..=MAX_PAGE).contains(&limit) => limit,
                _ => return Err(format!("`limit` is a number from 1 to {MAX_PAGE}")),
            },
        };
        let search = search.unwrap_or_default();
        let after = after.unwrap_or_default();
        for (name, text, max_chars) in [
            ("search", &search, MAX_SEARCH_CHARS),
            ("after", &after, MAX_ID_CHARS),
        ] {
            if text.chars().count() > max_chars {
                return Err(format!("`{name}` has at most {max_chars} characters"));
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
        Ok(Some(ListQuery {
            limit,
            after,
            search: search.trim().to_lowercase(),
            statuses,
        }))
    }

    fn is_search(&self) -> bool {
        !self.search.is_empty() || !self.statuses.is_empty()
    }

    fn matches(&self, device: &Device) -> bool {
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
