//! The members of a device: what a profile reads the same values of, such as the chassis of a server.

use std::collections::BTreeSet;

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Where it is on the device, without a slash at the end.
    pub(super) path: String,
    /// What its rails are called: the end of its path that no other member's has.
    pub(super) name: String,
    /// The name of the member that it lies in.
    pub(super) within: Option<String>,
}

/// The members at these paths. Each path comes with that of what it lies in, if that is known.
pub(super) fn members(found: &[(String, Option<String>)]) -> Vec<Member> {
    let bare = |path: &str| path.trim_end_matches('/').to_string();
    let mut paths: Vec<(String, Option<String>)> = Vec::new();
    for (path, around) in found {
        let path = bare(path);
        if paths.iter().all(|(known, _)| *known != path) {
            paths.push((path, around.as_deref().map(bare)));
        }
    }
    let around = |path: &str| {
        let (_, around) = paths.iter().find(|(known, _)| known == path)?;
        let around = around.as_ref()?;
        paths
            .iter()
            .map(|(path, _)| path)
            .find(|path| *path == around)
    };
    let names = names(&paths);
    let member = |(path, name): (&(String, _), &String)| {
        let outer = around(&path.0).filter(|_| !is_in_circle(&path.0, around));
        let outer = outer.and_then(|outer| paths.iter().position(|(path, _)| path == outer));
        Member {
            path: path.0.clone(),
            name: name.clone(),
            within: outer.and_then(|outer| names.get(outer)).cloned(),
        }
    };
    paths.iter().zip(&names).map(member).collect()
}

/// Whether what lies around a path lies in it.
fn is_in_circle<'p>(path: &str, around: impl Fn(&str) -> Option<&'p String>) -> bool {
    let mut seen = BTreeSet::new();
    let mut at = around(path);
    while let Some(outer) = at {
        if outer == path {
            return true;
        }
        if !seen.insert(outer) {
            return false;
        }
        at = around(outer);
    }
    false
}

/// The shortest ends of different paths, in whole segments, that are different.
fn names<T>(paths: &[(String, T)]) -> Vec<String> {
    let end = |path: &str, segments: usize| {
        let all: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let from = all.len().saturating_sub(segments);
        all.get(from..).unwrap_or_default().join("/")
    };
    let name = |(path, _): &(String, T)| {
        let others = || paths.iter().filter(|(other, _)| other != path);
        let mut segments = 1;
        loop {
            let name = end(path, segments);
            let is_taken = others().any(|(other, _)| end(other, segments) == name);
            if !is_taken || segments > path.len() {
                return name;
            }
            segments += 1;
        }
    };
    paths.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        let found = found
            .iter()
            .map(|(path, around)| (path.to_string(), around.map(str::to_string)));
        let members = members(&found.collect::<Vec<_>>()).into_iter();
        members.map(|one| (one.name, one.within)).collect()
    }

    fn named(name: &str, within: Option<&str>) -> (String, Option<String>) {
        (name.to_string(), within.map(str::to_string))
    }

    #[test]
    fn members_are_called_by_the_end_of_their_path_that_tells_them_apart() {
        let found = [
            ("/c/1", None),
            ("/c/2/", None),
            ("/c/2", None),
            ("/a/x/Self", None),
            ("/b/x/Self", None),
        ];
        let names: Vec<_> = shown(&found).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["1", "2", "a/x/Self", "b/x/Self"]);
        assert_eq!(shown(&[("/", None)]), [named("", None)]);
    }

    #[test]
    fn member_lies_in_another_one_of_the_list_and_in_no_circle() {
        let found = [
            ("/c/rack", None),
            ("/c/sled", Some("/c/rack/")),
            ("/c/fan", Some("/c/nowhere")),
            ("/c/self", Some("/c/self")),
            ("/c/a", Some("/c/b")),
            ("/c/b", Some("/c/a")),
            ("/c/in-a", Some("/c/a")),
        ];
        let expected = [
            named("rack", None),
            named("sled", Some("rack")),
            named("fan", None),
            named("self", None),
            named("a", None),
            named("b", None),
            named("in-a", Some("a")),
        ];
        assert_eq!(shown(&found), expected);
    }
}
