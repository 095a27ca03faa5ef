//! Network addresses: binding a listen address, and telling peers apart.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{self, sockopt, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6};

use crate::sys::port_holder::{port_holder, PortHolder};

/// Connections that the kernel holds until they are accepted: as many as `net.core.somaxconn` allows. A client that finds the
/// backlog full tries again only after a second, so there is room for a burst (the standard library asks for 128). nix
/// checks a number against libc's SOMAXCONN, which is 128 in musl, and would refuse a larger one.
const BACKLOG: Backlog = Backlog::MAXALLOWABLE;

/// Why an address could not be bound.
#[derive(Debug)]
pub enum BindError {
    /// The text is not an address.
    Malformed {
        /// The address as configured.
        address: String,
    },
    /// The host name could not be looked up. A later look-up may succeed.
    Unresolved {
        /// The address as configured.
        address: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// No interface has the address: EADDRNOTAVAIL, or no such interface. One may have it later.
    NotUp {
        /// The address as configured.
        address: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel refused, and trying again would not help.
    Refused {
        /// The address as configured.
        address: String,
        /// The settings that the address comes from.
        chosen_by: &'static str,
        /// The process that has the port, if that is why and the process can be seen.
        holder: Option<PortHolder>,
        /// The kernel's error.
        source: io::Error,
    },
}

impl BindError {
    /// Whether the same call may succeed later by itself: the interface or the name is not up yet.
    pub fn may_come_up(&self) -> bool {
        matches!(self, BindError::NotUp { .. } | BindError::Unresolved { .. })
    }

    /// Whether another socket has the port.
    pub fn is_in_use(&self) -> bool {
        let BindError::Refused { source, .. } = self else {
            return false;
        };
        source.kind() == io::ErrorKind::AddrInUse
    }

    fn new(address: &str, chosen_by: &'static str, source: io::Error) -> Self {
        let address = address.to_owned();
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ENETDOWN) => {
                BindError::NotUp { address, source }
            }
            reason => BindError::Refused {
                holder: match reason {
                    Some(Errno::EADDRINUSE) => port_of(&address).and_then(port_holder),
                    _ => None,
                },
                address,
                chosen_by,
                source,
            },
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Malformed { address } => write!(
                f,
                "cannot listen on \"{address}\": not an address (host:port, :port, [::]:port or a port from 0 to 65535)"
            ),
            BindError::Unresolved { address, source } => write!(
                f,
                "cannot listen on {address}: the name cannot be looked up: {source} (an IP address needs no looking up)"
            ),
            BindError::NotUp { address, source } => write!(
                f,
                "cannot listen on {address}: {source} (no interface has this address, or not yet; \":port\" listens on all)"
            ),
            BindError::Refused {
                address,
                chosen_by,
                holder,
                source,
            } => {
                write!(f, "cannot listen on {address}: {source}")?;
                let (also, such_as) = (also_node_exporters(address), such_as(address));
                match (source.kind(), holder) {
                    (io::ErrorKind::AddrInUse, Some(holder)) => write!(
                        f,
                        " ({holder}, has the port{also}; {chosen_by} chooses another{such_as})",
                    ),
                    (io::ErrorKind::AddrInUse, None) => write!(
                        f,
                        " (another program, or another copy of this one, has the port{also}: `ss -ltnp` as root names it; \
                         {chosen_by} chooses another{such_as})",
                    ),
                    (io::ErrorKind::PermissionDenied, _) => write!(
                        f,
                        " (ports below 1024 need root, CAP_NET_BIND_SERVICE or a systemd socket; \
                         {chosen_by} chooses another)",
                    ),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// Both exporters have the same default port.
fn also_node_exporters(address: &str) -> &'static str {
    match port_of(address) {
        Some(9100) => "; 9100 is node_exporter's, too",
        _ => "",
    }
}

/// An example of another port, with which 9101, the management port, stays free.
fn such_as(address: &str) -> String {
    let other = port_of(address).and_then(|port| port.checked_add(10));
    other.map_or_else(String::new, |port| format!(", such as :{port}"))
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BindError::Malformed { .. } => None,
            BindError::Unresolved { source, .. }
            | BindError::NotUp { source, .. }
            | BindError::Refused { source, .. } => Some(source),
        }
    }
}

/// Binds `host:port`, `:port`, `[::]:port` or `port`, and listens. With no host or `[::]`, one socket accepts IPv6 and IPv4,
/// whatever `net.ipv6.bindv6only` says; with no host on a kernel without IPv6, IPv4 alone. `chosen_by` is the settings that
/// the address comes from, for the error.
pub fn bind(address: &str, chosen_by: &'static str) -> Result<TcpListener, BindError> {
    let listener = bind_one(address, chosen_by)?;
    // On a socket that listens already, this only changes the backlog.
    let _ = socket::listen(&listener, BACKLOG);
    Ok(listener)
}

fn bind_one(address: &str, chosen_by: &'static str) -> Result<TcpListener, BindError> {
    let (host, port) = split(address).ok_or_else(|| BindError::Malformed {
        address: address.to_owned(),
    })?;
    let failed = |source| BindError::new(address, chosen_by, source);
    if host.is_empty() {
        return match bind_dual_stack(port) {
            // No IPv6 in this kernel, or switched off for every interface.
            Err(e)
                if matches!(
                    e.raw_os_error().map(Errno::from_raw),
                    Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EPROTONOSUPPORT)
                ) =>
            {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(failed)
            }
            other => other.map_err(failed),
        };
    }
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|source| BindError::Unresolved {
            address: address.to_owned(),
            source,
        })?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in found {
        let bound = match candidate {
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => bind_dual_stack(port),
            other => TcpListener::bind(other),
        };
        match bound {
            Ok(listener) => return Ok(listener),
            Err(e) => last = e,
        }
    }
    Err(failed(last))
}

