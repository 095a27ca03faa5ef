//! Text from outside on a terminal: printable, and no wider than its column.

/// Characters of a name that are looked at. A column is narrower than this.
const MAX_CHARS: usize = 256;

/// What stands for a character that is not printed.
const REPLACEMENT: char = '?';

/// Characters that take two columns: East Asian Wide and Fullwidth of Unicode's EastAsianWidth.txt, in blocks, and emoji.
const WIDE: [(u32, u32); 17] = [
    (0x1100, 0x115f),
    (0x2e80, 0x303e),
    (0x3041, 0x4dbf),
    (0x4e00, 0xa4cf),
    (0xa960, 0xa97f),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xfe30, 0xfe6f),
    (0xff00, 0xff60),
    (0xffe0, 0xffe6),
    (0x16fe0, 0x18cff),
    (0x1b000, 0x1b2ff),
    (0x1f200, 0x1f265),
    (0x1f300, 0x1f64f),
    (0x1f680, 0x1f6ff),
    (0x1f900, 0x1faff),
    (0x20000, 0x3fffd),
];

/// Characters that take no column, and characters that change how others are shown (their direction, for example).
const INVISIBLE: [(u32, u32); 27] = [
    (0x00ad, 0x00ad),
    (0x0300, 0x036f),
    (0x0483, 0x0489),
    (0x0591, 0x05bd),
    (0x0600, 0x0605),
    (0x0610, 0x061c),
    (0x064b, 0x065f),
    (0x06d6, 0x06dd),
    (0x070f, 0x070f),
    (0x0e31, 0x0e31),
    (0x0e34, 0x0e3a),
    (0x0e47, 0x0e4e),
    (0x1ab0, 0x1aff),
    (0x1dc0, 0x1dff),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x20d0, 0x20ff),
    (0x302a, 0x302d),
    (0x3099, 0x309a),
    (0xfe00, 0xfe0f),
    (0xfe20, 0xfe2f),
    (0xfeff, 0xfeff),
    (0xfff9, 0xfffb),
    (0x1d165, 0x1d182),
    (0xe0000, 0xe0fff),
];

fn is_in(ranges: &[(u32, u32)], c: char) -> bool {
    let c = u32::from(c);
    ranges
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&c))
}

/// The columns that a character takes.
fn width(c: char) -> usize {
    match c {
        ' '..='~' => 1,
        c if is_in(&WIDE, c) => 2,
        _ => 1,
    }
}

/// The character as it is shown; `None` for one that is left away.
fn shown(c: char, unicode: bool) -> Option<char> {
    match c {
        ' '..='~' => Some(c),
        c if c.is_control() => Some(REPLACEMENT),
        c if is_in(&INVISIBLE, c) => None,
        c if unicode => Some(c),
        _ => Some(REPLACEMENT),
    }
}

/// Text that is safe to print, and the columns that it takes: `columns` at most. A longer one ends with a mark.
pub(super) fn fit(text: &str, columns: usize, unicode: bool) -> (String, usize) {
    let mark = if unicode { '…' } else { '~' };
    let (mut fitted, mut used) = (String::new(), 0);
    // Where the text ends if it has to make room for the mark.
    let mut cut = (0, 0);
    let shown = text
        .chars()
        .take(MAX_CHARS.max(columns))
        .filter_map(|c| shown(c, unicode));
    for c in shown {
        if used + width(c) > columns {
            fitted.truncate(cut.0);
            if columns > 0 {
                fitted.push(mark);
                return (fitted, cut.1 + 1);
            }
            return (fitted, 0);
        }
        fitted.push(c);
        used += width(c);
        if used < columns {
            cut = (fitted.len(), used);
        }
    }
    (fitted, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_its_columns() {
        for (text, columns, expected, width) in [
            ("nginx.service", 13, "nginx.service", 13),
            ("nginx.service", 12, "nginx.servi…", 12),
            ("nginx.service", 1, "…", 1),
            ("nginx.service", 0, "", 0),
            ("日本語", 6, "日本語", 6),
            ("日本語", 5, "日本…", 5),
            ("日本語", 4, "日…", 3),
            ("日本語", 1, "…", 1),
            ("", 4, "", 0),
        ] {
            assert_eq!(fit(text, columns, true), (expected.to_owned(), width));
        }
    }

    #[test]
    fn nothing_from_outside_is_an_escape_sequence() {
        let hostile = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\r\n\t\u{202e}evil\u{200b}e\u{301}\u{85}";
        let (text, width) = fit(hostile, 80, true);
        assert_eq!(text, "?[2J?]0;owned??31m???evile?");
        assert_eq!(width, text.chars().count());
        assert!(!text.chars().any(char::is_control));
    }

    #[test]
    fn terminal_without_utf_8_gets_ascii() {
        assert_eq!(fit("größe-日本", 20, false), ("gr??e-??".to_owned(), 8));
        assert_eq!(fit("a long name", 6, false), ("a lon~".to_owned(), 6));
    }

    #[test]
    fn endless_text_costs_no_more_than_its_column() {
        let long = "\u{200b}".repeat(1_000_000) + "x";
        assert_eq!(fit(&long, 10, true), (String::new(), 0));
        let (text, width) = fit(&"x".repeat(1_000_000), 10, true);
        assert_eq!((text.chars().count(), width), (10, 10));
    }
}
