//! The one module with `unsafe`: the drivers' ioctls, a mapped BAR, and raw sockets.
#![allow(unsafe_code, reason = "the only such module of this crate; each block says why it is sound")]

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The structure behind `ifr_data` for the 1G, SUME and PLUS drivers.
#[repr(C)]
struct NetReg {
    address: u32,
    value: u32,
}

/// `struct ifreq` with its data pointer at offset 16, with the kernel's size.
#[repr(C)]
struct Ifreq {
    name: [u8; 16],
    data: *mut NetReg,
    rest: [u8; 16],
}

/// The type of a request number in this platform's `ioctl`.
type Request = libc::Ioctl;

/// Calls a driver through an interface: passes `value` in, and returns the value that the driver
/// left.
pub(crate) fn interface_ioctl(
    socket: BorrowedFd<'_>,
    name: &str,
    request: u16,
    address: u32,
    value: u32,
) -> io::Result<u32> {
    let mut register = NetReg { address, value };
    let mut ifreq = Ifreq { name: [0; 16], data: &raw mut register, rest: [0; 16] };
    let Some(to) = ifreq.name.get_mut(..name.len()).filter(|_| name.len() < 16) else {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    };
    to.copy_from_slice(name.as_bytes());
    // SAFETY: the request and the register it points to live until the call returns, and are as
    // long as any driver of these numbers takes them to be (8 bytes behind the pointer); a driver
    // that is not one of them refuses numbers of the private range, or takes less.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), Request::from(request), &raw mut ifreq) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(register.value) }
}

/// Writes through the 10G driver: the argument itself is address and value.
pub(crate) fn device_write(device: BorrowedFd<'_>, request: u16, address: u32, value: u32) -> io::Result<()> {
    let argument = u64::from(address) << 32 | u64::from(value);
    // SAFETY: the argument is no pointer; the driver takes it by value.
    let outcome = unsafe { libc::ioctl(device.as_raw_fd(), Request::from(request), argument) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads through the 10G driver: the argument points at 64 bits, address in, value out.
pub(crate) fn device_read(device: BorrowedFd<'_>, request: u16, address: u32) -> io::Result<u32> {
    let mut word = u64::from(address) << 32;
    // SAFETY: the word lives until the call returns, and is what the driver reads and writes.
    let outcome = unsafe { libc::ioctl(device.as_raw_fd(), Request::from(request), &raw mut word) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(word as u32) }
}

/// A card's BAR in this process's memory.
#[derive(Debug)]
pub(crate) struct Bar {
    start: *mut c_void,
    bytes: usize,
}

// SAFETY: the mapping belongs to the value alone, and any thread may access it.
unsafe impl Send for Bar {}

impl Bar {
    /// Maps the first `bytes` bytes of a file (a PCI device's `resource0`), shared.
    pub(crate) fn map(file: impl AsFd, bytes: usize) -> io::Result<Bar> {
        // SAFETY: a new mapping, where the kernel likes; nobody else has it. That others change
        // what is behind it is what registers do, and all accesses are volatile.
        let start = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)
        }?;
        Ok(Bar { start, bytes })
    }

    /// The word at `offset`, if that is inside and aligned.
    fn word(&self, offset: u32) -> Option<*mut u32> {
        let offset = usize::try_from(offset).ok()?;
        let inside = offset % 4 == 0 && offset.checked_add(4)? <= self.bytes;
        // SAFETY: inside the mapping, just checked.
        inside.then(|| unsafe { self.start.byte_add(offset) }.cast())
    }

    /// One 32-bit read; `None` outside.
    pub(crate) fn read(&self, offset: u32) -> Option<u32> {
        // SAFETY: `word` gives aligned places inside the mapping, which is readable and lives as
        // long as `self`.
        self.word(offset).map(|at| u32::from_le(unsafe { at.read_volatile() }))
    }

    /// One 32-bit write; `None` outside.
    pub(crate) fn write(&mut self, offset: u32, value: u32) -> Option<()> {
        // SAFETY: as in `read`; the mapping is writable.
        self.word(offset).map(|at| unsafe { at.write_volatile(value.to_le()) })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, made in `map`; no pointer into it outlives `self`.
        let _ = unsafe { munmap(self.start, self.bytes) };
    }
}

/// A non-blocking raw socket that receives every frame of an interface (packet(7)).
pub(crate) fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let index = i32::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // Protocol 0: no frame is received before the socket is bound.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address lives until the call returns, and is as long as is said.
    let outcome = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}
