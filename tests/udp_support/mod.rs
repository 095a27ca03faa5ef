//! UDP devices: real sockets on loopback, and messages encoded by hand.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::support::{exporter, wait_until, Exporter, TempDir, WAIT_TIMEOUT};

pub const CHARGE: &str = "powerexporter_power_consumption_ampere_seconds_total";
pub const CURRENT: &str = "powerexporter_current_ampere";
pub const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// `power_measurement` as protobuf-c encodes it: fields in order, without those that are zero.
pub fn message(timestamp: u64, milliampere_seconds: f64, milliamperes: f32) -> Vec<u8> {
    let mut bytes = Vec::new();
    if timestamp != 0 {
        bytes.push(0x08);
        let mut rest = timestamp;
        while rest > 0x7f {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    if milliampere_seconds != 0.0 {
        bytes.push(0x11);
        bytes.extend(milliampere_seconds.to_le_bytes());
    }
    if milliamperes != 0.0 {
        bytes.push(0x1d);
        bytes.extend(milliamperes.to_le_bytes());
    }
    bytes
}

/// A message of a device with this uptime in seconds.
pub fn after(seconds: u64, milliampere_seconds: f64) -> Vec<u8> {
    message(seconds * 1_000_000, milliampere_seconds, 500.0)
}

/// A device that waits for requests.
pub struct Device(pub UdpSocket);

impl Device {
    pub fn new() -> Device {
        Device::at(SocketAddr::from((LOCALHOST, 0)))
    }

    pub fn at(address: SocketAddr) -> Device {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        Device(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// The next datagram and its sender.
    pub fn hears(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2048];
        let (length, from) = self.0.recv_from(&mut buffer).expect("nobody asks");
        (buffer[..length].to_vec(), from)
    }

    /// Waits for a request, which consists of exactly these bytes.
    pub fn is_asked(&self) -> SocketAddr {
        let (request, from) = self.hears();
        assert_eq!(request, b"DATA_REQUEST");
        from
    }

    pub fn says(&self, to: SocketAddr, datagram: &[u8]) {
        self.0.send_to(datagram, to).unwrap();
    }

    /// Answers every request until the condition holds: on a busy machine a reply may be too late to count.
    pub fn answers_until(&self, what: &str, datagram: &[u8], is_so: impl Fn() -> bool) {
        self.0.set_nonblocking(true).unwrap();
        wait_until(what, || {
            while let Ok((_, from)) = self.0.recv_from(&mut [0; 2048]) {
                self.says(from, datagram);
            }
            is_so().then_some(())
        });
        self.0.set_nonblocking(false).unwrap();
    }

    pub fn answers(&self, datagram: &[u8]) -> SocketAddr {
        let from = self.is_asked();
        self.says(from, datagram);
        from
    }
}

/// An exporter with UDP as its only source, and these settings under `udp:`.
pub fn reading(settings: &str) -> Exporter {
    let dir = TempDir::new();
    let config = dir.write(
        "config.yaml",
        &format!("sources: [udp]\nlabels: false\ninterval: 0.02\nudp: {{{settings}}}\n"),
    );
    Exporter::start(exporter().arg("--config").arg(config))
}

/// An exporter that requests from this device, with a long timeout.
pub fn asking(device: &Device) -> Exporter {
    let settings = format!(
        "host: {}, port: {}, timeout: 60",
        device.address().ip(),
        device.port()
    );
    reading(&settings.replace("::1", "'::1'"))
}

/// The number of datagrams of a kind.
pub fn count(exporter: &Exporter, kind: &str) -> f64 {
    let series = format!("exporter_udp_datagrams_total{{kind=\"{kind}\",source=\"udp\"}}");
    exporter.value(&series).unwrap_or(f64::NAN)
}

pub fn wait_for_count(exporter: &Exporter, kind: &str, least: f64) {
    wait_until(&format!("{least} are {kind}"), || {
        (count(exporter, kind) >= least).then_some(())
    });
}

pub fn wait_for_charge(exporter: &Exporter, ampere_seconds: f64) {
    wait_until(&format!("the charge is {ampere_seconds} As"), || {
        (exporter.value(CHARGE)? == ampere_seconds).then_some(())
    });
}
