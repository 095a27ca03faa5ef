//! Starts, watches and stops everything that runs, and brings it in line with the configuration.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::central;
use super::event::Event;
use super::housekeeping::{self, Errand};
use super::ports::Ports;
use super::remote_write::{own_share, Place, Senders};
use super::{Exporter, Identity};
use crate::config::Config;
use crate::exposition::Format;
use crate::http::{port_of, AccessFiles, Gate};
use crate::metrics::Policy;
use crate::sources::io_log::IoLogs;
use crate::sources::{
    chosen, source_name, unknown, Board, Context, Device, Health, Meter, Roots, Running, METERS,
};
use crate::store::{Change, Configuration, Proposal, Store};
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::program;
use crate::sys::signals::{Request, Signals};
use crate::sys::stop::Stop;

/// How often the watchdog looks.
const WATCH: Duration = Duration::from_millis(250);
/// How long after a start, or a change of the configuration, the code that only that needed is given back.
const SETTLED: Duration = Duration::from_secs(1);
/// How long the sources have to end when the process is told to.
const FAREWELL: Duration = Duration::from_millis(700);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the board's files are.
    pub roots: Roots,
    /// By way of which they are read.
    pub io_logs: IoLogs,
    /// Where the configuration comes from.
    pub configuration: Configuration,
    /// Overrides the address of the metrics port.
    pub listen_address: Option<String>,
    /// Overrides the address of the management port.
    pub management_address: Option<String>,
    /// Who may use both. Its tokens override those of the configuration.
    pub access: AccessFiles,
    /// Whether a central server may have the board's configuration.
    pub asks_server: bool,
}

/// Runs the exporter until it is told to stop. An error is one that a person has to mend before it can run at all.
pub fn run(options: Options, signals: Signals) -> Result<(), String> {
    let (events, inbox) = mpsc::channel();
    let adopt = events.clone();
    let remote = match options.asks_server {
        true => central::remote(&options.configuration, &options.roots)?,
        false => None,
    };
    let store = Store::open_with(options.configuration.clone(), remote, move |proposal| {
        // Nobody receives any more when the process is about to end: whoever proposed it hears that.
        let _ = adopt.send(Event::Adopt(proposal));
    })?;
    let store = Arc::new(store);
    let config = store.current();
    let gate = Gate::new(&options.access)?;
    let mut supervisor = Supervisor::new(options, gate, store);
    supervisor.set_tokens(&config)?;
    supervisor.exporter.present(&config);
    supervisor.ports.take_sockets()?;
    supervisor.ports.listen(&supervisor.exporter, &config)?;
    supervisor.apply((*config).clone());
    supervisor.say_ports();
    let errands = housekeeping::start(Arc::clone(&supervisor.exporter))?;
    central::start(&supervisor.exporter)?;
    forward(signals, events, errands)?;
    let exporter = &supervisor.exporter;
    exporter.manager.ready(&exporter.summary());
    supervisor.attend(&inbox);
    // From here on nothing is adopted.
    drop(inbox);
    supervisor.stop();
    Ok(())
}

/// Turns signals into events and errands, in a thread of its own.
pub(super) fn forward(
    signals: Signals,
    events: Sender<Event>,
    errands: Sender<Errand>,
) -> Result<(), String> {
    std::thread::Builder::new()
        .name("signals".to_string())
        .stack_size(64 * 1024)
        .spawn(move || {
            while let Ok(request) = signals.wait() {
                let heard = match request {
                    Request::Stop => events.send(Event::Stop).is_ok(),
                    Request::Reload => errands.send(Errand::Reload).is_ok(),
                };
                if !heard {
                    return;
                }
            }
        })
        .map(|_| ())
        .map_err(|e| format!("cannot start a thread: {e}"))
}

pub(super) struct Supervisor {
    options: Options,
    gate: Arc<Gate>,
    exporter: Arc<Exporter>,
    ports: Ports,
    senders: Senders,
    /// The labels that every series of a source carries.
    labels: Vec<(String, String)>,
    /// The names under `metrics:` of which the log says that nothing has them.
    unknown_metrics: Vec<String>,
}

impl Supervisor {
    pub(super) fn new(options: Options, gate: Arc<Gate>, store: Arc<Store>) -> Supervisor {
        let exporter = Arc::new(Exporter::new(store));
        let ports = Ports::new(
            &exporter,
            &gate,
            options.listen_address.clone(),
            options.management_address.clone(),
        );
        Supervisor {
            options,
            gate,
            exporter,
            ports,
            senders: Senders::default(),
            labels: Vec::new(),
            unknown_metrics: Vec::new(),
        }
    }

