//! TLS over a socket, from the server's side.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::duplex::TlsDuplex;
use crate::http::stream::{Socket, Stream};
use crate::http::Duplex;

/// Bytes of an answer that are encrypted at once. With what rustls holds of a record that is being received (at most 16
/// KiB, in the handshake 64), this is what a connection takes beside its state.
const BUFFER: usize = 32 * 1024;
/// The first byte of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// A connection, after the handshake.
pub(in crate::http) struct TlsStream {
    inner: StreamOwned<ServerConnection, Socket>,
    abandoned: bool,
}

/// Why there is none. Whoever it was can still be told something.
pub(in crate::http) struct Refused {
    pub(in crate::http) socket: Socket,
    pub(in crate::http) why: Failure,
}

/// What went wrong.
pub(in crate::http) enum Failure {
    /// The client does not speak TLS. It has been told nothing yet.
    NotTls,
    /// It has gone, was too slow, or cannot be agreed with: that it has been told.
    Handshake(io::Error),
}

impl TlsStream {
    /// Agrees with a client, by `deadline`.
    pub(in crate::http) fn accept(
        mut socket: Socket,
        config: Arc<ServerConfig>,
        deadline: Instant,
    ) -> Result<TlsStream, Refused> {
        socket.set_deadline(deadline);
        match shake_hands(&mut socket, config) {
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

fn shake_hands(
    socket: &mut Socket,
    config: Arc<ServerConfig>,
) -> Result<ServerConnection, Failure> {
    if socket.peek().map_err(Failure::Handshake)? != HANDSHAKE {
        return Err(Failure::NotTls);
    }
    let connection = ServerConnection::new(config).map_err(io::Error::other);
    let mut connection = connection.map_err(Failure::Handshake)?;
    connection.set_buffer_limit(Some(BUFFER));
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

/// Who does not say goodbye may have been cut off by somebody else (RFC 8446, 6.1). There is room for that, or nobody
/// listens.
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
