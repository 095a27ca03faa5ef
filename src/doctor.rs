//! What this board has, what can be read of it, and what would help: for people, and as JSON for machines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::config::{Config, Switch};
use crate::metrics::{Policy, Registry};
use crate::sources::SCHEMA;
use crate::sources::{Board, Context, Device, Health, Meter, Roots, Running, METERS};
use crate::sys::clock::BootTime;

/// How often the sources are polled meanwhile: two polls are needed for the power of an energy counter.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a source may take to show something. tegrastats needs a second to start on a small board.
const PATIENCE: Duration = Duration::from_secs(4);
/// Samples that are shown of each source; the rest is counted.
const SAMPLES: usize = 6;

/// What was found out about the board.
pub struct Report {
    board: Board,
    /// What it was looked at with.
    config: Config,
    device_type: String,
    findings: Vec<Finding>,
}

/// What was found out about one meter.
struct Finding {
    meter: &'static Meter,
    /// What is there, or what was looked for in vain.
    found: Result<String, String>,
    /// Why nothing of it can be read.
    error: Option<String>,
    /// Why some of it cannot be read.
    complaints: Vec<String>,
    /// What was read: `name{labels} value`, those that matter most first.
    samples: Vec<(String, f64)>,
}

/// Looks for every meter, and reads those that are there.
pub fn examine(roots: Roots, config: &Config) -> Report {
    let mut board = Board::look(roots);
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
    let deadline = Instant::now() + PATIENCE;
    let findings = trials
        .into_iter()
        .map(|(meter, found)| match found {
            Ok((what, trial)) => trial.finish(meter, what, deadline),
            Err(missing) => Finding {
                meter,
                found: Err(missing.to_string()),
                error: None,
                complaints: Vec::new(),
                samples: Vec::new(),
            },
        })
        .collect();
    Report {
        board,
        config: given.clone(),
        device_type,
        findings,
    }
}

/// A meter that is being tried.
struct Trial {
    registry: Registry,
    running: Running,
}

impl Trial {
    fn start(meter: &'static Meter, device: Device, board: &Board, config: &Arc<Config>) -> Trial {
        let registry = Registry::new(Policy::All);
        let context = Context {
            board: Arc::new(board.clone()),
            config: Arc::clone(config),
            device,
            group: registry.add_group(0, meter.name, Vec::new()),
            health: Arc::new(Health::default()),
            stop: Arc::default(),
            interval: meter.pace.interval(INTERVAL),
        };
        Trial {
            registry,
            running: Running::start(meter, context),
        }
    }

    /// Waits for a second reading, for an error, or for the deadline.
    fn finish(self, meter: &'static Meter, what: String, deadline: Instant) -> Finding {
        let Context { group, health, .. } = self.running.context();
        let mut first = None;
        while Instant::now() < deadline && health.last_error().is_none() {
            self.running.watch(BootTime::now());
            match (first, group.read_at()) {
                (None, Some(at)) => first = Some(at),
                (Some(then), Some(at)) if at != then => break,
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let samples = samples(&self.registry);
        let error = health.last_error().or_else(|| {
            samples
                .is_empty()
                .then(|| format!("it was not read within {} s", PATIENCE.as_secs()))
        });
        self.running.stop();
        self.running.join(deadline.max(Instant::now()) + PATIENCE);
        Finding {
            meter,
            found: Ok(what),
            error,
            complaints: health.complaints(),
            samples,
        }
    }
}

/// What is in the registry: first what every board has in common, power before the rest.
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
            "power_watts",
            "power_",
            "voltage_volts",
            "temperature_celsius",
        ]
        .iter()
        .position(|prefix| name.starts_with(prefix))
        .unwrap_or(usize::MAX)
    };
    samples.sort_by_key(|(name, _)| rank(name));
    samples
}

impl Report {
    /// Whether anything can be read.
    pub fn is_useful(&self) -> bool {
        self.findings.iter().any(|f| !f.samples.is_empty())
    }

    /// For people: one screen.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let model = self.board.model.as_deref().unwrap_or("unknown model");
        let _ = writeln!(
            out,
            "{model}, host {}, device_type {}\n",
            self.board.hostname, self.device_type
        );
        for finding in &self.findings {
            finding.write(&mut out);
        }
        let lack = match (self.is_useful(), self.measures_power()) {
            (false, _) => "Nothing can be read here.",
            (true, false) => "Nothing here measures power.",
            (true, true) => return out,
        };
        let _ = writeln!(
            out,
            "{lack} A board without a meter of its own can hang on a smart plug or an INA260."
        );
        out
    }

    /// Whether something does, or would if it could be read.
    fn measures_power(&self) -> bool {
        let electric = |name: &str| name.contains("_watts") || name.contains("_ampere");
        self.findings.iter().any(|finding| {
            finding.error.is_some() || finding.samples.iter().any(|(name, _)| electric(name))
        })
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let sources: Vec<_> = self.findings.iter().map(Finding::json).collect();
        json!({
            "model": self.board.model,
            "hostname": self.board.hostname,
            "device_type": self.device_type,
            "readable": self.is_useful(),
            "sources": sources,
        })
    }

    /// A configuration to start from: the settings of the sources that there were already, what was found, and what would
    /// be exported. An error: there are more settings than a configuration has room for.
    pub fn configuration(&self) -> Result<String, String> {
        let given = SCHEMA.to_json(&self.config);
        let mut out = format!(
            "# Written by `edge-metrics-exporter doctor`. Every key: config.yaml.template.\n\
             device_type: {}\ninterval: {}\nport: {}\nreload_port: {}\n{}",
            self.device_type,
            given["interval"],
            given["port"],
            given["reload_port"],
            SCHEMA.departures(&self.config)?,
        );
        for finding in &self.findings {
            let name = finding.meter.name;
            let _ = match (&finding.found, &finding.error) {
                (Ok(what), None) => writeln!(out, "# {name}: {what}"),
                (Ok(what), Some(error)) => writeln!(out, "# {name}: {what}, but {error}"),
                (Err(missing), _) => writeln!(out, "# {name}: {missing}"),
            };
        }
        let found = self.findings.iter().flat_map(|f| &f.samples);
        let found = found.filter_map(|(series, _)| series.split('{').next());
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

impl Finding {
    fn verdict(&self) -> &'static str {
        match (&self.found, &self.error) {
            (Err(_), _) => "not found",
            (Ok(_), Some(_)) => "NOT READABLE",
            (Ok(_), None) => "readable",
        }
    }

    fn write(&self, out: &mut String) {
        let (Ok(what) | Err(what)) = &self.found;
        let _ = writeln!(
            out,
            "{:<14}{:<14}{} [{}]",
            self.meter.name,
            self.verdict(),
            what,
            self.meter.summary
        );
        for error in self.error.iter().chain(&self.complaints) {
            let _ = writeln!(out, "    ! {error}");
        }
        for (series, value) in self.samples.iter().take(SAMPLES) {
            let _ = writeln!(out, "    {series} {value}");
        }
        if self.samples.len() > SAMPLES {
            let _ = writeln!(out, "    and {} more", self.samples.len() - SAMPLES);
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
            "samples": samples,
        })
    }
}
