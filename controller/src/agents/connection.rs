//! A connection to the agents' server: a Unix socket, or TLS over TCP, with the identity of its
//! peer.

use crate::agents::limits::{self, Place};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;
use tonic::Request;
use tonic::transport::server::Connected;

/// The identity of a peer.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// It has a certificate of ours: its name and its serial number.
    Certified(String, String, IpAddr),
    /// It is on this machine, as this user or root.
    Local,
    /// It is unknown; it may enrol.
    Unknown(Option<IpAddr>),
    /// It has a certificate of ours that is no longer valid, with the reason: reported on the first
    /// call, so that the agent can show it.
    Refused(String),
}

impl Peer {
    /// The peer of a call; unknown if the connection does not tell.
    pub(super) fn of<T>(request: &Request<T>) -> Peer {
        request.extensions().get::<Peer>().cloned().unwrap_or(Peer::Unknown(None))
    }

    /// The address that its log lines and enrolments count for.
    pub(super) fn address(&self) -> limits::Address {
        match self {
            Peer::Certified(_, _, address) => Some(*address),
            Peer::Unknown(address) => *address,
            Peer::Local | Peer::Refused(_) => None,
        }
    }
}

/// A connection with its peer.
pub(super) enum Connection {
    Unix(UnixStream),
    Tls(
        Box<TlsStream<TcpStream>>,
        Peer,
        #[allow(dead_code, reason = "it counts as long as it is there")] Place,
    ),
}

impl Connected for Connection {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        match self {
            Connection::Unix(_) => Peer::Local,
            Connection::Tls(_, peer, _) => peer.clone(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Connection::Tls(s, _, _) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Connection::Tls(s, _, _) => Pin::new(s).poll_write(cx, buf),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_flush(cx),
            Connection::Tls(s, _, _) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Connection::Tls(s, _, _) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
