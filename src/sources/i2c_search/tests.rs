use std::collections::BTreeMap;

use nix::libc::{EREMOTEIO, ETIMEDOUT};

use super::*;
use crate::sources::i2c::simulated::{self, SimulatedChip};
use crate::sources::testing::Tree;

type Simulated = simulated::SimulatedBuses<Chip>;

/// A chip with registers of 16 bits, which nobody may write to.
#[derive(Debug, Clone, Default)]
struct Chip {
    registers: BTreeMap<u8, u16>,
    /// The bits of the pointer that it looks at.
    mask: u8,
    pointer: u8,
    /// Every pointer that was written to it.
    pointers: Vec<u8>,
}

impl Chip {
    fn new(registers: &[(u8, u16)]) -> Chip {
        Chip {
            registers: registers.iter().copied().collect(),
            mask: 0xff,
            ..Chip::default()
        }
    }

    /// With manufacturer and die there.
    fn identified(manufacturer: u8, die: u16) -> Chip {
        Chip::new(&[(manufacturer, 0x5449), (manufacturer + 1, die)])
    }
}

impl SimulatedChip for Chip {
    fn write(&mut self, bytes: &[u8]) {
        assert_eq!(bytes.len(), 1, "a chip that is nobody's is not written to");
        self.pointer = bytes[0] & self.mask;
        self.pointers.push(bytes[0]);
    }

    fn read(&mut self, bytes: &mut [u8]) {
        let word = self.registers.get(&self.pointer).copied().unwrap_or(0xffff);
        bytes.copy_from_slice(&word.to_be_bytes());
    }
}

/// A tree with these buses: number, name, and the folder of the device that it belongs to.
fn tree(buses: &[(u32, &str, &str)]) -> Tree {
    let tree = Tree::new(&[]);
    for (number, name, device) in buses {
        let folder = format!("sys/devices/{device}/i2c-{number}");
        tree.write(&format!("{folder}/name"), format!("{name}\n"));
        tree.link(&format!("sys/bus/i2c/devices/i2c-{number}"), &folder);
        tree.write(&format!("dev/i2c-{number}"), "");
    }
    tree
}

const SOC: &str = "platform/soc/fe804000.i2c";

fn found(buses: &Simulated, tree: &Tree, named: &[u32]) -> Vec<SearchedBus> {
    search_on(&tree.roots(), named, &[], || buses.clone())
}

/// What one chip at this address of bus 1 is taken for.
fn answer(address: u8, chip: Chip) -> Answer {
    let buses = Simulated::with(&[(1, address, chip)]);
    let tree = tree(&[(1, "bcm2835 (i2c@7e804000)", SOC)]);
    let [bus] = &found(&buses, &tree, &[])[..] else {
        panic!("one bus is there");
    };
    let [(at, answer)] = &bus.answers[..] else {
        panic!("one chip is there: {bus:?}");
    };
    assert_eq!(*at, address);
    answer.clone()
}

#[test]
fn chips_are_found_by_their_identity() {
    let item = |answer: &Answer, address| {
        let settings = answer.settings(1, address);
        let all = settings.iter();
        all.map(|setting| format!("{} {}", setting.section, setting.item))
            .collect::<Vec<_>>()
    };
    for (manufacturer, die, kind, wanted) in [
        (0xFE, 0x2270, "INA260", "ina260 {i2c_bus: 1, i2c_address: 0x41}"),
        (
            0xFE,
            0x2260,
            "INA226",
            "ina2xx {model: ina226, bus: 1, address: 0x41, shunt_ohms: 0.1}",
        ),
        (
            0x3E,
            0x2281,
            "INA228",
            "ina2xx {model: ina228, bus: 1, address: 0x41, shunt_ohms: 0.1}",
        ),
        (
            0xFE,
            0x3220,
            "INA3221",
            "ina2xx {model: ina3221, bus: 1, address: 0x41, channels: [{channel: 1, shunt_ohms: 0.1}]}",
        ),
    ] {
        let answer = answer(0x41, Chip::identified(manufacturer, die));
        assert_eq!(answer, Answer::Chip(kind));
        assert_eq!(item(&answer, 0x41), [wanted]);
        let (section, chip) = wanted.split_once(' ').unwrap();
        let yaml = format!("{section}: {{chips: [{chip}]}}");
        let (config, _) = crate::sources::SCHEMA.parse(&yaml).unwrap();
        assert_eq!(configured(&config), [(1, 0x41)], "{yaml}");
    }
    let known_board = answer(0x42, Chip::new(&INA219));
    assert_eq!(
        item(&known_board, 0x42)[1],
        "ina2xx {board: waveshare-ups-hat, bus: 1}"
    );
    assert_eq!(
        known_board.kernel_driver(1, 0x42).unwrap(),
        "`echo ina219 0x42 > /sys/bus/i2c/devices/i2c-1/new_device`"
    );
}

