//! Which rails are what the whole board draws.

use std::collections::BTreeSet;

/// What the driver of ACPI's power meters calls them (Linux, drivers/hwmon/acpi_power_meter.c).
const ACPI: &str = "power_meter";

/// Power supplies with PMBus, by how their names begin. Each of several feeds the same board.
const SUPPLIES: &[&str] = &[
    "acbel",
    "cffps",
    "corsairpsu",
    "crps",
    "dps",
    "fsp",
    "inspur_ips",
    "ipsps",
    "pfe1100",
    "pfe3000",
    "ym2151",
    "yh5151",
];

/// Chips whose purpose is to measure a supply, by how their names begin: current monitors and hot-swap controllers.
/// Voltage regulators are none: they feed a part of the board.
const MONITORS: &[&str] = &[
    "adm1075", "adm117", "adm127", "adm129", "ina2", "ina3221", "isl28022", "lm2506", "lm506",
    "ltc294", "ltc299", "ltc415", "ltc421", "ltc422", "ltc424", "ltc426", "ltc428", "sq52206",
];

/// What a board's input is labelled, in capitals and with nothing but letters and digits.
const INPUTS: &[&str] = &[
    "BOARDINPUT",
    "INPUT",
    "INPUTPOWER",
    "PIN",
    "POM5VIN",
    "POWERTOTAL",
    "SYSTEMPOWER",
    "TOTAL",
    "TOTALPOWER",
    "TOTALSYSTEMPOWER",
    "VDDIN",
    "VIN",
];

/// A rail whose power is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// The number of its chip.
    pub(super) chip: usize,
    /// What the chip calls itself.
    pub(super) model: &'a str,
    /// The rail's name within the chip.
    pub(super) rail: &'a str,
}

impl Candidate<'_> {
    fn is_one_of(&self, models: &[&str]) -> bool {
        models.iter().any(|name| self.model.starts_with(name))
    }

    fn is_of_monitor(&self) -> bool {
        self.is_one_of(MONITORS) || self.is_of_supply()
    }

    fn is_of_supply(&self) -> bool {
        self.is_one_of(SUPPLIES)
    }

    /// What a supply takes in, by PMBus's labels.
    fn is_supplys_input(&self) -> bool {
        self.is_of_supply() && matches!(self.stem(), "vin" | "pin")
    }

    /// The label, where one that repeats within its chip has the channel behind it (`pin-power1`).
    fn stem(&self) -> &str {
        self.rail.split('-').next().unwrap_or(self.rail)
    }

    fn is_acpi_meter(&self) -> bool {
        self.model == ACPI
    }

    /// NVIDIA's Grace has a meter for each of several rails of a socket. What a module draws has all others in it
    /// (NVIDIA Grace Performance Tuning Guide, "Power Telemetry").
    fn is_of_module(&self) -> bool {
        let words = self.rail.to_ascii_lowercase().replace('_', " ");
        self.is_acpi_meter() && words.starts_with("module power")
    }

    fn is_labelled_input(&self) -> bool {
        let mut label = self.rail.to_ascii_uppercase();
        label.retain(|c| c.is_ascii_alphanumeric());
        // A regulator on PMBus has a `vin` too, which is one of many.
        let is_of_pmbus = matches!(self.rail, "vin" | "pin");
        INPUTS.contains(&label.as_str()) && (!is_of_pmbus || self.is_one_of(MONITORS))
    }
}

