//! The faults of chips and buses, with messages and hints. (Linux, Documentation/i2c/fault-codes.rst.)

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno as E;

use super::bus::Errno;
use crate::sources::Error;
use crate::sys::reason;

/// A configured chip and its address.
#[derive(Debug, Clone)]
pub(super) struct ChipAddress {
    /// The meter's section of the configuration.
    pub(super) section: String,
    /// `INA260`.
    pub(super) kind: &'static str,
    /// `/dev/i2c-N`.
    pub(super) device: PathBuf,
    /// N.
    pub(super) bus: u32,
    /// 0x40 to 0x4f.
    pub(super) address: u8,
}

impl ChipAddress {
    /// The chip, for the log.
    pub(super) fn description(&self) -> String {
        let ChipAddress {
            device, address, ..
        } = self;
        format!("the chip at {address:#04x} on {}", device.display())
    }

    /// The key of complaints about this chip.
    pub(super) fn key(&self) -> PathBuf {
        let bus = self.device.display();
        format!("{bus} {:#04x}", self.address).into()
    }
}

/// Why there is no reading.
#[derive(Debug)]
pub(in crate::sources) enum Fault {
    /// The bus cannot be opened.
    NotOpen(io::Error),
    /// A kernel driver uses the address; its name, if known.
    InUse(Option<String>),
    /// A transfer failed, with this error number.
    Transfer(Option<i32>),
    /// Another kind of chip answers: what it says, and what the configured one would say.
    OtherChip { says: String, wanted: &'static str },
    /// The chip answers, but does not convert.
    NotConverting,
    /// The voltage is impossible.
    ImplausibleVoltage,
    /// The current of these rails is beyond what the chip measures.
    Clipped(String),
    /// The chip lost its configuration.
    Reset,
    /// The bus hangs, and is excluded for a while.
    Excluded,
}

impl Fault {
    pub(in crate::sources) fn of(error: &impl Errno) -> Fault {
        Fault::Transfer(error.errno())
    }

    /// Whether the chip keeps its configuration, so that it need not be reopened.
    pub(super) fn leaves_the_chip_configured(&self) -> bool {
        matches!(self, Fault::Transfer(Some(n)) if E::from_raw(*n) == E::EAGAIN)
    }

