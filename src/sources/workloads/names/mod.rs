//! The names of containers and pods, learned from those who run them: container engines by their sockets, nerdctl by its files, Kubernetes
//! by the names of the pods' logs and by its API.
//!
//! A thread asks them, so that none of them can delay a poll. It asks when something appears whose name is unknown, a few times
//! more, less and less often, while that is so, and every few minutes. What a source said last stays known while the source is away.

pub mod docker;
mod json;
mod kubernetes;
mod nerdctl;
mod pod_logs;
pub mod pods;
mod settings;
mod socket;
pub mod table;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{access, AccessFlags, Gid, Group};

use self::kubernetes::Kubernetes;
pub(super) use self::settings::Names as Settings;
use self::table::{Found, Table};
use super::name::{Kind, Workload};
use crate::config::Switch;
use crate::sources::{Board, Health};
use crate::sys::lock;
use crate::sys::reason;

/// The sockets that are asked where the configuration does not name others.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];
/// Where the sockets of users' own engines are, below each user's folder.
const USERS: &str = "/run/user";
const USER_SOCKETS: [&str; 2] = ["docker.sock", "podman/podman.sock"];
/// At most so many users' folders are looked into.
const MAX_USERS: usize = 64;
/// Where kubelet has the logs, in the folder that `/proc` lies in.
const LOGS: &str = "var/log";
/// nerdctl's data root, in the same folder.
const NERDCTL: &str = "var/lib/nerdctl";
/// The list of containers that run.
const CONTAINERS: &str = "/containers/json";

/// The time for an engine's whole answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The time between two rounds of requests, at least.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time between two rounds while something is unknown. Then it stays so until the next regular one.
const MAX_RETRY: Duration = Duration::from_secs(64);
/// The time between regular rounds, which find renamed containers.
const REFRESH: Duration = Duration::from_secs(300);
/// The longest time for which a source that failed is not asked.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The stack of the thread.
const STACK_BYTES: usize = 256 * 1024;

/// What a poll knows, and the way to the thread.
#[derive(Debug)]
pub(super) struct Names {
    health: Arc<Health>,
    shared: Arc<Shared>,
    /// Until the thread has them.
    places: Option<Box<Places>>,
    tables: Arc<Vec<Table>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How often something unknown has appeared.
    asked: u64,
    /// The last of those that a round has been made for.
    answered: u64,
    /// Whether something is unknown still.
    is_wanted: bool,
    /// What was learned, and whether the poll has seen it.
    tables: Arc<Vec<Table>>,
    is_new: bool,
    is_stopped: bool,
}

impl Names {
    /// The names that the settings ask for; nobody is asked yet. `None`: none are.
    pub(super) fn new(
        health: &Arc<Health>,
        board: &Board,
        settings: &Settings,
        kinds: &[Kind],
    ) -> Option<Names> {
        let are_named = kinds.contains(&Kind::Container) || kinds.contains(&Kind::Pod);
        // A recording has no names: they are personal, and none of the board's hardware.
        if !settings.enabled || !are_named || !health.io_log().is_off() {
            return None;
        }
        let places = Places::new(health, board, settings);
        // Without a source, no workload waits for its name.
        if places.are_none() {
            return None;
        }
        Some(Names {
            health: Arc::clone(health),
            shared: Arc::default(),
            places: Some(Box::new(places)),
            tables: Arc::default(),
        })
    }

    /// Takes over what was learned since. Returns whether there is any.
    pub(super) fn update(&mut self) -> bool {
        let mut state = lock::lock(&self.shared.state);
        let is_new = std::mem::take(&mut state.is_new);
        if is_new {
            self.tables = Arc::clone(&state.tables);
        }
        is_new
    }

    /// What is known of a workload. The first source that knows all has the last word.
    pub(super) fn find(&self, workload: &Workload) -> Option<Found> {
        let mut best: Option<Found> = None;
        for found in self.tables.iter().filter_map(|table| table.find(workload)) {
            let is_better = match &best {
                None => true,
                Some(best) => found.is_whole && !best.is_whole,
            };
            if is_better {
                best = Some(found);
            }
        }
        best
    }

