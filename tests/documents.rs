//! The documents: every relative link leads to a file that is there, and to a heading that it has; the README stays short.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The greatest size of the README, in bytes.
const MAX_README: u64 = 8 * 1024;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents below `dir`.
fn documents(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        // The trees of boards have links that lead to folders above them.
        if path.is_symlink() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = !name.starts_with('.') && !matches!(name.as_str(), "target" | "dist");
        if path.is_dir() && is_ours {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The text without blocks of code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose += line;
            prose.push('\n');
        }
    }
    prose
}

/// The targets of the links and pictures in a document.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (begin, end) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"')] {
        let rest = text.split(begin).skip(1);
        found.extend(rest.filter_map(|rest| Some(rest.split_once(end)?.0.to_string())));
    }
    found
}

/// The anchors of a document's headings, as forges make them: lower case, spaces to hyphens, no punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        heading
            .chars()
            .filter(kept)
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut all = Vec::new();
    documents(root(), &mut all);
    assert!(all.len() > 30, "{all:?}");
    let mut broken = Vec::new();
    let mut checked = 0;
    for document in &all {
        let text = prose(&std::fs::read_to_string(document).unwrap());
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = match link.split_once('#') {
                Some((path, anchor)) => (path, Some(anchor)),
                None => (link.as_str(), None),
            };
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let has_heading = |anchor: &str| {
                let text = std::fs::read_to_string(&target).unwrap_or_default();
                anchors(&prose(&text)).contains(anchor)
            };
            checked += 1;
            if !target.exists() || !anchor.is_none_or(has_heading) {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(checked > 100, "{checked}");
    assert!(
        broken.is_empty(),
        "links that lead nowhere:\n{}",
        broken.join("\n")
    );
}

#[test]
fn readme_is_short() {
    let size = std::fs::metadata(root().join("README.md")).unwrap().len();
    assert!(
        size <= MAX_README,
        "README.md has {size} bytes: move details to docs/"
    );
}
