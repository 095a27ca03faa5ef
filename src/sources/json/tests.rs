//! The profiles, with answers of devices, and the series that become of them.

use super::*;
use crate::metrics::{Group, Policy, Registry};
use crate::sources::SCHEMA;

/// An answer in `tests/fixtures/json`.
fn fixture(name: &str) -> Vec<u8> {
    let path = format!(
        "{}/tests/fixtures/json/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read(path).unwrap()
}

/// The values of a rail by the keys of their quantities.
fn shown(rails: &[RailReading], name: &str) -> String {
    let Some(rail) = rails.iter().find(|rail| rail.name == name) else {
        return "none".to_string();
    };
    let keys = quantity::Quantity::ALL.map(quantity::Quantity::key);
    let values = keys.iter().zip(rail.values);
    let values: Vec<_> = values
        .filter_map(|(key, value)| Some(format!("{key} {}", value?)))
        .collect();
    let part = if rail.is_part { "part: " } else { "" };
    part.to_string() + &values.join(", ")
}

/// What is read from a device with this YAML, if each path is answered so. A path without an answer is not there.
fn read(device: &str, answers: &[(&str, Vec<u8>)]) -> Vec<RailReading> {
    poll(&mut plan(device, answers), answers)
}

fn device(yaml: &str) -> DeviceSettings {
    let (config, warnings) = SCHEMA
        .parse(&format!("json: {{devices: [{yaml}]}}"))
        .unwrap();
    assert_eq!(warnings, []);
    config.meter::<Settings>().devices.remove(0)
}

fn plan(yaml: &str, answers: &[(&str, Vec<u8>)]) -> Plan {
    let device = device(yaml);
    let profile = Profile::get(device.profile).unwrap();
    let of_members = |members: &Members| {
        let answer = answers.iter().find(|(path, _)| *path == members.path);
        paths_at(
            &members.pointer,
            &json_answer::parse(&answer.unwrap().1).unwrap(),
        )
        .0
    };
    let paths = profile.members.as_ref().map(of_members).unwrap_or_default();
    let around = |path: &str| {
        let (_, body) = answers.iter().find(|(known, _)| *known == path)?;
        let answer = json_answer::parse(body).unwrap();
        let pointer = profile.members.as_ref()?.within.as_ref()?;
        match pointer.find(&answer)? {
            Found::One(path) => path.as_str().map(str::to_string),
            Found::Many { .. } => None,
        }
    };
    let found = paths.into_iter().map(|path| {
        let around = around(&path);
        (path, around)
    });
    let members = members(&found.collect::<Vec<_>>());
    Plan::new(&profile.rails(&device.values), &device.values, &members)
}

fn poll(plan: &mut Plan, answers: &[(&str, Vec<u8>)]) -> Vec<RailReading> {
    for path in plan.begin() {
        let name = plan.paths[path].clone().unwrap_or_default();
        match answers.iter().find(|(path, _)| *path == name) {
            Some((_, body)) => plan.take(path, &json_answer::parse(body).unwrap()),
            None => plan.refuse(path, "it is not there", true),
        }
    }
    plan.end();
    plan.rails()
}

const TASMOTA: &str = "{profile: tasmota, host: plug}";
const STATUS: &str = "/cm?cmnd=Status%208";

fn tasmota(name: &str) -> Vec<RailReading> {
    read(TASMOTA, &[(STATUS, fixture(name))])
}

#[test]
fn tasmota_plug_and_meters_are_read() {
    let plug = tasmota("tasmota-plug");
    assert_eq!(plug.len(), 1);
    assert_eq!(
        shown(&plug, ""),
        "power 11, energy 187200, voltage 198, current 0.101"
    );

    let phases = tasmota("tasmota-three-phases");
    assert_eq!(
        shown(&phases, ""),
        "power 305, energy 1572429600, energy_returned 1090800"
    );
    assert_eq!(
        shown(&phases, "0"),
        "part: power 298, energy_returned 0, voltage 234, current 1.415"
    );
    assert_eq!(
        shown(&phases, "2"),
        "part: power 0, energy_returned 1087200, voltage 235, current 0.035"
    );

    let totals = tasmota("tasmota-totals");
    let joules = (2.092 + 243.196 + 191.497) * 3.6e6;
    let energy = totals[0].values[1].unwrap();
    assert!((energy - joules).abs() < 1e-3, "{energy}");
    assert!(
        shown(&totals, "1").starts_with("part: power 120, energy 875505600"),
        "{totals:?}"
    );
}

#[test]
fn tasmota_without_numbers_has_no_values() {
    let nan = tasmota("tasmota-nan");
    assert_eq!(shown(&nan, ""), "power 7, energy 5400000, current 0.04");
    assert_eq!(shown(&nan, "AM2301"), "none");
    assert!(
        shown(&nan, "DS18B20").starts_with("temperature 30.2222"),
        "{nan:?}"
    );
}

#[test]
fn values_of_the_configuration_replace_those_of_the_profile() {
    let head = "{profile: tasmota, host: meter, values: [{power: /StatusSNS//Power_curr, \
                energy: {pointer: /StatusSNS//Total_in, unit: kWh}, energy_returned: {pointer: /StatusSNS//Total_out, unit: kWh}}]}";
    let rails = read(head, &[(STATUS, fixture("tasmota-reading-head"))]);
    assert_eq!(
        shown(&rails, ""),
        "power -136.39, energy 7824600000, energy_returned 1257480000"
    );
    // Only what is written is replaced, and another rail is added.
    let plug = "{profile: tasmota, host: plug, values: [{voltage: {pointer: /StatusSNS/ENERGY/Voltage, factor: 0.5}}, \
                {name: factor, power: {pointer: /StatusSNS/ENERGY/Factor, unit: kW}}]}";
    let rails = read(plug, &[(STATUS, fixture("tasmota-plug"))]);
    assert_eq!(
        shown(&rails, ""),
        "power 11, energy 187200, voltage 99, current 0.101"
    );
    assert_eq!(shown(&rails, "factor"), "power 550");
}

const BMC: &str = "{profile: redfish, url: 'http://bmc', name: bmc}";
const CHASSIS: &str = "/redfish/v1/Chassis";

fn redfish(path: &str, answer: &str) -> (Plan, Vec<RailReading>) {
    let answers = [
        (CHASSIS, fixture("redfish-chassis")),
        (path, fixture(answer)),
    ];
    let mut plan = plan(BMC, &answers);
    let rails = poll(&mut plan, &answers);
    (plan, rails)
}

#[test]
fn redfish_power_is_where_the_manufacturer_has_it() {
    for (path, answer, values) in [
        ("Power", "redfish-power", "power 150"),
        ("Power", "redfish-power-fujitsu", "power 150"),
        ("Power", "redfish-power-ilo4", "power 96"),
        ("Power", "redfish-power-supplies", "power 148"),
        ("Power", "redfish-power-null", "none"),
        (
            "EnvironmentMetrics",
            "redfish-environment",
            "power 340, energy 4331700000",
        ),
    ] {
        let (_, rails) = redfish(&format!("{CHASSIS}/1/{path}"), answer);
        assert_eq!(shown(&rails, "1"), values, "{answer}");
        assert_eq!(shown(&rails, "Backplane"), "none");
    }
    let (_, rails) = redfish("/redfish/v1/Chassis/1/Power", "redfish-power-supplies");
    assert_eq!(shown(&rails, "1/0"), "part: power 103");
}

#[test]
fn only_paths_that_have_a_value_are_got_again() {
    let (mut plan, _) = redfish("/redfish/v1/Chassis/1/Power", "redfish-power");
    let paths: Vec<_> = plan
        .begin()
        .into_iter()
        .map(|path| plan.paths[path].clone().unwrap())
        .collect();
    assert_eq!(paths, ["/redfish/v1/Chassis/1/Power"]);
    // A value of the configuration is looked for again.
    let yaml = "{url: 'http://x/', values: [{power: {path: /a, pointer: /p}}, {name: b, power: {path: /b, pointer: /p}}]}";
    let mut plan = super::tests::plan(yaml, &[]);
    let rails = poll(&mut plan, &[("/a", b"{\"p\": 1}".to_vec())]);
    assert_eq!((rails.len(), plan.begin().len()), (1, 2));
    assert_eq!(missing(&plan), [""; 0]);
    poll(&mut plan, &[("/a", b"{\"p\": null}".to_vec())]);
    assert_eq!(
        missing(&plan),
        ["/power: /p is null", "b/power: it is not there"]
    );
}

/// The values that are missing though they are expected.
fn missing(plan: &Plan) -> Vec<String> {
    let outcomes = plan.outcomes().filter_map(|(rail, key, outcome)| {
        let Outcome::Missing {
            why,
            is_expected: true,
        } = outcome
        else {
            return None;
        };
        Some(format!("{rail}/{key}: {why}"))
    });
    outcomes.collect()
}

#[test]
fn path_that_does_not_answer_is_got_again_and_said() {
    let chassis = [(CHASSIS, fixture("redfish-chassis"))];
    let mut plan = plan(BMC, &chassis);
    for path in plan.begin() {
        plan.refuse(path, "it is busy", false);
    }
    plan.end();
    assert_eq!(plan.begin().len(), 4, "nothing is known yet");
    for path in plan.begin() {
        let name = plan.paths[path].clone().unwrap();
        match name.as_str() {
            "/redfish/v1/Chassis/1/Power" => plan.refuse(path, "it is busy", false),
            _ => plan.refuse(path, "it is not there", true),
        }
    }
    plan.end();
    assert_eq!(missing(&plan), ["1/power: it is busy"]);
    let answers = [("/redfish/v1/Chassis/1/Power", fixture("redfish-power"))];
    let rails = poll(&mut plan, &answers);
    assert_eq!(shown(&rails, "1"), "power 150");
    assert_eq!(plan.begin().len(), 1);
}

#[test]
fn place_is_not_chosen_while_a_better_one_has_not_answered() {
    let yaml =
        "{url: 'http://x/', values: [{power: [{path: /a, pointer: /p}, {path: /b, pointer: /p}]}]}";
    let mut plan = super::tests::plan(yaml, &[]);
    let paths = plan.begin();
    plan.refuse(paths[0], "it is busy", false);
    plan.take(paths[1], &serde_json::json!({"p": 2}));
    plan.end();
    assert_eq!(shown(&plan.rails(), ""), "power 2");
    let answers = ["/a", "/b"].map(|path| (path, br#"{"p": 1}"#.to_vec()));
    poll(&mut plan, &answers);
    assert_eq!(plan.begin(), [0]);
}

#[test]
fn reason_is_that_of_the_place_that_comes_closest() {
    let yaml = "{url: 'http://x/', values: [{power: [{path: /a, pointer: /p}, {path: /b, pointer: /p}, {path: /b, pointer: /q}]}]}";
    let said = |answers: &[(&str, Vec<u8>)]| {
        let mut plan = super::tests::plan(yaml, &[]);
        poll(&mut plan, answers);
        missing(&plan)
    };
    let b = |body: &str| [("/b", body.as_bytes().to_vec())];
    assert_eq!(said(&[]), ["/power: it is not there"]);
    assert_eq!(said(&b("{}")), ["/power: the answer has no /p"]);
    assert_eq!(said(&b(r#"{"q": null}"#)), ["/power: /q is null"]);
    // Once one has had the value, only its own reason counts.
    let mut plan = super::tests::plan(yaml, &[]);
    poll(&mut plan, &b(r#"{"q": 1}"#));
    let paths = plan.begin();
    assert_eq!(paths, [1]);
    plan.refuse(0, "another value's", false);
    plan.refuse(1, "it is busy", false);
    assert_eq!(missing(&plan), ["/power: it is busy"]);
}

#[test]
fn item_without_a_number_takes_the_sum_away_with_the_reason() {
    let mut plan = super::tests::plan("{url: 'http://x/', values: [{power: '/p/*'}]}", &[]);
    let rails = poll(&mut plan, &[("", br#"{"p": [1, null, 3]}"#.to_vec())]);
    assert_eq!(shown(&rails, ""), "none");
    assert_eq!(shown(&rails, "2"), "part: power 3");
    assert_eq!(
        missing(&plan),
        ["/power: no sum, since of item 1 /p/* is null"]
    );
    poll(&mut plan, &[("", br#"{"p": [1, 2, 3]}"#.to_vec())]);
    assert_eq!(missing(&plan), [""; 0]);
}

#[test]
fn chassis_in_another_one_is_a_part_while_that_one_measures() {
    let members =
        r#"{"Members":[{"@odata.id":"/c/rack"},{"@odata.id":"/c/box"},{"@odata.id":"/c/sled"}]}"#;
    let in_rack = r#"{"Links":{"ContainedBy":{"@odata.id":"/c/rack"}}}"#;
    let in_box = r#"{"Links":{"ContainedBy":{"@odata.id":"/c/box"}}}"#;
    let power = |watts: u32| {
        format!(r#"{{"PowerControl":[{{"PowerConsumedWatts":{watts}}}]}}"#).into_bytes()
    };
    let mut answers = vec![
        (CHASSIS, members.as_bytes().to_vec()),
        ("/c/box", in_rack.as_bytes().to_vec()),
        ("/c/sled", in_box.as_bytes().to_vec()),
        ("/c/sled/Power", power(100)),
    ];
    let rails = read(BMC, &answers);
    assert_eq!(shown(&rails, "sled"), "power 100");
    answers.push(("/c/rack/Power", power(300)));
    let rails = read(BMC, &answers);
    assert_eq!(shown(&rails, "rack"), "power 300");
    assert_eq!(shown(&rails, "sled"), "part: power 100");
}

#[test]
fn value_of_the_profile_can_be_dropped() {
    let yaml = "{profile: tasmota, host: plug, values: [{energy: false, voltage: false}]}";
    let rails = read(yaml, &[(STATUS, fixture("tasmota-plug"))]);
    assert_eq!(shown(&rails, ""), "power 11, current 0.101");
    let device = device(yaml);
    let shown = serde_json::to_value(&device).unwrap();
    assert_eq!(shown["values"][0]["energy"], serde_json::json!(false));
}

#[test]
fn preferred_place_is_kept() {
    let yaml = "{url: 'http://x/', values: [{power: [/a, /b]}]}";
    let mut plan = super::tests::plan(yaml, &[]);
    let mut watts = |body: &str| {
        poll(&mut plan, &[("", body.as_bytes().to_vec())])
            .first()
            .and_then(|rail| rail.values[0])
    };
    assert_eq!(watts(r#"{"b": 2}"#), Some(2.0));
    assert_eq!(watts(r#"{"a": 1, "b": 3}"#), Some(3.0));
    assert_eq!(watts(r#"{"a": 1, "b": null}"#), None);
    let mut plan = super::tests::plan(yaml, &[]);
    let rails = poll(&mut plan, &[("", br#"{"b": 2, "a": 1}"#.to_vec())]);
    assert_eq!(shown(&rails, ""), "power 1");
}

#[test]
fn members_are_few_and_on_the_device() {
    let ids: Vec<_> = (0..40)
        .map(|n| serde_json::json!({"@odata.id": format!("/c/{n}")}))
        .collect();
    let pointer = pointer::Pointer::new("/Members/*/@odata.id").unwrap();
    let (paths, left_out) = paths_at(&pointer, &serde_json::json!({"Members": ids}));
    assert_eq!((paths.len(), left_out > 0), (MAX_ITEMS, true));
    for foreign in [
        "http://evil/",
        "//evil/",
        "@evil/",
        ".evil/x",
        "",
        "/a b",
        "/a#b",
    ] {
        let answer = serde_json::json!({"Members": [{"@odata.id": foreign}]});
        assert_eq!(paths_at(&pointer, &answer).0, [""; 0], "{foreign}");
    }
}

#[test]
fn solar_inverters_return_energy() {
    let rails = read(
        "{profile: opendtu, host: dtu}",
        &[("/api/livedata/status", fixture("opendtu"))],
    );
    assert_eq!(shown(&rails, ""), "power -123.4, energy_returned 829843200");
}

#[test]
fn entities_are_got_by_their_names() {
    let yaml = "{profile: esphome, host: esp, values: [{power: plug_power, energy: plug energy, temperature: {entity: t, unit: °F}}]}";
    let rails = read(
        yaml,
        &[
            (
                "/sensor/plug_power",
                br#"{"id":"sensor-plug_power","value":0.01234,"state":"0.012 kW"}"#.to_vec(),
            ),
            (
                "/sensor/plug%20energy",
                br#"{"id":"sensor-e","value":1.5,"state":"1.5 kWh"}"#.to_vec(),
            ),
            (
                "/sensor/t",
                r#"{"id":"sensor-t","value":32,"state":"0 °C"}"#.as_bytes().to_vec(),
            ),
        ],
    );
    assert_eq!(
        shown(&rails, ""),
        "power 12.34, energy 5400000, temperature 0"
    );
    for nothing in [
        r#"{"id":"sensor-plug_power","value":null,"state":"NA"}"#,
        r#"{"id":"sensor-plug_power","value":"NaN","state":"NA"}"#,
        r#"{"id":"sensor-plug_power","value":nan,"state":"nan W"}"#,
        r#"{"id":"sensor-plug_power","value":12.3,"state":"12.3 VA"}"#,
    ] {
        let rails = read(yaml, &[("/sensor/plug_power", nothing.as_bytes().to_vec())]);
        assert_eq!(rails, [], "{nothing}");
    }
    let yaml = "{profile: homeassistant, host: ha, values: [{name: plug, power: sensor.p, energy: sensor.e}]}";
    let state = |state: &str, unit: &str| {
        format!(r#"{{"entity_id":"sensor.p","state":"{state}","attributes":{{"unit_of_measurement":"{unit}"}}}}"#).into_bytes()
    };
    for (power, shown_power) in [
        (state("12.3", "W"), "power 12.3, energy 3600"),
        (state("0.5", "kW"), "power 500, energy 3600"),
        (state("unavailable", "W"), "energy 3600"),
        (state("unknown", "W"), "energy 3600"),
        (br#"{"state":"7","attributes":{}}"#.to_vec(), "energy 3600"),
        (state("7", ""), "energy 3600"),
    ] {
        let rails = read(
            yaml,
            &[
                ("/api/states/sensor.p", power),
                ("/api/states/sensor.e", state("1", "Wh")),
            ],
        );
        assert_eq!(shown(&rails, "plug"), shown_power);
    }
    // A number without a unit may be of any.
    for (entity, key) in [("sensor.e", "energy"), ("sensor.p", "power")] {
        let path = format!("/api/states/{entity}");
        let answers = [(path.as_str(), br#"{"state":"7"}"#.to_vec())];
        let mut plan = plan(yaml, &answers);
        assert_eq!(poll(&mut plan, &answers), []);
        let said = missing(&plan);
        let wanted = format!(
            "plug/{key}: /state: its unit, at /attributes/unit_of_measurement, is not there"
        );
        assert!(
            said.iter().any(|said| said.starts_with(&wanted)),
            "{said:?}"
        );
    }
    let own = yaml.replace("sensor.p", "{entity: sensor.p, unit: kW}");
    let rails = read(
        &own,
        &[("/api/states/sensor.p", br#"{"state":"7"}"#.to_vec())],
    );
    assert_eq!(shown(&rails, "plug"), "power 7000");
}

#[test]
fn configuration_that_cannot_be_meant_is_refused() {
    for (device, words) in [
        ("{host: x}", "no `values`"),
        ("{profile: homeassistant, host: x}", "names of its entities"),
        ("{values: [{power: /a}]}", "no `url`"),
        ("{url: 'http://x', host: x, values: [{power: /a}]}", "both"),
        ("{host: x, values: [{power: a}]}", "no JSON pointer"),
        ("{host: x, values: [{power: /~}]}", "~"),
        ("{host: x, values: [{energy: /a}]}", "no `unit`"),
        (
            "{host: x, values: [{energy: {pointer: /a, unit: W}}]}",
            "Wh",
        ),
        (
            "{host: x, values: [{power: {pointer: /a, unti: W}}]}",
            "unti",
        ),
        ("{host: x, values: [{power: {unit: W}}]}", "no `pointer`"),
        (
            "{host: x, values: [{power: {pointer: /a, factor: 0}}]}",
            "not 0",
        ),
        (
            "{host: x, values: [{power: {pointer: /a, path: x}}]}",
            "no path",
        ),
        (
            "{host: x, values: [{power: {pointer: /a, path: //evil/}}]}",
            "no path",
        ),
        (
            "{host: x, values: [{power: {pointer: /a, path: '{}/b'}}]}",
            "nothing stands for",
        ),
        ("{host: x, values: [{name: a}]}", "has no value"),
        ("{host: x, values: [{energy: false}]}", "no `values`"),
        ("{host: x, values: [{energy: true}]}", "false for none"),
        ("{host: x, values: [{power: /a}, {power: /b}]}", "no `name`"),
        (
            "{host: x, values: [{name: a, power: /a}, {name: a, power: /b}]}",
            "called \"a\"",
        ),
        (
            "{profile: esphome, host: x, values: [{power: /a}]}",
            "needs a `path`",
        ),
        (
            "{profile: tasmota, host: x, values: [{power: sensor.x}]}",
            "no JSON pointer",
        ),
        ("{profile: tasmoto, host: x}", "tasmota"),
        ("{profile: tasmota, host: x, timeout: 100}", "60"),
        (
            "{profile: tasmota, url: 'http://me:secret@x'}",
            "basic_auth",
        ),
        (
            "{profile: tasmota, host: x}, {profile: tasmota, url: 'http://x/y'}",
            "two devices",
        ),
    ] {
        let error = SCHEMA
            .parse(&format!("json: {{devices: [{device}]}}"))
            .unwrap_err();
        assert!(error.message.contains(words), "{device}: {}", error.message);
        assert!(!error.message.contains("secret"), "{}", error.message);
    }
}

#[test]
fn queries_of_paths_are_not_shown() {
    let text = "json: {devices: [{url: 'http://x/cm?password=hunter2', values: [{power: {pointer: /a, path: /b?p=hunter2}, \
                voltage: {pointer: /a, path: /b?p=hunter2}}, {name: c, power: {pointer: /a, path: /b?p=hunter3}}]}]}";
    let (config, _) = SCHEMA.parse(text).unwrap();
    let shown = SCHEMA.to_json(&config).to_string();
    assert!(!shown.contains("hunter"), "{shown}");
    assert_eq!(
        (
            shown.matches("/b?secret1").count(),
            shown.matches("/b?secret2").count()
        ),
        (2, 1)
    );
}

/// The series of one device, set at times that the test chooses.
struct TestDevice {
    registry: Registry,
    group: Arc<Group>,
    series: DeviceSeries,
    generation: u64,
    out: Readings,
}

impl TestDevice {
    fn new(is_total: bool) -> TestDevice {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "json", vec![]);
        TestDevice {
            series: DeviceSeries::new(&group, "plug", is_total),
            generation: group.new_generation(),
            out: Readings::new(5.0),
            group,
            registry,
        }
    }

    fn set(&mut self, second: f64, rails: &[RailReading]) {
        self.out.begin(BootTime((second * 1e9) as u64));
        self.series.set(&mut self.out, rails);
        self.group.publish(self.generation, &self.out);
    }

    /// The value of the series whose line begins so.
    fn value(&self, series: &str) -> Option<f64> {
        let snapshot = self.registry.snapshot(self.out.at);
        let families: Vec<_> = snapshot.families().collect();
        let mut samples = families.iter().flat_map(|family| family.samples());
        samples.find_map(|(s, value)| s.prefix.starts_with(series).then_some(value))
    }

    fn joules(&self, rail: &str) -> Option<f64> {
        self.value(&format!(r#"energy_joules_total{{rail="{rail}""#))
    }
}

fn rail(
    name: &str,
    watts: impl Into<Option<f64>>,
    watt_hours: impl Into<Option<f64>>,
) -> RailReading {
    let joules = watt_hours.into().map(|wh: f64| wh * 3600.0);
    RailReading {
        name: name.to_string(),
        values: [watts.into(), joules, None, None, None, None],
        ..RailReading::default()
    }
}

fn near(value: Option<f64>, wanted: f64) {
    let near = value.is_some_and(|value| (value - wanted).abs() < 1e-6);
    assert!(near, "{value:?} is not {wanted}");
}

#[test]
fn energy_is_the_devices_counter_also_after_a_reset() {
    let mut device = TestDevice::new(true);
    for (second, watt_hours, joules) in [
        (1.0, 1000.0, 0.0),
        (2.0, 1001.0, 3600.0),
        // The device was away, and counted.
        (60.0, 1011.0, 39_600.0),
        // It was reset, and counts from there.
        (61.0, 0.0, 39_600.0),
        (62.0, 0.5, 41_400.0),
        (63.0, 1.5, 45_000.0),
    ] {
        device.set(second, &[rail("", 10.0, watt_hours)]);
        near(device.joules("plug"), joules);
        near(device.value("board_energy_joules_total"), joules);
        near(device.value("power_total_watts"), 10.0);
    }
}

#[test]
fn counter_that_never_counts_is_none() {
    let mut device = TestDevice::new(false);
    for second in 1..=5 {
        device.set(f64::from(second), &[rail("", 10.0, 0.0)]);
    }
    near(device.joules("plug"), 40.0);
    // It begins to count.
    device.set(6.0, &[rail("", 10.0, 1.0)]);
    near(device.joules("plug"), 40.0);
    device.set(7.0, &[rail("", 10.0, 2.0)]);
    near(device.joules("plug"), 3640.0);
    // It is missing: nothing is integrated, and what it counted meanwhile is added.
    device.set(8.0, &[rail("", 10.0, None)]);
    near(device.value("power_watts"), 10.0);
    device.set(9.0, &[rail("", 10.0, 4.0)]);
    near(device.joules("plug"), 10_840.0);
}

#[test]
fn total_is_the_sum_of_the_rails_without_their_parts() {
    let mut device = TestDevice::new(true);
    let part = RailReading {
        is_part: true,
        ..rail("0", 4.0, None)
    };
    device.set(
        1.0,
        &[rail("", 10.0, None), part.clone(), rail("b", 2.5, None)],
    );
    device.set(
        2.0,
        &[rail("", 10.0, None), part.clone(), rail("b", 2.5, None)],
    );
    near(device.value("power_total_watts"), 12.5);
    near(device.value("board_energy_joules_total"), 12.5);
    device.set(3.0, &[rail("", 10.0, None), part]);
    assert_eq!(
        device.value("power_total_watts"),
        None,
        "one of its rails is absent"
    );
    near(device.value(r#"power_watts{rail="plug/0""#), 4.0);
}

#[test]
fn rail_that_only_counts_has_no_part_in_the_power() {
    let mut device = TestDevice::new(true);
    for (second, watt_hours) in [(1.0, 10.0), (2.0, 11.0)] {
        device.set(second, &[rail("", 10.0, None), rail("b", None, watt_hours)]);
    }
    near(device.value("power_total_watts"), 10.0);
    near(device.value("board_energy_joules_total"), 10.0);
    let mut device = TestDevice::new(true);
    for (second, watt_hours) in [(1.0, 10.0), (2.0, 11.0)] {
        device.set(second, &[rail("b", None, watt_hours)]);
    }
    assert_eq!(device.value("power_total_watts"), None);
    near(device.value("board_energy_joules_total"), 3600.0);
}

#[test]
fn negative_power_is_exported_and_consumes_nothing() {
    let mut device = TestDevice::new(false);
    device.set(1.0, &[rail("", -5.0, None)]);
    device.set(2.0, &[rail("", -5.0, None)]);
    near(device.value("power_watts"), -5.0);
    near(device.joules("plug"), 0.0);
}

#[test]
fn implausible_values_are_absent() {
    let mut device = TestDevice::new(false);
    let values = [
        Some(1e30),
        Some(-1.0),
        Some(1e300),
        Some(65_535.0),
        Some(1e9),
        Some(-273.1),
    ];
    let reading = RailReading {
        values,
        ..RailReading::default()
    };
    device.set(1.0, &[reading]);
    for name in [
        "power_watts",
        "voltage_volts",
        "current_amperes",
        "temperature_celsius",
        "energy_returned",
    ] {
        assert_eq!(device.value(name), None, "{name}");
    }
    assert_eq!(
        device.out.rejected().len(),
        4,
        "{:?}",
        device.out.rejected()
    );
}

#[test]
fn number_of_rails_is_limited() {
    let mut device = TestDevice::new(false);
    for n in 0..1000 {
        device.set(f64::from(n), &[rail(&n.to_string(), 1.0, None)]);
    }
    assert_eq!(device.series.take_left_out(), 1000 - MAX_RAILS as u64);
}
