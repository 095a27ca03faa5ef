//! Groups a chip's attributes into rails, by their names and labels alone
//! (Linux, Documentation/hwmon, each driver's own page).

use std::collections::{BTreeMap, BTreeSet};

use super::input::{Input, Quantity};

/// The values of one rail, as indices into the list of inputs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RailLayout {
    /// Its name within the chip.
    pub(super) name: String,
    pub(super) voltage: Option<usize>,
    pub(super) current: Option<usize>,
    pub(super) power: Option<usize>,
    pub(super) energy: Option<usize>,
}

impl RailLayout {
    /// Its inputs; the first is the one that names the rail.
    fn places(&self) -> impl Iterator<Item = usize> {
        let by_rank = [self.voltage, self.power, self.energy, self.current];
        by_rank.into_iter().flatten()
    }

    /// The slot for an input of this quantity; `None` if rails have none.
    fn slot(&mut self, quantity: Quantity) -> Option<&mut Option<usize>> {
        match quantity {
            Quantity::Voltage => Some(&mut self.voltage),
            Quantity::Current => Some(&mut self.current),
            Quantity::Power => Some(&mut self.power),
            Quantity::Energy => Some(&mut self.energy),
            Quantity::Temperature => None,
        }
    }

    /// Whether the power is known: measured, or voltage times current.
    pub(super) fn has_power(&self) -> bool {
        self.power.is_some()
            || self.energy.is_some()
            || self.voltage.is_some() && self.current.is_some()
    }

    /// The channel that names it if it has no label.
    fn channel(&self, inputs: &[Input]) -> String {
        let by_rank = [self.power, self.energy, self.voltage, self.current];
        let first = by_rank.into_iter().flatten().next();
        first.map(|i| inputs[i].channel()).unwrap_or_default()
    }
}

/// The rails of a chip.
///
/// Attributes with related PMBus labels (`vin`, `iin`, `pin`) form a rail, whatever their numbers. On other chips, voltage
/// and current of the same number do (but see [`current_of`]), with that number's power and energy, unless their labels differ.
/// Each other attribute is a rail of its own.
/// A channel labelled `NC` is not connected.
pub(super) fn rails(chip: &str, inputs: &[Input]) -> Vec<RailLayout> {
    let is = |i: &Input, label: &str| i.label.as_deref() == Some(label);
    let unconnected = |input: &Input| {
        let mut same = inputs.iter().filter(|i| i.number == input.number);
        is(input, "NC") || input.label.is_none() && same.any(|i| is(i, "NC"))
    };
    let mut stems: BTreeMap<&str, RailLayout> = BTreeMap::new();
    // By number, those beside a current before those that are beside none.
    let mut numbers: BTreeMap<(u32, bool), Vec<usize>> = BTreeMap::new();
    for (place, input) in inputs.iter().enumerate() {
        if input.quantity == Quantity::Temperature || unconnected(input) {
            continue;
        }
        if let Some(stem) = input.stem() {
            if let Some(slot @ None) = stems.entry(stem).or_default().slot(input.quantity) {
                *slot = Some(place);
                continue;
            }
        }
        let number = match (input.quantity, current_of(chip, input.number)) {
            (Quantity::Voltage, Some(current)) => (current, false),
            (Quantity::Voltage, None) => (input.number, true),
            _ => (input.number, false),
        };
        numbers.entry(number).or_default().push(place);
    }
    let mut rails: Vec<RailLayout> = stems.into_values().collect();
    for places in numbers.into_values() {
        rails.extend(rails_of_number(chip, inputs, &places));
    }
    name(&mut rails, inputs);
    rails
}

/// The number of the current that flows at a voltage of this number; `None`: no current of the chip does. It is the same, but where
/// the driver's page says otherwise (Linux, Documentation/hwmon: adm1177, isl28022, lineage-pem, ltc2992, ltc4261, max16065,
/// tsc1641).
fn current_of(chip: &str, voltage: u32) -> Option<u32> {
    match (chip, voltage) {
        ("adm1177" | "isl28022" | "tsc1641", 0) => Some(1),
        // Two supplies, and then four pins.
        ("ltc2992", 0 | 1) => Some(voltage + 1),
        // The output, and then the input, whose current and power it measures.
        ("lineage_pem", 2) => Some(1),
        // Twelve supervised supplies, and then the one with the current.
        ("max16065" | "max16066" | "max16070" | "max16071", 12) => Some(1),
        // Two pins. The current is that of the supply, whose voltage it does not measure.
        ("ltc4261", _) => None,
        ("ltc2992" | "lineage_pem" | "max16065" | "max16066" | "max16070" | "max16071", _) => None,
        _ => Some(voltage),
    }
}

