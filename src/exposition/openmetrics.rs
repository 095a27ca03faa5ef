//! OpenMetrics 1.0.0 (prometheus/OpenMetrics, specification/OpenMetrics.md).

use super::{escaped, write_meta};
use crate::metrics::Family;

/// Escapes in help texts: backslash, line feed and quotation mark.
const ESCAPES: [(char, &str); 3] = [('\\', "\\\\"), ('\n', "\\n"), ('"', "\\\"")];

/// Appends the metadata lines of a family.
pub(super) fn write_header(family: &Family, out: &mut Vec<u8>) {
    let name = family.base_name();
    write_meta("HELP", name, &escaped(&family.help, &ESCAPES), out);
    write_meta("TYPE", name, family.kind.as_str(), out);
    if let Some(unit) = family.unit() {
        write_meta("UNIT", name, unit, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{render, Format};
    use crate::exposition::testing::sample_registry;
    use crate::sys::clock::BootTime;

    #[test]
    fn counter_metadata_omits_total_and_text_ends_with_eof() {
        let mut out = Vec::new();
        let snapshot = sample_registry().snapshot(BootTime(1));
        render(&snapshot, Format::OpenMetrics1, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(
            "# HELP energy_joules Energy.\n\
             # TYPE energy_joules counter\n\
             # UNIT energy_joules joules\n\
             energy_joules_total{hostname=\"edge-01\",source=\"rapl\"} 0.5\n"
        ));
        assert!(text.contains("# HELP power_watts A \\\"help\\\" with a \\\\ and a\\nline feed.\n"));
        assert!(text.ends_with("# EOF\n"));
    }
}
