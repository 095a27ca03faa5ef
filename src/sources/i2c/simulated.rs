//! Simulated chips behind embedded-hal's traits, on buses that fail as a test requests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, Operation};

use super::bus::{Buses, Errno};

/// A simulated chip, as it is spoken to.
pub(in crate::sources) trait SimulatedChip: Clone + Send + 'static {
    /// Takes the register's pointer, and what is written to it.
    fn write(&mut self, bytes: &[u8]);

    /// Gives the register at the pointer.
    fn read(&mut self, bytes: &mut [u8]);
}

/// A bus error with an error number.
#[derive(Debug, Clone, Copy)]
pub(in crate::sources) struct Failure(i32);

impl embedded_hal::i2c::Error for Failure {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl Errno for Failure {
    fn errno(&self) -> Option<i32> {
        Some(self.0)
    }
}

/// The chips on the buses, by bus and address, and the faults to simulate.
pub(in crate::sources) struct Wiring<C> {
    pub(in crate::sources) chips: BTreeMap<(u32, u8), C>,
    /// Addresses that a kernel driver uses.
    pub(in crate::sources) held: Vec<(u32, u8)>,
    /// Error numbers of the next transfers to an address.
    pub(in crate::sources) failures: BTreeMap<(u32, u8), VecDeque<i32>>,
    /// The error number of every transfer on a bus.
    pub(in crate::sources) broken: BTreeMap<u32, i32>,
    /// The error number of opening a bus.
    pub(in crate::sources) closed: BTreeMap<u32, i32>,
    /// Buses whose transfers hang.
    pub(in crate::sources) hanging: BTreeSet<u32>,
    /// How often a bus was opened.
    pub(in crate::sources) opened: u32,
}

impl<C> Default for Wiring<C> {
    fn default() -> Wiring<C> {
        Wiring {
            chips: BTreeMap::new(),
            held: Vec::new(),
            failures: BTreeMap::new(),
            broken: BTreeMap::new(),
            closed: BTreeMap::new(),
            hanging: BTreeSet::new(),
            opened: 0,
        }
    }
}

/// Buses that a test can look at and disturb while they are read.
pub(in crate::sources) struct SimulatedBuses<C>(Arc<Mutex<Wiring<C>>>);

impl<C> Clone for SimulatedBuses<C> {
    fn clone(&self) -> SimulatedBuses<C> {
        SimulatedBuses(Arc::clone(&self.0))
    }
}

impl<C> Default for SimulatedBuses<C> {
    fn default() -> SimulatedBuses<C> {
        SimulatedBuses(Arc::default())
    }
}

impl<C: SimulatedChip> SimulatedBuses<C> {
    pub(in crate::sources) fn with(chips: &[(u32, u8, C)]) -> SimulatedBuses<C> {
        let buses = SimulatedBuses::default();
        for (bus, address, chip) in chips {
            buses.wiring().chips.insert((*bus, *address), chip.clone());
        }
        buses
    }

    pub(in crate::sources) fn wiring(&self) -> MutexGuard<'_, Wiring<C>> {
        self.0.lock().unwrap()
    }

    /// Accesses the chip at this address.
    pub(in crate::sources) fn chip<T>(
        &self,
        bus: u32,
        address: u8,
        act: impl FnOnce(&mut C) -> T,
    ) -> T {
        act(self.wiring().chips.get_mut(&(bus, address)).unwrap())
    }
}

impl<C: SimulatedChip> Buses for SimulatedBuses<C> {
    type Bus = Bus<C>;

    fn open(&self, path: &Path) -> io::Result<Bus<C>> {
        let name = path.file_name().unwrap().to_str().unwrap();
        let number = name.strip_prefix("i2c-").unwrap().parse().unwrap();
        let mut wiring = self.wiring();
        wiring.opened += 1;
        match wiring.closed.get(&number) {
            Some(error) => Err(io::Error::from_raw_os_error(*error)),
            None => Ok(Bus {
                number,
                buses: self.clone(),
            }),
        }
    }

    fn claim(&self, bus: &mut Bus<C>, address: u8) -> io::Result<()> {
        if self.wiring().held.contains(&(bus.number, address)) {
            return Err(io::Error::from_raw_os_error(nix::libc::EBUSY));
        }
        Ok(())
    }
}

/// One bus.
pub(in crate::sources) struct Bus<C> {
    number: u32,
    buses: SimulatedBuses<C>,
}

impl<C> ErrorType for Bus<C> {
    type Error = Failure;
}

impl<C: SimulatedChip> I2c for Bus<C> {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), Failure> {
        while self.buses.wiring().hanging.contains(&self.number) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut wiring = self.buses.wiring();
        let place = (self.number, address);
        if let Some(number) = wiring.broken.get(&self.number) {
            return Err(Failure(*number));
        }
        let failures = wiring.failures.get_mut(&place);
        if let Some(number) = failures.and_then(VecDeque::pop_front) {
            return Err(Failure(number));
        }
        let chip = wiring.chips.get_mut(&place);
        let chip = chip.ok_or(Failure(nix::libc::EREMOTEIO))?;
        for operation in operations {
            match operation {
                Operation::Write(bytes) => chip.write(bytes),
                Operation::Read(bytes) => chip.read(bytes),
            }
        }
        Ok(())
    }
}
