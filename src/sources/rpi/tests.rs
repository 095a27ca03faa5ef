//! The meter with a simulated firmware behind the mailbox, and with the kernel's files.

use std::sync::Mutex;

use super::mailbox::{
    ANSWERED, GET_GENCMD_RESULT, GET_THROTTLED, HEADER_WORDS, SUCCESS, TEXT_BYTES,
};
use super::*;
use crate::sources::testing::{Bench, Tree};
use crate::sys::lock;

/// In the form of a Raspberry Pi 5's answer, with its rails and channels; the values are made up.
const PI_5: &str = " 3V7_WL_SW_A current(0)=0.08500000A
   3V3_SYS_A current(1)=0.07250000A
   1V8_SYS_A current(2)=0.17500000A
  DDR_VDD2_A current(3)=0.21000000A
  DDR_VDDQ_A current(4)=0.05000000A
   1V1_SYS_A current(5)=0.18000000A
    0V8_SW_A current(6)=0.35000000A
  VDD_CORE_A current(7)=4.50000000A
   3V3_DAC_A current(17)=0.00010000A
   3V3_ADC_A current(18)=0.00040000A
   0V8_AON_A current(16)=0.00400000A
      HDMI_A current(22)=0.02500000A
 3V7_WL_SW_V volt(8)=3.70000000V
   3V3_SYS_V volt(9)=3.31250000V
   1V8_SYS_V volt(10)=1.80000000V
  DDR_VDD2_V volt(11)=1.10500000V
  DDR_VDDQ_V volt(12)=0.60000000V
   1V1_SYS_V volt(13)=1.11000000V
    0V8_SW_V volt(14)=0.80000000V
  VDD_CORE_V volt(15)=0.87500000V
   3V3_DAC_V volt(20)=3.31000000V
   3V3_ADC_V volt(21)=3.30500000V
   0V8_AON_V volt(19)=0.80000000V
      HDMI_V volt(23)=5.08000000V
     EXT5V_V volt(24)=5.09000000V
      BATT_V volt(25)=0.00000000V
";
const NOT_REGISTERED: &str = "error=1 error_msg=\"Command not registered\"";

/// The answers of the simulated firmware.
#[derive(Default)]
struct FirmwareAnswers {
    /// Answers to commands; `None`: the tag is unknown.
    commands: Option<Vec<(&'static str, String)>>,
    /// The answer to the tag GET_THROTTLED.
    flags: Option<u32>,
    /// The error of every message.
    errno: Option<i32>,
    /// The requests: commands, and the tag's number.
    asked: Vec<String>,
}

/// The simulated firmware's mailbox, which checks every word of a message.
#[derive(Clone, Default)]
struct Firmware(Arc<Mutex<FirmwareAnswers>>);

impl Firmware {
    fn new(answers: FirmwareAnswers) -> Firmware {
        Firmware(Arc::new(Mutex::new(answers)))
    }

    fn change(&self, change: impl FnOnce(&mut FirmwareAnswers)) {
        change(&mut lock::lock(&self.0));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut lock::lock(&self.0).asked)
    }

    fn bench(&self, tree: &Tree) -> (Bench, Rpi) {
        let bench = Bench::new(&METER, tree, Config::default());
        let rpi = Rpi::new(&bench.context, Some(Box::new(self.clone())));
        (bench, rpi)
    }
}

