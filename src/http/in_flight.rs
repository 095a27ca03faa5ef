//! How many bytes of large answers may be on their way at once, in all and to one peer: whoever asks for much on many
//! connections and reads none of it would have us hold it all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use crate::sys::lock;

/// The bytes that are on their way.
#[derive(Debug)]
pub struct InFlight {
    per_peer: usize,
    in_all: usize,
    /// By peer; who has nothing is not among them.
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A part of them, for one answer. It is given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<InFlight>,
    peer: IpAddr,
    bytes: usize,
}

impl InFlight {
    /// So many bytes for one peer, and in all.
    pub fn new(per_peer: usize, in_all: usize) -> InFlight {
        InFlight {
            per_peer,
            in_all,
            taken: Mutex::default(),
        }
    }

    /// As many bytes as there are left for this peer, up to `most`. `None`: there are fewer than `least`. While nothing is
    /// on its way `least` may be more than there can be.
    pub fn share(self: &Arc<Self>, peer: IpAddr, least: usize, most: usize) -> Option<Share> {
        let peer = network(peer);
        let mut taken = lock::lock(&self.taken);
        let in_all: usize = taken.values().sum();
        let own = taken.get(&peer).copied().unwrap_or(0);
        let left = (self.per_peer.saturating_sub(own)).min(self.in_all.saturating_sub(in_all));
        let bytes = match left >= least {
            true => left.min(most),
            false if in_all == 0 => least,
            false => return None,
        };
        *taken.entry(peer).or_default() += bytes;
        Some(Share {
            of: Arc::clone(self),
            peer,
            bytes,
        })
    }
}

impl Share {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many were needed in the end.
    pub fn settle(&mut self, bytes: usize) {
        let mut taken = lock::lock(&self.of.taken);
        let own = taken.entry(self.peer).or_default();
        *own = own.saturating_sub(self.bytes).saturating_add(bytes);
        if *own == 0 {
            taken.remove(&self.peer);
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(0);
    }
}

/// Who has one address of IPv6 has a network of them.
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(of: &Arc<InFlight>, peer: &str, least: usize, most: usize) -> Option<Share> {
        of.share(peer.parse().unwrap(), least, most)
    }

    #[test]
    fn one_peer_has_its_part_and_all_together_have_theirs() {
        let all = Arc::new(InFlight::new(100, 250));
        let mut first = share(&all, "192.0.2.1", 10, 80).unwrap();
        assert_eq!(first.bytes(), 80);
        let second = share(&all, "::ffff:192.0.2.1", 10, 80).unwrap();
        assert_eq!(second.bytes(), 20, "what is left of its part");
        assert!(share(&all, "192.0.2.1", 10, 80).is_none());
        first.settle(30);
        assert_eq!(share(&all, "192.0.2.1", 10, 80).unwrap().bytes(), 50);
        let others = [("2001:db8::1", 100), ("192.0.2.2", 100)];
        let held = others.map(|(peer, bytes)| {
            let share = share(&all, peer, 10, 1000).unwrap();
            assert_eq!(share.bytes(), bytes);
            share
        });
        assert!(share(&all, "2001:db8::2", 1, 1).is_none(), "the same /64");
        assert!(share(&all, "192.0.2.3", 10, 1000).is_none(), "all is taken");
        drop((first, second, held));
        assert!(lock::lock(&all.taken).is_empty());
        // What is larger than everything goes alone.
        let large = share(&all, "192.0.2.1", 1000, 1000).unwrap();
        assert!(share(&all, "192.0.2.2", 1, 1).is_none());
        drop(large);
        assert_eq!(share(&all, "192.0.2.2", 1, 1).unwrap().bytes(), 1);
    }
}
