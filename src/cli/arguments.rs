//! Parses the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::check_config::CheckOptions;
use super::help::{self, PROGRAM};
use super::print;
use super::table::{Command, Takes, DEFAULT};
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

/// Parses the arguments. `None` if the help or the version was printed. The error is a message for the user.
pub(super) fn parse(parser: lexopt::Parser) -> Result<Option<Arguments>, String> {
    let mut line = CommandLine {
        arguments: Arguments {
            role: Role::Run,
            config: None,
            listen_address: None,
            management_address: None,
            access: AccessFiles::default(),
            roots: Roots::default(),
            replay: None,
            at_once: false,
            log_level: None,
        },
        command: None,
        names_unknown_command: false,
        options: Vec::new(),
        parser,
    };
    match line.parse() {
        Ok(true) => Ok(Some(line.arguments)),
        Ok(false) => Ok(None),
        Err(error) => {
            // The overview has the commands, and the page of each its options.
            let page = match line.command {
                Some(command) => format!("{} --help", command.name),
                None if line.names_unknown_command => "--help".to_owned(),
                None => format!("{DEFAULT} --help"),
            };
            Err(format!("{error}; see {PROGRAM} {page}"))
        }
    }
}

/// A command line that is being parsed.
struct CommandLine {
    arguments: Arguments,
    /// The command, if a word was read.
    command: Option<&'static Command>,
    /// Whether that word is no command.
    names_unknown_command: bool,
    /// The names of the options that were read.
    options: Vec<String>,
    parser: lexopt::Parser,
}

impl CommandLine {
    /// Whether there is a role to run.
    fn parse(&mut self) -> Result<bool, lexopt::Error> {
        use lexopt::prelude::*;
        while let Some(argument) = self.parser.next()? {
            match argument {
                Long("version") | Short('V') => {
                    print(&version());
                    return Ok(false);
                }
                Long("help") | Short('h') => {
                    print(&self.command.map_or_else(help::overview, help::of));
                    return Ok(false);
                }
                Long(name) => {
                    let name = name.to_string();
                    self.option(&name)?;
                }
                Short(letter) => return Err(format!("there is no option -{letter}").into()),
                Value(word) => {
                    if self.word(word)? {
                        return Ok(false);
                    }
                }
            }
        }
        check(&self.arguments)?;
        Ok(true)
    }

    /// Takes an option. Before the command word, options are those of `run`.
    fn option(&mut self, name: &str) -> Result<(), lexopt::Error> {
        let command = match self.command {
            Some(command) => command,
            None => Command::named_or_nearest(DEFAULT)?,
        };
        let option = command.option(name)?;
        let parser = &mut self.parser;
        let value = match option.value {
            Takes::Nothing => OsString::new(),
            Takes::Value(_) => parser.value()?,
            Takes::Optional(_) => match parser.optional_value() {
                Some(value) if value.is_empty() => {
                    return Err(
                        format!("--{name}= has no value: give one, or leave out the =").into(),
                    );
                }
                value => value.unwrap_or_default(),
            },
        };
        take(&mut self.arguments, option.name, value)?;
        self.options.push(name.to_string());
        Ok(())
    }

    /// Takes the command or one of its arguments. Returns whether all was done: help or version were asked for.
    fn word(&mut self, word: OsString) -> Result<bool, lexopt::Error> {
        let Some(command) = self.command else {
            let named = Command::named_or_nearest(&word.to_string_lossy());
            self.names_unknown_command = named.is_err();
            let command = named?;
            self.command = Some(command);
            for name in &self.options {
                command.option(name)?;
            }
            return match command.name {
                "help" | "version" => {
                    let about = match self.parser.next()? {
                        Some(lexopt::Arg::Long("help") | lexopt::Arg::Short('h')) => {
                            help::of(command)
                        }
                        Some(lexopt::Arg::Value(name)) if command.name == "help" => {
                            help::of(Command::named_or_nearest(&name.to_string_lossy())?)
                        }
                        Some(other) => return Err(other.unexpected()),
                        None if command.name == "help" => help::overview(),
                        None => version(),
                    };
                    if let Some(other) = self.parser.next()? {
                        return Err(other.unexpected());
                    }
                    print(&about);
                    Ok(true)
                }
                name => {
                    self.arguments.role = role(name)?;
                    Ok(false)
                }
            };
        };
        match &mut self.arguments.role {
            Role::Measure(options) => {
                // All that follows is the command's.
                let rest = self.parser.raw_args()?;
                options.command = std::iter::once(word).chain(rest).collect();
            }
            Role::CheckConfig(CheckOptions {
                file: path @ None, ..
            })
            | Role::Record {
                dir: path @ None, ..
            } => *path = Some(word.into()),
            Role::Preset(preset, overrides) if overrides.arguments.len() < preset.arguments() => {
                overrides.arguments.push(text(word)?);
            }
            _ => {
                let word = word.to_string_lossy();
                return Err(format!("unexpected argument {word:?} of {}", command.name).into());
            }
        }
        Ok(false)
    }
}

fn version() -> String {
    format!("{PROGRAM} {}\n", env!("CARGO_PKG_VERSION"))
}

/// The role of a command, without options.
fn role(name: &str) -> Result<Role, String> {
    Ok(match name {
        "run" => Role::Run,
        "demo" => Role::Demo(DemoOptions::default()),
        "doctor" => Role::Doctor {
            json: false,
            write: None,
            search: Search::default(),
        },
        "record" => Role::Record {
            dir: None,
            duration: Duration::from_secs(60),
        },
        "check-config" => Role::CheckConfig(CheckOptions::default()),
        "config-server" => Role::ConfigServer(Default::default()),
        "measure" => Role::Measure(measure::Options::default()),
        "collect" => Role::Collect(collector::Options::default()),
        "top" => Role::Top(top::Options::default()),
        name => {
            let preset = Preset::named(name).ok_or_else(|| format!("{name} cannot be run"))?;
            Role::Preset(preset, CliOverrides::default())
        }
    })
}

