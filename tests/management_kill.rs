//! Kills at a hundred random moments while settings change: the file is always complete, and in a requested state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use support::{exporter, post, try_post, wait_until, Exporter, TempDir};

const ROUNDS: u64 = 100;
/// Enough for a file of several pages.
const NAMES: u64 = 100;

type Metrics = BTreeMap<String, bool>;

fn name(n: u64) -> String {
    format!("metric_number_{n}_watts")
}

/// Pseudo-random numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

#[test]
fn configuration_file_is_complete_after_a_kill_at_any_moment() {
    let dir = TempDir::new();
    let mut text = String::from("# by hand\ninterval: 3600\nmetrics:\n");
    for n in 0..NAMES {
        text.push_str(&format!("  {}: true # number {n}\n", name(n)));
    }
    let path = dir.write("config.yaml", &text);
    let comments = text.matches('#').count();
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    let mut dice = Dice(seed);
    let (mut all_confirmed, mut unconfirmed) = (0, 0);
    let enough = |confirmed, unconfirmed| confirmed > ROUNDS / 2 && unconfirmed > 0;
    let mut round = 0;
    // A slow machine needs more kills to hit a write.
    while round < ROUNDS || !enough(all_confirmed, unconfirmed) {
        // Otherwise no kill has hit a write.
        assert!(
            round < 10 * ROUNDS,
            "{all_confirmed} changes were confirmed, {unconfirmed} were made and not confirmed"
        );
        let mut command = exporter();
        command
            .args(["--path.sysfs", "/nonexistent", "--config"])
            .arg(&path);
        let mut exporter = Exporter::start(&mut command);
        // The last confirmed state, and the request after it.
        let states = Arc::new(Mutex::new((read(&path), Metrics::new())));
        let asking = {
            let (address, states, seed) = (
                exporter.management,
                Arc::clone(&states),
                dice.roll(u64::MAX),
            );
            std::thread::spawn(move || ask_until_it_is_gone(address, &states, Dice(seed | 1)))
        };
        wait_until("it is asked", || {
            (!states.lock().unwrap().1.is_empty()).then_some(())
        });
        std::thread::sleep(Duration::from_micros(dice.roll(120_000)));
        exporter.signal(Signal::SIGKILL);
        exporter.child.wait().unwrap();
        all_confirmed += asking.join().unwrap();
        let (confirmed, asked) = states.lock().unwrap().clone();
        let found = read(&path);
        assert!(
            found == confirmed || found == asked,
            "round {round} of seed {seed}: the file is none of the states asked for"
        );
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.matches('#').count(),
            comments,
            "round {round} of seed {seed}"
        );
        unconfirmed += u64::from(found != confirmed);
        round += 1;
    }
    // Files left behind by the last kill do no harm.
    let mut command = exporter();
    let command = command.args(["--path.sysfs", "/nonexistent", "--config"]);
    let exporter = Exporter::start(command.arg(&path));
    let other = read(&path).get(&name(0)) != Some(&true);
    let body = format!("{{\"{}\": {other}}}", name(0));
    let answer = post(exporter.management, "/metrics/enable", &body);
    assert!(!answer.text().contains("saved"), "{}", answer.text());
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

fn read(path: &std::path::Path) -> Metrics {
    let text = std::fs::read_to_string(path).unwrap();
    let (config, warnings) = edge_metrics_exporter::sources::SCHEMA.parse(&text).unwrap();
    assert_eq!(warnings, []);
    config.metrics.unwrap()
}

fn ask_until_it_is_gone(
    address: std::net::SocketAddr,
    states: &Mutex<(Metrics, Metrics)>,
    mut dice: Dice,
) -> u64 {
    let mut confirmed = 0;
    loop {
        let mut asked = states.lock().unwrap().0.clone();
        let changes: Metrics = (0..=dice.roll(4))
            .map(|_| (name(dice.roll(NAMES)), dice.roll(2) == 0))
            .collect();
        asked.extend(changes.clone());
        states.lock().unwrap().1.clone_from(&asked);
        let body = format!("{changes:?}");
        match try_post(address, "/metrics/enable", &body) {
            Some(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert!(!answer.text().contains("saved"), "{}", answer.text());
                states.lock().unwrap().0 = asked;
                confirmed += 1;
            }
            None => return confirmed,
        }
    }
}
