//! The schema: which key goes where, as what kind of value.

use super::keys::Keys;
use super::model::Config;
use super::schema::Schema;
use super::section::{top, Problem, Section};
use super::tree::Node;
use super::values;

/// What was read, and what `check` wants to know besides.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) config: Config,
    /// The old `enabled_metrics`, if it is there.
    pub(crate) enabled_metrics: Option<Vec<String>>,
    /// Nobody wrote anything.
    pub(crate) empty: bool,
    pub(crate) keys: Keys,
}

/// Takes the configuration out of the document.
pub(crate) fn read(schema: &Schema, root: &Node) -> Result<Reading, Problem> {
    let entries = top(root)?;
    let mut reading = Reading {
        empty: entries.is_empty(),
        ..Reading::default()
    };
    let mut config = Config::default();

    let mut top = Section::new(Vec::new(), entries, &mut reading.keys);
    top.set("device_type", values::device_type, &mut config.device_type)?;
    top.set("interval", values::seconds, &mut config.interval)?;
    top.set("port", values::port_or_off, &mut config.port)?;
    top.set("reload_port", values::port_or_off, &mut config.reload_port)?;
    top.option(
        "listen_address",
        values::address,
        &mut config.listen_address,
    )?;
    top.option("hostname", values::label, &mut config.hostname)?;
    top.set("labels", values::flag, &mut config.labels)?;
    top.set("self_metrics", values::flag, &mut config.self_metrics)?;
    top.option("landing", values::landing, &mut config.landing)?;
    top.option("sources", values::sources, &mut config.sources)?;
    config.metrics = top.take_even_empty("metrics", values::metrics)?;
    let enabled_metrics = top.take_even_empty("enabled_metrics", values::metric_names)?;

    top.set("watch", values::flag, &mut config.watch)?;
    top.section("management", |management| {
        let config = &mut config.management;
        management.set("allow_remote", values::flag, &mut config.allow_remote)?;
        management.set("hosts", values::hosts, &mut config.hosts)?;
        management.option("token_file", values::path, &mut config.token_file)
    })?;
    top.section("history", |history| {
        history.set("seconds", values::keep, &mut config.history.keep)?;
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

    reading.config = config;
    reading.enabled_metrics = enabled_metrics;
    Ok(reading)
}

impl Schema {
    /// Every key there is, dotted (`jetson.sudo`), sections included.
    pub fn known_keys(&self) -> Vec<String> {
        read(self, &Node::Null).map_or_else(|_| Vec::new(), |reading| reading.keys.known)
    }
}
