//! Finding and reading the configuration file.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::diagnose::{Diagnostic, Origin};
use super::model::Config;
use super::{Schema, MAX_SIZE};

/// The configuration file of an installed exporter.
pub const SYSTEM_FILE: &str = "/etc/edge-metrics-exporter/config.yaml";

/// A valid configuration, its origin and its warnings.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Warnings, ordered by line.
    pub warnings: Vec<Diagnostic>,
    /// Where the configuration came from.
    pub origin: Origin,
    /// The content of the local file, by which a later change of it is detected; empty without a file. If the origin is the
    /// central server, the settings are not from this file.
    pub text: Vec<u8>,
}

impl Loaded {
    /// A configuration that was made in the program, without a file.
    pub(crate) fn built_in(config: Config) -> Loaded {
        Loaded {
            config,
            warnings: Vec::new(),
            origin: Origin::Defaults,
            text: Vec::new(),
        }
    }
}

/// Why a configuration file could not be loaded. `Display` gives the path, the position and advice.
#[derive(Debug)]
pub enum Error {
    /// The file could not be opened or read.
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The path is a directory, FIFO, socket or device. Reading one of these may block or have side effects.
    NotAFile {
        /// The path.
        path: PathBuf,
        /// The kind of file, with an article: `a FIFO`.
        kind: &'static str,
    },
    /// The content is invalid.
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        diagnostic: Diagnostic,
    },
}

/// Advice for a missing file that the user has named.
const MISSING_FILE_ADVICE: &str =
    "copy config.yaml.template there, or name no file by --config or LOCAL_CONFIG_PATH: \
                       the defaults need none";

impl Error {
    /// The error message. `advice`, on what to do about a missing file, is added only if the file is missing.
    pub(crate) fn explain(&self, advice: &str) -> String {
        match self {
            Self::Read { path, source } => {
                let what = format!("cannot read the configuration {}: {source}", path.display());
                match source.kind() {
                    io::ErrorKind::NotFound => format!("{what} ({advice})"),
                    io::ErrorKind::PermissionDenied => {
                        format!("{what} (the user that runs the exporter must be able to read it)")
                    }
                    _ => what,
                }
            }
            Self::NotAFile { path, kind } => format!(
                "cannot read the configuration {}: it is {kind}, not a file",
                path.display()
            ),
            Self::Invalid { path, diagnostic } => {
                diagnostic.with(&Origin::File(path.clone())).to_string()
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain(MISSING_FILE_ADVICE))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::NotAFile { .. } | Self::Invalid { .. } => None,
        }
    }
}

/// Returns the configuration file to load: `cli` (`--config`), else `env` (`LOCAL_CONFIG_PATH`; an empty value counts as
/// unset), else `./config.yaml`, else [`SYSTEM_FILE`]. The first two are returned whether or not they exist, so that
/// loading reports a missing file that the user has named, as edge-metrics-exporter (Python) did. The last two are returned
/// only if they exist. `None` means that there is no file, and the defaults apply.
pub fn find(cli: Option<&Path>, env: Option<&OsStr>) -> Option<PathBuf> {
    find_among(cli, env, [Path::new("config.yaml"), Path::new(SYSTEM_FILE)])
}

/// [`find`] with other `standard` paths, for tests.
fn find_among(cli: Option<&Path>, env: Option<&OsStr>, standard: [&Path; 2]) -> Option<PathBuf> {
    let named = cli.or(env.filter(|path| !path.is_empty()).map(Path::new));
    named
        .or_else(|| standard.into_iter().find(|path| exists(path)))
        .map(Path::to_owned)
}

/// Whether the path exists. A broken link, or a path in a directory that may not be searched, counts as existing: an error
/// is better than running with defaults although there is a configuration.
fn exists(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ),
    }
}

impl Schema {
    /// Reads and validates the configuration file at `path`. Never blocks: only regular files are opened, and `/dev/null`,
    /// which counts as an empty file. A file of more than [`MAX_SIZE`] bytes is rejected without being read to its end.
    pub fn load(&self, path: &Path) -> Result<Loaded, Error> {
        let bytes = read(path)?;
        let parsed = self.parse_bytes(&bytes);
        let (config, warnings) = parsed.map_err(|diagnostic| Error::Invalid {
            path: path.to_owned(),
            diagnostic,
        })?;
        Ok(Loaded {
            config,
            warnings,
            origin: Origin::File(path.to_owned()),
            text: bytes,
        })
    }
}

