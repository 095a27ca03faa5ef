use std::collections::BTreeMap;

use super::set_metrics;
use crate::sources::SCHEMA;

fn set(text: &str, changes: &[(&str, bool)]) -> Result<String, String> {
    let changes: BTreeMap<_, _> = changes
        .iter()
        .map(|(name, on)| (name.to_string(), *on))
        .collect();
    set_metrics(text, &changes).map_err(|refusal| refusal.to_string())
}

/// Asserts that setting `a` to false and adding `new` as true turns the text `before` into `after`.
#[track_caller]
fn becomes(before: &str, after: &str) {
    let edited = set(before, &[("a", false), ("new", true)]);
    assert_eq!(edited.as_deref(), Ok(after));
    let config = SCHEMA.parse(&after.replace('\u{feff}', "")).unwrap().0;
    let metrics = config.metrics.unwrap();
    assert_eq!((metrics["a"], metrics["new"]), (false, true));
    // The same edit of the edited text changes nothing.
    assert_eq!(
        set(after, &[("a", false), ("new", true)]).as_deref(),
        Ok(after)
    );
}

/// Asserts that the text is refused as a layout that is not edited, with a message that begins with `with`.
#[track_caller]
fn is_refused(before: &str, with: &str) {
    let refusal = set(before, &[("a", false), ("new", true)]).unwrap_err();
    assert!(refusal.starts_with(with), "{refusal}");
    assert!(refusal.contains("by hand"), "{refusal}");
}

#[test]
fn values_are_replaced_in_place() {
    becomes(
        "# Mine.\nport: 9100\n\nmetrics:  # which\n  a: true    # the first\n  # and\n  b: false\n\ninterval: 1 # s\n",
        "# Mine.\nport: 9100\n\nmetrics:  # which\n  a: false   # the first\n  # and\n  b: false\n  new: true\n\ninterval: 1 # s\n",
    );
    becomes(
        "metrics:\n  b: true\n  a:    TRUE\n",
        "metrics:\n  b: true\n  a:    false\n  new: true\n",
    );
    becomes(
        "metrics:\n  a : true # tight\n",
        "metrics:\n  a : false # tight\n  new: true\n",
    );
    becomes(
        "metrics:\n  a:\ttrue\n  b: false\t\n",
        "metrics:\n  a:\tfalse\n  b: false\t\n  new: true\n",
    );
}

#[test]
fn comments_stay_in_their_column() {
    let text = "metrics:\n  a: false # one\n  b: true  # two\n";
    let other = "metrics:\n  a: true  # one\n  b: false # two\n";
    let there = set(text, &[("a", true), ("b", false)]);
    assert_eq!(there.as_deref(), Ok(other));
    let back = set(other, &[("a", false), ("b", true)]);
    assert_eq!(back.as_deref(), Ok(text));
}

#[test]
fn new_names_are_quoted_like_the_last_one() {
    becomes(
        "\"metrics\":\n  \"a\": true\n",
        "\"metrics\":\n  \"a\": false\n  \"new\": true\n",
    );
    becomes(
        "metrics:\n  'a': true\n  b: true\n  'c': true\n",
        "metrics:\n  'a': false\n  b: true\n  'c': true\n  'new': true\n",
    );
}

#[test]
fn new_names_come_after_the_last_entry_and_its_comments() {
    becomes(
        "metrics:\n    a: true\n    # a was there first\n# the port\nport: 1\n",
        "metrics:\n    a: false\n    # a was there first\n    new: true\n# the port\nport: 1\n",
    );
    becomes(
        "metrics:\n  a: true\n\n  b: true\n\n\n  # apart\nport: 1\n",
        "metrics:\n  a: false\n\n  b: true\n  new: true\n\n\n  # apart\nport: 1\n",
    );
}

#[test]
fn line_breaks_are_kept() {
    becomes(
        "port: 1\r\nmetrics:\r\n  a: true # x\r\n",
        "port: 1\r\nmetrics:\r\n  a: false # x\r\n  new: true\r\n",
    );
    becomes(
        "port: 1\r\nmetrics: {}\r\n",
        "port: 1\r\nmetrics:\r\n  a: false\r\n  new: true\r\n",
    );
    becomes("metrics:\n  a: true", "metrics:\n  a: false\n  new: true");
    becomes(
        "metrics:\r\n  a: true\r\n...\r\n",
        "metrics:\r\n  a: false\r\n  new: true\r\n...\r\n",
    );
    becomes(
        "\u{feff}metrics:\n  a: true\n",
        "\u{feff}metrics:\n  a: false\n  new: true\n",
    );
}

