//! The one module with `unsafe`: an ethtool ioctl, and what a child process does between fork and exec.
#![allow(unsafe_code, reason = "the only such module of this crate; each block says why it is sound")]

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// SIOCETHTOOL (linux/sockios.h).
const SIOCETHTOOL: u32 = 0x8946;

#[allow(missing_docs, unreachable_pub, reason = "made by the macro")]
mod raw {
    nix::ioctl_readwrite_bad!(ethtool, super::SIOCETHTOOL, super::Ifreq);
}

/// struct ifreq with a pointer in its union (linux/if.h): 16 bytes of name, 24 of union.
#[repr(C)]
struct Ifreq {
    name: [u8; 16],
    data: *mut EthtoolValue,
    rest: [u8; 16],
}

/// struct ethtool_value (linux/ethtool.h).
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// Runs an ethtool command that takes and gives one number, on the interface `name` of the socket's namespace.
pub(crate) fn ethtool(socket: BorrowedFd<'_>, name: &str, cmd: u32, data: u32) -> io::Result<u32> {
    let mut value = EthtoolValue { cmd, data };
    let mut request = Ifreq { name: [0; 16], data: &raw mut value, rest: [0; 16] };
    let length = name.len().min(15);
    request.name[..length].copy_from_slice(&name.as_bytes()[..length]);
    // SAFETY: the request and the value it points to live until the call returns, and the kernel writes only to these.
    unsafe { raw::ethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok(value.data)
}

/// A file that is written between fork and exec, and what is written.
type Line = (&'static CStr, String);

/// Lets a command start in namespaces of its own, and as its own session. With a user namespace among them, the files in `maps` are
/// written then (user_namespaces(7)).
pub(crate) fn in_namespaces(command: &mut Command, flags: CloneFlags, maps: Vec<Line>) {
    // SAFETY: between fork and exec only system calls are made, which allocate nothing and take no lock; what they need was made before.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            unshare(flags)?;
            for (file, line) in &maps {
                let file = open(*file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
                nix::unistd::write(&file, line.as_bytes())?;
            }
            Ok(())
        });
    }
}

/// Takes over a descriptor that a parent process handed down by number. Call it once per number.
///
/// # Errors
/// When there is no such descriptor.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
    // SAFETY: it is open (looked up just now), and nobody else in this process owns it: it came with the program's start.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
