//! The settings of the attribution to workloads.

use std::collections::BTreeMap;

use serde::Serialize;

use super::name::Kind;
use super::names;
use super::scheme;
use crate::config::section::{Problem, Section};
use crate::config::tree::Node;
use crate::config::values::{self, Outcome, Refusal};
use crate::config::{Config, MeterSettings};

/// The domain that a single number of `idle_watts` is of.
const BOARD: &str = super::domain::BOARD;
/// The most workloads that can be asked for: each has a series for every domain and more.
const MAX_WORKLOADS: usize = 2000;
/// How many workloads have series of their own where the configuration does not say.
pub(super) const DEFAULT_MAX_WORKLOADS: usize = 500;
/// The longest name of a domain, in bytes.
const MAX_DOMAIN: usize = 64;

/// `workloads:`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Settings {
    /// Whether energy is attributed.
    pub enabled: bool,
    /// What it is attributed to.
    pub kinds: Vec<Kind>,
    /// How many workloads have series of their own.
    pub max_workloads: usize,
    /// The naming schemes of the series.
    pub metric_names: Vec<&'static str>,
    /// Idle power by domain, in watts. That of other domains is learned.
    pub idle_watts: BTreeMap<String, f64>,
    /// Whether the memory of workloads and of the board is read, too.
    pub memory: bool,
    /// Whether nvidia-smi is asked which processes use the GPUs.
    pub gpu_processes: bool,
    /// Where names of containers and pods are learned.
    pub names: names::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            kinds: vec![Kind::Service, Kind::Container, Kind::Pod],
            max_workloads: DEFAULT_MAX_WORKLOADS,
            metric_names: vec![scheme::NATIVE],
            idle_watts: BTreeMap::new(),
            memory: true,
            gpu_processes: true,
            names: names::Settings::default(),
        }
    }
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "workloads";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::flag, &mut settings.enabled)?;
        section.set("metric_names", metric_names, &mut settings.metric_names)?;
        let is_native = settings.metric_names == [scheme::NATIVE];
        section.set("kinds", |node| kinds(node, is_native), &mut settings.kinds)?;
        section.set("max_workloads", max_workloads, &mut settings.max_workloads)?;
        section.set("idle_watts", idle_watts, &mut settings.idle_watts)?;
        section.set("memory", values::flag, &mut settings.memory)?;
        section.set("gpu_processes", values::flag, &mut settings.gpu_processes)?;
        section.section("names", |section| settings.names.read(section))?;
        Ok(settings)
    }

    fn warnings(&self, common: &Config) -> Vec<(&'static str, String)> {
        let is_listed = |sources: &Vec<String>| sources.iter().any(|name| name == Self::SECTION);
        if !self.enabled || common.sources.as_ref().is_none_or(is_listed) {
            return Vec::new();
        }
        let message = "`workloads.enabled` has no effect, because `sources` lists others: add `workloads` there";
        vec![(Self::SECTION, message.to_string())]
    }
}

/// One attribution of all energy.
#[derive(Debug, Default, PartialEq)]
pub(super) struct View {
    /// The label `device` of the exporter's own metrics. Empty if there is one view only.
    pub name: &'static str,
    /// What energy is attributed to.
    pub kinds: Vec<Kind>,
    /// The naming schemes, and whether each has its series about the board here.
    pub schemes: Vec<(&'static str, bool)>,
}

impl Settings {
    /// By cgroup, by process, or both: each view is a division of the whole. The exporter's own names do not tell views apart, so
    /// that only the first has them.
    pub(super) fn views(&self) -> Vec<View> {
        let kinds = self.kinds.iter().copied();
        let (processes, cgroups): (Vec<_>, Vec<_>) = kinds.partition(|kind| *kind == Kind::Process);
        let is_alone = processes.is_empty() || cgroups.is_empty();
        let mut views = Vec::new();
        if !cgroups.is_empty() {
            views.push(View {
                name: if is_alone { "" } else { "cgroups" },
                kinds: cgroups,
                schemes: self
                    .metric_names
                    .iter()
                    .map(|name| (*name, is_alone || *name == scheme::NATIVE))
                    .collect(),
            });
        }
        if !processes.is_empty() {
            let mut schemes: Vec<_> = self.metric_names.iter().map(|name| (*name, true)).collect();
            schemes.retain(|(name, _)| is_alone || *name != scheme::NATIVE);
            views.push(View {
                name: if is_alone { "" } else { "processes" },
                kinds: processes,
                schemes,
            });
        }
        views
    }
}

fn metric_names(node: &Node) -> Outcome<Vec<&'static str>> {
    let words: Vec<_> = scheme::names().map(|name| (name, name)).collect();
    let wanted = "a list of native, kepler and scaphandre";
    let names = values::list(node, wanted, words.len(), |item| {
        values::choice(item, &words)
    })?;
    if names.is_empty() {
        return values::refuse(node, wanted);
    }
    refuse_second(&names, |name| name)?;
    Ok(names)
}

/// Kinds; processes beside others only where other names than the exporter's own tell them apart.
fn kinds(node: &Node, is_native: bool) -> Outcome<Vec<Kind>> {
    let wanted = "a list of service, container and pod, or [process]";
    let words = Kind::CONFIGURABLE.map(|kind| (kind.as_str(), kind));
    let kinds = values::list(node, wanted, words.len(), |item| {
        values::choice(item, &words)
    })?;
    if kinds.is_empty() {
        return values::refuse(node, wanted);
    }
    refuse_second(&kinds, |kind| kind.as_str())?;
    if is_native && kinds.len() > 1 && kinds.contains(&Kind::Process) {
        return Err(Refusal::new(
            "has process beside other kinds, whose energy would be counted twice: write [process] alone, or leave it out"
                .to_string(),
        ));
    }
    Ok(kinds)
}

