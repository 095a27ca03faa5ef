//! A registry for the tests of both formats.

use crate::metrics::{Desc, Policy, Readings, Registry};
use crate::sys::clock::BootTime;

/// Two sources that share a family, a total exported for the first source only, and a series without a value.
pub(super) fn sample_registry() -> Registry {
    let registry = Registry::new(Policy::All);
    let labels = || vec![("hostname".to_string(), "edge-01".to_string())];
    let late = registry.add_group(2, "hwmon", labels());
    let early = registry.add_group(1, "rapl", labels());
    let total = Desc::gauge("power_total_watts", "Electric power of the board.").single();
    let power = Desc::gauge("power_watts", "A \"help\" with a \\ and a\nline feed.");
    let energy = Desc::counter("energy_joules_total", "Energy.");
    for (group, watts) in [(&late, 2.5), (&early, 12.0)] {
        let generation = group.new_generation();
        let source = [("source", group.source.as_str())];
        let mut out = Readings::new(5.0);
        out.begin(BootTime(1));
        out.set(group.series(&total, &[]), watts);
        out.set(group.series(&power, &source), watts);
        group.series(&Desc::gauge("absent_watts", "Never there."), &source);
        out.add(group.series(&energy, &source), 0.5);
        group.publish(generation, &out);
    }
    registry
}
