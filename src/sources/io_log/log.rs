//! A source's log as a whole. Pure: any bytes are answered, in time and memory that grow with their number.

use std::collections::HashMap;
use std::fmt;

use super::line::{self, Answer, Kind, Line, Step};

/// How a log begins; the name of its source follows.
pub(super) const HEAD: &str = "edge-metrics-exporter log 1 of ";
/// So many lines at most has a whole recording: with what they say beside them, a hundred megabytes in memory.
pub(super) const MOST_LINES: usize = 1 << 20;

/// What is wrong with a log, and in which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// From 1.
    pub line: usize,
    /// In words.
    pub why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.why)
    }
}

impl Log {
    /// How many acts it has, and how many things that were sent or came.
    pub fn size(&self) -> (usize, usize) {
        (self.steps.len(), self.items.len())
    }
}

/// All that one source did and learned.
#[derive(Debug, Default)]
pub struct Log {
    /// The source's name, as in the log, and which of its devices.
    pub name: String,
    /// In their order.
    pub(super) steps: Vec<StepRecord>,
    /// What was asked, in its order.
    pub(super) facts: Vec<Fact>,
    /// What was sent and what came, in its order.
    pub(super) items: Vec<Item>,
    /// The questions.
    pub(super) keys: HashMap<Box<str>, u32>,
    /// When it was over, in nanoseconds after the beginning.
    pub end: u64,
}

/// One act.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepRecord {
    pub(super) at: u64,
    /// `None`: nothing came of it.
    pub(super) act: Option<Step>,
    /// Its first fact; the last is before the next step's.
    pub(super) first: usize,
}

/// An answer to a question.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) key: u32,
    pub(super) answer: Answer,
}

/// One of those that have an order among themselves.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) at: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// The step of this number, in which the source was opened.
    Opened(usize),
    /// Something was sent, or could not be.
    Sent(Answer),
    /// Something came.
    Came(u32, Answer),
}

impl Log {
    /// Reads a log.
    pub fn parse(text: &[u8]) -> Result<Log, Wrong> {
        let mut log = Log::default();
        // What comes before the first act is a part of none: the board's own log has only that.
        log.steps.push(StepRecord {
            at: 0,
            act: None,
            first: 0,
        });
        let mut lines = text.split(|byte| *byte == b'\n').enumerate().peekable();
        let head = lines.next().map_or(&[][..], |(_, line)| line);
        log.name = std::str::from_utf8(head)
            .ok()
            .and_then(|head| head.strip_prefix(HEAD))
            .filter(|name| !name.is_empty() && !name.chars().any(char::is_control))
            .ok_or_else(|| Wrong {
                line: 1,
                why: format!("it does not begin with \"{HEAD}\" and a name"),
            })?
            .to_string();
        let mut ended = None;
        while let Some((place, text)) = lines.next() {
            let wrong = |why: String| Wrong {
                line: place + 1,
                why,
            };
            if place > MOST_LINES {
                return Err(wrong(format!("it has more than {MOST_LINES} lines")));
            }
            match (ended, text) {
                // After the last line's end there is nothing.
                (Some(end), []) if end + 1 == place => continue,
                (Some(_), _) => return Err(wrong("there is more after the end".to_string())),
                (None, _) => {}
            }
            let (at, line) = line::parse(text).map_err(|why| match lines.peek() {
                Some(_) => wrong(why),
                None => wrong("it is cut off here: there is no end".to_string()),
            })?;
            if line == Line::End {
                log.end = at;
                ended = Some(place);
            } else {
                log.add(at, line);
            }
        }
        match ended {
            Some(_) => Ok(log),
            None => Err(Wrong {
                line: text.split(|byte| *byte == b'\n').count(),
                why: "it is cut off here: there is no end".to_string(),
            }),
        }
    }

