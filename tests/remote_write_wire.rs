//! Requests on the wire: the cases about requests, samples and stamps of the sender suites of prometheus/compliance
//! (remotewrite/sender, of 2.0 now and of 1.0 before), under their names. The exporter has no
//! histograms, summaries or exemplars, so their cases are left out.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod remote_write_support;
mod support;

use edge_metrics_exporter::metrics::{Policy, ABSENT};
use remote_write_support::{sent, Board, Message, Receiver, Request, SECOND};
use support::wait_until;

fn message(settings: &str, values: &[(&str, f64)]) -> Message {
    sent(settings, values).message()
}

/// The value of the only sample, in both generations.
fn value(value: f64) -> u64 {
    let bits: Vec<u64> = ["", SECOND]
        .map(|settings| {
            message(settings, &[("test_metric", value)])
                .of("test_metric")
                .samples[0]
                .bits
        })
        .into();
    assert_eq!(bits[0], bits[1]);
    bits[0]
}

mod protocol {
    use super::*;

    fn header(settings: &str, name: &str) -> String {
        sent(settings, &[("x", 1.0)])
            .header(name)
            .unwrap()
            .to_string()
    }

    #[test]
    fn content_type_protobuf() {
        assert_eq!(header("", "Content-Type"), "application/x-protobuf");
    }

    #[test]
    fn content_type_with_proto_param() {
        let expected = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        assert_eq!(header(SECOND, "Content-Type"), expected);
    }

    #[test]
    fn content_encoding_snappy() {
        assert_eq!(header("", "Content-Encoding"), "snappy");
        assert_eq!(header(SECOND, "Content-Encoding"), "snappy");
    }

    #[test]
    fn version_header_present() {
        assert_eq!(header("", "X-Prometheus-Remote-Write-Version"), "0.1.0");
    }

    #[test]
    fn version_header_value() {
        assert_eq!(header(SECOND, "X-Prometheus-Remote-Write-Version"), "2.0.0");
    }

    #[test]
    fn user_agent_present() {
        let expected = concat!("edge-metrics-exporter/", env!("CARGO_PKG_VERSION"));
        assert_eq!(header("", "User-Agent"), expected);
    }

    /// The framed format would begin with an identifying chunk.
    #[test]
    fn snappy_block_format() {
        let body = sent("", &[("x", 1.0)]).body;
        assert!(!body.starts_with(&[0xff, 0x06, 0x00, 0x00]));
        assert!(snap::raw::Decoder::new().decompress_vec(&body).is_ok());
    }

    #[test]
    fn protobuf_parseable() {
        assert_eq!(message("", &[("x", 1.0)]).series.len(), 1);
        let second = message(SECOND, &[("x", 1.0)]);
        assert!(!second.symbols.is_empty() && second.series.len() == 1);
    }

    #[test]
    fn http_method() {
        let request = sent("", &[("x", 1.0)]);
        assert_eq!(
            (&*request.method, &*request.path),
            ("POST", "/api/v1/write")
        );
    }

    /// `Headers` of the first suite. Configured headers are sent, and reserved ones cannot be configured.
    #[test]
    fn headers() {
        let request = sent("    headers: {X-Scope-OrgID: edge}\n", &[("x", 1.0)]);
        for (name, value) in [
            ("Content-Encoding", "snappy"),
            ("Content-Type", "application/x-protobuf"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
            ("X-Scope-OrgID", "edge"),
        ] {
            assert_eq!(request.header(name), Some(value));
        }
        for name in [
            "Content-Encoding",
            "content-type",
            "X-Prometheus-Remote-Write-Version",
            "User-Agent",
        ] {
            let text = format!("remote_write:\n  - url: http://h/\n    headers: {{{name}: x}}\n");
            assert!(
                edge_metrics_exporter::sources::SCHEMA.parse(&text).is_err(),
                "{name}"
            );
        }
    }
}

mod samples {
    use super::*;

    #[test]
    fn float_value_encoding() {
        assert_eq!(value(123.45), 123.45f64.to_bits());
    }

    #[test]
    fn integer_value_encoding() {
        assert_eq!(value(42.0), 42f64.to_bits());
    }

    #[test]
    fn zero_value_encoding() {
        assert_eq!(value(0.0), 0);
    }

    #[test]
    fn negative_value_encoding() {
        assert_eq!(value(-15.5), (-15.5f64).to_bits());
    }

