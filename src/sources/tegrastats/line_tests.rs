use super::*;

const TX1: &str = include_str!("../../../tests/boards/jetson_tx1_jp4/tegrastats.txt");
const TX2: &str = include_str!("../../../tests/boards/jetson_tx2_jp4/tegrastats.txt");
const TX2_L4T_28: &str = include_str!("../../../tests/boards/jetson_tx2_l4t28/tegrastats.txt");
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
fn every_token_of_real_lines_is_understood() {
    let lines = [
        TX1,
        TX2,
        TX2_L4T_28,
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
fn line_of_a_tx1_is_parsed() {
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
fn line_of_a_nano_is_parsed() {
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
fn line_of_a_xavier_nx_is_parsed() {
    let line = parse(XAVIER_NX);
    assert_eq!(line.gpu_percent[0], Some(62.0));
    assert_eq!(line.gpu_mhz, [(0, 306.0)]);
    assert_eq!(line.emc, load(10.0, 1600.0));
    assert_eq!(rails(&line)[1], rail("VDD_CPU_GPU_CV", 738.0, 738.0));
}

#[test]
fn line_of_an_orin_nano_is_parsed_as_root_and_as_user() {
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
fn lines_of_an_agx_orin_with_jetpack_5_and_6_are_parsed() {
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
fn line_of_an_agx_thor_is_parsed() {
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
fn other_forms_of_power_load_and_temperature_are_parsed() {
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
fn loads_of_an_engines_units_are_averaged() {
    for (value, percent, mhz) in [
        ("[10%,20%]@1600", Some(15.0), Some(1600.0)),
        ("[10%,20%]@[1600,800]", Some(15.0), Some(1600.0)),
        ("[10%@800,20%@1600]", Some(15.0), Some(1600.0)),
        ("[10%@1600,off]", Some(10.0), Some(1600.0)),
        ("[10%, off]@1600", Some(10.0), Some(1600.0)),
        ("[off,off]@1600", None, Some(1600.0)),
        ("[10%,20%]", Some(15.0), None),
        ("[0%]@1600", Some(0.0), Some(1600.0)),
        ("7%@[115,230]", Some(7.0), Some(230.0)),
        ("@[115]", None, Some(115.0)),
    ] {
        for name in ["PVA0_FREQ", "NVENC", "VIC_FREQ", "X_FREQ", "EMC_FREQ"] {
            let text = format!("RAM 1/2MB {name} {value} APE 174");
            let line = parse(&text);
            assert_eq!(line.unparsed, 0, "{text}");
            let load = match name {
                "EMC_FREQ" => line.emc,
                _ => line.engines[0].load,
            };
            assert_eq!(load, Load { percent, mhz }, "{text}");
            assert_eq!(line.engines.last().unwrap().name, "APE");
        }
    }
    let line = parse("GR3D_FREQ [10%,20%]@1300 GR3D2_FREQ [4%@5]");
    assert_eq!(line.gpu_percent, [Some(15.0), Some(4.0)]);
    assert_eq!(line.gpu_mhz, [(0, 1300.0), (1, 5.0)]);
    assert_eq!(line.unparsed, 0);
    for wrong in [
        "[]@1600",
        "[10%,20%]1600",
        "[10,20%]@1",
        "[10%,20%]@",
        "[a]",
        "[10%",
        "1%@[]",
    ] {
        let text = format!("PVA0_FREQ {wrong} APE 174");
        let line = parse(&text);
        assert!(line.unparsed > 0, "{text}");
        assert_eq!(engines(&line), [("APE", Some(174.0))], "{text}");
    }
}

#[test]
fn lines_of_l4t_28_and_earlier_are_parsed() {
    let line = parse(TX2_L4T_28);
    assert_eq!(line.unparsed, 0);
    let on: Vec<_> = line.cores.iter().map(|core| core.on.unwrap()).collect();
    assert_eq!(on, [true, false, false, true, true, true]);
    assert_eq!(line.cores[0].load, load(17.0, 408.0));
    assert_eq!(line.cores[5].load, load(9.0, 408.0));
    assert_eq!(rails(&line)[0], rail("VDD_IN", 3215.0, 3215.0));
    let line = parse(
        "RAM 1179/1892MB (lfb 120x4MB) cpu [12%,off,off,3%]@696 EMC 4%@396 AVP 7%@12 VDE 120 GR3D 5%@72 EDP limit 2065",
    );
    assert_eq!(line.unparsed, 0);
    assert_eq!(line.cores.len(), 4);
    assert_eq!(line.emc, load(4.0, 396.0));
    assert_eq!(line.gpu_percent[0], Some(5.0));
    assert_eq!(engines(&line), [("AVP", Some(12.0)), ("VDE", Some(120.0))]);
    assert_eq!(parse("EDP limit x APE 1").engines.len(), 1);
    assert_eq!(parse("cpu@41.5C cpu [1%]@2").temperatures.len(), 1);
}

/// The lines are from jetson_stats#894 (JetPack 7.2 on an AGX Orin), jetson_stats#624 (an Orin NX), jetson_stats#16 (a
/// Nano) and tx-utils#3 (a TX2).
#[test]
fn lines_from_bug_reports_are_understood() {
    for (text, rails) in [
        (
            "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] EMC_FREQ 3%@3199 GR3D_FREQ \
             0%@[1300,1300] NVENC0 off NVDEC0 off APE 174 cpu@52.968C/52.968C tj@53C/53C VDD_GPU_SOC 3205mW/3205mW",
            1,
        ),
        (
            "05-15-2025 18:30:28 RAM 6982/7620MB (lfb 5x1MB) SWAP 2640/16384MB (cached 202MB) CPU [97%@1984,93%@247] \
             EMC_FREQ 18%@3199 GR3D_FREQ 84%@[713] NVENC 1%@115 NVDEC 40%@115 NVJPG off NVJPG1 off VIC 31%@115 OFA off \
             NVDLA0 off PVA0_FREQ off APE 174 cv0@63.031C cpu@65.562C VDD_IN 17946mW/15710mW VDD_SOC 3923mW/3515mW",
            2,
        ),
        (
            "RAM 1462/3957MB (lfb 457x4MB) IRAM 0/252kB(lfb 252kB) CPU [43%@1036,44%@1036] EMC_FREQ 6%@1600 GR3D_FREQ \
             51%@307 NVDEC 192 APE 25 PLL@20.5C PMIC@100C POM_5V_IN 3353/1616 POM_5V_GPU 450/61 POM_5V_CPU 613/2",
            3,
        ),
        (
            "RAM 2020/7852MB (lfb 1164x4MB) CPU [9%@345,21%@345] EMC_FREQ 0% GR3D_FREQ 0% PLL@42.5C VDD_SYS_GPU 153/158 \
             VDD_4V0_WIFI 633/527 VDD_IN 3140/3208",
            3,
        ),
        (
            "RAM 117456/125772MB (lfb 9x4MB) CPU [0%@1890,5%@1890] cpu@43.812C soc012@42.5C VDD_GPU 5517mW \
             VDD_CPU_SOC_MSS 7484mW VIN_SYS_5V0 6309mW VIN 28548mW",
            4,
        ),
        (
            "RAM 1/2MB CPU [1%@2] NVDLA0 12%@1600 NVDLA1 0%@1600 PVA0_FREQ @1011 VIC_FREQ 115 EXT0-local@41C VDD_IN 1mW",
            1,
        ),
    ] {
        let line = parse(text);
        assert_eq!((line.unparsed, line.rails.len()), (0, rails), "{text}");
        assert_eq!(line.cores.iter().filter(|c| c.on == Some(true)).count(), line.cores.len());
    }
}

#[test]
fn unknown_token_is_counted_and_the_others_are_read() {
    let line =
        parse("WHAT RAM 1/2MB (new 7) FAN 40% ??@3C VDD_IN 5mW/6mW VDD_X 12 CPU [1%@2,?,3%@4]");
    assert_eq!(megabytes(line.ram), Some((1.0, 2.0)));
    assert_eq!(rails(&line), [rail("VDD_IN", 5.0, 6.0)]);
    assert_eq!(line.cores.len(), 3);
    assert_eq!(line.cores[1], Core::default());
    assert_eq!(line.cores[2].load, load(3.0, 4.0));
    // The unknown tokens: WHAT, (new 7), ??@3C, VDD_X and its 12, and the second core.
    assert_eq!(line.unparsed, 6);
    assert_eq!(parse("RAM VDD_IN 5mW/6mW").rails.len(), 1);
    assert_eq!(parse(""), Line::default());
    assert_eq!(
        engines(&parse("_FREQ off 2_FREQ off")),
        [("_FREQ", None), ("2_FREQ", None)]
    );
}

#[test]
fn names_and_numbers_are_limited() {
    let many: String = (0..1000)
        .map(|i| format!("R{i} 1mW/2mW S{i}@3C E{i} off "))
        .collect();
    let line = parse(&many);
    assert_eq!(line.rails.len(), MAX_ITEMS);
    assert!(line.left_out > 0);
    assert_eq!(line.temperatures.len(), MAX_ITEMS);
    assert_eq!(line.engines.len(), MAX_ITEMS);
    assert!(line.unparsed > 2000);
    let cores = format!("CPU [{}]", "1%@2,".repeat(1000));
    assert_eq!(parse(&cores).cores.len(), MAX_CORES);
    let cut = parse(AGX_ORIN_6).rails.len();
    for end in 0..AGX_ORIN_6.len() {
        // A line cut at any place is parsed without a panic.
        assert!(parse(&AGX_ORIN_6[..end]).rails.len() <= cut);
        parse(&AGX_ORIN_6[end..]);
    }
}
