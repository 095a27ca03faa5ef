//! What a value measures, its units, and numbers as devices write them.

use serde_json::Value;

/// What a value measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Watts; negative while power flows back.
    Power,
    /// The device's counter of consumed energy, in joules.
    Energy,
    /// The device's counter of energy that flowed back, in joules.
    EnergyReturned,
    /// Volts.
    Voltage,
    /// Amperes.
    Current,
    /// Degrees Celsius.
    Temperature,
}

/// A unit: its symbol, and how a number in it becomes one in the base unit, `(number + offset) * factor`.
#[derive(Debug, PartialEq)]
pub struct Unit {
    /// As it is written in answers and in the configuration.
    pub symbol: &'static str,
    factor: f64,
    offset: f64,
}

const fn unit(symbol: &'static str, factor: f64) -> Unit {
    Unit {
        symbol,
        factor,
        offset: 0.0,
    }
}

/// The base unit of each comes first.
static POWER: [Unit; 4] = [
    unit("W", 1.0),
    unit("kW", 1e3),
    unit("mW", 1e-3),
    unit("MW", 1e6),
];
static ENERGY: [Unit; 6] = [
    unit("J", 1.0),
    unit("kWh", 3.6e6),
    unit("Wh", 3600.0),
    unit("MWh", 3.6e9),
    unit("mWh", 3.6),
    unit("Ws", 1.0),
];
static VOLTAGE: [Unit; 3] = [unit("V", 1.0), unit("mV", 1e-3), unit("kV", 1e3)];
static CURRENT: [Unit; 2] = [unit("A", 1.0), unit("mA", 1e-3)];
static TEMPERATURE: [Unit; 4] = [
    unit("°C", 1.0),
    unit("C", 1.0),
    FAHRENHEIT,
    Unit {
        symbol: "F",
        ..FAHRENHEIT
    },
];
const FAHRENHEIT: Unit = Unit {
    symbol: "°F",
    factor: 5.0 / 9.0,
    offset: -32.0,
};

impl Quantity {
    /// All quantities.
    pub const ALL: [Quantity; 6] = [
        Quantity::Power,
        Quantity::Energy,
        Quantity::EnergyReturned,
        Quantity::Voltage,
        Quantity::Current,
        Quantity::Temperature,
    ];

    /// The key in the configuration.
    pub fn key(self) -> &'static str {
        match self {
            Quantity::Power => "power",
            Quantity::Energy => "energy",
            Quantity::EnergyReturned => "energy_returned",
            Quantity::Voltage => "voltage",
            Quantity::Current => "current",
            Quantity::Temperature => "temperature",
        }
    }

    /// The units, the base unit first.
    pub fn units(self) -> &'static [Unit] {
        match self {
            Quantity::Power => &POWER,
            Quantity::Energy | Quantity::EnergyReturned => &ENERGY,
            Quantity::Voltage => &VOLTAGE,
            Quantity::Current => &CURRENT,
            Quantity::Temperature => &TEMPERATURE,
        }
    }

    /// The unit with this symbol.
    pub fn unit(self, symbol: &str) -> Option<&'static Unit> {
        self.units().iter().find(|unit| unit.symbol == symbol)
    }

    /// Whether a number without a unit is taken for one in the base unit. Counters are in kWh, Wh or J, and none of these goes
    /// without saying.
    pub fn has_default_unit(self) -> bool {
        !self.is_counter()
    }

    /// Whether the values are a counter's.
    pub fn is_counter(self) -> bool {
        matches!(self, Quantity::Energy | Quantity::EnergyReturned)
    }

    /// Whether the values of parts, such as the phases of a meter, add up to that of the whole.
    pub fn adds_up(self) -> bool {
        self == Quantity::Power || self.is_counter()
    }

    /// The symbols for messages: `W, kW, mW or MW`.
    pub fn symbols(self) -> String {
        let symbols: Vec<_> = self.units().iter().map(|unit| unit.symbol).collect();
        match symbols.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => symbols.concat(),
        }
    }
}

impl Unit {
    /// The number in the base unit.
    pub fn to_base(&self, number: f64) -> f64 {
        (number + self.offset) * self.factor
    }
}

