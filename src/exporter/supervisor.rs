//! The supervisor starts, watches and stops sources, listeners and senders, and applies each new configuration to them.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::central;
use super::housekeeping::{self, Task};
use super::ports::Ports;
use super::remote_write::{self_metrics_bytes, InstanceAddress, Senders};
use super::{Exporter, Identity};
use crate::config::Config;
use crate::exposition::Format;
use crate::http::{port_of, AccessControl, AccessFiles};
use crate::metrics::{Policy, Registry};
use crate::sources::io_log::IoLogs;
use crate::sources::{
    select_meters, source_name, unknown_sources, Board, Context, Device, Health, Meter, Roots,
    RunningSource, SelectedMeters, METERS,
};
use crate::store::{Change, ConfigSource, Proposal, Store};
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::program;
use crate::sys::realtime;
use crate::sys::reason;
use crate::sys::signals::{Request, Signals};
use crate::sys::stop::Stop;

/// The longest time between two rounds of the checks: for hung sources, addresses that have come up, and so on.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The delay after the start and after a change of the configuration with which the pages of the program's code are given
/// back to the kernel. Much of the code is used only then.
const CODE_RELEASE_DELAY: Duration = Duration::from_secs(1);
/// How long the sources that are stopped together may take to end.
const SOURCE_STOP_TIMEOUT: Duration = Duration::from_millis(700);

/// What the command line sets.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the board's files are.
    pub roots: Roots,
    /// Where what sources read is recorded to or replayed from.
    pub io_logs: IoLogs,
    /// Where the configuration comes from.
    pub configuration: ConfigSource,
    /// Overrides the address of the metrics port.
    pub listen_address: Option<String>,
    /// Overrides the address of the management port.
    pub management_address: Option<String>,
    /// Who may use both ports. Its file of tokens overrides that of the configuration.
    pub access: AccessFiles,
    /// Whether the board's configuration may come from a central server.
    pub asks_server: bool,
}

/// A message to the supervisor.
#[derive(Debug)]
pub(super) enum Event {
    /// Apply a configuration and answer whether that worked.
    Adopt(Proposal),
    /// End the process.
    Stop,
}

/// Runs the exporter until a signal stops it. An error is one that a person has to fix before the exporter can run at all.
pub fn run(options: Options, signals: Signals) -> Result<(), String> {
    let (events, inbox) = mpsc::channel();
    let proposals = events.clone();
    let remote = match options.asks_server {
        true => central::remote(&options.configuration, &options.roots)?,
        false => None,
    };
    let store = Store::open_with(options.configuration.clone(), remote, move |proposal| {
        // The inbox is gone when the process is about to end. The dropped proposal tells the proposer so.
        let _ = proposals.send(Event::Adopt(proposal));
    })?;
    let store = Arc::new(store);
    let config = store.current();
    let access_control = AccessControl::new(&options.access)?;
    let mut supervisor = Supervisor::new(options, access_control, store);
    supervisor.set_tokens(&config)?;
    supervisor.exporter.apply_output_settings(&config);
    supervisor.ports.take_sockets()?;
    supervisor.ports.listen(&supervisor.exporter, &config)?;
    supervisor.apply((*config).clone());
    supervisor.report_ports();
    let tasks = housekeeping::start(Arc::clone(&supervisor.exporter))?;
    central::start(&supervisor.exporter)?;
    forward_signals(signals, events, tasks)?;
    let exporter = &supervisor.exporter;
    exporter.manager.ready(&exporter.summary());
    supervisor.supervise(&inbox);
    // Proposals are dropped from here on: their proposers do not wait for an answer that does not come.
    drop(inbox);
    supervisor.stop();
    Ok(())
}

/// Turns signals into events and tasks, in a thread of its own.
pub(super) fn forward_signals(
    signals: Signals,
    events: Sender<Event>,
    tasks: Sender<Task>,
) -> Result<(), String> {
    std::thread::Builder::new()
        .name("signals".to_string())
        .stack_size(64 * 1024)
        .spawn(move || {
            while let Ok(request) = signals.wait() {
                let received = match request {
                    Request::Stop => events.send(Event::Stop).is_ok(),
                    Request::Reload => tasks.send(Task::Reload).is_ok(),
                };
                if !received {
                    return;
                }
            }
        })
        .map(|_| ())
        .map_err(|e| format!("cannot start a thread: {e}"))
}

