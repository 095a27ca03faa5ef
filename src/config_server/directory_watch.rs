//! What has changed in a directory of configurations.
//!
//! The kernel tells (inotify), before the call that made the change returns. It does not tell what another machine wrote to a
//! network file system, nor what was changed behind a link, nor through a mapping: so all files are looked at too now and then,
//! and often where the kernel does not tell at all (it has a limit of watches). What we wrote ourselves is known either way.

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

pub(super) const SUFFIX: &str = ".yaml";
/// What is being written: never the name of a device, since those do not begin with a dot.
pub(super) const TEMPORARY: &str = ".tmp";
/// How often all files are looked at, where the kernel tells of changes and where it does not.
const WATCHED_PAUSE: Duration = Duration::from_secs(2);
const UNWATCHED_PAUSE: Duration = Duration::from_secs(1);
/// Looking at all files takes at most this part of the time.
const SHARE: u32 = 20;
/// So many changes are remembered one by one.
const MOST_TOUCHED: usize = 4096;

pub(super) struct DirectoryWatch {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None`: the kernel does not tell.
    inotify: Option<Inotify>,
    /// Device and inode of the directory that is watched.
    watched: Option<(u64, u64)>,
    /// When all files are to be looked at; `None`: now.
    scan_at: Option<Instant>,
    /// What we changed ourselves.
    touched: HashSet<DeviceId>,
    /// All files were looked at before.
    is_read: bool,
    /// It was said that the kernel does not tell.
    said: bool,
}

/// A look at all files, under way.
pub(super) struct Scan<'a> {
    watch: &'a DirectoryWatch,
    begun: Instant,
}

impl DirectoryWatch {
    pub(super) fn new(path: &Path) -> DirectoryWatch {
        DirectoryWatch {
            path: path.to_owned(),
            state: Mutex::default(),
        }
    }

    /// We changed this device's file.
    pub(super) fn touched(&self, id: &DeviceId) {
        let mut state = lock::lock(&self.state);
        if state.touched.len() < MOST_TOUCHED {
            state.touched.insert(id.clone());
        } else {
            state.scan_at = None;
        }
    }

    /// What has changed since this was asked last.
    pub(super) fn changes(&self) -> io::Result<Changes> {
        let mut state = lock::lock(&self.state);
        let directory = fs::metadata(&self.path)?;
        let directory = (directory.dev(), directory.ino());
        if state.watched != Some(directory) {
            state.watch(&self.path);
            state.watched = Some(directory);
            state.scan_at = None;
        }
        state.listen();
        let touched = std::mem::take(&mut state.touched);
        match state.scan_at {
            Some(at) if Instant::now() < at => Ok(Changes::These(
                touched.into_iter().map(Change::Touched).collect(),
            )),
            _ => Ok(Changes::All),
        }
    }

    /// A look at all files begins.
    pub(super) fn scan(&self) -> Scan<'_> {
        Scan {
            watch: self,
            begun: Instant::now(),
        }
    }
}

impl Scan<'_> {
    /// It has ended: all files were seen.
    pub(super) fn done(self) {
        let mut state = lock::lock(&self.watch.state);
        let pause = match state.inotify {
            Some(_) => WATCHED_PAUSE,
            None => UNWATCHED_PAUSE,
        };
        // The first time most of it is reading.
        let took = match std::mem::replace(&mut state.is_read, true) {
            true => self.begun.elapsed(),
            false => Duration::ZERO,
        };
        state.scan_at = Some(Instant::now() + pause.max(took.saturating_mul(SHARE)));
    }
}

impl State {
    fn watch(&mut self, path: &Path) {
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let begun = || {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            inotify.add_watch(path, flags)?;
            Ok(inotify)
        };
        self.inotify = match begun() {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                self.unwatched(path, error);
                None
            }
        };
    }

    fn unwatched(&mut self, path: &Path, error: Errno) {
        if !std::mem::replace(&mut self.said, true) {
            log::warn!(
                "{}: the kernel does not tell of changes ({error}): files that people edit are looked at once a second \
                 (fs.inotify.max_user_instances and max_user_watches are the limits)",
                path.display()
            );
        }
    }

    /// Takes what the kernel tells.
    fn listen(&mut self) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let mut lost = false;
        loop {
            match inotify.read_events() {
                Ok(events) => {
                    for event in &events {
                        match device_of(event) {
                            Told::Of(id) => {
                                self.touched.insert(id);
                            }
                            Told::Nothing => {}
                            Told::Anything => self.scan_at = None,
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

enum Told {
    Nothing,
    Of(DeviceId),
    Anything,
}

/// Which device the event is about. Of other files only the coming and going may mean something: the links of a mounted
/// ConfigMap lead by way of one that is swapped.
fn device_of(event: &InotifyEvent) -> Told {
    let coming_or_going = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
    let Some(name) = &event.name else {
        // The directory itself, or the queue was full.
        return match event.mask.contains(AddWatchFlags::IN_ATTRIB) {
            true => Told::Nothing,
            false => Told::Anything,
        };
    };
    let name = name.to_str().unwrap_or_default();
    let id = name.strip_suffix(SUFFIX).map(DeviceId::parse);
    match id {
        Some(Ok(id)) => Told::Of(id),
        _ if name.ends_with(TEMPORARY) => Told::Nothing,
        _ if event.mask.intersects(coming_or_going) => Told::Anything,
        _ => Told::Nothing,
    }
}