impl Mailbox for Firmware {
    fn property(&mut self, message: &mut [u32]) -> Result<(), Error> {
        let mut answers = lock::lock(&self.0);
        if let Some(errno) = answers.errno {
            let error = std::io::Error::from_raw_os_error(errno);
            return Err(Error::cannot("ask", "/dev/vcio".as_ref(), &error));
        }
        assert_eq!(message[0] as usize, 4 * message.len(), "its size");
        assert_eq!(message[1], 0, "a request");
        assert_eq!(message[4], 0, "of which nothing is an answer yet");
        assert_eq!(message[message.len() - 1], 0, "the end tag");
        match message[2] {
            GET_GENCMD_RESULT => {
                // vcgencmd.c: six words, MAX_STRING bytes, the end.
                assert_eq!(message.len(), 6 + 1024 / 4 + 1);
                assert_eq!((message[3], message[5]), (1024, 0));
                let bytes: Vec<u8> = message[6..262]
                    .iter()
                    .flat_map(|word| word.to_ne_bytes())
                    .collect();
                let end = bytes.iter().position(|b| *b == 0).unwrap();
                assert!(bytes[end..].iter().all(|b| *b == 0));
                let command = String::from_utf8(bytes[..end].to_vec()).unwrap();
                answers.asked.push(command.clone());
                let Some(commands) = &answers.commands else {
                    message[1] = 0x8000_0001;
                    return Ok(());
                };
                let known = commands.iter().find(|(name, _)| *name == command);
                let answer = known.map_or(NOT_REGISTERED, |(_, answer)| answer);
                let mut bytes = answer.as_bytes().to_vec();
                bytes.resize(TEXT_BYTES, 0);
                for (word, four) in message[HEADER_WORDS..]
                    .iter_mut()
                    .zip(bytes.chunks_exact(4))
                {
                    *word = u32::from_ne_bytes(four.try_into().unwrap());
                }
                message[1] = SUCCESS;
                message[4] = ANSWERED | 4;
                message[5] = u32::from(known.is_none());
            }
            GET_THROTTLED => {
                assert_eq!(message.len(), 7);
                assert_eq!((message[3], message[5]), (4, 0), "and clears nothing");
                answers.asked.push("0x00030046".to_string());
                message[1] = SUCCESS;
                if let Some(flags) = answers.flags {
                    message[4] = ANSWERED | 4;
                    message[5] = flags;
                }
            }
            tag => panic!("no tag of ours: {tag:#x}"),
        }
        Ok(())
    }
}

/// Polls and returns what was read, as `name{labels} value`.
fn poll(bench: &mut Bench, rpi: &mut Rpi, second: u64) -> Vec<String> {
    bench.poll_with(second as f64, |out| rpi.poll(out)).unwrap();
    bench.lines()
}

fn pi_5() -> FirmwareAnswers {
    FirmwareAnswers {
        commands: Some(vec![
            ("pmic_read_adc", PI_5.to_string()),
            ("get_throttled", "throttled=0x50005\n".to_string()),
        ]),
        ..FirmwareAnswers::default()
    }
}

#[test]
fn raspberry_pi_5_has_rails_total_and_flags() {
    let firmware = Firmware::new(pi_5());
    let tree = Tree::new(&[]);
    let (mut bench, mut rpi) = firmware.bench(&tree);
    let lines = poll(&mut bench, &mut rpi, 1);
    // Twelve rails with four values, two with a voltage, the total and eight flags.
    assert_eq!(lines.len(), 12 * 4 + 2 + 1 + 8, "{lines:#?}");
    let of = |family, rail| format!("{family}{{rail=\"{rail}\",source=\"rpi\"}}");
    let close = |value: Option<f64>, to: f64| (value.unwrap() - to).abs() < 1e-6;
    let core = bench.value(&of("power_watts", "VDD_CORE"));
    assert!(close(core, 4.5 * 0.875));
    assert_eq!(bench.value(&of("voltage_volts", "EXT5V")), Some(5.09));
    assert_eq!(bench.value(&of("power_watts", "EXT5V")), None);
    assert_eq!(bench.value(&of("current_amperes", "HDMI")), Some(0.025));
    // The sum of the products, by awk.
    assert!(
        close(bench.value("power_total_watts"), 5.680859),
        "{lines:#?}"
    );
    for (name, value) in [
        ("rpi_under_voltage", 1.0),
        ("rpi_frequency_capped", 0.0),
        ("rpi_throttled", 1.0),
        ("rpi_soft_temperature_limit", 0.0),
        ("rpi_under_voltage_since_boot", 1.0),
        ("rpi_frequency_capped_since_boot", 0.0),
        ("rpi_throttled_since_boot", 1.0),
        ("rpi_soft_temperature_limit_since_boot", 0.0),
    ] {
        assert_eq!(bench.value(name), Some(value), "{name}");
    }
    poll(&mut bench, &mut rpi, 2);
    let energy = bench.value(&of("energy_joules_total", "VDD_CORE"));
    assert!(close(energy, 4.5 * 0.875));
    assert_eq!(bench.context.health.unparsed(), 0);
}