/// The places of the rails whose sum is the total; none where that is not clear.
///
/// That is the only ACPI power meter, or those of the modules; what all power supplies take in; the only rail of the only
/// monitoring chip; or the only one that is labelled as the board's input.
pub(super) fn by_rule(candidates: &[Candidate<'_>]) -> Vec<usize> {
    let of = |is: &dyn Fn(&Candidate<'_>) -> bool| -> Vec<usize> {
        let places = 0..candidates.len();
        places.filter(|i| is(&candidates[*i])).collect()
    };
    let only = |is| Some(of(is)).filter(|places| places.len() == 1);
    let some = |is| Some(of(is)).filter(|places| !places.is_empty());
    let chips = |places: &[usize]| {
        let chips: BTreeSet<_> = places.iter().map(|i| candidates[*i].chip).collect();
        chips.len()
    };
    // One supply whose input is not known makes the sum too small.
    let of_supplies = || {
        let inputs = some(&|c| c.is_supplys_input())?;
        (chips(&inputs) == chips(&of(&|c| c.is_of_supply()))).then_some(inputs)
    };
    only(&|c| c.is_acpi_meter())
        .or_else(|| some(&|c| c.is_of_module()))
        .or_else(of_supplies)
        .or_else(|| only(&|c| c.is_of_monitor()))
        .or_else(|| only(&|c| c.is_labelled_input()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rails of the total, joined by `+`.
    fn total(rails: &[(&str, &'static str)]) -> Option<String> {
        let mut chip = 0;
        let mut candidates: Vec<Candidate<'_>> = Vec::new();
        for &(model, rail) in rails {
            // The rail that a chip begins with comes again: another chip.
            let of_chip = |c: &Candidate<'_>| c.chip == chip && c.model == model;
            let begins = !candidates.iter().any(of_chip);
            let again = candidates.iter().any(|c| of_chip(c) && c.rail == rail);
            chip += usize::from(begins || again);
            candidates.push(Candidate { chip, model, rail });
        }
        let rails: Vec<_> = by_rule(&candidates).iter().map(|i| rails[*i].1).collect();
        (!rails.is_empty()).then(|| rails.join("+"))
    }

    fn is(rails: &str) -> Option<String> {
        Some(rails.to_string())
    }

    #[test]
    fn the_only_rail_of_the_only_monitor() {
        assert_eq!(total(&[("ina226", "power1")]), is("power1"));
        let with_gpu = [("amdgpu", "PPT"), ("ltc2945", "power1")];
        assert_eq!(total(&with_gpu), is("power1"));
        assert_eq!(total(&[("amdgpu", "PPT")]), None);
        let two = [("ina226", "power1"), ("ina226", "power1")];
        assert_eq!(total(&two), None);
    }

    #[test]
    fn the_rail_that_is_labelled_as_the_input() {
        let xavier_nx = [
            ("ina3221", "VDD_IN"),
            ("ina3221", "VDD_CPU_GPU_CV"),
            ("ina3221", "VDD_SOC"),
        ];
        assert_eq!(total(&xavier_nx), is("VDD_IN"));
        let agx_orin = [
            ("ina3221", "VDD_GPU_SOC"),
            ("ina3221", "VDD_CPU_CV"),
            ("ina3221", "VIN_SYS_5V0"),
        ];
        assert_eq!(total(&agx_orin), None);
        let hot_swap = [("adm1275", "vin"), ("adm1275", "vout1")];
        assert_eq!(total(&hot_swap), is("vin"));
        let corsair = [("corsairpsu", "power total"), ("corsairpsu", "power +12v")];
        assert_eq!(total(&corsair), is("power total"));
    }

    #[test]
    fn what_all_supplies_take_in_is_added_up() {
        let psus = [
            ("pfe1100", "vin"),
            ("pfe1100", "vout1"),
            ("cffps1", "pin-power1"),
            ("cffps1", "vout1"),
            ("tps53679", "vin"),
            ("ina226", "power1"),
        ];
        assert_eq!(total(&psus), is("vin+pin-power1"));
        let one_unknown = [("pfe1100", "vin"), ("cffps1", "vout1")];
        assert_eq!(total(&one_unknown), None);
    }

    #[test]
    fn an_acpi_power_meter_is_the_input() {
        let server = [
            ("power_meter", "power1"),
            ("pfe1100", "vin"),
            ("ina226", "power1"),
        ];
        assert_eq!(total(&server), is("power1"));
        let grace = [
            ("power_meter", "Module Power Socket 0"),
            ("power_meter", "Grace Power Socket 0"),
            ("power_meter", "CPU Power Socket 0"),
            ("power_meter", "SysIO Power Socket 0"),
        ];
        assert_eq!(total(&grace), is("Module Power Socket 0"));
        let two = [
            grace,
            grace.map(|(model, _)| (model, "Module Power Socket 1")),
        ]
        .concat();
        let two = [two[0], two[1], two[4]];
        assert_eq!(
            total(&two),
            is("Module Power Socket 0+Module Power Socket 1")
        );
        let unnamed = [("power_meter", "power1"), ("power_meter", "power1")];
        assert_eq!(total(&unnamed), None);
    }

    #[test]
    fn a_regulators_input_is_not_the_boards() {
        assert_eq!(total(&[("tps53679", "vin"), ("tps53679", "vout1")]), None);
        assert_eq!(total(&[]), None);
    }
}
