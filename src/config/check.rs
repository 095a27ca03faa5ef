//! Validates what depends on several keys, and collects the warnings.

use std::collections::BTreeMap;

use super::diagnose::Diagnostic;
use super::keys::{unknown, KeyUsage};
use super::model::Config;
use super::read::UncheckedConfig;
use crate::sys::sort::sort_by;

/// Unknown keys that are reported one by one. The rest is counted.
const MAX_NAMED: usize = 20;

/// Completes a configuration: converts old keys, rejects contradictions, and collects warnings ordered by line.
pub(crate) fn check(
    text: &str,
    unchecked: UncheckedConfig,
) -> Result<(Config, Vec<Diagnostic>), Diagnostic> {
    let UncheckedConfig {
        mut config,
        enabled_metrics,
        is_empty,
        keys,
    } = unchecked;
    let mut warnings = key_warnings(text, &keys);
    let mut warn = |path: &[&str], message: String| {
        warnings.push(Diagnostic::at_key(text, path, message));
    };

    if let Some(port) = config
        .port
        .filter(|port| *port != 0 && config.reload_port == Some(*port))
    {
        let message = format!("`port` and `reload_port` are both {port}: they need two");
        let key = if super::lines::key(text, &["reload_port"]).is_some() {
            "reload_port"
        } else {
            "port"
        };
        return Err(Diagnostic::at_value(text, &[key], message));
    }

    if let Some((key, message)) = config.meters.contradiction(&config) {
        return Err(Diagnostic::at_key(text, &[key], message));
    }

    if is_empty {
        let message = "the file holds no settings: all have their defaults";
        warn(&[], message.into());
    }

    let has_no_names = config.metrics.as_ref().is_none_or(BTreeMap::is_empty);
    let converted = enabled_metrics.is_some() && has_no_names;
    if let Some(names) = enabled_metrics {
        warn(&["enabled_metrics"], convert(&mut config, names));
    }
    if let Some(metrics) = config.metrics.as_ref() {
        let exports = match config.self_metrics {
            true => "no measurement is exported, only the exporter's own metrics",
            false => "nothing is exported",
        };
        let key = if converted {
            "enabled_metrics"
        } else {
            "metrics"
        };
        if metrics.is_empty() {
            warn(
                &[key],
                format!("`{key}` is empty: {exports}; remove the key to export all that is found"),
            );
        } else if metrics.values().all(|on| !on) {
            warn(&[key], format!("no name of `{key}` is true: {exports}"));
        }
    }

    let has_history = !config.history.keep.is_zero() && config.history.bytes > 0;
    if !config.remote_write.is_empty() && !has_history {
        let message = "`remote_write`: nothing is sent, because `history` keeps nothing";
        warn(&["remote_write"], message.into());
    }
    for (key, message) in config.meters.warnings(&config) {
        warn(&[key], message);
    }
    let place = |warning: &Diagnostic| {
        (
            warning.line.unwrap_or(usize::MAX),
            warning.column.unwrap_or(usize::MAX),
        )
    };
    sort_by(&mut warnings, |a, b| place(a).cmp(&place(b)));
    Ok((config, warnings))
}

/// A warning for each key that is unknown or has no effect.
pub(crate) fn key_warnings(text: &str, keys: &KeyUsage) -> Vec<Diagnostic> {
    let warning = |path: &Vec<String>| {
        let steps: Vec<&str> = path.iter().map(String::as_str).collect();
        Diagnostic::at_key(text, &steps, unknown(path, &keys.known)).unknown_name()
    };
    let named = keys.unknown.iter().take(MAX_NAMED).map(warning);
    let more = keys.unknown.len().checked_sub(MAX_NAMED);
    let more = more
        .filter(|&n| n > 0)
        .map(|more| Diagnostic::new(format!("{more} more unknown keys")).unknown_name());
    let idle = keys.ignored.iter().map(|(path, message)| {
        let steps: Vec<&str> = path.iter().map(String::as_str).collect();
        Diagnostic::at_key(text, &steps, message.clone())
    });
    named.chain(more).chain(idle).collect()
}

/// Converts the old list `enabled_metrics` to `metrics`, unless `metrics` has names itself: the original program decided so,
/// too. Returns the warning.
fn convert(config: &mut Config, names: Vec<String>) -> String {
    match &config.metrics {
        Some(metrics) if !metrics.is_empty() => {
            "`enabled_metrics` is the old form and has no effect, because `metrics` has names: remove it".into()
        }
        _ => {
            let metrics: BTreeMap<_, _> = names.into_iter().map(|name| (name, true)).collect();
            let message = format!(
                "`enabled_metrics` is the old form: read as `metrics` with {} true",
                match metrics.len() {
                    1 => "1 name".into(),
                    count => format!("{count} names"),
                }
            );
            config.metrics = Some(metrics);
            message
        }
    }
}
