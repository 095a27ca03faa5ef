//! The commands, their options and their environment variables. The parser, the help, the completions and the man page use this
//! table.

use crate::config::diagnose::nearest;

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// The positional arguments, as in a synopsis.
    pub(super) arguments: &'static str,
    /// What the command does, for a list of all.
    pub(super) summary: &'static str,
    /// What a user has to know more, a paragraph a line.
    pub(super) about: &'static str,
    /// The arguments of a command line that shows the use.
    pub(super) example: &'static str,
}

/// An option of some commands. Several options may have the same name, with no command in common.
#[derive(Debug)]
pub(super) struct CliOption {
    /// The name without dashes.
    pub(super) name: &'static str,
    pub(super) value: Takes,
    pub(super) help: &'static str,
    /// Groups of names, all of which count.
    pub(super) commands: &'static [&'static [&'static str]],
}

/// The value of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// A value of this name.
    Value(&'static str),
    /// A value of this name after `=`, or none.
    Optional(&'static str),
}

/// An environment variable that some commands read.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// As those of an option.
    pub(super) commands: &'static [&'static [&'static str]],
}

/// The command without a command word.
pub(super) const DEFAULT: &str = "run";
/// The first command that stands in for another program: those after it do, too.
const FIRST_PRESET: &str = "power-exporter";

const PRESETS: &[&str] = &[
    "power-exporter",
    "udp-agent",
    "pyjoules-simple",
    "pyjoules-multirate",
    "pyjoules-remote-write",
    "kepler",
    "scaphandre",
];
/// The commands that serve metrics of a board.
const EXPORTERS: &[&[&str]] = &[&["run", "demo"], PRESETS];
/// The commands that read the files of a board.
const READERS: &[&[&str]] = &[
    &["run", "doctor", "measure", "top", "record", "check-config"],
    PRESETS,
];

/// All commands, in the order in which they are shown.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        arguments: "",
        summary: "Serve the board's meters at http://localhost:9100/metrics. This is the default.",
        about: "Without a configuration, all meters that are found are exported.",
        example: "--web.listen-address :9110",
    },
    Command {
        name: "demo",
        arguments: "",
        summary: "Serve the metrics of a simulated board, or of a fleet of them.",
        about: "With --fleet N, N boards of all kinds run, each in a process of its own, and a config-server for them at http://127.0.0.1:8080/.",
        example: "--board jetson",
    },
    Command {
        name: "doctor",
        arguments: "",
        summary: "Show which meters this board has, a reading of each, and what would help.",
        about: "The report shows first what works, then what could work and what would help, then what was not found. The exit status is 1 if no power, current or energy can be read.",
        example: "--network --write config.yaml",
    },
    Command {
        name: "measure",
        arguments: "-- COMMAND...",
        summary: "Run a command and report the energy that it used.",
        about: "The report has, for each rail: joules, mean and peak watts, joules above those of the idle board, and the command's share of these by CPU time. With --repeat it has the mean and its 95 % confidence interval. It goes to standard error. A second interrupt does not wait for the command to end.\nThe exit status is the command's. It is 125 if the measurement failed, 126 if the command cannot be run, and 127 if it cannot be found.",
        example: "--repeat 5 -- ./inference model.onnx",
    },
    Command {
        name: "top",
        arguments: "",
        summary: "Show the board in a terminal: power, rails, and workloads by power.",
        about: "The key ? shows all keys, and q quits. Into a pipe, or with TERM=dumb, the board is printed once.\nWithout --url, the meters are read in this process. If none can be read, an exporter on this machine is shown.",
        example: "--url http://board:9100",
    },
    Command {
        name: "record",
        arguments: "DIR",
        summary: "Record all that the sources read, in plain files.",
        about: "DIR is new or empty. The recording ends after --for seconds, when it is stopped, or at 64 MiB. Passwords are not recorded. The host's name, and the addresses and answers of devices, are.",
        example: "board-recording --for 10",
    },
    Command {
        name: "check-config",
        arguments: "[FILE]",
        summary: "Check a configuration, the exporter's or a collector's, and show what would run.",
        about: "A collector's file is recognised by its keys. The exit status is 1 if the file cannot be used, and 2 if it names keys, metrics or sources that do not exist.",
        example: "config.yaml",
    },
    Command {
        name: "config-server",
        arguments: "",
        summary: "Serve the configurations of all boards, and list the boards for Prometheus.",
        about: "The server listens on port 8080: / is a page, /devices has the configurations, /sd lists the boards for Prometheus. One request changes many boards (/config?selector=). Changes are recorded and can be undone (/changes). All documents are exported and imported as one YAML (/export, /import).",
        example: "--store /var/lib/edge-metrics-exporter/devices",
    },
    Command {
        name: "collect",
        arguments: "",
        summary: "Serve the energy of nodes and pods, read from Prometheus, as CSV and as a stream.",
        about: "The collector listens on port 8000: /nodes, /pods and /workloads have CSV, the WebSocket /metrics has rows as they come.",
        example: "--prometheus.url http://prometheus:9090",
    },
    Command {
        name: "help",
        arguments: "[COMMAND]",
        summary: "Show this overview, or the options of a command.",
        about: "",
        example: "doctor",
    },
    Command {
        name: "version",
        arguments: "",
        summary: "Show the version.",
        about: "",
        example: "",
    },
    Command {
        name: "power-exporter",
        arguments: "[ADDRESS PORT]",
        summary: "prometheus-power-exporter: read a device by UDP.",
        about: "The metrics are served on port 8000. The device is named by two arguments, by options or by environment variables.",
        example: "192.0.2.7 5000",
    },
    Command {
        name: "udp-agent",
        arguments: "",
        summary: "powermeasurement-udp-client: answer datagrams with this board's current and charge.",
        about: "Datagrams are answered on port 5000.",
        example: "--voltage 12",
    },
    Command {
        name: "pyjoules-simple",
        arguments: "",
        summary: "pyJoules client: serve RAPL's domains in watts.",
        about: "The metrics are served on port 9091.",
        example: "",
    },
    Command {
        name: "pyjoules-multirate",
        arguments: "",
        summary: "pyJoules client: serve every reading of RAPL, in microjoules.",
        about: "The metrics are served on port 9092, with the time of each reading.",
        example: "",
    },
    Command {
        name: "pyjoules-remote-write",
        arguments: "",
        summary: "pyJoules client: send every reading of RAPL by remote write, in microjoules.",
        about: "",
        example: "",
    },
    Command {
        name: "kepler",
        arguments: "",
        summary: "Kepler: energy by container, pod and process, with any meter.",
        about: "The metrics are served on port 28282.",
        example: "",
    },
    Command {
        name: "scaphandre",
        arguments: "",
        summary: "Scaphandre: power by process, with any meter.",
        about: "The metrics are served on port 8080.",
        example: "--port 8081",
    },
];

