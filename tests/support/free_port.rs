//! A port that is known before a program listens on it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as Name, UnixListener};

/// A port that is free for TCP and UDP, reserved for this test.
///
/// A port from the kernel's ephemeral range could be given to a connection at any time. This port is outside of that range,
/// and no other test takes it while this value lives.
pub struct FreePort {
    number: u16,
    /// An abstract socket, whose name is unique in the network namespace and freed with the process.
    _claim: UnixListener,
}

impl FreePort {
    pub fn new() -> FreePort {
        let chosen_from = chosen_from();
        let ports: Vec<u16> = (10_000..=u16::MAX)
            .filter(|port| !(chosen_from.0..=chosen_from.1).contains(port))
            .collect();
        let ports = match ports.is_empty() {
            true => (10_000..=u16::MAX).collect(),
            false => ports,
        };
        // Processes start at different ports.
        let begin = std::process::id() as usize * 101 % ports.len();
        let mut ports = ports.iter().cycle().skip(begin).take(ports.len());
        ports.find_map(|port| FreePort::claim(*port)).unwrap()
    }

    fn claim(number: u16) -> Option<FreePort> {
        let name = Name::from_abstract_name(format!("edge-metrics-test-port-{number}")).unwrap();
        let claim = UnixListener::bind_addr(&name).ok()?;
        let everywhere = (Ipv4Addr::UNSPECIFIED, number);
        let is_free = TcpListener::bind(everywhere).is_ok() && UdpSocket::bind(everywhere).is_ok();
        is_free.then_some(FreePort {
            number,
            _claim: claim,
        })
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// The kernel's ephemeral range: its first and last port.
fn chosen_from() -> (u16, u16) {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.unwrap_or_default();
    let mut ends = range.split_whitespace().flat_map(str::parse);
    match (ends.next(), ends.next()) {
        (Some(first), Some(last)) => (first, last),
        _ => (32_768, 60_999),
    }
}