    fn attend(&mut self, inbox: &Receiver<Event>) {
        let mut settled = Some(Instant::now() + SETTLED);
        loop {
            match inbox.recv_timeout(WATCH) {
                Ok(Event::Adopt(proposal)) => {
                    self.adopt(&proposal);
                    settled = Some(Instant::now() + SETTLED);
                }
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // So that it sees the clock being set, whether or not anybody asks for stamps.
            self.exporter.clock.offset();
            self.watch();
            self.senders.attend(&self.exporter);
            self.ports.retry();
            self.exporter.manager.alive();
            self.log_unknown_metrics();
            self.say_ports();
            if settled.is_some_and(|then| then <= Instant::now()) {
                settled = None;
                // A debug build keeps it: there the tests tell by the size of the code what memory there is besides.
                if !cfg!(debug_assertions) {
                    program::give_back();
                }
            }
        }
    }

    /// Has the central server know where the board listens, and what it is.
    fn say_ports(&self) {
        if let Some(remote) = self.exporter.store.remote() {
            let kind = lock::read(&self.exporter.identity).device_type.clone();
            remote.listens_at(self.ports.numbers(), self.gate.is_tls(), &kind);
        }
    }

    /// Says once which names under `metrics:` nothing on this board has.
    fn log_unknown_metrics(&mut self) {
        const SHOWN: usize = 10;
        let Some(unknown) = self.exporter.unknown_metrics() else {
            return;
        };
        let count = unknown.len() as u64;
        let counted = &self.exporter.unknown_metrics;
        counted.store(count, Ordering::Relaxed);
        // One that has been found in the meantime is no news.
        if unknown.iter().all(|n| self.unknown_metrics.contains(n)) {
            return;
        }
        let shown = unknown.get(..SHOWN).unwrap_or(&unknown).join(", ");
        let more = match unknown.len().saturating_sub(SHOWN) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let now = BootTime::now();
        let sources = lock::read(&self.exporter.sources);
        let doubt = match sources.iter().all(|s| s.context().group.is_fresh(now)) {
            true => "",
            false => " (what cannot be read yet may have it)",
        };
        drop(sources);
        log::warn!("nothing on this board has what `metrics` lists: {shown}{more}{doubt}");
        self.unknown_metrics = unknown;
    }

    /// Sees after sources that hang.
    pub(super) fn watch(&self) {
        let now = BootTime::now();
        for running in self.exporter.sources().iter() {
            running.watch(now);
        }
    }

    /// Ends all sources, and says which there were.
    pub(super) fn end_sources(&self) -> Vec<String> {
        let sources = self.exporter.sources();
        end(&sources);
        sources.iter().map(|s| s.name().to_string()).collect()
    }

    /// All that is exported.
    pub(super) fn scrape(&self, format: Format) -> String {
        String::from_utf8_lossy(&self.exporter.scrape(format)).into_owned()
    }

    /// Takes a configuration over as a whole, or not at all.
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
        // It may have been asked for on a connection to one of them, where the answer is now on its way.
        self.ports.retire();
    }

    /// Has the ports and who may use them as the configuration says, or changes nothing.
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

    fn set_tokens(&self, config: &Config) -> Result<(), String> {
        let named = self.options.access.tokens.as_ref();
        let file = named.or(config.management.token_file.as_ref());
        self.gate.set_tokens(file.map(PathBuf::as_path))
    }

