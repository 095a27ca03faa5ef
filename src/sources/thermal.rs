//! Thermal zones: `<sysfs>/class/thermal/thermal_zone*/{type,temp}`, in thousandths of a degree Celsius
//! (Linux, Documentation/driver-api/thermal/sysfs-api.rst).
//!
//! A zone's sensor is named by its type. Of several zones with the same type, those with higher numbers are `type-2`,
//! `type-3`, …; a zone keeps its name as long as it exists. A zone that is powered off reports an error or less than
//! -100 °C, and is absent.
//!
//! **Old vendors' kernels** (Allwinner's 3.4 and 3.10) count in whole degrees. A zone does so if all its trip points are
//! from 1 to 250 and its temperature is from -1000 to 1000: in thousandths of a degree, it would have to switch its board
//! off below a quarter of a degree. (Then -5 is -5 °C, and 255 is no temperature.) Without trip points the unit is unknown:
//! a value from -100 to 250 is read as the ABI defines it, and `doctor` reports the doubt.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::sysfs::{entries, read_name, unique};
use super::{parse_number, read_text, Attribute, Board, Context, Error, Health, Meter, Source};
use crate::config::section::{Problem, Section};
use crate::config::{values, Config, MeterSettings, Switch};
use crate::metrics::{common, Group, Readings, SeriesId};

/// The meter.
pub(super) const METER: Meter = Meter::of::<Settings>(
    "thermal",
    "temperatures by the kernel's thermal zones",
    |config| config.meter::<Settings>().enabled,
    probe,
    open,
);

/// The section `thermal:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Settings {
    /// Whether the meter runs.
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

/// A zone's folder and type.
type FoundZone = (String, String);

fn class(board: &Board) -> PathBuf {
    board.roots.sysfs.join("class/thermal")
}

fn find(health: &Arc<Health>, class: &Path) -> Result<Vec<FoundZone>, Error> {
    let found = entries(health, class)?
        .into_iter()
        .filter(|dir| dir.starts_with("thermal_zone"))
        .filter_map(|dir| {
            let kind = read_name(health, &class.join(&dir).join("type"))?;
            Some((dir, kind))
        });
    Ok(found.collect())
}

fn no_zone_error(class: &Path) -> Error {
    Error::new(format!("{} has no thermal zone", class.display()))
}

fn probe(board: &Board, _: &Config) -> Result<String, Error> {
    let class = class(board);
    let found = find(&board.health(), &class)?;
    if found.is_empty() {
        return Err(no_zone_error(&class));
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
        return Err(no_zone_error(&thermal.class));
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
    found: FoundZone,
    sensor: String,
    temperature: Attribute,
    series: SeriesId,
    /// The unit by the trip points, determined at the first value whose unit is in doubt.
    unit: Option<ZoneUnit>,
    /// Whether it is reported that the unit is in doubt.
    doubtful: bool,
}

/// The unit of a zone's temperature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ZoneUnit {
    /// Thousandths of a degree, known by a trip point.
    Thousandths,
    /// Whole degrees, known by all trip points.
    Degrees,
    /// Thousandths as the ABI defines it, since there are no trip points.
    Unknown,
}

/// Whether the value may be in whole degrees. In thousandths it would be within a quarter of a degree of 0 °C.
fn could_be_degrees(value: i64) -> bool {
    (-100..=250).contains(&value) && value != 0
}

/// Whether the value, in thousandths, is within a degree of 0 °C.
fn is_within_a_degree(value: i64) -> bool {
    (-1000..=1000).contains(&value)
}

/// The unit of a zone with these trip points. Drivers set unused trip points to 0 or less.
fn unit(trips: &[i64]) -> ZoneUnit {
    let used: Vec<i64> = trips.iter().copied().filter(|trip| *trip > 0).collect();
    let all_could_be = used.iter().all(|trip| could_be_degrees(*trip));
    match all_could_be {
        _ if used.is_empty() => ZoneUnit::Unknown,
        true => ZoneUnit::Degrees,
        false => ZoneUnit::Thousandths,
    }
}

