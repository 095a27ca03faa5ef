//! The command line: which role, with which options.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::collector;
use crate::config::{self, Config, Given, Preset, PRESETS};
use crate::config_server;
use crate::doctor::{self, Report};
use crate::exporter::{self, Configuration, Options};
use crate::http::client::{shown, Client, Limits};
use crate::sources::{chosen, reason, unknown, Board, Roots};
use crate::sys::signals::Signals;
use crate::{demo, logging};

const HELP: &str = "\
Reads every power meter this board has and serves it to Prometheus.

Usage: edge-metrics-exporter [run] [OPTIONS]
       edge-metrics-exporter demo [OPTIONS]
       edge-metrics-exporter doctor [--json] [--write FILE] [OPTIONS]
{usage}       edge-metrics-exporter check-config [FILE] [OPTIONS]
       edge-metrics-exporter config-server [--store DIR|etcd://HOST:PORT/PREFIX] [OPTIONS]
       edge-metrics-exporter collect [--prometheus.url URL] [--interval SECONDS] [--namespace NAME] [OPTIONS]

  run (the default)      meters to http://localhost:9100/metrics
  demo                   the same on a simulated board
  doctor                 what this board has, what can be read of it, and what would help;
                         --write makes a configuration to start from; fails if nothing can be read
  check-config           says what would be run, or what is wrong with the file
  config-server          holds the configurations of all boards, and lists them for Prometheus:
                         http://localhost:8080/devices, /sd; --store says where they are kept
                         (/var/lib/edge-metrics-exporter/devices); --management.allow-remote has
                         changes taken from other machines too
  collect                energy of nodes and pods out of Prometheus, as CSV and as a stream:
                         http://localhost:8000/nodes, ws://localhost:8000/metrics; the flags count
                         more than PROMETHEUSSERVER, UPDATE_INTERVAL and NAMESPACE
{presets}
Options:
  --config FILE                   the configuration; else $LOCAL_CONFIG_PATH, else ./config.yaml,
                                  else /etc/edge-metrics-exporter/config.yaml, else the defaults
                                  (to power-exporter and its like: what shall differ from theirs)
  --web.listen-address ADDR       where to serve metrics (default: `port` of the configuration, :9100)
  --web.management-address ADDR   where to serve the management API (default: `reload_port`, :9101)
  --path.sysfs DIR                instead of /sys
  --path.procfs DIR               instead of /proc
  --path.dev DIR                  instead of /dev
  --log.level LEVEL               error, warn, info, debug or trace (default: $RUST_LOG, else info)
  -V, --version
  -h, --help
";

/// The help, with the presets in it.
fn help() -> String {
    let (mut usage, mut presets) = (String::new(), String::new());
    for preset in PRESETS {
        let (summary, arguments) = preset.about();
        usage.push_str(&format!(
            "       edge-metrics-exporter {} {arguments} [OPTIONS]\n",
            preset.name
        ));
        presets.push_str(&format!("  {:<22} {summary}\n", preset.name));
    }
    HELP.replace("{usage}", &usage)
        .replace("{presets}", &presets)
}

/// The exit status for a command line that cannot be understood.
const USAGE: u8 = 2;

enum Role {
    Run,
    Demo,
    Doctor { json: bool, write: Option<PathBuf> },
    CheckConfig(Option<PathBuf>),
    ConfigServer(config_server::Options),
    Preset(&'static Preset, Given),
    Collect(collector::Options),
}

struct Arguments {
    role: Role,
    config: Option<PathBuf>,
    listen_address: Option<String>,
    management_address: Option<String>,
    roots: Roots,
    log_level: Option<String>,
}

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

/// `None`: what was asked for has been printed.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut arguments = Arguments {
        role: Role::Run,
        config: None,
        listen_address: None,
        management_address: None,
        roots: Roots::default(),
        log_level: None,
    };
    let mut words = 0;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") => arguments.config = Some(parser.value()?.into()),
            Long("web.listen-address") => {
                arguments.listen_address = Some(parser.value()?.string()?)
            }
            Long("web.management-address") => {
                arguments.management_address = Some(parser.value()?.string()?);
            }
            Long("path.sysfs") => arguments.roots.sysfs = parser.value()?.into(),
            Long("path.procfs") => arguments.roots.procfs = parser.value()?.into(),
            Long("path.dev") => arguments.roots.dev = parser.value()?.into(),
            Long("log.level") => arguments.log_level = Some(parser.value()?.string()?),
            Long("version") | Short('V') => {
                say(&format!(
                    "edge-metrics-exporter {}\n",
                    env!("CARGO_PKG_VERSION")
                ));
                return Ok(None);
            }
            Long("help") | Short('h') => {
                say(&help());
                return Ok(None);
            }
            Long(option @ ("json" | "write")) => match (&mut arguments.role, option) {
                (Role::Doctor { json, .. }, "json") => *json = true,
                (Role::Doctor { write, .. }, _) => *write = Some(parser.value()?.into()),
                _ => return Err(format!("--{option} goes with doctor").into()),
            },
            Long(option @ ("store" | "management.allow-remote")) => {
                match (&mut arguments.role, option) {
                    (Role::ConfigServer(options), "store") => {
                        options.store = Some(parser.value()?.string()?);
                    }
                    (Role::ConfigServer(options), _) => options.allow_remote = true,
                    _ => return Err(format!("--{option} goes with config-server").into()),
                }
            }
            Value(word) if words == 0 => {
                words += 1;
                arguments.role = match word.to_str() {
                    Some("run") => Role::Run,
                    Some("demo") => Role::Demo,
                    Some("doctor") => Role::Doctor {
                        json: false,
                        write: None,
                    },
                    Some("check-config") => Role::CheckConfig(None),
                    Some("config-server") => Role::ConfigServer(Default::default()),
                    Some("collect") => Role::Collect(collector::Options::default()),
                    Some(name) => match Preset::named(name) {
                        Some(preset) => Role::Preset(preset, Given::default()),
                        None => return Err(Value(word).unexpected()),
                    },
                    None => return Err(Value(word).unexpected()),
                };
            }
            Value(file) => match &mut arguments.role {
                Role::CheckConfig(path @ None) => *path = Some(file.into()),
                Role::Preset(preset, given) if given.arguments.len() < preset.arguments() => {
                    given.arguments.push(file.string()?);
                }
                _ => return Err(Value(file).unexpected()),
            },
            Long(flag) => {
                let flag = flag.to_string();
                match &mut arguments.role {
                    Role::Preset(preset, given) if preset.has_flag(&flag) => {
                        given.flags.push((flag, parser.value()?.string()?));
                    }
                    Role::Collect(options)
                        if collector::FLAGS.iter().any(|(known, _)| *known == flag) =>
                    {
                        options.flags.push((flag, parser.value()?.string()?));
                    }
                    _ => return Err(Long(&flag).unexpected()),
                }
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(arguments))
}

