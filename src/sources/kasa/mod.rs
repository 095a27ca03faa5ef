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
pub(super) mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::answer::Identity;
use self::connection::{Connection, POLL_TIMEOUT};
use self::settings::Settings;
use self::state::PlugState;
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
pub(super) const NO_METER_DELAY: Duration = Duration::from_secs(60);

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
    match config.meter::<Settings>().devices.as_slice() {
        [] => Err(nothing_to_read()),
        devices => Ok(settings::shown(devices)),
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
        state: PlugState::new(METER.name, plug, context),
        identity: None,
    }))
}

struct Kasa {
    connection: Connection,
    /// `None` at first, and after a failure, since another device may answer next.
    identity: Option<Identity>,
    state: PlugState,
}

impl Source for Kasa {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let deadline = Instant::now() + POLL_TIMEOUT;
        let identity = match self.identity.take() {
            Some(identity) => identity,
            None => self.identify(deadline)?,
        };
        let connection = &mut self.connection;
        let readings = self.state.read(&identity, |socket, name| {
            let body = connection.ask(&answer::reading_request(socket), deadline)?;
            answer::reading(&body, name).map_err(|why| connection.error(&why))
        })?;
        self.state.set(out, &readings);
        self.identity = Some(identity);
        Ok(())
    }

    fn reconnects(&self) -> bool {
        true
    }
}

impl Kasa {
    fn identify(&mut self, deadline: Instant) -> Result<Identity, Error> {
        let body = self.connection.ask(answer::GET_IDENTITY, deadline)?;
        let identity = Identity::parse(&body).map_err(|why| self.connection.error(&why))?;
        if !identity.measures {
            let what = format!("nothing on it measures energy (a {})", identity.model);
            let error = self.connection.error(&what);
            return Err(error.retry_after(NO_METER_DELAY));
        }
        self.state.recognize(&identity);
        Ok(identity)
    }
}
