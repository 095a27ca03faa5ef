//! The `config-server` role: the central server that holds every board's configuration, and lists the fleet for
//! Prometheus.
//!
//! `routes` answers requests, `changes` those that change something; `store` is where the configurations are, in a
//! `directory` or in `etcd`, and says what has changed there; `catalog` keeps the fleet in memory by that, as `boards`, with
//! the `pieces` that answers are made of; `fleet` remembers when which board was heard of, `device` puts both together,
//! `listing` tells it, and `sd` makes Prometheus's targets of it; `reload` calls the boards. A board says what it is in a
//! [`Report`].

mod access;
mod answers;
mod boards;
mod catalog;
mod changes;
mod device;
mod directory;
mod directory_watch;
mod etag;
mod etcd;
pub mod etcd_json;
mod etcd_watch;
mod fleet;
mod listing;
mod metrics;
mod pieces;
mod reload;
mod routes;
mod sd;
mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

pub use etag::{Conditions, Etag, Tags, Verdict};

use crate::config::ClientSettings as Settings;
use crate::http::{
    bind, AccessControl, AccessFiles, ErrorFormat, Limits, RateLimiter, Request, Server,
};
use crate::sys::notify::Notifier;
use crate::sys::signals::{self, Signals};
use crate::wire::{DeviceId, Report};
use catalog::Catalog;
use device::{take_apart, Device, Summary};
use fleet::Fleet;
use metrics::Metrics;
use store::{Failure, Store};

/// Where the configurations are if nothing else is said.
pub const DEFAULT_STORE: &str = "/var/lib/edge-metrics-exporter/devices";
const DEFAULT_ADDRESS: &str = ":8080";
/// As much as a connection's thread, which may do the same.
const LOADER_STACK: usize = if cfg!(debug_assertions) { 2048 } else { 512 } * 1024;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A directory, or `etcd://host:port/prefix`; `None`: [`DEFAULT_STORE`].
    pub store: Option<String>,
    /// Where to listen; `None`: port 8080.
    pub listen_address: Option<String>,
    /// Whether others than this machine may change configurations.
    pub allow_remote: bool,
    /// Who may connect, and whose tokens are taken.
    pub access: AccessFiles,
    /// How boards are called: a file with a login for them, and whom to trust.
    pub boards_http: Option<PathBuf>,
    /// The same for the store, if that is an etcd.
    pub store_http: Option<PathBuf>,
}

/// What all requests share.
struct Central {
    store: Box<dyn Store>,
    /// How boards are called.
    boards: Settings,
    fleet: Fleet,
    catalog: Catalog,
    metrics: Metrics,
    allow_remote: bool,
    /// How often the fleet is searched, which costs the more the larger it is.
    searches: RateLimiter,
    /// How often boards are made to reload by those who may not change anything.
    pace: RateLimiter,
    background: reload::Background,
    reloading_all: Mutex<()>,
    /// Itself, for threads that outlast a request.
    this: Weak<Central>,
}

/// Runs the server until it is told to stop.
pub fn run(options: Options, signals: &Signals) -> Result<(), String> {
    let store = store::open(
        options.store.as_deref().unwrap_or(DEFAULT_STORE),
        options.store_http.as_deref(),
    )?;
    let boards = reload::settings(options.boards_http.as_deref(), options.allow_remote)?;
    let central = Arc::new_cyclic(|this| Central {
        store,
        boards,
        fleet: Fleet::default(),
        catalog: Catalog::default(),
        metrics: Metrics::new(),
        allow_remote: options.allow_remote,
        searches: RateLimiter::new(listing::SEARCHES.0, listing::SEARCHES.1),
        pace: RateLimiter::new(reload::PACE.0, reload::PACE.1),
        background: reload::Background::default(),
        reloading_all: Mutex::new(()),
        this: this.clone(),
    });
    let address = options.listen_address.as_deref().unwrap_or(DEFAULT_ADDRESS);
    let listener = bind(address, "--web.listen-address").map_err(|e| e.to_string())?;
    let limits = Limits {
        // A fleet, each of whose boards asks now and then; and those of one place share an address.
        connections: 512,
        per_peer: 256,
        error_format: ErrorFormat::Json,
        ..Limits::default()
    };
    let handler = routes::handler(Arc::clone(&central));
    let gate = AccessControl::new(&options.access)?;
    let server = Server::start_with_access(Arc::clone(&gate), listener, handler, limits)
        .map_err(|e| format!("cannot serve {address}: {e}"))?;
    log::info!(
        "config-server: configurations in {}",
        central.store.describe()
    );
    log::info!(
        "config-server: listening on {}",
        gate.url(server.local_addr())
    );
    load(&central)?;
    let manager = Notifier::from_environment();
    let summary = format!("configurations in {}", central.store.describe());
    manager.ready(&summary);
    while let Ok(signals::Request::Reload) = signals.wait() {
        manager.reloading();
        log::info!(
            "config-server: nothing to load again: a configuration that has changed is read when it is asked for"
        );
        manager.ready(&summary);
    }
    log::info!("stopping");
    manager.stopping();
    server.stop();
    Ok(())
}

