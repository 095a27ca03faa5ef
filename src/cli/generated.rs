//! Completions and the man page, generated from the table. A test compares the files; `UPDATE_EXPECT=1` writes them anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::help::PROGRAM;
use super::table::{CliOption, Command, Takes, COMMANDS, DEFAULT, OPTIONS, VARIABLES};

const BEGIN: &str = ".\\\" Generated from src/cli/table.rs: begin\n";
const END: &str = ".\\\" Generated from src/cli/table.rs: end\n";

#[test]
fn completions_and_man_page_are_those_of_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let man = root.join(format!("man/{PROGRAM}.1"));
    let page = std::fs::read_to_string(&man).unwrap();
    for (path, text) in [
        (root.join(format!("completions/{PROGRAM}.bash")), bash()),
        (root.join(format!("completions/_{PROGRAM}")), zsh()),
        (root.join(format!("completions/{PROGRAM}.fish")), fish()),
        (man, man_page(&page)),
    ] {
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, text).unwrap();
            continue;
        }
        assert!(
            std::fs::read_to_string(&path).unwrap() == text,
            "{} is out of date (UPDATE_EXPECT=1 cargo test --lib generated)",
            path.display()
        );
    }
}

/// What a value can be completed to.
#[derive(PartialEq)]
enum Values {
    Files,
    Directories,
    Words(Vec<&'static str>),
    Unknown,
}

impl CliOption {
    fn values(&self) -> Values {
        match (self.name, self.value) {
            ("log.level", _) => Values::Words(vec!["error", "warn", "info", "debug", "trace"]),
            ("board", _) => {
                Values::Words(crate::demo::KINDS.iter().map(|kind| kind.name).collect())
            }
            ("preset", _) => Values::Words(
                crate::config::PRESETS
                    .iter()
                    .map(|preset| preset.name)
                    .collect(),
            ),
            (_, Takes::Value("DIR")) => Values::Directories,
            (_, Takes::Value("FILE")) => Values::Files,
            _ => Values::Unknown,
        }
    }
}

impl Command {
    /// What its positional arguments can be completed to.
    fn argument_values(&self) -> Values {
        match self.arguments {
            "DIR" => Values::Directories,
            "[FILE]" => Values::Files,
            "[COMMAND]" => Values::Words(COMMANDS.iter().map(|command| command.name).collect()),
            _ => Values::Unknown,
        }
    }

    /// The options with dashes, among them that for help.
    fn flags(&self) -> Vec<String> {
        let own = self.options().map(|option| format!("--{}", option.name));
        own.chain(["--help".to_string()]).collect()
    }
}

/// The options that take a value, with dashes and by what the value is, for `case` of a shell.
fn cases(wanted: &Values) -> String {
    let takes = |option: &&CliOption| matches!(option.value, Takes::Value(_));
    let options = OPTIONS.iter().filter(takes);
    // `doctor --json` has no value: it is the only option that has one with another command.
    let options = options.filter(|option| option.name != "json" && option.values() == *wanted);
    let names: BTreeSet<String> = options.map(|option| format!("--{}", option.name)).collect();
    names.into_iter().collect::<Vec<_>>().join(" | ")
}

fn names() -> Vec<&'static str> {
    COMMANDS.iter().map(|command| command.name).collect()
}

fn word_options() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    OPTIONS.iter().filter_map(|option| match option.values() {
        Values::Words(words) => Some((option.name, words)),
        _ => None,
    })
}

fn bash() -> String {
    let names = names();
    let mut out = format!(
        r#"# bash completion for {PROGRAM}. Generated from src/cli/table.rs by its test: do not edit.

_edge_metrics_exporter() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command='' words='' i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
        {names})
            command=${{COMP_WORDS[i]}}
            break
            ;;
        esac
    done
    # The command that is measured has completions of its own.
    if [ "$command" = measure ]; then
        for ((; i < COMP_CWORD; i++)); do
            if [ "${{COMP_WORDS[i]}}" = -- ]; then
                if declare -F _command_offset >/dev/null; then
                    _command_offset $((i + 1))
                else
                    mapfile -t COMPREPLY < <(compgen -c -f -- "$current")
                fi
                return
            fi
        done
    fi
    case "$command $previous" in
    "doctor --json") ;;
    *" --json")
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    esac
    case $previous in
