//! Any text as a challenge: what is accepted is answered in one line of printable ASCII, from which the same challenge
//! can be read again.
#![no_main]

use edge_metrics_exporter::sources::shelly::digest::{Challenge, Login};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(challenge) = Challenge::parse(header) else {
        return;
    };
    let login = Login {
        username: "admin",
        password: "a \"password\"\\, ü",
    };
    let answer = challenge.answer(login, "/rpc/Shelly.GetStatus", 0x1f, "0123456789abcdef");
    assert!(
        answer.bytes().all(|b| (b' '..=b'~').contains(&b)),
        "{answer}"
    );
    assert!(answer.contains(", nc=0000001f, "), "{answer}");
    assert!(!answer.contains("a \\\"password"), "{answer}");
    let again = Challenge::parse(&answer).expect("an answer has all that a challenge has");
    let fresh = Challenge {
        stale: false,
        ..challenge
    };
    assert_eq!(again, fresh);
});
