//! The command line: which role, with which options.

mod arguments;
mod check_config;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use self::arguments::{parse, Arguments, Role};
use self::check_config::check_config;
use crate::collector;
use crate::config::{self, Config, Given};
use crate::config_server;
use crate::demo;
use crate::doctor::{self, Report};
use crate::exporter::{self, Configuration, Options};
use crate::http::AccessFiles;
use crate::logging;
use crate::sources::io_log::{IoLogs, Recording};
use crate::sources::SCHEMA;
use crate::sys::reason;
use crate::sys::signals::Signals;

/// The exit status for a command line that cannot be understood.
const USAGE: u8 = 2;
/// How long the last words may take.
const SAY_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the program with these arguments, the program's name first.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let status = run(arguments);
    logging::flush();
    status
}

fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
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
                Some(path) => SCHEMA.load(&path).map_err(|e| e.to_string())?.config,
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
            let (configuration, roots, io_logs) = match &arguments.replay {
                None => {
                    let configuration = Configuration::File(find(named));
                    (configuration, arguments.roots, IoLogs::Off)
                }
                Some(dir) => {
                    let recording = Arc::new(Recording::open(dir, arguments.at_once)?);
                    let configuration = match named {
                        Some(file) => Configuration::File(Some(file.to_path_buf())),
                        None => Configuration::Fixed(Box::new(recording.config().clone())),
                    };
                    (configuration, recording.roots(), IoLogs::Replay(recording))
                }
            };
            exporter::run(
                Options {
                    configuration,
                    listen_address: arguments.listen_address,
                    management_address: arguments.management_address,
                    access: arguments.access,
                    roots,
                    asks_server: matches!(io_logs, IoLogs::Off),
                    io_logs,
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
                io_logs: IoLogs::Off,
                asks_server: false,
            };
            let dir = dir.unwrap_or_default();
            say_briefly(exporter::record(options, &dir, longest, signals)?);
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
                    io_logs: IoLogs::Off,
                    asks_server: false,
                },
                signals,
            )
        }
        Role::Demo => {
            let signals = block_signals()?;
            // One that is merely found is meant for the real board, and so is a server that the environment names.
            let configuration = match named {
                Some(file) => Configuration::File(Some(file.to_path_buf())),
                None => Configuration::Fixed(Box::default()),
            };
            let board = demo::Board::build()?;
            exporter::run(
                Options {
                    configuration,
                    listen_address: arguments.listen_address,
                    management_address: arguments.management_address,
                    access: arguments.access,
                    roots: board.roots(),
                    io_logs: IoLogs::Off,
                    asks_server: named.is_some(),
                },
                signals,
            )
        }
    }
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

/// Prints to standard output. That nobody reads it is no error.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The same for a role that has taken the signals: nothing else could end it where standard output takes no more.
fn say_briefly(text: String) {
    let (written, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        say(&text);
        let _ = written.send(());
    });
    let _ = wait.recv_timeout(SAY_TIMEOUT);
}

/// Prints to standard error, behind the log, which need not fit where it is full.
fn complain(text: &str) {
    logging::flush();
    logging::write_line(&format!("edge-metrics-exporter: {text}"));
}
