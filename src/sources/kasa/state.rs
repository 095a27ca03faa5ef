//! What is kept of a plug or strip between two polls, whichever protocol it is read by.

use super::answer::{Identity, MAX_SOCKETS};
use super::settings::Plug;
use crate::metrics::Readings;
use crate::sources::json::{DeviceSeries, RailReading};
use crate::sources::{Context, Error};

/// The state of a plug or strip.
pub(in crate::sources) struct PlugState {
    plug: Plug,
    meter: &'static str,
    /// The MAC address of the device that answered last.
    last_mac: Option<String>,
    /// Whether the device had the configured socket at the last poll.
    has_socket: bool,
    series: DeviceSeries,
    context: Context,
}

impl PlugState {
    pub(in crate::sources) fn new(meter: &'static str, plug: Plug, context: &Context) -> PlugState {
        PlugState {
            series: DeviceSeries::new(&context.group, plug.name(), plug.power_total),
            plug,
            meter,
            last_mac: None,
            has_socket: true,
            context: context.clone(),
        }
    }

    /// Takes who answers now. Returns whether it is another device than before.
    pub(in crate::sources) fn recognize(&mut self, identity: &Identity) -> bool {
        let Identity { model, mac, .. } = identity;
        let (meter, name) = (self.meter, self.plug.name());
        let is_other = self.last_mac.as_ref() != Some(mac);
        if is_other {
            log::info!("{meter} {name}: it is a {model}, MAC address {mac}");
            if self.last_mac.replace(mac.clone()).is_some() {
                // The counters of another device begin elsewhere: what they jump by is no consumption.
                self.series.forget_counters();
            }
        }
        let health = &self.context.health;
        health.left_out("sockets", identity.left_out as u64, || {
            format!("{meter} {name} has more than {MAX_SOCKETS} sockets, or sockets without an id")
        });
        let has_socket = self.plug.socket.is_none_or(|n| identity.has_socket(n));
        if !has_socket && self.has_socket {
            let socket = self.plug.socket.unwrap_or(0);
            let sockets: Vec<String> = identity.sockets().map(|(n, _)| n.to_string()).collect();
            let sockets = match sockets.as_slice() {
                [] => "it is no strip".to_string(),
                sockets => format!("it has {}", sockets.join(", ")),
            };
            log::warn!("{meter} {name}: it has no socket {socket} ({sockets})");
        }
        self.has_socket = has_socket;
        is_other
    }

    /// Reads all sockets, or the plug itself: `read` is given the socket's id, if there is one, and the name of its rail.
    pub(in crate::sources) fn read(
        &self,
        identity: &Identity,
        mut read: impl FnMut(Option<&str>, String) -> Result<RailReading, Error>,
    ) -> Result<Vec<RailReading>, Error> {
        if identity.sockets.is_empty() {
            return Ok(vec![read(None, String::new())?]);
        }
        let mut readings = Vec::new();
        for (n, id) in identity.sockets() {
            if self.context.stop.is_set() {
                return Err(Error::new("it ends"));
            }
            let mut reading = read(Some(id), n.to_string())?;
            // The total has the parts of nothing: the other sockets do not feed the board.
            reading.is_part = self.plug.socket.is_some_and(|socket| socket as usize != n);
            readings.push(reading);
        }
        Ok(readings)
    }

    /// Sets the values of one poll.
    pub(in crate::sources) fn set(&mut self, out: &mut Readings, readings: &[RailReading]) {
        self.series.set(out, readings);
    }
}
