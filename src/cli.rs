//! The command line: which role, with which options.

mod arguments;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use self::arguments::{parse, Arguments, Role};
use crate::collector;
use crate::config::{self, Config, Given};
use crate::config_server;
use crate::doctor::{self, Report};
use crate::exporter::{self, Configuration, Options};
use crate::http::client::{shown, Client, Limits, Settings};
use crate::http::{AccessFiles, Gate};
use crate::sources::tape::{Recording, Tapes};
use crate::sources::{chosen, reason, unknown, Board, Roots};
use crate::sys::signals::Signals;
use crate::{demo, logging};

/// The exit status for a command line that cannot be understood.
const USAGE: u8 = 2;

/// Runs the program with these arguments, the program's name first.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    if arguments
        .peek()
        .is_some_and(|name| demo::is_tegrastats(name))
    {
        return demo::tegrastats(arguments.skip(1));
    }
    let parsed = match parse(lexopt::Parser::from_iter(arguments)) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error}; see --help"));
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = logging::start(parsed.log_level.as_deref()) {
        complain(&error);
        return ExitCode::from(USAGE);
    }
    match perform(parsed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: Arguments) -> Result<(), String> {
    let named = arguments.config.as_deref();
    let from_environment = std::env::var_os("LOCAL_CONFIG_PATH");
    let find = |named: Option<&Path>| config::find(named, from_environment.as_deref());
    match arguments.role {
        Role::CheckConfig(file) => {
            let file = find(file.as_deref().or(named));
            check_config(file, arguments.access, arguments.roots)
        }
        Role::Doctor { json, write } => {
            let config = match find(named) {
                Some(path) => config::load(&path).map_err(|e| e.to_string())?.config,
                None => Config::default(),
            };
            doctor(
                &doctor::examine(arguments.roots, &config),
                json,
                write.as_deref(),
            )
        }
        Role::ConfigServer(options) => {
            let signals = block_signals()?;
            let listen_address = arguments.listen_address;
            config_server::run(
                config_server::Options {
                    listen_address,
                    access: arguments.access,
                    ..options
                },
                &signals,
            )
        }
        Role::Collect(options) => {
            let signals = block_signals()?;
            collector::run(
                &collector::Options {
                    config: arguments.config,
                    listen_address: arguments.listen_address,
                    access: arguments.access,
                    ..options
                },
                &signals,
            )
        }
        Role::Run => {
            let signals = block_signals()?;
            let (configuration, roots, tapes) = match &arguments.replay {
                None => {
                    let configuration = Configuration::File(find(named));
                    (configuration, arguments.roots, Tapes::Off)
                }
                Some(dir) => {
                    let recording = Arc::new(Recording::open(dir, arguments.at_once)?);
                    let configuration = match named {
                        Some(file) => Configuration::File(Some(file.to_path_buf())),
                        None => Configuration::Fixed(Box::new(recording.config().clone())),
                    };
                    (configuration, recording.roots(), Tapes::Play(recording))
                }
            };
            exporter::run(
                Options {
                    configuration,
                    listen_address: arguments.listen_address,
                    management_address: arguments.management_address,
                    access: arguments.access,
                    roots,
                    asks_server: matches!(tapes, Tapes::Off),
                    tapes,
                },
                signals,
            )
        }
        Role::Record { dir, longest } => {
            let signals = block_signals()?;
            let options = Options {
                configuration: Configuration::File(find(named)),
                listen_address: None,
                management_address: None,
                access: AccessFiles::default(),
                roots: arguments.roots,
                tapes: Tapes::Off,
                asks_server: false,
            };
            let dir = dir.unwrap_or_default();
            let said = exporter::record(options, &dir, longest, signals)?;
            say(&said);
            Ok(())
        }
        Role::Preset(preset, given) => {
            let signals = block_signals()?;
            let environment = preset.environment(|name| std::env::var(name).ok());
            let given = Given {
                environment,
                ..given
            };
            exporter::run(
                Options {
                    configuration: Configuration::Preset(preset, given, arguments.config),
                    listen_address: arguments.listen_address,
                    management_address: arguments.management_address,
                    access: arguments.access,
                    roots: arguments.roots,
                    tapes: Tapes::Off,
                    asks_server: false,
                },
                signals,
            )
        }
        Role::Demo => {
            let signals = block_signals()?;
            // One that is merely found is meant for the real board.
            let config = named.map_or_else(|| Ok(Config::default()), load)?;
            let board = demo::Board::build()?;
            exporter::run(
                Options {
                    configuration: Configuration::Fixed(Box::new(board.config(config))),
                    listen_address: arguments.listen_address,
                    management_address: arguments.management_address,
                    access: arguments.access,
                    roots: board.roots(),
                    tapes: Tapes::Off,
                    asks_server: false,
                },
                signals,
            )
        }
    }
}

