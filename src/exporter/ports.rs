//! All ports of the exporter. A new configuration is applied to all of them or to none.

use std::sync::Arc;

use super::port::{ListenError, Port, PortChange};
use super::udp_agent::UdpAgent;
use super::{management, routes, Exporter};
use crate::config::Config;
use crate::http::{AccessControl, Limits};
use crate::sys::listen_fds::listen_fds;
use crate::wire;

/// The ports, and the UDP agent.
pub(super) struct Ports {
    metrics: Port,
    management: Port,
    agent: Option<UdpAgent>,
    /// Addresses of the command line, which override those of the configuration.
    metrics_address: Option<String>,
    management_address: Option<String>,
}

impl Ports {
    pub(super) fn new(
        exporter: &Arc<Exporter>,
        access_control: &Arc<AccessControl>,
        metrics_address: Option<String>,
        management_address: Option<String>,
    ) -> Ports {
        let metrics = routes::metrics(Arc::clone(exporter));
        let management = management::routes(Arc::clone(exporter));
        Ports {
            metrics: Port::new(
                "metrics",
                "`port:` or --web.listen-address",
                Arc::clone(access_control),
                metrics,
                Limits::default(),
            ),
            management: Port::new(
                "management",
                "`reload_port:` or --web.management-address",
                Arc::clone(access_control),
                management,
                management::limits(),
            ),
            agent: None,
            metrics_address,
            management_address,
        }
    }

    /// Adopts the sockets that systemd passes: by their names, else the first for metrics and the second for
    /// management.
    pub(super) fn take_sockets(&mut self) -> Result<(), String> {
        for (index, (name, socket)) in listen_fds().into_iter().enumerate() {
            match (name.as_deref(), index) {
                // systemd passes unnamed sockets in the order of the socket units, which nobody can set.
                (Some("metrics"), _) => self.metrics.adopt_socket(socket)?,
                (Some("management"), _) => self.management.adopt_socket(socket)?,
                (_, 0) => self.metrics.adopt_socket(socket)?,
                (_, 1) => self.management.adopt_socket(socket)?,
                _ => log::warn!(
                    "the service manager passed more sockets than there are ports: closed"
                ),
            }
        }
        Ok(())
    }

    /// Listens on the addresses of the configuration, on all ports, or changes nothing.
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
            .and_then(|changes| {
                self.apply_udp_agent(exporter, config)?;
                Ok(changes)
            });
        match prepared {
            Ok((metrics, management)) => {
                self.metrics.commit(metrics);
                self.management.commit(management);
                Ok(())
            }
            Err(error) => {
                self.metrics.reopen();
                self.management.reopen();
                Err(error)
            }
        }
    }

    /// Prepares both ports beside the old servers, so that none is closed before both can be replaced; or, where an old
    /// server is itself in the way, in its place.
    fn prepare(
        &mut self,
        metrics: Option<&str>,
        management: Option<&str>,
    ) -> Result<(PortChange, PortChange), String> {
        let prepare_both = |ports: &Ports| {
            let first = ports.metrics.prepare(metrics)?;
            Ok((first, ports.management.prepare(management)?))
        };
        let wanted = [metrics, management];
        prepare_both(self)
            .or_else(|error: ListenError| {
                let closed = error.is_in_use
                    && self.metrics.close_if_in_the_way(metrics, &wanted)
                        | self.management.close_if_in_the_way(management, &wanted);
                match closed {
                    true => prepare_both(self),
                    false => Err(error),
                }
            })
            .map_err(|error| error.message)
    }

    /// Starts, replaces or ends the UDP agent.
    fn apply_udp_agent(&mut self, exporter: &Arc<Exporter>, config: &Config) -> Result<(), String> {
        if self
            .agent
            .as_ref()
            .is_some_and(|a| a.has_settings_of(config))
        {
            return Ok(());
        }
        let mut old = self.agent.take();
        // A new agent on the same port needs the old one closed first. On another port, the old agent is closed when
        // the new one runs.
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

    /// The numbers of the open ports.
    pub(super) fn numbers(&self) -> wire::Ports {
        wire::Ports {
            metrics: self.metrics.port(),
            management: self.management.port(),
        }
    }

    /// Tries addresses again that the board did not have.
    pub(super) fn retry(&mut self) {
        self.metrics.retry();
        self.management.retry();
    }

    /// Ends replaced servers, after their last response.
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
