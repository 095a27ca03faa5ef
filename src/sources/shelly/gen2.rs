//! The status of Gen2 and later, `GET /rpc/Shelly.GetStatus` (<https://shelly-api-docs.shelly.cloud/gen2/>): one object per
//! component, `switch:0`, `em:0`, …, with energy in watt-hours and, by minute, in milliwatt-hours. Values that a model does
//! not measure are missing.

use serde_json::{Map, Value};

use super::status::{number, Channel, Energy, CONDITIONS, MINUTES};
use crate::sources::json_answer;

/// Components with one channel, whose values have the same names.
const SINGLE_CHANNEL: &[&str] = &[
    "switch", "pm1", "cover", "light", "cct", "rgb", "rgbw", "rgbcct",
];

/// Parses the status.
///
/// # Errors
/// A message, if the response is not such a status.
pub fn parse(body: &[u8]) -> Result<Vec<Channel>, String> {
    let Value::Object(status) = json_answer::parse(body)? else {
        return Err("the answer is no status".to_string());
    };
    let mut channels = Vec::new();
    for (key, value) in &status {
        let Some((kind, id)) = key.split_once(':').filter(|(_, id)| is_id(id)) else {
            continue;
        };
        match kind {
            "em" => three_phases(&mut channels, key, value, data(&status, "emdata", id)),
            "em1" => channels.push(one_phase(key, value, data(&status, "em1data", id))),
            "temperature" => {
                let mut channel = Channel::new(key.as_str());
                channel.set_temperature(value);
                channels.push(channel);
            }
            kind if SINGLE_CHANNEL.contains(&kind) => channels.push(single_channel(key, value)),
            _ => {}
        }
    }
    channels.retain(|channel| !channel.is_empty());
    Ok(channels)
}

/// Whether this is a component's number. Anything else is ignored, since it would become a label.
fn is_id(id: &str) -> bool {
    (1..=4).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit())
}

/// The component with the energy of a meter.
fn data<'v>(status: &'v Map<String, Value>, kind: &str, id: &str) -> &'v Value {
    status.get(&format!("{kind}:{id}")).unwrap_or(&Value::Null)
}

fn single_channel(name: &str, value: &Value) -> Channel {
    let mut channel = Channel {
        watts: number(&value["apower"]),
        volts: number(&value["voltage"]),
        amperes: number(&value["current"]),
        power_factor: number(&value["pf"]),
        hertz: number(&value["freq"]),
        output: value["output"].as_bool(),
        energy: energy(&value["aenergy"]),
        returned: energy(&value["ret_aenergy"]),
        ..Channel::new(name)
    };
    channel.energy.subtract_returned(&channel.returned);
    channel.set_temperature(&value["temperature"]);
    set_errors(&mut channel, &value["errors"]);
    channel
}

/// `em:N`: the sum under the component's name, and the phases and the neutral conductor under their letters.
fn three_phases(channels: &mut Vec<Channel>, name: &str, value: &Value, data: &Value) {
    let mut sum = Channel {
        watts: number(&value["total_act_power"]),
        amperes: number(&value["total_current"]),
        energy: total(&data["total_act"]),
        returned: total(&data["total_act_ret"]),
        ..Channel::new(name)
    };
    set_errors(&mut sum, &value["errors"]);
    channels.push(sum);
    for phase in ["a", "b", "c", "n"] {
        let of = |source: &'_ Value, key: &str| source[format!("{phase}_{key}")].clone();
        let mut channel = Channel {
            watts: number(&of(value, "act_power")),
            volts: number(&of(value, "voltage")),
            amperes: number(&of(value, "current")),
            power_factor: number(&of(value, "pf")),
            hertz: number(&of(value, "freq")),
            energy: total(&of(data, "total_act_energy")),
            returned: total(&of(data, "total_act_ret_energy")),
            ..Channel::new(format!("{name}/{phase}"))
        };
        set_errors(&mut channel, &of(value, "errors"));
        channels.push(channel);
    }
}

