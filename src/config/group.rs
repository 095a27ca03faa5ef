//! A group of boards on the central server: its members, their labels, and a part of their configuration.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnose::Diagnostic;
use super::document::{Document, Rejection};
use super::keys::KeyUsage;
use super::section::{self, Problem};
use super::text_of;
use super::tree::Node;
use super::values::{self, refuse, Outcome, Refusal};
use crate::wire::DeviceId;

/// The most devices in the list of a group.
const MAX_LISTED: usize = 5000;
/// The most patterns of one rule.
const MAX_PATTERNS: usize = 100;
/// Bytes of the longest pattern: that of a device's name.
const MAX_PATTERN_LENGTH: usize = 128;
/// The greatest order, and the least one without its sign.
const MAX_ORDER: i128 = 1_000_000;
/// Labels that every target has.
const OWN_LABELS: [&str; 2] = ["device_type", "hostname"];
/// Keys of a board's own document that are not part of its configuration.
const SERVER_KEYS: [&str; 3] = ["device_id", "ip_address", "target_labels"];

/// Labels by name; `None` removes the label of an earlier group.
pub type TargetLabels = BTreeMap<String, Option<String>>;

/// A group.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Groups apply in the order of this number, and of their names.
    pub order: i64,
    /// The boards it applies to.
    pub members: Members,
    /// The labels of the members.
    pub labels: TargetLabels,
    /// Whether all labels of a member, also those of other groups, are on its series too; `None`: the groups before it decide.
    pub apply_labels: Option<bool>,
    /// What the members' configurations have.
    pub config: Document,
}

/// The boards that a group applies to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Members(Option<Rules>);

/// A list, and rules. At least one of them exists.
#[derive(Debug, Clone, PartialEq, Default)]
struct Rules {
    devices: Option<BTreeSet<DeviceId>>,
    device_type: Option<Vec<Pattern>>,
    name: Option<Vec<Pattern>>,
}

/// What decides of which groups a board is a member. None of it comes from a group, so that membership has no cycles.
#[derive(Debug, Clone, Copy)]
pub struct Membership<'a> {
    /// The board's name.
    pub id: &'a DeviceId,
    /// The `device_type` of the board's own document; for `auto`, the type that the board reported.
    pub device_type: &'a str,
}

impl Group {
    /// Reads a group from a document, whose text is `text` if there is one.
    pub fn read(document: &Document, text: Option<&[u8]>) -> Result<Group, Rejection> {
        let text = text.and_then(|text| text_of(text).ok());
        read(document).map_err(|problem| match text {
            None => problem.into(),
            Some(text) => {
                let key = Some(problem.dotted()).filter(|key| !key.is_empty());
                let Diagnostic {
                    line,
                    column,
                    message,
                    ..
                } = problem.locate(text);
                Rejection {
                    key,
                    line,
                    column,
                    message,
                }
            }
        })
    }
}

impl Members {
    /// The members that a document names, though another part of the document may be wrong.
    pub fn read(document: &Document) -> Option<Members> {
        let mut keys = KeyUsage::default();
        let mut members = Members::default();
        section::read_document(&document.root(), &mut keys, |top| {
            members = read_members(document, top)?;
            Ok(())
        })
        .ok()?;
        Some(members)
    }

    /// Whether this board is a member: every board where there are neither list nor rules, else a board that is listed, or
    /// for which all rules hold that there are.
    pub fn has(&self, board: Membership<'_>) -> bool {
        let Some(Rules {
            devices,
            device_type,
            name,
        }) = &self.0
        else {
            return true;
        };
        let is_listed = devices.as_ref().is_some_and(|all| all.contains(board.id));
        let has_rules = device_type.is_some() || name.is_some();
        let holds = |rule: &Option<Vec<Pattern>>, text: &str| {
            rule.as_ref()
                .is_none_or(|any| any.iter().any(|pattern| pattern.matches(text)))
        };
        is_listed
            || (has_rules
                && holds(device_type, board.device_type)
                && holds(name, board.id.as_str()))
    }
}

