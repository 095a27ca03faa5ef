//! Any text as a web configuration: settings that can be acted upon, or a complaint that fits on one line.
#![no_main]

use edge_metrics_exporter::config::{ClientAuth, Web};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let web = match Web::parse(text) {
        Ok((web, _)) => web,
        Err(error) => {
            assert!(!error.message.contains('\n'), "{error}");
            return;
        }
    };
    assert!(web.users.keys().all(|name| !name.contains(':')));
    assert!(web
        .users
        .values()
        .all(|hash| (4..=31).contains(&hash.cost())));
    for (name, value) in &web.headers {
        assert!(
            !value.is_empty() && value.bytes().all(|b| (b' '..=b'~').contains(&b)),
            "{name}"
        );
    }
    let Some(tls) = &web.tls else {
        assert!(web.files().is_empty());
        return;
    };
    assert!(tls.versions.tls12 || tls.versions.tls13);
    assert!(!tls.client_auth.verifies() || tls.client_ca.is_some());
    assert!(tls.client_ca.is_none() || tls.client_auth != ClientAuth::No);
    assert!(tls.client_allowed_sans.is_empty() || tls.client_auth.verifies());
    assert!(tls
        .cipher_suites
        .as_ref()
        .is_none_or(|suites| !suites.is_empty()));
    assert!(tls.curves.as_ref().is_none_or(|curves| !curves.is_empty()));
});
