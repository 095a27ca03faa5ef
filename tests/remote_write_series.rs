//! How series are described to a receiver: the cases about labels, symbols and metadata of the sender suites of
//! prometheus/compliance, under their names.
#![allow(
    clippy::type_complexity,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod remote_write_support;
mod support;

use remote_write_support::{sent, sent_labelled, Board, Message, Receiver, SECOND};
use support::wait_until;

fn message(settings: &str, values: &[(&str, f64)]) -> Message {
    sent(settings, values).message()
}

mod labels {
    use super::*;

    fn labels(settings: &str, own: &[(&str, &str)]) -> Vec<(String, String)> {
        let message = sent_labelled(settings, &[("x", own, 1.0)]).message();
        message.of("x").labels.clone()
    }

    fn get(labels: &[(String, String)], name: &str) -> Option<String> {
        labels
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
    }

    /// `SortedLabels` of the first suite, and `no_duplicate_label_names`, `RepeatedLabels`, `label_names_not_empty`.
    #[test]
    fn label_lexicographic_ordering() {
        for settings in ["", SECOND] {
            let names: Vec<_> = labels(settings, &[("b", "2"), ("a", "1"), ("Z", "3"), ("_", "4")])
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            assert_eq!(
                names,
                ["Z", "_", "__name__", "a", "b", "hostname", "instance", "job"]
            );
        }
    }

    /// `NameLabel` of the first suite; `metric_name_format_valid` and `metric_name_with_colons`.
    #[test]
    fn metric_name_label_present() {
        let name = "valid_metric_name:subsystem";
        let message = message("", &[(name, 42.0)]);
        assert_eq!(message.of(name).label("__name__"), Some(name));
    }

    /// `EmptyLabels` of the first suite; the second says that values must not be empty either.
    #[test]
    fn empty_labels() {
        let labels = labels(
            "    external_labels: {site: \"\"}\n",
            &[("a", ""), ("b", "1")],
        );
        assert_eq!((get(&labels, "a"), get(&labels, "site")), (None, None));
        assert_eq!(get(&labels, "b").as_deref(), Some("1"));
    }

    /// Labels of the source take precedence over external labels.
    #[test]
    fn honor_labels() {
        let own = [("job", "its own"), ("instance", "elsewhere")];
        let labels = labels("    external_labels: {job: third}\n", &own);
        assert_eq!(get(&labels, "job").as_deref(), Some("its own"));
        assert_eq!(get(&labels, "instance").as_deref(), Some("elsewhere"));
    }

    /// A series with an invalid name is not sent, and drops no other: `label_name_format_valid`, `reserved_label_prefix`.
    #[test]
    fn reserved_label_prefix() {
        let receiver = Receiver::willing();
        let mut board = Board::new(&receiver, "");
        board.publish_labelled(&[
            ("x", &[("__meta", "1")], 1.0),
            ("y", &[("a-b", "1")], 1.0),
            ("z", &[], 1.0),
        ]);
        let message = receiver.wait_for(1)[0].message();
        assert_eq!(message.series.len(), 1, "{message:?}");
        assert_eq!(message.series[0].name(), "z");
        wait_until("they are counted", || {
            (board.dropped("illegal_labels") == 2).then_some(())
        });
    }

    /// `unicode_in_labels`, `special_chars_in_label_values`, `very_long_label_names`, `very_long_label_values`,
    /// `huge_label_values`, `many_labels_per_series`, `label_values_may_be_empty`.
    #[test]
    fn unicode_in_label_values() {
        let long = "v".repeat(10_000);
        let name = "n".repeat(200);
        let many: Vec<(String, String)> = (0..50)
            .map(|i| (format!("l{i:02}"), i.to_string()))
            .collect();
        let mut own = vec![
            ("u", "héllo 世界 🚀"),
            ("s", "a\"b\\c\nd\te"),
            ("l", &*long),
            (&*name, "1"),
        ];
        own.extend(many.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        for settings in ["", SECOND] {
            let labels = labels(settings, &own);
            for (name, value) in &own {
                assert_eq!(get(&labels, name).as_deref(), Some(*value));
            }
        }
    }
}

mod symbols {
    use super::*;

    fn mixed() -> Message {
        let zone = |n: &'static str| [("zone", n)];
        let (a, b) = (zone("a"), zone("b"));
        let values: [(&str, &[(&str, &str)], f64); 4] = [
            ("power_watts", &a, 1.0),
            ("power_watts", &b, 2.0),
            ("energy_joules_total", &a, 3.0),
            ("plain", &[], 4.0),
        ];
        sent_labelled(SECOND, &values).message()
    }

    #[test]
    fn empty_string_at_index_zero() {
        assert_eq!(mixed().symbols[0], "");
    }

    /// `efficient_symbol_reuse` and `string_deduplication`.
    #[test]
    fn string_deduplication() {
        let symbols = mixed().symbols;
        let mut once = symbols.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), symbols.len(), "{symbols:?}");
    }

    /// `labels_refs_valid_indices`, `labels_refs_even_length`; the decoder panics at one that is not.
    #[test]
    fn labels_refs_even_length() {
        let message = mixed();
        assert_eq!(message.series.len(), 4);
        for series in &message.series {
            assert!(!series.refs.is_empty() && series.refs.len() % 2 == 0);
            assert!(series
                .refs
                .iter()
                .all(|at| (*at as usize) < message.symbols.len()));
        }
    }

    #[test]
    fn rw1_symbol_table_not_used() {
        assert!(message("", &[("x", 1.0)]).symbols.is_empty());
    }
}

mod metadata {
    use super::*;

    const COUNTER: u64 = 1;
    const GAUGE: u64 = 2;

    fn metadata(name: &str) -> (u64, String, String) {
        let message = message(SECOND, &[(name, 1.0)]);
        let (kind, help, unit) = message.of(name).metadata.unwrap();
        let symbol = |at: u64| message.symbols[at as usize].clone();
        (kind, symbol(help), symbol(unit))
    }

    #[test]
    fn metadata_type_counter() {
        assert_eq!(metadata("http_requests_total").0, COUNTER);
    }

    #[test]
    fn metadata_type_gauge() {
        assert_eq!(metadata("temperature").0, GAUGE);
    }

    /// `metadata_help_with_newlines`, `metadata_help_with_special_chars`, `metadata_help_refs_valid`: it is not escaped.
    #[test]
    fn metadata_help_text() {
        assert_eq!(
            metadata("x_total").1,
            "Help of x_total, \"quoted\" and\nbroken."
        );
    }

    /// `metadata_empty_help_allowed`: a family without a unit refers to the empty text.
    #[test]
    fn metadata_unit() {
        assert_eq!(metadata("energy_joules_total").2, "joules");
        assert_eq!(metadata("ratio").2, "");
    }

    /// `samples_with_metadata`, `mixed_labels_and_metadata`.
    #[test]
    fn metadata_consistent_across_series() {
        let values: [(&str, &[(&str, &str)], f64); 2] = [
            ("power_watts", &[("zone", "a")], 1.0),
            ("power_watts", &[("zone", "b")], 1.0),
        ];
        let message = sent_labelled(SECOND, &values).message();
        assert_eq!(message.series[0].metadata, message.series[1].metadata);
    }

    /// 1.0 has none: the decoder panics at any field beside the series.
    #[test]
    fn rw1_metadata_handling() {
        assert_eq!(message("", &[("x_total", 1.0)]).series.len(), 1);
    }
}
