//! Remote write from outside: the real binary, a board of files, a receiver on loopback.
#![allow(
    clippy::type_complexity,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod remote_write_support;
mod support;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use nix::sys::signal::Signal;
use remote_write_support::process::{board, config, kept, of, TEMPERATURE, ZONE};
use remote_write_support::{answer, status, written, Receiver, Request, SECOND};
use support::{on_board, wait_until, Exporter, TempDir};

#[test]
fn samples_arrive_and_self_metrics_count_them() {
    let receiver = Receiver::willing();
    let (_board, mut command) = board(&config(&[("main", &receiver)]));
    let exporter = Exporter::start(&mut command);
    let samples = wait_until("some samples", || {
        let samples = receiver.samples(TEMPERATURE);
        (samples.len() > 20).then_some(samples)
    });
    assert!(samples.iter().all(|(_, value)| *value == 41.5));
    assert!(samples.windows(2).all(|w| w[0].0 < w[1].0));
    let message = receiver.requests()[0].message();
    let series = message.of(TEMPERATURE);
    assert_eq!(series.label("job"), Some("edge-metrics-exporter"));
    // A port that the kernel chooses would not be known in advance.
    assert_eq!(series.label("instance"), Some("edge-01"));
    assert_eq!(series.label("device_type"), Some("generic"));
    let sent = of("main", &exporter, "samples_sent_total").unwrap();
    assert!(sent > 20.0, "{sent}");
    for zero in ["retries_total", "held"] {
        assert_eq!(of("main", &exporter, zero), Some(0.0), "{zero}");
    }
    for metric in ["bytes_sent_total", "highest_sent_timestamp_seconds"] {
        assert!(of("main", &exporter, metric).unwrap() > 0.0, "{metric}");
    }
    let labelled = |metric: &str, label: &str| {
        let series = format!("exporter_remote_write_{metric}{{{label},remote_name=\"main\"}}");
        exporter.value(&series).unwrap()
    };
    assert!(labelled("requests_total", "outcome=\"stored\"") > 0.0);
    let lost = labelled("samples_dropped_total", "reason=\"history_overrun\"");
    assert_eq!(lost, 0.0);
}

/// `Up` and `Invalid` of the first suite, as `exporter_source_up`.
#[test]
fn unreadable_source_is_sent_as_down_and_without_its_value() {
    for (content, up) in [("41500\n", 1.0), ("this is no temperature\n", 0.0)] {
        let receiver = Receiver::willing();
        let (board, mut command) = board(&config(&[("main", &receiver)]));
        board.write(&format!("{ZONE}/temp"), content);
        let exporter = Exporter::start(&mut command);
        // Self-metrics are sent from time to time, and at shutdown.
        let series = "exporter_source_up{source=\"thermal\"}";
        wait_until("it was read, or not", || {
            (exporter.value(series) == Some(up)).then_some(())
        });
        exporter.stop();
        let values: Vec<f64> = receiver
            .samples("exporter_source_up")
            .iter()
            .map(|s| s.1)
            .collect();
        assert!(values.contains(&up), "{values:?}");
        assert_eq!(receiver.samples(TEMPERATURE).is_empty(), up == 0.0);
    }
}

/// The receiver accepts everything and reports that it writes nothing: begin and end are logged, and the samples counted.
#[test]
fn receiver_that_stores_nothing_is_logged() {
    let writes = Arc::new(AtomicUsize::new(0));
    let of_receiver = Arc::clone(&writes);
    let receiver = Receiver::new(move |_, _| written(of_receiver.load(Ordering::Relaxed)));
    let second = format!("    name: main\n{SECOND}");
    let text = config(&[("main", &receiver)]).replace("    name: main\n", &second);
    let (_board, mut command) = board(&text);
    let mut exporter = Exporter::start(&mut command);
    exporter.wait_for_log("reports fewer samples as written (0 of ");
    receiver.wait_for(4);
    let lost =
        "exporter_remote_write_samples_dropped_total{reason=\"not_written\",remote_name=\"main\"}";
    assert!(exporter.value(lost).unwrap() > 0.0);
    assert_eq!(of("main", &exporter, "samples_sent_total"), Some(0.0));
    writes.store(1_000_000, Ordering::Relaxed);
    exporter.wait_for_log("writes all samples again");
    let log = exporter.log();
    assert_eq!(log.matches("reports fewer samples").count(), 1, "{log}");
}

