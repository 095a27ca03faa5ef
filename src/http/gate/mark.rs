//! Whether a file has changed, without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What changes when a file does, or when another takes its place. A file that cannot be looked at has one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(Option<[i64; 7]>);

impl Mark {
    /// The file's mark now.
    pub(super) fn of(path: &Path) -> Mark {
        let metadata = std::fs::metadata(path).ok();
        Mark(metadata.map(|m| {
            [
                m.dev() as i64,
                m.ino() as i64,
                m.size() as i64,
                m.mtime(),
                m.mtime_nsec(),
                m.ctime(),
                m.ctime_nsec(),
            ]
        }))
    }
}
