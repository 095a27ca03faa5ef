//! The log of one source, parsed. Any input is parsed or refused in time and memory proportional to its length.

use std::collections::HashMap;
use std::fmt;

use super::line::{self, EntryKind, Line, Response, Step};

/// The beginning of a log. The source's name follows.
pub(super) const HEAD: &str = "edge-metrics-exporter log 1 of ";
/// The most lines that all logs of a recording may have. They take up to about a hundred megabytes of memory, without
/// their content.
pub(super) const MAX_LINES: usize = 1 << 20;

/// An error in a log, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogError {
    /// The line's number, from 1.
    pub line: usize,
    /// The error message.
    pub message: String,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.message)
    }
}

/// The steps of one source, and all its input.
#[derive(Debug, Default)]
pub struct SourceLog {
    /// The source's name: the meter's, and the device's if the meter has several.
    pub name: String,
    /// The steps, in order.
    pub(super) steps: Vec<StepRecord>,
    /// The responses to requests, in order.
    pub(super) responses: Vec<RecordedResponse>,
    /// The data that was sent and received, and the opening of the source, in order.
    pub(super) events: Vec<Event>,
    /// The number of each key.
    pub(super) keys: HashMap<Box<str>, u32>,
    /// When the recording ended, in nanoseconds since it began.
    pub end: u64,
}

/// One step.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepRecord {
    pub(super) at: u64,
    /// `None`: a poll that was discarded, or the time before the first step.
    pub(super) step: Option<Step>,
    /// The first of its responses. The last is the one before the next step's first.
    pub(super) first_response: usize,
}

/// A response to a request.
#[derive(Debug)]
pub(super) struct RecordedResponse {
    pub(super) key: u32,
    pub(super) response: Response,
}

/// Something that is replayed in the recorded order, rather than when the source requests it.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) at: u64,
    pub(super) kind: EventKind,
}

#[derive(Debug)]
pub(super) enum EventKind {
    /// The source was opened, in the step of this number.
    Opened(usize),
    /// Something was sent, with this result.
    Sent(Response),
    /// Something was received, on the channel with this key's number.
    Received(u32, Response),
}

impl SourceLog {
    /// Parses a log.
    pub fn parse(text: &[u8]) -> Result<SourceLog, LogError> {
        let mut log = SourceLog::default();
        // Responses before the first step belong to this one. The board's own log has only these.
        log.steps.push(StepRecord {
            at: 0,
            step: None,
            first_response: 0,
        });
        let mut lines = text.split(|byte| *byte == b'\n').enumerate().peekable();
        let head = lines.next().map_or(&[][..], |(_, line)| line);
        log.name = std::str::from_utf8(head)
            .ok()
            .and_then(|head| head.strip_prefix(HEAD))
            .filter(|name| !name.is_empty() && !name.chars().any(char::is_control))
            .ok_or_else(|| LogError {
                line: 1,
                message: format!("it does not begin with \"{HEAD}\" and a name"),
            })?
            .to_string();
        let mut ended = None;
        while let Some((place, text)) = lines.next() {
            let error = |message: String| LogError {
                line: place + 1,
                message,
            };
            if place > MAX_LINES {
                return Err(error(format!("it has more than {MAX_LINES} lines")));
            }
            match (ended, text) {
                // The text after the last line feed is empty.
                (Some(end), []) if end + 1 == place => continue,
                (Some(_), _) => return Err(error("there is more after the end".to_string())),
                (None, _) => {}
            }
            let (at, line) = line::parse(text).map_err(|message| match lines.peek() {
                Some(_) => error(message),
                None => error("it is cut off here: there is no end".to_string()),
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
            None => Err(LogError {
                line: text.split(|byte| *byte == b'\n').count(),
                message: "it is cut off here: there is no end".to_string(),
            }),
        }
    }

    fn add(&mut self, at: u64, line: Line) {
        match line {
            Line::Step(step) => {
                if step == Step::Open {
                    self.events.push(Event {
                        at,
                        kind: EventKind::Opened(self.steps.len()),
                    });
                }
                self.steps.push(StepRecord {
                    at,
                    step: Some(step),
                    first_response: self.responses.len(),
                });
            }
            Line::Discard(then) => self.discard(then),
            Line::End => {}
            Line::Entry {
                key,
                kind,
                response,
            } => {
                let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
                let key = *self.keys.entry(key.into()).or_insert(next);
                let kind = match kind {
                    EntryKind::Response => {
                        return self.responses.push(RecordedResponse { key, response });
                    }
                    EntryKind::Sent => EventKind::Sent(response),
                    EntryKind::Received => EventKind::Received(key, response),
                };
                self.events.push(Event { at, kind });
            }
        }
    }

    /// Removes the poll that began then, and what was sent and received since. The poll's responses are kept.
    fn discard(&mut self, then: u64) {
        /// A new thread of the source may have begun a few steps in the meantime.
        const MAX_STEPS_BACK: usize = 16;
        let mut last = self.steps.iter_mut().rev().take(MAX_STEPS_BACK);
        if let Some(record) = last.find(|s| s.at == then && s.step == Some(Step::Poll)) {
            record.step = None;
        }
        let is_since =
            |event: &Event| event.at >= then && !matches!(event.kind, EventKind::Opened(_));
        while self.events.last().is_some_and(is_since) {
            self.events.pop();
        }
    }

    /// The numbers of steps and of events, for tests.
    pub fn size(&self) -> (usize, usize) {
        (self.steps.len(), self.events.len())
    }

    /// The responses of a step.
    pub(super) fn responses_of(&self, step: usize) -> std::ops::Range<usize> {
        let first = |step: usize| self.steps.get(step).map(|record| record.first_response);
        first(step).unwrap_or(self.responses.len())..first(step + 1).unwrap_or(self.responses.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &str) -> Result<SourceLog, String> {
        let text = format!("{HEAD}hwmon\n{lines}");
        SourceLog::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn steps_responses_and_events_keep_their_order() {
        let log = parse(
            "0.000000001 open\n0.000000002 a = 1\n0.000000003 poll\n0.000000004 a = 2\n0.000000005 b = 3\n\
             0.000000006 c < 4\n0.000000007 c > 5\n0.000000009 end\n",
        );
        let log = log.unwrap();
        assert_eq!((log.name.as_str(), log.end), ("hwmon", 9));
        let steps: Vec<_> = log.steps.iter().map(|s| (s.at, s.step)).collect();
        assert_eq!(
            steps,
            [(0, None), (1, Some(Step::Open)), (3, Some(Step::Poll))]
        );
        assert_eq!(
            [0, 1, 2, 3].map(|step| log.responses_of(step)),
            [0..0, 0..1, 1..3, 3..3]
        );
        let events: Vec<_> = log.events.iter().map(|event| event.at).collect();
        assert_eq!(events, [1, 6, 7]);
    }

    #[test]
    fn discarded_poll_is_no_step_but_its_responses_are_kept() {
        let log = parse(
            "1.000000000 poll\n2.000000000 poll\n2.000000001 a = 1\n2.000000002 c < 4\n\
             3.000000000 discard 2.000000000\n4.000000000 end\n",
        );
        let log = log.unwrap();
        let steps: Vec<_> = log.steps.iter().map(|s| s.step).collect();
        assert_eq!(steps, [None, Some(Step::Poll), None]);
        assert_eq!((log.responses.len(), log.events.len()), (1, 0));
    }

    #[test]
    fn errors_name_the_line() {
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
            let error = SourceLog::parse(head.as_bytes()).unwrap_err();
            assert_eq!(error.line, 1, "{head:?}");
        }
    }
}
