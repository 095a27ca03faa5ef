//! Encodes integers by their differences.
//!
//! The code is a byte k, the first integer, and, if bit 6 of the byte says so, the slope. The slope is the median
//! difference without its lowest k bits, and is subtracted from each difference. The rest of each difference is written
//! in a Rice code with k bits: the part above the lowest k bits in unary, then those bits. (R. F. Rice, "Some Practical
//! Universal Noiseless Coding Techniques", JPL 79-22: near the best there is for numbers that are mostly near zero.)

use super::bits::{BitReader, BitWriter};
use super::bytes::{put_signed, unzigzag, zigzag, Reader};

/// More ones than this are an escape: six bits give the length of the number less one, and the number follows.
const MAX_ONES: u32 = 8;
/// A slope follows.
const SLOPE: u8 = 1 << 6;

/// Appends integers. Their count is not written.
pub(super) fn put(out: &mut Vec<u8>, ints: &[i64]) {
    let Some(first) = ints.first() else {
        return;
    };
    let pairs = ints.iter().zip(ints.iter().skip(1));
    let steps: Vec<i64> = pairs.map(|(a, b)| b.wrapping_sub(*a)).collect();
    let rests = |slope: i64| -> Vec<u64> {
        let rests = steps.iter().map(|step| step.wrapping_sub(slope));
        rests.map(zigzag).collect()
    };
    // Unlike the mean, the median is not moved by one extreme step.
    let slope = median(&mut steps.clone()).unwrap_or_default();
    let usual = median(&mut rests(slope)).unwrap_or_default();
    let k = length(usual).saturating_sub(1);
    // The bits by which the steps differ are not worth writing in the slope.
    let coarse = slope.wrapping_add((1u64 << k >> 1) as i64) >> k;
    out.push(k as u8 | if coarse == 0 { 0 } else { SLOPE });
    put_signed(out, *first);
    if coarse != 0 {
        put_signed(out, coarse);
    }
    let mut bits = BitWriter::new(out);
    for number in rests(coarse << k) {
        match number >> k {
            ones if ones > u64::from(MAX_ONES) => {
                bits.put(u64::MAX, MAX_ONES + 1);
                bits.put(u64::from(length(number) - 1), 6);
                bits.put(number, length(number));
            }
            ones => {
                bits.put(u64::MAX << 1, ones as u32 + 1);
                bits.put(number, k);
            }
        }
    }
}

fn median<T: Ord + Copy>(of: &mut [T]) -> Option<T> {
    let median = of.len() / 2;
    (!of.is_empty()).then(|| *of.select_nth_unstable(median).1)
}

/// Binary digits of a number.
fn length(number: u64) -> u32 {
    64 - number.leading_zeros()
}

/// Reads `count` integers.
pub(super) fn take(reader: &mut Reader<'_>, count: usize) -> Option<Vec<i64>> {
    let mut ints = Vec::with_capacity(count);
    if count == 0 {
        return Some(ints);
    }
    let byte = reader.byte()?;
    let mut int = reader.signed()?;
    let (k, slope) = match byte {
        0..SLOPE => (byte, 0),
        SLOPE..=127 => (byte & !SLOPE, reader.signed()?),
        _ => return None,
    };
    let slope = slope << k;
    let k = u32::from(k);
    let mut bits = BitReader::new(reader.rest);
    ints.push(int);
    while ints.len() < count {
        let ones = bits.ones(MAX_ONES + 1)?;
        let rests = match ones > MAX_ONES {
            true => {
                let length = bits.take(6)? as u32 + 1;
                bits.take(length)?
            }
            // A number that overflows was not written here.
            false => u64::from(ones).checked_mul(1 << k)? | bits.take(k)?,
        };
        int = int.wrapping_add(slope).wrapping_add(unzigzag(rests));
        ints.push(int);
    }
    reader.bytes(bits.bytes_taken())?;
    Some(ints)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;

    fn round_trip(ints: &[i64]) -> usize {
        let mut out = Vec::new();
        put(&mut out, ints);
        let mut reader = Reader::new(&out);
        assert_eq!(take(&mut reader, ints.len()).unwrap(), ints);
        assert!(reader.rest.is_empty());
        for length in 0..out.len() {
            assert!(take(&mut Reader::new(&out[..length]), ints.len()).is_none());
        }
        out.len()
    }

    #[test]
    fn integers_come_back() {
        round_trip(&[]);
        round_trip(&[0]);
        round_trip(&[i64::MIN, i64::MAX, 0, i64::MIN, -1]);
        round_trip(&[i64::MIN; 7]);
        round_trip(&[5, 5, 5, 6, 6, 9, 9, 9]);
        let mut random = Random::new(9);
        for width in 0..64 {
            let rows = 1 + random.below(60);
            let ints: Vec<_> = (0..rows).map(|_| random.next() as i64 >> width).collect();
            round_trip(&ints);
        }
    }

    #[test]
    fn constant_and_linear_integers_take_almost_no_bytes() {
        // A bit each here, which the record packs.
        let packed = |ints: &[i64]| {
            let mut out = Vec::new();
            put(&mut out, ints);
            snap::raw::Encoder::new().compress_vec(&out).unwrap().len()
        };
        assert!(packed(&[123_456_789; 1000]) < 30);
        let even: Vec<i64> = (0..1000).map(|i| 123_456_789 + 15_000 * i).collect();
        assert!(packed(&even) < 30);
        assert!(round_trip(&even) < 1000 / 8 + 15);
    }

    #[test]
    fn wavering_integers_take_the_bits_that_waver() {
        let mut random = Random::new(8);
        let wavers: Vec<i64> = (0..1000).map(|_| random.below(16) as i64).collect();
        assert!(round_trip(&wavers) < 1000 * 6 / 8);
        // And one that is far out does not make the others longer.
        let far = [&wavers[..], &[1 << 40], &wavers].concat();
        assert!(round_trip(&far) < 2000 * 6 / 8);
    }

    #[test]
    fn overflow_and_unknown_codes_are_none() {
        assert!(take(&mut Reader::new(&[128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 2).is_none());
        // A number above 64 bits: two ones and a zero, before 63 bits.
        let too_large = [63, 0, 0b1100_0000, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(take(&mut Reader::new(&too_large), 2).is_none());
        // The longest that there is.
        let longest = [
            0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ];
        assert_eq!(take(&mut Reader::new(&longest), 2).unwrap()[1], i64::MIN);
    }
}