#[test]
fn missing_rail_takes_the_total_with_it() {
    let firmware = Firmware::new(pi_5());
    let tree = Tree::new(&[]);
    let (mut bench, mut rpi) = firmware.bench(&tree);
    poll(&mut bench, &mut rpi, 1);
    let without = PI_5.replace("  VDD_CORE_V volt(15)=0.87500000V\n", "garbage\n");
    firmware.change(|answers| answers.commands = Some(vec![("pmic_read_adc", without)]));
    poll(&mut bench, &mut rpi, 2);
    assert_eq!(bench.value("power_total_watts"), None);
    let of = |family, rail| format!("{family}{{rail=\"{rail}\",source=\"rpi\"}}");
    assert_eq!(bench.value(&of("power_watts", "VDD_CORE")), None);
    assert!(bench.value(&of("current_amperes", "VDD_CORE")).is_some());
    assert!(bench.value(&of("power_watts", "HDMI")).is_some());
    assert_eq!(bench.context.health.unparsed(), 1);
    firmware.change(|answers| *answers = pi_5());
    poll(&mut bench, &mut rpi, 3);
    assert!(bench.value("power_total_watts").is_some());
}

#[test]
fn older_board_has_only_flags() {
    let firmware = Firmware::new(FirmwareAnswers {
        commands: Some(vec![("get_throttled", "throttled=0x0".to_string())]),
        ..FirmwareAnswers::default()
    });
    let tree = Tree::new(&[]);
    let (mut bench, mut rpi) = firmware.bench(&tree);
    assert_eq!(poll(&mut bench, &mut rpi, 1).len(), 8);
    assert_eq!(bench.value("rpi_under_voltage"), Some(0.0));
    assert_eq!(firmware.asked(), ["get_throttled", "pmic_read_adc"]);
    poll(&mut bench, &mut rpi, 2);
    assert_eq!(firmware.asked(), ["get_throttled"]);
    assert_eq!(bench.context.health.errors(), 0);
}

#[test]
fn flags_are_read_by_tag_without_the_command() {
    for commands in [Some(vec![]), None] {
        flags_by_tag(commands);
    }
}

fn flags_by_tag(commands: Option<Vec<(&'static str, String)>>) {
    let firmware = Firmware::new(FirmwareAnswers {
        commands,
        flags: Some(0x80008),
        ..FirmwareAnswers::default()
    });
    let tree = Tree::new(&[]);
    let (mut bench, mut rpi) = firmware.bench(&tree);
    poll(&mut bench, &mut rpi, 1);
    assert_eq!(bench.value("rpi_soft_temperature_limit"), Some(1.0));
    assert_eq!(
        bench.value("rpi_soft_temperature_limit_since_boot"),
        Some(1.0)
    );
    assert_eq!(bench.value("rpi_under_voltage"), Some(0.0));
    let asked = ["get_throttled", "0x00030046", "pmic_read_adc"];
    assert_eq!(firmware.asked(), asked);
    poll(&mut bench, &mut rpi, 2);
    assert_eq!(firmware.asked(), ["0x00030046"]);
}

#[test]
fn unanswered_tag_sets_no_flags() {
    let firmware = Firmware::new(FirmwareAnswers {
        commands: Some(vec![]),
        ..FirmwareAnswers::default()
    });
    let tree = Tree::new(&[]);
    let (mut bench, mut rpi) = firmware.bench(&tree);
    assert_eq!(poll(&mut bench, &mut rpi, 1), [""; 0]);
}

#[test]
fn failing_mailbox_is_an_error_and_recovers() {
    let firmware = Firmware::new(pi_5());
    let tree = Tree::new(&[]);
    let (mut bench, mut rpi) = firmware.bench(&tree);
    poll(&mut bench, &mut rpi, 1);
    firmware.change(|answers| answers.errno = Some(nix::libc::ETIMEDOUT));
    let error = bench.poll_with(2.0, |out| rpi.poll(out)).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot ask /dev/vcio: "),
        "{error}"
    );
    firmware.change(|answers| answers.errno = None);
    poll(&mut bench, &mut rpi, 3);
    assert!(bench.value("power_total_watts").is_some());
    firmware.change(|answers| answers.commands = None);
    let error = bench.poll_with(4.0, |out| rpi.poll(out)).unwrap_err();
    let text = "the firmware no longer tells its flags";
    assert_eq!(error.to_string(), text);
}

