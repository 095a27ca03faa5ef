//! Devices that tell their power by HTTP as JSON: smart plugs, inverters, servers' management controllers, gateways. Where in
//! which answer a value is and in which unit is data: a profile that is compiled in (`profiles/*.yaml`), or the same keys in
//! the configuration. Each device has a thread of its own, so that one that does not respond delays only itself.
//!
//! * **A rail** is `<device>/<rail>`, or the device's name alone. A list in the answer is one rail for each item
//!   (`<device>/0`, …) beside their sum.
//! * **Energy** follows the device's own counter, which also counts while the network is down. When it falls, the device was
//!   restarted or reset, and the total grows on from there. Power without a counter is integrated, and so is that beside a
//!   counter that has never left 0.
//! * **A value is absent** if the answer has no number at its place: `null`, `"unavailable"`, `nan`, or nothing.
//! * **The board's total** is the sum of the rails of the device with `power_total`, without those that are parts of others.

mod client;
mod members;
mod plan;
pub mod pointer;
mod profile;
pub mod quantity;
mod series;
pub mod settings;
pub mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use self::client::{Answer, Getter};
use self::members::members;
use self::plan::{Outcome, Plan};
use self::pointer::{Found, Pointer, MAX_ITEMS};
use self::profile::{Members, Profile, GENERIC};
use self::series::MAX_RAILS;
use self::settings::{Device as DeviceSettings, Settings};
use self::values::{is_path, At, Place, RailValues};
use super::{json_answer, Board, Context, Device, Error, Meter, Pace, Source};
use crate::config::{url_without_secrets, Config};
use crate::metrics::{staleness_limit, Readings};
use crate::sys::clock::BootTime;

pub use self::plan::{RailReading, Reading};
pub use self::profile::names as profile_names;
pub(super) use self::series::DeviceSeries;

/// The meter.
pub(super) const METER: Meter = Meter {
    // The devices measure about once a second.
    pace: Pace::AtLeast(Duration::from_secs(1)),
    // Some management controllers take seconds for each of several answers.
    read_timeout: Duration::from_secs(20),
    devices: Some(devices),
    ..Meter::of::<Settings>(
        "json",
        "devices that tell their power by HTTP as JSON: plugs, inverters, servers",
        |config| config.meter::<Settings>().enabled,
        probe,
        open,
    )
};

/// The delay after a refused login. More requests would fill the device's log or lock the account.
const LOGIN_RETRY_DELAY: Duration = Duration::from_secs(60);
/// A new plan is made at every so many scans for new devices, which are half a minute apart.
const RESCANS_PER_PLAN: u32 = 10;
/// The request for the list of members, in a recording.
const MEMBERS_REQUEST: usize = usize::MAX;

fn devices(config: &Config) -> Vec<Device> {
    let devices = config.meter::<Settings>().devices.into_iter();
    devices
        .map(|device| Device {
            name: device.name.clone(),
            settings: Some(Arc::new(device)),
        })
        .collect()
}

fn probe(_: &Board, config: &Config) -> Result<String, Error> {
    let show = |device: &DeviceSettings| {
        let place = url_without_secrets(&device.url);
        match device.profile {
            GENERIC => format!("{} ({place})", device.name),
            profile => format!("{} ({profile}, {place})", device.name),
        }
    };
    match config.meter::<Settings>().devices.as_slice() {
        [] => Err(nothing_to_read()),
        devices => Ok(devices.iter().map(show).collect::<Vec<_>>().join(", ")),
    }
}

fn nothing_to_read() -> Error {
    Error::new("no device is configured").hint("add it to json.devices")
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let settings: Settings = context.config.meter();
    let mut devices = settings.devices.into_iter();
    let device = devices
        .find(|device| device.name == context.device.name)
        .ok_or_else(nothing_to_read)?;
    let profile = Profile::get(device.profile).map_err(|error| Error::new(error.message))?;
    Ok(Box::new(Json {
        getter: Getter::new(&device, context.health.io_log())?,
        rails: profile.rails(&device.values),
        series: DeviceSeries::new(&context.group, &device.name, device.power_total),
        profile,
        device,
        plan: None,
        late: Vec::new(),
        rescans: 0,
        read_at: None,
        complaints: BTreeMap::new(),
        context: context.clone(),
    }))
}

