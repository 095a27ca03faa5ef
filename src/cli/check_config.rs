//! `check-config`: what would be run, or what is wrong with the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::say;
use crate::config::{self, Collector, Config};
use crate::http::client::{shown, Client, Limits, Settings};
use crate::http::{AccessFiles, Gate};
use crate::sources::{chosen, unknown, Board, Roots};

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
            if Collector::is_in(&bytes) {
                return check_collector(path, &access);
            }
            let loaded = config::load(path).map_err(|e| e.to_string())?;
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
    let mut board = Board::look(roots);
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
    for entry in &config.remote_write {
        let place = shown(&entry.url);
        say(&format!("remote_write {}: {place}\n", entry.name));
        say_of_client(
            &format!("remote_write {}", entry.name),
            entry.client.clone(),
            &entry.url,
        );
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
        "prometheus: {}\ninterval: {} s\nnamespace: {}\nport: {}\n",
        shown(&config.url),
        config.interval.as_secs_f64(),
        namespace.unwrap_or("the service account's, else default"),
        config.port,
    ));
    say_of_client("prometheus", config.http, &config.url);
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

/// Says what is wrong with the files that somebody who asks this server needs.
fn say_of_client(who: &str, settings: Settings, url: &str) {
    let limits = Limits {
        timeout: Duration::ZERO,
        body: 0,
    };
    let client = Client::new(settings, limits);
    if let Err(why) = client.and_then(|client| client.check(url)) {
        say(&format!("{who}: {why}\n"));
    }
}
