//! Which file is the configuration, and reading it.

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

/// Where an installed exporter has its configuration.
pub const SYSTEM_FILE: &str = "/etc/edge-metrics-exporter/config.yaml";

/// A configuration, where it came from, and what there is to say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings in force.
    pub config: Config,
    /// In the order of their lines.
    pub warnings: Vec<Diagnostic>,
    /// The file, or none.
    pub origin: Origin,
    /// What the file held.
    pub text: Vec<u8>,
}

impl Loaded {
    /// A configuration that nobody wrote.
    pub(crate) fn built_in(config: Config) -> Loaded {
        Loaded {
            config,
            warnings: Vec::new(),
            origin: Origin::Defaults,
            text: Vec::new(),
        }
    }
}

/// Why a configuration file gave no configuration. `Display` is whole: the path, the place, and what would help.
#[derive(Debug)]
pub enum Error {
    /// The file could not be opened or read.
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory, FIFO, socket or device: reading it might block, or worse.
    NotAFile {
        /// The thing.
        path: PathBuf,
        /// What it is, with an article.
        kind: &'static str,
    },
    /// The content is wrong.
    Invalid {
        /// The file.
        path: PathBuf,
        /// What and where.
        diagnostic: Diagnostic,
    },
}

/// What would help where the file is missing that somebody named.
const MISSING: &str =
    "copy config.yaml.template there, or name no file by --config or LOCAL_CONFIG_PATH: \
                       the defaults need none";

impl Error {
    /// The same in words, with what would help where the file is missing.
    pub(crate) fn explain(&self, missing: &str) -> String {
        match self {
            Self::Read { path, source } => {
                let what = format!("cannot read the configuration {}: {source}", path.display());
                match source.kind() {
                    io::ErrorKind::NotFound => format!("{what} ({missing})"),
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
        f.write_str(&self.explain(MISSING))
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

/// The configuration file to load: `cli` (`--config`), else `env` (`LOCAL_CONFIG_PATH`; empty is as good as unset),
/// else `./config.yaml`, else [`SYSTEM_FILE`]. The first two are taken whether or not they exist, so that [`load`]
/// says that a file somebody named is missing, as seed 001 did; the last two only if there is something of that name.
/// `None` means defaults.
pub fn find(cli: Option<&Path>, env: Option<&OsStr>) -> Option<PathBuf> {
    find_among(cli, env, [Path::new("config.yaml"), Path::new(SYSTEM_FILE)])
}

fn find_among(cli: Option<&Path>, env: Option<&OsStr>, usual: [&Path; 2]) -> Option<PathBuf> {
    let named = cli.or(env.filter(|path| !path.is_empty()).map(Path::new));
    named
        .or_else(|| usual.into_iter().find(|path| is_there(path)))
        .map(Path::to_owned)
}

/// Anything of that name counts, a broken link or a file behind a forbidden directory too: running on defaults
/// beside a configuration that could not be read would be worse than the error it gives.
fn is_there(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ),
    }
}

impl Schema {
    /// Reads and checks the configuration file at `path`. It never blocks: what is no regular file is refused before it
    /// is opened, all but `/dev/null`, which is an empty file. No more than [`MAX_SIZE`] bytes are read.
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

/// The bytes of a configuration file, as [`Schema::load`] reads them; one more than [`MAX_SIZE`] where there are more.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    // Looked at before it is opened, because opening some devices does something, and after, because it may have
    // been replaced in between.
    regular(path, &fs::metadata(path).map_err(failed)?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
        .map_err(failed)?;
    regular(path, &file.metadata().map_err(failed)?)?;
    bounded(file).map_err(failed)
}

/// One byte more than is allowed, so that the parser sees that it is too much.
fn bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_SIZE)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn regular(path: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
    let kind = metadata.file_type();
    let kind = if kind.is_file() || path == Path::new("/dev/null") {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
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

    /// A directory of one test, removed when it goes.
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
    fn loads_a_file_and_says_which() {
        let dir = Dir::new("load");
        let path = dir.file("config.yaml", b"port: 9200\nprot: 1\n");
        let loaded = Schema::default().load(&path).unwrap();
        assert_eq!(loaded.config.port, Some(9200));
        assert_eq!(loaded.warnings.len(), 1);
        assert_eq!(loaded.origin, Origin::File(path));
    }

    #[test]
    fn an_error_begins_with_path_line_and_column() {
        let dir = Dir::new("invalid");
        let path = dir.file("config.yaml", b"port: 1\ninterval: fast\n");
        let message = Schema::default().load(&path).unwrap_err().to_string();
        let start = format!("{}:2:11: ", path.display());
        assert!(message.starts_with(&start), "{message}");
    }

    #[test]
    fn a_missing_file_is_an_error_that_helps() {
        let dir = Dir::new("missing");
        let path = dir.0.join("config.yaml");
        let message = Schema::default().load(&path).unwrap_err().to_string();
        assert!(message.contains(&*path.to_string_lossy()), "{message}");
        assert!(message.contains("config.yaml.template"), "{message}");
    }

    #[test]
    fn what_is_no_file_is_refused_without_blocking() {
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
    fn a_large_file_is_not_read_to_its_end() {
        let dir = Dir::new("large");
        let path = dir.0.join("config.yaml");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let message = Schema::default().load(&path).unwrap_err().to_string();
        assert!(message.contains("larger than 65536 bytes"), "{message}");
    }

    #[test]
    fn finds_files_in_their_order() {
        let dir = Dir::new("find");
        let (here, etc) = (dir.0.join("here.yaml"), dir.0.join("etc.yaml"));
        let find = |cli: Option<&str>, env: Option<&str>| {
            find_among(cli.map(Path::new), env.map(OsStr::new), [&here, &etc])
        };
        assert_eq!(find(None, None), None);
        assert_eq!(find(None, Some("")), None);
        fs::write(&etc, "").unwrap();
        assert_eq!(find(None, None), Some(etc.clone()));
        // A broken link is there, so that loading it says so.
        std::os::unix::fs::symlink("nowhere", &here).unwrap();
        assert_eq!(find(None, None), Some(here.clone()));
        assert_eq!(find(None, Some("/env")), Some("/env".into()));
        assert_eq!(find(Some("/cli"), Some("/env")), Some("/cli".into()));
    }
}
