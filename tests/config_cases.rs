//! Golden tests of the configuration: every directory `tests/config/<case>/` has a `config.yaml` and the `expected`
//! outcome, which is the diagnostics as they are printed and then every setting that differs from its default.
//! `UPDATE_EXPECT=1 cargo test --test config_cases` writes `expected` anew: look at the difference before you commit it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use edge_metrics_exporter::config::{self, Config, Origin};
use edge_metrics_exporter::sources::SCHEMA;
use serde_json::Value;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut cases: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}

/// Each setting as it is shown; `every_key_is_shown_and_no_secret_is` tests that these are all.
fn settings(config: &Config) -> BTreeMap<String, Value> {
    match SCHEMA.to_json(config) {
        Value::Object(entries) => entries.into_iter().collect(),
        other => panic!("{other}"),
    }
}

fn outcome(bytes: &[u8]) -> String {
    let origin = Origin::File("config.yaml".into());
    let (config, warnings) = match SCHEMA.parse_bytes(bytes) {
        Err(error) => return format!("error: {}\n", error.with(&origin)),
        Ok(parsed) => parsed,
    };
    let mut text = String::new();
    for warning in warnings {
        text.push_str(&format!("warning: {}\n", warning.with(&origin)));
    }
    let defaults = settings(&Config::default());
    let mut changed = 0;
    for (key, value) in settings(&config) {
        if defaults.get(&key) != Some(&value) {
            text.push_str(&format!("{key} = {value}\n"));
            changed += 1;
        }
    }
    if changed == 0 {
        text.push_str("all defaults\n");
    }
    text
}

#[test]
fn every_case_has_its_expected_outcome() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 35, "only {} cases found", cases.len());
    for case in cases {
        let found = outcome(&fs::read(case.join("config.yaml")).unwrap());
        // A case whose outcome differs without TLS has a second file.
        let without_tls = case.join("expected.no-tls");
        let path = match cfg!(feature = "tls") || !without_tls.exists() {
            true => case.join("expected"),
            false => without_tls,
        };
        if update {
            fs::write(&path, &found).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if found != expected {
            wrong.push(format!(
                "{}\n--- expected\n{expected}+++ found\n{found}",
                case.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn template() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml.template");
    fs::read_to_string(path).unwrap()
}

#[test]
fn template_equals_the_defaults() {
    let (config, warnings) = edge_metrics_exporter::sources::SCHEMA
        .parse(&template())
        .unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config, Config::default());
}

/// A comment behind an example would become part of it when the example is uncommented.
#[test]
fn template_examples_stand_on_their_own_lines() {
    for line in template().lines() {
        let example = line.trim_start().strip_prefix('#').unwrap_or("");
        assert!(
            example.starts_with(' ') || !example.contains("  # "),
            "{line}"
        );
    }
}

/// The path with one of the first items of a list before one of its steps or at its end.
fn with_an_item<'a>(path: &[&'a str]) -> Vec<Vec<&'a str>> {
    let places = (0..=path.len()).flat_map(|at| ["0", "1", "2", "3"].map(|item| (at, item)));
    let inserted = places.map(|(at, item)| {
        let mut path = path.to_vec();
        path.insert(at, item);
        path
    });
    inserted.collect()
}

/// Commented examples count as well: a line that begins with `#` and no space is a setting.
#[test]
fn template_lists_exactly_the_known_keys() {
    let uncommented: String = template()
        .lines()
        .map(|line| {
            let example = line
                .trim_start()
                .strip_prefix('#')
                .filter(|rest| !rest.is_empty() && !is_prose(rest));
            match example {
                Some(rest) => {
                    let indent = &line[..line.len() - line.trim_start().len()];
                    format!("{indent}{rest}\n")
                }
                None => format!("{line}\n"),
            }
        })
        .collect();
    let readable = match cfg!(feature = "tls") {
        true => uncommented.clone(),
        false => uncommented.replace("https://", "http://"),
    };
    let (_, warnings) = edge_metrics_exporter::sources::SCHEMA
        .parse(&readable)
        .unwrap();
    let unknown: Vec<_> = warnings
        .iter()
        .filter(|warning| warning.message.contains("unknown key"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for key in SCHEMA.known_keys() {
        // The settings of HTTP clients are shown once.
        let mut clients = ["config_server.", "json.devices."].iter();
        let of_client = clients.find_map(|section| key.strip_prefix(section));
        let of_client = of_client.map(|rest| format!("remote_write.{rest}"));
        let is_shown_once =
            |key: &String| !["remote_write.url", "remote_write.name"].contains(&key.as_str());
        let keys = SCHEMA.known_keys();
        let key = of_client
            .filter(|key| is_shown_once(key) && keys.contains(key))
            .unwrap_or(key);
        let path: Vec<&str> = key.split('.').collect();
        // In a list of mappings a key may be in any of the first items, as some keys exclude each other. A list may be in another.
        let in_list = with_an_item(&path);
        let in_two = in_list.iter().flat_map(|path| with_an_item(path));
        let mut places = in_list.iter().cloned().chain(in_two);
        assert!(
            config::lines::key(&uncommented, &path).is_some()
                || places.any(|path| config::lines::key(&uncommented, &path).is_some()),
            "the template does not show {key}:\n{uncommented}"
        );
    }
}

/// Prose is written `# like this`, an example `#key: value`, and below that `#  key: value`.
fn is_prose(after_hash: &str) -> bool {
    let inner = after_hash.trim_start();
    after_hash.starts_with(' ') && !after_hash.starts_with("  ") || inner.starts_with("# ")
}
