//! Labels that a configuration gives names and values: those of a group's boards, and those of all series of a board.

use std::collections::BTreeMap;

use super::diagnose::quoted;
use super::document::Document;
use super::group::TargetLabels;
use super::remote_write::valid_label_name;
use super::tree::Node;
use super::values::{refuse, Outcome, Refusal};

/// The most labels of a group, of a target, and of all series of a board.
pub const MAX_LABELS: usize = 32;
/// Bytes of the longest value of a label.
const MAX_VALUE: usize = 256;
/// Bytes of the longest name of a constant label.
const MAX_NAME: usize = 128;
/// Bytes of all constant labels, names and values. Every series keeps its text, and there may be thousands of series.
const MAX_BYTES: usize = 2048;
/// Labels that a constant label would collide with: those of the exporter's own series, in all presets; those that Prometheus
/// gives a target; and those that have a meaning in Prometheus's formats. Tests compare it with docs/metrics.md
/// and with the naming schemes of workloads.
const TAKEN: &[&str] = &[
    "arch",
    "channel",
    "cmdline",
    "comm",
    "component",
    "consumer",
    "container",
    "container_id",
    "container_label_com_docker_compose_project",
    "container_label_com_docker_compose_service",
    "container_name",
    "container_names",
    "container_runtime",
    "container_scheduler",
    "core_id",
    "device",
    "device_type",
    "disk_file_system",
    "disk_mount_point",
    "disk_name",
    "domain",
    "domain_name",
    "exe",
    "gpu",
    "hostname",
    "hypervisor",
    "instance",
    "job",
    "kind",
    "kubernetes_node_name",
    "kubernetes_pod_name",
    "kubernetes_pod_namespace",
    "le",
    "limit",
    "model_name",
    "name",
    "namespace",
    "node_name",
    "outcome",
    "path",
    "physical_id",
    "pid",
    "pod",
    "pod_id",
    "pod_name",
    "pod_namespace",
    "processor",
    "quantile",
    "rail",
    "reason",
    "remote_name",
    "runtime",
    "sensor",
    "socket_id",
    "source",
    "state",
    "type",
    "uuid",
    "value_source",
    "vendor_id",
    "version",
    "vm_id",
    "vm_name",
    "vmname",
    "zone",
];

/// Whether series of the exporter have this label already, or Prometheus adds it.
pub fn is_taken_label(name: &str) -> bool {
    TAKEN.contains(&name)
}

/// Labels by name. A label without a value is `None`. `unusable` says why a name cannot be used, as the end of a sentence that
/// begins with the key.
pub(super) fn labels(
    node: &Node,
    unusable: impl Fn(&str) -> Option<String>,
) -> Outcome<BTreeMap<String, Option<String>>> {
    let Node::Map(entries) = node else {
        return refuse(node, "names with values, such as {site: berlin}");
    };
    if entries.len() > MAX_LABELS {
        return Err(Refusal::new(format!(
            "has {} names: at most {MAX_LABELS} are allowed",
            entries.len()
        )));
    }
    let label = |(name, node): &(String, Node)| {
        let not_valid = || {
            (!valid_label_name(name)).then(|| {
                format!(
                    "has {}, which is no name of a label: letters, digits and `_`, no digit first, and not two `_` first",
                    quoted(name)
                )
            })
        };
        if let Some(message) = not_valid().or_else(|| unusable(name)) {
            return Err(Refusal {
                below: vec![name.clone()],
                key: true,
                message,
            });
        }
        let value = value(node).map_err(|refusal| refusal.at(name))?;
        Ok((name.clone(), value))
    };
    entries.iter().map(label).collect()
}

fn value(node: &Node) -> Outcome<Option<String>> {
    match node {
        Node::Null => Ok(None),
        Node::Int(number) => Ok(Some(number.to_string())),
        Node::Text(text)
            if (1..=MAX_VALUE).contains(&text.len()) && !text.contains(char::is_control) =>
        {
            Ok(Some(text.clone()))
        }
        _ => refuse(
            node,
            "text of 1 to 256 bytes without control characters, in quotes if it looks like another kind of value, or `null`, which is no label",
        ),
    }
}

/// The key of the labels that all series have.
pub(super) const CONSTANT_LABELS: &str = "constant_labels";

/// A part of a configuration with these labels as those that all series have, below what it says of them itself. `None` takes a
/// label away, when the document is merged into another one.
pub fn with_constant_labels(document: &Document, labels: &TargetLabels) -> Document {
    let Node::Map(mut root) = document.root() else {
        return document.clone();
    };
    let place = root.iter().position(|(key, _)| key == CONSTANT_LABELS);
    let mut entries = match place.map(|at| root.remove(at)) {
        None => Vec::new(),
        Some((_, Node::Map(entries))) => entries,
        // It gives them their default again, or is not valid.
        Some(_) => return document.clone(),
    };
    for (name, value) in labels {
        if !entries.iter().any(|(known, _)| known == name) {
            let value = value.clone().map_or(Node::Null, Node::Text);
            entries.push((name.clone(), value));
        }
    }
    root.push((CONSTANT_LABELS.to_owned(), Node::Map(entries)));
    Document::of(root)
}

/// `constant_labels:`.
pub(super) fn constant_labels(node: &Node) -> Outcome<BTreeMap<String, String>> {
    let unusable = |name: &str| match name {
        "device_type" | "hostname" => Some(format!(
            "has `{name}`, a label that series have already: set the key `{name}`"
        )),
        "instance" | "job" => Some(format!(
            "has `{name}`, a label that Prometheus gives every target: choose another name"
        )),
        _ if is_taken_label(name) => Some(taken(name)),
        _ if name.len() > MAX_NAME => Some(format!(
            "has a name of {} bytes: at most {MAX_NAME} are allowed",
            name.len()
        )),
        _ => None,
    };
    let labels = labels(node, unusable)?;
    let labels: BTreeMap<_, _> = labels
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let bytes: usize = labels.iter().map(|(n, v)| n.len() + v.len()).sum();
    match bytes {
        0..=MAX_BYTES => Ok(labels),
        _ => Err(Refusal::new(format!(
            "has {bytes} bytes of names and values: at most {MAX_BYTES} are allowed, because every series has them"
        ))),
    }
}

/// The end of the sentence about a label that series have already.
pub(super) fn taken(name: &str) -> String {
    format!("has `{name}`, a label that some series have already: choose another name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_labels_are_listed_once_and_in_order() {
        assert!(TAKEN.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
