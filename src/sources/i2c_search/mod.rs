//! Looks for power monitors on I2C buses, for `doctor --probe-i2c`: which chip sits where, and what would be written into the
//! configuration. No source does this: a source touches the configured addresses alone.
//!
//! What is at an address is a stranger, and reading can disturb a stranger. So:
//!
//! * An address that a kernel driver has is left alone (`I2C_SLAVE` without force is refused with EBUSY), and so is one that the
//!   configuration names.
//! * Nothing is written but the number of the register to read. First two bytes are read without such a number: a chip that
//!   takes commands rather than registers (Si7021 and HTU21D at 0x40, SHT3x at 0x44, for which 0xFE could be a command) does not
//!   answer that, and is then left alone.
//! * Only 0x40 to 0x4f are asked, where the known chips can be.
//! * Buses of displays and of PCs' memory modules are left out unless they are named ([`adapter`]).
//! * A bus on which a transfer times out is left alone for good.

mod adapter;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use nix::errno::Errno as E;

use super::i2c::{self, identity, Bus, Buses, Errno, Linux};
use super::ina2xx::models::{KnownBoard, Model, BOARDS};
use super::ina2xx::registers::ina219;
use super::{ina260, ina2xx, Error, Roots};
use crate::config::{Config, MeterSettings};

/// Addresses of the known chips.
const ADDRESSES: std::ops::RangeInclusive<u8> = 0x40..=0x4f;
/// Where the known chips have manufacturer and die.
const IDENTITIES: [(u8, u8); 2] = [(0x3E, 0x3F), (0xFE, 0xFF)];
/// How long one bus may take, and after what time no further bus is asked.
const BUS_TIMEOUT: Duration = Duration::from_secs(10);
const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How many buses are asked. A graphics card has about ten.
const MAX_BUSES: usize = 64;

/// What was found on one bus.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchedBus {
    /// N of `/dev/i2c-N`.
    pub number: u32,
    /// `/dev/i2c-N`.
    pub device: PathBuf,
    /// What its driver calls it.
    pub adapter: Option<String>,
    /// What answers, by address.
    pub answers: Vec<(u8, Answer)>,
    /// Why the bus was left out, or no further address was asked.
    pub error: Option<String>,
}

/// What is at an address.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A chip that the exporter can read.
    Chip(&'static str),
    /// A chip with the registers of an INA219 or INA220, which have no identity register.
    PossiblyIna219,
    /// The configuration names the address: its source reads it.
    Configured,
    /// A kernel driver has the address; its name, if known.
    Held(Option<String>),
    /// Another chip, and what it says about itself.
    Stranger(String),
}

/// Asks the buses: those named, or all that are likely to have such chips. The configuration's own chips are left alone.
pub fn search(roots: &Roots, named: &[u32], config: &Config) -> Vec<SearchedBus> {
    search_on(roots, named, &configured(config), || Linux)
}

/// The addresses of the configured chips.
fn configured(config: &Config) -> Vec<(u32, u8)> {
    let ina260 = config.meter::<ina260::settings::Settings>().chips;
    let ina2xx = config.meter::<ina2xx::settings::Settings>().chips;
    let ina260 = ina260.iter().map(|chip| (chip.bus, chip.address));
    let ina2xx = ina2xx.iter().map(|chip| (chip.bus, chip.address));
    ina260.chain(ina2xx).collect()
}

fn search_on<B: Buses>(
    roots: &Roots,
    named: &[u32],
    configured: &[(u32, u8)],
    buses: impl Fn() -> B,
) -> Vec<SearchedBus> {
    let mut numbers = match named {
        [] => all_buses(roots),
        named => named.to_vec(),
    };
    numbers.sort_unstable();
    numbers.dedup();
    let started = Instant::now();
    let mut searched: Vec<SearchedBus> = Vec::new();
    for number in numbers {
        let device = roots.dev.join(format!("i2c-{number}"));
        let left_out = match named {
            [] if searched.len() >= MAX_BUSES => Some(format!("more than {MAX_BUSES} buses")),
            [] => adapter::reason_to_leave_out(roots, number).map(str::to_string),
            _ => None,
        };
        let too_late = (started.elapsed() > SEARCH_TIMEOUT)
            .then(|| format!("the search has taken over {} s", SEARCH_TIMEOUT.as_secs()));
        let mut bus = SearchedBus {
            number,
            adapter: adapter::name(roots, number),
            answers: Vec::new(),
            error: None,
            device,
        };
        match left_out.or(too_late) {
            Some(why) => {
                let device = bus.device.display();
                bus.error = Some(format!(
                    "not asked: {why}; `--probe-i2c={device}` asks it nevertheless"
                ));
            }
            None => {
                let asked = ask(
                    buses(),
                    roots,
                    number,
                    configured.to_vec(),
                    &mut bus.answers,
                );
                bus.error = asked.err();
            }
        }
        let parents = adapter::parents(roots, number);
        leave_out_parents(&mut bus.answers, &parents, &searched);
        searched.push(bus);
    }
    searched
}

