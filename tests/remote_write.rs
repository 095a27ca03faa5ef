//! How a sender behaves: the cases about retries, negotiation and errors of the sender suites of prometheus/compliance
//! (remotewrite/sender, of 2.0 now and of 1.0 before), under their names.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod remote_write_support;
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use edge_metrics_exporter::metrics::WallClock;
use remote_write_support::{answer, status, written, Answer, Board, Receiver, Request};
use support::free_port::FreePort;
use support::wait_until;

const SECOND: &str = "    protobuf_message: io.prometheus.write.v2.Request\n";

fn stamps(request: &Request, name: &str) -> Vec<i64> {
    let message = request.message();
    let series = message.series.iter().filter(|s| s.name() == name);
    series
        .flat_map(|s| s.samples.iter().map(|s| s.stamp))
        .collect()
}

/// A receiver with this first response, which accepts everything afterwards.
fn at_first(first: Answer) -> Receiver {
    Receiver::new(move |n, _| if n == 0 { first.clone() } else { written(1000) })
}

mod retries {
    use super::*;

    /// The same samples are sent again, and none is lost.
    fn is_sent_again(first: Answer) {
        let receiver = at_first(first);
        let mut board = Board::new(&receiver, "");
        board.publish(&[("now", 1.0)]);
        let requests = receiver.wait_for(2);
        assert_eq!(requests[0].body, requests[1].body);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
        let numbers = board.numbers();
        assert_eq!((numbers.retries, numbers.requests["stored"]), (1, 1));
        assert!(numbers.dropped.values().all(|n| *n == 0), "{numbers:?}");
    }

    /// Refused samples are not sent again, and later ones are sent.
    fn is_not_sent_again(first: Answer, reason: &str) {
        for settings in ["", SECOND] {
            let receiver = at_first(first.clone());
            let mut board = Board::new(&receiver, settings);
            board.publish(&[("now", 1.0), ("then", 1.0), ("ever", 1.0)]);
            let refused = stamps(&receiver.wait_for(1)[0], "now");
            board.publish(&[("now", 2.0)]);
            let requests = receiver.wait_for(2);
            assert!(!stamps(&requests[1], "now").contains(&refused[0]));
            wait_until("it is counted", || {
                (board.dropped(reason) == 3).then_some(())
            });
            assert_eq!(board.numbers().retries, 0);
            wait_until("what follows is sent", || {
                (board.numbers().sent >= 1).then_some(())
            });
            assert!(stamps(&requests[1], "now").len() == 1 && receiver.requests().len() <= 3);
        }
    }

    /// `Retries500` of the first suite too.
    #[test]
    fn retry_on_500() {
        is_sent_again(status(500));
    }

    #[test]
    fn retry_on_502() {
        is_sent_again(status(502));
    }

    #[test]
    fn retry_on_503() {
        is_sent_again(answer(503, "Retry-After: 0\r\n", "busy"));
    }

    #[test]
    fn retry_on_504() {
        is_sent_again(status(504));
    }

    #[test]
    fn may_retry_on_429() {
        is_sent_again(status(429));
    }

    /// `Retries400` of the first suite too.
    #[test]
    fn no_retry_on_400() {
        is_not_sent_again(
            answer(400, "Retry-After: 1\r\n", "out of order"),
            "http_400",
        );
    }

    #[test]
    fn no_retry_on_401() {
        is_not_sent_again(status(401), "http_401");
    }

    #[test]
    fn no_retry_on_404() {
        is_not_sent_again(status(404), "http_404");
    }

    #[test]
    fn no_retry_on_413() {
        is_not_sent_again(status(413), "http_413");
    }

    /// All others, except 415 in answer to 2.0.
    #[test]
    fn no_retry_on_any_other_4xx() {
        for code in [
            403, 405, 406, 408, 409, 410, 414, 417, 422, 425, 431, 451, 499,
        ] {
            is_not_sent_again(status(code), &format!("http_{code}"));
        }
    }

