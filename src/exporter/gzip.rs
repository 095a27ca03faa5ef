//! Compressed answers (gzip, RFC 1952), with the compressor's memory kept from one scrape to the next: taking a third
//! of a megabyte anew and giving it back costs more than compressing a scrape does.

use std::sync::Mutex;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::sys::lock;

/// Magic number, deflate, no flags, no time, no word on the level, from Unix (RFC 1952, 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// Makes gzip of texts, one at a time: a compressor has a third of a megabyte, and takes a tenth of a millisecond.
#[derive(Default)]
pub(super) struct Packer(Mutex<Option<Compress>>);

impl Packer {
    /// The text compressed; `None` if it cannot be.
    pub(super) fn pack(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut kept = lock::lock(&self.0);
        let compress = match &mut *kept {
            Some(compress) => {
                compress.reset();
                compress
            }
            // The fastest level: exposition text is so repetitive that a higher one gains little.
            none => none.insert(Compress::new(Compression::fast(), false)),
        };
        let mut packed = Vec::with_capacity(256 + text.len() / 4);
        packed.extend(HEADER);
        loop {
            let done = usize::try_from(compress.total_in()).ok()?;
            let rest = text.get(done..)?;
            match compress.compress_vec(rest, &mut packed, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => break,
                Ok(Status::Ok | Status::BufError) if packed.len() == packed.capacity() => {
                    packed.reserve(packed.len());
                }
                _ => return None,
            }
        }
        drop(kept);
        let mut crc = Crc::new();
        crc.update(text);
        packed.extend(crc.sum().to_le_bytes());
        packed.extend(crc.amount().to_le_bytes());
        Some(packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_packed_is_unpacked_again_however_often() {
        let packer = Packer::default();
        let mut noise = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (noise >> 56) as u8
        })
        .take(300_000)
        .collect();
        let text = "power_watts{rail=\"vin\"} 1.5\n".repeat(3_000);
        for plain in [text.as_bytes(), &noise, b"", b"x", text.as_bytes()] {
            let packed = packer.pack(plain).unwrap();
            let mut back = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(packed.as_slice());
            decoder.read_to_end(&mut back).unwrap();
            assert_eq!(back, plain);
        }
        assert!(packer.pack(text.as_bytes()).unwrap().len() < text.len() / 20);
    }
}