    /// Something has appeared whose name is unknown.
    pub(super) fn ask(&mut self) {
        {
            let mut state = lock::lock(&self.shared.state);
            state.asked += 1;
            state.is_wanted = true;
            self.health.set_asking(true);
            self.shared.woken.notify_one();
        }
        let Some(places) = self.places.take() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let spawned = std::thread::Builder::new()
            .name("workload names".to_string())
            .stack_size(STACK_BYTES)
            .spawn(move || run(&shared, places));
        if let Err(error) = spawned {
            log::error!("cannot start a thread for the names of containers: {error}");
            lock::lock(&self.shared.state).answered = u64::MAX;
            self.health.set_asking(false);
        }
    }

    /// Nothing is unknown any more.
    pub(super) fn settle(&self) {
        lock::lock(&self.shared.state).is_wanted = false;
    }

    /// Whether an answer is due, or has come that [`Names::update`] has not taken over yet.
    pub(super) fn is_due(&self) -> bool {
        let state = lock::lock(&self.shared.state);
        state.answered < state.asked || state.is_new
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        lock::lock(&self.shared.state).is_stopped = true;
        self.shared.woken.notify_one();
    }
}

/// The body of the thread.
fn run(shared: &Shared, mut places: Box<Places>) {
    let mut last = None;
    let mut retry = MIN_INTERVAL;
    while let Some(asked) = wait(shared, last, &mut retry) {
        let tables = places.ask();
        last = Some(Instant::now());
        let mut state = lock::lock(&shared.state);
        state.answered = asked;
        places.health.set_asking(state.asked > asked);
        if *state.tables != tables {
            state.tables = Arc::new(tables);
            state.is_new = true;
        }
    }
}

