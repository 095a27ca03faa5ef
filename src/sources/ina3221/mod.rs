//! A Jetson's own power monitors, INA3221 and INA238, by the kernel's drivers (their files: `layout`): the same rails with the
//! same names as tegrastats', without a second process.
//!
//! It is preferred to tegrastats wherever it can be read, unless `jetson: {use_tegrastats: true}`. Power is the driver's,
//! or else voltage times current. tegrastats has no voltage and current. The source is called `ina3221`, also
//! for an INA238.

mod layout;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use layout::{Channel, Chip};

use super::io_log::files;
use super::jetson::{self, is_jetson, PowerRail, Settings};
use super::sysfs::Gauge;
use super::{Attribute, Board, Claims, Context, Error, Health, Meter, Source};
use crate::config::{Config, Switch};
use crate::metrics::{common, Grade, Readings, SeriesId, Total};

/// The meter.
pub(super) const METER: Meter = Meter {
    claims: Some(claims),
    ..Meter::of::<Settings>(
        "ina3221",
        "NVIDIA Jetson: power, voltage and current by rail, from the kernel's driver",
        switch,
        probe,
        open,
    )
};

const HINT: &str = "run as root, or let jetson.use_tegrastats read the power";

/// Not every Jetson has these chips: with `enabled: true`, tegrastats reports what is missing.
fn switch(config: &Config) -> Switch {
    let jetson: Settings = config.meter();
    match jetson.enabled {
        Switch::Off => Switch::Off,
        _ if jetson.use_tegrastats => Switch::Off,
        _ => Switch::Auto,
    }
}

/// The board's chips, if it is a Jetson.
fn find(health: &Arc<Health>, board: &Board, config: &Config) -> Vec<Chip> {
    if is_jetson(board, config) {
        layout::chips(health, &board.roots.sysfs)
    } else {
        Vec::new()
    }
}

/// The chips' devices.
pub(super) fn devices(board: &Board, config: &Config) -> Vec<PathBuf> {
    let chips = find(&board.health(), board, config);
    chips.into_iter().map(|chip| chip.device).collect()
}

fn rails(chip: &Chip) -> impl Iterator<Item = &str> {
    chip.channels.iter().map(|channel| channel.rail.as_str())
}

fn no_chip_error(board: &Board) -> Error {
    let drivers = board.roots.sysfs.join("bus/i2c/drivers");
    Error::new(format!(
        "{} has no INA3221 or INA238 of a Jetson",
        drivers.display()
    ))
}

fn probe(board: &Board, config: &Config) -> Result<String, Error> {
    let chips = find(&board.health(), board, config);
    if chips.is_empty() {
        return Err(no_chip_error(board));
    }
    for channel in chips.iter().flat_map(|chip| &chip.channels) {
        may_be_read(board, &channel.voltage)?;
        may_be_read(board, &channel.current)?;
    }
    let shown = |chip: &Chip| {
        let address = chip.device.file_name().unwrap_or_default();
        let rails: Vec<_> = rails(chip).collect();
        format!("{} ({})", address.to_string_lossy(), rails.join(", "))
    };
    let chips: Vec<_> = chips.iter().map(shown).collect();
    Ok(format!("chips: {}", chips.join(", ")))
}

fn may_be_read(board: &Board, path: &Path) -> Result<(), Error> {
    files::may_be_read(&board.io_log, path)
        .map_err(|error| Error::cannot("read", path, &error).hint_if_denied(HINT))
}

fn claims(board: &Board, config: &Config) -> Claims {
    let chips = find(&board.health(), board, config);
    Claims {
        rails: chips.iter().flat_map(rails).map(str::to_string).collect(),
        devices: chips.into_iter().map(|chip| chip.device).collect(),
    }
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let mut source = Ina3221 {
        context: context.clone(),
        chips: Vec::new(),
        rails: Vec::new(),
        total: None,
        gpu: None,
    };
    let Context {
        health,
        board,
        config,
        ..
    } = context;
    source.update(find(health, board, config));
    if source.rails.is_empty() {
        return Err(no_chip_error(board));
    }
    Ok(Box::new(source))
}

struct Ina3221 {
    context: Context,
    /// The chips as they were found.
    chips: Vec<Chip>,
    rails: Vec<RailSource>,
    /// Present if the rails include those of the board's total.
    total: Option<Total>,
    gpu: Option<SeriesId>,
}

struct RailSource {
    name: String,
    voltage: Gauge,
    current: Gauge,
    power: Option<(Attribute, f64)>,
    series: PowerRail,
    /// The power at this poll.
    microwatts: Option<f64>,
}

impl Ina3221 {
    fn update(&mut self, chips: Vec<Chip>) {
        let group = &self.context.group;
        let channels = chips.iter().flat_map(|chip| &chip.channels);
        self.rails = channels
            .map(|channel| RailSource::new(&self.context, channel))
            .collect();
        let has = |name: &str| self.rails.iter().any(|r| r.name == name).then_some(0.0);
        // The former rails may have had a total.
        group.claim_total(None);
        self.total = jetson::total(has).map(|_| Total::new(group, Grade::Input));
        self.gpu = jetson::gpu(has).map(|_| group.series(&common::power_gpu(), &[]));
        self.chips = chips;
    }
}

impl RailSource {
    fn new(context: &Context, channel: &Channel) -> RailSource {
        let Context { group, health, .. } = context;
        let rail = channel.rail.as_str();
        let attribute = |path: &PathBuf| Attribute::new(health, path).with_hint(HINT);
        let gauge = |path, desc| {
            let series = common::rail_series(group, &desc, rail);
            Gauge::new(attribute(path), series, 1e3)
        };
        RailSource {
            name: rail.to_string(),
            voltage: gauge(&channel.voltage, common::voltage_volts()),
            current: gauge(&channel.current, common::current_amperes()),
            power: channel
                .power
                .as_ref()
                .map(|(path, microwatts)| (attribute(path), f64::from(*microwatts))),
            series: PowerRail::new(group, rail),
            microwatts: None,
        }
    }

    fn poll(&mut self, out: &mut Readings) {
        let millivolts = self.voltage.poll(out);
        let milliamperes = self.current.poll(out);
        let microwatts = match &mut self.power {
            Some((power, unit)) => power.read().map(|n| n as f64 * *unit),
            None => millivolts.zip(milliamperes).map(|(v, i)| v * i),
        };
        self.microwatts = microwatts.filter(|w| self.series.set(out, w / 1e6).is_some());
    }
}

impl Source for Ina3221 {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        for rail in &mut self.rails {
            rail.poll(out);
        }
        let microwatts = |name: &str| {
            let rail = self.rails.iter().find(|rail| rail.name == name)?;
            rail.microwatts
        };
        if let Some((total, microwatts)) = self.total.as_mut().zip(jetson::total(microwatts)) {
            total.set_watts(out, microwatts / 1e6);
        }
        if let Some((id, gpu)) = self.gpu.zip(jetson::gpu(microwatts)) {
            out.set(id, gpu / 1e6);
        }
        Ok(())
    }

    /// A driver that is bound again has its files in another folder.
    fn rescan(&mut self) {
        let chips = layout::chips(&self.context.health, &self.context.board.roots.sysfs);
        if !chips.is_empty() && chips != self.chips {
            self.update(chips);
        }
    }
}

#[cfg(test)]
mod tests;
