//! Any bytes as a certificate: names of visible characters, no more of them than there is room for, and the same whatever
//! follows a certificate that is whole.
#![no_main]

use edge_metrics_exporter::http::tls::names::alternative_names;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let names = alternative_names(bytes);
    assert!(names.len() * 3 <= bytes.len());
    for name in &names {
        assert!(
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()),
            "{name:?}"
        );
    }
    if !names.is_empty() {
        assert_eq!(names, alternative_names(&[bytes, &[0]].concat()));
    }
});
