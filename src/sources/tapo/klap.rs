//! KLAP, the protocol by which plugs of TP-Link's app are asked for anything: a handshake that proves to each side that the other
//! knows the account's login, and then requests and answers encrypted by AES-128-CBC with keys that both derive from it. Pure.
//!
//! ```text
//! handshake1   seed of the client                 -> seed of the device, proof of the device
//! handshake2   proof of the client                -> (status 200)
//! request?seq  signature, encrypted request       -> signature, encrypted answer
//! ```
//!
//! The first version of it (Kasa plugs) and the second (Tapo) differ in how the login and the proofs are hashed.

use aes::cipher::{Block, BlockDecrypt, BlockEncrypt, KeyInit};
use aes::Aes128;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Random bytes of one side.
pub type Seed = [u8; 16];

/// Bytes of the device's answer to the first handshake.
const CHALLENGE: usize = 48;
/// Bytes of a request or an answer before what is encrypted.
const SIGNATURE: usize = 32;
/// Bytes of AES's block.
const BLOCK: usize = 16;

/// The versions of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Of Kasa plugs whose firmware was updated.
    First,
    /// Of Tapo plugs and newer Kasa plugs.
    Second,
}

/// A login, as both sides know it.
#[derive(Clone)]
pub struct Account {
    version: Version,
    hash: Vec<u8>,
}

impl Account {
    /// The account's login in this version.
    pub fn new(version: Version, username: &str, password: &str) -> Account {
        let hash = match version {
            Version::First => {
                let parts = [username, password].map(|text| Md5::digest(text).to_vec());
                Md5::digest(parts.concat()).to_vec()
            }
            Version::Second => {
                let parts = [username, password].map(|text| Sha1::digest(text).to_vec());
                sha256(&[&parts.concat()]).to_vec()
            }
        };
        Account { version, hash }
    }

    /// What the device proves with that it knows the login.
    fn device_proof(&self, client: &Seed, device: &[u8]) -> [u8; 32] {
        match self.version {
            Version::First => sha256(&[client, &self.hash]),
            Version::Second => sha256(&[client, device, &self.hash]),
        }
    }

    /// What the client proves it with.
    fn client_proof(&self, client: &Seed, device: &[u8]) -> [u8; 32] {
        match self.version {
            Version::First => sha256(&[device, &self.hash]),
            Version::Second => sha256(&[device, client, &self.hash]),
        }
    }
}

/// A handshake that the device answered as one who knows a login.
pub struct Accepted {
    /// Which of the accounts it was.
    pub account: usize,
    /// The version of that account.
    pub version: Version,
    /// The body of the second handshake.
    pub proof: [u8; 32],
    /// What follows the second handshake.
    pub session: Session,
}

/// Why a first handshake is not followed by the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The answer is none to this protocol.
    NotKlap,
    /// The device knows none of the logins.
    Login,
}

/// Takes the device's answer to the first handshake.
pub fn accept(seed: &Seed, answer: &[u8], accounts: &[Account]) -> Result<Accepted, Refused> {
    if answer.len() != CHALLENGE {
        return Err(Refused::NotKlap);
    }
    let (device, proof) = answer.split_at_checked(16).ok_or(Refused::NotKlap)?;
    let known = |account: &Account| account.device_proof(seed, device) == *proof;
    let account = accounts.iter().position(known).ok_or(Refused::Login)?;
    let found = accounts.get(account).ok_or(Refused::Login)?;
    Ok(Accepted {
        account,
        version: found.version,
        proof: found.client_proof(seed, device),
        session: Session::new(seed, device, &found.hash),
    })
}

/// Encrypts requests and decrypts their answers.
pub struct Session {
    aes: Aes128,
    /// The first 12 bytes of each initialization vector. The others are the number of the request.
    vector: [u8; 12],
    number: i32,
    signature: [u8; 28],
}

impl Session {
    fn new(client: &Seed, device: &[u8], hash: &[u8]) -> Session {
        let derive = |use_: &[u8]| sha256(&[use_, client, device, hash]);
        let [key, vector, signature] = [&b"lsk"[..], b"iv", b"ldk"].map(derive);
        let (vector, number) = (first(&vector), last(&vector));
        Session {
            aes: Aes128::new(&first::<BLOCK>(&key).into()),
            vector,
            number: i32::from_be_bytes(number),
            signature: first(&signature),
        }
    }

    /// The next request's number, and its body.
    pub fn encrypt(&mut self, text: &[u8]) -> (i32, Vec<u8>) {
        self.number = self.number.wrapping_add(1);
        let padding = BLOCK - text.len() % BLOCK;
        let mut encrypted = text.to_vec();
        encrypted.resize(text.len() + padding, padding as u8);
        let mut last = self.vector();
        for block in encrypted.chunks_exact_mut(BLOCK) {
            xor(block, &last);
            self.aes
                .encrypt_block(Block::<Aes128>::from_mut_slice(block));
            last.copy_from_slice(block);
        }
        let number = self.number.to_be_bytes();
        let signature = sha256(&[&self.signature, &number, &encrypted]);
        (self.number, [&signature[..], &encrypted].concat())
    }

