use std::sync::Arc;

use super::*;
use crate::metrics::{Policy, Registry};
use crate::sources::shelly::{gen1, gen2};
use crate::sys::clock::BootTime;

/// The series of one device, set from answers at moments the test chooses.
struct Desk {
    registry: Registry,
    group: Arc<Group>,
    series: DeviceSeries,
    generation: u64,
    out: Readings,
}

impl Desk {
    fn new(switch_id: Option<u32>) -> Desk {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "shelly", vec![]);
        Desk {
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
    let mut desk = Desk::new(None);
    desk.set(1.0, &plug(10.0, 7258.589));
    near(desk.joules("switch:0"), 0.0);
    // 0.010 Wh are 36 J, whatever the power was at the two moments.
    desk.set(2.0, &plug(90.0, 7258.599));
    near(desk.joules("switch:0"), 36.0);
    assert_eq!(
        desk.value(r#"power_watts{rail="desk/switch:0",source="shelly"}"#),
        Some(90.0)
    );
    // An hour without the network.
    desk.set(3602.0, &plug(10.0, 7268.599));
    near(desk.joules("switch:0"), 36_036.0);
    assert_eq!(
        desk.value(r#"shelly_energy_total_wh{channel="switch:0",device="desk"}"#),
        Some(7268.599)
    );
}

#[test]
fn a_restart_of_the_device_is_survived() {
    let mut desk = Desk::new(None);
    desk.set(1.0, &plug(10.0, 500.0));
    desk.set(2.0, &plug(10.0, 500.5));
    near(desk.joules("switch:0"), 1800.0);
    desk.set(3.0, &plug(10.0, 0.001));
    near(desk.joules("switch:0"), 1800.0);
    desk.set(4.0, &plug(10.0, 0.501));
    near(desk.joules("switch:0"), 3600.0);
}

#[test]
fn another_device_at_the_same_address_begins_anew() {
    let mut desk = Desk::new(None);
    desk.set(1.0, &plug(10.0, 1.0));
    desk.series.forget_counters();
    desk.set(2.0, &plug(10.0, 9000.0));
    near(desk.joules("switch:0"), 0.0);
    desk.set(3.0, &plug(10.0, 9001.0));
    near(desk.joules("switch:0"), 3600.0);
}

#[test]
fn a_counter_that_is_missing_for_once_is_not_made_up_for() {
    let mut desk = Desk::new(None);
    let without = gen2::parse(br#"{"switch:0": {"apower": 10.0}}"#).unwrap();
    desk.set(1.0, &plug(10.0, 1.0));
    desk.set(2.0, &without);
    assert_eq!(desk.joules("switch:0"), None);
    assert_eq!(
        desk.value(r#"power_watts{rail="desk/switch:0",source="shelly"}"#),
        Some(10.0)
    );
    desk.set(3.0, &plug(10.0, 1.01));
    near(desk.joules("switch:0"), 36.0);
}

#[test]
fn without_a_counter_power_is_integrated() {
    let mut desk = Desk::new(None);
    let light = gen2::parse(br#"{"light:0": {"apower": 8.0}}"#).unwrap();
    desk.set(1.0, &light);
    desk.set(3.0, &light);
    near(desk.joules("light:0"), 16.0);
}

#[test]
fn watt_minutes_become_watt_hours_and_joules() {
    let mut desk = Desk::new(Some(0));
    let first = include_bytes!("../../../tests/fixtures/shelly/gen1_plug_s.status.json");
    let later = String::from_utf8_lossy(first)
        .replace("2632", "2635")
        .replace("\"power\": 0.0", "\"power\": 12.5");
    desk.set(1.0, &gen1::parse(first).unwrap());
    assert!(desk.set(2.0, &gen1::parse(later.as_bytes()).unwrap()));
    near(desk.joules("meter:0"), 180.0);
    near(
        desk.value(r#"shelly_energy_total_wh{channel="meter:0",device="desk"}"#),
        2635.0 / 60.0,
    );
    assert_eq!(
        desk.value(r#"shelly_temperature_celsius{device="desk"}"#),
        Some(24.14)
    );
    assert_eq!(
        desk.value(r#"temperature_celsius{sensor="desk",source="shelly"}"#),
        Some(24.14)
    );
    assert_eq!(desk.value("power_total_watts"), Some(12.5));
    assert_eq!(desk.value("power_voltage_volts"), None);
}

#[test]
fn the_boards_total_is_the_configured_switch() {
    let fixture = include_bytes!("../../../tests/fixtures/shelly/gen2_pro_4pm.status.json");
    let text = String::from_utf8_lossy(fixture);
    let place = text.find("\"switch:2\"").unwrap();
    let text = format!(
        "{}{}",
        &text[..place],
        text[place..].replacen("\"apower\": 0.0", "\"apower\": 7.5", 1)
    );
    let channels = gen2::parse(text.as_bytes()).unwrap();

    let mut desk = Desk::new(Some(2));
    assert!(desk.set(1.0, &channels));
    assert_eq!(desk.value("power_total_watts"), Some(7.5));
    assert_eq!(desk.value("power_voltage_volts"), Some(121.7));
    assert_eq!(desk.value("power_current_amps"), Some(0.0));

    let mut desk = Desk::new(Some(4));
    assert!(!desk.set(1.0, &channels), "there is no such switch");
    assert_eq!(desk.value("power_total_watts"), None);

    let mut desk = Desk::new(None);
    assert!(desk.set(1.0, &channels));
    assert_eq!(desk.value("power_total_watts"), None);
}

#[test]
fn a_switch_without_a_meter_leaves_the_total_to_the_meter() {
    let mut desk = Desk::new(Some(1));
    let fixture = include_bytes!("../../../tests/fixtures/shelly/gen2_pro_em.status.json");
    assert!(desk.set(1.0, &gen2::parse(fixture).unwrap()));
    assert_eq!(desk.value("power_total_watts"), Some(-3190.4));
    assert_eq!(
        desk.value(r#"shelly_power_switch_output{channel="switch:0",device="desk"}"#),
        Some(1.0)
    );
    assert_eq!(
        desk.value(r#"power_watts{rail="desk/switch:0",source="shelly"}"#),
        None
    );
}

#[test]
fn channels_without_end_stop_growing() {
    let mut desk = Desk::new(None);
    for i in 0..1000 {
        let text = format!(r#"{{"switch:{i}": {{"apower": 1.0}}}}"#);
        desk.set(f64::from(i), &gen2::parse(text.as_bytes()).unwrap());
    }
    assert_eq!(desk.series.channels.len(), 2 * MAX_CHANNELS);
    let left_out = 1000 - 2 * MAX_CHANNELS as u64;
    assert_eq!(desk.series.take_left_out(), left_out);
    assert_eq!(desk.series.take_left_out(), 0);
}