struct Json {
    device: DeviceSettings,
    profile: Profile,
    /// The values of the profile and of the configuration.
    rails: Vec<RailValues>,
    getter: Getter,
    /// `None` at first, and after a failure, since another device or another version may answer next.
    plan: Option<Plan>,
    /// The paths that did not answer or were refused when they were last got. They are got after the others.
    late: Vec<Late>,
    rescans: u32,
    /// When the last poll began, unless it failed.
    read_at: Option<BootTime>,
    /// The values that are missing, and why.
    complaints: BTreeMap<String, String>,
    series: DeviceSeries,
    context: Context,
}

/// A path that had no answer.
struct Late {
    path: Option<String>,
    /// It is not got again before.
    until: BootTime,
    why: String,
}

impl Source for Json {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        self.allow_for_slowness(out);
        let plan = match self.plan.take() {
            Some(plan) => plan,
            None => self.new_plan()?,
        };
        self.plan = Some(self.read(plan, out)?);
        self.read_at = Some(out.at);
        Ok(())
    }

    fn rescan(&mut self) {
        self.rescans += 1;
        if self.rescans % RESCANS_PER_PLAN == 0 {
            self.plan = None;
        }
    }

    fn reconnects(&self) -> bool {
        true
    }
}

impl Json {
    /// A device that takes longer than the interval for its answers is read as often as it answers: its values are not stale
    /// in between, and its power is integrated.
    fn allow_for_slowness(&mut self, out: &mut Readings) {
        let interval = self.context.interval;
        let requests = self.plan.as_ref().map_or(1, |plan| plan.paths.len().max(1));
        let longest = interval + self.device.timeout * u32::try_from(requests).unwrap_or(u32::MAX);
        let since = self
            .read_at
            .take()
            .map_or(0.0, |then| out.at.seconds_since(then));
        let pace = Duration::from_secs_f64(since.clamp(0.0, longest.as_secs_f64()));
        out.max_gap = staleness_limit(interval)
            .as_secs_f64()
            .max(pace.as_secs_f64());
        self.context.group.set_interval(interval.max(pace));
    }

    fn new_plan(&self) -> Result<Plan, Error> {
        let found = match &self.profile.members {
            Some(members) => self.members(members)?,
            None => Vec::new(),
        };
        Ok(Plan::new(
            &self.rails,
            &self.device.values,
            &members(&found),
        ))
    }

    /// The paths of the members, each with that of the member that it lies in: the board's total is the sum without these.
    fn members(&self, members: &Members) -> Result<Vec<(String, Option<String>)>, Error> {
        let url = self.url(Some(&members.path));
        let answer = match self.getter.get(&url, MEMBERS_REQUEST)? {
            Answer::Body(body) => self.parse(&url, &body)?,
            Answer::Status(status, note) => return Err(self.refused(&url, status, &note)),
        };
        let (paths, left_out) = paths_at(&members.pointer, &answer);
        self.context
            .health
            .left_out("members", left_out as u64, || {
                format!(
                    "{} has more than {MAX_ITEMS} members at {}",
                    self.device.name, members.path
                )
            });
        if paths.is_empty() {
            return Err(self.error(&url, &format!("the answer has no {}", members.pointer)));
        }
        let adds_up = self.device.power_total && paths.len() > 1;
        let within = members.within.as_ref().filter(|_| adds_up);
        let member = |path: String| {
            let around = match within {
                Some(pointer) => self.around(&path, pointer)?,
                None => None,
            };
            Ok((path, around))
        };
        paths.into_iter().map(member).collect()
    }

