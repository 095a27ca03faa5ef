//! The workloads that draw most, for the status page.

use serde_json::{json, Value};

use super::history::rounded;
use crate::metrics::{Series, Snapshot};
use crate::sources::workloads::full_name;
use crate::sys::sort::sort_by;

/// Workloads beyond these, and those that draw nothing, are shown as a sum.
const MAX_WORKLOADS: usize = 20;
/// The domain that is shown, if it is measured: the whole board.
const BOARD: &str = "board";

/// The workloads of one domain, the highest power first. Null if there are none, or if nothing is measured that could be
/// attributed to them.
pub(super) fn workloads(snapshot: &Snapshot) -> Value {
    let samples = |name: &str| -> Vec<(&Series, f64)> {
        let mut families = snapshot.all();
        let family = families.find(|view| view.family.name == name);
        family.map_or_else(Vec::new, |view| view.samples().collect())
    };
    let domains = samples("workload_domain_power_watts");
    let whole_board = domains
        .iter()
        .find(|(series, _)| series.label("domain").as_deref() == Some(BOARD));
    let Some((series, watts)) = whole_board.or_else(|| domains.first()) else {
        return Value::Null;
    };
    let domain = series.label("domain").unwrap_or_default();
    let mut workloads = samples("workload_power_watts");
    workloads.retain(|(series, _)| series.label("domain").as_ref() == Some(&domain));
    let mut unattributed = samples("workload_unattributed_power_watts");
    unattributed.retain(|(series, _)| series.label("domain").as_ref() == Some(&domain));
    let unattributed = unattributed.first().map(|(_, watts)| *watts);
    let shared: f64 = workloads.iter().map(|(_, watts)| watts).sum();
    let shared = shared + unattributed.unwrap_or(0.0);
    sort_by(&mut workloads, |(_, a), (_, b)| b.total_cmp(a));
    let drawing = workloads.iter().filter(|(_, watts)| *watts > 0.0).count();
    let rest = workloads.split_off(MAX_WORKLOADS.min(drawing));
    let shown = |(series, watts): &(&Series, f64)| {
        json!({
            "kind": series.label("kind"),
            "name": full_name(|name| series.label(name)),
            "watts": rounded(*watts),
        })
    };
    json!({
        "domain": domain,
        "watts": rounded(*watts),
        "idle_watts": rounded((watts - shared).max(0.0)),
        "unattributed_watts": unattributed.map(rounded),
        "workloads": workloads.iter().map(shown).collect::<Vec<_>>(),
        "more": rest.len(),
        "more_watts": rounded(rest.iter().map(|(_, watts)| watts).sum()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Desc, Policy, Readings, Registry};
    use crate::sys::clock::BootTime;

    /// The workloads of a registry in which so many draw 1 W, 2 W, … of each domain, and one nothing.
    fn shown(domains: &[&str], count: usize) -> Value {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "workloads", Vec::new());
        let mut out = Readings::new(5.0);
        out.begin(BootTime(1));
        let whole = Desc::gauge("workload_domain_power_watts", "x");
        let part = Desc::gauge("workload_power_watts", "x");
        for domain in domains {
            out.set(group.series(&whole, &[("domain", domain)]), 1000.0);
            for n in 0..=count {
                let name = format!("<{n}>");
                let labels = [
                    ("kind", "service"),
                    ("name", name.as_str()),
                    ("domain", domain),
                ];
                out.set(group.series(&part, &labels), n as f64);
            }
        }
        assert!(group.publish(group.new_generation(), &out));
        workloads(&registry.snapshot(BootTime(2)))
    }

    #[test]
    fn highest_are_shown_and_the_rest_is_summed() {
        let shown = shown(&["package", BOARD], 25);
        assert_eq!(shown["domain"], BOARD);
        assert_eq!(shown["watts"], 1000.0);
        assert_eq!(shown["idle_watts"], 1000.0 - 325.0);
        let workloads = shown["workloads"].as_array().unwrap();
        assert_eq!(workloads.len(), MAX_WORKLOADS);
        assert_eq!(
            workloads[0],
            json!({"kind": "service", "name": "<25>", "watts": 25.0})
        );
        // One of them draws nothing.
        assert_eq!(shown["more"], 6);
        assert_eq!(shown["more_watts"], 15.0);
    }

    #[test]
    fn board_without_workloads_has_none() {
        assert_eq!(shown(&[], 3), Value::Null);
        let shown = shown(&["package"], 0);
        assert_eq!(shown["workloads"], json!([]));
        assert_eq!(
            (&shown["more"], &shown["more_watts"]),
            (&json!(1), &json!(0.0))
        );
        assert_eq!(shown["unattributed_watts"], Value::Null);
    }

    #[test]
    fn unattributed_power_of_a_gpu_is_not_idle() {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "workloads", Vec::new());
        let mut out = Readings::new(5.0);
        out.begin(BootTime(1));
        for (name, watts) in [
            ("workload_domain_power_watts", 100.0),
            ("workload_unattributed_power_watts", 70.0),
        ] {
            let series = group.series(&Desc::gauge(name, "x"), &[("domain", "nvidia_gpu_0")]);
            out.set(series, watts);
        }
        assert!(group.publish(group.new_generation(), &out));
        let shown = workloads(&registry.snapshot(BootTime(2)));
        assert_eq!(shown["unattributed_watts"], 70.0);
        assert_eq!(shown["idle_watts"], 30.0);
    }
}
