//! Notifications to the service manager, watchdog included: sd_notify(3), over `NOTIFY_SOCKET`. Without that variable nothing
//! is sent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{clock, lock};

/// How long a message may wait for room in the service manager's queue.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a status line. A longer one is cut.
const MAX_STATUS: usize = 256;

/// Sends notifications, if there is a service manager that expects them.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Watchdog>,
    failed: AtomicBool,
}

/// The service manager kills a process that sends no watchdog notification for too long.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_environment() -> Notifier {
        let number = |name| std::env::var(name).ok()?.parse().ok();
        Notifier::new(
            std::env::var_os("NOTIFY_SOCKET").as_deref(),
            number("WATCHDOG_USEC"),
            number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id())),
        )
    }

    fn new(socket: Option<&OsStr>, watchdog_usec: Option<u64>, watchdog_is_ours: bool) -> Notifier {
        let Some(name) = socket.filter(|name| !name.is_empty()) else {
            return Notifier::default();
        };
        let socket = match open(name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                log::warn!(
                    "cannot use NOTIFY_SOCKET={}: {error}",
                    Path::new(name).display()
                );
                None
            }
        };
        let usec = watchdog_usec.filter(|usec| *usec > 0 && watchdog_is_ours);
        Notifier {
            socket,
            // Half of the timeout, as sd_watchdog_enabled(3) recommends.
            watchdog: usec.map(|usec| Watchdog {
                interval: Duration::from_micros(usec / 2),
                next: Mutex::new(Instant::now()),
            }),
            failed: AtomicBool::new(false),
        }
    }

    /// Everything that the configuration asks for is running, at the start or after a reload.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\n{}", status_line(status)));
    }

    /// The configuration is being loaded again. Has to be followed by [`Notifier::ready`], also when loading fails.
    pub fn reloading(&self) {
        let now = clock::monotonic_micros();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// The process is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Sends the watchdog notification when it is due. To be called often, by a thread whose hanging should end the process.
    pub fn alive(&self) {
        let Some(watchdog) = &self.watchdog else {
            return;
        };
        let now = Instant::now();
        {
            let mut next = lock::lock(&watchdog.next);
            if now < *next {
                return;
            }
            *next = now + watchdog.interval;
        }
        self.send("WATCHDOG=1");
    }

    /// A failure is logged, and has no other effect.
    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.socket else {
            return;
        };
        let sent = socket.send_to_addr(message.as_bytes(), address);
        let failed_before = self.failed.swap(sent.is_err(), Ordering::Relaxed);
        if let (Err(error), false) = (sent, failed_before) {
            log::warn!("cannot notify the service manager: {error}");
        }
    }
}

/// A path, or after an `@` a name in the abstract namespace.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        // vsock:..., which is for whole virtual machines.
        _ => return Err(io::Error::other("neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, address))
}

/// `STATUS=` and the text as one line.
fn status_line(text: &str) -> String {
    let mut status = "STATUS=".to_string();
    for c in text.chars() {
        if status.len() + c.len_utf8() > MAX_STATUS {
            break;
        }
        status.push(if c.is_control() { ' ' } else { c });
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(name: &str) -> UnixDatagram {
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket
    }

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn notifications_follow_the_protocol() {
        let name = format!("edge-metrics-notify-{}", std::process::id());
        let manager = listener(&name);
        let notifier = Notifier::new(Some(OsStr::new(&format!("@{name}"))), None, true);
        notifier.ready("reads rapl\nFDSTORE=1");
        assert_eq!(receive(&manager), "READY=1\nSTATUS=reads rapl FDSTORE=1");
        let before = clock::monotonic_micros();
        notifier.reloading();
        let message = receive(&manager);
        let stamp = message
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        let stamp: u64 = stamp.parse().unwrap();
        assert!((before..=clock::monotonic_micros()).contains(&stamp));
        // No watchdog is configured.
        notifier.alive();
        notifier.stopping();
        assert_eq!(receive(&manager), "STOPPING=1\nSTATUS=stopping");
    }

    #[test]
    fn watchdog_notifications_are_sent_when_due() {
        let name = format!("edge-metrics-watchdog-{}", std::process::id());
        let manager = listener(&name);
        let socket = format!("@{name}");
        let notifier = Notifier::new(Some(OsStr::new(&socket)), Some(2_000), true);
        for _ in 0..3 {
            notifier.alive();
            assert_eq!(receive(&manager), "WATCHDOG=1");
            std::thread::sleep(Duration::from_millis(2));
        }
        let rarely = Notifier::new(Some(OsStr::new(&socket)), Some(u64::MAX), true);
        rarely.alive();
        rarely.alive();
        let anothers = Notifier::new(Some(OsStr::new(&socket)), Some(1), false);
        anothers.alive();
        anothers.stopping();
        assert_eq!(receive(&manager), "WATCHDOG=1");
        assert_eq!(receive(&manager), "STOPPING=1\nSTATUS=stopping");
    }

    #[test]
    fn socket_may_be_a_path() {
        let path = std::env::temp_dir().join(format!("edge-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.as_os_str()), None, true);
        notifier.stopping();
        std::fs::remove_file(&path).unwrap();
        assert!(receive(&manager).starts_with("STOPPING=1"));
        // The service manager has gone, which does no harm.
        drop(manager);
        notifier.ready("");
        assert!(notifier.failed.load(Ordering::Relaxed));
    }

    #[test]
    fn unusable_sockets_are_ignored() {
        let long = format!("/{}", "x".repeat(200));
        for name in [
            None,
            Some(""),
            Some("relative"),
            Some("vsock:2:1"),
            Some(long.as_str()),
        ] {
            let notifier = Notifier::new(name.map(OsStr::new), Some(1), true);
            assert!(notifier.socket.is_none(), "{name:?}");
            notifier.ready("");
            notifier.alive();
        }
    }

    #[test]
    fn status_is_one_line_of_bounded_length() {
        assert_eq!(status_line("a\r\nb\0c"), "STATUS=a  b c");
        let long = status_line(&"µ".repeat(1000));
        assert!((MAX_STATUS - 1..=MAX_STATUS).contains(&long.len()));
    }
}
