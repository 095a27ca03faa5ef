//! Exports the domains under a second name, for users of another program (`rapl.metric`).
//!
//! The label's values are pyJoules' names of domains: `package_0`, `core_0`, `uncore_0`, `dram_0`. Like pyJoules,
//! it omits `psys`. Unlike in pyJoules up to 0.5.2, a counter that wraps does not make energy negative.

use super::domain::DomainKind;
use super::settings::{AliasUnit, Settings};
use crate::metrics::{Desc, Group, Readings, SeriesId};
use crate::sys::clock::BootTime;

/// A domain's second series.
#[derive(Debug)]
pub(super) struct Alias {
    series: SeriesId,
    unit: AliasUnit,
}

impl Alias {
    /// Registers the series, if it is configured and the domain has one.
    pub(super) fn new(
        group: &Group,
        config: &Settings,
        kind: DomainKind,
        rail: &str,
    ) -> Option<Alias> {
        let name = config.metric.clone()?;
        if matches!(kind, DomainKind::Psys | DomainKind::Other) {
            return None;
        }
        let unit = config.metric_unit;
        let help = config.metric_help.clone().unwrap_or_else(|| {
            let what = match unit {
                AliasUnit::Watts => "Mean electric power by RAPL domain, in watts.",
                AliasUnit::Microjoules => {
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

    /// Sets the series from the mean power in watts and the energy in joules since the last reading.
    pub(super) fn set(&self, out: &mut Readings, watts: Option<f64>, joules: Option<f64>) {
        let value = match self.unit {
            AliasUnit::Watts => watts,
            // Counters have units of at least a millionth of a microjoule: smaller digits are rounding errors.
            AliasUnit::Microjoules => joules.map(|joules| (joules * 1e12).round() / 1e6),
        };
        if let Some(value) = value {
            out.set(self.series, value);
        }
    }
}

/// The metric of the seconds between the last two readings.
#[derive(Debug)]
pub(super) struct DurationMetric {
    series: SeriesId,
    last: Option<BootTime>,
}

impl DurationMetric {
    /// Registers the series, if it is configured.
    pub(super) fn new(group: &Group, config: &Settings) -> Option<DurationMetric> {
        let name = config.duration_metric.clone()?;
        let help = config.duration_help.clone();
        let help = help
            .unwrap_or_else(|| "Time between the last two readings of RAPL, in seconds.".into());
        Some(DurationMetric {
            series: group.series(&Desc::gauge(name, help), &[]),
            last: None,
        })
    }

    /// Sets the series for the poll at `out.at`.
    pub(super) fn set(&mut self, out: &mut Readings) {
        if let Some(last) = self.last.replace(out.at) {
            out.set(self.series, out.at.seconds_since(last));
        }
    }
}