/// The state is that of this machine's kernel; `ask_time` overrides it.
#[test]
fn receiver_time_is_requested_when_the_kernel_reports_no_synchronisation() {
    let unsynchronised = edge_metrics_exporter::sys::clock::is_synchronised() == Some(false);
    for (setting, asked) in [("true", unsynchronised), ("false", false)] {
        let receiver = Receiver::willing();
        let key = format!("    name: main\n    ask_time: {setting}\n");
        let text = config(&[("main", &receiver)]).replace("    name: main\n", &key);
        let (_board, mut command) = board(&text);
        let _exporter = Exporter::start(&mut command);
        receiver.wait_for(2);
        assert_eq!(!receiver.others().is_empty(), asked, "{setting}");
    }
}

/// A receiver that has just failed gets no further request because the process ends, which it does in time.
#[test]
fn shutdown_does_not_skip_the_backoff() {
    let receiver = Receiver::new(|_, _| status(503));
    let text =
        config(&[("main", &receiver)]).replace("50ms", "50ms, min_backoff: 1m, max_backoff: 2m");
    let (_board, mut command) = board(&text);
    let exporter = Exporter::start(&mut command);
    receiver.wait_for(1);
    let (status, _, log) = exporter.stop();
    assert!(status.success(), "{log}");
    assert_eq!(receiver.requests().len(), 1);
}

#[test]
fn shutdown_sends_remaining_samples_and_stale_markers() {
    let receiver = Receiver::willing();
    let text = config(&[("main", &receiver)]).replace("50ms", "1h");
    let (_board, mut command) = board(&text);
    let exporter = Exporter::start(&mut command);
    wait_until("something waits", || {
        of("main", &exporter, "samples_pending").filter(|pending| *pending > 10.0)
    });
    assert!(receiver.requests().is_empty());
    let (status, _, log) = exporter.stop();
    assert!(status.success(), "{log}");
    let samples = receiver.samples(TEMPERATURE);
    assert!(samples.len() > 10, "{samples:?}");
    let (marks, values): (Vec<(i64, f64)>, Vec<(i64, f64)>) =
        samples.iter().partition(|(_, value)| value.is_nan());
    assert_eq!(marks.len(), 1);
    assert_eq!(marks[0].1.to_bits(), 0x7ff0_0000_0000_0002);
    assert_eq!(marks[0].0, values.last().unwrap().0 + 1);
}

#[test]
fn reload_starts_stops_and_keeps_senders() {
    let (kept, ended, begun) = (
        Receiver::willing(),
        Receiver::willing(),
        Receiver::willing(),
    );
    let (board, mut command) = board(&config(&[("kept", &kept), ("ended", &ended)]));
    let mut exporter = Exporter::start(&mut command);
    let busy = |receiver: &Receiver| (receiver.samples(TEMPERATURE).len() > 5).then_some(());
    wait_until("both get samples", || busy(&kept).and(busy(&ended)));
    board.write(
        "config.yaml",
        &config(&[("kept", &kept), ("begun", &begun)]),
    );
    exporter.signal(Signal::SIGHUP);
    wait_until("the new one gets samples", || busy(&begun));
    exporter.wait_for_log("remote write ended: ended");
    wait_until("the old one's series end", || {
        let samples = ended.samples(TEMPERATURE);
        samples
            .last()
            .is_some_and(|(_, value)| value.is_nan())
            .then_some(())
    });
    assert!(!exporter.log().contains("remote write kept: restarted"));
    assert_eq!(of("ended", &exporter, "samples_sent_total"), None);
    assert!(of("begun", &exporter, "samples_sent_total").is_some());
    // No receiver got a sample twice or out of order.
    let count = kept.samples(TEMPERATURE).len();
    wait_until("more", || {
        (kept.samples(TEMPERATURE).len() > count + 5).then_some(())
    });
    let samples = kept.samples(TEMPERATURE);
    assert!(samples.windows(2).all(|w| w[0].0 < w[1].0));
    assert!(samples.iter().all(|(_, value)| !value.is_nan()));
}

/// A changed setting means a new sender, which continues at the position of the old one.
#[test]
fn changed_receiver_settings_keep_the_position() {
    let receiver = Receiver::willing();
    let (board, mut command) = board(&config(&[("main", &receiver)]));
    let mut exporter = Exporter::start(&mut command);
    wait_until("samples", || {
        (receiver.samples(TEMPERATURE).len() > 5).then_some(())
    });
    let text = config(&[("main", &receiver)]);
    let second = text + "    protobuf_message: io.prometheus.write.v2.Request\n";
    board.write("config.yaml", &second);
    exporter.signal(Signal::SIGHUP);
    exporter.wait_for_log("remote write main: restarted");
    wait_until("it speaks the other", || {
        receiver
            .requests()
            .iter()
            .filter(|r| r.is_second())
            .nth(2)
            .map(|_| ())
    });
    // Every kept reading has arrived once.
    let kept = kept(&exporter);
    wait_until("the last of them has arrived", || {
        let last = receiver.samples(TEMPERATURE).last()?.0;
        (last >= *kept.last()?).then_some(())
    });
    let arrived = receiver
        .samples(TEMPERATURE)
        .into_iter()
        .map(|(stamp, _)| stamp);
    let arrived: Vec<i64> = arrived
        .take_while(|stamp| stamp <= kept.last().unwrap())
        .collect();
    assert_eq!(arrived, kept);
}