    /// The error message, with a hint.
    pub(super) fn explain(&self, place: &ChipAddress) -> Error {
        let ChipAddress {
            section,
            kind,
            device,
            bus,
            address,
        } = place;
        let device = device.display();
        let chip = format!("the {kind} at {address:#04x} on {device}");
        match self {
            Fault::NotOpen(error) => not_open(&place.device, error),
            Fault::InUse(driver) => {
                let reader = match driver.as_deref() {
                    // Linux, drivers/iio/adc/ina2xx-adc.c.
                    Some("ina2xx-adc") => "iio",
                    _ => "hwmon",
                };
                let driver = match driver {
                    Some(name) => format!("the kernel's driver {name} has"),
                    None => "a driver of the kernel has".to_string(),
                };
                Error::new(format!("{driver} {address:#04x} on {device}")).hint(format!(
                    "the source {reader} reads it: remove the address from {section}"
                ))
            }
            Fault::Transfer(number) => transfer(*number, &chip, *bus),
            Fault::OtherChip { says, wanted } => Error::new(format!(
                "what answers at {address:#04x} on {device} is no {kind}: it says {says}"
            ))
            .hint(*wanted),
            Fault::NotConverting => Error::new(format!("{chip} answers, but converts nothing")),
            Fault::ImplausibleVoltage => {
                Error::new(format!("{chip} gave a voltage that cannot be"))
            }
            Fault::Clipped(rails) => Error::new(format!(
                "{chip}: the current of {rails} is beyond what it measures"
            ))
            .hint("a smaller shunt, or a larger max_amperes"),
            Fault::Reset => Error::new(format!("{chip} lost its configuration"))
                .hint("does its supply break down, or does another program configure it?"),
            Fault::Excluded => Error::new(format!("{device} hangs and is left alone")),
        }
    }
}

/// Why a bus cannot be opened.
pub(in crate::sources) fn not_open(device: &Path, error: &io::Error) -> Error {
    let cannot = Error::cannot("open", device, error);
    match error.raw_os_error().map(E::from_raw) {
        Some(E::ENOENT | E::ENXIO | E::ENODEV) => cannot.hint(
            "`modprobe i2c-dev`; on a Raspberry Pi `dtparam=i2c_arm=on` in config.txt besides; \
             `i2cdetect -l` lists the buses",
        ),
        Some(E::EACCES | E::EPERM) => cannot.hint("readable by the group i2c, or by root"),
        Some(E::ENOTTY | E::EISDIR | E::EINVAL) => {
            Error::new(format!("{} is no I2C bus", device.display()))
        }
        _ => cannot,
    }
}

/// Why a transfer with `chip` has failed.
pub(in crate::sources) fn transfer(number: Option<i32>, chip: &str, bus: u32) -> Error {
    let Some(number) = number else {
        return Error::new(format!("cannot talk to {chip}"));
    };
    match E::from_raw(number) {
        E::ENXIO | E::EREMOTEIO => Error::new(format!("{chip} does not answer")).hint(format!(
            "is it wired and powered, and is that its address? `i2cdetect -y {bus}` shows who answers"
        )),
        E::EAGAIN => Error::new(format!("{chip}: arbitration lost"))
            .hint("another master is on the bus, or its lines are disturbed"),
        E::ETIMEDOUT => Error::new(format!("{chip}: the bus timed out"))
            .hint("is a line held low, or a pull-up missing?"),
        E::EBUSY => Error::new(format!("{chip}: the bus is busy"))
            .hint("is a line held low, or a pull-up missing?"),
        E::EIO => Error::new(format!("{chip}: the transfer failed"))
            .hint("no answer, or a disturbed line: this bus's driver does not say which"),
        E::EOPNOTSUPP | E::ENOSYS | E::EINVAL => {
            Error::new(format!("{chip}: the bus takes no plain I2C transfers"))
        }
        E::ENODEV => Error::new(format!("{chip}: the bus is gone")),
        _ => Error::new(format!(
            "{chip}: {}",
            reason(&io::Error::from_raw_os_error(number))
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc;

    fn message(fault: Fault) -> String {
        let place = ChipAddress {
            section: "ina260".to_string(),
            kind: "INA260",
            device: "/dev/i2c-1".into(),
            bus: 1,
            address: 0x40,
        };
        fault.explain(&place).to_string()
    }

    #[test]
    fn each_fault_has_a_message() {
        for (number, words) in [
            (libc::ENXIO, "the INA260 at 0x40 on /dev/i2c-1 does not answer (is it wired and powered, and is that its address? `i2cdetect -y 1` shows who answers)"),
            (libc::EREMOTEIO, "the INA260 at 0x40 on /dev/i2c-1 does not answer (is it wired and powered, and is that its address? `i2cdetect -y 1` shows who answers)"),
            (libc::EAGAIN, "the INA260 at 0x40 on /dev/i2c-1: arbitration lost (another master is on the bus, or its lines are disturbed)"),
            (libc::ETIMEDOUT, "the INA260 at 0x40 on /dev/i2c-1: the bus timed out (is a line held low, or a pull-up missing?)"),
            (libc::EBUSY, "the INA260 at 0x40 on /dev/i2c-1: the bus is busy (is a line held low, or a pull-up missing?)"),
            (libc::EOPNOTSUPP, "the INA260 at 0x40 on /dev/i2c-1: the bus takes no plain I2C transfers"),
            (libc::ENOMEM, "the INA260 at 0x40 on /dev/i2c-1: out of memory"),
        ] {
            assert_eq!(message(Fault::Transfer(Some(number))), words);
        }
        assert_eq!(
            message(Fault::InUse(Some("ina2xx".into()))),
            "the kernel's driver ina2xx has 0x40 on /dev/i2c-1 (the source hwmon reads it: remove the address from ina260)"
        );
        assert_eq!(
            message(Fault::InUse(Some("ina2xx-adc".into()))),
            "the kernel's driver ina2xx-adc has 0x40 on /dev/i2c-1 (the source iio reads it: remove the address from ina260)"
        );
        assert_eq!(
            message(Fault::OtherChip {
                says: crate::sources::i2c::identity::describe(0x5449, 0x2260),
                wanted: "an INA260 says 0x5449, 0x227x",
            }),
            "what answers at 0x40 on /dev/i2c-1 is no INA260: it says manufacturer 0x5449, die 0x2260, as an INA226 does (an INA260 says 0x5449, 0x227x)"
        );
    }

    #[test]
    fn open_errors_have_hints() {
        let not_open = |number| message(Fault::NotOpen(io::Error::from_raw_os_error(number)));
        let missing = not_open(libc::ENOENT);
        assert!(
            missing.starts_with("cannot open /dev/i2c-1: no such file"),
            "{missing}"
        );
        assert!(missing.contains("modprobe i2c-dev") && missing.contains("dtparam=i2c_arm=on"));
        assert!(not_open(libc::EACCES).ends_with("(readable by the group i2c, or by root)"));
        assert_eq!(not_open(libc::ENOTTY), "/dev/i2c-1 is no I2C bus");
    }

    #[test]
    fn only_lost_arbitration_leaves_the_chip_configured() {
        assert!(Fault::Transfer(Some(libc::EAGAIN)).leaves_the_chip_configured());
        assert!(!Fault::Transfer(Some(libc::ETIMEDOUT)).leaves_the_chip_configured());
        assert!(!Fault::Transfer(None).leaves_the_chip_configured());
        assert!(!Fault::NotConverting.leaves_the_chip_configured());
    }
}
