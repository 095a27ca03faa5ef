//! Shelly plugs, switches and energy meters, read by HTTP: the first generation by `/status`, Gen2 and later by RPC. Each
//! device has a thread of its own, so that a device that does not respond delays only itself.
//!
//! * Every channel has the metrics of the replaced Shelly exporter (`shelly_…`), with the labels `device` and `channel`, and
//!   those that all meters have, with `rail="<device>/<channel>"`. The name of a device is its `name`, or its `host`.
//! * **Energy**: `energy_joules_total` follows the device's own counter, which also counts while the network is down. When
//!   the counter falls, the device was restarted or reset, and the total grows on from there. The power of a channel
//!   without a counter is integrated. Energy that flows back is counted by `energy_returned_joules_total`, and is not part of
//!   `energy_joules_total`. The sum of a three-phase meter is the rail `em:0`, beside its phases `em:0/a`, `b`, `c`.
//! * **The board's total** (`power_total_watts`, and the replaced exporter's `power_voltage_volts` and `power_current_amps`)
//!   is that of the switch `switch_id` of the first device, if `device_type` is `shelly` or `shelly.power_total` is set.

mod basic;
mod channel;
mod client;
pub mod digest;
pub mod gen1;
pub mod gen2;
pub mod identity;
mod recorded;
mod series;
pub mod settings;
pub mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::client::{Client, RESPONSE_TIMEOUT};
use self::identity::{Generation, Identity};
use self::recorded::RecordedClient;
use self::series::DeviceSeries;
use self::settings::{Plug, Settings};
use self::status::{Channel, MAX_CHANNELS};
use super::host::Host;
use super::io_log::IoLog;
use super::{Board, Context, Device, Error, Health, Meter, Pace, Source};
use crate::config::{Config, Secret};
use crate::metrics::Readings;

/// The meter.
pub(super) const METER: Meter = Meter {
    device_types: &["shelly"],
    // The devices measure about once a second.
    pace: Pace::AtLeast(Duration::from_millis(500)),
    devices: Some(devices),
    ..Meter::of::<Settings>(
        "shelly",
        "Shelly plugs and energy meters (Gen1 to Gen4), by HTTP",
        |config| config.meter::<Settings>().enabled,
        probe,
        open,
    )
};

const HTTP_PORT: u16 = 80;

fn devices(config: &Config) -> Vec<Device> {
    let plugs = config.meter::<Settings>().plugs.into_iter().enumerate();
    plugs
        .map(|(index, plug)| Device {
            name: plug.name().to_string(),
            settings: Some(Arc::new((plug, is_total(config, index)))),
        })
        .collect()
}

/// Whether the plug at this index of the list feeds the board.
fn is_total(config: &Config, index: usize) -> bool {
    index == 0 && (config.meter::<Settings>().power_total || config.device_type == METER.name)
}

fn probe(_: &Board, config: &Config) -> Result<String, Error> {
    let show = |plug: &Plug| match &plug.name {
        Some(name) => format!("{name} ({})", plug.host),
        None => plug.host.clone(),
    };
    match config.meter::<Settings>().plugs.as_slice() {
        [] => Err(nothing_to_read()),
        plugs => Ok(plugs.iter().map(show).collect::<Vec<_>>().join(", ")),
    }
}

fn nothing_to_read() -> Error {
    Error::new("no plug is configured").hint("set shelly.host")
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let name = &context.device.name;
    let settings: Settings = context.config.meter();
    let mut plugs = settings.plugs.iter().enumerate();
    let (index, plug) = plugs
        .find(|(_, plug)| plug.name() == name)
        .ok_or_else(nothing_to_read)?;
    let switch_id = is_total(&context.config, index).then_some(plug.switch_id);
    Ok(Box::new(Shelly {
        host: Host::new(&plug.host, HTTP_PORT),
        plug: plug.clone(),
        connected: None,
        last: None,
        series: DeviceSeries::new(&context.group, name, switch_id),
        has_switch: true,
        measures: true,
        io_log: context.health.io_log().clone(),
        health: Arc::clone(&context.health),
    }))
}

