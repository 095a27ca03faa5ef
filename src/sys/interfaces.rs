//! The network interfaces of this machine that have a network of their own, from procfs: no netlink is needed, which the service's
//! unit does not allow. (Linux, net/ipv4/fib_trie.c, net/ipv6/addrconf.c.)

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::net::if_::if_nametoindex;

/// Interfaces beyond these are left out: a host of containers has one for each of them.
const MAX_INTERFACES: usize = 32;
/// Networks of one interface that are looked at.
const MAX_NETWORKS: usize = 16;
/// Bytes of a file that are read. A router's table of routes can be long.
const MAX_FILE: u64 = 1024 * 1024;

/// Flags of a route: it is usable; it leads to a router; it leads nowhere. (include/uapi/linux/route.h.)
const UP: u32 = 1;
const GATEWAY: u32 = 2;
const REJECT: u32 = 0x200;
/// The scope of loopback addresses (include/net/ipv6.h: `IPV6_ADDR_LOOPBACK`).
const LOOPBACK: u32 = 0x10;

/// An interface that has networks of its own, on which hosts are reached without a router.
#[derive(Debug, Clone, PartialEq)]
pub struct Interface {
    /// `eth0`
    pub name: String,
    /// Its number, as a scope has it.
    pub index: u32,
    /// An address of each network, and its netmask.
    pub networks: Vec<(IpAddr, IpAddr)>,
}

impl Interface {
    /// Whether it has a network of IPv4, or of IPv6.
    pub fn has(&self, ipv6: bool) -> bool {
        self.networks.iter().any(|(ip, _)| ip.is_ipv6() == ipv6)
    }

    /// Whether this is an address of one of its networks.
    pub fn is_on_link(&self, peer: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|(own, mask)| in_network(peer, *own, *mask))
    }
}

/// Whether `peer` and `own` are the same where the mask has ones.
fn in_network(peer: IpAddr, own: IpAddr, mask: IpAddr) -> bool {
    match (peer, own, mask) {
        (IpAddr::V4(peer), IpAddr::V4(own), IpAddr::V4(mask)) => {
            (peer.to_bits() ^ own.to_bits()) & mask.to_bits() == 0
        }
        (IpAddr::V6(peer), IpAddr::V6(own), IpAddr::V6(mask)) => {
            (peer.to_bits() ^ own.to_bits()) & mask.to_bits() == 0
        }
        _ => false,
    }
}

/// The interfaces of this machine. Loopback is none, unless it has a route.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let routes = read("/proc/self/net/route")?;
    // There is no such file without IPv6.
    let addresses = read("/proc/self/net/if_inet6").unwrap_or_default();
    Ok(parse(&routes, &addresses, |name| if_nametoindex(name).ok()))
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The interfaces by the table of routes of IPv4 and the addresses of IPv6.
fn parse(routes: &str, addresses: &str, index: impl Fn(&str) -> Option<u32>) -> Vec<Interface> {
    let mut found: Vec<Interface> = Vec::new();
    let networks = routes.lines().filter_map(route);
    for (name, network) in networks.chain(addresses.lines().filter_map(address)) {
        let is_full = found.len() >= MAX_INTERFACES;
        let known = found.iter_mut().find(|interface| interface.name == name);
        match known {
            Some(known) if known.networks.len() < MAX_NETWORKS => known.networks.push(network),
            Some(_) => {}
            None if !is_full => {
                found.extend(index(name).map(|index| Interface {
                    name: name.to_string(),
                    index,
                    networks: vec![network],
                }));
            }
            None => {}
        }
    }
    found
}

