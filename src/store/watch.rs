//! Notices that the configuration file has changed.
//!
//! By looking, not by inotify: a look is one `stat` a second, and sees alike what is written in place, renamed over the
//! file, swapped by a link (as Kubernetes does it), or on a network file system, and when whole directories vanish and
//! come back.

use std::path::{Path, PathBuf};

use crate::sys::file_stamp::FileStamp;

/// The file, as it was seen before.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    /// What was last reported.
    reported: Option<FileStamp>,
    /// What was seen last.
    seen: FileStamp,
}

impl Watch {
    /// Watches this path, through links. The first look that finds it at rest reports a change.
    pub fn new(path: &Path) -> Watch {
        Watch {
            path: path.to_owned(),
            reported: None,
            seen: FileStamp::default(),
        }
    }

    /// Looks. True: it is another file than the one last reported, and the same that was seen by the look before, so
    /// that nobody is still writing it.
    pub fn has_changed(&mut self) -> bool {
        let now = FileStamp::of(&self.path);
        let at_rest = self.seen == now;
        self.seen = now;
        if !at_rest || self.reported == Some(now) {
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
    fn every_way_to_change_a_file_is_seen_once() {
        let parent = TempDir::new();
        let dir = parent.path().join("watched");
        fs::create_dir(&dir).unwrap();
        let (real, link) = (dir.join("real"), dir.join("config.yaml"));
        fs::write(&real, "a").unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let mut watch = Watch::new(&link);
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
