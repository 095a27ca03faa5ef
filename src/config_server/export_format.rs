//! The YAML of an export: all groups, and the own documents of all boards, each kept to the letter.
//!
//! A document stands below its name, indented, as it is. Where that would not be the same YAML, or not to the letter (it has no
//! line end at its end, or is no YAML at all), it is text: a literal block (`|`), or in double quotes on one line. An import
//! reads these forms line by line, since a parser of all YAML takes many times the memory of the text.

use super::transaction::Kind;
use crate::config::Document;
use crate::wire::DeviceId;

/// The indentation of names and of documents.
const NAME_INDENT: usize = 2;
const TEXT_INDENT: usize = 4;
/// Bytes of the longest document.
const MAX_DOCUMENT: usize = 64 * 1024;

/// The beginning of an export.
pub(super) const HEAD: &str =
    "# All groups, and the own documents of all boards. PUT /import of a config-server reads it.\n";

/// The key of a kind of documents.
pub(super) fn section(kind: Kind) -> &'static str {
    match kind {
        Kind::Group => "groups",
        Kind::Device => "devices",
    }
}

/// Writes a document with its name.
pub(super) fn write(out: &mut String, name: &DeviceId, text: &str) {
    out.push_str(&format!("{:NAME_INDENT$}{name}:", ""));
    if let Some(indented) = nested(text) {
        out.push('\n');
        out.push_str(&indented);
    } else if let Some((header, indented)) = literal(text) {
        out.push_str(&format!(" {header}\n{indented}"));
    } else {
        out.push_str(&format!(" {}\n", quoted(text)));
    }
}

/// The text with every line that is not empty indented.
fn indented(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for line in text.split_inclusive('\n') {
        if line != "\n" {
            out.push_str(&format!("{:TEXT_INDENT$}", ""));
        }
        out.push_str(line);
    }
    out
}

/// The document as a mapping below a key; `None`: it would not be the same one, or not to the letter.
fn nested(text: &str) -> Option<String> {
    let is_plain = |line: &str| {
        !["---", "...", "%"]
            .iter()
            .any(|mark| line.starts_with(mark))
    };
    let ends_in_one_line_end = text.ends_with('\n') && !text.ends_with("\n\n");
    let begins_at_once = !text.starts_with([' ', '\n']);
    if !ends_in_one_line_end
        || !begins_at_once
        || !text.chars().all(is_printable)
        || !text.lines().all(is_plain)
    {
        return None;
    }
    let indented = indented(text);
    let below = Document::from_yaml(format!("x:\n{indented}").as_bytes()).ok()?;
    let alone = Document::from_yaml(text.as_bytes()).ok()?;
    (!alone.is_empty() && below.below("x")? == alone).then_some(indented)
}

/// The document as a literal block, with its header; `None`: not to the letter.
fn literal(text: &str) -> Option<(&'static str, String)> {
    let content = text.trim_end_matches('\n');
    let begins_at_once = !text.starts_with([' ', '\t', '\n']);
    if content.is_empty() || !begins_at_once || !text.chars().all(is_printable) {
        return None;
    }
    // A line of blanks alone could be the last one, and be taken for one of the block's end.
    if content
        .lines()
        .any(|line| !line.is_empty() && line.trim().is_empty())
    {
        return None;
    }
    let header = match text.len() - content.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    };
    let mut indented = indented(text);
    if header == "|-" {
        indented.push('\n');
    }
    Some((header, indented))
}

/// The document in double quotes, as JSON and YAML both have it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_printable(c) => out.push(c),
            c => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
    out
}

/// Whether YAML takes the character as it is, and no line ends with it that is not one of ours.
fn is_printable(c: char) -> bool {
    matches!(c, '\t' | '\n' | ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// What an import has read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Import {
    /// The groups; `None`: it says nothing of them.
    pub(super) groups: Option<Vec<Imported>>,
    /// The own documents of devices; `None`: it says nothing of them.
    pub(super) devices: Option<Vec<Imported>>,
}

/// A document in an import.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Imported {
    pub(super) id: DeviceId,
    pub(super) text: String,
    /// The line of its name, from 1.
    pub(super) line: usize,
}

/// Why an import cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ImportError {
    /// From 1.
    pub(super) line: usize,
    pub(super) message: String,
}

/// The lines that are still to be read.
struct Lines<'a> {
    rest: std::iter::Peekable<std::iter::Enumerate<std::str::Lines<'a>>>,
}

impl<'a> Lines<'a> {
    fn peek(&mut self) -> Option<(usize, &'a str)> {
        self.rest.peek().map(|(at, line)| (at + 1, *line))
    }
}