/// All options, in the order in which they are shown.
pub(super) const OPTIONS: &[CliOption] = &[
    CliOption {
        name: "replay",
        value: Takes::Value("DIR"),
        help: "Read from this recording instead of from the board, at the recorded pace. At its end, the last values stay. The recording's settings of sources apply; --config replaces them.",
        commands: &[&["run"]],
    },
    CliOption {
        name: "replay.at-once",
        value: Takes::Nothing,
        help: "Read the whole recording at once.",
        commands: &[&["run"]],
    },
    CliOption {
        name: "board",
        value: Takes::Value("KIND"),
        help: "The kind of board: jetson, raspberry-pi, orange-pi or pc. Default: jetson.",
        commands: &[&["demo"]],
    },
    CliOption {
        name: "name",
        value: Takes::Value("NAME"),
        help: "The host name of the simulated board.",
        commands: &[&["demo"]],
    },
    CliOption {
        name: "preset",
        value: Takes::Value("NAME"),
        help: "Run the board under a command that stands in for another program, such as kepler.",
        commands: &[&["demo"]],
    },
    CliOption {
        name: "fleet",
        value: Takes::Value("N"),
        help: "Simulate N boards and a config-server. Only --web.listen-address, for the server, and --log.level can be given with it.",
        commands: &[&["demo"]],
    },
    CliOption {
        name: "json",
        value: Takes::Nothing,
        help: "Print the report as JSON.",
        commands: &[&["doctor"]],
    },
    CliOption {
        name: "write",
        value: Takes::Value("FILE"),
        help: "Write a configuration for this board, with the devices that --network and the INA260 chips that --probe-i2c found. An existing file is not overwritten.",
        commands: &[&["doctor"]],
    },
    CliOption {
        name: "probe-i2c",
        value: Takes::Optional("BUS"),
        help: "Look for power monitors at 0x40 to 0x4f of the I2C buses. Addresses that a kernel driver uses or the configuration names are left out, and so are buses of displays and of a PC's memory modules, unless the bus is named (--probe-i2c=/dev/i2c-1). This reads registers of unknown chips, which can disturb a chip.",
        commands: &[&["doctor"]],
    },
    CliOption {
        name: "network",
        value: Takes::Nothing,
        help: "List plugs and meters that announce themselves on the network by mDNS.",
        commands: &[&["doctor"]],
    },
    CliOption {
        name: "interval",
        value: Takes::Value("SECONDS"),
        help: "The time between two readings of the meters. Default: 0.01. Not with --url: the exporter has its own interval.",
        commands: &[&["measure"]],
    },
    CliOption {
        name: "idle",
        value: Takes::Value("SECONDS"),
        help: "How long the idle board is measured first. Default: 5.",
        commands: &[&["measure"]],
    },
    CliOption {
        name: "repeat",
        value: Takes::Value("N"),
        help: "Run the command N times.",
        commands: &[&["measure"]],
    },
    CliOption {
        name: "json",
        value: Takes::Value("FILE"),
        help: "Write the report as JSON to the file, or to standard output (-).",
        commands: &[&["measure"]],
    },
    CliOption {
        name: "csv",
        value: Takes::Value("FILE"),
        help: "Write the report as CSV to the file, or to standard output (-).",
        commands: &[&["measure"]],
    },
    CliOption {
        name: "interval",
        value: Takes::Value("SECONDS"),
        help: "The time between two readings, at least 0.1. Default: 1.",
        commands: &[&["top"]],
    },
    CliOption {
        name: "url",
        value: Takes::Value("URL"),
        help: "Use the meters of a running exporter, such as http://board:9100.",
        commands: &[&["measure", "top"]],
    },
    CliOption {
        name: "http.config.file",
        value: Takes::Value("FILE"),
        help: "Login and TLS for --url, in the form of Prometheus's http_config (basic_auth, authorization, tls_config).",
        commands: &[&["measure", "top"]],
    },
    CliOption {
        name: "for",
        value: Takes::Value("SECONDS"),
        help: "How long to record. Default: 60.",
        commands: &[&["record"]],
    },
    CliOption {
        name: "lenient",
        value: Takes::Nothing,
        help: "Accept keys, metrics and sources that do not exist, as the exporter does.",
        commands: &[&["check-config"]],
    },
    CliOption {
        name: "store",
        value: Takes::Value("DIR"),
        help: "Where the configurations are: a directory, or etcd://HOST:PORT/PREFIX (etcds:// by TLS). Default: /var/lib/edge-metrics-exporter/devices.",
        commands: &[&["config-server"]],
    },
    CliOption {
        name: "store.http.config.file",
        value: Takes::Value("FILE"),
        help: "Login and TLS for etcd, in the form of Prometheus's http_config.",
        commands: &[&["config-server"]],
    },
    CliOption {
        name: "boards.http.config.file",
        value: Takes::Value("FILE"),
        help: "Login and TLS for the boards, in the form of Prometheus's http_config (basic_auth, authorization, tls_config).",
        commands: &[&["config-server"]],
    },
    CliOption {
        name: "management.allow-remote",
        value: Takes::Nothing,
        help: "Accept changes from other machines without a login or a token.",
        commands: &[&["config-server"]],
    },
    CliOption {
        name: "prometheus.url",
        value: Takes::Value("URL"),
        help: "The Prometheus server.",
        commands: &[&["collect"]],
    },
    CliOption {
        name: "interval",
        value: Takes::Value("SECONDS"),
        help: "The time between two queries. Default: 30.",
        commands: &[&["collect"]],
    },
    CliOption {
        name: "namespace",
        value: Takes::Value("NAME"),
        help: "The namespace of the pods. Default: that of the service account, else default.",
        commands: &[&["collect"]],
    },
    CliOption {
        name: "device-ip",
        value: Takes::Value("ADDRESS"),
        help: "The device's address.",
        commands: &[&["power-exporter"]],
    },
    CliOption {
        name: "device-port",
        value: Takes::Value("PORT"),
        help: "The device's UDP port.",
        commands: &[&["power-exporter"]],
    },
    CliOption {
        name: "port",
        value: Takes::Value("PORT"),
        help: "The UDP port to answer on. Default: 5000.",
        commands: &[&["udp-agent"]],
    },
    CliOption {
        name: "listen",
        value: Takes::Value("ADDRESS"),
        help: "The address to answer on. Default: all.",
        commands: &[&["udp-agent"]],
    },
    CliOption {
        name: "voltage",
        value: Takes::Value("VOLTS"),
        help: "The voltage, by which watts become amperes. Default: the measured one.",
        commands: &[&["udp-agent"]],
    },
    CliOption {
        name: "port",
        value: Takes::Value("PORT"),
        help: "The port to serve metrics on. Default: 8080.",
        commands: &[&["scaphandre"]],
    },
    CliOption {
        name: "address",
        value: Takes::Value("ADDRESS"),
        help: "The address to serve metrics on. Default: all.",
        commands: &[&["scaphandre"]],
    },
    CliOption {
        name: "config",
        value: Takes::Value("FILE"),
        help: "The configuration file. Default: $LOCAL_CONFIG_PATH, else ./config.yaml, else /etc/edge-metrics-exporter/config.yaml, else built-in defaults.",
        commands: &[&["run", "doctor", "measure", "top", "record", "check-config"]],
    },
    CliOption {
        name: "config",
        value: Takes::Value("FILE"),
        help: "A configuration file. Its settings replace built-in ones.",
        commands: &[&["demo"], PRESETS],
    },
    CliOption {
        name: "config",
        value: Takes::Value("FILE"),
        help: "The collector's configuration file, as collector.yaml.template shows it.",
        commands: &[&["collect"]],
    },
    CliOption {
        name: "web.listen-address",
        value: Takes::Value("ADDR"),
        help: "The address to serve metrics on, such as 127.0.0.1:9100 or :9110. Default: `port` of the configuration, :9100, which is also node_exporter's.",
        commands: &[&["run", "demo"]],
    },
    CliOption {
        name: "web.listen-address",
        value: Takes::Value("ADDR"),
        help: "The address to serve metrics on, such as 127.0.0.1:9100. Default: the port of the other program.",
        commands: &[PRESETS],
    },
    CliOption {
        name: "web.listen-address",
        value: Takes::Value("ADDR"),
        help: "The address to listen on. Default: :8080.",
        commands: &[&["config-server"]],
    },
    CliOption {
        name: "web.listen-address",
        value: Takes::Value("ADDR"),
        help: "The address to listen on. Default: `port` of the configuration, :8000.",
        commands: &[&["collect"]],
    },
    CliOption {
        name: "web.management-address",
        value: Takes::Value("ADDR"),
        help: "The address to serve the management API on. Default: `reload_port` of the configuration, :9101.",
        commands: EXPORTERS,
    },
    CliOption {
        name: "web.config.file",
        value: Takes::Value("FILE"),
        help: "TLS, passwords and headers, in the form of Prometheus's exporter-toolkit. The file is read again when it changes.",
        commands: &[
            &["run", "demo", "check-config", "config-server", "collect"],
            PRESETS,
        ],
    },
    CliOption {
        name: "management.token-file",
        value: Takes::Value("FILE"),
        help: "Tokens of programs that may change settings, one a line. Default: `management.token_file` of the configuration.",
        commands: &[&["run", "demo", "check-config"], PRESETS],
    },
    CliOption {
        name: "management.token-file",
        value: Takes::Value("FILE"),
        help: "Tokens of programs, one a line. The file is read again when it changes.",
        commands: &[&["config-server", "collect"]],
    },
    CliOption {
        name: "path.sysfs",
        value: Takes::Value("DIR"),
        help: "Read from this directory instead of /sys.",
        commands: READERS,
    },
    CliOption {
        name: "path.procfs",
        value: Takes::Value("DIR"),
        help: "Read from this directory instead of /proc.",
        commands: READERS,
    },
    CliOption {
        name: "path.dev",
        value: Takes::Value("DIR"),
        help: "Read from this directory instead of /dev.",
        commands: READERS,
    },
    CliOption {
        name: "log.level",
        value: Takes::Value("LEVEL"),
        help: "error, warn, info, debug or trace. Default: $RUST_LOG, else info (measure: warn, top: none).",
        commands: &[
            &[
                "run",
                "demo",
                "doctor",
                "measure",
                "top",
                "record",
                "check-config",
                "config-server",
                "collect",
            ],
            PRESETS,
        ],
    },
];

