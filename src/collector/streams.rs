//! One thread serves all streams. It waits until a client's socket is ready, until there are new rows, or until a client must
//! be pinged. A client costs a descriptor and some kilobytes, and no thread.

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

use super::client::{Client, KeepAlive, Readiness, StreamEnd};
use super::feed::Feed;
use super::layout::Layout;
use super::permits::{Permit, Permits};
use crate::config;
use crate::http::websocket::{frame::close, WebSocket};
use crate::http::Upgraded;
use crate::sys::lock::lock;

/// The kernel's send buffer of a client: some hundred rows. The rest of a slow client's backlog stays in the feed.
const SEND_BUFFER: usize = 64 * 1024;
/// How long clients have to complete the closing handshake when the collector stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(300);
/// The longest wait, while there are no clients to ping.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// The thread that serves the streams. Dropping it ends all of them.
pub struct Streams {
    stream_loop: Arc<StreamLoop>,
    thread: Option<JoinHandle<()>>,
}

/// The state that the thread and the request handlers share.
pub struct StreamLoop {
    permits: Arc<Permits>,
    keep_alive: KeepAlive,
    new_clients: Mutex<Vec<Client>>,
    stopping: AtomicBool,
    wake: EventFd,
    /// The number of streams that ended, by [`StreamEnd::ALL`].
    ended: [AtomicU64; StreamEnd::ALL.len()],
}

impl Streams {
    /// Starts the thread. Fails if no thread or descriptor is available.
    pub fn start(settings: &config::Streams) -> std::io::Result<Streams> {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let quarter = usize::try_from(descriptors / 4).unwrap_or(usize::MAX);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stream_loop = Arc::new(StreamLoop {
            permits: Arc::new(Permits::new(settings.clients.min(quarter))),
            keep_alive: KeepAlive {
                ping_after: settings.ping,
                timeout: settings.patience,
            },
            new_clients: Mutex::default(),
            stopping: AtomicBool::new(false),
            wake: EventFd::from_flags(flags)?,
            ended: Default::default(),
        });
        let running = Arc::clone(&stream_loop);
        let thread = std::thread::Builder::new()
            .name("streams".into())
            .stack_size(256 * 1024)
            .spawn(move || running.run())?;
        Ok(Streams {
            stream_loop,
            thread: Some(thread),
        })
    }

    /// The part that request handlers and the publisher of rows use.
    pub fn stream_loop(&self) -> Arc<StreamLoop> {
        Arc::clone(&self.stream_loop)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.stream_loop.stopping.store(true, Ordering::SeqCst);
        self.stream_loop.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl StreamLoop {
    /// Adds a client that receives the rows of this feed, on a connection that was upgraded to a WebSocket.
    pub fn add(&self, upgraded: Upgraded, feed: Arc<Feed>, layout: Layout, permit: Permit) {
        let socket = WebSocket::new(upgraded);
        // Otherwise the kernel would buffer megabytes for a client that does not read.
        let _ = setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
        lock(&self.new_clients).push(Client::new(socket, feed, layout, permit));
        self.wake();
    }

    /// Wakes the thread: there are new rows or clients, or it must stop.
    pub fn wake(&self) {
        let _ = self.wake.write(1);
    }

    /// The permits for streams.
    pub fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }

    /// The number of streams that ended, by [`StreamEnd::ALL`].
    pub fn ended(&self) -> [u64; StreamEnd::ALL.len()] {
        StreamEnd::ALL.map(|end| self.ended[end as usize].load(Ordering::Relaxed))
    }

    fn run(&self) {
        let mut clients: Vec<Client> = Vec::new();
        let mut ready: Vec<Readiness> = Vec::new();
        let mut stop_deadline = None;
        loop {
            let now = Instant::now();
            let deadlines = clients
                .iter()
                .map(|client| client.deadline(self.keep_alive));
            let until = deadlines
                .chain(stop_deadline)
                .min()
                .unwrap_or(now + MAX_WAIT);
            self.wait(&clients, &mut ready, until.saturating_duration_since(now));
            let now = Instant::now();
            if stop_deadline.is_none() && self.stopping.load(Ordering::SeqCst) {
                stop_deadline = Some(now + STOP_TIMEOUT);
                for client in &mut clients {
                    // The errors of connections that are already broken are handled below.
                    if client.ending().is_none() {
                        self.ended[StreamEnd::Stopped as usize].fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = client.end(
                        StreamEnd::Stopped,
                        close::GOING_AWAY,
                        "",
                        now + STOP_TIMEOUT,
                    );
                }
            }
            let mut readiness = ready.iter();
            clients.retain_mut(|client| {
                let ready = readiness.next().copied().unwrap_or_default();
                self.serve(client, ready, now)
            });
            let new_clients = std::mem::take(&mut *lock(&self.new_clients));
            for mut client in new_clients {
                // The client may have sent something along with its request, or have left.
                let ready = Readiness {
                    readable: true,
                    writable: true,
                };
                if self.serve(&mut client, ready, now) {
                    clients.push(client);
                }
            }
            if stop_deadline.is_some_and(|at| clients.is_empty() || now >= at) {
                return;
            }
        }
    }

    /// Serves a client and returns whether it stays. A stream is counted as ended when its end begins, before the closing
    /// handshake.
    fn serve(&self, client: &mut Client, ready: Readiness, now: Instant) -> bool {
        let before = client.ending();
        let stays = client.serve(ready, self.keep_alive, now);
        let after = client.ending().or(stays.err());
        if let (None, Some(end)) = (before, after) {
            self.ended[end as usize].fetch_add(1, Ordering::Relaxed);
        }
        stays.is_ok()
    }

    /// Waits until a client is ready, the thread is woken, or `timeout` has passed. `ready` then has an item for each client.
    fn wait(&self, clients: &[Client], ready: &mut Vec<Readiness>, timeout: Duration) {
        let mut fds = Vec::with_capacity(clients.len() + 1);
        fds.push(PollFd::new(self.wake.as_fd(), PollFlags::POLLIN));
        for client in clients {
            let mut wanted = PollFlags::POLLIN;
            wanted.set(PollFlags::POLLOUT, client.has_unsent());
            fds.push(PollFd::new(client.as_fd(), wanted));
        }
        let polled = ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None);
        if !matches!(polled, Ok(_) | Err(Errno::EINTR)) {
            // Out of memory, for example. The pause keeps the loop from spinning.
            std::thread::sleep(Duration::from_millis(100));
        }
        let readiness_of = |fd: &PollFd<'_>| {
            let found = fd.revents().unwrap_or(PollFlags::empty());
            let broken = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
            Readiness {
                readable: found.intersects(PollFlags::POLLIN | broken),
                writable: found.contains(PollFlags::POLLOUT),
            }
        };
        ready.clear();
        let is_polled = polled.is_ok();
        ready.extend(fds.iter().skip(1).map(|fd| match is_polled {
            true => readiness_of(fd),
            false => Readiness::default(),
        }));
        let _ = self.wake.read();
    }
}

impl AsFd for StreamLoop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