fn wrong<T>(line: usize, message: impl Into<String>) -> Result<T, ImportError> {
    Err(ImportError {
        line,
        message: message.into(),
    })
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

/// Whether a line says nothing between documents.
fn is_empty(line: &str) -> bool {
    is_blank(line) || line.trim_start().starts_with('#')
}

/// Reads an export, or what somebody wrote in its form.
pub(super) fn read(text: &str) -> Result<Import, ImportError> {
    let mut lines = Lines {
        rest: text.lines().enumerate().peekable(),
    };
    let mut import = Import::default();
    while let Some((number, line)) = lines.peek() {
        lines.rest.next();
        if is_empty(line) || line.trim_end() == "---" {
            continue;
        }
        let (key, rest) = line.split_once(':').unwrap_or((line, ""));
        let (section, most) = match key {
            "groups" => (&mut import.groups, super::store::MAX_GROUPS),
            "devices" => (&mut import.devices, super::store::MAX_DEVICES),
            _ => return wrong(number, "`groups:` or `devices:` is wanted here, with names and documents indented below it"),
        };
        if section.is_some() {
            return wrong(number, format!("`{key}` is there twice"));
        }
        let found = match without_comment(rest) {
            "" => read_section(&mut lines, most)?,
            "{}" => Vec::new(),
            _ => {
                return wrong(
                    number,
                    format!("the documents stand below `{key}:`, each with its name"),
                )
            }
        };
        *section = Some(found);
    }
    match (&import.groups, &import.devices) {
        (None, None) => wrong(1, "there is neither `groups:` nor `devices:` in it"),
        _ => Ok(import),
    }
}

/// What follows a colon, without blanks, and nothing if it is a comment.
fn without_comment(rest: &str) -> &str {
    let rest = rest.trim();
    match rest.starts_with('#') {
        true => "",
        false => rest,
    }
}

fn read_section(lines: &mut Lines<'_>, most: usize) -> Result<Vec<Imported>, ImportError> {
    let mut found: Vec<Imported> = Vec::new();
    let mut names = std::collections::HashSet::new();
    let mut of_names = None;
    while let Some((number, line)) = lines.peek() {
        if is_empty(line) {
            lines.rest.next();
            continue;
        }
        let indent = indent_of(line);
        if indent == 0 {
            break;
        }
        lines.rest.next();
        if *of_names.get_or_insert(indent) != indent {
            return wrong(number, "this is not indented as the other names are");
        }
        let Some((name, rest)) = line.trim_start().split_once(':') else {
            return wrong(number, "a name is wanted here, with a colon");
        };
        let name = name.trim_matches(['"', '\'']);
        let id = match DeviceId::parse(name) {
            Ok(id) => id,
            Err(why) => return wrong(number, why),
        };
        if !names.insert(id.clone()) {
            return wrong(number, format!("`{id}` is there twice"));
        }
        if found.len() >= most {
            return wrong(number, format!("there are more than {most} of them"));
        }
        let rest = without_comment(rest);
        let text = match rest.chars().next() {
            None => read_block(lines, indent, None)?,
            Some('|') => {
                let header = rest.split(" #").next().unwrap_or(rest).trim_end();
                match header {
                    "|" | "|-" | "|+" => read_block(lines, indent, Some(header))?,
                    _ => return wrong(number, "a literal block begins with `|`, `|-` or `|+`"),
                }
            }
            Some('"') => serde_json::from_str(rest).or_else(|_| {
                wrong(
                    number,
                    "text in double quotes ends on the same line, and has the escapes of JSON",
                )
            })?,
            Some('{') => format!("{rest}\n"),
            Some(_) => {
                return wrong(
                    number,
                    format!("settings are wanted below `{id}:`, indented"),
                )
            }
        };
        if text.len() > MAX_DOCUMENT {
            return wrong(
                number,
                format!(
                    "`{id}` has {} bytes: at most {MAX_DOCUMENT} are read",
                    text.len()
                ),
            );
        }
        found.push(Imported {
            id,
            text,
            line: number,
        });
    }
    Ok(found)
}

/// The lines that are indented more than a name, without their indentation: a nested document, or a literal block with this
/// header.
fn read_block(
    lines: &mut Lines<'_>,
    of_name: usize,
    header: Option<&str>,
) -> Result<String, ImportError> {
    let mut text = String::new();
    let mut of_block = None;
    while let Some((number, line)) = lines.peek() {
        let indent = indent_of(line);
        if !is_blank(line) && indent <= of_name {
            break;
        }
        if is_blank(line) {
            let after = of_block.and_then(|of_block| line.get(of_block..));
            text.push_str(after.unwrap_or_default());
        } else {
            let of_block = *of_block.get_or_insert(indent);
            if indent < of_block {
                return wrong(
                    number,
                    "this is indented less than the document's first line",
                );
            }
            text.push_str(line.get(of_block..).unwrap_or_default());
        }
        text.push('\n');
        lines.rest.next();
    }
    // Blank lines after a document separate it from the next one.
    let content = text.trim_end_matches('\n').len();
    match header {
        Some("|+") => {}
        Some("|-") => text.truncate(content),
        _ => text.truncate((content + 1).min(text.len())),
    }
    if content == 0 && header.is_none() {
        text.clear();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> DeviceId {
        DeviceId::parse("edge-01").unwrap()
    }

    fn written(text: &str) -> String {
        let mut out = String::from("devices:\n");
        write(&mut out, &id(), text);
        out
    }

    fn imported(text: &str) -> Result<Vec<String>, ImportError> {
        let devices = read(text)?.devices.unwrap_or_default();
        Ok(devices.into_iter().map(|device| device.text).collect())
    }

    #[test]
    fn every_document_is_read_again_to_the_letter_and_is_yaml() {
        for (text, form) in [
            ("device_type: x86\n", "\n    device_type"),
            (
                "# first\n\na: 1\n\n  # in\nb: |\n  x\n\n  y\nc: {d: [1,\n 2]}\n# last\n",
                "\n    # first",
            ),
            ("a: \"x\n  y\"\n", "\n    a:"),
            ("device_type: x86", " |-\n    device_type"),
            ("---\na: 1\n", " |\n    ---"),
            ("%YAML 1.1\n---\na: 1\n", " |\n"),
            ("a: 1\n\n\n", " |+\n"),
            ("# nothing\n", " |\n"),
            ("{a: 1,\nb: 2}\n", "\n    {a"),
            ("[1, 2]\n", " |\n"),
            ("a: [\n", " |\n"),
            ("a: 1\na: 2\n", " |\n"),
            ("a: 1\n\tb: 2\n", " |\n"),
            ("", " \"\""),
            ("\n", " \"\\n"),
            ("\n\n\n", " \"\\n"),
            ("  a: 1\n", " \"  a"),
            ("a: 1\r\n", " \"a: 1\\u000d"),
            ("\u{feff}a: 1\n", " \"\\ufeff"),
            ("a: x\u{85}y\u{2028}z\u{7f}\n", " \"a"),
            ("a: 1\n   \nb: 2\n", "\n    a"),
            ("a\n   \nb", " \"a"),
            ("a: \u{1f600}\u{fffd}ü\n", "\n    a"),
            ("a: \"\\\\ \\\"\"", " |-\n"),
            ("x: &a {y: 1}\nz: *a\n", "\n    x"),
        ] {
            let out = written(text);
            let start = format!("devices:\n  edge-01:{form}");
            assert!(out.starts_with(&start), "{text:?}: {out}");
            assert_eq!(imported(&out), Ok(vec![text.to_owned()]), "{out}");
            let yaml: serde_yaml::Value = serde_yaml::from_str(&out).unwrap();
            let value = &yaml["devices"]["edge-01"];
            match value.as_str() {
                Some(found) => assert_eq!(found, text),
                None => assert_eq!(
                    *value,
                    serde_yaml::from_str::<serde_yaml::Value>(text).unwrap()
                ),
            }
        }
    }

    #[test]
    fn what_people_write_is_read() {
        let text = "---\n# all\ngroups: {}\n\ndevices:   # boards\n    edge-01: # one\n      # first\n      a: 1\n\n\n    'edge-02': {a: 2}\n    edge-03:\n    # a comment\n    \"edge-04\": |- # text\n       x: 1\n";
        let import = read(text).unwrap();
        assert_eq!(import.groups, Some(Vec::new()));
        assert_eq!(import.devices.as_ref().unwrap()[1].line, 11);
        let texts: Vec<_> = import
            .devices
            .unwrap()
            .into_iter()
            .map(|d| d.text)
            .collect();
        assert_eq!(texts, ["# first\na: 1\n", "{a: 2}\n", "", "x: 1"]);
        // A checkout may have changed the line ends.
        let crlf = imported("devices:\r\n  a:\r\n    x: 1\r\n    y: 2\r\n");
        assert_eq!(crlf, Ok(vec!["x: 1\ny: 2\n".to_owned()]));
    }

    #[test]
    fn wrong_import_is_refused_with_its_line() {
        for (text, line, words) in [
            ("", 1, "neither"),
            ("# nothing\n", 1, "neither"),
            ("device: {}\n", 1, "is wanted here"),
            ("devices: 5\n", 1, "below `devices:`"),
            ("devices:\n  a:\n    x: 1\ndevices:\n", 4, "twice"),
            (
                "devices:\n  a:\n    x: 1\n  a:\n    x: 1\n",
                4,
                "`a` is there twice",
            ),
            (
                "devices:\n  a:\n    x: 1\n   b:\n    x: 1\n",
                4,
                "less than",
            ),
            ("devices:\n  a: {}\n   b: {}\n", 3, "as the other names"),
            ("devices:\n  a b: {}\n", 2, "letters"),
            ("devices:\n  a\n", 2, "colon"),
            ("devices:\n  a: 5\n", 2, "indented"),
            ("devices:\n  a: >\n    x\n", 2, "indented"),
            ("devices:\n  a: |9\n    x\n", 2, "literal block"),
            ("devices:\n  a: \"x\n    y\"\n", 2, "same line"),
            ("devices:\n\ta: {}\n", 2, "is wanted here"),
        ] {
            let why = imported(text).unwrap_err();
            assert_eq!(why.line, line, "{text:?}: {why:?}");
            assert!(why.message.contains(words), "{text:?}: {why:?}");
        }
        let long = format!("devices:\n  a:\n    x: {}\n", "x".repeat(MAX_DOCUMENT));
        assert!(imported(&long)
            .unwrap_err()
            .message
            .contains("at most 65536"));
    }
}
