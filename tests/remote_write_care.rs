//! What a sender takes care of besides: that a bad sample costs no good one, that no stamp of a wrong clock leaves, that nothing
//! is lost between two senders.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod remote_write_support;
mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use edge_metrics_exporter::metrics::WallClock;
use edge_metrics_exporter::sys::clock::{both, BootTime};
use remote_write_support::{answer, status, Answer, Board, Receiver};
use support::{wait_until, TempDir};

mod bad_samples {
    use super::*;

    /// Cutting up what is refused has to be asked for.
    const SPLIT: &str = "    queue_config: {batch_send_deadline: 20ms, min_backoff: 1ms, max_backoff: 5ms, split_requests: 128}\n";

    /// A receiver that refuses every request that has one of these stamps of a series, as Prometheus 2.42 does.
    fn picky(bad: impl Fn(&str, usize, f64) -> bool + Send + 'static) -> Receiver {
        Receiver::new(move |_, request| {
            let message = request.message();
            let refused = message.series.iter().any(|series| {
                let mut samples = series.samples.iter().enumerate();
                samples.any(|(i, sample)| bad(series.name(), i, sample.value()))
            });
            status(if refused { 400 } else { 204 })
        })
    }

    fn hundred_readings_of_ten() -> Board {
        let mut board = Board::silent();
        let names: Vec<String> = (0..10).map(|i| format!("metric_{i}")).collect();
        for reading in 0..100 {
            let values: Vec<_> = names
                .iter()
                .map(|n| (n.as_str(), f64::from(reading)))
                .collect();
            board.publish(&values);
        }
        board
    }

    #[test]
    fn one_bad_sample_costs_no_other() {
        let receiver = picky(|name, _, value| name == "metric_7" && value == 33.0);
        let mut board = hundred_readings_of_ten();
        board.send_to(&receiver.url(), SPLIT, WallClock::default());
        wait_until("the rest is sent", || {
            (board.numbers().sent == 999).then_some(())
        });
        assert_eq!(board.dropped("http_400"), 1);
        assert!(
            receiver.requests().len() < 40,
            "{}",
            receiver.requests().len()
        );
    }

    #[test]
    fn one_bad_series_costs_no_other() {
        let receiver = picky(|name, _, _| name == "metric_3");
        let mut board = hundred_readings_of_ten();
        board.send_to(&receiver.url(), SPLIT, WallClock::default());
        wait_until("the rest is sent", || {
            (board.numbers().sent == 900).then_some(())
        });
        wait_until("the bad is dropped", || {
            (board.dropped("http_400") == 100).then_some(())
        });
    }

    /// The search has an end, and the next time it is shorter.
    #[test]
    fn a_receiver_that_refuses_everything_is_not_swamped() {
        let receiver = Receiver::new(|_, _| status(400));
        let mut board = hundred_readings_of_ten();
        board.send_to(&receiver.url(), SPLIT, WallClock::default());
        wait_until("all is dropped", || {
            (board.dropped("http_400") == 1000).then_some(())
        });
        let first = receiver.requests().len();
        assert!((3..=129).contains(&first), "{first}");
        for _ in 0..3 {
            board.publish(&[("metric_1", 1.0), ("metric_2", 1.0), ("metric_3", 1.0)]);
        }
        wait_until("they are dropped too", || {
            (board.dropped("http_400") >= 1009).then_some(())
        });
        assert!(receiver.requests().len() - first <= 3 * 3 + 10);
    }

    #[test]
    fn the_search_is_paced_and_costs_no_more_than_it_may() {
        let receiver = Receiver::new(|_, _| status(413));
        let mut board = hundred_readings_of_ten();
        let queue = "    queue_config: {batch_send_deadline: 20ms, min_backoff: 20ms, max_backoff: 40ms, split_requests: 6}\n";
        board.send_to(&receiver.url(), queue, WallClock::default());
        wait_until("all is dropped", || {
            (board.dropped("http_413") == 1000).then_some(())
        });
        let requests = receiver.requests();
        assert!((3..=7).contains(&requests.len()), "{}", requests.len());
        let mut waits = requests.windows(2).map(|w| w[1].at - w[0].at);
        assert!(waits.all(|wait| wait >= Duration::from_millis(15)));
    }

