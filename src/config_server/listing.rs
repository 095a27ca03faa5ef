//! The lists of the fleet: `/devices` (all, a page, or a search) and `/sd`.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::time::{Duration, Instant};

use serde_json::{json, Map, Value};

use super::boards::{Counts, ListKind};
use super::catalog::Page;
use super::device::Device;
use super::pieces::{self, Piece};
use super::power::Moment;
use super::responses::{error, store_error, too_many_requests};
use super::{sd, ConfigServer};
use crate::exposition::accepts_gzip;
use crate::http::{Request, Response};
use crate::sys::calendar::rfc3339;
use crate::sys::sort::sort_by;
use crate::wire::DeviceId;

/// The most devices of a page.
const MAX_PAGE: usize = 1000;
/// The limit of searches: a burst, and the interval for one more.
pub(super) const SEARCH_RATE: (u32, Duration) = (50, Duration::from_millis(100));
/// The longest `search` and `after`, in characters.
const MAX_SEARCH_CHARS: usize = 256;
const MAX_ID_CHARS: usize = 128;
/// The best first.
const STATUSES: [&str; 5] = ["healthy", "unknown", "degraded", "unreachable", "unhealthy"];
/// The most labels that are searched for.
const MAX_LABELS: usize = 16;

/// The order of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// By id.
    Name,
    /// The greatest power first.
    Power,
    /// The greatest energy of the last day first.
    Energy,
    /// The worst status first.
    Status,
}

/// The parameters of a page or search.
struct ListQuery {
    limit: usize,
    after: String,
    /// In lower case.
    search: String,
    /// Empty: any status.
    statuses: Vec<String>,
    /// The group that the boards are members of; `None`: any, or none.
    group: Option<String>,
    /// Names and values of labels that the boards have.
    labels: Vec<(String, String)>,
    sort: Sort,
    /// Whether an order was asked for.
    is_sorted: bool,
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
    match query {
        Some(query) if query.looks_at_all() => search(server, request, &query),
        query => listed(server, request, query.as_ref()),
    }
}

/// All devices, or a page of them, by id.
fn listed(server: &ConfigServer, request: &Request, query: Option<&ListQuery>) -> Response {
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
            let page = server.page(&query.after, query.limit, &|_| true);
            page_response(server, request, &page, &totals(counts))
        }
    }
}

/// A device that a search has found.
struct FoundDevice {
    /// Devices of a greater key come first.
    key: f64,
    id: DeviceId,
}

impl FoundDevice {
    fn compare(&self, key: f64, id: &str) -> Ordering {
        let by_key = key.total_cmp(&self.key);
        by_key.then_with(|| self.id.as_str().cmp(id))
    }
}

/// What a search has found.
#[derive(Default)]
struct SearchResult {
    /// Of the whole fleet.
    counts: Counts,
    /// In their order.
    devices: Vec<FoundDevice>,
    /// The sums of the devices that were found, and how many of them have a power.
    watts: f64,
    day_joules: Option<f64>,
    boards_with_power: usize,
    /// The key of the device after which the page begins.
    after: Option<f64>,
}

/// A page of the devices that are searched for, in the wanted order, with sums over all of them.
fn search(server: &ConfigServer, request: &Request, query: &ListQuery) -> Response {
    if let Err(wait) = server.search_rate.take(Instant::now()) {
        return too_many_requests("the fleet is searched too often", wait.as_secs() + 1);
    }
    if let Err(error) = server.sync() {
        return store_error(&error);
    }
    let mut result = look_at_all(server, query);
    sort_by(&mut result.devices, |a, b| a.compare(b.key, b.id.as_str()));
    // In the order of names the place of a device that is gone is known all the same.
    let gone = match query.sort {
        Sort::Name => 0.0,
        _ => f64::NEG_INFINITY,
    };
    let after = result.after.unwrap_or(gone);
    let is_before = |found: &FoundDevice| found.compare(after, &query.after) != Ordering::Greater;
    let begin = match query.after.as_str() {
        "" => 0,
        _ => result.devices.partition_point(is_before),
    };
    let found = result.devices.len();
    let ids = result.devices.into_iter().skip(begin).take(query.limit);
    let ids: Vec<DeviceId> = ids.map(|found| found.id).collect();
    let page = Page {
        devices: server.known_devices(&ids),
        more: begin + ids.len() < found,
    };
    let mut sums = json!({"found": found, "boards_with_power": result.boards_with_power});
    if result.boards_with_power > 0 {
        sums["power_watts"] = rounded(result.watts, 1e3);
    }
    if let Some(joules) = result.day_joules {
        sums["energy_day_joules"] = rounded(joules, 10.0);
    }
    let sums = sums.to_string();
    let sums = sums.trim_start_matches('{').trim_end_matches('}');
    let totals = format!("{},\n{sums}", totals(result.counts));
    page_response(server, request, &page, &totals)
}

