//! Integers by their differences, in whichever of a few ways takes the fewest bytes.
//!
//! A byte says which: its lowest bit, whether a slope follows, which was taken off every difference; the others, how the
//! differences are written: 0, as numbers, a run of zeros as one; `1 + k`, by the code of Rice with `k` bits. Then the
//! first integer, the slope, and the differences.
//!
//! (R. F. Rice, "Some Practical Universal Noiseless Coding Techniques", JPL 79-22: a number is its part above the lowest k
//! bits, in unary, and those bits; near the best there is for numbers that are mostly near zero.)

use super::bits::{BitReader, BitWriter};
use super::bytes::{put_number, put_signed, unzigzag, zigzag, Reader};

/// More ones than this are an escape: the number follows in 64 bits.
const MOST_ONES: u32 = 20;

/// Appends integers. How many they are is to be known to whoever takes them.
pub(super) fn put(out: &mut Vec<u8>, ints: &[i64]) {
    let [first, rest @ ..] = ints else {
        return;
    };
    let mut before = *first;
    let steps = rest.iter().map(|int| {
        let step = int.wrapping_sub(before);
        before = *int;
        step
    });
    let steps: Vec<i64> = steps.collect();
    let sum: i128 = steps.iter().copied().map(i128::from).sum();
    let mean = sum / (steps.len() as i128).max(1);
    let ways = [0, mean as i64].map(|slope| written(*first, slope, &steps));
    let shortest = ways.into_iter().min_by_key(Vec::len);
    out.extend(shortest.unwrap_or_default());
}

fn written(first: i64, slope: i64, steps: &[i64]) -> Vec<u8> {
    let beside: Vec<u64> = steps
        .iter()
        .map(|step| zigzag(step.wrapping_sub(slope)))
        .collect();
    let runs = runs(&beside);
    // The best k is near how long the numbers are.
    let length: u32 = beside
        .iter()
        .map(|number| 64 - number.leading_zeros())
        .sum();
    let length = length / (beside.len() as u32).max(1);
    let ks = (length.saturating_sub(2)..=length + 1).filter(|k| *k < 64);
    let ways = ks.map(|k| (k, rice_bits(&beside, k)));
    let (k, bits) = ways.min_by_key(|(_, bits)| *bits).unwrap_or_default();
    let by_rice = bits.div_ceil(8) < runs.len() as u64;
    let way = if by_rice { 1 + k as u8 } else { 0 };
    let mut out = vec![way << 1 | u8::from(slope != 0)];
    put_signed(&mut out, first);
    if slope != 0 {
        put_signed(&mut out, slope);
    }
    match by_rice {
        true => put_rice(&mut out, &beside, k),
        false => out.extend(runs),
    }
    out
}

/// Numbers; behind a zero, how many more there are.
fn runs(numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    for run in numbers.chunk_by(|a, b| *a == 0 && *b == 0) {
        let [first, more @ ..] = run else { continue };
        put_number(&mut out, *first);
        if *first == 0 {
            put_number(&mut out, more.len() as u64);
        }
    }
    out
}

fn rice_bits(numbers: &[u64], k: u32) -> u64 {
    let bits = numbers.iter().map(|number| match number >> k {
        ones if ones > u64::from(MOST_ONES) => u64::from(MOST_ONES) + 1 + 64,
        ones => ones + 1 + u64::from(k),
    });
    bits.sum()
}

fn put_rice(out: &mut Vec<u8>, numbers: &[u64], k: u32) {
    let mut bits = BitWriter::new(out);
    for number in numbers {
        match number >> k {
            ones if ones > u64::from(MOST_ONES) => {
                bits.put(u64::MAX, MOST_ONES + 1);
                bits.put(*number, 64);
            }
            ones => {
                bits.put(u64::MAX << 1, ones as u32 + 1);
                bits.put(*number, k);
            }
        }
    }
}

/// So many integers.
pub(super) fn take(reader: &mut Reader<'_>, count: usize) -> Option<Vec<i64>> {
    let mut ints = Vec::with_capacity(count);
    let Some(steps) = count.checked_sub(1) else {
        return Some(ints);
    };
    let way = reader.byte()?;
    let mut int = reader.signed()?;
    let slope = match way & 1 {
        0 => 0,
        _ => reader.signed()?,
    };
    let beside = match u32::from(way >> 1) {
        0 => take_runs(reader, steps)?,
        k @ 1..=64 => take_rice(reader, steps, k - 1)?,
        _ => return None,
    };
    ints.push(int);
    for beside in beside {
        int = int.wrapping_add(slope).wrapping_add(unzigzag(beside));
        ints.push(int);
    }
    Some(ints)
}

fn take_runs(reader: &mut Reader<'_>, count: usize) -> Option<Vec<u64>> {
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let number = reader.number()?;
        numbers.push(number);
        if number == 0 {
            let more = reader.count(count - numbers.len())?;
            numbers.resize(numbers.len() + more, 0);
        }
    }
    Some(numbers)
}

fn take_rice(reader: &mut Reader<'_>, count: usize, k: u32) -> Option<Vec<u64>> {
    let mut bits = BitReader::new(reader.rest);
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        let mut ones = 0;
        while ones <= MOST_ONES && bits.take(1)? == 1 {
            ones += 1;
        }
        numbers.push(match ones > MOST_ONES {
            true => bits.take(64)?,
            // Written as large as it may be, it is not larger than a number: what is, was not written by us.
            false => u64::from(ones).checked_mul(1 << k)? | bits.take(k)?,
        });
    }
    reader.bytes(bits.bytes_taken())?;
    Some(numbers)
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
    fn what_stands_still_or_goes_evenly_takes_next_to_nothing() {
        assert!(round_trip(&[123_456_789; 1000]) < 10);
        let even: Vec<i64> = (0..1000).map(|i| 123_456_789 + 15_000 * i).collect();
        assert!(round_trip(&even) < 15);
    }

    #[test]
    fn what_wavers_takes_the_bits_that_waver() {
        let mut random = Random::new(8);
        let wavers: Vec<i64> = (0..1000).map(|_| random.below(16) as i64).collect();
        assert!(round_trip(&wavers) < 1000 * 6 / 8);
        // And one that is far out does not make the others longer.
        let far = [&wavers[..], &[1 << 40], &wavers].concat();
        assert!(round_trip(&far) < 2000 * 6 / 8);
    }

    #[test]
    fn a_run_longer_than_what_is_wanted_or_an_unknown_way_is_none() {
        assert!(take(&mut Reader::new(&[0, 5, 0, 2]), 4).is_some());
        assert!(take(&mut Reader::new(&[0, 5, 0, 3]), 4).is_none());
        assert!(take(
            &mut Reader::new(&[65 << 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            2
        )
        .is_none());
        // A number above 64 bits: twenty ones and a zero, before 63 bits.
        let too_large = [64 << 1, 0, 0xff, 0xff, 0xf0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(take(&mut Reader::new(&too_large), 2).is_none());
    }
}