#[test]
fn secrets_are_not_logged() {
    let receiver = Receiver::new(|n, request: &Request| match n {
        0 => answer(401, "", "who are you?"),
        _ if request.header("Authorization").is_some() => written(100_000),
        _ => status(403),
    });
    let text = format!(
        "device_type: generic\ninterval: 0.02\nremote_write:\n  - url: {}?token=hunter2\n    name: main\n    \
         headers: {{X-Key: hunter2}}\n    basic_auth: {{username: me, password: hunter2}}\n    \
         queue_config: {{batch_send_deadline: 50ms}}\n",
        receiver.url()
    );
    let (_board, mut command) = board(&text);
    let mut exporter = Exporter::start(command.arg("--log.level=trace"));
    let line = exporter.wait_for_log("the receiver refuses samples");
    assert!(
        line.contains("status 401: who are you?"),
        "the receiver's words: {line}"
    );
    wait_until("it goes on", || {
        (receiver.requests().len() > 3).then_some(())
    });
    let log = exporter.log();
    assert!(
        !log.contains("hunter2") && !log.contains("aHVudGVy"),
        "{log}"
    );
    assert_eq!(log.matches("the receiver refuses samples").count(), 1);
    assert_eq!(receiver.requests()[1].header("X-Key"), Some("hunter2"));
}

mod pyjoules {
    use std::os::unix::fs::FileExt;

    use super::*;

    const RAPL: &str = "sys/class/powercap/intel-rapl:0";

    /// In place and of equal length: a reader never sees half of a number.
    fn count(board: &Path, microjoules: u64) {
        let path = board.join(RAPL).join("energy_uj");
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(format!("{microjoules:>20}\n").as_bytes(), 0)
            .unwrap();
    }

    /// A process that ends when this is dropped.
    struct Running(std::process::Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// The original program's request, identical except for the user agent.
    #[test]
    fn remote_write_is_on_the_wire_as_its_originals_was() {
        let receiver = Receiver::new(|_, _| status(204));
        let board = TempDir::new();
        board.write(&format!("{RAPL}/name"), "package-0\n");
        board.write(&format!("{RAPL}/max_energy_range_uj"), "1000000\n");
        board.write(&format!("{RAPL}/energy_uj"), &format!("{:>20}\n", 999_000));
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
        on_board(&mut command, board.path());
        command
            .arg("pyjoules-remote-write")
            .env("REMOTE_WRITE_URL", receiver.url())
            .env("SAMPLING_PERIOD_S", "0.05")
            .env("BATCH_SIZE", "5")
            .env_remove("RUST_LOG");
        let _running = Running(command.spawn().unwrap());
        let energy = || {
            let samples = receiver.samples("pyjoules_remote_write_energy_uj");
            assert!(
                samples.iter().all(|(_, value)| *value >= 0.0),
                "{samples:?}"
            );
            samples.iter().map(|(_, value)| value).sum::<f64>()
        };
        receiver.wait_for(1);
        assert_eq!(energy(), 0.0, "it stands still");
        // The counter wraps.
        count(board.path(), 1500);
        wait_until("the energy over the wrap", || {
            (energy() > 0.0).then_some(())
        });
        assert!((2500.0..=2501.0).contains(&energy()), "{}", energy());
        for request in receiver.wait_for(3) {
            assert_eq!(request.header("Content-Encoding"), Some("snappy"));
            let kind = request.header("Content-Type");
            assert_eq!(kind, Some("application/x-protobuf"));
            let version = request.header("X-Prometheus-Remote-Write-Version");
            assert_eq!(version, Some("0.1.0"));
            let message = request.message();
            let [series] = &message.series[..] else {
                panic!("{message:?}");
            };
            let label = |name: &str, value: &str| (name.to_string(), value.to_string());
            let labels = [
                label("__name__", "pyjoules_remote_write_energy_uj"),
                label("component", "package_0"),
            ];
            assert_eq!(series.labels, labels);
            let count = series.samples.len();
            assert_eq!(count, 5, "a batch has as many as it says");
        }
    }
}
