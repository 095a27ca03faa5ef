//! The domains once more under another name, for those who had another program before (`rapl.metric`).
//!
//! The values of the label are as pyJoules names domains: `package_0`, `core_0`, `uncore_0`, `dram_0`. Like pyJoules,
//! it leaves out `psys`. Unlike its releases up to 0.5.2, counters that wrap do not make energy negative.

use super::domain::Kind;
use super::settings::{Settings, Unit};
use crate::metrics::{Desc, Group, Readings, SeriesId};
use crate::sys::clock::BootTime;

/// A domain's second series.
#[derive(Debug)]
pub(super) struct Alias {
    series: SeriesId,
    unit: Unit,
}

impl Alias {
    /// Registers it, if the configuration asks for it and the domain has one.
    pub(super) fn new(group: &Group, config: &Settings, kind: Kind, rail: &str) -> Option<Alias> {
        let name = config.metric.clone()?;
        if matches!(kind, Kind::Psys | Kind::Other) {
            return None;
        }
        let unit = config.metric_unit;
        let help = config.metric_help.clone().unwrap_or_else(|| {
            let what = match unit {
                Unit::Watts => "Mean electric power by RAPL domain, in watts.",
                Unit::Microjoules => {
                    "Electric energy between two readings by RAPL domain, in microjoules."
                }
            };
            what.to_string()
        });
        let domain = rail.replace('-', "_");
        let labels = [(config.metric_label.as_str(), domain.as_str())];
        Some(Alias {
            series: group.series(&Desc::gauge(name, help), &labels),
            unit,
        })
    }

    /// Sets it, from the mean power in watts and the energy in joules since the last reading.
    pub(super) fn set(&self, out: &mut Readings, watts: Option<f64>, joules: Option<f64>) {
        let value = match self.unit {
            Unit::Watts => watts,
            // The counters' steps are parts of a microjoule at least as large as a millionth: what is below is rounding.
            Unit::Microjoules => joules.map(|joules| (joules * 1e12).round() / 1e6),
        };
        if let Some(value) = value {
            out.set(self.series, value);
        }
    }
}

/// How many seconds were between the last two readings.
#[derive(Debug)]
pub(super) struct Duration {
    series: SeriesId,
    last: Option<BootTime>,
}

impl Duration {
    /// Registers it, if the configuration asks for it.
    pub(super) fn new(group: &Group, config: &Settings) -> Option<Duration> {
        let name = config.duration_metric.clone()?;
        let help = config.duration_help.clone();
        let help = help
            .unwrap_or_else(|| "Time between the last two readings of RAPL, in seconds.".into());
        Some(Duration {
            series: group.series(&Desc::gauge(name, help), &[]),
            last: None,
        })
    }

    /// Sets it, at the time of `out`.
    pub(super) fn set(&mut self, out: &mut Readings) {
        if let Some(last) = self.last.replace(out.at) {
            out.set(self.series, out.at.seconds_since(last));
        }
    }
}
