//! Limits how often a peer may fail to log in.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::http::address::peer_network;
use crate::http::rate_limiter::take_one;
use crate::sys::lock::lock;

/// Failures of one peer at once.
const BURST: u32 = 10;
/// One more failure is allowed after this time. A slow board verifies a password in less.
const PERIOD: Duration = Duration::from_secs(2);
/// Peers that are remembered. Beyond that, the peer whose last failure is longest ago is forgotten.
const MAX_PEERS: usize = 256;

/// The recent failures of every peer.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// When all failures of a peer are forgiven.
    peers: Mutex<Vec<(IpAddr, Instant)>>,
}

impl Failures {
    /// Counts a login as a failure before it is verified. `Err`: the peer had too many failures, and how long to wait.
    pub(super) fn count(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let peer = peer_network(peer);
        let mut peers = lock(&self.peers);
        peers.retain(|(_, forgiven_at)| *forgiven_at > now);
        let known = peers.iter_mut().find(|(other, _)| *other == peer);
        let forgiven_at = known.as_ref().map_or(now, |(_, forgiven_at)| *forgiven_at);
        let next = take_one(forgiven_at, now, BURST, PERIOD)?;
        match known {
            Some((_, forgiven_at)) => *forgiven_at = next,
            None => {
                if peers.len() >= MAX_PEERS {
                    let oldest = (0..peers.len()).min_by_key(|&i| peers.get(i).map(|p| p.1));
                    peers.swap_remove(oldest.unwrap_or_default());
                }
                peers.push((peer, next));
            }
        }
        Ok(())
    }

    /// Takes back a failure that was counted: the login was right, or was not verified.
    pub(super) fn take_back(&self, peer: IpAddr) {
        let peer = peer_network(peer);
        let mut peers = lock(&self.peers);
        if let Some((_, forgiven_at)) = peers.iter_mut().find(|(other, _)| *other == peer) {
            *forgiven_at = forgiven_at.checked_sub(PERIOD).unwrap_or(*forgiven_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_of_failures_and_then_one_per_period() {
        let failures = Failures::default();
        let start = Instant::now();
        let at = |periods: u32| failures.count([192, 0, 2, 1].into(), start + PERIOD * periods);
        for _ in 0..BURST {
            assert_eq!(at(0), Ok(()));
        }
        assert_eq!(at(0), Err(PERIOD));
        assert_eq!((at(1), at(1)), (Ok(()), Err(PERIOD)));
        assert_eq!(failures.count([192, 0, 2, 2].into(), start), Ok(()));
        failures.take_back([192, 0, 2, 1].into());
        assert_eq!((at(1), at(1)), (Ok(()), Err(PERIOD)));
        for _ in 0..BURST {
            assert_eq!(at(100), Ok(()));
        }
        assert!(at(100).is_err());
    }

    #[test]
    fn ipv6_network_counts_as_one_peer_and_peers_are_bounded() {
        let failures = Failures::default();
        let now = Instant::now();
        let address = |host: u16| format!("2001:db8::{host:x}").parse().unwrap();
        let taken = (0..100).filter(|&n| failures.count(address(n), now).is_ok());
        assert_eq!(taken.count(), BURST as usize);
        for n in 0..2000_u32 {
            let peer = IpAddr::from(n.to_be_bytes());
            assert!(failures
                .count(peer, now + Duration::from_micros(n.into()))
                .is_ok());
        }
        assert_eq!(lock(&failures.peers).len(), MAX_PEERS);
    }
}
