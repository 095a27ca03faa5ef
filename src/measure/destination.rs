//! Where the report for programs goes: opened before the command is run, written when all is measured.
//!
//! A file keeps what it has until then, and is replaced by a complete report or not at all, where its folder allows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::reason;

/// An open destination.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    file: File,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Standard output or standard error, under whatever name; a pipe or a device.
    Stream,
    /// A file that is overwritten: a linked one, or in a folder that takes no new files.
    InPlace,
    /// A new file, which takes the place of the path when it is complete.
    Beside(Temporary),
}

/// A file that is removed unless it gets its name.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Destination {
    /// Opens the destination and changes nothing of it; `-` is standard output. The error is a message for the user.
    pub fn open(path: &Path) -> Result<Destination, String> {
        let opened = match path == Path::new("-") {
            true => standard_output().map(|file| (file, Kind::Stream)),
            false => open(path),
        };
        let (file, kind) = opened.map_err(|error| cannot_write(path, &error))?;
        Ok(Destination {
            path: path.to_path_buf(),
            file,
            kind,
        })
    }

    /// Writes the report. The error is a message for the user.
    pub fn write(self, report: &str) -> Result<(), String> {
        let Destination {
            path,
            mut file,
            kind,
        } = self;
        let mut write = || {
            if matches!(kind, Kind::InPlace) {
                file.set_len(0)?;
            }
            file.write_all(report.as_bytes())?;
            match &kind {
                Kind::Beside(temporary) => {
                    file.sync_all()?;
                    fs::rename(&temporary.0, &path)
                }
                Kind::Stream | Kind::InPlace => Ok(()),
            }
        };
        write().map_err(|error| cannot_write(&path, &error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!(
        "cannot write the report to {}: {}",
        path.display(),
        reason(error)
    )
}

fn standard_output() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

fn open(path: &Path) -> io::Result<(File, Kind)> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let existing = match OpenOptions::new().write(true).open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let Some(file) = existing else {
        // A link to nothing becomes a link to the report.
        return match is_link {
            true => Ok((File::create(path)?, Kind::InPlace)),
            false => beside(path),
        };
    };
    let metadata = file.metadata()?;
    // What the command wrote there is to stay.
    let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    let (output, error) = (io::stdout(), io::stderr());
    for stream in [output.as_fd(), error.as_fd()] {
        let stream = File::from(stream.try_clone_to_owned()?);
        if identity(&stream.metadata()?) == identity(&metadata) {
            return Ok((stream, Kind::Stream));
        }
    }
    if !metadata.is_file() {
        return Ok((file, Kind::Stream));
    }
    if is_link || metadata.nlink() > 1 {
        return Ok((file, Kind::InPlace));
    }
    // The new file has the mode and the owner of the old one, or is none.
    let replacing = beside(path).ok().filter(|(new, _)| {
        let is_owned =
            |new: fs::Metadata| (new.uid(), new.gid()) == (metadata.uid(), metadata.gid());
        new.metadata().is_ok_and(is_owned) && new.set_permissions(metadata.permissions()).is_ok()
    });
    Ok(replacing.unwrap_or((file, Kind::InPlace)))
}

/// A new file in the folder of this one.
fn beside(path: &Path) -> io::Result<(File, Kind)> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let file = File::create_new(&temporary)?;
    Ok((file, Kind::Beside(Temporary(temporary))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::temp_dir::TempDir;
    use std::os::unix::fs::{symlink, PermissionsExt};

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn file_keeps_its_content_until_the_report_is_complete() {
        let temp = TempDir::new();
        let path = temp.path().join("report.json");
        fs::write(&path, "an older and longer report").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        drop(Destination::open(&path).unwrap());
        assert_eq!(names(temp.path()), ["report.json"]);
        let destination = Destination::open(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "an older and longer report"
        );
        let inode = fs::metadata(&path).unwrap().ino();
        destination.write("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let replaced = fs::metadata(&path).unwrap();
        assert_ne!(replaced.ino(), inode);
        assert_eq!(replaced.permissions().mode() & 0o777, 0o640);
        assert_eq!(names(temp.path()), ["report.json"]);
    }

    #[test]
    fn links_are_followed() {
        let temp = TempDir::new();
        let path = |name: &str| temp.path().join(name);
        fs::write(path("file"), "an older and longer report").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("none", path("dangling")).unwrap();
        fs::hard_link(path("file"), path("same")).unwrap();
        for (name, target) in [("link", "file"), ("dangling", "none"), ("same", "file")] {
            Destination::open(&path(name)).unwrap().write(name).unwrap();
            assert_eq!(fs::read_to_string(path(target)).unwrap(), name);
        }
        assert!(fs::symlink_metadata(path("link")).unwrap().is_symlink());
        assert_eq!(
            names(temp.path()),
            ["dangling", "file", "link", "none", "same"]
        );
    }

    #[test]
    fn devices_are_written_to_and_folders_are_refused() {
        Destination::open(Path::new("/dev/null"))
            .unwrap()
            .write("x")
            .unwrap();
        let full = Destination::open(Path::new("/dev/full")).unwrap();
        let error = full.write("x").unwrap_err();
        assert_eq!(
            error,
            "cannot write the report to /dev/full: no space left on device"
        );
        let temp = TempDir::new();
        for wrong in [
            temp.path().to_path_buf(),
            temp.path().join("no/such"),
            "".into(),
        ] {
            let error = Destination::open(&wrong).unwrap_err();
            assert!(error.starts_with("cannot write the report to "), "{error}");
        }
        assert!(names(temp.path()).is_empty());
    }
}
