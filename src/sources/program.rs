//! Finding the program that a meter runs.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::io_log::{Failure, IoLog};
use super::{Error, Roots};

/// A program that a meter runs.
pub(super) struct Program {
    /// The program's name on `PATH`.
    pub(super) name: &'static str,
    /// Where the program usually is, for a `PATH` that lacks the folder (a service manager's, a container's).
    pub(super) usual_place: &'static str,
    /// The configuration key that overrides the name.
    pub(super) setting: &'static str,
    /// The hint of the error if the program is not found.
    pub(super) hint: &'static str,
}

impl Program {
    /// Finds the program: by `configured` (a path, or a name on `PATH`), or else by its usual name.
    pub(super) fn find(
        &self,
        io_log: &IoLog,
        roots: &Roots,
        configured: Option<&Path>,
    ) -> Result<PathBuf, Error> {
        if let Some(folder) = &roots.programs {
            let path = folder.join(self.name);
            return match is_program(&path) {
                true => Ok(path),
                false => Err(Error::new(format!("this board has no {}", self.name))),
            };
        }
        let found = io_log.record_or_replay(&format!("program {}", self.name), || {
            let found = self.look_for(configured);
            let found = found.map(|path| path.into_os_string().into_encoded_bytes());
            found.map_err(|error| Failure::new(error.to_string()))
        });
        match found {
            Ok(path) => Ok(PathBuf::from(OsString::from_vec(path))),
            Err(failure) => Err(Error::new(failure.message)),
        }
    }

    fn look_for(&self, configured: Option<&Path>) -> Result<PathBuf, Error> {
        let hint = format!("{} names it", self.setting);
        match configured {
            Some(path) if path.components().count() > 1 || path.is_absolute() => {
                if is_program(path) {
                    Ok(path.to_path_buf())
                } else {
                    let path = path.display();
                    Err(Error::new(format!("{path} is not a program")).hint(hint))
                }
            }
            Some(name) => on_path(name.as_os_str(), std::env::var_os("PATH")).ok_or_else(|| {
                let name = name.display();
                Error::new(format!("{name} was not found on PATH")).hint(hint)
            }),
            None => on_path(OsStr::new(self.name), std::env::var_os("PATH"))
                .or_else(|| Some(PathBuf::from(self.usual_place)).filter(|path| is_program(path)))
                .ok_or_else(|| {
                    Error::new(format!("{} was not found on PATH", self.name)).hint(self.hint)
                }),
        }
    }
}

fn on_path(name: &OsStr, path: Option<OsString>) -> Option<PathBuf> {
    std::env::split_paths(&path?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_with_programs_hide_the_system_programs() {
        let shell = Program {
            name: "sh",
            usual_place: "/bin/sh",
            setting: "",
            hint: "",
        };
        let find = |folder: &str| {
            let roots = Roots {
                programs: Some(folder.into()),
                ..Roots::default()
            };
            shell.find(&IoLog::default(), &roots, Some(Path::new("/bin/sh")))
        };
        assert_eq!(find("/bin").unwrap(), Path::new("/bin/sh"));
        let none = find("/proc").unwrap_err().to_string();
        assert_eq!(none, "this board has no sh");
    }

    #[test]
    fn program_is_found_by_path_name_or_usual_place() {
        let program = Program {
            name: "no-such-program",
            usual_place: "/bin/sh",
            setting: "jetson.tegrastats",
            hint: "is this a Jetson?",
        };
        let find = |configured: &str| program.look_for(Some(Path::new(configured)));
        assert_eq!(find("/bin/sh").unwrap(), Path::new("/bin/sh"));
        assert!(find("sh").unwrap().is_absolute());
        assert_eq!(
            find("/proc/self/status").unwrap_err().to_string(),
            "/proc/self/status is not a program (jetson.tegrastats names it)"
        );
        assert_eq!(
            find("nothing-at-all").unwrap_err().to_string(),
            "nothing-at-all was not found on PATH (jetson.tegrastats names it)"
        );
        assert_eq!(program.look_for(None).unwrap(), Path::new("/bin/sh"));
        let nowhere = Program {
            usual_place: "/nowhere",
            ..program
        };
        assert_eq!(
            nowhere.look_for(None).unwrap_err().to_string(),
            "no-such-program was not found on PATH (is this a Jetson?)"
        );
        let relative = Some("relative:/nowhere".into());
        assert_eq!(on_path(OsStr::new("sh"), relative), None);
    }
}