/// The number that a value is, and the text after it: JSON's numbers, `"12.3"` and `"12.3 W"`. `None` for everything else:
/// `null`, `true`, `"unavailable"`, `"NaN"`.
pub(super) fn number(value: &Value) -> Option<(f64, &str)> {
    match value {
        Value::Number(number) => Some((number.as_f64().filter(|n| n.is_finite())?, "")),
        Value::String(text) => leading_number(text),
        _ => None,
    }
}

/// The decimal number that a text begins with, and what comes after it.
fn leading_number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let is_any = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|b| any.contains(b));
    let mut end = digits(usize::from(is_any(0, b"+-")));
    if is_any(end, b".") {
        end = digits(end + 1);
    }
    if is_any(end, b"eE") {
        let from = end + 1 + usize::from(is_any(end + 1, b"+-"));
        end = Some(digits(from)).filter(|to| *to > from).unwrap_or(end);
    }
    let (number, rest) = text.split_at_checked(end)?;
    let number = number.parse::<f64>().ok().filter(|n| n.is_finite())?;
    Some((number, rest.trim_start()))
}

/// The unit that a text tells: `"W"`, or `"12.3 W"`.
pub(super) fn unit_text(text: &str) -> &str {
    leading_number(text).map_or_else(|| text.trim(), |(_, unit)| unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_read_as_devices_write_them() {
        for (value, expected) in [
            (json!(12.3), Some((12.3, ""))),
            (json!(-136), Some((-136.0, ""))),
            (json!("12.3"), Some((12.3, ""))),
            (json!(" 12.3 W "), Some((12.3, "W"))),
            (json!("-0.5kWh"), Some((-0.5, "kWh"))),
            (json!("+1.5e3 W"), Some((1500.0, "W"))),
            (json!("17.9 °C"), Some((17.9, "°C"))),
            (json!("5."), Some((5.0, ""))),
            (json!(".5"), Some((0.5, ""))),
            (json!("12 eV"), Some((12.0, "eV"))),
            (json!("12e"), Some((12.0, "e"))),
            (json!("2026-11-28"), Some((2026.0, "-11-28"))),
            (json!("0x10"), Some((0.0, "x10"))),
            (json!("unavailable"), None),
            (json!("unknown"), None),
            (json!("NaN"), None),
            (json!("NA"), None),
            (json!("inf"), None),
            (json!("-"), None),
            (json!("."), None),
            (json!(""), None),
            (json!("1e999"), None),
            (json!("°"), None),
            (json!(null), None),
            (json!(true), None),
            (json!([1]), None),
            (json!({"v": 1}), None),
        ] {
            assert_eq!(number(&value), expected, "{value}");
        }
    }

    #[test]
    fn units_become_base_units() {
        for (quantity, symbol, number, base) in [
            (Quantity::Power, "W", 12.3, 12.3),
            (Quantity::Power, "kW", 1.5, 1500.0),
            (Quantity::Power, "mW", 250.0, 0.25),
            (Quantity::Energy, "kWh", 2.0, 7.2e6),
            (Quantity::EnergyReturned, "Wh", 1.0, 3600.0),
            (Quantity::Energy, "MWh", 0.001, 3.6e6),
            (Quantity::Energy, "J", 5.0, 5.0),
            (Quantity::Voltage, "mV", 5000.0, 5.0),
            (Quantity::Current, "mA", 250.0, 0.25),
            (Quantity::Temperature, "°C", 24.5, 24.5),
            (Quantity::Temperature, "°F", 212.0, 100.0),
            (Quantity::Temperature, "F", 32.0, 0.0),
        ] {
            let found = quantity.unit(symbol).unwrap().to_base(number);
            assert!(
                (found - base).abs() < 1e-9 * base.abs().max(1.0),
                "{number} {symbol}: {found}"
            );
        }
        for (quantity, symbol) in [
            (Quantity::Power, "VA"),
            (Quantity::Power, "w"),
            (Quantity::Energy, "W"),
            (Quantity::Energy, ""),
        ] {
            assert_eq!(quantity.unit(symbol), None, "{symbol}");
        }
        assert_eq!(Quantity::Current.symbols(), "A or mA");
    }

    #[test]
    fn unit_is_read_from_a_text_with_or_without_a_number() {
        assert_eq!(unit_text(" kWh "), "kWh");
        assert_eq!(unit_text("12.3 W"), "W");
        assert_eq!(unit_text(""), "");
    }
}
