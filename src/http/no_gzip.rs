//! The interface of `gzip` in a build without it: nothing is compressed.

#![allow(clippy::unused_self)]

use std::sync::Arc;

/// Compresses nothing.
#[derive(Default)]
pub struct Compressor(());

/// There are no compressed parts.
#[derive(Debug, Clone)]
pub enum Part {}

impl Compressor {
    /// `None`.
    pub fn compress(&self, _text: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// `None`.
    pub fn part(&self, _text: &[u8]) -> Option<Part> {
        None
    }
}

/// Never called: there are no parts.
pub fn join<'p>(_parts: impl IntoIterator<Item = &'p Part>) -> Vec<Arc<[u8]>> {
    Vec::new()
}
