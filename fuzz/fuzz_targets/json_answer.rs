//! Any bytes as a device's answer with every profile, and as a pointer: rails that are few, named in one line, and have finite values.
#![no_main]

use edge_metrics_exporter::sources::json::pointer::{Pointer, MAX_ITEMS};
use edge_metrics_exporter::sources::json::{profile_names, read_pointer, read_with_profile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for profile in profile_names() {
        match read_with_profile(profile, bytes) {
            Ok(rails) => {
                for (i, rail) in rails.iter().enumerate() {
                    assert!(!rail.name.chars().any(char::is_control), "{rail:?}");
                    assert!(
                        rails[..i].iter().all(|other| other.name != rail.name),
                        "{rail:?} twice"
                    );
                    assert!(rail.values.iter().any(Option::is_some), "{rail:?}");
                    assert!(
                        rail.values.iter().flatten().all(|value| value.is_finite()),
                        "{rail:?}"
                    );
                }
            }
            Err(why) => assert!(!why.is_empty() && why.len() < 200),
        }
    }
    // The first line is a pointer into the rest.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (pointer, answer) = text.split_once('\n').unwrap_or((text, "null"));
    if let Ok(pointer) = Pointer::new(pointer) {
        if let Ok(reading) = read_pointer(pointer, answer.as_bytes()) {
            assert!(reading.items.len() <= MAX_ITEMS);
            assert!(reading.whole.is_some() || !reading.items.is_empty());
        }
    }
});
