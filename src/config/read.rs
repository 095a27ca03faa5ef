//! Reads the exporter's configuration from a parsed document: for each key, the type of its value and the field of
//! [`Config`] that it sets.
//!
//! A [`Section`] is one mapping of the document. `set` overwrites a field, which holds the default until then, if the key has
//! a value. `option` does so for a field that is `None` by default. `get_even_if_empty` returns the value, also that of a key
//! with nothing after its colon. `section` descends into the mapping below a key. The sections of the meters, `remote_write`
//! and `config_server` are read by their own modules. Keys that none of these reads are recorded as unknown, which is a
//! warning.

use super::keys::KeyUsage;
use super::labels;
use super::model::Config;
use super::schema::Schema;
use super::section::{root_entries, Problem, Section};
use super::tree::Node;
use super::values;

/// A configuration whose values are each valid, and what `check` needs in addition to validate them together.
#[derive(Debug, Default)]
pub(crate) struct UncheckedConfig {
    pub(crate) config: Config,
    /// The value of `enabled_metrics`, the old form of `metrics`, if the document has that key.
    pub(crate) enabled_metrics: Option<Vec<String>>,
    /// Whether the document has no keys at all.
    pub(crate) is_empty: bool,
    /// Which keys are known, unknown or without effect.
    pub(crate) keys: KeyUsage,
}

/// Reads the configuration from the root of a document.
pub(crate) fn read(schema: &Schema, root: &Node) -> Result<UncheckedConfig, Problem> {
    let entries = root_entries(root)?;
    let mut unchecked = UncheckedConfig {
        is_empty: entries.is_empty(),
        ..UncheckedConfig::default()
    };
    let mut config = Config::default();

    let mut top = Section::new(Vec::new(), entries, &mut unchecked.keys);
    top.set("device_type", values::device_type, &mut config.device_type)?;
    top.set("interval", values::interval, &mut config.interval)?;
    top.set("realtime", values::flag, &mut config.realtime)?;
    top.set("port", values::port_or_off, &mut config.port)?;
    top.set("reload_port", values::port_or_off, &mut config.reload_port)?;
    top.option(
        "listen_address",
        values::address,
        &mut config.listen_address,
    )?;
    top.option("hostname", values::label, &mut config.hostname)?;
    top.set("labels", values::flag, &mut config.labels)?;
    top.set(
        labels::CONSTANT_LABELS,
        labels::constant_labels,
        &mut config.constant_labels,
    )?;
    top.set("self_metrics", values::flag, &mut config.self_metrics)?;
    top.option("landing", values::landing, &mut config.landing)?;
    top.option("sources", values::sources, &mut config.sources)?;
    // An empty `metrics` is not the default, which is to export everything: it exports only the exporter's own metrics.
    config.metrics = top.get_even_if_empty("metrics", values::metrics)?;
    let enabled_metrics = top.get_even_if_empty("enabled_metrics", values::metric_names)?;

    top.set("watch", values::flag, &mut config.watch)?;
    top.section("management", |management| {
        let config = &mut config.management;
        management.set("allow_remote", values::flag, &mut config.allow_remote)?;
        management.set("hosts", values::hosts, &mut config.hosts)?;
        management.option("token_file", values::path, &mut config.token_file)
    })?;
    top.section("history", |history| {
        history.set("seconds", values::history_seconds, &mut config.history.keep)?;
        history.set("bytes", values::bytes, &mut config.history.bytes)?;
        history.option("rows", values::rows, &mut config.history.rows)?;
        history.set(
            "window_statistics",
            values::flag,
            &mut config.history.window_statistics,
        )
    })?;
    top.section("multirate", |multirate| {
        let config = &mut config.multirate;
        multirate.set("on_metrics", values::flag, &mut config.on_metrics)?;
        multirate.set("consumers", values::consumers, &mut config.consumers)
    })?;
    config.meters = schema.read(&mut top)?;
    top.section("udp_agent", |agent| {
        let config = &mut config.udp_agent;
        agent.set("enabled", values::flag, &mut config.enabled)?;
        agent.set("port", values::port, &mut config.port)?;
        agent.option("voltage", values::volts, &mut config.voltage)
    })?;
    config.remote_write = super::remote_write::read(&mut top)?;
    top.section("config_server", |section| {
        super::central::read(section, &mut config.config_server)
    })?;
    top.option("config_poll", values::seconds, &mut config.config_poll)?;
    top.finish();

    unchecked.config = config;
    unchecked.enabled_metrics = enabled_metrics;
    Ok(unchecked)
}

impl Schema {
    /// All known keys, dotted (`jetson.sudo`), including the sections themselves. Keys become known by being looked up, so an
    /// empty document is read.
    pub fn known_keys(&self) -> Vec<String> {
        read(self, &Node::Null).map_or_else(|_| Vec::new(), |unchecked| unchecked.keys.known)
    }
}
