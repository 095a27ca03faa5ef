//! Any bytes as a source's log. A log is parsed, or refused with the number of the wrong line. A parsed line is the same when
//! it is written and parsed again. A parsed log can be replayed to its end, whatever the source requests.
#![no_main]

use edge_metrics_exporter::sources::io_log::{
    parse_line, render_line, Line, NextStep, Replay, SourceLog, Step,
};
use edge_metrics_exporter::sys::stop::{Stop, Woken};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut keys: Vec<String> = Vec::new();
    for text in bytes.split(|byte| *byte == b'\n').take(200) {
        match parse_line(text) {
            Ok((at, line)) => {
                let written = render_line(at, &line);
                assert!(written
                    .bytes()
                    .all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
                let again = parse_line(written.strip_suffix('\n').unwrap().as_bytes());
                assert_eq!(again, Ok((at, line.clone())), "{written}");
                if let Line::Entry { key, .. } = line {
                    keys.push(key);
                }
            }
            Err(why) => assert!(
                !why.is_empty() && !why.chars().any(char::is_control),
                "{why:?}"
            ),
        }
    }
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    let as_steps = match SourceLog::parse(bytes) {
        Ok(log) => log,
        Err(error) => {
            assert!((1..=lines).contains(&error.line), "{error}");
            return;
        }
    };
    let (steps, events) = as_steps.size();
    assert!(steps <= lines + 1 && events <= lines);
    let stop = Stop::default();

    let replay = Replay::at_once(as_steps);
    let mut run = 0;
    while let NextStep::Run(..) = replay.next_step(&stop) {
        run += 1;
        assert!(run <= steps);
        for key in &keys {
            let _ = (replay.response(key), replay.has_pending(key));
        }
    }

    // The same as a source that waits for its device and takes what the log has keys for.
    let Ok(as_events) = SourceLog::parse(bytes) else {
        panic!("the same log was parsed before");
    };
    let replay = Replay::at_once(as_events);
    let (mut seen, mut open, mut polls) = (None, false, 0);
    loop {
        polls += 1;
        assert!(polls <= 2 * (steps + events) + 2, "the replay does not end");
        match replay.next_event_step(open, &mut seen, &stop) {
            NextStep::Run(Step::Open, _) => open = polls % 5 != 0,
            NextStep::Run(..) => match (replay.wait(&stop), polls % 3) {
                (Woken::Ready, 0 | 1) => {
                    assert!(replay.receives_next());
                    keys.iter().any(|key| replay.take_received(key).is_some());
                }
                (Woken::Time, 0 | 1) => drop(replay.take_sent()),
                _ => {}
            },
            NextStep::End(_) => break,
            NextStep::Stop => panic!("the replay was not stopped"),
        }
    }
});