/// All environment variables, in the order in which they are shown.
pub(super) const VARIABLES: &[Variable] = &[
    Variable {
        name: "LOCAL_CONFIG_PATH",
        help: "The configuration file, if --config is not given.",
        commands: &[&["run", "doctor", "measure", "top", "record", "check-config"]],
    },
    Variable {
        name: "CONFIG_SERVER_URL",
        help: "The central config server. Several URLs are separated by commas.",
        commands: &[&["run", "check-config"]],
    },
    Variable {
        name: "CONFIG_TIMEOUT",
        help: "The timeout of requests to it, in seconds.",
        commands: &[&["run", "check-config"]],
    },
    Variable {
        name: "PROMETHEUSSERVER",
        help: "The Prometheus server, if --prometheus.url is not given.",
        commands: &[&["collect"]],
    },
    Variable {
        name: "UPDATE_INTERVAL",
        help: "The seconds between two queries, if --interval is not given.",
        commands: &[&["collect"]],
    },
    Variable {
        name: "NAMESPACE",
        help: "The namespace of the pods, if --namespace is not given.",
        commands: &[&["collect"]],
    },
    Variable {
        name: "DEVICE_UDP_IP",
        help: "The device's address.",
        commands: &[&["power-exporter"]],
    },
    Variable {
        name: "DEVICE_UDP_PORT",
        help: "The device's UDP port.",
        commands: &[&["power-exporter"]],
    },
    Variable {
        name: "EXPORTER_PORT",
        help: "The port to serve metrics on.",
        commands: &[&["pyjoules-simple", "pyjoules-multirate"]],
    },
    Variable {
        name: "SCRAPE_INTERVAL_SECONDS",
        help: "The seconds between two readings.",
        commands: &[&["pyjoules-simple", "pyjoules-multirate"]],
    },
    Variable {
        name: "MAX_QUEUE_LEN",
        help: "The number of readings that are kept.",
        commands: &[&["pyjoules-multirate"]],
    },
    Variable {
        name: "REMOTE_WRITE_URL",
        help: "The URL that samples are sent to.",
        commands: &[&["pyjoules-remote-write"]],
    },
    Variable {
        name: "SAMPLING_PERIOD_S",
        help: "The seconds between two readings.",
        commands: &[&["pyjoules-remote-write"]],
    },
    Variable {
        name: "BATCH_SIZE",
        help: "The number of readings in a request.",
        commands: &[&["pyjoules-remote-write"]],
    },
    Variable {
        name: "NODE_NAME",
        help: "The label node_name.",
        commands: &[&["kepler"]],
    },
    Variable {
        name: "RUST_LOG",
        help: "The level of the log, if --log.level is not given.",
        commands: &[
            &[
                "run",
                "demo",
                "doctor",
                "measure",
                "top",
                "record",
                "check-config",
                "config-server",
                "collect",
            ],
            PRESETS,
        ],
    },
];

