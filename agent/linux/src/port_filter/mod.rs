//! Who may speak at a bridge's port: one Ethernet address with one IPv4 address, and nothing else.
//!
//! A port whose guest is not trusted lets out IPv4 from its own address, ARP that tells of its own
//! addresses, and a DHCP client's questions; with a tag of VID 0 (a priority) too. All else is
//! dropped: another's address, IPv6, VLANs, stacked tags, LLC, LLDP, spanning tree, and whatever
//! only a DHCP server says. What comes in by the network is not looked at.
//!
//! Two things of the kernel can do that, probed in this order:
//! 1. [`Kind::Nftables`]: its bridge family. The rules of a port are there before the port is; a
//!    port that nobody announced says nothing. It also keeps ports from the host that the bridge is
//!    on, and other guests' packets from ports.
//! 2. [`Kind::Classifier`]: a program (cls_bpf, classic bytecode) at the ingress of each port, for
//!    kernels without the first. A port's program is put there when the port is there and not yet
//!    plugged in. The host is kept from hearing what is for its Ethernet address.

mod program;
mod rules;
mod wire;

use crate::Error;
use crate::link::Veth;
use crate::netlink::Netlink;
use crate::netns::NetNs;
use std::fmt;
use std::net::Ipv4Addr;

/// What filters. Everything here is done in the thread's network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// nftables' bridge family.
    Nftables,
    /// A classifier at each port.
    Classifier,
}

/// A port and who may speak there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Number of the interface that is plugged into the bridge.
    pub index: u32,
    /// The guest's Ethernet address.
    pub mac: [u8; 6],
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The Ethernet address of the host that the bridge is on.
    pub host: [u8; 6],
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Nftables => "nftables, bridge family",
            Kind::Classifier => "cls_bpf at each port (this kernel has no nftables for bridges)",
        })
    }
}

impl Kind {
    /// Finds out what this kernel can, in a namespace of its own which is gone afterwards.
    ///
    /// # Errors
    /// When it can neither, or no namespace can be made (root is needed).
    pub fn probe() -> Result<Kind, Error> {
        let ns = NetNs::new()?;
        if ns.run(rules::begin)?.is_ok() {
            return Ok(Kind::Nftables);
        }
        let port = Port { index: 10, mac: [2; 6], address: Ipv4Addr::LOCALHOST, host: [4; 6] };
        let veth = Veth::new(("probe", port.index, &ns), ("epor", port.index + 1, &ns));
        Netlink::open()?.batch(&[veth.request()])?;
        if ns.run(|| Kind::Classifier.attach(&port))?.is_ok() {
            return Ok(Kind::Classifier);
        }
        Err(Error::Unsupported {
            feature: "nftables for bridges (modules nf_tables and nft_meta_bridge or NF_TABLES_BRIDGE), and no cls_bpf with ingress",
            instead: "nothing can keep a guest from using another's addresses; use a kernel with CONFIG_NF_TABLES_BRIDGE",
        })
    }

    /// Prepares the namespace before it has a bridge with ports, so that nothing that is not
    /// announced passes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn begin(self) -> Result<(), Error> {
        match self {
            Kind::Nftables => rules::begin(),
            Kind::Classifier => Ok(()),
        }
    }

    /// Announces a port of a bridge that everything may pass: the way to the network.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn uplink(self, index: u32) -> Result<(), Error> {
        match self {
            Kind::Nftables => rules::uplink(index),
            Kind::Classifier => Ok(()),
        }
    }

    /// Announces a guest's port, before it is in the namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn admit(self, port: &Port) -> Result<(), Error> {
        match self {
            Kind::Nftables => rules::admit(port),
            Kind::Classifier => Ok(()),
        }
    }

    /// Does what can be done only when the port is in the namespace; before it is plugged into the
    /// bridge.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(self, port: &Port) -> Result<(), Error> {
        match self {
            Kind::Nftables => Ok(()),
            Kind::Classifier => Netlink::open()?.batch(&program::requests(port)),
        }
    }

    /// Forgets a guest's port, which may be gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn dismiss(self, port: &Port) -> Result<(), Error> {
        match self {
            Kind::Nftables => match rules::dismiss(port) {
                // It was not known: that is what was wanted.
                Err(Error::Refused { cause: source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    Ok(())
                }
                other => other,
            },
            // It went with the port.
            Kind::Classifier => Ok(()),
        }
    }
}