    /// A refused request stays one request, however many samples it has and whatever the status.
    #[test]
    fn refused_request_is_not_split() {
        for code in [400, 413, 422] {
            let receiver = Receiver::new(move |_, _| status(code));
            let mut board = Board::silent();
            for reading in 0..200 {
                board.publish(&[
                    ("a", f64::from(reading)),
                    ("b", 1.0),
                    ("c", 1.0),
                    ("d", 1.0),
                ]);
            }
            board.send_to(&receiver.url(), "", WallClock::default());
            let reason = format!("http_{code}");
            wait_until("all is dropped", || {
                (board.dropped(&reason) == 800).then_some(())
            });
            board.publish(&[("a", 1.0)]);
            wait_until("and what follows", || {
                (board.dropped(&reason) >= 801).then_some(())
            });
            let requests = receiver.requests();
            let most = 3;
            assert!(requests.len() <= most, "{} requests", requests.len());
            let mut sent = BTreeSet::new();
            for request in &requests {
                for series in &request.message().series {
                    for sample in &series.samples {
                        assert!(sent.insert((series.name().to_string(), sample.stamp)));
                    }
                }
            }
        }
    }

    #[test]
    fn no_retry_on_429_if_so_configured() {
        let receiver = at_first(status(429));
        let queue = "    queue_config: {retry_on_http_429: false, batch_send_deadline: 20ms}\n";
        let mut board = Board::new(&receiver, queue);
        board.publish(&[("now", 1.0)]);
        wait_until("it is dropped", || {
            (board.dropped("http_429") == 1).then_some(())
        });
    }

    #[test]
    fn retry_after_is_honoured() {
        let receiver = at_first(answer(503, "Retry-After: 1\r\n", ""));
        let mut board = Board::new(&receiver, "");
        board.publish(&[("now", 1.0)]);
        let requests = receiver.wait_for(2);
        assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
    }
}

mod backoff {
    use super::*;

    /// `exponential_backoff_on_retries`, `backoff_required`, `backoff_max_delay`, `backoff_with_jitter`: no wait is
    /// shorter than seven eighths of the nominal delay. (Unit tests of the backoff check the upper bounds.)
    #[test]
    fn backoff_required() {
        let receiver = Receiver::new(|n, _| status(if n < 6 { 500 } else { 204 }));
        let queue = "    queue_config: {batch_send_deadline: 20ms, min_backoff: 20ms, max_backoff: 160ms}\n";
        let mut board = Board::new(&receiver, queue);
        board.publish(&[("x", 1.0)]);
        let requests = receiver.wait_for(7);
        let waits = requests.windows(2).map(|w| (w[1].at - w[0].at).as_millis());
        for (wait, least) in waits.zip([17, 35, 70, 140, 140, 140]) {
            assert!(wait >= least, "{wait} ms instead of {least} ms");
        }
        assert!(requests.iter().all(|r| r.body == requests[0].body));
    }
}

mod fallback {
    use super::*;

    fn versions(requests: &[Request]) -> Vec<bool> {
        requests.iter().map(Request::is_second).collect()
    }

    /// A receiver of 1.0 only, with this response to 2.0.
    fn first_generation(answer: Answer) -> Receiver {
        Receiver::new(move |_, request| match request.is_second() {
            true => answer.clone(),
            false => status(204),
        })
    }

    /// `retry_with_different_version`, `fallback_header_changes`, `accept_success_after_fallback`,
    /// `persistent_fallback_choice`.
    fn falls_back_for_good(answer: Answer) {
        let receiver = first_generation(answer);
        let mut board = Board::new(&receiver, SECOND);
        for i in 0..3 {
            board.publish(&[("x", f64::from(i))]);
            receiver.wait_for(i as usize + 2);
        }
        let requests = receiver.wait_for(4);
        assert_eq!(versions(&requests), [true, false, false, false]);
        assert_eq!(requests[0].message().of("x").samples.len(), 1);
        assert_eq!(
            stamps(&requests[0], "x"),
            stamps(&requests[1], "x"),
            "nothing is lost"
        );
        let types: BTreeSet<_> = requests
            .iter()
            .map(|r| r.header("Content-Type").unwrap())
            .collect();
        assert_eq!(types.len(), 2);
        wait_until("all is sent", || (board.numbers().sent == 3).then_some(()));
        assert_eq!(board.numbers().retries, 0);
    }

