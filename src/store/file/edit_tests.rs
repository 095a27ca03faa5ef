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

/// The text with `a` set to false and `new` added as true.
#[track_caller]
fn becomes(before: &str, after: &str) {
    let edited = set(before, &[("a", false), ("new", true)]);
    assert_eq!(edited.as_deref(), Ok(after));
    let config = SCHEMA.parse(&after.replace('\u{feff}', "")).unwrap().0;
    let metrics = config.metrics.unwrap();
    assert_eq!((metrics["a"], metrics["new"]), (false, true));
    // Once more changes nothing, and there is a way back for what was there.
    assert_eq!(
        set(after, &[("a", false), ("new", true)]).as_deref(),
        Ok(after)
    );
}

#[track_caller]
fn is_refused(before: &str, with: &str) {
    let refusal = set(before, &[("a", false), ("new", true)]).unwrap_err();
    assert!(refusal.starts_with(with), "{refusal}");
    assert!(refusal.contains("by hand"), "{refusal}");
}

#[test]
fn values_are_changed_in_their_places() {
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
fn a_comment_stays_in_its_column() {
    let text = "metrics:\n  a: false # one\n  b: true  # two\n";
    let other = "metrics:\n  a: true  # one\n  b: false # two\n";
    let there = set(text, &[("a", true), ("b", false)]);
    assert_eq!(there.as_deref(), Ok(other));
    let back = set(other, &[("a", false), ("b", true)]);
    assert_eq!(back.as_deref(), Ok(text));
}

#[test]
fn quotes_are_kept_and_followed() {
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
fn new_names_come_behind_the_last_and_what_is_said_of_it() {
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
fn line_ends_are_kept() {
    becomes(
        "port: 1\r\nmetrics:\r\n  a: true # x\r\n",
        "port: 1\r\nmetrics:\r\n  a: false # x\r\n  new: true\r\n",
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
fn a_whole_document_may_be_further_in() {
    becomes(
        "---\n  port: 1\n  metrics:\n     a: true\n  interval: 2\n",
        "---\n  port: 1\n  metrics:\n     a: false\n     new: true\n  interval: 2\n",
    );
    becomes(
        "  port: 1\n  metrics:\n",
        "  port: 1\n  metrics:\n    a: false\n    new: true\n",
    );
    becomes(
        "  port: 1\n",
        "  port: 1\n  metrics:\n    a: false\n    new: true\n",
    );
}

#[test]
fn flow_style_stays_so() {
    becomes("metrics: {a: true}\n", "metrics: {a: false, new: true}\n");
    becomes(
        "metrics: { a: true , b: false } # some\n",
        "metrics: { a: false , b: false, new: true } # some\n",
    );
    becomes("metrics: {a: true,}\n", "metrics: {a: false, new: true}\n");
    becomes(
        "metrics: {\n  a: true,  # one\n  b: false # two\n}\nport: 1\n",
        "metrics: {\n  a: false,  # one\n  b: false, # two\n  new: true\n}\nport: 1\n",
    );
    becomes(
        "metrics:\n  {\"a\": true,\n   \"b\":true,\n  }\n",
        "metrics:\n  {\"a\": false,\n   \"b\":true,\n   \"new\": true,\n  }\n",
    );
    becomes(
        "metrics: {a: true, # {b: true}\n  c: true}\n",
        "metrics: {a: false, # {b: true}\n  c: true, new: true}\n",
    );
}

#[test]
fn json_stays_json() {
    becomes(
        "{\"port\": 9100, \"metrics\": {\"a\": true}}",
        "{\"port\": 9100, \"metrics\": {\"a\": false, \"new\": true}}",
    );
    becomes(
        "{\n  \"metrics\": {\n    \"a\": true\n  },\n  \"landing\": \"} it's # {\"\n}\n",
        "{\n  \"metrics\": {\n    \"a\": false,\n    \"new\": true\n  },\n  \"landing\": \"} it's # {\"\n}\n",
    );
    becomes(
        "{\n  \"landing\": \"a\\\"b\",\n  \"shelly\": {\"devices\": [{\"host\": \"x\"}]}\n}\n",
        "{\n  \"landing\": \"a\\\"b\",\n  \"shelly\": {\"devices\": [{\"host\": \"x\"}]},\n  \"metrics\": {\"a\": false, \"new\": true}\n}\n",
    );
    becomes(
        "{metrics: , port: 1}",
        "{metrics: {a: false, new: true} , port: 1}",
    );
    becomes(
        "{\"metrics\": null}",
        "{\"metrics\": {\"a\": false, \"new\": true}}",
    );
    becomes("{}\n", "{metrics: {a: false, new: true}}\n");
}

#[test]
fn an_empty_key_is_filled() {
    let filled = "metrics:  # none\n  a: false\n  new: true\nport: 1\n";
    becomes("metrics:  # none\nport: 1\n", filled);
    becomes("metrics: {}  # none\nport: 1\n", filled);
    becomes("metrics: ~  # none\nport: 1\n", filled);
    becomes("metrics:", "metrics:\n  a: false\n  new: true");
    becomes(
        "metrics: { # none\n}\n",
        "metrics: {a: false, new: true # none\n}\n",
    );
    becomes(
        "metrics:\n#  a: true\nport: 1\n",
        "metrics:\n  a: false\n  new: true\n#  a: true\nport: 1\n",
    );
}

#[test]
fn a_missing_key_is_added() {
    let added = "metrics:\n  a: false\n  new: true\n";
    becomes("", added);
    becomes("# Nothing yet.\n", &format!("# Nothing yet.\n{added}"));
    becomes("---\n", &format!("---\n{added}"));
    becomes(
        "port: 1\n# the end\n",
        &format!("port: 1\n# the end\n{added}"),
    );
    becomes("port: 1\n...\n", &format!("port: 1\n{added}...\n"));
    becomes("port: 1", "port: 1\nmetrics:\n  a: false\n  new: true");
    becomes(
        "jetson:\n  sudo: true\n\n",
        &format!("jetson:\n  sudo: true\n\n{added}"),
    );
    // A text that goes on to the end of the file, whose last line break would be another.
    becomes(
        "port: 1\nlanding: |\n  OK",
        &format!("{added}port: 1\nlanding: |\n  OK"),
    );
    becomes(
        "port: 1\nlanding: |+\n  OK\n\n",
        &format!("port: 1\nlanding: |+\n  OK\n\n{added}"),
    );
}

#[test]
fn the_old_list_becomes_a_mapping() {
    becomes(
        "port: 1\nenabled_metrics:  # mine\n  - a   # one\n  # two\n  - \"b\"\ninterval: 2\n",
        "port: 1\nmetrics:  # mine\n  a: false  # one\n  # two\n  \"b\": true\n  \"new\": true\ninterval: 2\n",
    );
    becomes(
        "enabled_metrics:\n- a\n- b\n- a\n",
        "metrics:\n  a: false\n  b: true\n  new: true\n",
    );
    becomes(
        "enabled_metrics: [a, 'b']\n",
        "metrics: {a: false, 'b': true, 'new': true}\n",
    );
    becomes(
        "enabled_metrics: []\n",
        "metrics:\n  a: false\n  new: true\n",
    );
    becomes(
        "enabled_metrics:\nport: 1\n",
        "metrics:\n  a: false\n  new: true\nport: 1\n",
    );
    // Where that has no form of its own, the list stays, and counts no longer.
    becomes(
        "enabled_metrics: [a, a]\n",
        "enabled_metrics: [a, a]\nmetrics:\n  a: false\n  new: true\n",
    );
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
fn what_is_not_written_plainly_is_refused_with_its_line() {
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
    is_refused("{metrics: {? a : true}}\n", "line 1");
    is_refused("--- ~\n", "this");
}

#[test]
fn what_is_no_configuration_is_not_edited() {
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
fn the_bounds_of_a_configuration_hold() {
    let names: Vec<_> = (0..=1000).map(|n| (format!("m{n}"), true)).collect();
    let changes: Vec<_> = names.iter().map(|(n, on)| (n.as_str(), *on)).collect();
    let refusal = set("port: 1\n", &changes).unwrap_err();
    assert!(refusal.contains("1001 names"), "{refusal}");
    assert!(set("port: 1\n", &changes[1..]).is_ok());
    let full = format!("port: 1 #{}\n", "x".repeat(crate::config::MAX_SIZE - 20));
    let refusal = set(&full, &[("a", true)]).unwrap_err();
    assert!(refusal.contains("larger than"), "{refusal}");
}

/// Every golden case of the reader that is a configuration can be edited, or says why not.
#[test]
fn the_cases_of_the_reader_are_edited_or_refused() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let (mut edited, mut refused) = (0, 0);
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
            (Err(_), Ok(_)) => refused += 1,
            _ => {}
        }
    }
    assert!(
        edited > 45 && refused < 3,
        "{edited} edited, {refused} refused"
    );
}

/// The template is what most files begin as.
#[test]
fn the_template_is_edited() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml.template");
    let template = std::fs::read_to_string(path).unwrap();
    let edited = set(&template, &[("a", false)]).unwrap();
    assert_eq!(edited, format!("{template}metrics:\n  a: false\n"));
}