/// The rails formed by the inputs of one number.
fn rails_of_number(chip: &str, inputs: &[Input], places: &[usize]) -> Vec<RailLayout> {
    let of = |quantity| {
        places
            .iter()
            .copied()
            .find(|i| inputs[*i].quantity == quantity)
    };
    let mut rails = Vec::new();
    let mut rest = places.to_vec();
    // The channels of an ADC (iio_hwmon) are numbered by quantity: equal numbers mean nothing.
    if let (Some(voltage), Some(current)) = (of(Quantity::Voltage), of(Quantity::Current)) {
        let label = inputs[voltage]
            .label
            .as_ref()
            .or(inputs[current].label.as_ref());
        let belongs = |i: &usize| label.is_none_or(|label| inputs[*i].is_called(label));
        if chip != "iio_hwmon" && belongs(&current) {
            let mut rail = RailLayout::default();
            rest.retain(|i| match rail.slot(inputs[*i].quantity) {
                Some(slot @ None) if belongs(i) => {
                    *slot = Some(*i);
                    false
                }
                _ => true,
            });
            rails.push(rail);
        }
    }
    for place in rest {
        let mut rail = RailLayout::default();
        if let Some(slot) = rail.slot(inputs[place].quantity) {
            *slot = Some(place);
            rails.push(rail);
        }
    }
    rails
}

/// Names rails by their labels or channels. Repeated labels get the channel appended.
fn name(rails: &mut [RailLayout], inputs: &[Input]) {
    let labels: Vec<Option<&String>> = rails
        .iter()
        .map(|rail| rail.places().find_map(|i| inputs[i].label.as_ref()))
        .collect();
    let repeats = repeated(labels.iter().flatten().copied());
    for (rail, label) in rails.iter_mut().zip(&labels) {
        let channel = rail.channel(inputs);
        rail.name = match label {
            None => channel,
            Some(text) if repeats.contains(text.as_str()) => {
                format!("{text}-{channel}")
            }
            Some(text) => (*text).clone(),
        };
    }
}

/// The labels that occur more than once.
fn repeated<'a>(labels: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let labels = labels.map(String::as_str);
    labels.filter(|label| !seen.insert(*label)).collect()
}

