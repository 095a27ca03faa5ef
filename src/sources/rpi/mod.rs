//! Raspberry Pi: what its firmware measures and says.
//!
//! * **The PMIC of a Raspberry Pi 5** (Compute Module 5, 500), asked through the mailbox `<dev>/vcio` as
//!   `vcgencmd pmic_read_adc` asks it. A rail's power is its voltage times its current. Of the 5 V input (`EXT5V`) and the
//!   clock's battery (`BATT`) it measures the voltage alone.
//! * **The board's total** is the sum of those rails: what the PMIC delivers. In it are neither the PMIC's own losses nor
//!   what is fed from the 5 V input directly: USB peripherals, fan, HATs. A meter at the input knows better, and is
//!   preferred.
//! * **The flags of every Raspberry Pi**: too little voltage, capped, throttled, hot; now, and since boot. They are read
//!   from `<sysfs>/devices/platform/soc/soc:firmware/get_throttled` where the kernel has it, else asked of the mailbox: by
//!   the command `get_throttled`, or by the tag GET_THROTTLED where the firmware takes no commands. That one comes second
//!   because the kernel's driver `rpi_volt` keeps clearing what it says about the time since boot. Without a mailbox, there
//!   is that driver's alarm in hwmon, which tells of too little voltage alone.

mod flags;
mod logged;
mod mailbox;
mod settings;
pub mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flags::Flags;
use mailbox::{gencmd, Mailbox, Vcio};
use settings::Settings;

use super::io_log::files;
use super::sysfs::{entries, read_name};
use super::{Attribute, Board, Context, Error, Health, Meter, Pace, Source};
use crate::config::{Config, SectionSpec};
use crate::metrics::{common, Grade, Rail, Readings, SeriesId, Total};

/// The meter.
pub(super) const METER: Meter = Meter {
    name: "rpi",
    summary: "Raspberry Pi: the PMIC's rails (Pi 5), under-voltage and throttling",
    device_types: &[],
    pace: Pace::Interval,
    section: SectionSpec::of::<Settings>(),
    switch: |config| config.meter::<Settings>().enabled,
    devices: None,
    probe,
    claims: None,
    open: |context| {
        open(context, |health, path| {
            Ok(Box::new(Vcio::open(health, path)?))
        })
    },
};

const HINT: &str = "add the user to the group video, or run as root";
/// No PMIC has more rails: names beyond that are made up.
const MOST_RAILS: usize = 64;

/// Newer kernels have a device for commands alone.
fn devices(board: &Board) -> [PathBuf; 2] {
    ["vcio_gencmd", "vcio"].map(|name| board.roots.dev.join(name))
}

fn get_throttled(board: &Board) -> PathBuf {
    let dir = "devices/platform/soc/soc:firmware/get_throttled";
    board.roots.sysfs.join(dir)
}

/// The alarm of the kernel's driver.
fn alarm(health: &Arc<Health>, board: &Board) -> Option<PathBuf> {
    let class = board.roots.sysfs.join("class/hwmon");
    let chips = entries(health, &class).ok()?.into_iter();
    chips
        .map(|chip| class.join(chip))
        .find(|chip| read_name(health, &chip.join("name")).as_deref() == Some("rpi_volt"))
        .map(|chip| chip.join("in0_lcrit_alarm"))
}

fn probe(board: &Board, _: &Config) -> Result<String, Error> {
    let flags = get_throttled(board);
    let found = [Some(flags.clone()), alarm(&board.health(), board)];
    let found: Vec<_> = devices(board)
        .into_iter()
        .chain(found.into_iter().flatten())
        .filter(|path| files::exists(&board.io_log, path))
        .map(|path| path.display().to_string())
        .collect();
    if found.is_empty() {
        return Err(Error::new(format!(
            "there is no {}, no {} and no hwmon chip rpi_volt",
            board.roots.dev.join("vcio").display(),
            flags.display()
        )));
    }
    Ok(found.join(", "))
}

/// How a mailbox is opened.
type Open = fn(&Arc<Health>, &Path) -> Result<Box<dyn Mailbox>, Error>;

