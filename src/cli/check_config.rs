//! `check-config`: validates a configuration file and prints what would be run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::print;
use crate::config::{self, Collector, Config};
use crate::config::{url_without_secrets, ClientSettings as Settings};
use crate::http::client::{Client, Limits};
use crate::http::{AccessControl, AccessFiles};
use crate::sources::SCHEMA;
use crate::sources::{select_meters, unknown_sources, Board, Roots};

/// Validates the file and prints what would be run. A collector's file is recognised by its keys.
pub(super) fn check_config(
    file: Option<PathBuf>,
    access: AccessFiles,
    roots: Roots,
) -> Result<(), String> {
    let mut config = Config::default();
    match &file {
        None => print("no configuration file: the defaults\n"),
        Some(path) => {
            let bytes = config::read_file(path).map_err(|e| e.to_string())?;
            if Collector::is_in(&SCHEMA, &bytes) {
                return check_collector(path, &access);
            }
            let loaded = SCHEMA.load(path).map_err(|e| e.to_string())?;
            for warning in &loaded.warnings {
                print(&format!("{}\n", warning.with(&loaded.origin)));
            }
            print(&format!("{}: good\n", path.display()));
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
    for name in unknown_sources(&config) {
        print(&format!("`sources` names {name}, which is no source\n"));
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
    Ok(())
}

/// Does the same for a file of `collect`, without flags and environment.
fn check_collector(path: &Path, access: &AccessFiles) -> Result<(), String> {
    let (config, warnings) = Collector::load(Some(path), &[])?;
    for warning in warnings {
        print(&format!("{warning}\n"));
    }
    let shown_path = path.display();
    print(&format!("{shown_path}: good, for `collect`\n"));
    check_access(access)?;
    let namespace = config.namespace.as_deref();
    print(&format!(
        "interval: {} s\nnamespace: {}\nport: {}\n",
        config.interval.as_secs_f64(),
        namespace.unwrap_or("the service account's, else default"),
        config.port,
    ));
    check_server("prometheus", &config.url, &config.http);
    Ok(())
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
