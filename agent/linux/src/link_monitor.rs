//! Watches interfaces for additions, removals and changes by anybody, as the kernel reports them
//! (RTNLGRP_LINK).

use crate::Error;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::Arc;

/// RTNLGRP_LINK (linux/rtnetlink.h).
const GROUP: u32 = 1;

/// Listens in the namespace of the thread that opened it.
pub struct LinkMonitor {
    socket: Socket,
    end: Arc<EventFd>,
}

/// Wakes the waiting thread, for good. Dropping it does the same.
pub struct End(Arc<EventFd>);

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.write(1);
    }
}

impl LinkMonitor {
    /// Starts to watch; the second value ends it.
    ///
    /// When the kernel refuses a socket.
    pub fn open() -> Result<(LinkMonitor, End), Error> {
        let fail = || Error::io("listening for changes of interfaces");
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(fail())?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(fail())?;
        socket.add_membership(GROUP).map_err(fail())?;
        socket.set_non_blocking(true).map_err(fail())?;
        let end = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let end = Arc::new(end.map_err(Error::nix("opening a descriptor for events"))?);
        Ok((LinkMonitor { socket, end: end.clone() }, End(end)))
    }

    /// Waits until an interface has changed; all changes up to now count as one. False once it was
    /// ended.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn wait(&mut self) -> Result<bool, Error> {
        let what = || Error::io("listening for changes of interfaces");
        loop {
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.end.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(Error::nix("waiting for changes of interfaces")(error)),
            }
            if fds[1].any() == Some(true) {
                return Ok(false);
            }
            let mut heard = false;
            loop {
                match self.socket.recv_from_full() {
                    Ok(_) => heard = true,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    // The kernel has dropped notifications, so that something has changed.
                    Err(e) if e.raw_os_error() == Some(nix::libc::ENOBUFS) => heard = true,
                    Err(error) => return Err(what()(error)),
                }
            }
            if heard {
                return Ok(true);
            }
        }
    }
}
