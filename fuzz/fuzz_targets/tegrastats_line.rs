//! Any text as a line of tegrastats: bounded in what is taken, only real numbers, nothing passed over in silence.
#![no_main]

use edge_metrics_exporter::sources::tegrastats::line::{parse, Line, Load, MAX_CORES, MAX_ITEMS};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let line = parse(&text);
    check(&line);
    // Comparing by text, since it has no NaN to hide behind.
    assert_eq!(format!("{line:?}"), format!("{:?}", parse(&text)));
    // Neither white space around the line nor its kind means anything.
    let spaced = format!("  {}\r\n", text.replace(' ', "\t "));
    assert_eq!(parse(&spaced).rails.len(), line.rails.len());
    if line == Line::default() {
        let words = text.split_whitespace();
        assert!(
            words.clone().count() <= 2,
            "passed over in silence: {text:?}"
        );
    }
});

fn check(line: &Line<'_>) {
    assert!(line.cores.len() <= MAX_CORES && line.gpu_mhz.len() <= MAX_CORES);
    assert!(line.rails.len() <= MAX_ITEMS && line.temperatures.len() <= MAX_ITEMS);
    assert!(line.engines.len() <= MAX_ITEMS);
    let mut numbers = Vec::new();
    let load = |load: &Load| [load.percent, load.mhz];
    for memory in [line.ram, line.swap, line.iram].iter().flatten() {
        numbers.extend([Some(memory.used_kb), Some(memory.total_kb)]);
    }
    if let Some(blocks) = line.largest_free {
        numbers.extend([Some(blocks.count), Some(blocks.size_kb)]);
    }
    numbers.extend([line.swap_cached_kb, line.iram_largest_free_kb]);
    numbers.extend(line.cores.iter().flat_map(|core| load(&core.load)));
    numbers.extend(load(&line.emc));
    numbers.extend(line.gpu_percent);
    numbers.extend(line.gpu_mhz.iter().map(|(_, mhz)| Some(*mhz)));
    numbers.extend(line.engines.iter().flat_map(|engine| load(&engine.load)));
    numbers.extend(line.mts_percent);
    for rail in &line.rails {
        numbers.extend([Some(rail.milliwatts), rail.average, rail.maximum]);
    }
    numbers.extend(line.temperatures.iter().map(|(_, celsius)| Some(*celsius)));
    assert!(numbers.iter().flatten().all(|n| n.is_finite()), "{line:?}");
    let names = line.rails.iter().map(|rail| rail.name);
    let names = names.chain(line.temperatures.iter().map(|(name, _)| *name));
    let mut names = names.chain(line.engines.iter().map(|engine| engine.name));
    assert!(names.all(|name| !name.is_empty() && name.len() <= 64 && name.is_ascii()));
}
