//! The settings of RAPL.

use serde::Serialize;

use crate::config::section::{Problem, Section};
use crate::config::tree::Node;
use crate::config::values::Outcome;
use crate::config::{values, Config, MeterSettings, Switch};

/// `rapl:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Settings {
    /// Whether the RAPL source runs.
    pub enabled: Switch,
    /// Where the counters are read.
    pub interface: Interface,
    /// The name of a second metric of every domain; `None` is none.
    pub metric: Option<String>,
    /// Its help; `None` is one of ours.
    pub metric_help: Option<String>,
    /// The name of its label, whose values are `package_0`, `core_0`, ….
    pub metric_label: String,
    /// The unit of its values.
    pub metric_unit: AliasUnit,
    /// The name of a metric of the seconds between the last two readings; `None` is none.
    pub duration_metric: Option<String>,
    /// Its help; `None` is one of ours.
    pub duration_help: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: Switch::Auto,
            interface: Interface::Auto,
            metric: None,
            metric_help: None,
            metric_label: "domain".into(),
            metric_unit: AliasUnit::Watts,
            duration_metric: None,
            duration_help: None,
        }
    }
}

/// The unit of `rapl.metric`, a value between the last two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AliasUnit {
    /// The mean power, in watts.
    #[default]
    Watts,
    /// The energy, in microjoules.
    Microjoules,
}

/// Where RAPL's counters are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Interface {
    /// The first of the others that can be read.
    #[default]
    Auto,
    /// `/sys/class/powercap`.
    Powercap,
    /// Performance events of `/sys/bus/event_source/devices/power`.
    Perf,
    /// `/dev/cpu/N/msr`.
    Msr,
}

impl Interface {
    /// The interface's name for people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Interface::Auto => "any interface",
            Interface::Powercap => "powercap",
            Interface::Perf => "perf events",
            Interface::Msr => "MSR",
        }
    }
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "rapl";

    fn read(rapl: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        rapl.set("enabled", values::switch, &mut settings.enabled)?;
        rapl.set("interface", interface, &mut settings.interface)?;
        rapl.option("metric", values::metric_name, &mut settings.metric)?;
        rapl.option("metric_help", values::help, &mut settings.metric_help)?;
        rapl.set(
            "metric_label",
            values::label_name,
            &mut settings.metric_label,
        )?;
        rapl.set("metric_unit", unit, &mut settings.metric_unit)?;
        rapl.option(
            "duration_metric",
            values::metric_name,
            &mut settings.duration_metric,
        )?;
        rapl.option("duration_help", values::help, &mut settings.duration_help)?;
        Ok(settings)
    }

    fn contradiction(&self, common: &Config) -> Option<(&'static str, String)> {
        let name = &self.metric_label;
        let is_used = self.metric.is_some() && common.constant_labels.contains_key(name);
        is_used.then(|| {
            let message = format!(
                "`constant_labels` has `{name}`, the label of `rapl.metric_label`: choose another name for one of them"
            );
            ("constant_labels", message)
        })
    }
}

fn interface(node: &Node) -> Outcome<Interface> {
    values::choice(
        node,
        &[
            ("auto", Interface::Auto),
            ("powercap", Interface::Powercap),
            ("perf", Interface::Perf),
            ("msr", Interface::Msr),
        ],
    )
}

fn unit(node: &Node) -> Outcome<AliasUnit> {
    values::choice(
        node,
        &[
            ("watts", AliasUnit::Watts),
            ("microjoules", AliasUnit::Microjoules),
        ],
    )
}
