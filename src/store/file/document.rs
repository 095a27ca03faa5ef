//! A parsed configuration text, split into the selection of metrics and all other settings.

use std::collections::BTreeMap;

use crate::config::diagnose::Diagnostic;
use crate::config::tree::{self, Node};
use crate::config::values;

pub(super) const METRICS: &str = "metrics";
/// The old form of `metrics`, a list of names. It is in effect only if `metrics` has no names.
pub(super) const OLD_METRICS: &str = "enabled_metrics";

/// Whether a text has a selection of metrics at all. A text that cannot be parsed has none.
pub fn selects_metrics(source: &str) -> bool {
    let body = source.strip_prefix('\u{feff}').unwrap_or(source);
    let root = tree::build(body).ok();
    root.is_some_and(|root| {
        let keys = [METRICS, OLD_METRICS];
        keys.iter().any(|key| entry(&root, key).is_some())
    })
}

/// A parsed configuration text, as the editor sees it.
pub(super) struct Document {
    pub(super) root: Node,
    /// The entries of `metrics`, or the names of `enabled_metrics` if that list is in effect.
    pub(super) metrics: BTreeMap<String, bool>,
    /// Whether `enabled_metrics` is in effect.
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
        if let Some(node) = entry(&root, OLD_METRICS) {
            let names =
                values::metric_names(node).map_err(|refusal| refused(OLD_METRICS, refusal))?;
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

    /// Whether all settings except the metrics are equal in both texts.
    pub(super) fn equals_apart_from_metrics(&self, other: &Document) -> bool {
        let (ours, theirs) = (settings(&self.root), settings(&other.root));
        // The `Debug` text distinguishes numbers as well as `==` does, and makes `.nan` equal to itself.
        ours == theirs || format!("{ours:?}") == format!("{theirs:?}")
    }
}

/// The value of a top-level key.
pub(super) fn entry<'n>(root: &'n Node, key: &str) -> Option<&'n Node> {
    let Node::Map(entries) = root else {
        return None;
    };
    let (_, node) = entries.iter().find(|(name, _)| name == key)?;
    Some(node)
}

/// All top-level entries except the metrics.
fn settings(root: &Node) -> Vec<&(String, Node)> {
    let Node::Map(entries) = root else {
        return Vec::new();
    };
    let others = entries
        .iter()
        .filter(|(key, _)| key != METRICS && key != OLD_METRICS);
    others.collect()
}