/// Owns the listeners and the senders, and is the only one to change the list of sources, which `exporter` shares.
pub(super) struct Supervisor {
    options: Options,
    access_control: Arc<AccessControl>,
    exporter: Arc<Exporter>,
    ports: Ports,
    senders: Senders,
    /// The labels that every series of a source carries.
    labels: Vec<(String, String)>,
    /// The names under `metrics:` that were logged as unknown.
    logged_unknown_metrics: Vec<String>,
    /// Whether the memory was to stay resident so far.
    has_locked_memory: bool,
}

impl Supervisor {
    pub(super) fn new(
        options: Options,
        access_control: Arc<AccessControl>,
        store: Arc<Store>,
    ) -> Supervisor {
        let exporter = Arc::new(Exporter::new(store));
        let ports = Ports::new(
            &exporter,
            &access_control,
            options.listen_address.clone(),
            options.management_address.clone(),
        );
        Supervisor {
            options,
            access_control,
            exporter,
            ports,
            senders: Senders::default(),
            labels: Vec::new(),
            logged_unknown_metrics: Vec::new(),
            has_locked_memory: false,
        }
    }

    /// Handles events and does the regular checks, until a stop is requested.
    fn supervise(&mut self, inbox: &Receiver<Event>) {
        let mut release_code_at = Some(Instant::now() + CODE_RELEASE_DELAY);
        loop {
            match inbox.recv_timeout(CHECK_INTERVAL) {
                Ok(Event::Adopt(proposal)) => {
                    self.adopt(&proposal);
                    release_code_at = Some(Instant::now() + CODE_RELEASE_DELAY);
                }
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Finds out whether the clock was set, even when no client needs time stamps.
            self.exporter.clock.offset();
            self.restart_hung_sources();
            self.senders.check(&self.exporter);
            self.ports.retry();
            self.exporter.manager.alive();
            self.check_unknown_metrics();
            self.report_ports();
            if release_code_at.is_some_and(|at| at <= Instant::now()) {
                release_code_at = None;
                // A debug build keeps the code: its tests subtract the size of the code to get the memory of the data.
                if !cfg!(debug_assertions) {
                    program::give_back();
                }
            }
        }
    }

    /// Tells the central server's poller on which ports the board listens, and what kind of board it is.
    fn report_ports(&self) {
        if let Some(remote) = self.exporter.store.remote() {
            let device_type = lock::read(&self.exporter.identity).device_type.clone();
            let is_tls = self.access_control.is_tls();
            remote.set_ports(self.ports.numbers(), is_tls, &device_type);
        }
    }

    /// Counts the names under `metrics:` that nothing on this board has. Logs them all when one of them is new.
    fn check_unknown_metrics(&mut self) {
        const MAX_LOGGED: usize = 10;
        let Some(unknown) = self.exporter.unknown_metrics() else {
            return;
        };
        let count = unknown.len() as u64;
        let counted = &self.exporter.unknown_metrics;
        counted.store(count, Ordering::Relaxed);
        // Fewer unknown names than before are not worth a line.
        if unknown
            .iter()
            .all(|n| self.logged_unknown_metrics.contains(n))
        {
            return;
        }
        let shown = unknown.get(..MAX_LOGGED).unwrap_or(&unknown).join(", ");
        let more = match unknown.len().saturating_sub(MAX_LOGGED) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let now = BootTime::now();
        let sources = lock::read(&self.exporter.sources);
        let doubt = match sources.iter().all(|s| s.context().group.is_fresh(now)) {
            true => "",
            false => " (sources that cannot be read yet may have them)",
        };
        drop(sources);
        log::warn!("no source on this board has these names under `metrics`: {shown}{more}{doubt}");
        self.logged_unknown_metrics = unknown;
    }

    /// Restarts sources whose poll has exceeded its deadline, and those whose thread could not be started.
    pub(super) fn restart_hung_sources(&self) {
        let now = BootTime::now();
        for running in self.exporter.sources().iter() {
            running.restart_if_stuck(now);
        }
    }

    /// Stops all sources. Returns their names.
    pub(super) fn stop_sources(&self) -> Vec<String> {
        let sources = self.exporter.sources();
        stop_all(&sources);
        sources.iter().map(|s| s.name().to_string()).collect()
    }

    /// The running sources.
    pub(super) fn sources(&self) -> Arc<[Arc<RunningSource>]> {
        self.exporter.sources()
    }

    /// The series of all sources.
    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.exporter.registry
    }

    /// All metrics, as text.
    pub(super) fn scrape(&self, format: Format) -> String {
        String::from_utf8_lossy(&self.exporter.scrape(format)).into_owned()
    }