#[test]
fn indented_documents_are_refused() {
    is_refused(
        "---\n  port: 1\n  metrics:\n     a: true\n  interval: 2\n",
        "line 4, column 6",
    );
    is_refused("  port: 1\n  metrics:\n", "line 2, column 3");
    is_refused("  port: 1\n", "this is laid out");
}

#[test]
fn a_mapping_on_one_line_is_written_line_by_line() {
    let written = "metrics:\n  a: false\n  new: true\n";
    becomes("metrics: {a: true}\n", written);
    becomes("metrics: {\"a\": true, }\n", written);
    becomes("metrics: {a: true}", written.trim_end());
    becomes(
        "port: 1\nmetrics: { b: false , a: true } # some\ninterval: 2\n",
        "port: 1\nmetrics: # some\n  a: false\n  b: false\n  new: true\ninterval: 2\n",
    );
}

#[test]
fn mappings_in_brackets_over_several_lines_are_refused() {
    is_refused(
        "port: 1\nmetrics: {\n  a: true,  # one\n  b: false # two\n}\n",
        "line 3, column 3",
    );
    is_refused(
        "metrics:\n  {\"a\": true,\n   \"b\":true,\n  }\n",
        "line 2, column 4",
    );
    is_refused("metrics:\n  {a: true}\n", "line 2, column 4");
    is_refused("metrics: {a: true,\n c: true}\n", "line 1, column 11");
    is_refused("metrics: { # none\n}\n", "line 1, column 1");
}

#[test]
fn json_is_refused() {
    is_refused(
        "{\"port\": 9100, \"metrics\": {\"a\": true}}",
        "line 1, column 28",
    );
    is_refused(
        "{\n  \"metrics\": {\n    \"a\": true\n  },\n  \"landing\": \"x\"\n}\n",
        "line 3, column 5",
    );
    is_refused("{\"metrics\": null}", "line 1, column 2");
    is_refused("{\n  \"landing\": \"a\"\n}\n", "this is laid out");
    is_refused("{}\n", "this is laid out");
}

#[test]
fn an_empty_key_is_filled() {
    let filled = "metrics:  # none\n  a: false\n  new: true\nport: 1\n";
    becomes("metrics:  # none\nport: 1\n", filled);
    becomes("metrics: {}  # none\nport: 1\n", filled);
    becomes("metrics: ~  # none\nport: 1\n", filled);
    becomes("metrics:", "metrics:\n  a: false\n  new: true");
    becomes(
        "metrics:\n#  a: true\nport: 1\n",
        "metrics:\n  a: false\n  new: true\n#  a: true\nport: 1\n",
    );
}

#[test]
fn a_missing_key_is_added_at_the_end() {
    let added = "metrics:\n  a: false\n  new: true\n";
    becomes("", added);
    becomes("# Nothing yet.\n", &format!("# Nothing yet.\n{added}"));
    becomes("---\n", &format!("---\n{added}"));
    becomes(
        "port: 1\n# the end\n",
        &format!("port: 1\n# the end\n{added}"),
    );
    becomes("port: 1", "port: 1\nmetrics:\n  a: false\n  new: true");
    becomes(
        "jetson:\n  sudo: true\n\n",
        &format!("jetson:\n  sudo: true\n\n{added}"),
    );
    becomes(
        "port: 1\nlanding: |+\n  OK\n\n",
        &format!("port: 1\nlanding: |+\n  OK\n\n{added}"),
    );
}

#[test]
fn a_file_that_cannot_be_appended_to_is_refused() {
    is_refused("port: 1\n...\n", "this is laid out");
    is_refused("--- ~\n", "this is laid out");
    // A line break at the end would change the value of `landing`.
    is_refused("port: 1\nlanding: |\n  OK", "this is laid out");
}