    #[test]
    fn positive_infinity_encoding() {
        assert_eq!(value(f64::INFINITY), f64::INFINITY.to_bits());
    }

    #[test]
    fn negative_infinity_encoding() {
        assert_eq!(value(f64::NEG_INFINITY), f64::NEG_INFINITY.to_bits());
    }

    /// A NaN means that nothing was measured: the stale marker is sent, if the series had a value before.
    #[test]
    fn nan_encoding() {
        let receiver = Receiver::willing();
        let mut board = Board::new(&receiver, "");
        board.publish(&[("x", 1.0), ("y", f64::NAN)]);
        board.publish(&[("x", f64::NAN), ("y", f64::NAN)]);
        let samples = wait_until("two samples", || {
            let samples = receiver.samples("x");
            (samples.len() == 2).then_some(samples)
        });
        assert_eq!(samples[1].1.to_bits(), ABSENT.to_bits());
        assert_eq!(receiver.samples("y"), []);
    }

    #[test]
    fn large_float_values() {
        assert_eq!(value(1.7e308), 1.7e308f64.to_bits());
    }

    #[test]
    fn small_float_values() {
        assert_eq!(value(1e-308), 1e-308f64.to_bits());
        assert_eq!(value(5e-324), 1, "subnormal");
    }

    #[test]
    fn scientific_notation() {
        assert_eq!(value(1.23e-4), 1.23e-4f64.to_bits());
    }

    #[test]
    fn precision_preservation() {
        assert_eq!(value(0.1 + 0.2), (0.1f64 + 0.2).to_bits());
    }

    #[test]
    fn multiple_samples_same_series() {
        let receiver = Receiver::willing();
        let mut board = Board::silent();
        for i in 0..5 {
            board.publish(&[("x", f64::from(i))]);
        }
        board.send_to(&receiver.url(), "", Default::default());
        let message = receiver.wait_for(1)[0].message();
        let values: Vec<_> = message.of("x").samples.iter().map(|s| s.value()).collect();
        assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(message.series.len(), 1, "each series once");
    }

    /// `JobLabel` and `InstanceLabel` of the first suite.
    #[test]
    fn job_instance_labels_present() {
        let message = message("", &[("x", 1.0)]);
        let series = message.of("x");
        assert_eq!(series.label("job"), Some("edge-metrics-exporter"));
        assert_eq!(series.label("instance"), Some("edge-01:9100"));
    }

    /// `Counter` and `Gauge` of the first suite.
    #[test]
    fn counter_and_gauge() {
        let message = message("", &[("now", 7.5), ("counter_total", 3.0)]);
        assert_eq!(message.of("now").samples[0].value(), 7.5);
        assert_eq!(message.of("counter_total").samples[0].value(), 3.0);
    }
}

mod timestamps {
    use super::*;

    fn now_ms() -> i64 {
        edge_metrics_exporter::sys::clock::wall_nanos() / 1_000_000
    }

    /// `timestamp_milliseconds_format`, `timestamp_recent`, `timestamp_precision`, `timestamp_future_values`, and
    /// `Timestamp` of the first suite.
    #[test]
    fn timestamp_int64_milliseconds() {
        for settings in ["", SECOND] {
            let before = now_ms();
            let message = message(settings, &[("x", 1.0)]);
            let stamp = message.of("x").samples[0].stamp;
            // The offset between the clocks is known to half a millisecond.
            assert!((before - 1..=now_ms()).contains(&stamp), "{before} {stamp}");
        }
    }

    /// `SampleOrdering` too, and `Ordering` of the first suite.
    #[test]
    fn timestamp_ordering_within_series() {
        let receiver = Receiver::new(|n, _| {
            std::thread::sleep(std::time::Duration::from_millis((n % 7) as u64 * 3));
            remote_write_support::written(1000)
        });
        let mut board = Board::new(&receiver, "");
        for i in 0..200 {
            board.publish(&[("x", f64::from(i))]);
        }
        let samples = wait_until("all samples", || {
            let samples = receiver.samples("x");
            (samples.len() >= 200).then_some(samples)
        });
        assert!(samples.windows(2).all(|w| w[0].0 < w[1].0), "{samples:?}");
        let expected: Vec<_> = (0..200).map(f64::from).collect();
        assert_eq!(samples.iter().map(|s| s.1).collect::<Vec<_>>(), expected);
    }

