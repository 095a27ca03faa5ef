//! The labels of a series at the receiver: the series' own, `__name__`, and those of the receiver's entry.

use crate::config::{valid_label_name, valid_metric_name};
use crate::sys::sort::sort;

/// The label of the metric's name.
const NAME: &str = "__name__";

/// The labels that an entry adds to every series that does not have them: `job`, `instance`, and the external labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Vec<(String, String)>);

impl Labels {
    /// These labels. Of two with one name the first counts. A label without a value is left out.
    pub fn new(labels: impl IntoIterator<Item = (String, String)>) -> Labels {
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in labels {
            if !all.iter().any(|(known, _)| *known == name) {
                all.push((name, value));
            }
        }
        all.retain(|(_, value)| !value.is_empty());
        Labels(all)
    }

    /// All labels of a series of this family, as the specifications demand: sorted by name, no name twice, no empty
    /// value, only legal names. `None`: the labels cannot be made legal.
    pub fn of(&self, family: &str, own: &[(String, String)]) -> Option<Vec<(String, String)>> {
        let mut all = vec![(NAME.to_string(), family.to_string())];
        all.extend(own.iter().filter(|(_, value)| !value.is_empty()).cloned());
        for (name, value) in &self.0 {
            if !all.iter().any(|(known, _)| known == name) {
                all.push((name.clone(), value.clone()));
            }
        }
        sort(&mut all);
        let twice = all.windows(2).any(|pair| pair[0].0 == pair[1].0);
        let legal = |(name, _): &(String, String)| name == NAME || valid_label_name(name);
        (!twice && valid_metric_name(family) && all.iter().all(legal)).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(a, b): &(&str, &str)| (a.to_string(), b.to_string());
        of.iter().map(owned).collect()
    }

    #[test]
    fn labels_are_sorted_and_those_of_the_series_override_the_entrys() {
        let labels = Labels::new(pairs(&[
            ("job", "edge"),
            ("instance", ""),
            ("site", "a"),
            ("job", "b"),
        ]));
        let own = pairs(&[
            ("source", "rapl"),
            ("site", "b"),
            ("zone", ""),
            ("Rail", "é\n"),
        ]);
        assert_eq!(
            labels.of("power_watts", &own).unwrap(),
            pairs(&[
                ("Rail", "é\n"),
                ("__name__", "power_watts"),
                ("job", "edge"),
                ("site", "b"),
                ("source", "rapl"),
            ])
        );
    }

    #[test]
    fn illegal_labels_are_rejected() {
        let labels = Labels::default();
        let ok = |family, own| labels.of(family, &pairs(own)).is_some();
        assert!(ok("a:b_1", &[("_x", "1"), ("y9", "2")]));
        assert!(!ok("", &[]));
        assert!(!ok("9a", &[]) && !ok("a-b", &[]));
        assert!(!ok("a", &[("x", "1"), ("x", "2")]));
        assert!(!ok("a", &[("__name__", "b")]) && !ok("a", &[("__x", "1")]));
        assert!(!ok("a", &[("", "1")]) && !ok("a", &[("x:y", "1")]) && !ok("a", &[("9", "1")]));
    }
}
