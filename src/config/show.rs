//! The configuration in force as JSON, under the keys of the file. What it says can be written to a file as it is; but
//! secrets are not shown.

use std::time::Duration;

use serde_json::{json, Map, Value};

use super::model::{
    Config, History, Ina260, Ina260Chip, Jetson, Management, Multirate, Nvidia, Plug, Rapl,
    RaplInterface, RaplUnit, Rpi, Shelly, Switch, Sysfs, Udp, UdpAgent, UdpMode,
};
use super::secret::Secret;
use super::show_remote_write;

/// What stands in the place of a secret.
pub(super) const HIDDEN: &str = "<secret>";

/// All settings, the defaults included, in the order of the template. What has no default and is not set is left out.
pub fn to_json(config: &Config) -> Value {
    // Taking it apart makes the compiler ask for whatever is added.
    let Config {
        device_type,
        interval,
        port,
        reload_port,
        listen_address,
        hostname,
        labels,
        self_metrics,
        landing,
        sources,
        metrics,
        watch,
        management:
            Management {
                allow_remote,
                hosts,
                token_file,
            },
        history:
            History {
                keep,
                bytes,
                window_statistics,
                rows,
            },
        multirate: Multirate {
            on_metrics,
            consumers,
        },
        jetson,
        rpi: Rpi { enabled: rpi },
        nvidia:
            Nvidia {
                enabled: nvidia,
                nvidia_smi,
                wake_suspended,
            },
        rapl,
        hwmon,
        power_supply,
        thermal,
        shelly,
        ina260,
        udp,
        udp_agent:
            UdpAgent {
                enabled: agent,
                port: agent_port,
                voltage: agent_voltage,
            },
        remote_write,
        config_server,
        config_poll,
    } = config;
    without_nulls(json!({
        "device_type": device_type,
        "interval": seconds(*interval),
        "port": or_off(*port),
        "reload_port": or_off(*reload_port),
        "listen_address": listen_address,
        "hostname": hostname,
        "labels": labels,
        "self_metrics": self_metrics,
        "landing": landing,
        "sources": sources,
        "metrics": metrics,
        "watch": watch,
        "management": {"allow_remote": allow_remote, "hosts": hosts, "token_file": token_file},
        "history": {
            "seconds": seconds(*keep),
            "bytes": bytes,
            "rows": rows,
            "window_statistics": window_statistics,
        },
        "multirate": {"on_metrics": on_metrics, "consumers": consumers},
        "jetson": jetson_json(jetson),
        "rpi": {"enabled": switch(*rpi)},
        "nvidia": {
            "enabled": switch(*nvidia),
            "nvidia_smi": nvidia_smi,
            "wake_suspended": wake_suspended,
        },
        "rapl": rapl_json(rapl),
        "hwmon": hwmon_json(hwmon),
        "power_supply": {
            "enabled": switch(power_supply.enabled),
            "power_total": power_supply.power_total,
        },
        "thermal": {"enabled": switch(thermal.enabled)},
        "shelly": shelly_json(shelly),
        "ina260": ina260_json(ina260),
        "udp": udp_json(udp),
        "udp_agent": {"enabled": agent, "port": agent_port, "voltage": agent_voltage},
        "remote_write": remote_write.iter().map(show_remote_write::to_json).collect::<Vec<_>>(),
        "config_server": show_remote_write::central_json(config_server),
        "config_poll": config_poll.map(seconds),
    }))
}

fn jetson_json(jetson: &Jetson) -> Value {
    let Jetson {
        enabled,
        use_tegrastats,
        tegrastats,
        sudo,
    } = jetson;
    json!({
        "enabled": switch(*enabled),
        "use_tegrastats": use_tegrastats,
        "tegrastats": tegrastats,
        "sudo": sudo,
    })
}

fn rapl_json(rapl: &Rapl) -> Value {
    let Rapl {
        enabled,
        interface,
        metric,
        metric_help,
        metric_label,
        metric_unit,
        duration_metric,
        duration_help,
    } = rapl;
    json!({
        "enabled": switch(*enabled),
        "interface": match interface {
            RaplInterface::Auto => "auto",
            RaplInterface::Powercap => "powercap",
            RaplInterface::Msr => "msr",
        },
        "metric": metric,
        "metric_help": metric_help,
        "metric_label": metric_label,
        "metric_unit": match metric_unit {
            RaplUnit::Watts => "watts",
            RaplUnit::Microjoules => "microjoules",
        },
        "duration_metric": duration_metric,
        "duration_help": duration_help,
    })
}

fn hwmon_json(hwmon: &Sysfs) -> Value {
    let Sysfs {
        enabled,
        power_total,
        wake_suspended,
    } = hwmon;
    json!({
        "enabled": switch(*enabled),
        "power_total": power_total,
        "wake_suspended": wake_suspended,
    })
}