fn look_at_all(server: &ConfigServer, query: &ListQuery) -> SearchResult {
    let now = Moment::now();
    let groups = server.groups.current();
    let entries = groups.entries.iter();
    let group = query.group.as_deref().map(|name| {
        let mut entries = entries.clone();
        entries.find(|entry| entry.name.as_str() == name)
    });
    let result = RefCell::new(SearchResult::default());
    server.visit(&|device| {
        let mut result = result.borrow_mut();
        let (status, why) = device.status();
        result.counts.count(status);
        let is_after = device.id.as_str() == query.after;
        let is_member = match group {
            None => true,
            Some(group) => group.is_some_and(|group| group.members.has(device.membership())),
        };
        let is_found = is_member && query.matches(device, status, why.as_deref());
        if !is_found && !is_after {
            return;
        }
        let power = server.fleet.power(&device.id, now, device.max_power_age());
        let key = match query.sort {
            Sort::Name => Some(0.0),
            Sort::Power => power.watts,
            Sort::Energy => power.day_joules,
            Sort::Status => STATUSES
                .iter()
                .position(|known| *known == status)
                .map(|at| at as f64),
        };
        let key = key.unwrap_or(f64::NEG_INFINITY);
        if is_after {
            result.after = Some(key);
        }
        if is_found {
            result.boards_with_power += usize::from(power.watts.is_some());
            result.watts += power.watts.unwrap_or(0.0);
            if let Some(joules) = power.day_joules {
                *result.day_joules.get_or_insert(0.0) += joules;
            }
            let id = device.id.clone();
            result.devices.push(FoundDevice { key, id });
        }
    });
    result.into_inner()
}

/// The response of a page, with `totals` as further members of its object.
fn page_response(server: &ConfigServer, request: &Request, page: &Page, totals: &str) -> Response {
    let now = Moment::now();
    let mut text = b"{\"devices\":[".to_vec();
    for (index, device) in page.devices.iter().enumerate() {
        text.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        write_json(&detailed_json(server, device, now), &mut text);
    }
    text.extend(format!("\n],\n{totals}").into_bytes());
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

/// A device's object on a page. The rendered pieces have none of what is only here: what a board draws is another at each
/// contact, and would have them rendered again.
fn detailed_json(server: &ConfigServer, device: &Device, now: Moment) -> Value {
    let mut json = device_json(device);
    let groups = server.groups.current();
    let entries = groups.entries.iter();
    let names = entries.filter(|entry| entry.members.has(device.membership()));
    let names: Vec<&str> = names.map(|entry| entry.name.as_str()).collect();
    json["groups"] = names.into();
    let labels = device.labels().iter();
    json["labels"] = labels
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect::<Map<_, _>>()
        .into();
    let power = server.fleet.power(&device.id, now, device.max_power_age());
    if let Some(watts) = power.watts {
        json["power_watts"] = rounded(watts, 1e3);
    }
    if let Some(joules) = power.day_joules {
        json["energy_day_joules"] = rounded(joules, 10.0);
    }
    if let Some(curve) = server.fleet.power_curve(&device.id, now) {
        let watts = curve.watts.into_iter();
        let watts = watts.map(|watts| watts.map_or(Value::Null, |watts| rounded(watts, 1e3)));
        json["power_history"] = watts.collect();
        json["power_history_seconds"] = curve.seconds.into();
    }
    json
}

/// A number with as many decimals as `one` has zeros.
fn rounded(value: f64, one: f64) -> Value {
    ((value * one).round() / one).into()
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
        let group = one("group").filter(|group| !group.is_empty());
        let labels = request
            .query_values("label")
            .filter(|label| !label.is_empty());
        let labels: Vec<String> = labels.collect();
        let sort = one("sort").filter(|sort| !sort.is_empty());
        let texts = [&limit, &after, &search, &statuses, &group, &sort];
        if texts.iter().all(|text| text.is_none()) && labels.is_empty() {
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
        let none = String::new();
        for (name, text, max_chars) in [
            ("search", &search, MAX_SEARCH_CHARS),
            ("after", &after, MAX_ID_CHARS),
            ("group", group.as_ref().unwrap_or(&none), MAX_ID_CHARS),
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
        if labels.len() > MAX_LABELS {
            return Err(format!("`label` is given {MAX_LABELS} times at most"));
        }
        let labels = labels.iter().map(|label| {
            let (name, value) = label.split_once('=').filter(|(name, _)| !name.is_empty())?;
            Some((name.to_owned(), value.to_owned()))
        });
        let Some(labels) = labels.collect() else {
            return Err("`label` is a name and a value, such as site=berlin".into());
        };
        let is_sorted = sort.is_some();
        let sort = match sort.as_deref() {
            None | Some("name") => Sort::Name,
            Some("power") => Sort::Power,
            Some("energy") => Sort::Energy,
            Some("status") => Sort::Status,
            Some(_) => return Err("`sort` is power, energy, name or status".into()),
        };
        Ok(Some(ListQuery {
            limit,
            after,
            search: search.trim().to_lowercase(),
            statuses,
            group,
            labels,
            sort,
            is_sorted,
        }))
    }

    /// Whether the answer needs a look at every board: sums and orders do, a page by id does not.
    fn looks_at_all(&self) -> bool {
        let is_search = !self.search.is_empty() || !self.statuses.is_empty();
        is_search || self.group.is_some() || !self.labels.is_empty() || self.is_sorted
    }

    /// Whether a device of this status is searched for, whatever its groups are.
    fn matches(&self, device: &Device, status: &str, why: Option<&str>) -> bool {
        let is_status =
            self.statuses.is_empty() || self.statuses.iter().any(|wanted| wanted == status);
        let has_label = |(name, value): &(String, String)| {
            let mut labels = device.labels().iter();
            labels.any(|(known, is)| (known, is) == (name, value))
        };
        let has = |text: &str| text.to_lowercase().contains(&self.search);
        is_status
            && self.labels.iter().all(has_label)
            && (self.search.is_empty()
                || has(device.id.as_str())
                || has(device.hostname())
                || has(device.device_type())
                || has(&device.host().0)
                || has(status)
                || why.is_some_and(has))
    }
}