    #[test]
    fn what_is_too_old_is_not_sent() {
        let receiver = Receiver::willing();
        let mut board = Board::silent();
        // Twice as old as it may be: long enough for a busy machine, if this one has been running for a while.
        let now = BootTime::now().0;
        let age = (now / 2).min(1000 * 1_000_000_000);
        board.publish_at(BootTime(now - age), &[("x", &[], 1.0)]);
        board.publish(&[("x", 2.0)]);
        let limit = age / 2_000_000;
        let queue = format!(
            "    queue_config: {{sample_age_limit: {limit}ms, batch_send_deadline: 20ms}}\n"
        );
        board.send_to(&receiver.url(), &queue, WallClock::default());
        wait_until("the young one is sent", || {
            (board.numbers().sent == 1).then_some(())
        });
        assert_eq!(board.dropped("too_old"), 1);
        assert_eq!(receiver.samples("x")[0].1, 2.0);
    }
}

mod clocks {
    use super::*;

    /// A clock that is so many seconds wrong.
    fn clock() -> (WallClock, Arc<AtomicI64>) {
        let wrong = Arc::new(AtomicI64::new(0));
        let of_clock = Arc::clone(&wrong);
        let clock = WallClock::new(move || {
            let (boot, wall): (BootTime, i64) = both();
            (
                boot,
                wall + of_clock.load(Ordering::Relaxed) * 1_000_000_000,
            )
        });
        (clock.with_synchronised(|| Some(false)), wrong)
    }

    /// It may be asked often.
    const SOON: &str =
        "    queue_config: {batch_send_deadline: 20ms, min_backoff: 5ms, max_backoff: 20ms}\n";

    /// While the kernel says that the clock is synchronised, or does not say, or the receiver is not to be asked, there is no
    /// request but those with samples, and the time is that of their answers.
    #[test]
    fn a_receiver_is_not_asked_for_its_time_without_need() {
        let never = "    ask_time: false\n";
        for (says, settings) in [(Some(true), ""), (None, ""), (Some(false), never)] {
            let theirs = Arc::new(AtomicI64::new(0));
            let of_theirs = Arc::clone(&theirs);
            let receiver = Receiver::new(move |_, _| {
                let date = date(of_theirs.load(Ordering::Relaxed));
                answer(204, &format!("Date: {date}\r\n"), "")
            });
            let clock = clock().0.with_synchronised(move || says);
            let mut board = Board::with_clock(&receiver.url(), &format!("{SOON}{settings}"), clock);
            board.publish(&[("x", 1.0)]);
            wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
            assert!(!board.numbers().held);
            theirs.store(-7200, Ordering::Relaxed);
            board.publish(&[("x", 2.0)]);
            let skew = wait_until("the clocks are seen to differ", || {
                let numbers = board.numbers();
                numbers.held.then_some(numbers.skew_ms).flatten()
            });
            assert!((7_190_000..7_210_000).contains(&skew), "{skew}");
            // What goes out meanwhile are samples, and rarely.
            board.publish(&[("x", 3.0)]);
            wait_until("it is sent", || (board.numbers().sent == 3).then_some(()));
            theirs.store(0, Ordering::Relaxed);
            wait_until("they agree", || {
                board.publish(&[("x", 4.0)]);
                (!board.numbers().held).then_some(())
            });
            assert!(receiver.others().is_empty(), "{says:?}");
        }
    }

    #[test]
    fn a_receiver_is_asked_until_the_clock_is_synchronised() {
        let receiver = Receiver::new(|_, _| answer(204, &format!("Date: {}\r\n", date(0)), ""));
        receiver.set_date(|| date(-7200));
        let synchronised = Arc::new(AtomicU16::new(0));
        let of_clock = Arc::clone(&synchronised);
        let says = move || Some(of_clock.load(Ordering::Relaxed) > 0);
        let clock = clock().0.with_synchronised(says);
        let mut board = Board::with_clock(&receiver.url(), SOON, clock);
        board.publish(&[("x", 1.0)]);
        wait_until("it is asked again and again", || {
            (receiver.others().len() > 2).then_some(())
        });
        assert!(board.numbers().held && receiver.requests().is_empty());
        let asked = receiver.others();
        for asked in &asked {
            assert_eq!((&*asked.method, &*asked.path), ("HEAD", "/"));
            let version = asked.header("X-Prometheus-Remote-Write-Version");
            assert_eq!(version, Some("0.1.0"));
            assert!(asked.header("User-Agent").is_some());
        }
        synchronised.store(1, Ordering::Relaxed);
        wait_until("samples tell that they agree", || {
            (!board.numbers().held && board.numbers().sent == 1).then_some(())
        });
    }

