//! Parsing and validation of single values, and the messages about invalid ones.

use std::net::IpAddr;
use std::path::PathBuf;

use super::diagnose::{nearest, quoted};
use super::model::{Switch, DEVICE_TYPES};
use super::secret::Secret;
use super::tree::Node;

mod metric;
mod number;

pub(crate) use metric::{help, label_name, metric_name, metric_names, metrics};
pub use metric::{valid_metric_name, MAX_METRICS, MAX_NAME_LENGTH};
pub(crate) use number::{
    bytes, history_seconds, index, interval, port, port_or_off, real, rows, seconds, volts, watts,
    whole,
};

/// The maximum number of items in a list, except in lists of metrics.
pub(crate) const MAX_ITEMS: usize = 64;
/// The maximum number of named consumers. Each has several series.
const MAX_CONSUMERS: usize = 16;
/// The maximum length of other texts, in bytes: that of a DNS name (RFC 1035, 2.3.4), and enough for a path.
const MAX_TEXT: usize = 255;
/// The maximum length of `landing`, in bytes.
const MAX_LANDING: usize = 4096;

/// Why a value is rejected. `section` completes the sentence, which begins with the key.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The path from the key to the rejected part: indices of list items, and keys of mappings.
    pub(crate) below: Vec<String>,
    /// Whether the last key itself is rejected, and not its value.
    pub(crate) key: bool,
    /// The end of the sentence `` `interval` … ``.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(message: String) -> Self {
        Self {
            below: Vec::new(),
            key: false,
            message,
        }
    }

    /// The same rejection, seen from one level further up: `step` is the key or index of the rejected part.
    pub(crate) fn at(mut self, step: impl ToString) -> Self {
        self.below.insert(0, step.to_string());
        self
    }
}

/// The result of parsing a value.
pub(crate) type Outcome<T> = Result<T, Refusal>;

pub(crate) fn refuse<T>(node: &Node, wanted: &str) -> Outcome<T> {
    Err(Refusal::new(format!("is {}: write {wanted}", node.found())))
}

/// `true` or `false`. `yes` and `on` (YAML 1.1) are text in YAML 1.2 and are rejected.
pub(crate) fn flag(node: &Node) -> Outcome<bool> {
    match node {
        Node::Bool(value) => Ok(*value),
        _ => refuse(node, "true or false"),
    }
}

/// `auto`, `true` or `false`.
pub(crate) fn switch(node: &Node) -> Outcome<Switch> {
    match node {
        Node::Bool(true) => Ok(Switch::On),
        Node::Bool(false) => Ok(Switch::Off),
        Node::Text(text) if text.eq_ignore_ascii_case("auto") => Ok(Switch::Auto),
        _ => refuse(node, "auto, true or false"),
    }
}

/// One of these words, in any case.
pub(crate) fn choice<T: Copy>(node: &Node, words: &[(&str, T)]) -> Outcome<T> {
    let found = match node {
        Node::Text(text) => words
            .iter()
            .find(|(word, _)| text.eq_ignore_ascii_case(word)),
        _ => None,
    };
    found.map_or_else(
        || {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let (last, others) = words.split_last().unwrap_or((&"", &[]));
            refuse(node, &format!("{} or {last}", others.join(", ")))
        },
        |(_, value)| Ok(*value),
    )
}

/// One of [`DEVICE_TYPES`], in any case, as with edge-metrics-exporter (Python).
pub(crate) fn device_type(node: &Node) -> Outcome<String> {
    let supported = DEVICE_TYPES.join(", ");
    let Node::Text(text) = node else {
        return refuse(node, &format!("one of {supported}"));
    };
    let name = text.to_lowercase();
    if DEVICE_TYPES.contains(&name.as_str()) {
        return Ok(name);
    }
    let hint = nearest(&name, DEVICE_TYPES.iter().copied())
        .map_or_else(String::new, |near| format!("did you mean {near}? "));
    Err(Refusal::new(format!(
        "is {}, which is not known: {hint}write one of {supported}",
        node.found()
    )))
}

/// Text that is not empty, of limited length, on one line. A number is rejected: `0x10` and `1e3` could not be shown as they
/// were written.
pub(crate) fn text<'n>(node: &'n Node, wanted: &str) -> Outcome<&'n str> {
    match node {
        Node::Text(text)
            if !text.trim().is_empty()
                && text.len() <= MAX_TEXT
                && !text.chars().any(char::is_control) =>
        {
            Ok(text)
        }
        Node::Bool(_) | Node::Int(_) | Node::Float(_) => {
            refuse(node, &format!("{wanted}, in quotes"))
        }
        _ => refuse(
            node,
            &format!("{wanted}, in one line of at most {MAX_TEXT} bytes"),
        ),
    }
}

