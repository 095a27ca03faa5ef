//! The table agrees with the parser, the presets and the roles.

use std::collections::BTreeSet;

use super::arguments::parse;
use super::help;
use super::table::{Command, Takes, COMMANDS, OPTIONS, VARIABLES};
use crate::collector;
use crate::config::PRESETS;
use crate::demo::KINDS;
use crate::sys::wrap::COLUMNS;

fn parsed(words: &[&str]) -> Result<bool, String> {
    let parser = lexopt::Parser::from_args(words.iter().map(|word| word.to_string()));
    parse(parser).map(|parsed| parsed.is_some())
}

/// A value that the option takes.
fn value(option: &str) -> &'static str {
    match option {
        "board" => "pc",
        "preset" => "kepler",
        "fleet" | "repeat" => "2",
        "interval" | "for" | "idle" => "3",
        "probe-i2c" => "/dev/i2c-1",
        "name" => "edge-01",
        _ => "127.0.0.1",
    }
}

#[test]
fn every_option_of_the_table_is_read() {
    for command in COMMANDS {
        for option in command.options() {
            let name = format!("--{}", option.name);
            let value = value(option.name);
            let mut words = match option.value {
                Takes::Nothing => vec![command.name.to_string(), name],
                Takes::Value(_) => vec![command.name.to_string(), name, value.to_string()],
                Takes::Optional(_) => vec![command.name.to_string(), format!("{name}={value}")],
            };
            match command.name {
                "measure" => words.extend(["--url", "http://a", "--", "true"].map(String::from)),
                "record" => words.push("dir".into()),
                "top" => words.extend(["--url", "http://a"].map(String::from)),
                _ => {}
            }
            match option.name {
                "replay.at-once" => words.extend(["--replay", "dir"].map(String::from)),
                "interval" if command.name == "measure" => {
                    words.retain(|word| word != "--url" && word != "http://a");
                }
                _ => {}
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(parsed(&words), Ok(true), "{words:?}");
        }
    }
}

#[test]
fn an_option_belongs_to_a_command_once() {
    for command in COMMANDS {
        let mut names = BTreeSet::new();
        for option in command.options() {
            assert!(
                names.insert(option.name),
                "{} {}",
                command.name,
                option.name
            );
        }
    }
    let known: BTreeSet<&str> = COMMANDS.iter().map(|command| command.name).collect();
    let of_options = OPTIONS.iter().map(|option| option.commands);
    let groups = of_options.chain(VARIABLES.iter().map(|variable| variable.commands));
    for name in groups.flatten().copied().flatten() {
        assert!(known.contains(name), "{name}");
    }
}

#[test]
fn presets_have_their_flags_and_variables_in_the_table() {
    for preset in PRESETS {
        let (section, _) = preset.parse().unwrap();
        let command = Command::named(preset.name).unwrap();
        for (flag, _) in &section.flags {
            assert!(command.option(flag).is_ok(), "{} --{flag}", preset.name);
        }
        let shown: BTreeSet<&str> = command.variables().map(|variable| variable.name).collect();
        for (name, _) in &section.environment {
            assert!(shown.contains(name.as_str()), "{} {name}", preset.name);
        }
        let only_here = |option: &&'static super::table::CliOption| {
            option
                .commands
                .iter()
                .flat_map(|group| group.iter())
                .count()
                == 1
        };
        for option in command.options().filter(only_here) {
            assert!(
                preset.has_flag(option.name),
                "{} --{}",
                preset.name,
                option.name
            );
        }
        assert_eq!(
            preset.arguments(),
            command.arguments.split_whitespace().count(),
            "{}",
            preset.name
        );
    }
}

#[test]
fn collector_and_boards_are_those_of_the_table() {
    let collect = Command::named("collect").unwrap();
    for (flag, _) in collector::FLAGS {
        assert!(collect.option(flag).is_ok(), "{flag}");
    }
    for (name, _) in collector::VARIABLES {
        assert!(collect.variables().any(|v| v.name == name), "{name}");
    }
    let board = Command::named("demo").unwrap().option("board").unwrap();
    for kind in KINDS {
        assert!(board.help.contains(kind.name), "{}", kind.name);
    }
}

#[test]
fn help_fits_the_terminal_and_names_all() {
    let overview = help::overview();
    for command in COMMANDS {
        assert!(
            overview.contains(&format!("\n  {} ", command.name)),
            "{overview}"
        );
        let help = help::of(command);
        for option in command.options() {
            assert!(help.contains(&format!("\n  {}", option.usage())), "{help}");
        }
        for variable in command.variables() {
            let mut lines = help.lines().map(str::split_whitespace);
            assert!(
                lines.any(|mut words| words.next() == Some(variable.name)),
                "{help}"
            );
        }
        for text in [&help, &overview] {
            for line in text.lines() {
                assert!(line.chars().count() <= COLUMNS, "{line}");
                assert_eq!(line, line.trim_end(), "{text}");
            }
        }
        // The example is a valid command line.
        let example = command.example_line();
        let words: Vec<&str> = example.split(' ').skip(1).collect();
        let is_run = !matches!(command.name, "help" | "version");
        assert_eq!(parsed(&words), Ok(is_run), "{example}");
    }
}

#[test]
fn options_of_other_commands_are_refused() {
    for (words, message) in [
        (
            &["run", "--store", "x"][..],
            "--store goes with config-server, and not with run; see edge-metrics-exporter run --help",
        ),
        (
            &["top", "--csv", "x"],
            "--csv goes with measure, and not with top; see edge-metrics-exporter top --help",
        ),
        // Options before the command are those of `run`, and have to be the command's, too.
        (
            &["--json", "doctor"],
            "--json goes with doctor, measure, and not with run; see edge-metrics-exporter run --help",
        ),
        (
            &["--web.management-address", ":1", "doctor"],
            "--web.management-address goes with run, demo, power-exporter, udp-agent, pyjoules-simple, \
             pyjoules-multirate, pyjoules-remote-write, kepler, scaphandre, and not with doctor; \
             see edge-metrics-exporter doctor --help",
        ),
        (
            &["doctor", "--netwrok"],
            "there is no option --netwrok: did you mean --network?; see edge-metrics-exporter doctor --help",
        ),
        (
            &["--web.listen-adress", ":1"],
            "there is no option --web.listen-adress: did you mean --web.listen-address?; \
             see edge-metrics-exporter run --help",
        ),
        (
            &["chek-config"],
            "there is no command \"chek-config\": did you mean check-config?; see edge-metrics-exporter --help",
        ),
        (
            &["help", "dokter"],
            "there is no command \"dokter\": did you mean doctor?; see edge-metrics-exporter help --help",
        ),
        (
            &["help", "doctor", "record"],
            "unexpected argument \"record\"; see edge-metrics-exporter help --help",
        ),
        (
            &["doctor", "--probe-i2c="],
            "--probe-i2c= has no value: give one, or leave out the =; see edge-metrics-exporter doctor --help",
        ),
        (
            &["doctor", "-x"],
            "there is no option -x; see edge-metrics-exporter doctor --help",
        ),
    ] {
        assert_eq!(parsed(words), Err(message.to_string()));
    }
    assert_eq!(parsed(&["--config", "x", "doctor"]), Ok(true));
    assert_eq!(parsed(&["help", "--help"]), Ok(false));
    assert_eq!(parsed(&["version", "--help"]), Ok(false));
    assert_eq!(parsed(&["doctor", "--probe-i2c"]), Ok(true));
}
