use super::*;

const TX1: &str = include_str!("../../../tests/boards/jetson_tx1_jp4/tegrastats.txt");
const TX2: &str = include_str!("../../../tests/boards/jetson_tx2_jp4/tegrastats.txt");
const NANO: &str = include_str!("../../../tests/boards/jetson_nano_jp4/tegrastats.txt");
const AGX_XAVIER: &str = include_str!("../../../tests/boards/jetson_agx_xavier_jp4/tegrastats.txt");
const XAVIER_NX: &str = include_str!("../../../tests/boards/jetson_xavier_nx_jp4/tegrastats.txt");
const ORIN_NANO_ROOT: &str =
    include_str!("../../../tests/boards/jetson_orin_nano_jp6_root/tegrastats.txt");
const ORIN_NANO_USER: &str =
    include_str!("../../../tests/boards/jetson_orin_nano_jp6_user/tegrastats.txt");
const AGX_ORIN_5: &str = include_str!("../../../tests/boards/jetson_agx_orin_jp5/tegrastats.txt");
const AGX_ORIN_6: &str = include_str!("../../../tests/boards/jetson_agx_orin_jp6/tegrastats.txt");
const AGX_THOR: &str = include_str!("../../../tests/boards/jetson_agx_thor_jp7/tegrastats.txt");

fn load(percent: f64, mhz: f64) -> Load {
    Load {
        percent: Some(percent),
        mhz: Some(mhz),
    }
}

fn rails(line: &Line<'_>) -> Vec<(String, f64, Option<f64>)> {
    line.rails
        .iter()
        .map(|r| (r.name.to_string(), r.milliwatts, r.average))
        .collect()
}

fn rail(name: &str, now: f64, average: f64) -> (String, f64, Option<f64>) {
    (name.to_string(), now, Some(average))
}

fn megabytes(memory: Option<Memory>) -> Option<(f64, f64)> {
    memory.map(|m| (m.used_kb / 1024.0, m.total_kb / 1024.0))
}

fn engines<'a>(line: &Line<'a>) -> Vec<(&'a str, Option<f64>)> {
    line.engines
        .iter()
        .map(|e| {
            assert_eq!(e.on, e.load.mhz.is_some());
            (e.name, e.load.mhz)
        })
        .collect()
}

#[test]
fn every_real_line_is_understood_to_the_last_token() {
    let lines = [
        TX1,
        TX2,
        NANO,
        AGX_XAVIER,
        XAVIER_NX,
        ORIN_NANO_ROOT,
        ORIN_NANO_USER,
        AGX_ORIN_5,
        AGX_ORIN_6,
        AGX_THOR,
    ];
    for text in lines.iter().flat_map(|file| file.lines()) {
        let line = parse(text);
        assert_eq!(line.unparsed, 0, "{text}");
        assert!(line.ram.is_some() && !line.cores.is_empty() && !line.rails.is_empty());
        assert_eq!(parse(&format!("{text} ")), line);
    }
}

#[test]
fn tx1() {
    let line = parse(TX1);
    assert_eq!(megabytes(line.ram), Some((1179.0, 3983.0)));
    let blocks = line.largest_free.unwrap();
    assert_eq!((blocks.count, blocks.size_kb), (120.0, 4096.0));
    assert_eq!(line.swap, None);
    let iram = line.iram.unwrap();
    assert_eq!((iram.used_kb, iram.total_kb), (0.0, 252.0));
    assert_eq!(line.iram_largest_free_kb, Some(252.0));
    assert_eq!(line.cores.len(), 4);
    assert_eq!(line.cores[1].load, load(4.0, 102.0));
    assert_eq!(line.emc, load(7.0, 408.0));
    assert_eq!(line.gpu_percent, [Some(0.0), None]);
    assert_eq!(line.gpu_mhz, [(0, 76.0)]);
    assert_eq!(engines(&line), [("APE", Some(25.0))]);
    assert_eq!(line.temperatures.len(), 8);
    assert_eq!(line.temperatures[4], ("Tdiode", 42.75));
    let expected = [
        rail("VDD_IN", 2532.0, 2698.0),
        rail("VDD_CPU", 76.0, 178.0),
        rail("VDD_GPU", 19.0, 19.0),
    ];
    assert_eq!(rails(&line), expected);
}

