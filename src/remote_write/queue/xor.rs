//! Floats by what changes from one to the next (Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory Time Series
//! Database", VLDB 2015, §4.1.2): for values that are no round numbers of anything.
//!
//! The first value has 64 bits. Then, for each: `0`, it is the one before; or `10` and the bits that differ, in the same
//! place as before; or `11`, five bits of how many leading bits are equal, six bits of how many differ less one, and those.

use super::bits::{BitReader, BitWriter};

/// Appends values.
pub(super) fn put(out: &mut Vec<u8>, values: &[f64]) {
    let [first, rest @ ..] = values else {
        return;
    };
    let mut bits = BitWriter::new(out);
    bits.put(first.to_bits(), 64);
    let mut before = first.to_bits();
    // Where the bits that differed last stand: how many are equal before them, and behind.
    let mut window = None;
    for value in rest {
        let differ = value.to_bits() ^ before;
        before = value.to_bits();
        if differ == 0 {
            bits.put(0, 1);
            continue;
        }
        let leading = differ.leading_zeros().min(31);
        let trailing = differ.trailing_zeros();
        match window {
            Some((l, t)) if leading >= l && trailing >= t => {
                bits.put(0b10, 2);
                bits.put(differ >> t, 64 - l - t);
            }
            _ => {
                let length = 64 - leading - trailing;
                bits.put(0b11, 2);
                bits.put(u64::from(leading), 5);
                bits.put(u64::from(length - 1), 6);
                bits.put(differ >> trailing, length);
                window = Some((leading, trailing));
            }
        }
    }
}

/// So many values, and how many bytes they took.
pub(super) fn take(bytes: &[u8], count: usize) -> Option<(Vec<f64>, usize)> {
    let mut reader = BitReader::new(bytes);
    let mut values = Vec::with_capacity(count);
    let mut before = 0;
    let mut window = None;
    for i in 0..count {
        if i == 0 {
            before = reader.take(64)?;
        } else if reader.take(1)? == 1 {
            if reader.take(1)? == 1 {
                let leading = reader.take(5)? as u32;
                let length = reader.take(6)? as u32 + 1;
                window = Some((length, 64u32.checked_sub(leading + length)?));
            }
            let (length, trailing) = window?;
            before ^= reader.take(length)? << trailing;
        }
        values.push(f64::from_bits(before));
    }
    Some((values, reader.bytes_taken()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_comes_back_and_equal_ones_take_a_bit() {
        let values = [
            1.5,
            1.5,
            -0.0,
            0.0,
            f64::NAN,
            f64::MIN,
            5e-324,
            0.1,
            0.1,
            0.3,
        ];
        let mut out = vec![7];
        put(&mut out, &values);
        let (again, length) = take(&out[1..], values.len()).unwrap();
        assert_eq!(length, out.len() - 1);
        assert!(again
            .iter()
            .zip(&values)
            .all(|(a, b)| a.to_bits() == b.to_bits()));
        let mut out = Vec::new();
        put(&mut out, &[0.1; 81]);
        assert_eq!(out.len(), 8 + 10);
    }

    #[test]
    fn what_is_cut_off_or_impossible_is_none() {
        let mut out = Vec::new();
        put(&mut out, &[0.1, 0.2, 0.7]);
        for length in 0..out.len() {
            assert!(take(&out[..length], 3).is_none(), "{length}");
        }
        // Bits "where the ones before were", when there were none.
        let mut without_window = vec![0; 8];
        without_window.push(0b1000_0000);
        assert!(take(&without_window, 2).is_none());
        // 31 leading bits and 64 that differ.
        let mut too_long = vec![0; 8];
        too_long.extend([0xff; 12]);
        assert!(take(&too_long, 2).is_none());
    }
}
