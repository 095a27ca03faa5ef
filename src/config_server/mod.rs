//! The `config-server` role: one server holds the configurations of all boards, and lists the fleet for Prometheus.
//!
//! * `routes` handles requests, `changes` those that change a configuration, `group_routes` those about groups, and `reload` makes
//!   boards reload.
//! * `store` is the interface to the place of the configurations: a `directory`, or `etcd`. Both report what has changed.
//! * `transaction` is changes that are made together, and recorded: in files by `directory_records`, in etcd by
//!   `etcd_transactions`. `effect` is what they do to configurations. `bulk` changes the boards that a `selector` selects, and
//!   `history` shows and undoes transactions; `transfer` exports and imports, in the `export_format`; `many` is what they have in
//!   common.
//! * `groups` makes configurations of the boards' own documents and of the groups that the boards are members of.
//! * `catalog` keeps the fleet in memory: `boards`, with the `pieces` that responses are made of.
//! * `fleet` records when each board last contacted a server, what it said in its [`Report`], and its `power`. `device` is a board with its
//!   configuration and its contacts, `listing` lists the devices, and `sd` makes Prometheus targets of them.

mod access;
mod boards;
mod bulk;
mod catalog;
mod changes;
mod device;
mod directory;
mod directory_records;
mod directory_watch;
mod effect;
mod etag;
mod etcd;
pub mod etcd_json;
mod etcd_transactions;
mod etcd_watch;
mod export_format;
mod fleet;
mod group_routes;
mod groups;
mod history;
mod listing;
mod many;
mod metrics;
mod pieces;
mod power;
mod reload;
mod requests;
mod responses;
mod rounds;
mod routes;
mod sd;
mod selector;
mod store;
mod transaction;
mod transfer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{Map, Value};

pub use etag::{Conditions, Etag, Evaluation, Tags};

use crate::config::ClientSettings as Settings;
use crate::http::{
    bind, AccessControl, AccessFiles, ErrorFormat, LargeBody, Limits, RateLimiter, Request, Server,
};
use crate::sys::calendar::rfc3339_millis;
use crate::sys::clock::wall_nanos;
use crate::sys::lock;
use crate::sys::notify::Notifier;
use crate::sys::signals::{self, Signals};
use crate::wire::{DeviceId, PowerReading, Report};
use catalog::Catalog;
use device::{Device, Summary};
use fleet::{Contact, Fleet};
use groups::Groups;
use metrics::Metrics;
use store::{Store, StoreError};
use transaction::{id_of, Edit, Outcome, Transaction, TransactionId, BY_BOARD};

/// The store if `--store` is not given.
pub const DEFAULT_STORE: &str = "/var/lib/edge-metrics-exporter/devices";
const DEFAULT_ADDRESS: &str = ":8080";
/// The stack of the thread that loads the fleet: as large as that of a connection's thread, which may do the same work.
const LOADER_STACK: usize = if cfg!(debug_assertions) { 2048 } else { 512 } * 1024;

/// For the body of an import to arrive.
const IMPORT_TIME: Duration = Duration::from_secs(120);
/// How long to wait with looking for interrupted changes while the store is unavailable.
const RECOVERY_RETRY: Duration = Duration::from_secs(10);

/// What a request does, for the record of it.
struct Action(Map<String, Value>);

impl Action {
    fn new(name: &str) -> Action {
        Action(Map::from_iter([("action".to_owned(), name.into())]))
    }

    /// The same with another key of the record.
    fn with(mut self, key: &str, value: impl Into<Value>) -> Action {
        self.0.insert(key.to_owned(), value.into());
        self
    }
}

/// The options of the command line.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A directory, or `etcd://host:port/prefix`; `None`: [`DEFAULT_STORE`].
    pub store: Option<String>,
    /// The address to listen on; `None`: port 8080.
    pub listen_address: Option<String>,
    /// Whether clients on other machines may change configurations.
    pub allow_remote: bool,
    /// The files that say who may connect, and which tokens are valid.
    pub access: AccessFiles,
    /// The HTTP client settings for boards: a file with a login for them, and with the CAs to trust.
    pub boards_http: Option<PathBuf>,
    /// The same for an etcd store.
    pub store_http: Option<PathBuf>,
}

/// The state that all requests share.
struct ConfigServer {
    store: Box<dyn Store>,
    /// The HTTP client settings for boards.
    board_http: Settings,
    fleet: Fleet,
    catalog: Catalog,
    groups: Groups,
    metrics: Metrics,
    allow_remote: bool,
    /// The limit of searches, whose cost grows with the fleet.
    search_rate: RateLimiter,
    /// The limit of reloads by clients that may not change anything.
    reload_rate: RateLimiter,
    background_calls: reload::BackgroundCalls,
    reloading_all: Mutex<()>,
    /// Locked during a change that concerns many boards.
    changing_many: Mutex<()>,
    /// Whether an export is being made, or sent.
    is_exporting: Arc<AtomicBool>,
    /// Locked while the record of a transaction is shown.
    reading_record: Mutex<()>,
    /// The time of the last transaction's id; 0: there was none yet.
    last_transaction: Mutex<u64>,
    member_calls: reload::MemberCalls,
    /// A reference to itself, for threads that outlast a request.
    this: Weak<ConfigServer>,
}

