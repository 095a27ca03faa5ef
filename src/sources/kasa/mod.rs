//! TP-Link Kasa plugs and strips (HS110, HS300, KP115, …), by the protocol that their firmware has at TCP port 9999. Each device has
//! a thread of its own, so that a device that does not respond delays only itself.
//!
//! * **A rail** is `<device>`, or `<device>/<n>` for each socket of a strip, from 0. Each socket of a strip is asked for by itself.
//! * **Energy** follows the device's own counter, as that of [`json`](super::json)'s devices does: it has whole watt-hours.
//! * **The board's total** is the device with `power_total`: all of it, or one `socket`.
//! * The protocol has no login, and what it hides it hides from nobody.

pub mod answer;
mod connection;
pub mod frame;
pub mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::answer::{Identity, MAX_SOCKETS};
use self::connection::{Connection, POLL_TIMEOUT};
use self::settings::{Plug, Settings};
use super::json::{DeviceSeries, RailReading};
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
        "kasa",
        "TP-Link Kasa plugs and strips that measure energy, by their own protocol",
        |config| config.meter::<Settings>().enabled,
        probe,
        open,
    )
};

/// The delay after a device turned out to have no meter.
const NO_METER_DELAY: Duration = Duration::from_secs(60);
const GET_IDENTITY: &str = r#"{"system":{"get_sysinfo":{}}}"#;
const GET_READING: &str = r#"{"emeter":{"get_realtime":{}}}"#;

fn devices(config: &Config) -> Vec<Device> {
    let devices = config.meter::<Settings>().devices.into_iter();
    devices
        .map(|plug| Device {
            name: plug.name().to_string(),
            settings: Some(Arc::new(plug)),
        })
        .collect()
}

fn probe(_: &Board, config: &Config) -> Result<String, Error> {
    let show = |plug: &Plug| match &plug.name {
        Some(name) => format!("{name} ({})", plug.host),
        None => plug.host.clone(),
    };
    match config.meter::<Settings>().devices.as_slice() {
        [] => Err(nothing_to_read()),
        devices => Ok(devices.iter().map(show).collect::<Vec<_>>().join(", ")),
    }
}

fn nothing_to_read() -> Error {
    Error::new("no plug is configured").hint("add it to kasa.devices")
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let mut devices = context.config.meter::<Settings>().devices.into_iter();
    let plug = devices
        .find(|plug| plug.name() == context.device.name)
        .ok_or_else(nothing_to_read)?;
    Ok(Box::new(Kasa {
        connection: Connection::new(&plug.host, context.health.io_log()),
        series: DeviceSeries::new(&context.group, plug.name(), plug.power_total),
        identity: None,
        last_mac: None,
        has_socket: true,
        plug,
        context: context.clone(),
    }))
}

struct Kasa {
    plug: Plug,
    connection: Connection,
    /// `None` at first, and after a failure, since another device may answer next.
    identity: Option<Identity>,
    /// The MAC address of the device that answered last.
    last_mac: Option<String>,
    /// Whether the device had the configured socket at the last poll.
    has_socket: bool,
    series: DeviceSeries,
    context: Context,
}

impl Source for Kasa {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let deadline = Instant::now() + POLL_TIMEOUT;
        let identity = match self.identity.take() {
            Some(identity) => identity,
            None => self.identify(deadline)?,
        };
        let readings = self.read(&identity, deadline)?;
        self.series.set(out, &readings);
        self.identity = Some(identity);
        Ok(())
    }

    fn reconnects(&self) -> bool {
        true
    }
}

impl Kasa {
    fn identify(&mut self, deadline: Instant) -> Result<Identity, Error> {
        let body = self.connection.ask(GET_IDENTITY, deadline)?;
        let identity = Identity::parse(&body).map_err(|why| self.connection.error(&why))?;
        let Identity { model, mac, .. } = &identity;
        if !identity.measures {
            let what = format!("nothing on it measures energy (a {model})");
            let error = self.connection.error(&what);
            return Err(error.retry_after(NO_METER_DELAY));
        }
        let name = self.plug.name();
        if self.last_mac.as_ref() != Some(mac) {
            log::info!("kasa {name}: it is a {model}, MAC address {mac}");
            if self.last_mac.replace(mac.clone()).is_some() {
                // The counters of another device begin elsewhere: what they jump by is no consumption.
                self.series.forget_counters();
            }
        }
        let health = &self.context.health;
        health.left_out("sockets", identity.left_out as u64, || {
            format!("kasa {name} has more than {MAX_SOCKETS} sockets, or sockets without an id")
        });
        let socket = self.plug.socket.and_then(|n| usize::try_from(n).ok());
        let id = |n: usize| identity.sockets.get(n).filter(|id| !id.is_empty());
        let has_socket = socket.is_none_or(|n| id(n).is_some());
        if !has_socket && self.has_socket {
            let (socket, sockets) = (self.plug.socket.unwrap_or(0), identity.sockets.len());
            log::warn!("kasa {name}: it has no socket {socket} (of {sockets}, from 0)");
        }
        self.has_socket = has_socket;
        Ok(identity)
    }

    /// Reads all sockets.
    fn read(&mut self, identity: &Identity, deadline: Instant) -> Result<Vec<RailReading>, Error> {
        if identity.sockets.is_empty() {
            return Ok(vec![self.read_one(GET_READING, String::new(), deadline)?]);
        }
        let mut readings = Vec::new();
        let sockets = identity.sockets.iter().enumerate();
        for (n, id) in sockets.filter(|(_, id)| !id.is_empty()) {
            if self.context.stop.is_set() {
                return Err(Error::new("it ends"));
            }
            let request = format!(
                r#"{{"context":{{"child_ids":["{id}"]}},"emeter":{{"get_realtime":{{}}}}}}"#
            );
            let mut reading = self.read_one(&request, n.to_string(), deadline)?;
            // The total has the parts of nothing: the other sockets do not feed the board.
            reading.is_part = self.plug.socket.is_some_and(|socket| socket as usize != n);
            readings.push(reading);
        }
        Ok(readings)
    }

    fn read_one(
        &mut self,
        request: &str,
        name: String,
        deadline: Instant,
    ) -> Result<RailReading, Error> {
        let body = self.connection.ask(request, deadline)?;
        answer::reading(&body, name).map_err(|why| self.connection.error(&why))
    }
}