fn shelly_json(shelly: &Shelly) -> Value {
    let Shelly {
        enabled,
        power_total,
        plugs,
    } = shelly;
    let plug = |plug: &Plug| {
        let Plug {
            host,
            name,
            switch_id,
            username,
            password,
            password_file,
        } = plug;
        json!({
            "host": host,
            "name": name,
            "switch_id": switch_id,
            "username": username,
            "password": password.as_ref().map(|_: &Secret| HIDDEN),
            "password_file": password_file,
        })
    };
    json!({
        "enabled": switch(*enabled),
        "power_total": power_total,
        "devices": plugs.iter().map(plug).collect::<Vec<_>>(),
    })
}

fn ina260_json(ina260: &Ina260) -> Value {
    let Ina260 {
        enabled,
        chips,
        power_total,
    } = ina260;
    let chip = |chip: &Ina260Chip| {
        let Ina260Chip {
            name,
            bus,
            address,
            averaging,
            voltage_conversion_us,
            current_conversion_us,
            triggered,
        } = chip;
        json!({
            "name": name,
            "i2c_bus": bus,
            "i2c_address": address,
            "averaging": averaging.map_or_else(|| json!("auto"), |count| json!(count)),
            "voltage_conversion_us": voltage_conversion_us,
            "current_conversion_us": current_conversion_us,
            "mode": if *triggered { "triggered" } else { "continuous" },
        })
    };
    json!({
        "enabled": switch(*enabled),
        "chips": chips.iter().map(chip).collect::<Vec<_>>(),
        "power_total": power_total,
    })
}

fn udp_json(udp: &Udp) -> Value {
    let Udp {
        enabled,
        host,
        port,
        mode,
        channel,
        interval,
        timeout,
        voltage,
        start_at_zero,
    } = udp;
    json!({
        "enabled": switch(*enabled),
        "host": host,
        "port": port,
        "mode": match mode {
            UdpMode::Request => "request",
            UdpMode::Listen => "listen",
            UdpMode::Subscribe => "subscribe",
        },
        "channel": channel,
        "interval": interval.map(seconds),
        "timeout": seconds(*timeout),
        "voltage": voltage,
        "start_at_zero": start_at_zero,
    })
}

fn switch(switch: Switch) -> Value {
    match switch {
        Switch::Auto => json!("auto"),
        Switch::On => json!(true),
        Switch::Off => json!(false),
    }
}

fn or_off(port: Option<u16>) -> Value {
    port.map_or_else(|| json!("off"), |port| json!(port))
}

/// A whole number, where it is one.
pub(super) fn seconds(duration: Duration) -> Value {
    match duration.subsec_nanos() {
        0 => json!(duration.as_secs()),
        _ => json!(duration.as_secs_f64()),
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let entries = entries.into_iter().filter(|(_, value)| !value.is_null());
            let entries = entries.map(|(key, value)| (key, without_nulls(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{known_keys, parse};

    /// JSON is YAML: what is shown reads as the configuration that it was, of every golden case and of the template.
    #[test]
    fn what_is_shown_is_the_configuration() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let cases = std::fs::read_dir(root.join("tests/config")).unwrap();
        let files = cases.map(|case| case.unwrap().path().join("config.yaml"));
        let mut shown = 0;
        for file in files.chain([root.join("config.yaml.template")]) {
            let Ok(text) = std::fs::read_to_string(&file) else {
                continue;
            };
            let Ok((mut config, _)) = parse(&text) else {
                continue;
            };
            for plug in &mut config.shelly.plugs {
                plug.password = plug.password.take().map(|_| Secret::new(HIDDEN));
            }
            show_remote_write::hide_client(&mut config.config_server.client);
            for entry in &mut config.remote_write {
                *entry = show_remote_write::hide(entry);
                // JSON has them in the order of their names.
                entry.external_labels.sort();
                entry.client.headers.sort_by(|a, b| a.0.cmp(&b.0));
            }
            let (again, warnings) = parse(&to_json(&config).to_string()).unwrap();
            assert_eq!(again, config, "{}", file.display());
            let unknown = warnings.iter().find(|w| w.message.contains("unknown"));
            assert_eq!(unknown, None, "{}", file.display());
            shown += 1;
        }
        assert!(shown > 50, "{shown}");
    }

    #[test]
    fn no_secret_is_shown_and_every_key_is() {
        let text = "shelly: {host: a, password: hunter2, password_file: /x}\nina260: {i2c_address: 0x40}\n";
        let config = parse(text).unwrap().0;
        let shown = to_json(&config);
        assert!(!shown.to_string().contains("hunter2"));
        assert_eq!(shown["shelly"]["devices"][0]["password"], HIDDEN);
        for key in known_keys() {
            let top = key.split('.').next().unwrap();
            let optional = [
                "listen_address",
                "hostname",
                "landing",
                "sources",
                "metrics",
                "enabled_metrics",
                "config_poll",
            ];
            assert!(shown.get(top).is_some() || optional.contains(&top), "{key}");
        }
    }
}
