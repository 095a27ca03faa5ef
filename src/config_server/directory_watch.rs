//! Which files of a directory have changed.
//!
//! inotify reports a change before the system call that made it returns. It does not report changes that another machine
//! makes on a network file system, changes of a link's target, or writes through a mapping. So all files are scanned now and
//! then as well, and more often if inotify is not available, since the kernel limits the number of watches. The server's own
//! changes are noted without inotify.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};

use super::store::{Change, Changes};
use crate::sys::lock;
use crate::wire::DeviceId;

/// The suffix of a configuration's file.
pub(super) const CONFIG_SUFFIX: &str = ".yaml";
/// The suffix of temporary files. Their names begin with a dot, so that they are never a device's.
pub(super) const TEMPORARY_SUFFIX: &str = ".tmp";
/// How often all files are scanned, with and without inotify.
const WATCHED_SCAN_INTERVAL: Duration = Duration::from_secs(2);
const UNWATCHED_SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a scan is at least this many times its duration.
const SCAN_REST_FACTOR: u32 = 20;
/// The most changed devices that are noted one by one. Beyond it everything is scanned.
const MAX_TOUCHED: usize = 4096;

pub(super) struct DirectoryWatch {
    path: PathBuf,
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    /// `None`: inotify is not available.
    inotify: Option<Inotify>,
    /// Device and inode of the directory that is watched.
    watched: Option<(u64, u64)>,
    /// When all files are scanned next; `None`: now.
    scan_at: Option<Instant>,
    /// The devices whose files changed.
    touched: HashSet<DeviceId>,
    /// All files were scanned at least once.
    has_scanned: bool,
    /// The warning about missing inotify was logged.
    is_warned: bool,
}

/// A scan of all files that is under way.
pub(super) struct Scan<'a> {
    watch: &'a DirectoryWatch,
    started_at: Instant,
}

impl DirectoryWatch {
    pub(super) fn new(path: &Path) -> DirectoryWatch {
        DirectoryWatch {
            path: path.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Notes that the server changed this device's file.
    pub(super) fn touched(&self, id: &DeviceId) {
        let mut state = lock::lock(&self.state);
        if state.touched.len() < MAX_TOUCHED {
            state.touched.insert(id.clone());
        } else {
            state.scan_at = None;
        }
    }

    /// The changes since the last call. `may_be_missing`: a directory that does not exist is one without files.
    pub(super) fn changes(&self, may_be_missing: bool) -> io::Result<Changes> {
        let mut state = lock::lock(&self.state);
        let directory = match fs::metadata(&self.path) {
            Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => None,
            found => found.map(|found| Some((found.dev(), found.ino())))?,
        };
        if state.watched != directory {
            state.inotify = None;
            if directory.is_some() {
                state.watch(&self.path);
            }
            state.watched = directory;
            state.scan_at = None;
        }
        state.read_events();
        let touched = std::mem::take(&mut state.touched);
        match state.scan_at {
            Some(at) if Instant::now() < at => Ok(Changes::Listed(
                touched.into_iter().map(Change::Touched).collect(),
            )),
            _ => Ok(Changes::Unknown),
        }
    }

    /// Begins a scan of all files.
    pub(super) fn scan(&self) -> Scan<'_> {
        Scan {
            watch: self,
            started_at: Instant::now(),
        }
    }
}

impl Scan<'_> {
    /// Ends the scan: all files were seen.
    pub(super) fn done(self) {
        let mut state = lock::lock(&self.watch.state);
        let pause = match state.inotify {
            Some(_) => WATCHED_SCAN_INTERVAL,
            None => UNWATCHED_SCAN_INTERVAL,
        };
        // The first scan reads every file, which later ones do not.
        let took = match std::mem::replace(&mut state.has_scanned, true) {
            true => self.started_at.elapsed(),
            false => Duration::ZERO,
        };
        state.scan_at = Some(Instant::now() + pause.max(took.saturating_mul(SCAN_REST_FACTOR)));
    }
}

impl WatchState {
    fn watch(&mut self, path: &Path) {
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let start = || {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            inotify.add_watch(path, flags)?;
            Ok(inotify)
        };
        self.inotify = match start() {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                self.warn_unwatched(path, error);
                None
            }
        };
    }

    fn warn_unwatched(&mut self, path: &Path, error: Errno) {
        if !std::mem::replace(&mut self.is_warned, true) {
            log::warn!(
                "{}: cannot watch the directory ({error}): its files are checked once a second \
                 (fs.inotify.max_user_instances and max_user_watches are the limits)",
                path.display()
            );
        }
    }

    /// Reads the pending inotify events.
    fn read_events(&mut self) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let mut lost = false;
        loop {
            match inotify.read_events() {
                Ok(events) => {
                    for event in &events {
                        match effect_of(event) {
                            Effect::Device(id) => {
                                self.touched.insert(id);
                            }
                            Effect::None => {}
                            Effect::Scan => self.scan_at = None,
                        }
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    lost = true;
                    break;
                }
            }
        }
        if lost {
            (self.watched, self.scan_at) = (None, None);
        }
    }
}

/// What an inotify event means.
enum Effect {
    None,
    /// The device's configuration may have changed.
    Device(DeviceId),
    /// Anything may have changed.
    Scan,
}

/// What an event means. Of files that are no device's only creation and renaming matter: the links of a mounted ConfigMap
/// point to another link, which Kubernetes replaces.
fn effect_of(event: &InotifyEvent) -> Effect {
    let coming_or_going = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
    let Some(name) = &event.name else {
        // The event is about the directory, or the queue overflowed.
        return match event.mask.contains(AddWatchFlags::IN_ATTRIB) {
            true => Effect::None,
            false => Effect::Scan,
        };
    };
    let name = name.to_str().unwrap_or_default();
    let id = name.strip_suffix(CONFIG_SUFFIX).map(DeviceId::parse);
    match id {
        Some(Ok(id)) => Effect::Device(id),
        _ if name.ends_with(TEMPORARY_SUFFIX) => Effect::None,
        _ if event.mask.intersects(coming_or_going) => Effect::Scan,
        _ => Effect::None,
    }
}
