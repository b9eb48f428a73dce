//! Properties and counters of a network card, as its driver reports them. A value that it does not
//! report (a veth pair, no carrier) is absent.

use std::collections::BTreeMap;
use tandem_linux::ethtool::{Duplex, Ethtool};

/// An entry in veth's counters that is not one: the number of the other end.
const NO_COUNTER: &str = "peer_ifindex";

/// A network card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nic {
    /// Negotiated rate in bit/s.
    pub speed: Option<u64>,
    /// It cannot send and receive at once.
    pub half_duplex: bool,
    /// Speed and duplex were set by hand; a peer that negotiates uses half duplex then (IEEE 802.3
    /// clause 28.2.3.1).
    pub by_hand: bool,
    /// The driver's name.
    pub driver: Option<String>,
    /// The card's address, e.g. on PCI; absent without a card.
    pub bus: Option<String>,
}

/// Reads the properties of an interface.
pub fn inspect(ethtool: &mut Ethtool, name: &str) -> Nic {
    let driver = ethtool.driver(name).ok().flatten();
    let bus = driver.as_ref().map(|d| d.bus.clone()).filter(|b| !b.is_empty());
    // A veth pair reports 10 Gbit/s whatever its shaping, which is not a negotiated speed. Real
    // cards are on a bus.
    let link = bus.as_ref().and_then(|_| ethtool.link(name).ok().flatten());
    Nic {
        speed: link.and_then(|l| l.speed),
        half_duplex: link.is_some_and(|l| l.duplex == Some(Duplex::Half)),
        by_hand: link.is_some_and(|l| !l.negotiated && l.speed.is_some()),
        driver: driver.map(|d| d.name),
        bus,
    }
}

/// The driver's own counters that are not zero.
pub fn counters(ethtool: &mut Ethtool, name: &str) -> BTreeMap<String, u64> {
    let all = ethtool.statistics(name).unwrap_or_default();
    all.into_iter().filter(|(name, value)| *value != 0 && name != NO_COUNTER).collect()
}
