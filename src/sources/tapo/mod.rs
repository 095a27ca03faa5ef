//! TP-Link Tapo plugs and strips (P110, P115, P304M, …), and Kasa devices whose firmware has the newer protocol, by that protocol:
//! KLAP, over HTTP, with the login of the app's account. Each device has a thread of its own, so that a device that does not respond
//! delays only itself.
//!
//! * **Rails** are as in [`kasa`](super::kasa): `<device>`, or `<device>/<n>` for each socket of a strip, by the strip's own numbers.
//! * **Energy** follows one of the device's counters: since the month began, else since midnight, else since the device had no power.
//!   Each has whole watt-hours. When it is reset, the total grows on from there.
//! * **What is asked** depends on the device: Tapo's methods; or Kasa's, which some firmware has kept beneath the newer protocol.

pub mod answer;
mod connection;
pub mod klap;
pub mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::answer::{Counter, Measured, MEASUREMENTS};
use self::connection::Connection;
use self::klap::Version;
use self::settings::Settings;
use super::kasa::answer::{self as kasa_answer, Identity, MAX_SOCKETS};
use super::kasa::settings::shown;
use super::kasa::state::PlugState;
use super::kasa::NO_METER_DELAY;
use super::{Board, Context, Device, Error, Meter, Pace, Source};
use crate::config::Config;
use crate::metrics::Readings;

/// The meter.
pub(super) const METER: Meter = Meter {
    // The devices measure about once a second.
    pace: Pace::AtLeast(Duration::from_secs(1)),
    read_timeout: Duration::from_secs(12),
    devices: Some(devices),
    ..Meter::of::<Settings>(
        "tapo",
        "TP-Link Tapo plugs and strips that measure energy, and newer Kasa ones, by HTTP (KLAP)",
        |config| config.meter::<Settings>().enabled,
        probe,
        open,
    )
};

/// The time limit for all that one poll asks for, to which the last answer's own is added.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a plug that refused something is asked for it again.
const ASK_AGAIN_DELAY: Duration = Duration::from_secs(300);
const GET_IDENTITY: &str = "get_device_info";

fn devices(config: &Config) -> Vec<Device> {
    let Settings { login, devices, .. } = config.meter();
    let devices = devices.into_iter();
    devices
        .map(|plug| Device {
            name: plug.name().to_string(),
            settings: Some(Arc::new((plug, login.clone()))),
        })
        .collect()
}

fn probe(_: &Board, config: &Config) -> Result<String, Error> {
    match config.meter::<Settings>().devices.as_slice() {
        [] => Err(nothing_to_read()),
        devices => Ok(shown(devices)),
    }
}

fn nothing_to_read() -> Error {
    Error::new("no plug is configured").hint("add it to tapo.devices")
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let settings: Settings = context.config.meter();
    let mut devices = settings.devices.iter();
    let plug = devices
        .find(|plug| plug.name() == context.device.name)
        .ok_or_else(nothing_to_read)?;
    let io_log = context.health.io_log();
    Ok(Box::new(Tapo {
        connection: Connection::new(plug.name(), &plug.host, &settings.login, io_log),
        state: PlugState::new(METER.name, plug.clone(), context),
        known: None,
        counter: None,
    }))
}

struct Tapo {
    connection: Connection,
    /// `None` at first, and after a failure, since another device may answer next.
    known: Option<Known>,
    /// The counter that is followed. It is not exchanged for another one, which would be a jump.
    counter: Option<Counter>,
    state: PlugState,
}

/// Who answers, and what it can be asked for.
struct Known {
    identity: Identity,
    methods: Methods,
    /// When it is asked again what it can be asked for, since it refused something: a plug without the time refuses its energy.
    until: Option<Instant>,
}

enum Methods {
    /// These of [`MEASUREMENTS`].
    Tapo(Vec<&'static str>),
    Kasa,
}

impl Source for Tapo {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let result = self.read(out);
        if result.is_err() {
            self.known = None;
            self.connection.forget_session();
        }
        result
    }

    fn reconnects(&self) -> bool {
        true
    }
}

