//! A device that sends its measurements by UDP: its current, and its charge since it started.
//!
//! Metric names and messages are those of esp32-edge-energy-measurement, and this meter works with its exporter, its device
//! agent and its ESP32. Only complete and plausible messages of the device itself are used. All other datagrams are counted
//! by kind and ignored.

mod channel;
mod counts;
mod device;
pub mod message;
mod request;
pub mod settings;
mod stream;
pub mod total;

pub use request::REQUEST;

use std::sync::Arc;

use self::device::Device;
use self::message::PowerMeasurement;
use self::request::Request;
use self::settings::{Mode, Settings};
use self::stream::Stream;
use self::total::Total;
use super::{Board, Context, Device as DeviceSpec, Error, Meter, Pace, Source};
use crate::config::Config;
use crate::metrics::common::{current_amperes, rail_series};
use crate::metrics::{Desc, Grade, Rail, Readings, RejectReason, SeriesId, Total as BoardTotal};

/// The meter.
pub const METER: Meter = Meter {
    pace: Pace::Device,
    devices: Some(|config| {
        let settings: Settings = config.meter();
        vec![DeviceSpec {
            name: String::new(),
            settings: Some(Arc::new((settings, config.listen_address.clone()))),
        }]
    }),
    ..Meter::of::<Settings>(
        "udp",
        "a device that sends protobuf messages by UDP: current and charge",
        |config| config.meter::<Settings>().enabled,
        probe,
        open,
    )
};

/// The rail of the device's current, in the families that all meters have.
const RAIL: &str = "device";

fn probe(_board: &Board, config: &Config) -> Result<String, Error> {
    let udp: Settings = config.meter();
    match (udp.mode, &udp.host) {
        (Mode::Listen, None) => Ok(format!("whoever sends to port {}", udp.port)),
        (Mode::Listen, Some(host)) => Ok(format!("what {host} sends to port {}", udp.port)),
        (Mode::Request, Some(host)) => Ok(format!("{host}, port {}", udp.port)),
        (Mode::Subscribe, Some(host)) => Ok(format!(
            "{host}, port {}, channel {}",
            udp.port, udp.channel
        )),
        (_, None) => {
            Err(Error::new("the configuration names no device").hint("udp.host is its address"))
        }
    }
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let udp: Settings = context.config.meter();
    let series = Series::new(context);
    let device = || match &udp.host {
        Some(host) => Device::new(context.health.io_log(), host, udp.port),
        None => Err(Error::new("udp.host names no device")),
    };
    let protocol = match udp.mode {
        Mode::Listen => Protocol::Stream(Stream::listen(context)?),
        Mode::Subscribe => Protocol::Stream(Stream::subscribe(context, device()?)?),
        Mode::Request => {
            let pause = udp.interval.unwrap_or(context.interval);
            // A request that times out takes longer than one that is answered.
            context.group.set_interval(pause.max(udp.timeout));
            Protocol::Request(Request::open(context, device()?, pause)?)
        }
    };
    let exported = (series.exported > 0.0).then_some(series.exported * 1000.0);
    Ok(Box::new(Udp {
        protocol,
        series,
        total: Total::resume(exported),
    }))
}

struct Udp {
    protocol: Protocol,
    series: Series,
    total: Total,
}

/// How messages are obtained.
enum Protocol {
    Request(Request),
    Stream(Stream),
}

impl Source for Udp {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let message = match &mut self.protocol {
            Protocol::Request(request) => request.next(&self.total)?,
            Protocol::Stream(stream) => stream.next(&self.total)?,
        };
        if let Some((at, message)) = message {
            out.at = at;
            if let Some(jump) = self.total.add(&message, at) {
                let charge = jump.milliampere_seconds / 1000.0;
                out.reject(self.series.charge, charge, RejectReason::Jump(jump.seconds));
            }
            self.series.set(out, &message, &self.total);
        }
        Ok(())
    }
}

struct Series {
    charge: SeriesId,
    /// The last exported value of `charge`, in ampere-seconds.
    exported: f64,
    current: SeriesId,
    amperes: SeriesId,
    power: Option<Power>,
}

struct Power {
    volts: f64,
    rail: Rail,
    total: BoardTotal,
}

impl Series {
    fn new(context: &Context) -> Series {
        let group = &context.group;
        let charge = group.series(
            &Desc::counter(
                "powerexporter_power_consumption_ampere_seconds_total",
                "The total power consumption given in ampere-seconds.",
            ),
            &[],
        );
        let current = group.series(
            &Desc::gauge(
                "powerexporter_current_ampere",
                "The electric current given in ampere.",
            ),
            &[],
        );
        let settings: Settings = context.config.meter();
        if settings.start_at_zero {
            group.set_initial_value(charge, 0.0);
            group.set_initial_value(current, 0.0);
        }
        Series {
            exported: group.value(charge).unwrap_or(0.0),
            charge,
            current,
            amperes: rail_series(group, &current_amperes(), RAIL),
            power: settings.voltage.map(|volts| Power {
                volts,
                rail: Rail::new(group, RAIL),
                total: BoardTotal::new(group, Grade::Other),
            }),
        }
    }

    fn set(&mut self, out: &mut Readings, message: &PowerMeasurement, total: &Total) {
        // The division is in single precision, as the message is. The replaced exporter's README shows
        // 1.5999999046325684 A, which is such a quotient (of the float next below 1600 mA) and not a quotient of doubles.
        let amperes = f64::from(message.current / 1000.0);
        let charge = total.milliampere_seconds();
        // Adding and dividing round. The exported counter must not fall because of rounding.
        self.exported = self.exported.max(charge / 1000.0);
        out.set(self.charge, self.exported);
        out.set(self.current, amperes);
        out.set(self.amperes, amperes);
        if let Some(Power { volts, rail, total }) = &mut self.power {
            let watts = amperes * *volts;
            // The device also counts the charge between two messages, so its counter is better than integrating their
            // currents.
            let steps = (self.exported * 1e6) as u64;
            rail.set_coarse_counter(out, steps, *volts * 1e-6);
            let watts = rail.set_power(out, watts);
            total.set_counted(out, watts, rail.last_counted().unwrap_or(0.0));
        }
    }
}