    /// The `Date` of a receiver whose clock is so many seconds ahead of ours.
    fn date(seconds: i64) -> String {
        let wall = edge_metrics_exporter::sys::clock::wall_seconds() + seconds;
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(wall.unsigned_abs()))
    }

    #[test]
    fn nothing_leaves_while_the_clock_is_plainly_wrong() {
        let receiver = Receiver::willing();
        let (clock, wrong) = clock();
        wrong.store(-50 * 365 * 86_400, Ordering::Relaxed);
        let mut board = Board::with_clock(&receiver.url(), "", clock);
        board.publish(&[("x", 1.0)]);
        wait_until("it is held", || board.numbers().held.then_some(()));
        std::thread::sleep(Duration::from_millis(200));
        assert!(receiver.requests().is_empty());
        wrong.store(0, Ordering::Relaxed);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
        let now = edge_metrics_exporter::sys::clock::wall_nanos() / 1_000_000;
        let stamp = receiver.samples("x")[0].0;
        assert!(
            (now - 60_000..=now).contains(&stamp),
            "stamped late, and right"
        );
    }

    #[test]
    fn nothing_leaves_while_the_receivers_clock_differs() {
        let receiver = Receiver::willing();
        receiver.set_date(|| date(0));
        let (clock, wrong) = clock();
        wrong.store(7200, Ordering::Relaxed);
        let mut board = Board::with_clock(&receiver.url(), "", clock);
        board.publish(&[("x", 1.0)]);
        let skew = wait_until("it is held", || {
            let numbers = board.numbers();
            numbers.held.then_some(numbers.skew_ms).flatten()
        });
        assert!((7_190_000..7_210_000).contains(&skew), "{skew}");
        std::thread::sleep(Duration::from_millis(200));
        assert!(receiver.requests().is_empty());
    }

    /// As nginx does with 444 for paths that it does not know.
    #[test]
    fn a_receiver_that_cuts_off_who_asks_for_its_clock_has_no_say() {
        let receiver = Receiver::willing();
        receiver.set_curt();
        let mut board = Board::with_clock(&receiver.url(), "", clock().0);
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
    }

    /// As a balancer does whose receiver is away: when it is back, its clock counts.
    #[test]
    fn a_receiver_that_cuts_off_everybody_is_asked_again() {
        let receiver = Receiver::new(|_, _| Answer(String::new()));
        receiver.set_curt();
        let mut board = Board::with_clock(&receiver.url(), "", clock().0);
        board.publish(&[("x", 1.0)]);
        receiver.wait_for(2);
        receiver.set_date(|| "Sat, 21 Nov 2020 00:00:00 GMT".to_string());
        wait_until("it is held", || board.numbers().held.then_some(()));
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_found_out_before_anything_leaves() {
        let receiver = Receiver::new(|_, _| answer(204, &format!("Date: {}\r\n", date(0)), ""));
        receiver.set_date(|| date(0));
        let (clock, wrong) = clock();
        let mut board = Board::with_clock(&receiver.url(), "", clock);
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
        wrong.store(3600, Ordering::Relaxed);
        board.publish(&[("x", 2.0)]);
        wait_until("it is held", || board.numbers().held.then_some(()));
        let now = edge_metrics_exporter::sys::clock::wall_nanos() / 1_000_000;
        assert!(receiver.samples("x").iter().all(|(stamp, _)| *stamp <= now));
    }
}

mod handing_over {
    use super::*;

    /// A sender with other settings goes on where the one before was, whatever it was doing.
    #[test]
    fn nothing_is_lost_between_two_senders() {
        let code = Arc::new(AtomicU16::new(503));
        let of_receiver = Arc::clone(&code);
        let receiver = Receiver::new(move |_, _| status(of_receiver.load(Ordering::Relaxed)));
        let mut board = Board::new(&receiver, "");
        board.publish(&[("x", 1.0)]);
        receiver.wait_for(2);
        let sender = board.sender.take().unwrap();
        let entry = sender.entry().clone();
        let feed = sender.hand_over().unwrap();
        board.publish(&[("x", 2.0)]);
        code.store(204, Ordering::Relaxed);
        let clock = Arc::new(WallClock::default());
        let next = edge_metrics_exporter::remote_write::Sender::start(entry, feed, clock);
        board.sender = Some(next.unwrap());
        wait_until("both are sent", || {
            (board.numbers().sent == 2).then_some(())
        });
    }

    /// A request that fails at the end is sent again while there is time.
    #[test]
    fn the_end_tries_again() {
        let receiver = Receiver::new(|n, _| status(if n < 3 { 503 } else { 204 }));
        let queue = "    queue_config: {batch_send_deadline: 1h}\n";
        let mut board = Board::new(&receiver, queue);
        board.publish(&[("x", 1.0)]);
        let stats = Arc::clone(board.sender().stats());
        board.finish();
        assert_eq!(stats.numbers().sent, 2, "the sample and its mark");
    }

