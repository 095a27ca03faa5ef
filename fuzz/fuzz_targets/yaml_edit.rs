//! Any text as a configuration to be edited: an edit that is given says the same as before but for what was asked, and
//! leaves every line that holds nothing else as it was; one that is refused says so on one line, about a place that there
//! is.
#![no_main]

use std::collections::BTreeMap;

use edge_metrics_exporter::config::{Diagnostic, MAX_SIZE};
use edge_metrics_exporter::sources::SCHEMA;
use edge_metrics_exporter::store::set_metrics;
use libfuzzer_sys::fuzz_target;

/// What is asked for: more names than most texts have, one that is often there, and names that YAML reads as something
/// else.
fn changes() -> BTreeMap<String, bool> {
    let names = [("a", false), ("b", true), ("null", true), ("x:y", false)];
    names.map(|(name, on)| (name.to_string(), on)).into()
}

fuzz_target!(|text: &str| {
    let changes = changes();
    let before = SCHEMA.parse(text);
    match set_metrics(text, &changes) {
        Ok(after) => accepted(text, before.map(|(config, _)| config), &after, &changes),
        Err(refusal) => assert_sane(text, &refusal),
    }
});

fn accepted(
    text: &str,
    before: Result<edge_metrics_exporter::config::Config, Diagnostic>,
    after: &str,
    changes: &BTreeMap<String, bool>,
) {
    assert!(after.len() <= MAX_SIZE + '\u{feff}'.len_utf8());
    assert_eq!(text.starts_with('\u{feff}'), after.starts_with('\u{feff}'));
    // What was wrong elsewhere stays wrong.
    let parsed = SCHEMA.parse(after);
    assert_eq!(before.is_ok(), parsed.is_ok());
    if let (Ok(mut before), Ok((mut config, _))) = (before, parsed) {
        let mut expected = before.metrics.take().unwrap_or_default();
        expected.extend(changes.clone());
        assert_eq!(config.metrics.take(), Some(expected));
        assert_eq!(config, before);
    }
    // Comments that stand alone are all still there, in their order.
    let comments = |text: &str| -> Vec<String> {
        let lines = text.split(['\n', '\r']).map(str::trim);
        lines
            .filter(|l| l.starts_with('#'))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(comments(text), comments(after));
    // Asked again, there is nothing left to do.
    assert_eq!(set_metrics(after, changes).as_deref(), Ok(after));
}

fn assert_sane(text: &str, refusal: &Diagnostic) {
    let message = &refusal.message;
    assert!(
        !message.is_empty() && !message.chars().any(char::is_control),
        "{message:?}"
    );
    if let Some(line) = refusal.line {
        let breaks = text
            .chars()
            .filter(|c| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}'));
        assert!((1..=breaks.count() + 2).contains(&line), "line {line}");
    }
}