"#,
        names = names.join(" | ")
    );
    for (name, words) in word_options() {
        let _ = writeln!(
            out,
            "    --{name})\n        mapfile -t COMPREPLY < <(compgen -W \"{}\" -- \"$current\")\n        return\n        ;;",
            words.join(" ")
        );
    }
    for (values, action) in [
        (
            Values::Directories,
            "mapfile -t COMPREPLY < <(compgen -d -- \"$current\")",
        ),
        (
            Values::Files,
            "mapfile -t COMPREPLY < <(compgen -f -- \"$current\")",
        ),
        (Values::Unknown, ""),
    ] {
        let _ = writeln!(out, "    {})", cases(&values));
        if !action.is_empty() {
            let _ = writeln!(out, "        {action}");
        }
        out.push_str("        return\n        ;;\n");
    }
    out.push_str("    esac\n    case \"$command $current\" in\n");
    for command in COMMANDS {
        let pattern = match command.name {
            DEFAULT => format!("\"{DEFAULT} -\"* | \" -\"*"),
            name => format!("\"{name} -\"*"),
        };
        let flags = match command.name {
            DEFAULT => format!("{} --version", command.flags().join(" ")),
            _ => command.flags().join(" "),
        };
        let _ = writeln!(out, "    {pattern}) words=\"{flags}\" ;;");
    }
    let _ = writeln!(out, "    \" \"*) words=\"{}\" ;;", names.join(" "));
    for command in COMMANDS {
        let action = match command.argument_values() {
            Values::Files => "mapfile -t COMPREPLY < <(compgen -f -- \"$current\")".to_string(),
            Values::Directories => {
                "mapfile -t COMPREPLY < <(compgen -d -- \"$current\")".to_string()
            }
            Values::Words(words) => format!("words=\"{}\"", words.join(" ")),
            Values::Unknown => continue,
        };
        let _ = writeln!(out, "    \"{} \"*) {action} ;;", command.name);
    }
    out.push_str(
        "    esac\n    [ -z \"$words\" ] || mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n}\n\n\
         complete -o filenames -F _edge_metrics_exporter edge-metrics-exporter\n",
    );
    out
}

/// Text in single quotes, with apostrophes as typographic ones.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "’"))
}

/// The first sentence of a help.
fn first_sentence(help: &str) -> &str {
    help.split_once(". ")
        .map_or(help, |(first, _)| first)
        .trim_end_matches('.')
}

fn zsh() -> String {
    let mut out = format!(
        "#compdef {PROGRAM}\n# zsh completion for {PROGRAM}. Generated from src/cli/table.rs by its test: do not edit.\n\n\
         local command=run i\nlocal -a commands options\n\ncommands=(\n"
    );
    for command in COMMANDS {
        let summary = command.summary.replace(':', "\\:");
        let _ = writeln!(
            out,
            "    {}",
            quoted_raw(&format!("{}:{summary}", command.name))
        );
    }
    out.push_str(")\n\nfor ((i = 2; i < CURRENT; i++)); do\n    case ${words[i]} in\n");
    let _ = writeln!(
        out,
        "    {})\n        command=${{words[i]}}\n        break\n        ;;\n    esac\ndone\n",
        names().join("|")
    );
    out.push_str("case $command in\n");
    for command in COMMANDS {
        let _ = writeln!(out, "{})\n    options=(", command.name);
        for option in command.options() {
            let help = first_sentence(option.help);
            let help = help.replace('[', "(").replace(']', ")").replace(':', "\\:");
            let action = match option.values() {
                Values::Files => ":file:_files".to_string(),
                Values::Directories => ":directory:_files -/".to_string(),
                Values::Words(words) => format!(":value:({})", words.join(" ")),
                Values::Unknown => match option.value {
                    Takes::Nothing => String::new(),
                    Takes::Value(value) => format!(":{value}: "),
                    Takes::Optional(value) => format!("::{value}: "),
                },
            };
            let equals = match option.value {
                Takes::Optional(_) => "=-",
                _ => "",
            };
            let spec = format!("--{}{equals}[{help}]{action}", option.name);
            let _ = writeln!(out, "        {}", quoted_raw(&spec));
        }
        out.push_str("        '(-)--help[Show the help]'\n");
        match command.argument_values() {
            Values::Files => out.push_str("        '1:file:_files'\n"),
            Values::Directories => out.push_str("        '1:directory:_files -/'\n"),
            Values::Words(words) => {
                let _ = writeln!(out, "        '1:command:({})'", words.join(" "));
            }
            Values::Unknown if command.name == "measure" => {
                out.push_str("        '*::command:_normal'\n");
            }
            Values::Unknown => {}
        }
        out.push_str("    )\n    ;;\n");
    }
    out.push_str(
        "esac\n\nif (( i == CURRENT )) && [[ $PREFIX != -* && ${words[CURRENT - 1]} != --* ]]; then\n    \
         _describe command commands\nelif (( i == CURRENT )); then\n    _arguments -S $options '(-)--version[Show the version]'\nelse\n    \
         # The options of the command, as if it were the program.\n    words=(\"${(@)words[i,-1]}\")\n    \
         (( CURRENT -= i - 1 ))\n    _arguments -S $options\nfi\n",
    );
    out
}

