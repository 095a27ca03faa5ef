//! The status of the first generation, `GET /status` (<https://shelly-api-docs.shelly.cloud/gen1/>): `meters` with power in
//! watts and energy in **watt-minutes**, `emeters` with energy in watt-hours, and `relays` or `lights` with their switches.

use serde_json::Value;

use super::status::{number, Channel, Energy, CONDITIONS, MINUTES};
use crate::sources::json_answer;

const WATT_MINUTES_PER_WATT_HOUR: f64 = 60.0;
const MILLI: f64 = 1000.0;

/// Parses the status.
///
/// # Errors
/// A message, if the response is not such a status.
pub fn parse(body: &[u8]) -> Result<Vec<Channel>, String> {
    let status = json_answer::parse(body)?;
    if !status.is_object() {
        return Err("the answer is no status".to_string());
    }
    let list = |key: &str| status[key].as_array().map_or(&[][..], Vec::as_slice);
    let mut channels = vec![device(&status)];
    channels.extend(
        list("meters")
            .iter()
            .enumerate()
            .map(|(i, value)| meter(i, value)),
    );
    channels.extend(
        list("emeters")
            .iter()
            .enumerate()
            .map(|(i, value)| emeter(i, value)),
    );
    let outputs = match list("relays") {
        [] => list("lights"),
        relays => relays,
    };
    for (i, value) in outputs.iter().enumerate() {
        // A meter and the switch that it measures have the same number.
        let name = format!("meter:{i}");
        match channels.iter_mut().find(|channel| channel.name == name) {
            Some(channel) => output(channel, value),
            None => {
                let mut channel = Channel::new(format!("relay:{i}"));
                output(&mut channel, value);
                channels.push(channel);
            }
        }
    }
    channels.retain(|channel| !channel.is_empty());
    Ok(channels)
}

/// The device's own temperature, and whether it is too hot.
fn device(status: &Value) -> Channel {
    let mut channel = Channel::new("");
    if status["tmp"].is_object() {
        if is_valid(&status["tmp"]) {
            channel.set_temperature(&status["tmp"]);
        }
    } else {
        channel.celsius = number(&status["temperature"]);
    }
    condition(&mut channel, 0, &status["overtemperature"]);
    channel
}

fn meter(i: usize, value: &Value) -> Channel {
    let mut channel = Channel::new(format!("meter:{i}"));
    if is_valid(value) && counts(value) {
        channel.watts = number(&value["power"]);
        let watt_hours = |value: &Value| Some(number(value)? / WATT_MINUTES_PER_WATT_HOUR);
        let mut minutes = [None; MINUTES];
        for (minute, place) in minutes.iter_mut().enumerate() {
            *place = watt_hours(&value["counters"][minute]).map(|wh| wh * MILLI);
        }
        channel.energy = Energy {
            total: watt_hours(&value["total"]),
            minutes,
            // `timestamp` is not used: it is in the plug's time zone, which is not known.
            minute_began: None,
        };
    }
    channel
}

fn emeter(i: usize, value: &Value) -> Channel {
    let mut channel = Channel::new(format!("emeter:{i}"));
    if is_valid(value) {
        channel.watts = number(&value["power"]);
        channel.volts = number(&value["voltage"]);
        channel.amperes = number(&value["current"]);
        channel.power_factor = number(&value["pf"]);
        channel.energy.total = number(&value["total"]);
        channel.returned.total = number(&value["total_returned"]);
    }
    channel
}

fn output(channel: &mut Channel, value: &Value) {
    channel.output = value["ison"].as_bool();
    condition(channel, 1, &value["overpower"]);
}

/// Sets one of [`CONDITIONS`], the only one that this channel can report.
fn condition(channel: &mut Channel, which: usize, value: &Value) {
    if let (Some(is), Some(place)) = (value.as_bool(), channel.conditions.get_mut(which)) {
        *place = Some(is);
        channel.errors = Some(usize::from(is));
    }
}

/// Whether a meter or sensor works. One without `is_valid` does. Some firmware versions write `is_valid` as text.
fn is_valid(value: &Value) -> bool {
    match &value["is_valid"] {
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(word) => {
            let word = word.trim();
            !["false", "0", "no", ""]
                .iter()
                .any(|no| word.eq_ignore_ascii_case(no))
        }
        _ => true,
    }
}

/// Whether an entry of `meters` is a meter. Devices without a meter (Shelly 1) report `{"power": 0.00, "is_valid": true}`, or a
/// power that their owner has set. All meters also report what they count.
fn counts(value: &Value) -> bool {
    let minutes = value["counters"].as_array();
    number(&value["total"]).is_some() || minutes.is_some_and(|all| all.iter().any(Value::is_number))
}

/// Models that measure no power. They report a power that their owner has set (`/settings/power/0`), and the energy that follows
/// from it (<https://shelly-api-docs.shelly.cloud/gen1/>: Shelly 1, 1L, i3, Button 1, UNI).
const WITHOUT_METER: &[&str] = &[
    "SHSW-1", "SHSW-L", "SHIX3-1", "SHBTN-1", "SHBTN-2", "SHUNI-1",
];

/// Drops power and energy that a device of this model cannot have measured.
pub fn drop_unmeasured_power(model: &str, channels: &mut Vec<Channel>) {
    if WITHOUT_METER.contains(&model) {
        for channel in channels.iter_mut() {
            channel.watts = None;
            channel.energy = Energy::default();
        }
        channels.retain(|channel| !channel.is_empty());
    }
}

const _: () = assert!(CONDITIONS.len() >= 2);

#[cfg(test)]
mod tests {
    use super::*;

