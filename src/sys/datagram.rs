//! UDP sockets that are bound to all addresses, and replies from the address that a request was sent to.
//!
//! A reply from a socket that is bound to all addresses has the source address of the route to the peer. On a board with
//! several addresses that may not be the one that the peer has sent to, and the peer would drop the reply.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc::{in6_pktinfo, in_addr, in_pktinfo};
use nix::sys::socket::{
    self, sockopt, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag,
    SockType, SockaddrIn, SockaddrIn6, SockaddrStorage,
};

/// Binds a non-blocking socket to this port, on one address or, with `None`, on all addresses of IPv6 and IPv4 (of IPv4
/// alone where the kernel has no IPv6).
pub fn bind(host: Option<IpAddr>, port: u16) -> io::Result<UdpSocket> {
    let socket = match host.filter(|host| *host != Ipv6Addr::UNSPECIFIED) {
        Some(host) => UdpSocket::bind((host, port))?,
        None => match bind_dual_stack(port) {
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EPROTONOSUPPORT) => {
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?
            }
            other => other?,
        },
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_dual_stack(port: u16) -> nix::Result<UdpSocket> {
    let kind = (AddressFamily::Inet6, SockType::Datagram);
    let socket = socket::socket(kind.0, kind.1, SockFlag::SOCK_CLOEXEC, None)?;
    socket::setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(any))?;
    Ok(UdpSocket::from(socket))
}

/// Has [`receive`] get the destination address of each datagram.
pub fn enable_packet_info(socket: &UdpSocket) -> io::Result<()> {
    match socket.local_addr()? {
        SocketAddr::V4(_) => socket::setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => socket::setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// The source and the destination of a received datagram.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    peer: SockaddrStorage,
    to_v4: Option<in_pktinfo>,
    to_v6: Option<in6_pktinfo>,
}

/// Receives the next datagram. Its content is dropped.
pub fn receive(socket: &UdpSocket) -> io::Result<Sender> {
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(in_pktinfo, in6_pktinfo);
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = socket::recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut buffers,
        Some(&mut space),
        flags,
    )?;
    let mut sender = Sender {
        peer: received.address.ok_or(Errno::EDESTADDRREQ)?,
        to_v4: None,
        to_v6: None,
    };
    for message in received.cmsgs()? {
        match message {
            ControlMessageOwned::Ipv4PacketInfo(to) => sender.to_v4 = Some(to),
            ControlMessageOwned::Ipv6PacketInfo(to) => sender.to_v6 = Some(to),
            _ => {}
        }
    }
    Ok(sender)
}

/// Sends a datagram to the sender, from the address that the sender has sent to.
pub fn reply(socket: &UdpSocket, sender: &Sender, datagram: &[u8]) -> io::Result<()> {
    // The route chooses the interface: only the source address matters to the peer.
    let from_v4 = sender.to_v4.map(|to| in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: to.ipi_spec_dst,
        ipi_addr: to.ipi_addr,
    });
    let from_v6 = sender.to_v6.map(|to| in6_pktinfo {
        ipi6_ifindex: link_local_interface(to),
        ..to
    });
    let control: Vec<_> = from_v4
        .iter()
        .map(ControlMessage::Ipv4PacketInfo)
        .chain(from_v6.iter().map(ControlMessage::Ipv6PacketInfo))
        .collect();
    socket::sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(datagram)],
        &control,
        MsgFlags::MSG_DONTWAIT,
        Some(&sender.peer),
    )?;
    Ok(())
}

/// Opens a socket for requests to multicast groups of IPv4 or IPv6. Hosts more than one hop away do not get them, but some of those
/// that do get them check that they were sent with 255 hops to live (RFC 6762, section 11).
pub fn multicast_socket(ipv6: bool) -> io::Result<UdpSocket> {
    if ipv6 {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket::setsockopt(&socket, sockopt::Ipv6MulticastHops, &255)?;
        return Ok(socket);
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_multicast_ttl_v4(255)?;
    Ok(socket)
}

/// Sends a datagram on this interface, whatever the routes are. An address of IPv6 names the interface itself, as its scope.
pub fn send_on(socket: &UdpSocket, interface: u32, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let SocketAddr::V4(v4) = to else {
        return socket.send_to(bytes, to).map(|_| ());
    };
    // An unspecified source: the kernel chooses one of the interface.
    let from = in_pktinfo {
        ipi_ifindex: i32::try_from(interface).unwrap_or(0),
        ipi_spec_dst: in_addr { s_addr: 0 },
        ipi_addr: in_addr { s_addr: 0 },
    };
    socket::sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::Ipv4PacketInfo(&from)],
        MsgFlags::MSG_DONTWAIT,
        Some(&SockaddrIn::from(v4)),
    )?;
    Ok(())
}

/// The interface of a link-local address, which is ambiguous without it; 0 for other addresses.
fn link_local_interface(to: in6_pktinfo) -> u32 {
    let address = Ipv6Addr::from(to.ipi6_addr.s6_addr);
    if address.is_unicast_link_local() {
        to.ipi6_ifindex
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ask(server: &UdpSocket, to: IpAddr) -> SocketAddr {
        let any: IpAddr = match to {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let client = UdpSocket::bind((any, 0)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let port = server.local_addr().unwrap().port();
        client.send_to(b"?", (to, port)).unwrap();
        let sender = loop {
            match receive(server) {
                Ok(sender) => break sender,
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        };
        reply(server, &sender, b"yes").unwrap();
        let mut buffer = [0; 8];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"yes");
        from
    }

    #[test]
    fn reply_comes_from_the_address_that_was_asked() {
        for host in [None, Some(Ipv4Addr::UNSPECIFIED.into())] {
            let server = bind(host, 0).unwrap();
            enable_packet_info(&server).unwrap();
            // Without the packet information, a reply to a request to 127.0.0.2 comes from 127.0.0.1.
            for to in [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::LOCALHOST] {
                assert_eq!(ask(&server, to.into()).ip(), IpAddr::from(to));
            }
        }
        let server = bind(None, 0).unwrap();
        enable_packet_info(&server).unwrap();
        if server.local_addr().unwrap().is_ipv6()
            && std::path::Path::new("/proc/net/if_inet6").exists()
        {
            let to = IpAddr::from(Ipv6Addr::LOCALHOST);
            assert_eq!(ask(&server, to).ip(), to);
        }
    }
}
