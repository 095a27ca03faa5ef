//! Comma-separated values (RFC 4180).

/// The line ending.
pub const LINE_END: &str = "\r\n";

/// Appends a field to a row, after a comma unless it is the first, and in quotes if its text needs them.
pub fn write_field(text: &str, row: &mut String) {
    if !row.is_empty() {
        row.push(',');
    }
    let special = |c| matches!(c, ',' | '"' | '\r' | '\n');
    // A row of one empty field would be an empty line, which readers skip. Quotes prevent that.
    let starts_empty = text.is_empty() && row.is_empty();
    if !starts_empty && !text.contains(special) {
        row.push_str(text);
        return;
    }
    row.push('"');
    for c in text.chars() {
        if c == '"' {
            row.push('"');
        }
        row.push(c);
    }
    row.push('"');
}

/// The shortest text with a point or exponent that reads back as this number: `5.0`, `0.1`, `1e-7`. Readers then take a
/// column of measurements for floats, even if all of them are whole. NaN and infinities are a missing value, the empty text.
pub fn float(value: f64) -> String {
    let mut text = String::new();
    write_float(value, &mut text);
    text
}

/// Appends [`float`].
pub fn write_float(value: f64, row: &mut String) {
    if value.is_finite() {
        row.push_str(ryu::Buffer::new().format_finite(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[&str]) -> String {
        let mut row = String::new();
        for field in fields {
            write_field(field, &mut row);
        }
        row
    }

    #[test]
    fn fields_with_special_characters_are_quoted() {
        for (fields, text) in [
            (&["a", "b c", ""][..], "a,b c,"),
            (&["", "a"], "\"\",a"),
            (
                &["a,b", "say \"x\"", "1\n2"],
                "\"a,b\",\"say \"\"x\"\"\",\"1\n2\"",
            ),
            (&["\r"], "\"\r\""),
        ] {
            assert_eq!(row(fields), text);
        }
    }

    #[test]
    fn whole_numbers_have_a_point_and_non_finite_ones_are_missing() {
        for (value, text) in [
            (5.0, "5.0"),
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1e-7, "1e-7"),
            (1e300, "1e300"),
            (f64::NAN, ""),
            (f64::INFINITY, ""),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