#[test]
fn tx2_has_cores_that_are_off_and_denvers_optimiser() {
    let mut lines = TX2.lines().map(parse);
    let line = lines.next().unwrap();
    let on: Vec<_> = line.cores.iter().map(|core| core.on.unwrap()).collect();
    assert_eq!(on, [true, false, false, true, true, true]);
    assert_eq!(line.cores[5].load, load(2.0, 345.0));
    assert_eq!(line.mts_percent, [None, None]);
    assert_eq!(megabytes(line.swap), Some((0.0, 3926.0)));
    assert_eq!(line.swap_cached_kb, Some(0.0));

    let line = lines.next().unwrap();
    assert_eq!(line.mts_percent, [Some(1.0), Some(1.0)]);
    assert_eq!(line.swap_cached_kb, Some(181.0 * 1024.0));
    assert_eq!(line.rails.len(), 6);
    assert_eq!(rails(&line)[3], rail("VDD_IN", 5297.0, 5297.0));
}

#[test]
fn nano() {
    let line = parse(NANO);
    assert_eq!(line.swap_cached_kb, Some(1024.0));
    let expected = [
        rail("POM_5V_IN", 1022.0, 1022.0),
        rail("POM_5V_GPU", 0.0, 0.0),
        rail("POM_5V_CPU", 204.0, 204.0),
    ];
    assert_eq!(rails(&line), expected);
}

#[test]
fn agx_xavier_has_rails_named_as_its_cores_and_sensors() {
    let line = parse(AGX_XAVIER);
    assert_eq!(line.cores.len(), 8);
    assert_eq!(line.cores[7].on, Some(false));
    assert!(line.temperatures.contains(&("GPU", 37.5)));
    assert!(line.temperatures.contains(&("CPU", 37.5)));
    let expected = [
        rail("GPU", 0.0, 0.0),
        rail("CPU", 311.0, 311.0),
        rail("SOC", 932.0, 932.0),
        rail("CV", 0.0, 0.0),
        rail("VDDRQ", 621.0, 621.0),
        rail("SYS5V", 1482.0, 1482.0),
    ];
    assert_eq!(rails(&line), expected);
}

#[test]
fn xavier_nx() {
    let line = parse(XAVIER_NX);
    assert_eq!(line.gpu_percent[0], Some(62.0));
    assert_eq!(line.gpu_mhz, [(0, 306.0)]);
    assert_eq!(line.emc, load(10.0, 1600.0));
    assert_eq!(rails(&line)[1], rail("VDD_CPU_GPU_CV", 738.0, 738.0));
}

#[test]
fn orin_nano_as_root_and_as_user() {
    let line = parse(ORIN_NANO_ROOT);
    assert_eq!(line.emc, load(43.0, 2133.0));
    assert_eq!(line.gpu_percent[0], Some(63.0));
    assert_eq!(line.gpu_mhz, [(0, 621.0)]);
    let off = ["NVDEC", "NVJPG", "NVJPG1", "VIC", "OFA"].map(|name| (name, None));
    assert_eq!(engines(&line)[..5], off);
    assert_eq!(engines(&line)[5], ("APE", Some(200.0)));
    assert_eq!(line.temperatures[0], ("cpu", 53.968));
    assert_eq!(rails(&line)[0], rail("VDD_IN", 12479.0, 12479.0));

    let line = parse(ORIN_NANO_USER);
    assert_eq!(line.emc, Load::default());
    assert_eq!(line.gpu_percent[0], Some(0.0));
    assert_eq!(line.gpu_mhz, []);
    assert!(line.engines.is_empty());
}

#[test]
fn agx_orin_of_both_jetpacks() {
    let line = parse(AGX_ORIN_5);
    assert_eq!(line.gpu_percent, [Some(3.0), Some(5.0)]);
    assert_eq!(line.gpu_mhz, [(0, 0.0), (1, 0.0)]);
    let expected = [("NVJPG1", 729.0), ("VIC", 115.0), ("APE", 233.0)];
    assert_eq!(
        engines(&line),
        expected.map(|(name, mhz)| (name, Some(mhz)))
    );
    assert!(line.temperatures.contains(&("CV0", -256.0)));
    assert_eq!(line.rails.iter().filter(|r| r.name == "NC").count(), 2);

    let line = parse(AGX_ORIN_6);
    assert_eq!(line.cores.len(), 12);
    assert_eq!(line.cores[5].load, load(100.0, 2201.0));
    assert_eq!(line.gpu_mhz, [(0, 305.0), (1, 305.0)]);
    assert_eq!(engines(&line).len(), 10);
    assert_eq!(engines(&line)[8], ("PVA0", None));
    assert_eq!(rails(&line)[2], rail("VIN_SYS_5V0", 4767.0, 4767.0));
}

