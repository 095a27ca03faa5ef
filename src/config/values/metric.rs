//! Names of metrics and labels, and the selection of metrics.

use std::collections::BTreeMap;

use super::{flag, list, refuse, text, Outcome, Refusal};
use crate::config::diagnose::quoted;
use crate::config::tree::Node;

/// The maximum number of names in `metrics` or `enabled_metrics`.
pub const MAX_METRICS: usize = 1000;
/// The maximum length of a metric name, in bytes.
pub const MAX_NAME_LENGTH: usize = 255;

/// The name of a metric.
pub(crate) fn metric_name(node: &Node) -> Outcome<String> {
    match node {
        Node::Text(name) if valid_metric_name(name) => Ok(name.clone()),
        Node::Text(name) => Err(Refusal::new(bad_name(name))),
        _ => refuse(node, "the name of a metric"),
    }
}

/// The name of a label (`[a-zA-Z_][a-zA-Z0-9_]*`; names that begin with two underscores are reserved by Prometheus), other
/// than the labels that all series have.
pub(crate) fn label_name(node: &Node) -> Outcome<String> {
    match node {
        Node::Text(name)
            if valid_metric_name(name)
                && !name.contains(':')
                && !name.starts_with("__")
                && !["device_type", "hostname"].contains(&name.as_str()) =>
        {
            Ok(name.clone())
        }
        _ => refuse(node, "the name of a label: letters, digits and _"),
    }
}

/// The help text of a metric, on one line.
pub(crate) fn help(node: &Node) -> Outcome<String> {
    text(node, "what the metric is").map(str::to_owned)
}

/// Whether Prometheus accepts this name for a metric (`[a-zA-Z_:][a-zA-Z0-9_:]*`, of at most [`MAX_NAME_LENGTH`] bytes).
pub fn valid_metric_name(name: &str) -> bool {
    name.len() <= MAX_NAME_LENGTH
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
}

fn bad_name(name: &str) -> String {
    format!(
        "names {}, which is no metric name: letters, digits, `_` and `:`, no digit first, {MAX_NAME_LENGTH} at most",
        quoted(name)
    )
}

/// `metrics:`, names with true or false. An empty value selects no metrics.
pub(crate) fn metrics(node: &Node) -> Outcome<BTreeMap<String, bool>> {
    let entries = match node {
        Node::Null => return Ok(BTreeMap::new()),
        Node::Map(entries) => entries,
        _ => return refuse(node, "names with true or false, `name: true`, one a line"),
    };
    too_many(entries.len())?;
    let mut metrics = BTreeMap::new();
    for (name, value) in entries {
        if !valid_metric_name(name) {
            return Err(Refusal {
                key: true,
                ..Refusal::new(bad_name(name)).at(name)
            });
        }
        let value = flag(value).map_err(|refusal| refusal.at(name))?;
        metrics.insert(name.clone(), value);
    }
    Ok(metrics)
}

/// The old `enabled_metrics:`, a list of names. An empty value selects no metrics. Duplicate names are allowed, as they were
/// in the original program.
pub(crate) fn metric_names(node: &Node) -> Outcome<Vec<String>> {
    if let Node::Null = node {
        return Ok(Vec::new());
    }
    let wanted = "a list of metric names, `- name`, one a line";
    list(node, wanted, MAX_METRICS, |item| match item {
        Node::Text(name) if valid_metric_name(name) => Ok(name.clone()),
        Node::Text(name) => Err(Refusal::new(bad_name(name))),
        _ => refuse(item, "the name of a metric"),
    })
}

fn too_many(count: usize) -> Outcome<()> {
    if count > MAX_METRICS {
        return Err(Refusal::new(format!(
            "has {count} names: at most {MAX_METRICS} are allowed"
        )));
    }
    Ok(())
}
