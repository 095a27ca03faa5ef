//! Resolves addresses and other names to nodes, and containers to pods. Pure.
//!
//! node_exporter, the kubelet, Kepler and Scaphandre each have another port in the label `instance`, and either an IP address
//! or a name before it. Scaphandre has labels of containers, where all others have labels of pods.

use std::collections::hash_map::Entry;
use std::collections::HashMap;

use super::prometheus::Series;
use crate::config::queries::{NODE_LABELS, POD_LABELS};

/// The most names of each kind. A Kubernetes cluster has at most 150,000 pods, but one that large is queried by sums.
const MAX_NAMES: usize = 50_000;

/// The names learned from answers.
#[derive(Debug, Default)]
pub struct Names {
    /// Nodes by IP address or host name. `None`: several nodes share this one.
    nodes: HashMap<Box<str>, Option<Box<str>>>,
    /// Pods by container.
    containers: HashMap<Box<str>, Pod>,
}

/// A pod, and its node if that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The pod's name.
    pub name: Box<str>,
    /// The node's name.
    pub node: Option<Box<str>>,
}

impl Names {
    /// Learns nodes from an answer. Names learned from earlier answers take precedence. An address that one answer gives to
    /// two nodes resolves to neither.
    pub fn learn_nodes(&mut self, answer: &[Series]) {
        let mut new: HashMap<&str, Option<&str>> = HashMap::new();
        for series in answer {
            let Some(node) = series.label("node").or(series.label("nodename")) else {
                continue;
            };
            let addresses = [series.label("internal_ip"), series.label("pod_ip")];
            let mut addresses: Vec<_> = addresses.into_iter().flatten().collect();
            // If the series has the node's address, its instance is that of the exporter which reports it.
            let instance = series.label("instance").filter(|_| addresses.is_empty());
            let host = instance.map(host);
            addresses.extend(instance.into_iter().chain(host));
            // If the address is already a node's, this name is another name of that node.
            let known = host.and_then(|host| self.nodes.get(host)).cloned();
            if let Some(Some(known)) = &known {
                self.insert(node, Some(known));
                continue;
            }
            for address in addresses {
                match new.entry(address) {
                    Entry::Vacant(entry) => drop(entry.insert(Some(node))),
                    Entry::Occupied(mut entry) if *entry.get() != Some(node) => {
                        entry.insert(None);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        for (address, node) in new {
            self.insert(address, node);
        }
    }

    fn insert(&mut self, name: &str, node: Option<&str>) {
        if self.nodes.len() < MAX_NAMES && !self.nodes.contains_key(name) {
            self.nodes.insert(name.into(), node.map(Into::into));
        }
    }

    /// Learns the pods of containers from an answer. Names learned earlier take precedence.
    pub fn learn_containers(&mut self, answer: &[Series]) {
        for series in answer {
            if let (Some(id), Some(pod)) = (series.label("container_id"), series.label("pod")) {
                self.learn_container(id, pod, series.label("node"));
            }
        }
    }

    /// Learns the pod of one container, whose id may have a prefix or suffix of its runtime.
    pub fn learn_container(&mut self, id: &str, pod: &str, node: Option<&str>) {
        let id = bare_id(id);
        if !id.is_empty() && self.containers.len() < MAX_NAMES {
            self.containers.entry(id.into()).or_insert_with(|| Pod {
                name: pod.into(),
                node: node.map(Into::into),
            });
        }
    }

    /// Adds the containers of earlier names that are not known.
    pub fn keep_containers(&mut self, before: &Names) {
        for (id, pod) in &before.containers {
            self.learn_container(id, &pod.name, pod.node.as_deref());
        }
    }

    /// The name of the node that a series is about.
    pub fn node(&self, series: &Series) -> Option<Box<str>> {
        for label in NODE_LABELS {
            if let Some(name) = series.label(label) {
                return Some(self.resolve(name).unwrap_or(name).into());
            }
        }
        let instance = series.label("instance")?;
        let host = host(instance);
        let name = self.resolve(instance).or_else(|| self.resolve(host));
        // If several nodes share an address, the port distinguishes them.
        let shared = matches!(self.nodes.get(host), Some(None));
        Some(name.unwrap_or(if shared { instance } else { host }).into())
    }

    /// The name of the node that has this name or address.
    fn resolve(&self, name: &str) -> Option<&str> {
        self.nodes.get(name)?.as_deref()
    }

    /// The pod that a series is about, and whether the series is about one container of the pod.
    pub fn pod(&self, series: &Series) -> Option<(Pod, bool)> {
        let node = self.node(series);
        for label in POD_LABELS {
            if let Some(name) = series.label(label) {
                let name = name.into();
                return Some((Pod { name, node }, false));
            }
        }
        let id = bare_id(series.label("container_id")?);
        let pod = self.containers.get(id)?;
        let node = node.or_else(|| pod.node.clone());
        Some((
            Pod {
                node,
                ..pod.clone()
            },
            true,
        ))
    }
}

/// `10.0.0.7:9100` without its port. `[fe80::1]:80` is `fe80::1`.
fn host(instance: &str) -> &str {
    if let Some(rest) = instance.strip_prefix('[') {
        let inside = rest.split(']').next();
        return inside.filter(|host| !host.is_empty()).unwrap_or(instance);
    }
    match instance.split_once(':') {
        Some((host, port)) if !host.is_empty() && !port.contains(':') => host,
        _ => instance,
    }
}

/// A container's id as its runtime has it. Kubernetes prefixes `containerd://`, and Scaphandre takes the id from the name of
/// a cgroup, `cri-containerd-….scope`.
fn bare_id(id: &str) -> &str {
    let id = id.rsplit("//").next().unwrap_or(id);
    let id = id.strip_suffix(".scope").unwrap_or(id);
    id.rsplit('-').next().unwrap_or(id)
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
