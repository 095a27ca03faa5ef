//! Sends a question on every interface, and receives the answers until a deadline.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::message::{self, Kind, Name, Response, MAX_MESSAGE};
use crate::sys::datagram::{multicast_socket, send_on};
use crate::sys::interfaces::{interfaces, Interface};
use crate::sys::reason;

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// When a question is sent again, since a datagram can be lost.
const REPEATS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];
/// Datagrams of one exchange beyond these are not read.
const MAX_DATAGRAMS: usize = 2048;

/// Where questions are sent.
#[derive(Debug, Clone)]
pub struct Network {
    /// The interfaces to send on.
    interfaces: Vec<Interface>,
    /// The multicast groups; in tests a responder.
    groups: Vec<SocketAddr>,
}

impl Network {
    /// All interfaces with a network of their own: what cannot be sent on one of them is sent on the others. The error is for
    /// people.
    pub fn detect() -> Result<Network, String> {
        let interfaces = interfaces()
            .map_err(|error| format!("cannot list the network interfaces: {}", reason(&error)))?;
        if interfaces.is_empty() {
            return Err("no network interface is up".to_string());
        }
        let groups = vec![(GROUP_V4, PORT).into(), (GROUP_V6, PORT).into()];
        Ok(Network { interfaces, groups })
    }

    /// A single responder on this machine.
    #[cfg(test)]
    pub(super) fn responder(address: SocketAddr) -> Network {
        let loopback = Interface {
            name: "lo".to_string(),
            index: 0,
            networks: vec![(
                Ipv4Addr::LOCALHOST.into(),
                Ipv4Addr::new(255, 0, 0, 0).into(),
            )],
        };
        Network {
            interfaces: vec![loopback],
            groups: vec![address],
        }
    }

    /// The names of the interfaces, for people.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.interfaces.iter().map(|it| it.name.as_str()).collect();
        match names.get(..4) {
            Some(first) if names.len() > 5 => {
                format!("{} and {} more", first.join(", "), names.len() - 4)
            }
            _ => names.join(", "),
        }
    }

    /// Whether somebody at this address is on this machine or one of its networks (RFC 6762, section 11: others are not
    /// believed).
    fn is_on_link(&self, peer: SocketAddr) -> bool {
        let (ip, mut interfaces) = (peer.ip(), self.interfaces.iter());
        ip.is_loopback() || interfaces.any(|interface| interface.is_on_link(ip))
    }

    /// Whether answers come from this port.
    fn is_port(&self, port: u16) -> bool {
        self.groups.iter().any(|group| group.port() == port)
    }
}

/// The sockets of one exchange.
pub(super) struct Exchange<'a> {
    network: &'a Network,
    /// Of IPv4 and of IPv6.
    sockets: Vec<(bool, UdpSocket)>,
    id: u16,
    datagrams: usize,
}

impl<'a> Exchange<'a> {
    /// Opens the sockets. The error is for people.
    pub(super) fn open(network: &'a Network) -> Result<Exchange<'a>, String> {
        let mut sockets = Vec::new();
        let mut failed = None;
        for ipv6 in [false, true] {
            let mut groups = network.groups.iter();
            if !groups.any(|group| group.is_ipv6() == ipv6)
                || !network.interfaces.iter().any(|it| it.has(ipv6))
            {
                continue;
            }
            let opened = multicast_socket(ipv6);
            match opened.and_then(|socket| socket.set_nonblocking(true).map(|()| socket)) {
                Ok(socket) => sockets.push((ipv6, socket)),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if sockets.is_empty() => {
                Err(format!("cannot open a UDP socket: {}", reason(&error)))
            }
            _ => Ok(Exchange {
                network,
                sockets,
                id: random(),
                datagrams: 0,
            }),
        }
    }

    /// Asks, and gives each response to `take` with the address of its sender, until `limit` is over or `take` returns the moment
    /// to end at. The error, for people, is that the question could be sent nowhere.
    pub(super) fn ask(
        &mut self,
        questions: &[(&Name, Kind)],
        limit: Duration,
        mut take: impl FnMut(Response, SocketAddr) -> Option<Instant>,
    ) -> Result<(), String> {
        let query = message::query(self.id, questions);
        let start = Instant::now();
        let mut end = start + limit;
        self.send(&query)?;
        let mut repeats = REPEATS.iter().map(|after| start + *after);
        let mut next = repeats.next();
        let mut buffer = vec![0; MAX_MESSAGE + 1];
        loop {
            let now = Instant::now();
            if now >= end || self.datagrams >= MAX_DATAGRAMS {
                return Ok(());
            }
            if next.is_some_and(|next| now >= next) {
                // It was sent before.
                let _ = self.send(&query);
                next = repeats.next();
            }
            self.wait(next.map_or(end, |next| next.min(end)));
            while let Some((length, peer)) = self.receive(&mut buffer) {
                let message = buffer.get(..length).unwrap_or_default();
                if let Some(response) = self.response(message, peer) {
                    end = take(response, peer).map_or(end, |sooner| sooner.min(end));
                }
            }
        }
    }

    /// A response that can be an answer: from a responder of this network, to this query. Some responders leave out the id.
    fn response(&self, message: &[u8], peer: SocketAddr) -> Option<Response> {
        let is_responder = self.network.is_port(peer.port()) && self.network.is_on_link(peer);
        let response = is_responder.then(|| Response::parse(message)).flatten()?;
        (response.id == self.id || response.id == 0).then_some(response)
    }

    /// Sends the query on every interface.
    fn send(&self, query: &[u8]) -> Result<(), String> {
        let mut failed = None;
        let mut is_sent = false;
        for (ipv6, socket) in &self.sockets {
            let interfaces = self.network.interfaces.iter().filter(|it| it.has(*ipv6));
            for interface in interfaces {
                let groups = self.network.groups.iter();
                for group in groups.filter(|group| group.is_ipv6() == *ipv6) {
                    let to = match group {
                        SocketAddr::V6(v6) => {
                            SocketAddrV6::new(*v6.ip(), v6.port(), 0, interface.index).into()
                        }
                        v4 => *v4,
                    };
                    match send_on(socket, interface.index, to, query) {
                        Ok(()) => is_sent = true,
                        Err(error) => failed = Some((&interface.name, error)),
                    }
                }
            }
        }
        match (is_sent, failed) {
            (true, _) => Ok(()),
            (false, Some((name, error))) => {
                Err(format!("cannot send on {name}: {}", reason(&error)))
            }
            (false, None) => Err("no network interface has an address".to_string()),
        }
    }

    /// Waits for a datagram.
    fn wait(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let milliseconds = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        let sockets = self.sockets.iter();
        let mut wanted: Vec<_> = sockets
            .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        // A failure is like nobody's answer: the loop ends at its deadline.
        if poll(&mut wanted, PollTimeout::from(milliseconds)).is_err() {
            std::thread::sleep(left.min(Duration::from_millis(10)));
        }
    }

    /// The next datagram that has come.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        if self.datagrams >= MAX_DATAGRAMS {
            return None;
        }
        for (_, socket) in &self.sockets {
            match socket.recv_from(buffer) {
                Ok(received) => {
                    self.datagrams += 1;
                    return Some(received);
                }
                // As where nobody listens at a port: an answer as well, but not one of a responder.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.datagrams += 1,
                Err(_) => {}
            }
        }
        None
    }
}

/// A random number. The standard library takes its hash keys from the system's.
fn random() -> u16 {
    use std::hash::BuildHasher;
    std::collections::hash_map::RandomState::new().hash_one(0u8) as u16
}