fn open(context: &Context, mailbox_at: Open) -> Result<Box<dyn Source>, Error> {
    let Context { board, health, .. } = context;
    let mut mailbox = None;
    let mut refused = None;
    let io_log = health.io_log();
    for path in devices(board)
        .iter()
        .filter(|path| files::exists(io_log, path))
    {
        match logged::open(health, path, mailbox_at) {
            Ok(opened) => {
                health.set_value_error(path, None);
                mailbox = Some(opened);
                break;
            }
            Err(error) => {
                let error = error.hint_if_denied(HINT);
                health.set_value_error(path, Some(error.to_string()));
                refused = Some(error);
            }
        }
    }
    if let (Some(error), None) = (refused, &mailbox) {
        if ways_to_flags(context, false).is_empty() {
            return Err(error);
        }
        log::warn!("{error}");
    }
    Ok(Box::new(Rpi::new(context, mailbox)))
}

/// A way to the flags.
enum Way {
    /// All of them, in hexadecimal.
    Sysfs(Attribute),
    Command,
    Tag,
    /// Too little voltage, 0 or 1.
    Alarm(Attribute),
}

/// The ways that there may be, the best first.
fn ways_to_flags(context: &Context, has_mailbox: bool) -> Vec<Way> {
    let Context { board, health, .. } = context;
    let file = Some(get_throttled(board)).filter(|path| files::exists(health.io_log(), path));
    let file = file.map(|path| Way::Sysfs(Attribute::new(health, path)));
    let alarm = alarm(health, board).map(|path| Way::Alarm(Attribute::new(health, path)));
    let mailbox = has_mailbox.then_some([Way::Command, Way::Tag]);
    let ways = file.into_iter().chain(mailbox.into_iter().flatten());
    ways.chain(alarm).collect()
}

struct Rpi {
    context: Context,
    mailbox: Option<Box<dyn Mailbox>>,
    flags: Flags,
    /// The first is the one in use.
    ways: Vec<Way>,
    /// Whether that one is known to lead there.
    has_flags: bool,
    /// Whether it may have a PMIC that measures.
    has_pmic: bool,
    rails: Vec<RailSeries>,
    /// There from when a rail's power is known.
    total: Option<Total>,
}

struct RailSeries {
    name: String,
    volts: Option<SeriesId>,
    amperes: Option<SeriesId>,
    power: Option<Rail>,
    /// Whether its power was read in this poll.
    read: bool,
}

impl Rpi {
    fn new(context: &Context, mailbox: Option<Box<dyn Mailbox>>) -> Rpi {
        Rpi {
            flags: Flags::new(),
            ways: ways_to_flags(context, mailbox.is_some()),
            has_flags: false,
            has_pmic: mailbox.is_some(),
            mailbox,
            rails: Vec::new(),
            total: None,
            context: context.clone(),
        }
    }

    fn poll_flags(&mut self, out: &mut Readings) -> Result<(), Error> {
        const ALL: u32 = 0x000f_000f;
        const UNDER_VOLTAGE: u32 = 1;
        loop {
            let (flags, known) = match (self.ways.first_mut(), &mut self.mailbox) {
                (Some(Way::Sysfs(file)), _) => {
                    let flags = file.read_as("flags in hexadecimal", text::hexadecimal);
                    let Some(flags) = flags else { return Ok(()) };
                    (Some(flags), ALL)
                }
                (Some(Way::Alarm(file)), _) => {
                    let Some(alarm) = file.read() else {
                        return Ok(());
                    };
                    (Some(u32::from(alarm != 0)), UNDER_VOLTAGE)
                }
                (Some(Way::Command), Some(mailbox)) => {
                    let said = gencmd(&mut **mailbox, "get_throttled")?;
                    (said.as_deref().and_then(text::throttled), ALL)
                }
                (Some(Way::Tag), Some(mailbox)) => (mailbox::throttled(&mut **mailbox)?, ALL),
                (_, _) => return Ok(()),
            };
            if let Some(flags) = flags {
                self.flags.set(&self.context.group, out, flags, known);
                self.has_flags = true;
                return Ok(());
            }
            if self.has_flags {
                return Err(Error::new("the firmware no longer tells its flags"));
            }
            self.ways.remove(0);
        }
    }

