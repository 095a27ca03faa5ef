//! The collector's configuration: its model, its defaults, its reading. A file of its own, `collector.yaml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::key_warnings;
use super::diagnose::Origin;
use super::keys::Keys;
use super::load;
use super::model::Switch;
use super::queries::{Column, CONTAINERS, NODES, NODE_NAMES, PODS};
use super::schema::Schema;
use super::section::{read_as, Problem, Section};
use super::settings::{self, Setting};
use super::tree::{self, Node};
use super::values::{self, refuse, Outcome, Refusal};
use super::{http_client, text_of, ClientSettings as Settings};

/// What would help where the file is missing that somebody named.
const MISSING: &str =
    "copy collector.yaml.template there, or name no file by --config: the defaults need none";
/// The longest query, in bytes: URLs of more than 8 KiB are refused by many servers, and a query grows in one.
const MAX_QUERY: usize = 2048;
/// The most queries of one column.
const MAX_QUERIES: usize = 16;
/// The most rows that can be kept of each kind. They take some 400 bytes each.
const MAX_ROWS: usize = 100_000;
/// The most streams. Each takes a descriptor and some kilobytes.
const MAX_STREAMS: usize = 10_000;

/// All settings of the collector. `Collector::default()` is what runs without any file.
#[derive(Debug, Clone, PartialEq)]
pub struct Collector {
    /// The Prometheus that is asked.
    pub url: String,
    /// How it is asked.
    pub http: Settings,
    /// The longest that one query may take.
    pub timeout: Duration,
    /// How often everything is asked for.
    pub interval: Duration,
    /// The namespace whose pods are observed; `None`: that of the service account, else `default`.
    pub namespace: Option<String>,
    /// Port to serve on; 0 takes any free one.
    pub port: u16,
    /// The one address to listen on; `None` is every address, IPv4 and IPv6.
    pub listen_address: Option<String>,
    /// The most rows of nodes that are kept.
    pub keep_nodes: usize,
    /// The most rows of pods that are kept.
    pub keep_pods: usize,
    /// WebSockets.
    pub streams: Streams,
    /// The Kubernetes API.
    pub kubernetes: Kubernetes,
    /// What is asked for.
    pub queries: Queries,
}

/// WebSockets.
#[derive(Debug, Clone, PartialEq)]
pub struct Streams {
    /// The most at a time.
    pub clients: usize,
    /// How often a silent client is asked whether it is alive.
    pub ping: Duration,
    /// How long a client may be silent, or not read that it is to go, before it is cut off.
    pub patience: Duration,
}

/// The Kubernetes API, which knows which pod a container is in.
#[derive(Debug, Clone, PartialEq)]
pub struct Kubernetes {
    /// Whether it is asked. `auto`: where there is a service account.
    pub enabled: Switch,
    /// Where it is; `None`: where Kubernetes says by KUBERNETES_SERVICE_HOST and _PORT.
    pub url: Option<String>,
    /// The directory with `token`, `ca.crt` and `namespace`.
    pub service_account: PathBuf,
}

/// Queries, in PromQL: of each column the first that has a value for a row counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Queries {
    /// By column of [`NODES`].
    pub nodes: Vec<Vec<String>>,
    /// By column of [`PODS`].
    pub pods: Vec<Vec<String>>,
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
            streams: Streams {
                clients: 500,
                ping: Duration::from_secs(30),
                patience: Duration::from_secs(120),
            },
            kubernetes: Kubernetes {
                enabled: Switch::Auto,
                url: None,
                service_account: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
            },
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
            node_names: owned(&NODE_NAMES),
            containers: owned(&CONTAINERS),
        }
    }
}

impl Collector {
    /// Loads `file`, if there is one, and sets over it what was said besides: the configuration, and what there is to
    /// warn of. The error is for people.
    pub fn load(
        file: Option<&Path>,
        settings: &[Setting],
    ) -> Result<(Collector, Vec<String>), String> {
        let (mut bytes, mut origin) = (Vec::new(), Origin::Defaults);
        if let Some(path) = file {
            bytes = load::read(path).map_err(|e| e.explain(MISSING))?;
            origin = Origin::File(path.to_owned());
        }
        let text = text_of(&bytes).map_err(|e| e.with(&origin).to_string())?;
        let mut root = tree::build(text).map_err(|e| e.with(&origin).to_string())?;
        settings::apply(settings, &mut root);
        let (collector, keys) =
            read(&root).map_err(|problem| settings::explain(problem, settings, text, &origin))?;
        let warnings = key_warnings(text, &keys);
        let warnings = warnings.iter().map(|w| w.with(&origin).to_string());
        Ok((collector, warnings.collect()))
    }

    /// Whether these bytes are a collector's file: of the keys at its left margin there are some that only a collector has,
    /// and none that only an exporter has.
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

    /// Every key there is, dotted, in the order of the template.
    pub fn known_keys() -> Vec<String> {
        read(&Node::Null).map_or_else(|_| Vec::new(), |(_, keys)| keys.known)
    }
}

fn read(root: &Node) -> Result<(Collector, Keys), Problem> {
    let mut keys = Keys::default();
    let mut config = Collector::default();
    read_as(root, &mut keys, |top| {
        let Collector {
            url,
            timeout,
            interval,
            namespace,
            port,
            listen_address,
            keep_nodes,
            keep_pods,
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
            keep.set("pods", count(MAX_ROWS), keep_pods)
        })?;
        top.section("streams", |section| {
            section.set("clients", count(MAX_STREAMS), &mut streams.clients)?;
            section.set("ping", values::seconds, &mut streams.ping)?;
            section.set("patience", values::seconds, &mut streams.patience)
        })?;
        top.section("kubernetes", |section| {
            section.set("enabled", values::switch, &mut kubernetes.enabled)?;
            section.option("url", base_url, &mut kubernetes.url)?;
            section.set(
                "service_account",
                values::path,
                &mut kubernetes.service_account,
            )
        })?;
        top.section("queries", |section| {
            section.section("nodes", |nodes| columns(nodes, NODES, &mut queries.nodes))?;
            section.section("pods", |pods| columns(pods, PODS, &mut queries.pods))?;
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

/// A URL that paths can be put behind.
fn base_url(node: &Node) -> Outcome<String> {
    let url = http_client::url(node)?;
    match url.contains(['?', '#']) {
        true => Err(Refusal::new("is refused: it has a query".into())),
        false => Ok(url.trim_end_matches('/').to_owned()),
    }
}

/// A whole number from 1.
fn count(most: usize) -> impl Fn(&Node) -> Outcome<usize> {
    move |node| {
        let number = values::whole(node).filter(|n| (1..=most).contains(n));
        number.map_or_else(
            || refuse(node, &format!("a whole number from 1 to {most}")),
            Ok,
        )
    }
}

fn namespace_name(node: &Node) -> Outcome<String> {
    let text = match node {
        // Digits alone are a name too.
        Node::Int(number) => number.to_string(),
        Node::Text(text) => text.clone(),
        _ => String::new(),
    };
    match is_namespace(&text) {
        true => Ok(text),
        false => refuse(node, "the name of a namespace: letters, digits, - and ."),
    }
}

/// Whether this can be a namespace. It goes into queries and into a URL as it is.
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
