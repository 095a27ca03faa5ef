//! Thermal zones: `<sysfs>/class/thermal/thermal_zone*/{type,temp}`, in thousandths of a degree Celsius
//! (Linux, Documentation/driver-api/thermal/sysfs-api.rst).
//!
//! A zone's sensor is named by its type. Of several with the same type, the later ones by number are `type-2`,
//! `type-3`, …; a zone keeps its name as long as it is there. A zone that is powered off gives an error or less than
//! -100 °C, and is absent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::sysfs::{entries, read_name, unique, Gauge};
use super::{Attribute, Board, Context, Error, Health, Meter, Pace, Source};
use crate::config::section::{Problem, Section};
use crate::config::{values, Config, MeterSettings, SectionSpec, Switch};
use crate::metrics::{common, Group, Readings};

/// The meter.
pub(super) const METER: Meter = Meter {
    name: "thermal",
    summary: "temperatures by the kernel's thermal zones",
    device_types: &[],
    pace: Pace::Interval,
    section: SectionSpec::of::<Settings>(),
    switch: |config| config.meter::<Settings>().enabled,
    devices: None,
    probe,
    claims: None,
    open,
};

/// `thermal:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Settings {
    /// Whether the source runs.
    pub enabled: Switch,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "thermal";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        Ok(settings)
    }
}

/// A zone that was found: its folder and its type.
type Found = (String, String);

fn class(board: &Board) -> PathBuf {
    board.roots.sysfs.join("class/thermal")
}

fn find(health: &Arc<Health>, class: &Path) -> Result<Vec<Found>, Error> {
    let found = entries(health, class)?
        .into_iter()
        .filter(|dir| dir.starts_with("thermal_zone"))
        .filter_map(|dir| {
            let kind = read_name(health, &class.join(&dir).join("type"))?;
            Some((dir, kind))
        });
    Ok(found.collect())
}

fn none_in(class: &Path) -> Error {
    Error::new(format!("{} has no thermal zone", class.display()))
}

fn probe(board: &Board, _: &Config) -> Result<String, Error> {
    let class = class(board);
    let found = find(&board.health(), &class)?;
    if found.is_empty() {
        return Err(none_in(&class));
    }
    let kinds: Vec<_> = found.iter().map(|(_, kind)| kind.as_str()).collect();
    Ok(format!("thermal zones: {}", kinds.join(", ")))
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let mut thermal = Thermal {
        class: class(&context.board),
        group: Arc::clone(&context.group),
        health: Arc::clone(&context.health),
        zones: Vec::new(),
    };
    thermal.update(find(&context.health, &thermal.class)?);
    if thermal.zones.is_empty() {
        return Err(none_in(&thermal.class));
    }
    Ok(Box::new(thermal))
}

struct Thermal {
    class: PathBuf,
    group: Arc<Group>,
    health: Arc<Health>,
    zones: Vec<Zone>,
}

struct Zone {
    found: Found,
    sensor: String,
    temperature: Gauge,
}

impl Thermal {
    /// Leaves the zones that are still there as they are.
    fn update(&mut self, found: Vec<Found>) {
        self.zones.retain(|zone| found.contains(&zone.found));
        for found in found {
            if self.zones.iter().any(|zone| zone.found == found) {
                continue;
            }
            let (dir, kind) = &found;
            let sensor = unique(kind, |name| self.zones.iter().any(|z| z.sensor == name));
            let series = common::of_sensor(&self.group, &common::temperature_celsius(), &sensor);
            let temp = Attribute::new(&self.health, self.class.join(dir).join("temp"));
            self.zones.push(Zone {
                temperature: Gauge::celsius(temp, series, 1e3),
                sensor,
                found,
            });
        }
    }
}

impl Source for Thermal {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        for zone in &mut self.zones {
            zone.temperature.poll(out);
        }
        Ok(())
    }

    fn rescan(&mut self) {
        match find(&self.health, &self.class) {
            Ok(found) => self.update(found),
            Err(error) => log::debug!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::{Bench, Tree};

    fn tree(zones: &[(u32, &str, &str)]) -> Tree {
        let tree = Tree::new(&[("sys/class/thermal/cooling_device0/type", "Processor\n")]);
        for (n, kind, temp) in zones {
            write(&tree, *n, "type", kind);
            write(&tree, *n, "temp", temp);
        }
        tree
    }

    fn write(tree: &Tree, zone: u32, name: &str, content: &str) {
        tree.write(
            &format!("sys/class/thermal/thermal_zone{zone}/{name}"),
            format!("{content}\n"),
        );
    }

    fn sensor(name: &str) -> String {
        format!("temperature_celsius{{sensor=\"{name}\",source=\"thermal\"}}")
    }

    #[test]
    fn zones_are_named_by_type_and_told_apart_by_number() {
        let tree = tree(&[
            (10, "acpitz", "16800"),
            (0, "cpu-thermal", "45123"),
            (2, "acpitz", "27800"),
        ]);
        let mut bench = Bench::open(&METER, &tree);
        assert_eq!(
            bench.probe().unwrap(),
            "thermal zones: cpu-thermal, acpitz, acpitz"
        );
        assert_eq!(
            bench.poll(1.0),
            [
                format!("{} 27.8", sensor("acpitz")),
                format!("{} 16.8", sensor("acpitz-2")),
                format!("{} 45.123", sensor("cpu-thermal")),
            ]
        );
    }

    #[test]
    fn a_zone_that_is_off_or_broken_is_absent_alone() {
        let tree = tree(&[
            (0, "cpu", "40000"),
            (1, "CV0", "-256000"),
            (2, "garbage", "warm"),
            (3, "empty", ""),
            (4, "freezer", "-40000"),
        ]);
        tree.write("sys/class/thermal/thermal_zone5/type", "vanished\n");
        tree.write("sys/class/thermal/thermal_zone6/type", "fifo\n");
        tree.fifo("sys/class/thermal/thermal_zone6/temp");
        tree.fifo("sys/class/thermal/thermal_zone7/type");
        let mut bench = Bench::open(&METER, &tree);
        let expected = [
            format!("{} 40", sensor("cpu")),
            format!("{} -40", sensor("freezer")),
        ];
        assert_eq!(bench.poll(1.0), expected);
        assert_eq!(bench.poll(2.0), expected);
    }

    #[test]
    fn zones_that_come_and_go_leave_the_others_their_names() {
        let tree = tree(&[(0, "acpitz", "20000"), (1, "acpitz", "30000")]);
        let mut bench = Bench::open(&METER, &tree);
        bench.poll(1.0);
        tree.remove("sys/class/thermal/thermal_zone0");
        write(&tree, 2, "type", "iwlwifi_1");
        write(&tree, 2, "temp", "41000");
        bench.rescan();
        assert_eq!(
            bench.poll(31.0),
            [
                format!("{} 30", sensor("acpitz-2")),
                format!("{} 41", sensor("iwlwifi_1")),
            ]
        );
        write(&tree, 7, "type", "acpitz");
        write(&tree, 7, "temp", "21000");
        bench.rescan();
        bench.poll(61.0);
        assert_eq!(bench.value(&sensor("acpitz")), Some(21.0));
        assert_eq!(bench.value(&sensor("acpitz-2")), Some(30.0));
    }

    #[test]
    fn a_board_without_zones_says_what_was_looked_for() {
        let tree = tree(&[]);
        let mut bench = Bench::new(&METER, &tree, Config::default());
        let error = bench.probe().unwrap_err().to_string();
        assert!(
            error.ends_with("class/thermal has no thermal zone"),
            "{error}"
        );
        assert!(bench.reopen().is_err());
    }
}
