//! Access to the packet sockets of a vswitchd process.

use crate::Error;
use rustix::fd::OwnedFd;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{set_socket_send_buffer_size_force, socket_domain, socket_send_buffer_size};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::path::Path;

/// Duplicates a process's sockets (pidfd_getfd(2), Linux 5.6): they share the state of the
/// originals.
///
/// When the process is gone, or the caller may not access it.
pub fn sockets(pid: u32) -> Result<Vec<OwnedFd>, Error> {
    let failed =
        |e: rustix::io::Errno| Error::Io { what: format!("taking hold of process {pid}"), cause: e.into() };
    let Some(own) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(Vec::new()) };
    let process = pidfd_open(own, PidfdFlags::empty()).map_err(failed)?;
    let listing = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .map_err(Error::io(format!("listing the descriptors of process {pid}")))?;
    let is_socket = |e: &std::fs::DirEntry| {
        std::fs::read_link(e.path()).is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
    };
    let numbers =
        listing.flatten().filter(is_socket).filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    Ok(numbers.filter_map(|fd| pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()).ok()).collect())
}

/// Raises the send buffer of vswitchd's packet socket to at least `bytes`, and returns the number
/// of sockets that were changed.
///
/// In user space it sends for all ports through one packet socket, whose buffer is
/// `net.core.wmem_default` (212,992 bytes): packets that wait in one port's queue fill it, and
/// packets to other ports are lost without being counted anywhere. vswitchd opens the socket when
/// it first sends, so this has to be called periodically; without a change it costs a few system
/// calls.
///
/// When vswitchd is not found, or the caller may not access it.
pub fn raise_send_buffer(pid_file: &Path, bytes: usize) -> Result<usize, Error> {
    let text = std::fs::read_to_string(pid_file)
        .map_err(Error::io(format!("reading {}, for the process id of vswitchd", pid_file.display())))?;
    let pid = text.trim().parse::<u32>().map_err(|_| Error::Garbled {
        what: pid_file.display().to_string(),
        why: "it holds no process id".into(),
    })?;
    let mut changed = 0;
    for socket in sockets(pid)? {
        let packets = socket_domain(&socket).is_ok_and(|d| d == AddressFamily::PACKET);
        // The kernel doubles the value that is set (socket(7)).
        if packets && socket_send_buffer_size(&socket).is_ok_and(|now| now < bytes) {
            set_socket_send_buffer_size_force(&socket, bytes).map_err(|e| Error::Io {
                what: "enlarging the send buffer of vswitchd (needs CAP_NET_ADMIN)".into(),
                cause: e.into(),
            })?;
            changed += 1;
        }
    }
    Ok(changed)
}