/// The value of a label.
pub(crate) fn label(node: &Node) -> Outcome<String> {
    text(node, "a name").map(str::to_owned)
}

/// A response in plain text, of any number of lines.
pub(crate) fn landing(node: &Node) -> Outcome<String> {
    match node {
        Node::Text(text) if text.len() <= MAX_LANDING => Ok(text.clone()),
        _ => refuse(node, &format!("a text of at most {MAX_LANDING} bytes")),
    }
}

/// A password. An invalid value is not shown in the message, because it may be a password all the same.
pub(crate) fn secret(node: &Node) -> Outcome<Secret> {
    text(node, "").map(Secret::new).map_err(|_| {
        Refusal::new(format!(
            "is no text: write it in quotes, in one line of at most {MAX_TEXT} bytes"
        ))
    })
}

/// The path of a file.
pub(crate) fn path(node: &Node) -> Outcome<PathBuf> {
    text(node, "the path of a file").map(PathBuf::from)
}

/// The path or name of a program.
pub(crate) fn program(node: &Node) -> Outcome<PathBuf> {
    text(node, "the path of a program").map(PathBuf::from)
}

/// An IP address, IPv6 with or without brackets.
pub(crate) fn address(node: &Node) -> Outcome<String> {
    let wanted = "an IP address such as 127.0.0.1 or ::1, without a port";
    let text = text(node, wanted)?;
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => refuse(node, wanted),
    }
}

/// A host to connect to: a name or an address, optionally with a port. Not a URL.
pub(crate) fn host(node: &Node) -> Outcome<String> {
    let wanted = "a host name or IP address";
    let text = text(node, wanted)?;
    if text.contains("://") {
        return refuse(node, &format!("{wanted} alone, without `http://`"));
    }
    if text.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?' | '#')) {
        return refuse(node, wanted);
    }
    Ok(text.to_owned())
}

/// A list of at most `max` items, each parsed by `item`.
pub(crate) fn list<T>(
    node: &Node,
    wanted: &str,
    max: usize,
    item: impl Fn(&Node) -> Outcome<T>,
) -> Outcome<Vec<T>> {
    let Node::List(nodes) = node else {
        return refuse(node, wanted);
    };
    if nodes.len() > max {
        return Err(Refusal::new(format!(
            "has {} items: at most {max} are allowed",
            nodes.len()
        )));
    }
    nodes
        .iter()
        .enumerate()
        .map(|(i, node)| item(node).map_err(|refusal| refusal.at(i)))
        .collect()
}

/// Unique names of rails. Their values are added up.
pub(crate) fn rails(node: &Node) -> Outcome<Vec<String>> {
    let wanted = "a list of what the label `rail` says, such as [ina226-1-0040:power1]";
    let rails = list(node, wanted, MAX_ITEMS, |item| {
        text(item, "the name of a rail").map(str::to_owned)
    })?;
    for (i, rail) in rails.iter().enumerate() {
        if rails[..i].contains(rail) {
            let message = format!("is {} a second time: remove one of the two", quoted(rail));
            return Err(Refusal::new(message).at(i));
        }
    }
    Ok(rails)
}

/// Unique names of consumers. Each becomes a label value.
pub(super) fn consumers(node: &Node) -> Outcome<Vec<String>> {
    let wanted = "a list of what consumers give as ?consumer=NAME, such as [prometheus-a]";
    let names = list(node, wanted, MAX_CONSUMERS, |item| {
        text(item, "the name of a consumer").map(str::to_owned)
    })?;
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            let message = format!("is {} a second time: remove one of the two", quoted(name));
            return Err(Refusal::new(message).at(i));
        }
        if name == "other" {
            let message = "is \"other\", which stands for all that are not listed: choose another";
            return Err(Refusal::new(message.to_string()).at(i));
        }
    }
    Ok(names)
}

/// Names of hosts.
pub(crate) fn hosts(node: &Node) -> Outcome<Vec<String>> {
    let wanted = "a list of host names, such as [edge-01.example.com]";
    list(node, wanted, MAX_ITEMS, |item| {
        host(item).map(|name| name.to_lowercase())
    })
}

/// Names of sources.
pub(crate) fn sources(node: &Node) -> Outcome<Vec<String>> {
    let wanted = "a list of names of sources, such as [hwmon, thermal]";
    list(node, wanted, MAX_ITEMS, |item| {
        text(item, "the name of a source").map(str::to_owned)
    })
}
