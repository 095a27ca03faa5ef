//! Detects changes of the configuration file.
//!
//! By polling instead of inotify: one `stat` a second detects a file that is written in place, renamed over, or swapped by a
//! link (as Kubernetes does), also on network file systems and when whole directories vanish and return.

use std::path::{Path, PathBuf};

use crate::sys::file_stamp::FileStamp;

/// Watches one file.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    /// The stamp of the last reported change.
    reported: Option<FileStamp>,
    /// The stamp at the previous poll.
    seen: FileStamp,
}

impl FileWatch {
    /// Watches this path, following links. The first poll that finds the file unchanged since the poll before reports a change.
    pub fn new(path: &Path) -> FileWatch {
        FileWatch {
            path: path.to_owned(),
            reported: None,
            seen: FileStamp::default(),
        }
    }

    /// Polls the file. True if the file differs from the one last reported and is the same as at the previous poll, so that it
    /// is not still being written.
    pub fn has_changed(&mut self) -> bool {
        let now = FileStamp::of(&self.path);
        let is_stable = self.seen == now;
        self.seen = now;
        if !is_stable || self.reported == Some(now) {
            return false;
        }
        self.reported = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sys::temp_dir::TempDir;

    #[test]
    fn every_kind_of_change_is_reported_once() {
        let parent = TempDir::new();
        let dir = parent.path().join("watched");
        fs::create_dir(&dir).unwrap();
        let (real, link) = (dir.join("real"), dir.join("config.yaml"));
        fs::write(&real, "a").unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let mut watch = FileWatch::new(&link);
        let mut settles = || {
            let looks: Vec<_> = (0..4).map(|_| watch.has_changed()).collect();
            (looks[0], looks[1..].iter().filter(|seen| **seen).count())
        };
        assert_eq!(settles(), (false, 1));
        assert_eq!(settles(), (false, 0));
        fs::write(&real, "in place").unwrap();
        assert_eq!(settles(), (false, 1));
        fs::write(dir.join("new"), "in place").unwrap();
        fs::rename(dir.join("new"), &real).unwrap();
        assert_eq!(settles(), (false, 1));
        fs::write(dir.join("other"), "another").unwrap();
        std::os::unix::fs::symlink("other", dir.join("new")).unwrap();
        fs::rename(dir.join("new"), &link).unwrap();
        assert_eq!(settles(), (false, 1));
        let away = dir.with_extension("away");
        fs::rename(&dir, &away).unwrap();
        assert_eq!(settles(), (false, 1));
        assert_eq!(settles(), (false, 0));
        fs::rename(&away, &dir).unwrap();
        assert_eq!(settles(), (false, 1));
    }
}
