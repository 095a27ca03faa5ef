//! Answers made of pieces that many answers share, as they are and compressed.
//!
//! A piece is compressed by itself and ends on a byte, so that the compressed pieces in a row are one deflate stream
//! (RFC 1951, 3.2.4: a block that is empty and stored ends on a byte), and its checksum follows from theirs.

use std::sync::Arc;

use crate::http::Response;

/// Part of an answer.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) plain: Arc<[u8]>,
    #[cfg(feature = "gzip")]
    packed: Option<gzip::Packed>,
}

impl Piece {
    pub(super) fn new(plain: Vec<u8>) -> Piece {
        Piece {
            plain: plain.into(),
            #[cfg(feature = "gzip")]
            packed: None,
        }
    }
}

/// Compresses pieces, one at a time.
#[derive(Default)]
pub(super) struct Packer {
    #[cfg(feature = "gzip")]
    compress: Option<flate2::Compress>,
}

impl Packer {
    /// Has the piece compressed too, if it is not yet.
    #[cfg_attr(not(feature = "gzip"), allow(unused_variables, clippy::unused_self))]
    pub(super) fn pack(&mut self, piece: &mut Piece) {
        #[cfg(feature = "gzip")]
        if piece.packed.is_none() {
            piece.packed = gzip::pack(&mut self.compress, &piece.plain);
        }
    }
}

/// An answer of JSON out of these pieces; compressed, if that is wanted and each of them is.
pub(super) fn answer(pieces: &[Piece], gzip: bool) -> Response {
    const JSON: &str = "application/json";
    let response = match packed(pieces, gzip) {
        Some(packed) => Response::shared(200, JSON, packed).with_header("Content-Encoding", "gzip"),
        None => {
            let plain = pieces.iter().map(|piece| Arc::clone(&piece.plain));
            Response::shared(200, JSON, plain.collect())
        }
    };
    match cfg!(feature = "gzip") {
        true => response.with_header("Vary", "Accept-Encoding"),
        false => response,
    }
}

#[cfg(not(feature = "gzip"))]
fn packed(_: &[Piece], _: bool) -> Option<Vec<Arc<[u8]>>> {
    None
}

#[cfg(feature = "gzip")]
fn packed(pieces: &[Piece], wanted: bool) -> Option<Vec<Arc<[u8]>>> {
    match wanted {
        true => gzip::join(pieces),
        false => None,
    }
}

#[cfg(feature = "gzip")]
mod gzip {
    use std::sync::Arc;

    use flate2::{Compress, Compression, Crc, FlushCompress};

    use super::Piece;

    /// Magic number, deflate, no flags, no time, no word on the level, from Unix (RFC 1952, 2.3).
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    /// An empty block, the last one.
    const LAST: [u8; 2] = [3, 0];
    /// A shorter piece is stored as it is.
    const WORTH_IT: usize = 512;

    /// Blocks of deflate, none of them the last, and the checksum of what is in them.
    #[derive(Debug, Clone)]
    pub(super) struct Packed {
        blocks: Arc<[u8]>,
        crc: Arc<Crc>,
    }

    pub(super) fn pack(kept: &mut Option<Compress>, plain: &[u8]) -> Option<Packed> {
        let mut crc = Crc::new();
        crc.update(plain);
        let blocks = match plain.len() {
            0..WORTH_IT => stored(plain)?,
            _ => deflated(kept, plain)?,
        };
        Some(Packed {
            blocks: blocks.into(),
            crc: Arc::new(crc),
        })
    }

    fn stored(plain: &[u8]) -> Option<Vec<u8>> {
        let length = u16::try_from(plain.len()).ok()?;
        let mut block = vec![0];
        block.extend(length.to_le_bytes());
        block.extend((!length).to_le_bytes());
        block.extend(plain);
        Some(block)
    }

    fn deflated(kept: &mut Option<Compress>, plain: &[u8]) -> Option<Vec<u8>> {
        let compress = match kept {
            Some(compress) => {
                compress.reset();
                compress
            }
            none => none.insert(Compress::new(Compression::fast(), false)),
        };
        let mut blocks = Vec::with_capacity(1024 + plain.len() / 6);
        loop {
            let done = usize::try_from(compress.total_in()).ok()?;
            let rest = plain.get(done..)?;
            compress
                .compress_vec(rest, &mut blocks, FlushCompress::Sync)
                .ok()?;
            if blocks.len() < blocks.capacity() {
                let done = usize::try_from(compress.total_in()).ok()?;
                return (done == plain.len()).then_some(blocks);
            }
            blocks.reserve(blocks.len());
        }
    }

    /// `None`: some piece is not compressed.
    pub(super) fn join(pieces: &[Piece]) -> Option<Vec<Arc<[u8]>>> {
        let mut crc = Crc::new();
        let mut all: Vec<Arc<[u8]>> = Vec::with_capacity(pieces.len() + 2);
        all.push(HEADER.as_slice().into());
        for piece in pieces {
            let packed = piece.packed.as_ref()?;
            crc.combine(&packed.crc);
            all.push(Arc::clone(&packed.blocks));
        }
        let mut end = LAST.to_vec();
        end.extend(crc.sum().to_le_bytes());
        end.extend(crc.amount().to_le_bytes());
        all.push(end.into());
        Some(all)
    }

    #[cfg(test)]
    mod tests {
        use std::io::Read;

        use super::super::Packer;
        use super::*;

        #[test]
        fn compressed_pieces_in_a_row_are_one_text() {
            let mut packer = Packer::default();
            let mut noise = 1_u64;
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (noise >> 56) as u8
            })
            .take(100_000)
            .collect();
            let texts = [
                b"[".to_vec(),
                "{\"device_id\":\"edge-01\"},\n".repeat(900).into_bytes(),
                Vec::new(),
                noise,
                b"x".repeat(WORTH_IT),
                b"]".to_vec(),
            ];
            let mut pieces: Vec<Piece> = texts.iter().cloned().map(Piece::new).collect();
            assert!(join(&pieces).is_none());
            for piece in &mut pieces {
                packer.pack(piece);
            }
            let packed = join(&pieces).unwrap().concat();
            let mut back = Vec::new();
            // A reader of one member alone, as browsers have.
            let mut decoder = flate2::read::GzDecoder::new(packed.as_slice());
            decoder.read_to_end(&mut back).unwrap();
            assert!(back == texts.concat());
        }
    }
}
