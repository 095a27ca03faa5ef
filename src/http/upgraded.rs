//! A connection that has left HTTP for another protocol.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::access::Admission;

/// A byte stream in both directions that never blocks. Calls that would block fail with `WouldBlock`, and polling the
/// descriptor tells when to try again. Bytes that could not be written have to be written before all others.
pub trait Duplex: Read + Write + AsFd + Send {
    /// Whether bytes were received that polling the descriptor does not report.
    fn has_buffered_input(&mut self) -> bool {
        false
    }
}

/// A connection, as it is handed over.
pub struct Upgraded {
    /// The connection.
    pub stream: Box<dyn Duplex>,
    /// Bytes that the client has already sent after its request.
    pub received: Vec<u8>,
    /// Tells whether the client would still be let in.
    pub admission: Admission,
}

/// A TCP connection without TLS.
pub(super) struct PlainDuplex(Arc<TcpStream>);

impl PlainDuplex {
    pub(super) fn new(socket: Arc<TcpStream>) -> io::Result<PlainDuplex> {
        socket.set_nonblocking(true)?;
        Ok(PlainDuplex(socket))
    }
}

impl Read for PlainDuplex {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(into)
    }
}

impl Write for PlainDuplex {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for PlainDuplex {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Duplex for PlainDuplex {}