/// Right after a reset, on a bus of 5 V.
const INA219: [(u8, u16); 6] = [
    (0, 0x399F),
    (1, 0x0123),
    (2, 0x271A),
    (3, 0),
    (4, 0),
    (5, 0),
];

#[test]
fn ina219_is_only_a_possibility_and_its_neighbours_are_none() {
    let calibrated = [
        (0, 0x019F),
        (1, 0x0123),
        (2, 0x271A),
        (3, 72),
        (4, 0x0110),
        (5, 0x1000),
    ];
    for registers in [INA219, calibrated] {
        assert_eq!(answer(0x40, Chip::new(&registers)), Answer::PossiblyIna219);
    }
    let alias = |mask, registers: &[(u8, u16)]| Chip {
        mask,
        ..Chip::new(registers)
    };
    for (name, chip) in [
        // Temperature, configuration, hysteresis and limit: two bits of the pointer.
        (
            "LM75",
            alias(3, &[(0, 0x1900), (1, 0x00FF), (2, 0x4B00), (3, 0x5000)]),
        ),
        (
            "TMP102",
            alias(3, &[(0, 0x1900), (1, 0x60A0), (2, 0x4B00), (3, 0x5000)]),
        ),
        (
            "ADS1115",
            alias(3, &[(0, 0x1234), (1, 0x8583), (2, 0x8000), (3, 0x7FFF)]),
        ),
        ("PCF8591", alias(0, &[(0, 0x1212)])),
        (
            "PCA9685",
            Chip::new(&[(0, 0x1104), (2, 0xE2E4), (5, 0xE000), (0xFE, 0x1E00)]),
        ),
        ("nothing but ones", Chip::new(&[])),
        ("nothing but zeros", alias(0, &[(0, 0)])),
        ("another chip of the maker", Chip::identified(0xFE, 0x1234)),
    ] {
        let answer = answer(0x48, chip);
        assert!(matches!(answer, Answer::Stranger(_)), "{name}: {answer:?}");
        assert!(answer.settings(1, 0x48).is_empty() && answer.kernel_driver(1, 0x48).is_none());
    }
}

#[test]
fn addresses_of_others_are_left_alone() {
    let chip = Chip::identified(0xFE, 0x2260);
    let places = [0x40, 0x41, 0x42, 0x43].map(|address| (1, address, chip.clone()));
    let buses = Simulated::with(&places);
    let tree = tree(&[(1, "bcm2835 (i2c@7e804000)", SOC)]);
    tree.link(
        "sys/bus/i2c/devices/1-0041/driver",
        "sys/bus/i2c/drivers/ina2xx",
    );
    buses.wiring().held.push((1, 0x41));
    // A chip that takes commands: it does not answer a read without one.
    let silent = [EREMOTEIO].into();
    buses.wiring().failures.insert((1, 0x42), silent);
    let found = search_on(&tree.roots(), &[], &[(1, 0x40)], || buses.clone());
    assert_eq!(
        found[0].answers[..],
        [
            (0x40, Answer::Configured),
            (0x41, Answer::Held(Some("ina2xx".to_string()))),
            (0x43, Answer::Chip("INA226")),
        ]
    );
    for address in 0x40..=0x42 {
        let pointers = buses.chip(1, address, |chip| chip.pointers.clone());
        assert_eq!(pointers, [0; 0], "{address:#04x}");
    }
}

#[test]
fn bus_that_times_out_is_left_alone() {
    let buses = Simulated::with(&[(1, 0x40, Chip::identified(0xFE, 0x2260))]);
    let tree = tree(&[(1, "bcm2835 (i2c@7e804000)", SOC)]);
    buses.wiring().broken.insert(1, ETIMEDOUT);
    let found = found(&buses, &tree, &[]);
    let why = found[0].error.as_deref().unwrap();
    assert!(
        why.contains("0x40 on ") && why.contains("timed out (is a line held low"),
        "{why}"
    );
    assert_eq!(buses.wiring().opened, 1, "no other address was asked");
}

#[test]
fn what_was_found_before_a_bus_failed_is_kept() {
    let chip = Chip::identified(0xFE, 0x2260);
    let all = [0x40, 0x44, 0x45].map(|address| (1, address, chip.clone()));
    let buses = Simulated::with(&all);
    let tree = tree(&[(1, "bcm2835 (i2c@7e804000)", SOC)]);
    let times_out = [ETIMEDOUT].into();
    buses.wiring().failures.insert((1, 0x44), times_out);
    let found = found(&buses, &tree, &[]);
    assert_eq!(found[0].answers, [(0x40, Answer::Chip("INA226"))]);
    let why = found[0].error.as_deref().unwrap();
    assert!(why.contains("0x44 on "), "{why}");
}

