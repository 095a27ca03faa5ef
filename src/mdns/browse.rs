//! The services that devices of the network announce (RFC 6763).

use std::net::SocketAddr;
use std::time::Duration;

use super::exchange::{Exchange, Network};
use super::message::{Data, Kind, Name, Record, Response};
use super::socket_address;

/// How long instances are waited for, and then what was not said with them.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(2)];
/// Instances beyond these are left out.
pub(super) const MAX_SERVICES: usize = 256;
/// Records that are kept beside the instances: host and port, addresses and text of each.
const MAX_KEPT: usize = 4 * MAX_SERVICES;
/// Questions in one query, so that it fits into a packet.
const MAX_QUESTIONS: usize = 8;

/// An instance of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// `_http._tcp`
    pub kind: String,
    /// The instance's name, any text.
    pub instance: String,
    /// Its host, `plug.local`, and its port, if it says so.
    pub host: Option<(String, u16)>,
    /// The host's addresses, with port 0.
    pub addresses: Vec<SocketAddr>,
    /// What else it says: keys and values.
    pub text: Vec<(String, String)>,
}

impl Service {
    /// The value of a key of its text.
    pub fn text(&self, key: &str) -> Option<&str> {
        let mut pairs = self.text.iter();
        let found = pairs.find(|(known, _)| known.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.as_str())
    }
}

/// The instances of these services (`_http._tcp`) on the network, and whether there are more than are looked at. The error is for
/// people.
pub fn browse(kinds: &[&str], network: &Network) -> Result<(Vec<Service>, bool), String> {
    browse_for(kinds, network, TIMEOUTS)
}

pub(super) fn browse_for(
    kinds: &[&str],
    network: &Network,
    [instances, rest]: [Duration; 2],
) -> Result<(Vec<Service>, bool), String> {
    let name = |kind: &&str| Name::parse(&format!("{kind}.local"));
    let kinds: Vec<_> = kinds.iter().filter_map(name).collect();
    let mut known = Known::default();
    let mut exchange = Exchange::open(network)?;
    let questions: Vec<_> = kinds.iter().map(|kind| (kind, Kind::Pointer)).collect();
    exchange.ask(&questions, instances, |response, peer| {
        known.take(&kinds, response, peer);
        None
    })?;
    let missing = known.missing();
    let queries: Vec<_> = missing.chunks(MAX_QUESTIONS).collect();
    for questions in &queries {
        let questions: Vec<_> = questions.iter().map(|(name, kind)| (name, *kind)).collect();
        // All queries together take as long as one.
        let limit = rest / u32::try_from(queries.len()).unwrap_or(1);
        exchange.ask(&questions, limit, |response, peer| {
            known.take(&kinds, response, peer);
            None
        })?;
    }
    Ok((known.services(), known.has_more))
}

/// What was said.
#[derive(Default)]
struct Known {
    /// A service and an instance of it.
    instances: Vec<(Name, Name)>,
    /// What was said of instances and hosts, and by whom.
    records: Vec<(Record, SocketAddr)>,
    has_more: bool,
}

impl Known {
    /// Takes what a response says about these services.
    fn take(&mut self, kinds: &[Name], response: Response, peer: SocketAddr) {
        for record in response.records {
            if record.ttl.is_zero() {
                continue;
            }
            match &record.data {
                Data::Pointer(instance) => {
                    let is_of = instance.before(&record.name).is_some();
                    if is_of && kinds.contains(&record.name) {
                        self.add(record.name.clone(), instance.clone());
                    }
                }
                _ if self.records.len() >= MAX_KEPT => self.has_more = true,
                _ => {
                    let is_known = |(known, _): &(Record, SocketAddr)| {
                        known.name == record.name && known.data == record.data
                    };
                    if !self.records.iter().any(is_known) {
                        self.records.push((record, peer));
                    }
                }
            }
        }
    }

    fn add(&mut self, kind: Name, instance: Name) {
        if self.instances.iter().any(|(_, known)| *known == instance) {
            return;
        }
        match self.instances.len() < MAX_SERVICES {
            true => self.instances.push((kind, instance)),
            false => self.has_more = true,
        }
    }

    fn data<'a, 'n>(
        &'a self,
        name: &'n Name,
    ) -> impl Iterator<Item = (&'a Data, SocketAddr)> + use<'a, 'n> {
        let records = self.records.iter();
        let records = records.filter(move |(record, _)| record.name == *name);
        records.map(|(record, peer)| (&record.data, *peer))
    }

    fn host(&self, instance: &Name) -> Option<(&Name, u16)> {
        self.data(instance).find_map(|(data, _)| match data {
            Data::Service { port, host } => Some((host, *port)),
            _ => None,
        })
    }

    fn addresses(&self, host: &Name) -> Vec<SocketAddr> {
        let found = self.data(host).filter_map(|(data, peer)| match data {
            Data::Address(ip) => socket_address(*ip, peer),
            _ => None,
        });
        let mut found: Vec<_> = found.take(super::MAX_ADDRESSES).collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        found
    }

    fn text(&self, instance: &Name) -> Option<&[(String, String)]> {
        self.data(instance).find_map(|(data, _)| match data {
            Data::Text(pairs) => Some(pairs.as_slice()),
            _ => None,
        })
    }

    /// What has to be asked for, since it was not said with the instances.
    fn missing(&self) -> Vec<(Name, Kind)> {
        let mut missing = Vec::new();
        for (_, instance) in &self.instances {
            match self.host(instance) {
                None => missing.push((instance.clone(), Kind::Service)),
                Some((host, _)) if self.addresses(host).is_empty() => {
                    missing.push((host.clone(), Kind::A));
                    missing.push((host.clone(), Kind::Aaaa));
                }
                Some(_) => {}
            }
            if self.text(instance).is_none() {
                missing.push((instance.clone(), Kind::Text));
            }
        }
        missing
    }

    fn services(&self) -> Vec<Service> {
        let service = |(kind, instance): &(Name, Name)| {
            let host = self.host(instance);
            let labels = kind.labels();
            Service {
                kind: labels.get(..2).unwrap_or(labels).join("."),
                instance: instance.before(kind).unwrap_or_default(),
                addresses: host.map_or_else(Vec::new, |(host, _)| self.addresses(host)),
                host: host.map(|(host, port)| (host.to_string(), port)),
                text: self.text(instance).unwrap_or_default().to_vec(),
            }
        };
        self.instances.iter().map(service).collect()
    }
}
