//! How often a peer may show something wrong.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sys::lock::lock;

/// So many at once.
const BURST: u32 = 10;
/// And one more with every period that passes. The time that it takes a slow board to look at a password, and more.
const PERIOD: Duration = Duration::from_secs(2);
/// Peers that are remembered. Of more of them the one whose last failure is longest ago is forgotten.
const PEERS: usize = 256;

/// Who failed lately.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// When it is as if a peer had never failed.
    peers: Mutex<Vec<(IpAddr, Instant)>>,
}

impl Failures {
    /// Takes one failure in advance. `Err`: there have been too many, and how long to wait.
    pub(super) fn begin(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let peer = network(peer);
        let mut peers = lock(&self.peers);
        peers.retain(|(_, forgiven_at)| *forgiven_at > now);
        let known = peers.iter_mut().find(|(other, _)| *other == peer);
        let since = known.as_ref().map_or(now, |(_, forgiven_at)| *forgiven_at);
        let next = since + PERIOD;
        let ahead = next.saturating_duration_since(now);
        if ahead > PERIOD * BURST {
            return Err(ahead - PERIOD * BURST);
        }
        match known {
            Some((_, forgiven_at)) => *forgiven_at = next,
            None => {
                if peers.len() >= PEERS {
                    let oldest = (0..peers.len()).min_by_key(|&i| peers.get(i).map(|p| p.1));
                    peers.swap_remove(oldest.unwrap_or_default());
                }
                peers.push((peer, next));
            }
        }
        Ok(())
    }

    /// It was none.
    pub(super) fn take_back(&self, peer: IpAddr) {
        let peer = network(peer);
        let mut peers = lock(&self.peers);
        if let Some((_, forgiven_at)) = peers.iter_mut().find(|(other, _)| *other == peer) {
            *forgiven_at = forgiven_at.checked_sub(PERIOD).unwrap_or(*forgiven_at);
        }
    }
}

/// Who has one IPv6 address has 2 to the 64 of them (RFC 4291, 2.5.4).
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_a_period() {
        let failures = Failures::default();
        let begun = Instant::now();
        let at = |periods: u32| failures.begin([192, 0, 2, 1].into(), begun + PERIOD * periods);
        for _ in 0..BURST {
            assert_eq!(at(0), Ok(()));
        }
        assert_eq!(at(0), Err(PERIOD));
        assert_eq!((at(1), at(1)), (Ok(()), Err(PERIOD)));
        assert_eq!(failures.begin([192, 0, 2, 2].into(), begun), Ok(()));
        failures.take_back([192, 0, 2, 1].into());
        assert_eq!((at(1), at(1)), (Ok(()), Err(PERIOD)));
        for _ in 0..BURST {
            assert_eq!(at(100), Ok(()));
        }
        assert!(at(100).is_err());
    }

    #[test]
    fn an_ipv6_network_is_one_peer_and_memory_is_bounded() {
        let failures = Failures::default();
        let now = Instant::now();
        let address = |host: u16| format!("2001:db8::{host:x}").parse().unwrap();
        let taken = (0..100).filter(|&n| failures.begin(address(n), now).is_ok());
        assert_eq!(taken.count(), BURST as usize);
        for n in 0..2000_u32 {
            let peer = IpAddr::from(n.to_be_bytes());
            assert!(failures
                .begin(peer, now + Duration::from_micros(n.into()))
                .is_ok());
        }
        assert_eq!(lock(&failures.peers).len(), PEERS);
    }
}
