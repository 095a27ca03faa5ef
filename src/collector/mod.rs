//! The `collect` role: queries Prometheus for the energy of nodes, pods and workloads, and serves it as CSV and as streams.
//!
//! One thread does the rounds ([`round`]): it sends every query for one moment ([`query`], whose answers [`prometheus`]
//! parses), joins the answers to rows by the names of nodes and pods ([`names`], [`join`]), with the energy since the row
//! before ([`steps`]), and publishes the rows in a ring of the last ones ([`feed`]). Downloads read that ring, and write its
//! rows as CSV ([`layout`]). Each WebSocket client reads it from a cursor of its own ([`client`]); one other thread serves all
//! of them ([`streams`]).

pub mod app_state;
pub mod client;
pub mod feed;
pub mod join;
pub mod kubernetes;
pub mod layout;
pub mod names;
pub mod permits;
pub mod prometheus;
pub mod query;
pub mod round;
pub mod routes;
pub mod self_metrics;
pub mod status;
pub mod steps;
pub mod streams;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{is_namespace, Collector as Configuration, KeyOverride, Origin};
use crate::http::{authority, bind, AccessControl, AccessFiles, Limits, Server};
use crate::sys::file;
use crate::sys::notify::Notifier;
use crate::sys::signals::{Request, Signals};
use crate::sys::stop::{Stop, Woken};
use app_state::AppState;
use feed::Feed;
use join::RowKind;
use round::{Collector, Known};
use status::Status;
use streams::{StreamLoop, Streams};

/// The most HTTP connections, in all and from one address: streams begin as HTTP, and all clients behind `kubectl
/// port-forward` share an address.
const CONNECTIONS: usize = 256;
/// The namespace if neither the configuration nor a service account names one.
const DEFAULT_NAMESPACE: &str = "default";
/// The longest `namespace` file of a service account, in bytes.
const MAX_NAMESPACE_FILE: u64 = 1024;

/// The environment variables that are read, and the keys they set.
pub const VARIABLES: [(&str, &str); 3] = [
    ("PROMETHEUSSERVER", "prometheus.url"),
    ("UPDATE_INTERVAL", "interval"),
    ("NAMESPACE", "namespace"),
];

/// The flags that set keys.
pub const FLAGS: [(&str, &str); 3] = [
    ("prometheus.url", "prometheus.url"),
    ("interval", "interval"),
    ("namespace", "namespace"),
];

/// The options of the command line.
#[derive(Debug, Default)]
pub struct Options {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Overrides port and address.
    pub listen_address: Option<String>,
    /// Who may connect, and whose tokens are taken.
    pub access: AccessFiles,
    /// Flags of [`FLAGS`] with their values.
    pub flags: Vec<(String, String)>,
}

impl Options {
    /// The keys set outside the configuration file; later ones take precedence. An empty variable counts as not set.
    fn settings(&self, environment: impl Fn(&str) -> Option<String>) -> Vec<KeyOverride> {
        let mut settings = Vec::new();
        for (name, key) in VARIABLES {
            if let Some(value) = environment(name).filter(|value| !value.is_empty()) {
                settings.push(KeyOverride {
                    from: name.to_owned(),
                    key: key.to_owned(),
                    value,
                });
            }
        }
        for (flag, value) in &self.flags {
            if let Some((_, key)) = FLAGS.iter().find(|(known, _)| known == flag) {
                settings.push(KeyOverride {
                    from: format!("--{flag}"),
                    key: (*key).to_owned(),
                    value: value.clone(),
                });
            }
        }
        settings
    }
}

