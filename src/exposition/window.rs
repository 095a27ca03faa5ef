//! Statistics of the time between two scrapes of one consumer: minimum, maximum and mean of every power, and the energy.

use super::{write_meta, write_number};
use crate::metrics::{Batch, GroupRows, Kind, Layout, Series};

const ENERGY: &str = "energy_joules_total";
const WINDOW_ENERGY: &str = "energy_window_joules";

/// Appends `…_watts_min`, `…_watts_max` and `…_watts_avg` (the mean of the readings) of every power in the batch, and
/// `energy_window_joules`: the increase of the energy counters from the last reading of the previous batch to the last
/// reading of this one. Appends only families for whose name `wanted` is true.
pub fn render_window(
    batch: &Batch,
    layout: &Layout,
    wanted: impl Fn(&str) -> bool,
    out: &mut Vec<u8>,
) {
    for (family, all_series) in layout.families() {
        let is_power = family.kind == Kind::Gauge && family.name.ends_with("_watts");
        if !is_power && family.name != ENERGY {
            continue;
        }
        let rows: Vec<_> = all_series
            .filter_map(|(group, column, series)| Some((series, column, batch.of(group)?)))
            .collect();
        if is_power {
            let statistics: Vec<_> = rows
                .iter()
                .filter_map(|(series, column, rows)| Some((*series, min_max_mean(rows, *column)?)))
                .collect();
            for (i, (suffix, what)) in [("_min", "Least"), ("_max", "Greatest"), ("_avg", "Mean")]
                .iter()
                .enumerate()
            {
                let name = format!("{}{suffix}", family.name);
                let help = format!(
                    "{what} of {} since this consumer's last scrape.",
                    family.name
                );
                let values = statistics
                    .iter()
                    .map(|(series, values)| (*series, values[i]));
                if wanted(&name) {
                    write_family(&name, &help, values, out);
                }
            }
        } else if wanted(WINDOW_ENERGY) {
            let values = rows
                .iter()
                .filter_map(|(series, column, rows)| Some((*series, rows.increase(*column)?)));
            let help =
                "Electric energy since this consumer's last scrape, by source and rail, in joules.";
            write_family(WINDOW_ENERGY, help, values, out);
        }
    }
}

/// Minimum, maximum and mean of a column; `None` if it has no values.
fn min_max_mean(rows: &GroupRows, column: usize) -> Option<[f64; 3]> {
    let (mut min, mut max, mut sum, mut count) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0u32);
    for (_, value) in rows.series(column) {
        min = min.min(value);
        max = max.max(value);
        sum += value;
        count += 1;
    }
    (count > 0).then(|| [min, max, sum / f64::from(count)])
}

/// Appends a gauge with the labels of these series.
fn write_family<'a>(
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'a Series, f64)>,
    out: &mut Vec<u8>,
) {
    let mut has_header = false;
    for (series, value) in values {
        if !has_header {
            has_header = true;
            write_meta("HELP", name, help, out);
            write_meta("TYPE", name, "gauge", out);
        }
        let labels = series.prefix.get(series.family.name.len()..);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(labels.unwrap_or(" ").as_bytes());
        write_number(value, out);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Desc, Offset, Policy, Progress, Readings, Registry};
    use crate::sys::clock::BootTime;
    use std::time::Duration;

    #[test]
    fn window_shows_spikes_and_consecutive_windows_lose_no_energy() {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "rapl", vec![]);
        group.history().limit(Duration::from_secs(60), 1 << 16);
        let label = [("rail", "a")];
        let watts = group.series(&Desc::gauge("power_watts", ""), &label);
        let joules = group.series(&Desc::counter(ENERGY, ""), &label);
        group.series(&Desc::gauge("temperature_celsius", ""), &label);
        let generation = group.new_generation();
        let mut out = Readings::new(5.0);
        let mut second = 0;
        let mut progress = Progress::new(BootTime(0));
        let mut window = |powers: &[f64]| {
            for power in powers {
                second += 1;
                out.begin(BootTime(second * 1_000_000_000));
                out.set(watts, *power);
                out.add(joules, *power);
                group.publish(generation, &out);
            }
            let offset = Offset::of_boot_time();
            let batch = progress.take(&registry, &offset, BootTime(0), usize::MAX);
            let mut text = Vec::new();
            render_window(&batch, &registry.layout(), |_| true, &mut text);
            let text = String::from_utf8(text).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            window(&[1.0, 100.0, 4.0]),
            [
                r#"power_watts_min{rail="a"} 1"#,
                r#"power_watts_max{rail="a"} 100"#,
                r#"power_watts_avg{rail="a"} 35"#,
                // The first reading's joule was counted before the window.
                r#"energy_window_joules{rail="a"} 104"#,
            ]
        );
        assert_eq!(window(&[2.0])[3], r#"energy_window_joules{rail="a"} 2"#);
        assert!(window(&[]).is_empty());
        assert_eq!(
            window(&[3.0, 4.0])[3],
            r#"energy_window_joules{rail="a"} 7"#
        );
    }
}
