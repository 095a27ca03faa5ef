//! Comma-separated values (RFC 4180).

/// What ends a line of a file.
pub const LINE_END: &str = "\r\n";

/// Appends one field of a row: after a comma, unless the row begins with it, and in quotes where it needs them.
pub fn write_field(text: &str, row: &mut String) {
    if !row.is_empty() {
        row.push(',');
    }
    let special = |c| matches!(c, ',' | '"' | '\r' | '\n');
    // A row of one empty field would be an empty line, and then no row at all.
    let would_be_lost = text.is_empty() && row.is_empty();
    if !would_be_lost && !text.contains(special) {
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

/// The shortest text that reads back as this number and is no whole one's, so that a column of measurements is one of
/// floats whatever was measured: `5.0`, `0.1`, `1e-7`. What is not finite is the empty text: a missing value.
pub fn float(value: f64) -> String {
    match value.is_finite() {
        true => ryu::Buffer::new().format_finite(value).to_owned(),
        false => String::new(),
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
    fn fields_are_quoted_where_they_need_it() {
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
    fn measurements_are_floats_or_missing() {
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
