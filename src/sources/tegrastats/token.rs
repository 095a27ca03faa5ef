//! The tokens of a line, and parsers for the forms that several kinds of tokens have.

/// The longest accepted number.
const NUMBER_BYTES: usize = 24;
/// The longest accepted name.
const NAME_BYTES: usize = 64;

/// Splits a line at white space and before `(`. Text in brackets or parentheses is one token, with the white space in it.
pub(super) struct Tokens<'a> {
    rest: &'a str,
    peeked: Option<&'a str>,
    /// Whether the rest has no closing `]` or `)`. Searching for one again would make the time quadratic.
    unclosed: [bool; 2],
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Tokens<'a> {
        Tokens {
            rest: text,
            peeked: None,
            unclosed: [false; 2],
        }
    }

    /// The next token, without consuming it.
    pub(super) fn peek(&mut self) -> Option<&'a str> {
        if self.peeked.is_none() {
            self.peeked = self.cut();
        }
        self.peeked
    }

    fn cut(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let mut end = 0;
        while let Some(byte) = rest.as_bytes().get(end) {
            let close = match byte {
                b'[' => Some((0, ']')),
                b'(' if end == 0 => Some((1, ')')),
                b'(' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => break,
                _ => None,
            };
            if let Some((kind, close)) = close.filter(|(kind, _)| !self.unclosed[*kind]) {
                match rest.get(end..).and_then(|text| text.find(close)) {
                    Some(length) => end += length,
                    None => self.unclosed[kind] = true,
                }
            }
            end += 1;
            if close == Some((1, ')')) && !self.unclosed[1] {
                break;
            }
        }
        let (token, after) = rest.split_at_checked(end)?;
        self.rest = after;
        (!token.is_empty()).then_some(token)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match self.peeked.take() {
            Some(token) => Some(token),
            None => self.cut(),
        }
    }
}

/// A decimal number with an optional sign and fraction. Rust's other notations (`inf`, `1e9`) are not accepted.
pub(super) fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = |b: u8| b.is_ascii_digit() || b == b'.';
    if digits.is_empty() || text.len() > NUMBER_BYTES || !digits.bytes().all(plain) {
        return None;
    }
    text.parse().ok()
}

/// A percentage: `7%`.
pub(super) fn percent(text: &str) -> Option<f64> {
    number(text.strip_suffix('%')?)
}

/// A size such as `252kB` or `4MB`: the number, and the unit in kB.
pub(super) fn kilobytes(text: &str) -> Option<(f64, f64)> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)? {
        "kB" | "KB" => 1.0,
        "MB" => 1024.0,
        "GB" => 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number(digits)?, unit))
}

/// Whether the text is a name: letters, digits, `_` and `-`, with at least one letter.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Whether this is the text of an engine or a core that is not powered.
pub(super) fn is_off(text: &str) -> bool {
    text.eq_ignore_ascii_case("off")
}

/// Whether this is a date or a time of day: `11-15-2024`, `08:38:09`.
pub(super) fn is_stamp(text: &str) -> bool {
    let separators = text.bytes().filter(|b| matches!(b, b'-' | b':')).count();
    separators == 2
        && text.bytes().next().is_some_and(|b| b.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_parentheses_are_one_token() {
        let tokens: Vec<_> =
            Tokens::new("  IRAM 0/252kB(lfb 252kB) CPU [1%@102, off]@7 \t x@1C(\u{e9} y) ")
                .collect();
        assert_eq!(
            tokens,
            [
                "IRAM",
                "0/252kB",
                "(lfb 252kB)",
                "CPU",
                "[1%@102, off]@7",
                "x@1C",
                "(\u{e9} y)"
            ]
        );
    }

    #[test]
    fn unclosed_bracket_ends_at_white_space() {
        let tokens: Vec<_> = Tokens::new("CPU [1%@102, off APE (a b").collect();
        assert_eq!(tokens, ["CPU", "[1%@102,", "off", "APE", "(a", "b"]);
        assert_eq!(Tokens::new(&"[(".repeat(100_000)).count(), 100_001);
    }

    #[test]
    fn only_plain_numbers_are_accepted() {
        assert_eq!(number("-256"), Some(-256.0));
        assert_eq!(number("53.968"), Some(53.968));
        for bad in [
            "", "-", "+1", "inf", "NaN", "1e9", "0x10", ".", "1.2.3", "--1", "1 ",
        ] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(number(&"9".repeat(400)), None);
    }

    #[test]
    fn dates_and_times_are_recognised() {
        assert!(is_stamp("11-15-2024"));
        assert!(is_stamp("08:38:09"));
        assert!(!is_stamp("-392"));
        assert!(!is_stamp("RAM"));
        assert!(!is_stamp("4067/4067"));
    }
}
