//! The host of a device, as users write it, and its addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::http::authority;
use crate::http::client::LookUp;

/// A host from the configuration.
#[derive(Debug)]
pub(super) struct Host {
    name: String,
    port: u16,
    default_port: u16,
    look_up: LookUp,
}

impl Host {
    /// Parses a name or an address, with or without `:port`. An IPv6 address may be in brackets.
    pub(super) fn new(text: &str, default_port: u16) -> Host {
        let bare = |text: &str| {
            text.trim_start_matches('[')
                .trim_end_matches(']')
                .to_string()
        };
        let (name, port) = match text.rsplit_once(':') {
            _ if text.parse::<IpAddr>().is_ok() => (text.to_string(), default_port),
            Some((name, port)) => match port.parse() {
                Ok(port) => (bare(name), port),
                Err(_) => (bare(text), default_port),
            },
            None => (bare(text), default_port),
        };
        Host {
            name,
            port,
            default_port,
            look_up: LookUp::default(),
        }
    }

    /// The host and port as in a URL.
    pub(super) fn authority(&self) -> String {
        let is_default = self.port == self.default_port;
        authority(&self.name, (!is_default).then_some(self.port))
    }

    /// The host's addresses. Looking them up ends at `deadline`.
    pub(super) fn resolve(&mut self, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
        self.look_up.addresses(&self.name, self.port, deadline)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn host_is_parsed_with_and_without_port_and_brackets() {
        for (text, authority) in [
            ("192.168.1.100", "192.168.1.100"),
            ("192.168.1.100:8080", "192.168.1.100:8080"),
            ("plug.local", "plug.local"),
            ("plug.local:80", "plug.local"),
            ("::1", "[::1]"),
            ("[::1]", "[::1]"),
            ("[fd00::7]:8080", "[fd00::7]:8080"),
            ("fd00::7", "[fd00::7]"),
        ] {
            assert_eq!(Host::new(text, 80).authority(), authority, "{text}");
        }
    }

    #[test]
    fn address_is_not_looked_up() {
        let found = Host::new("[::1]:8080", 80).resolve(Instant::now());
        assert_eq!(found, Ok(vec!["[::1]:8080".parse().unwrap()]));
    }

    #[test]
    fn name_is_looked_up() {
        let deadline = Instant::now() + Duration::from_secs(20);
        let found = Host::new("localhost:81", 80).resolve(deadline).unwrap();
        assert!(found
            .iter()
            .all(|address| address.ip().is_loopback() && address.port() == 81));
    }
}