#[test]
fn thor() {
    let line = parse(AGX_THOR);
    assert_eq!(line.swap, None);
    assert_eq!(line.cores.len(), 14);
    assert_eq!(line.gpu_percent, [None, None]);
    assert_eq!(line.gpu_mhz, [(0, 314.0), (1, 314.0), (2, 314.0)]);
    assert_eq!(engines(&line)[0], ("NVENC0", Some(314.0)));
    assert_eq!(engines(&line)[6], ("OFA", Some(315.0)));
    assert!(line.temperatures.contains(&("soc012", 37.468)));
    assert_eq!(rails(&line)[3], rail("VIN", 19780.0, 19780.0));
}

#[test]
fn forms_seen_elsewhere() {
    let line = parse("VDD_GPU -392mW/-392mW VDD_CPU_SOC_MSS 3924mW/3835mW VIN 7mW SOC 1mW/2mW/3mW");
    let expected = [
        rail("VDD_GPU", -392.0, -392.0),
        rail("VDD_CPU_SOC_MSS", 3924.0, 3835.0),
    ];
    assert_eq!(rails(&line)[..2], expected);
    assert_eq!(rails(&line)[2], ("VIN".to_string(), 7.0, None));
    assert_eq!(
        (line.rails[3].average, line.rails[3].maximum),
        (Some(2.0), Some(3.0))
    );
    assert_eq!(line.unparsed, 0);

    let line = parse("CPU [0%,5%,off]@2601 EMC_FREQ @4266 GR3D_FREQ 0% GR3D2_FREQ 7%@5");
    assert_eq!(line.cores[1].load, load(5.0, 2601.0));
    assert_eq!(line.cores[2].on, Some(false));
    assert_eq!(line.cores[2].load, Load::default());
    assert_eq!((line.emc.percent, line.emc.mhz), (None, Some(4266.0)));
    assert_eq!(line.gpu_percent, [Some(0.0), Some(7.0)]);
    assert_eq!(line.gpu_mhz, [(1, 5.0)]);
    assert_eq!(line.unparsed, 0);

    let line = parse("RAM 1/2MB (lfb 34x64kB) VIC_FREQ 6%@115 NVDLA0 OFF CV0@-256C GPU@41.5C/40C");
    assert_eq!(line.largest_free.unwrap().size_kb, 64.0);
    assert_eq!(line.engines[0].load, load(6.0, 115.0));
    assert!(!line.engines[1].on);
    assert_eq!(line.temperatures, [("CV0", -256.0), ("GPU", 41.5)]);
    assert_eq!(line.unparsed, 0);
}

#[test]
fn what_is_not_understood_is_counted_and_costs_nothing_else() {
    let line =
        parse("WHAT RAM 1/2MB (new 7) FAN 40% ??@3C VDD_IN 5mW/6mW VDD_X 12 CPU [1%@2,?,3%@4]");
    assert_eq!(megabytes(line.ram), Some((1.0, 2.0)));
    assert_eq!(rails(&line), [rail("VDD_IN", 5.0, 6.0)]);
    assert_eq!(line.cores.len(), 3);
    assert_eq!(line.cores[1], Core::default());
    assert_eq!(line.cores[2].load, load(3.0, 4.0));
    // WHAT, (new 7), ??@3C, VDD_X and its 12, the core
    assert_eq!(line.unparsed, 6);
    assert_eq!(parse("RAM VDD_IN 5mW/6mW").rails.len(), 1);
    assert_eq!(parse(""), Line::default());
    assert_eq!(
        engines(&parse("_FREQ off 2_FREQ off")),
        [("_FREQ", None), ("2_FREQ", None)]
    );
}

#[test]
fn names_and_numbers_without_end_are_bounded() {
    let many: String = (0..1000)
        .map(|i| format!("R{i} 1mW/2mW S{i}@3C E{i} off "))
        .collect();
    let line = parse(&many);
    assert_eq!(line.rails.len(), MOST);
    assert!(line.beyond > 0);
    assert_eq!(line.temperatures.len(), MOST);
    assert_eq!(line.engines.len(), MOST);
    assert!(line.unparsed > 2000);
    let cores = format!("CPU [{}]", "1%@2,".repeat(1000));
    assert_eq!(parse(&cores).cores.len(), MOST_CORES);
    let cut = parse(AGX_ORIN_6).rails.len();
    for end in 0..AGX_ORIN_6.len() {
        // Whatever a line is cut to, it is read without a panic.
        assert!(parse(&AGX_ORIN_6[..end]).rails.len() <= cut);
        parse(&AGX_ORIN_6[end..]);
    }
}
