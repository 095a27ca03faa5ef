//! The mailbox recorded at its boundary, and replayed where there is none.

use std::cell::RefCell;

use super::*;
use crate::sources::io_log::{IoLogs, Recorder};
use crate::sources::testing::replayed;
use crate::sources::Meter;

thread_local! {
    /// The firmware of the test that runs in this thread.
    static FIRMWARE: RefCell<Firmware> = RefCell::default();
}

/// The meter, but for what is behind its mailbox.
static SIMULATED: Meter = Meter {
    open: |context| {
        open(context, |_, _| {
            Ok(Box::new(FIRMWARE.with_borrow(Firmware::clone)))
        })
    },
    ..METER
};

/// Records these polls on a tree of these files and asserts that their replay exports the same. Returns the log.
fn assert_replays(
    answers: FirmwareAnswers,
    files: &[(&str, &str)],
    polls: impl FnOnce(&Firmware, &Tree, &mut Bench),
) -> String {
    let firmware = Firmware::new(answers);
    FIRMWARE.set(firmware.clone());
    let tree = Tree::new(files);
    let dir = Tree::new(&[]);
    let dir = dir.path("recording");
    let recorder = Recorder::begin(&dir, &tree.roots(), "rpi:\n").unwrap();
    let io_logs = IoLogs::Record(Arc::clone(&recorder));
    let mut bench = Bench::with_io_log(&SIMULATED, tree.roots(), Config::default(), &io_logs);
    assert!(bench.probe().is_ok());
    bench.reopen().unwrap();
    polls(&firmware, &tree, &mut bench);
    recorder.finish("").unwrap();
    let lines = bench.lines();
    drop((bench, tree));
    assert_eq!(replayed(&dir, &METER), lines);
    assert!(!lines.is_empty());
    std::fs::read_to_string(dir.join("logs/rpi.log")).unwrap()
}

#[test]
fn pmic_and_flags_by_command_replay_identically() {
    let log = assert_replays(pi_5(), &[("dev/vcio", "")], |firmware, _, bench| {
        bench.tick().unwrap();
        let more = PI_5.replace("VDD_CORE_A current(7)=4.5", "VDD_CORE_A current(7)=2.5");
        let commands = vec![
            ("pmic_read_adc", more),
            ("get_throttled", "throttled=0x50000\n".to_string()),
        ];
        firmware.change(|answers| answers.commands = Some(commands));
        bench.tick().unwrap();
        bench.tick().unwrap();
        firmware.change(|answers| answers.errno = Some(nix::libc::ETIMEDOUT));
        assert!(bench.tick().is_err());
        firmware.change(|answers| answers.errno = None);
        bench.tick().unwrap();
    });
    assert!(
        log.contains(" dev/vcio 0x00030080 get_throttled = "),
        "{log}"
    );
    assert!(log.contains("throttled=0x50000\\n"), "{log}");
    assert!(
        log.contains("0x00030080 get_throttled ! 110 connection timed out"),
        "{log}"
    );
    assert_eq!(
        log.matches("EXT5V_V volt(24)=5.09").count(),
        3,
        "only what is new: {log}"
    );
}

#[test]
fn flags_by_tag_replay_identically() {
    let answers = FirmwareAnswers {
        flags: Some(0x5_0005),
        ..FirmwareAnswers::default()
    };
    let log = assert_replays(answers, &[("dev/vcio", "")], |firmware, _, bench| {
        bench.tick().unwrap();
        firmware.change(|answers| answers.flags = Some(0x5_0000));
        bench.tick().unwrap();
    });
    assert!(log.contains(" dev/vcio 0x00030046 "), "{log}");
}

#[test]
fn flags_from_sysfs_replay_identically() {
    let file = "sys/devices/platform/soc/soc:firmware/get_throttled";
    let log = assert_replays(
        FirmwareAnswers::default(),
        &[(file, "50005\n")],
        |_, tree, bench| {
            bench.tick().unwrap();
            tree.write(file, "0\n");
            bench.tick().unwrap();
        },
    );
    assert!(log.contains(&format!(" {file} = 50005\\n\n")), "{log}");
    assert!(log.contains(&format!(" {file} = 0\\n\n")), "{log}");
}
