//! The queue's directory: its lock, its segments, and how files in it are opened. The directory may contain anything:
//! what is not a plain file with a name of the queue is left alone.

use crate::sys::sort::sort;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

/// The limit of a segment's bytes. A larger one is not read beyond this.
pub(super) const MAX_BYTES: u64 = 4 << 20;
/// The limit of directory entries that are examined.
const MAX_ENTRIES: usize = 100_000;
const SUFFIX: &str = ".segment";

/// A directory that is locked for this process, as long as this value lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Directory {
    /// Creates and locks the directory. The error says what would help.
    pub(super) fn take(path: &Path) -> Result<Directory, String> {
        let cannot = |what: &str, e: io::Error| {
            let help = match e.raw_os_error() {
                Some(nix::libc::EACCES | nix::libc::EPERM) => {
                    ": the user whom the exporter runs as has to be allowed to write there"
                }
                Some(nix::libc::EROFS) => ": its file system is mounted read-only",
                _ => "",
            };
            format!("cannot {what} {}: {e}{help}", path.display())
        };
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o750).create(path);
        made.map_err(|e| cannot("make the directory", e))?;
        let file = open(
            &path.join("lock"),
            OpenOptions::new().write(true).create(true),
        );
        let file = file.map_err(|e| cannot("open the lock in", e))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Directory {
                path: path.to_path_buf(),
                _lock: lock,
            }),
            Err((_, nix::Error::EAGAIN)) => Err(format!(
                "{} is another process's queue: give each exporter, and each remote_write, a directory of its own",
                path.display()
            )),
            Err((_, e)) => Err(cannot("lock", e.into())),
        }
    }

    /// The path of the directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Numbers and sizes of the segments, in order of their numbers.
    pub(super) fn segments(&self) -> io::Result<Vec<(u32, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)?.take(MAX_ENTRIES).flatten() {
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(number) else {
                continue;
            };
            // The metadata is that of the entry itself, not of a link's target.
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => found.push((number, metadata.size())),
                _ => {}
            }
        }
        sort(&mut found);
        Ok(found)
    }

    /// Creates a segment's file.
    pub(super) fn create(&self, number: u32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        open(
            &self.segment(number),
            options.read(true).write(true).create_new(true),
        )
    }

    /// Reads a segment from an offset to its end.
    pub(super) fn read(&self, number: u32, from: u64, out: &mut Vec<u8>) -> io::Result<()> {
        use std::io::Seek;
        let mut file = open(&self.segment(number), OpenOptions::new().read(true))?;
        file.seek(io::SeekFrom::Start(from))?;
        let max = MAX_BYTES.saturating_sub(from);
        file.take(max).read_to_end(out).map(|_| ())
    }

    /// Removes a segment.
    pub(super) fn remove(&self, number: u32) -> io::Result<()> {
        fs::remove_file(self.segment(number))
    }

    /// The file that says how far the queue has been sent; `None`: it cannot be written, and is only read.
    pub(super) fn sent(&self) -> io::Result<File> {
        let path = self.path.join("sent");
        let mut options = OpenOptions::new();
        open(&path, options.read(true).write(true).create(true))
    }

    /// Syncs the directory, so that the names of the files are on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn segment(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number:010}{SUFFIX}"))
    }
}

/// Opens a plain file, without following a link or blocking on a pipe.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = O_NOFOLLOW | O_NONBLOCK;
    let file = options.custom_flags(flags).mode(0o640).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    Ok(file)
}

/// The number in a segment's name. The highest numbers are left out, so that there is always a next one.
fn number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SUFFIX)?;
    let all_digits = digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit());
    let number = all_digits.then(|| digits.parse::<u32>().ok())??;
    (number < u32::MAX / 2).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::temp_dir::TempDir;
    use std::os::unix::fs::symlink;

    #[test]
    fn directory_is_locked_by_one_queue() {
        let place = TempDir::new();
        let path = place.path().join("a/b");
        let first = Directory::take(&path).unwrap();
        let error = Directory::take(&path).unwrap_err();
        assert!(error.contains("another process's queue"), "{error}");
        drop(first);
        Directory::take(&path).unwrap();
    }

    #[test]
    fn files_that_are_no_segments_are_left_alone() {
        let place = TempDir::new();
        let directory = Directory::take(place.path()).unwrap();
        let file = |name: &str| fs::write(place.path().join(name), "x").unwrap();
        file("0000000007.segment");
        file("0000000007.segment.old");
        file("7.segment");
        file("+000000007.segment");
        file("4294967295.segment");
        fs::create_dir(place.path().join("0000000008.segment")).unwrap();
        symlink(
            "0000000007.segment",
            place.path().join("0000000009.segment"),
        )
        .unwrap();
        nix::unistd::mkfifo(
            &place.path().join("0000000010.segment"),
            nix::sys::stat::Mode::S_IRWXU,
        )
        .unwrap();
        assert_eq!(directory.segments().unwrap(), [(7, 1)]);
        let mut out = Vec::new();
        for number in 8..=10 {
            assert!(directory.read(number, 0, &mut out).is_err(), "{number}");
            assert!(directory.create(number).is_err(), "{number}");
        }
        directory.read(7, 0, &mut out).unwrap();
        assert_eq!(out, b"x");
    }

    #[test]
    fn unusable_directory_is_reported() {
        let place = TempDir::new();
        fs::write(place.path().join("file"), "").unwrap();
        let error = Directory::take(&place.path().join("file/queue")).unwrap_err();
        assert!(error.contains("cannot make the directory"), "{error}");
        fs::create_dir_all(place.path().join("queue/lock")).unwrap();
        let error = Directory::take(&place.path().join("queue")).unwrap_err();
        assert!(error.contains("cannot open the lock"), "{error}");
    }
}
