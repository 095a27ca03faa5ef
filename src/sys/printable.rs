//! Text of devices and other programs, for people.

/// At most as many characters of a text that somebody else wrote, without what a terminal or a file takes for more than a letter:
/// YAML knows more line breaks than one, and some characters turn around what follows them.
pub fn printable(text: &str, most: usize) -> String {
    let is_shown = |c: &char| *c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
    text.chars().filter(is_shown).take(most).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_has_letters_alone() {
        let text = "Küche 1\u{1b}[31m\n\u{2028}\u{202e}\t(EU)";
        assert_eq!(super::printable(text, 64), "Küche 1[31m(EU)");
        assert_eq!(super::printable(text, 5), "Küche");
    }
}