fn read(document: &Document) -> Result<Group, Problem> {
    let mut keys = KeyUsage::default();
    let mut group = Group {
        order: 0,
        members: Members::default(),
        labels: TargetLabels::new(),
        apply_labels: None,
        config: Document::default(),
    };
    section::read_document(&document.root(), &mut keys, |top| {
        top.set("order", order, &mut group.order)?;
        group.members = read_members(document, top)?;
        top.set("labels", labels, &mut group.labels)?;
        top.option("apply_labels", values::flag, &mut group.apply_labels)?;
        top.set("config", config, &mut group.config)?;
        // A misspelt `members` would make every board a member.
        top.refuse_others()
    })?;
    Ok(group)
}

fn read_members(
    document: &Document,
    top: &mut section::Section<'_, '_>,
) -> Result<Members, Problem> {
    let mut rules = Rules::default();
    top.section("members", |members| {
        members.option("devices", devices, &mut rules.devices)?;
        members.option("device_type", patterns, &mut rules.device_type)?;
        members.option("name", patterns, &mut rules.name)?;
        members.refuse_others()
    })?;
    match (rules == Rules::default(), document.has_key("members")) {
        (false, _) => Ok(Members(Some(rules))),
        (true, false) => Ok(Members(None)),
        (true, true) => Err(top.refuse(
            Some("members"),
            "`members` is empty: write `devices`, `device_type` or `name` below it, or leave it out for every board".into(),
        )),
    }
}

fn order(node: &Node) -> Outcome<i64> {
    match node {
        Node::Int(order) if (-MAX_ORDER..=MAX_ORDER).contains(order) => {
            Ok(i64::try_from(*order).unwrap_or_default())
        }
        _ => refuse(node, "a whole number, from -1000000 to 1000000, such as 10"),
    }
}

fn devices(node: &Node) -> Outcome<BTreeSet<DeviceId>> {
    let wanted = "a list of device ids, such as [edge-01, edge-02]";
    let device = |node: &Node| match node {
        Node::Text(text) => {
            DeviceId::parse(text).map_err(|why| Refusal::new(format!("is no device id: {why}")))
        }
        _ => refuse(node, "a device id, in quotes if it is a number"),
    };
    Ok(values::list(node, wanted, MAX_LISTED, device)?
        .into_iter()
        .collect())
}

fn patterns(node: &Node) -> Outcome<Vec<Pattern>> {
    let wanted = "a pattern such as \"edge-0*\", or a list of such";
    match node {
        Node::List(_) => values::list(node, wanted, MAX_PATTERNS, Pattern::read),
        node => Pattern::read(node).map(|pattern| vec![pattern]),
    }
}

fn labels(node: &Node) -> Outcome<TargetLabels> {
    super::labels::labels(node, |name| {
        OWN_LABELS.contains(&name).then(|| {
            format!(
                "has `{name}`, a label that every board has: set the key of that name in its configuration"
            )
        })
    })
}

fn config(node: &Node) -> Outcome<Document> {
    let Node::Map(entries) = node else {
        return refuse(node, "settings as in config.yaml, indented below it");
    };
    for (key, _) in entries {
        if SERVER_KEYS.contains(&key.as_str()) {
            return Err(Refusal {
                below: vec![key.clone()],
                key: true,
                message: format!(
                    "has `{key}`, which is for a single board: it goes into the board's own document"
                ),
            });
        }
    }
    Ok(Document::of(entries.clone()))
}

/// Takes the labels below `key` out of a board's own document. The error is a message for the user.
pub fn target_labels(document: &mut Document, key: &'static str) -> Result<TargetLabels, String> {
    let mut keys = KeyUsage::default();
    let mut found = TargetLabels::new();
    let root = document.root();
    section::read_document(&root, &mut keys, |top| top.set(key, labels, &mut found))
        .map_err(|problem| problem.message().to_owned())?;
    document.remove(key);
    Ok(found)
}

