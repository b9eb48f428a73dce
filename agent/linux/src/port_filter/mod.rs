//! Filters the packets of guests at a bridge's port: one Ethernet address with one IPv4 address per
//! port.
//!
//! A guest is not trusted. Its port accepts IPv4 from its own address, ARP about its own addresses,
//! and requests of a DHCP client; with a tag of VID 0 (a priority) too. Everything else is dropped:
//! other addresses, IPv6, VLANs, stacked tags, LLC, LLDP, spanning tree, and messages of a DHCP
//! server. Packets from the network are not filtered.
//!
//! The kernel has two features for that, probed in this order:
//! 1. [`Kind::Nftables`]: the bridge family. A port's rules exist before the port does; packets
//!    from a port that was not announced are dropped. It also separates ports from the host that
//!    the bridge is on, and keeps packets to other guests away from a port.
//! 2. [`Kind::Classifier`]: a program (cls_bpf, classic bytecode) at the ingress of each port, for
//!    kernels without the first. It is attached when the port exists and does not belong to the
//!    bridge yet. It drops packets to the host's Ethernet address.

mod program;
mod rules;
mod wire;

use crate::Error;
use crate::link::Veth;
use crate::netlink::Netlink;
use crate::netns::NetNs;
use std::fmt;
use std::net::Ipv4Addr;

/// The kernel's feature that filters. All functions work in the thread's network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// nftables' bridge family.
    Nftables,
    /// A classifier at each port.
    Classifier,
}

/// A port and its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Number of the interface that is the bridge's port.
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
    /// Finds the feature that this kernel supports, in a temporary namespace.
    ///
    /// When it supports neither, or no namespace can be created (root is needed).
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

    /// Prepares the namespace before it has a bridge with ports, so that ports that are not
    /// announced are blocked.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn begin(self) -> Result<(), Error> {
        match self {
            Kind::Nftables => rules::begin(),
            Kind::Classifier => Ok(()),
        }
    }

    /// Announces the uplink to the network, a bridge port without a filter.
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

    /// Attaches what needs the port in the namespace; called before the port is added to the
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

    /// Removes a guest's port, which may be gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn dismiss(self, port: &Port) -> Result<(), Error> {
        match self {
            Kind::Nftables => match rules::dismiss(port) {
                // The port was not announced, which is no error.
                Err(Error::Refused { cause: source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    Ok(())
                }
                other => other,
            },
            // The program was removed with the port.
            Kind::Classifier => Ok(()),
        }
    }
}