    const PLUG_S: &[u8] = include_bytes!("../../../tests/fixtures/shelly/gen1_plug_s.status.json");
    const EM3: &[u8] = include_bytes!("../../../tests/fixtures/shelly/gen1_3em.status.json");

    #[test]
    fn plug_counts_watt_minutes() {
        let channels = parse(PLUG_S).unwrap();
        let [device, meter] = channels.as_slice() else {
            panic!("{channels:?}");
        };
        assert_eq!(
            (device.name.as_str(), device.celsius, device.fahrenheit),
            ("", Some(24.14), Some(75.45))
        );
        assert_eq!(device.conditions, [Some(false), None, None, None]);
        assert_eq!(meter.name, "meter:0");
        assert_eq!(meter.watts, Some(0.0));
        assert_eq!(meter.energy.total, Some(2632.0 / 60.0));
        assert_eq!(meter.energy.minutes, [Some(0.0); 3]);
        assert_eq!(meter.energy.minute_began, None);
        assert_eq!(meter.output, Some(false));
        assert_eq!((meter.errors, meter.conditions[1]), (Some(0), Some(false)));
        assert_eq!((meter.volts, meter.amperes), (None, None));
    }

    #[test]
    fn energy_meter_counts_watt_hours() {
        let channels = parse(EM3).unwrap();
        let names: Vec<_> = channels.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["emeter:0", "emeter:1", "emeter:2", "relay:0"]);
        let first = &channels[0];
        assert_eq!(first.watts, Some(120.5));
        assert_eq!(first.volts, Some(230.11));
        assert_eq!(first.amperes, Some(0.54));
        assert_eq!(first.power_factor, Some(0.97));
        assert_eq!(first.energy.total, Some(4821.3));
        assert_eq!(first.returned.total, Some(0.0));
        assert_eq!(channels[1].watts, Some(-35.25), "energy flows back");
        assert_eq!(channels[1].returned.total, Some(733.9));
        assert_eq!(channels[3].output, Some(true));
    }

    #[test]
    fn meter_that_is_not_valid_has_no_values() {
        let text = br#"{"meters": [{"power": 9.5, "is_valid": false, "total": 5}], "relays": [{"ison": true}],
            "tmp": {"tC": 0.0, "tF": 32.0, "is_valid": false}}"#;
        let channels = parse(text).unwrap();
        let expected = Channel {
            output: Some(true),
            ..Channel::new("meter:0")
        };
        assert_eq!(channels, [expected]);
    }

    #[test]
    fn entry_without_a_meter_has_no_power() {
        for meter in [
            r#"{"power": 0.00, "is_valid": true}"#,
            r#"{"power": 60.00, "is_valid": "true"}"#,
            r#"{"power": 0, "is_valid": 1, "total": null, "counters": []}"#,
        ] {
            let text = format!(r#"{{"meters": [{meter}], "relays": [{{"ison": true}}]}}"#);
            let expected = Channel {
                output: Some(true),
                ..Channel::new("meter:0")
            };
            assert_eq!(parse(text.as_bytes()).unwrap(), [expected], "{meter}");
        }
        let real =
            br#"{"meters": [{"power": 0.0, "is_valid": "true", "counters": [0.0, 0.0, 0.0]}]}"#;
        assert_eq!(parse(real).unwrap()[0].watts, Some(0.0));
    }

    #[test]
    fn power_of_a_model_without_a_meter_is_dropped() {
        let text = br#"{"meters": [{"power": 60.0, "is_valid": true, "total": 77, "counters": [60.0, 60.0, 60.0]}],
            "relays": [{"ison": true}]}"#;
        for (model, watts) in [("SHSW-L", None), ("SHSW-1", None), ("SHSW-PM", Some(60.0))] {
            let mut channels = parse(text).unwrap();
            drop_unmeasured_power(model, &mut channels);
            assert_eq!(
                (channels[0].watts, channels[0].output),
                (watts, Some(true)),
                "{model}"
            );
            assert_eq!(
                channels[0].energy.total.is_some(),
                watts.is_some(),
                "{model}"
            );
        }
    }

    #[test]
    fn validity_is_read_from_booleans_numbers_and_text() {
        for (word, is) in [
            ("true", true),
            ("false", false),
            (r#""true""#, true),
            (r#""True""#, true),
            (r#""false""#, false),
            (r#""FALSE""#, false),
            ("1", true),
            ("0", false),
            ("null", true),
        ] {
            let text =
                format!(r#"{{"emeters": [{{"power": 9.5, "total": 5.0, "is_valid": {word}}}]}}"#);
            let channels = parse(text.as_bytes()).unwrap();
            assert_eq!(!channels.is_empty(), is, "{word}");
        }
    }

    #[test]
    fn value_of_another_type_is_absent() {
        let text = br#"{"meters": [{"power": "9.5", "total": null, "counters": 7}, 3, null], "relays": {"ison": 1},
            "temperature": [], "tmp": 5}"#;
        assert_eq!(parse(text), Ok(vec![]));
        assert_eq!(parse(b"[]"), Err("the answer is no status".to_string()));
        assert_eq!(
            parse(b"<html>"),
            Err("the answer is a page for people (HTML), and no JSON".to_string())
        );
        assert_eq!(
            parse(&PLUG_S[..100]),
            Err("the answer breaks off".to_string())
        );
    }

    #[test]
    fn many_channels_are_parsed_and_deep_nesting_is_refused() {
        let relays = vec![r#"{"ison": true}"#; 1000].join(",");
        let text = format!(r#"{{"relays": [{relays}]}}"#);
        assert_eq!(parse(text.as_bytes()).unwrap().len(), 1000);
        let deep = "[".repeat(60_000);
        assert!(parse(deep.as_bytes()).is_err());
    }
}
