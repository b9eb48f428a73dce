//! Everything that talks to a Linux kernel or to Open vSwitch. No domain words: namespaces, links,
//! queueing, bridges.
//!
//! All calls block and are short; an async caller uses its runtime's blocking pool. Nothing here
//! spawns a process except Open vSwitch's own daemons ([`ovs`]) and the first process of a
//! [`sandbox`].
//!
//! ```no_run
//! use tandem_linux::{link::Veth, netlink::Netlink, netns::NetNs};
//! let (left, right) = (NetNs::new()?, NetNs::new()?);
//! let veth = Veth::new(("a0", 10, &left), ("b0", 10, &right));
//! Netlink::open()?.batch(&[veth.request()])?;
//! # Ok::<(), tandem_linux::Error>(())
//! ```

pub mod ethtool;
pub mod limits;
pub mod link;
pub mod link_monitor;
pub mod netlink;
pub mod netns;
pub mod nic;
pub mod ovs;
pub mod ovsdb;
pub mod packet;
pub mod port_filter;
pub mod probe;
pub mod sandbox;
pub mod sys;
pub mod tc;
pub mod tcp;
pub mod vswitchd;

/// What went wrong with the kernel or with Open vSwitch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// The kernel's answer. It is in the message, and no `source` besides, so that nobody
        /// prints it twice.
        cause: std::io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("the kernel refused {what}: {cause}{}", if .text.is_empty() { String::new() } else { format!(" ({text})") })]
    Refused {
        /// Which request, on what.
        what: String,
        /// The error number's text, as above.
        cause: std::io::Error,
        /// The kernel's extended error text.
        text: String,
    },
    /// The kernel answered something that is no answer.
    #[error("the kernel's answer to {what} cannot be read: {why}")]
    Garbled {
        /// Which request.
        what: String,
        /// The reason, as text.
        why: String,
    },
    /// The kernel does not have it.
    #[error("this kernel has no {feature}; {instead}")]
    Unsupported {
        /// What is missing.
        feature: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// A program is not installed.
    #[error("{program} is not installed; install the package {package}")]
    Missing {
        /// Which program.
        program: &'static str,
        /// Its Debian package.
        package: &'static str,
    },
    /// Open vSwitch did not do what it was asked.
    #[error("Open vSwitch: {0}")]
    Ovs(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, cause: source }
    }

    pub(crate) fn nix(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Error {
        let what = what.into();
        move |errno| Error::Io { what, cause: errno.into() }
    }
}
