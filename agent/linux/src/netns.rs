//! Network namespaces, held by file descriptors.
//!
//! A namespace is a property of a thread. Work in another namespace runs on a short-lived thread of
//! its own, so that no other work runs in the wrong namespace.

use crate::Error;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::thread;

/// A network namespace. It lives as long as this value, or a process or interface in it.
#[derive(Debug)]
pub struct NetNs(OwnedFd);

const THIS: &str = "/proc/thread-self/ns/net";

fn open_this() -> Result<OwnedFd, Error> {
    Ok(File::open(THIS).map_err(Error::io(format!("opening {THIS}")))?.into())
}

impl NetNs {
    /// Creates a new namespace; the caller's thread stays in its own.
    ///
    /// Without CAP_SYS_ADMIN.
    pub fn new() -> Result<NetNs, Error> {
        let mut made = NetNs::many(1, || ())?;
        made.pop().ok_or_else(|| Error::Ovs("no namespace was made".into()))
    }

    /// Creates several namespaces on one thread; `first` runs inside each before anything else.
    ///
    /// # Errors As [`NetNs::new`]; those created before are removed.
    pub fn many(count: usize, first: impl Fn() + Send) -> Result<Vec<NetNs>, Error> {
        on_thread(move || {
            (0..count)
                .map(|_| {
                    unshare(CloneFlags::CLONE_NEWNET)
                        .map_err(Error::nix("making a network namespace (root is needed)"))?;
                    first();
                    open_this().map(NetNs)
                })
                .collect()
        })?
    }

    /// The namespace of the calling thread.
    ///
    /// When /proc is not mounted.
    pub fn current() -> Result<NetNs, Error> {
        open_this().map(NetNs)
    }

    /// Another descriptor of the same namespace.
    ///
    /// # Errors
    /// When the process has too many descriptors.
    pub fn duplicate(&self) -> Result<NetNs, Error> {
        self.0.try_clone().map(NetNs).map_err(Error::io("holding a network namespace"))
    }

    /// Its descriptor's number, for netlink requests.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Runs `work` inside, on a thread of its own. Sockets and child processes that it opens stay
    /// inside.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let fd = self.0.as_fd();
        on_thread(move || {
            enter(fd)?;
            Ok(work())
        })?
    }
}

impl From<OwnedFd> for NetNs {
    /// Wraps a descriptor that a parent process passed on, or that was opened by its path.
    fn from(fd: OwnedFd) -> NetNs {
        NetNs(fd)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn enter(fd: BorrowedFd<'_>) -> Result<(), Error> {
    setns(fd, CloneFlags::CLONE_NEWNET).map_err(Error::nix("entering a network namespace"))
}

/// Runs work in several namespaces, one after the other, on one thread.
///
/// # Errors When one cannot be entered; the work in those before it has been done.
pub fn visit<'a, T: Send, S: Send + Sync + 'a>(
    places: &'a [(&'a NetNs, S)],
    work: impl Fn(&S) -> T + Send,
) -> Result<Vec<T>, Error> {
    on_thread(move || {
        places
            .iter()
            .map(|(ns, what)| {
                enter(ns.as_fd())?;
                Ok(work(what))
            })
            .collect()
    })?
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work);
        let worker = worker.map_err(Error::io("starting a thread"))?;
        worker.join().map_err(|_| Error::Ovs("a thread in a namespace has panicked".into()))
    })
}
