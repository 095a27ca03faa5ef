//! Starts, watches and stops everything that runs, and brings it in line with the configuration.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::listening::Listening;
use super::udp_agent::UdpAgent;
use super::{routes, Exporter};
use crate::config::{self, Config, Given, Loaded, Preset};
use crate::exposition::Format;
use crate::metrics::Policy;
use crate::sources::tape::Tapes;
use crate::sources::{
    chosen, source_name, unknown, Board, Context, Device, Health, Meter, Roots, Running, METERS,
};
use crate::sys::clock::BootTime;
use crate::sys::listen_fds::listen_fds;
use crate::sys::lock;
use crate::sys::signals::{Request, Signals};
use crate::sys::stop::Stop;

/// How often the watchdog looks.
const WATCH: Duration = Duration::from_millis(250);
/// How long the sources have to end when the process is told to.
const FAREWELL: Duration = Duration::from_millis(700);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the board's files are.
    pub roots: Roots,
    /// By way of which they are read.
    pub tapes: Tapes,
    /// Where the configuration comes from.
    pub configuration: Configuration,
    /// Overrides the address of the metrics port.
    pub listen_address: Option<String>,
    /// Overrides the address of the management port.
    pub management_address: Option<String>,
}

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum Configuration {
    /// A file; `None`: there is none, and all is as the defaults say.
    File(Option<PathBuf>),
    /// Built in.
    Fixed(Box<Config>),
    /// Built in, with what the user said, and a file over it if there is one.
    Preset(&'static Preset, Given, Option<PathBuf>),
}

/// What the supervisor is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Load the configuration again.
    Reload,
    /// End.
    Stop,
}

/// Runs the exporter until it is told to stop. An error is one that a person has to mend before it can run at all.
pub fn run(options: Options, signals: Signals) -> Result<(), String> {
    let (events, inbox) = mpsc::channel();
    let config = load(&options.configuration)?;
    let mut supervisor = Supervisor::new(options, &events);
    supervisor.exporter.present(&config);
    supervisor.take_sockets()?;
    supervisor.listen(&config)?;
    supervisor.apply(config);
    forward(signals, events)?;
    supervisor.attend(&inbox);
    supervisor.stop();
    Ok(())
}

/// Turns signals into events, in a thread of its own.
pub(super) fn forward(signals: Signals, events: Sender<Event>) -> Result<(), String> {
    std::thread::Builder::new()
        .name("signals".to_string())
        .stack_size(64 * 1024)
        .spawn(move || {
            while let Ok(request) = signals.wait() {
                let event = match request {
                    Request::Stop => Event::Stop,
                    Request::Reload => Event::Reload,
                };
                if events.send(event).is_err() {
                    return;
                }
            }
        })
        .map(|_| ())
        .map_err(|e| format!("cannot start a thread: {e}"))
}

pub(super) fn load(configuration: &Configuration) -> Result<Config, String> {
    let Loaded {
        config,
        warnings,
        origin,
    } = match configuration {
        Configuration::Fixed(config) => return Ok((**config).clone()),
        Configuration::File(None) => {
            log::info!("no configuration file: everything that this board has is exported");
            return Ok(Config::default());
        }
        Configuration::File(Some(path)) => config::load(path).map_err(|e| e.to_string())?,
        Configuration::Preset(preset, given, file) => preset.load(given, file.as_deref())?,
    };
    for warning in &warnings {
        log::warn!("{}", warning.with(&origin));
    }
    log::info!("configuration: {origin}");
    Ok(config)
}

pub(super) struct Supervisor {
    options: Options,
    exporter: Arc<Exporter>,
    metrics: Listening,
    management: Listening,
    agent: Option<UdpAgent>,
    /// The labels that every series of a source carries.
    labels: Vec<(String, String)>,
}

impl Supervisor {
    pub(super) fn new(options: Options, events: &Sender<Event>) -> Supervisor {
        let exporter = Arc::new(Exporter::new());
        Supervisor {
            options,
            metrics: Listening::new("metrics", routes::metrics(Arc::clone(&exporter))),
            management: Listening::new("management", routes::management(events.clone())),
            exporter,
            agent: None,
            labels: Vec::new(),
        }
    }

    /// Takes the sockets that systemd hands over: by their names, else the first for metrics and the second for
    /// management.
    fn take_sockets(&mut self) -> Result<(), String> {
        for (place, (name, socket)) in listen_fds().into_iter().enumerate() {
            match (name.as_deref(), place) {
                (Some("metrics"), _) | (_, 0) => self.metrics.take(socket)?,
                (Some("management"), _) | (_, 1) => self.management.take(socket)?,
                _ => log::warn!("a socket too many was handed over: closed"),
            }
        }
        Ok(())
    }

