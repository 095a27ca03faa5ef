use super::*;
use crate::sources::io_log::line::Failure;
use crate::sources::io_log::log::HEAD;

/// This log, all of it in the past.
fn playing(lines: &str) -> Playing {
    let text = format!("{HEAD}x\n{lines}");
    let log = Log::parse(text.as_bytes()).unwrap();
    let schedule = Schedule {
        began: BootTime(1_000_000_000_000),
        at_once: true,
    };
    Playing::new(Arc::new(log), schedule)
}

fn moment(at: u64) -> BootTime {
    BootTime(1_000_000_000_000 + at * 1_000_000_000)
}

fn answer(playing: &Playing, key: &str) -> Option<String> {
    let answer = playing.answer(key)?;
    Some(match answer {
        Ok(said) => String::from_utf8(said).unwrap(),
        Err(failure) => format!("failed: {}", failure.words),
    })
}

#[test]
fn a_step_has_its_answers_in_their_order_and_then_the_last_one() {
    let playing = playing(
        "0.000000000 before = 0\n1.000000000 open\n1.000000000 a = 1\n2.000000000 poll\n2.000000000 a = 2\n\
         2.000000000 a = 3\n2.000000000 b ! 5 no\n3.000000000 poll\n4.000000000 poll\n4.000000000 b = 4\n\
         5.000000000 end\n",
    );
    let stop = Stop::default();
    let get = |key: &str| answer(&playing, key);
    assert_eq!(get("before").as_deref(), Some("0"));
    assert_eq!(get("a"), None, "nobody has asked yet");
    assert_eq!(get("never"), None);
    assert_eq!(playing.next_step(&stop), Next::Do(Step::Open, moment(1)));
    assert_eq!(playing.now(), moment(1));
    assert_eq!([get("a"), get("a")].map(Option::unwrap), ["1", "1"]);
    assert_eq!(playing.next_step(&stop), Next::Do(Step::Poll, moment(2)));
    let said = [get("a"), get("a"), get("a"), get("b"), get("before")];
    assert_eq!(said.map(Option::unwrap), ["2", "3", "3", "failed: no", "0"]);
    // What is the same is not recorded again.
    assert_eq!(playing.next_step(&stop), Next::Do(Step::Poll, moment(3)));
    assert_eq!(
        [get("a"), get("b")].map(Option::unwrap),
        ["3", "failed: no"]
    );
    // What is not asked for is known afterwards.
    assert_eq!(playing.next_step(&stop), Next::Do(Step::Poll, moment(4)));
    assert_eq!(playing.next_step(&stop), Next::Over(moment(5)));
    assert_eq!(playing.next_step(&stop), Next::Over(moment(5)));
}

#[test]
fn what_was_passed_over_is_known() {
    let playing = playing(
        "1.000000000 poll\n1.000000000 a = 1\n2.000000000 poll\n2.000000000 a = 2\n2.500000000 discard 2.000000000\n\
         3.000000000 poll\n4.000000000 end\n",
    );
    let stop = Stop::default();
    assert_eq!(playing.next_step(&stop), Next::Do(Step::Poll, moment(1)));
    assert_eq!(playing.next_step(&stop), Next::Do(Step::Poll, moment(3)));
    assert_eq!(answer(&playing, "a").as_deref(), Some("2"));
}

