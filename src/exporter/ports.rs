//! The exporter's ports: all of them as the configuration says, or all of them as they were.

use std::sync::Arc;

use super::listening::{Failure, Listening, Step};
use super::udp_agent::UdpAgent;
use super::{management, routes, Exporter};
use crate::config::Config;
use crate::http::{AccessControl, Limits};
use crate::sys::listen_fds::listen_fds;
use crate::wire;

/// What is listened on.
pub(super) struct Ports {
    metrics: Listening,
    management: Listening,
    agent: Option<UdpAgent>,
    /// What the command line says, whatever the configuration does.
    metrics_address: Option<String>,
    management_address: Option<String>,
}

impl Ports {
    pub(super) fn new(
        exporter: &Arc<Exporter>,
        gate: &Arc<AccessControl>,
        metrics_address: Option<String>,
        management_address: Option<String>,
    ) -> Ports {
        let metrics = routes::metrics(Arc::clone(exporter));
        let management = management::routes(Arc::clone(exporter));
        Ports {
            metrics: Listening::new(
                "metrics",
                "`port:` or --web.listen-address",
                Arc::clone(gate),
                metrics,
                Limits::default(),
            ),
            management: Listening::new(
                "management",
                "`reload_port:` or --web.management-address",
                Arc::clone(gate),
                management,
                management::limits(),
            ),
            agent: None,
            metrics_address,
            management_address,
        }
    }

    /// Takes the sockets that systemd hands over: by their names, else the first for metrics and the second for
    /// management.
    pub(super) fn take_sockets(&mut self) -> Result<(), String> {
        for (place, (name, socket)) in listen_fds().into_iter().enumerate() {
            match (name.as_deref(), place) {
                // The order is that of the socket units, which is nobody's choice.
                (Some("metrics"), _) => self.metrics.take(socket)?,
                (Some("management"), _) => self.management.take(socket)?,
                (_, 0) => self.metrics.take(socket)?,
                (_, 1) => self.management.take(socket)?,
                _ => log::warn!("a socket too many was handed over: closed"),
            }
        }
        Ok(())
    }

    /// Listens where the configuration says, on all ports, or changes nothing.
    pub(super) fn listen(
        &mut self,
        exporter: &Arc<Exporter>,
        config: &Config,
    ) -> Result<(), String> {
        let address = |port: u16| match &config.listen_address {
            Some(host) => format!("{host}:{port}"),
            None => format!(":{port}"),
        };
        let metrics = self.metrics_address.clone();
        let metrics = metrics.or(config.port.map(address));
        let management = self.management_address.clone();
        let management = management.or(config.reload_port.map(address));
        let prepared = self
            .prepare(metrics.as_deref(), management.as_deref())
            .and_then(|steps| {
                self.answer_datagrams(exporter, config)?;
                Ok(steps)
            });
        match prepared {
            Ok((metrics, management)) => {
                self.metrics.commit(metrics);
                self.management.commit(management);
                Ok(())
            }
            Err(error) => {
                self.metrics.return_to_old();
                self.management.return_to_old();
                Err(error)
            }
        }
    }

    /// Gets both ports: beside the old ones, so that nothing is given up before all is had; or, where the old ones are
    /// themselves in the way, in their place.
    fn prepare(
        &mut self,
        metrics: Option<&str>,
        management: Option<&str>,
    ) -> Result<(Step, Step), String> {
        let both = |ports: &Ports| {
            let first = ports.metrics.prepare(metrics)?;
            Ok((first, ports.management.prepare(management)?))
        };
        let wanted = [metrics, management];
        both(self)
            .or_else(|failure: Failure| {
                let gave_up = failure.in_use
                    && self.metrics.make_way(metrics, &wanted)
                        | self.management.make_way(management, &wanted);
                match gave_up {
                    true => both(self),
                    false => Err(failure),
                }
            })
            .map_err(|failure| failure.what)
    }

    /// Starts or ends the UDP agent.
    fn answer_datagrams(
        &mut self,
        exporter: &Arc<Exporter>,
        config: &Config,
    ) -> Result<(), String> {
        if self.agent.as_ref().is_some_and(|a| a.is_for(config)) {
            return Ok(());
        }
        let mut old = self.agent.take();
        // The new one wants the old one's port; on another, the old one is given up only when the new one is had.
        if let Some(old) = old.take_if(|old| old.has_port_of(config)) {
            old.stop();
        }
        let new = config
            .udp_agent
            .enabled
            .then(|| UdpAgent::start(exporter, config))
            .transpose();
        match new {
            Ok(new) => self.agent = new,
            Err(error) => {
                self.agent = old;
                return Err(error);
            }
        }
        if let Some(old) = old {
            old.stop();
        }
        Ok(())
    }

    /// Where the board listens, by number.
    pub(super) fn numbers(&self) -> wire::Ports {
        wire::Ports {
            metrics: self.metrics.port(),
            management: self.management.port(),
        }
    }

    /// Tries the addresses again that the board did not have.
    pub(super) fn retry(&mut self) {
        self.metrics.retry();
        self.management.retry();
    }

    /// Ends the servers that were replaced, once they have answered.
    pub(super) fn retire(&mut self) {
        self.metrics.retire();
        self.management.retire();
    }

    pub(super) fn stop(self) {
        self.metrics.stop();
        self.management.stop();
        if let Some(agent) = self.agent {
            agent.stop();
        }
    }
}
