//! The status of a device of any generation: channels, each with the values that the device reports.

use serde_json::Value;

/// More channels than any real device has. A device may have series of twice as many.
pub const MAX_CHANNELS: usize = 64;
/// The number of last minutes whose energy is reported.
pub const MINUTES: usize = 3;
/// The conditions that have a metric each, under Shelly's names.
pub const CONDITIONS: [&str; 4] = ["overtemp", "overpower", "overvoltage", "undervoltage"];

/// One switch, meter, phase or sensor. Values that the device does not report are `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Channel {
    /// The channel's permanent name: `switch:0`, `em:0/a`, `meter:0`. Empty for the device itself.
    pub name: String,
    /// Active power in watts. Negative while energy flows back.
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
    /// Consumed energy, without returned energy.
    pub energy: Energy,
    /// Energy that flowed back.
    pub returned: Energy,
    /// Degrees Celsius.
    pub celsius: Option<f64>,
    /// Degrees Fahrenheit, if the device reports these, too.
    pub fahrenheit: Option<f64>,
    /// The number of current error conditions.
    pub errors: Option<usize>,
    /// Whether each of [`CONDITIONS`] is present.
    pub conditions: [Option<bool>; CONDITIONS.len()],
}

/// An energy counter of the device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Energy {
    /// Watt-hours since the device began to count. Many devices begin again at a restart.
    pub total: Option<f64>,
    /// Milliwatt-hours of each of the last full minutes, the latest first.
    pub minutes: [Option<f64>; MINUTES],
    /// The Unix time at which the minute after these began, in seconds.
    pub minute_began: Option<f64>,
}

impl Channel {
    /// A channel without values.
    pub fn new(name: impl Into<String>) -> Channel {
        Channel {
            name: name.into(),
            ..Channel::default()
        }
    }

    /// Whether the channel has no values.
    pub fn is_empty(&self) -> bool {
        *self == Channel::new(self.name.as_str())
    }

    /// Whether the channel has power or energy.
    pub fn measures(&self) -> bool {
        self.watts.is_some() || self.energy.total.is_some()
    }

    /// Sets the temperature from `{"tC": …, "tF": …}`.
    pub(super) fn set_temperature(&mut self, value: &Value) {
        self.celsius = number(&value["tC"]);
        self.fahrenheit = number(&value["tF"]);
    }
}

/// A finite number. `None` for `null`, text and missing values.
pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|n| n.is_finite())
}