/// Runs the server until a signal stops it. `listening` is called with its address as soon as it answers requests.
pub fn run(
    options: Options,
    signals: &Signals,
    listening: impl FnOnce(SocketAddr) -> Result<(), String>,
) -> Result<(), String> {
    let store = store::open(
        options.store.as_deref().unwrap_or(DEFAULT_STORE),
        options.store_http.as_deref(),
    )?;
    let board_http = reload::settings(options.boards_http.as_deref(), options.allow_remote)?;
    let server = Arc::new_cyclic(|this| ConfigServer {
        store,
        board_http,
        fleet: Fleet::default(),
        catalog: Catalog::default(),
        groups: Groups::default(),
        metrics: Metrics::new(),
        allow_remote: options.allow_remote,
        search_rate: RateLimiter::new(listing::SEARCH_RATE.0, listing::SEARCH_RATE.1),
        reload_rate: RateLimiter::new(reload::RELOAD_RATE.0, reload::RELOAD_RATE.1),
        background_calls: reload::BackgroundCalls::default(),
        reloading_all: Mutex::new(()),
        changing_many: Mutex::new(()),
        is_exporting: Arc::default(),
        reading_record: Mutex::new(()),
        last_transaction: Mutex::default(),
        member_calls: reload::MemberCalls::default(),
        this: this.clone(),
    });
    let address = options.listen_address.as_deref().unwrap_or(DEFAULT_ADDRESS);
    let listener = bind(address, "--web.listen-address").map_err(|e| e.to_string())?;
    let limits = Limits {
        // Every board of the fleet asks now and then, and the boards of one site share an address.
        connections: 512,
        per_peer: 256,
        error_format: ErrorFormat::Json,
        large_body: Some(LargeBody {
            path: "/import",
            bytes: transfer::MAX_BYTES,
            allow_remote: options.allow_remote,
            time: IMPORT_TIME,
        }),
        ..Limits::default()
    };
    let handler = routes::handler(Arc::clone(&server));
    let access_control = AccessControl::new(&options.access)?;
    let http_server =
        Server::start_with_access(Arc::clone(&access_control), listener, handler, limits)
            .map_err(|e| format!("cannot serve {address}: {e}"))?;
    log::info!(
        "config-server: configurations in {}",
        server.store.describe()
    );
    log::info!(
        "config-server: listening on {}",
        access_control.url(http_server.local_addr())
    );
    load(&server)?;
    listening(http_server.local_addr())?;
    let manager = Notifier::from_environment();
    let summary = format!("configurations in {}", server.store.describe());
    manager.ready(&summary);
    while let Ok(signals::Request::Reload) = signals.wait() {
        manager.reloading();
        log::info!(
            "config-server: SIGHUP is ignored: changed configurations are read with the next request"
        );
        manager.ready(&summary);
    }
    log::info!("stopping");
    manager.stopping();
    http_server.stop();
    Ok(())
}

/// Loads the whole fleet in a thread of its own. Boards are answered meanwhile, and requests for the list wait. If the store
/// is unavailable, the next request for the list tries again. After that the thread looks for changes that a server of the same
/// store left half made when it died.
fn load(server: &Arc<ConfigServer>) -> Result<(), String> {
    let server = Arc::clone(server);
    std::thread::Builder::new()
        .name("fleet".to_string())
        .stack_size(LOADER_STACK)
        .spawn(move || {
            let _ = server.sync();
            loop {
                let next = server.with_store(|store| store.recover());
                match next.unwrap_or(Some(RECOVERY_RETRY)) {
                    Some(time) => std::thread::sleep(time),
                    None => return,
                }
            }
        })
        .map(|_| ())
        .map_err(|e| format!("cannot start a thread: {e}"))
}