    /// The path of what a member lies in, if it says so.
    fn around(&self, path: &str, pointer: &Pointer) -> Result<Option<String>, Error> {
        let url = self.url(Some(path));
        let Answer::Body(body) = self.getter.get(&url, MEMBERS_REQUEST)? else {
            return Ok(None);
        };
        let answer = json_answer::parse(&body).map_err(|why| self.error(&url, &why))?;
        match pointer.find(&answer) {
            Some(Found::One(Value::String(path))) => Ok(Some(path.clone())),
            _ => Ok(None),
        }
    }

    /// Gets and publishes all values.
    fn read(&mut self, mut plan: Plan, out: &mut Readings) -> Result<Plan, Error> {
        self.late.retain(|late| plan.paths.contains(&late.path));
        let mut needed = plan.begin();
        needed.sort_by_key(|path| self.late_place(&plan, *path));
        let mut refusal = None;
        // What no path is got after: one that has no answer costs its whole time.
        let mut silence: Option<String> = None;
        let (mut answers, mut responses) = (0, 0);
        for path in needed {
            if self.context.stop.is_set() {
                return Err(Error::new("it ends"));
            }
            let late = self
                .late_place(&plan, path)
                .and_then(|at| self.late.get(at));
            let late = late.filter(|late| out.at < late.until);
            if let Some(why) = silence.as_ref().or(late.map(|late| &late.why)) {
                refusal.get_or_insert_with(|| Error::new(why.as_str()));
                plan.refuse(path, why, false);
                continue;
            }
            let url = self.url(plan.paths.get(path).and_then(Option::as_deref));
            let answer = match self.getter.get(&url, path) {
                Ok(answer) => answer,
                Err(error) if responses == 0 => {
                    self.set_late(&plan, path, out.at, &error);
                    return Err(error);
                }
                Err(error) => {
                    // The device answers, but not this. The others are read as often without it for as long.
                    let wait = (self.device.timeout * 2).as_nanos() as u64;
                    let until = BootTime(out.at.0.saturating_add(wait));
                    self.set_late(&plan, path, until, &error);
                    let why = error.to_string();
                    plan.refuse(path, &why, false);
                    silence = Some(format!("it was not got after {why}"));
                    continue;
                }
            };
            responses += 1;
            let (error, is_absent) = match answer {
                Answer::Body(body) => match self.parse(&url, &body) {
                    Ok(answer) => {
                        self.set_on_time(&plan, path);
                        plan.take(path, &answer);
                        answers += 1;
                        continue;
                    }
                    Err(error) if error.min_retry_delay().is_some() => return Err(error),
                    Err(error) => (error, false),
                },
                Answer::Status(401, scheme) => return Err(self.login_refused(&url, &scheme)),
                Answer::Status(status, note) => {
                    (self.refused(&url, status, &note), says_absent(status))
                }
            };
            match error.min_retry_delay() {
                Some(delay) => {
                    let until = BootTime(out.at.0.saturating_add(delay.as_nanos() as u64));
                    self.set_late(&plan, path, until, &error);
                }
                None => self.set_on_time(&plan, path),
            }
            plan.refuse(path, &error.to_string(), is_absent);
            refusal.get_or_insert(error);
        }
        plan.end();
        if answers == 0 {
            return Err(refusal.unwrap_or_else(|| Error::new("there is nothing to get")));
        }
        let rails = plan.rails();
        if rails.is_empty() && !plan.has_found() && !plan.has_own() {
            let why = plan.why_nothing().unwrap_or("there is nothing to look for");
            let error = Error::new(format!("{}: {why}", url_without_secrets(&self.device.url)));
            return Err(error
                .hint("is the profile that of such a device? `values` say where the values are"));
        }
        self.complain(&plan);
        // What was answered has no numbers just now.
        out.suspended = rails.is_empty();
        self.series.set(out, &rails);
        let (health, name) = (&self.context.health, &self.device.name);
        health.left_out("items", plan.left_out(), || {
            format!("json {name} has more than {MAX_ITEMS} items in a list")
        });
        health.left_out("rails", self.series.take_left_out(), || {
            format!("json {name} has more than {MAX_RAILS} rails")
        });
        Ok(plan)
    }

