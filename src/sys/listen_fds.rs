//! Sockets passed by systemd: `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` (sd_listen_fds(3)).
#![allow(unsafe_code)]

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt, SockType};

/// The first descriptor that is passed (SD_LISTEN_FDS_START).
const FIRST_FD: RawFd = 3;
/// A larger number of descriptors is taken as a malformed variable.
const MAX_FDS: RawFd = 64;

/// The listening TCP sockets that this process was started with, each with its name (`FileDescriptorName=`) if it has
/// one. Any other descriptor that was passed is closed, with a warning. Only the first call returns sockets.
///
/// Child processes do not get them: the descriptors are close-on-exec, and `LISTEN_PID` is not the child's pid.
pub fn listen_fds() -> Vec<(Option<String>, TcpListener)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let var = |name| std::env::var(name).ok();
    let announced = announced(
        var("LISTEN_PID").as_deref(),
        var("LISTEN_FDS").as_deref(),
        var("LISTEN_FDNAMES").as_deref(),
        std::process::id(),
    );
    if announced.is_empty() || TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    announced
        .into_iter()
        .filter_map(|(fd, name)| Some((name, take(fd)?)))
        .collect()
}

/// The descriptors that the environment announces to this process, with their names.
fn announced(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
    own_pid: u32,
) -> Vec<(RawFd, Option<String>)> {
    let is_ours = pid.and_then(|p| p.parse().ok()) == Some(own_pid);
    let count: RawFd = count.and_then(|c| c.parse().ok()).unwrap_or(0);
    if !is_ours || !(1..=MAX_FDS).contains(&count) {
        return Vec::new();
    }
    let mut names = names.unwrap_or_default().split(':');
    (FIRST_FD..FIRST_FD + count)
        .map(|fd| {
            // systemd writes `unknown` for a socket without a name.
            let name = names.next().filter(|n| !n.is_empty() && *n != "unknown");
            (fd, name.map(str::to_owned))
        })
        .collect()
}

fn take(fd: RawFd) -> Option<TcpListener> {
    // SAFETY: F_SETFD takes an integer and touches no memory; on a descriptor that is not open it fails.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        log::warn!("LISTEN_FDS: descriptor {fd} is not open");
        return None;
    }
    // SAFETY: the descriptor is open, as just checked. By the protocol of LISTEN_FDS nothing else owns it, and `TAKEN`
    // ensures that it is taken once.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let listens = getsockopt(&owned, sockopt::SockType) == Ok(SockType::Stream)
        && getsockopt(&owned, sockopt::AcceptConn) == Ok(true);
    let listener = TcpListener::from(owned);
    // `local_addr` fails on a Unix socket.
    if listens && listener.local_addr().is_ok() {
        return Some(listener);
    }
    log::warn!("LISTEN_FDS: descriptor {fd} is not a listening TCP socket (ListenStream= with a port): not used");
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_descriptors_for_this_process_are_announced() {
        let fds = |pid, count, names| announced(Some(pid), Some(count), names, 7);
        assert_eq!(fds("7", "1", None), [(3, None)]);
        assert_eq!(
            fds("7", "3", Some("web:unknown")),
            [(3, Some("web".into())), (4, None), (5, None)]
        );
        for (pid, count) in [
            ("8", "1"),
            ("", "1"),
            ("7", "0"),
            ("7", "-1"),
            ("7", "65"),
            ("7", "x"),
            ("-7", "1"),
        ] {
            assert_eq!(fds(pid, count, None), [], "{pid} {count}");
        }
        assert_eq!(announced(None, Some("1"), None, 7), []);
        assert_eq!(announced(Some("7"), None, None, 7), []);
    }

    /// The next test runs this one in a process of its own. Without that it does nothing.
    #[test]
    fn started_with_sockets() {
        let Ok(port) = std::env::var("TEST_LISTEN_PORT") else {
            return;
        };
        let taken = listen_fds();
        assert_eq!(taken.len(), 1, "{taken:?}");
        let (name, listener) = &taken[0];
        assert_eq!(name.as_deref(), Some("web"));
        assert_eq!(listener.local_addr().unwrap().port().to_string(), port);
        assert!(listen_fds().is_empty());
    }

    #[test]
    fn listening_sockets_are_taken_and_others_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // 3 is the socket, 4 a file, 5 is not open.
        let script = "exec 3<&0 4</dev/null 5<&-; LISTEN_PID=$$ exec \"$0\" --exact sys::listen_fds::tests::started_with_sockets";
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .env("LISTEN_FDS", "3")
            .env("LISTEN_FDNAMES", "web:file:nothing")
            .env("TEST_LISTEN_PORT", port.to_string())
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }
}
