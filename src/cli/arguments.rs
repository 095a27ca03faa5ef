//! Parses the command line.

use std::path::PathBuf;
use std::time::Duration;

use super::check_config::CheckOptions;
use super::print;
use crate::collector;
use crate::config::{CliOverrides, Preset, PRESETS};
use crate::config_server;
use crate::demo::fleet::MAX_BOARDS;
use crate::demo::{Kind, KINDS};
use crate::doctor::Search;
use crate::http::AccessFiles;
use crate::measure::{self, Output};
use crate::sources::i2c_search::bus_number;
use crate::sources::Roots;
use crate::top;
use crate::wire::DeviceId;

/// The shortest interval of `measure`, which is the configuration's.
const MIN_INTERVAL: Duration = Duration::from_micros(100);
/// The most runs of `measure`.
const MAX_REPEAT: u32 = 10_000;

const HELP: &str = "\
Reads every power meter this board has and serves it to Prometheus.

Usage: edge-metrics-exporter [run] [OPTIONS]
       edge-metrics-exporter demo [--board KIND] [--name NAME] [--preset NAME] [OPTIONS]
       edge-metrics-exporter demo --fleet N [--web.listen-address ADDR]
       edge-metrics-exporter doctor [--json] [--write FILE] [--probe-i2c[=BUS]] [--network]
                             [OPTIONS]
       edge-metrics-exporter measure [--interval SECONDS] [--idle SECONDS] [--repeat N] [--json FILE|--csv FILE]
                             [--url URL [--http.config.file FILE]] [OPTIONS] -- COMMAND...
       edge-metrics-exporter top [--url URL] [--http.config.file FILE] [--interval SECONDS] [OPTIONS]
       edge-metrics-exporter record DIR [--for SECONDS] [OPTIONS]
       edge-metrics-exporter [run] --replay DIR [--replay.at-once] [OPTIONS]
{usage}       edge-metrics-exporter check-config [FILE] [--lenient] [OPTIONS]
       edge-metrics-exporter config-server [--store DIR|etcd://HOST:PORT/PREFIX] [--boards.http.config.file FILE]
                             [--store.http.config.file FILE] [OPTIONS]
       edge-metrics-exporter collect [--prometheus.url URL] [--interval SECONDS] [--namespace NAME] [OPTIONS]

  run (the default)      meters to http://localhost:9100/metrics
  demo                   the same on a simulated board; --config says what of it, and where to send it;
                         --preset NAME runs one of the presets below on it; --board KIND is another board:
                         {boards}; --name NAME is its host name
  demo --fleet N         N simulated boards of all kinds, and a config-server for them at
                         http://127.0.0.1:8080/
  doctor                 what this board has, what can be read of it, and what would help;
                         --write makes a configuration to start from; fails if nothing can be read;
                         --probe-i2c asks who is at 0x40 to 0x4f of each I2C bus, but not those of displays and
                         of a PC's memory modules, unless it is named (--probe-i2c=/dev/i2c-1): it reads registers
                         of chips that are nobody's, which can disturb a chip;
                         --network lists plugs and meters that announce themselves by mDNS
  measure -- COMMAND     runs the command, and says what each rail used meanwhile: joules, watts, joules above
                         those of the idle board (measured for 5 s before: --idle), and the command's share by CPU
                         time; with --repeat N mean and 95 % interval. The exit status is the command's. Meters are
                         read every 0.01 s (--interval), or by a running exporter (--url http://board:9100, which
                         --http.config.file has the login of). --json and --csv write to a file, or `-`
  top                    the board in a terminal: its power, rails, sources that cannot be read, and workloads
                         by power; ? shows the keys, q quits. Into a pipe it prints that once.
                         --url URL shows the board of an exporter (http://board:9100);
                         --http.config.file FILE says how that is called (basic_auth, authorization,
                         tls_config, as Prometheus has them)
  record DIR             writes down all that the sources read, in plain files, for SECONDS (60), until it
                         is told to stop, or up to 64 MiB; DIR is new or empty. No password is
                         written; the host's name, the devices' addresses and what they say are
  --replay DIR           reads from such a recording instead of from the board: the same values at the
                         recorded pace. At its end it stands still, and shows what was said last.
                         With --replay.at-once that is at once. Of the recording's settings
                         those of sources count; --config names others
  check-config           says what would be run, or what is wrong with the file: the exporter's or a collector's,
                         which it knows by its keys. The exit status is 1 if the file cannot be used, and 2
                         if it has keys, metrics or sources that do not exist, unless --lenient
  config-server          holds the configurations of all boards, and lists them for Prometheus:
                         http://localhost:8080/devices, /sd; --store says where they are kept
                         (/var/lib/edge-metrics-exporter/devices); --management.allow-remote has
                         changes taken from everybody, rather than by users or tokens;
                         --boards.http.config.file FILE says how boards are called that ask for
                         a login or have TLS (basic_auth, authorization, tls_config, as Prometheus
                         has them), --store.http.config.file FILE the same of an etcd (etcds:// by TLS)
  collect                energy of nodes and pods out of Prometheus, as CSV and as a stream:
                         http://localhost:8000/nodes, ws://localhost:8000/metrics; the flags count
                         more than PROMETHEUSSERVER, UPDATE_INTERVAL and NAMESPACE
{presets}
Options:
  --config FILE                   the configuration; else $LOCAL_CONFIG_PATH, else ./config.yaml,
                                  else /etc/edge-metrics-exporter/config.yaml, else the defaults
                                  (to power-exporter and its like: what shall differ from theirs)
  --web.listen-address ADDR       where to serve metrics (default: `port` of the configuration, :9100,
                                  which is node_exporter's, too: where both run, say :9110)
  --web.management-address ADDR   where to serve the management API (default: `reload_port`, :9101)
  --web.config.file FILE          who may connect: TLS, passwords, headers, in the form of Prometheus's
                                  exporter-toolkit; read again when it changes
  --management.token-file FILE    tokens of programs that may change settings, one a line
                                  (default: `management.token_file` of the configuration)
  --path.sysfs DIR                instead of /sys
  --path.procfs DIR               instead of /proc
  --path.dev DIR                  instead of /dev
  --log.level LEVEL               error, warn, info, debug or trace (default: $RUST_LOG, else info)
  -V, --version
  -h, --help
";

/// The help text, including the presets.
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
    HELP.replace("{boards}", &kinds())
        .replace("{usage}", &usage)
        .replace("{presets}", &presets)
}

/// The names of the kinds of simulated boards.
fn kinds() -> String {
    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    names.join(", ")
}

/// The options of `demo`.
pub(super) struct DemoOptions {
    pub(super) preset: Option<&'static Preset>,
    pub(super) kind: &'static Kind,
    pub(super) name: Option<String>,
    /// The number of boards.
    pub(super) fleet: Option<u32>,
}

impl Default for DemoOptions {
    fn default() -> DemoOptions {
        let [kind, ..] = &KINDS;
        DemoOptions {
            preset: None,
            kind,
            name: None,
            fleet: None,
        }
    }
}

/// The role to run, with its own options.
pub(super) enum Role {
    Run,
    Demo(DemoOptions),
    Doctor {
        json: bool,
        write: Option<PathBuf>,
        search: Search,
    },
    Record {
        dir: Option<PathBuf>,
        duration: Duration,
    },
    CheckConfig(CheckOptions),
    ConfigServer(config_server::Options),
    Collect(collector::Options),
    Measure(measure::Options),
    Top(top::Options),
    Preset(&'static Preset, CliOverrides),
}

/// The parsed command line.
pub(super) struct Arguments {
    pub(super) role: Role,
    pub(super) config: Option<PathBuf>,
    pub(super) listen_address: Option<String>,
    pub(super) management_address: Option<String>,
    pub(super) access: AccessFiles,
    pub(super) roots: Roots,
    pub(super) replay: Option<PathBuf>,
    pub(super) at_once: bool,
    pub(super) log_level: Option<String>,
}

/// Parses the arguments. `None` if the help or the version was printed.
pub(super) fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut arguments = Arguments {
        role: Role::Run,
        config: None,
        listen_address: None,
        management_address: None,
        access: AccessFiles::default(),
        roots: Roots::default(),
        replay: None,
        at_once: false,
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
            Long("web.config.file") => arguments.access.web_config = Some(parser.value()?.into()),
            Long("management.token-file") => {
                arguments.access.tokens = Some(parser.value()?.into());
            }
            Long("path.sysfs") => arguments.roots.sysfs = parser.value()?.into(),
            Long("path.procfs") => arguments.roots.procfs = parser.value()?.into(),
            Long("path.dev") => arguments.roots.dev = parser.value()?.into(),
            Long("replay") => arguments.replay = Some(parser.value()?.into()),
            Long("replay.at-once") => arguments.at_once = true,
            Long("lenient") => match &mut arguments.role {
                Role::CheckConfig(options) => options.lenient = true,
                _ => return Err("--lenient goes with check-config".into()),
            },
            Long("log.level") => arguments.log_level = Some(parser.value()?.string()?),
            Long("version") | Short('V') => {
                print(&format!(
                    "edge-metrics-exporter {}\n",
                    env!("CARGO_PKG_VERSION")
                ));
                return Ok(None);
            }
            Long("help") | Short('h') => {
                print(&help());
                return Ok(None);
            }
            Long("for") => match &mut arguments.role {
                Role::Record { duration, .. } => {
                    let value = parser.value()?.string()?;
                    *duration = seconds(&value).ok_or_else(|| {
                        format!("--for wants seconds, up to a day's, and not {value:?}")
                    })?;
                }
                _ => return Err("--for goes with record".into()),
            },
            Long(option) if matches!(arguments.role, Role::Measure(_)) && of_measure(option) => {
                let option = option.to_string();
                if let Role::Measure(options) = &mut arguments.role {
                    measure_option(options, &option, &mut parser)?;
                }
            }
            Long(option @ ("json" | "write" | "probe-i2c" | "network")) => {
                match (&mut arguments.role, option) {
                    (Role::Doctor { json, .. }, "json") => *json = true,
                    (Role::Doctor { search, .. }, "network") => search.network = true,
                    (Role::Doctor { search, .. }, "probe-i2c") => {
                        let buses = search.i2c.get_or_insert_default();
                        if let Some(name) = parser.optional_value() {
                            let number = bus_number(&name);
                            buses.push(number.ok_or_else(|| {
                                format!(
                                    "--probe-i2c wants a bus such as /dev/i2c-1, and not {name:?}"
                                )
                            })?);
                        }
                    }
                    (Role::Doctor { write, .. }, _) => *write = Some(parser.value()?.into()),
                    _ => return Err(format!("--{option} goes with doctor").into()),
                }
            }
            Long(
                option @ ("store"
                | "store.http.config.file"
                | "boards.http.config.file"
                | "management.allow-remote"),
            ) => {
                // Copied, because the name borrows from the parser.
                let option = option.to_string();
                match (&mut arguments.role, option.as_str()) {
                    (Role::ConfigServer(options), "store") => {
                        options.store = Some(parser.value()?.string()?);
                    }
                    (Role::ConfigServer(options), "store.http.config.file") => {
                        options.store_http = Some(parser.value()?.into());
                    }
                    (Role::ConfigServer(options), "boards.http.config.file") => {
                        options.boards_http = Some(parser.value()?.into());
                    }
                    (Role::ConfigServer(options), _) => options.allow_remote = true,
                    _ => return Err(format!("--{option} goes with config-server").into()),
                }
            }
            // `collect` has an --interval of its own.
            Long(option @ ("url" | "http.config.file" | "interval"))
                if matches!(arguments.role, Role::Top(_)) =>
            {
                let option = option.to_string();
                let value = parser.value()?;
                let Role::Top(options) = &mut arguments.role else {
                    continue;
                };
                match option.as_str() {
                    "url" => options.url = Some(value.string()?),
                    "interval" => {
                        let value = value.string()?;
                        let interval = seconds(&value).filter(|time| *time >= top::MIN_INTERVAL);
                        options.interval = Some(interval.ok_or_else(|| {
                            format!(
                                "--interval wants seconds, from 0.1 to a day's, and not {value:?}"
                            )
                        })?);
                    }
                    _ => options.http = Some(value.into()),
                }
            }
            Value(word) if words == 0 => {
                words += 1;
                arguments.role = match word.to_str() {
                    Some("run") => Role::Run,
                    Some("demo") => Role::Demo(DemoOptions::default()),
                    Some("doctor") => Role::Doctor {
                        json: false,
                        write: None,
                        search: Search::default(),
                    },
                    Some("record") => Role::Record {
                        dir: None,
                        duration: Duration::from_secs(60),
                    },
                    Some("check-config") => Role::CheckConfig(CheckOptions::default()),
                    Some("config-server") => Role::ConfigServer(Default::default()),
                    Some("measure") => Role::Measure(measure::Options::default()),
                    Some("collect") => Role::Collect(collector::Options::default()),
                    Some("top") => Role::Top(top::Options::default()),
                    Some(name) => match Preset::named(name) {
                        Some(preset) => Role::Preset(preset, CliOverrides::default()),
                        None => return Err(Value(word).unexpected()),
                    },
                    None => return Err(Value(word).unexpected()),
                };
            }
            Value(word) if matches!(arguments.role, Role::Measure(_)) => {
                // All that follows is the command's.
                let rest = parser.raw_args()?;
                if let Role::Measure(options) = &mut arguments.role {
                    options.command = std::iter::once(word).chain(rest).collect();
                }
            }
            Value(file) => match &mut arguments.role {
                Role::CheckConfig(CheckOptions {
                    file: path @ None, ..
                })
                | Role::Record {
                    dir: path @ None, ..
                } => {
                    *path = Some(file.into());
                }
                Role::Preset(preset, overrides)
                    if overrides.arguments.len() < preset.arguments() =>
                {
                    overrides.arguments.push(file.string()?);
                }
                _ => return Err(Value(file).unexpected()),
            },
            Long(flag) => {
                let flag = flag.to_string();
                match &mut arguments.role {
                    Role::Demo(options) if DEMO_OPTIONS.contains(&flag.as_str()) => {
                        demo_option(options, &flag, &parser.value()?.string()?)?;
                    }
                    Role::Preset(preset, overrides) if preset.has_flag(&flag) => {
                        overrides.flags.push((flag, parser.value()?.string()?));
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
    check(&arguments)?;
    Ok(Some(arguments))
}

/// Rejects combinations of options that do not go together.
fn check(arguments: &Arguments) -> Result<(), lexopt::Error> {
    if let Role::Top(top::Options {
        url: None,
        http: Some(_),
        ..
    }) = arguments.role
    {
        return Err("--http.config.file goes with --url URL".into());
    }
    if let Role::Demo(DemoOptions {
        fleet: Some(_),
        preset,
        name,
        ..
    }) = &arguments.role
    {
        let has_more = preset.is_some()
            || name.is_some()
            || arguments.config.is_some()
            || arguments.management_address.is_some()
            || arguments.access != AccessFiles::default();
        if has_more {
            return Err("--fleet goes with --web.listen-address and --log.level alone".into());
        }
    }
    if let Role::Record { dir: None, .. } = arguments.role {
        return Err("record wants a folder to write to: record DIR".into());
    }
    match arguments.role {
        Role::Run => {}
        _ if arguments.replay.is_some() => return Err("--replay goes with run".into()),
        _ => {}
    }
    if let Role::Measure(options) = &arguments.role {
        if options.command.is_empty() {
            return Err("measure wants a command: measure [OPTIONS] -- COMMAND".into());
        }
        if options.url.is_some() && options.interval.is_some() {
            return Err(
                "--interval does not go with --url: the exporter reads its meters at its own interval"
                    .into(),
            );
        }
        if options.url.is_none() && options.http.is_some() {
            return Err("--http.config.file goes with --url".into());
        }
    }
    if arguments.replay.is_none() && arguments.at_once {
        return Err("--replay.at-once goes with --replay DIR".into());
    }
    if arguments.replay.is_some() && arguments.roots != Roots::default() {
        return Err("--replay has files of its own: --path.… does not go with it".into());
    }
    Ok(())
}

fn no_preset(name: &str) -> lexopt::Error {
    let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
    format!(
        "there is no preset {name}: write one of {}",
        names.join(", ")
    )
    .into()
}

const DEMO_OPTIONS: [&str; 4] = ["preset", "board", "name", "fleet"];

/// Takes an option of `demo`.
fn demo_option(options: &mut DemoOptions, option: &str, value: &str) -> Result<(), lexopt::Error> {
    match option {
        "preset" => {
            let preset = Preset::named(value);
            options.preset = Some(preset.ok_or_else(|| no_preset(value))?);
        }
        "board" => {
            let kind = KINDS.iter().find(|kind| kind.name == value);
            options.kind = kind.ok_or_else(|| {
                format!(
                    "there is no simulated board {value}: write one of {}",
                    kinds()
                )
            })?;
        }
        "name" => {
            // It becomes part of a file, and of a path at the config-server.
            let id = DeviceId::parse(value).ok();
            options.name = Some(id.map(|id| id.to_string()).ok_or_else(|| {
                format!("--name wants letters, digits, `-`, `_` and `.`, and not {value:?}")
            })?);
        }
        _ => {
            let boards = value.parse().ok();
            let boards = boards.filter(|boards| (1..=MAX_BOARDS).contains(boards));
            options.fleet = Some(boards.ok_or_else(|| {
                format!(
                    "--fleet wants a number of boards from 1 to {MAX_BOARDS}, and not {value:?}"
                )
            })?);
        }
    }
    Ok(())
}

/// Whether an option is one of `measure`.
fn of_measure(option: &str) -> bool {
    let own = ["interval", "idle", "repeat", "json", "csv", "url"];
    own.contains(&option) || option == "http.config.file"
}

/// Takes an option of `measure`.
fn measure_option(
    options: &mut measure::Options,
    option: &str,
    parser: &mut lexopt::Parser,
) -> Result<(), lexopt::Error> {
    use lexopt::prelude::*;
    let value = parser.value()?;
    match option {
        "json" | "csv" if options.output.is_some() => {
            return Err("--json and --csv: one report is enough".into());
        }
        "json" => options.output = Some(Output::Json(value.into())),
        "csv" => options.output = Some(Output::Csv(value.into())),
        "http.config.file" => options.http = Some(value.into()),
        "url" => options.url = Some(value.string()?),
        "interval" => {
            let value = value.string()?;
            let interval = seconds(&value).filter(|interval| *interval >= MIN_INTERVAL);
            options.interval = Some(interval.ok_or_else(|| {
                format!("--interval wants seconds, from 0.0001 to a day's, and not {value:?}")
            })?);
        }
        "idle" => {
            let value = value.string()?;
            options.idle = match value.parse() == Ok(0.0) {
                true => Duration::ZERO,
                false => seconds(&value).ok_or_else(|| {
                    format!("--idle wants seconds, up to a day's, or 0, and not {value:?}")
                })?,
            };
        }
        _ => {
            let value = value.string()?;
            let repeat = value.parse().ok();
            let repeat = repeat.filter(|repeat| (1..=MAX_REPEAT).contains(repeat));
            options.repeat = repeat.ok_or_else(|| {
                format!("--repeat wants a number from 1 to {MAX_REPEAT}, and not {value:?}")
            })?;
        }
    }
    Ok(())
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    (seconds > 0.0 && seconds <= 86_400.0).then(|| Duration::from_secs_f64(seconds))
}