impl Zone {
    fn poll(&mut self, class: &Path, health: &Arc<Health>, out: &mut Readings) {
        let Some(value) = self.temperature.read() else {
            return;
        };
        // 0 is the same in both units, and larger values cannot be degrees.
        let is_in_question = value != 0 && is_within_a_degree(value);
        let unit = match (self.unit, is_in_question) {
            (Some(unit), _) => unit,
            (None, true) => *self
                .unit
                .insert(unit(&trips(health, &class.join(&self.found.0)))),
            (None, false) => ZoneUnit::Thousandths,
        };
        let per_degree = match unit {
            ZoneUnit::Degrees if is_in_question => 1.0,
            _ => 1e3,
        };
        let is_doubtful = unit == ZoneUnit::Unknown && could_be_degrees(value);
        if is_doubtful != self.doubtful {
            self.doubtful = is_doubtful;
            let doubt = || {
                let path = self.temperature.path().display();
                format!(
                    "{path} says {value}, which is {} °C; the kernels of some vendors mean {value} °C, and nothing here tells which",
                    value as f64 / 1e3
                )
            };
            health.set_value_error(self.temperature.path(), is_doubtful.then(doubt));
        }
        out.set(self.series, value as f64 / per_degree);
    }
}

/// The temperatures of a zone's trip points, in the zone's unit.
fn trips(health: &Arc<Health>, zone: &Path) -> Vec<i64> {
    let files = entries(health, zone).unwrap_or_default();
    let trips = files
        .iter()
        .filter(|file| file.starts_with("trip_point_") && file.ends_with("_temp"));
    trips
        .filter_map(|file| parse_number(read_text(health, &zone.join(file)).ok()?.as_bytes()))
        .collect()
}

impl Thermal {
    /// Adds new zones and drops removed ones. The others keep their state.
    fn update(&mut self, found: Vec<FoundZone>) {
        self.zones.retain(|zone| found.contains(&zone.found));
        for found in found {
            if self.zones.iter().any(|zone| zone.found == found) {
                continue;
            }
            let (dir, kind) = &found;
            let sensor = unique(kind, |name| self.zones.iter().any(|z| z.sensor == name));
            let series =
                common::sensor_series(&self.group, &common::temperature_celsius(), &sensor);
            let temp = Attribute::new(&self.health, self.class.join(dir).join("temp"));
            self.zones.push(Zone {
                temperature: temp,
                series,
                unit: None,
                doubtful: false,
                sensor,
                found,
            });
        }
    }
}

impl Source for Thermal {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        for zone in &mut self.zones {
            zone.poll(&self.class, &self.health, out);
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
    fn zones_are_named_by_type_and_numbered() {
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
    fn only_zones_that_are_off_or_broken_are_absent() {
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
    fn unit_follows_from_the_trip_points() {
        for (temp, trips, celsius) in [
            // Pine64's kernel 3.10.
            ("65", &["70", "90", "105"][..], 65.0),
            ("1", &["70"], 1.0),
            ("65", &["0", "105", "-1"], 65.0),
            ("65", &["70000", "105000"], 0.065),
            ("65", &["70", "105000"], 0.065),
            ("65", &["0"], 0.065),
            ("65", &[], 0.065),
            ("65", &["hot"], 0.065),
            ("0", &["70"], 0.0),
            ("-12", &["70"], -12.0),
            ("-12", &[], -0.012),
            ("-12", &["70000"], -0.012),
            ("45123", &["70"], 45.123),
            ("45123", &["95000"], 45.123),
            ("251", &["70000"], 0.251),
        ] {
            let tree = tree(&[(0, "cpu", temp)]);
            for (n, trip) in trips.iter().enumerate() {
                write(&tree, 0, &format!("trip_point_{n}_temp"), trip);
                write(&tree, 0, &format!("trip_point_{n}_type"), "critical");
            }
            let mut bench = Bench::open(&METER, &tree);
            bench.poll(1.0);
            assert_eq!(
                bench.value(&sensor("cpu")),
                Some(celsius),
                "{temp} {trips:?}"
            );
            let errors = bench.context.health.value_errors();
            let is_known = trips.iter().any(|t| !matches!(*t, "0" | "hot"));
            let in_doubt = matches!(temp, "65" | "-12") && !is_known;
            assert_eq!(errors.len(), usize::from(in_doubt), "{errors:?}");
            write(&tree, 0, "temp", "50000");
            bench.poll(2.0);
            assert_eq!(bench.value(&sensor("cpu")), Some(50.0));
            assert!(bench.context.health.value_errors().is_empty());
        }
    }

    #[test]
    fn implausible_degrees_are_not_read_as_thousandths() {
        let tree = tree(&[(0, "cpu", "255")]);
        write(&tree, 0, "trip_point_0_temp", "70");
        let mut bench = Bench::open(&METER, &tree);
        bench.poll(1.0);
        assert_eq!(bench.value(&sensor("cpu")), None);
        assert_eq!(bench.context.health.implausible(), 1);
    }

    #[test]
    fn zones_keep_their_names_when_others_change() {
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
    fn error_without_zones_names_the_path() {
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
