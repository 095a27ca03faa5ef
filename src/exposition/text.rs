//! Prometheus text format 0.0.4 (prometheus.io, "Exposition formats").

use super::{escaped, write_meta};
use crate::metrics::Family;

/// Appends the metadata lines of a family.
pub(super) fn write_header(family: &Family, out: &mut Vec<u8>) {
    write_meta("HELP", &family.name, &escaped(&family.help, &ESCAPES), out);
    write_meta("TYPE", &family.name, family.kind.as_str(), out);
}

/// Escapes in help texts: backslash and line feed only.
const ESCAPES: [(char, &str); 2] = [('\\', "\\\\"), ('\n', "\\n")];

#[cfg(test)]
mod tests {
    use super::super::{render, Format};
    use crate::exposition::testing::sample_registry;
    use crate::metrics::{Desc, Policy, Readings};
    use crate::sys::clock::BootTime;

    #[test]
    fn samples_of_a_family_are_contiguous_and_in_source_order() {
        let mut out = Vec::new();
        let snapshot = sample_registry().snapshot(BootTime(1));
        render(&snapshot, Format::Text, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "# HELP power_total_watts Electric power of the board.\n\
             # TYPE power_total_watts gauge\n\
             power_total_watts{hostname=\"edge-01\"} 12\n\
             # HELP power_watts A \"help\" with a \\\\ and a\\nline feed.\n\
             # TYPE power_watts gauge\n\
             power_watts{hostname=\"edge-01\",source=\"rapl\"} 12\n\
             power_watts{hostname=\"edge-01\",source=\"hwmon\"} 2.5\n\
             # HELP energy_joules_total Energy.\n\
             # TYPE energy_joules_total counter\n\
             energy_joules_total{hostname=\"edge-01\",source=\"rapl\"} 0.5\n\
             energy_joules_total{hostname=\"edge-01\",source=\"hwmon\"} 0.5\n"
        );
    }

    #[test]
    fn disabled_family_is_absent_from_the_next_snapshot() {
        let registry = sample_registry();
        let listed = [("power_watts".to_string(), true)].into();
        registry.set_policy(Policy::Listed(listed));
        let snapshot = registry.snapshot(BootTime(1));
        let names: Vec<_> = snapshot.families().map(|f| f.family.name.clone()).collect();
        assert_eq!(names, ["power_watts"]);
        registry.set_policy(Policy::All);
        assert_eq!(registry.snapshot(BootTime(1)).families().count(), 3);
    }

    #[test]
    fn total_is_absent_until_preferred_sources_have_settled() {
        let registry = sample_registry();
        let total = || {
            let snapshot = registry.snapshot(BootTime(1));
            let mut families = snapshot.families();
            let found = families.find(|f| f.family.name == "power_total_watts");
            found.map(|family| family.samples().map(|(_, watts)| watts).collect::<Vec<_>>())
        };
        assert_eq!(total(), Some(vec![12.0]));
        let first = registry.add_group(0, "tegrastats", vec![]);
        assert_eq!(total(), None, "the first source may still have a total");
        first.settle();
        assert_eq!(total(), Some(vec![12.0]));
    }

    #[test]
    fn stale_source_is_not_exported() {
        let registry = sample_registry();
        let later = BootTime(u64::MAX);
        assert_eq!(registry.snapshot(later).families().count(), 3);
        let group = registry.add_group(3, "slow", vec![]);
        group.set_interval(std::time::Duration::from_secs(1));
        let id = group.series(&Desc::gauge("slow_watts", ""), &[]);
        let generation = group.new_generation();
        let mut out = Readings::new(5.0);
        out.begin(BootTime(1));
        out.set(id, 1.0);
        group.publish(generation, &out);
        assert_eq!(registry.snapshot(BootTime(2)).families().count(), 4);
        assert_eq!(registry.snapshot(later).families().count(), 3);
        registry.remove_group(&group);
        assert_eq!(registry.snapshot(BootTime(2)).families().count(), 3);
    }
}
