//! The other side of the UDP source: any datagram is answered with this board's own current and charge.
//!
//! It stands where the device agent of esp32-edge-energy-measurement stood: the content of what comes does not matter,
//! and before the first measurement the answer has no bytes.

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
use crate::sys::datagram::{answer, bind, note_addressee, receive};
use crate::sys::stop::{Stop, Woken};

/// So many answers an interval of this length: two agents that somebody makes talk to each other would not stop.
const MOST_ANSWERS: u32 = 100;
const PER: Duration = Duration::from_millis(100);
const STACK: usize = 128 * 1024;

/// An agent that answers.
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
            .and_then(|socket| note_addressee(&socket).map(|()| socket))
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
            meter: Meter::new(BootTime::now(), config.interval),
            quota: Quota::new(Instant::now()),
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

    /// Whether this is what the configuration asks for.
    pub(super) fn is_for(&self, config: &Config) -> bool {
        self.settings == settings(config)
    }

    /// Whether the configuration asks for the port that it has.
    pub(super) fn has_port_of(&self, config: &Config) -> bool {
        self.port == config.udp_agent.port
    }

    pub(super) fn stop(self) {
        self.stop.set();
        // It waits for nothing but its socket and this.
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
    meter: Meter,
    quota: Quota,
}

impl Agent {
    fn serve(mut self) {
        let mut ticker = Ticker::new(Instant::now(), self.interval);
        let mut next = Instant::now();
        loop {
            match self.stop.wait_readable(self.socket.as_fd(), next) {
                Woken::Stop => return,
                Woken::Ready => self.answer(),
                Woken::Time => {}
            }
            if Instant::now() >= next {
                let now = BootTime::now();
                let drawn = drawn(&self.exporter.registry.snapshot(now), self.volts);
                self.meter.measured(now, drawn);
                (next, _) = ticker.next(Instant::now());
            }
        }
    }

    fn answer(&mut self) {
        let sender = match receive(&self.socket) {
            Ok(sender) => sender,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return log::debug!("udp-agent: {error}"),
        };
        if !self.quota.allows(Instant::now()) {
            return log::debug!("udp-agent: asked too often");
        }
        let datagram = self.meter.message.to_datagram();
        if let Err(error) = answer(&self.socket, &sender, &datagram) {
            log::debug!("udp-agent: {error}");
        }
    }
}

/// How many answers are left, since when.
#[derive(Debug)]
struct Quota {
    since: Instant,
    left: u32,
}

impl Quota {
    fn new(now: Instant) -> Quota {
        Quota {
            since: now,
            left: MOST_ANSWERS,
        }
    }

    /// Whether there is one more answer at this moment, which then is used.
    fn allows(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= PER {
            *self = Quota::new(now);
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

/// What the board draws.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Drawn {
    amperes: f64,
    /// Where the current is the board's power divided by a voltage: the board's energy divided by it, which is the charge
    /// in ampere-seconds, from some beginning on.
    charge: Option<f64>,
}

/// Current into charge.
struct Meter {
    started: BootTime,
    longest_gap: f64,
    charge: Integrator,
    /// The charge by the board's energy, as it was last.
    counted: Option<f64>,
    message: PowerMeasurement,
}

impl Meter {
    fn new(started: BootTime, interval: Duration) -> Meter {
        Meter {
            started,
            longest_gap: staleness_limit(interval).as_secs_f64(),
            charge: Integrator::default(),
            counted: None,
            message: PowerMeasurement::default(),
        }
    }

    /// The message stays what it was, its time too, when nothing could be measured.
    fn measured(&mut self, now: BootTime, drawn: Option<Drawn>) {
        let Some(drawn) = drawn else {
            return;
        };
        // The original's firmware takes the current without its sign too.
        let amperes = drawn.amperes.abs();
        let integrated = self.charge.advance(now, amperes, self.longest_gap);
        let before = std::mem::replace(&mut self.counted, drawn.charge);
        // The source that counts the board's energy has seen what is between two of its readings.
        let counted = drawn.charge.zip(before).map(|(now, before)| now - before);
        let charge = counted.filter(|c| *c >= 0.0).unwrap_or(integrated) * 1000.0;
        let since = now.0.saturating_sub(self.started.0) / 1000;
        self.message = PowerMeasurement {
            timestamp: since.max(1),
            energy_consumption: self.message.energy_consumption + charge,
            current: (amperes * 1000.0) as f32,
        };
    }
}

/// The board's current. The source that knows the board's power knows best: by the one current that it measures, else by
/// dividing the power by the voltage: `volts`, or the highest it measures, which is the input's. Where no source knows the
/// power, the current is the one that is measured, if there is only one.
fn drawn(snapshot: &Snapshot, volts: Option<f64>) -> Option<Drawn> {
    let measured = |amperes| Drawn {
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
    Some(Drawn {
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

    /// What two sources say, each its total power, voltages and currents: the board's current.
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
        drawn(&registry.snapshot(BootTime(1)), volts).map(|drawn| drawn.amperes)
    }

    #[test]
    fn the_source_that_knows_the_power_knows_the_current() {
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
    fn so_many_answers_are_given_in_so_long_and_no_more() {
        let start = Instant::now();
        let mut quota = Quota::new(start);
        let mut given =
            |at: Duration, asked: u32| (0..asked).filter(|_| quota.allows(start + at)).count();
        let most = MOST_ANSWERS as usize;
        assert_eq!(given(Duration::ZERO, 3), 3);
        assert_eq!(given(PER / 2, 10 * MOST_ANSWERS), most - 3);
        assert_eq!(given(PER - Duration::from_nanos(1), 10), 0);
        assert_eq!(given(PER, 10 * MOST_ANSWERS), most);
        // What was not asked for is not saved up.
        assert_eq!(given(PER * 100, 10 * MOST_ANSWERS), most);
        assert_eq!(given(PER * 100 + PER / 2, 1), 0);
    }

    #[test]
    fn current_is_integrated_and_silence_changes_nothing() {
        let mut meter = Meter::new(BootTime(SECOND), Duration::from_secs(1));
        meter.measured(BootTime(SECOND), None);
        assert_eq!(meter.message.to_datagram(), b"");
        let amperes = |amperes| {
            Some(Drawn {
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
    fn where_the_boards_energy_is_counted_the_charge_is_that() {
        let mut meter = Meter::new(BootTime(SECOND), Duration::from_secs(1));
        let mut charge = |second: u64, charge: Option<f64>| {
            let drawn = Drawn {
                amperes: 1.0,
                charge,
            };
            meter.measured(BootTime(second * SECOND), Some(drawn));
            meter.message.energy_consumption
        };
        assert_eq!(charge(2, Some(50.0)), 0.0, "since the agent began");
        assert_eq!(charge(3, Some(57.5)), 7500.0);
        // Over a silence, too.
        assert_eq!(charge(60, Some(100.0)), 50_000.0);
        assert_eq!(charge(61, None), 51_000.0, "by the current");
        assert_eq!(charge(62, Some(3.0)), 52_000.0);
        assert_eq!(charge(63, Some(2.0)), 53_000.0, "of another voltage");
        assert_eq!(charge(64, Some(4.0)), 55_000.0);
    }
}