/// Runs the collector until a signal stops it. An error needs the user: the collector cannot start.
pub fn run(options: &Options, signals: &Signals) -> Result<(), String> {
    let environment = |name: &str| std::env::var(name).ok();
    let settings = options.settings(environment);
    let (config, warnings) = Configuration::load(options.config.as_deref(), &settings)?;
    if let Some(path) = &options.config {
        let origin = Origin::File(path.clone());
        for warning in warnings {
            log::warn!("{}", warning.with(&origin));
        }
    }
    let namespace = namespace(&config)?;
    let collector = Collector {
        prometheus: query::Prometheus::new(&config.url, config.http.clone(), config.timeout)
            .map_err(|e| e.to_string())?,
        kubernetes: kubernetes::Kubernetes::new(
            &config.kubernetes,
            &namespace,
            config.timeout,
            environment,
        )?,
        queries: config.queries.clone(),
        namespace: namespace.clone(),
        // One or two queries that hang must leave time for the others.
        max_duration: config.interval.max(config.timeout * 3),
    };
    let feeds = [
        (RowKind::Nodes, config.keep_nodes),
        (RowKind::Pods, config.keep_pods),
        (RowKind::Workloads, config.keep_workloads),
    ]
    .map(|(kind, max_rows)| Arc::new(Feed::new(kind, &namespace, max_rows)));
    let status = Arc::new(Status::default());
    let streams = Streams::start(&config.streams)
        .map_err(|e| format!("cannot start the thread of the streams: {e}"))?;
    let server = serve(
        &config,
        options.listen_address.as_deref(),
        AccessControl::new(&options.access)?,
        AppState {
            in_flight: app_state::in_flight(),
            feeds: feeds.clone(),
            streams: streams.stream_loop(),
            status: Arc::clone(&status),
            prometheus_url: crate::config::url_without_secrets(&config.url).to_owned(),
            namespace: namespace.clone(),
        },
    )?;
    log::info!(
        "collecting from {} every {} s, pods of the namespace {namespace}",
        crate::config::url_without_secrets(&config.url),
        config.interval.as_secs_f64()
    );
    let stop = Arc::new(Stop::default());
    let (stopping, stream_loop) = (Arc::clone(&stop), streams.stream_loop());
    // The thread is not joined at the end: it may be waiting for an answer.
    std::thread::Builder::new()
        .name("collect".into())
        .spawn(move || {
            rounds(
                &collector,
                config.interval,
                &feeds,
                &status,
                &stream_loop,
                &stopping,
            );
        })
        .map_err(|e| format!("cannot start a thread: {e}"))?;
    let manager = Notifier::from_environment();
    let summary = format!(
        "collects from {}",
        crate::config::url_without_secrets(&config.url)
    );
    manager.ready(&summary);
    while let Ok(Request::Reload) = signals.wait() {
        manager.reloading();
        log::info!("SIGHUP: ignored (restart the collector to apply a new configuration)");
        manager.ready(&summary);
    }
    manager.stopping();
    stop.set();
    server.stop();
    drop(streams);
    Ok(())
}

/// Does a round at once, and then one per interval, without drift.
fn rounds(
    collector: &Collector,
    interval: Duration,
    feeds: &[Arc<Feed>],
    status: &Status,
    streams: &StreamLoop,
    stop: &Stop,
) {
    let mut next = Instant::now();
    let mut known = Known::default();
    loop {
        collector.round(&mut known, feeds, status);
        streams.wake();
        next += interval;
        let late = Instant::now().saturating_duration_since(next);
        let missed = late.as_nanos() / interval.as_nanos().max(1);
        if missed > 0 {
            let missed = u32::try_from(missed).unwrap_or(u32::MAX);
            status.missed(missed.into());
            next += interval * missed;
        }
        if stop.wait_until(next) == Woken::Stop {
            return;
        }
    }
}

fn serve(
    config: &Configuration,
    address: Option<&str>,
    access_control: Arc<AccessControl>,
    state: AppState,
) -> Result<Server, String> {
    let address = match (address, &config.listen_address) {
        (Some(address), _) => address.to_owned(),
        (None, Some(host)) => authority(host, Some(config.port)),
        (None, None) => format!(":{}", config.port),
    };
    let listener = bind(&address, "`port:` or --web.listen-address").map_err(|e| e.to_string())?;
    let limits = Limits {
        connections: CONNECTIONS,
        per_peer: CONNECTIONS,
        ..Limits::default()
    };
    let server = Server::start_with_access(
        Arc::clone(&access_control),
        listener,
        routes::handler(state, self_metrics::SelfMetrics::new()),
        limits,
    )
    .map_err(|e| format!("cannot serve: {e}"))?;
    log::info!(
        "collect: listening on {}",
        access_control.url(server.local_addr())
    );
    Ok(server)
}

/// The namespace of the configuration, else the service account's, else `default`.
fn namespace(config: &Configuration) -> Result<String, String> {
    if let Some(namespace) = &config.namespace {
        return Ok(namespace.clone());
    }
    let path: &Path = &config.kubernetes.service_account.join("namespace");
    if !path.exists() {
        return Ok(DEFAULT_NAMESPACE.to_owned());
    }
    let bytes = file::read(path, MAX_NAMESPACE_FILE)
        .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    match is_namespace(&text) {
        true => Ok(text),
        false => Err(format!(
            "{} holds no name of a namespace (--namespace says another)",
            path.display()
        )),
    }
}
