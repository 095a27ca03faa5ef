//! Parsing of numbers as the kernel prints them.

/// Parses a decimal integer: an optional sign and digits, with white space around them. `None` for anything else, and for
/// numbers that do not fit in an `i64`.
#[inline]
pub fn parse_number(text: &[u8]) -> Option<i64> {
    let digits = match text {
        [digits @ .., b'\n'] => digits,
        digits => digits,
    };
    // Numbers of up to 18 digits cannot overflow.
    if digits.is_empty() || digits.len() > 18 {
        return parse_any_number(text);
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return parse_any_number(text);
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

/// As [`parse_number`], for text that is not just a few digits.
fn parse_any_number(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Built up as a negative number, since only the negative range holds `i64::MIN`.
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decimal_integers_are_parsed() {
        for (text, value) in [
            (&b"12345\n"[..], Some(12345)),
            (b"0", Some(0)),
            (b"-256000\n", Some(-256_000)),
            (b" +7 ", Some(7)),
            (b"999999999999999999\n", Some(999_999_999_999_999_999)),
            (b"1000000000000000000\n", Some(1_000_000_000_000_000_000)),
            (b"5\n\n", Some(5)),
            (b"9223372036854775807", Some(i64::MAX)),
            (b"-9223372036854775808", Some(i64::MIN)),
            (b"9223372036854775808", None),
            (b"", None),
            (b"\n", None),
            (b"-", None),
            (b"12 34", None),
            (b"0x40", None),
            (b"1.5", None),
            (b"N/A\n", None),
            (b"\xff\xfe", None),
        ] {
            assert_eq!(
                parse_number(text),
                value,
                "{:?}",
                String::from_utf8_lossy(text)
            );
        }
    }
}
