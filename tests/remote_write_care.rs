//! Further guarantees of a sender: a bad sample drops no good one, no sample is sent with a wrong clock, and nothing is lost
//! when a sender is replaced.
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

    /// Splitting refused requests is off by default.
    const SPLIT: &str = "    queue_config: {batch_send_deadline: 20ms, min_backoff: 1ms, max_backoff: 5ms, split_requests: 128}\n";

    /// A receiver that refuses every request with one of these samples, as Prometheus 2.42 does.
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
    fn bad_sample_drops_no_other() {
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
    fn bad_series_drops_no_other() {
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

    /// The search is bounded, and shorter the next time.
    #[test]
    fn receiver_that_refuses_everything_gets_few_requests() {
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
    fn search_for_bad_samples_is_limited_in_rate() {
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
    fn samples_beyond_the_age_limit_are_not_sent() {
        let receiver = Receiver::willing();
        let mut board = Board::silent();
        // Twice the permitted age: enough for a busy machine, if this one has been up for a while.
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

    /// A clock with an adjustable error in seconds.
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

    /// With frequent time requests.
    const SOON: &str =
        "    queue_config: {batch_send_deadline: 20ms, min_backoff: 5ms, max_backoff: 20ms}\n";

    /// While the kernel reports a synchronised clock, or reports nothing, or time requests are off, only requests with samples
    /// are sent, and the time is taken from their responses.
    #[test]
    fn receiver_time_is_not_requested_with_a_synchronised_clock() {
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
            // Meanwhile only samples are sent, and rarely.
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
    fn receiver_time_is_requested_until_the_clock_is_synchronised() {
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
        // The receiver's clock has the seconds of ours.
        let wall = edge_metrics_exporter::sys::clock::wall_seconds() + seconds;
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(wall.unsigned_abs()))
    }

    #[test]
    fn nothing_is_sent_while_the_clock_is_before_the_build() {
        let receiver = Receiver::willing();
        let (clock, wrong) = clock();
        wrong.store(-50 * 365 * 86_400, Ordering::Relaxed);
        let mut board = Board::with_clock(&receiver.url(), "", clock);
        board.publish(&[("x", 1.0)]);
        wait_until("it is held", || board.numbers().held.then_some(()));
        only_the_right_time_is_sent(&board, &receiver, &wrong);
    }

    /// Corrects the clock. A sample that had been sent before would have arrived first, with the wrong time.
    fn only_the_right_time_is_sent(board: &Board, receiver: &Receiver, wrong: &AtomicI64) {
        wrong.store(0, Ordering::Relaxed);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
        let now = edge_metrics_exporter::sys::clock::wall_nanos() / 1_000_000;
        let samples = receiver.samples("x");
        assert_eq!(samples.len(), 1, "{samples:?}");
        assert!((now - 600_000..=now).contains(&samples[0].0), "{samples:?}");
    }

    #[test]
    fn nothing_is_sent_while_the_receiver_clock_differs() {
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
        only_the_right_time_is_sent(&board, &receiver, &wrong);
    }

    /// nginx does this with 444 for unknown paths.
    #[test]
    fn receiver_that_drops_time_requests_is_still_sent_samples() {
        let receiver = Receiver::willing();
        receiver.set_curt();
        let mut board = Board::with_clock(&receiver.url(), "", clock().0);
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
    }

    /// A load balancer does this without its receiver. Once that is back, its clock is used.
    #[test]
    fn receiver_that_drops_all_requests_is_asked_for_its_time_again() {
        let receiver = Receiver::new(|_, _| Answer(String::new()));
        receiver.set_curt();
        let mut board = Board::with_clock(&receiver.url(), "", clock().0);
        board.publish(&[("x", 1.0)]);
        receiver.wait_for(2);
        receiver.set_date(|| "Sat, 21 Nov 2020 00:00:00 GMT".to_string());
        wait_until("it is held", || board.numbers().held.then_some(()));
    }

    #[test]
    fn clock_jump_is_detected_before_samples_are_sent() {
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

    /// A sender with other settings continues at the position of its predecessor, whatever that was doing.
    #[test]
    fn replacing_a_sender_loses_no_sample() {
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

    /// A request that fails during shutdown is sent again while there is time.
    #[test]
    fn shutdown_retries_a_failed_request() {
        let receiver = Receiver::new(|n, _| status(if n < 3 { 503 } else { 204 }));
        let queue = "    queue_config: {batch_send_deadline: 1h}\n";
        let mut board = Board::new(&receiver, queue);
        board.publish(&[("x", 1.0)]);
        let stats = Arc::clone(board.sender().stats());
        board.finish();
        assert_eq!(stats.numbers().sent, 2, "the sample and its mark");
    }

    /// A request that has just failed is not repeated immediately because of the shutdown.
    #[test]
    fn shutdown_honours_retry_after() {
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

    /// The backoff does not start again with short waits: no wait fits the remaining time.
    #[test]
    fn shutdown_keeps_the_backoff() {
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

    /// The same for a time request that fails.
    #[test]
    fn shutdown_does_not_repeat_a_time_request() {
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

    /// A receiver that refuses everything gets the rest and the stale markers in one request.
    #[test]
    fn shutdown_sends_one_request_to_a_refusing_receiver() {
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

    /// The receiver has refused everything, so it has no series that could end.
    #[test]
    fn shutdown_sends_no_stale_markers_when_no_sample_was_accepted() {
        let receiver = Receiver::new(|_, _| status(401));
        let mut board = Board::with_clock(&receiver.url(), "", synchronised());
        board.publish(&[("x", 1.0)]);
        wait_until("it is refused", || {
            (board.dropped("http_401") == 1).then_some(())
        });
        board.finish();
        assert_eq!(receiver.requests().len(), 1);
    }

    /// A receiver that has accepted something gets the stale markers, whatever it refused last.
    #[test]
    fn shutdown_sends_stale_markers_when_some_samples_were_accepted() {
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

    /// The sender ends when the receiver asks for more time than is left.
    #[test]
    fn shutdown_does_not_exceed_its_deadline() {
        let receiver = Receiver::new(|_, _| answer(503, "Retry-After: 3600\r\n", ""));
        let queue = "    queue_config: {batch_send_deadline: 1h}\n";
        let mut board = Board::new(&receiver, queue);
        board.publish(&[("x", 1.0)]);
        board.finish();
        assert_eq!(receiver.requests().len(), 1);
    }

    /// The shutdown does not wait for a receiver that never responds.
    #[test]
    fn silent_receiver_does_not_delay_shutdown() {
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

mod disk_backlog {
    use super::*;
    use edge_metrics_exporter::config::DiskQueue;
    use edge_metrics_exporter::remote_write::{Labels, MemoryFeed, QueueFeed};

    /// A receiver that refuses whole requests for samples that it already has causes the loss of few others.
    #[test]
    fn backlog_is_sent_in_small_requests_after_a_start() {
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
        // Dropping the feed writes what was not sent: here, what the process did not know to be stored.
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
        // The receiver had 450 already, and a request of two hundred may have contained some of both.
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

    /// Otherwise a slow board with something on disk would lag by the time of two thousand samples.
    #[test]
    fn backlog_is_sent_immediately() {
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
            // Dropping the feed writes what was not sent.
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
