//! What can go wrong between us and a chip, and what would help. (Linux, Documentation/i2c/fault-codes.rst.)

use std::io;
use std::path::PathBuf;

use nix::errno::Errno as E;

use super::bridge::Errno;
use super::registers::other_chip;
use crate::sources::Error;
use crate::sys::reason;

/// Where a chip sits.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `/dev/i2c-N`.
    pub(super) device: PathBuf,
    /// N.
    pub(super) bus: u32,
    /// 0x40 to 0x4f.
    pub(super) address: u8,
}

impl Place {
    /// What the health's complaints about this chip go by.
    pub(super) fn key(&self) -> PathBuf {
        let bus = self.device.display();
        format!("{bus} {:#04x}", self.address).into()
    }
}

/// Why there is no reading.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bus cannot be opened.
    NotOpen(io::Error),
    /// A driver of the kernel has the address: its name, if that is known.
    Held(Option<String>),
    /// A transfer failed, with this error number.
    Transfer(Option<i32>),
    /// Another chip answers.
    Stranger { manufacturer: u16, die: u16 },
    /// It answers, and converts nothing.
    Idle,
    /// What it says cannot be.
    Nonsense,
    /// It lost its configuration.
    Reset,
    /// The bus hangs, and is left alone for a while.
    LeftAlone,
}

impl Fault {
    pub(super) fn of(error: &impl Errno) -> Fault {
        Fault::Transfer(error.errno())
    }

    /// Whether the chip is as it was: then there is no need to begin again with it.
    pub(super) fn spares_the_chip(&self) -> bool {
        matches!(self, Fault::Transfer(Some(n)) if E::from_raw(*n) == E::EAGAIN)
    }

    /// In words, for people.
    pub(super) fn explain(&self, place: &Place) -> Error {
        let Place {
            device,
            bus,
            address,
        } = place;
        let device = device.display();
        let chip = format!("the INA260 at {address:#04x} on {device}");
        match self {
            Fault::NotOpen(error) => not_open(place, error),
            Fault::Held(driver) => {
                let driver = match driver {
                    Some(name) => format!("the kernel's driver {name} has"),
                    None => "a driver of the kernel has".to_string(),
                };
                Error::new(format!("{driver} {address:#04x} on {device}"))
                    .hint("the source hwmon reads it: remove the address from ina260")
            }
            Fault::Transfer(number) => transfer(*number, &chip, *bus),
            Fault::Stranger { manufacturer, die } => {
                let known = other_chip(*manufacturer, *die)
                    .map_or(String::new(), |name| format!(", as an {name} does"));
                Error::new(format!(
                    "what answers at {address:#04x} on {device} is no INA260: it says manufacturer \
                     {manufacturer:#06x}, die {die:#06x}{known}"
                ))
                .hint("an INA260 says 0x5449, 0x227x")
            }
            Fault::Idle => Error::new(format!("{chip} answers, but converts nothing")),
            Fault::Nonsense => Error::new(format!("{chip} gave a voltage that cannot be")),
            Fault::Reset => Error::new(format!("{chip} lost its configuration"))
                .hint("does its supply break down?"),
            Fault::LeftAlone => Error::new(format!("{device} hangs and is left alone")),
        }
    }
}

fn not_open(place: &Place, error: &io::Error) -> Error {
    let cannot = Error::cannot("open", &place.device, error);
    match error.raw_os_error().map(E::from_raw) {
        Some(E::ENOENT | E::ENXIO | E::ENODEV) => cannot.hint(
            "`modprobe i2c-dev`; on a Raspberry Pi `dtparam=i2c_arm=on` in config.txt besides; \
             `i2cdetect -l` lists the buses",
        ),
        Some(E::EACCES | E::EPERM) => cannot.hint("readable by the group i2c, or by root"),
        Some(E::ENOTTY | E::EISDIR | E::EINVAL) => {
            Error::new(format!("{} is no I2C bus", place.device.display()))
        }
        _ => cannot,
    }
}

fn transfer(number: Option<i32>, chip: &str, bus: u32) -> Error {
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

    fn said(fault: Fault) -> String {
        let place = Place {
            device: "/dev/i2c-1".into(),
            bus: 1,
            address: 0x40,
        };
        fault.explain(&place).to_string()
    }

    #[test]
    fn each_kind_has_its_words() {
        for (number, words) in [
            (libc::ENXIO, "the INA260 at 0x40 on /dev/i2c-1 does not answer (is it wired and powered, and is that its address? `i2cdetect -y 1` shows who answers)"),
            (libc::EREMOTEIO, "the INA260 at 0x40 on /dev/i2c-1 does not answer (is it wired and powered, and is that its address? `i2cdetect -y 1` shows who answers)"),
            (libc::EAGAIN, "the INA260 at 0x40 on /dev/i2c-1: arbitration lost (another master is on the bus, or its lines are disturbed)"),
            (libc::ETIMEDOUT, "the INA260 at 0x40 on /dev/i2c-1: the bus timed out (is a line held low, or a pull-up missing?)"),
            (libc::EBUSY, "the INA260 at 0x40 on /dev/i2c-1: the bus is busy (is a line held low, or a pull-up missing?)"),
            (libc::EOPNOTSUPP, "the INA260 at 0x40 on /dev/i2c-1: the bus takes no plain I2C transfers"),
            (libc::ENOMEM, "the INA260 at 0x40 on /dev/i2c-1: out of memory"),
        ] {
            assert_eq!(said(Fault::Transfer(Some(number))), words);
        }
        assert_eq!(
            said(Fault::Held(Some("ina2xx".into()))),
            "the kernel's driver ina2xx has 0x40 on /dev/i2c-1 (the source hwmon reads it: remove the address from ina260)"
        );
        assert_eq!(
            said(Fault::Stranger { manufacturer: 0x5449, die: 0x2260 }),
            "what answers at 0x40 on /dev/i2c-1 is no INA260: it says manufacturer 0x5449, die 0x2260, as an INA226 does (an INA260 says 0x5449, 0x227x)"
        );
    }

    #[test]
    fn a_bus_that_cannot_be_opened_says_what_would_help() {
        let not_open = |number| said(Fault::NotOpen(io::Error::from_raw_os_error(number)));
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
    fn only_lost_arbitration_spares_the_chip() {
        assert!(Fault::Transfer(Some(libc::EAGAIN)).spares_the_chip());
        assert!(!Fault::Transfer(Some(libc::ETIMEDOUT)).spares_the_chip());
        assert!(!Fault::Transfer(None).spares_the_chip());
        assert!(!Fault::Idle.spares_the_chip());
    }
}