    fn poll_pmic(&mut self, out: &mut Readings) -> Result<(), Error> {
        let Some(mailbox) = self.mailbox.as_mut().filter(|_| self.has_pmic) else {
            return Ok(());
        };
        let said = gencmd(&mut **mailbox, "pmic_read_adc")?.unwrap_or_default();
        let adc = text::adc(&said);
        if adc.rails.is_empty() {
            // Only a Raspberry Pi 5 knows the command.
            self.has_pmic = !self.rails.is_empty();
            return match self.has_pmic {
                true => Err(Error::new(
                    "the firmware no longer tells what the PMIC measures",
                )),
                false => Ok(()),
            };
        }
        self.context.health.count_unparsed(adc.unparsed);
        self.context.health.left_out("rails", adc.beyond, || {
            format!("the PMIC has more than {MOST_RAILS} rails")
        });
        let mut sum = 0.0;
        self.rails.iter_mut().for_each(|rail| rail.read = false);
        for measured in &adc.rails {
            if let Some(rail) = self.rail(measured) {
                sum += rail.set(out, measured).unwrap_or_default();
            }
        }
        let with_power = || self.rails.iter().filter(|rail| rail.power.is_some());
        if with_power().next().is_some() && with_power().all(|rail| rail.read) {
            let group = &self.context.group;
            let total = self
                .total
                .get_or_insert_with(|| Total::new(group, Grade::Parts));
            total.watts(out, sum);
            total.parts(out, sum);
        }
        Ok(())
    }

    /// The rail's series, made for what is measured of it. `None`: there are too many.
    fn rail(&mut self, measured: &text::Rail<'_>) -> Option<&mut RailSeries> {
        let place = self.rails.iter().position(|r| r.name == measured.name);
        let place = match place {
            Some(place) => place,
            None if self.rails.len() < MOST_RAILS => {
                self.rails.push(RailSeries {
                    name: measured.name.to_string(),
                    volts: None,
                    amperes: None,
                    power: None,
                    read: false,
                });
                self.rails.len() - 1
            }
            None => {
                let health = &self.context.health;
                health.left_out("rails", 1, || {
                    format!("the PMIC has had more than {MOST_RAILS} rails")
                });
                return None;
            }
        };
        let group = &self.context.group;
        let rail = self.rails.get_mut(place)?;
        let name = measured.name;
        if measured.volts.is_some() {
            let desc = common::voltage_volts();
            rail.volts
                .get_or_insert_with(|| common::of_rail(group, &desc, name));
        }
        if measured.amperes.is_some() {
            let desc = common::current_amperes();
            rail.amperes
                .get_or_insert_with(|| common::of_rail(group, &desc, name));
        }
        if measured.watts().is_some() {
            rail.power.get_or_insert_with(|| Rail::new(group, name));
        }
        Some(rail)
    }
}

impl RailSeries {
    /// Sets what is plausible; the power, if it is.
    fn set(&mut self, out: &mut Readings, measured: &text::Rail<'_>) -> Option<f64> {
        let mut take = |series: Option<SeriesId>, value| {
            let (id, value) = series.zip(value)?;
            out.take(id, value)
        };
        let volts = take(self.volts, measured.volts);
        let watts = take(self.amperes, measured.amperes)? * volts?;
        let watts = self.power.as_mut()?.watts(out, watts)?;
        self.read = true;
        Some(watts)
    }
}

impl Source for Rpi {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let flags = self.poll_flags(out);
        let pmic = self.poll_pmic(out);
        let Err(error) = flags.and(pmic) else {
            return Ok(());
        };
        if out.is_empty() {
            return Err(error.hint_if_denied(HINT));
        }
        log::debug!("{error}");
        self.context.health.count_error();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
