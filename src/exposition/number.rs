//! Numbers in the fewest digits that read back as the same number.

/// Appends `value`: whole numbers without a point, others in the fewest digits that round-trip, infinities and NaN as
/// Prometheus spells them.
pub fn write_number(value: f64, out: &mut Vec<u8>) {
    // Below 2^53 every whole number is a double of its own. The general case handles -0.0.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT && (value != 0.0 || value.is_sign_positive()) {
        write_integer(value as i64, out);
    } else if value.is_finite() {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value > 0.0 {
        out.extend_from_slice(b"+Inf");
    } else {
        out.extend_from_slice(b"-Inf");
    }
}

fn write_integer(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        write_number(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_have_the_fewest_digits_that_round_trip() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (304.0, "304"),
            (-5.0, "-5"),
            (0.1, "0.1"),
            (f64::from(1.6f32), "1.600000023841858"),
            (f64::from(f32::from_bits(0x3fcc_cccc)), "1.5999999046325684"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (1e300, "1e300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn every_finite_number_round_trips() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let back: f64 = text(value).parse().unwrap();
                assert_eq!(back.to_bits(), value.to_bits(), "{value:e}");
            }
        }
    }
}