fn refuse_second<T: PartialEq>(items: &[T], text: impl Fn(&T) -> &str) -> Outcome<()> {
    for (i, item) in items.iter().enumerate() {
        if items[..i].contains(item) {
            let message = format!("is {} a second time: remove one of the two", text(item));
            return Err(Refusal::new(message).at(i));
        }
    }
    Ok(())
}

fn max_workloads(node: &Node) -> Outcome<usize> {
    match values::whole(node).filter(|count| (1..=MAX_WORKLOADS).contains(count)) {
        Some(count) => Ok(count),
        None => values::refuse(node, &format!("a whole number from 1 to {MAX_WORKLOADS}")),
    }
}

/// A number is the board's.
fn idle_watts(node: &Node) -> Outcome<BTreeMap<String, f64>> {
    let Node::Map(entries) = node else {
        return Ok(BTreeMap::from([(BOARD.to_string(), values::watts(node)?)]));
    };
    let mut watts = BTreeMap::new();
    for (domain, node) in entries {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if domain.is_empty() || domain.len() > MAX_DOMAIN || !domain.chars().all(is_name) {
            let message =
                "is no name of a domain: write what the label `domain` says, such as board, package or cpu";
            return Err(Refusal {
                key: true,
                ..Refusal::new(message.to_string())
            }
            .at(domain));
        }
        let value = values::watts(node).map_err(|refusal| refusal.at(domain))?;
        watts.insert(domain.clone(), value);
    }
    Ok(watts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::SCHEMA;

    fn parse(text: &str) -> Settings {
        SCHEMA.parse(text).unwrap().0.meter()
    }

    fn refusal(text: &str) -> String {
        SCHEMA.parse(text).unwrap_err().to_string()
    }

    #[test]
    fn enabled_alone_suffices() {
        assert!(!parse("").enabled);
        let settings = parse("workloads: {enabled: true}\n");
        let expected = Settings {
            enabled: true,
            ..Settings::default()
        };
        assert_eq!(settings, expected);
        assert_eq!(settings.max_workloads, 500);
    }

    #[test]
    fn idle_watts_are_of_the_board_or_by_domain() {
        let of = |text: &str| parse(&format!("workloads: {{idle_watts: {text}}}\n")).idle_watts;
        assert_eq!(of("4.5"), BTreeMap::from([("board".to_string(), 4.5)]));
        assert_eq!(
            of("{package: 3, cpu_gpu_cv: 0.5}"),
            BTreeMap::from([
                ("package".to_string(), 3.0),
                ("cpu_gpu_cv".to_string(), 0.5)
            ])
        );
    }

    #[test]
    fn each_view_has_the_names_that_it_shows() {
        let views = |text: &str| parse(&format!("workloads: {{{text}}}\n")).views();
        let [view] = &views("metric_names: [kepler, native]")[..] else {
            panic!("one view");
        };
        assert_eq!(view.schemes, [("kepler", true), ("native", true)]);
        let both = views("kinds: [process, pod], metric_names: [kepler, native]");
        let [cgroups, processes] = &both[..] else {
            panic!("two views");
        };
        assert_eq!(cgroups.kinds, [Kind::Pod]);
        assert_eq!(cgroups.schemes, [("kepler", false), ("native", true)]);
        assert_eq!(processes.kinds, [Kind::Process]);
        assert_eq!(processes.schemes, [("kepler", true)]);
    }

    #[test]
    fn names_are_asked_for_where_the_configuration_says() {
        let names = parse("").names;
        assert!(names.enabled && names.sockets.is_none());
        let text =
            "workloads: {names: {sockets: [/a.sock], node: n, kubernetes: {enabled: false}}}\n";
        let names = parse(text).names;
        assert_eq!(names.sockets, Some(vec!["/a.sock".into()]));
        assert_eq!(names.node.as_deref(), Some("n"));
        let off = parse("workloads: {names: {enabled: false, sockets: []}}\n").names;
        assert_eq!((off.enabled, off.sockets), (false, Some(Vec::new())));
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        for (text, expected) in [
            (
                "kinds: [process, pod]",
                "`workloads.kinds` has process beside other kinds",
            ),
            ("kinds: [vm]", "service, container, pod or process"),
            ("kinds: [pod, pod]", "is pod a second time"),
            (
                "kinds: []",
                "`workloads.kinds` is a list: write a list of service",
            ),
            ("metric_names: [keppler]", "native, kepler or scaphandre"),
            (
                "metric_names: []",
                "a list of native, kepler and scaphandre",
            ),
            ("metric_names: [kepler, kepler]", "is kepler a second time"),
            ("max_workloads: 0", "a whole number from 1 to 2000"),
            ("idle_watts: -1", "watts from 0"),
            (
                "idle_watts: {board: much}",
                "`workloads.idle_watts.board` is the text",
            ),
            ("idle_watts: {\"a b\": 1}", "is no name of a domain"),
            ("names: {sockets: /a}", "a list of the paths of sockets"),
            ("names: {kubernetes: {enabled: yes}}", "auto, true or false"),
        ] {
            let message = refusal(&format!("workloads: {{{text}}}\n"));
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
