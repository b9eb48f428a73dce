//! Access to the Linux kernel and to Open vSwitch: namespaces, links, queueing, bridges. This crate
//! knows nothing of sites, VMs or controllers.
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

/// An error of the kernel or of Open vSwitch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// The kernel's error. It is part of the message, and not a `source` too, so that logs do
        /// not print it twice.
        cause: std::io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("the kernel refused {what}: {cause}{}", if .text.is_empty() { String::new() } else { format!(" ({text})") })]
    Refused {
        /// Which request, on what.
        what: String,
        /// The text of the error number, as above.
        cause: std::io::Error,
        /// The kernel's extended error text.
        text: String,
    },
    /// The kernel's reply cannot be decoded.
    #[error("the kernel's answer to {what} cannot be read: {why}")]
    Garbled {
        /// Which request.
        what: String,
        /// The reason, as text.
        why: String,
    },
    /// The kernel does not support a feature.
    #[error("this kernel has no {feature}; {instead}")]
    Unsupported {
        /// The feature.
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
    /// Open vSwitch refused a request or did not execute it.
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
