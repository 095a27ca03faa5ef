//! Responses made of pieces that many responses share, plain and compressed.

use std::sync::Arc;

use crate::http::gzip::{self, Compressor};
use crate::http::Response;

/// Part of a response body.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) plain: Arc<[u8]>,
    compressed: Option<gzip::Part>,
}

impl Piece {
    pub(super) fn new(plain: Vec<u8>) -> Piece {
        Piece {
            plain: plain.into(),
            compressed: None,
        }
    }

    /// Compresses the piece, unless that was done before.
    pub(super) fn compress(&mut self, compressor: &Compressor) {
        if self.compressed.is_none() {
            self.compressed = compressor.part(&self.plain);
        }
    }
}

/// A JSON response of these pieces; compressed if `gzip` asks for that and every piece is compressed.
pub(super) fn response(pieces: &[Piece], gzip: bool) -> Response {
    const JSON: &str = "application/json";
    let compressed = || {
        let parts = pieces.iter().map(|piece| piece.compressed.as_ref());
        Some(gzip::join(parts.collect::<Option<Vec<_>>>()?))
    };
    let response = match gzip.then(compressed).flatten() {
        Some(member) => Response::shared(200, JSON, member).with_header("Content-Encoding", "gzip"),
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
