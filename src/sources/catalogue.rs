//! The names of all metrics that the exporter can have, by which names in a configuration are checked.

use std::ops::Range;

use super::{rapl, unknown_sources, METERS};
use crate::config::diagnose::{nearest, quoted};
use crate::config::model::of_window_statistic;
use crate::config::{Config, Diagnostic};

/// The names in docs/metrics.md, one a line; `{…}` stands for one or more characters. `tests/metrics_doc.rs` writes the file.
const NAMES: &str = include_str!("catalogue.txt");
/// Names that the boards and devices of that test have in part only, or not at all.
const FAMILIES: &[&str] = &[
    "jetson_{engine}_freq_mhz",
    "jetson_{engine}_status",
    "jetson_{engine}_usage_percent",
    "power_current_amps",
    "power_voltage_volts",
    "shelly_energy_returned_minute_{N}_mwh",
];
/// Unknown metrics that are reported one by one. The rest is counted.
const MAX_NAMED: usize = 20;

/// Warnings about the metrics under `metrics:` that no source can have, and the entries of `sources:` that are no source. Both
/// have no effect. `text` is the configuration's text.
pub fn unknown_names(text: &str, config: &Config) -> Vec<Diagnostic> {
    let own = rapl::names_in(config);
    let names = NAMES.lines().chain(FAMILIES.iter().copied());
    let names: Vec<&str> = names.chain(own.iter().map(String::as_str)).collect();
    let is_known = |name: &str| names.iter().any(|pattern| has_form(name, pattern));
    let listed = config.metrics.iter().flatten();
    let mut unknown = listed
        .filter(|(name, on)| {
            **on && !is_known(name) && !of_window_statistic(name).is_some_and(is_known)
        })
        .map(|(name, _)| name.as_str());
    let mut warnings: Vec<Diagnostic> = unknown
        .by_ref()
        .take(MAX_NAMED)
        .map(|name| metric(text, name, &names))
        .collect();
    match unknown.count() {
        0 => {}
        more => warnings.push(Diagnostic::new(format!("{more} more unknown metrics"))),
    }
    for name in unknown_sources(config) {
        warnings.push(source(text, config, name));
    }
    warnings.into_iter().map(Diagnostic::unknown_name).collect()
}

/// The parts of a pattern before and after its `{…}`.
fn parts(pattern: &str) -> Option<(&str, &str)> {
    let (begin, rest) = pattern.split_once('{')?;
    Some((begin, rest.split_once('}')?.1))
}

fn has_form(name: &str, pattern: &str) -> bool {
    match parts(pattern) {
        None => name == pattern,
        Some((begin, end)) => {
            let own = name.strip_prefix(begin).and_then(|n| n.strip_suffix(end));
            own.is_some_and(|own| !own.is_empty())
        }
    }
}

fn metric(text: &str, name: &str, names: &[&str]) -> Diagnostic {
    let candidates: Vec<String> = names
        .iter()
        .flat_map(|pattern| match parts(pattern) {
            None => vec![pattern.to_string()],
            Some((begin, end)) => filled_in(name, begin, end),
        })
        .collect();
    let message = match nearest(name, candidates.iter().map(String::as_str)) {
        Some(near) => format!("unknown metric `{name}`: did you mean `{near}`?"),
        None => {
            format!("unknown metric `{name}`: no source can have it (docs/metrics.md lists all)")
        }
    };
    let found = Diagnostic::at_key(text, &["metrics", name], message);
    match found.line {
        Some(_) => found,
        None => in_old_list(text, name, found),
    }
}

/// Names of a family that are similar to `name`: what `name` has between beginning and end, where those may have a letter
/// too many or too few.
fn filled_in(name: &str, begin: &str, end: &str) -> Vec<String> {
    let near = |length: usize| -> Range<usize> { length.saturating_sub(1)..length + 2 };
    let between = |(from, to): (usize, usize)| {
        let own = name.get(from..name.len().checked_sub(to)?)?;
        let own = own.trim_matches('_');
        (!own.is_empty()).then(|| format!("{begin}{own}{end}"))
    };
    let places = near(begin.len()).flat_map(|from| near(end.len()).map(move |to| (from, to)));
    places.filter_map(between).collect()
}