/// Loads a configuration, and has the log say what there is to say about it.
fn load(path: &Path) -> Result<Config, String> {
    let loaded = config::load(path).map_err(|e| e.to_string())?;
    for warning in &loaded.warnings {
        log::warn!("{}", warning.with(&loaded.origin));
    }
    log::info!("configuration: {}", loaded.origin);
    Ok(loaded.config)
}

fn block_signals() -> Result<Signals, String> {
    Signals::block().map_err(|e| format!("cannot block signals: {e}"))
}

fn doctor(report: &Report, json: bool, write: Option<&Path>) -> Result<(), String> {
    match json {
        true => say(&format!("{:#}\n", report.json())),
        false => say(&report.text()),
    }
    if let Some(path) = write {
        let text = report.configuration()?;
        // A configuration that somebody wrote is not written over.
        let mut file = std::fs::File::create_new(path)
            .map_err(|e| format!("cannot create {}: {}", path.display(), reason(&e)))?;
        file.write_all(text.as_bytes())
            .map_err(|e| format!("cannot write {}: {}", path.display(), reason(&e)))?;
    }
    match report.is_useful() {
        true => Ok(()),
        false => Err("nothing can be read on this board".to_string()),
    }
}

/// Says what would be run, or what is wrong.
fn check_config(file: Option<PathBuf>, access: AccessFiles, roots: Roots) -> Result<(), String> {
    let mut config = Config::default();
    match &file {
        None => say("no configuration file: the defaults\n"),
        Some(path) => {
            let loaded = config::load(path).map_err(|e| e.to_string())?;
            for warning in &loaded.warnings {
                say(&format!("{}\n", warning.with(&loaded.origin)));
            }
            say(&format!("{}: good\n", path.display()));
            config = loaded.config;
        }
    }
    let access = AccessFiles {
        tokens: access.tokens.or(config.management.token_file.clone()),
        ..access
    };
    for warning in Gate::check(&access)? {
        say(&format!("{warning}\n"));
    }
    for path in [access.web_config, access.tokens].iter().flatten() {
        say(&format!("{}: good\n", path.display()));
    }
    let mut board = Board::look(roots);
    let asked = config.device_type.clone();
    if asked == "auto" {
        config.device_type = board.device_type().to_string();
    }
    let model = board.model.as_deref().unwrap_or("unknown");
    let port = |port: Option<u16>| port.map_or("none".to_string(), |port| port.to_string());
    let hostname = config.hostname.as_deref().unwrap_or(&board.hostname);
    say(&format!(
        "device_type: {asked} ({} on this board, model {model})\nhostname: {hostname}\ninterval: {} s\n\
         ports: {} for metrics, {} for management\n",
        config.device_type,
        config.interval.as_secs_f64(),
        port(config.port),
        port(config.reload_port),
    ));
    say(&match &config.metrics {
        None => "metrics: everything that is found\n".to_string(),
        Some(names) => format!(
            "metrics: {} of the {} named\n",
            names.values().filter(|on| **on).count(),
            names.len()
        ),
    });
    let meters = chosen(&mut board, &config);
    if meters.is_empty() {
        say("sources: none on this board\n");
    }
    for name in unknown(&config) {
        say(&format!("`sources` names {name}, which is no source\n"));
    }
    for (meter, reason) in meters {
        say(&format!("source {}: {reason}\n", meter.name));
    }
    for entry in &config.remote_write {
        let what = format!("remote_write {}", entry.name);
        check_server(&what, &entry.url, &entry.client);
    }
    let central = config
        .config_server
        .with_environment(|name| std::env::var(name).ok())?;
    for url in &central.urls {
        check_server("config_server", url, &central.client);
    }
    Ok(())
}

/// Says which server would be asked, and what of the files by which it is asked cannot be used.
fn check_server(what: &str, url: &str, settings: &Settings) {
    say(&format!("{what}: {}\n", shown(url)));
    // Nothing is asked here.
    let limits = Limits {
        timeout: Duration::ZERO,
        body: 0,
    };
    let client = Client::new(settings.clone(), limits);
    if let Err(why) = client.and_then(|client| client.check(url)) {
        say(&format!("{what}: {why}\n"));
    }
}

/// Prints to standard output. That nobody reads it is no error.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "edge-metrics-exporter: {text}");
}
