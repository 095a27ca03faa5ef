//! Which process listens on a TCP port, as far as /proc tells (proc(5): `net/tcp`, `PID/fd`). Processes of other users are
//! found by root alone.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The state LISTEN in `net/tcp`.
const LISTEN: &str = "0A";
/// Bytes of `net/tcp` that are read. A line has 150.
const MAX_TABLE: u64 = 16 << 20;
/// Descriptors that are looked at.
const MAX_DESCRIPTORS: usize = 1 << 20;

/// A process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// The name of its program.
    pub name: String,
    /// Its number.
    pub pid: u32,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, process {}", self.name, self.pid)
    }
}

/// The process that listens on this port; `None`: there is none, or it cannot be seen.
pub fn port_holder(port: u16) -> Option<PortHolder> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(file) = fs::File::open(table) {
            let lines = BufReader::new(file.take(MAX_TABLE)).lines();
            let lines = lines.map_while(Result::ok);
            sockets.extend(lines.filter_map(|line| listening_inode(&line, port)));
        }
    }
    let links: Vec<_> = sockets.iter().map(|i| format!("socket:[{i}]")).collect();
    if links.is_empty() {
        return None;
    }
    let mut left = MAX_DESCRIPTORS;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        for descriptor in descriptors.flatten() {
            left = left.checked_sub(1)?;
            let link = fs::read_link(descriptor.path());
            let is_it = |link: &Path| links.iter().any(|it| link.as_os_str() == OsStr::new(it));
            if link.is_ok_and(|link| is_it(&link)) {
                let name = program(&process.path())?;
                return Some(PortHolder { name, pid });
            }
        }
    }
    None
}

/// The inode of the socket in a line of `net/tcp` or `net/tcp6`, if it listens on this port:
/// `0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 12345 …`.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    let mut words = line.split_ascii_whitespace();
    let (_, number) = words.nth(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(number, 16) == Ok(port) && words.nth(1)? == LISTEN;
    words.nth(5)?.parse().ok().filter(|_| is_it)
}

/// The name of a process's program, else what the process calls itself.
fn program(process: &Path) -> Option<String> {
    let path = fs::read_link(process.join("exe")).ok();
    let name = path.as_deref().and_then(Path::file_name);
    let name = name.map(|name| name.to_string_lossy().into_owned());
    let name = name.or_else(|| fs::read_to_string(process.join("comm")).ok())?;
    // The file may have been replaced since.
    let name = name.trim().trim_end_matches(" (deleted)");
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn process_that_listens_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue; // no IPv6
            };
            let port = listener.local_addr().unwrap().port();
            let holder = port_holder(port).unwrap();
            assert_eq!(holder.pid, std::process::id());
            let own = std::env::current_exe().unwrap();
            assert_eq!(OsStr::new(&holder.name), own.file_name().unwrap());
        }
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let of = |line: &str| listening_inode(line, 9100);
        let rest = "00000000:00000000 00:00000000 00000000   998        0 41720 1 0000";
        let v4 = format!("   1: 00000000:238C 00000000:0000 0A {rest}");
        assert_eq!(of(&v4), Some(41720));
        let v6 = format!("   1: {0}:238C {0}:0000 0A {rest}", "0".repeat(32));
        assert_eq!(of(&v6), Some(41720));
        assert_eq!(of(&v4.replace("0A", "01")), None);
        assert_eq!(of(&v4.replace("238C", "238D")), None);
        let inode = v4.find("41720").unwrap();
        for cut in 0..=inode {
            assert_eq!(of(&v4[..cut]), None, "{cut}");
        }
        assert_eq!(of("  sl  local_address rem_address   st tx_queue"), None);
    }
}