    /// The answer to the last request. Its signature is not looked at, as other programs do not. The error is for people.
    pub fn decrypt(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        let encrypted = body.get(SIGNATURE..).unwrap_or_default();
        if encrypted.is_empty() || encrypted.len() % BLOCK != 0 {
            let length = body.len();
            return Err(format!(
                "the answer is not encrypted by KLAP ({length} bytes)"
            ));
        }
        let mut text = encrypted.to_vec();
        let mut last = self.vector();
        for (block, encrypted) in text
            .chunks_exact_mut(BLOCK)
            .zip(encrypted.chunks_exact(BLOCK))
        {
            self.aes
                .decrypt_block(Block::<Aes128>::from_mut_slice(block));
            xor(block, &last);
            last.copy_from_slice(encrypted);
        }
        let padding = usize::from(text.last().copied().unwrap_or(0));
        let length = text
            .len()
            .checked_sub(padding)
            .filter(|_| (1..=BLOCK).contains(&padding));
        let is_padded = |length: &usize| {
            let mut rest = text.iter().skip(*length);
            rest.all(|byte| usize::from(*byte) == padding)
        };
        match length.filter(is_padded) {
            Some(length) => {
                text.truncate(length);
                Ok(text)
            }
            None => Err("the answer is encrypted with other keys".to_string()),
        }
    }

    fn vector(&self) -> [u8; BLOCK] {
        let mut vector = [0; BLOCK];
        let bytes = self.vector.into_iter().chain(self.number.to_be_bytes());
        vector
            .iter_mut()
            .zip(bytes)
            .for_each(|(slot, byte)| *slot = byte);
        vector
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// The first bytes of a digest.
fn first<const N: usize>(digest: &[u8; 32]) -> [u8; N] {
    digest.first_chunk().copied().unwrap_or([0; N])
}

/// The last bytes of a digest.
fn last<const N: usize>(digest: &[u8; 32]) -> [u8; N] {
    digest.last_chunk().copied().unwrap_or([0; N])
}

fn xor(block: &mut [u8], other: &[u8; BLOCK]) {
    block
        .iter_mut()
        .zip(other)
        .for_each(|(byte, other)| *byte ^= other);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn bytes(hexadecimal: &Value) -> Vec<u8> {
        let text = hexadecimal.as_str().unwrap();
        let pairs = (0..text.len()).step_by(2);
        pairs
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    /// What python-kasa computes (tests/fixtures/klap/make.py).
    fn vectors() -> Vec<Value> {
        let text = include_str!("../../../tests/fixtures/klap/vectors.json");
        serde_json::from_str(text).unwrap()
    }

    fn account(vector: &Value) -> Account {
        let version = match vector["version"].as_u64().unwrap() {
            1 => Version::First,
            _ => Version::Second,
        };
        let [username, password] =
            ["username", "password"].map(|key| vector[key].as_str().unwrap());
        Account::new(version, username, password)
    }

    fn accepted(vector: &Value) -> Accepted {
        let seed: Seed = bytes(&vector["local_seed"]).try_into().unwrap();
        let answer = [bytes(&vector["remote_seed"]), bytes(&vector["server_hash"])].concat();
        let other = Account::new(Version::Second, "nobody", "");
        accept(&seed, &answer, &[other, account(vector)])
            .ok()
            .unwrap()
    }

    #[test]
    fn handshake_and_requests_are_those_of_python_kasa() {
        let vectors = vectors();
        assert!(vectors.len() >= 4);
        for vector in vectors {
            assert_eq!(account(&vector).hash, bytes(&vector["auth_hash"]));
            let Accepted {
                account,
                proof,
                mut session,
                ..
            } = accepted(&vector);
            assert_eq!(
                (account, proof.to_vec()),
                (1, bytes(&vector["client_hash"]))
            );
            for exchange in vector["exchanges"].as_array().unwrap() {
                let text = exchange["request"].as_str().unwrap();
                let (number, body) = session.encrypt(text.as_bytes());
                assert_eq!(i64::from(number), exchange["seq"].as_i64().unwrap());
                assert_eq!(body, bytes(&exchange["body"]), "{text}");
                // Both directions have the same keys.
                assert_eq!(session.decrypt(&body).unwrap(), text.as_bytes());
            }
        }
    }

    #[test]
    fn device_that_knows_another_login_is_refused() {
        let vector = &vectors()[0];
        let seed: Seed = bytes(&vector["local_seed"]).try_into().unwrap();
        let answer = [bytes(&vector["remote_seed"]), bytes(&vector["server_hash"])].concat();
        let others = [Version::First, Version::Second].map(|v| Account::new(v, "me", "wrong"));
        assert_eq!(accept(&seed, &answer, &others).err(), Some(Refused::Login));
        for length in [0, 16, 47] {
            let refused = accept(&seed, &answer[..length], &[account(vector)]).err();
            assert_eq!(refused, Some(Refused::NotKlap));
        }
        let longer = [&answer[..], b"x"].concat();
        let refused = accept(&seed, &longer, &[account(vector)]).err();
        assert_eq!(refused, Some(Refused::NotKlap));
    }

    #[test]
    fn answers_that_are_none_say_why() {
        let Accepted { mut session, .. } = accepted(&vectors()[0]);
        let (_, body) = session.encrypt(b"{}");
        for length in [0, 31, 32, 33, 47] {
            let why = session.decrypt(&body[..length]).unwrap_err();
            assert!(why.contains("not encrypted by KLAP"), "{why}");
        }
        let (_, second) = session.encrypt(b"{}");
        assert_ne!(body, second);
        // Encrypted for another number: nearly never a valid padding.
        for text in [&b"0123456789"[..], b"0123456789abcdef"] {
            let (_, mut body) = session.encrypt(text);
            *body.last_mut().unwrap() ^= 1;
            assert!(session.decrypt(&body).is_err());
        }
    }

    #[test]
    fn numbers_of_requests_begin_anew_after_the_last() {
        let Accepted { mut session, .. } = accepted(&vectors()[0]);
        session.number = i32::MAX;
        let (number, body) = session.encrypt(b"x");
        assert_eq!(
            (number, session.decrypt(&body).unwrap()),
            (i32::MIN, b"x".to_vec())
        );
    }
}
