//! Comparing secrets.

/// Whether two byte strings are equal. The time does not depend on the content of strings of equal length.
pub fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |bits, (a, b)| bits | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}
