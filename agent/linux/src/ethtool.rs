//! Offloads of an interface.

use crate::{Error, sys};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsFd;

/// ETHTOOL_STXCSUM (linux/ethtool.h): checksums of sent packets by the hardware.
const SET_TX_CHECKSUM: u32 = 0x17;

/// Lets the kernel compute checksums of sent packets itself, on interfaces of the thread's namespace. A userspace switch at the other
/// end of a veth pair gets no hardware to finish them.
///
/// # Errors
/// When an interface is not there or does not let itself be told.
pub fn tx_checksum_off<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(Error::nix("opening a socket"))?;
    for name in names {
        sys::ethtool(socket.as_fd(), name, SET_TX_CHECKSUM, 0)
            .map_err(Error::io(format!("switching off transmit checksum offload of {name}")))?;
    }
    Ok(())
}
