//! Limits the connections of a server, in all and per peer. For a new connection beyond a limit, the connection that has
//! been idle the longest is closed.

use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::address::peer_key;
use super::limits::EVICT_TIMEOUT;
use crate::sys::lock::lock;
use crate::sys::sort::sort_by;

/// The state of a connection is one atomic: busy (a handler runs, or its response is being written), evicted, or the
/// microsecond since which it has been idle. A connection in the middle of receiving a request counts as idle.
const BUSY: u64 = u64::MAX;
const EVICTED: u64 = u64::MAX - 1;

/// One connection, as the other threads see it.
struct Slot {
    peer: IpAddr,
    socket: Arc<TcpStream>,
    state: AtomicU64,
}

impl Slot {
    fn state(&self) -> u64 {
        self.state.load(Ordering::SeqCst)
    }

    /// Closes the connection, unless it is busy. Its thread then sees the end of its stream.
    fn evict(&self) -> bool {
        let idle = self.state();
        // The exchange fails when the connection has just become busy: then it stays.
        let evicted = idle < EVICTED
            && self
                .state
                .compare_exchange(idle, EVICTED, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        if evicted {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        evicted
    }
}

/// All connections of one server.
pub(super) struct ConnectionSlots {
    taken: Mutex<Vec<Arc<Slot>>>,
    /// Notified when a connection has ended.
    freed: Condvar,
    closing: AtomicBool,
    started: Instant,
    max: usize,
    max_per_peer: usize,
}

impl ConnectionSlots {
    pub(super) fn new(max: usize, max_per_peer: usize) -> Self {
        ConnectionSlots {
            taken: Mutex::default(),
            freed: Condvar::new(),
            closing: AtomicBool::new(false),
            started: Instant::now(),
            max: max.max(1),
            max_per_peer: max_per_peer.max(1),
        }
    }

    /// A slot for a new connection. Where the limit per peer or in all is reached, the connection that has been idle the
    /// longest, of the same peer or of all, is closed for it. `None`: all of them are busy.
    pub(super) fn acquire(
        self: &Arc<Self>,
        socket: &Arc<TcpStream>,
        peer: SocketAddr,
    ) -> Option<ConnectionSlot> {
        let peer = peer_key(peer);
        let deadline = Instant::now() + EVICT_TIMEOUT;
        let mut taken = lock(&self.taken);
        loop {
            let of_peer = taken.iter().filter(|s| s.peer == peer).count();
            let candidate = |slot: &Slot| of_peer < self.max_per_peer || slot.peer == peer;
            if taken.len() < self.max && of_peer < self.max_per_peer {
                break;
            }
            if !evict_longest_idle(&taken, candidate) {
                return None;
            }
            // The thread of the closed connection ends within microseconds.
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.freed.wait_timeout(taken, left);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let slot = Arc::new(Slot {
            peer,
            socket: Arc::clone(socket),
            state: AtomicU64::new(self.now()),
        });
        taken.push(Arc::clone(&slot));
        Some(ConnectionSlot {
            slot,
            notifier: FreedNotifier(Arc::clone(self)),
        })
    }

    /// Closes the connection that has been idle the longest and waits a moment for its thread to end, so that its
    /// descriptor is free again.
    pub(super) fn evict_one(&self) {
        let taken = lock(&self.taken);
        if evict_longest_idle(&taken, |_| true) {
            drop(self.freed.wait_timeout(taken, EVICT_TIMEOUT));
        }
    }

    /// The number of connections.
    pub(super) fn count(&self) -> usize {
        lock(&self.taken).len()
    }

    /// Ends all connections: idle ones at once, busy ones after their response, but at the latest after `timeout`.
    pub(super) fn close(&self, timeout: Duration) {
        self.closing.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + timeout;
        let mut taken = lock(&self.taken);
        for slot in taken.iter() {
            slot.evict();
        }
        while !taken.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break;
            };
            let waited = self.freed.wait_timeout(taken, left);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        for slot in taken.iter() {
            let _ = slot.socket.shutdown(Shutdown::Both);
        }
    }

    fn now(&self) -> u64 {
        // u64 holds half a million years of microseconds.
        self.started.elapsed().as_micros() as u64
    }
}

/// Evicts the candidate that has been idle the longest, unless one has been evicted already and not ended yet. `false`: all
/// candidates are busy.
fn evict_longest_idle(taken: &[Arc<Slot>], candidate: impl Fn(&Slot) -> bool) -> bool {
    // Other threads change the states: each is read once, so that the sort sees consistent keys.
    let candidates = taken.iter().filter(|slot| candidate(slot));
    let mut candidates: Vec<_> = candidates.map(|slot| (slot.state(), slot)).collect();
    if candidates.iter().any(|(state, _)| *state == EVICTED) {
        return true;
    }
    sort_by(&mut candidates, |(a, _), (b, _)| a.cmp(b));
    candidates.iter().any(|(_, slot)| slot.evict())
}

/// A connection's hold on its slot. Dropping it frees the slot, then closes the socket, and then notifies the threads that
/// wait for either: the fields are dropped in this order.
pub(super) struct ConnectionSlot {
    slot: Arc<Slot>,
    notifier: FreedNotifier,
}

struct FreedNotifier(Arc<ConnectionSlots>);

impl ConnectionSlot {
    /// A whole request has arrived: until [`Self::set_idle`] no other thread closes the connection. `false`: it has been
    /// evicted.
    pub(super) fn set_busy(&self) -> bool {
        self.change_state(BUSY)
    }

    /// The connection is idle from now on. `false`: it has to end.
    pub(super) fn set_idle(&self) -> bool {
        self.change_state(self.notifier.0.now()) && !self.is_closing()
    }

    /// Whether the server is about to stop.
    pub(super) fn is_closing(&self) -> bool {
        self.notifier.0.closing.load(Ordering::SeqCst)
    }

    /// Fails when the connection has been evicted, the one change of state that another thread makes.
    fn change_state(&self, next: u64) -> bool {
        let state = &self.slot.state;
        let before = state.load(Ordering::SeqCst);
        before != EVICTED
            && state
                .compare_exchange(before, next, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        lock(&self.notifier.0.taken).retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}

impl Drop for FreedNotifier {
    fn drop(&mut self) {
        self.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read};
    use std::net::TcpListener;

    struct Client {
        slot: ConnectionSlot,
        far_end: TcpStream,
    }

    impl Client {
        /// Waits until the connection was closed. On a busy machine that may take a while.
        fn wait_until_evicted(&mut self) {
            let timeout = Duration::from_secs(60);
            self.far_end.set_nonblocking(false).unwrap();
            self.far_end.set_read_timeout(Some(timeout)).unwrap();
            assert_eq!(self.far_end.read(&mut [0]).unwrap(), 0);
        }

        /// Whether the connection was closed already.
        fn is_evicted(&mut self) -> bool {
            self.far_end.set_nonblocking(true).unwrap();
            match self.far_end.read(&mut [0]) {
                Ok(n) => n == 0,
                Err(e) if e.kind() == ErrorKind::WouldBlock => false,
                Err(e) => panic!("{e}"),
            }
        }

        fn set_idle(&self) {
            std::thread::sleep(Duration::from_millis(1));
            assert!(self.slot.set_idle());
        }
    }

    fn connect(slots: &Arc<ConnectionSlots>, peer: u8) -> Option<Client> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far_end = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near_end = Arc::new(listener.accept().unwrap().0);
        std::thread::sleep(Duration::from_millis(1));
        let slot = slots.acquire(&near_end, ([192, 0, 2, peer], 1).into())?;
        Some(Client { slot, far_end })
    }

    #[test]
    fn longest_idle_connection_is_evicted() {
        let slots = Arc::new(ConnectionSlots::new(3, 3));
        let mut first = connect(&slots, 1).unwrap();
        let mut second = connect(&slots, 2).unwrap();
        let mut third = connect(&slots, 3).unwrap();
        first.set_idle();
        // No connection ends, so there is no room, but the right one was closed, and only that one.
        assert!(connect(&slots, 4).is_none());
        second.wait_until_evicted();
        assert!(!second.slot.set_busy() && !second.slot.set_idle());
        assert!(connect(&slots, 4).is_none());
        assert!(!first.is_evicted() && !third.is_evicted());
        drop(second);
        let mut fourth = connect(&slots, 4).unwrap();
        assert_eq!(slots.count(), 3);
        assert!(third.slot.set_busy());
        assert!(connect(&slots, 5).is_none());
        first.wait_until_evicted();
        assert!(!third.is_evicted() && !fourth.is_evicted());
    }

    #[test]
    fn peer_at_its_limit_evicts_a_connection_of_its_own() {
        let slots = Arc::new(ConnectionSlots::new(4, 2));
        let mut other = connect(&slots, 1).unwrap();
        let mut older = connect(&slots, 2).unwrap();
        let mut newer = connect(&slots, 2).unwrap();
        assert!(connect(&slots, 2).is_none());
        older.wait_until_evicted();
        assert!(!newer.is_evicted() && !other.is_evicted());
        drop(older);
        assert!(connect(&slots, 2).is_some());
    }

    /// The states change while the longest idle connection is searched.
    #[test]
    fn eviction_survives_concurrent_state_changes() {
        let slots = Arc::new(ConnectionSlots::new(64, 64));
        let clients: Vec<_> = (0..64).map(|n| connect(&slots, n).unwrap()).collect();
        let flicker = |half: &[Client]| {
            for client in half.iter().cycle().take(100_000) {
                client.slot.set_busy();
                client.slot.set_idle();
            }
        };
        std::thread::scope(|scope| {
            let (one, other) = clients.split_at(32);
            let running = [scope.spawn(|| flicker(one)), scope.spawn(|| flicker(other))];
            while !running.iter().all(|r| r.is_finished()) {
                evict_longest_idle(&lock(&slots.taken), |slot| {
                    // No connection ends here: an evicted one becomes idle again.
                    if slot.state.load(Ordering::SeqCst) == EVICTED {
                        slot.state.store(slots.now(), Ordering::SeqCst);
                    }
                    true
                });
            }
        });
    }

    #[test]
    fn busy_connections_are_not_evicted() {
        let slots = Arc::new(ConnectionSlots::new(2, 1));
        let mut busy = connect(&slots, 1).unwrap();
        assert!(busy.slot.set_busy());
        assert!(connect(&slots, 1).is_none());
        let other = connect(&slots, 2).unwrap();
        assert!(other.slot.set_busy());
        assert!(connect(&slots, 3).is_none());
        slots.evict_one();
        assert!(!busy.is_evicted());
        assert!(busy.slot.set_idle() && !busy.slot.is_closing());
        slots.close(Duration::from_millis(1));
        busy.wait_until_evicted();
        assert!(busy.slot.is_closing() && !other.slot.set_idle());
    }
}
