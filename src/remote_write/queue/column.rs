//! The values of one series in a block, in whichever way takes the fewest bytes. Every way gives back every bit.
//!
//! Its first byte is the way in the lowest three bits; in the fourth, whether it is absent in some of the rows; and in the
//! others a power, where the way has one. If it is absent in some rows: how many runs there are, and the length of each, in
//! turn of rows with a value and of rows without. Then come the values that are there.

use super::bytes::{put_number, signed_length, Reader};
use super::{ints, xor};

/// As an earlier column of the block, whose number follows; nothing else does.
const SAME: u8 = 0;
/// All are the value that follows, in eight bytes.
const CONSTANT: u8 = 1;
/// Integers, divided by ten to the power: what a file in micro- or millivolts becomes in volts.
const DECIMAL: u8 = 2;
/// The same and how far beside the quotient each value is, in units of its last place: a sum of such quotients.
const NEAR_DECIMAL: u8 = 3;
/// Integers, divided by two to the power that the next byte says: energy in a processor's own units.
const BINARY: u8 = 4;
/// By the bits that change.
const XOR: u8 = 5;

const SOME_ABSENT: u8 = 1 << 3;

const TENS: [f64; 13] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
];
/// The most bits behind the point.
const MOST_BITS: u32 = 62;
/// So many values show which power of ten suits.
const TRIED: usize = 24;

/// Appends a column; `None` is a row without a value. `columns` are those before it in the same block, as they were
/// given here.
pub(super) fn put(out: &mut Vec<u8>, column: &[Option<f64>], columns: &[Vec<Option<f64>>]) {
    let bits = |value: &Option<f64>| value.map(f64::to_bits);
    let is_same = |other: &Vec<Option<f64>>| other.iter().map(bits).eq(column.iter().map(bits));
    if let Some(earlier) = columns.iter().position(is_same) {
        out.push(SAME);
        put_number(out, earlier as u64);
        return;
    }
    let values: Vec<f64> = column.iter().flatten().copied().collect();
    let ways = [constant, decimal, binary, by_bits];
    let written = ways.iter().filter_map(|way| way(&values));
    let Some(shortest) = written.min_by_key(Vec::len) else {
        return;
    };
    let [way, rest @ ..] = shortest.as_slice() else {
        return;
    };
    if values.len() == column.len() {
        out.push(*way);
    } else {
        out.push(way | SOME_ABSENT);
        put_runs(out, column);
    }
    out.extend(rest);
}

/// Takes a column of so many rows.
pub(super) fn take(
    reader: &mut Reader<'_>,
    rows: usize,
    columns: &[Vec<Option<f64>>],
) -> Option<Vec<Option<f64>>> {
    let byte = reader.byte()?;
    let (way, power) = (byte & 7, byte >> 4);
    if byte == SAME {
        let earlier = reader.count(columns.len())?;
        return columns.get(earlier).cloned();
    }
    if byte & SOME_ABSENT == 0 {
        let values = take_values(reader, way, power, rows)?;
        return Some(values.into_iter().map(Some).collect());
    }
    let present = take_runs(reader, rows)?;
    let count = present.iter().filter(|present| **present).count();
    let values = take_values(reader, way, power, count)?;
    let mut values = values.into_iter();
    let column = present.iter().map(|present| match present {
        true => values.next(),
        false => None,
    });
    Some(column.collect())
}

fn take_values(reader: &mut Reader<'_>, way: u8, power: u8, count: usize) -> Option<Vec<f64>> {
    match way {
        CONSTANT => {
            let value = f64::from_le_bytes(reader.array()?);
            Some(vec![value; count])
        }
        DECIMAL | NEAR_DECIMAL => {
            let ten = *TENS.get(usize::from(power))?;
            let ints = ints::take(reader, count)?;
            let quotients = ints.into_iter().map(|int| int as f64 / ten);
            if way == DECIMAL {
                return Some(quotients.collect());
            }
            let beside = ints::take(reader, count)?;
            let values = quotients
                .zip(beside)
                .map(|(q, beside)| f64::from_bits(q.to_bits().wrapping_add_signed(beside)));
            Some(values.collect())
        }
        BINARY => {
            let bits = u32::from(reader.byte()?);
            let unit = unit(bits)?;
            let ints = ints::take(reader, count)?;
            Some(ints.into_iter().map(|int| int as f64 * unit).collect())
        }
        XOR => {
            let (values, length) = xor::take(reader.rest, count)?;
            reader.bytes(length)?;
            Some(values)
        }
        _ => None,
    }
}