/// The interface and the network of a route that needs no router: `eth0 0002A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0`. The numbers
/// are in the order of the machine's bytes. A route to everything is that of a line to a provider.
fn route(line: &str) -> Option<(&str, (IpAddr, IpAddr))> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let [name, to, _, flags, _, _, _, mask, ..] = words[..] else {
        return None;
    };
    let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
    let ip = |digits: &str| Some(Ipv4Addr::from(number(digits)?.to_ne_bytes()));
    let (to, mask, flags) = (ip(to)?, ip(mask)?, number(flags)?);
    let is_network = flags & (UP | GATEWAY | REJECT) == UP && !mask.is_unspecified();
    is_network.then_some((name, (to.into(), mask.into())))
}

/// The interface and the network of an address: `fe800000000000000000000000000001 02 40 20 80 eth0`.
fn address(line: &str) -> Option<(&str, (IpAddr, IpAddr))> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let [address, _, length, scope, _, name] = words[..] else {
        return None;
    };
    let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
    let address = u128::from_str_radix(address, 16).ok()?;
    let host_bits = 128u32.checked_sub(number(length)?)?;
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    let is_network = number(scope)? != LOOPBACK && mask != 0;
    let both = (Ipv6Addr::from(address).into(), Ipv6Addr::from(mask).into());
    is_network.then_some((name, both))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn peers_of_the_same_network_are_on_link() {
        for (peer, own, mask, wanted) in [
            ("192.168.1.7", "192.168.1.2", "255.255.255.0", true),
            ("192.168.2.7", "192.168.1.2", "255.255.255.0", false),
            ("fe80::7", "fe80::2", "ffff:ffff:ffff:ffff::", true),
            ("fd00::1:7", "fe80::2", "ffff:ffff:ffff:ffff::", false),
            ("::7", "192.168.1.2", "0.0.0.0", false),
        ] {
            assert_eq!(in_network(ip(peer), ip(own), ip(mask)), wanted, "{peer}");
        }
    }

    #[test]
    fn interfaces_are_those_with_a_network() {
        let number = |text: &str| {
            let octets = text.parse::<Ipv4Addr>().unwrap().octets();
            format!("{:08X}", u32::from_ne_bytes(octets))
        };
        let route = |name: &str, to: &str, gateway: &str, flags: u32, mask: &str| {
            let (to, gateway, mask) = (number(to), number(gateway), number(mask));
            format!("{name}\t{to}\t{gateway}\t{flags:04X}\t0\t0\t0\t{mask}\t0\t0\t0   \n")
        };
        let zero = "0.0.0.0";
        let routes = [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
                .to_string(),
            route("eth0", zero, "192.168.1.1", 3, zero),
            route("ppp0", zero, zero, 1, zero),
            route("eth0", "192.168.1.0", zero, 1, "255.255.255.0"),
            route("eth0", "10.0.0.0", "192.168.1.9", 3, "255.0.0.0"),
            route("*", "10.1.0.0", zero, 0x201, "255.255.0.0"),
            route("gone", "10.2.0.0", zero, 1, "255.255.0.0"),
        ];
        let addresses = "00000000000000000000000000000001 01 80 10 80       lo\n\
             fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n\
             fd000000000000000000000000000002 05 40 00 80    wlan0\nnonsense\n";
        let index = |name: &str| {
            ["", "eth0", "wlan0"]
                .iter()
                .position(|known| *known == name)
        };
        let found = parse(
            &routes.concat(),
            addresses,
            |name| Some(index(name)? as u32),
        );
        let mask = ip("ffff:ffff:ffff:ffff::");
        let interface = |name: &str, index, networks| Interface {
            name: name.to_string(),
            index,
            networks,
        };
        let v4 = (ip("192.168.1.0"), ip("255.255.255.0"));
        let link_local = (ip("fe80::fc:ff:fe00:1"), mask);
        assert_eq!(
            found,
            [
                interface("eth0", 1, vec![v4, link_local]),
                interface("wlan0", 2, vec![(ip("fd00::2"), mask)]),
            ]
        );
        assert!(found[0].has(false) && found[0].has(true) && !found[1].has(false));
        assert!(
            found[0].is_on_link(ip("192.168.1.200")) && !found[0].is_on_link(ip("192.168.2.1"))
        );
    }
}