    /// `start_timestamp_before_sample_timestamp` too.
    #[test]
    fn start_timestamp_for_counters() {
        let receiver = Receiver::willing();
        let mut board = Board::new(&receiver, SECOND);
        board.publish(&[("x_total", 0.0)]);
        let first = receiver.wait_for(1)[0].message().of("x_total").samples[0];
        assert_eq!(first.start, first.stamp, "it stood at 0 then");
        board.publish(&[("x_total", 5.0)]);
        let second = receiver.wait_for(2)[1].message().of("x_total").samples[0];
        assert_eq!(second.start, first.start);
        assert!(second.start < second.stamp);
    }

    #[test]
    fn start_timestamp_zero_handling() {
        let message = message(SECOND, &[("x", 1.0)]);
        assert_eq!(message.of("x").samples[0].start, 0, "a gauge has none");
    }

    /// The decoder knows no such field in 1.0, and panics at one.
    #[test]
    fn rw1_no_start_timestamp() {
        assert_eq!(
            message("", &[("x_total", 1.0)]).of("x_total").samples.len(),
            1
        );
    }
}

mod staleness {
    use super::*;

    /// `Staleness` of the first suite, and `stale_marker`: a series that is no longer exported ends.
    #[test]
    fn stale_marker() {
        for settings in ["", SECOND] {
            let receiver = Receiver::willing();
            let mut board = Board::new(&receiver, settings);
            board.publish(&[("stale", 1.0), ("other", 1.0)]);
            receiver.wait_for(1);
            board
                .registry
                .set_policy(Policy::Listed([("other".to_string(), true)].into()));
            let samples = wait_until("the mark", || {
                let samples = receiver.samples("stale");
                (samples.len() == 2).then_some(samples)
            });
            assert_eq!(samples[1].1.to_bits(), 0x7ff0_0000_0000_0002);
            assert_eq!(samples[1].0, samples[0].0 + 1);
            assert_eq!(receiver.samples("other").len(), 1);
        }
    }

    #[test]
    fn all_series_end_with_the_process() {
        let receiver = Receiver::willing();
        let mut board = Board::new(&receiver, "");
        board.publish(&[("x", 1.0), ("y_total", 1.0)]);
        board.finish();
        for name in ["x", "y_total"] {
            let samples = receiver.samples(name);
            assert_eq!(samples.len(), 2, "{samples:?}");
            assert_eq!(samples[1].1.to_bits(), ABSENT.to_bits());
        }
    }
}

mod batching {
    use super::*;

    /// `multiple_series_per_request`, `many_timeseries`, `high_cardinality`, `handles_varying_cardinality`,
    /// `metadata_batching`, `real_world_scenario`: one request has all series of a reading.
    #[test]
    fn multiple_series_per_request() {
        let names: Vec<String> = (0..100).map(|i| format!("metric_{i}")).collect();
        let values: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
        for settings in ["", SECOND] {
            assert_eq!(message(settings, &values).series.len(), 100);
        }
    }

    #[test]
    fn batch_size_reasonable() {
        let receiver = Receiver::willing();
        let mut board = Board::silent();
        let names: Vec<String> = (0..7).map(|i| format!("metric_{i}")).collect();
        let values: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
        for _ in 0..10 {
            board.publish(&values);
        }
        let queue = "    queue_config: {max_samples_per_send: 5, batch_send_deadline: 20ms}\n";
        board.send_to(&receiver.url(), queue, Default::default());
        let requests = receiver.wait_for(14);
        let count = |request: &Request| {
            let series = request.message().series;
            series.iter().map(|s| s.samples.len()).sum::<usize>()
        };
        let counts: Vec<_> = requests.iter().map(count).collect();
        assert!(
            counts.iter().all(|count| (1..=5).contains(count)),
            "{counts:?}"
        );
        wait_until("all is sent", || (board.numbers().sent == 70).then_some(()));
    }

    /// No request is sent without samples.
    #[test]
    fn empty_scrape() {
        let receiver = Receiver::willing();
        let mut board = Board::new(&receiver, "");
        board.publish(&[("x", f64::NAN)]);
        board.publish(&[("y", 1.0)]);
        let message = receiver.wait_for(1)[0].message();
        assert_eq!(message.series.len(), 1);
    }
}
