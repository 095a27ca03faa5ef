//! Raspberry Pi: the measurements and flags of its firmware.
//!
//! * **The PMIC of a Raspberry Pi 5** (Compute Module 5, 500), asked through the mailbox `<dev>/vcio` as
//!   `vcgencmd pmic_read_adc` asks it. A rail's power is its voltage times its current. Of the 5 V input (`EXT5V`) and the
//!   clock's battery (`BATT`) it measures the voltage alone.
//! * **The board's total** is the sum of those rails: the PMIC's output. It includes neither the PMIC's own losses nor
//!   consumers on the 5 V input: USB peripherals, fan, HATs. A meter at the input is more accurate and is preferred.
//! * **The flags of every Raspberry Pi**: too little voltage, capped, throttled, hot; now, and since boot. They are read
//!   from `<sysfs>/devices/platform/soc/soc:firmware/get_throttled` where the kernel has it, else by way of the mailbox: by
//!   the command `get_throttled`, or by the tag GET_THROTTLED where the firmware accepts no commands. The tag is the second
//!   choice because the kernel's driver `rpi_volt` keeps clearing its flags about the time since boot. Without a mailbox,
//!   that driver's alarm in hwmon is read, which reports under-voltage alone.

mod flags;
mod logged;
mod mailbox;
pub mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flags::Flags;
use mailbox::{gencmd, Mailbox, Vcio};

use serde::Serialize;

use super::io_log::files;
use super::sysfs::{entries, read_name};
use super::{Attribute, Board, Context, Error, Health, Meter, Source};
use crate::config::section::{Problem, Section};
use crate::config::{values, Config, MeterSettings, Switch};
use crate::metrics::{common, Grade, Rail, Readings, SeriesId, Total};

/// The meter.
pub(super) const METER: Meter = Meter::of::<Settings>(
    "rpi",
    "Raspberry Pi: the PMIC's rails (Pi 5), under-voltage and throttling",
    |config| config.meter::<Settings>().enabled,
    probe,
    |context| {
        open(context, |health, path| {
            Ok(Box::new(Vcio::open(health, path)?))
        })
    },
);

/// `rpi:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Settings {
    /// Whether the source runs.
    pub enabled: Switch,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "rpi";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        Ok(settings)
    }
}

const DENIED_HINT: &str = "add the user to the group video, or run as root";
/// More rails than any PMIC has.
const MAX_RAILS: usize = 64;

/// The mailbox devices. Newer kernels have one for commands alone.
fn devices(board: &Board) -> [PathBuf; 2] {
    ["vcio_gencmd", "vcio"].map(|name| board.roots.dev.join(name))
}

fn get_throttled(board: &Board) -> PathBuf {
    let dir = "devices/platform/soc/soc:firmware/get_throttled";
    board.roots.sysfs.join(dir)
}

/// The alarm of the kernel's driver `rpi_volt`.
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

/// Opens the mailbox at a path.
type OpenMailbox = fn(&Arc<Health>, &Path) -> Result<Box<dyn Mailbox>, Error>;

fn open(context: &Context, open_mailbox: OpenMailbox) -> Result<Box<dyn Source>, Error> {
    let Context { board, health, .. } = context;
    let mut mailbox = None;
    let mut refused = None;
    let io_log = health.io_log();
    for path in devices(board)
        .iter()
        .filter(|path| files::exists(io_log, path))
    {
        match logged::open(health, path, open_mailbox) {
            Ok(opened) => {
                health.set_value_error(path, None);
                mailbox = Some(opened);
                break;
            }
            Err(error) => {
                let error = error.hint_if_denied(DENIED_HINT);
                health.set_value_error(path, Some(error.to_string()));
                refused = Some(error);
            }
        }
    }
    if let (Some(error), None) = (refused, &mailbox) {
        if flags_sources(context, false).is_empty() {
            return Err(error);
        }
        log::warn!("{error}");
    }
    Ok(Box::new(Rpi::new(context, mailbox)))
}

/// A source of the flags.
enum FlagsSource {
    /// All flags, in hexadecimal.
    Sysfs(Attribute),
    Command,
    Tag,
    /// Under-voltage alone, 0 or 1.
    Alarm(Attribute),
}

