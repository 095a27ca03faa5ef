//! The schema: which key goes where, as what kind of value.

use super::ina260;
use super::keys::Keys;
use super::model::{Config, Ina260};
use super::section::{top, Problem, Section};
use super::tree::Node;
use super::values;

/// What was read, and what `check` wants to know besides.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) config: Config,
    /// The old `enabled_metrics`, if it is there.
    pub(super) enabled_metrics: Option<Vec<String>>,
    /// Nobody wrote anything.
    pub(super) empty: bool,
    pub(super) keys: Keys,
}

/// Takes the configuration out of the document.
pub(super) fn read(root: &Node) -> Result<Reading, Problem> {
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
    top.section("jetson", |jetson| {
        jetson.set("enabled", values::switch, &mut config.jetson.enabled)?;
        jetson.set(
            "use_tegrastats",
            values::flag,
            &mut config.jetson.use_tegrastats,
        )?;
        jetson.option("tegrastats", values::program, &mut config.jetson.tegrastats)?;
        jetson.set("sudo", values::flag, &mut config.jetson.sudo)
    })?;
    top.section("rpi", |rpi| {
        rpi.set("enabled", values::switch, &mut config.rpi.enabled)
    })?;
    top.section("nvidia", |nvidia| {
        nvidia.set("enabled", values::switch, &mut config.nvidia.enabled)?;
        nvidia.option("nvidia_smi", values::program, &mut config.nvidia.nvidia_smi)?;
        nvidia.set(
            "wake_suspended",
            values::flag,
            &mut config.nvidia.wake_suspended,
        )
    })?;
    top.section("rapl", |rapl| {
        rapl.set("enabled", values::switch, &mut config.rapl.enabled)?;
        let config = &mut config.rapl;
        rapl.set("interface", values::interface, &mut config.interface)?;
        rapl.option("metric", values::metric_name, &mut config.metric)?;
        rapl.option("metric_help", values::help, &mut config.metric_help)?;
        rapl.set("metric_label", values::label_name, &mut config.metric_label)?;
        rapl.set("metric_unit", values::rapl_unit, &mut config.metric_unit)?;
        rapl.option(
            "duration_metric",
            values::metric_name,
            &mut config.duration_metric,
        )?;
        rapl.option("duration_help", values::help, &mut config.duration_help)
    })?;
    for (name, sysfs) in [
        ("hwmon", &mut config.hwmon),
        ("power_supply", &mut config.power_supply),
    ] {
        top.section(name, |section| {
            section.set("enabled", values::switch, &mut sysfs.enabled)?;
            section.set("power_total", values::rails, &mut sysfs.power_total)?;
            match name {
                "hwmon" => section.set("wake_suspended", values::flag, &mut sysfs.wake_suspended),
                _ => Ok(()),
            }
        })?;
    }
    top.section("thermal", |thermal| {
        thermal.set("enabled", values::switch, &mut config.thermal.enabled)
    })?;
    top.section("shelly", |section| {
        super::shelly::read(section, &mut config.shelly)
    })?;
    top.section("ina260", |section| {
        let Ina260 {
            enabled,
            chips,
            power_total,
        } = &mut config.ina260;
        let mut common = ina260::Common::default();
        section.set("enabled", values::switch, enabled)?;
        section.set("i2c_bus", ina260::buses, &mut common.buses)?;
        section.set("i2c_address", ina260::addresses, &mut common.addresses)?;
        let chip = &mut common.chip;
        section.set("averaging", ina260::averaging, &mut chip.averaging)?;
        section.set(
            "voltage_conversion_us",
            ina260::conversion,
            &mut chip.voltage_conversion_us,
        )?;
        section.set(
            "current_conversion_us",
            ina260::conversion,
            &mut chip.current_conversion_us,
        )?;
        section.set("mode", ina260::triggered, &mut chip.triggered)?;
        *chips = common.chips();
        let more = |node: &Node| ina260::chips(node, &common);
        section.set("chips", more, chips)?;
        let rails = |node: &Node| ina260::power_total(node, chips);
        section.set("power_total", rails, power_total)
    })?;
    top.section("udp", |udp| {
        let config = &mut config.udp;
        udp.set("enabled", values::switch, &mut config.enabled)?;
        udp.option("host", values::host, &mut config.host)?;
        udp.set("port", values::port, &mut config.port)?;
        udp.set("mode", values::udp_mode, &mut config.mode)?;
        udp.set("channel", values::index, &mut config.channel)?;
        udp.option("interval", values::seconds, &mut config.interval)?;
        udp.set("timeout", values::seconds, &mut config.timeout)?;
        udp.option("voltage", values::volts, &mut config.voltage)?;
        udp.set("start_at_zero", values::flag, &mut config.start_at_zero)
    })?;
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

/// Every key there is, dotted (`jetson.sudo`), sections included, in the order of the template.
pub fn known_keys() -> Vec<String> {
    read(&Node::Null).map_or_else(|_| Vec::new(), |reading| reading.keys.known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_those_of_the_schema() {
        let keys = known_keys();
        assert_eq!(keys.first().map(String::as_str), Some("device_type"));
        for key in [
            "metrics",
            "jetson",
            "jetson.sudo",
            "power_supply.power_total",
        ] {
            assert!(keys.iter().any(|known| known == key), "{key} of {keys:?}");
        }
        let mut once = keys.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), keys.len());
    }

    /// Nothing a user is told to write may be unknown itself.
    #[test]
    fn a_known_key_is_never_reported() {
        for key in known_keys() {
            let node = key.rsplit('.').fold(Node::Null, |inner, name| {
                Node::Map(vec![(name.to_owned(), inner)])
            });
            // A plug needs a host besides, a receiver a URL.
            let Ok(reading) = read(&node) else {
                let lists = ["shelly.devices.", "remote_write."];
                assert!(lists.iter().any(|list| key.starts_with(list)), "{key}");
                continue;
            };
            assert_eq!(reading.keys.unknown, Vec::<Vec<String>>::new(), "{key}");
        }
    }
}
