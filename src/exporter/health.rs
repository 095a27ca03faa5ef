//! `GET /health`: the state of the exporter, for programs.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use serde_json::{json, Map, Value};

use super::Exporter;
use crate::config::Origin;
use crate::sources::{reached_limits, RunningSource, NO_POWER_HELP};
use crate::store::{CentralServer, Status};
use crate::sys::calendar::rfc3339;
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::sort::sort;

impl Exporter {
    /// The keys of seed 001's later versions, and what they lacked: the state of the configuration and of each source.
    pub(super) fn health(&self) -> Value {
        let now = BootTime::now();
        // This flag is read before the sources, which may be set up at this moment.
        let set_up = self.set_up.load(Ordering::Acquire);
        let sources = self.sources();
        let status = self.store.status();
        let identity = lock::read(&self.identity).clone();
        let metrics = self.metrics();
        let no_power = || {
            // As `doctor` has it: a source that cannot be read might measure power.
            let electric = |name: &str| name.contains("_watts") || name.contains("_ampere");
            let families = self.registry.switchable();
            let might = families.iter().any(|(name, _)| electric(name))
                || !sources.iter().all(|s| s.context().group.is_fresh(now));
            (set_up && !might).then(|| self.no_power())
        };
        let errors = sources
            .iter()
            .filter_map(|s| s.context().health.last_error());
        let read_at = sources.iter().filter_map(|s| s.context().group.read_at());
        let last_collection = read_at.max().and_then(|at| {
            let offset = self.clock.offset()?;
            Some(rfc3339(offset.stamp_ms(at).div_euclid(1000)))
        });
        let status_word = match set_up {
            true => overall_status(&sources, &status, now),
            false => "starting",
        };
        let mut health = json!({
            "status": status_word,
            "device_id": identity.hostname,
            "device_type": identity.device_type,
            "uptime_seconds": now.seconds_since(self.started_at).round(),
            "last_collection": last_collection,
            "last_error": errors.chain(status.refusal.iter().map(|r| r.message.clone())).next(),
            "metrics_count": metrics.len(),
            "enabled_metrics": metrics.values().filter(|on| **on == Value::Bool(true)).count(),
            "version": env!("CARGO_PKG_VERSION"),
            "log_dropped_lines": crate::logging::dropped_lines(),
            "config": configuration(&status),
            "config_server": self.store.remote().map(server),
            "sources": sources.iter().map(|s| source(s, now)).collect::<Vec<_>>(),
        });
        if let Some(no_power) = no_power() {
            health["no_power"] = no_power;
        }
        health
    }

    /// Which meters were looked for where none measures power, and what would help.
    fn no_power(&self) -> Value {
        let missing = lock::read(&self.missing_meters);
        let looked_for = missing.iter();
        let looked_for: Vec<_> = looked_for
            .map(|(name, missing)| json!({"source": name, "missing": missing}))
            .collect();
        json!({"looked_for": looked_for, "help": NO_POWER_HELP})
    }

    /// Why the board is degraded; a refused configuration does not count, as the central server learns of that
    /// otherwise. The outer `None`: the exporter is starting, and its state is not known.
    pub(super) fn degraded(&self) -> Option<Option<String>> {
        let now = BootTime::now();
        let is_set_up = self.set_up.load(Ordering::Acquire);
        let sources = self.sources();
        let is_settled = |source: &Arc<RunningSource>| source.context().group.is_settled();
        if !is_set_up || !sources.iter().all(is_settled) {
            return None;
        }
        let unread = sources.iter().find(|s| !s.context().group.is_fresh(now));
        let unread = unread.map(|source| {
            let context = source.context();
            let name = [source.meter().name, &context.device.name].join(" ");
            let error = context.health.last_error();
            let error = error.unwrap_or_else(|| "it is not read".to_string());
            format!("{}: {error}", name.trim_end())
        });
        let unsaved = || {
            let why = self.store.status().unsaved?;
            Some(format!("settings are not saved: {why}"))
        };
        Some(unread.or_else(unsaved))
    }

    /// Whether each metric that can be switched is exported, by name.
    pub(super) fn metrics(&self) -> Map<String, Value> {
        let config = self.store.current();
        let listed = config.metrics.iter().flatten();
        let mut metrics: Vec<_> = listed.map(|(name, on)| (name.clone(), *on)).collect();
        let found = self.registry.switchable().into_iter();
        metrics.extend(found.filter(|(name, _)| {
            let listed = config.metrics.as_ref();
            listed.is_none_or(|listed| !listed.contains_key(name))
        }));
        sort(&mut metrics);
        let entries = metrics.into_iter();
        entries.map(|(name, on)| (name, Value::Bool(on))).collect()
    }
}

impl Exporter {
    /// The names that `metrics:` lists as true and nothing on this board has; `None` while sources are still being
    /// tried.
    pub(super) fn unknown_metrics(&self) -> Option<Vec<String>> {
        let sources = self.sources();
        let are_known = sources.iter().all(|s| s.context().group.is_settled());
        if !are_known || !self.set_up.load(Ordering::Acquire) {
            return None;
        }
        let config = self.store.current();
        let found = self.registry.switchable();
        let known = found.iter().map(|(name, _)| name.as_str());
        Some(config.unknown_metrics(&known.collect()))
    }
}

/// `starting` until every source has been tried; `healthy` when all are read and the configuration is as the user wants
/// it; else `degraded`.
fn overall_status(sources: &[Arc<RunningSource>], status: &Status, now: BootTime) -> &'static str {
    if sources.iter().any(|s| !s.context().group.is_settled()) {
        return "starting";
    }
    let is_read = sources.iter().all(|s| s.context().group.is_fresh(now));
    match is_read && status.refusal.is_none() && status.unsaved.is_none() {
        true => "healthy",
        false => "degraded",
    }
}

fn configuration(status: &Status) -> Value {
    let (source, path) = match &status.origin {
        Origin::File(path) => ("file", Some(path.display().to_string())),
        Origin::Preset(name) => ("preset", Some((*name).to_string())),
        Origin::Defaults => ("defaults", None),
        Origin::Server(url) => ("server", Some(url.clone())),
    };
    json!({
        "source": source,
        "path": path,
        "loaded_at": rfc3339(status.loaded_at),
        "saved": status.unsaved.is_none(),
        "not_saved_because": status.unsaved,
        "error": status.refusal.as_ref().map(|refusal| &refusal.message),
        "error_at": status.refusal.as_ref().map(|refusal| rfc3339(refusal.at)),
    })
}

fn server(remote: &CentralServer) -> Value {
    let server = remote.status();
    json!({
        "url": remote.url(),
        "answered": server.answered,
        "unsent": server.unsent,
    })
}

fn source(running: &RunningSource, now: BootTime) -> Value {
    let context = running.context();
    let device = Some(&context.device.name).filter(|name| !name.is_empty());
    json!({
        "source": running.meter().name,
        "device": device,
        "up": context.group.is_fresh(now),
        "error": context.health.last_error(),
        "complaints": context.health.value_errors(),
        "limits": reached_limits(&context.group, &context.health),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_starting_until_sources_are_set_up() {
        let exporter = Exporter::idle();
        assert_eq!(exporter.health()["status"], "starting");
        assert!(exporter.health()["no_power"].is_null());
        exporter.set_up.store(true, Ordering::Release);
        let health = exporter.health();
        assert_eq!(health["status"], "healthy");
        // Nothing is read, and so no power either.
        let help = health["no_power"]["help"].as_str().unwrap();
        assert!(help.contains("doctor --network"), "{help}");
    }
}