/// Text in single quotes; an apostrophe is typographic.
fn quoted_raw(text: &str) -> String {
    format!("'{}'", text.replace('\'', "’"))
}

fn fish() -> String {
    let names = names().join(" ");
    let mut out = format!(
        "# fish completion for {PROGRAM}. Generated from src/cli/table.rs by its test: do not edit.\n\n\
         set -l commands {names}\n\n"
    );
    for command in COMMANDS {
        let _ = writeln!(
            out,
            "complete -c {PROGRAM} -n \"not __fish_seen_subcommand_from $commands\" -f -a {} -d {}",
            command.name,
            quoted(command.summary)
        );
    }
    for option in OPTIONS {
        let commands: Vec<&str> = option.commands.iter().copied().flatten().copied().collect();
        let seen = format!("__fish_seen_subcommand_from {}", commands.join(" "));
        let condition = match commands.contains(&DEFAULT) {
            true => format!("{seen}; or not __fish_seen_subcommand_from $commands"),
            false => seen,
        };
        let action = match (option.values(), option.value) {
            (Values::Files, _) => " -r -F".to_string(),
            (Values::Directories, _) => " -x -a '(__fish_complete_directories)'".to_string(),
            (Values::Words(words), _) => format!(" -x -a '{}'", words.join(" ")),
            (Values::Unknown, Takes::Value(_)) => " -x".to_string(),
            (Values::Unknown, _) => " -f".to_string(),
        };
        let _ = writeln!(
            out,
            "complete -c {PROGRAM} -n \"{condition}\" -l {}{action} -d {}",
            option.name,
            quoted(first_sentence(option.help))
        );
    }
    for command in COMMANDS {
        let action = match command.argument_values() {
            Values::Files => "-F".to_string(),
            Values::Directories => "-f -a '(__fish_complete_directories)'".to_string(),
            Values::Words(words) => format!("-f -a '{}'", words.join(" ")),
            Values::Unknown => continue,
        };
        let _ = writeln!(
            out,
            "complete -c {PROGRAM} -n \"__fish_seen_subcommand_from {}\" {action}",
            command.name
        );
    }
    let _ = writeln!(
        out,
        "complete -c {PROGRAM} -f -s h -l help -d 'Show the help'\n\
         complete -c {PROGRAM} -n \"not __fish_seen_subcommand_from $commands\" -f -s V -l version -d 'Show the version'"
    );
    out
}

/// The page with its generated sections written anew.
fn man_page(page: &str) -> String {
    let mut parts = page.split(BEGIN);
    let mut out = parts.next().unwrap_or_default().to_string();
    let sections = [synopsis(), commands(), common_options(), environment()];
    let rests: Vec<&str> = parts.collect();
    assert_eq!(
        rests.len(),
        sections.len(),
        "the man page has other markers"
    );
    for (rest, section) in rests.into_iter().zip(sections) {
        let (_, rest) = rest.split_once(END).unwrap();
        let _ = write!(out, "{BEGIN}{section}{END}{rest}");
    }
    out
}

