//! What a device answers: who it is, and what it measures. Pure.

use serde_json::Value;

use crate::sources::json::quantity::Quantity;
use crate::sources::json::RailReading;
use crate::sources::json_answer;
use crate::sys::printable;

/// More sockets than any strip has.
pub const MAX_SOCKETS: usize = 32;
/// Bytes of a socket's id.
const MAX_ID: usize = 64;
/// Characters of the model and of the address.
const MAX_NAME: usize = 64;

/// Asks who the device is.
pub const GET_IDENTITY: &str = r#"{"system":{"get_sysinfo":{}}}"#;

/// Asks what is measured, at a socket of a strip or at a plug.
pub fn reading_request(socket: Option<&str>) -> String {
    let context = socket.map_or_else(String::new, |id| {
        format!(r#""context":{{"child_ids":["{id}"]}},"#)
    });
    format!(r#"{{{context}"emeter":{{"get_realtime":{{}}}}}}"#)
}

/// Who a device is.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// `HS110(EU)`
    pub model: String,
    /// The MAC address.
    pub mac: String,
    /// The ids of a strip's sockets, by number; none of a single plug. Empty: the device says none that can be asked for.
    pub sockets: Vec<String>,
    /// How many sockets are not read: they are too many, or have no id.
    pub left_out: usize,
    /// Whether it says that it measures energy.
    pub measures: bool,
}

impl Identity {
    /// The sockets that are read, by their numbers.
    pub fn sockets(&self) -> impl Iterator<Item = (usize, &str)> {
        let sockets = self.sockets.iter().map(String::as_str).enumerate();
        sockets.filter(|(_, id)| !id.is_empty())
    }

    /// Whether it has this socket.
    pub fn has_socket(&self, number: u32) -> bool {
        self.sockets().any(|(n, _)| n == number as usize)
    }

    /// Reads the answer to `get_sysinfo`. The error is for people.
    pub fn parse(body: &[u8]) -> Result<Identity, String> {
        let body = json_answer::parse(body)?;
        let info = result(&body["system"], "get_sysinfo")?;
        let text = |key: &str| info[key].as_str().map(shown).filter(|t| !t.is_empty());
        let children = info["children"].as_array().map_or(&[][..], Vec::as_slice);
        let device = info["deviceId"].as_str().unwrap_or_default();
        // Some firmware has the number of the socket alone, but wants the whole id.
        let id = |child: &Value| {
            let id = child["id"].as_str()?;
            let whole = match id.len() {
                0..=2 => format!("{device}{id}"),
                _ => id.to_string(),
            };
            is_id(&whole).then_some(whole)
        };
        let mut sockets: Vec<String> = children
            .iter()
            .take(MAX_SOCKETS)
            .map(|child| id(child).unwrap_or_default())
            .collect();
        let last = sockets.iter().rposition(|id| !id.is_empty());
        sockets.truncate(last.map_or(0, |last| last + 1));
        let read = sockets.iter().filter(|id| !id.is_empty()).count();
        let features = info["feature"].as_str().unwrap_or_default();
        let identity = Identity {
            model: text("model").unwrap_or_else(|| "device".to_string()),
            // Bulbs have another key.
            mac: text("mac").or_else(|| text("mic_mac")).unwrap_or_default(),
            left_out: children.len().saturating_sub(read),
            sockets,
            measures: features.split(':').any(|feature| feature == "ENE"),
        };
        Ok(identity)
    }
}

/// Whether this can be sent as a socket's id.
pub fn is_id(text: &str) -> bool {
    let is_one = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_one && (1..=MAX_ID).contains(&text.len())
}

/// What is measured at a socket: the answer to `get_realtime`. The error is for people.
///
/// The first hardware of the HS110 has volts, amperes, watts and kilowatt-hours; later devices have thousandths, and watt-hours, and
/// say so in the keys.
pub fn reading(body: &[u8], name: String) -> Result<RailReading, String> {
    let body = json_answer::parse(body)?;
    let measured = result(&body["emeter"], "get_realtime")?;
    let number = |key: &str| measured[key].as_f64();
    // Divided, so that exact decimals do not become 1.5050000000000001.
    let either = |plain: &str, thousandths: &str| {
        let thousandths = number(thousandths).map(|number| number / 1e3);
        thousandths.or_else(|| number(plain))
    };
    let watt_hours = number("total_wh").or_else(|| Some(number("total")? * 1e3));
    let mut reading = RailReading {
        name,
        ..RailReading::default()
    };
    for (quantity, value) in [
        (Quantity::Power, either("power", "power_mw")),
        (Quantity::Voltage, either("voltage", "voltage_mv")),
        (Quantity::Current, either("current", "current_ma")),
        (Quantity::Energy, watt_hours.map(|number| number * 3600.0)),
    ] {
        if let Some(slot) = reading.values.get_mut(quantity as usize) {
            *slot = value.filter(|number| number.is_finite());
        }
    }
    match reading.values.iter().any(Option::is_some) {
        true => Ok(reading),
        false => Err("the answer has no value that is known".to_string()),
    }
}

fn shown(text: &str) -> String {
    printable(text, MAX_NAME)
}

/// What a module answers to a command, if it is no error.
fn result<'a>(module: &'a Value, command: &str) -> Result<&'a Value, String> {
    for answer in [&module[command], module] {
        let code = answer["err_code"].as_i64().unwrap_or(0);
        if code != 0 {
            let message = answer["err_msg"].as_str().map(shown);
            let message = message.unwrap_or_else(|| "it does not say why".to_string());
            return Err(format!("the device refuses it: {message} (code {code})"));
        }
    }
    match &module[command] {
        found @ Value::Object(_) => Ok(found),
        _ => Err(format!("the answer has no {command}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(body: &str) -> [Option<f64>; 4] {
        let reading = reading(body.as_bytes(), String::new()).unwrap();
        let value = |quantity: Quantity| reading.values[quantity as usize];
        [
            value(Quantity::Power),
            value(Quantity::Voltage),
            value(Quantity::Current),
            value(Quantity::Energy),
        ]
    }

    /// Answers as public reports have them.
    #[test]
    fn both_kinds_of_units_are_read() {
        let first = r#"{"emeter":{"get_realtime":{"current":0.022636,"voltage":238.338504,"power":0.619029,"total":0.216000,"err_code":0}}}"#;
        let [watts, volts, amperes, joules] = values(first);
        assert_eq!((watts, volts), (Some(0.619029), Some(238.338504)));
        assert_eq!((amperes, joules), (Some(0.022636), Some(777_600.0)));
        let later = r#"{"emeter":{"get_realtime":{"voltage_mv":233509,"current_ma":39,"power_mw":1825,"total_wh":86,"err_code":0}}}"#;
        let [watts, volts, amperes, joules] = values(later);
        assert_eq!(watts, Some(1.825));
        assert_eq!((volts, amperes), (Some(233.509), Some(0.039)));
        assert_eq!(joules, Some(309_600.0));
        // A socket of a strip, without a load.
        let socket = r#"{"emeter":{"get_realtime":{"slot_id":0,"current_ma":0,"voltage_mv":121302,"power_mw":0,"total_wh":0,"err_code":0}}}"#;
        assert_eq!(values(socket)[0], Some(0.0));
    }

    #[test]
    fn answers_that_are_none_say_why() {
        for (body, why) in [
            (
                r#"{"emeter":{"err_code":-1,"err_msg":"module not support"}}"#,
                "the device refuses it: module not support (code -1)",
            ),
            (
                r#"{"emeter":{"get_realtime":{"err_code":-3,"err_msg":"invalid\nargument"}}}"#,
                "the device refuses it: invalidargument (code -3)",
            ),
            (
                r#"{"emeter":{"get_realtime":{"err_code":0}}}"#,
                "the answer has no value that is known",
            ),
            (
                r#"{"emeter":{"get_realtime":[]}}"#,
                "the answer has no get_realtime",
            ),
            (r#"{"emeter":7}"#, "the answer has no get_realtime"),
            ("", "the answer breaks off"),
        ] {
            assert_eq!(
                reading(body.as_bytes(), String::new()).unwrap_err(),
                why,
                "{body}"
            );
        }
        // What is no number is absent.
        let odd = r#"{"emeter":{"get_realtime":{"power_mw":"7","voltage":null,"total_wh":1}}}"#;
        assert_eq!(values(odd), [None, None, None, Some(3600.0)]);
    }

    #[test]
    fn strips_have_sockets_with_whole_ids() {
        let parse = |info: &str| {
            let body = format!(r#"{{"system":{{"get_sysinfo":{{"err_code":0,{info}}}}}}}"#);
            Identity::parse(body.as_bytes())
        };
        let plug = parse(
            r#""model":"HS110(EU)","mac":"50:C7:BF:00:00:01","feature":"TIM:ENE","deviceId":"8006""#,
        );
        let plug = plug.unwrap();
        assert_eq!(
            (plug.model.as_str(), plug.sockets.len(), plug.measures),
            ("HS110(EU)", 0, true)
        );
        let strip = parse(
            r#""model":"HS300(US)","feature":"TIM:ENE","deviceId":"8006AF","children":[{"id":"8006AF00","state":1},{"id":"01"},{"id":"x y"},{}]"#,
        );
        assert_eq!(strip.unwrap().sockets, ["8006AF00", "8006AF01"]);
        assert!(
            !parse(r#""model":"HS100(EU)","feature":"TIM""#)
                .unwrap()
                .measures
        );
        let many: Vec<_> = (10..99).map(|n| format!(r#"{{"id":"{n}"}}"#)).collect();
        let many = parse(&format!(r#""children":[{}]"#, many.join(","))).unwrap();
        assert_eq!(
            (many.sockets.len(), many.left_out),
            (MAX_SOCKETS, 89 - MAX_SOCKETS)
        );
        // A socket without an id does not make the next one take its number.
        let strip = parse(
            r#""deviceId":"8006AF","children":[{"id":"0a"},{"id":7},{"id":"a b c"},{"id":"0b"}]"#,
        );
        let strip = strip.unwrap();
        assert_eq!(strip.sockets, ["8006AF0a", "", "", "8006AF0b"]);
        assert_eq!(strip.left_out, 2);
        assert!(Identity::parse(br#"{"system":{}}"#).is_err());
    }
}
