//! Natural sort order: `temp2_input` before `temp10_input`.

use std::cmp::Ordering;

/// Compares two names, with the numbers in them compared by value. A number that begins with 0 has a fixed width and may
/// be hexadecimal (`1-0040`, `0000:0a:00.0`), and is compared as text.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    // Whether the position is within a number of fixed width.
    let mut fixed = false;
    loop {
        let ((x, after_x), (y, after_y)) = match (left.split_first(), right.split_first()) {
            (Some(x), Some(y)) => (x, y),
            // Names that compare equal but are not identical are ordered as text.
            (x, y) => return x.is_some().cmp(&y.is_some()).then_with(|| a.cmp(b)),
        };
        fixed = (fixed && x.is_ascii_hexdigit()) || *x == b'0';
        if !fixed && x.is_ascii_digit() && y.is_ascii_digit() && *y != b'0' {
            let (number, other);
            (number, left) = left.split_at(digits(left));
            (other, right) = right.split_at(digits(right));
            // Without leading zeros, the longer number is the greater one.
            let longer = number.len().cmp(&other.len());
            let order = longer.then_with(|| number.cmp(other));
            if order.is_ne() {
                return order;
            }
        } else if x == y {
            (left, right) = (after_x, after_y);
        } else {
            return x.cmp(y);
        }
    }
}

fn digits(text: &[u8]) -> usize {
    let end = text.iter().position(|c| !c.is_ascii_digit());
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_by_value() {
        for ordered in [
            &[
                "a",
                "temp",
                "temp0",
                "temp1_input",
                "temp1_label",
                "temp2_input",
                "temp10_input",
            ][..],
            &["hwmon2/temp10", "hwmon10/temp1", "hwmon10/temp2"],
            &["1-0040", "1-0041", "1-004a", "2-0040", "10-0040"],
            &["0000:03:00.0", "0000:0a:00.0", "0000:a3:00.0"],
            &["x18446744073709551616", "x99999999999999999999999"],
            &["", "1", "é", "é2", "é10"],
        ] {
            for (i, a) in ordered.iter().enumerate() {
                for (j, b) in ordered.iter().enumerate() {
                    assert_eq!(natural(a, b), i.cmp(&j), "{a:?} and {b:?}");
                }
            }
        }
    }
}
