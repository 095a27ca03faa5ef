//! The copy of a board's files in a recording: what the sources looked at, with links as links, and as content what was
//! read first. It is laid out as a fixture board is.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

/// The kernel follows no more links on one way (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// One root of the board, and its copy.
#[derive(Debug)]
pub(super) struct Mirror {
    live: PathBuf,
    copy: PathBuf,
    /// What was looked at, so that it is not copied again.
    seen: HashSet<PathBuf>,
    /// Files whose content has been copied.
    filled: HashSet<PathBuf>,
}

impl Mirror {
    /// A copy of the files below `live`, in the new folder `copy`.
    pub(super) fn new(live: &Path, copy: PathBuf) -> io::Result<Mirror> {
        fs::create_dir(&copy)?;
        Ok(Mirror {
            live: live.canonicalize().unwrap_or_else(|_| live.to_path_buf()),
            copy,
            seen: HashSet::new(),
            filled: HashSet::new(),
        })
    }

    /// Copies what is there on the way to `path`, and what it leads to, without a file's content. Returns how many files,
    /// folders and links it made.
    pub(super) fn reflect(&mut self, path: &Path) -> io::Result<usize> {
        if self.seen.contains(path) {
            return Ok(0);
        }
        let (_, made) = self.walk(path)?;
        self.seen.insert(path.to_path_buf());
        Ok(made)
    }

    /// Has a file hold `content`, if it does not hold any yet. Returns how many files, folders and links it made.
    pub(super) fn fill(&mut self, path: &Path, content: &[u8]) -> io::Result<usize> {
        let (place, made) = self.walk(path)?;
        let place = self.copy.join(place);
        if self.filled.insert(place.clone()) {
            // Without following a link: what is there is a file that was made here.
            File::options()
                .write(true)
                .truncate(true)
                .open(place)?
                .write_all(content)?;
        }
        Ok(made)
    }

    /// Goes along `path` as the kernel does, and copies what it meets. Returns where that ends, free of links.
    fn walk(&self, path: &Path) -> io::Result<(PathBuf, usize)> {
        let mut at = PathBuf::new();
        let (mut links, mut made) = (0, 0);
        let mut to_do: Vec<OsString> = steps(path);
        while let Some(name) = to_do.pop() {
            if name == ".." {
                if !at.pop() {
                    return Err(outside(path));
                }
                continue;
            }
            let live = self.live.join(&at).join(&name);
            let copy = self.copy.join(&at).join(&name);
            let kind = live.symlink_metadata()?.file_type();
            if kind.is_symlink() {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
                }
                if let Some(target) = self.target(&at, &live)? {
                    to_do.extend(steps(&target));
                    made += usize::from(is_new(symlink(target, copy))?);
                    continue;
                }
            }
            at.push(name);
            // A link that leads elsewhere is what it leads to.
            made += usize::from(is_new(match live.metadata()?.is_dir() {
                true => fs::create_dir(copy),
                false => File::create_new(copy).map(|_| ()),
            })?);
        }
        Ok((at, made))
    }

    /// Where a link in the folder `at` leads, seen from there; `None` where that is elsewhere.
    fn target(&self, at: &Path, link: &Path) -> io::Result<Option<PathBuf>> {
        let target = fs::read_link(link)?;
        if target.is_absolute() {
            let inside = target.strip_prefix(&self.live).ok();
            let up = at.components().map(|_| Component::ParentDir.as_os_str());
            return Ok(inside.map(|inside| up.collect::<PathBuf>().join(inside)));
        }
        if !stays_inside(at.components().count(), &target) {
            return Ok(None);
        }
        Ok(Some(target))
    }

    /// Puts a file into each folder that has none: not everything that carries files carries empty folders.
    pub(super) fn keep_empty_folders(&self) -> io::Result<()> {
        let mut to_do = vec![self.copy.clone()];
        while let Some(folder) = to_do.pop() {
            let mut is_empty = true;
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                is_empty = false;
                if entry.file_type()?.is_dir() {
                    to_do.push(entry.path());
                }
            }
            if is_empty {
                File::create_new(folder.join(KEEP))?;
            }
        }
        Ok(())
    }
}

