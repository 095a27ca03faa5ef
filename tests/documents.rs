//! The documents: every relative link leads to a file that is there, and to a heading that it has; every command is run by a test, or the
//! document says why not; the README stays short.

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

/// `make docs` has the pages that can be reached so.
#[test]
fn pages_can_be_reached_from_the_readme() {
    let mut reached = vec![root().join("README.md")];
    let mut next = 0;
    while let Some(page) = reached.get(next).cloned() {
        next += 1;
        let text = prose(&std::fs::read_to_string(&page).unwrap());
        for link in links(&text) {
            let path = link.split('#').next().unwrap_or_default();
            let Ok(target) = page.parent().unwrap().join(path).canonicalize() else {
                continue;
            };
            if path.ends_with(".md") && !reached.contains(&target) {
                reached.push(target);
            }
        }
    }
    let mut all = Vec::new();
    documents(&root().join("docs"), &mut all);
    assert!(all.len() > 30, "{all:?}");
    all.retain(|page| !reached.contains(&page.canonicalize().unwrap()));
    assert!(
        all.is_empty(),
        "no page that can be reached from README.md links to {all:?}"
    );
}

/// The mark before a block of commands.
#[derive(Debug)]
enum Mark {
    /// The system test that runs the block, and the block's name.
    RunBy { test: String, name: String },
    /// No test runs it, and the document says why.
    NotRun,
}

fn mark(line: &str) -> Option<Mark> {
    let text = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    let (key, value) = text.split_once(": ").filter(|(_, v)| !v.is_empty())?;
    match key {
        "not run" => Some(Mark::NotRun),
        test if test.starts_with("test_") => Some(Mark::RunBy {
            test: test.to_string(),
            name: value.to_string(),
        }),
        _ => None,
    }
}

/// The language of each block of code, its text, and the line before it.
fn blocks(text: &str) -> Vec<(&str, String, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(language) = lines[at].trim_start().strip_prefix("```") else {
            at += 1;
            continue;
        };
        let before = at.checked_sub(1).map_or("", |before| lines[before]);
        let block = lines[at + 1..].iter();
        let block: Vec<&str> = block
            .take_while(|line| !line.trim_start().starts_with("```"))
            .copied()
            .collect();
        at += block.len() + 2;
        found.push((language, block.join("\n"), before));
    }
    found
}

/// A block without a language that has a command in it is one of commands, too.
fn has_commands(language: &str, text: &str) -> bool {
    let programs = [
        "edge-metrics-exporter ",
        "curl ",
        "sudo ",
        "make ",
        "$ ",
        "./",
    ];
    let is_command = |line: &str| programs.iter().any(|program| line.starts_with(program));
    match language {
        "sh" | "bash" | "shell" | "console" => true,
        "" | "text" => text.lines().any(is_command),
        _ => false,
    }
}

#[test]
fn commands_are_run_by_a_test_or_say_why_not() {
    let mut all = vec![root().join("README.md")];
    documents(&root().join("docs"), &mut all);
    let (mut run, mut wrong) = (BTreeSet::new(), Vec::new());
    for document in &all {
        let text = std::fs::read_to_string(document).unwrap();
        for (language, text, before) in blocks(&text) {
            if !has_commands(language, &text) {
                continue;
            }
            let place = format!(
                "{}: {}",
                document.display(),
                text.lines().next().unwrap_or_default()
            );
            match mark(before) {
                Some(Mark::NotRun) => {}
                Some(Mark::RunBy { test, name }) => {
                    let file = root().join(format!("tests/system/{test}.py"));
                    let source = std::fs::read_to_string(file).unwrap_or_default();
                    if !source.contains(&format!("\"{name}\"")) {
                        wrong.push(format!("{place}: tests/system/{test}.py has no block \"{name}\""));
                    }
                    if !run.insert((test, name)) {
                        wrong.push(format!("{place}: another block has the same mark"));
                    }
                }
                None => wrong.push(format!(
                    "{place}: no mark before it: <!-- test_docs: NAME --> or <!-- not run: REASON -->"
                )),
            }
        }
    }
    assert!(run.len() > 20, "{run:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