/// What answers on a multiplexer's bus also answers on each of its branches.
fn leave_out_parents(answers: &mut Vec<(u8, Answer)>, parents: &[u32], searched: &[SearchedBus]) {
    let parents = searched.iter().filter(|bus| parents.contains(&bus.number));
    let theirs: Vec<u8> = parents
        .flat_map(|bus| &bus.answers)
        .map(|(address, _)| *address)
        .collect();
    answers.retain(|(address, _)| !theirs.contains(address));
}

/// N of `/dev/i2c-N`, `i2c-N` or `N`.
pub fn bus_number(name: &OsStr) -> Option<u32> {
    let name = Path::new(name).file_name()?.to_str()?;
    name.strip_prefix("i2c-").unwrap_or(name).parse().ok()
}

/// The numbers of the buses that programs can use.
fn all_buses(roots: &Roots) -> Vec<u32> {
    let entries = std::fs::read_dir(&roots.dev).into_iter().flatten();
    let number = |name: &str| name.strip_prefix("i2c-")?.parse().ok();
    entries
        .filter_map(|entry| number(entry.ok()?.file_name().to_str()?))
        .collect()
}

/// Asks one bus, in a thread of its own, because a driver can hang. The answers until then are kept.
fn ask<B: Buses>(
    buses: B,
    roots: &Roots,
    number: u32,
    configured: Vec<(u32, u8)>,
    answers: &mut Vec<(u8, Answer)>,
) -> Result<(), String> {
    let roots = roots.clone();
    let (sender, receiver) = mpsc::sync_channel(ADDRESSES.len());
    let ask = move || ask_bus(&buses, &roots, number, &configured, &sender);
    let thread = std::thread::Builder::new().name("probe-i2c".to_string());
    let thread = thread
        .spawn(ask)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let deadline = Instant::now() + BUS_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(answer) => answers.push(answer),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = BUS_TIMEOUT.as_secs();
                return Err(format!("not all addresses were asked within {seconds} s"));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let asked = thread
        .join()
        .unwrap_or_else(|_| Err(Error::new("the search of this bus failed")));
    asked.map_err(|error| error.to_string())
}

fn ask_bus<B: Buses>(
    buses: &B,
    roots: &Roots,
    number: u32,
    configured: &[(u32, u8)],
    answers: &SyncSender<(u8, Answer)>,
) -> Result<(), Error> {
    let device = roots.dev.join(format!("i2c-{number}"));
    // Fails when nobody waits any more.
    let answer = |address, answer| {
        let _ = answers.send((address, answer));
    };
    for address in ADDRESSES {
        if configured.contains(&(number, address)) {
            answer(address, Answer::Configured);
            continue;
        }
        // A descriptor for each address, as a source has it.
        let mut bus = buses
            .open(&device)
            .map_err(|error| i2c::not_open(&device, &error))?;
        if let Err(error) = buses.claim(&mut bus, address) {
            match error.raw_os_error().map(E::from_raw) {
                Some(E::EBUSY) => {
                    let driver = i2c::driver(roots, number, address);
                    answer(address, Answer::Held(driver));
                    continue;
                }
                _ => return Err(Error::cannot("use", &device, &error)),
            }
        }
        let whom = || format!("{address:#04x} on {}", device.display());
        match identify(&mut bus, address) {
            Ok(Some(found)) => answer(address, found),
            Ok(None) => {}
            Err(errno) => return Err(i2c::transfer(errno, &whom(), number)),
        }
    }
    Ok(())
}

/// Whether this error of a transfer means that nobody answers, rather than that the bus is out of order.
fn is_nobody(errno: Option<i32>) -> bool {
    // EIO: some drivers do not say which.
    matches!(
        errno.map(E::from_raw),
        Some(E::ENXIO | E::EREMOTEIO | E::EIO)
    )
}

