//! Any bytes as a configuration: answered with settings that are within their documented ranges, or with a complaint
//! that fits on one line and is about a place that there is.
#![no_main]

use std::time::Duration;

use edge_metrics_exporter::config::{
    valid_metric_name, Config, Diagnostic, DEVICE_TYPES, MAX_METRICS,
};
use edge_metrics_exporter::sources::{ina260, ina2xx, shelly, SCHEMA};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let outcome = SCHEMA.parse_bytes(bytes);
    match &outcome {
        Ok((config, warnings)) => {
            check(config);
            warnings.iter().for_each(|warning| place(bytes, warning));
            assert!(warnings.is_sorted_by_key(|w| w.line.unwrap_or(usize::MAX)));
        }
        Err(error) => place(bytes, error),
    }
    // Nothing of one reading is left for the next.
    assert_eq!(outcome, SCHEMA.parse_bytes(bytes));
});

fn check(config: &Config) {
    assert!(DEVICE_TYPES.contains(&config.device_type.as_str()));
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_secs(86_400));
    assert!((shortest..=longest).contains(&config.interval));
    assert!(config.port != config.reload_port || config.port.is_none_or(|port| port == 0));
    if let Some(address) = &config.listen_address {
        assert!(address.parse::<std::net::IpAddr>().is_ok(), "{address}");
    }
    let one_line = |text: &str| !text.trim().is_empty() && !text.chars().any(char::is_control);
    assert!(config.hostname.as_deref().is_none_or(one_line));
    let plugs = config.meter::<shelly::settings::Settings>().plugs;
    for (i, plug) in plugs.iter().enumerate() {
        assert!(one_line(&plug.host) && one_line(plug.name()));
        let names = plugs[..i].iter().map(|other| other.name());
        assert!(names.into_iter().all(|name| name != plug.name()));
    }
    let shown = SCHEMA.to_json(config);
    for meter in ["hwmon", "power_supply"] {
        let rails = shown[meter]["power_total"].as_array();
        for rail in rails.into_iter().flatten() {
            assert!(rail.as_str().is_some_and(one_line));
        }
    }
    if let Some(metrics) = &config.metrics {
        assert!(metrics.len() <= MAX_METRICS);
        assert!(metrics.keys().all(|name| valid_metric_name(name)));
    }
    let chips = config.meter::<ina260::settings::Settings>().chips;
    for (i, chip) in chips.iter().enumerate() {
        assert!((0x40..=0x4f).contains(&chip.address));
        for other in &chips[..i] {
            assert_ne!((chip.bus, chip.address), (other.bus, other.address));
            assert_ne!(chip.rail(), other.rail());
        }
    }
    let chips = config.meter::<ina2xx::settings::Settings>().chips;
    let mut rails: Vec<_> = chips.iter().flat_map(|chip| chip.rails()).collect();
    let count = rails.len();
    assert!(count >= chips.len());
    rails.sort();
    rails.dedup();
    assert_eq!(rails.len(), count);
    for chip in &chips {
        assert!((0x40..=chip.model.last_address).contains(&chip.address));
        assert!(chip.range() < chip.model.millivolts.len());
        assert_eq!(chip.shunt_ohms.is_none(), chip.model.has_channels());
        assert_eq!(chip.channels.is_empty(), !chip.model.has_channels());
    }
}

fn place(bytes: &[u8], diagnostic: &Diagnostic) {
    let message = &diagnostic.message;
    assert!(
        !message.is_empty() && !message.chars().any(char::is_control),
        "{message:?}"
    );
    let text = String::from_utf8_lossy(bytes);
    let Some(line) = diagnostic.line else {
        assert_eq!(diagnostic.column, None);
        return;
    };
    // One past the last: where something is missing at the end.
    let breaks = text
        .chars()
        .filter(|c| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}'));
    assert!((1..=breaks.count() + 2).contains(&line), "line {line}");
    if let Some(column) = diagnostic.column {
        assert!(
            (1..=text.chars().count() + 1).contains(&column),
            "column {column}"
        );
    }
}
