//! The files by which a performance monitoring unit (PMU) describes its events, as text: `type`, `cpumask`, `events/NAME`,
//! `events/NAME.scale` and `events/NAME.unit` (Documentation/ABI/testing/sysfs-bus-event_source-devices-events).

/// The kernel's own limit (NR_CPUS).
pub(super) const MAX_CPUS: usize = 8192;

/// Parses `type`: the number by which perf_event_open(2) knows the PMU.
pub fn parse_type(text: &str) -> Option<u32> {
    digits(text.trim(), 10).and_then(|n| u32::try_from(n).ok())
}

/// Parses an event, such as `event=0x02`, to its `config`. RAPL's PMUs have one field, which begins at bit 0.
pub fn parse_event(text: &str) -> Option<u64> {
    let value = text.trim().strip_prefix("event=")?;
    match value.strip_prefix("0x") {
        Some(hexadecimal) => digits(hexadecimal, 16),
        None => digits(value, 10),
    }
}

/// Parses an event's scale: how many of its units one count is.
pub fn parse_scale(text: &str) -> Option<f64> {
    let scale: f64 = text.trim().parse().ok()?;
    (scale.is_normal() && scale > 0.0).then_some(scale)
}

/// Parses a list of processors as the kernel prints it (`0-3,8`). `None` if it is empty or has more than the kernel can
/// have.
pub fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first = digits(first, 10).and_then(|n| u32::try_from(n).ok())?;
        let last = digits(last, 10).and_then(|n| u32::try_from(n).ok())?;
        let more = last.checked_sub(first)? as usize;
        if more >= MAX_CPUS - cpus.len() {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// A number without sign and white space.
fn digits(text: &str, radix: u32) -> Option<u64> {
    let is_number = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    u64::from_str_radix(text, radix).ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_parsed() {
        assert_eq!(parse_type("23\n"), Some(23));
        assert_eq!(parse_event("event=0x02\n"), Some(2));
        assert_eq!(parse_event("event=5"), Some(5));
        let scale = parse_scale("2.3283064365386962890625e-10\n");
        assert_eq!(scale, Some((-32f64).exp2()));
        assert_eq!(parse_cpu_list("0\n"), Some(vec![0]));
        assert_eq!(parse_cpu_list("0,24"), Some(vec![0, 24]));
        assert_eq!(parse_cpu_list("0-2,5,8-9\n"), Some(vec![0, 1, 2, 5, 8, 9]));
        let all = parse_cpu_list("0-8191").unwrap();
        assert_eq!(all.len(), MAX_CPUS);
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "-1", "+1", "1 2", "4294967296", "0x1", "power"] {
            assert_eq!(parse_type(text), None, "{text:?}");
        }
        for text in [
            "",
            "event=",
            "event=0x",
            "event=+2",
            "event=0x02,umask=0x01",
            "config=0x02",
            "0x02",
            "event=0x10000000000000000",
        ] {
            assert_eq!(parse_event(text), None, "{text:?}");
        }
        for text in ["", "0", "-1", "nan", "inf", "1e-320", "1e999", "1,5"] {
            assert_eq!(parse_scale(text), None, "{text:?}");
        }
        for text in [
            "",
            "\n",
            "0-",
            "-3",
            "3-0",
            "0,,1",
            "a",
            "+1",
            "0-4294967295",
            "0-8192",
            "0-8191,9000",
            "4294967296",
        ] {
            assert_eq!(parse_cpu_list(text), None, "{text:?}");
        }
    }
}
