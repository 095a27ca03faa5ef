//! The copy of a board's files in a recording: the files that the sources read, with the content of the first read, and
//! links as links. It is laid out as a fixture board.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

/// The most links in one path, as in the kernel (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// One tree of the board's files, and its copy.
#[derive(Debug)]
pub(super) struct Mirror {
    live: PathBuf,
    copy: PathBuf,
    /// Paths that were copied, as the callers gave them.
    seen: HashSet<PathBuf>,
    /// The copies of files that have their content.
    filled: HashSet<PathBuf>,
}

impl Mirror {
    /// A mirror of the files below `live`, in the new folder `copy`.
    pub(super) fn new(live: &Path, copy: PathBuf) -> io::Result<Mirror> {
        fs::create_dir(&copy)?;
        Ok(Mirror {
            live: live.canonicalize().unwrap_or_else(|_| live.to_path_buf()),
            copy,
            seen: HashSet::new(),
            filled: HashSet::new(),
        })
    }

    /// Copies `path` with its folders, its links and their targets, but without content. Returns how many files, folders
    /// and links were created.
    pub(super) fn copy_path(&mut self, path: &Path) -> io::Result<usize> {
        if self.seen.contains(path) {
            return Ok(0);
        }
        let (_, created) = self.walk(path)?;
        self.seen.insert(path.to_path_buf());
        Ok(created)
    }

    /// Copies `path`, and writes `content` to the file unless it has content already. Returns how many files, folders and
    /// links were created.
    pub(super) fn copy_content(&mut self, path: &Path, content: &[u8]) -> io::Result<usize> {
        let (place, created) = self.walk(path)?;
        let place = self.copy.join(place);
        if self.filled.insert(place.clone()) {
            // This path has no links, and its last component is a file created by `walk`.
            File::options()
                .write(true)
                .truncate(true)
                .open(place)?
                .write_all(content)?;
        }
        Ok(created)
    }

    /// Resolves `path` as the kernel does, and copies everything that the path leads through. Returns the path without
    /// links, and how many files, folders and links were created.
    fn walk(&self, path: &Path) -> io::Result<(PathBuf, usize)> {
        let mut at = PathBuf::new();
        let (mut links, mut created) = (0, 0);
        let mut rest: Vec<OsString> = components_reversed(path);
        while let Some(name) = rest.pop() {
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
                if links > MAX_LINKS {
                    return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
                }
                if let Some(target) = self.target(&at, &live)? {
                    rest.extend(components_reversed(&target));
                    created += usize::from(is_new(symlink(target, copy))?);
                    continue;
                }
            }
            at.push(name);
            // A link out of the tree is copied as the file or folder that it leads to.
            created += usize::from(is_new(match live.metadata()?.is_dir() {
                true => fs::create_dir(copy),
                false => File::create_new(copy).map(|_| ()),
            })?);
        }
        Ok((at, created))
    }

    /// The target of a link in the folder `at`, relative to `at`. `None` if it is outside the tree.
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

    /// Creates a placeholder in each empty folder, since archives and version control may drop empty folders.
    pub(super) fn keep_empty_folders(&self) -> io::Result<()> {
        let mut pending = vec![self.copy.clone()];
        while let Some(folder) = pending.pop() {
            let mut is_empty = true;
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                is_empty = false;
                if entry.file_type()?.is_dir() {
                    pending.push(entry.path());
                }
            }
            if is_empty {
                File::create_new(folder.join(PLACEHOLDER))?;
            }
        }
        Ok(())
    }
}

/// Whether a relative path stays below a root, by its text alone. `depth` is that of the folder it starts from.
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
pub(super) const PLACEHOLDER: &str = ".keep";

/// The components of a path, the last one first.
fn components_reversed(path: &Path) -> Vec<OsString> {
    let components = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut components: Vec<_> = components.collect();
    components.reverse();
    components
}

fn outside(path: &Path) -> io::Error {
    io::Error::other(format!("{} leads out of its root", path.display()))
}

/// Whether something was created, rather than being there already.
fn is_new(created: io::Result<()>) -> io::Result<bool> {
    match created {
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
    fn links_are_copied_with_their_targets() {
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
        assert_eq!(mirror.copy_content(name, b"ina226\n").unwrap(), 9);
        assert_eq!(mirror.copy_content(name, b"later\n").unwrap(), 0);
        mirror
            .copy_path(Path::new("class/hwmon/hwmon0/device"))
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
    fn absolute_link_within_the_tree_becomes_relative() {
        let tree = Tree::new(&[("sys/a/b/name", "x")]);
        tree.link("sys/c/d/link", "sys/a/b");
        mirror(&tree)
            .copy_content(Path::new("c/d/link/name"), b"x")
            .unwrap();
        let link = fs::read_link(tree.path("copy/c/d/link")).unwrap();
        assert_eq!(link, Path::new("../../a/b"));
        assert_eq!(fs::read(tree.path("copy/a/b/name")).unwrap(), b"x");
    }

    #[test]
    fn link_out_of_the_tree_is_copied_as_its_target() {
        let tree = Tree::new(&[("elsewhere/model", "Pi"), ("sys/x/y", "")]);
        tree.link("sys/absolute", "elsewhere");
        link(&tree, "sys/x/up", "../../elsewhere");
        let mut mirror = mirror(&tree);
        for path in ["absolute/model", "x/up/model"] {
            mirror.copy_content(Path::new(path), b"Pi").unwrap();
            assert_eq!(fs::read(tree.path("copy").join(path)).unwrap(), b"Pi");
            assert!(!tree.path("copy").join(path).parent().unwrap().is_symlink());
        }
    }

    #[test]
    fn missing_path_or_circular_link_is_an_error() {
        let tree = Tree::new(&[("sys/x", "")]);
        link(&tree, "sys/circle", "circle");
        let mut mirror = mirror(&tree);
        for path in ["nothing", "circle/x", "x/y", "../proc"] {
            assert!(mirror.copy_path(Path::new(path)).is_err(), "{path}");
        }
        assert!(!tree.path("copy/nothing").exists());
    }

    #[test]
    fn empty_folder_gets_a_placeholder() {
        let tree = Tree::new(&[("sys/a/b/c", "")]);
        let mut mirror = mirror(&tree);
        mirror.copy_path(Path::new("a/b")).unwrap();
        mirror.keep_empty_folders().unwrap();
        assert!(tree.path("copy/a/b").join(PLACEHOLDER).exists());
        assert!(!tree.path("copy/a").join(PLACEHOLDER).exists());
    }
}