impl ConfigServer {
    /// Calls the store and counts errors. A change between success and error is logged.
    fn with_store<T>(
        &self,
        call: impl FnOnce(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let result = call(self.store.as_ref());
        let error = match &result {
            Err(error @ (StoreError::Unavailable(_) | StoreError::Failed(_))) => Some(error),
            _ => None,
        };
        if self.metrics.store_called(error.is_none()) {
            match error {
                Some(error) => log::error!("{error}"),
                None => log::debug!("the store {} answers", self.store.describe()),
            }
        }
        result
    }

    /// Makes all these changes, and keeps a record of them; `None`: it made none, since a document is no longer what is to be
    /// replaced.
    fn commit(
        &self,
        request: &Request,
        action: Action,
        edits: Vec<Edit>,
    ) -> Result<Option<TransactionId>, StoreError> {
        let id = self.next_transaction_id()?;
        let mut head = Map::new();
        let millis = wall_nanos() / 1_000_000;
        head.insert("time".into(), rfc3339_millis(millis).into());
        let by = match (self.report(request), request.login_name()) {
            (Some(_), Some(login)) => Some(format!("{BY_BOARD} ({login})")),
            (Some(_), None) => Some(BY_BOARD.to_owned()),
            (None, login) => login,
        };
        head.extend(by.map(|by| ("by".to_owned(), by.into())));
        let address = request.peer.ip().to_canonical().to_string();
        head.insert("address".into(), address.into());
        head.extend(action.0);
        let transaction = Transaction::new(id, head, edits);
        let outcome = self.with_store(|store| store.commit(&transaction))?;
        Ok((outcome == Outcome::Committed).then_some(id))
    }

    /// A new id, later than those before it although the clock may have been set back.
    fn next_transaction_id(&self) -> Result<TransactionId, StoreError> {
        let mut last = lock::lock(&self.last_transaction);
        if *last == 0 {
            let heads = self.with_store(|store| store.record_heads())?.finished;
            let newest = heads.first().and_then(id_of);
            *last = newest.map_or(0, |newest| newest.millis);
        }
        let now = u64::try_from(wall_nanos() / 1_000_000).unwrap_or(0);
        *last = now.max(*last + 1);
        Ok(TransactionId::new(*last))
    }

    /// The board's report in a request; `None`: the client is not a board, or may not change anything. Such a report is
    /// ignored, since it decides at which address the board is called.
    fn report(&self, request: &Request) -> Option<Report> {
        let report = Report::read(|name| request.header(name))?;
        let refused = access::refusal_of_change(request, self.allow_remote);
        refused.is_none().then_some(report)
    }

    /// The device of this name; `None`: there is none.
    fn device(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        let groups = self.groups()?;
        let (own_type, parsed) = match self.with_store(|store| store.devices().get(id)) {
            Ok(None) => return Ok(None),
            Ok(Some(stored)) => {
                let own_type = self.own_type(id, &stored);
                let parsed = self.with_layers(id, &own_type, &groups, |layers| {
                    let parsed = device::parse_stored(&stored, layers)?;
                    Ok(Summary::of(&parsed))
                });
                (own_type, parsed)
            }
            Err(StoreError::Unreadable(why)) => ("unknown".into(), Err(why)),
            Err(error) => return Err(error),
        };
        let state = match self.fleet.state(id) {
            // The board may have asked another server.
            state if state.last_contact.is_none() => {
                let note = self.with_store(|store| store.get_note(id))?;
                state.or_from_note(note.as_deref())
            }
            state => state,
        };
        Ok(Some(Device {
            id: id.clone(),
            own_type,
            parsed: Arc::new(parsed),
            silence: self.fleet.silence(&state),
            state,
        }))
    }

    /// Records the outcome of a call to a board.
    fn record_call(&self, id: &DeviceId, outcome: &reload::Outcome) {
        self.metrics.reloaded(outcome.is_ok());
        if self.fleet.record_call(id, outcome) {
            self.catalog.mark_outdated(id, true);
        }
    }

    /// Records that a board sent this request.
    fn record_contact(&self, id: &DeviceId, request: &Request, report: Report) {
        let store = self.store.as_ref();
        let power = PowerReading::read(|name| request.header(name));
        let contact = Contact::now(request.peer.ip(), report, power);
        let is_change = self.fleet.record_contact(id, contact, store);
        self.catalog.mark_outdated(id, is_change);
    }

    /// Makes boards reload their configurations in the background, some at a time, as far as their addresses are known.
    pub(super) fn reload_members(&self, ids: Vec<DeviceId>) {
        let Some(this) = self.this.upgrade() else {
            return;
        };
        reload::MemberCalls::start(&this, ids, |this, ids| {
            if let Err(error) = this.sync() {
                log::warn!("cannot tell {} boards to reload: {error}", ids.len());
                return;
            }
            let is_wanted = |device: &Device| {
                ids.contains(&device.id)
                    && device.host().1 != device::AddressSource::Name
                    && device.reload_port().is_some()
            };
            let devices = this.page("", usize::MAX, &is_wanted).devices;
            let outcomes = reload::call_members(&this.board_http, &devices);
            for (device, outcome) in devices.iter().zip(outcomes) {
                if let Err(why) = &outcome {
                    log::info!("{}: not reloaded: {why}", device.id);
                }
                this.record_call(&device.id, &outcome);
            }
        });
    }

    /// Makes a board reload its configuration, in the background. False: the board's address is not known, or there are too
    /// many calls already.
    fn reload_later(&self, id: &DeviceId) -> bool {
        let Ok(Some(device)) = self.device(id) else {
            return false;
        };
        if device.host().1 == device::AddressSource::Name || device.reload_port().is_none() {
            return false;
        }
        let Some(this) = self.this.upgrade() else {
            return false;
        };
        reload::BackgroundCalls::start(&this, id, |this, id| {
            // The change may have included the board's address.
            let Ok(Some(device)) = this.device(id) else {
                return;
            };
            let outcome = reload::call_with_retries(&this.board_http, &device);
            if let Err(why) = &outcome {
                log::info!("{id}: not reloaded: {why}");
            }
            this.record_call(id, &outcome);
        })
    }
}