/// Text for mdoc, a sentence a line.
fn mdoc(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let mut out = String::new();
    for (number, paragraph) in text.split('\n').enumerate() {
        if number > 0 {
            out.push_str(".Pp\n");
        }
        for sentence in paragraph.split_inclusive(". ") {
            let sentence = sentence.trim_end();
            let hidden = match sentence.starts_with(['.', '\'']) {
                true => "\\&",
                false => "",
            };
            let _ = writeln!(out, "{hidden}{sentence}");
        }
    }
    out
}

fn flag(option: &CliOption) -> String {
    let name = option.name.replace('-', "\\-");
    match option.value {
        Takes::Nothing => format!("Fl \\-{name}"),
        Takes::Value(value) => format!("Fl \\-{name} Ar {value}"),
        Takes::Optional(value) => format!("Fl \\-{name} Ns Op = Ns Ar {value}"),
    }
}

/// Whether the option is one of many commands, and described once.
fn is_common(option: &CliOption) -> bool {
    option
        .commands
        .iter()
        .map(|group| group.len())
        .sum::<usize>()
        > 3
}

fn synopsis() -> String {
    let mut out = String::new();
    for command in COMMANDS {
        let name = command.name.replace('-', "\\-");
        let word = match command.name {
            DEFAULT => format!(".Op Cm {name}"),
            _ => format!(".Cm {name}"),
        };
        let _ = writeln!(out, ".Nm\n{word}");
        let arguments = command.arguments.replace('-', "\\-");
        let arguments = match arguments.strip_prefix('[') {
            _ if arguments.is_empty() => None,
            Some(optional) => Some(format!(".Op Ar {}", optional.trim_end_matches(']'))),
            None => Some(format!(".Ar {arguments}")),
        };
        // What follows the arguments of `measure` is the measured command's.
        let (before, after) = match command.name {
            "measure" => (None, arguments),
            _ => (arguments, None),
        };
        let options = command
            .options()
            .next()
            .map(|_| ".Op Ar options".to_string());
        for line in [before, options, after].into_iter().flatten() {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

fn commands() -> String {
    let mut out = String::new();
    for command in COMMANDS {
        let _ = write!(
            out,
            ".Ss {}\n{}",
            command.name.replace('-', "\\-"),
            mdoc(command.summary)
        );
        if !command.about.is_empty() {
            let _ = write!(out, ".Pp\n{}", mdoc(command.about));
        }
        let own: Vec<_> = command.options().filter(|o| !is_common(o)).collect();
        if !own.is_empty() {
            out.push_str(".Bl -tag -width indent\n");
            for option in own {
                let _ = write!(out, ".It {}\n{}", flag(option), mdoc(option.help));
            }
            out.push_str(".El\n");
        }
        let common: Vec<_> = command
            .options()
            .filter(|option| is_common(option))
            .map(|option| format!("\\-\\-{}", option.name.replace('-', "\\-")))
            .collect();
        if !common.is_empty() {
            let _ = writeln!(out, ".Pp\nCommon options: {}.", common.join(", "));
        }
        let _ = write!(
            out,
            ".Pp\nExample:\n.Dl $ {}\n",
            command.example_line().replace('-', "\\-")
        );
    }
    out
}

fn common_options() -> String {
    let mut out = ".Bl -tag -width indent\n".to_string();
    for option in OPTIONS.iter().filter(|option| is_common(option)) {
        let _ = write!(out, ".It {}\n{}", flag(option), mdoc(option.help));
    }
    out.push_str(".It Fl h , Fl \\-help\nShow the options of the command.\n.It Fl V , Fl \\-version\nShow the version.\n.El\n");
    out
}

fn environment() -> String {
    let mut out = ".Bl -tag -width LOCAL_CONFIG_PATH\n".to_string();
    for variable in VARIABLES {
        let commands: Vec<_> = variable.commands.iter().copied().flatten().collect();
        let of = match commands.as_slice() {
            // The variables of most commands need no list.
            commands if commands.len() > 3 => String::new(),
            commands => format!(
                " ({})",
                commands
                    .iter()
                    .map(|name| name.replace('-', "\\-"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        let help = mdoc(variable.help);
        let help = help.trim_end().trim_end_matches('.');
        let _ = writeln!(out, ".It Ev {}\n{help}{of}.", variable.name);
    }
    out.push_str(".El\n");
    out
}
