//! The collector's configuration, `collector.yaml`: types, defaults and parsing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::check::key_warnings;
use super::diagnose::{Diagnostic, Origin};
use super::keys::KeyUsage;
use super::load;
use super::model::Switch;
use super::overrides::{self, KeyOverride};
use super::queries::{Column, CONTAINERS, NODES, NODE_NAMES, PODS, WORKLOADS};
use super::schema::Schema;
use super::section::{read_document, Problem, Section};
use super::tree::{self, Node};
use super::values::{self, refuse, Outcome, Refusal};
use super::{http_client, text_of, ClientSettings as Settings};

/// Advice for a missing file that the user has named.
const MISSING_FILE_ADVICE: &str =
    "copy collector.yaml.template there, or name no file by --config: the defaults need none";
/// The maximum length of a query, in bytes. Many servers reject URLs of more than 8 KiB, and encoding lengthens a query.
const MAX_QUERY: usize = 2048;
/// The maximum number of queries of a column.
const MAX_QUERIES: usize = 16;
/// The maximum of `keep`. A row takes some 400 bytes.
const MAX_ROWS: usize = 100_000;
/// The maximum number of streams. Each takes a file descriptor and some kilobytes.
const MAX_STREAMS: usize = 10_000;

/// All settings of the collector. `Collector::default()` applies without a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Collector {
    /// The URL of Prometheus.
    pub url: String,
    /// Login, TLS and proxy.
    pub http: Settings,
    /// The timeout of a query.
    pub timeout: Duration,
    /// The interval of the queries.
    pub interval: Duration,
    /// The namespace whose pods are observed; `None` is that of the service account, else `default`.
    pub namespace: Option<String>,
    /// The port to serve on; 0 is any free port.
    pub port: u16,
    /// The address to listen on; `None` is all addresses, IPv4 and IPv6.
    pub listen_address: Option<String>,
    /// The maximum number of rows of nodes to keep.
    pub keep_nodes: usize,
    /// The maximum number of rows of pods to keep.
    pub keep_pods: usize,
    /// The maximum number of rows of workloads to keep.
    pub keep_workloads: usize,
    /// WebSocket streams.
    pub streams: Streams,
    /// The Kubernetes API.
    pub kubernetes: Kubernetes,
    /// The queries.
    pub queries: Queries,
}

/// Settings of WebSocket streams.
#[derive(Debug, Clone, PartialEq)]
pub struct Streams {
    /// The maximum number of concurrent clients.
    pub clients: usize,
    /// The interval of pings to a silent client.
    pub ping: Duration,
    /// The time after which a silent client, or one that does not read the close frame, is disconnected.
    pub patience: Duration,
}

/// Access to the Kubernetes API, which maps containers to pods.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kubernetes {
    /// Whether to use the API; `auto` is if there is a service account.
    pub enabled: Switch,
    /// The URL; `None` is the one in KUBERNETES_SERVICE_HOST and _PORT.
    pub url: Option<String>,
    /// The directory with `token`, `ca.crt` and `namespace`.
    pub service_account: PathBuf,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Kubernetes {
            enabled: Switch::Auto,
            url: None,
            service_account: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
        }
    }
}

impl Kubernetes {
    /// Reads the keys of the section.
    pub(crate) fn read(&mut self, section: &mut Section<'_, '_>) -> Result<(), Problem> {
        section.set("enabled", values::switch, &mut self.enabled)?;
        section.option("url", base_url, &mut self.url)?;
        section.set("service_account", values::path, &mut self.service_account)
    }
}

/// PromQL queries. For each row of a column, the first query with a value is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Queries {
    /// By column of [`NODES`].
    pub nodes: Vec<Vec<String>>,
    /// By column of [`PODS`].
    pub pods: Vec<Vec<String>>,
    /// By column of [`WORKLOADS`].
    pub workloads: Vec<Vec<String>>,
    /// As [`NODE_NAMES`].
    pub node_names: Vec<String>,
    /// As [`CONTAINERS`].
    pub containers: Vec<String>,
}

impl Default for Collector {
    fn default() -> Self {
        Collector {
            url: "http://metrics-prometheus-server.prometeus.svc".into(),
            http: Settings::default(),
            timeout: Duration::from_secs(10),
            interval: Duration::from_secs(30),
            namespace: None,
            port: 8000,
            listen_address: None,
            keep_nodes: 1024,
            keep_pods: 8192,
            keep_workloads: 8192,
            streams: Streams {
                clients: 500,
                ping: Duration::from_secs(30),
                patience: Duration::from_secs(120),
            },
            kubernetes: Kubernetes::default(),
            queries: Queries::default(),
        }
    }
}

impl Default for Queries {
    fn default() -> Self {
        let owned = |column: &Column| column.queries.iter().map(|q| q.to_string()).collect();
        Queries {
            nodes: NODES.iter().map(owned).collect(),
            pods: PODS.iter().map(owned).collect(),
            workloads: WORKLOADS.iter().map(owned).collect(),
            node_names: owned(&NODE_NAMES),
            containers: owned(&CONTAINERS),
        }
    }
}

impl Collector {
    /// Loads `file`, if any, applies the overrides, and returns the configuration with warnings about the file. The error is
    /// a message for the user.
    pub fn load(
        file: Option<&Path>,
        settings: &[KeyOverride],
    ) -> Result<(Collector, Vec<Diagnostic>), String> {
        let (mut bytes, mut origin) = (Vec::new(), Origin::Defaults);
        if let Some(path) = file {
            bytes = load::read(path).map_err(|e| e.explain(MISSING_FILE_ADVICE))?;
            origin = Origin::File(path.to_owned());
        }
        let text = text_of(&bytes).map_err(|e| e.with(&origin).to_string())?;
        let mut root = tree::build(text).map_err(|e| e.with(&origin).to_string())?;
        overrides::apply(settings, &mut root);
        let (collector, keys) =
            read(&root).map_err(|problem| overrides::explain(problem, settings, text, &origin))?;
        Ok((collector, key_warnings(text, &keys)))
    }

