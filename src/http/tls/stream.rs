//! A TLS connection of the server.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::duplex::TlsDuplex;
use crate::http::stream::{Socket, Stream};
use crate::http::Duplex;

/// Bytes of a response that are encrypted at once. A connection needs this memory, its state, and the record that is being
/// received (at most 16 KiB, in the handshake 64).
const WRITE_BUFFER: usize = 32 * 1024;
/// The first byte of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// A connection, after the handshake.
pub(in crate::http) struct TlsStream {
    inner: StreamOwned<ServerConnection, Socket>,
    abandoned: bool,
}

/// A handshake that failed. The socket can still be written to.
pub(in crate::http) struct Refused {
    pub(in crate::http) socket: Socket,
    pub(in crate::http) why: Failure,
}

/// Why a handshake failed.
pub(in crate::http) enum Failure {
    /// The client does not speak TLS. Nothing was sent to it yet.
    NotTls,
    /// The client has disconnected, was too slow, or rustls refused it and has sent the alert.
    Handshake(io::Error),
}

impl TlsStream {
    /// Does the handshake, by `deadline`.
    pub(in crate::http) fn accept(
        mut socket: Socket,
        config: Arc<ServerConfig>,
        deadline: Instant,
    ) -> Result<TlsStream, Refused> {
        socket.set_deadline(deadline);
        match handshake(&mut socket, config) {
            Ok(connection) => Ok(TlsStream {
                inner: StreamOwned::new(connection, socket),
                abandoned: false,
            }),
            Err(why) => Err(Refused { socket, why }),
        }
    }

    /// The certificates that the client has shown, its own first.
    pub(in crate::http) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let shown = self.inner.conn.peer_certificates();
        shown.unwrap_or_default().to_vec()
    }

    pub(super) fn parts(&mut self) -> (&mut ServerConnection, &TcpStream) {
        (&mut self.inner.conn, self.inner.sock.tcp())
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        self.inner.sock.tcp()
    }
}

fn handshake(socket: &mut Socket, config: Arc<ServerConfig>) -> Result<ServerConnection, Failure> {
    if socket.peek().map_err(Failure::Handshake)? != HANDSHAKE {
        return Err(Failure::NotTls);
    }
    let connection = ServerConnection::new(config).map_err(io::Error::other);
    let mut connection = connection.map_err(Failure::Handshake)?;
    connection.set_buffer_limit(Some(WRITE_BUFFER));
    while connection.is_handshaking() {
        connection.complete_io(socket).map_err(Failure::Handshake)?;
    }
    Ok(connection)
}

impl Read for TlsStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Stream for TlsStream {
    fn set_deadline(&mut self, deadline: Instant) {
        self.inner.sock.set_deadline(deadline);
    }

    fn finish(&mut self) {
        self.inner.conn.send_close_notify();
        let _ = self.inner.flush();
        self.inner.sock.finish();
    }

    fn abandon(&mut self) {
        self.abandoned = true;
        self.inner.sock.abandon();
    }

    fn into_duplex(self) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(TlsDuplex::new(self)?))
    }
}

/// Sends `close_notify`: without it the client cannot tell the end from a connection that an attacker cut (RFC 8446, 6.1).
/// This never blocks: where the kernel has no room for it, the client does not read.
impl Drop for TlsStream {
    fn drop(&mut self) {
        if self.abandoned || self.tcp().set_nonblocking(true).is_err() {
            return;
        }
        let (connection, mut socket) = self.parts();
        connection.send_close_notify();
        while connection.wants_write() && connection.write_tls(&mut socket).is_ok() {}
    }
}
