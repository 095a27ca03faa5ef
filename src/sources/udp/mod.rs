//! A device that says by UDP what it measures: its current, and the charge that has flown since it started.
//!
//! Names and messages are those of esp32-edge-energy-measurement, whose exporter, device agent and ESP32 it can stand
//! beside. Only what the device itself sends counts, whole and plausible; all else is counted by kind and changes
//! nothing.

mod line;
mod link;
pub mod message;
mod request;
pub mod settings;
mod stream;
pub mod total;

pub use request::REQUEST;

use std::sync::Arc;

use self::link::Device;
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

/// The rail of the device's current, in the families that all meters share.
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
    let speaks = match udp.mode {
        Mode::Listen => Speaks::Unasked(Stream::listen(context)?),
        Mode::Subscribe => Speaks::Unasked(Stream::subscribe(context, device()?)?),
        Mode::Request => {
            let pause = udp.interval.unwrap_or(context.interval);
            // A request that is lost takes longer than one that is answered.
            context.group.set_interval(pause.max(udp.timeout));
            Speaks::Asked(Request::open(context, device()?, pause)?)
        }
    };
    let exported = (series.exported > 0.0).then_some(series.exported * 1000.0);
    Ok(Box::new(Udp {
        speaks,
        series,
        total: Total::resume(exported),
    }))
}

struct Udp {
    speaks: Speaks,
    series: Series,
    total: Total,
}

enum Speaks {
    Asked(Request),
    Unasked(Stream),
}

impl Source for Udp {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let message = match &mut self.speaks {
            Speaks::Asked(request) => request.next(&self.total)?,
            Speaks::Unasked(stream) => stream.next(&self.total)?,
        };
        if let Some((at, message)) = message {
            out.at = at;
            if let Some(jump) = self.total.take(&message, at) {
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
    /// What `charge` was last, in ampere-seconds.
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
        // In the precision of the message: 1.5999999046325684 A, in the original's README, is such a quotient (of the
        // float next below 1600 mA), and none of doubles.
        let amperes = f64::from(message.current / 1000.0);
        let charge = total.milliampere_seconds();
        // Adding up and dividing round: what is exported must not fall for that.
        self.exported = self.exported.max(charge / 1000.0);
        out.set(self.charge, self.exported);
        out.set(self.current, amperes);
        out.set(self.amperes, amperes);
        if let Some(Power { volts, rail, total }) = &mut self.power {
            let watts = amperes * *volts;
            // The device counts the charge between two messages too: that is better than integrating what they say.
            let steps = (self.exported * 1e6) as u64;
            rail.set_coarse_counter(out, steps, *volts * 1e-6);
            let watts = rail.set_power(out, watts);
            total.set_counted(out, watts, rail.last_counted().unwrap_or(0.0));
        }
    }
}