#[test]
fn what_comes_by_itself_comes_once_in_its_order() {
    let playing = playing(
        "0.000000000 open\n0.000000000 address = 1\n1.000000000 udp > ask\n2.000000000 udp-late < late\n\
         2.000000000 udp < one\n3.000000000 udp < two\n3.000000000 udp >! 101 network is unreachable\n\
         4.000000000 udp <! - ended\n5.000000000 open\n6.000000000 udp < three\n7.000000000 end\n",
    );
    let stop = Stop::default();
    let mut seen = None;
    let mut next = |is_open| playing.next_item(is_open, &mut seen, &stop);
    assert_eq!(next(false), Next::Do(Step::Open, moment(0)));
    assert_eq!(answer(&playing, "address").as_deref(), Some("1"));
    assert_eq!(next(true), Next::Do(Step::Poll, moment(1)));
    assert_eq!(
        (playing.wait(&stop), playing.is_coming()),
        (Woken::Time, false)
    );
    assert_eq!(playing.take("udp"), None);
    assert_eq!(playing.sent(), Ok(b"ask".to_vec()));
    assert_eq!(
        (playing.wait(&stop), playing.is_coming()),
        (Woken::Ready, true)
    );
    assert_eq!(playing.take("udp"), None, "that is not next");
    assert_eq!(
        playing.take("udp-late"),
        Some((moment(2), Ok(b"late".to_vec())))
    );
    assert_eq!(playing.take("udp"), Some((moment(2), Ok(b"one".to_vec()))));
    assert_eq!(playing.now(), moment(2));
    // "two" is passed over: the source does not wait for it.
    let unreachable = playing.sent().unwrap_err();
    assert_eq!(unreachable.errno, Some(101));
    assert_eq!(
        playing.take("udp"),
        Some((moment(4), Err(Failure::new("ended"))))
    );
    // What comes after it was opened again is not for now.
    assert_eq!(playing.wait(&stop), Woken::Stop);
    assert_eq!(playing.sent(), Ok(Vec::new()));
    assert_eq!(playing.take("udp"), None);
    assert_eq!(next(true), Next::Do(Step::Open, moment(5)));
    // A source that takes nothing does not keep the rest from being played.
    assert_eq!(next(true), Next::Do(Step::Poll, moment(6)));
    assert_eq!(next(true), Next::Over(moment(7)));
}

#[test]
fn nothing_comes_to_a_source_that_is_not_open() {
    let playing = playing("1.000000000 open\n2.000000000 a < 1\n3.000000000 a < 2\n4.000000000 open\n5.000000000 end\n");
    let stop = Stop::default();
    let mut seen = None;
    let mut next = |is_open| playing.next_item(is_open, &mut seen, &stop);
    assert_eq!(next(false), Next::Do(Step::Open, moment(1)));
    assert_eq!(next(false), Next::Do(Step::Open, moment(4)));
    assert_eq!(next(false), Next::Over(moment(5)));
}

#[test]
fn more_is_known_of_a_chip_until_it_was_asked_for() {
    let playing =
        playing("1.000000000 poll\n1.000000000 dev/i2c-1 0x40 w06r2 = 00\n2.000000000 end\n");
    let stop = Stop::default();
    assert!(!playing.has_more("dev/i2c-1 0x40"));
    playing.next_step(&stop);
    assert!(playing.has_more("dev/i2c-1 0x40"));
    assert!(!playing.has_more("dev/i2c-1 0x4"), "another chip");
    assert!(!playing.has_more("dev/i2c-1 0x41"));
    assert_eq!(
        answer(&playing, "dev/i2c-1 0x40 w06r2").as_deref(),
        Some("00")
    );
    assert!(!playing.has_more("dev/i2c-1 0x40"));
}

#[test]
fn at_the_recorded_pace_it_waits_until_told_to_stop() {
    let text = format!("{HEAD}x\n0.000000000 open\n5000.000000000 poll\n5000.000000000 a < 1\n6000.000000000 end\n");
    let log = Arc::new(Log::parse(text.as_bytes()).unwrap());
    let schedule = Schedule::new(false, log.end);
    let playing = Arc::new(Playing::new(log, schedule));
    let stop = Arc::new(Stop::default());
    assert!(matches!(playing.next_step(&stop), Next::Do(Step::Open, _)));
    let waiting: Vec<_> = [true, false]
        .into_iter()
        .map(|polled| {
            let (playing, stop) = (Arc::clone(&playing), Arc::clone(&stop));
            std::thread::spawn(move || match polled {
                true => playing.next_step(&stop) == Next::Stop,
                false => playing.wait(&stop) == Woken::Stop,
            })
        })
        .collect();
    stop.set();
    for thread in waiting {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn all_at_once_its_end_is_now() {
    let length = 1_000_000;
    let before = BootTime::now();
    let schedule = Schedule::new(true, length);
    let end = schedule.moment(length);
    assert!(before <= end && end <= BootTime::now());
    // A recording that is longer than the board has been up begins when it began.
    assert_eq!(Schedule::new(true, u64::MAX).moment(0), BootTime(1));
}
