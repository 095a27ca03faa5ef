//! Any bytes as the files by which the kernel describes a PMU: numbers come out of their own text again, lists of processors
//! are bounded.
#![no_main]

use edge_metrics_exporter::sources::rapl::event_source::{
    parse_cpu_list, parse_event, parse_scale, parse_type,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Some(kind) = parse_type(&text) {
        assert_eq!(parse_type(&format!("{kind}\n")), Some(kind));
    }
    if let Some(config) = parse_event(&text) {
        assert_eq!(parse_event(&format!("event={config:#04x}\n")), Some(config));
    }
    if let Some(scale) = parse_scale(&text) {
        assert!(scale > 0.0 && scale.is_finite());
        assert_eq!(parse_scale(&format!("{scale:e}\n")), Some(scale));
    }
    if let Some(cpus) = parse_cpu_list(&text) {
        assert!((1..=8192).contains(&cpus.len()));
        let list: Vec<String> = cpus.iter().map(u32::to_string).collect();
        assert_eq!(parse_cpu_list(&list.join(",")), Some(cpus));
    }
});
