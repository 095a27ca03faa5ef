//! `doctor`: reports which meters the board has, what can be read from them, and how to fix errors, as text or as JSON.

mod i2c;
mod network;
mod port;
mod realtime;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::config::{Config, Switch};
use crate::metrics::{shorten, Policy, Registry};
use crate::sources::i2c_search::{self, SearchedBus};
use crate::sources::{
    reached_limits, Board, Context, Device, Health, Meter, ReachedLimit, Roots, RunningSource,
    METERS, NO_POWER_HELP, SCHEMA,
};
use crate::sys::clock::BootTime;
use crate::sys::sort::sort_by;
use crate::sys::wrap::{wrap, COLUMNS};

/// The poll interval of the sources. The power from an energy counter needs two polls.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a source may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(4);
/// The number of samples shown for each source. The rest is counted.
const MAX_SHOWN_SAMPLES: usize = 6;

/// What is looked for beside the board's own meters, if the user asks for it.
#[derive(Debug, Default)]
pub struct Search {
    /// Power monitors on I2C: on these buses, or on all that are likely to have some.
    pub i2c: Option<Vec<u32>>,
    /// Plugs and meters on the network, by mDNS.
    pub network: bool,
}

/// The report about a board.
pub struct Report {
    board: Board,
    /// The configuration used for the examination.
    config: Config,
    device_type: String,
    findings: Vec<Finding>,
    /// The I2C buses, if they were searched.
    i2c: Option<Vec<SearchedBus>>,
    /// What is wrong with the metrics port.
    port: Option<String>,
    /// What is missing for `realtime: true`, if that is configured.
    realtime: Option<String>,
    /// The network, if it was searched, or why it could not be.
    network: Option<Result<network::Found, String>>,
}

/// The result for one meter.
struct Finding {
    meter: &'static Meter,
    /// What was found, or what was looked for without success.
    found: Result<String, String>,
    /// Why nothing can be read.
    error: Option<String>,
    /// Why some values cannot be read.
    complaints: Vec<String>,
    /// The limits that were reached, by name.
    limits: BTreeMap<&'static str, ReachedLimit>,
    /// The metric families of the source.
    families: Vec<String>,
    /// The samples, most important first: `name{labels}` and value.
    samples: Vec<(String, f64)>,
}

/// Probes all meters, and reads those that are found. Searches for others as far as that is asked for.
pub fn examine(roots: Roots, config: &Config, search: &Search) -> Report {
    let named = search.i2c.as_deref();
    let i2c = named.map(|named| i2c_search::search(&roots, named, config));
    let network = search.network.then(network::search);
    let mut board = Board::detect(roots);
    let given = config;
    let mut config = given.clone();
    config.interval = INTERVAL;
    if config.device_type == "auto" {
        config.device_type = board.device_type().to_string();
    }
    let device_type = config.device_type.clone();
    let config = Arc::new(config);
    let trials: Vec<_> = METERS
        .iter()
        .flat_map(|meter| match (meter.probe)(&board, &config) {
            Ok(what) => {
                let trials: Vec<_> = meter
                    .devices(&config)
                    .into_iter()
                    .map(|device| {
                        let what = match device.name.as_str() {
                            "" => what.clone(),
                            name => name.to_string(),
                        };
                        let trial = Trial::start(meter, device, &board, &config);
                        (meter, Ok((what, trial)))
                    })
                    .collect();
                if (meter.switch)(&config) != Switch::Off {
                    meter.claim(&mut board, &config);
                }
                trials
            }
            Err(missing) => vec![(meter, Err(missing))],
        })
        .collect();
    let began = Instant::now();
    let findings = trials
        .into_iter()
        .map(|(meter, found)| match found {
            Ok((what, trial)) => trial.finish(meter, what, began + meter.read_timeout),
            Err(missing) => Finding {
                meter,
                found: Err(missing.to_string()),
                error: None,
                complaints: Vec::new(),
                limits: BTreeMap::new(),
                families: Vec::new(),
                samples: Vec::new(),
            },
        })
        .collect();
    Report {
        board,
        config: given.clone(),
        device_type,
        findings,
        i2c,
        port: port::doubt(given.port),
        realtime: realtime::doubt(given.realtime),
        network,
    }
}