    /// The place of a path among those that are late.
    fn late_place(&self, plan: &Plan, path: usize) -> Option<usize> {
        let path = plan.paths.get(path)?;
        self.late.iter().position(|late| late.path == *path)
    }

    /// A path has no answer: it is the last that is got from now on, and not before this time.
    fn set_late(&mut self, plan: &Plan, path: usize, until: BootTime, error: &Error) {
        self.set_on_time(plan, path);
        if let Some(path) = plan.paths.get(path) {
            self.late.push(Late {
                path: path.clone(),
                until,
                why: error.to_string(),
            });
        }
    }

    fn set_on_time(&mut self, plan: &Plan, path: usize) {
        if let Some(at) = self.late_place(plan, path) {
            self.late.remove(at);
        }
    }

    /// Parses an answer. The error may be a refusal of the login.
    fn parse(&self, url: &str, body: &[u8]) -> Result<Value, Error> {
        let answer = json_answer::parse(body).map_err(|why| self.error(url, &why))?;
        let refusal = self
            .profile
            .login_error
            .as_ref()
            .and_then(|pointer| pointer.find(&answer));
        match refusal {
            Some(_) => Err(self.login_refused(url, "")),
            None => Ok(answer),
        }
    }

    /// `note`: where a redirect leads to, or which login is asked for.
    fn refused(&self, url: &str, status: u16, note: &str) -> Error {
        match status {
            401 => self.login_refused(url, note),
            403 => self
                .error(url, "the device refuses it (status 403)")
                .hint("may this login read it?")
                .retry_after(LOGIN_RETRY_DELAY),
            300..=399 => {
                let to = match note {
                    "" => String::new(),
                    to => format!(" to {to}"),
                };
                self.error(
                    url,
                    &format!("the answer is a redirect{to}, which is not followed"),
                )
                .hint("is the url the device's own? `follow_redirects: true` allows it")
            }
            404 => self.error(url, "it is not there (status 404)"),
            status => self.error(url, &format!("the answer has the status {status}")),
        }
    }

    /// `scheme`: the kind of login that is asked for, if that is known.
    fn login_refused(&self, url: &str, scheme: &str) -> Error {
        let client = &self.device.client;
        let (what, hint) = match client.basic_auth.is_none() && client.authorization.is_none() {
            true => (
                "the device asks for a login",
                "set `basic_auth`, or `authorization` for a token",
            ),
            // Many that ask for Digest take Basic as well.
            false if scheme.eq_ignore_ascii_case("Digest") => (
                "the device refuses the login",
                "are user name and password those of the device? It asks for a Digest login, and cannot be read if it takes no \
                 other",
            ),
            false => (
                "the device refuses the login",
                "are user name, password or token those of the device?",
            ),
        };
        self.error(url, what)
            .hint(hint)
            .retry_after(LOGIN_RETRY_DELAY)
    }

    fn error(&self, url: &str, what: &str) -> Error {
        Error::new(format!("{}: {what}", url_without_secrets(url)))
    }

    /// The URL of a path. With a profile, `url` is where the device's paths begin. Without one it is what is got, and other
    /// paths are on the same server.
    fn url(&self, path: Option<&str>) -> String {
        let url = self.device.url.as_str();
        let Some(path) = path else {
            return url.to_string();
        };
        let bare = url.split(['?', '#']).next().unwrap_or(url);
        let base = match self.device.profile {
            GENERIC => {
                let host = bare.find("://").map_or(0, |at| at + 3);
                let rest = bare.get(host..).unwrap_or_default();
                let end = rest.find('/').map_or(bare.len(), |at| host + at);
                bare.get(..end).unwrap_or(bare)
            }
            _ => bare.trim_end_matches('/'),
        };
        format!("{base}{path}")
    }

