//! What a Tapo plug answers: who it is, and what it measures. Pure.

use serde_json::Value;

use crate::sources::json::quantity::Quantity;
use crate::sources::json::RailReading;
use crate::sources::json_answer;
use crate::sources::kasa::answer::{is_id, Identity, MAX_SOCKETS};
use crate::sys::printable;

/// Characters of the model and of the address.
const MAX_NAME: usize = 64;

/// What is asked for what a plug measures. No plug has all of them; what an earlier one says counts.
pub const MEASUREMENTS: [&str; 3] = ["get_emeter_data", "get_energy_usage", "get_current_power"];

/// The request for something, of a socket of a strip or of the plug itself.
pub fn request(method: &str, socket: Option<&str>) -> String {
    match socket {
        Some(id) => format!(
            r#"{{"method":"control_child","params":{{"device_id":"{id}","requestData":{{"method":"{method}"}}}}}}"#
        ),
        None => format!(r#"{{"method":"{method}"}}"#),
    }
}

/// The request for the sockets of a strip from this one on.
pub fn sockets_request(from: usize) -> String {
    format!(r#"{{"method":"get_child_device_list","params":{{"start_index":{from}}}}}"#)
}

/// Reads the answer to `get_device_info`: who it is, and whether it is a strip, whose sockets are asked for by themselves.
/// The error is for people.
pub fn identity(body: &[u8]) -> Result<(Identity, bool), String> {
    let info = result(body, false)?;
    let text = |key: &str| {
        let text = info[key].as_str().map(|text| printable(text, MAX_NAME));
        text.filter(|text| !text.is_empty())
    };
    let identity = Identity {
        model: text("model").unwrap_or_else(|| "device".to_string()),
        mac: text("mac").unwrap_or_default(),
        sockets: Vec::new(),
        left_out: 0,
        measures: true,
    };
    // A strip is switched by its sockets.
    Ok((identity, info["device_on"].is_null()))
}

/// Adds the sockets of an answer to `get_child_device_list`. Returns how many it had, and how many there are in all.
pub fn add_sockets(body: &[u8], identity: &mut Identity) -> Result<(usize, usize), String> {
    let list = result(body, false)?;
    let sockets = list["child_device_list"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    for socket in sockets {
        let id = socket["device_id"].as_str().filter(|id| is_id(id));
        let position = socket["position"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok());
        match (id, position.filter(|position| *position <= MAX_SOCKETS)) {
            (Some(id), Some(position)) => {
                let length = identity.sockets.len().max(position + 1);
                identity.sockets.resize(length, String::new());
                if let Some(slot) = identity.sockets.get_mut(position) {
                    *slot = id.to_string();
                }
            }
            _ => identity.left_out += 1,
        }
    }
    let sum = list["sum"].as_u64().and_then(|n| usize::try_from(n).ok());
    Ok((sockets.len(), sum.unwrap_or(sockets.len())))
}

/// Which of a plug's counters is followed. Each has watt-hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Since the month began. It survives a reboot.
    Month,
    /// Since midnight.
    Day,
    /// Since the plug was last without power.
    Start,
}

/// What is measured at a plug or a socket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    watts: Option<f64>,
    volts: Option<f64>,
    amperes: Option<f64>,
    /// Watt-hours.
    month: Option<f64>,
    day: Option<f64>,
    start: Option<f64>,
}

impl Measured {
    /// Adds what an answer to this method says. Returns whether that was anything new. The error is for people.
    pub fn add(&mut self, method: &str, body: &[u8], of_socket: bool) -> Result<bool, String> {
        let result = result(body, of_socket)?;
        let number = |key: &str| result[key].as_f64().filter(|number| number.is_finite());
        // Divided, so that exact decimals do not become 1.5050000000000001.
        let thousandths = |key: &str| number(key).map(|number| number / 1e3);
        let before = self.clone();
        let first = |slot: &mut Option<f64>, value: Option<f64>| *slot = slot.or(value);
        match method {
            "get_emeter_data" => {
                first(&mut self.watts, thousandths("power_mw"));
                first(&mut self.volts, thousandths("voltage_mv"));
                first(&mut self.amperes, thousandths("current_ma"));
                first(&mut self.start, number("energy_wh"));
            }
            "get_energy_usage" => {
                first(&mut self.watts, thousandths("current_power"));
                first(&mut self.month, number("month_energy"));
                first(&mut self.day, number("today_energy"));
            }
            // Whole watts.
            _ => first(&mut self.watts, number("current_power")),
        }
        Ok(*self != before)
    }

    /// Whether there is a power.
    pub fn has_power(&self) -> bool {
        self.watts.is_some()
    }

    /// The counter to follow: the one that is reset least often.
    pub fn counter(&self) -> Option<Counter> {
        let all = [Counter::Month, Counter::Day, Counter::Start];
        all.into_iter()
            .find(|counter| self.watt_hours(*counter).is_some())
    }

    fn watt_hours(&self, counter: Counter) -> Option<f64> {
        match counter {
            Counter::Month => self.month,
            Counter::Day => self.day,
            Counter::Start => self.start,
        }
    }

    /// The reading of a rail, with this counter's energy.
    pub fn reading(&self, name: String, counter: Option<Counter>) -> RailReading {
        let mut reading = RailReading {
            name,
            ..RailReading::default()
        };
        let watt_hours = counter.and_then(|counter| self.watt_hours(counter));
        for (quantity, value) in [
            (Quantity::Power, self.watts),
            (Quantity::Voltage, self.volts),
            (Quantity::Current, self.amperes),
            (Quantity::Energy, watt_hours.map(|number| number * 3600.0)),
        ] {
            if let Some(slot) = reading.values.get_mut(quantity as usize) {
                *slot = value;
            }
        }
        reading
    }
}

/// What was asked for, of the plug itself or of a socket, if the answer is no error.
fn result(body: &[u8], of_socket: bool) -> Result<Value, String> {
    let mut body = json_answer::parse(body)?;
    let mut result = accepted(&mut body)?;
    if of_socket {
        let mut answer = result["responseData"].take();
        result = accepted(&mut answer)?;
    }
    match result.is_object() {
        true => Ok(result),
        false => Err("the answer has no result".to_string()),
    }
}

fn accepted(answer: &mut Value) -> Result<Value, String> {
    match answer["error_code"].as_i64() {
        Some(0) => Ok(answer
            .get_mut("result")
            .map(Value::take)
            .unwrap_or_default()),
        Some(code) => Err(format!("the plug refuses it (code {code})")),
        None => Err("the answer has no error_code".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As P110, P110M and P304M answer; no two have the same.
    const USAGE: &str = r#"{"result":{"today_runtime":306,"month_runtime":12572,"today_energy":173,"month_energy":6110,"local_time":"2024-11-22 21:03:25","electricity_charge":[0,0,0],"current_power":74116},"error_code":0}"#;
    const EMETER: &str = r#"{"result":{"current_ma":33,"energy_wh":971,"power_mw":1003,"voltage_mv":121215},"error_code":0}"#;
    const SOCKET_USAGE: &str = r#"{"result":{"responseData":{"error_code":0,"result":{"electricity_charge":[0,0,0],"month_energy":14,"today_energy":3}}},"error_code":0}"#;
    const SOCKET_POWER: &str = r#"{"result":{"responseData":{"error_code":0,"result":{"current_power":17}}},"error_code":0}"#;

    fn values(measured: &Measured) -> [Option<f64>; 4] {
        let reading = measured.reading(String::new(), measured.counter());
        let value = |quantity: Quantity| reading.values[quantity as usize];
        [
            value(Quantity::Power),
            value(Quantity::Voltage),
            value(Quantity::Current),
            value(Quantity::Energy),
        ]
    }

    #[test]
    fn values_of_all_models_are_read() {
        let mut plug = Measured::default();
        assert_eq!(
            plug.add("get_energy_usage", USAGE.as_bytes(), false),
            Ok(true)
        );
        assert_eq!(
            values(&plug),
            [Some(74.116), None, None, Some(6110.0 * 3600.0)]
        );
        // What the meter says comes first, but the counter that is reset least often.
        let mut plug = Measured::default();
        assert_eq!(
            plug.add("get_emeter_data", EMETER.as_bytes(), false),
            Ok(true)
        );
        assert_eq!(plug.counter(), Some(Counter::Start));
        assert_eq!(
            plug.add("get_energy_usage", USAGE.as_bytes(), false),
            Ok(true)
        );
        let wanted = [
            Some(1.003),
            Some(121.215),
            Some(0.033),
            Some(6110.0 * 3600.0),
        ];
        assert_eq!(values(&plug), wanted);
        assert_eq!(
            plug.add("get_energy_usage", USAGE.as_bytes(), false),
            Ok(false)
        );
        // Sockets without a power of their own in milliwatts.
        let mut socket = Measured::default();
        assert_eq!(
            socket.add("get_energy_usage", SOCKET_USAGE.as_bytes(), true),
            Ok(true)
        );
        assert!(!socket.has_power());
        assert_eq!(
            socket.add("get_current_power", SOCKET_POWER.as_bytes(), true),
            Ok(true)
        );
        assert_eq!(
            values(&socket),
            [Some(17.0), None, None, Some(14.0 * 3600.0)]
        );
    }

    #[test]
    fn answers_that_are_none_say_why() {
        for (body, of_socket, why) in [
            (
                r#"{"error_code":-1002}"#,
                false,
                "the plug refuses it (code -1002)",
            ),
            (
                r#"{"error_code":0,"result":{"responseData":{"error_code":-1001}}}"#,
                true,
                "the plug refuses it (code -1001)",
            ),
            (
                r#"{"error_code":0,"result":{}}"#,
                true,
                "the answer has no error_code",
            ),
            (
                r#"{"error_code":0,"result":7}"#,
                false,
                "the answer has no result",
            ),
            (r#"{"error_code":0}"#, false, "the answer has no result"),
            (
                r#"{"system":{"get_sysinfo":{}}}"#,
                false,
                "the answer has no error_code",
            ),
            ("[]", false, "the answer has no error_code"),
            ("7", false, "the answer has no error_code"),
            ("", false, "the answer breaks off"),
        ] {
            let mut measured = Measured::default();
            let refused = measured.add("get_energy_usage", body.as_bytes(), of_socket);
            assert_eq!(refused.unwrap_err(), why, "{body}");
        }
        // What is no number is absent.
        let mut measured = Measured::default();
        let odd = br#"{"error_code":0,"result":{"current_power":"7","month_energy":null,"today_energy":2}}"#;
        assert_eq!(measured.add("get_energy_usage", odd, false), Ok(true));
        assert_eq!(values(&measured), [None, None, None, Some(7200.0)]);
    }

    #[test]
    fn sockets_have_the_numbers_of_the_strip() {
        let plug = r#"{"result":{"model":"P110","mac":"9C-53-22-00-00-01","device_on":true},"error_code":0}"#;
        let (plug, is_strip) = identity(plug.as_bytes()).unwrap();
        assert_eq!((plug.model.as_str(), is_strip), ("P110", false));
        let strip =
            r#"{"result":{"model":"P304M\u0007","mac":"A8-6E-84-00-00-01"},"error_code":0}"#;
        let (mut strip, is_strip) = identity(strip.as_bytes()).unwrap();
        assert_eq!((strip.model.as_str(), is_strip), ("P304M", true));
        let first = r#"{"error_code":0,"result":{"start_index":0,"sum":5,"child_device_list":[
            {"device_id":"80AF02","position":3},{"device_id":"80AF00","position":1},{"device_id":"a b","position":2}]}}"#;
        assert_eq!(add_sockets(first.as_bytes(), &mut strip), Ok((3, 5)));
        let second = r#"{"error_code":0,"result":{"start_index":3,"sum":5,"child_device_list":[
            {"device_id":"80AF03","position":4},{"device_id":"80AF04","position":99}]}}"#;
        assert_eq!(add_sockets(second.as_bytes(), &mut strip), Ok((2, 5)));
        let sockets: Vec<_> = strip.sockets().collect();
        assert_eq!(sockets, [(1, "80AF00"), (3, "80AF02"), (4, "80AF03")]);
        assert_eq!(
            (strip.left_out, strip.has_socket(0), strip.has_socket(3)),
            (2, false, true)
        );
        assert_eq!(
            request("get_energy_usage", Some("80AF00")),
            r#"{"method":"control_child","params":{"device_id":"80AF00","requestData":{"method":"get_energy_usage"}}}"#
        );
    }
}
