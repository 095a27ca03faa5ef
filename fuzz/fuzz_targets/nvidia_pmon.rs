//! Any text as lines of `nvidia-smi pmon`: what is taken lies in bounds, and is what the same values say under another header.
#![no_main]

use edge_metrics_exporter::sources::nvidia::line::MAX_GPUS;
use edge_metrics_exporter::sources::nvidia::pmon::{Line, Parser, Use};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut parser = Parser::default();
    for line in text.lines() {
        let Some(Line::Use(found)) = parser.parse(line) else {
            continue;
        };
        let Use { gpu, pid, percent } = found;
        assert!(gpu < MAX_GPUS && pid != Some(0));
        assert!(percent.is_none_or(|percent| percent <= 100));
        let shown = |value: Option<u32>| value.map_or("-".to_string(), |value| value.to_string());
        let mut other = Parser::default();
        assert_eq!(other.parse("# sm pid gpu command"), Some(Line::Header));
        let again = format!("{} {} {gpu} a b", shown(percent), shown(pid));
        assert_eq!(other.parse(&again), Some(Line::Use(found)));
    }
});
