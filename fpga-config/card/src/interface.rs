//! Frames from a card's driver through its interfaces: those of CPU port n come by the n-th of the
//! card's four.

use crate::sys;
use nix::sys::socket::{self, MsgFlags, setsockopt, sockopt};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Size of the kernel's receive buffer: about 25 ms of a port at line rate.
const KEPT: usize = 4 << 20;

/// Longer than any frame.
const LONGEST: usize = 64 << 10;

/// The most frames returned by one call, so that the caller can do other work in between.
const AT_ONCE: usize = 1_024;

/// Listens at an interface.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// The interface of CPU port `port` of the card with the interface `device` (such as nf2c0 or
/// nf2c6); `None` for a device with another name.
pub fn of_port(device: &str, port: u8) -> Option<String> {
    let number: u32 = device.strip_prefix("nf2c")?.parse().ok()?;
    let first = number / 4 * 4;
    Some(format!("nf2c{}", first.checked_add(port.into()).filter(|_| port < 4)?))
}

impl Listener {
    /// Starts to listen.
    ///
    /// When the interface does not exist, or without CAP_NET_RAW.
    pub fn open(interface: &str) -> io::Result<Listener> {
        let socket = sys::packet_socket(interface)?;
        // A smaller buffer is not an error: losses show in the card's counters.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &KEPT);
        Ok(Listener { socket, buffer: vec![0; LONGEST] })
    }

    /// Frames that came since the last call, in parts if there are many.
    ///
    /// # Errors
    /// When the interface is gone or down.
    pub fn frames(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while frames.len() < AT_ONCE {
            match socket::recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => frames.push(self.buffer.get(..length).unwrap_or_default().to_vec()),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(frames)
    }
}
