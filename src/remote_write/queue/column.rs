//! The values of one series in a block, losslessly encoded as differences of integers.
//!
//! The first byte says what the integers are divided by. Its highest bit says whether a second row of integers follows:
//! the distance of each value from its quotient, in units of its last place. A sum of decimal fractions has such a
//! distance. Values that are no round numbers of anything are written as integers of their bits.

use super::bytes::{zigzag, Reader};
use super::ints;

/// The integers are the bits of the values.
const BITS: u8 = 0;
/// The first of the codes of powers of ten: what a file in micro- or millivolts becomes in volts.
const TEN: u8 = 1;
const TENS: [f64; 13] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
];
/// The code of 2^0, and of the powers of two behind it, up to the 62nd: energy in a processor's own units.
const TWO: u8 = TEN + TENS.len() as u8;
const MAX_BITS: u8 = 62;
const HAS_DISTANCES: u8 = 1 << 7;

/// How many values are tried to choose the code.
const MAX_TRIED: usize = 24;

/// What a code divides by.
fn divisor(code: u8) -> Option<f64> {
    match code {
        TEN..TWO => TENS.get(usize::from(code - TEN)).copied(),
        TWO.. if code <= TWO + MAX_BITS => Some((1u64 << (code - TWO)) as f64),
        _ => None,
    }
}

/// Appends values. Their count is not written.
pub(super) fn put(out: &mut Vec<u8>, values: &[f64]) {
    let code = choose_code(values);
    let parts = values.iter().map(|value| parts(*value, divisor(code)));
    let (whole, distances): (Vec<i64>, Vec<i64>) = parts.unzip();
    let exact = distances.iter().all(|distances| *distances == 0);
    out.push(if exact { code } else { code | HAS_DISTANCES });
    ints::put(out, &whole);
    if !exact {
        ints::put(out, &distances);
    }
}

/// Reads `count` values.
pub(super) fn take(reader: &mut Reader<'_>, count: usize) -> Option<Vec<f64>> {
    let byte = reader.byte()?;
    let code = byte & !HAS_DISTANCES;
    let divisor = divisor(code);
    if divisor.is_none() && byte != BITS {
        return None;
    }
    let whole = ints::take(reader, count)?.into_iter();
    let quotients = whole.map(|int| divisor.map_or(int, |divisor| bits(int as f64 / divisor)));
    if byte == code {
        return Some(quotients.map(value).collect());
    }
    let distances = ints::take(reader, count)?;
    let values = quotients
        .zip(distances)
        .map(|(q, b)| value(q.wrapping_add(b)));
    Some(values.collect())
}

/// The code that takes the fewest bits for a part of the values.
fn choose_code(values: &[f64]) -> u8 {
    let every = values.len().div_ceil(MAX_TRIED).max(1);
    let tried = || values.iter().step_by(every);
    let binary = tried().map(|value| digits_behind_point(*value)).max();
    let binary = binary.filter(|digits| *digits <= u32::from(MAX_BITS));
    let codes = (TEN..TWO)
        .chain(binary.map(|digits| TWO + digits as u8))
        .chain([BITS]);
    let bits = |code: &u8| {
        let (mut before, mut bits) = ((0, 0), 0);
        for value in tried() {
            let parts = parts(*value, divisor(*code));
            for change in [
                parts.0.wrapping_sub(before.0),
                parts.1.wrapping_sub(before.1),
            ] {
                bits += 64 - zigzag(change).leading_zeros();
            }
            before = parts;
        }
        bits
    };
    codes.min_by_key(bits).unwrap_or(BITS)
}

/// The integer whose quotient is nearest to a value, and the distance of the value from it. Any two bit patterns have a
/// difference: infinities and NaNs come back too.
fn parts(value: f64, divisor: Option<f64>) -> (i64, i64) {
    let Some(divisor) = divisor else {
        return (bits(value), 0);
    };
    // Out of range saturates, NaN is 0.
    let int = (value * divisor).round() as i64;
    (int, bits(value).wrapping_sub(bits(int as f64 / divisor)))
}

fn bits(value: f64) -> i64 {
    value.to_bits() as i64
}

fn value(bits: i64) -> f64 {
    f64::from_bits(bits as u64)
}

/// How many binary digits a value has behind its point.
fn digits_behind_point(value: f64) -> u32 {
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let digits = (bits & ((1 << 52) - 1)) | 1 << 52;
    if value == 0.0 {
        return 0;
    }
    let trailing = digits.trailing_zeros() as i32;
    (1075 - exponent - trailing).max(0) as u32
}

#[cfg(test)]
#[path = "column_tests.rs"]
mod tests;