fn perform(arguments: Arguments) -> Result<(), String> {
    let named = arguments.config.as_deref();
    let from_environment = std::env::var_os("LOCAL_CONFIG_PATH");
    let find = |named: Option<&Path>| config::find(named, from_environment.as_deref());
    match arguments.role {
        Role::CheckConfig(file) => check_config(find(file.as_deref().or(named)), arguments.roots),
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
                    ..options
                },
                &signals,
            )
        }
        Role::Run => {
            let signals = block_signals()?;
            let configuration = Configuration::File(find(named));
            exporter::run(
                Options {
                    configuration,
                    listen_address: arguments.listen_address,
                    management_address: arguments.management_address,
                    roots: arguments.roots,
                },
                signals,
            )
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
                    roots: arguments.roots,
                },
                signals,
            )
        }
        Role::Collect(options) => {
            let signals = block_signals()?;
            collector::run(
                &collector::Options {
                    config: arguments.config,
                    listen_address: arguments.listen_address,
                    ..options
                },
                &signals,
            )
        }
        Role::Demo => {
            let signals = block_signals()?;
            let board = demo::Board::build()?;
            exporter::run(
                Options {
                    configuration: Configuration::Fixed(Box::new(board.config())),
                    listen_address: arguments.listen_address,
                    management_address: arguments.management_address,
                    roots: board.roots(),
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
        // A configuration that somebody wrote is not written over.
        let mut file = std::fs::File::create_new(path)
            .map_err(|e| format!("cannot create {}: {}", path.display(), reason(&e)))?;
        file.write_all(report.configuration().as_bytes())
            .map_err(|e| format!("cannot write {}: {}", path.display(), reason(&e)))?;
    }
    match report.is_useful() {
        true => Ok(()),
        false => Err("nothing can be read on this board".to_string()),
    }
}

/// Says what would be run, or what is wrong.
fn check_config(file: Option<PathBuf>, roots: Roots) -> Result<(), String> {
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
    for entry in &config.remote_write {
        let place = shown(&entry.url);
        say(&format!("remote_write {}: {place}\n", entry.name));
        let limits = Limits {
            timeout: entry.timeout,
            body: 0,
        };
        let client = Client::new(entry.client.clone(), limits);
        if let Err(why) = client.and_then(|client| client.check(&entry.url)) {
            say(&format!("remote_write {}: {why}\n", entry.name));
        }
    }
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
    Ok(())
}

/// Prints to standard output. That nobody reads it is no error.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "edge-metrics-exporter: {text}");
}
