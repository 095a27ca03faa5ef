//! Multicast DNS as one-shot queries (RFC 6762, section 5.1): the address of `plug.local`, which no DNS server knows and musl's
//! resolver does not ask for, and the services that devices of the network announce ([`browse`]).
//!
//! A query goes to the multicast groups of IPv4 and IPv6 on every interface, from a port of its own, and asks for unicast
//! responses. So nothing has to listen at port 5353, where another program may, and nothing is received but answers.
//!
//! Whoever is on the network can answer, and answer wrongly: mDNS has no protection from that, so an answer is no proof that a
//! host is what it says. Responses are bounded in bytes, records, number and time, and come from the networks that were asked.

mod browse;
mod exchange;
pub mod message;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub use browse::{browse, Service};
pub use exchange::Network;

use exchange::Exchange;
use message::{Data, Kind, Name, Response};

use crate::sys::lock;

/// How long a look-up of one name takes at most.
pub const TIMEOUT: Duration = Duration::from_millis(2500);
/// How long further addresses are waited for after the first.
const FURTHER_ANSWERS: Duration = Duration::from_millis(100);
/// How long an address may be believed, whatever its record says.
const MAX_AGE: Duration = Duration::from_secs(120);
/// Names whose addresses are kept.
const MAX_KEPT: usize = 64;
/// Addresses of one name.
const MAX_ADDRESSES: usize = 8;

/// Whether a host name is looked up by mDNS: one label and `local`. Longer names below `local` are a DNS server's, where there are
/// any.
pub fn is_local(host: &str) -> bool {
    local_name(host).is_some()
}

/// The name of a host of this network.
fn local_name(host: &str) -> Option<Name> {
    let name = Name::parse(host.strip_suffix('.').unwrap_or(host))?;
    match name.labels() {
        [_, local] if local.eq_ignore_ascii_case("local") => Some(name),
        _ => None,
    }
}

/// Addresses of a name, with port 0, and until when they may be believed.
type Kept = (Vec<SocketAddr>, Instant);

/// What was found before, by the name in lower case.
static KEPT: Mutex<BTreeMap<String, Kept>> = Mutex::new(BTreeMap::new());

/// The socket addresses of a host of this network, IPv4 first. The error is for people.
pub fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let key = host.to_ascii_lowercase();
    let kept = lock::lock(&KEPT).get(&key).cloned();
    let found = match kept.filter(|(_, until)| *until > Instant::now()) {
        Some((addresses, _)) => addresses,
        None => {
            let network = Network::detect();
            let network = network.map_err(|why| format!("cannot look up {host} by mDNS: {why}"))?;
            let (addresses, ttl) = resolve(host, &network, TIMEOUT)?;
            keep(key, addresses.clone(), ttl);
            addresses
        }
    };
    let with_port = found.into_iter().map(|mut address| {
        address.set_port(port);
        address
    });
    Ok(with_port.collect())
}

/// Keeps what was found as long as its record says, within bounds.
fn keep(key: String, addresses: Vec<SocketAddr>, ttl: Duration) {
    let now = Instant::now();
    let mut kept = lock::lock(&KEPT);
    kept.retain(|_, (_, until)| *until > now);
    if kept.len() < MAX_KEPT && !ttl.is_zero() {
        kept.insert(key, (addresses, now + ttl.min(MAX_AGE)));
    }
}

/// Asks for the addresses of a host, with port 0, and how long they may be believed. The error is for people.
pub fn resolve(
    host: &str,
    network: &Network,
    limit: Duration,
) -> Result<(Vec<SocketAddr>, Duration), String> {
    let name = local_name(host).ok_or_else(|| format!("{host} is no name of mDNS"))?;
    let mut found = Vec::new();
    let mut ttl = MAX_AGE;
    let mut exchange = Exchange::open(network)?;
    let questions = [(&name, Kind::A), (&name, Kind::Aaaa)];
    let asked = exchange.ask(&questions, limit, |response, peer| {
        for (address, seconds) in addresses(&response, &name, peer) {
            if found.len() < MAX_ADDRESSES && !found.contains(&address) {
                found.push(address);
            }
            ttl = ttl.min(seconds);
        }
        (!found.is_empty()).then(|| Instant::now() + FURTHER_ANSWERS)
    });
    asked.map_err(|why| format!("cannot look up {host} by mDNS: {why}"))?;
    if found.is_empty() {
        return Err(format!(
            "nobody has answered to mDNS for {host} within {} s on {}",
            limit.as_secs_f64(),
            network.names()
        ));
    }
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok((found, ttl))
}

/// The addresses of `host` in a response, and how long each may be believed.
fn addresses<'a>(
    response: &'a Response,
    host: &'a Name,
    peer: SocketAddr,
) -> impl Iterator<Item = (SocketAddr, Duration)> + 'a {
    let records = response.records.iter();
    records.filter_map(move |record| match record.data {
        Data::Address(ip) if record.name == *host && !record.ttl.is_zero() => {
            Some((socket_address(ip, peer)?, record.ttl))
        }
        _ => None,
    })
}

/// An address that can be connected to, with port 0. A link-local address of IPv6 is one of the interface that the answer came by.
fn socket_address(ip: IpAddr, peer: SocketAddr) -> Option<SocketAddr> {
    let is_host = !ip.is_unspecified() && !ip.is_multicast();
    match (ip, peer) {
        _ if !is_host => None,
        (IpAddr::V6(v6), _) if !v6.is_unicast_link_local() => Some((v6, 0).into()),
        (IpAddr::V6(v6), SocketAddr::V6(peer)) => {
            Some(SocketAddrV6::new(v6, 0, 0, peer.scope_id()).into())
        }
        // Nobody says which interface that would be.
        (IpAddr::V6(_), SocketAddr::V4(_)) => None,
        (v4, _) => Some((v4, 0).into()),
    }
}
