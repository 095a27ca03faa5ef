//! bcrypt (Provos and Mazières, "A Future-Adaptable Password Scheme", USENIX 1999): the hashes that exporter-toolkit's
//! files hold, as `htpasswd -B` and others write them. Pure, and slow on purpose.

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, Engine as _};
use blowfish::Blowfish;

use crate::sys::constant_time::same_bytes;

/// bcrypt's own alphabet, whose last letters hold bits to spare.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::BCRYPT,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);
/// The costs that the format allows: 2 to the power of this many rounds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// Letters of the salt, after which those of the digest follow.
const SALT: usize = 22;
/// Bytes of a password that count.
const PASSWORD: usize = 72;
/// What is encrypted 64 times.
const TEXT: &[u8; 24] = b"OrpheanBeholderScryDoubt";
/// The last byte of the cipher's text is not kept.
const DIGEST: usize = 23;

/// `$2y$10$…`: what is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; DIGEST],
}

impl Hash {
    /// Reads a hash of the versions 2a, 2b and 2y, which mean the same. `None`: it is none. (2x is what a faulty
    /// implementation made of passwords that are not ASCII.)
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
        let (salt, digest) = rest.split_at_checked(SALT)?;
        Some(Hash {
            cost,
            salt: BASE64.decode(salt).ok()?.try_into().ok()?,
            digest: BASE64.decode(digest).ok()?.try_into().ok()?,
        })
    }

    /// One that no password has, and that takes as long to find that out.
    pub fn of_nobody(cost: u32) -> Hash {
        Hash {
            cost: cost.clamp(*COSTS.start(), *COSTS.end()),
            salt: [0; 16],
            digest: [0; DIGEST],
        }
    }

    /// 4 to 31; each step doubles the time.
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// All that it is, for whoever needs to tell hashes apart.
    pub(crate) fn bytes(&self) -> [u8; 1 + 16 + DIGEST] {
        let mut bytes = [0; 1 + 16 + DIGEST];
        let parts = [self.cost as u8].into_iter().chain(self.salt);
        for (place, byte) in bytes.iter_mut().zip(parts.chain(self.digest)) {
            *place = byte;
        }
        bytes
    }

    /// Whether it is this password's. Of a password 72 bytes count, as everywhere.
    pub fn is_of(&self, password: &[u8]) -> bool {
        let mut key = password.get(..PASSWORD).unwrap_or(password).to_vec();
        key.push(0);
        let mut state = Blowfish::bc_init_state();
        state.salted_expand_key(&self.salt, &key);
        for _ in 0..1_u64 << self.cost {
            state.bc_expand_key(&key);
            state.bc_expand_key(&self.salt);
        }
        let mut found = [0; TEXT.len()];
        for (words, text) in found.chunks_exact_mut(8).zip(TEXT.chunks_exact(8)) {
            let mut block = [word(text, 0), word(text, 4)];
            for _ in 0..64 {
                block = state.bc_encrypt(block);
            }
            for (bytes, word) in words.chunks_exact_mut(4).zip(block) {
                bytes.copy_from_slice(&word.to_be_bytes());
            }
        }
        same_bytes(found.get(..DIGEST).unwrap_or_default(), &self.digest)
    }
}

/// Four bytes as a number.
fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.iter().skip(at).take(4);
    four.fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// It is not shown: a hash can be guessed at.
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
    /// Of 72 letters x.
    const LONG: &str = "$2b$04$082sKpUvmmMY7NOoUHQpVO7rSjOtGV0pxTeHfCgv7u9ZERckhiw/i";

    fn fits(hash: &str, password: &str) -> bool {
        Hash::parse(hash).unwrap().is_of(password.as_bytes())
    }

    /// Made by Apache's htpasswd and by Python's bcrypt.
    #[test]
    fn hashes_of_others_are_understood() {
        for (hash, password) in HASHES {
            assert!(fits(hash, password), "{hash}");
            assert!(!fits(hash, &format!("{password}x")), "{hash}");
            assert!(!fits(hash, ""), "{hash}");
        }
        assert!(fits(EMPTY, "") && !fits(EMPTY, " "));
    }

    #[test]
    fn seventy_two_bytes_count() {
        let long = "x".repeat(PASSWORD);
        assert!(fits(LONG, &long));
        assert!(fits(LONG, &format!("{long}y")));
        assert!(!fits(LONG, &long[1..]));
    }

    #[test]
    fn what_is_no_hash_is_none() {
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
    fn nobodys_hash_is_nobodys() {
        let nobody = Hash::of_nobody(0);
        assert_eq!(nobody.cost(), 4);
        assert!(!nobody.is_of(b"") && !nobody.is_of(b"secret"));
    }
}
