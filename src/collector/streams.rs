//! All streams, in one thread: it waits until one of them can be read or written, until there are new rows, or until
//! somebody is to be asked whether he is alive. A client costs a descriptor and some kilobytes, and no thread.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{ppoll, PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{getrlimit, Resource};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use super::client::{Client, End, Manners, Ready};
use super::form::Form;
use super::permits::{Permit, Permits};
use super::rows::Feed;
use crate::config;
use crate::http::websocket::{frame::close, WebSocket};
use crate::http::Upgraded;
use crate::sys::lock::lock;

/// What the kernel keeps for a client that does not read: some hundred rows. The rest of its backlog is the feed.
const SEND_BUFFER: usize = 64 * 1024;
/// How long clients have to take the goodbye when we stop.
const GOODBYE: Duration = Duration::from_millis(300);
/// The longest wait, when nobody is to be asked anything.
const LONG: Duration = Duration::from_secs(3600);

/// The streams, running. Dropping it ends them.
pub struct Streams {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What handlers and the thread share.
pub struct Shared {
    permits: Arc<Permits>,
    manners: Manners,
    newcomers: Mutex<Vec<Client>>,
    stopping: AtomicBool,
    wake: EventFd,
    /// Streams that ended, by [`End::ALL`].
    ended: [AtomicU64; End::ALL.len()],
}

impl Streams {
    /// Starts the thread. Fails when there is none, or no descriptor.
    pub fn start(settings: &config::Streams) -> std::io::Result<Streams> {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let quarter = usize::try_from(descriptors / 4).unwrap_or(usize::MAX);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let shared = Arc::new(Shared {
            permits: Arc::new(Permits::new(settings.clients.min(quarter))),
            manners: Manners {
                ping: settings.ping,
                patience: settings.patience,
            },
            newcomers: Mutex::default(),
            stopping: AtomicBool::new(false),
            wake: EventFd::from_flags(flags)?,
            ended: Default::default(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("streams".into())
            .stack_size(256 * 1024)
            .spawn(move || theirs.run())?;
        Ok(Streams {
            shared,
            thread: Some(thread),
        })
    }

    /// For handlers, and for who publishes rows.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Streams rows of this feed to a connection that has become a WebSocket.
    pub fn take(&self, upgraded: Upgraded, feed: Arc<Feed>, form: Form, permit: Permit) {
        let socket = WebSocket::new(upgraded);
        // Without it the kernel would keep megabytes for somebody who does not read.
        let _ = setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
        lock(&self.newcomers).push(Client::new(socket, feed, form, permit));
        self.wake();
    }

    /// There is something to do.
    pub fn wake(&self) {
        let _ = self.wake.write(1);
    }

    /// The permits for streams.
    pub fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }

    /// How many have ended, by [`End::ALL`].
    pub fn ended(&self) -> [u64; End::ALL.len()] {
        End::ALL.map(|end| self.ended[end as usize].load(Ordering::Relaxed))
    }

    fn run(&self) {
        let mut clients: Vec<Client> = Vec::new();
        let mut ready: Vec<Ready> = Vec::new();
        let mut stop_at = None;
        loop {
            let now = Instant::now();
            let due = clients.iter().map(|client| client.due(self.manners));
            let until = due.chain(stop_at).min().unwrap_or(now + LONG);
            self.wait(&clients, &mut ready, until.saturating_duration_since(now));
            let now = Instant::now();
            if stop_at.is_none() && self.stopping.load(Ordering::SeqCst) {
                stop_at = Some(now + GOODBYE);
                for client in &mut clients {
                    // Whoever is gone already is found out below.
                    if client.ending().is_none() {
                        self.ended[End::Stopped as usize].fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = client.end(End::Stopped, close::GOING_AWAY, "", now + GOODBYE);
                }
            }
            let mut readiness = ready.iter();
            clients.retain_mut(|client| {
                let ready = readiness.next().copied().unwrap_or_default();
                self.attend(client, ready, now)
            });
            let newcomers = std::mem::take(&mut *lock(&self.newcomers));
            for mut client in newcomers {
                // It may have said something along with its request, or have gone.
                let ready = Ready {
                    read: true,
                    write: true,
                };
                if self.attend(&mut client, ready, now) {
                    clients.push(client);
                }
            }
            if stop_at.is_some_and(|at| clients.is_empty() || now >= at) {
                return;
            }
        }
    }

    /// Whether the client stays. A stream has ended when that is decided, though the client may take a while to leave.
    fn attend(&self, client: &mut Client, ready: Ready, now: Instant) -> bool {
        let before = client.ending();
        let stays = client.attend(ready, self.manners, now);
        let after = client.ending().or(stays.err());
        if let (None, Some(end)) = (before, after) {
            self.ended[end as usize].fetch_add(1, Ordering::Relaxed);
        }
        stays.is_ok()
    }

    /// Waits until somebody is ready, which `ready` then says of each, or until there is something to do.
    fn wait(&self, clients: &[Client], ready: &mut Vec<Ready>, longest: Duration) {
        let mut fds = Vec::with_capacity(clients.len() + 1);
        fds.push(PollFd::new(self.wake.as_fd(), PollFlags::POLLIN));
        for client in clients {
            let mut wanted = PollFlags::POLLIN;
            wanted.set(PollFlags::POLLOUT, client.is_behind());
            fds.push(PollFd::new(client.as_fd(), wanted));
        }
        let polled = ppoll(&mut fds, Some(TimeSpec::from_duration(longest)), None);
        if !matches!(polled, Ok(_) | Err(Errno::EINTR)) {
            // No memory, say. A pause keeps it from spinning.
            std::thread::sleep(Duration::from_millis(100));
        }
        let of = |fd: &PollFd<'_>| {
            let found = fd.revents().unwrap_or(PollFlags::empty());
            let broken = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
            Ready {
                read: found.intersects(PollFlags::POLLIN | broken),
                write: found.contains(PollFlags::POLLOUT),
            }
        };
        ready.clear();
        let answered = polled.is_ok();
        ready.extend(fds.iter().skip(1).map(|fd| match answered {
            true => of(fd),
            false => Ready::default(),
        }));
        let _ = self.wake.read();
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