/// Places a diagnostic about a name in the list `enabled_metrics`.
fn in_old_list(text: &str, name: &str, found: Diagnostic) -> Diagnostic {
    const KEY: &str = "enabled_metrics";
    let at_key = Diagnostic::at_key(text, &[KEY], found.message.clone());
    let Some(first) = at_key.line else {
        return found;
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let lines = text.lines().enumerate().skip(first - 1);
    let place = lines.into_iter().find_map(|(number, line)| {
        let mut places = line.match_indices(name);
        let (at, _) = places.find(|(at, _)| {
            let before = line.get(..*at).and_then(|l| l.chars().next_back());
            let after = line.get(at + name.len()..).and_then(|l| l.chars().next());
            !before.is_some_and(is_part) && !after.is_some_and(is_part)
        })?;
        let column = line
            .get(..at)
            .map_or(1, |before| before.chars().count() + 1);
        Some((number + 1, column))
    });
    match place {
        Some((line, column)) => Diagnostic::at(line, column, at_key.message),
        None => at_key,
    }
}

fn source(text: &str, config: &Config, name: &str) -> Diagnostic {
    let known: Vec<&str> = METERS.iter().map(|meter| meter.name).collect();
    let shown = quoted(name);
    let message = match nearest(name, known.iter().copied()) {
        Some(near) => format!("unknown source {shown} in `sources`: did you mean `{near}`?"),
        None => {
            let known = known.join(", ");
            format!("unknown source {shown} in `sources`: the sources are {known}")
        }
    };
    let listed = config.sources.iter().flatten();
    let index = listed.take_while(|listed| *listed != name).count();
    let found = Diagnostic::at_key(text, &["sources", &index.to_string()], message);
    match found.line {
        Some(_) => found,
        None => Diagnostic::at_key(text, &["sources"], found.message),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SCHEMA;
    use super::*;

    fn warnings(text: &str) -> Vec<String> {
        let (config, _) = SCHEMA.parse(text).unwrap();
        let found = unknown_names(text, &config);
        assert!(found.iter().all(|warning| warning.is_unknown_name));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_that_some_source_has_are_known() {
        let text = "rapl: {metric: mine_watts, duration_metric: mine_seconds}\nsources: [hwmon, json]\nmetrics:\n\
                    \x20 {mine_watts: true, mine_seconds: true, power_watts: true, power_watts_avg: true,\n\
                    \x20 jetson_power_vdd_in_watts: true, jetson_power_vdd_in_watts_max: true, energy_window_joules: true,\n\
                    \x20 jetson_nvdec9_status: true, exporter_source_up: true, not_there: false}\n";
        assert_eq!(warnings(text), [""; 0]);
    }

    #[test]
    fn unknown_metric_has_its_line_and_the_nearest_name() {
        let text =
            "metrics:\n  power_total_wats: true\n  jetson_pwer_vdd_in_watts: true\n  zzz: true\n";
        assert_eq!(
            warnings(text),
            [
                "line 3, column 3: unknown metric `jetson_pwer_vdd_in_watts`: did you mean `jetson_power_vdd_in_watts`?",
                "line 2, column 3: unknown metric `power_total_wats`: did you mean `power_total_watts`?",
                "line 4, column 3: unknown metric `zzz`: no source can have it (docs/metrics.md lists all)",
            ]
        );
        let text = "enabled_metrics:\n- power_watts\n- 'power_wats'\n";
        assert_eq!(
            warnings(text),
            ["line 3, column 4: unknown metric `power_wats`: did you mean `power_watts`?"]
        );
    }

    #[test]
    fn unknown_source_has_its_line_and_the_nearest_name() {
        let text = "sources:\n- hwmon\n- termal\n- abcdefgh\n";
        let found = warnings(text);
        assert_eq!(
            found[0],
            "line 3, column 3: unknown source \"termal\" in `sources`: did you mean `thermal`?"
        );
        assert!(
            found[1].starts_with(
                "line 4, column 3: unknown source \"abcdefgh\" in `sources`: the sources are "
            ),
            "{found:?}"
        );
    }

    #[test]
    fn many_unknown_metrics_are_counted() {
        let names: String = (0..1000).map(|i| format!("  zzz{i}: true\n")).collect();
        let found = warnings(&format!("metrics:\n{names}"));
        assert_eq!(found.len(), MAX_NAMED + 1);
        assert_eq!(found[MAX_NAMED], "980 more unknown metrics");
    }
}