impl Tapo {
    fn read(&mut self, out: &mut Readings) -> Result<(), Error> {
        self.connection.begin_poll(Instant::now() + POLL_TIMEOUT);
        let is_valid = |known: &Known| known.until.is_none_or(|until| Instant::now() < until);
        let Known {
            identity,
            methods,
            until,
        } = match self.known.take().filter(is_valid) {
            Some(known) => known,
            None => self.identify()?,
        };
        let Tapo {
            connection,
            counter,
            state,
            ..
        } = self;
        let readings = state.read(&identity, |socket, name| match &methods {
            Methods::Kasa => {
                let body = connection.ask(&kasa_answer::reading_request(socket))?;
                kasa_answer::reading(&body, name).map_err(|why| connection.error(&why))
            }
            Methods::Tapo(methods) => {
                let mut measured = Measured::default();
                for method in methods {
                    let body = connection.ask(&answer::request(method, socket))?;
                    let added = measured.add(method, &body, socket.is_some());
                    added.map_err(|why| connection.error(&format!("{method}: {why}")))?;
                }
                *counter = counter.or_else(|| measured.counter());
                Ok(measured.reading(name, *counter))
            }
        })?;
        state.set(out, &readings);
        self.known = Some(Known {
            identity,
            methods,
            until,
        });
        Ok(())
    }

    fn identify(&mut self) -> Result<Known, Error> {
        let known = match self.connection.version()? {
            Version::First => self.identify_kasa()?,
            // Some Kasa firmware has this version, too.
            Version::Second => match self.identify_tapo() {
                Ok(known) => known,
                Err(error) if error.min_retry_delay().is_some() => return Err(error),
                Err(error) => self.identify_kasa().map_err(|_| error)?,
            },
        };
        if self.state.recognize(&known.identity) {
            self.counter = None;
        }
        Ok(known)
    }

    fn identify_kasa(&mut self) -> Result<Known, Error> {
        let body = self.connection.ask(kasa_answer::GET_IDENTITY)?;
        let identity = Identity::parse(&body).map_err(|why| self.connection.error(&why))?;
        match identity.measures {
            true => Ok(Known {
                identity,
                methods: Methods::Kasa,
                until: None,
            }),
            false => Err(self.no_meter(&identity, "")),
        }
    }

    fn identify_tapo(&mut self) -> Result<Known, Error> {
        let connection = &mut self.connection;
        let body = connection.ask(&answer::request(GET_IDENTITY, None))?;
        let found = answer::identity(&body).map_err(|why| connection.error(&why));
        let (mut identity, is_strip) = found?;
        let mut asked = 0;
        while is_strip && asked < MAX_SOCKETS {
            let body = connection.ask(&answer::sockets_request(asked))?;
            let added = answer::add_sockets(&body, &mut identity);
            let (sockets, all) = added.map_err(|why| connection.error(&why))?;
            asked += sockets;
            if sockets == 0 || asked >= all {
                break;
            }
        }
        // All sockets can be asked for the same.
        let socket = identity.sockets().next().map(|(_, id)| id.to_string());
        let mut measured = Measured::default();
        let (mut methods, mut why_not) = (Vec::new(), String::new());
        for method in MEASUREMENTS {
            if method == "get_current_power" && measured.has_power() {
                continue;
            }
            let body = connection.ask(&answer::request(method, socket.as_deref()))?;
            match measured.add(method, &body, socket.is_some()) {
                Ok(true) => methods.push(method),
                Ok(false) => {}
                Err(why) => why_not = format!("; {method}: {why}"),
            }
        }
        match methods.is_empty() {
            true => Err(self.no_meter(&identity, &why_not)),
            false => Ok(Known {
                identity,
                methods: Methods::Tapo(methods),
                until: (!why_not.is_empty()).then(|| Instant::now() + ASK_AGAIN_DELAY),
            }),
        }
    }

    fn no_meter(&self, identity: &Identity, why: &str) -> Error {
        let what = format!("nothing on it measures energy (a {}{why})", identity.model);
        let error = self.connection.error(&what).retry_after(NO_METER_DELAY);
        match why {
            "" => error,
            _ => error.hint("a plug that does measure refuses it while its clock is not set"),
        }
    }
}
