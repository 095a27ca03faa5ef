//! GET requests to a container engine's Unix socket.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    connect, setsockopt, socket, sockopt, AddressFamily, SockFlag, SockType, UnixAddr,
};
use nix::sys::time::{TimeVal, TimeValLike};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::Timeout;

use crate::http::client::FixedAddresses;
use crate::sys::reason;

/// The longest response. Docker describes a container in 1 to 10 kB.
const MAX_BODY: u64 = 4 * 1024 * 1024;
const MAX_HEAD: usize = 16 * 1024;

/// Gets a path, and has `parse` read the body, all within `timeout`. The error does not name the socket.
pub(super) fn get<T>(
    socket: &Path,
    path: &str,
    timeout: Duration,
    parse: impl FnOnce(&mut dyn Read) -> serde_json::Result<T>,
) -> Result<T, String> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .max_response_header_size(MAX_HEAD)
        .input_buffer_size(2 * MAX_HEAD)
        .user_agent(concat!("edge-metrics-exporter/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .timeout_global(Some(timeout))
        .build();
    let connector = UnixConnector {
        socket: socket.to_path_buf(),
        timeout,
    };
    // The connector knows where to connect to.
    let unused_address = FixedAddresses(vec![([127, 0, 0, 1], 80).into()]);
    let agent = ureq::Agent::with_parts(config, connector, unused_address);
    // Docker and Podman accept any host.
    let response = agent.get(format!("http://localhost{path}")).call();
    let response = response.map_err(|error| explain(&error, timeout))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(format!("{path}: status {status}"));
    }
    let mut body = Body {
        left: MAX_BODY,
        timeout,
        from: response.into_body().into_reader(),
        error: None,
    };
    let parsed = parse(&mut body);
    parsed.map_err(|error| match body.error {
        Some(why) => why,
        None => format!("{path}: the answer is no list of containers ({error})"),
    })
}

fn explain(error: &ureq::Error, timeout: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => too_late(timeout),
        ureq::Error::Io(error) => explain_io(error, timeout),
        ureq::Error::LargeResponseHeader(..) => "the answer's head is too long".to_string(),
        other => format!("no answer of an HTTP server: {other}"),
    }
}

fn explain_io(error: &io::Error, timeout: Duration) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(inner) => explain(inner, timeout),
        None if error.kind() == io::ErrorKind::TimedOut => too_late(timeout),
        None => reason(error),
    }
}

fn too_late(timeout: Duration) -> String {
    format!("no whole answer within {} s", timeout.as_secs_f64())
}

/// A body with a limit, which keeps the error that ended it.
struct Body<R> {
    left: u64,
    timeout: Duration,
    from: R,
    error: Option<String>,
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = match self.left {
            0 => Err(io::Error::other(format!(
                "the answer is longer than {} MiB",
                MAX_BODY >> 20
            ))),
            left => {
                let max = buf.len().min(usize::try_from(left).unwrap_or(buf.len()));
                self.from.read(&mut buf[..max])
            }
        };
        match &read {
            Ok(count) => self.left -= *count as u64,
            Err(error) => self.error = Some(explain_io(error, self.timeout)),
        }
        read
    }
}

/// Connects to a Unix socket, whatever the URL says.
#[derive(Debug)]
struct UnixConnector {
    socket: PathBuf,
    timeout: Duration,
}

impl Connector for UnixConnector {
    type Out = UnixTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<UnixTransport>, ureq::Error> {
        let timeout = (*details.timeout.after).min(self.timeout);
        let stream = connect_within(&self.socket, timeout)?;
        let config = &details.config;
        Ok(Some(UnixTransport {
            stream,
            timeout: self.timeout,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
        }))
    }
}

/// Connects to a Unix socket. std would wait for a server that does not accept for as long as it likes.
fn connect_within(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let kind = SockType::Stream;
    let stream = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    setsockopt(
        &stream,
        sockopt::SendTimeout,
        &TimeVal::milliseconds(millis.max(1)),
    )?;
    let address = UnixAddr::new(path)?;
    match connect(stream.as_raw_fd(), &address) {
        Ok(()) => Ok(stream.into()),
        Err(nix::errno::Errno::EAGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

struct UnixTransport {
    stream: UnixStream,
    timeout: Duration,
    buffers: LazyBuffers,
}

impl UnixTransport {
    /// Runs `transfer` until `timeout`.
    fn within<T>(
        &mut self,
        timeout: NextTimeout,
        transfer: impl FnOnce(&mut UnixStream, &mut LazyBuffers) -> io::Result<T>,
    ) -> Result<T, ureq::Error> {
        let left = (*timeout.after).min(self.timeout);
        if left.is_zero() {
            return Err(ureq::Error::Timeout(Timeout::Global));
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.set_write_timeout(Some(left))?;
        transfer(&mut self.stream, &mut self.buffers).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ureq::Error::Timeout(Timeout::Global)
            }
            _ => error.into(),
        })
    }
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.within(timeout, |stream, buffers| {
            stream.write_all(&buffers.output()[..amount])
        })
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let until = Instant::now() + (*timeout.after).min(self.timeout);
        let amount = self.within(timeout, |stream, buffers| loop {
            match stream.read(buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if Instant::now() >= until {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                read => return read,
            }
        })?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // A connection has one request.
        false
    }
}

impl fmt::Debug for UnixTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixTransport").finish()
    }
}
