//! Any bytes as a recording's log: refused with the line that is wrong, or taken. A line that is taken means what it says
//! when it is written again, and a log that is taken can be played to its end, whatever the source asks for.
#![no_main]

use edge_metrics_exporter::sources::io_log::{
    parse_line, render_line, Step, Line, Log, Next, Playing,
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
                if let Line::Fact { key, .. } = line {
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
    let as_steps = match Log::parse(bytes) {
        Ok(log) => log,
        Err(wrong) => {
            assert!((1..=lines).contains(&wrong.line), "{wrong}");
            return;
        }
    };
    let (steps, items) = as_steps.size();
    assert!(steps <= lines + 1 && items <= lines);
    let stop = Stop::default();

    let playing = Playing::at_once(as_steps);
    let mut acts = 0;
    while let Next::Do(..) = playing.next_step(&stop) {
        acts += 1;
        assert!(acts <= steps);
        for key in &keys {
            let _ = (playing.answer(key), playing.has_more(key));
        }
    }

    // The same as a source that waits: what it does with it, the keys say.
    let Ok(as_items) = Log::parse(bytes) else {
        panic!("it was taken a moment ago");
    };
    let playing = Playing::at_once(as_items);
    let (mut seen, mut open, mut turns) = (None, false, 0);
    loop {
        turns += 1;
        assert!(turns <= 2 * (steps + items) + 2, "it does not end");
        match playing.next_item(open, &mut seen, &stop) {
            Next::Do(Step::Open, _) => open = turns % 5 != 0,
            Next::Do(..) => match (playing.wait(&stop), turns % 3) {
                (Woken::Ready, 0 | 1) => {
                    assert!(playing.is_coming());
                    keys.iter().any(|key| playing.take(key).is_some());
                }
                (Woken::Time, 0 | 1) => drop(playing.sent()),
                _ => {}
            },
            Next::Over(_) => break,
            Next::Stop => panic!("nobody asked it to stop"),
        }
    }
});
