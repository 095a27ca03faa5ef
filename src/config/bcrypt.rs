//! bcrypt (Provos and Mazières, "A Future-Adaptable Password Scheme", USENIX 1999): the password hashes in files of
//! exporter-toolkit, as written by `htpasswd -B` and others. Pure, and slow on purpose.

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, Engine as _};
use blowfish::Blowfish;

use crate::sys::constant_time::same_bytes;

/// The alphabet of bcrypt. The last character has unused bits.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::BCRYPT,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);
/// The costs that the format allows: 2 to the power of this many rounds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// Characters of the salt. Those of the digest follow.
const SALT_CHARS: usize = 22;
/// Bytes of a password that are used. The rest is ignored.
const MAX_PASSWORD: usize = 72;
/// The text that is encrypted 64 times.
const PLAINTEXT: &[u8; 24] = b"OrpheanBeholderScryDoubt";
/// Bytes of the digest: the last byte of the ciphertext is dropped.
const DIGEST_BYTES: usize = 23;

/// A password hash: `$2y$10$…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; DIGEST_BYTES],
}

impl Hash {
    /// Parses a hash of the versions 2a, 2b and 2y, which are equivalent. `None` if the text is not a hash. (2x comes from an
    /// implementation that hashed non-ASCII passwords wrongly.)
    pub fn parse(text: &str) -> Option<Hash> {
        let rest = ["$2y$", "$2b$", "$2a$"]
            .iter()
            .find_map(|version| text.strip_prefix(version))?;
        let (cost, rest) = rest.split_once('$')?;
        let cost = match cost.as_bytes() {
            [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
                u32::from(tens - b'0') * 10 + u32::from(ones - b'0')
            }
            _ => return None,
        };
        if !COSTS.contains(&cost) {
            return None;
        }
        let (salt, digest) = rest.split_at_checked(SALT_CHARS)?;
        Some(Hash {
            cost,
            salt: BASE64.decode(salt).ok()?.try_into().ok()?,
            digest: BASE64.decode(digest).ok()?.try_into().ok()?,
        })
    }

    /// A hash that no password matches. Checking takes as long as for other hashes of this cost.
    pub fn unmatchable(cost: u32) -> Hash {
        Hash {
            cost: cost.clamp(*COSTS.start(), *COSTS.end()),
            salt: [0; 16],
            digest: [0; DIGEST_BYTES],
        }
    }

    /// The cost, 4 to 31. Each step doubles the time.
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// The hash as bytes, to compare hashes.
    pub(crate) fn bytes(&self) -> [u8; 1 + 16 + DIGEST_BYTES] {
        let mut bytes = [0; 1 + 16 + DIGEST_BYTES];
        let parts = [self.cost as u8].into_iter().chain(self.salt);
        for (place, byte) in bytes.iter_mut().zip(parts.chain(self.digest)) {
            *place = byte;
        }
        bytes
    }

    /// Whether the password matches. Only its first 72 bytes are used, as in all implementations.
    pub fn matches(&self, password: &[u8]) -> bool {
        let mut key = password.get(..MAX_PASSWORD).unwrap_or(password).to_vec();
        key.push(0);
        let mut state = Blowfish::bc_init_state();
        state.salted_expand_key(&self.salt, &key);
        for _ in 0..1_u64 << self.cost {
            state.bc_expand_key(&key);
            state.bc_expand_key(&self.salt);
        }
        let mut found = [0; PLAINTEXT.len()];
        for (words, text) in found.chunks_exact_mut(8).zip(PLAINTEXT.chunks_exact(8)) {
            let mut block = [word(text, 0), word(text, 4)];
            for _ in 0..64 {
                block = state.bc_encrypt(block);
            }
            for (bytes, word) in words.chunks_exact_mut(4).zip(block) {
                bytes.copy_from_slice(&word.to_be_bytes());
            }
        }
        same_bytes(found.get(..DIGEST_BYTES).unwrap_or_default(), &self.digest)
    }
}

/// Four bytes as a big-endian number.
fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.iter().skip(at).take(4);
    four.fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The hash is not shown, because the password can be found from it by guessing.
impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHES: [(&str, &str); 3] = [
        (
            "$2y$04$VImZYFTlUDU2TXNWm22QY.f.toxyFiLqSW2ZQebdx80pPspviZfJG",
            "open sesame",
        ),
        (
            "$2y$06$IT.vlFlgsXUo5f.EaE21Pex2asjsNr9I1KKGEv7BxlTFAs/wysBvy",
            "U*U",
        ),
        (
            "$2a$04$Nl5AOdF7zT0QopFnBJGeHu.wFr2WAWnFqy4EBc.MKH7L7ewNLBkJO",
            "pässwörd ☃",
        ),
    ];
    const EMPTY: &str = "$2b$04$SeVuWmG7/lwLihPqGQqAm.zibO24tAfXYoCfK9pEIMbJd8ZfS5EX.";
    /// The hash of 72 letters x.
    const LONG: &str = "$2b$04$082sKpUvmmMY7NOoUHQpVO7rSjOtGV0pxTeHfCgv7u9ZERckhiw/i";

    fn fits(hash: &str, password: &str) -> bool {
        Hash::parse(hash).unwrap().matches(password.as_bytes())
    }

    /// Made by Apache's htpasswd and by Python's bcrypt.
    #[test]
    fn hashes_of_other_implementations_match() {
        for (hash, password) in HASHES {
            assert!(fits(hash, password), "{hash}");
            assert!(!fits(hash, &format!("{password}x")), "{hash}");
            assert!(!fits(hash, ""), "{hash}");
        }
        assert!(fits(EMPTY, "") && !fits(EMPTY, " "));
    }

    #[test]
    fn first_72_bytes_of_a_password_are_used() {
        let long = "x".repeat(MAX_PASSWORD);
        assert!(fits(LONG, &long));
        assert!(fits(LONG, &format!("{long}y")));
        assert!(!fits(LONG, &long[1..]));
    }

    #[test]
    fn invalid_hashes_are_rejected() {
        let good = HASHES[0].0;
        assert!(Hash::parse(good).is_some());
        for bad in [
            "",
            "secret",
            "$2y$",
            "$2y$04$",
            &good.replace("$2y$", "$2x$"),
            &good.replace("$2y$", "$2$"),
            &good.replace("$04$", "$03$"),
            &good.replace("$04$", "$32$"),
            &good.replace("$04$", "$4$"),
            &good.replace("$04$", "$+4$"),
            &good[..good.len() - 1],
            &format!("{good}."),
            &format!("{good}\n"),
            &format!("{}!", &good[..good.len() - 1]),
            &format!("{}ü", &good[..good.len() - 2]),
        ] {
            assert!(Hash::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn no_password_matches_the_unmatchable_hash() {
        let unmatchable = Hash::unmatchable(0);
        assert_eq!(unmatchable.cost(), 4);
        assert!(!unmatchable.matches(b"") && !unmatchable.matches(b"secret"));
    }
}