/// A running source of a meter under examination.
struct Trial {
    registry: Arc<Registry>,
    running: RunningSource,
}

impl Trial {
    fn start(meter: &'static Meter, device: Device, board: &Board, config: &Arc<Config>) -> Trial {
        let registry = Arc::new(Registry::new(Policy::All));
        let context = Context {
            board: Arc::new(board.clone()),
            config: Arc::clone(config),
            device,
            group: registry.add_group(0, meter.name, Vec::new()),
            registry: Arc::clone(&registry),
            health: Arc::new(Health::default()),
            stop: Arc::default(),
            interval: meter.pace.interval(INTERVAL),
        };
        Trial {
            registry,
            running: RunningSource::start(meter, context),
        }
    }

    /// Waits for a second reading and all that the source has asked for, an error, or the deadline.
    fn finish(self, meter: &'static Meter, what: String, deadline: Instant) -> Finding {
        let Context { group, health, .. } = self.running.context();
        let mut first = None;
        while Instant::now() < deadline && health.last_error().is_none() {
            self.running.restart_if_stuck(BootTime::now());
            match (first, group.read_at()) {
                (None, Some(at)) => first = Some(at),
                (Some(then), Some(at)) if at != then && !health.is_asking() => break,
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let samples = samples(&self.registry);
        let families = self.registry.switchable();
        let error = health.last_error().or_else(|| {
            // A device that was read without values is suspended, which is among the complaints.
            (samples.is_empty() && group.read_at().is_none())
                .then(|| format!("it was not read within {} s", meter.read_timeout.as_secs()))
        });
        self.running.stop();
        self.running
            .join(deadline.max(Instant::now()) + END_TIMEOUT);
        Finding {
            meter,
            found: Ok(what),
            error,
            complaints: health.value_errors(),
            limits: reached_limits(group, health),
            families: families.into_iter().map(|(name, _)| name).collect(),
            samples,
        }
    }
}

/// The samples of the registry, most important first: the families common to all boards, power before the rest.
fn samples(registry: &Registry) -> Vec<(String, f64)> {
    let snapshot = registry.snapshot(BootTime::now());
    let mut samples: Vec<_> = snapshot
        .families()
        .flat_map(|family| {
            let found: Vec<_> = family.samples().collect();
            found
        })
        .map(|(series, value)| (series.prefix.trim_end().to_string(), value))
        .collect();
    let rank = |name: &str| {
        [
            "power_total_watts",
            "board_energy_joules_total",
            "power_watts",
            "power_",
            "voltage_volts",
            "temperature_celsius",
        ]
        .iter()
        .position(|prefix| name.starts_with(prefix))
        .unwrap_or(usize::MAX)
    };
    sort_by(&mut samples, |(a, _), (b, _)| rank(a).cmp(&rank(b)));
    samples
}

impl Report {
    /// Whether anything can be read.
    fn is_useful(&self) -> bool {
        self.findings.iter().any(|f| !f.samples.is_empty())
    }

    /// Whether power, current or energy can be read.
    pub fn reads_power(&self) -> bool {
        let mut samples = self.findings.iter().flat_map(|f| &f.samples);
        samples.any(|(series, _)| value::is_electric(family(series)))
    }

    /// The report as text: what works, what could work and what would help, and what is not there.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let model = self.board.model.as_deref().unwrap_or("unknown model");
        let (host, device_type) = (&self.board.hostname, &self.device_type);
        wrap(
            &mut out,
            "",
            &format!("{model}, host {host}, device_type {device_type}"),
        );
        for (heading, of) in [("Works:", Works::Yes), ("Could work:", Works::NotYet)] {
            let mut findings = self.findings.iter().filter(|f| f.works() == of).peekable();
            if findings.peek().is_some() {
                let _ = write!(out, "\n{heading}\n");
            }
            for finding in findings {
                finding.write(&mut out);
            }
        }
        let absent = self.findings.iter().filter(|f| f.works() == Works::No);
        let mut absent: Vec<&str> = absent.map(|finding| finding.meter.name).collect();
        absent.dedup();
        if !absent.is_empty() {
            out.push('\n');
            wrap(&mut out, "Not found: ", &absent.join(", "));
        }
        let mut doubts = self.doubts();
        doubts.extend(self.port.iter().chain(&self.realtime).cloned());
        let unknown = self.unknown_metrics().into_iter();
        doubts
            .extend(unknown.map(|name| format!("`metrics` lists {name}, which nothing here has")));
        if !doubts.is_empty() {
            out.push('\n');
        }
        for doubt in doubts {
            wrap(&mut out, "! ", &doubt);
        }
        let lack = match (self.is_useful(), self.may_read_power()) {
            (false, _) => Some("Nothing can be read here."),
            (true, false) => Some("Nothing here measures power."),
            (true, true) => None,
        };
        if let Some(lack) = lack {
            out.push('\n');
            wrap(&mut out, "", &format!("{lack} {NO_POWER_HELP}"));
        }
        if let Some(buses) = &self.i2c {
            i2c::write(&mut out, buses);
        }
        if let Some(found) = &self.network {
            network::write(&mut out, found);
        }
        out
    }

    /// Doubtful totals: those lower than what another source measures for a part of the board.
    fn doubts(&self) -> Vec<String> {
        let parts = self
            .findings
            .iter()
            .find_map(|finding| Some((finding.meter.name, finding.value("power_package_watts")?)));
        let Some((of, parts)) = parts else {
            return Vec::new();
        };
        let others = self.findings.iter().filter(|f| f.meter.name != of);
        let less = others.filter_map(|finding| {
            let total = finding.value("power_total_watts").filter(|t| *t < parts)?;
            let name = finding.meter.name;
            Some(format!(
                "{name} takes {total:.1} W for the board's total, but {of} measures {parts:.1} W of a part of the board"
            ))
        });
        less.collect()
    }

    /// The names under `metrics:` that nothing here has.
    fn unknown_metrics(&self) -> Vec<String> {
        let families = self.findings.iter().flat_map(|f| &f.families);
        let known: BTreeSet<_> = families.map(String::as_str).collect();
        self.config.unknown_metrics(&known)
    }

    /// Whether power, current or energy can be read, or might be if a source that fails could be read.
    fn may_read_power(&self) -> bool {
        self.reads_power() || self.findings.iter().any(|finding| finding.error.is_some())
    }

    /// The report as JSON.
    pub fn json(&self) -> Value {
        let sources: Vec<_> = self.findings.iter().map(Finding::json).collect();
        json!({
            "model": self.board.model,
            "hostname": self.board.hostname,
            "device_type": self.device_type,
            "readable": self.is_useful(),
            "measures_power": self.reads_power(),
            "unknown_metrics": self.unknown_metrics(),
            "doubts": self.doubts(),
            "port": self.port,
            "realtime": self.realtime,
            "sources": sources,
            "i2c": self.i2c.as_deref().map(i2c::json),
            "network": self.network.as_ref().map(network::json),
        })
    }

    /// A configuration file to start from: the existing settings of the sources, what was found, and the metrics that would be
    /// exported. An error if the existing settings are too large for a configuration.
    pub fn configuration(&self) -> Result<String, String> {
        let given = SCHEMA.to_json(&self.config);
        let mut config = self.config.clone();
        let i2c = i2c::configure(&mut config, self.i2c.as_deref().unwrap_or_default());
        let mut out = format!(
            "# Written by `edge-metrics-exporter doctor`. Every key: config.yaml.template.\n\
             device_type: {}\ninterval: {}\nport: {}\nreload_port: {}\n{}",
            self.device_type,
            given["interval"],
            given["port"],
            given["reload_port"],
            SCHEMA.non_default_settings(&config)?,
        );
        out.push_str(&i2c);
        if let Some(found) = &self.network {
            out.push_str(&network::configure(&self.config, found));
        }
        for finding in &self.findings {
            let name = finding.meter.name;
            let _ = match (&finding.found, &finding.error) {
                (Ok(what), None) => writeln!(out, "# {name}: {what}"),
                (Ok(what), Some(error)) => writeln!(out, "# {name}: {what}, but {error}"),
                (Err(missing), _) => writeln!(out, "# {name}: {missing}"),
            };
        }
        let found = self.findings.iter().flat_map(|f| &f.samples);
        let found = found.map(|(series, _)| family(series));
        let (mark, mut names): (_, BTreeMap<&str, bool>) = match &self.config.metrics {
            None => {
                out.push_str(
                    "\n# Everything that is found is exported. To choose, take the # away:\n",
                );
                ("#", found.map(|name| (name, true)).collect())
            }
            Some(_) => {
                out.push_str("\n# What is exported. What is found beside that is false:\n");
                ("", found.map(|name| (name, false)).collect())
            }
        };
        let listed = self.config.metrics.iter().flatten();
        names.extend(listed.map(|(name, on)| (name.as_str(), *on)));
        let _ = writeln!(out, "{mark}metrics:");
        for (name, on) in names {
            let _ = writeln!(out, "{mark}  {name}: {on}");
        }
        Ok(out)
    }
}

/// Whether a meter can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Works {
    Yes,
    /// The meter is there, but cannot be read.
    NotYet,
    No,
}