#[test]
fn buses_of_displays_and_of_pcs_are_asked_only_by_name() {
    let tree = tree(&[
        (0, "SMBus I801 adapter at efa0", "pci0000:00/0000:00:1f.4"),
        (
            1,
            "Synopsys DesignWare I2C adapter",
            "pci0000:00/0000:00:15.0/i2c_designware.0",
        ),
        (2, "unknown", "pci0000:00/0000:00:02.0"),
        (3, "unknown", "pci0000:00/0000:00:1f.5"),
        (
            4,
            "AUX A/DDI A/PHY A",
            "pci0000:00/0000:00:09.0/drm/card0/card0-eDP-1",
        ),
        (5, "fef04500.i2c", "platform/soc/fef04500.i2c"),
        (6, "bcm2835 (i2c@7e805000)", "platform/soc/3f805000.i2c"),
        (7, "i915 gmbus dpb", "platform/none"),
    ]);
    tree.write("sys/devices/pci0000:00/0000:00:15.0/class", "0x0c8000\n");
    tree.write("sys/devices/pci0000:00/0000:00:02.0/class", "0x030000\n");
    tree.write("sys/devices/pci0000:00/0000:00:1f.5/class", "0x0c0500\n");
    tree.link(
        "sys/class/drm/card0-HDMI-A-1/ddc",
        "sys/devices/platform/soc/fef04500.i2c/i2c-5",
    );
    let chip = Chip::identified(0xFE, 0x2260);
    let all: Vec<_> = (0..8).map(|bus| (bus, 0x40, chip.clone())).collect();
    let buses = Simulated::with(&all);
    for bus in found(&buses, &tree, &[]) {
        let why = bus.error.unwrap_or_default();
        let wanted = match bus.number {
            0 | 3 => "not asked: it is a PC's SMBus, with its memory modules; `--probe-i2c=",
            1 => "",
            _ => "not asked: it is a display's; `--probe-i2c=",
        };
        assert!(
            why.starts_with(wanted) && why.is_empty() == wanted.is_empty(),
            "{why}"
        );
        let pointers = buses.chip(bus.number, 0x40, |chip| chip.pointers.len());
        assert_eq!(pointers == 0, bus.number != 1, "{}", bus.number);
    }
    let named = found(&buses, &tree, &[0, 5]);
    assert!(named.iter().all(|bus| bus.error.is_none()), "{named:?}");
    assert_eq!(named.len(), 2);
}

#[test]
fn chip_before_a_multiplexer_is_listed_once() {
    let chip = Chip::identified(0xFE, 0x2260);
    let tree = tree(&[
        (1, "bcm2835 (i2c@7e804000)", SOC),
        (
            11,
            "i2c-1-mux (chan_id 0)",
            &format!("{SOC}/i2c-1/1-0070/channel-0"),
        ),
    ]);
    let at = |bus, address| (bus, address, chip.clone());
    // The first is on both, as the multiplexer has it.
    let buses = Simulated::with(&[at(1, 0x40), at(11, 0x40), at(11, 0x41)]);
    let found = found(&buses, &tree, &[]);
    let addresses = |n: usize| -> Vec<_> {
        let answers = found[n].answers.iter();
        answers.map(|(address, _)| *address).collect()
    };
    assert_eq!((addresses(0), addresses(1)), (vec![0x40], vec![0x41]));
}

#[test]
fn chip_before_two_multiplexers_is_listed_once() {
    let chip = Chip::identified(0xFE, 0x2260);
    let first = format!("{SOC}/i2c-1/1-0070/channel-0");
    let second = format!("{first}/i2c-11/11-0071/channel-0");
    let tree = tree(&[
        (1, "bcm2835 (i2c@7e804000)", SOC),
        (11, "i2c-1-mux (chan_id 0)", &first),
        (20, "i2c-11-mux (chan_id 0)", &second),
    ]);
    let at = |bus, address| (bus, address, chip.clone());
    let buses = Simulated::with(&[
        at(1, 0x40),
        at(11, 0x40),
        at(11, 0x41),
        at(20, 0x40),
        at(20, 0x41),
        at(20, 0x42),
    ]);
    let found = found(&buses, &tree, &[]);
    let addresses = |n: usize| -> Vec<_> {
        let answers = found[n].answers.iter();
        answers.map(|(address, _)| *address).collect()
    };
    let all = [0, 1, 2].map(addresses);
    assert_eq!(all, [vec![0x40], vec![0x41], vec![0x42]]);
}

#[test]
fn bus_is_named_by_its_file_or_its_number() {
    for name in ["/dev/i2c-7", "i2c-7", "7"] {
        assert_eq!(bus_number(OsStr::new(name)), Some(7), "{name}");
    }
    for name in ["", "/dev/spidev0.0", "i2c-", "/dev/i2c-1.5"] {
        assert_eq!(bus_number(OsStr::new(name)), None, "{name}");
    }
}
