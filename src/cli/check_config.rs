//! `check-config`: validates a configuration file and prints what would be run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::{print, print_error};
use crate::config::{self, Collector, Config, Diagnostic, Origin};
use crate::config::{url_without_secrets, ClientSettings as Settings};
use crate::http::client::{Client, Limits};
use crate::http::{AccessControl, AccessFiles};
use crate::sources::SCHEMA;
use crate::sources::{select_meters, unknown_names, Board, Roots};

/// The exit status for a file with names that nothing has.
const UNKNOWN_NAMES: u8 = 2;

/// What to check.
#[derive(Default)]
pub(super) struct CheckOptions {
    /// The file, if the command line names one.
    pub(super) file: Option<PathBuf>,
    /// Whether unknown keys, metrics and sources are warnings only.
    pub(super) lenient: bool,
}

/// Validates the file and prints what would be run. A collector's file is recognised by its keys. The exit status is 2 if the
/// file has unknown names, unless `lenient`.
pub(super) fn check_config(
    file: Option<PathBuf>,
    lenient: bool,
    access: AccessFiles,
    roots: Roots,
) -> Result<ExitCode, String> {
    let mut config = Config::default();
    let mut status = ExitCode::SUCCESS;
    match &file {
        None => print("no configuration file: the defaults\n"),
        Some(path) => {
            let bytes = config::read_file(path).map_err(|e| e.to_string())?;
            if Collector::is_in(&SCHEMA, &bytes) {
                return check_collector(path, lenient, &access);
            }
            let mut loaded = SCHEMA.load(path).map_err(|e| e.to_string())?;
            let text = String::from_utf8_lossy(&loaded.text);
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            loaded.warnings.extend(unknown_names(text, &loaded.config));
            status = print_warnings(path, &loaded.warnings, lenient, "");
            config = loaded.config;
        }
    }
    let access = AccessFiles {
        tokens: access.tokens.or(config.management.token_file.clone()),
        ..access
    };
    check_access(&access)?;
    let mut board = Board::detect(roots);
    let asked = config.device_type.clone();
    let found = board.device_type().to_string();
    if asked == "auto" {
        config.device_type.clone_from(&found);
    }
    let model = board.model.as_deref().unwrap_or("unknown");
    let port = |port: Option<u16>| port.map_or("none".to_string(), |port| port.to_string());
    let hostname = config.hostname.as_deref().unwrap_or(&board.hostname);
    print(&format!(
        "device_type: {asked} ({found} on this board, model {model})\nhostname: {hostname}\ninterval: {} s\n\
         ports: {} for metrics, {} for management\n",
        config.interval.as_secs_f64(),
        port(config.port),
        port(config.reload_port),
    ));
    print(&match &config.metrics {
        None => "metrics: everything that is found\n".to_string(),
        Some(names) if names.is_empty() => match config.self_metrics {
            true => "metrics: none but the exporter's own\n".to_string(),
            false => "metrics: none: nothing is exported\n".to_string(),
        },
        Some(names) => format!(
            "metrics: {} of the {} named\n",
            names.values().filter(|on| **on).count(),
            names.len()
        ),
    });
    let meters = select_meters(&mut board, &config).meters;
    if meters.is_empty() {
        print("sources: none on this board\n");
    }
    for (meter, reason) in meters {
        print(&format!("source {}: {reason}\n", meter.name));
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
    Ok(status)
}

/// Prints the warnings, and `good` with `for_role` if the file can be used as it is. Returns the exit status for the names that
/// nothing has.
fn print_warnings(path: &Path, warnings: &[Diagnostic], lenient: bool, for_role: &str) -> ExitCode {
    let origin = Origin::File(path.to_owned());
    for warning in warnings {
        print(&format!("{}\n", warning.with(&origin)));
    }
    if lenient || !warnings.iter().any(|warning| warning.is_unknown_name) {
        print(&format!("{}: good{for_role}\n", path.display()));
        return ExitCode::SUCCESS;
    }
    print_error(&format!(
        "{} has unknown names, which are ignored: correct or remove them; --lenient accepts them",
        path.display()
    ));
    ExitCode::from(UNKNOWN_NAMES)
}

/// Does the same for a file of `collect`, without flags and environment.
fn check_collector(path: &Path, lenient: bool, access: &AccessFiles) -> Result<ExitCode, String> {
    let (config, warnings) = Collector::load(Some(path), &[])?;
    let status = print_warnings(path, &warnings, lenient, ", for `collect`");
    check_access(access)?;
    let namespace = config.namespace.as_deref();
    print(&format!(
        "interval: {} s\nnamespace: {}\nport: {}\n",
        config.interval.as_secs_f64(),
        namespace.unwrap_or("the service account's, else default"),
        config.port,
    ));
    check_server("prometheus", &config.url, &config.http);
    Ok(status)
}

fn check_access(access: &AccessFiles) -> Result<(), String> {
    for warning in AccessControl::check(access)? {
        print(&format!("{warning}\n"));
    }
    for path in [&access.web_config, &access.tokens].into_iter().flatten() {
        print(&format!("{}: good\n", path.display()));
    }
    Ok(())
}

/// Prints the URL of a server, and errors in the files for login and TLS.
fn check_server(what: &str, url: &str, settings: &Settings) {
    print(&format!("{what}: {}\n", url_without_secrets(url)));
    // No request is sent.
    let limits = Limits {
        timeout: Duration::ZERO,
        body: 0,
    };
    let client = Client::new(settings.clone(), limits);
    if let Err(why) = client.and_then(|client| client.check(url)) {
        print(&format!("{what}: {why}\n"));
    }
}
