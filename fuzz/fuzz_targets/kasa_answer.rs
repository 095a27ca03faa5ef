//! Any bytes as a Kasa's frame and answers: text that comes back, few sockets whose ids can be sent, and finite values.
#![no_main]

use edge_metrics_exporter::sources::kasa::answer::{reading, Identity, MAX_SOCKETS};
use edge_metrics_exporter::sources::kasa::frame::{decode, encode, length, HEAD, MAX_TEXT};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        assert!(length(*head).is_err() || length(*head) <= Ok(MAX_TEXT));
        let mut text = rest.to_vec();
        decode(&mut text);
        if let Ok(text) = std::str::from_utf8(&text) {
            assert_eq!(&encode(text)[HEAD..], rest);
        }
        answers(&text);
    }
    answers(bytes);
});

fn answers(body: &[u8]) {
    if let Ok(identity) = Identity::parse(body) {
        assert!(identity.sockets.len() <= MAX_SOCKETS && identity.model.chars().count() <= 64);
        for id in &identity.sockets {
            assert!(id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
    }
    match reading(body, "x".to_string()) {
        Ok(reading) => {
            assert!(reading.values.iter().any(Option::is_some));
            assert!(reading
                .values
                .iter()
                .flatten()
                .all(|value| value.is_finite()));
        }
        Err(why) => assert!(!why.is_empty() && why.len() < 400),
    }
}
