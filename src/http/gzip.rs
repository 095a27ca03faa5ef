//! Gzip (RFC 1952) for response bodies: of one text, or of parts that were compressed before and are put together.
//!
//! The compressor's memory is kept from one response to the next: allocating and freeing a third of a megabyte costs more
//! than compressing a scrape does.
//!
//! A part is compressed by itself and ends on a byte boundary (RFC 1951, 3.2.4: an empty stored block does), so that the
//! parts in a row are one deflate stream, and the checksum of the whole follows from theirs.

use std::sync::{Arc, Mutex};

use flate2::{Compress, Compression, Crc, FlushCompress};

use crate::sys::lock;

/// Magic number, deflate, no flags, no time, no level, Unix (RFC 1952, 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// An empty block, marked as the last one.
const LAST_BLOCK: [u8; 2] = [3, 0];
/// A shorter part is stored as it is.
const MIN_DEFLATED: usize = 512;

/// Compresses one text at a time: a compressor takes a third of a megabyte, and a tenth of a millisecond for a scrape.
#[derive(Default)]
pub struct Compressor(Mutex<Option<Compress>>);

/// A compressed part of a body: deflate blocks, none of them the last, and the checksum of their content.
#[derive(Debug, Clone)]
pub struct Part {
    blocks: Arc<[u8]>,
    crc: Arc<Crc>,
}

impl Compressor {
    /// The text as a gzip member; `None` if it cannot be compressed.
    pub fn compress(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut member = Vec::with_capacity(256 + text.len() / 4);
        member.extend(HEADER);
        self.deflate(text, FlushCompress::Finish, &mut member)?;
        let mut crc = Crc::new();
        crc.update(text);
        member.extend(trailer(&crc));
        Some(member)
    }

    /// The text as a part for [`join`]; `None` if it cannot be compressed.
    pub fn part(&self, text: &[u8]) -> Option<Part> {
        let mut crc = Crc::new();
        crc.update(text);
        let blocks = match text.len() {
            0..MIN_DEFLATED => stored(text)?,
            length => {
                let mut blocks = Vec::with_capacity(1024 + length / 6);
                self.deflate(text, FlushCompress::Sync, &mut blocks)?;
                blocks
            }
        };
        Some(Part {
            blocks: blocks.into(),
            crc: Arc::new(crc),
        })
    }

    /// Appends the text as deflate blocks, up to what `flush` ends it with.
    fn deflate(&self, text: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> Option<()> {
        let mut kept = lock::lock(&self.0);
        let compress = match &mut *kept {
            Some(compress) => {
                compress.reset();
                compress
            }
            // The fastest level: exposition text and JSON are so repetitive that a higher one gains little.
            none => none.insert(Compress::new(Compression::fast(), false)),
        };
        loop {
            let done = usize::try_from(compress.total_in()).ok()?;
            compress.compress_vec(text.get(done..)?, out, flush).ok()?;
            // With room left, everything that was to be written has been.
            if out.len() < out.capacity() {
                let done = usize::try_from(compress.total_in()).ok()?;
                return (done == text.len()).then_some(());
            }
            out.reserve(out.len());
        }
    }
}

/// A gzip member of these parts, in pieces that are not copied.
pub fn join<'p>(parts: impl IntoIterator<Item = &'p Part>) -> Vec<Arc<[u8]>> {
    let mut crc = Crc::new();
    let mut member: Vec<Arc<[u8]>> = vec![HEADER.as_slice().into()];
    for part in parts {
        crc.combine(&part.crc);
        member.push(Arc::clone(&part.blocks));
    }
    let end = [LAST_BLOCK.as_slice(), &trailer(&crc)].concat();
    member.push(end.into());
    member
}

/// Checksum and length of the content (RFC 1952, 2.3.1).
fn trailer(crc: &Crc) -> [u8; 8] {
    let fields = u64::from(crc.sum()) | u64::from(crc.amount()) << 32;
    fields.to_le_bytes()
}

/// A stored block (RFC 1951, 3.2.4).
fn stored(text: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(text.len()).ok()?;
    let mut block = vec![0];
    block.extend(length.to_le_bytes());
    block.extend((!length).to_le_bytes());
    block.extend(text);
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn noise(length: usize) -> Vec<u8> {
        let mut noise = 1_u64;
        std::iter::repeat_with(|| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (noise >> 56) as u8
        })
        .take(length)
        .collect()
    }

    /// Reads one member only, as browsers do.
    fn decompressed(member: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(member);
        decoder.read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn compressor_can_be_used_again_and_again() {
        let compressor = Compressor::default();
        let text = "power_watts{rail=\"vin\"} 1.5\n".repeat(3_000);
        let noise = noise(300_000);
        for plain in [text.as_bytes(), &noise, b"", b"x", text.as_bytes()] {
            let member = compressor.compress(plain).unwrap();
            assert!(decompressed(&member) == plain);
        }
        let length = compressor.compress(text.as_bytes()).unwrap().len();
        assert!(length < text.len() / 20, "{length}");
    }

    #[test]
    fn joined_parts_are_one_text() {
        let compressor = Compressor::default();
        let texts = [
            b"[".to_vec(),
            "{\"device_id\":\"edge-01\"},\n".repeat(900).into_bytes(),
            Vec::new(),
            noise(100_000),
            b"x".repeat(MIN_DEFLATED),
            b"]".to_vec(),
        ];
        let parts = texts.iter().map(|text| compressor.part(text).unwrap());
        let parts: Vec<_> = parts.collect();
        assert!(decompressed(&join(&parts).concat()) == texts.concat());
    }
}
