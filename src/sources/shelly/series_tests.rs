use std::sync::Arc;

use super::*;
use crate::metrics::{Policy, Registry};
use crate::sources::shelly::{gen1, gen2};
use crate::sys::clock::BootTime;

/// The series of one device, set from its status at times that the test chooses.
struct TestDevice {
    registry: Registry,
    group: Arc<Group>,
    series: DeviceSeries,
    generation: u64,
    out: Readings,
}

impl TestDevice {
    fn new(switch_id: Option<u32>) -> TestDevice {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "shelly", vec![]);
        TestDevice {
            series: DeviceSeries::new(&group, "desk", switch_id),
            generation: group.new_generation(),
            out: Readings::new(5.0),
            group,
            registry,
        }
    }

    fn set(&mut self, second: f64, channels: &[Channel]) -> bool {
        let at = BootTime((second * 1e9) as u64);
        self.out.begin(at);
        let found = self.series.set(&mut self.out, channels);
        self.group.publish(self.generation, &self.out);
        found
    }

    fn value(&self, series: &str) -> Option<f64> {
        let snapshot = self.registry.snapshot(self.out.at);
        let families: Vec<_> = snapshot.families().collect();
        let mut samples = families.iter().flat_map(|family| family.samples());
        samples.find_map(|(s, value)| (s.prefix.trim_end() == series).then_some(value))
    }

    fn joules(&self, rail: &str) -> Option<f64> {
        self.value(&format!(
            r#"energy_joules_total{{rail="desk/{rail}",source="shelly"}}"#
        ))
    }
}

fn plug(watts: f64, watt_hours: f64) -> Vec<Channel> {
    let text = format!(
        r#"{{"switch:0": {{"output": true, "apower": {watts}, "aenergy": {{"total": {watt_hours}}}}}}}"#
    );
    gen2::parse(text.as_bytes()).unwrap()
}

fn near(value: Option<f64>, wanted: f64) {
    let near = value.is_some_and(|value| (value - wanted).abs() < 1e-6);
    assert!(near, "{value:?}, not {wanted}");
}

