use super::*;
use crate::sources::io_log::line::Failure;
use crate::sources::io_log::source_log::HEAD;

/// The replay of a log, at once.
fn replay(lines: &str) -> Replay {
    let text = format!("{HEAD}x\n{lines}");
    let log = SourceLog::parse(text.as_bytes()).unwrap();
    let schedule = Schedule {
        began: BootTime(1_000_000_000_000),
        at_once: true,
    };
    Replay::new(Arc::new(log), schedule)
}

fn time_of(at: u64) -> BootTime {
    BootTime(1_000_000_000_000 + at * 1_000_000_000)
}

fn response(replay: &Replay, key: &str) -> Option<String> {
    let response = replay.response(key)?;
    Some(match response {
        Ok(content) => String::from_utf8(content).unwrap(),
        Err(failure) => format!("failed: {}", failure.message),
    })
}

#[test]
fn responses_of_a_step_are_given_in_order_and_then_the_latest() {
    let replay = replay(
        "0.000000000 before = 0\n1.000000000 open\n1.000000000 a = 1\n2.000000000 poll\n2.000000000 a = 2\n\
         2.000000000 a = 3\n2.000000000 b ! 5 no\n3.000000000 poll\n4.000000000 poll\n4.000000000 b = 4\n\
         5.000000000 end\n",
    );
    let stop = Stop::default();
    let get = |key: &str| response(&replay, key);
    assert_eq!(get("before").as_deref(), Some("0"));
    assert_eq!(get("a"), None, "it is not recorded yet");
    assert_eq!(get("never"), None);
    assert_eq!(
        replay.next_step(&stop),
        NextStep::Run(Step::Open, time_of(1))
    );
    assert_eq!(replay.now(), time_of(1));
    assert_eq!([get("a"), get("a")].map(Option::unwrap), ["1", "1"]);
    assert_eq!(
        replay.next_step(&stop),
        NextStep::Run(Step::Poll, time_of(2))
    );
    let responses = [get("a"), get("a"), get("a"), get("b"), get("before")];
    assert_eq!(
        responses.map(Option::unwrap),
        ["2", "3", "3", "failed: no", "0"]
    );
    // Equal responses are not recorded again.
    assert_eq!(
        replay.next_step(&stop),
        NextStep::Run(Step::Poll, time_of(3))
    );
    assert_eq!(
        [get("a"), get("b")].map(Option::unwrap),
        ["3", "failed: no"]
    );
    // A response that is not requested in its step is the latest one afterwards.
    assert_eq!(
        replay.next_step(&stop),
        NextStep::Run(Step::Poll, time_of(4))
    );
    assert_eq!(replay.next_step(&stop), NextStep::End(time_of(5)));
    assert_eq!(replay.next_step(&stop), NextStep::End(time_of(5)));
}

#[test]
fn responses_of_a_discarded_poll_are_kept() {
    let replay = replay(
        "1.000000000 poll\n1.000000000 a = 1\n2.000000000 poll\n2.000000000 a = 2\n2.500000000 discard 2.000000000\n\
         3.000000000 poll\n4.000000000 end\n",
    );
    let stop = Stop::default();
    assert_eq!(
        replay.next_step(&stop),
        NextStep::Run(Step::Poll, time_of(1))
    );
    assert_eq!(
        replay.next_step(&stop),
        NextStep::Run(Step::Poll, time_of(3))
    );
    assert_eq!(response(&replay, "a").as_deref(), Some("2"));
}