/// Waits until a round is due, and returns how often something had appeared by then. `None`: the thread is to end.
fn wait(shared: &Shared, last: Option<Instant>, retry: &mut Duration) -> Option<u64> {
    let mut state = lock::lock(&shared.state);
    loop {
        if state.is_stopped {
            return None;
        }
        let is_asked = state.asked > state.answered;
        let pause = match (is_asked, state.is_wanted && *retry <= MAX_RETRY) {
            (true, _) => MIN_INTERVAL,
            (false, true) => *retry,
            (false, false) => REFRESH,
        };
        let left = last.map_or(Duration::ZERO, |last| {
            (last + pause).saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            *retry = match is_asked {
                true => MIN_INTERVAL,
                false => (*retry * 2).min(2 * MAX_RETRY),
            };
            return Some(state.asked);
        }
        let waited = shared.woken.wait_timeout(state, left);
        (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    }
}

/// Where names are, and how asking there went.
#[derive(Debug)]
struct Places {
    health: Arc<Health>,
    /// `None`: those that are well-known.
    sockets: Option<Vec<PathBuf>>,
    logs: Option<PathBuf>,
    nerdctl: Option<PathBuf>,
    kubernetes: Option<Kubernetes>,
    /// The service account's token, which stands for the API in messages.
    token: PathBuf,
    known: BTreeMap<PathBuf, Place>,
}

/// What one source of names has said, and whether it may be asked.
#[derive(Debug, Default)]
struct Place {
    table: Table,
    /// Why the last request failed.
    error: Option<String>,
    backoff: Duration,
    not_before: Option<Instant>,
}

impl Places {
    fn new(health: &Arc<Health>, board: &Board, settings: &Settings) -> Places {
        let is_here = is_this_machine(board);
        let node = settings.node.clone();
        let node = node.or_else(|| std::env::var("NODE_NAME").ok());
        let node = node.unwrap_or_else(|| board.hostname.to_lowercase());
        let is_asked = is_here || settings.kubernetes.enabled == Switch::On;
        let kubernetes = match is_asked {
            true => Kubernetes::new(&settings.kubernetes, &node, |name| std::env::var(name).ok()),
            false => Ok(None),
        };
        let kubernetes = kubernetes.unwrap_or_else(|error| {
            log::warn!("names cannot be requested from the Kubernetes API: {error}");
            health.set_value_error(&settings.kubernetes.service_account, Some(error));
            None
        });
        Places {
            health: Arc::clone(health),
            sockets: match is_here {
                true => settings.sockets.clone(),
                false => Some(settings.sockets.clone().unwrap_or_default()),
            },
            logs: pod_logs(settings, board),
            nerdctl: nerdctl_root(settings, board),
            kubernetes,
            token: settings.kubernetes.service_account.join("token"),
            known: BTreeMap::new(),
        }
    }

    /// Whether there is no source. `None` for sockets means the well-known ones.
    fn are_none(&self) -> bool {
        let has_sockets = self
            .sockets
            .as_ref()
            .is_none_or(|sockets| !sockets.is_empty());
        let has_files = self.logs.is_some() || self.nerdctl.is_some();
        !has_sockets && !has_files && self.kubernetes.is_none()
    }

    /// Asks everyone, and returns what each knows.
    fn ask(&mut self) -> Vec<Table> {
        if let Some(logs) = self.logs.clone() {
            self.ask_one("pod_logs", logs.join("pods"), || pod_logs::read(&logs));
        }
        if let Some(root) = self.nerdctl.clone() {
            self.ask_one("nerdctl", root.clone(), || nerdctl::read(&root));
        }
        for socket in self.sockets.clone().unwrap_or_else(well_known_sockets) {
            let path = socket.clone();
            self.ask_one(engine(&socket), path, || containers(&socket, TIMEOUT));
        }
        if let Some(kubernetes) = self.kubernetes.take() {
            let read = || kubernetes.read().map(Some);
            self.ask_one("kubernetes", self.token.clone(), read);
            self.kubernetes = Some(kubernetes);
        }
        let tables = self.known.values().map(|place| place.table.clone());
        tables.collect()
    }

    /// Asks one source of this kind, unless it failed lately. `Ok(None)`: it is not there.
    fn ask_one(
        &mut self,
        kind: &'static str,
        path: PathBuf,
        read: impl FnOnce() -> Result<Option<Table>, String>,
    ) {
        let place = self.known.entry(path.clone()).or_default();
        let now = Instant::now();
        if place.not_before.is_some_and(|until| now < until) {
            return;
        }
        let answer = read();
        if !matches!(answer, Ok(None)) {
            count_request(&self.health, kind, answer.is_err());
        }
        let error = match answer {
            Ok(Some(table)) => {
                self.health.left_out("names", table.left_out, || {
                    format!(
                        "{} lists more containers or pods than are kept",
                        path.display()
                    )
                });
                place.table = table;
                None
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        (place.backoff, place.not_before) = match &error {
            None => (Duration::ZERO, None),
            Some(_) => {
                let backoff = (2 * place.backoff).clamp(MIN_INTERVAL, MAX_BACKOFF);
                self.health.count_error();
                (backoff, Some(Instant::now() + backoff))
            }
        };
        match (&error, &place.error) {
            (Some(error), before) if Some(error) != before.as_ref() => {
                log::warn!("names of workloads: {error}");
            }
            (None, Some(_)) => log::info!("names of workloads: {} answers", path.display()),
            _ => {}
        }
        self.health.set_value_error(&path, error.clone());
        place.error = error;
    }
}

/// Counts a request to a source that is there.
fn count_request(health: &Health, kind: &'static str, has_failed: bool) {
    let requests = health.counter(
        "exporter_workload_name_requests_total",
        "Requests for the names of containers and pods, by kind of source.",
        kind,
    );
    let failures = health.counter(
        "exporter_workload_name_failures_total",
        "Failed requests for the names of containers and pods, by kind of source.",
        kind,
    );
    requests.add();
    if has_failed {
        failures.add();
    }
}

/// The kind of a container engine.
fn engine(socket: &Path) -> &'static str {
    match socket.to_string_lossy().contains("podman") {
        true => "podman",
        false => "docker",
    }
}

/// The folder cannot be listed.
fn not_listed(folder: &Path, error: &std::io::Error) -> String {
    format!("cannot list {}: {}", folder.display(), reason(error))
}

/// Whether the board is this machine, as far as its processes are concerned. A fixture board's containers are not those that run here.
fn is_this_machine(board: &Board) -> bool {
    board.roots.procfs == Path::new("/proc")
}

/// The folder with kubelet's logs, if names are to be learned from them.
fn pod_logs(settings: &Settings, board: &Board) -> Option<PathBuf> {
    let logs = settings.pod_logs.clone();
    logs.or_else(|| beside(board, LOGS, Some("pods")))
}

/// nerdctl's data root, if names are to be learned from it.
fn nerdctl_root(settings: &Settings, board: &Board) -> Option<PathBuf> {
    let root = settings.nerdctl.clone();
    root.or_else(|| beside(board, NERDCTL, None))
}

/// A folder of the board, found by where its `/proc` is. `None`: a copied board has no such folder, so that nobody knows names there.
fn beside(board: &Board, folder: &str, with: Option<&str>) -> Option<PathBuf> {
    let path = board.roots.procfs.parent()?.join(folder);
    let is_there = is_this_machine(board) || path.join(with.unwrap_or_default()).exists();
    is_there.then_some(path)
}

/// Who can be asked for names, for people.
pub(super) fn describe(board: &Board, settings: &Settings) -> String {
    if !settings.enabled {
        return "names are off".to_string();
    }
    let is_here = is_this_machine(board);
    let sockets = match (&settings.sockets, is_here) {
        (Some(sockets), _) => sockets.clone(),
        (None, true) => well_known_sockets(),
        (None, false) => Vec::new(),
    };
    let (mut places, mut errors) = (Vec::new(), Vec::new());
    for socket in sockets {
        match is_usable(&socket) {
            Ok(true) => places.push(socket.display().to_string()),
            Ok(false) => {}
            Err(why) => errors.push(why),
        }
    }
    let logs = pod_logs(settings, board).map(|logs| logs.join("pods"));
    places.extend(
        logs.filter(|logs| logs.exists())
            .map(|logs| logs.display().to_string()),
    );
    let nerdctl = nerdctl_root(settings, board).filter(|root| root.exists());
    places.extend(nerdctl.map(|root| root.display().to_string()));
    let token = settings.kubernetes.service_account.join("token");
    let is_asked = match settings.kubernetes.enabled {
        Switch::Off => false,
        Switch::On => true,
        Switch::Auto => is_here && token.exists(),
    };
    if is_asked {
        places.push("the Kubernetes API".to_string());
    }
    let mut text = match places.as_slice() {
        [] => "nobody says names of containers and pods".to_string(),
        places => format!("names by {}", places.join(", ")),
    };
    for error in errors {
        text.push_str(&format!(", not by {error}"));
    }
    text
}

/// The sockets that are there.
fn well_known_sockets() -> Vec<PathBuf> {
    let users = std::fs::read_dir(USERS).into_iter().flatten();
    let users = users.take(MAX_USERS).flatten().map(|user| user.path());
    let of_users = users.flat_map(|user| USER_SOCKETS.map(|socket| user.join(socket)));
    // Another user's is that user's own affair.
    let of_users = of_users.filter(|socket| socket.exists() && is_writable(socket));
    SOCKETS
        .map(PathBuf::from)
        .into_iter()
        .chain(of_users)
        .collect()
}

fn is_writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

/// Whether there is a socket that may be used.
fn is_usable(socket: &Path) -> Result<bool, String> {
    let metadata = match std::fs::metadata(socket) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("{}: {}", socket.display(), reason(&error))),
    };
    if !metadata.file_type().is_socket() {
        return Err(format!("{} is no socket", socket.display()));
    }
    if is_writable(socket) {
        return Ok(true);
    }
    let gid = Gid::from_raw(metadata.gid());
    let group = Group::from_gid(gid).ok().flatten();
    let group = group.map_or_else(|| gid.to_string(), |group| group.name);
    Err(format!(
        "{}: permission denied (the group {group} may use it: SupplementaryGroups={group} in a drop-in of the unit gives the \
         exporter all rights of that group)",
        socket.display()
    ))
}

/// The containers that the engine behind a socket runs. `None`: there is no such socket.
fn containers(socket: &Path, timeout: Duration) -> Result<Option<Table>, String> {
    if !is_usable(socket)? {
        return Ok(None);
    }
    socket::get(socket, CONTAINERS, timeout, |body| {
        docker::parse_containers(body, engine(socket))
    })
    .map(Some)
    .map_err(|why| format!("{}: {why}", socket.display()))
}

#[cfg(test)]
pub(super) mod tests;
