//! Functions for the meters that read sysfs: listing folders, reading names, and gauges in units of their own.

use std::path::Path;
use std::sync::Arc;

use super::io_log::files;
use super::{read_text, Attribute, Error, Health};
use crate::metrics::{shorten, Readings, SeriesId};

/// The limit on the entries of a class. Real classes have fewer.
const MAX_ENTRIES: usize = 1024;
/// The limit on the files of one kind in a device's folder. One chip of a machine with 288 cores has 1,445 for their
/// temperatures.
const MAX_FILES: usize = 16 * 1024;
/// The longest name of a device or a rail that becomes a label's value, in characters.
const MAX_NAME: usize = 64;

/// The names in a folder, in natural order (`zone2` before `zone10`).
pub(super) fn entries(health: &Arc<Health>, dir: &Path) -> Result<Vec<String>, Error> {
    list(health, dir, MAX_ENTRIES, &|_| true)
}

/// The names in a device's folder that are `wanted`, in natural order. Other names do not count towards the limit.
pub(super) fn files_of(
    health: &Arc<Health>,
    dir: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<String>, Error> {
    list(health, dir, MAX_FILES, &wanted)
}

fn list(
    health: &Arc<Health>,
    dir: &Path,
    max: usize,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>, Error> {
    if health.is_excluded(dir) {
        return Err(Error::new(format!(
            "{} hangs and is left alone",
            dir.display()
        )));
    }
    health.begin_read(health.path_id(dir));
    let (names, left_out) = files::list(health.io_log(), dir, max, wanted)
        .map_err(|e| Error::cannot("list", dir, &e))?;
    health.end_read();
    health.left_out("entries", left_out, || {
        let dir = dir.display();
        format!(
            "{dir} has {} entries: only the first {max} are read",
            max as u64 + left_out
        )
    });
    Ok(names)
}

/// Reads the name of a device or a rail: cut to a label's length, without control characters. `None` if the file is empty
/// or cannot be read.
pub(super) fn read_name(health: &Arc<Health>, path: &Path) -> Option<String> {
    match read_text(health, path) {
        Ok(text) => clean_name(&text),
        Err(error) => {
            log::debug!("{error}");
            None
        }
    }
}

pub(super) fn clean_name(text: &str) -> Option<String> {
    let printable = |c: char| if c.is_control() { '_' } else { c };
    let name: String = shorten(text, MAX_NAME).chars().map(printable).collect();
    (!name.is_empty()).then_some(name)
}

/// `wanted`, or the first of `wanted-2`, `wanted-3`, … that is not taken.
pub(super) fn unique(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut name = wanted.to_string();
    let mut n = 2;
    while taken(&name) {
        name = format!("{wanted}-{n}");
        n += 1;
    }
    name
}

/// An attribute and the series that exports it.
#[derive(Debug)]
pub(super) struct Gauge {
    attribute: Attribute,
    series: SeriesId,
    /// How many of the attribute's units make one of the series' units.
    per_unit: f64,
}

impl Gauge {
    /// A gauge of an attribute in `per_unit`ths of the series' unit: 1000 for millivolts to volts.
    pub(super) fn new(attribute: Attribute, series: SeriesId, per_unit: f64) -> Gauge {
        Gauge {
            attribute,
            series,
            per_unit,
        }
    }

    /// Reads the attribute and sets the series. Returns the value in the attribute's unit, if it is plausible.
    #[inline]
    pub(super) fn poll(&mut self, out: &mut Readings) -> Option<f64> {
        let value = self.attribute.read()? as f64;
        out.try_set(self.series, value / self.per_unit)?;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::Tree;

    #[test]
    fn folder_is_listed_in_natural_order() {
        let tree = Tree::new(&[
            ("sys/z10", ""),
            ("sys/z2", ""),
            ("sys/a", ""),
            ("sys/z", ""),
        ]);
        let health = Arc::new(Health::default());
        let names = entries(&health, &tree.path("sys")).unwrap();
        assert_eq!(names, ["a", "z", "z2", "z10"]);
        let error = entries(&health, &tree.path("nowhere")).unwrap_err();
        assert!(error.is_missing());
        assert!(error.to_string().starts_with("cannot list /"));
    }

    #[test]
    fn names_are_cut_and_printable() {
        assert_eq!(clean_name("VDD IN"), Some("VDD IN".to_string()));
        assert_eq!(clean_name("a\0b\nc"), Some("a_b_c".to_string()));
        assert_eq!(clean_name(""), None);
        let long = clean_name(&"é".repeat(5000)).unwrap();
        assert_eq!(long.chars().count(), MAX_NAME);
        assert_ne!(clean_name(&"é".repeat(4999)), Some(long));
    }

    #[test]
    fn taken_name_gets_a_number() {
        let taken = ["cpu", "cpu-2"];
        assert_eq!(unique("cpu", |n| taken.contains(&n)), "cpu-3");
        assert_eq!(unique("gpu", |n| taken.contains(&n)), "gpu");
    }
}
