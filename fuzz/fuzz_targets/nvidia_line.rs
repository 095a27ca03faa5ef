//! Any text as a line of nvidia-smi's, and as an answer to fewer fields: what is taken lies in bounds, and is what the
//! same values say in a line of their own.
#![no_main]

use edge_metrics_exporter::sources::nvidia::line::{parse, unknown_field, Gpu, FIELDS, MAX_GPUS};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for fields in [
        &FIELDS[..],
        &FIELDS[..2],
        &["index", "count", "power.draw", "name"],
    ] {
        let Some(gpu) = parse(fields, text) else {
            continue;
        };
        assert!(gpu.index < gpu.count && gpu.count <= MAX_GPUS);
        assert!(gpu.unparsed <= fields.len() as u64);
        for value in [gpu.watts, gpu.celsius, gpu.load, gpu.memory_load] {
            assert!(value.is_none_or(f64::is_finite));
        }
        for text in [gpu.uuid, gpu.name].into_iter().flatten() {
            assert!(text.len() <= 96 && !text.chars().any(char::is_control));
        }
        if fields.len() == FIELDS.len() {
            again(&gpu);
        }
    }
    if let Some(field) = unknown_field(text) {
        assert!(text.contains(&format!("Field \"{field}\" is not a valid field")));
    }
});

fn again(gpu: &Gpu<'_>) {
    let absent = || "[N/A]".to_string();
    let shown =
        |value: Option<f64>, unit: &str| value.map_or_else(absent, |v| format!("{v}{unit}"));
    let line = format!(
        "{}, {}, {}, {}, {}, {}, [N/A], [N/A], {}",
        gpu.index,
        gpu.count,
        gpu.uuid.unwrap_or("[N/A]"),
        shown(gpu.watts, " W"),
        gpu.millijoules.map_or_else(absent, |n| format!("{n} mJ")),
        shown(gpu.celsius, ""),
        gpu.name.unwrap_or("[N/A]"),
    );
    let expected = Gpu {
        load: None,
        memory_load: None,
        fault: None,
        unparsed: 0,
        ..*gpu
    };
    assert_eq!(parse(&FIELDS, &line), Some(expected), "{line}");
}
