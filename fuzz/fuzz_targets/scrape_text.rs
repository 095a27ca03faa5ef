//! Any text as the answer of an exporter: each line is a sample or malformed, and a sample says what its line says.
#![no_main]

use edge_metrics_exporter::exposition::{parse, Format};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for format in [Format::Text, Format::OpenMetrics1] {
        let lines = text.lines().count();
        let mut count = 0;
        for sample in parse(text, format) {
            count += 1;
            match sample {
                Ok(sample) => {
                    assert!(text.contains(sample.name) && !sample.name.is_empty());
                    let bytes: usize = sample.labels.iter().map(|(n, v)| n.len() + v.len()).sum();
                    assert!(bytes <= text.len());
                }
                Err(at) => assert!((1..=lines).contains(&at.line)),
            }
        }
        assert!(count <= lines);
    }
});
