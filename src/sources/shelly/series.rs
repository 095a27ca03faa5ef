//! The series of a device: those of its channels, and the board's total.

use std::sync::Arc;

use super::channel::{ChannelSeries, Place};
use super::status::{Channel, MAX_CHANNELS};
use crate::metrics::{Desc, Grade, Group, Readings, SeriesId, Total as BoardTotal};

/// The series of one device.
pub(super) struct DeviceSeries {
    group: Arc<Group>,
    device: String,
    channels: Vec<ChannelSeries>,
    /// The number of channels left out since [`DeviceSeries::take_left_out`] was last called.
    left_out: u64,
    total: Option<Total>,
}

/// The series of a board that is fed by the plug.
struct Total {
    switch_id: u32,
    board: BoardTotal,
    volts: SeriesId,
    amperes: SeriesId,
}

impl DeviceSeries {
    /// The series of a device. `switch_id`: the switch that feeds the board, if one does.
    pub(super) fn new(group: &Arc<Group>, device: &str, switch_id: Option<u32>) -> DeviceSeries {
        let total = switch_id.map(|switch_id| {
            let register = |name: &'static str, help: &'static str| {
                group.series(&Desc::gauge(name, help).single(), &[])
            };
            Total {
                switch_id,
                board: BoardTotal::new(group, Grade::Configured),
                volts: register(
                    "power_voltage_volts",
                    "Voltage that the whole board is supplied with, in volts.",
                ),
                amperes: register(
                    "power_current_amps",
                    "Current that the whole board draws, in amperes.",
                ),
            }
        });
        DeviceSeries {
            group: Arc::clone(group),
            device: device.to_string(),
            channels: Vec::new(),
            left_out: 0,
            total,
        }
    }

    /// Forgets the counters of the channels, since another device has the plug's address now.
    pub(super) fn forget_counters(&mut self) {
        self.channels.clear();
    }

    /// The number of channels left out since the last call because there are too many.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// Sets all values of these channels. Returns false if the switch that feeds the board is not among them.
    pub(super) fn set(&mut self, out: &mut Readings, channels: &[Channel]) -> bool {
        for channel in channels {
            let place = self
                .channels
                .iter()
                .position(|known| known.name() == channel.name);
            let place = match place {
                Some(place) => place,
                // Keeps a device that reports ever new names from using more and more memory.
                None if self.channels.len() >= 2 * MAX_CHANNELS => {
                    self.left_out += 1;
                    continue;
                }
                None => {
                    self.channels.push(ChannelSeries::new(&channel.name));
                    self.channels.len() - 1
                }
            };
            if let Some(series) = self.channels.get_mut(place) {
                let mut at = Place {
                    group: &self.group,
                    device: &self.device,
                    out: &mut *out,
                };
                series.set(&mut at, channel);
            }
        }
        let Some(total) = &mut self.total else {
            return true;
        };
        match the_switch(channels, total.switch_id) {
            None => false,
            Some(channel) => {
                let series = self.channels.iter().find(|s| s.name() == channel.name);
                match (series.and_then(ChannelSeries::counted), channel.watts) {
                    (Some(joules), watts) => total.board.set_counted(out, watts, joules),
                    (None, Some(watts)) => total.board.set_watts(out, watts),
                    (None, None) => {}
                }
                for (id, value) in [
                    (total.volts, channel.volts),
                    (total.amperes, channel.amperes),
                ] {
                    if let Some(value) = value {
                        out.set(id, value);
                    }
                }
                true
            }
        }
    }
}

/// The switch with this number. On a device that only measures, the meter with this number.
fn the_switch(channels: &[Channel], id: u32) -> Option<&Channel> {
    const KINDS: &[&str] = &[
        "switch", "meter", "pm1", "em", "em1", "emeter", "cover", "light", "cct", "rgb", "rgbw",
        "rgbcct",
    ];
    let mut names = KINDS.iter().map(|kind| format!("{kind}:{id}"));
    names.find_map(|name| {
        channels
            .iter()
            .find(|c| c.name == name && c.watts.is_some())
    })
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
