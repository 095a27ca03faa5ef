//! `queue_directory` added, changed and removed while samples wait: the real binary, and a receiver that is down meanwhile.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod remote_write_support;
mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use nix::sys::signal::Signal;
use remote_write_support::process::{board, config, kept, of, TEMPERATURE};
use remote_write_support::{status, written, Receiver};
use support::{wait_until, Exporter, TempDir};

/// A receiver that refuses requests until it is told to accept them, and counts the refused ones.
fn away() -> (Receiver, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let back = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicUsize::new(0));
    let (is_back, count) = (Arc::clone(&back), Arc::clone(&refused));
    let receiver = Receiver::new(move |number, _| match is_back.load(Ordering::SeqCst) {
        true => written(1_000_000),
        false => {
            count.store(number + 1, Ordering::SeqCst);
            status(503)
        }
    });
    (receiver, back, refused)
}

/// Changes the first settings to the second ones: all samples arrive once and in order, wherever they were kept.
fn every_sample_arrives(settings: [&str; 2]) -> (TempDir, Exporter) {
    let (receiver, back, refused) = away();
    let (board, mut command) = board("");
    let text = |settings: &str| {
        let settings = settings.replace("DIR", &board.path().display().to_string());
        config(&[("main", &receiver)]) + &settings
    };
    board.write("config.yaml", &text(settings[0]));
    let mut exporter = Exporter::start(&mut command);
    let waits = |exporter: &Exporter, most: f64| {
        wait_until("samples wait", || {
            of("main", exporter, "samples_pending").filter(|pending| *pending > most)
        });
    };
    waits(&exporter, 20.0);
    receiver.wait_for(1);
    board.write("config.yaml", &text(settings[1]));
    exporter.signal(Signal::SIGHUP);
    exporter.wait_for_log("remote write main: restarted");
    waits(&exporter, 20.0);
    back.store(true, Ordering::SeqCst);
    let kept = kept(&exporter);
    let arrived = || -> Vec<i64> {
        let requests = receiver.requests();
        let messages = requests
            .iter()
            .skip(refused.load(Ordering::SeqCst))
            .map(|request| request.message());
        let series = messages.flat_map(|message| message.series);
        let of_zone = series.filter(|series| series.name() == TEMPERATURE);
        of_zone
            .flat_map(|series| series.samples)
            .map(|sample| sample.stamp)
            .collect()
    };
    wait_until("the last of them has arrived", || {
        (arrived().last()? >= kept.last()?).then_some(())
    });
    let arrived = arrived().into_iter();
    let arrived: Vec<i64> = arrived
        .take_while(|stamp| stamp <= kept.last().unwrap())
        .collect();
    assert_eq!(arrived, kept);
    (board, exporter)
}

const QUEUE: &str = "    queue_directory: DIR/queue\n    sync_interval: 1h\n";

#[test]
fn pending_samples_in_memory_move_to_a_new_disk_queue() {
    let (_board, exporter) = every_sample_arrives(["", QUEUE]);
    assert!(!exporter.log().contains("remain on disk"));
}

#[test]
fn pending_samples_survive_removal_of_the_disk_queue() {
    every_sample_arrives([QUEUE, ""]);
}

#[test]
fn pending_samples_move_to_another_disk_queue() {
    every_sample_arrives([QUEUE, &QUEUE.replace("queue\n", "other\n")]);
}

/// The samples on disk are sent first.
#[test]
fn disk_queue_keeps_its_place_with_changed_settings() {
    let [small, large] = ["8388608", "16777216"]
        .map(|bytes| QUEUE.replace("1h", "200ms") + &format!("    queue_bytes: {bytes}\n"));
    every_sample_arrives([&small, &large]);
}
