//! A connection that has left HTTP for another protocol.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::gate::Admission;

/// A byte stream in both directions that never blocks: what cannot be done now fails with `WouldBlock`, and its
/// descriptor says when it can. Bytes that could not be written have to be offered again first.
pub trait Duplex: Read + Write + AsFd + Send {
    /// Whether there is something to be read of which the descriptor does not know.
    fn holds_back(&mut self) -> bool {
        false
    }
}

/// What is handed over.
pub struct Upgraded {
    /// The connection.
    pub stream: Box<dyn Duplex>,
    /// What the client has sent already behind its request.
    pub received: Vec<u8>,
    /// Whether the client may still be here.
    pub admission: Admission,
}

/// A TCP connection.
pub(super) struct Plain(Arc<TcpStream>);

impl Plain {
    pub(super) fn new(socket: Arc<TcpStream>) -> io::Result<Plain> {
        socket.set_nonblocking(true)?;
        Ok(Plain(socket))
    }
}

impl Read for Plain {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(into)
    }
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Plain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Duplex for Plain {}