    /// The receiver does not get each sample twice, nor the log two lines each time.
    #[test]
    fn unsupported_versions_are_tried_alternately() {
        let receiver = Receiver::new(|_, _| status(415));
        let settings = "    protobuf_message: io.prometheus.write.v2.Request\n    queue_config: {batch_send_deadline: 10ms}\n";
        let mut board = Board::new(&receiver, settings);
        for n in 0..6_u16 {
            board.publish(&[("a_watts", f64::from(n))]);
            wait_until("it is refused", || {
                (board.dropped("http_415") == u64::from(n) + 1).then_some(())
            });
        }
        let second: Vec<bool> = receiver.requests().iter().map(|r| r.is_second()).collect();
        assert_eq!(second, [true, false, true, false, true, false, true]);
    }

    #[test]
    fn fallback_on_415_unsupported_media_type() {
        falls_back_for_good(status(415));
    }

    /// Prometheus 2.x answers so when it cannot decode a request. The refused samples are not sent again in the other
    /// message: a 400 may also mean that the samples are bad.
    #[test]
    fn fallback_on_400_of_a_1_x_receiver() {
        let receiver = first_generation(answer(400, "", "snappy: corrupt input"));
        let mut board = Board::new(&receiver, SECOND);
        for i in 0..3 {
            board.publish(&[("x", f64::from(i))]);
            receiver.wait_for(i as usize + 1);
        }
        wait_until("the others are sent", || {
            (board.numbers().sent == 2).then_some(())
        });
        assert_eq!(versions(&receiver.requests()), [true, false, false]);
        assert_eq!(board.dropped("http_400"), 1);
    }

    /// A first refusal then drops few samples.
    #[test]
    fn requests_stay_small_until_the_version_is_confirmed() {
        let receiver = first_generation(status(400));
        let mut board = Board::silent();
        for reading in 0..300 {
            board.publish(&[("x", f64::from(reading)), ("y", 1.0)]);
        }
        board.send_to(&receiver.url(), SECOND, WallClock::default());
        wait_until("the rest is sent", || {
            (board.numbers().sent == 400).then_some(())
        });
        assert_eq!(board.dropped("http_400"), 200);
        let all: Vec<_> = receiver.samples("x").iter().map(|(_, v)| *v).collect();
        assert!(
            all.windows(2).all(|pair| pair[0] < pair[1]),
            "in their order"
        );
    }

    /// The receiver refused a first request for its samples, and supports 2.0 only.
    #[test]
    fn receiver_of_2_0_only_is_sent_2_0_after_a_failed_fallback() {
        let receiver = Receiver::new(|n, request| match (n, request.is_second()) {
            (0, _) => status(400),
            (_, true) => written(1),
            (_, false) => status(415),
        });
        let mut board = Board::new(&receiver, SECOND);
        for i in 0..3 {
            board.publish(&[("x", f64::from(i))]);
            receiver.wait_for(i as usize + 1);
        }
        wait_until("the others are sent", || {
            (board.numbers().sent == 2).then_some(())
        });
        assert_eq!(versions(&receiver.requests()), [true, false, true, true]);
    }

    #[test]
    fn receiver_without_either_version_gets_each_sample_once() {
        let receiver = Receiver::new(|_, _| status(415));
        let mut board = Board::new(&receiver, SECOND);
        board.publish(&[("x", 1.0)]);
        wait_until("it is dropped", || {
            (board.dropped("http_415") == 1).then_some(())
        });
        assert_eq!(versions(&receiver.requests()), [true, false]);
    }

