//! The keys that a file has, and those that it could have: what there is to say of one that nobody knows.

use super::diagnose::{nearest, shown};

/// Which keys there are in a file, and which there could be.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Keys of the file that no one took: their path.
    pub(crate) unknown: Vec<Vec<String>>,
    /// Keys that are understood and have no effect: their path, and what there is to say.
    pub(crate) idle: Vec<(Vec<String>, String)>,
    /// Keys that were asked for, dotted, in the schema's order.
    pub(crate) known: Vec<String>,
}

/// A path as messages name it: without the numbers of items, which the line tells better.
pub(crate) fn dotted(path: &[String]) -> String {
    let keys = path.iter().filter(|step| step.parse::<usize>().is_err());
    keys.map(String::as_str).collect::<Vec<_>>().join(".")
}

/// The warning for one unknown key: what it may have been meant to be, or where it belongs.
pub(crate) fn unknown(path: &[String], known: &[String]) -> String {
    let (key, outer) = path
        .split_last()
        .map_or(("", path), |(key, outer)| (key.as_str(), outer));
    let section = Some(dotted(outer)).filter(|section| !section.is_empty());
    let section = section.as_deref();
    let shown = shown(key);
    let siblings = known
        .iter()
        .filter_map(|known| match known.rsplit_once('.') {
            Some((outer, inner)) => (section == Some(outer)).then_some(inner),
            None => section.is_none().then_some(known.as_str()),
        });
    let whole = match section {
        Some(section) => format!("{section}.{shown}"),
        None => shown,
    };
    if let Some(near) = nearest(key, siblings) {
        return format!("unknown key `{whole}`: did you mean `{near}`?");
    }
    let elsewhere = known
        .iter()
        .find(|known| known.rsplit('.').next() == Some(key));
    match elsewhere.map(|known| (known, known.rsplit_once('.'))) {
        // `enabled` is at home in several sections: naming one would be a guess.
        Some((_, Some((_, "enabled")))) | None => {
            format!("unknown key `{whole}`: it has no effect")
        }
        Some((_, Some((outer, _)))) => {
            format!("unknown key `{whole}`: it belongs below `{outer}:`, indented")
        }
        Some((known, None)) => {
            format!("unknown key `{whole}`: `{known}` belongs at the left margin, not below another key")
        }
    }
}
