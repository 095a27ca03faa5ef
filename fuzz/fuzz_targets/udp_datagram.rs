//! Any bytes as datagrams: what is taken is plausible and comes out as it went in, and the total of what a device sends
//! one after another never falls.
#![no_main]

use std::time::Duration;

use edge_metrics_exporter::sources::udp::message::{MessageError, PowerMeasurement, MAX_DATAGRAM};
use edge_metrics_exporter::sources::udp::total::Total;
use edge_metrics_exporter::sys::clock::BootTime;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = one(bytes);
    // The same bytes as a row of datagrams: a byte for the length, one for the time since the one before.
    let mut total = Total::default();
    let mut rest = bytes;
    let mut before = 0.0;
    let mut at = BootTime(1);
    while let [length, after, tail @ ..] = rest {
        let (datagram, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        if let Ok(message) = one(datagram) {
            let since = Duration::from_millis(u64::from(*after) * 60);
            at = BootTime(at.0 + u64::from(*after) * 60_000_000);
            if total.judge(&message, since).is_ok() {
                total.add(&message, at);
            }
            let now = total.milliampere_seconds();
            assert!(now.is_finite() && now >= before, "{before} -> {now}");
            before = now;
        }
    }
});

fn one(datagram: &[u8]) -> Result<PowerMeasurement, MessageError> {
    let outcome = PowerMeasurement::from_datagram(datagram);
    match &outcome {
        Ok(message) => {
            assert!(message.energy_consumption >= 0.0 && message.energy_consumption.is_finite());
            assert!(message.current.is_finite());
            let again = message.to_datagram();
            assert!(again.len() <= 25);
            assert_eq!(PowerMeasurement::from_datagram(&again), outcome);
        }
        Err(MessageError::Oversized) => assert!(datagram.len() > MAX_DATAGRAM),
        // What is cut off is so because bytes are missing: with enough of them it may become whole.
        Err(MessageError::Truncated) => assert!(!datagram.is_empty()),
        Err(MessageError::Malformed | MessageError::Implausible) => {}
    }
    outcome
}
