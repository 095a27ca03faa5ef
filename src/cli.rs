//! The command line: selects a role and runs it with its options.

mod arguments;
mod check_config;
#[cfg(test)]
mod generated;
mod help;
mod table;
#[cfg(test)]
mod table_tests;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use self::arguments::{parse, Arguments, DemoOptions, Role};
use self::check_config::{check_config, CheckOptions};
use crate::collector;
use crate::config::{self, CliOverrides, Config};
use crate::config_server;
use crate::demo;
use crate::doctor::{self, Report};
use crate::exporter::{self, ConfigSource, Options};
use crate::logging;
use crate::measure;
use crate::sources::io_log::{IoLogs, Recording};
use crate::sources::{Roots, SCHEMA};
use crate::sys::reason;
use crate::sys::signals::Signals;
use crate::top;

/// The exit status for an invalid command line.
const USAGE_ERROR: u8 = 2;
/// The timeout for printing the result of `record`.
const PRINT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the program with these arguments, of which the first is the name of the program.
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
        return demo::tegrastats(arguments);
    }
    let parsed = match parse(lexopt::Parser::from_iter(arguments)) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            return ExitCode::from(USAGE_ERROR);
        }
    };
    if let Err(error) = logging::start(log_level(&parsed).as_deref()) {
        print_error(&error);
        return ExitCode::from(USAGE_ERROR);
    }
    match run_role(parsed) {
        Ok(status) => status,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// The level of the log, if it is not the usual one. A command that is measured shares standard error with the log.
fn log_level(arguments: &Arguments) -> Option<String> {
    if arguments.log_level.is_some() || std::env::var_os("RUST_LOG").is_some() {
        return arguments.log_level.clone();
    }
    match arguments.role {
        Role::Measure(_) => Some("warn".to_string()),
        // On a terminal that shows something else, log lines would be in the way.
        Role::Top(_) => Some("off".to_string()),
        _ => None,
    }
}

/// Runs the role, and returns its exit status.
fn run_role(arguments: Arguments) -> Result<ExitCode, String> {
    let named = arguments.config.as_deref();
    let from_environment = std::env::var_os("LOCAL_CONFIG_PATH");
    let find = |named: Option<&Path>| config::find(named, from_environment.as_deref());
    let result = match arguments.role {
        Role::CheckConfig(CheckOptions { file, lenient }) => {
            let file = find(file.as_deref().or(named));
            return check_config(file, lenient, arguments.access, arguments.roots);
        }
        Role::Doctor {
            json,
            write,
            search,
        } => {
            let config = match find(named) {
                Some(path) => SCHEMA.load(&path).map_err(|e| e.to_string())?.config,
                None => Config::default(),
            };
            let report = doctor::examine(arguments.roots, &config, &search);
            doctor(&report, json, write.as_deref())
        }
        Role::Measure(options) => {
            let configuration = ConfigSource::File(find(named));
            return Ok(measure(&options, configuration, arguments.roots));
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
                |_| Ok(()),
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
                    let configuration = ConfigSource::File(find(named));
                    (configuration, arguments.roots, IoLogs::Off)
                }
                Some(dir) => {
                    let recording = Arc::new(Recording::open(dir, arguments.at_once)?);
                    let configuration = match named {
                        Some(file) => ConfigSource::File(Some(file.to_path_buf())),
                        None => ConfigSource::BuiltIn(Box::new(recording.config().clone())),
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
        Role::Record { dir, duration } => {
            let signals = block_signals()?;
            let dir = dir.unwrap_or_default();
            let configuration = ConfigSource::File(find(named));
            let roots = arguments.roots;
            print_with_timeout(exporter::record(
                configuration,
                roots,
                &dir,
                duration,
                signals,
            )?);
            Ok(())
        }
        Role::Top(options) => {
            let configuration = ConfigSource::File(find(named));
            top::run(options, configuration, arguments.roots)
        }
        Role::Preset(preset, overrides) => {
            let signals = block_signals()?;
            let environment = preset.environment(|name| std::env::var(name).ok());
            let overrides = CliOverrides {
                environment,
                ..overrides
            };
            exporter::run(
                Options {
                    configuration: ConfigSource::Preset(preset, overrides, arguments.config),
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
        Role::Demo(DemoOptions {
            fleet: Some(boards),
            ..
        }) => {
            let signals = block_signals()?;
            demo::fleet::run(boards, arguments.listen_address, &signals)
        }
        Role::Demo(DemoOptions {
            preset,
            kind,
            name,
            fleet: None,
        }) => {
            let signals = block_signals()?;
            // A configuration file that was merely found, and a server named by the environment, are for the real board.
            let configuration = match (preset, named) {
                (Some(preset), _) => {
                    let file = named.map(Path::to_path_buf);
                    ConfigSource::Preset(preset, CliOverrides::default(), file)
                }
                (None, Some(file)) => ConfigSource::File(Some(file.to_path_buf())),
                (None, None) => {
                    let text = kind.configuration();
                    let config = SCHEMA.parse(text).map_err(|e| e.to_string())?.0;
                    ConfigSource::BuiltIn(Box::new(config))
                }
            };
            let board = demo::Board::build(kind, name.as_deref())?;
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
    };
    result.map(|()| ExitCode::SUCCESS)
}

/// Measures a command. The exit status is the command's own.
fn measure(options: &measure::Options, configuration: ConfigSource, roots: Roots) -> ExitCode {
    match measure::run(options, configuration, roots) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            if !failure.message.is_empty() {
                print_error(&failure.message);
            }
            ExitCode::from(failure.status)
        }
    }
}

fn block_signals() -> Result<Signals, String> {
    Signals::block().map_err(|e| format!("cannot block signals: {e}"))
}

fn doctor(report: &Report, json: bool, write: Option<&Path>) -> Result<(), String> {
    match json {
        true => print(&format!("{:#}\n", report.json())),
        false => print(&report.text()),
    }
    if let Some(path) = write {
        let text = report.configuration()?;
        // An existing file is not overwritten.
        let mut file = std::fs::File::create_new(path)
            .map_err(|e| format!("cannot create {}: {}", path.display(), reason(&e)))?;
        file.write_all(text.as_bytes())
            .map_err(|e| format!("cannot write {}: {}", path.display(), reason(&e)))?;
    }
    match report.reads_power() {
        true => Ok(()),
        false => Err("no power, current or energy can be read on this board".to_string()),
    }
}

/// Prints to standard output. Errors are ignored: the reader may have closed the pipe.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints with a timeout. For roles that block signals: they could not be ended while standard output is blocked.
fn print_with_timeout(text: String) {
    let (written, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        print(&text);
        let _ = written.send(());
    });
    let _ = wait.recv_timeout(PRINT_TIMEOUT);
}

/// Prints to standard error, after pending log lines. The text may be lost if standard error is blocked.
fn print_error(text: &str) {
    logging::flush();
    logging::write_line(&format!("edge-metrics-exporter: {text}"));
}