#[test]
fn the_old_list_becomes_a_mapping() {
    becomes(
        "port: 1\nenabled_metrics:  # mine\n  - a   # one\n  # two\n  - \"b\"\ninterval: 2\n",
        "port: 1\nmetrics:  # mine\n  a: false  # one\n  # two\n  \"b\": true\n  \"new\": true\ninterval: 2\n",
    );
    becomes(
        "enabled_metrics:\n- a\n- b\n",
        "metrics:\n  a: false\n  b: true\n  new: true\n",
    );
    becomes(
        "port: 1\nenabled_metrics: [a, 'b'] # mine\n",
        "port: 1\nmetrics: # mine\n  a: false\n  b: true\n  new: true\n",
    );
    becomes(
        "enabled_metrics: []\n",
        "metrics:\n  a: false\n  new: true\n",
    );
    becomes(
        "enabled_metrics:\nport: 1\n",
        "metrics:\n  a: false\n  new: true\nport: 1\n",
    );
}

#[test]
fn an_old_list_in_another_layout_stays_without_effect() {
    let added = "metrics:\n  a: false\n  new: true\n";
    for list in [
        "enabled_metrics:\n- a\n- a\n",
        "enabled_metrics: [a,\n a]\n",
        "enabled_metrics:\n- &x a\n",
        "enabled_metrics:\n-\n  a\n",
    ] {
        becomes(list, &format!("{list}{added}"));
    }
    becomes(
        "metrics: {}\nenabled_metrics: [b]\n",
        "metrics:\n  a: false\n  b: true\n  new: true\nenabled_metrics: [b]\n",
    );
    becomes(
        "metrics:\n  b: true\nenabled_metrics: [c]\n",
        "metrics:\n  b: true\n  a: false\n  new: true\nenabled_metrics: [c]\n",
    );
}

#[test]
fn anchors_aliases_and_complex_keys_are_refused_with_their_line() {
    is_refused("metrics:\n  b: &x true\n  a: *x\n", "line 3");
    is_refused("metrics:\n  a: &x true\n", "line 2");
    is_refused("port: 1\nmetrics: &m\n  a: true\n", "line 3");
    is_refused("metrics: &m {a: true}\n", "line 1");
    is_refused("x: &m {a: true}\nmetrics: *m\n", "line 2");
    is_refused("x: &m\n  a: true\nmetrics: *m\n", "line 3");
    is_refused("metrics:\n  a:\n    true\n", "line 2");
    is_refused("metrics:\n  ? a\n  : true\n", "line 2");
    is_refused("metrics:\n  \"\\x61\": true\n", "line 2");
    is_refused("? metrics\n: a: true\n", "line 2");
}

#[test]
fn invalid_configurations_are_refused() {
    for text in [
        "metrics: [a]\n",
        "metrics:\n  a: yes\n",
        "metrics:\n  a: true\n  a: false\n",
        "metrics:\n\ta: true\n",
        "port: [\n",
        "- a\n",
        "metrics: {}\nmetrics: {}\n",
        "a: 1\n---\nb: 2\n",
        "a: !tag b\n",
    ] {
        assert!(set(text, &[("a", false)]).is_err(), "{text:?}");
    }
}

#[test]
fn names_that_yaml_would_misread_are_quoted() {
    let edited = set("metrics:\n  a: true\n", &[("null", true), ("job:b", true)]);
    let expected = "metrics:\n  a: true\n  \"job:b\": true\n  \"null\": true\n";
    assert_eq!(edited.as_deref(), Ok(expected));
    let edited = set(expected, &[("null", false), ("job:b", false)]);
    assert_eq!(edited, Ok(expected.replace("\": true", "\": false")));
    let edited = set(
        "metrics:\n  a:b: true\n  c:: true\n",
        &[("a:b", false), ("c:", false)],
    );
    assert_eq!(
        edited.as_deref(),
        Ok("metrics:\n  a:b: false\n  c:: false\n")
    );
}

#[test]
fn size_limits_hold() {
    let names: Vec<_> = (0..=1000).map(|n| (format!("m{n}"), true)).collect();
    let changes: Vec<_> = names.iter().map(|(n, on)| (n.as_str(), *on)).collect();
    let refusal = set("port: 1\n", &changes).unwrap_err();
    assert!(refusal.contains("1001 names"), "{refusal}");
    assert!(set("port: 1\n", &changes[1..]).is_ok());
    let full = format!("port: 1 #{}\n", "x".repeat(crate::config::MAX_SIZE - 20));
    let refusal = set(&full, &[("a", true)]).unwrap_err();
    assert!(refusal.contains("larger than"), "{refusal}");
}

