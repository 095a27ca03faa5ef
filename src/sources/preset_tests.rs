//! Tests of the presets, with the settings of the meters.

use super::udp::settings::Settings as Udp;
use super::SCHEMA;
use crate::config::load::Loaded;
use crate::config::{check, read, CliOverrides, Preset, PRESETS};

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(a, b): &(&str, &str)| (a.to_string(), b.to_string());
    of.iter().map(owned).collect()
}

fn load(name: &str, given: &CliOverrides) -> Result<Loaded, String> {
    Preset::named(name).unwrap().load(&SCHEMA, given, None)
}

/// All keys in a preset are known to the schema.
#[test]
fn every_preset_is_a_valid_configuration() {
    let known = SCHEMA.known_keys();
    for preset in PRESETS {
        let (head, root) = preset.parse().unwrap();
        let reading = read::read(&SCHEMA, &root).unwrap();
        assert_eq!(
            reading.keys.unknown,
            Vec::<Vec<String>>::new(),
            "{}",
            preset.name
        );
        let (_, warnings) = check::check("", reading).unwrap();
        assert_eq!(warnings, [], "{}", preset.name);
        let keys = head
            .flags
            .iter()
            .chain(&head.environment)
            .map(|(_, key)| key);
        for key in keys.chain(&head.arguments).chain(&head.required) {
            let names = key.split('.').filter(|step| step.parse::<usize>().is_err());
            let name = names.collect::<Vec<_>>().join(".");
            assert!(known.contains(&name), "{}: {key}", preset.name);
        }
        assert_eq!(head.required.is_empty(), head.missing.is_empty());
    }
}

#[test]
fn arguments_override_the_environment() {
    let environment = pairs(&[("DEVICE_UDP_IP", "192.0.2.1"), ("DEVICE_UDP_PORT", "1")]);
    let given = CliOverrides {
        environment,
        ..CliOverrides::default()
    };
    let udp = load("power-exporter", &given)
        .unwrap()
        .config
        .meter::<Udp>();
    assert_eq!((udp.host.as_deref(), udp.port), (Some("192.0.2.1"), 1));

    let given = CliOverrides {
        arguments: vec!["192.0.2.2".into(), "2".into()],
        ..given
    };
    let udp = load("power-exporter", &given)
        .unwrap()
        .config
        .meter::<Udp>();
    assert_eq!((udp.host.as_deref(), udp.port), (Some("192.0.2.2"), 2));

    let given = CliOverrides {
        flags: pairs(&[("device-port", "3")]),
        ..given
    };
    let udp = load("power-exporter", &given)
        .unwrap()
        .config
        .meter::<Udp>();
    assert_eq!((udp.host.as_deref(), udp.port), (Some("192.0.2.2"), 3));
}

#[test]
fn errors_name_the_argument_or_variable() {
    let missing = load("power-exporter", &CliOverrides::default()).unwrap_err();
    assert_eq!(
        missing,
        "ENVs 'DEVICE_UDP_IP' and 'DEVICE_UDP_PORT' must be set when no arguments are given."
    );
    let half = [
        CliOverrides {
            arguments: vec!["192.0.2.1".into()],
            ..CliOverrides::default()
        },
        CliOverrides {
            flags: pairs(&[("device-ip", "192.0.2.1")]),
            ..CliOverrides::default()
        },
    ];
    for given in half {
        assert_eq!(
            load("power-exporter", &given).unwrap_err(),
            "`udp.port` is missing: power-exporter <UDP_IP> <UDP_PORT>"
        );
    }
    let given = CliOverrides {
        flags: pairs(&[("device-ip", "192.0.2.1"), ("device-port", "x")]),
        ..CliOverrides::default()
    };
    let wrong = load("power-exporter", &given).unwrap_err();
    assert!(wrong.starts_with("--device-port: `udp.port` is"), "{wrong}");
}

#[test]
fn file_overrides_the_preset_and_arguments_override_the_file() {
    let path = std::env::temp_dir().join(format!("eme-preset-{}.yaml", std::process::id()));
    std::fs::write(&path, "port: 8001\nudp: {voltage: 5.1, port: 9}\nprot: 1\n").unwrap();
    let given = CliOverrides {
        arguments: vec!["192.0.2.1".into(), "5000".into()],
        ..CliOverrides::default()
    };
    let preset = Preset::named("power-exporter").unwrap();
    let loaded = preset.load(&SCHEMA, &given, Some(&path));
    std::fs::write(&path, "interval: fast\n").unwrap();
    let wrong = preset.load(&SCHEMA, &given, Some(&path)).unwrap_err();
    std::fs::write(&path, "\u{feff}port: 8002\n").unwrap();
    let marked = preset.load(&SCHEMA, &given, Some(&path)).unwrap();
    std::fs::write(&path, b"# caf\xe9\n").unwrap();
    let latin = preset.load(&SCHEMA, &given, Some(&path)).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let Loaded {
        config, warnings, ..
    } = loaded.unwrap();
    assert_eq!(
        (config.port, config.meter::<Udp>().port),
        (Some(8001), 5000)
    );
    assert_eq!(config.meter::<Udp>().voltage, Some(5.1));
    assert!(config.meter::<Udp>().start_at_zero, "as the preset has it");
    assert_eq!(warnings[0].line, Some(3));
    assert!(wrong.contains(":1:11: "), "{wrong}");
    assert_eq!(marked.config.port, Some(8002));
    assert_eq!(marked.text, "\u{feff}port: 8002\n".as_bytes());
    assert!(
        latin.contains(":1:6: the byte 0xe9 is not UTF-8"),
        "{latin}"
    );
}