    /// What has just failed is not sent at once again because the end has come.
    #[test]
    fn the_end_waits_as_long_as_the_receiver_asked() {
        let receiver = Receiver::new(|n, _| match n {
            0 => answer(503, "Retry-After: 1\r\n", ""),
            _ => status(204),
        });
        let mut board = Board::new(&receiver, "");
        board.publish(&[("x", 1.0)]);
        receiver.wait_for(1);
        let stats = Arc::clone(board.sender().stats());
        board.finish();
        assert_eq!(stats.numbers().sent, 2, "the sample and its mark");
        let requests = receiver.requests();
        assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
    }

    /// Nor does it begin anew with short waits: none is left that fits.
    #[test]
    fn the_end_goes_on_backing_off() {
        for failing in ["", "HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"] {
            let receiver = Receiver::new(move |_, _| Answer(failing.into()));
            let queue = "    queue_config: {batch_send_deadline: 20ms, min_backoff: 30s, max_backoff: 60s}\n";
            let mut board = Board::with_clock(&receiver.url(), queue, synchronised());
            board.publish(&[("x", 1.0)]);
            receiver.wait_for(1);
            let sender = board.sender.take().unwrap();
            let deadline = std::time::Instant::now() + Duration::from_secs(2);
            sender.finish(deadline);
            wait_until("it ends", || sender.has_ended().then_some(()));
            assert_eq!(receiver.requests().len(), 1);
        }
    }

    /// The same where it is the question for the time that fails.
    #[test]
    fn the_end_does_not_ask_for_the_time_at_once_again() {
        let receiver = Receiver::willing();
        receiver.set_curt();
        let queue =
            "    queue_config: {batch_send_deadline: 20ms, min_backoff: 30s, max_backoff: 60s}\n";
        let clock = WallClock::default().with_synchronised(|| Some(false));
        let mut board = Board::with_clock(&receiver.url(), queue, clock);
        board.publish(&[("x", 1.0)]);
        wait_until("it is asked", || {
            (!receiver.others().is_empty()).then_some(())
        });
        let sender = board.sender.take().unwrap();
        sender.finish(std::time::Instant::now() + Duration::from_secs(2));
        wait_until("it ends", || sender.has_ended().then_some(()));
        assert_eq!((receiver.others().len(), receiver.requests().len()), (1, 0));
    }

    /// One that refuses everything gets the rest and the marks in one request.
    #[test]
    fn the_end_is_one_request_to_a_receiver_that_refuses() {
        let receiver = Receiver::new(|_, _| status(400));
        let queue = "    queue_config: {batch_send_deadline: 1h}\n";
        let mut board = Board::with_clock(&receiver.url(), queue, synchronised());
        for value in 0..10 {
            board.publish(&[("x", f64::from(value)), ("y", 1.0)]);
        }
        let stats = Arc::clone(board.sender().stats());
        board.finish();
        assert_eq!(stats.numbers().dropped["http_400"], 22);
        assert_eq!(receiver.requests().len(), 1);
    }

    /// It has refused all that it got, and so nothing of it could end there.
    #[test]
    fn the_end_is_no_request_to_a_receiver_that_has_taken_nothing() {
        let receiver = Receiver::new(|_, _| status(401));
        let mut board = Board::with_clock(&receiver.url(), "", synchronised());
        board.publish(&[("x", 1.0)]);
        wait_until("it is refused", || {
            (board.dropped("http_401") == 1).then_some(())
        });
        board.finish();
        assert_eq!(receiver.requests().len(), 1);
    }

    /// One that has taken something is told of the end, whatever it refused last.
    #[test]
    fn the_end_is_told_to_a_receiver_that_has_refused_some() {
        let receiver = Receiver::new(|n, _| status(if n == 1 { 400 } else { 204 }));
        let mut board = Board::with_clock(&receiver.url(), "", synchronised());
        board.publish(&[("x", 1.0)]);
        receiver.wait_for(1);
        board.publish(&[("x", 2.0)]);
        wait_until("it is refused", || {
            (board.dropped("http_400") == 1).then_some(())
        });
        board.finish();
        let (_, mark) = *receiver.samples("x").last().unwrap();
        assert!(mark.is_nan() && receiver.requests().len() == 3);
    }

    fn synchronised() -> WallClock {
        WallClock::default().with_synchronised(|| Some(true))
    }

