//! Known and unknown keys of a configuration, and the warning about an unknown key.

use super::diagnose::{nearest, shown};

/// The keys that a document may have, and those of its keys that have no effect.
#[derive(Debug, Default)]
pub(crate) struct KeyUsage {
    /// Paths of the keys that were not read.
    pub(crate) unknown: Vec<Vec<String>>,
    /// Keys that are accepted without effect: path and warning.
    pub(crate) ignored: Vec<(Vec<String>, String)>,
    /// All keys that were looked up, dotted, in the order of the schema.
    pub(crate) known: Vec<String>,
}

/// The path as shown in messages: without list indices, because messages give the line.
pub(crate) fn dotted(path: &[String]) -> String {
    let keys = path.iter().filter(|step| step.parse::<usize>().is_err());
    keys.map(String::as_str).collect::<Vec<_>>().join(".")
}

/// The warning about an unknown key, with the key that was probably meant, or the section to which the key belongs.
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
        // Several sections have `enabled`: naming one of them would be a guess.
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