/// The possible sources of the flags, the best first.
fn flags_sources(context: &Context, has_mailbox: bool) -> Vec<FlagsSource> {
    let Context { board, health, .. } = context;
    let file = Some(get_throttled(board)).filter(|path| files::exists(health.io_log(), path));
    let file = file.map(|path| FlagsSource::Sysfs(Attribute::new(health, path)));
    let alarm = alarm(health, board).map(|path| FlagsSource::Alarm(Attribute::new(health, path)));
    let mailbox = has_mailbox.then_some([FlagsSource::Command, FlagsSource::Tag]);
    let ways = file.into_iter().chain(mailbox.into_iter().flatten());
    ways.chain(alarm).collect()
}

struct Rpi {
    context: Context,
    mailbox: Option<Box<dyn Mailbox>>,
    flags: Flags,
    /// The first is the one in use.
    flags_sources: Vec<FlagsSource>,
    /// Whether the source in use has supplied flags.
    has_flags: bool,
    /// Whether the board may have a PMIC that measures.
    has_pmic: bool,
    rails: Vec<RailSeries>,
    /// Present once a rail's power is known.
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
            flags_sources: flags_sources(context, mailbox.is_some()),
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
            let (flags, known) = match (self.flags_sources.first_mut(), &mut self.mailbox) {
                (Some(FlagsSource::Sysfs(file)), _) => {
                    let flags = file.read_as("flags in hexadecimal", text::hexadecimal);
                    let Some(flags) = flags else { return Ok(()) };
                    (Some(flags), ALL)
                }
                (Some(FlagsSource::Alarm(file)), _) => {
                    let Some(alarm) = file.read() else {
                        return Ok(());
                    };
                    (Some(u32::from(alarm != 0)), UNDER_VOLTAGE)
                }
                (Some(FlagsSource::Command), Some(mailbox)) => {
                    let answer = gencmd(&mut **mailbox, "get_throttled")?;
                    (answer.as_deref().and_then(text::throttled), ALL)
                }
                (Some(FlagsSource::Tag), Some(mailbox)) => {
                    (mailbox::throttled(&mut **mailbox)?, ALL)
                }
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
            self.flags_sources.remove(0);
        }
    }

    fn poll_pmic(&mut self, out: &mut Readings) -> Result<(), Error> {
        let Some(mailbox) = self.mailbox.as_mut().filter(|_| self.has_pmic) else {
            return Ok(());
        };
        let answer = gencmd(&mut **mailbox, "pmic_read_adc")?.unwrap_or_default();
        let adc = text::adc(&answer);
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
            format!("the PMIC has more than {MAX_RAILS} rails")
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
            total.set_watts(out, sum);
            total.set_parts(out, sum);
        }
        Ok(())
    }

    /// The rail's series, registered for what is measured of it. `None` if there are too many rails.
    fn rail(&mut self, measured: &text::Rail<'_>) -> Option<&mut RailSeries> {
        let place = self.rails.iter().position(|r| r.name == measured.name);
        let place = match place {
            Some(place) => place,
            None if self.rails.len() < MAX_RAILS => {
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
                    format!("the PMIC has had more than {MAX_RAILS} rails")
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
                .get_or_insert_with(|| common::rail_series(group, &desc, name));
        }
        if measured.amperes.is_some() {
            let desc = common::current_amperes();
            rail.amperes
                .get_or_insert_with(|| common::rail_series(group, &desc, name));
        }
        if measured.watts().is_some() {
            rail.power.get_or_insert_with(|| Rail::new(group, name));
        }
        Some(rail)
    }
}

impl RailSeries {
    /// Sets the plausible values. Returns the power, if it is plausible.
    fn set(&mut self, out: &mut Readings, measured: &text::Rail<'_>) -> Option<f64> {
        let mut take = |series: Option<SeriesId>, value| {
            let (id, value) = series.zip(value)?;
            out.try_set(id, value)
        };
        let volts = take(self.volts, measured.volts);
        let watts = take(self.amperes, measured.amperes)? * volts?;
        let watts = self.power.as_mut()?.set_watts(out, watts)?;
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
            return Err(error.hint_if_denied(DENIED_HINT));
        }
        log::debug!("{error}");
        self.context.health.count_error();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
