//! The UDP agent answers any datagram with this board's own current and charge: the other side of the UDP source.
//!
//! It replaces the device agent of esp32-edge-energy-measurement: the content of a request does not matter, and the
//! reply is empty before the first measurement.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Exporter;
use crate::config::Config;
use crate::metrics::{staleness_limit, Integrator, Series, Snapshot};
use crate::sources::udp::message::PowerMeasurement;
use crate::sources::Ticker;
use crate::sys::clock::BootTime;
use crate::sys::datagram::{bind, enable_packet_info, receive, reply};
use crate::sys::stop::{Stop, Woken};

/// Replies in a period of this length. Two agents that a forged datagram makes talk to each other would not stop
/// otherwise.
const MAX_REPLIES: u32 = 100;
const REPLY_PERIOD: Duration = Duration::from_millis(100);
const STACK: usize = 128 * 1024;

/// A running agent.
pub(super) struct UdpAgent {
    settings: String,
    port: u16,
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

impl UdpAgent {
    pub(super) fn start(exporter: &Arc<Exporter>, config: &Config) -> Result<UdpAgent, String> {
        let port = config.udp_agent.port;
        let host = config.listen_address.as_ref().and_then(|a| a.parse().ok());
        let socket = bind(host, port)
            .and_then(|socket| enable_packet_info(&socket).map(|()| socket))
            .map_err(|e| {
                format!(
                    "cannot listen on UDP port {port}: {e} (`ss -lunp` names who has it; udp_agent.port or --port \
                     chooses another)"
                )
            })?;
        if let Ok(address) = socket.local_addr() {
            log::info!("udp-agent: listening on {address}");
        }
        let stop = Arc::new(Stop::default());
        let agent = Agent {
            exporter: Arc::clone(exporter),
            socket,
            stop: Arc::clone(&stop),
            volts: config.udp_agent.voltage,
            interval: config.interval,
            meter: ChargeMeter::new(BootTime::now(), config.interval),
            quota: ReplyQuota::new(Instant::now()),
        };
        let thread = std::thread::Builder::new()
            .name("udp-agent".to_string())
            .stack_size(STACK)
            .spawn(move || agent.serve())
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(UdpAgent {
            settings: settings(config),
            port,
            stop,
            thread,
        })
    }

    /// Whether the agent has the settings of the configuration.
    pub(super) fn has_settings_of(&self, config: &Config) -> bool {
        self.settings == settings(config)
    }

    /// Whether the configuration has the agent's port.
    pub(super) fn has_port_of(&self, config: &Config) -> bool {
        self.port == config.udp_agent.port
    }

    pub(super) fn stop(self) {
        self.stop.set();
        // The thread waits for nothing but its socket and the stop signal.
        let _ = self.thread.join();
    }
}

fn settings(config: &Config) -> String {
    format!(
        "{:?} {:?} {:?}",
        config.udp_agent, config.listen_address, config.interval
    )
}

struct Agent {
    exporter: Arc<Exporter>,
    socket: UdpSocket,
    stop: Arc<Stop>,
    volts: Option<f64>,
    interval: Duration,
    meter: ChargeMeter,
    quota: ReplyQuota,
}

impl Agent {
    fn serve(mut self) {
        let mut ticker = Ticker::new(Instant::now(), self.interval);
        let mut next = Instant::now();
        loop {
            match self.stop.wait_readable(self.socket.as_fd(), next) {
                Woken::Stop => return,
                Woken::Ready => self.reply(),
                Woken::Time => {}
            }
            if Instant::now() >= next {
                let now = BootTime::now();
                let current = board_current(&self.exporter.registry.snapshot(now), self.volts);
                self.meter.measured(now, current);
                (next, _) = ticker.next(Instant::now());
            }
        }
    }

    fn reply(&mut self) {
        let sender = match receive(&self.socket) {
            Ok(sender) => sender,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return log::debug!("udp-agent: {error}"),
        };
        if !self.quota.take(Instant::now()) {
            return log::debug!("udp-agent: too many requests");
        }
        let datagram = self.meter.message.to_datagram();
        if let Err(error) = reply(&self.socket, &sender, &datagram) {
            log::debug!("udp-agent: {error}");
        }
    }
}

/// How many replies are left of a period, and when that began.
#[derive(Debug)]
struct ReplyQuota {
    since: Instant,
    left: u32,
}

impl ReplyQuota {
    fn new(now: Instant) -> ReplyQuota {
        ReplyQuota {
            since: now,
            left: MAX_REPLIES,
        }
    }

