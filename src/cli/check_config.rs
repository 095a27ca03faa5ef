//! `check-config`: what would be run, or what is wrong with the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::say;
use crate::config::{self, Collector, Config};
use crate::config::{shown, ClientSettings as Settings};
use crate::http::client::{Client, Limits};
use crate::http::{AccessFiles, Gate};
use crate::sources::SCHEMA;
use crate::sources::{select_meters, unknown_sources, Board, Roots};

/// Says what would be run, or what is wrong. A collector's file is known by its keys.
pub(super) fn check_config(
    file: Option<PathBuf>,
    access: AccessFiles,
    roots: Roots,
) -> Result<(), String> {
    let mut config = Config::default();
    match &file {
        None => say("no configuration file: the defaults\n"),
        Some(path) => {
            let bytes = config::read_file(path).map_err(|e| e.to_string())?;
            if Collector::is_in(&SCHEMA, &bytes) {
                return check_collector(path, &access);
            }
            let loaded = SCHEMA.load(path).map_err(|e| e.to_string())?;
            for warning in &loaded.warnings {
                say(&format!("{}\n", warning.with(&loaded.origin)));
            }
            say(&format!("{}: good\n", path.display()));
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
    say(&format!(
        "device_type: {asked} ({found} on this board, model {model})\nhostname: {hostname}\ninterval: {} s\n\
         ports: {} for metrics, {} for management\n",
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
    let meters = select_meters(&mut board, &config);
    if meters.is_empty() {
        say("sources: none on this board\n");
    }
    for name in unknown_sources(&config) {
        say(&format!("`sources` names {name}, which is no source\n"));
    }
    for (meter, reason) in meters {
        say(&format!("source {}: {reason}\n", meter.name));
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

/// What `collect --config` would make of the file, whatever flags and environment say besides.
fn check_collector(path: &Path, access: &AccessFiles) -> Result<(), String> {
    let (config, warnings) = Collector::load(Some(path), &[])?;
    for warning in warnings {
        say(&format!("{warning}\n"));
    }
    let shown_path = path.display();
    say(&format!("{shown_path}: good, for `collect`\n"));
    check_access(access)?;
    let namespace = config.namespace.as_deref();
    say(&format!(
        "interval: {} s\nnamespace: {}\nport: {}\n",
        config.interval.as_secs_f64(),
        namespace.unwrap_or("the service account's, else default"),
        config.port,
    ));
    check_server("prometheus", &config.url, &config.http);
    Ok(())
}

fn check_access(access: &AccessFiles) -> Result<(), String> {
    for warning in Gate::check(access)? {
        say(&format!("{warning}\n"));
    }
    for path in [&access.web_config, &access.tokens].into_iter().flatten() {
        say(&format!("{}: good\n", path.display()));
    }
    Ok(())
}

/// Says which server would be asked, and what of the files by which it is asked cannot be used.
fn check_server(what: &str, url: &str, settings: &Settings) {
    say(&format!("{what}: {}\n", shown(url)));
    // Nothing is asked here.
    let limits = Limits {
        timeout: Duration::ZERO,
        body: 0,
    };
    let client = Client::new(settings.clone(), limits);
    if let Err(why) = client.and_then(|client| client.check(url)) {
        say(&format!("{what}: {why}\n"));
    }
}