/// The chip's thermometers, as indices into the list of inputs, with names built like those of rails.
pub(super) fn sensors(inputs: &[Input]) -> Vec<(usize, String)> {
    let all = || {
        inputs
            .iter()
            .filter(|i| i.quantity == Quantity::Temperature)
    };
    let repeats = repeated(all().filter_map(|i| i.label.as_ref()));
    let name = |input: &Input| match &input.label {
        None => input.channel(),
        Some(label) if repeats.contains(label.as_str()) => {
            format!("{label}-{}", input.channel())
        }
        Some(label) => label.clone(),
    };
    let numbered = inputs.iter().enumerate();
    let thermometers = numbered.filter(|(_, i)| i.quantity == Quantity::Temperature);
    thermometers.map(|(place, i)| (place, name(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::hwmon::input::inputs;

    /// Inputs from words like `in1=VDD_IN` or `power1`.
    fn chip(name: &str, words: &str) -> Vec<Input> {
        let words = words.split_whitespace().map(|w| match w.split_once('=') {
            Some((channel, label)) => (channel, Some(label.replace('~', " "))),
            None => (w, None),
        });
        let words: BTreeMap<_, _> = words.collect();
        let files: Vec<_> = words.keys().map(|c| format!("{c}_input")).collect();
        let mut inputs = inputs(name, &files);
        for input in &mut inputs {
            input.label = words[input.channel().as_str()].clone();
        }
        inputs
    }

    /// `name=channel+channel` of each rail.
    fn shown(name: &str, words: &str) -> Vec<String> {
        let inputs = chip(name, words);
        let show = |rail: &RailLayout| {
            let mut channels: Vec<_> = rail.places().map(|i| inputs[i].channel()).collect();
            channels.sort();
            format!("{}={}", rail.name, channels.join("+"))
        };
        rails(name, &inputs).iter().map(show).collect()
    }

    #[test]
    fn ina226_is_one_rail() {
        assert_eq!(
            shown("ina226", "in0 in1 curr1 power1"),
            ["power1=curr1+in1+power1"]
        );
        assert_eq!(shown("ina238", "in0 in1 curr1 power1 energy1").len(), 1);
    }

    #[test]
    fn ina3221_has_three_rails_and_no_shunts() {
        assert_eq!(
            shown(
                "ina3221",
                "in1=VDD_IN in2=NC in3=VDD_SOC in4 in5 in6 in7=sum~of~shunt~voltages \
                 curr1 curr2 curr3 curr4"
            ),
            ["VDD_IN=curr1+in1", "VDD_SOC=curr3+in3"]
        );
        assert_eq!(shown("ina3221", "in2 curr2"), ["in2=curr2+in2"]);
    }

    #[test]
    fn pmbus_rails_follow_labels_not_numbers() {
        assert_eq!(
            shown(
                "pfe3000",
                "in1=vin in2=vcap in3=vout1 in4=vout2 curr1=iin curr2=iout1 curr3=iout2 \
                 power1=pin power2=pout1 power3=pout2"
            ),
            [
                "vin=curr1+in1+power1",
                "vout1=curr2+in3+power2",
                "vout2=curr3+in4+power3",
                "vcap=in2"
            ]
        );
    }

    #[test]
    fn voltage_and_current_of_different_numbers_are_one_rail_where_the_driver_counts_so() {
        assert_eq!(shown("adm1177", "in0 curr1"), ["in0=curr1+in0"]);
        assert_eq!(
            shown("isl28022", "in0 curr1 power1"),
            ["power1=curr1+in0+power1"]
        );
        assert_eq!(
            shown("ltc2992", "in0 in1 in2 in3 curr1 curr2 power1 power2"),
            [
                "power1=curr1+in0+power1",
                "power2=curr2+in1+power2",
                "in2=in2",
                "in3=in3"
            ]
        );
        assert_eq!(
            shown("lineage_pem", "in1 in2 curr1 power1"),
            ["power1=curr1+in2+power1", "in1=in1"]
        );
        assert_eq!(
            shown("max16065", "in0 in1 in12 curr1"),
            ["in0=in0", "in12=curr1+in12", "in1=in1"]
        );
        assert_eq!(
            shown("ltc4261", "in1 in2 curr1"),
            ["curr1=curr1", "in1=in1", "in2=in2"]
        );
    }

    #[test]
    fn inputs_with_different_labels_are_different_rails() {
        assert_eq!(
            shown("amdgpu", "in0=vddgfx in1=vddnb power1=PPT"),
            ["vddgfx=in0", "vddnb=in1", "PPT=power1"]
        );
        assert_eq!(
            shown("amdgpu", "in1=vddnb power1"),
            ["vddnb=in1", "power1=power1"]
        );
        assert_eq!(
            shown(
                "zenpower",
                "in1=SVI2_Core curr1=SVI2_C_Core power1=SVI2_P_Core"
            ),
            ["SVI2_Core=in1", "SVI2_C_Core=curr1", "SVI2_P_Core=power1"]
        );
        assert_eq!(shown("iio_hwmon", "in1 curr1"), ["in1=in1", "curr1=curr1"]);
        assert_eq!(
            shown("x", "in1 curr1=A power1=B"),
            ["A=curr1+in1", "B=power1"]
        );
    }

    #[test]
    fn repeated_labels_get_the_channel_appended() {
        assert_eq!(
            shown("x", "power1=CPU power2=CPU power3=GPU"),
            ["CPU-power1=power1", "CPU-power2=power2", "GPU=power3"]
        );
        assert_eq!(
            shown("x", "in1=vin in2=vin curr1=iin"),
            ["vin-in1=curr1+in1", "vin-in2=in2"]
        );
        let inputs = chip("x", "temp1=edge temp2=edge temp3 temp4=mem");
        let names: Vec<_> = sensors(&inputs).into_iter().map(|(_, n)| n).collect();
        assert_eq!(names, ["edge-temp1", "edge-temp2", "temp3", "mem"]);
    }
}