/// Reads a configuration file as [`Schema::load`] does. Of a file that is too large, `MAX_SIZE + 1` bytes are returned.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    // Checked before the file is opened, because opening some devices has side effects, and again afterwards, because the
    // file may have been replaced in between.
    check_is_file(path, &fs::metadata(path).map_err(failed)?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
        .map_err(failed)?;
    check_is_file(path, &file.metadata().map_err(failed)?)?;
    read_limited(file).map_err(failed)
}

/// Reads at most one byte more than is allowed, so that the parser can tell that the file is too large.
fn read_limited(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_SIZE)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check_is_file(path: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
    let file_type = metadata.file_type();
    let kind = if file_type.is_file() || path == Path::new("/dev/null") {
        return Ok(());
    } else if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(Error::NotAFile {
        path: path.to_owned(),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A temporary directory, removed on drop.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("eme-config-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).unwrap();
            Self(dir)
        }

        fn file(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn loads_a_file_and_reports_its_path() {
        let dir = Dir::new("load");
        let path = dir.file("config.yaml", b"port: 9200\nprot: 1\n");
        let loaded = Schema::default().load(&path).unwrap();
        assert_eq!(loaded.config.port, Some(9200));
        assert_eq!(loaded.warnings.len(), 1);
        assert_eq!(loaded.origin, Origin::File(path));
    }

    #[test]
    fn errors_begin_with_path_line_and_column() {
        let dir = Dir::new("invalid");
        let path = dir.file("config.yaml", b"port: 1\ninterval: fast\n");
        let message = Schema::default().load(&path).unwrap_err().to_string();
        let start = format!("{}:2:11: ", path.display());
        assert!(message.starts_with(&start), "{message}");
    }

    #[test]
    fn missing_file_is_an_error_with_advice() {
        let dir = Dir::new("missing");
        let path = dir.0.join("config.yaml");
        let message = Schema::default().load(&path).unwrap_err().to_string();
        assert!(message.contains(&*path.to_string_lossy()), "{message}");
        assert!(message.contains("config.yaml.template"), "{message}");
    }

    #[test]
    fn special_files_are_refused_without_blocking() {
        let dir = Dir::new("kinds");
        let fifo = dir.0.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let socket = dir.0.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let link = dir.0.join("link");
        std::os::unix::fs::symlink("fifo", &link).unwrap();
        for (path, kind) in [
            (fifo.as_path(), "a FIFO"),
            (link.as_path(), "a FIFO"),
            (socket.as_path(), "a socket"),
            (dir.0.as_path(), "a directory"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            match Schema::default().load(path) {
                Err(Error::NotAFile { kind: found, .. }) => assert_eq!(found, kind),
                other => panic!("{}: {other:?}", path.display()),
            }
        }
        let nothing = Schema::default().load(Path::new("/dev/null")).unwrap();
        assert_eq!(nothing.config, Config::default());
    }

    #[test]
    fn large_file_is_not_read_to_its_end() {
        let dir = Dir::new("large");
        let path = dir.0.join("config.yaml");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let message = Schema::default().load(&path).unwrap_err().to_string();
        assert!(message.contains("larger than 65536 bytes"), "{message}");
    }

    #[test]
    fn files_are_found_in_order_of_precedence() {
        let dir = Dir::new("find");
        let (here, etc) = (dir.0.join("here.yaml"), dir.0.join("etc.yaml"));
        let find = |cli: Option<&str>, env: Option<&str>| {
            find_among(cli.map(Path::new), env.map(OsStr::new), [&here, &etc])
        };
        assert_eq!(find(None, None), None);
        assert_eq!(find(None, Some("")), None);
        fs::write(&etc, "").unwrap();
        assert_eq!(find(None, None), Some(etc.clone()));
        // A broken link counts as existing, so that loading reports it.
        std::os::unix::fs::symlink("nowhere", &here).unwrap();
        assert_eq!(find(None, None), Some(here.clone()));
        assert_eq!(find(None, Some("/env")), Some("/env".into()));
        assert_eq!(find(Some("/cli"), Some("/env")), Some("/cli".into()));
    }
}
