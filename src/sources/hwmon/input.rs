//! A chip's measured values, by the names of its files (Linux, Documentation/hwmon/sysfs-interface.rst).

use std::collections::BTreeMap;

/// What an attribute measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
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

impl Kind {
    const ALL: [Kind; 5] = [
        Kind::Voltage,
        Kind::Current,
        Kind::Power,
        Kind::Energy,
        Kind::Temperature,
    ];

    /// What its attributes' names begin with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Kind::Voltage => "in",
            Kind::Current => "curr",
            Kind::Power => "power",
            Kind::Energy => "energy",
            Kind::Temperature => "temp",
        }
    }

    /// The letter that PMBus labels begin with (`vin`, `iout1`, `pin`).
    fn letter(self) -> Option<char> {
        match self {
            Kind::Voltage => Some('v'),
            Kind::Current => Some('i'),
            Kind::Power => Some('p'),
            Kind::Energy | Kind::Temperature => None,
        }
    }
}

/// One measured value of a chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) kind: Kind,
    pub(super) number: u32,
    /// The attribute's file.
    pub(super) file: String,
    /// What its label says, once that was read.
    pub(super) label: Option<String>,
}

impl Input {
    /// `power1`, `in0`: the channel, as its attributes' names begin.
    pub(super) fn channel(&self) -> String {
        format!("{}{}", self.kind.prefix(), self.number)
    }

    pub(super) fn is_called(&self, label: &str) -> bool {
        self.label.as_ref().is_none_or(|own| own == label)
    }

    /// What a PMBus label has after its letter: `in`, `out1`.
    pub(super) fn stem(&self) -> Option<&str> {
        let stem = self.label.as_deref()?.strip_prefix(self.kind.letter()?)?;
        let direction = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        matches!(direction, "in" | "out").then_some(stem)
    }
}

/// Splits `curr1_input` into its parts.
fn split(file: &str) -> Option<(Kind, u32, &str)> {
    let (channel, item) = file.split_once('_')?;
    let letters = channel.trim_end_matches(|c: char| c.is_ascii_digit());
    let kind = Kind::ALL.into_iter().find(|k| k.prefix() == letters)?;
    Some((kind, channel[letters.len()..].parse().ok()?, item))
}

/// Whether a file of this name is a measured value.
pub(super) fn is_value(file: &str) -> bool {
    match split(file) {
        Some((_, _, "input")) => true,
        Some((kind, _, "average")) => kind == Kind::Power,
        _ => false,
    }
}

/// The values among a chip's files. A power's `input` goes before its `average`.
pub(super) fn inputs(chip: &str, files: &[String]) -> Vec<Input> {
    let mut found: BTreeMap<(Kind, u32), &String> = BTreeMap::new();
    for file in files {
        match split(file) {
            Some((kind, number, "input")) if !is_of_shunt(chip, kind, number) => {
                found.insert((kind, number), file);
            }
            Some((Kind::Power, number, "average")) => {
                found.entry((Kind::Power, number)).or_insert(file);
            }
            _ => {}
        }
    }
    let input = |((kind, number), file): (_, &String)| Input {
        kind,
        number,
        file: file.clone(),
        label: None,
    };
    found.into_iter().map(input).collect()
}

/// Whether an attribute is the voltage across a shunt (the current once more) or a sum of several shunts, by the
/// drivers' pages ina209, ina2xx, ina238, ina3221 and isl28022.
fn is_of_shunt(chip: &str, kind: Kind, number: u32) -> bool {
    match kind {
        Kind::Voltage | Kind::Current if chip == "ina3221" => number > 3,
        Kind::Voltage if chip == "isl28022" => number == 1,
        Kind::Voltage if chip.starts_with("ina2") || chip == "sq52206" => number == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_told_by_their_names() {
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
