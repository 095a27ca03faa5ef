//! The `collect` role: energy of nodes and pods, read back out of Prometheus, as CSV and as a stream.
//!
//! One thread asks ([`round`]): every query for one moment ([`ask`], whose answers [`prometheus`] reads), joined to rows
//! by the names of nodes and pods ([`names`], [`join`]), written as lines of CSV ([`form`]) into the ring of the last
//! rows ([`rows`]). Downloads read that ring; WebSockets follow it, each with a place of its own ([`client`]), all of them
//! in one other thread ([`streams`]). Nobody takes a row away from anybody.

pub mod app_state;
pub mod ask;
pub mod client;
pub mod form;
pub mod join;
pub mod kubernetes;
pub mod names;
pub mod permits;
pub mod prometheus;
pub mod round;
pub mod routes;
pub mod rows;
pub mod self_metrics;
pub mod status;
pub mod streams;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{is_namespace, Collector, KeyOverride};
use crate::http::{bind, AccessFiles, Gate, Limits, Server};
use crate::sys::file;
use crate::sys::notify::Notifier;
use crate::sys::signals::{Request, Signals};
use crate::sys::stop::{Stop, Woken};
use app_state::AppState;
use join::Kind;
use round::{Before, Collecting};
use rows::Feed;
use status::Status;
use streams::{Shared, Streams};

/// Streams begin as HTTP, and a laboratory's all come from one address where they go through `kubectl port-forward`.
const CONNECTIONS: usize = 256;
/// The namespace of nobody in particular.
const DEFAULT_NAMESPACE: &str = "default";
/// The longest file with a namespace in it.
const MAX_NAMESPACE: u64 = 1024;

/// The variables of the environment that count, and the keys they set.
const VARIABLES: [(&str, &str); 3] = [
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

/// What the command line says.
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
    /// All keys that are set from outside the file, the weightiest last. An empty variable is as good as none.
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

/// Runs the collector until it is told to stop. An error is one that a person has to mend before it can run at all.
pub fn run(options: &Options, signals: &Signals) -> Result<(), String> {
    let environment = |name: &str| std::env::var(name).ok();
    let settings = options.settings(environment);
    let (config, warnings) = Collector::load(options.config.as_deref(), &settings)?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    let namespace = namespace(&config)?;
    let collecting = Collecting {
        prometheus: ask::Prometheus::new(&config.url, config.http.clone(), config.timeout)
            .map_err(|e| e.to_string())?,
        kubernetes: kubernetes::Kubernetes::new(
            &config.kubernetes,
            &namespace,
            config.timeout,
            environment,
        )?,
        queries: config.queries.clone(),
        namespace: namespace.clone(),
        // One query that hangs, or two, are to leave time for the others.
        longest: config.interval.max(config.timeout * 3),
    };
    let feeds = [
        Arc::new(Feed::new(Kind::Nodes, config.keep_nodes)),
        Arc::new(Feed::new(Kind::Pods, config.keep_pods)),
    ];
    let status = Arc::new(Status::default());
    let streams = Streams::start(&config.streams)
        .map_err(|e| format!("cannot start the thread of the streams: {e}"))?;
    let server = serve(
        &config,
        options.listen_address.as_deref(),
        Gate::new(&options.access)?,
        AppState {
            in_flight: app_state::in_flight(),
            feeds: feeds.clone(),
            streams: streams.shared(),
            status: Arc::clone(&status),
            about: [
                crate::config::url_without_secrets(&config.url).to_owned(),
                namespace.clone(),
            ],
        },
    )?;
    log::info!(
        "collecting from {} every {} s, pods of the namespace {namespace}",
        crate::config::url_without_secrets(&config.url),
        config.interval.as_secs_f64()
    );
    let stop = Arc::new(Stop::default());
    let (theirs, shared) = (Arc::clone(&stop), streams.shared());
    // It is not waited for at the end: it may hang on somebody else's answer.
    std::thread::Builder::new()
        .name("collect".into())
        .spawn(move || {
            rounds(
                &collecting,
                config.interval,
                &feeds,
                &status,
                &shared,
                &theirs,
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
        log::info!("SIGHUP: the collector takes a new configuration only when it is started again");
        manager.ready(&summary);
    }
    manager.stopping();
    stop.set();
    server.stop();
    drop(streams);
    Ok(())
}

/// Does a round at once, and then one in each interval, without drift.
fn rounds(
    collecting: &Collecting,
    interval: Duration,
    feeds: &[Arc<Feed>],
    status: &Status,
    streams: &Shared,
    stop: &Stop,
) {
    let mut next = Instant::now();
    let mut before = Before::default();
    loop {
        collecting.round(&mut before, feeds, status);
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
    config: &Collector,
    address: Option<&str>,
    gate: Arc<Gate>,
    state: AppState,
) -> Result<Server, String> {
    let address = match (address, &config.listen_address) {
        (Some(address), _) => address.to_owned(),
        (None, Some(host)) if host.contains(':') => format!("[{host}]:{}", config.port),
        (None, Some(host)) => format!("{host}:{}", config.port),
        (None, None) => format!(":{}", config.port),
    };
    let listener = bind(&address, "`port:` or --web.listen-address").map_err(|e| e.to_string())?;
    let limits = Limits {
        connections: CONNECTIONS,
        per_peer: CONNECTIONS,
        ..Limits::default()
    };
    let server = Server::behind(
        Arc::clone(&gate),
        listener,
        routes::handler(state, self_metrics::SelfMetrics::new()),
        limits,
    )
    .map_err(|e| format!("cannot serve: {e}"))?;
    log::info!("collect: listening on {}", gate.url(server.local_addr()));
    Ok(server)
}

/// The namespace as it was said, else the service account's, else that of nobody in particular.
fn namespace(config: &Collector) -> Result<String, String> {
    if let Some(namespace) = &config.namespace {
        return Ok(namespace.clone());
    }
    let path: &Path = &config.kubernetes.service_account.join("namespace");
    if !path.exists() {
        return Ok(DEFAULT_NAMESPACE.to_owned());
    }
    let bytes = file::read(path, MAX_NAMESPACE)
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
