//! The help, of the program and of each command.

use std::fmt::Write;

use super::table::{groups, CliOption, Command, Takes, DEFAULT};
use crate::sys::wrap::wrap;

/// The name of the program.
pub(super) const PROGRAM: &str = "edge-metrics-exporter";
/// The column in which descriptions begin.
const INDENT: usize = 26;

/// The overview: all commands, each in a line.
pub(super) fn overview() -> String {
    let mut out = format!(
        "Reads every power meter this board has and serves it to Prometheus.\n\n\
         Usage: {PROGRAM} [COMMAND] [OPTIONS]\n"
    );
    for (heading, commands) in groups() {
        let _ = writeln!(out, "\n{heading}:");
        for command in commands {
            item(&mut out, command.name, command.summary);
        }
    }
    out.push_str("\nOptions of every command:\n");
    item(&mut out, "-h, --help", "Show the options of the command.");
    item(&mut out, "-V, --version", "Show the version.");
    out.push('\n');
    wrap(
        &mut out,
        "",
        &format!(
            "`{PROGRAM} help COMMAND` shows the options, the environment variables and an example of a command. \
             Without a command, the options are those of `{DEFAULT}`."
        ),
    );
    out
}

/// The help of one command.
pub(super) fn of(command: &Command) -> String {
    let mut out = String::new();
    wrap(&mut out, "", command.summary);
    let name = match command.name {
        DEFAULT => format!("[{DEFAULT}]"),
        name => name.to_string(),
    };
    let options = match command.options().next() {
        Some(_) => " [OPTIONS]",
        None => "",
    };
    // What follows the arguments of `measure` is the measured command's.
    let arguments = match command.arguments {
        "" => options.to_string(),
        arguments if arguments.starts_with("--") => format!("{options} {arguments}"),
        arguments => format!(" {arguments}{options}"),
    };
    let _ = writeln!(out, "\nUsage: {PROGRAM} {name}{arguments}");
    if !command.about.is_empty() {
        out.push('\n');
        wrap(&mut out, "", command.about);
    }
    out.push_str("\nOptions:\n");
    for option in command.options() {
        item(&mut out, &option.usage(), option.help);
    }
    item(&mut out, "-h, --help", "Show this help.");
    let mut variables = command.variables().peekable();
    if variables.peek().is_some() {
        out.push_str("\nEnvironment variables:\n");
        for variable in variables {
            item(&mut out, variable.name, variable.help);
        }
    }
    let example = command.example_line();
    let _ = write!(out, "\nExample:\n  {example}\n");
    out
}

impl CliOption {
    /// The option with its value, `--config FILE`.
    pub(super) fn usage(&self) -> String {
        match self.value {
            Takes::Nothing => format!("--{}", self.name),
            Takes::Value(value) => format!("--{} {value}", self.name),
            Takes::Optional(value) => format!("--{}[={value}]", self.name),
        }
    }
}

impl Command {
    /// A command line that shows the use.
    pub(super) fn example_line(&self) -> String {
        let words = [PROGRAM, self.name, self.example];
        let words = words
            .into_iter()
            .filter(|word| !word.is_empty() && *word != DEFAULT);
        words.collect::<Vec<_>>().join(" ")
    }
}

/// A name and its description.
fn item(out: &mut String, name: &str, help: &str) {
    let begin = format!("  {name:<width$}", width = INDENT - 2);
    if begin.ends_with("  ") {
        wrap(out, &begin, help);
    } else {
        let _ = writeln!(out, "  {name}");
        wrap(out, &" ".repeat(INDENT), help);
    }
}