/// A text with `*` for any characters, none included, and `?` for any one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// A pattern of any characters.
    pub fn new(text: &str) -> Pattern {
        Pattern(text.into())
    }

    fn read(node: &Node) -> Outcome<Pattern> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-*?".contains(&b);
        match node {
            Node::Text(text)
                if (1..=MAX_PATTERN_LENGTH).contains(&text.len()) && text.bytes().all(allowed) =>
            {
                Ok(Pattern(text.as_str().into()))
            }
            _ => refuse(
                node,
                "a pattern of letters, digits, `.`, `_`, `-`, `*` for any characters and `?` for any one, at most 128, in quotes",
            ),
        }
    }

    /// Whether this pattern is the whole of `text`. Takes at most the product of both lengths: only the last `*` is ever tried
    /// again, since an earlier one that takes more cannot help.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while let Some(byte) = text.get(t) {
            match (pattern.get(p), star) {
                (Some(b'*'), _) => {
                    star = Some((p, t));
                    p += 1;
                }
                (Some(wanted), _) if *wanted == b'?' || wanted == byte => {
                    p += 1;
                    t += 1;
                }
                (_, Some((at, taken))) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                (_, None) => return false,
            }
        }
        pattern.iter().skip(p).all(|b| *b == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(text: &str) -> Result<Group, Rejection> {
        Group::read(
            &Document::from_yaml(text.as_bytes()).unwrap(),
            Some(text.as_bytes()),
        )
    }

    fn has(text: &str, id: &str, device_type: &str) -> bool {
        let id = DeviceId::parse(id).unwrap();
        group(text).unwrap().members.has(Membership {
            id: &id,
            device_type,
        })
    }

    #[test]
    fn member_is_listed_or_meets_all_rules() {
        assert!(has("", "edge-01", "auto"));
        let listed = "members: {devices: [edge-01, edge-02]}\n";
        assert!(has(listed, "edge-02", "x86") && !has(listed, "edge-03", "x86"));
        let none = "members: {devices: []}\n";
        assert!(!has(none, "edge-01", "x86"));
        let both = "members: {devices: [far], device_type: 'jetson_*', name: [edge-0*, '?']}\n";
        assert!(has(both, "far", "x86"));
        assert!(has(both, "edge-07", "jetson_orin"));
        assert!(has(both, "a", "jetson_orin"));
        assert!(!has(both, "edge-07", "x86"));
        assert!(!has(both, "edge-17", "jetson_orin"));
    }

    #[test]
    fn pattern_matches_the_whole_text() {
        for (pattern, text, matches) in [
            ("*", "", true),
            ("*", "abc", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("a?c", "abbc", false),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("*b*", "abc", true),
            ("**a", "a", true),
            ("a", "ab", false),
            ("*ab*ac", "abac", true),
            ("*ab*ac", "acab", false),
        ] {
            let found = Pattern(pattern.into()).matches(text);
            assert_eq!(found, matches, "{pattern} {text}");
        }
        // Backtracking over every `*` would not end.
        let slow = Pattern("*a".repeat(63).into_boxed_str());
        assert!(!slow.matches(&("a".repeat(127) + "b")));
        assert!(slow.matches(&"a".repeat(128)));
    }

    #[test]
    fn wrong_group_is_refused_with_key_and_place() {
        let many = |count: usize, item: &str| {
            let items: Vec<_> = (0..count).map(|n| format!("{item}{n}")).collect();
            items.join(", ")
        };
        for (text, key, words) in [
            ("memebrs: {devices: [a]}\n", "memebrs", "did you mean"),
            ("members:\n", "members", "every board"),
            ("members: {}\n", "members", "every board"),
            ("members: [a]\n", "members", "below it"),
            ("members: {nmae: a}\n", "members.nmae", "did you mean"),
            ("members: {devices: [7]}\n", "members.devices.0", "quotes"),
            (
                "members: {devices: ['a*']}\n",
                "members.devices.0",
                "device id",
            ),
            ("members: {name: '[a-z]'}\n", "members.name", "pattern"),
            ("members: {name: ''}\n", "members.name", "pattern"),
            (
                &format!("members: {{name: [{}]}}\n", many(101, "a")),
                "members.name",
                "at most 100",
            ),
            ("order: 1.5\n", "order", "whole number"),
            ("order: 1000001\n", "order", "whole number"),
            ("labels: {a-b: x}\n", "labels.a-b", "no name of a label"),
            ("labels: {__x: y}\n", "labels.__x", "__x"),
            ("labels: {hostname: y}\n", "labels.hostname", "every board"),
            ("labels: {rack: 3.5}\n", "labels.rack", "quotes"),
            ("labels: {rack: ''}\n", "labels.rack", "quotes"),
            (
                &format!(
                    "labels: {{{}}}\n",
                    many(33, "l").replace(',', ": x,") + ": x"
                ),
                "labels",
                "at most 32",
            ),
            ("config: [1]\n", "config", "indented"),
            (
                "config: {ip_address: 10.0.0.1}\n",
                "config.ip_address",
                "single board",
            ),
        ] {
            let why = group(text).unwrap_err();
            assert_eq!(why.key.as_deref(), Some(key), "{text}: {why:?}");
            assert!(why.message.contains(words), "{text}: {why:?}");
            assert_eq!(why.line, Some(1), "{text}");
        }
    }

    #[test]
    fn members_are_read_from_a_group_that_is_wrong_otherwise() {
        let document = Document::from_yaml(b"members: {devices: [a]}\nlabels: 5\n").unwrap();
        let (a, b) = (DeviceId::parse("a").unwrap(), DeviceId::parse("b").unwrap());
        let members = Members::read(&document).unwrap();
        let has = |id| {
            members.has(Membership {
                id,
                device_type: "x86",
            })
        };
        assert!(has(&a) && !has(&b));
        let document = Document::from_yaml(b"members: 5\n").unwrap();
        assert_eq!(Members::read(&document), None);
    }

    #[test]
    fn labels_are_text_or_whole_numbers() {
        let text = "labels: {site: berlin, rack: 3, floor: null}\n";
        let labels = group(text).unwrap().labels;
        let expected = [
            ("floor", None),
            ("rack", Some("3")),
            ("site", Some("berlin")),
        ];
        let expected = expected.map(|(n, v)| (n.to_string(), v.map(str::to_string)));
        assert_eq!(labels, TargetLabels::from(expected));
        let mut own =
            Document::from_yaml(b"port: 1\ntarget_labels: {rack: '4'}\nlabels: true\n").unwrap();
        let labels = target_labels(&mut own, "target_labels").unwrap();
        assert_eq!(labels.get("rack"), Some(&Some("4".to_string())));
        assert_eq!(
            own,
            Document::from_yaml(b"port: 1\nlabels: true\n").unwrap()
        );
        let mut wrong = Document::from_yaml(b"target_labels: 5\n").unwrap();
        let why = target_labels(&mut wrong, "target_labels").unwrap_err();
        assert!(why.contains("`target_labels`"), "{why}");
    }

    #[test]
    fn remainder_beyond_a_base_makes_the_document_again() {
        for (base, target, kept, remainder) in [
            ("a: 1\n", "a: 1\n", "", ""),
            ("a: 1\n", "a: 1\n", "a: 7\n", "a: 1\n"),
            ("a: 1\nb: 2\n", "a: 3\n", "", "a: 3\nb: null\n"),
            (
                "m: {x: true, y: true}\n",
                "m: {x: true, y: false, z: true}\n",
                "m: {z: false}\n",
                "m: {y: false, z: true}\n",
            ),
            ("l: [1, 2]\n", "l: [1]\n", "", "l: [1]\n"),
            ("m: {x: 1}\n", "m: 5\n", "", "m: 5\n"),
            ("m: 5\n", "m: {x: 1}\n", "", "m: {x: 1}\n"),
            ("m: {x: 1}\n", "m: {x: 1}\n", "m: {}\n", "m: {}\n"),
        ] {
            let [base, target, kept, remainder] = [base, target, kept, remainder]
                .map(|text| Document::from_yaml(text.as_bytes()).unwrap());
            let found = target.beyond(&base, &kept);
            assert_eq!(found, remainder);
            let mut merged = base;
            merged.merge(&found);
            assert_eq!(merged, target);
        }
    }
}
