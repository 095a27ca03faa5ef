//! Overrides of configuration keys by arguments, flags or environment variables.

use super::diagnose::Origin;
use super::section::Problem;
use super::tree::Node;

/// A key set by an argument, a flag or an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOverride {
    /// What sets the key: `--interval`, `UPDATE_INTERVAL`, `the argument 5000`.
    pub from: String,
    /// The key, dotted.
    pub key: String,
    /// The value as it would be written in the file, without quotes.
    pub value: String,
}

/// Sets the keys in the document. Later overrides take precedence.
pub(super) fn apply(settings: &[KeyOverride], root: &mut Node) {
    for setting in settings {
        let place = place(root, setting.key.split('.'));
        *place = scalar(&setting.value);
    }
}

/// The error message about a problem: names the override that has set the key, if any, else the position in the file.
pub(super) fn explain(
    problem: Problem,
    settings: &[KeyOverride],
    text: &str,
    origin: &Origin,
) -> String {
    let key = problem.dotted();
    match settings.iter().rev().find(|setting| setting.key == key) {
        Some(setting) => format!("{}: {}", setting.from, problem.locate("").message),
        None => problem.locate(text).with(origin).to_string(),
    }
}

/// Merges `over` into `base`: mappings key by key, other values as a whole. Empty values change nothing.
pub(super) fn merge(base: &mut Node, over: Node) {
    match (base, over) {
        (_, Node::Null) => {}
        (Node::Map(base), Node::Map(over)) => {
            for (key, node) in over {
                match base.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, value)) => merge(value, node),
                    None => base.push((key, node)),
                }
            }
        }
        (base, over) => *base = over,
    }
}

/// Returns the node at a path, which is created if it is missing. A number selects an existing item of a list.
fn place<'n, 'k>(node: &'n mut Node, mut path: impl Iterator<Item = &'k str>) -> &'n mut Node {
    let Some(key) = path.next() else {
        return node;
    };
    let item = match &*node {
        Node::List(items) => key.parse().ok().filter(|at: &usize| *at < items.len()),
        _ => None,
    };
    if item.is_none() && !matches!(node, Node::Map(_)) {
        *node = Node::Map(Vec::new());
    }
    let next = match (node, item) {
        (Node::List(items), Some(at)) => &mut items[at],
        (Node::Map(entries), _) => {
            let at = entries.iter().position(|(known, _)| known == key);
            let at = at.unwrap_or_else(|| {
                entries.push((key.to_owned(), Node::Null));
                entries.len() - 1
            });
            &mut entries[at].1
        }
        (other, _) => return other,
    };
    place(next, path)
}

/// The value that an unquoted text would have in a configuration file.
fn scalar(text: &str) -> Node {
    let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
    match text {
        "true" => Node::Bool(true),
        "false" => Node::Bool(false),
        _ if !text.chars().all(number) => Node::Text(text.to_owned()),
        _ => match (text.parse(), text.parse()) {
            (Ok(whole), _) => Node::Int(whole),
            (_, Ok(float)) => Node::Float(float),
            _ => Node::Text(text.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_types_they_would_have_in_a_file() {
        assert_eq!(scalar("5000"), Node::Int(5000));
        assert_eq!(scalar("0.1"), Node::Float(0.1));
        assert_eq!(scalar("true"), Node::Bool(true));
        for text in ["192.168.1.7", "inf", "nan", "1e3", "", "-", "http://x"] {
            assert_eq!(scalar(text), Node::Text(text.into()), "{text}");
        }
    }
}
