//! The order of the modules in `src/`: each may use the ones below it, and none beside or above it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, the lowest first. A module uses modules of lower layers only.
const LAYERS: [&[&str]; 10] = [
    // The kernel, and the types that boards and server exchange.
    &["sys", "wire"],
    &["logging", "mdns"],
    // The schema: types, defaults, reading, checking.
    &["config"],
    &["http", "metrics"],
    // What happens to samples.
    &["sources", "remote_write", "exposition"],
    // The configuration in force.
    &["store"],
    &["doctor"],
    // Roles.
    &["exporter", "config_server", "collector"],
    // Roles that read a board in their own process, or through a running exporter; and simulated boards with their server.
    &["measure", "top", "demo"],
    &["cli"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Every Rust file below `dir`.
fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a line of code names as `crate::module`, or lists in `use crate::{…}`.
fn named(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let names = code.split("crate::").skip(1);
    names
        .map(|rest| {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            rest.chars().take_while(|c| is_name(*c)).collect()
        })
        .collect()
}

/// What is wrong with the imports of a file of `module`, a message for each.
fn upward_imports(module: &str, file: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", number + 1);
        for used in named(line) {
            if used.is_empty() {
                wrong.push(format!(
                    "{place}: write `crate::module::…` out, one module a line"
                ));
            } else if let (Some(own), Some(other)) = (layer(module), layer(&used)) {
                if used != module && other >= own {
                    wrong.push(format!(
                        "{place}: `{module}` uses `{used}`, which is not below it"
                    ));
                }
            }
        }
    }
    wrong
}

#[test]
fn modules_use_only_what_is_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut modules = BTreeSet::new();
    let mut wrong = Vec::new();
    for path in files {
        let file = path.strip_prefix(&src).unwrap();
        let top = file.components().next().unwrap().as_os_str();
        let module = top.to_str().unwrap().trim_end_matches(".rs").to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        wrong.extend(upward_imports(&module, &file.to_string_lossy(), &text));
        modules.insert(module);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known: BTreeSet<String> = LAYERS.concat().into_iter().map(str::to_owned).collect();
    assert_eq!(modules, known, "the layers name every module of src/");
}

#[test]
fn upward_import_is_reported_in_every_form() {
    for (module, line) in [
        ("sys", "use crate::config::Config;"),
        ("config", "    use crate::http::client::{self, Client};"),
        ("http", "fn f(a: &crate::metrics::Group) {}"),
        (
            "sources",
            "pub use crate::{remote_write::Labels, sys::lock};",
        ),
        ("store", "let x = crate::exporter::start();"),
    ] {
        assert_eq!(upward_imports(module, "x.rs", line).len(), 1, "{line}");
    }
    for (module, line) in [
        ("http", "use crate::config::Secret;"),
        ("http", "use crate::http::AccessControl;"),
        ("sys", "/// See [`crate::config`]."),
        ("config", "use crate::Error;"),
    ] {
        assert!(upward_imports(module, "x.rs", line).is_empty(), "{line}");
    }
}