    /// Whether these bytes are a collector's configuration: some top-level keys are known only to the collector, and none only
    /// to the exporter.
    pub fn is_in(schema: &Schema, bytes: &[u8]) -> bool {
        let Some(Node::Map(entries)) = text_of(bytes).ok().and_then(|t| tree::build(t).ok()) else {
            return false;
        };
        let (own, exporters) = (Collector::known_keys(), schema.known_keys());
        let has = |some: &[String], not: &[String]| {
            let mut keys = entries.iter().map(|(key, _)| key);
            keys.any(|key| some.contains(key) && !not.contains(key))
        };
        has(&own, &exporters) && !has(&exporters, &own)
    }

    /// All known keys, dotted, in the order of the template.
    pub fn known_keys() -> Vec<String> {
        read(&Node::Null).map_or_else(|_| Vec::new(), |(_, keys)| keys.known)
    }
}

fn read(root: &Node) -> Result<(Collector, KeyUsage), Problem> {
    let mut keys = KeyUsage::default();
    let mut config = Collector::default();
    read_document(root, &mut keys, |top| {
        let Collector {
            url,
            timeout,
            interval,
            namespace,
            port,
            listen_address,
            keep_nodes,
            keep_pods,
            keep_workloads,
            streams,
            kubernetes,
            queries,
            http,
        } = &mut config;
        top.section("prometheus", |prometheus| {
            prometheus.set("url", base_url, url)?;
            prometheus.set("timeout", values::seconds, timeout)?;
            http_client::read(prometheus, http)
        })?;
        top.set("interval", values::seconds, interval)?;
        top.option("namespace", namespace_name, namespace)?;
        top.set("port", values::port, port)?;
        top.option("listen_address", values::address, listen_address)?;
        top.section("keep", |keep| {
            keep.set("nodes", count(MAX_ROWS), keep_nodes)?;
            keep.set("pods", count(MAX_ROWS), keep_pods)?;
            keep.set("workloads", count(MAX_ROWS), keep_workloads)
        })?;
        top.section("streams", |section| {
            section.set("clients", count(MAX_STREAMS), &mut streams.clients)?;
            section.set("ping", values::seconds, &mut streams.ping)?;
            section.set("patience", values::seconds, &mut streams.patience)
        })?;
        top.section("kubernetes", |section| kubernetes.read(section))?;
        top.section("queries", |section| {
            section.section("nodes", |nodes| columns(nodes, NODES, &mut queries.nodes))?;
            section.section("pods", |pods| columns(pods, PODS, &mut queries.pods))?;
            section.section("workloads", |workloads| {
                columns(workloads, WORKLOADS, &mut queries.workloads)
            })?;
            section.section("names", |names| {
                names.set(NODE_NAMES.name, promql, &mut queries.node_names)?;
                names.set(CONTAINERS.name, promql, &mut queries.containers)
            })
        })
    })?;
    Ok((config, keys))
}

fn columns(
    section: &mut Section<'_, '_>,
    columns: &[Column],
    queries: &mut [Vec<String>],
) -> Result<(), Problem> {
    let mut each = columns.iter().zip(queries);
    each.try_for_each(|(column, queries)| section.set(column.name, promql, queries))
}

/// A URL to which paths can be appended.
fn base_url(node: &Node) -> Outcome<String> {
    let url = http_client::url(node)?;
    match url.contains(['?', '#']) {
        true => Err(Refusal::new("is refused: it has a query".into())),
        false => Ok(url.trim_end_matches('/').to_owned()),
    }
}

/// A whole number from 1 to `max`.
fn count(max: usize) -> impl Fn(&Node) -> Outcome<usize> {
    move |node| {
        let number = values::whole(node).filter(|n| (1..=max).contains(n));
        number.map_or_else(
            || refuse(node, &format!("a whole number from 1 to {max}")),
            Ok,
        )
    }
}

fn namespace_name(node: &Node) -> Outcome<String> {
    let text = match node {
        // A name may consist of digits only.
        Node::Int(number) => number.to_string(),
        Node::Text(text) => text.clone(),
        _ => String::new(),
    };
    match is_namespace(&text) {
        true => Ok(text),
        false => refuse(node, "the name of a namespace: letters, digits, - and ."),
    }
}

/// Whether this is a valid namespace. The name is inserted into queries and URLs without escaping.
pub fn is_namespace(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=63).contains(&text.len())
        && text.bytes().all(legal)
        && text.bytes().any(|b| b.is_ascii_alphanumeric())
}

/// A query, a list of them, or `off`.
fn promql(node: &Node) -> Outcome<Vec<String>> {
    match node {
        Node::Bool(false) => Ok(Vec::new()),
        Node::Text(text) if text.eq_ignore_ascii_case("off") => Ok(Vec::new()),
        Node::Text(_) => Ok(vec![query(node)?]),
        _ => values::list(
            node,
            "a query, a list of queries, or off",
            MAX_QUERIES,
            query,
        ),
    }
}

fn query(node: &Node) -> Outcome<String> {
    match node {
        Node::Text(text) if !text.trim().is_empty() && text.len() <= MAX_QUERY => {
            Ok(text.trim().to_owned())
        }
        _ => refuse(
            node,
            &format!("a query in PromQL, of at most {MAX_QUERY} bytes"),
        ),
    }
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