/// Every golden case of the reader that is a valid configuration can be edited, or is refused with a reason.
#[test]
fn reader_cases_are_edited_or_refused() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let (mut edited, mut refused) = (0, Vec::new());
    for case in std::fs::read_dir(root).unwrap() {
        let file = case.unwrap().path().join("config.yaml");
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        let before = SCHEMA.parse(&text);
        match (
            set(&text, &[("jetson_power_x", false), ("new", true)]),
            before,
        ) {
            (Ok(after), Ok((before, _))) => {
                let (mut after, _) = SCHEMA.parse(&after).unwrap();
                let mut metrics = after.metrics.take().unwrap();
                metrics.remove("new");
                metrics.remove("jetson_power_x");
                assert_eq!(metrics, before.metrics.clone().unwrap_or_default());
                after.metrics.clone_from(&before.metrics);
                assert_eq!(after, before, "{}", file.display());
                edited += 1;
            }
            (Err(_), Ok(_)) => {
                let case = file.parent().and_then(|case| case.file_name()).unwrap();
                refused.push(case.to_string_lossy().into_owned());
            }
            _ => {}
        }
    }
    refused.sort();
    // These have no block mapping that a key could be appended to.
    let expected = [
        "document-marker",
        "empty-document-marker",
        "empty-mapping",
        "empty-null",
        "json",
    ];
    assert_eq!(refused, expected);
    assert!(edited > 45, "{edited} edited");
}

/// Most files begin as a copy of the template.
#[test]
fn the_template_is_edited() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml.template");
    let template = std::fs::read_to_string(path).unwrap();
    let edited = set(&template, &[("a", false)]).unwrap();
    assert_eq!(edited, format!("{template}metrics:\n  a: false\n"));
}

/// Valid and unusual pieces of configurations, from which the texts below are put together.
const PIECES: &[&str] = &[
    "metrics:",
    "\"metrics\":",
    "enabled_metrics:",
    "port: 1",
    "landing:",
    "a",
    "'a'",
    "\"a\"",
    "b",
    "new",
    "a:b",
    "null",
    ": ",
    ":",
    " : ",
    "true",
    "false",
    "TRUE",
    "~",
    "{}",
    "{a: true}",
    "[a, b]",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "- ",
    "- a",
    "? ",
    " ",
    "  ",
    "    ",
    "\t",
    "# c",
    " # c",
    "  # c",
    "\n",
    "\n",
    "\n",
    "\n  ",
    "\n  a: true",
    "\n  b: false  # d",
    "\n- a",
    "\r\n",
    "\r",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "&x ",
    "*x",
    "!t ",
    "<<: ",
    "|",
    ">-",
    "---",
    "...",
    "%YAML 1.1",
    "'",
    "\"",
    "\\",
    "x",
];

/// Whatever the text: an accepted edit changes these metrics, nothing else, and loses no comment.
#[test]
fn random_texts_are_edited_exactly_or_refused() {
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        // Knuth's linear congruential generator: the same texts in every run.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let beginnings = [
        "",
        "metrics:",
        "port: 1\nmetrics:\n  a: true",
        "enabled_metrics:\n- a",
        "metrics: {a: true}",
    ];
    let comments = |text: &str| text.matches("# c").count() + text.matches("# d").count();
    let (mut edited, mut refused) = (0, 0);
    for _ in 0..3000 {
        let mut text = beginnings[random(beginnings.len())].to_owned();
        for _ in 0..random(9) {
            text.push_str(PIECES[random(PIECES.len())]);
        }
        let Ok((mut before, _)) = SCHEMA.parse(&text) else {
            continue;
        };
        let Ok(after) = set(&text, &[("a", false), ("new", true)]) else {
            refused += 1;
            continue;
        };
        edited += 1;
        let (mut config, _) = SCHEMA.parse(&after).unwrap();
        let mut expected = before.metrics.take().unwrap_or_default();
        expected.extend([("a".into(), false), ("new".into(), true)]);
        assert_eq!(config.metrics.take(), Some(expected), "{text:?}");
        assert_eq!(config, before, "{text:?}");
        assert_eq!(comments(&after), comments(&text), "{text:?}");
    }
    assert!(
        edited > 300 && refused > 20,
        "{edited} edited, {refused} refused"
    );
}
