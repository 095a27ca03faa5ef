//! What a configuration's text says of metrics, and of all else.

use std::collections::BTreeMap;

use crate::config::diagnose::Diagnostic;
use crate::config::tree::{self, Node};
use crate::config::values;

pub(super) const METRICS: &str = "metrics";
/// Seed 001's list of names, which counts where `metrics` has none.
pub(super) const OLD: &str = "enabled_metrics";

/// Whether a text selects metrics at all. One that cannot be read does not.
pub fn selects_metrics(source: &str) -> bool {
    let body = source.strip_prefix('\u{feff}').unwrap_or(source);
    let root = tree::build(body).ok();
    root.is_some_and(|root| [METRICS, OLD].iter().any(|key| entry(&root, key).is_some()))
}

/// What there is to know of a text.
pub(super) struct Document {
    pub(super) root: Node,
    /// `metrics`, or the names of `enabled_metrics` where they count.
    pub(super) metrics: BTreeMap<String, bool>,
    /// The names come from `enabled_metrics`.
    pub(super) is_old: bool,
}

impl Document {
    pub(super) fn read(text: &str) -> Result<Document, Diagnostic> {
        let root = tree::build(text)?;
        if !matches!(root, Node::Null | Node::Map(_)) {
            let message = format!("the file is {}, which holds no settings", root.found());
            return Err(Diagnostic::at_value(text, &[], message));
        }
        let refused = |key, refusal: values::Refusal| {
            Diagnostic::at_key(text, &[key], format!("`{key}` {}", refusal.message))
        };
        let mut metrics = match entry(&root, METRICS) {
            Some(node) => values::metrics(node).map_err(|refusal| refused(METRICS, refusal))?,
            None => BTreeMap::new(),
        };
        let mut is_old = false;
        if let Some(node) = entry(&root, OLD) {
            let names = values::metric_names(node).map_err(|refusal| refused(OLD, refusal))?;
            if metrics.is_empty() {
                is_old = true;
                metrics = names.into_iter().map(|name| (name, true)).collect();
            }
        }
        Ok(Document {
            root,
            metrics,
            is_old,
        })
    }

    /// Whether another text says the same of all but the metrics.
    pub(super) fn says_the_same_otherwise(&self, other: &Document) -> bool {
        let (ours, theirs) = (rest(&self.root), rest(&other.root));
        // Debug's text tells numbers apart as well as `==` does, and has `.nan` equal to itself.
        ours == theirs || format!("{ours:?}") == format!("{theirs:?}")
    }
}

/// The value of an outermost key.
pub(super) fn entry<'n>(root: &'n Node, key: &str) -> Option<&'n Node> {
    let Node::Map(entries) = root else {
        return None;
    };
    let (_, node) = entries.iter().find(|(name, _)| name == key)?;
    Some(node)
}

/// All keys but those of the metrics.
fn rest(root: &Node) -> Vec<&(String, Node)> {
    let Node::Map(entries) = root else {
        return Vec::new();
    };
    let others = entries
        .iter()
        .filter(|(key, _)| key != METRICS && key != OLD);
    others.collect()
}