    /// Applies a configuration as a whole, or changes nothing. Answers the proposal with the outcome.
    fn adopt(&mut self, proposal: &Proposal) {
        let config = &proposal.config;
        let outcome = match proposal.change {
            Change::Selection => {
                self.exporter.registry.set_policy(policy(config));
                Ok(())
            }
            Change::Anything => self.listen(config).map(|()| self.apply((**config).clone())),
        };
        proposal.answer(outcome);
        // Only now: the change may have been requested on a connection to a replaced listener, which has to carry the
        // response first.
        self.ports.retire();
    }

    /// Applies what can fail: the file of tokens, the listen addresses and the UDP agent. If one of them fails, the others
    /// stay as they were.
    fn listen(&mut self, config: &Config) -> Result<(), String> {
        self.set_tokens(config)?;
        let outcome = self.ports.listen(&self.exporter, config);
        if outcome.is_err() {
            let old = self.exporter.store.current();
            if let Err(why) = self.set_tokens(&old) {
                log::error!("{why}");
            }
        }
        outcome
    }

    /// Applies the file of tokens: that of the command line, else that of the configuration.
    fn set_tokens(&self, config: &Config) -> Result<(), String> {
        let from_command_line = self.options.access.tokens.as_ref();
        let file = from_command_line.or(config.management.token_file.as_ref());
        self.access_control.set_tokens(file.map(PathBuf::as_path))
    }

    /// Applies everything that [`Supervisor::listen`] does not. Sources and senders whose settings are the same go on.
    /// Sources and senders see the detected device type in place of `auto`; the configuration in the store keeps `auto`.
    pub(super) fn apply(&mut self, mut config: Config) {
        self.exporter.registry.set_policy(policy(&config));
        self.exporter.apply_output_settings(&config);
        for name in unknown_sources(&config) {
            log::warn!(
                "`sources` lists {name}, but there is no such source (`check-config` lists them)"
            );
        }
        let io_logs = &self.options.io_logs;
        let board = Board::detect_with(self.options.roots.clone(), io_logs.for_board());
        if config.device_type == "auto" {
            config.device_type = board.device_type().to_string();
        }
        let hostname = config.hostname.as_ref().unwrap_or(&board.hostname).clone();
        *lock::write(&self.exporter.identity) = Identity {
            device_type: config.device_type.clone(),
            hostname: hostname.clone(),
        };
        let config = Arc::new(config);
        self.lock_memory(config.realtime);
        self.apply_sources(board, &hostname, &config);
        let address = InstanceAddress {
            hostname: &hostname,
            port: self.metrics_port(&config),
        };
        self.senders.apply(&self.exporter, &config, &address);
    }

    /// Keeps the memory resident, or no longer.
    fn lock_memory(&mut self, wanted: bool) {
        if wanted == std::mem::replace(&mut self.has_locked_memory, wanted) {
            return;
        }
        if !wanted {
            return realtime::unlock_memory();
        }
        if let Err(errno) = realtime::lock_memory() {
            log::warn!(
                "cannot lock memory: {} (`realtime: true` needs CAP_IPC_LOCK: use the drop-in realtime.conf)",
                reason(&errno.into())
            );
        }
    }

    /// Starts the sources that the configuration selects, and stops all others. A source that is started anew keeps its series
    /// and its counters.
    fn apply_sources(&mut self, mut board: Board, hostname: &str, config: &Arc<Config>) {
        let mut labels = Vec::new();
        if config.labels {
            labels.push(("device_type".to_string(), config.device_type.clone()));
            labels.push(("hostname".to_string(), hostname.to_string()));
        }
        labels.extend(config.constant_labels.clone());
        let same_labels = self.labels == labels;
        self.labels = labels;
        let SelectedMeters {
            meters: chosen,
            missing,
        } = select_meters(&mut board, config);
        *lock::write(&self.exporter.missing_meters) = missing;
        let board = Arc::new(board);
        if chosen.is_empty() {
            log::warn!(
                "there is nothing to read on this board ({}): no tegrastats, no RAPL, no hwmon, power_supply or thermal sensor",
                board.model.as_deref().unwrap_or("unknown model")
            );
        }
        let wanted = chosen.into_iter().flat_map(|(meter, reason)| {
            let devices = meter.devices(config).into_iter();
            devices.map(move |device| (meter, device, reason.clone()))
        });
        let wanted: Vec<_> = wanted.collect();
        let history_bytes =
            (config.history.bytes - self_metrics_bytes(config)) / wanted.len().max(1);
        let mut old = self.exporter.sources().to_vec();
        let mut new = Vec::new();
        for (meter, device, reason) in wanted {
            // The labels are part of every series: with other labels, all sources begin with new series.
            let before = old
                .iter()
                .position(|r| r.matches(meter, &device) && same_labels)
                .map(|i| old.swap_remove(i));
            if let Some(before) = &before {
                limit_history(before.context(), config, history_bytes);
            }
            new.push(match before {
                Some(before) if is_same(&before, meter, &board, config) => before,
                Some(before) => {
                    log::info!("{}: restarted: {reason}", before.name());
                    stop_all(std::slice::from_ref(&before));
                    self.start(meter, before.context().clone(), &board, config)
                }
                None => {
                    let context = self.context(meter, device, &board, config);
                    limit_history(&context, config, history_bytes);
                    let running = self.start(meter, context, &board, config);
                    log::info!("{}: {reason}", running.name());
                    running
                }
            });
        }
        *lock::write(&self.exporter.sources) = new.into();
        self.exporter.set_up.store(true, Ordering::Release);
        for name in self.options.io_logs.unused() {
            log::warn!("the recording has a source {name}, but its files do not");
        }
        for ended in &old {
            log::info!("{}: ended", ended.name());
            self.exporter.registry.remove_group(&ended.context().group);
        }
        stop_all(&old);
    }

