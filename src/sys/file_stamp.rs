//! Whether a file has changed, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What changes when a file does, or when another takes its place: device, inode, size, and when it was modified and its
/// inode changed. A file that cannot be looked at has one too: the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mark(Option<[i64; 7]>);

impl Mark {
    /// The file's mark now, through links.
    pub fn of(path: &Path) -> Mark {
        std::fs::metadata(path).map_or(Mark::default(), |metadata| Mark::from(&metadata))
    }
}

impl From<&Metadata> for Mark {
    fn from(metadata: &Metadata) -> Mark {
        Mark(Some([
            metadata.dev() as i64,
            metadata.ino() as i64,
            metadata.size() as i64,
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::sys::temp_dir::TempDir;

    #[test]
    fn a_file_that_looks_as_old_as_the_one_it_replaces_is_another() {
        let dir = TempDir::new();
        let (path, new) = (dir.path().join("key.pem"), dir.path().join("new"));
        assert_eq!(Mark::of(&path), Mark::default());
        fs::write(&path, "old").unwrap();
        let old = Mark::of(&path);
        assert_ne!(old, Mark::default());
        assert_eq!(old, Mark::of(&path));
        fs::write(&new, "new").unwrap();
        let age = fs::metadata(&path).unwrap().modified().unwrap();
        let file = File::options().write(true).open(&new).unwrap();
        file.set_modified(age).unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), age);
        assert_ne!(Mark::of(&path), old);
    }
}