/// Reads the whole fleet, in a thread of its own: boards are answered meanwhile, and who asks for all waits. A store that
/// is away is asked again when somebody wants to know.
fn load(central: &Arc<Central>) -> Result<(), String> {
    let central = Arc::clone(central);
    std::thread::Builder::new()
        .name("fleet".to_string())
        .stack_size(LOADER_STACK)
        .spawn(move || {
            let _ = central.sync();
        })
        .map(|_| ())
        .map_err(|e| format!("cannot start a thread: {e}"))
}

impl Central {
    /// Asks the store, and notes how that went; logged when it changes.
    fn ask<T>(
        &self,
        question: impl FnOnce(&dyn Store) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let answer = question(self.store.as_ref());
        let error = match &answer {
            Err(error @ (Failure::Away(_) | Failure::Broken(_))) => Some(error),
            _ => None,
        };
        if self.metrics.store_called(error.is_none()) {
            match error {
                Some(error) => log::error!("{error}"),
                None => log::debug!("the store {} answers", self.store.describe()),
            }
        }
        answer
    }

    /// What a board says of itself, if it is one that asks, and one that is listened to: what it says decides where the
    /// board is looked for.
    fn report(&self, request: &Request) -> Option<Report> {
        let report = Report::read(|name| request.header(name))?;
        let refused = access::refusal_of_change(request, self.allow_remote);
        refused.is_none().then_some(report)
    }

    /// One device; `None` if there is none of this name.
    fn device(&self, id: &DeviceId) -> Result<Option<Device>, Failure> {
        let kept = match self.ask(|store| store.get(id)) {
            Ok(None) => return Ok(None),
            Ok(Some(stored)) => take_apart(&stored).map(|kept| Summary::of(&kept)),
            Err(Failure::Unreadable(why)) => Err(why),
            Err(failure) => return Err(failure),
        };
        let state = match self.fleet.state(id) {
            // Perhaps it asked another server.
            state if state.seen.is_none() => {
                let note = self.ask(|store| store.note_on(id))?;
                state.or_noted(note.as_deref())
            }
            state => state,
        };
        Ok(Some(Device {
            id: id.clone(),
            kept: Arc::new(kept),
            quiet: self.fleet.quiet(&state),
            state,
        }))
    }

    fn was_called(&self, id: &DeviceId, outcome: &reload::Outcome) {
        self.metrics.reloaded(outcome.is_ok());
        if self.fleet.called(id, outcome) {
            self.catalog.heard_of(id, true);
        }
    }

    /// A board has sent this request.
    fn heard_of(&self, id: &DeviceId, request: &Request, report: Report) {
        let store = self.store.as_ref();
        let matters = self.fleet.heard_of(id, request.peer.ip(), report, store);
        self.catalog.heard_of(id, matters);
    }

    /// Has a board told in a while that there is something new for it. False: it is not known where it is, or there is too
    /// much to do.
    fn reload_later(&self, id: &DeviceId) -> bool {
        let Ok(Some(device)) = self.device(id) else {
            return false;
        };
        if device.host().1 == device::HostFrom::Name || device.reload_port().is_none() {
            return false;
        }
        let Some(this) = self.this.upgrade() else {
            return false;
        };
        reload::Background::start(&this, id, |this, id| {
            // Where it is may be among what was changed.
            let Ok(Some(device)) = this.device(id) else {
                return;
            };
            let outcome = reload::call_until_heard(&this.boards, &device);
            if let Err(why) = &outcome {
                log::info!("{id}: not reloaded: {why}");
            }
            this.was_called(id, &outcome);
        })
    }
}
