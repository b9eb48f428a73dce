//! TCP sockets that connect from a network namespace which their user is not in.
//!
//! A socket belongs to the namespace that it was made in, for good. A process that goes into
//! another one, or hands its sockets down to a process there, can still connect them.

use crate::Error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect_unspec, ipproto, socket_with};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// A socket in the namespace of whoever calls this, which is not connected and can be, to an address
/// of the family of `to`. Programs that are started inherit it.
///
/// # Errors
/// When there are too many descriptors, or the family is not there.
pub fn unconnected(to: SocketAddr) -> Result<OwnedFd, Error> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, SocketType::STREAM, SocketFlags::empty(), Some(ipproto::TCP))
        .map_err(|cause| Error::Io { what: format!("making a socket for {to}"), cause: cause.into() })
}

/// Ends a socket's connection, if it has one; it can be connected again then (connect(2), AF_UNSPEC).
///
/// # Errors
/// When the kernel refuses.
pub fn disconnect(socket: impl AsFd) -> Result<(), Error> {
    connect_unspec(socket)
        .map_err(|cause| Error::Io { what: "ending a connection".into(), cause: cause.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// What a relay does with each: a connection that is refused, one that the other end closes, one
    /// that is given up; the same socket connects each time.
    #[test]
    fn a_socket_connects_again_and_again() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let socket = unconnected(address).expect("a socket");
        let nobody = {
            let gone = TcpListener::bind("127.0.0.1:0").expect("another port");
            gone.local_addr().expect("its address")
        };
        connect(&socket, nobody).expect_err("nobody listens there");
        for round in 0..3u8 {
            disconnect(&socket).expect("not connected");
            connect(&socket, address).expect("connected");
            let (mut peer, _) = listener.accept().expect("the connection");
            let mut own: TcpStream = socket.try_clone().expect("another hold on it").into();
            own.write_all(&[round]).expect("sent");
            let mut got = [0];
            peer.read_exact(&mut got).expect("received");
            assert_eq!(got, [round]);
            if round == 0 {
                drop(peer);
                assert_eq!(own.read(&mut got).expect("the end"), 0);
            }
        }
    }

    fn connect(socket: &OwnedFd, to: SocketAddr) -> std::io::Result<()> {
        Ok(rustix::net::connect(socket, &to)?)
    }
}
