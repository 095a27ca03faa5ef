//! Looking at passwords: bcrypt takes a processor for a while, so it is done once per password, by one at a time, and not
//! often for those who guess.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::failures::Failures;
use super::turns::Turns;
use super::{has, Fingerprint};
use crate::config::BcryptHash as Hash;
use crate::sys::lock::lock;

/// Passwords that are remembered, right ones and wrong ones apart: who guesses makes nobody's right one forgotten.
const REMEMBERED: usize = 256;
/// How long one waits for one's turn: less than Prometheus waits for a scrape.
const PATIENCE: Duration = Duration::from_secs(8);
/// Bytes of a password that count for bcrypt.
const COUNTED: usize = 72;

/// Who may come in, and with what.
#[derive(Debug, Clone)]
pub(super) struct Users {
    hashes: BTreeMap<String, Hash>,
    /// Those who are not known are looked at for as long as the others.
    nobody: Hash,
}

impl Users {
    pub(super) fn new(hashes: BTreeMap<String, Hash>) -> Users {
        let cost = hashes.values().map(Hash::cost).max();
        Users {
            hashes,
            nobody: Hash::unmatchable(cost.unwrap_or_default()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether this user is known, with the same password as in `others`.
    pub(super) fn has_as(&self, user: &str, others: &Users) -> bool {
        let hash = self.hashes.get(user);
        hash.is_some() && hash == others.hashes.get(user)
    }
}

/// What came of looking at a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// It was not looked at: this peer had too many wrong ones. After this time it may show another.
    TooOften(Duration),
    /// It was not looked at: others wait for that too.
    Busy,
}

/// Looks at passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    /// What is remembered cannot be compared with what others remember.
    key: [u64; 4],
    right: Mutex<VecDeque<Fingerprint>>,
    wrong: Mutex<VecDeque<Fingerprint>>,
    turns: Turns,
}

impl Default for Passwords {
    fn default() -> Self {
        let random = RandomState::new();
        Passwords {
            key: [0, 1, 2, 3].map(|n| random.hash_one(n)),
            right: Mutex::default(),
            wrong: Mutex::default(),
            turns: Turns::default(),
        }
    }
}

impl Passwords {
    /// Whether this is the user's password. What was looked at before is known at once; else this waits for its turn, and
    /// is not done at all for a peer that had too many wrong ones.
    pub(super) fn look(
        &self,
        users: &Users,
        failures: &Failures,
        peer: IpAddr,
        (user, password): (&[u8], &[u8]),
    ) -> Verdict {
        let user = std::str::from_utf8(user).ok();
        let known = user.and_then(|user| users.hashes.get_key_value(user));
        let hash = known.map_or(&users.nobody, |(_, hash)| hash);
        let fingerprint = self.fingerprint(user.unwrap_or_default(), hash, password);
        let deadline = Instant::now() + PATIENCE;
        if let Some(verdict) = self.remembered(&fingerprint) {
            return verdict;
        }
        // The same is being looked at for others: it is looked at once.
        self.turns.wait_for_others(fingerprint, deadline);
        if let Some(verdict) = self.remembered(&fingerprint) {
            return verdict;
        }
        if let Err(wait) = failures.begin(peer, Instant::now()) {
            return Verdict::TooOften(wait);
        }
        let turn = self.turns.wait(peer, fingerprint, deadline);
        let verdict = match (&turn, self.remembered(&fingerprint)) {
            (None, None) => Verdict::Busy,
            // Somebody else has just looked at it.
            (_, Some(verdict)) => verdict,
            (Some(_), None) => match hash.matches(password) && known.is_some() {
                true => self.remember(&self.right, fingerprint, Verdict::Right),
                false => self.remember(&self.wrong, fingerprint, Verdict::Wrong),
            },
        };
        if verdict != Verdict::Wrong {
            failures.take_back(peer);
        }
        verdict
    }

    fn remembered(&self, fingerprint: &Fingerprint) -> Option<Verdict> {
        if has(lock(&self.right).iter(), fingerprint) {
            return Some(Verdict::Right);
        }
        has(lock(&self.wrong).iter(), fingerprint).then_some(Verdict::Wrong)
    }

    fn remember(
        &self,
        place: &Mutex<VecDeque<Fingerprint>>,
        fingerprint: Fingerprint,
        verdict: Verdict,
    ) -> Verdict {
        let mut place = lock(place);
        if place.len() >= REMEMBERED {
            place.pop_front();
        }
        place.push_back(fingerprint);
        verdict
    }