fn one_phase(name: &str, value: &Value, data: &Value) -> Channel {
    let mut channel = Channel {
        watts: number(&value["act_power"]),
        volts: number(&value["voltage"]),
        amperes: number(&value["current"]),
        power_factor: number(&value["pf"]),
        hertz: number(&value["freq"]),
        energy: total(&data["total_act_energy"]),
        returned: total(&data["total_act_ret_energy"]),
        ..Channel::new(name)
    };
    set_errors(&mut channel, &value["errors"]);
    channel
}

impl Energy {
    /// Subtracts returned energy from what these components count: their `aenergy` also grows while power flows back, beside
    /// `ret_aenergy` (home-assistant/core#135394, evcc-io/evcc#32445). `em` and `em1` count the two apart. A counter below the
    /// returned energy cannot contain it and is left unchanged.
    fn subtract_returned(&mut self, returned: &Energy) {
        let consumed = |all: &mut Option<f64>, back: Option<f64>| {
            if let (Some(all), Some(back)) = (all, back) {
                if (0.0..=*all).contains(&back) {
                    // Rounded to the last digit that the device reports.
                    *all = ((*all - back) * 1000.0).round() / 1000.0;
                }
            }
        };
        consumed(&mut self.total, returned.total);
        for (all, back) in self.minutes.iter_mut().zip(returned.minutes) {
            consumed(all, back);
        }
    }
}

fn energy(value: &Value) -> Energy {
    let mut minutes = [None; MINUTES];
    for (minute, place) in minutes.iter_mut().enumerate() {
        *place = number(&value["by_minute"][minute]);
    }
    Energy {
        total: number(&value["total"]),
        minutes,
        minute_began: number(&value["minute_ts"]),
    }
}

fn total(value: &Value) -> Energy {
    Energy {
        total: number(value),
        ..Energy::default()
    }
}