fn text(value: OsString) -> Result<String, lexopt::Error> {
    use lexopt::prelude::*;
    value.string()
}

/// Sets what an option of the role says.
fn take(arguments: &mut Arguments, name: &str, value: OsString) -> Result<(), lexopt::Error> {
    match (name, &mut arguments.role) {
        // `collect` and the presets have options that set keys.
        (_, Role::Preset(preset, overrides)) if preset.has_flag(name) => {
            overrides.flags.push((name.to_string(), text(value)?));
        }
        (_, Role::Collect(options)) if collector::FLAGS.iter().any(|(flag, _)| *flag == name) => {
            options.flags.push((name.to_string(), text(value)?));
        }
        ("config", _) => arguments.config = Some(value.into()),
        ("web.listen-address", _) => arguments.listen_address = Some(text(value)?),
        ("web.management-address", _) => arguments.management_address = Some(text(value)?),
        ("web.config.file", _) => arguments.access.web_config = Some(value.into()),
        ("management.token-file", _) => arguments.access.tokens = Some(value.into()),
        ("path.sysfs", _) => arguments.roots.sysfs = value.into(),
        ("path.procfs", _) => arguments.roots.procfs = value.into(),
        ("path.dev", _) => arguments.roots.dev = value.into(),
        ("log.level", _) => arguments.log_level = Some(text(value)?),
        ("replay", _) => arguments.replay = Some(value.into()),
        ("replay.at-once", _) => arguments.at_once = true,
        ("for", Role::Record { duration, .. }) => {
            let value = text(value)?;
            *duration = seconds(&value)
                .ok_or_else(|| format!("--for wants seconds, up to a day's, and not {value:?}"))?;
        }
        ("lenient", Role::CheckConfig(options)) => options.lenient = true,
        ("json", Role::Doctor { json, .. }) => *json = true,
        ("network", Role::Doctor { search, .. }) => search.network = true,
        ("write", Role::Doctor { write, .. }) => *write = Some(value.into()),
        ("probe-i2c", Role::Doctor { search, .. }) => {
            let buses = search.i2c.get_or_insert_default();
            if !value.is_empty() {
                let number = bus_number(&value);
                buses.push(number.ok_or_else(|| {
                    format!("--probe-i2c wants a bus such as /dev/i2c-1, and not {value:?}")
                })?);
            }
        }
        ("store", Role::ConfigServer(options)) => options.store = Some(text(value)?),
        ("store.http.config.file", Role::ConfigServer(options)) => {
            options.store_http = Some(value.into());
        }
        ("boards.http.config.file", Role::ConfigServer(options)) => {
            options.boards_http = Some(value.into());
        }
        ("management.allow-remote", Role::ConfigServer(options)) => options.allow_remote = true,
        (_, Role::Top(options)) => top_option(options, name, value)?,
        (_, Role::Measure(options)) => measure_option(options, name, value)?,
        (_, Role::Demo(options)) => demo_option(options, name, &text(value)?)?,
        _ => return Err(not_read(name)),
    }
    Ok(())
}

/// The table has an option that is not known here: a test looks at all.
fn not_read(option: &str) -> lexopt::Error {
    format!("--{option} is not read").into()
}

/// Takes an option of `top`.
fn top_option(
    options: &mut top::Options,
    option: &str,
    value: OsString,
) -> Result<(), lexopt::Error> {
    match option {
        "url" => options.url = Some(text(value)?),
        "interval" => {
            let value = text(value)?;
            let interval = seconds(&value).filter(|time| *time >= top::MIN_INTERVAL);
            options.interval = Some(interval.ok_or_else(|| {
                format!("--interval wants seconds, from 0.1 to a day's, and not {value:?}")
            })?);
        }
        "http.config.file" => options.http = Some(value.into()),
        other => return Err(not_read(other)),
    }
    Ok(())
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

/// Takes an option of `measure`.
fn measure_option(
    options: &mut measure::Options,
    option: &str,
    value: OsString,
) -> Result<(), lexopt::Error> {
    match option {
        "json" | "csv" if options.output.is_some() => {
            return Err("--json and --csv: one report is enough".into());
        }
        "json" => options.output = Some(Output::Json(value.into())),
        "csv" => options.output = Some(Output::Csv(value.into())),
        "http.config.file" => options.http = Some(value.into()),
        "url" => options.url = Some(text(value)?),
        "interval" => {
            let value = text(value)?;
            let interval = seconds(&value).filter(|interval| *interval >= MIN_INTERVAL);
            options.interval = Some(interval.ok_or_else(|| {
                format!("--interval wants seconds, from 0.0001 to a day's, and not {value:?}")
            })?);
        }
        "idle" => {
            let value = text(value)?;
            options.idle = match value.parse() == Ok(0.0) {
                true => Duration::ZERO,
                false => seconds(&value).ok_or_else(|| {
                    format!("--idle wants seconds, up to a day's, or 0, and not {value:?}")
                })?,
            };
        }
        "repeat" => {
            let value = text(value)?;
            let repeat = value.parse().ok();
            let repeat = repeat.filter(|repeat| (1..=MAX_REPEAT).contains(repeat));
            options.repeat = repeat.ok_or_else(|| {
                format!("--repeat wants a number from 1 to {MAX_REPEAT}, and not {value:?}")
            })?;
        }
        other => return Err(not_read(other)),
    }
    Ok(())
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    (seconds > 0.0 && seconds <= 86_400.0).then(|| Duration::from_secs_f64(seconds))
}