/// The family of a series.
fn family(series: &str) -> &str {
    series.split('{').next().unwrap_or(series)
}

impl Finding {
    /// The value of this series.
    fn value(&self, series: &str) -> Option<f64> {
        let mut samples = self.samples.iter();
        samples.find_map(|(name, value)| (name == series).then_some(*value))
    }

    fn works(&self) -> Works {
        match (&self.found, &self.error) {
            (Err(_), _) => Works::No,
            (Ok(_), Some(_)) => Works::NotYet,
            (Ok(_), None) => Works::Yes,
        }
    }

    fn write(&self, out: &mut String) {
        let (Ok(what) | Err(what)) = &self.found;
        wrap(
            out,
            &format!("  {:<14}", self.meter.name),
            &format!("{what} [{}]", self.meter.summary),
        );
        for error in self.error.iter().chain(&self.complaints) {
            wrap(out, "    ! ", error);
        }
        for (name, limit) in &self.limits {
            let what = &limit.what;
            wrap(
                out,
                "    ! ",
                &format!("{what}; the rest is left out (limit: {name})"),
            );
        }
        for (series, value) in self.samples.iter().take(MAX_SHOWN_SAMPLES) {
            let value = value::number(*value);
            let unit = value::unit(family(series));
            let begin = format!("    {value:>10} {unit:<4} ");
            let room = COLUMNS.saturating_sub(begin.chars().count());
            // Labels have no place to break.
            let _ = writeln!(out, "{begin}{}", shorten(series, room));
        }
        if self.samples.len() > MAX_SHOWN_SAMPLES {
            let more = self.samples.len() - MAX_SHOWN_SAMPLES;
            let _ = writeln!(out, "    and {more} more");
        }
    }

