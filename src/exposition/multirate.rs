//! Every sample with its timestamp: each family under one HELP and TYPE, each series in one block, oldest sample first.
//!
//! Timestamps are milliseconds since 1970 in the text format, seconds with three decimals in OpenMetrics, or with six if the
//! batch has them.

use super::{write_header, write_number, Format};
use crate::metrics::{Batch, Family, Layout};

/// Appends the samples of the families for which `wanted` is true, except those of the exporter's own metrics. The caller
/// appends the end mark of OpenMetrics.
pub fn render_batch(
    batch: &Batch,
    layout: &Layout,
    format: Format,
    wanted: impl Fn(&Family) -> bool,
    out: &mut Vec<u8>,
) {
    let families = layout.families();
    for (family, all_series) in families.filter(|(family, _)| !family.own && wanted(family)) {
        let mut has_header = false;
        for (group, column, series) in all_series {
            let Some(rows) = batch.of(group) else {
                continue;
            };
            for (stamp, value) in rows.series(column) {
                if !has_header {
                    has_header = true;
                    write_header(family, format, out);
                }
                out.extend_from_slice(series.prefix.as_bytes());
                write_number(value, out);
                out.push(b' ');
                write_timestamp(stamp, batch.unit, format, out);
                out.push(b'\n');
            }
        }
    }
}

/// Writes a timestamp in units of so many nanoseconds.
fn write_timestamp(stamp: i64, unit: i64, format: Format, out: &mut Vec<u8>) {
    if stamp < 0 {
        out.push(b'-');
    }
    let stamp = stamp.unsigned_abs();
    let (per_second, decimals) = match unit {
        1_000 => (1_000_000, 6),
        _ => (1000, 3),
    };
    match format {
        Format::Text => write_digits(stamp / (per_second / 1000), 1, out),
        Format::OpenMetrics1 | Format::OpenMetrics0 => {
            write_digits(stamp / per_second, 1, out);
            out.push(b'.');
            write_digits(stamp % per_second, decimals, out);
        }
    }
}

fn write_digits(mut rest: u64, min_digits: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while rest > 0 || digits.len() - at < min_digits {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Desc, Policy, Progress, Readings, Registry, WallClock};
    use crate::sys::clock::BootTime;
    use std::time::Duration;

    /// Two years after the timestamp in the original program's example, 2024-11-08T18:40:34.567Z.
    const START_MS: i64 = 1_794_163_234_567;

    fn registry() -> Registry {
        let registry = Registry::new(Policy::All);
        let power = Desc::gauge("power_watts", "Power.");
        let energy = Desc::counter("energy_joules_total", "Energy.");
        for (rank, source) in ["rapl", "hwmon"].into_iter().enumerate() {
            let group = registry.add_group(rank as u32, source, vec![]);
            group.history().limit(Duration::from_secs(60), 1 << 16);
            let label = [("source", source)];
            let (watts, joules) = (group.series(&power, &label), group.series(&energy, &label));
            let generation = group.new_generation();
            let mut out = Readings::new(5.0);
            for row in 0..3u32 {
                out.begin(BootTime(u64::from(row) * 1_000_000));
                if row != 1 || source == "rapl" {
                    out.set(watts, 1.5 + f64::from(row));
                }
                out.add(joules, 0.25);
                group.publish(generation, &out);
            }
        }
        registry
    }

    fn text(registry: &Registry, format: Format) -> String {
        let now = BootTime(2_000_000);
        let clock = WallClock::new(move || (now, START_MS * 1_000_000 + now.0 as i64));
        let offset = clock.offset().unwrap();
        let batch = Progress::new(BootTime(0)).take(registry, &offset, now, 1 << 20);
        let mut out = Vec::new();
        render_batch(&batch, &registry.layout(), format, |_| true, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn samples_are_grouped_by_series_under_one_header() {
        assert_eq!(
            text(&registry(), Format::Text),
            "# HELP power_watts Power.\n\
             # TYPE power_watts gauge\n\
             power_watts{source=\"rapl\"} 1.5 1794163234567\n\
             power_watts{source=\"rapl\"} 2.5 1794163234568\n\
             power_watts{source=\"rapl\"} 3.5 1794163234569\n\
             power_watts{source=\"hwmon\"} 1.5 1794163234567\n\
             power_watts{source=\"hwmon\"} 3.5 1794163234569\n\
             # HELP energy_joules_total Energy.\n\
             # TYPE energy_joules_total counter\n\
             energy_joules_total{source=\"rapl\"} 0.25 1794163234567\n\
             energy_joules_total{source=\"rapl\"} 0.5 1794163234568\n\
             energy_joules_total{source=\"rapl\"} 0.75 1794163234569\n\
             energy_joules_total{source=\"hwmon\"} 0.25 1794163234567\n\
             energy_joules_total{source=\"hwmon\"} 0.5 1794163234568\n\
             energy_joules_total{source=\"hwmon\"} 0.75 1794163234569\n"
        );
    }

    #[test]
    fn openmetrics_timestamps_are_seconds_and_disabled_families_are_absent() {
        let registry = registry();
        let listed = [("energy_joules_total".to_string(), true)].into();
        registry.set_policy(Policy::Listed(listed));
        let text = text(&registry, Format::OpenMetrics1);
        assert!(text.starts_with(
            "# HELP energy_joules Energy.\n\
             # TYPE energy_joules counter\n\
             # UNIT energy_joules joules\n\
             energy_joules_total{source=\"rapl\"} 0.25 1794163234.567\n"
        ));
        assert!(!text.contains("power_watts"));
    }

    #[test]
    fn timestamps_are_never_rounded() {
        let in_unit = |stamp, unit, format| {
            let mut out = Vec::new();
            write_timestamp(stamp, unit, format, &mut out);
            String::from_utf8(out).unwrap()
        };
        let stamp = |stamp, format| in_unit(stamp, 1_000_000, format);
        let micros = in_unit(1_000_000_000_005, 1_000, Format::OpenMetrics1);
        assert_eq!(micros, "1000000.000005");
        assert_eq!(in_unit(-1_999, 1_000, Format::Text), "-1");
        assert_eq!(stamp(1_000_000_005, Format::OpenMetrics1), "1000000.005");
        assert_eq!(stamp(5, Format::OpenMetrics0), "0.005");
        assert_eq!(stamp(0, Format::Text), "0");
        assert_eq!(stamp(-1500, Format::Text), "-1500");
        assert_eq!(stamp(i64::MAX, Format::Text), i64::MAX.to_string());
    }
}
