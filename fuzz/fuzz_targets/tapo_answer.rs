//! Any bytes as a Tapo plug's handshake and answers: what is encrypted comes back, few sockets whose ids can be sent, and finite values.
#![no_main]

use edge_metrics_exporter::sources::kasa::answer::MAX_SOCKETS;
use edge_metrics_exporter::sources::tapo::answer::{
    add_sockets, identity, request, Measured, MEASUREMENTS,
};
use edge_metrics_exporter::sources::tapo::klap::{accept, Account, Version};
use libfuzzer_sys::fuzz_target;

/// Handshakes as python-kasa computes them; the last is of the second version, without a login.
const VECTORS: &str = include_str!("../../tests/fixtures/klap/vectors.json");

fuzz_target!(|bytes: &[u8]| {
    handshake(bytes);
    if let Ok((mut found, is_strip)) = identity(bytes) {
        assert!(found.model.chars().count() <= 64 && found.sockets.is_empty());
        let _ = is_strip;
        let _ = add_sockets(bytes, &mut found);
        assert!(found.sockets.len() <= MAX_SOCKETS + 1);
        for (_, id) in found.sockets() {
            serde_json::from_str::<serde_json::Value>(&request("x", Some(id))).unwrap();
        }
    }
    for of_socket in [false, true] {
        let mut measured = Measured::default();
        for method in MEASUREMENTS {
            if let Err(why) = measured.add(method, bytes, of_socket) {
                assert!(!why.is_empty() && why.len() < 400);
            }
        }
        let reading = measured.reading("x".to_string(), measured.counter());
        let mut values = reading.values.iter().flatten();
        assert!(values.all(|value| value.is_finite()));
    }
});

/// As a device's answer to the handshake or to a request it is taken or refused; what is encrypted comes back.
fn handshake(bytes: &[u8]) {
    let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let vector = vectors.as_array().unwrap().last().unwrap();
    let hexadecimal = |key: &str| -> Vec<u8> {
        let text = vector[key].as_str().unwrap();
        let pairs = (0..text.len()).step_by(2);
        pairs
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    };
    let seed = hexadecimal("local_seed").try_into().unwrap();
    let accounts = [Version::First, Version::Second].map(|v| Account::new(v, "", ""));
    // It may be accepted: libFuzzer sees what a hash is compared with, and copies it.
    let _ = accept(&seed, &bytes[..bytes.len().min(48)], &accounts);
    let answer = [hexadecimal("remote_seed"), hexadecimal("server_hash")].concat();
    let Ok(mut accepted) = accept(&seed, &answer, &accounts) else {
        panic!("a device that knows the login is refused");
    };
    let (_, body) = accepted.session.encrypt(bytes);
    assert_eq!(accepted.session.decrypt(&body).unwrap(), bytes);
    if let Ok(text) = accepted.session.decrypt(bytes) {
        assert!(text.len() < bytes.len());
    }
}