/// Sets the number of errors. A channel reports `errors` only while there are some, so a channel that measures and does not
/// report any has none.
fn set_errors(channel: &mut Channel, value: &Value) {
    match value.as_array() {
        Some(errors) => {
            channel.errors = Some(errors.len());
            channel.conditions =
                CONDITIONS.map(|condition| Some(errors.iter().any(|error| error == condition)));
        }
        None if channel.watts.is_some() => {
            channel.errors = Some(0);
            channel.conditions = [Some(false); CONDITIONS.len()];
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            parse(include_bytes!(concat!(
                "../../../tests/fixtures/shelly/",
                $name,
                ".status.json"
            )))
            .unwrap()
        };
    }

    #[test]
    fn plug_has_one_channel() {
        let channels = fixture!("gen2_plus_plug_s");
        let [plug] = channels.as_slice() else {
            panic!("{channels:?}");
        };
        assert_eq!(plug.name, "switch:0");
        assert_eq!(
            (plug.watts, plug.volts, plug.amperes),
            (Some(2.7), Some(227.9), Some(0.121))
        );
        assert_eq!((plug.hertz, plug.power_factor), (None, None));
        assert_eq!(plug.output, Some(true));
        assert_eq!(plug.energy.total, Some(7258.589));
        assert_eq!(
            plug.energy.minutes,
            [Some(34.786), Some(45.552), Some(45.552)]
        );
        assert_eq!(plug.energy.minute_began, Some(1_707_326_925.0));
        assert_eq!(plug.returned, Energy::default());
        assert_eq!((plug.celsius, plug.fahrenheit), (Some(32.1), Some(89.7)));
        assert_eq!((plug.errors, plug.conditions), (Some(0), [Some(false); 4]));
    }

    #[test]
    fn returned_energy_is_subtracted_unless_it_exceeds_the_counter() {
        let text = br#"{"pm1:0": {"apower": -63.1, "aenergy": {"total": 330.473, "by_minute": [1053.994, 900.0, 5.0]},
            "ret_aenergy": {"total": 128.950, "by_minute": [1053.994, 400.5, 0.0]}}, "switch:0": {"apower": 5.0,
            "aenergy": {"total": 7.0}, "ret_aenergy": {"total": 9.0}}}"#;
        let channels = parse(text).unwrap();
        let [pm1, switch] = channels.as_slice() else {
            panic!("{channels:?}");
        };
        assert_eq!(pm1.energy.total, Some(201.523));
        assert_eq!(pm1.energy.minutes, [Some(0.0), Some(499.5), Some(5.0)]);
        assert_eq!(pm1.returned.total, Some(128.95));
        assert_eq!(
            switch.energy.total,
            Some(7.0),
            "it does not contain the returned energy"
        );
    }

    #[test]
    fn four_switches_are_four_channels() {
        let channels = fixture!("gen2_pro_4pm");
        let names: Vec<_> = channels.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["switch:0", "switch:1", "switch:2", "switch:3"]);
        assert_eq!(
            (channels[3].hertz, channels[3].power_factor),
            (Some(60.0), Some(0.0))
        );
    }

    #[test]
    fn three_phases_have_a_sum() {
        let channels = fixture!("gen2_pro_3em");
        let names: Vec<_> = channels.iter().map(|c| c.name.as_str()).collect();
        // The neutral conductor is not measured here: n_current is null.
        assert_eq!(
            names,
            ["em:0", "em:0/a", "em:0/b", "em:0/c", "temperature:0"]
        );
        assert_eq!(channels[0].watts, Some(558.965));
        assert_eq!(channels[0].amperes, Some(3.856));
        assert_eq!(channels[0].energy.total, Some(2_589_773.39));
        assert_eq!(channels[0].returned.total, Some(1026.61));
        assert_eq!(channels[2].watts, Some(171.0));
        assert_eq!(channels[2].power_factor, Some(0.77));
        assert_eq!(channels[2].energy.total, Some(185_700.25));
        assert_eq!(channels[3].returned.total, Some(985.91));
        assert_eq!(channels[4].celsius, Some(46.6));
    }

    #[test]
    fn switch_without_a_meter_has_neither_power_nor_errors() {
        let channels = fixture!("gen2_pro_em");
        let names: Vec<_> = channels.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["em1:0", "em1:1", "switch:0"]);
        assert_eq!(channels[1].watts, Some(-3190.4));
        assert_eq!(channels[1].energy.total, Some(8120.5));
        assert_eq!(channels[1].returned.total, Some(2601.75));
        let switch = &channels[2];
        assert_eq!((switch.watts, switch.output), (None, Some(true)));
        assert_eq!(
            switch.errors, None,
            "it reports no errors, and measures nothing"
        );
    }

    #[test]
    fn channel_without_returned_energy_keeps_its_counter() {
        let channels = fixture!("gen3_1pm_mini");
        assert_eq!(channels[0].watts, Some(25.7));
        assert_eq!(channels[0].hertz, Some(50.2));
        assert_eq!(channels[0].energy.total, Some(913.252));
        assert_eq!(channels[0].returned.total, Some(0.0));
        assert_eq!(channels[0].returned.minute_began, Some(1_782_936_360.0));
    }

    #[test]
    fn covers_lights_and_errors_are_read() {
        let text = br#"{"cover:0": {"id": 0, "apower": 12.5, "voltage": 230.1, "errors": ["overpower", "obstruction"]},
            "light:1": {"output": false, "apower": 0.5}, "input:0": {"state": true}, "switch:x": {"apower": 1},
            "switch:-1": {"apower": 1}, "pm1:0": {"apower": null, "errors": ["power_meter:out_of_range"]}}"#;
        let channels = parse(text).unwrap();
        let names: Vec<_> = channels.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["cover:0", "light:1", "pm1:0"]);
        assert_eq!(channels[0].errors, Some(2));
        assert_eq!(
            channels[0].conditions,
            [Some(false), Some(true), Some(false), Some(false)]
        );
        assert_eq!((channels[2].watts, channels[2].errors), (None, Some(1)));
    }

    #[test]
    fn value_of_another_type_is_absent() {
        let text = br#"{"switch:0": 7, "em:0": [], "em1:0": null, "switch:1": {"apower": "2.7", "aenergy": [1, 2],
            "temperature": "hot", "output": 1, "errors": "none"}}"#;
        assert_eq!(parse(text), Ok(vec![]));
        assert!(parse(b"[]").is_err());
    }
}