    fn add(&mut self, at: u64, line: Line) {
        match line {
            Line::Step(act) => {
                if act == Step::Open {
                    self.items.push(Item {
                        at,
                        what: What::Opened(self.steps.len()),
                    });
                }
                self.steps.push(StepRecord {
                    at,
                    act: Some(act),
                    first: self.facts.len(),
                });
            }
            Line::Discard(then) => self.discard(then),
            Line::End => {}
            Line::Fact { key, kind, answer } => {
                let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
                let key = *self.keys.entry(key.into()).or_insert(next);
                let what = match kind {
                    Kind::Asked => return self.facts.push(Fact { key, answer }),
                    Kind::Sent => What::Sent(answer),
                    Kind::Came => What::Came(key, answer),
                };
                self.items.push(Item { at, what });
            }
        }
    }

    /// Takes back the poll that began then, and what came since.
    fn discard(&mut self, then: u64) {
        /// Another run of the source may have begun meanwhile, but few.
        const NEAR: usize = 16;
        let mut last = self.steps.iter_mut().rev().take(NEAR);
        if let Some(step) = last.find(|step| step.at == then && step.act == Some(Step::Poll)) {
            step.act = None;
        }
        let came_since = |item: &Item| item.at >= then && !matches!(item.what, What::Opened(_));
        while self.items.last().is_some_and(came_since) {
            self.items.pop();
        }
    }

    /// The facts of a step.
    pub(super) fn facts_of(&self, step: usize) -> std::ops::Range<usize> {
        let first = |step: usize| self.steps.get(step).map(|step| step.first);
        first(step).unwrap_or(self.facts.len())..first(step + 1).unwrap_or(self.facts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &str) -> Result<Log, String> {
        let text = format!("{HEAD}hwmon\n{lines}");
        Log::parse(text.as_bytes()).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn a_log_is_steps_with_facts_and_items_in_their_order() {
        let log = parse(
            "0.000000001 open\n0.000000002 a = 1\n0.000000003 poll\n0.000000004 a = 2\n0.000000005 b = 3\n\
             0.000000006 c < 4\n0.000000007 c > 5\n0.000000009 end\n",
        );
        let log = log.unwrap();
        assert_eq!((log.name.as_str(), log.end), ("hwmon", 9));
        let steps: Vec<_> = log.steps.iter().map(|s| (s.at, s.act)).collect();
        assert_eq!(
            steps,
            [(0, None), (1, Some(Step::Open)), (3, Some(Step::Poll))]
        );
        assert_eq!(
            [0, 1, 2, 3].map(|step| log.facts_of(step)),
            [0..0, 0..1, 1..3, 3..3]
        );
        let items: Vec<_> = log.items.iter().map(|item| item.at).collect();
        assert_eq!(items, [1, 6, 7]);
    }

    #[test]
    fn a_discarded_poll_is_none_but_its_facts_are_known() {
        let log = parse(
            "1.000000000 poll\n2.000000000 poll\n2.000000001 a = 1\n2.000000002 c < 4\n\
             3.000000000 discard 2.000000000\n4.000000000 end\n",
        );
        let log = log.unwrap();
        let acts: Vec<_> = log.steps.iter().map(|s| s.act).collect();
        assert_eq!(acts, [None, Some(Step::Poll), None]);
        assert_eq!((log.facts.len(), log.items.len()), (1, 0));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, why) in [
            ("", "2: it is cut off"),
            ("1.000000000 poll\n", "3: it is cut off"),
            ("1.000000000 poll", "2: it is cut off"),
            ("1.000000000 po", "2: it is cut off"),
            (
                "1.000000000 end\n1.000000000 poll\n",
                "3: there is more after the end",
            ),
            ("1.000000000 end\n\n", "4: there is more after the end"),
            (
                "1.000000000 poll\ngarbage\n1.000000000 end\n",
                "3: it does not begin",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(why), "{text:?}: {error}");
        }
        assert!(parse("1.000000000 end").is_ok());
        for head in [
            "",
            "\n",
            "edge-metrics-exporter log 2 of x\n",
            HEAD,
            "\u{0}",
        ] {
            assert_eq!(Log::parse(head.as_bytes()).unwrap_err().line, 1, "{head:?}");
        }
    }
}