fn constant(values: &[f64]) -> Option<Vec<u8>> {
    let first = values.first().copied().unwrap_or_default();
    let same = values.iter().all(|v| v.to_bits() == first.to_bits());
    let mut out = vec![CONSTANT];
    out.extend(first.to_le_bytes());
    same.then_some(out)
}

fn by_bits(values: &[f64]) -> Option<Vec<u8>> {
    let mut out = vec![XOR];
    xor::put(&mut out, values);
    Some(out)
}

fn decimal(values: &[f64]) -> Option<Vec<u8>> {
    let every = values.len().div_ceil(TRIED).max(1);
    let power = (0..TENS.len()).min_by_key(|power| {
        let tried = values.iter().step_by(every);
        let parts = tried.map(|value| in_tens(*value, TENS[*power]));
        let (mut before, mut length) = ((0, 0), 0);
        for (int, beside) in parts {
            length += signed_length(int.wrapping_sub(before.0));
            // What is exact in all of them needs no second number at all.
            let change = beside.wrapping_sub(before.1);
            length += if change == 0 {
                0
            } else {
                signed_length(change)
            };
            before = (int, beside);
        }
        length
    })?;
    let parts = values.iter().map(|value| in_tens(*value, TENS[power]));
    let (whole, beside): (Vec<i64>, Vec<i64>) = parts.unzip();
    let exact = beside.iter().all(|beside| *beside == 0);
    let mut out = vec![if exact { DECIMAL } else { NEAR_DECIMAL } | (power as u8) << 4];
    ints::put(&mut out, &whole);
    if !exact {
        ints::put(&mut out, &beside);
    }
    Some(out)
}

/// The integer whose quotient is nearest to a value, and how far beside that the value is. Any two bit patterns have a
/// difference: also infinities and NaNs come back by it.
fn in_tens(value: f64, ten: f64) -> (i64, i64) {
    // Out of range saturates, NaN is 0.
    let int = (value * ten).round() as i64;
    let quotient = (int as f64 / ten).to_bits();
    (int, value.to_bits().wrapping_sub(quotient) as i64)
}

/// Two to the power of minus `bits`.
fn unit(bits: u32) -> Option<f64> {
    (bits <= MOST_BITS).then(|| 1.0 / (1u64 << bits) as f64)
}

fn binary(values: &[f64]) -> Option<Vec<u8>> {
    let bits = values.iter().map(|value| bits_behind_point(*value));
    let bits = bits.max()?;
    let unit = unit(bits)?;
    let mut whole = Vec::with_capacity(values.len());
    for value in values {
        let int = (value / unit) as i64;
        if (int as f64 * unit).to_bits() != value.to_bits() {
            return None;
        }
        whole.push(int);
    }
    let mut out = vec![BINARY, bits as u8];
    ints::put(&mut out, &whole);
    Some(out)
}

/// How many binary digits a value has behind its point.
fn bits_behind_point(value: f64) -> u32 {
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let digits = (bits & ((1 << 52) - 1)) | 1 << 52;
    if value == 0.0 {
        return 0;
    }
    let trailing = digits.trailing_zeros() as i32;
    (1075 - exponent - trailing).max(0) as u32
}

fn put_runs(out: &mut Vec<u8>, column: &[Option<f64>]) {
    let mut runs = vec![0u64];
    let mut present = true;
    for value in column {
        if value.is_some() != present {
            present = !present;
            runs.push(0);
        }
        if let Some(run) = runs.last_mut() {
            *run += 1;
        }
    }
    put_number(out, runs.len() as u64);
    runs.into_iter().for_each(|run| put_number(out, run));
}

fn take_runs(reader: &mut Reader<'_>, rows: usize) -> Option<Vec<bool>> {
    let runs = reader.count(rows + 1)?;
    let mut present = Vec::with_capacity(rows);
    for run in 0..runs {
        let length = reader.count(rows - present.len())?;
        present.resize(present.len() + length, run % 2 == 0);
    }
    (present.len() == rows).then_some(present)
}

#[cfg(test)]
#[path = "column_tests.rs"]
mod tests;
