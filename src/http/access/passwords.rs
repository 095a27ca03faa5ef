//! Verifies passwords. bcrypt keeps a processor busy for a while, so the result is cached, one password is verified at a
//! time, and a peer with many wrong passwords has to wait.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::failures::Failures;
use super::fair_queue::FairQueue;
use super::{contains, Fingerprint};
use crate::config::BcryptHash;
use crate::sys::lock::lock;

/// Cached results, of correct and of wrong passwords each: guesses do not push correct passwords out of the cache.
const MAX_CACHED: usize = 256;
/// How long a login waits to be verified: less than Prometheus' default scrape timeout.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(8);
/// Bytes of a password that bcrypt uses.
const BCRYPT_LENGTH: usize = 72;

/// The users and the hashes of their passwords.
#[derive(Debug, Clone)]
pub(super) struct Users {
    hashes: BTreeMap<String, BcryptHash>,
    /// Verified in the place of an unknown user's hash, so that the time does not tell which users exist.
    unknown_user: BcryptHash,
}

impl Users {
    pub(super) fn new(hashes: BTreeMap<String, BcryptHash>) -> Users {
        let cost = hashes.values().map(BcryptHash::cost).max();
        Users {
            hashes,
            unknown_user: BcryptHash::unmatchable(cost.unwrap_or_default()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether the user exists, and has the same hash in `others`.
    pub(super) fn has_same(&self, user: &str, others: &Users) -> bool {
        let hash = self.hashes.get(user);
        hash.is_some() && hash == others.hashes.get(user)
    }
}

/// The result of verifying a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Correct,
    Wrong,
    /// Not verified, because the peer had too many wrong passwords. It may try again after this time.
    RateLimited(Duration),
    /// Not verified, because too many others wait for the same.
    Busy,
}

/// Verifies passwords and caches the results.
#[derive(Debug)]
pub(super) struct Passwords {
    /// Random, so that the cached fingerprints are of no use to another process.
    key: [u64; 4],
    correct: Mutex<VecDeque<Fingerprint>>,
    wrong: Mutex<VecDeque<Fingerprint>>,
    queue: FairQueue,
}

impl Default for Passwords {
    fn default() -> Self {
        let random = RandomState::new();
        Passwords {
            key: [0, 1, 2, 3].map(|n| random.hash_one(n)),
            correct: Mutex::default(),
            wrong: Mutex::default(),
            queue: FairQueue::default(),
        }
    }
}

impl Passwords {
    /// Whether this is the user's password. A cached result is returned at once. Other passwords wait in the queue, and are
    /// not verified for a peer that had too many wrong ones.
    pub(super) fn verify(
        &self,
        users: &Users,
        failures: &Failures,
        peer: IpAddr,
        (user, password): (&[u8], &[u8]),
    ) -> Verdict {
        let user = std::str::from_utf8(user).ok();
        let known = user.and_then(|user| users.hashes.get_key_value(user));
        let hash = known.map_or(&users.unknown_user, |(_, hash)| hash);
        let fingerprint = self.fingerprint(user.unwrap_or_default(), hash, password);
        let deadline = Instant::now() + QUEUE_TIMEOUT;
        if let Some(verdict) = self.cached(&fingerprint) {
            return verdict;
        }
        // Where another request is verifying the same password, its result is used.
        self.queue.wait_for_same(fingerprint, deadline);
        if let Some(verdict) = self.cached(&fingerprint) {
            return verdict;
        }
        if let Err(wait) = failures.count(peer, Instant::now()) {
            return Verdict::RateLimited(wait);
        }
        let permit = self.queue.acquire(peer, fingerprint, deadline);
        let verdict = match (&permit, self.cached(&fingerprint)) {
            (None, None) => Verdict::Busy,
            // Another request has verified the same password meanwhile.
            (_, Some(verdict)) => verdict,
            (Some(_), None) => match hash.matches(password) && known.is_some() {
                true => self.cache(&self.correct, fingerprint, Verdict::Correct),
                false => self.cache(&self.wrong, fingerprint, Verdict::Wrong),
            },
        };
        if verdict != Verdict::Wrong {
            failures.take_back(peer);
        }
        verdict
    }

    fn cached(&self, fingerprint: &Fingerprint) -> Option<Verdict> {
        if contains(lock(&self.correct).iter(), fingerprint) {
            return Some(Verdict::Correct);
        }
        contains(lock(&self.wrong).iter(), fingerprint).then_some(Verdict::Wrong)
    }

    fn cache(
        &self,
        cache: &Mutex<VecDeque<Fingerprint>>,
        fingerprint: Fingerprint,
        verdict: Verdict,
    ) -> Verdict {
        let mut cache = lock(cache);
        if cache.len() >= MAX_CACHED {
            cache.pop_front();
        }
        cache.push_back(fingerprint);
        verdict
    }

    /// A digest of the login. Without the key it tells nothing about the password.
    fn fingerprint(&self, user: &str, hash: &BcryptHash, password: &[u8]) -> Fingerprint {
        let mut digest = Sha256::new();
        for part in self.key {
            digest.update(part.to_le_bytes());
        }
        digest.update((user.len() as u64).to_le_bytes());
        digest.update(user);
        digest.update(hash.bytes());
        digest.update(password.get(..BCRYPT_LENGTH).unwrap_or(password));
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESAME: &str = "$2y$04$VImZYFTlUDU2TXNWm22QY.f.toxyFiLqSW2ZQebdx80pPspviZfJG";

    fn users(hash: Option<&str>) -> Users {
        let hash = hash.map(|hash| ("alice".into(), BcryptHash::parse(hash).unwrap()));
        Users::new(hash.into_iter().collect())
    }

    fn verify(passwords: &Passwords, failures: &Failures, login: (&str, &str)) -> Verdict {
        let (user, password) = login;
        let login = (user.as_bytes(), password.as_bytes());
        passwords.verify(&users(Some(SESAME)), failures, [192, 0, 2, 1].into(), login)
    }

    #[test]
    fn wrong_password_and_unknown_user_are_refused() {
        let (passwords, failures) = Default::default();
        for _ in 0..3 {
            for (login, verdict) in [
                (("alice", "open sesame"), Verdict::Correct),
                (("alice", "open sesam"), Verdict::Wrong),
                (("alice", ""), Verdict::Wrong),
                (("bob", "open sesame"), Verdict::Wrong),
                (("", "open sesame"), Verdict::Wrong),
            ] {
                assert_eq!(verify(&passwords, &failures, login), verdict, "{login:?}");
            }
        }
        // Each was verified once.
        assert_eq!(lock(&passwords.correct).len(), 1);
        assert_eq!(lock(&passwords.wrong).len(), 4);
    }

    #[test]
    fn correct_password_stays_cached_after_many_wrong_ones() {
        let (passwords, failures) = Default::default();
        let right = ("alice", "open sesame");
        assert_eq!(verify(&passwords, &failures, right), Verdict::Correct);
        let mut refused = 0;
        for n in 0..100 {
            match verify(&passwords, &failures, ("alice", &n.to_string())) {
                Verdict::Wrong => refused += 1,
                Verdict::RateLimited(wait) => assert!(!wait.is_zero()),
                Verdict::Busy => panic!("nothing else is queued"),
                Verdict::Correct => panic!("{n}"),
            }
        }
        assert!((10..100).contains(&refused), "{refused}");
        assert_eq!(verify(&passwords, &failures, right), Verdict::Correct);
        let other = (&b"alice"[..], &b"open sesame"[..]);
        let peer = [192, 0, 2, 2].into();
        // Another peer, without the cache.
        let fresh = Passwords::default();
        let verdict = fresh.verify(&users(Some(SESAME)), &failures, peer, other);
        assert_eq!(verdict, Verdict::Correct);
    }

    /// Prometheus, a dashboard and a browser log in at once, while nothing is cached yet.
    #[test]
    fn concurrent_logins_with_one_password_verify_it_once() {
        for (password, verdict) in [("open sesame", Verdict::Correct), ("?", Verdict::Wrong)] {
            let (passwords, failures): (Passwords, Failures) = Default::default();
            let held = passwords.queue.acquire(
                [192, 0, 2, 9].into(),
                [1; 32],
                Instant::now() + QUEUE_TIMEOUT,
            );
            let verdicts: Vec<Verdict> = std::thread::scope(|scope| {
                let verify = || verify(&passwords, &failures, ("alice", password));
                let mut all = vec![scope.spawn(verify)];
                while passwords.queue.waiting() == 0 {
                    std::thread::yield_now();
                }
                all.extend((1..14).map(|_| scope.spawn(verify)));
                while passwords.queue.waiting() < 14 {
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
    fn changed_hash_makes_the_old_password_wrong() {
        let (passwords, failures): (Passwords, Failures) = Default::default();
        assert_eq!(
            verify(&passwords, &failures, ("alice", "open sesame")),
            Verdict::Correct
        );
        let other = "$2y$06$IT.vlFlgsXUo5f.EaE21Pex2asjsNr9I1KKGEv7BxlTFAs/wysBvy";
        for users in [users(Some(other)), users(None)] {
            let login = (&b"alice"[..], &b"open sesame"[..]);
            let verdict = passwords.verify(&users, &failures, [192, 0, 2, 1].into(), login);
            assert_eq!(verdict, Verdict::Wrong);
        }
    }

    #[test]
    fn cache_is_bounded() {
        let passwords = Passwords::default();
        for n in 0..2 * MAX_CACHED {
            let fingerprint = [n as u8; 32];
            passwords.cache(&passwords.wrong, fingerprint, Verdict::Wrong);
        }
        assert_eq!(lock(&passwords.wrong).len(), MAX_CACHED);
    }
}
