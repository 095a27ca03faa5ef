//! A byte stream with a deadline: a socket, or TLS over one.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::upgraded::{Duplex, PlainDuplex};

/// The transport of a connection.
pub(super) trait Stream: Read + Write {
    /// Reads and writes fail with `TimedOut` after this moment.
    fn set_deadline(&mut self, deadline: Instant);
    /// Tells the client that nothing more will be written.
    fn finish(&mut self);
    /// Drops what is not sent yet, so that the kernel does not keep it for a client that does not read.
    fn abandon(&mut self);
    /// Turns the stream into a non-blocking one, for another protocol.
    fn into_duplex(self) -> io::Result<Box<dyn Duplex>>;
}

/// A TCP connection. Calls block in the kernel. The socket's timeouts are set again only when they differ much from the time
/// left: a scrape on a connection that is kept alive is then one read and one write.
pub(super) struct Socket {
    socket: Arc<TcpStream>,
    deadline: Instant,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl Socket {
    pub(super) fn new(socket: Arc<TcpStream>) -> Self {
        Socket {
            socket,
            deadline: Instant::now(),
            read_timeout: None,
            write_timeout: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.socket
    }

    /// The next byte, without consuming it.
    #[cfg(feature = "tls")]
    pub(super) fn peek(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        match self.retry(Self::arm_read, |socket| socket.peek(&mut byte))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(byte[0]),
        }
    }

    fn left(&self) -> io::Result<Duration> {
        self.deadline
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    /// Repeats a call that was interrupted or timed out until it succeeds, fails, or the deadline has passed.
    fn retry<T>(
        &mut self,
        arm: fn(&mut Self, Duration) -> io::Result<()>,
        mut call: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let left = self.left()?;
            arm(self, left)?;
            match call(&self.socket) {
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                other => return other,
            }
        }
    }

    fn arm_read(&mut self, left: Duration) -> io::Result<()> {
        if is_off(self.read_timeout, left) {
            self.socket.set_read_timeout(Some(left))?;
            self.read_timeout = Some(left);
        }
        Ok(())
    }

    fn arm_write(&mut self, left: Duration) -> io::Result<()> {
        if is_off(self.write_timeout, left) {
            self.socket.set_write_timeout(Some(left))?;
            self.write_timeout = Some(left);
        }
        Ok(())
    }
}

/// Whether a timeout is too long by more than an eighth, or so short that it would wake the thread often.
fn is_off(set: Option<Duration>, wanted: Duration) -> bool {
    set.is_none_or(|set| set > wanted + wanted / 8 || set < wanted / 2)
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.retry(Self::arm_read, |mut socket| socket.read(into))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(Self::arm_write, |mut socket| socket.write(bytes))
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.retry(Self::arm_write, |mut socket| socket.write_vectored(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    fn finish(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn abandon(&mut self) {
        let at_once = linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let _ = setsockopt(&self.socket, sockopt::Linger, &at_once);
    }

    fn into_duplex(self) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(PlainDuplex::new(self.socket)?))
    }
}

/// Writes two pieces one after the other, with as few calls as the kernel allows.
pub(super) fn write_both(stream: &mut impl Write, first: &[u8], second: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < first.len() {
        let pieces = [
            io::IoSlice::new(first.get(written..).unwrap_or_default()),
            io::IoSlice::new(second),
        ];
        match stream.write_vectored(&pieces)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => written += n,
        }
    }
    stream.write_all(second.get(written - first.len()..).unwrap_or_default())?;
    stream.flush()
}
