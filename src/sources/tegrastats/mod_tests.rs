use super::*;
use crate::metrics::{Group, Policy, Registry};
use crate::sys::clock::BootTime;

const SECOND: u64 = 1_000_000_000;

/// Publishes lines, one a second, and returns what is exported after the last: series and value.
struct Board {
    registry: Registry,
    group: Arc<Group>,
    series: SeriesOfLine,
    generation: u64,
    at: BootTime,
}

impl Board {
    fn new() -> Board {
        Board::with_rails_read_elsewhere(&[])
    }

    /// A board where other meters read the power of these rails.
    fn with_rails_read_elsewhere(elsewhere: &[String]) -> Board {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "tegrastats", vec![]);
        group.set_interval(Duration::from_secs(1));
        Board {
            registry,
            series: SeriesOfLine::new(&group, elsewhere),
            generation: group.new_generation(),
            group,
            at: BootTime(SECOND),
        }
    }

    fn publish(&mut self, line: &str) -> Vec<(String, f64)> {
        let mut out = Readings::new(5.0);
        out.begin(self.at);
        self.series.set(&mut out, &line::parse(line));
        self.group.publish(self.generation, &out);
        let snapshot = self.registry.snapshot(self.at);
        self.at = BootTime(self.at.0 + SECOND);
        snapshot
            .families()
            .flat_map(|family| {
                family
                    .samples()
                    .map(|(series, value)| (series.prefix.trim().to_string(), value))
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

fn value(all: &[(String, f64)], name: &str) -> Option<f64> {
    all.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
}

#[test]
fn line_is_exported_under_the_replaced_exporters_names() {
    let all = Board::new().publish(
        "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) \
         IRAM 63/252kB(lfb 252kB) CPU [15%@729,off,14%@730] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621,622] \
         NVDEC off VIC_FREQ 115 APE 200 MTS fg 1% bg 2% cpu@53.968C CV0@-256C \
         VDD_IN 12479mW/12500mW NC 0mW/0mW",
    );
    let expected = [
        ("jetson_ram_used_mb", 6185.0),
        ("jetson_ram_total_mb", 7620.0),
        ("jetson_ram_used_percent", 81.17),
        ("jetson_lfb_blocks", 8.0),
        ("jetson_lfb_total_mb", 16.0),
        ("jetson_swap_used_mb", 851.0),
        ("jetson_swap_total_mb", 3810.0),
        ("jetson_swap_cached_mb", 1.0),
        ("jetson_iram_used_kb", 63.0),
        ("jetson_iram_total_kb", 252.0),
        ("jetson_iram_used_percent", 25.0),
        ("jetson_iram_lfb_kb", 252.0),
        ("jetson_cpu_core0_usage_percent", 15.0),
        ("jetson_cpu_core0_freq_mhz", 729.0),
        ("jetson_cpu_core0_status", 1.0),
        ("jetson_cpu_core1_status", 0.0),
        ("jetson_cpu_core2_usage_percent", 14.0),
        ("jetson_cpu_core2_freq_mhz", 730.0),
        ("jetson_cpu_core2_status", 1.0),
        ("jetson_cpu_avg_usage_percent", 14.5),
        ("jetson_cpu_active_cores", 2.0),
        ("jetson_gpu_usage_percent", 63.0),
        ("jetson_emc_usage_percent", 43.0),
        ("jetson_emc_freq_mhz", 2133.0),
        ("jetson_mts_fg_usage_percent", 1.0),
        ("jetson_mts_bg_usage_percent", 2.0),
        ("jetson_gpu_freq0_mhz", 621.0),
        ("jetson_gpu_freq1_mhz", 622.0),
        ("jetson_nvdec_status", 0.0),
        ("jetson_vic_freq_mhz", 115.0),
        ("jetson_vic_status", 1.0),
        ("jetson_ape_freq_mhz", 200.0),
        ("jetson_ape_status", 1.0),
        ("jetson_temp_cpu_celsius", 53.968),
        ("jetson_power_vdd_in_watts", 12.479),
        ("power_watts{rail=\"VDD_IN\",source=\"tegrastats\"}", 12.479),
        (
            "energy_joules_total{rail=\"VDD_IN\",source=\"tegrastats\"}",
            0.0,
        ),
        ("jetson_power_vdd_in_avg_watts", 12.5),
        ("power_total_watts", 12.479),
        ("board_energy_joules_total", 0.0),
    ];
    let all: Vec<_> = all
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    assert_eq!(all, expected);
}

#[test]
fn energy_grows_and_missing_values_are_absent() {
    let mut board = Board::new();
    board.publish("VDD_IN 2000/2000 VDD_GPU -500mW/-500mW CPU@30C");
    let all = board.publish("VDD_IN 4000/3000 VDD_GPU -500mW/-500mW");
    let energy = |rail| format!("energy_joules_total{{rail=\"{rail}\",source=\"tegrastats\"}}");
    assert_eq!(value(&all, &energy("VDD_IN")), Some(3.0));
    assert_eq!(value(&all, &energy("VDD_GPU")), Some(0.0));
    assert_eq!(value(&all, "power_gpu_watts"), Some(-0.5));
    assert_eq!(value(&all, "jetson_power_vdd_gpu_watts"), Some(-0.5));
    assert_eq!(value(&all, "jetson_temp_cpu_celsius"), None);
    let all = board.publish("RAM 4294967295/7846MB CPU [255%@65535,0%@729,off] EMC_FREQ 3%@65535");
    for name in [
        "jetson_ram_used_mb",
        "jetson_cpu_core0_usage_percent",
        "jetson_cpu_core0_freq_mhz",
        "jetson_cpu_avg_usage_percent",
        "jetson_emc_freq_mhz",
    ] {
        assert_eq!(value(&all, name), None, "{name}");
    }
    assert_eq!(value(&all, "jetson_cpu_core1_usage_percent"), Some(0.0));
    assert_eq!(value(&all, "jetson_cpu_active_cores"), Some(2.0));
    let all = board.publish("CPU@-101C CPU [off]");
    assert_eq!(value(&all, "jetson_temp_cpu_celsius"), None);
    assert_eq!(value(&all, "power_total_watts"), None);
    assert_eq!(value(&all, "jetson_cpu_avg_usage_percent"), None);
    assert_eq!(value(&all, "jetson_cpu_active_cores"), Some(0.0));
}

#[test]
fn rail_that_is_read_elsewhere_has_only_average_and_maximum() {
    let mut board = Board::with_rails_read_elsewhere(&["VDD_IN".to_string()]);
    let all = board.publish("VDD_IN 4824mW/4800mW/6000mW VDD_SOC 1475mW/1475mW");
    assert_eq!(value(&all, "jetson_power_vdd_in_watts"), None);
    let rail = |family, rail| format!("{family}{{rail=\"{rail}\",source=\"tegrastats\"}}");
    assert_eq!(value(&all, &rail("power_watts", "VDD_IN")), None);
    assert_eq!(value(&all, &rail("energy_joules_total", "VDD_IN")), None);
    assert_eq!(value(&all, "jetson_power_vdd_in_avg_watts"), Some(4.8));
    assert_eq!(value(&all, "jetson_power_vdd_in_max_watts"), Some(6.0));
    assert_eq!(value(&all, "jetson_power_vdd_soc_watts"), Some(1.475));
    assert_eq!(value(&all, &rail("power_watts", "VDD_SOC")), Some(1.475));
}

#[test]
fn number_of_names_is_limited() {
    let mut board = Board::new();
    let mut series = 0;
    for round in 0..100 {
        let line: String = (0..30)
            .map(|i| format!("R{round}x{i} 1mW/2mW S{round}x{i}@3C E{round}x{i} off "))
            .collect();
        board.publish(&line);
        series = board.registry.switchable().len();
    }
    assert!(series < 1000, "{series}");
    let all = board.publish("R0x0 7mW/7mW");
    assert_eq!(value(&all, "jetson_power_r0x0_watts"), Some(0.007));
}

#[test]
fn configuration_sets_and_switches_the_program() {
    let mut config = Config::default();
    assert_eq!(switch(&config), Switch::Auto);
    config
        .meters
        .edit(|settings: &mut Settings| settings.use_tegrastats = true);
    assert_eq!(switch(&config), Switch::On);
    config
        .meters
        .edit(|settings: &mut Settings| settings.enabled = Switch::Off);
    assert_eq!(switch(&config), Switch::Off);

    config
        .meters
        .edit(|settings: &mut Settings| settings.tegrastats = Some("/bin/sh".into()));
    assert_eq!(
        program(&IoLog::default(), &Roots::default(), &config)
            .unwrap()
            .to_str(),
        Some("/bin/sh")
    );
}