    /// Takes one reply of the quota at this moment, if one is left.
    fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= REPLY_PERIOD {
            *self = ReplyQuota::new(now);
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

/// The board's current.
#[derive(Debug, Clone, Copy, PartialEq)]
struct BoardCurrent {
    amperes: f64,
    /// The board's energy divided by the voltage, which is a charge in ampere-seconds from some beginning on. Only
    /// where the current is the board's power divided by that voltage.
    charge: Option<f64>,
}

/// Integrates current into charge.
struct ChargeMeter {
    started: BootTime,
    longest_gap: f64,
    charge: Integrator,
    /// The last charge that came from the board's energy.
    energy_charge: Option<f64>,
    message: PowerMeasurement,
}

impl ChargeMeter {
    fn new(started: BootTime, interval: Duration) -> ChargeMeter {
        ChargeMeter {
            started,
            longest_gap: staleness_limit(interval).as_secs_f64(),
            charge: Integrator::default(),
            energy_charge: None,
            message: PowerMeasurement::default(),
        }
    }

    /// Without a measurement the message stays the same, with its time.
    fn measured(&mut self, now: BootTime, current: Option<BoardCurrent>) {
        let Some(current) = current else {
            return;
        };
        // The original's firmware drops the sign of the current too.
        let amperes = current.amperes.abs();
        let integrated = self.charge.advance(now, amperes, self.longest_gap);
        let before = std::mem::replace(&mut self.energy_charge, current.charge);
        // The source that counts the board's energy has seen what happened between two of its readings.
        let energy_charge = current.charge.zip(before).map(|(now, before)| now - before);
        let charge = energy_charge.filter(|c| *c >= 0.0).unwrap_or(integrated) * 1000.0;
        let since = now.0.saturating_sub(self.started.0) / 1000;
        self.message = PowerMeasurement {
            timestamp: since.max(1),
            energy_consumption: self.message.energy_consumption + charge,
            current: (amperes * 1000.0) as f32,
        };
    }
}

/// The board's current. The source of the board's power is preferred: its one current if it measures just one, else its
/// power divided by the voltage, which is `volts` or the highest that the source measures (the input's). If no source
/// knows the power, the current is the one that is measured, if there is only one.
fn board_current(snapshot: &Snapshot, volts: Option<f64>) -> Option<BoardCurrent> {
    let measured = |amperes| BoardCurrent {
        amperes,
        charge: None,
    };
    let family = |name: &str| -> Vec<(&Series, f64)> {
        let family = snapshot.all().find(|f| f.family.name == name);
        family.map_or_else(Vec::new, |family| family.samples().collect())
    };
    let currents = family("current_amperes");
    let only = |currents: &[f64]| match currents {
        [one] => Some(*one),
        _ => None,
    };
    let Some((board, watts)) = family("power_total_watts").first().copied() else {
        let currents: Vec<_> = currents.iter().map(|(_, value)| *value).collect();
        return only(&currents).map(measured);
    };
    let of_source = |all: &[(&Series, f64)]| -> Vec<f64> {
        let own = all
            .iter()
            .filter(|(series, _)| series.source == board.source);
        own.map(|(_, value)| *value).collect()
    };
    if let Some(amperes) = only(&of_source(&currents)) {
        return Some(measured(amperes));
    }
    let highest = || {
        let volts = of_source(&family("voltage_volts"));
        volts.into_iter().max_by(f64::total_cmp)
    };
    let volts = volts.or_else(highest).filter(|volts| *volts > 0.0)?;
    let joules = family("board_energy_joules_total").first().copied();
    Some(BoardCurrent {
        amperes: watts / volts,
        charge: joules.map(|(_, joules)| joules / volts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::common::{current_amperes, rail_series, voltage_volts};
    use crate::metrics::{Grade, Policy, Readings, Registry, Total};

    const SECOND: u64 = 1_000_000_000;

    /// The board's current, from the total power, voltages and currents of two sources.
    fn current(sources: [(Option<f64>, &[f64], &[f64]); 2], volts: Option<f64>) -> Option<f64> {
        let registry = Registry::new(Policy::Listed([].into()));
        for (rank, (total, voltages, currents)) in sources.into_iter().enumerate() {
            let group = registry.add_group(rank as u32, ["first", "second"][rank], vec![]);
            let mut out = Readings::new(5.0);
            out.begin(BootTime(1));
            if let Some(watts) = total {
                Total::new(&group, Grade::Input).set_counted(&mut out, Some(watts), 100.0);
            }
            for (desc, values) in [(voltage_volts(), voltages), (current_amperes(), currents)] {
                for (i, value) in values.iter().enumerate() {
                    out.set(rail_series(&group, &desc, &i.to_string()), *value);
                }
            }
            group.publish(group.new_generation(), &out);
        }
        board_current(&registry.snapshot(BootTime(1)), volts).map(|current| current.amperes)
    }

    #[test]
    fn current_comes_from_the_source_of_the_power() {
        const NONE: (Option<f64>, &[f64], &[f64]) = (None, &[], &[]);
        let other: (Option<f64>, &[f64], &[f64]) = (None, &[99.0], &[99.0]);
        assert_eq!(current([NONE, NONE], Some(5.0)), None);
        assert_eq!(
            current([other, (Some(10.0), &[5.0], &[1.9])], None),
            Some(1.9)
        );
        assert_eq!(
            current([other, (Some(10.0), &[5.0, 3.3], &[])], None),
            Some(2.0)
        );
        assert_eq!(
            current([other, (Some(10.0), &[20.0, 5.0], &[1.0, 2.0])], None),
            Some(0.5)
        );
        assert_eq!(
            current([other, (Some(10.0), &[20.0], &[])], Some(4.0)),
            Some(2.5)
        );
        assert_eq!(current([other, (Some(10.0), &[], &[])], None), None);
        assert_eq!(current([other, (Some(10.0), &[0.0], &[])], None), None);
        assert_eq!(current([other, NONE], None), Some(99.0));
        assert_eq!(current([other, other], None), None, "which?");
    }

    #[test]
    fn replies_are_limited_in_each_period() {
        let start = Instant::now();
        let mut quota = ReplyQuota::new(start);
        let mut given =
            |at: Duration, asked: u32| (0..asked).filter(|_| quota.take(start + at)).count();
        let most = MAX_REPLIES as usize;
        assert_eq!(given(Duration::ZERO, 3), 3);
        assert_eq!(given(REPLY_PERIOD / 2, 10 * MAX_REPLIES), most - 3);
        assert_eq!(given(REPLY_PERIOD - Duration::from_nanos(1), 10), 0);
        assert_eq!(given(REPLY_PERIOD, 10 * MAX_REPLIES), most);
        // Unused replies are not saved up.
        assert_eq!(given(REPLY_PERIOD * 100, 10 * MAX_REPLIES), most);
        assert_eq!(given(REPLY_PERIOD * 100 + REPLY_PERIOD / 2, 1), 0);
    }

    #[test]
    fn current_is_integrated_and_silence_adds_nothing() {
        let mut meter = ChargeMeter::new(BootTime(SECOND), Duration::from_secs(1));
        meter.measured(BootTime(SECOND), None);
        assert_eq!(meter.message.to_datagram(), b"");
        let amperes = |amperes| {
            Some(BoardCurrent {
                amperes,
                charge: None,
            })
        };
        meter.measured(BootTime(2 * SECOND), amperes(1.0));
        meter.measured(BootTime(4 * SECOND), amperes(-2.0));
        let message = meter.message;
        assert_eq!(message.timestamp, 3_000_000);
        assert_eq!(message.energy_consumption, 3000.0);
        assert_eq!(message.current, 2000.0);
        meter.measured(BootTime(5 * SECOND), None);
        assert_eq!(meter.message, message);
        meter.measured(BootTime(20 * SECOND), amperes(1.0));
        assert_eq!(meter.message.energy_consumption, 3000.0);
    }

    #[test]
    fn charge_comes_from_the_boards_energy_where_counted() {
        let mut meter = ChargeMeter::new(BootTime(SECOND), Duration::from_secs(1));
        let mut charge = |second: u64, charge: Option<f64>| {
            let current = BoardCurrent {
                amperes: 1.0,
                charge,
            };
            meter.measured(BootTime(second * SECOND), Some(current));
            meter.message.energy_consumption
        };
        assert_eq!(charge(2, Some(50.0)), 0.0, "since the agent began");
        assert_eq!(charge(3, Some(57.5)), 7500.0);
        // The same holds over a silence.
        assert_eq!(charge(60, Some(100.0)), 50_000.0);
        assert_eq!(charge(61, None), 51_000.0, "by the current");
        assert_eq!(charge(62, Some(3.0)), 52_000.0);
        assert_eq!(charge(63, Some(2.0)), 53_000.0, "of another voltage");
        assert_eq!(charge(64, Some(4.0)), 55_000.0);
    }
}
