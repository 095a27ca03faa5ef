//! Limits the bytes of large responses that have not been sent yet, in all and to one peer: a client that requests much on
//! many connections and reads nothing would otherwise have them all held in memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::address::peer_network;
use crate::sys::lock;

/// The bytes of responses that are being sent.
#[derive(Debug)]
pub struct InFlight {
    max_per_peer: usize,
    max: usize,
    /// The reserved bytes by peer. A peer without any is not in the map.
    reserved: Mutex<HashMap<IpAddr, usize>>,
}

/// Bytes that are reserved for one response. Dropping it frees them.
#[derive(Debug)]
pub struct Reservation {
    in_flight: Arc<InFlight>,
    peer: IpAddr,
    bytes: usize,
}

impl InFlight {
    /// The limits in bytes, for one peer and in all.
    pub fn new(max_per_peer: usize, max: usize) -> InFlight {
        InFlight {
            max_per_peer,
            max,
            reserved: Mutex::default(),
        }
    }

    /// Reserves what is left for this peer, up to `max` bytes. `None`: less than `min` is left. While nothing is reserved,
    /// `min` may exceed the limits.
    pub fn reserve(self: &Arc<Self>, peer: IpAddr, min: usize, max: usize) -> Option<Reservation> {
        let peer = peer_network(peer);
        let mut reserved = lock::lock(&self.reserved);
        let total: usize = reserved.values().sum();
        let of_peer = reserved.get(&peer).copied().unwrap_or(0);
        let left = (self.max_per_peer.saturating_sub(of_peer)).min(self.max.saturating_sub(total));
        let bytes = match left >= min {
            true => left.min(max),
            false if total == 0 => min,
            false => return None,
        };
        *reserved.entry(peer).or_default() += bytes;
        Some(Reservation {
            in_flight: Arc::clone(self),
            peer,
            bytes,
        })
    }
}

impl Reservation {
    /// How many bytes are reserved.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the reservation to the bytes that the response really has.
    pub fn resize(&mut self, bytes: usize) {
        let mut reserved = lock::lock(&self.in_flight.reserved);
        let of_peer = reserved.entry(self.peer).or_default();
        *of_peer = of_peer.saturating_sub(self.bytes).saturating_add(bytes);
        if *of_peer == 0 {
            reserved.remove(&self.peer);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(of: &Arc<InFlight>, peer: &str, min: usize, max: usize) -> Option<Reservation> {
        of.reserve(peer.parse().unwrap(), min, max)
    }

    #[test]
    fn bytes_are_limited_per_peer_and_in_all() {
        let all = Arc::new(InFlight::new(100, 250));
        let mut first = reserve(&all, "192.0.2.1", 10, 80).unwrap();
        assert_eq!(first.bytes(), 80);
        let second = reserve(&all, "::ffff:192.0.2.1", 10, 80).unwrap();
        assert_eq!(second.bytes(), 20, "what is left for the peer");
        assert!(reserve(&all, "192.0.2.1", 10, 80).is_none());
        first.resize(30);
        assert_eq!(reserve(&all, "192.0.2.1", 10, 80).unwrap().bytes(), 50);
        let others = [("2001:db8::1", 100), ("192.0.2.2", 100)];
        let held = others.map(|(peer, bytes)| {
            let reservation = reserve(&all, peer, 10, 1000).unwrap();
            assert_eq!(reservation.bytes(), bytes);
            reservation
        });
        assert!(reserve(&all, "2001:db8::2", 1, 1).is_none(), "the same /64");
        assert!(
            reserve(&all, "192.0.2.3", 10, 1000).is_none(),
            "everything is reserved"
        );
        drop((first, second, held));
        assert!(lock::lock(&all.reserved).is_empty());
        // A response larger than all limits is sent alone.
        let large = reserve(&all, "192.0.2.1", 1000, 1000).unwrap();
        assert!(reserve(&all, "192.0.2.2", 1, 1).is_none());
        drop(large);
        assert_eq!(reserve(&all, "192.0.2.2", 1, 1).unwrap().bytes(), 1);
    }
}
