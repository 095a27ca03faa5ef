//! A line of the screen: texts in columns, each with a style.

use std::fmt::Write;

use super::text::fit;

/// How a text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Style {
    #[default]
    Plain,
    /// The bar at the top.
    Bar,
    Heading,
    Bold,
    /// Of less interest.
    Quiet,
    /// A sparkline.
    Chart,
    /// Something that is wrong.
    Bad,
}

impl Style {
    /// The parameters of SGR (ECMA-48, 8.3.117). Without colours only those that are none.
    fn sgr(self, colours: bool) -> &'static str {
        match (self, colours) {
            (Style::Plain, _) | (Style::Chart, false) => "",
            (Style::Bar, _) => "7",
            (Style::Heading | Style::Bold, _) => "1",
            (Style::Quiet, _) => "2",
            (Style::Chart, true) => "36",
            (Style::Bad, true) => "1;31",
            (Style::Bad, false) => "1",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Cell {
    /// The column where it begins, from 0.
    at: usize,
    /// Printable; see [`fit`].
    text: String,
    width: usize,
    style: Style,
}

/// A line that is being written from left to right.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    cells: Vec<Cell>,
    /// Where the next cell begins.
    at: usize,
    /// The columns that there are.
    columns: usize,
    unicode: bool,
    /// The style of the line as a whole.
    base: Style,
}

impl Line {
    pub(super) fn new(columns: usize, unicode: bool) -> Line {
        Line {
            cells: Vec::new(),
            at: 0,
            columns,
            unicode,
            base: Style::Plain,
        }
    }

    /// A bar over the whole width.
    pub(super) fn bar(columns: usize, unicode: bool) -> Line {
        Line {
            base: Style::Bar,
            ..Line::new(columns, unicode)
        }
    }

    /// The columns that are left.
    pub(super) fn left(&self) -> usize {
        self.columns.saturating_sub(self.at)
    }

    /// Adds a text at the left of a cell of so many columns.
    pub(super) fn cell(mut self, style: Style, text: &str, columns: usize) -> Line {
        let columns = columns.min(self.left());
        let (text, width) = fit(text, columns, self.unicode);
        self.cells.push(Cell {
            at: self.at,
            text,
            width,
            style,
        });
        self.at += columns;
        self
    }

    /// Adds a text at the right of a cell of so many columns.
    pub(super) fn right(mut self, style: Style, text: &str, columns: usize) -> Line {
        let columns = columns.min(self.left());
        let (text, width) = fit(text, columns, self.unicode);
        self.cells.push(Cell {
            at: self.at + columns - width,
            text,
            width,
            style,
        });
        self.at += columns;
        self
    }

    /// Adds a text that takes what it needs.
    pub(super) fn text(self, style: Style, text: &str) -> Line {
        let (_, width) = fit(text, self.left(), self.unicode);
        self.cell(style, text, width)
    }

    /// The text alone.
    pub(super) fn plain(&self) -> String {
        let (mut line, mut at) = (String::new(), 0);
        for cell in &self.cells {
            line.extend(std::iter::repeat_n(' ', cell.at.saturating_sub(at)));
            line.push_str(&cell.text);
            at = cell.at + cell.width;
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// The line for a terminal, from its first column on, which the cursor is in. Terminals differ in how wide some
    /// characters are: what follows a text that is not ASCII is put into its column by number.
    pub(super) fn ansi(&self, colours: bool) -> String {
        let base = self.base.sgr(colours);
        let mut line = String::new();
        let mut at = Some(0);
        let select = |line: &mut String, style: &str| {
            let _ = match (base, style) {
                ("", "") => write!(line, "\x1b[0m"),
                ("", sgr) | (sgr, "") => write!(line, "\x1b[0;{sgr}m"),
                (base, sgr) => write!(line, "\x1b[0;{base};{sgr}m"),
            };
        };
        select(&mut line, "");
        // Erases the line in the colours of its style.
        line.push_str("\x1b[K");
        if self.base == Style::Bar {
            line.extend(std::iter::repeat_n(' ', self.columns));
            at = None;
        }
        for cell in self.cells.iter().filter(|cell| !cell.text.is_empty()) {
            match at {
                Some(at) if at <= cell.at => {
                    line.extend(std::iter::repeat_n(' ', cell.at - at));
                }
                _ => {
                    let _ = write!(line, "\x1b[{}G", cell.at + 1);
                }
            }
            let style = cell.style.sgr(colours);
            if !style.is_empty() {
                select(&mut line, style);
            }
            line.push_str(&cell.text);
            if !style.is_empty() {
                select(&mut line, "");
            }
            at = cell.text.is_ascii().then_some(cell.at + cell.width);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_in_their_columns() {
        let line = Line::new(20, true)
            .cell(Style::Plain, "日本語の名前", 8)
            .cell(Style::Plain, "", 1)
            .right(Style::Bold, "1.20 W", 8)
            .cell(Style::Plain, "too much", 8);
        assert_eq!(line.plain(), "日本語…    1.20 Wto…");
        assert_eq!(line.left(), 0);
        assert_eq!(
            line.ansi(true),
            "\x1b[0m\x1b[K日本語…\x1b[12G\x1b[0;1m1.20 W\x1b[0mto…"
        );
    }

    #[test]
    fn nothing_but_colours_goes_without_colours() {
        let line = Line::new(20, true)
            .cell(Style::Bad, "bad", 4)
            .cell(Style::Chart, "_#", 2);
        assert_eq!(
            line.ansi(true),
            "\x1b[0m\x1b[K\x1b[0;1;31mbad\x1b[0m \x1b[0;36m_#\x1b[0m"
        );
        assert_eq!(line.ansi(false), "\x1b[0m\x1b[K\x1b[0;1mbad\x1b[0m _#");
    }

    #[test]
    fn bar_fills_its_line() {
        let line = Line::bar(6, false).text(Style::Plain, "top");
        assert_eq!(line.ansi(true), "\x1b[0;7m\x1b[K      \x1b[1Gtop");
        assert_eq!(line.plain(), "top");
    }
}