    /// What stands for the password; no password can be found out from it without our key.
    fn fingerprint(&self, user: &str, hash: &Hash, password: &[u8]) -> Fingerprint {
        let mut digest = Sha256::new();
        for part in self.key {
            digest.update(part.to_le_bytes());
        }
        digest.update((user.len() as u64).to_le_bytes());
        digest.update(user);
        digest.update(hash.bytes());
        digest.update(password.get(..COUNTED).unwrap_or(password));
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESAME: &str = "$2y$04$VImZYFTlUDU2TXNWm22QY.f.toxyFiLqSW2ZQebdx80pPspviZfJG";

    fn users(hash: Option<&str>) -> Users {
        let hash = hash.map(|hash| ("alice".into(), Hash::parse(hash).unwrap()));
        Users::new(hash.into_iter().collect())
    }

    fn look(passwords: &Passwords, failures: &Failures, login: (&str, &str)) -> Verdict {
        let (user, password) = login;
        let login = (user.as_bytes(), password.as_bytes());
        passwords.look(&users(Some(SESAME)), failures, [192, 0, 2, 1].into(), login)
    }

    #[test]
    fn right_wrong_and_unknown() {
        let (passwords, failures) = Default::default();
        for _ in 0..3 {
            for (login, verdict) in [
                (("alice", "open sesame"), Verdict::Right),
                (("alice", "open sesam"), Verdict::Wrong),
                (("alice", ""), Verdict::Wrong),
                (("bob", "open sesame"), Verdict::Wrong),
                (("", "open sesame"), Verdict::Wrong),
            ] {
                assert_eq!(look(&passwords, &failures, login), verdict, "{login:?}");
            }
        }
        // Each was looked at once.
        assert_eq!(lock(&passwords.right).len(), 1);
        assert_eq!(lock(&passwords.wrong).len(), 4);
    }

    #[test]
    fn what_was_right_is_right_however_many_were_wrong_since() {
        let (passwords, failures) = Default::default();
        let right = ("alice", "open sesame");
        assert_eq!(look(&passwords, &failures, right), Verdict::Right);
        let mut refused = 0;
        for n in 0..100 {
            match look(&passwords, &failures, ("alice", &n.to_string())) {
                Verdict::Wrong => refused += 1,
                Verdict::TooOften(wait) => assert!(!wait.is_zero()),
                Verdict::Busy => panic!("nobody else waits"),
                Verdict::Right => panic!("{n}"),
            }
        }
        assert!((10..100).contains(&refused), "{refused}");
        assert_eq!(look(&passwords, &failures, right), Verdict::Right);
        let other = (&b"alice"[..], &b"open sesame"[..]);
        let peer = [192, 0, 2, 2].into();
        // A peer of its own, and a process of its own.
        let fresh = Passwords::default();
        let verdict = fresh.look(&users(Some(SESAME)), &failures, peer, other);
        assert_eq!(verdict, Verdict::Right);
    }

    /// Prometheus, a dashboard and a browser come at once, when nothing is remembered yet.
    #[test]
    fn a_password_that_many_show_at_once_is_looked_at_once() {
        for (password, verdict) in [("open sesame", Verdict::Right), ("?", Verdict::Wrong)] {
            let (passwords, failures): (Passwords, Failures) = Default::default();
            let held =
                passwords
                    .turns
                    .wait([192, 0, 2, 9].into(), [1; 32], Instant::now() + PATIENCE);
            let verdicts: Vec<Verdict> = std::thread::scope(|scope| {
                let look = || look(&passwords, &failures, ("alice", password));
                let mut all = vec![scope.spawn(look)];
                while passwords.turns.waiting() == 0 {
                    std::thread::yield_now();
                }
                all.extend((1..14).map(|_| scope.spawn(look)));
                while passwords.turns.waiting() < 14 {
                    std::thread::yield_now();
                }
                drop(held);
                all.into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            assert_eq!(verdicts, [verdict; 14]);
        }
    }

    #[test]
    fn a_new_hash_makes_the_old_password_wrong() {
        let (passwords, failures): (Passwords, Failures) = Default::default();
        assert_eq!(
            look(&passwords, &failures, ("alice", "open sesame")),
            Verdict::Right
        );
        let other = "$2y$06$IT.vlFlgsXUo5f.EaE21Pex2asjsNr9I1KKGEv7BxlTFAs/wysBvy";
        for users in [users(Some(other)), users(None)] {
            let login = (&b"alice"[..], &b"open sesame"[..]);
            let verdict = passwords.look(&users, &failures, [192, 0, 2, 1].into(), login);
            assert_eq!(verdict, Verdict::Wrong);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let passwords = Passwords::default();
        for n in 0..2 * REMEMBERED {
            let fingerprint = [n as u8; 32];
            passwords.remember(&passwords.wrong, fingerprint, Verdict::Wrong);
        }
        assert_eq!(lock(&passwords.wrong).len(), REMEMBERED);
    }
}