    /// Says which values are missing: each once in the log, and all where the source's health is shown.
    fn complain(&mut self, plan: &Plan) {
        let name = &self.device.name;
        let mut complaints = BTreeMap::new();
        let mut are_read = BTreeSet::new();
        for (rail, key, outcome) in plan.outcomes() {
            let value = match rail {
                "" => format!("{name}: {key}"),
                rail => format!("{name}/{rail}: {key}"),
            };
            // What was missing stays so until it is read, also in a new plan.
            let known = self.complaints.get(&value);
            let complaint = match outcome {
                Outcome::Missing { why, is_expected } if is_expected || known.is_some() => {
                    Some(format!("{value}: {why}"))
                }
                Outcome::Missing { .. } => None,
                Outcome::NotAsked => known.cloned(),
                Outcome::Read => {
                    are_read.insert(value);
                    continue;
                }
            };
            if let Some(complaint) = complaint {
                complaints.insert(value, complaint);
            }
        }
        let health = &self.context.health;
        for (value, complaint) in &complaints {
            if !self.complaints.contains_key(value) {
                log::warn!("json {complaint}");
            }
            health.set_value_error(Path::new(value), Some(complaint.clone()));
        }
        for value in self
            .complaints
            .keys()
            .filter(|value| !complaints.contains_key(*value))
        {
            match are_read.contains(value) {
                true => log::info!("json {value} can be read"),
                false => log::info!("json {value} is no longer requested"),
            }
            health.set_value_error(Path::new(value), None);
        }
        self.complaints = complaints;
    }
}

/// Whether a status says that there is nothing at a path, rather than that it cannot be got now (RFC 9110, 15).
fn says_absent(status: u16) -> bool {
    matches!(status, 300..=499 | 501) && !matches!(status, 403 | 408 | 429)
}

/// The paths that are at a pointer, and how many more there are. What cannot be put after a server's name is none.
fn paths_at(pointer: &Pointer, answer: &Value) -> (Vec<String>, usize) {
    let (values, left_out) = match pointer.find(answer) {
        None => (Vec::new(), 0),
        Some(Found::One(value)) => (vec![value], 0),
        Some(Found::Many {
            items, left_out, ..
        }) => (
            items.into_iter().map(|(_, value)| value).collect(),
            left_out,
        ),
    };
    let paths = values
        .into_iter()
        .filter_map(Value::as_str)
        .filter(|path| is_path(path));
    (paths.map(str::to_string).collect(), left_out)
}

/// The rails of a profile's devices in one answer, as if all paths were answered so. For fuzzing: pure, bounded, and without
/// series.
pub fn read_with_profile(profile: &str, body: &[u8]) -> Result<Vec<RailReading>, String> {
    let answer = json_answer::parse(body)?;
    let profile = Profile::get(profile).map_err(|error| error.message)?;
    let own = match profile.entity {
        Some(_) => RailValues::of_entity("x"),
        None => Vec::new(),
    };
    let paths = match &profile.members {
        Some(members) => paths_at(&members.pointer, &answer).0,
        None => Vec::new(),
    };
    let found: Vec<_> = paths.into_iter().map(|path| (path, None)).collect();
    let mut plan = Plan::new(&profile.rails(&own), &own, &members(&found));
    for path in plan.begin() {
        plan.take(path, &answer);
    }
    plan.end();
    Ok(plan.rails())
}

/// The power at a pointer in an answer. For fuzzing.
pub fn read_pointer(pointer: Pointer, body: &[u8]) -> Result<Reading, String> {
    let place = Place {
        at: At::Pointer(pointer),
        unit: None,
        factor: 1.0,
        path: None,
    };
    let reading = place.read(quantity::Quantity::Power, &json_answer::parse(body)?);
    reading.map_err(|miss| miss.text)
}

#[cfg(test)]
mod tests;
