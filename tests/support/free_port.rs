//! A port that is known before anybody listens on it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as Name, UnixListener};

/// A port on which nobody listens, by TCP or UDP, until the test does; and again after that.
///
/// One that the kernel chose and got back may be anybody's the next moment: each connection is given one. So it is one
/// that the kernel does not choose from, and no other test takes it for as long as this lives.
pub struct FreePort {
    number: u16,
    /// A name that all tests of this machine (of its network namespace) see, and that is gone with the process.
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
        // Not all begin with the same.
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

/// The first and the last of the ports that the kernel chooses from.
fn chosen_from() -> (u16, u16) {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.unwrap_or_default();
    let mut ends = range.split_whitespace().flat_map(str::parse);
    match (ends.next(), ends.next()) {
        (Some(first), Some(last)) => (first, last),
        _ => (32_768, 60_999),
    }
}
