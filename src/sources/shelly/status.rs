//! What a device says, whatever its generation: channels, each with the values that it has.

use serde_json::Value;

/// More channels than any device has.
pub const MAX_CHANNELS: usize = 64;
/// So many of the last minutes' energies are told.
pub const MINUTES: usize = 3;
/// The conditions that have a metric of their own, as Shelly calls them.
pub const CONDITIONS: [&str; 4] = ["overtemp", "overpower", "overvoltage", "undervoltage"];

/// One switch, meter, phase or sensor. What it does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Channel {
    /// Its name, the same for as long as the device is: `switch:0`, `em:0/a`, `meter:0`. Empty: the device itself.
    pub name: String,
    /// Active power in watts; below zero where it flows back.
    pub watts: Option<f64>,
    /// Volts.
    pub volts: Option<f64>,
    /// Amperes.
    pub amperes: Option<f64>,
    /// Power factor.
    pub power_factor: Option<f64>,
    /// Mains frequency in hertz.
    pub hertz: Option<f64>,
    /// Whether the output is on.
    pub output: Option<bool>,
    /// Energy that was consumed: without what flowed back.
    pub energy: Energy,
    /// Energy that flowed back.
    pub returned: Energy,
    /// Degrees Celsius.
    pub celsius: Option<f64>,
    /// Degrees Fahrenheit, which the device says too.
    pub fahrenheit: Option<f64>,
    /// How many error conditions there are now.
    pub errors: Option<usize>,
    /// Whether each of [`CONDITIONS`] is among them.
    pub conditions: [Option<bool>; CONDITIONS.len()],
}

/// An energy counter of the device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Energy {
    /// Watt-hours since the device began to count; many begin anew when they restart.
    pub total: Option<f64>,
    /// Milliwatt-hours of each of the last full minutes, the latest first.
    pub minutes: [Option<f64>; MINUTES],
    /// When the minute began that these come before, in Unix seconds.
    pub minute_began: Option<f64>,
}

impl Channel {
    /// A channel that says nothing yet.
    pub fn new(name: impl Into<String>) -> Channel {
        Channel {
            name: name.into(),
            ..Channel::default()
        }
    }

    /// Whether it says anything at all.
    pub fn is_empty(&self) -> bool {
        *self == Channel::new(self.name.as_str())
    }

    /// Whether it says something of power or energy.
    pub fn measures(&self) -> bool {
        self.watts.is_some() || self.energy.total.is_some()
    }

    /// Sets the temperature from `{"tC": …, "tF": …}`.
    pub(super) fn set_temperature(&mut self, value: &Value) {
        self.celsius = number(&value["tC"]);
        self.fahrenheit = number(&value["tF"]);
    }
}

/// A finite number. `null`, text and what is not there are none.
pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|n| n.is_finite())
}

/// The answer as JSON. The parser bounds its depth (128), the client its size.
pub(super) fn json(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() {
            "the answer breaks off".to_string()
        } else {
            "the answer is not JSON".to_string()
        }
    })
}
