//! Wraps text for a terminal.

/// The widest line of text for a terminal, in characters.
pub const COLUMNS: usize = 100;

/// Appends `text` to `out`, wrapped at spaces to lines of at most [`COLUMNS`] characters. The first line begins with `first`, and
/// the others with as many spaces as `first` has characters. A word that does not fit has a line of its own. Newlines in `text`
/// begin a new line.
pub fn wrap(out: &mut String, first: &str, text: &str) {
    wrap_with(out, first, &" ".repeat(first.chars().count()), text);
}

/// Like [`wrap`], with `rest` at the beginning of all lines but the first.
pub fn wrap_with(out: &mut String, first: &str, rest: &str, text: &str) {
    let mut begin = first;
    for paragraph in text.split('\n') {
        let mut line = begin.to_string();
        let mut is_empty = true;
        for word in paragraph.split_whitespace() {
            if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
                out.push_str(line.trim_end());
                out.push('\n');
                line = rest.to_string();
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        out.push_str(line.trim_end());
        out.push('\n');
        begin = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_are_indented() {
        let mut out = String::new();
        wrap(&mut out, "  a  ", &"word ".repeat(40));
        assert!(out.starts_with("  a  word word"), "{out}");
        assert_eq!(out.lines().count(), 3, "{out}");
        assert!(
            out.lines().all(|line| line.chars().count() <= COLUMNS),
            "{out}"
        );
        assert!(
            out.lines()
                .skip(1)
                .all(|line| line.starts_with("     word")),
            "{out}"
        );
    }

    #[test]
    fn long_word_and_newline_have_lines_of_their_own() {
        let mut out = String::new();
        let long = "x".repeat(120);
        wrap_with(&mut out, "- ", "> ", &format!("a {long} b\nc"));
        assert_eq!(out, format!("- a\n> {long}\n> b\n> c\n"));
    }

    #[test]
    fn empty_text_leaves_the_beginning() {
        let mut out = String::new();
        wrap(&mut out, "name ", "");
        assert_eq!(out, "name\n");
    }
}