/// Whether a relative path from a folder that is so deep below a root stays below it, as far as its text tells.
pub(super) fn stays_inside(depth: usize, path: &Path) -> bool {
    let deeper = |depth: usize, step| match step {
        Component::Normal(_) => Some(depth + 1),
        Component::ParentDir => depth.checked_sub(1),
        Component::CurDir => Some(depth),
        Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().try_fold(depth, deeper).is_some()
}

/// The file that keeps a folder from being empty.
pub(super) const KEEP: &str = ".keep";

/// The steps of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().filter_map(|step| match step {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut steps: Vec<_> = steps.collect();
    steps.reverse();
    steps
}

fn outside(path: &Path) -> io::Error {
    io::Error::other(format!("{} leads out of its root", path.display()))
}

fn is_new(made: io::Result<()>) -> io::Result<bool> {
    match made {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::Tree;

    fn mirror(tree: &Tree) -> Mirror {
        Mirror::new(&tree.path("sys"), tree.path("copy")).unwrap()
    }

    fn link(tree: &Tree, path: &str, target: &str) {
        let path = tree.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    #[test]
    fn links_are_copied_with_what_they_lead_to() {
        let tree = Tree::new(&[("sys/devices/i2c/1-0040/hwmon/hwmon0/name", "ina226\n")]);
        link(
            &tree,
            "sys/devices/i2c/1-0040/hwmon/hwmon0/device",
            "../../../1-0040",
        );
        link(
            &tree,
            "sys/class/hwmon/hwmon0",
            "../../devices/i2c/1-0040/hwmon/hwmon0",
        );
        let mut mirror = mirror(&tree);
        let name = Path::new("class/hwmon/hwmon0/name");
        assert_eq!(mirror.fill(name, b"ina226\n").unwrap(), 9);
        assert_eq!(mirror.fill(name, b"later\n").unwrap(), 0);
        mirror
            .reflect(Path::new("class/hwmon/hwmon0/device"))
            .unwrap();
        let copied = |path: &str| tree.path("copy").join(path);
        assert_eq!(
            fs::read(copied("class/hwmon/hwmon0/name")).unwrap(),
            b"ina226\n"
        );
        let device = copied("class/hwmon/hwmon0/device").canonicalize().unwrap();
        assert_eq!(device, copied("devices/i2c/1-0040").canonicalize().unwrap());
        assert!(copied("class/hwmon/hwmon0").is_symlink());
    }

    #[test]
    fn an_absolute_link_within_the_root_becomes_a_relative_one() {
        let tree = Tree::new(&[("sys/a/b/name", "x")]);
        tree.link("sys/c/d/link", "sys/a/b");
        mirror(&tree)
            .fill(Path::new("c/d/link/name"), b"x")
            .unwrap();
        let link = fs::read_link(tree.path("copy/c/d/link")).unwrap();
        assert_eq!(link, Path::new("../../a/b"));
        assert_eq!(fs::read(tree.path("copy/a/b/name")).unwrap(), b"x");
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_copied_as_what_is_there() {
        let tree = Tree::new(&[("elsewhere/model", "Pi"), ("sys/x/y", "")]);
        tree.link("sys/absolute", "elsewhere");
        link(&tree, "sys/x/up", "../../elsewhere");
        let mut mirror = mirror(&tree);
        for path in ["absolute/model", "x/up/model"] {
            mirror.fill(Path::new(path), b"Pi").unwrap();
            assert_eq!(fs::read(tree.path("copy").join(path)).unwrap(), b"Pi");
            assert!(!tree.path("copy").join(path).parent().unwrap().is_symlink());
        }
    }

    #[test]
    fn what_is_not_there_or_goes_in_circles_is_an_error() {
        let tree = Tree::new(&[("sys/x", "")]);
        link(&tree, "sys/circle", "circle");
        let mut mirror = mirror(&tree);
        for path in ["nothing", "circle/x", "x/y", "../proc"] {
            assert!(mirror.reflect(Path::new(path)).is_err(), "{path}");
        }
        assert!(!tree.path("copy/nothing").exists());
    }

    #[test]
    fn an_empty_folder_gets_a_file() {
        let tree = Tree::new(&[("sys/a/b/c", "")]);
        let mut mirror = mirror(&tree);
        mirror.reflect(Path::new("a/b")).unwrap();
        mirror.keep_empty_folders().unwrap();
        assert!(tree.path("copy/a/b").join(KEEP).exists());
        assert!(!tree.path("copy/a").join(KEEP).exists());
    }
}