impl Command {
    /// The command of this name.
    pub(super) fn named(name: &str) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| command.name == name)
    }

    /// The command of this name, or a message with the nearest one.
    pub(super) fn named_or_nearest(name: &str) -> Result<&'static Command, String> {
        Command::named(name).ok_or_else(|| {
            let near = nearest_name(name, COMMANDS.iter().map(|command| command.name));
            let near = near.map_or_else(String::new, |near| format!(": did you mean {near}?"));
            format!("there is no command {name:?}{near}")
        })
    }

    /// The options of the command.
    pub(super) fn options(&self) -> impl Iterator<Item = &'static CliOption> + '_ {
        let all = OPTIONS.iter();
        all.filter(|option| has(option.commands, self.name))
    }

    /// The environment variables that the command reads.
    pub(super) fn variables(&self) -> impl Iterator<Item = &'static Variable> + '_ {
        let all = VARIABLES.iter();
        all.filter(|variable| has(variable.commands, self.name))
    }

    /// The option of this name. The error says which commands have it, or which option was probably meant.
    pub(super) fn option(&self, name: &str) -> Result<&'static CliOption, String> {
        if let Some(option) = self.options().find(|option| option.name == name) {
            return Ok(option);
        }
        let others = OPTIONS.iter().filter(|option| option.name == name);
        let others: Vec<&str> = COMMANDS
            .iter()
            .map(|command| command.name)
            .filter(|command| others.clone().any(|option| has(option.commands, command)))
            .collect();
        if !others.is_empty() {
            return Err(format!(
                "--{name} goes with {}, and not with {}",
                others.join(", "),
                self.name
            ));
        }
        let own = nearest_name(name, self.options().map(|option| option.name));
        let near = own.or_else(|| nearest_name(name, OPTIONS.iter().map(|option| option.name)));
        Err(match near {
            Some(near) => format!("there is no option --{name}: did you mean --{near}?"),
            None => format!("there is no option --{name}"),
        })
    }
}

/// The commands by heading.
pub(super) fn groups() -> [(&'static str, &'static [Command]); 2] {
    let first = COMMANDS.iter().position(|c| c.name == FIRST_PRESET);
    let (own, presets) = COMMANDS.split_at(first.unwrap_or(COMMANDS.len()));
    [
        ("Commands", own),
        ("Commands that stand in for other programs", presets),
    ]
}

fn has(groups: &[&[&str]], command: &str) -> bool {
    groups.iter().any(|group| group.contains(&command))
}

/// The name most similar to `word`.
fn nearest_name(word: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // `nearest` compares with underscores.
    let names: Vec<(String, &str)> = names
        .map(|name| (name.replace(['-', '.'], "_"), name))
        .collect();
    let near = nearest(
        word,
        names.iter().map(|(comparable, _)| comparable.as_str()),
    )?;
    let (_, name) = names.iter().find(|(comparable, _)| comparable == near)?;
    Some(name)
}