    fn attend(&mut self, inbox: &Receiver<Event>) {
        loop {
            match inbox.recv_timeout(WATCH) {
                Ok(Event::Reload) => self.reload(),
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // So that it sees the clock being set, whether or not anybody asks for stamps.
            self.exporter.clock.offset();
            self.watch();
            self.metrics.retry();
            self.management.retry();
        }
    }

    /// Sees after sources that hang.
    pub(super) fn watch(&self) {
        let now = BootTime::now();
        for running in lock::read(&self.exporter.sources).iter() {
            running.watch(now);
        }
    }

    /// Ends all sources, and says which there were.
    pub(super) fn end_sources(&self) -> Vec<String> {
        let sources = lock::read(&self.exporter.sources);
        end(&sources);
        sources.iter().map(|s| s.name().to_string()).collect()
    }

    /// All that is exported.
    pub(super) fn scrape(&self, format: Format) -> String {
        String::from_utf8_lossy(&self.exporter.scrape(format)).into_owned()
    }

    /// Loads the configuration again. A bad one changes nothing.
    fn reload(&mut self) {
        let outcome = load(&self.options.configuration).and_then(|config| {
            self.listen(&config)?;
            self.apply(config);
            Ok(())
        });
        let good = outcome.is_ok();
        self.exporter.config_is_good.store(good, Ordering::Relaxed);
        match outcome {
            Ok(()) => log::info!("configuration reloaded"),
            Err(error) => log::error!("the configuration stays as it was: {error}"),
        }
    }

    fn listen(&mut self, config: &Config) -> Result<(), String> {
        let address = |port: u16| match &config.listen_address {
            Some(host) => format!("{host}:{port}"),
            None => format!(":{port}"),
        };
        let Options {
            listen_address,
            management_address,
            ..
        } = &self.options;
        match listen_address.clone().or(config.port.map(address)) {
            Some(address) => self.metrics.listen(address)?,
            None => self.metrics.close(),
        }
        match management_address
            .clone()
            .or(config.reload_port.map(address))
        {
            Some(address) => self.management.listen(address)?,
            None => self.management.close(),
        }
        if !self.agent.as_ref().is_some_and(|a| a.is_for(config)) {
            let mut old = self.agent.take();
            // The new one wants the old one's port; on another, the old one is given up only when the new one is had.
            if let Some(old) = old.take_if(|old| old.has_port_of(config)) {
                old.stop();
            }
            let new = config
                .udp_agent
                .enabled
                .then(|| UdpAgent::start(&self.exporter, config))
                .transpose();
            match new {
                Ok(new) => self.agent = new,
                Err(error) => {
                    self.agent = old;
                    return Err(error);
                }
            }
            if let Some(old) = old {
                old.stop();
            }
        }
        Ok(())
    }

    /// Starts and stops sources so that those run that the configuration asks for. What has not changed runs on.
    pub(super) fn apply(&mut self, mut config: Config) {
        let policy = config.metrics.clone().map_or(Policy::All, Policy::Listed);
        self.exporter.registry.set_policy(policy);
        self.exporter.present(&config);
        for name in unknown(&config) {
            log::warn!("`sources` names {name}, which is no source: see --help");
        }
        let tapes = &self.options.tapes;
        let mut board = Board::look_by(self.options.roots.clone(), tapes.of_board());
        if config.device_type == "auto" {
            config.device_type = board.device_type().to_string();
        }
        let hostname = config.hostname.as_ref().unwrap_or(&board.hostname);
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
        let share = config.history.bytes / devices.len().max(1);
        let mut old = lock::read(&self.exporter.sources).clone();
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
        *lock::write(&self.exporter.sources) = new;
        for name in self.options.tapes.unused() {
            log::warn!("{name} was recorded, and is not found in the recording's files");
        }
        for ended in &old {
            log::info!("{}: ended", ended.name());
            self.exporter.registry.remove_group(&ended.context().group);
        }
        end(&old);
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
        let tape = self.options.tapes.of(&source_name(meter, &device));
        Context {
            board: Arc::clone(board),
            config: Arc::clone(config),
            device,
            group: registry.add_group(
                rank.unwrap_or(METERS.len()) as u32,
                meter.name,
                self.labels.clone(),
            ),
            health: Arc::new(Health::on(tape)),
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
        self.metrics.stop();
        self.management.stop();
        if let Some(agent) = self.agent {
            agent.stop();
        }
        end(&lock::read(&self.exporter.sources));
    }
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
        && (meter.settings)(&context.config) == (meter.settings)(config)
}