const FLAGS_FILE: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";

#[test]
fn kernels_file_is_preferred() {
    let tree = Tree::new(&[(FLAGS_FILE, "50000\n")]);
    let firmware = Firmware::new(pi_5());
    let (mut bench, mut rpi) = firmware.bench(&tree);
    poll(&mut bench, &mut rpi, 1);
    assert_eq!(bench.value("rpi_under_voltage"), Some(0.0));
    assert_eq!(bench.value("rpi_under_voltage_since_boot"), Some(1.0));
    assert_eq!(firmware.asked(), ["pmic_read_adc"]);
}

#[test]
fn files_are_read_without_a_mailbox() {
    let tree = Tree::new(&[(FLAGS_FILE, "0\n")]);
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(bench.poll(1.0).len(), 8);
    tree.write(FLAGS_FILE, "e0008\n");
    bench.poll(2.0);
    assert_eq!(bench.value("rpi_soft_temperature_limit"), Some(1.0));
    assert_eq!(bench.value("rpi_under_voltage_since_boot"), Some(0.0));
    assert_eq!(bench.value("rpi_frequency_capped_since_boot"), Some(1.0));

    let tree = Tree::new(&[
        ("sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
        ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
        ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"),
    ]);
    let mut bench = Bench::open(&METER, &tree);
    assert!(bench.probe().unwrap().ends_with("hwmon1/in0_lcrit_alarm"));
    assert_eq!(bench.poll(1.0), ["rpi_under_voltage 1"]);
    tree.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n");
    assert_eq!(bench.poll(2.0), ["rpi_under_voltage 0"]);
}

#[test]
fn probe_error_names_the_paths() {
    let tree = Tree::new(&[]);
    let bench = Bench::new(&METER, &tree, Config::default());
    let error = bench.probe().unwrap_err().to_string();
    assert!(error.contains("/dev/vcio, no /"), "{error}");
    assert!(error.ends_with("and no hwmon chip rpi_volt"), "{error}");
}

#[test]
fn regular_file_is_no_mailbox_but_flags_are_read() {
    let tree = Tree::new(&[("dev/vcio", "")]);
    let mut bench = Bench::new(&METER, &tree, Config::default());
    assert!(bench.probe().is_ok());
    let error = bench.reopen().unwrap_err().to_string();
    assert!(error.ends_with("/dev/vcio is not a device"), "{error}");
    tree.write(FLAGS_FILE, "0\n");
    bench.reopen().unwrap();
    assert_eq!(bench.poll(1.0).len(), 8);
    let complaints = bench.context.health.value_errors();
    assert!(complaints[0].ends_with("is not a device"), "{complaints:?}");
    // Of two devices one will do; this one is not the firmware's mailbox.
    tree.remove("dev/vcio");
    std::os::unix::fs::symlink("/dev/null", tree.path("dev/vcio")).unwrap();
    tree.remove(FLAGS_FILE);
    tree.write("dev/vcio_gencmd", "");
    bench.reopen().unwrap();
    let error = bench.try_poll(2.0).unwrap_err().to_string();
    assert!(error.contains("cannot ask "), "{error}");
    assert!(error.contains("not a typewriter"), "{error}");
}

mod replay;
