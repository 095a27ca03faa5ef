//! A line of `nvidia-smi pmon -s u`: which part of a second a process used a GPU for.
//!
//! ```text
//! # gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command
//! # Idx           #    C/G      %      %      %      %      %      %    name
//!     0       16124      C     47     12      -      -      -      -    python
//!     1           -      -      -      -      -      -      -      -    -
//! ```
//!
//! The header is repeated. Which columns there are depends on the version and on `-s`, so that they are found by their names.
//! `-` stands for a value that is not there: a GPU without processes has nothing else, and on a GPU in MIG mode no process has
//! an `sm`. The command is last, may contain blanks, and is cut.

use super::line::MAX_GPUS;

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// The columns' names or units.
    Header,
    /// A process, or that a GPU has none.
    Use(Use),
}

/// One process on one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// NVML's index of the GPU, from 0.
    pub gpu: u32,
    /// The process id. `None`: it is not told, or there is no process.
    pub pid: Option<u32>,
    /// The part of the time in which the process ran on the GPU, in percent. `None`: it is not told.
    pub percent: Option<u32>,
}

/// Where the columns are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Columns {
    gpu: usize,
    pid: usize,
    sm: usize,
}

impl Columns {
    /// The columns by their names. `None`: one is missing, or follows the command, in which there may be blanks.
    fn find(names: &str) -> Option<Columns> {
        let place = |wanted: &str| names.split_whitespace().position(|name| name == wanted);
        let columns = Columns {
            gpu: place("gpu")?,
            pid: place("pid")?,
            sm: place("sm")?,
        };
        let command = place("command").unwrap_or(usize::MAX);
        let last = columns.gpu.max(columns.pid).max(columns.sm);
        (last < command).then_some(columns)
    }
}

/// Reads lines one after the other, the header first.
#[derive(Debug, Default)]
pub struct Parser {
    columns: Option<Columns>,
}

impl Parser {
    /// What a line says. `None`: it is something else, or the columns are unknown.
    pub fn parse(&mut self, text: &str) -> Option<Line> {
        if let Some(names) = text.trim_start().strip_prefix('#') {
            let is_units = names.split_whitespace().next() == Some("Idx");
            if !is_units {
                self.columns = Columns::find(names);
            }
            return (is_units || self.columns.is_some()).then_some(Line::Header);
        }
        let columns = self.columns?;
        let word = |place: usize| text.split_whitespace().nth(place);
        let gpu = number(word(columns.gpu)?)?.filter(|gpu| *gpu < MAX_GPUS)?;
        let pid = number(word(columns.pid)?)?.filter(|pid| *pid != 0);
        let percent = number(word(columns.sm)?)?;
        percent
            .is_none_or(|percent| percent <= 100)
            .then_some(Line::Use(Use { gpu, pid, percent }))
    }
}

/// A whole number; `Some(None)`: `-`.
fn number(word: &str) -> Option<Option<u32>> {
    if word == "-" {
        return Some(None);
    }
    let is_whole = word.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| word.parse().ok()).flatten().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "# gpu        pid  type    sm   mem   enc   dec   command";
    const UNITS: &str = "# Idx          #   C/G     %     %     %     %   name";
    const NEW: &str =
        "# gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command ";
    const MEMORY: &str = "# gpu        pid  type    fb  ccpm    sm   mem   enc   dec   command";

    /// What lines after this header say.
    fn after(header: &str, lines: &[&str]) -> Vec<Option<Line>> {
        let mut parser = Parser::default();
        assert_eq!(parser.parse(header), Some(Line::Header));
        assert_eq!(parser.parse(UNITS), Some(Line::Header));
        lines.iter().map(|line| parser.parse(line)).collect()
    }

    fn of(gpu: u32, pid: Option<u32>, percent: Option<u32>) -> Option<Line> {
        Some(Line::Use(Use { gpu, pid, percent }))
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let expected = [of(0, Some(16124), Some(47))];
        for (header, line) in [
            (OLD, "    0      16124     C    47    12     -     -   python"),
            (NEW, "    0      16124      C     47     12      -      -      -      -    python         "),
            (MEMORY, "    0      16124     C  8931     0    47    12     -     -   python"),
        ] {
            assert_eq!(after(header, &[line]), expected, "{header}");
        }
    }

    #[test]
    fn header_is_repeated_and_may_change() {
        let mut parser = Parser::default();
        let mut uses = Vec::new();
        for text in [
            OLD,
            UNITS,
            " 0 7 C 1 2 3 4 a",
            NEW,
            UNITS,
            " 0 7 C 5 6 7 8 - - a",
            MEMORY,
        ] {
            uses.extend(parser.parse(text));
        }
        uses.retain(|line| *line != Line::Header);
        assert_eq!(
            uses.iter().copied().map(Some).collect::<Vec<_>>(),
            [of(0, Some(7), Some(1)), of(0, Some(7), Some(5))]
        );
    }

    #[test]
    fn types_and_commands_may_be_anything() {
        let lines = [
            "    0       2635     G     3     0     -     -   Xorg",
            "    0       4145   C+G    12     4     -     -   chrome --type=gpu-process -",
            "    1       4146   M+C    99     0     -     -   ",
            "    1       4147     -   100     0     -     -   a # gpu pid sm",
        ];
        assert_eq!(
            after(OLD, &lines),
            [
                of(0, Some(2635), Some(3)),
                of(0, Some(4145), Some(12)),
                of(1, Some(4146), Some(99)),
                of(1, Some(4147), Some(100)),
            ]
        );
    }

    #[test]
    fn what_is_not_told_is_absent() {
        let lines = [
            // A GPU without processes, one in MIG mode, and a container that does not see processes.
            "    0          -     -     -     -     -     -   -",
            "    1      20331     C     -     -     -     -   python",
            "    2          0     C    40     2     -     -   -",
            "    2          -     C    40     2     -     -   -",
        ];
        assert_eq!(
            after(OLD, &lines),
            [
                of(0, None, None),
                of(1, Some(20331), None),
                of(2, None, Some(40)),
                of(2, None, Some(40)),
            ]
        );
    }

    #[test]
    fn other_text_says_nothing() {
        let lines = [
            "",
            "   ",
            "No devices were found",
            "Not supported on the device(s)",
            "0",
            "0 1 C",
            "64 1 C 5 - - - a",
            "-1 1 C 5 - - - a",
            "- 1 C 5 - - - a",
            "0 x C 5 - - - a",
            "0 1 C 101 - - - a",
            "0 1 C 5.5 - - - a",
            "0 1 C +5 - - - a",
            "0 1 C 4294967296 - - - a",
            "0 99999999999999999999 C 5 - - - a",
            "\u{0}\u{1b}[31m",
        ];
        for (line, parsed) in lines.iter().zip(after(OLD, &lines)) {
            assert_eq!(parsed, None, "{line}");
        }
    }

    #[test]
    fn without_a_header_that_names_the_columns_there_is_nothing() {
        for header in [
            "# gpu pid type mem command",
            "# gpu type sm command",
            "# gpu pid command sm",
            "#",
        ] {
            let mut parser = Parser::default();
            assert_eq!(parser.parse(" 0 1 C 5 - - - a"), None);
            parser.parse(OLD);
            assert_eq!(parser.parse(header), None, "{header}");
            assert_eq!(parser.parse(" 0 1 C 5 - - - a"), None, "{header}");
        }
    }
}
