//! The one module with `unsafe`: the ethtool ioctl, packet sockets, and the code of a child process
//! between fork and exec.
#![allow(unsafe_code, reason = "the only such module of this crate; each block says why it is sound")]

pub(crate) mod packet;

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::ffi::{CStr, c_void};
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
    data: *mut c_void,
    rest: [u8; 16],
}

/// Memory with an inaccessible page behind it. Some ethtool commands write as many bytes as the
/// driver has at that moment, whatever the request said: excess bytes fail (EFAULT) instead of
/// overwriting other memory.
struct Guarded {
    start: *mut c_void,
    /// Without the guard page.
    length: usize,
}

const PAGE: usize = 64 << 10; // A multiple of every page size there is.

impl Guarded {
    fn new(room: usize) -> io::Result<Guarded> {
        let length = room.max(1).next_multiple_of(PAGE);
        // SAFETY: a new mapping, where the kernel likes; nobody else has it.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length + PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let guarded = Guarded { start, length };
        // SAFETY: the last page of the mapping just made, whose bytes nobody has looked at.
        unsafe { mprotect(start.byte_add(length), PAGE, MprotectFlags::empty()) }?;
        Ok(guarded)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `length` bytes of the mapping are readable, writable and, being anonymous,
        // initialised; it lives as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, made in `new`; no slice of it outlives `self`.
        let _ = unsafe { munmap(self.start, self.length + PAGE) };
    }
}

/// Runs an ethtool command on the interface `name` of the socket's namespace. Returns the call's
/// result, and the `room` bytes that began with `head`, as the kernel left them.
pub(crate) fn ethtool(
    socket: BorrowedFd<'_>,
    name: &str,
    head: &[u8],
    room: usize,
) -> io::Result<(i32, Vec<u8>)> {
    let room = room.max(head.len());
    let mut memory = Guarded::new(room)?;
    memory.bytes()[..head.len()].copy_from_slice(head);
    let mut request = Ifreq { name: [0; 16], data: memory.start, rest: [0; 16] };
    if name.len() > 15 {
        return Err(io::Error::from_raw_os_error(nix::libc::ENODEV));
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the request and the memory that it points to live until the call returns; what the
    // kernel writes begins at the memory's start, and ends in front of the page behind it.
    let outcome = unsafe { raw::ethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok((outcome, memory.bytes()[..room].to_vec()))
}

/// A file that is written between fork and exec, and its content.
type Line = (&'static CStr, String);

/// Makes a command start in namespaces of its own, as a session of its own. With a user namespace
/// among them, the files in `maps` are written (user_namespaces(7)).
pub(crate) fn in_namespaces(command: &mut Command, flags: CloneFlags, maps: Vec<Line>) {
    // SAFETY: between fork and exec only system calls are made, which allocate nothing and take no
    // lock; what they need was made before.
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

/// Makes the kernel pace a TCP socket: at most this many bytes a second (socket(7),
/// SO_MAX_PACING_RATE; TCP does it by itself since Linux 4.13).
///
/// # Errors
/// When the kernel refuses.
pub fn pace(socket: BorrowedFd<'_>, bytes_per_s: u64) -> io::Result<()> {
    // SAFETY: the kernel reads the eight bytes of a value that lives until the call returns, and
    // keeps nothing of it.
    let result = unsafe {
        nix::libc::setsockopt(
            socket.as_raw_fd(),
            nix::libc::SOL_SOCKET,
            nix::libc::SO_MAX_PACING_RATE,
            (&raw const bytes_per_s).cast(),
            size_of::<u64>() as u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes over a descriptor that a parent process passed on by number. Call it once per number.
///
/// # Errors
/// When there is no such descriptor.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
    // SAFETY: it is open (looked up just now), and nobody else in this process owns it: it came
    // with the program's start.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