#[test]
fn events_are_replayed_once_and_in_order() {
    let replay = replay(
        "0.000000000 open\n0.000000000 address = 1\n1.000000000 udp > ask\n2.000000000 udp-late < late\n\
         2.000000000 udp < one\n3.000000000 udp < two\n3.000000000 udp >! 101 network is unreachable\n\
         4.000000000 udp <! - ended\n5.000000000 open\n6.000000000 udp < three\n7.000000000 end\n",
    );
    let stop = Stop::default();
    let mut seen = None;
    let mut next = |is_open| replay.next_event_step(is_open, &mut seen, &stop);
    assert_eq!(next(false), NextStep::Run(Step::Open, time_of(0)));
    assert_eq!(response(&replay, "address").as_deref(), Some("1"));
    assert_eq!(next(true), NextStep::Run(Step::Poll, time_of(1)));
    assert_eq!(
        (replay.wait(&stop), replay.receives_next()),
        (Woken::Time, false)
    );
    assert_eq!(replay.take_received("udp"), None);
    assert_eq!(replay.take_sent(), Ok(b"ask".to_vec()));
    assert_eq!(
        (replay.wait(&stop), replay.receives_next()),
        (Woken::Ready, true)
    );
    assert_eq!(replay.take_received("udp"), None, "another channel is next");
    assert_eq!(
        replay.take_received("udp-late"),
        Some((time_of(2), Ok(b"late".to_vec())))
    );
    assert_eq!(
        replay.take_received("udp"),
        Some((time_of(2), Ok(b"one".to_vec())))
    );
    assert_eq!(replay.now(), time_of(2));
    // "two" is skipped: the source does not wait for it.
    let unreachable = replay.take_sent().unwrap_err();
    assert_eq!(unreachable.errno, Some(101));
    assert_eq!(
        replay.take_received("udp"),
        Some((time_of(4), Err(Failure::new("ended"))))
    );
    // Events after the source is opened again are not replayed yet.
    assert_eq!(replay.wait(&stop), Woken::Stop);
    assert_eq!(replay.take_sent(), Ok(Vec::new()));
    assert_eq!(replay.take_received("udp"), None);
    assert_eq!(next(true), NextStep::Run(Step::Open, time_of(5)));
    // An event that the source does not take is skipped.
    assert_eq!(next(true), NextStep::Run(Step::Poll, time_of(6)));
    assert_eq!(next(true), NextStep::End(time_of(7)));
}

#[test]
fn source_that_is_not_open_gets_no_events() {
    let replay = replay("1.000000000 open\n2.000000000 a < 1\n3.000000000 a < 2\n4.000000000 open\n5.000000000 end\n");
    let stop = Stop::default();
    let mut seen = None;
    let mut next = |is_open| replay.next_event_step(is_open, &mut seen, &stop);
    assert_eq!(next(false), NextStep::Run(Step::Open, time_of(1)));
    assert_eq!(next(false), NextStep::Run(Step::Open, time_of(4)));
    assert_eq!(next(false), NextStep::End(time_of(5)));
}

#[test]
fn responses_are_pending_until_they_are_requested() {
    let replay =
        replay("1.000000000 poll\n1.000000000 dev/i2c-1 0x40 w06r2 = 00\n2.000000000 end\n");
    let stop = Stop::default();
    assert!(!replay.has_pending("dev/i2c-1 0x40"));
    replay.next_step(&stop);
    assert!(replay.has_pending("dev/i2c-1 0x40"));
    assert!(!replay.has_pending("dev/i2c-1 0x4"), "another chip");
    assert!(!replay.has_pending("dev/i2c-1 0x41"));
    assert_eq!(
        response(&replay, "dev/i2c-1 0x40 w06r2").as_deref(),
        Some("00")
    );
    assert!(!replay.has_pending("dev/i2c-1 0x40"));
}

#[test]
fn replay_at_the_recorded_pace_waits_until_stopped() {
    let text = format!("{HEAD}x\n0.000000000 open\n5000.000000000 poll\n5000.000000000 a < 1\n6000.000000000 end\n");
    let log = Arc::new(SourceLog::parse(text.as_bytes()).unwrap());
    let schedule = Schedule::new(false, log.end);
    let replay = Arc::new(Replay::new(log, schedule));
    let stop = Arc::new(Stop::default());
    assert!(matches!(
        replay.next_step(&stop),
        NextStep::Run(Step::Open, _)
    ));
    let waiting: Vec<_> = [true, false]
        .into_iter()
        .map(|polled| {
            let (replay, stop) = (Arc::clone(&replay), Arc::clone(&stop));
            std::thread::spawn(move || match polled {
                true => replay.next_step(&stop) == NextStep::Stop,
                false => replay.wait(&stop) == Woken::Stop,
            })
        })
        .collect();
    stop.set();
    for thread in waiting {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn replay_at_once_ends_now() {
    let length = 1_000_000;
    let before = BootTime::now();
    let schedule = Schedule::new(true, length);
    let end = schedule.time_of(length);
    assert!(before <= end && end <= BootTime::now());
    // A recording that is longer than the uptime begins when the machine was booted.
    assert_eq!(Schedule::new(true, u64::MAX).time_of(0), BootTime(1));
}