struct Shelly {
    plug: Plug,
    host: Host,
    /// The connection and the device's identity. `None` after a failure, since another device may answer next.
    connected: Option<(RecordedClient, Identity)>,
    /// The device that answered last.
    last: Option<Identity>,
    series: DeviceSeries,
    /// Whether the configured switch was found at the last poll.
    has_switch: bool,
    /// Whether the device measured power at the last poll.
    measures: bool,
    io_log: IoLog,
    health: Arc<Health>,
}

impl Source for Shelly {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let deadline = Instant::now() + RESPONSE_TIMEOUT;
        let connected = match self.connected.take() {
            Some(connected) => connected,
            None => self.connect(deadline)?,
        };
        let (connected, channels) = read(connected, deadline)?;
        self.connected = Some(connected);
        let has_switch = self.series.set(out, &channels);
        self.health
            .left_out("channels", self.series.take_left_out(), || {
                let name = self.plug.name();
                format!("shelly {name} has more than {} channels", 2 * MAX_CHANNELS)
            });
        if !has_switch && self.has_switch {
            let names: Vec<_> = channels.iter().map(|c| c.name.as_str()).collect();
            log::warn!(
                "shelly {}: no meter for its switch {} (meters: {})",
                self.plug.name(),
                self.plug.switch_id,
                names.join(" ")
            );
        }
        self.has_switch = has_switch;
        // Checked after every poll, since a device may report less before it is set up.
        let measures = channels.iter().any(Channel::measures);
        if !measures && self.measures && has_switch {
            log::warn!(
                "shelly {}: the device ({}) does not measure power",
                self.plug.name(),
                self.last.as_ref().map_or("device", |last| &last.model)
            );
        }
        self.measures = measures;
        Ok(())
    }

    fn reconnects(&self) -> bool {
        true
    }
}

impl Shelly {
    /// Connects and identifies the device. The password is read again each time, since it may have been corrected.
    fn connect(&mut self, deadline: Instant) -> Result<(RecordedClient, Identity), Error> {
        let Shelly {
            plug, host, io_log, ..
        } = self;
        let mut client = RecordedClient::connect(io_log, || {
            let password = match (&plug.password, &plug.password_file) {
                (Some(password), _) => Some(password.reveal().to_string()),
                (None, Some(path)) => {
                    let password = Secret::read(path).map_err(Error::new)?;
                    Some(password.reveal().to_string())
                }
                (None, None) => None,
            };
            let addresses = host.resolve(deadline).map_err(Error::new)?;
            let authority = host.authority();
            Ok(Client::new(&authority, addresses, &plug.username, password))
        })?;
        let body = client.get_open("/shelly", deadline)?;
        let identity = Identity::parse(&body).map_err(|why| client.error("/shelly", &why))?;
        if self.last.as_ref() != Some(&identity) {
            let Identity { model, mac, .. } = &identity;
            log::info!(
                "shelly {}: it is a {model}, MAC address {mac}",
                self.plug.name()
            );
            if self.last.as_ref().is_some_and(|last| last.mac != *mac) {
                self.series.forget_counters();
            }
            self.last = Some(identity.clone());
        }
        Ok((client, identity))
    }
}

/// Reads all channels in one request.
fn read(
    (mut client, identity): (RecordedClient, Identity),
    deadline: Instant,
) -> Result<((RecordedClient, Identity), Vec<Channel>), Error> {
    let path = identity.status_path();
    let body = client.get(path, identity.generation, deadline)?;
    let parsed = match identity.generation {
        Generation::First => gen1::parse(&body),
        Generation::Rpc => gen2::parse(&body),
    };
    let mut channels = parsed.map_err(|why| client.error(path, &why))?;
    if identity.generation == Generation::First {
        gen1::drop_unmeasured_power(&identity.model, &mut channels);
    }
    Ok(((client, identity), channels))
}