    /// Prometheus 2.42 answers so: it decodes an empty message, and stores nothing.
    #[test]
    fn fallback_on_204_that_stored_nothing() {
        falls_back_for_good(status(204));
    }

    #[test]
    fn no_fallback_on_2xx() {
        let receiver = Receiver::willing();
        let mut board = Board::new(&receiver, SECOND);
        for i in 0..3 {
            board.publish(&[("x", f64::from(i))]);
            receiver.wait_for(i as usize + 1);
        }
        assert_eq!(versions(&receiver.requests()), [true, true, true]);
    }

    /// `TestContentTypeNegotiation`, `rw1_version_header`, `rw1_content_type`: with 1.0 configured, 2.0 is never tried.
    #[test]
    fn rw1_version_header() {
        let receiver = at_first(status(500));
        let mut board = Board::new(&receiver, "");
        board.publish(&[("x", 1.0)]);
        assert_eq!(versions(&receiver.wait_for(2)), [false, false]);
    }

    #[test]
    fn no_fallback_when_2_0_is_spoken_and_samples_are_bad() {
        let receiver = Receiver::new(|n, _| match n {
            1 => answer(
                400,
                "X-Prometheus-Remote-Write-Samples-Written: 0\r\n",
                "bad",
            ),
            _ => written(1),
        });
        let mut board = Board::new(&receiver, SECOND);
        for i in 0..3 {
            board.publish(&[("x", f64::from(i))]);
            receiver.wait_for(i as usize + 1);
        }
        assert_eq!(versions(&receiver.wait_for(3)), [true, true, true]);
        assert_eq!(board.dropped("http_400"), 1);
    }
}

mod response {
    use super::*;

    fn is_a_success(answer: Answer) {
        let receiver = Receiver::new(move |_, _| answer.clone());
        let mut board = Board::new(&receiver, "");
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
        board.publish(&[("x", 2.0)]);
        wait_until("so is the next", || {
            (board.numbers().sent == 2).then_some(())
        });
        assert_eq!(receiver.requests().len(), 2);
    }

    #[test]
    fn handle_204_no_content() {
        is_a_success(status(204));
    }

    /// `ignore_response_body_on_success`, `handle_empty_response`.
    #[test]
    fn handle_200_ok() {
        is_a_success(answer(200, "", "error: out of order, retry, 500"));
    }

