//! Recognises a chip's measured values by the names of its files (Linux, Documentation/hwmon/sysfs-interface.rst).

use std::collections::BTreeMap;

/// The quantity that an attribute measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quantity {
    /// `inN`, in mV.
    Voltage,
    /// `currN`, in mA.
    Current,
    /// `powerN`, in µW.
    Power,
    /// `energyN`, in µJ: a counter.
    Energy,
    /// `tempN`, in thousandths of a degree Celsius.
    Temperature,
}

impl Quantity {
    const ALL: [Quantity; 5] = [
        Quantity::Voltage,
        Quantity::Current,
        Quantity::Power,
        Quantity::Energy,
        Quantity::Temperature,
    ];

    /// The prefix of its attributes' names.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Quantity::Voltage => "in",
            Quantity::Current => "curr",
            Quantity::Power => "power",
            Quantity::Energy => "energy",
            Quantity::Temperature => "temp",
        }
    }

    /// The letter that PMBus labels begin with (`vin`, `iout1`, `pin`).
    fn letter(self) -> Option<char> {
        match self {
            Quantity::Voltage => Some('v'),
            Quantity::Current => Some('i'),
            Quantity::Power => Some('p'),
            Quantity::Energy | Quantity::Temperature => None,
        }
    }
}

/// One measured value of a chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) quantity: Quantity,
    pub(super) number: u32,
    /// The attribute's file.
    pub(super) file: String,
    /// Its label, once that was read.
    pub(super) label: Option<String>,
}

impl Input {
    /// The channel, the prefix of its attributes' names: `power1`, `in0`.
    pub(super) fn channel(&self) -> String {
        format!("{}{}", self.quantity.prefix(), self.number)
    }

    pub(super) fn is_called(&self, label: &str) -> bool {
        self.label.as_ref().is_none_or(|own| own == label)
    }

    /// The PMBus label without its letter: `in`, `out1`.
    pub(super) fn stem(&self) -> Option<&str> {
        let stem = self
            .label
            .as_deref()?
            .strip_prefix(self.quantity.letter()?)?;
        let direction = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        matches!(direction, "in" | "out").then_some(stem)
    }
}

/// Splits `curr1_input` into its parts.
fn split(file: &str) -> Option<(Quantity, u32, &str)> {
    let (channel, item) = file.split_once('_')?;
    let letters = channel.trim_end_matches(|c: char| c.is_ascii_digit());
    let kind = Quantity::ALL.into_iter().find(|k| k.prefix() == letters)?;
    Some((kind, channel[letters.len()..].parse().ok()?, item))
}

/// Whether a file of this name is a measured value.
pub(super) fn is_value(file: &str) -> bool {
    match split(file) {
        Some((_, _, "input")) => true,
        Some((kind, _, "average")) => kind == Quantity::Power,
        _ => false,
    }
}

/// The measured values among a chip's files. A power's `input` is preferred to its `average`.
pub(super) fn inputs(chip: &str, files: &[String]) -> Vec<Input> {
    let mut found: BTreeMap<(Quantity, u32), &String> = BTreeMap::new();
    for file in files {
        match split(file) {
            Some((kind, number, "input")) if !is_of_shunt(chip, kind, number) => {
                found.insert((kind, number), file);
            }
            Some((Quantity::Power, number, "average")) => {
                found.entry((Quantity::Power, number)).or_insert(file);
            }
            _ => {}
        }
    }
    let input = |((quantity, number), file): (_, &String)| Input {
        quantity,
        number,
        file: file.clone(),
        label: None,
    };
    found.into_iter().map(input).collect()
}

/// Whether an attribute is the voltage across a shunt (the current in another form) or a sum of several shunts, by the
/// drivers' pages ina209, ina2xx, ina238, ina3221 and isl28022.
fn is_of_shunt(chip: &str, kind: Quantity, number: u32) -> bool {
    match kind {
        Quantity::Voltage | Quantity::Current if chip == "ina3221" => number > 3,
        Quantity::Voltage if chip == "isl28022" => number == 1,
        Quantity::Voltage if chip.starts_with("ina2") || chip == "sq52206" => number == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_recognised_by_file_names() {
        let files = [
            "in0_input",
            "in1_input",
            "in1_label",
            "in1_alarm",
            "intrusion0_alarm",
            "fan1_input",
            "curr1_input",
            "curr1_max",
            "power1_average",
            "power2_average",
            "power2_input",
            "power3_cap",
            "energy1_input",
            "temp_input",
            "temp1_input",
            "temp99999999999_input",
            "inx_input",
            "in_input",
            "_input",
            "input",
            "",
            "in٣_input",
        ];
        let files = files.map(String::from);
        let found = inputs("x", &files).into_iter().map(|i| i.file);
        let found: Vec<_> = found.collect();
        assert_eq!(
            found.join(" "),
            "in0_input in1_input curr1_input power1_average power2_input energy1_input temp1_input"
        );
    }
}