    /// It has an end when the receiver asks for more time than there is.
    #[test]
    fn the_end_does_not_wait_longer_than_it_may() {
        let receiver = Receiver::new(|_, _| answer(503, "Retry-After: 3600\r\n", ""));
        let queue = "    queue_config: {batch_send_deadline: 1h}\n";
        let mut board = Board::new(&receiver, queue);
        board.publish(&[("x", 1.0)]);
        board.finish();
        assert_eq!(receiver.requests().len(), 1);
    }

    /// The end does not wait for a receiver that never answers.
    #[test]
    fn a_silent_receiver_does_not_hold_up_the_end() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let mut board = Board::with_clock(&url, "", WallClock::default());
        board.publish(&[("x", 1.0)]);
        let (_connection, _) = silent.accept().unwrap();
        let sender = board.sender.take().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_millis(300);
        sender.finish(deadline);
        sender.join(deadline);
    }
}

mod what_is_on_disk {
    use super::*;
    use edge_metrics_exporter::config::DiskQueue;
    use edge_metrics_exporter::remote_write::{Labels, MemoryFeed, QueueFeed};

    /// A receiver that refuses what it has, and the whole request with it, costs little of what it does not have.
    #[test]
    fn is_sent_in_small_requests_after_a_start() {
        let temp = TempDir::new();
        let board_of = |board: &Board| {
            let registry = Arc::clone(&board.registry);
            let memory = MemoryFeed::new(registry, Labels::default(), BootTime(0));
            let settings = DiskQueue {
                directory: temp.path().join("queue"),
                bytes: 1 << 20,
                sync_interval: Duration::from_secs(3600),
            };
            Box::new(QueueFeed::new(memory, settings, Arc::default()))
        };
        let mut board = Board::silent();
        let feed = board_of(&board);
        for value in 0..200 {
            let value = f64::from(value);
            board.publish(&[
                ("a", value),
                ("b", value),
                ("c", value),
                ("d", value),
                ("e", value),
            ]);
        }
        // Its end writes what was not sent: here, what the process did not know to be stored.
        drop(feed);
        let has = |value: f64| value < 90.0;
        let receiver = Receiver::new(move |_, request| {
            let message = request.message();
            let mut samples = message.series.iter().flat_map(|series| &series.samples);
            status(if samples.any(|sample| has(sample.value())) {
                400
            } else {
                204
            })
        });
        board.group.history().limit(Duration::ZERO, 0);
        let feed = board_of(&board);
        board.send(
            feed,
            &receiver.url(),
            "    queue_config: {batch_send_deadline: 20ms}\n",
        );
        let sent = wait_until("all is sent or refused", || {
            let numbers = board.numbers();
            (numbers.sent + board.dropped("http_400") >= 1000).then_some(numbers.sent)
        });
        // 450 it had already, and a request of two hundred may have had some of both.
        assert!((351..=550).contains(&sent), "{sent}");
        let mut all = BTreeSet::new();
        for request in receiver.requests() {
            for series in &request.message().series {
                for sample in &series.samples {
                    assert!(
                        all.insert((series.name().to_string(), sample.stamp)),
                        "once"
                    );
                }
            }
        }
        drop(board);
    }

    /// Otherwise a slow board would be behind by as long as two thousand samples take it, once there is something on disk.
    #[test]
    fn is_sent_at_once_however_little_it_is() {
        let temp = TempDir::new();
        let directory = temp.path().join("queue");
        let queue = |board: &Board, since| {
            let registry = Arc::clone(&board.registry);
            let memory = MemoryFeed::new(registry, Labels::default(), since);
            let settings = DiskQueue {
                directory: directory.clone(),
                bytes: 1 << 20,
                sync_interval: Duration::from_secs(3600),
            };
            Box::new(QueueFeed::new(memory, settings, Arc::default()))
        };
        let mut board = Board::silent();
        for value in 0..5 {
            let feed = queue(&board, BootTime::now());
            board.publish(&[("power_watts", f64::from(value))]);
            // Its end writes what was not sent.
            drop(feed);
        }
        let receiver = Receiver::willing();
        let feed = queue(&board, BootTime::now());
        board.send(
            feed,
            &receiver.url(),
            "    queue_config: {batch_send_deadline: 1h}\n",
        );
        wait_until("all five samples", || {
            let samples = receiver.samples("power_watts");
            let values: Vec<_> = samples.into_iter().map(|(_, value)| value).collect();
            (values == [0.0, 1.0, 2.0, 3.0, 4.0]).then_some(())
        });
        drop(board);
    }
}
