//! Detects that a file has changed without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Device, inode, size, modification time and change time of a file, one of which differs after the file was changed or
/// replaced. A file without accessible metadata has the default stamp.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FileStamp(Option<[i64; 7]>);

impl FileStamp {
    /// The current stamp of the file, following links.
    pub fn of(path: &Path) -> FileStamp {
        std::fs::metadata(path).map_or(FileStamp::default(), |metadata| FileStamp::from(&metadata))
    }
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> FileStamp {
        FileStamp(Some([
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
    fn replacement_with_the_same_modification_time_has_another_stamp() {
        let dir = TempDir::new();
        let (path, new) = (dir.path().join("key.pem"), dir.path().join("new"));
        assert_eq!(FileStamp::of(&path), FileStamp::default());
        fs::write(&path, "old").unwrap();
        let old = FileStamp::of(&path);
        assert_ne!(old, FileStamp::default());
        assert_eq!(old, FileStamp::of(&path));
        fs::write(&new, "new").unwrap();
        let age = fs::metadata(&path).unwrap().modified().unwrap();
        let file = File::options().write(true).open(&new).unwrap();
        file.set_modified(age).unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), age);
        assert_ne!(FileStamp::of(&path), old);
    }
}
