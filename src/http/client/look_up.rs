//! Looks up the addresses of host names. The system's look-up can take half a minute and cannot be interrupted, so it runs
//! in a thread of its own, of which there is never more than one per client. An IP address needs no thread.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ureq::http::uri::{Scheme, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::mdns;
use crate::sys::lock;

/// Bytes of the look-up thread's stack: glibc's look-up needs more than the other threads do.
const STACK_SIZE: usize = 512 * 1024;
/// Further addresses of a name are ignored.
const MAX_ADDRESSES: usize = 8;
/// How long a request waits for a look-up, which `Client::shut_down` cannot abort. A later request for the same name waits
/// for the look-up that is still running.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the addresses of a name are used again: a server that asks another one a hundred times a second need not look up its name
/// as often.
const FOUND_AGE: Duration = Duration::from_secs(5);

/// The socket addresses of a name, or why there are none, for people.
pub(crate) type Found = Result<Vec<SocketAddr>, String>;

/// A resolver for the HTTP client that returns the addresses found before.
#[derive(Debug)]
pub(crate) struct FixedAddresses(pub(crate) Vec<SocketAddr>);

impl Resolver for FixedAddresses {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        for address in self.0.iter().take(MAX_ADDRESSES) {
            addresses.push(*address);
        }
        Ok(addresses)
    }
}

/// Looks up one name at a time.
#[derive(Debug, Default)]
pub(crate) struct LookUp {
    /// The name and port that are being looked up, and the channel of the result.
    pending: Option<(String, u16, Receiver<Found>)>,
}

impl LookUp {
    /// The socket addresses of a host name or IP address. Waits until `deadline`. The error is for people.
    pub(crate) fn addresses(&mut self, name: &str, port: u16, deadline: Instant) -> Found {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        // A look-up that has timed out keeps running: the next call waits for it and does not start a second one.
        let answer = match self.pending.take() {
            Some((pending, at, answer)) if pending == name && at == port => answer,
            Some(other) if still_runs(&other.2) => {
                let message = format!("the look-up of the name {} takes too long", other.0);
                self.pending = Some(other);
                return Err(message);
            }
            _ => look_up(name, port)?,
        };
        match answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(found) => found,
            Err(RecvTimeoutError::Timeout) => {
                self.pending = Some((name.to_string(), port, answer));
                Err(format!("the look-up of the name {name} takes too long"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("the look-up of the name {name} broke off"))
            }
        }
    }
}

fn still_runs(answer: &Receiver<Found>) -> bool {
    matches!(answer.try_recv(), Err(mpsc::TryRecvError::Empty))
}

fn look_up(name: &str, port: u16) -> Result<Receiver<Found>, String> {
    let (sender, answer) = mpsc::sync_channel(1);
    let place = (name.to_string(), port);
    std::thread::Builder::new()
        .name("look-up".to_string())
        .stack_size(STACK_SIZE)
        .spawn(move || {
            // Fails when the client has been dropped meanwhile.
            let _ = sender.send(addresses(&place.0, place.1));
        })
        .map_err(|error| format!("cannot start a thread for a look-up: {error}"))?;
    Ok(answer)
}

/// The socket addresses of a host name, by mDNS if it is one of this network (`plug.local`), and else, or if nobody answers to that,
/// by the system's resolver. Takes as long as they do. The error is for people.
///
/// musl's resolver knows nothing of mDNS; glibc's does where nss-mdns or nss-resolve is installed.
pub(crate) fn addresses(name: &str, port: u16) -> Found {
    let nobody = match mdns::is_local(name) {
        false => None,
        true => match mdns::look_up(name, port) {
            Ok(found) => return Ok(found),
            Err(why) => Some(why),
        },
    };
    let found = (name, port).to_socket_addrs();
    let found: Vec<_> = found.into_iter().flatten().take(MAX_ADDRESSES).collect();
    match nobody {
        _ if !found.is_empty() => Ok(found),
        None => Err(format!("the name {name} is not known")),
        Some(why) => Err(format!(
            "the name {name} is not known: {why}, and the system's resolver does not know it (mDNS does not pass routers, \
             and a firewall has to let answers from UDP port 5353 in: is the device on, and in this network? Its IP address needs no \
             looking up)"
        )),
    }
}

/// [`LookUp`] as ureq's resolver, which is asked before every request, also where a connection is kept.
#[derive(Debug, Default)]
pub(super) struct BoundedResolver(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    look_up: LookUp,
    found: Option<(String, u16, Vec<SocketAddr>, Instant)>,
}

impl Recent {
    /// As [`LookUp::addresses`]; or what it found less than [`FOUND_AGE`] ago.
    fn addresses(&mut self, name: &str, port: u16, deadline: Instant) -> Found {
        match &self.found {
            Some((of, at, found, when))
                if of == name && *at == port && when.elapsed() < FOUND_AGE =>
            {
                return Ok(found.clone());
            }
            _ => {}
        }
        let found = self.look_up.addresses(name, port, deadline)?;
        self.found = Some((name.to_string(), port, found.clone(), Instant::now()));
        Ok(found)
    }
}

impl Resolver for BoundedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let default = if uri.scheme() == Some(&Scheme::HTTPS) {
            443
        } else {
            80
        };
        let port = uri.port_u16().unwrap_or(default);
        let deadline = Instant::now() + (*timeout.after).min(LOOK_UP_TIMEOUT);
        let found = lock::lock(&self.0).addresses(host, port, deadline);
        let found = found.map_err(|why| ureq::Error::Io(std::io::Error::other(why)))?;
        let mut addresses = self.empty();
        for address in found.into_iter().take(MAX_ADDRESSES) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_addresses_need_no_look_up() {
        let found = LookUp::default().addresses("::1", 8080, Instant::now());
        assert_eq!(found, Ok(vec!["[::1]:8080".parse().unwrap()]));
    }

    #[test]
    fn addresses_are_used_again_for_the_same_name_and_port() {
        let mut recent = Recent::default();
        let kept: SocketAddr = "192.0.2.7:81".parse().unwrap();
        recent.found = Some(("localhost".into(), 81, vec![kept], Instant::now()));
        let deadline = Instant::now() + Duration::from_secs(20);
        assert_eq!(recent.addresses("localhost", 81, deadline), Ok(vec![kept]));
        let other = recent.addresses("localhost", 82, deadline).unwrap();
        assert!(other.iter().all(|address| address.ip().is_loopback()));
        let old = Instant::now().checked_sub(FOUND_AGE).unwrap();
        recent.found = Some(("localhost".into(), 81, vec![kept], old));
        assert_ne!(recent.addresses("localhost", 81, deadline), Ok(vec![kept]));
        // A name that is not known is not kept.
        assert!(recent.addresses("no.such.invalid", 81, deadline).is_err());
        assert!(recent.found.is_some_and(|found| found.0 == "localhost"));
    }

    #[test]
    fn names_are_looked_up() {
        let deadline = Instant::now() + Duration::from_secs(20);
        let found = LookUp::default().addresses("localhost", 81, deadline);
        assert!(found
            .unwrap()
            .iter()
            .all(|address| address.ip().is_loopback() && address.port() == 81));
    }
}