/// What is at this address; `None`: nobody. The error is the bus's.
fn identify<B: Bus>(bus: &mut B, address: u8) -> Result<Option<Answer>, Option<i32>> {
    let mut any = [0; 2];
    match bus.read(address, &mut any).map_err(|error| error.errno()) {
        Err(errno) if is_nobody(errno) => return Ok(None),
        Err(errno) => return Err(errno),
        Ok(()) => {}
    }
    let answer = match registers(bus, address) {
        Err(errno) if is_nobody(errno) => Answer::Stranger("it has no such registers".to_string()),
        Err(errno) => return Err(errno),
        Ok(answer) => answer,
    };
    Ok(Some(answer))
}

/// What the registers of a chip that answers say.
fn registers<B: Bus>(bus: &mut B, address: u8) -> Result<Answer, Option<i32>> {
    let mut says = String::new();
    for (manufacturer, die) in IDENTITIES {
        let manufacturer = word(bus, address, manufacturer)?;
        let die = word(bus, address, die)?;
        if let Some(kind) = identity::chip(manufacturer, die) {
            return Ok(Answer::Chip(kind));
        }
        says = identity::describe(manufacturer, die);
        if manufacturer == identity::TEXAS_INSTRUMENTS {
            return Ok(Answer::Stranger(says));
        }
    }
    let mut words = [0; 6];
    for (pointer, into) in (0..).zip(&mut words) {
        *into = u64::from(word(bus, address, pointer)?);
    }
    Ok(match ina219::is_possible(words) {
        true => Answer::PossiblyIna219,
        false => Answer::Stranger(says),
    })
}

/// A register of 16 bits, the higher byte first.
fn word<B: Bus>(bus: &mut B, address: u8, pointer: u8) -> Result<u16, Option<i32>> {
    let mut bytes = [0; 2];
    let read = bus.write_read(address, &[pointer], &mut bytes);
    read.map_err(|error| error.errno())?;
    Ok(u16::from_be_bytes(bytes))
}

/// An item of the list `chips` in a meter's section of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ChipSetting {
    /// `ina260` or `ina2xx`.
    pub section: &'static str,
    /// The item, as YAML in one line.
    pub item: String,
    /// What has to be looked at, if anything.
    pub note: &'static str,
}

impl Answer {
    /// What is at the address, for people.
    pub fn description(&self) -> String {
        match self {
            Answer::Chip(kind) => (*kind).to_string(),
            Answer::PossiblyIna219 => "possibly an INA219 or INA220, which have no identity \
                 register: be sure of it, since the source writes to the chip"
                .to_string(),
            Answer::Configured => "configured, so that its source asks it".to_string(),
            Answer::Held(Some(driver)) => format!("the kernel's driver {driver} has it"),
            Answer::Held(None) => "a driver of the kernel has it".to_string(),
            Answer::Stranger(says) => format!("no chip that is known here: {says}"),
        }
    }

    /// The model of `ina2xx`.
    fn model(&self) -> Option<&'static Model> {
        match self {
            Answer::Chip(kind) => Model::named(kind),
            Answer::PossiblyIna219 => Model::named("ina219"),
            _ => None,
        }
    }

    /// What is written into the configuration for a chip at this place: one of these.
    pub fn settings(&self, bus: u32, address: u8) -> Vec<ChipSetting> {
        let Some(model) = self.model() else {
            return match self {
                Answer::Chip(_) => vec![ChipSetting {
                    section: ina260::settings::Settings::SECTION,
                    item: format!("{{i2c_bus: {bus}, i2c_address: {address:#04x}}}"),
                    note: "",
                }],
                _ => Vec::new(),
            };
        };
        let setting = |item, note| ChipSetting {
            section: ina2xx::settings::Settings::SECTION,
            item,
            note,
        };
        let name = model.name;
        let shunt = match model.has_channels() {
            true => "channels: [{channel: 1, shunt_ohms: 0.1}]",
            false => "shunt_ohms: 0.1",
        };
        let item = format!("{{model: {name}, bus: {bus}, address: {address:#04x}, {shunt}}}");
        let mut settings = vec![setting(
            item,
            "with the shunt that is on its board (R100: 0.1)",
        )];
        let is_it = |board: &&KnownBoard| (board.model, board.address) == (name, address);
        settings.extend(BOARDS.iter().filter(is_it).map(|board| {
            let item = format!("{{board: {}, bus: {bus}}}", board.name);
            setting(item, "if it is that one")
        }));
        settings
    }

    /// How the kernel's own driver is bound to a chip at this place, where that is better.
    pub fn kernel_driver(&self, bus: u32, address: u8) -> Option<String> {
        let model = self.model()?;
        Some(ina2xx::kernel_driver(model.name, bus, address))
    }
}