/// The defaults of the replaced program.
#[test]
fn power_exporter_has_the_defaults_of_the_replaced_program() {
    let given = CliOverrides {
        arguments: vec!["192.0.2.1".into(), "5000".into()],
        ..CliOverrides::default()
    };
    let config = load("power-exporter", &given).unwrap().config;
    assert_eq!((config.port, config.reload_port), (Some(8000), None));
    assert_eq!(config.listen_address, None, "all addresses");
    assert_eq!(config.interval.as_secs(), 3, "after an answer");
    assert_eq!(config.meter::<Udp>().interval, None, "the same");
    assert_eq!(config.meter::<Udp>().timeout.as_secs(), 5);
    let agent = load("udp-agent", &CliOverrides::default()).unwrap().config;
    assert_eq!((agent.port, agent.reload_port), (None, None));
    assert!(agent.udp_agent.enabled && agent.udp_agent.port == 5000);
}

/// The defaults of the replaced programs.
#[test]
fn pyjoules_clients_have_the_defaults_of_the_replaced_programs() {
    let simple = load("pyjoules-simple", &CliOverrides::default())
        .unwrap()
        .config;
    assert_eq!((simple.port, simple.reload_port), (Some(9091), None));
    assert_eq!(simple.interval.as_millis(), 100);
    assert!(!simple.labels && !simple.multirate.on_metrics);
    let given = CliOverrides {
        environment: pairs(&[
            ("EXPORTER_PORT", "9999"),
            ("SCRAPE_INTERVAL_SECONDS", "0.01"),
            ("MAX_QUEUE_LEN", "50"),
        ]),
        ..CliOverrides::default()
    };
    for (given, port, milliseconds, rows) in [
        (CliOverrides::default(), 9092, 100, 1000),
        (given, 9999, 10, 50),
    ] {
        let config = load("pyjoules-multirate", &given).unwrap().config;
        assert_eq!(config.port, Some(port));
        assert_eq!(config.interval.as_millis(), milliseconds);
        assert_eq!(config.history.rows, Some(rows));
        assert!(config.multirate.on_metrics);
    }
}

/// The defaults of the replaced program. Its variables set values in an item of a list.
#[test]
fn pyjoules_remote_write_has_the_defaults_of_the_replaced_program() {
    let given = CliOverrides {
        environment: pairs(&[
            ("REMOTE_WRITE_URL", "http://prometheus:9090/api/v1/write"),
            ("SAMPLING_PERIOD_S", "4"),
            ("BATCH_SIZE", "5"),
        ]),
        ..CliOverrides::default()
    };
    let local = "http://localhost:9090/api/v1/write";
    let there = "http://prometheus:9090/api/v1/write";
    for (given, url, milliseconds, readings) in [
        (CliOverrides::default(), local, 100, 100),
        (given, there, 4000, 5),
    ] {
        let config = load("pyjoules-remote-write", &given).unwrap().config;
        assert_eq!(config.interval.as_millis(), milliseconds);
        assert_eq!((config.port, config.reload_port), (None, None));
        let [entry] = &config.remote_write[..] else {
            panic!("{config:?}");
        };
        assert_eq!((&*entry.url, entry.timeout.as_secs()), (url, 5));
        assert_eq!(entry.queue.readings_per_send, Some(readings));
        assert_eq!((&*entry.job, entry.instance.as_deref()), ("", Some("")));
        assert_eq!(entry.protocol, crate::config::Protocol::V1);
    }
    let wrong = CliOverrides {
        environment: pairs(&[("BATCH_SIZE", "0")]),
        ..CliOverrides::default()
    };
    let wrong = load("pyjoules-remote-write", &wrong).unwrap_err();
    assert!(
        wrong.starts_with("BATCH_SIZE: `remote_write.queue_config.readings"),
        "{wrong}"
    );
}

/// The ports of the replaced programs.
#[test]
fn kepler_and_scaphandre_have_the_ports_of_the_replaced_programs() {
    let given = CliOverrides {
        environment: pairs(&[("NODE_NAME", "node-a")]),
        ..CliOverrides::default()
    };
    let kepler = load("kepler", &given).unwrap().config;
    assert_eq!((kepler.port, kepler.reload_port), (Some(28282), None));
    assert_eq!(kepler.hostname.as_deref(), Some("node-a"));
    let given = CliOverrides {
        flags: pairs(&[("address", "127.0.0.1")]),
        ..CliOverrides::default()
    };
    let scaphandre = load("scaphandre", &given).unwrap().config;
    assert_eq!(
        (scaphandre.port, scaphandre.reload_port),
        (Some(8080), None)
    );
    assert_eq!(scaphandre.listen_address.as_deref(), Some("127.0.0.1"));
}
