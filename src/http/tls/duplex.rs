//! TLS over a socket that never blocks, for connections that have left HTTP.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use rustls::ServerConnection;

use super::TlsStream;
use crate::http::Duplex;

/// A TLS connection that has left HTTP.
pub(super) struct TlsDuplex {
    stream: TlsStream,
    /// Bytes that were encrypted but not yet reported as written, since the kernel has not taken all of them. The caller will
    /// offer them again.
    encrypted: usize,
}

impl TlsDuplex {
    pub(super) fn new(stream: TlsStream) -> io::Result<TlsDuplex> {
        stream.tcp().set_nonblocking(true)?;
        Ok(TlsDuplex {
            stream,
            encrypted: 0,
        })
    }

    fn parts(&mut self) -> (&mut ServerConnection, &TcpStream) {
        self.stream.parts()
    }

    /// Sends the encrypted bytes. `WouldBlock`: the kernel has not taken all of them.
    fn send(&mut self) -> io::Result<()> {
        let (connection, mut socket) = self.parts();
        while connection.wants_write() {
            connection.write_tls(&mut socket)?;
        }
        Ok(())
    }
}

impl Read for TlsDuplex {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let (connection, mut socket) = self.parts();
            match connection.reader().read(into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if connection.read_tls(&mut socket)? == 0 {
                return Ok(0);
            }
            let processed = connection.process_new_packets();
            // Sends alerts and key updates. What the kernel does not take now is sent with the next write.
            let _ = self.send();
            processed.map_err(io::Error::other)?;
        }
    }
}

impl Write for TlsDuplex {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send()?;
        if self.encrypted == 0 {
            let (connection, _) = self.parts();
            self.encrypted = connection.writer().write(bytes)?;
            self.send()?;
        }
        let written = self.encrypted.min(bytes.len());
        self.encrypted -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl AsFd for TlsDuplex {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.tcp().as_fd()
    }
}

impl Duplex for TlsDuplex {
    fn has_buffered_input(&mut self) -> bool {
        let (connection, _) = self.parts();
        match connection.process_new_packets() {
            Ok(state) => state.plaintext_bytes_to_read() > 0,
            Err(_) => false,
        }
    }
}