    #[test]
    fn process_written_count_headers() {
        let receiver = Receiver::new(|_, _| written(2));
        let mut board = Board::new(&receiver, SECOND);
        board.publish(&[("x", 1.0), ("y", 1.0), ("z", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 2).then_some(()));
        assert_eq!(board.dropped("not_written"), 1);
    }

    /// Prometheus itself has answered 1.0 so (client_golang#1927).
    #[test]
    fn written_count_headers_are_ignored_in_1_0() {
        is_a_success(written(0));
    }

    /// None of the headers can be parsed: nothing counts as delivered, and nothing is sent again.
    #[test]
    fn malformed_written_count_headers_are_ignored() {
        let name = "X-Prometheus-Remote-Write-Samples-Written";
        for value in [
            "-1",
            "NaN",
            "1e3",
            "0x3",
            "",
            "3, 3",
            "18446744073709551616",
        ] {
            let headers = format!("{name}: {value}\r\n");
            let receiver = Receiver::new(move |_, _| answer(204, &headers, ""));
            let mut board = Board::new(&receiver, SECOND);
            board.publish(&[("x", 1.0), ("y", 1.0), ("z", 1.0)]);
            wait_until("it is counted", || {
                (board.dropped("not_written") == 3).then_some(())
            });
            let numbers = board.numbers();
            assert_eq!((numbers.sent, numbers.highest_ms), (0, None), "{value:?}");
            assert_eq!(receiver.requests().len(), 1);
        }
        // A repeated header: the first one counts. More than was sent: all.
        for headers in [
            format!("{name}: 3\r\n{name}: 0\r\n"),
            format!("{name}: 9223372036854775807\r\n"),
        ] {
            let receiver = Receiver::new(move |_, _| answer(200, &headers, ""));
            let mut board = Board::new(&receiver, SECOND);
            board.publish(&[("x", 1.0), ("y", 1.0), ("z", 1.0)]);
            wait_until("it is sent", || (board.numbers().sent == 3).then_some(()));
            assert_eq!(board.dropped("not_written"), 0);
        }
    }

    /// Written samples are not sent again.
    #[test]
    fn handle_partial_write_response() {
        let written = "X-Prometheus-Remote-Write-Samples-Written: 2\r\n";
        let receiver = Receiver::new(|_, _| answer(400, written, "1 of 3 is bad"));
        let mut board = Board::new(&receiver, SECOND);
        board.publish(&[("x", 1.0), ("y", 1.0), ("z", 1.0)]);
        wait_until("it is counted", || {
            (board.dropped("http_400") == 1).then_some(())
        });
        assert_eq!((board.numbers().sent, receiver.requests().len()), (2, 1));
    }

    /// `handle_missing_written_headers` too: then nothing was written.
    #[test]
    fn handle_large_error_body() {
        let body = "detailed error information; ".repeat(40_000);
        let receiver = Receiver::new(move |_, _| answer(400, "", &body));
        let mut board = Board::new(&receiver, "");
        board.publish(&[("x", 1.0)]);
        wait_until("it is counted", || {
            (board.dropped("http_400") == 1).then_some(())
        });
        board.publish(&[("x", 1.0)]);
        wait_until("it goes on", || {
            (board.dropped("http_400") == 2).then_some(())
        });
    }
}

mod errors {
    use super::*;

    fn is_survived(first: &'static str) {
        let receiver = at_first(Answer(first.to_string()));
        let mut board = Board::new(&receiver, "    remote_timeout: 300ms\n");
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
        // On a busy machine a good response may exceed this as well.
        assert!(board.numbers().requests["failed"] >= 1);
    }

    #[test]
    fn handle_connection_refused() {
        let port = FreePort::new();
        let url = format!("http://{}/api/v1/write", port.address());
        let mut board = Board::with_clock(&url, "", WallClock::default());
        board.publish(&[("x", 1.0)]);
        let held = wait_until("it waits", || {
            let numbers = board.numbers();
            (numbers.pending == 1).then_some(numbers)
        });
        assert_eq!(held.sent, 0);
    }

    #[test]
    fn dns_resolution_failure() {
        let url = "http://no-such-receiver.invalid/api/v1/write";
        let mut board = Board::with_clock(url, "", WallClock::default());
        board.publish(&[("x", 1.0)]);
        wait_until("it waits", || (board.numbers().pending == 1).then_some(()));
    }

    #[test]
    fn invalid_url_scheme() {
        let text = "remote_write:\n  - url: ftp://h/\n";
        assert!(edge_metrics_exporter::sources::SCHEMA.parse(text).is_err());
    }

    /// The connection is closed without an answer: `handle_partial_write`, `sender_continues_after_errors`.
    #[test]
    fn handle_partial_write() {
        is_survived("");
    }

    #[test]
    fn handle_timeout() {
        is_survived("HTTP/1.1 204 No Content\r\n");
    }

    /// The receiver has confirmed the samples: a repetition would store them twice.
    #[test]
    fn a_success_whose_body_breaks_off_is_one() {
        let receiver = at_first(Answer(
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx".into(),
        ));
        let mut board = Board::new(&receiver, "    remote_timeout: 3s\n");
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
        assert_eq!(receiver.requests().len(), 1);
    }

    #[test]
    fn handle_malformed_response() {
        is_survived("NONSENSE\r\n\r\n");
    }

    #[test]
    fn handle_invalid_status_code() {
        let receiver = at_first(status(999));
        let mut board = Board::new(&receiver, "");
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
    }
}
