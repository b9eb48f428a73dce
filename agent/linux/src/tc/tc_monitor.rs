//! Reports changes of queueing by any process, as the kernel announces them (RTNLGRP_TC).

use crate::Error;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::collections::BTreeSet;
use std::io::ErrorKind;

/// RTNLGRP_TC (linux/rtnetlink.h).
const GROUP: u32 = 4;
/// RTM_NEWQDISC to RTM_GETTFILTER.
const QUEUEING: std::ops::RangeInclusive<u16> = 36..=46;

/// Listens in the namespace of the thread that opened it.
pub struct Listener(Socket);

impl Listener {
    /// Starts to listen.
    ///
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Listener, Error> {
        let fail = || Error::io("listening for changes of queueing");
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(fail())?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(fail())?;
        socket.add_membership(GROUP).map_err(fail())?;
        socket.set_non_blocking(true).map_err(fail())?;
        Ok(Listener(socket))
    }

    /// The interfaces whose queueing has changed since the last call; does not block. `None` when
    /// the kernel has dropped notifications, so that any may have changed.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn changed(&mut self) -> Result<Option<BTreeSet<u32>>, Error> {
        let (mut seen, mut overrun) = (BTreeSet::new(), false);
        loop {
            match self.0.recv_from_full() {
                Ok((data, _)) => seen.extend(interfaces(&data)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(nix::libc::ENOBUFS) => overrun = true,
                Err(source) => {
                    return Err(Error::Io {
                        what: "listening for changes of queueing".into(),
                        cause: source,
                    });
                }
            }
        }
        Ok((!overrun).then_some(seen))
    }
}

/// The interfaces that the messages of a datagram are about. struct tcmsg follows the header (16
/// bytes), and has the number at offset 4.
pub fn interfaces(mut data: &[u8]) -> Vec<u32> {
    let mut list = Vec::new();
    while let Some([l0, l1, l2, l3, k0, k1]) = data.first_chunk::<6>() {
        let length = u32::from_ne_bytes([*l0, *l1, *l2, *l3]) as usize;
        let Some(message) = data.get(..length).filter(|m| m.len() >= 16) else { break };
        let number = message.get(20..24).and_then(|b| b.first_chunk::<4>());
        if QUEUEING.contains(&u16::from_ne_bytes([*k0, *k1]))
            && let Some(number) = number
        {
            list.push(u32::from_ne_bytes(*number));
        }
        data = data.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_left(data in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(interfaces(&data).len() <= data.len() / 16);
        }
    }
}