/// Host and port as in a URL: an IPv6 address is put in brackets (RFC 3986, 3.2.2).
pub fn authority(host: &str, port: Option<u16>) -> String {
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_string(),
    };
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// The port of an address that [`bind`] accepts.
pub fn port_of(address: &str) -> Option<u16> {
    split(address).map(|(_, port)| port)
}

/// Host (empty for all) and port.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None => ("", address),
    };
    let host = match host.strip_prefix('[').map(|h| h.strip_suffix(']')) {
        Some(inner) => inner.filter(|h| h.contains(':'))?,
        // An IPv6 address without brackets: where its port begins is ambiguous.
        None if host.contains(':') => return None,
        None => host,
    };
    // `parse` would accept a sign.
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return None;
    }
    Some((host, port.parse().ok()?))
}

fn bind_dual_stack(port: u16) -> io::Result<TcpListener> {
    let socket = socket::socket(
        AddressFamily::Inet6,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    socket::setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    let any = std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(any))?;
    socket::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// The address that identifies a peer: an IPv4 client of a dual-stack socket is the same as one of an IPv4 socket.
pub(super) fn peer_key(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

/// The part of a peer's address that it cannot choose: a host with one IPv6 address has all of its /64 network (RFC 4291,
/// 2.5.4).
pub fn peer_network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

/// Parses an IP address of a single host: not an unspecified, multicast or broadcast address, however it is written (RFC 6890; the ways to write an IPv4 address as an IPv6 one: RFC 4291, 2.5.5, RFC 6052,
/// 2.1, and RFC 3056, 2).
pub fn host_address(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok()?.to_canonical();
    let is_host = |v4: Ipv4Addr| {
        let [first, ..] = v4.octets();
        first != 0 && !v4.is_multicast() && !v4.is_broadcast()
    };
    let is_host = match address {
        IpAddr::V4(v4) => is_host(v4),
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0, ..] => v6.is_loopback(),
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                is_host(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
            }
            _ => !v6.is_multicast(),
        },
    };
    is_host.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    const SETTING: &str = "--web.listen-address";

    #[test]
    fn addresses_are_split_into_host_and_port() {
        let good = [
            ("9100", ("", 9100)),
            (":9100", ("", 9100)),
            ("0.0.0.0:0", ("0.0.0.0", 0)),
            ("localhost:80", ("localhost", 80)),
            ("[::]:9100", ("::", 9100)),
            ("[fe80::1%eth0]:9100", ("fe80::1%eth0", 9100)),
        ];
        for (text, parts) in good {
            assert_eq!(split(text), Some(parts), "{text}");
        }
        let bad = [
            "",
            ":",
            "localhost",
            "localhost:",
            "::1:9100",
            "[::1]",
            "[::1",
            "[]:1",
            "[a]:1",
            "a:65536",
            "a:-1",
            "a:+1",
            "a: 1",
            "a b:1",
            "http://a:1",
            "a:1/x",
            "99999",
        ];
        for text in bad {
            assert_eq!(split(text), None, "{text}");
            let error = bind(text, SETTING).unwrap_err();
            assert!(!error.may_come_up());
            assert!(error.to_string().contains("host:port"), "{error}");
        }
    }

    #[test]
    fn host_addresses_are_those_of_one_host() {
        for (text, canonical) in [
            ("192.0.2.1", "192.0.2.1"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::FFFF:C000:201", "192.0.2.1"),
            ("fe80::1", "fe80::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("64:ff9b::192.0.2.1", "64:ff9b::c000:201"),
            ("2002:c000:201::1", "2002:c000:201::1"),
        ] {
            assert_eq!(
                host_address(text),
                Some(canonical.parse().unwrap()),
                "{text}"
            );
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "::0.0.0.0",
            "::192.0.2.1",
            "::255.255.255.255",
            "::ffff:0.0.0.0",
            "::ffff:0:0",
            "0:0:0:0:0:FFFF:0:0",
            "::ffff:224.0.0.1",
            "::ffff:255.255.255.255",
            "ff02::1",
            "64:ff9b::",
            "64:ff9b::255.255.255.255",
            "2002::1",
            "2002:e000:1::1",
            "",
            "board",
            "192.0.2",
            "192.0.2.1:80",
            "[::1]",
            "fe80::1%eth0",
            " 192.0.2.1",
        ] {
            assert_eq!(host_address(text), None, "{text}");
        }
    }

    #[test]
    fn without_a_host_both_families_connect() {
        let listener = bind(":0", SETTING).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if listener.local_addr().unwrap().is_ipv6() {
            if let Err(e) = TcpStream::connect((Ipv6Addr::LOCALHOST, port)) {
                assert_eq!(e.kind(), io::ErrorKind::AddrNotAvailable, "{e}");
            }
        }
    }

    #[test]
    fn errors_name_the_address_and_the_setting() {
        let taken = bind("127.0.0.1:0", SETTING).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = bind(&address, SETTING).unwrap_err();
        assert!(!error.may_come_up());
        let text = error.to_string();
        assert!(
            text.contains(&address) && text.contains("--web.listen-address"),
            "{text}"
        );
        let own = format!("process {}, has the port", std::process::id());
        assert!(text.contains(&own), "{text}");
        // TEST-NET-1 (RFC 5737): on no interface.
        let error = bind("192.0.2.1:0", SETTING).unwrap_err();
        assert!(error.may_come_up(), "{error}");
        assert!(error.to_string().contains("192.0.2.1:0"), "{error}");
    }

    #[test]
    fn error_of_a_port_in_use_names_another() {
        let text = |address: &str, holder: Option<PortHolder>| {
            let error = BindError::Refused {
                address: address.into(),
                chosen_by: SETTING,
                holder,
                source: io::Error::from(io::ErrorKind::AddrInUse),
            };
            error.to_string()
        };
        let unseen = text(":9100", None);
        assert!(
            unseen.ends_with(
                "has the port; 9100 is node_exporter's, too: `ss -ltnp` as root names it; \
                 --web.listen-address chooses another, such as :9110)"
            ),
            "{unseen}"
        );
        let last = text("[::]:65535", None);
        assert!(
            last.ends_with(
                "has the port: `ss -ltnp` as root names it; --web.listen-address chooses another)"
            ),
            "{last}"
        );
        let seen = text(
            ":9100",
            Some(PortHolder {
                name: "node_exporter".into(),
                pid: 7,
            }),
        );
        assert!(
            seen.ends_with(
                "(node_exporter, process 7, has the port; 9100 is node_exporter's, too; \
                 --web.listen-address chooses another, such as :9110)"
            ),
            "{seen}"
        );
    }

    #[test]
    fn port_can_be_bound_again_at_once() {
        let listener = bind("127.0.0.1:0", SETTING).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        drop(listener.accept().unwrap());
        drop((listener, client));
        bind(&address.to_string(), SETTING).unwrap();
    }
}
