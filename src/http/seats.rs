//! Who is connected: the bound in all and per peer, and who has to go when somebody new comes.

use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::address::peer_key;
use super::limits::ROOM_TIME;
use crate::sys::lock::lock;

/// A connection is in one of three states, in one atomic: busy (a handler runs, or its answer is being written), told to
/// go, or idle since so many microseconds. Idle is also who has begun a request and not ended it.
const BUSY: u64 = u64::MAX;
const TOLD_TO_GO: u64 = u64::MAX - 1;

/// One connection, as the others see it.
struct Seat {
    peer: IpAddr,
    socket: Arc<TcpStream>,
    state: AtomicU64,
}

impl Seat {
    fn state(&self) -> u64 {
        self.state.load(Ordering::SeqCst)
    }

    /// Closes the connection under its thread, unless it is busy.
    fn tell_to_go(&self) -> bool {
        let idle = self.state();
        // It fails when the connection has just become busy: then it stays.
        let told = idle < TOLD_TO_GO
            && self
                .state
                .compare_exchange(idle, TOLD_TO_GO, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        if told {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        told
    }
}

/// All connections of one server.
pub(super) struct Seats {
    taken: Mutex<Vec<Arc<Seat>>>,
    left: Condvar,
    closing: AtomicBool,
    started: Instant,
    most: usize,
    most_per_peer: usize,
}

impl Seats {
    pub(super) fn new(most: usize, most_per_peer: usize) -> Self {
        Seats {
            taken: Mutex::default(),
            left: Condvar::new(),
            closing: AtomicBool::new(false),
            started: Instant::now(),
            most: most.max(1),
            most_per_peer: most_per_peer.max(1),
        }
    }

    /// A seat for a newcomer, if need be one whose connection was idle the longest: of the same peer when that has too
    /// many, else of all. `None` when all are busy.
    pub(super) fn take(
        self: &Arc<Self>,
        socket: &Arc<TcpStream>,
        peer: SocketAddr,
    ) -> Option<Guest> {
        let peer = peer_key(peer);
        let deadline = Instant::now() + ROOM_TIME;
        let mut taken = lock(&self.taken);
        loop {
            let of_peer = taken.iter().filter(|s| s.peer == peer).count();
            let rival = |seat: &Seat| of_peer < self.most_per_peer || seat.peer == peer;
            if taken.len() < self.most && of_peer < self.most_per_peer {
                break;
            }
            if !make_room(&taken, rival) {
                return None;
            }
            // Its thread wakes, sees the end of its stream, and is gone in microseconds.
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.left.wait_timeout(taken, left);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let seat = Arc::new(Seat {
            peer,
            socket: Arc::clone(socket),
            state: AtomicU64::new(self.now()),
        });
        taken.push(Arc::clone(&seat));
        Some(Guest {
            seat,
            bell: Bell(Arc::clone(self)),
        })
    }

    /// Closes the connection that was idle the longest and waits a moment for it to be gone, so that its descriptor is
    /// free again.
    pub(super) fn free_one(&self) {
        let taken = lock(&self.taken);
        if make_room(&taken, |_| true) {
            drop(self.left.wait_timeout(taken, ROOM_TIME));
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        lock(&self.taken).len()
    }

    /// Ends all: the idle at once, the busy when they have answered, but at the latest after `patience`.
    pub(super) fn close(&self, patience: Duration) {
        self.closing.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + patience;
        let mut taken = lock(&self.taken);
        for seat in taken.iter() {
            seat.tell_to_go();
        }
        while !taken.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break;
            };
            let waited = self.left.wait_timeout(taken, left);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        for seat in taken.iter() {
            let _ = seat.socket.shutdown(Shutdown::Both);
        }
    }

    fn now(&self) -> u64 {
        // Half a million years fit.
        self.started.elapsed().as_micros() as u64
    }
}

/// Tells the one of these that was idle the longest to go, unless one is on its way already. `false` when all are busy.
fn make_room(taken: &[Arc<Seat>], rival: impl Fn(&Seat) -> bool) -> bool {
    // The states change under us: each is read once, or they would have no order to sort by.
    let rivals = taken.iter().filter(|seat| rival(seat));
    let mut rivals: Vec<_> = rivals.map(|seat| (seat.state(), seat)).collect();
    if rivals.iter().any(|(state, _)| *state == TOLD_TO_GO) {
        return true;
    }
    rivals.sort_unstable_by_key(|(state, _)| *state);
    rivals.iter().any(|(_, seat)| seat.tell_to_go())
}

/// The connection's hold on its seat; dropping it leaves. In this order: the seat is given back, its socket closed, and
/// then whoever waits for one or the other is woken.
pub(super) struct Guest {
    seat: Arc<Seat>,
    bell: Bell,
}

struct Bell(Arc<Seats>);

impl Guest {
    /// A whole request is there: from now on nobody closes the connection but its own thread. `false` when somebody has.
    pub(super) fn begin(&self) -> bool {
        self.enter(BUSY)
    }

    /// The connection is idle from now on. `false` when it is to end.
    pub(super) fn rest(&self) -> bool {
        self.enter(self.bell.0.now()) && !self.is_closing()
    }

    /// Whether the server is about to stop.
    pub(super) fn is_closing(&self) -> bool {
        self.bell.0.closing.load(Ordering::SeqCst)
    }

    /// It fails when the connection is told to go, the one change of state that is not this thread's.
    fn enter(&self, next: u64) -> bool {
        let state = &self.seat.state;
        let before = state.load(Ordering::SeqCst);
        before != TOLD_TO_GO
            && state
                .compare_exchange(before, next, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        lock(&self.bell.0.taken).retain(|seat| !Arc::ptr_eq(seat, &self.seat));
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read};
    use std::net::TcpListener;

    struct Client {
        guest: Guest,
        far_end: TcpStream,
    }

    impl Client {
        /// It is told to go; its thread would now leave. A busy machine may bring the news later.
        fn hears_that_it_is_to_go(&mut self) {
            let patience = Duration::from_secs(60);
            self.far_end.set_nonblocking(false).unwrap();
            self.far_end.set_read_timeout(Some(patience)).unwrap();
            assert_eq!(self.far_end.read(&mut [0]).unwrap(), 0);
        }

        /// Whether it was told so already.
        fn is_told_to_go(&mut self) -> bool {
            self.far_end.set_nonblocking(true).unwrap();
            match self.far_end.read(&mut [0]) {
                Ok(n) => n == 0,
                Err(e) if e.kind() == ErrorKind::WouldBlock => false,
                Err(e) => panic!("{e}"),
            }
        }

        fn rest(&self) {
            std::thread::sleep(Duration::from_millis(1));
            assert!(self.guest.rest());
        }
    }

    fn come(seats: &Arc<Seats>, peer: u8) -> Option<Client> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far_end = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near_end = Arc::new(listener.accept().unwrap().0);
        std::thread::sleep(Duration::from_millis(1));
        let guest = seats.take(&near_end, ([192, 0, 2, peer], 1).into())?;
        Some(Client { guest, far_end })
    }

    #[test]
    fn the_longest_idle_has_to_go() {
        let seats = Arc::new(Seats::new(3, 3));
        let mut first = come(&seats, 1).unwrap();
        let mut second = come(&seats, 2).unwrap();
        let mut third = come(&seats, 3).unwrap();
        first.rest();
        // Nobody leaves, so there is no room, but the right one was asked, and only that one.
        assert!(come(&seats, 4).is_none());
        second.hears_that_it_is_to_go();
        assert!(!second.guest.begin() && !second.guest.rest());
        assert!(come(&seats, 4).is_none());
        assert!(!first.is_told_to_go() && !third.is_told_to_go());
        drop(second);
        let mut fourth = come(&seats, 4).unwrap();
        assert_eq!(seats.count(), 3);
        assert!(third.guest.begin());
        assert!(come(&seats, 5).is_none());
        first.hears_that_it_is_to_go();
        assert!(!third.is_told_to_go() && !fourth.is_told_to_go());
    }

    #[test]
    fn a_peer_with_too_many_makes_room_for_itself() {
        let seats = Arc::new(Seats::new(4, 2));
        let mut other = come(&seats, 1).unwrap();
        let mut older = come(&seats, 2).unwrap();
        let mut newer = come(&seats, 2).unwrap();
        assert!(come(&seats, 2).is_none());
        older.hears_that_it_is_to_go();
        assert!(!newer.is_told_to_go() && !other.is_told_to_go());
        drop(older);
        assert!(come(&seats, 2).is_some());
    }

    /// Who is busy changes while the longest idle is looked for.
    #[test]
    fn room_is_made_while_all_is_in_motion() {
        let seats = Arc::new(Seats::new(64, 64));
        let clients: Vec<_> = (0..64).map(|n| come(&seats, n).unwrap()).collect();
        let flicker = |half: &[Client]| {
            for client in half.iter().cycle().take(100_000) {
                client.guest.begin();
                client.guest.rest();
            }
        };
        std::thread::scope(|scope| {
            let (one, other) = clients.split_at(32);
            let running = [scope.spawn(|| flicker(one)), scope.spawn(|| flicker(other))];
            while !running.iter().all(|r| r.is_finished()) {
                make_room(&lock(&seats.taken), |seat| {
                    // Nobody leaves here: whoever was told to go comes back.
                    if seat.state.load(Ordering::SeqCst) == TOLD_TO_GO {
                        seat.state.store(seats.now(), Ordering::SeqCst);
                    }
                    true
                });
            }
        });
    }

    #[test]
    fn the_busy_stay() {
        let seats = Arc::new(Seats::new(2, 1));
        let mut busy = come(&seats, 1).unwrap();
        assert!(busy.guest.begin());
        assert!(come(&seats, 1).is_none());
        let other = come(&seats, 2).unwrap();
        assert!(other.guest.begin());
        assert!(come(&seats, 3).is_none());
        seats.free_one();
        assert!(!busy.is_told_to_go());
        assert!(busy.guest.rest() && !busy.guest.is_closing());
        seats.close(Duration::from_millis(1));
        busy.hears_that_it_is_to_go();
        assert!(busy.guest.is_closing() && !other.guest.rest());
    }
}