    /// The port of the metrics. `None`: there is none, or the kernel chooses it.
    fn metrics_port(&self, config: &Config) -> Option<u16> {
        let overridden = self.options.listen_address.as_ref();
        let overridden = overridden.and_then(|address| port_of(address));
        overridden.or(config.port).filter(|port| *port != 0)
    }

    /// The context of a new source, with a group of its own in the registry.
    fn context(
        &self,
        meter: &Meter,
        device: Device,
        board: &Arc<Board>,
        config: &Arc<Config>,
    ) -> Context {
        let registry = &self.exporter.registry;
        // The rank is the place among all meters, whichever of them run now: a reload may start others.
        let rank = METERS.iter().position(|m| m.name == meter.name);
        let io_log = self
            .options
            .io_logs
            .for_source(&source_name(meter, &device));
        Context {
            board: Arc::clone(board),
            config: Arc::clone(config),
            device,
            group: registry.add_group(
                rank.unwrap_or(METERS.len()) as u32,
                meter.name,
                self.labels.clone(),
            ),
            registry: Arc::clone(registry),
            health: Arc::new(Health::with_io_log(io_log)),
            stop: Arc::default(),
            interval: meter.pace.interval(config.interval),
        }
    }

    /// Starts a source that keeps the device, the group and the health of `context`, and has the settings of `config`.
    fn start(
        &self,
        meter: &'static Meter,
        context: Context,
        board: &Arc<Board>,
        config: &Arc<Config>,
    ) -> Arc<RunningSource> {
        let context = Context {
            board: Arc::clone(board),
            config: Arc::clone(config),
            stop: Arc::new(Stop::default()),
            interval: meter.pace.interval(config.interval),
            ..context
        };
        Arc::new(RunningSource::start(meter, context))
    }

    fn stop(self) {
        log::info!("stopping");
        self.exporter.manager.stopping();
        self.ports.stop();
        stop_all(&self.exporter.sources());
        self.senders.stop(&self.exporter);
    }
}

/// Which metrics are exported.
fn policy(config: &Config) -> Policy {
    config.metrics.clone().map_or(Policy::All, Policy::Listed)
}

/// Limits the history of a source in rows, time and bytes.
fn limit_history(context: &Context, config: &Config, bytes: usize) {
    let history = context.group.history();
    history.limit_rows(config.history.rows.unwrap_or(usize::MAX));
    history.limit(config.history.keep, bytes);
}

/// Stops sources, all at the same time.
fn stop_all(sources: &[Arc<RunningSource>]) {
    sources.iter().for_each(|running| running.stop());
    let deadline = Instant::now() + SOURCE_STOP_TIMEOUT;
    sources.iter().for_each(|running| running.join(deadline));
}

/// Whether a running source of the same device has the settings that this configuration would start it with. The settings of
/// a single device were compared before, by [`RunningSource::matches`].
fn is_same(running: &RunningSource, meter: &Meter, board: &Board, config: &Config) -> bool {
    let context = running.context();
    context.interval == meter.pace.interval(config.interval)
        && context.config.realtime == config.realtime
        && context.board.roots == board.roots
        && context.board.claims == board.claims
        && (meter.devices.is_some() || {
            let section = meter.section.name;
            context.config.meters.same_section(&config.meters, section)
        })
}