    fn json(&self) -> Value {
        let samples: Vec<_> = self
            .samples
            .iter()
            .map(|(series, value)| json!({"series": series, "value": value}))
            .collect();
        json!({
            "source": self.meter.name,
            "found": self.found.is_ok(),
            "detail": self.found.as_ref().unwrap_or_else(|missing| missing),
            "readable": self.found.is_ok() && self.error.is_none(),
            "error": self.error,
            "complaints": self.complaints,
            "limits": self.limits,
            "samples": samples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_lower_than_a_part_of_the_board_is_doubtful() {
        let finding = |name: &str, samples: &[(&str, f64)]| Finding {
            meter: METERS.iter().find(|meter| meter.name == name).unwrap(),
            found: Ok(String::new()),
            error: None,
            complaints: Vec::new(),
            limits: BTreeMap::new(),
            families: Vec::new(),
            samples: samples.iter().map(|(n, v)| (n.to_string(), *v)).collect(),
        };
        let report = |hwmon: f64| Report {
            board: Board::detect(Roots {
                sysfs: "/nowhere".into(),
                procfs: "/nowhere".into(),
                dev: "/nowhere".into(),
                programs: None,
            }),
            config: Config::default(),
            device_type: String::new(),
            i2c: None,
            port: None,
            realtime: None,
            network: None,
            findings: vec![
                finding("hwmon", &[("power_total_watts", hwmon)]),
                finding(
                    "rapl",
                    &[("power_total_watts", 3.0), ("power_package_watts", 89.0)],
                ),
            ],
        };
        assert_eq!(report(357.0).doubts(), [""; 0]);
        let said = "hwmon takes 3.0 W for the board's total, but rapl measures 89.0 W of a part of the board";
        assert_eq!(report(3.0).doubts(), [said]);
        let text = report(3.0).text().replace("\n  ", " ");
        assert!(text.contains(said), "{text}");
    }
}
