//! Chooses the rails whose sum is the board's total.

use std::collections::BTreeSet;

/// The name that the driver of ACPI power meters gives them (Linux, drivers/hwmon/acpi_power_meter.c).
const ACPI: &str = "power_meter";

/// Power supplies with PMBus, by prefixes of their names. Several of them feed the same board.
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

/// Chips that measure a supply, by prefixes of their names: current monitors and hot-swap controllers.
/// Voltage regulators are not among them: they feed a part of the board.
const MONITORS: &[&str] = &[
    "adm1075", "adm117", "adm127", "adm129", "ina2", "ina3221", "isl28022", "lm2506", "lm506",
    "ltc294", "ltc299", "ltc415", "ltc421", "ltc422", "ltc424", "ltc426", "ltc428", "sq52206",
    "tsc1641",
];

/// Labels of a board's input, in upper case and reduced to letters and digits.
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

/// A rail with a power.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// The number of its chip.
    pub(super) chip: usize,
    /// The chip's name for itself.
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

    /// Whether it is a supply's input, by PMBus labels.
    fn is_supplys_input(&self) -> bool {
        self.is_of_supply() && matches!(self.stem(), "vin" | "pin")
    }

    /// The label without the channel that a repeated label has appended (`pin-power1`).
    fn stem(&self) -> &str {
        self.rail.split('-').next().unwrap_or(self.rail)
    }

    fn is_acpi_meter(&self) -> bool {
        self.model == ACPI
    }

    /// NVIDIA's Grace has a meter for each of several rails of a socket. On a Grace Hopper, the module's meter includes all the
    /// others, the GPU and the memory (Alumet's manual, "Grace Hopper plugin": the total of the module).
    fn is_of_module(&self) -> bool {
        self.is_acpi_meter() && self.words().starts_with("module power")
    }

    /// One of a socket's rails, or a module: each is less than a board.
    fn is_of_socket(&self) -> bool {
        self.words().contains("power socket")
    }

    fn words(&self) -> String {
        self.rail.to_ascii_lowercase().replace('_', " ")
    }

    fn is_labelled_input(&self) -> bool {
        let mut label = self.rail.to_ascii_uppercase();
        label.retain(|c| c.is_ascii_alphanumeric());
        // Each PMBus regulator has a `vin`, too.
        let is_of_pmbus = matches!(self.rail, "vin" | "pin");
        INPUTS.contains(&label.as_str()) && (!is_of_pmbus || self.is_one_of(MONITORS))
    }
}

/// The indices of the rails whose sum is the total; none if the total is unclear.
///
/// In this order: the only ACPI power meter, or those of the modules; the inputs of all power supplies; the only rail of the
/// only monitoring chip; the only rail labelled as the board's input.
pub(super) fn choose_rails(candidates: &[Candidate<'_>]) -> Vec<usize> {
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
    // The sum is too small if the input of one supply is unknown.
    let of_supplies = || {
        let inputs = some(&|c| c.is_supplys_input())?;
        (chips(&inputs) == chips(&of(&|c| c.is_of_supply()))).then_some(inputs)
    };
    let acpi = only(&|c| c.is_acpi_meter());
    acpi.filter(|places| !places.iter().any(|i| candidates[*i].is_of_socket()))
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
            // A repeated rail belongs to another chip.
            let of_chip = |c: &Candidate<'_>| c.chip == chip && c.model == model;
            let begins = !candidates.iter().any(of_chip);
            let again = candidates.iter().any(|c| of_chip(c) && c.rail == rail);
            chip += usize::from(begins || again);
            candidates.push(Candidate { chip, model, rail });
        }
        let rails: Vec<_> = choose_rails(&candidates)
            .iter()
            .map(|i| rails[*i].1)
            .collect();
        (!rails.is_empty()).then(|| rails.join("+"))
    }

    fn is(rails: &str) -> Option<String> {
        Some(rails.to_string())
    }

    #[test]
    fn only_rail_of_only_monitor_is_the_total() {
        assert_eq!(total(&[("ina226", "power1")]), is("power1"));
        let with_gpu = [("amdgpu", "PPT"), ("ltc2945", "power1")];
        assert_eq!(total(&with_gpu), is("power1"));
        assert_eq!(total(&[("amdgpu", "PPT")]), None);
        let two = [("ina226", "power1"), ("ina226", "power1")];
        assert_eq!(total(&two), None);
    }

    #[test]
    fn rail_labelled_as_input_is_the_total() {
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
    fn inputs_of_all_supplies_are_added() {
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
    fn acpi_power_meter_is_the_total() {
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
        assert_eq!(total(&grace[..1]), is("Module Power Socket 0"));
        assert_eq!(total(&grace[2..3]), None, "a processor's rail alone");
        assert_eq!(total(&grace[1..]), None, "a Grace without a Hopper");
        let unnamed = [("power_meter", "power1"), ("power_meter", "power1")];
        assert_eq!(total(&unnamed), None);
    }

    #[test]
    fn regulators_input_is_not_the_total() {
        assert_eq!(total(&[("tps53679", "vin"), ("tps53679", "vout1")]), None);
        assert_eq!(total(&[]), None);
    }
}
