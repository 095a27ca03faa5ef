//! The addresses of the device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::channel::Channel;
use crate::http::client::addresses;
use crate::sources::io_log::{escape_word, Failure, IoLog, Response};
use crate::sources::Error;
use crate::sys::reason;

/// The device that messages are requested from. A name may have several addresses, which are tried in turn.
pub(super) struct Device {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    current: usize,
    io_log: IoLog,
}

impl Device {
    /// Looks the host up.
    pub(super) fn new(io_log: &IoLog, host: &str, port: u16) -> Result<Device, Error> {
        let mut device = Device {
            host: host.trim_matches(['[', ']']).to_string(),
            port,
            addresses: Vec::new(),
            current: 0,
            io_log: io_log.clone(),
        };
        device.addresses = device.look_up()?;
        Ok(device)
    }

    fn look_up(&self) -> Result<Vec<SocketAddr>, Error> {
        let failed = |why: &str| {
            Error::new(format!("cannot look up {}: {why}", self.host))
                .hint("udp.host names the device; an IP address needs no looking up")
        };
        let look_up = || -> Response {
            let found = addresses(&self.host, self.port).map_err(Failure::new)?;
            let found: Vec<_> = found.iter().map(SocketAddr::to_string).collect();
            Ok(found.join(" ").into_bytes())
        };
        let found = self
            .io_log
            .record_or_replay(&format!("address {}", escape_word(&self.host)), look_up);
        let found = found.map_err(|failure| failed(&failure.message))?;
        let addresses: Vec<SocketAddr> = String::from_utf8_lossy(&found)
            .split(' ')
            .filter_map(|address| address.parse().ok())
            .collect();
        if addresses.is_empty() {
            return Err(failed("it has no address"));
        }
        Ok(addresses)
    }

    /// The address in use.
    pub(super) fn address(&self) -> SocketAddr {
        let none = SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port));
        self.addresses.get(self.current).copied().unwrap_or(none)
    }

    /// Whether this is an address of the device's host.
    pub(super) fn is_host(&self, peer: IpAddr) -> bool {
        let mut ips = self.addresses.iter().map(|a| a.ip().to_canonical());
        ips.any(|ip| ip == peer.to_canonical())
    }

    /// Switches to the next address. After the last one, looks the name up again.
    pub(super) fn next(&mut self) {
        self.current += 1;
        if self.current >= self.addresses.len() {
            self.current = 0;
            if self.host.parse::<IpAddr>().is_err() {
                if let Ok(addresses) = self.look_up() {
                    self.addresses = addresses;
                }
            }
        }
    }

    /// A socket of the address's family, on a free port.
    fn socket(&self) -> Result<UdpSocket, Error> {
        let any: IpAddr = match self.address() {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0));
        socket
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(|e| Error::new(format!("cannot open a UDP socket: {}", reason(&e))))
    }

    /// A channel to the device, with a socket of its own. When replaying, without a socket.
    pub(super) fn channel(&self) -> Result<Channel, Error> {
        match self.io_log.replay() {
            None => Ok(Channel::new(&self.io_log, Some(self.socket()?))),
            Some(_) => Ok(Channel::new(&self.io_log, None)),
        }
    }
}

/// Whether a datagram from `peer` is from `address`: the same host and port. An IPv6 address's flow and scope say how the
/// host is reached, not which host it is, and are ignored.
pub(super) fn is_from(peer: SocketAddr, address: SocketAddr) -> bool {
    peer.port() == address.port() && peer.ip().to_canonical() == address.ip().to_canonical()
}