    /// Starts and stops sources so that those run that the configuration asks for. What has not changed runs on.
    pub(super) fn apply(&mut self, mut config: Config) {
        self.exporter.registry.set_policy(policy(&config));
        self.exporter.present(&config);
        for name in unknown(&config) {
            log::warn!("`sources` names {name}, which is no source: see --help");
        }
        let io_logs = &self.options.io_logs;
        let mut board = Board::look_by(self.options.roots.clone(), io_logs.of_board());
        if config.device_type == "auto" {
            config.device_type = board.device_type().to_string();
        }
        let hostname = config.hostname.as_ref().unwrap_or(&board.hostname).clone();
        *lock::write(&self.exporter.identity) = Identity {
            device_type: config.device_type.clone(),
            hostname: hostname.clone(),
        };
        let mut labels = Vec::new();
        if config.labels {
            labels.push(("device_type".to_string(), config.device_type.clone()));
            labels.push(("hostname".to_string(), hostname.clone()));
        }
        let same_labels = self.labels == labels;
        self.labels = labels;
        let config = Arc::new(config);
        let chosen = chosen(&mut board, &config);
        let board = Arc::new(board);
        if chosen.is_empty() {
            log::warn!(
                "nothing to read on this board ({}): no tegrastats, no RAPL, no hwmon, power_supply or thermal sensor",
                board.model.as_deref().unwrap_or("unknown model")
            );
        }
        let devices = chosen.into_iter().flat_map(|(meter, reason)| {
            let devices = meter.devices(&config).into_iter();
            devices.map(move |device| (meter, device, reason.clone()))
        });
        let devices: Vec<_> = devices.collect();
        let share = (config.history.bytes - own_share(&config)) / devices.len().max(1);
        let mut old = self.exporter.sources().to_vec();
        let mut new = Vec::new();
        for (meter, device, reason) in devices {
            let before = old
                .iter()
                .position(|r| r.is_of(meter, &device) && same_labels)
                .map(|i| old.swap_remove(i));
            if let Some(before) = &before {
                keep(before.context(), &config, share);
            }
            new.push(match before {
                Some(before) if is_same(&before, meter, &board, &config) => before,
                Some(before) => {
                    log::info!("{}: started anew: {reason}", before.name());
                    end(std::slice::from_ref(&before));
                    self.start(meter, before.context().clone(), &board, &config)
                }
                None => {
                    let context = self.context(meter, device, &board, &config);
                    keep(&context, &config, share);
                    let running = self.start(meter, context, &board, &config);
                    log::info!("{}: {reason}", running.name());
                    running
                }
            });
        }
        *lock::write(&self.exporter.sources) = new.into();
        self.exporter.set_up.store(true, Ordering::Release);
        for name in self.options.io_logs.unused() {
            log::warn!("{name} was recorded, and is not found in the recording's files");
        }
        for ended in &old {
            log::info!("{}: ended", ended.name());
            self.exporter.registry.remove_group(&ended.context().group);
        }
        end(&old);
        let place = Place {
            hostname: &hostname,
            port: self.metrics_port(&config),
        };
        self.senders.apply(&self.exporter, &config, &place);
    }

    /// The port of the metrics, where it is known beforehand.
    fn metrics_port(&self, config: &Config) -> Option<u16> {
        let given = self.options.listen_address.as_ref();
        let given = given.and_then(|address| port_of(address));
        given.or(config.port).filter(|port| *port != 0)
    }

    fn context(
        &self,
        meter: &Meter,
        device: Device,
        board: &Arc<Board>,
        config: &Arc<Config>,
    ) -> Context {
        let registry = &self.exporter.registry;
        // Its place among all meters, whichever of them run now: a reload may start others.
        let rank = METERS.iter().position(|m| m.name == meter.name);
        let io_log = self.options.io_logs.of(&source_name(meter, &device));
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
            health: Arc::new(Health::on(io_log)),
            stop: Arc::default(),
            interval: meter.pace.interval(config.interval),
        }
    }

    /// Starts a meter with the group and the health of `context`, and the settings of `config`.
    fn start(
        &self,
        meter: &'static Meter,
        context: Context,
        board: &Arc<Board>,
        config: &Arc<Config>,
    ) -> Arc<Running> {
        let context = Context {
            board: Arc::clone(board),
            config: Arc::clone(config),
            stop: Arc::new(Stop::default()),
            interval: meter.pace.interval(config.interval),
            ..context
        };
        Arc::new(Running::start(meter, context))
    }

    fn stop(self) {
        log::info!("stopping");
        self.exporter.manager.stopping();
        self.ports.stop();
        end(&self.exporter.sources());
        self.senders.stop(&self.exporter);
    }
}

/// Which metrics are exported.
fn policy(config: &Config) -> Policy {
    config.metrics.clone().map_or(Policy::All, Policy::Listed)
}

/// Has the last samples of a source kept as the configuration says, in so many bytes.
fn keep(context: &Context, config: &Config, bytes: usize) {
    let history = context.group.history();
    history.limit_rows(config.history.rows.unwrap_or(usize::MAX));
    history.limit(config.history.keep, bytes);
}

/// Stops sources, all at once.
fn end(sources: &[Arc<Running>]) {
    sources.iter().for_each(|running| running.stop());
    let deadline = Instant::now() + FAREWELL;
    sources.iter().for_each(|running| running.join(deadline));
}

/// Whether a running source is what this configuration would start.
fn is_same(running: &Running, meter: &Meter, board: &Board, config: &Config) -> bool {
    let context = running.context();
    context.interval == meter.pace.interval(config.interval)
        && context.board.roots == board.roots
        && context.board.claims == board.claims
        && (meter.devices.is_some() || {
            let section = meter.section.name;
            context.config.meters.same_section(&config.meters, section)
        })
}