#[test]
fn energy_follows_the_devices_own_counter() {
    let mut device = TestDevice::new(None);
    device.set(1.0, &plug(10.0, 7258.589));
    near(device.joules("switch:0"), 0.0);
    // 0.010 Wh are 36 J, whatever the power was at the two moments.
    device.set(2.0, &plug(90.0, 7258.599));
    near(device.joules("switch:0"), 36.0);
    assert_eq!(
        device.value(r#"power_watts{rail="desk/switch:0",source="shelly"}"#),
        Some(90.0)
    );
    // An hour without the network.
    device.set(3602.0, &plug(10.0, 7268.599));
    near(device.joules("switch:0"), 36_036.0);
    assert_eq!(
        device.value(r#"shelly_energy_total_wh{channel="switch:0",device="desk"}"#),
        Some(7268.599)
    );
}

#[test]
fn energy_keeps_growing_after_a_restart_of_the_device() {
    let mut device = TestDevice::new(None);
    device.set(1.0, &plug(10.0, 500.0));
    device.set(2.0, &plug(10.0, 500.5));
    near(device.joules("switch:0"), 1800.0);
    device.set(3.0, &plug(10.0, 0.001));
    near(device.joules("switch:0"), 1800.0);
    device.set(4.0, &plug(10.0, 0.501));
    near(device.joules("switch:0"), 3600.0);
}

#[test]
fn energy_of_another_device_at_the_same_address_starts_at_zero() {
    let mut device = TestDevice::new(None);
    device.set(1.0, &plug(10.0, 1.0));
    device.series.forget_counters();
    device.set(2.0, &plug(10.0, 9000.0));
    near(device.joules("switch:0"), 0.0);
    device.set(3.0, &plug(10.0, 9001.0));
    near(device.joules("switch:0"), 3600.0);
}

#[test]
fn power_is_not_integrated_while_a_counter_is_missing() {
    let mut device = TestDevice::new(None);
    let without = gen2::parse(br#"{"switch:0": {"apower": 10.0}}"#).unwrap();
    device.set(1.0, &plug(10.0, 1.0));
    device.set(2.0, &without);
    assert_eq!(device.joules("switch:0"), None);
    assert_eq!(
        device.value(r#"power_watts{rail="desk/switch:0",source="shelly"}"#),
        Some(10.0)
    );
    device.set(3.0, &plug(10.0, 1.01));
    near(device.joules("switch:0"), 36.0);
}

#[test]
fn power_without_a_counter_is_integrated() {
    let mut device = TestDevice::new(None);
    let light = gen2::parse(br#"{"light:0": {"apower": 8.0}}"#).unwrap();
    device.set(1.0, &light);
    device.set(3.0, &light);
    near(device.joules("light:0"), 16.0);
}

#[test]
fn watt_minutes_are_exported_as_watt_hours_and_joules() {
    let mut device = TestDevice::new(Some(0));
    let first = include_bytes!("../../../tests/fixtures/shelly/gen1_plug_s.status.json");
    let later = String::from_utf8_lossy(first)
        .replace("2632", "2635")
        .replace("\"power\": 0.0", "\"power\": 12.5");
    device.set(1.0, &gen1::parse(first).unwrap());
    assert!(device.set(2.0, &gen1::parse(later.as_bytes()).unwrap()));
    near(device.joules("meter:0"), 180.0);
    near(
        device.value(r#"shelly_energy_total_wh{channel="meter:0",device="desk"}"#),
        2635.0 / 60.0,
    );
    assert_eq!(
        device.value(r#"shelly_temperature_celsius{device="desk"}"#),
        Some(24.14)
    );
    assert_eq!(
        device.value(r#"temperature_celsius{sensor="desk",source="shelly"}"#),
        Some(24.14)
    );
    assert_eq!(device.value("power_total_watts"), Some(12.5));
    assert_eq!(device.value("power_voltage_volts"), None);
}

#[test]
fn total_is_the_power_of_the_configured_switch() {
    let fixture = include_bytes!("../../../tests/fixtures/shelly/gen2_pro_4pm.status.json");
    let text = String::from_utf8_lossy(fixture);
    let place = text.find("\"switch:2\"").unwrap();
    let text = format!(
        "{}{}",
        &text[..place],
        text[place..].replacen("\"apower\": 0.0", "\"apower\": 7.5", 1)
    );
    let channels = gen2::parse(text.as_bytes()).unwrap();

    let mut device = TestDevice::new(Some(2));
    assert!(device.set(1.0, &channels));
    assert_eq!(device.value("power_total_watts"), Some(7.5));
    assert_eq!(device.value("power_voltage_volts"), Some(121.7));
    assert_eq!(device.value("power_current_amps"), Some(0.0));

    let mut device = TestDevice::new(Some(4));
    assert!(!device.set(1.0, &channels), "there is no such switch");
    assert_eq!(device.value("power_total_watts"), None);

    let mut device = TestDevice::new(None);
    assert!(device.set(1.0, &channels));
    assert_eq!(device.value("power_total_watts"), None);
}

#[test]
fn total_is_the_meter_if_the_switch_does_not_measure() {
    let mut device = TestDevice::new(Some(1));
    let fixture = include_bytes!("../../../tests/fixtures/shelly/gen2_pro_em.status.json");
    assert!(device.set(1.0, &gen2::parse(fixture).unwrap()));
    assert_eq!(device.value("power_total_watts"), Some(-3190.4));
    assert_eq!(
        device.value(r#"shelly_power_switch_output{channel="switch:0",device="desk"}"#),
        Some(1.0)
    );
    assert_eq!(
        device.value(r#"power_watts{rail="desk/switch:0",source="shelly"}"#),
        None
    );
}

#[test]
fn number_of_channels_is_limited() {
    let mut device = TestDevice::new(None);
    for i in 0..1000 {
        let text = format!(r#"{{"switch:{i}": {{"apower": 1.0}}}}"#);
        device.set(f64::from(i), &gen2::parse(text.as_bytes()).unwrap());
    }
    assert_eq!(device.series.channels.len(), 2 * MAX_CHANNELS);
    let left_out = 1000 - 2 * MAX_CHANNELS as u64;
    assert_eq!(device.series.take_left_out(), left_out);
    assert_eq!(device.series.take_left_out(), 0);
}

fn channel(text: &str) -> Vec<Channel> {
    gen2::parse(text.as_bytes()).unwrap()
}

#[test]
fn returned_energy_has_its_own_counter_in_every_component() {
    // For each component: the counters before and after 2 Wh flowed back and 0.5 Wh were consumed.
    for (rail, before, after) in [
        (
            "pm1:0",
            r#"{"pm1:0": {"apower": -197.0, "aenergy": {"total": 330.0}, "ret_aenergy": {"total": 128.0}}}"#,
            r#"{"pm1:0": {"apower": -197.0, "aenergy": {"total": 332.5}, "ret_aenergy": {"total": 130.0}}}"#,
        ),
        (
            "switch:0",
            r#"{"switch:0": {"apower": -197.0, "aenergy": {"total": 330.0}, "ret_aenergy": {"total": 128.0}}}"#,
            r#"{"switch:0": {"apower": -197.0, "aenergy": {"total": 332.5}, "ret_aenergy": {"total": 130.0}}}"#,
        ),
        (
            "em1:0",
            r#"{"em1:0": {"act_power": -197.0}, "em1data:0": {"total_act_energy": 330.0, "total_act_ret_energy": 128.0}}"#,
            r#"{"em1:0": {"act_power": -197.0}, "em1data:0": {"total_act_energy": 330.5, "total_act_ret_energy": 130.0}}"#,
        ),
        (
            "em:0",
            r#"{"em:0": {"total_act_power": -197.0}, "emdata:0": {"total_act": 330.0, "total_act_ret": 128.0}}"#,
            r#"{"em:0": {"total_act_power": -197.0}, "emdata:0": {"total_act": 330.5, "total_act_ret": 130.0}}"#,
        ),
    ] {
        let mut device = TestDevice::new(None);
        device.set(1.0, &channel(before));
        device.set(31.0, &channel(after));
        near(device.joules(rail), 1800.0);
        let returned =
            format!(r#"energy_returned_joules_total{{rail="desk/{rail}",source="shelly"}}"#);
        near(device.value(&returned), 7200.0);
        let power = format!(r#"power_watts{{rail="desk/{rail}",source="shelly"}}"#);
        assert_eq!(device.value(&power), Some(-197.0), "{rail}");
    }
}

#[test]
fn consumed_energy_is_absent_while_returned_energy_is() {
    let mut device = TestDevice::new(None);
    let both = r#"{"pm1:0": {"apower": -197.0, "aenergy": {"total": 1000.0}, "ret_aenergy": {"total": 999.0}}}"#;
    let one = r#"{"pm1:0": {"apower": -197.0, "aenergy": {"total": 1000.0}}}"#;
    device.set(1.0, &channel(both));
    near(device.joules("pm1:0"), 0.0);
    device.set(2.0, &channel(one));
    assert_eq!(device.joules("pm1:0"), None);
    let total = r#"shelly_energy_total_wh{channel="pm1:0",device="desk"}"#;
    assert_eq!(device.value(total), None);
    device.set(3.0, &channel(both));
    near(device.joules("pm1:0"), 0.0);
    near(device.value(total), 1.0);
}

#[test]
fn coarse_counter_gives_energy_but_no_power() {
    let em1 = |watts: &str, watt_hours: f64| {
        channel(&format!(
            r#"{{"em1:0": {{"act_power": {watts}, "voltage": 230.0}}, "em1data:0": {{"total_act_energy": {watt_hours}}}}}"#
        ))
    };
    let mut device = TestDevice::new(None);
    let power = r#"power_watts{rail="desk/em1:0",source="shelly"}"#;
    for (second, watt_hours, joules) in [
        (1.0, 500.0, 0.0),
        (2.0, 508.3, 29_880.0),
        (3.0, 508.3, 29_880.0),
    ] {
        device.set(second, &em1("null", watt_hours));
        near(device.joules("em1:0"), joules);
        assert_eq!(device.value(power), None, "{second}");
    }
    device.set(4.0, &em1("500.0", 508.3));
    assert_eq!(device.value(power), Some(500.0));
}

#[test]
fn counter_that_reads_zero_once_is_no_restart() {
    let mut device = TestDevice::new(None);
    for (second, watt_hours, joules) in [
        (1.0, 31_250.0, 0.0),
        (2.0, 0.0, 0.0),
        (3.0, 31_250.1, 360.0),
        (4.0, 31_250.2, 720.0),
    ] {
        device.set(second, &plug(10.0, watt_hours));
        near(device.joules("switch:0"), joules);
    }
}

#[test]
fn implausible_value_is_absent() {
    let mut device = TestDevice::new(Some(0));
    let text = r#"{"switch:0": {"apower": 4294967.3, "voltage": 65535.0, "current": 1e30, "pf": 255, "freq": -1,
        "aenergy": {"total": 7.0}, "temperature": {"tC": 999.0, "tF": 1830.2}}}"#;
    assert!(device.set(1.0, &channel(text)));
    let exported: Vec<String> = {
        let snapshot = device.registry.snapshot(device.out.at);
        let families: Vec<_> = snapshot.families().collect();
        families
            .iter()
            .map(|family| family.family.name.clone())
            .collect()
    };
    for name in &exported {
        let allowed = [
            "board_energy_joules_total",
            "energy_joules_total",
            "board_energy_joules_total",
            "shelly_energy_total_wh",
            "shelly_errors_count",
        ];
        assert!(
            allowed.contains(&name.as_str()) || name.starts_with("shelly_error_"),
            "{name}"
        );
    }
    assert_eq!(device.value("power_total_watts"), None);
    assert!(
        device.out.rejected().len() >= 9,
        "{:?}",
        device.out.rejected()
    );
}
