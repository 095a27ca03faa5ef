//! The settings, the metrics of rails, and the roles of rails (the board's input, the GPU's supply) that the two meters of
//! a Jetson share.

use std::path::PathBuf;

use serde::Serialize;

use super::attribute::read_text;
use super::Board;
use crate::config::section::{Problem, Section};
use crate::config::{values, Config, MeterSettings, Switch};
use crate::metrics::{metric_name, Desc, Group, Rail, Readings, SeriesId};

/// The section `jetson:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    /// Whether the Jetson's meters run.
    pub enabled: Switch,
    /// Read power with tegrastats even where sysfs has it.
    pub use_tegrastats: bool,
    /// The program to run. `None`: `tegrastats` on `PATH`.
    pub tegrastats: Option<PathBuf>,
    /// Run the program as `sudo -n tegrastats`.
    pub sudo: bool,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "jetson";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        let use_tegrastats = &mut settings.use_tegrastats;
        section.set("use_tegrastats", values::flag, use_tegrastats)?;
        section.option("tegrastats", values::program, &mut settings.tegrastats)?;
        section.set("sudo", values::flag, &mut settings.sudo)?;
        Ok(settings)
    }
}

/// The rails that carry all of the board's power. `VDD_IN`: TX1, TX2, Xavier NX, Orin NX and Orin Nano. `POM_5V_IN`: Nano.
/// `VIN`: AGX Thor.
const INPUTS: [&str; 3] = ["VDD_IN", "POM_5V_IN", "VIN"];

/// For boards without such a rail, the rails that add up to the board's power. The first: AGX Orin, where
/// `VDDQ_VDD2_1V8AO` is fed by `VIN_SYS_5V0` and so is contained in it. The second: AGX Xavier.
const SUMS: [&[&str]; 2] = [
    &["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"],
    &["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"],
];

/// The GPU's own rail, in the order of the list: AGX Thor and TX1; AGX Orin (with a part of the SoC); TX2; Nano; AGX
/// Xavier. On other boards the GPU shares a rail with the processor's cores, and its power is not known.
const GPU: [&str; 5] = ["VDD_GPU", "VDD_GPU_SOC", "VDD_SYS_GPU", "POM_5V_GPU", "GPU"];

/// The name of a channel that is not connected to a rail.
pub(super) const NOT_CONNECTED: &str = "NC";

/// Whether the board is a Jetson, by the configuration, by its model, or by its SoC (the model names of early Jetsons do
/// not show it).
pub(super) fn is_jetson(board: &Board, config: &Config) -> bool {
    let compatible = board.roots.procfs.join("device-tree/compatible");
    config.device_type.starts_with("jetson")
        || board.device_type().starts_with("jetson")
        || read_text(&board.health(), &compatible).is_ok_and(|s| s.contains("nvidia,tegra"))
}

/// The board's power, in the unit in which `power` returns that of a rail. `None` if a rail is missing, or if the board's
/// rails are not known to add up to its power.
pub(super) fn total(power: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let sum = |names: &&[&str]| names.iter().map(|name| power(name)).sum();
    INPUTS
        .iter()
        .find_map(|name| power(name))
        .or_else(|| SUMS.iter().find_map(sum))
}

/// The GPU's power, if the GPU has a rail of its own.
pub(super) fn gpu(power: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    GPU.iter().find_map(|name| power(name))
}

/// Registers `jetson_power_<rail><kind>_watts`. The replaced Jetson exporter has the kinds `""` and `"_avg"`.
pub(super) fn power_of_rail(group: &Group, rail: &str, kind: &str, help: &str) -> SeriesId {
    let metric = format!("jetson_power_{}{kind}_watts", metric_name(rail));
    let help = format!("{help} of rail {rail}, in watts.");
    group.series(&Desc::gauge(metric, help), &[])
}

/// The series of a rail's power: under the replaced Jetson exporter's name, and as the power and energy of a rail.
#[derive(Debug)]
pub(super) struct PowerRail {
    watts: SeriesId,
    rail: Rail,
}

impl PowerRail {
    /// Registers the series.
    pub(super) fn new(group: &Group, rail: &str) -> PowerRail {
        PowerRail {
            watts: power_of_rail(group, rail, "", "Electric power"),
            rail: Rail::new(group, rail),
        }
    }

    /// Sets the power that was read, in watts. Returns the power if it is plausible.
    pub(super) fn set(&mut self, out: &mut Readings, watts: f64) -> Option<f64> {
        let watts = self.rail.set_watts(out, watts)?;
        out.set(self.watts, watts);
        Some(watts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::Tree;

    fn total_and_gpu(rails: &[(&str, f64)]) -> (Option<f64>, Option<f64>) {
        let power = |name: &str| rails.iter().find(|r| r.0 == name).map(|r| r.1);
        (total(power), gpu(power))
    }

    #[test]
    fn input_rail_is_the_total() {
        let tx2 = [("VDD_SYS_GPU", 152.0), ("VDD_IN", 3056.0)];
        assert_eq!(total_and_gpu(&tx2), (Some(3056.0), Some(152.0)));
        let nano = [("POM_5V_IN", 1022.0), ("POM_5V_GPU", 0.0)];
        assert_eq!(total_and_gpu(&nano), (Some(1022.0), Some(0.0)));
        let thor = [
            ("VDD_GPU", 1962.0),
            ("VIN_SYS_5V0", 5635.0),
            ("VIN", 19780.0),
        ];
        assert_eq!(total_and_gpu(&thor), (Some(19780.0), Some(1962.0)));
        let orin_nano = [("VDD_IN", 4824.0), ("VDD_CPU_GPU_CV", 518.0)];
        assert_eq!(total_and_gpu(&orin_nano), (Some(4824.0), None));
    }

    #[test]
    fn rails_are_added_up_on_boards_without_an_input_rail() {
        let orin = [
            ("VDD_GPU_SOC", 2390.0),
            ("VDD_CPU_CV", 796.0),
            ("VIN_SYS_5V0", 3522.0),
            ("VDDQ_VDD2_1V8AO", 301.0),
        ];
        assert_eq!(total_and_gpu(&orin), (Some(6708.0), Some(2390.0)));
        let xavier = [
            ("GPU", 0.0),
            ("CPU", 311.0),
            ("SOC", 932.0),
            ("CV", 0.0),
            ("VDDRQ", 621.0),
            ("SYS5V", 1482.0),
        ];
        assert_eq!(total_and_gpu(&xavier), (Some(3346.0), Some(0.0)));
    }

    #[test]
    fn incomplete_sum_is_no_total() {
        let orin = [("VDD_GPU_SOC", 2390.0), ("VIN_SYS_5V0", 3522.0)];
        assert_eq!(total_and_gpu(&orin).0, None);
        assert_eq!(total_and_gpu(&[("VDD_5V", 5.0)]), (None, None));
    }

    #[test]
    fn jetson_is_recognised_by_type_model_or_soc() {
        let tree = Tree::new(&[("proc/device-tree/model", "quill\0")]);
        let mut config = Config::default();
        let is = |config: &Config| is_jetson(&Board::detect(tree.roots()), config);
        assert!(!is(&config));
        tree.write(
            "proc/device-tree/compatible",
            "nvidia,quill\0nvidia,tegra186\0",
        );
        assert!(is(&config));
        tree.write("proc/device-tree/compatible", "raspberrypi,5-model-b\0");
        assert!(!is(&config));
        config.device_type = "jetson".to_string();
        assert!(is(&config));
    }
}
