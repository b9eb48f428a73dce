//! What a switch is made of. A datapath makes switches as they are desired, tells what they do, and gives back what it made.
//!
//! Another kind is another file here that implements [`Datapath`], a word in [`crate::config::Kind`], and a line in [`open`].

pub mod elsewhere;
mod mgmt_interfaces;
pub mod netfpga;
pub mod ovs;
mod port_admin_state;
mod port_counters;
pub(crate) mod record;
mod shaping;
pub mod soft;

pub use mgmt_interfaces::interfaces as mgmt_interfaces;

use crate::config::{Config, Kind, SwitchConfig};
use crate::datapath::netfpga::CardState;
use crate::datapath::soft::View;
use crate::datapath::soft::packet_socket_io::Wires;
use crate::desired::{Fault, Switch};
use serde::Serialize;
use std::collections::BTreeMap;
pub use tandem_linux::ovsdb::Adopt;

/// See the module. All calls block; they come one at a time, from one thread.
pub trait Datapath: Send {
    /// What it has: each port with what can be done there.
    fn present(&mut self) -> Vec<Presented>;

    /// What of a desired state it cannot do, found without changing anything. A fault of a switch (no port) refuses the whole switch.
    fn validate(&mut self, wanted: &[Switch]) -> Vec<Fault>;

    /// Switches whose forwarding would stop for a moment, each with why; found without changing anything.
    fn gaps(&mut self, wanted: &[Switch]) -> Vec<Fault>;

    /// Makes the difference between what is there and what is wanted. What cannot be done is told, the rest is done. Switches named in
    /// `left` were refused: they stay as they are. `adopt` says which switches that somebody else has made may be taken over; what
    /// [`Datapath::gaps`] names is then measured and told by [`Datapath::notices`].
    fn apply(&mut self, wanted: &[Switch], left: &[String], adopt: Adopt) -> Outcome;

    /// Puts right what somebody else has changed, and what has come back, since the last call. Called every second: where nothing has
    /// happened it is to cost next to nothing.
    fn mend(&mut self) -> Outcome;

    /// What has happened that somebody should know, each told once; with `wait`, what is still being measured is waited for.
    fn notices(&mut self, wait: bool) -> Vec<Fault>;

    /// What switches and ports are and have counted. `wanted` is what was applied last.
    fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport>;

    /// What switches that live in this program show of themselves, by name.
    fn views(&mut self) -> Vec<(String, View)> {
        Vec::new()
    }

    /// Gives back everything as it was found, but for what somebody else has changed since: that stays, and is returned in words.
    ///
    /// # Errors
    /// With what is left.
    fn release(&mut self) -> Result<Vec<String>, String>;
}

/// How a port chooses the class of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Rules choose queues.
    Queue,
    /// A filter at the port reads the DSCP.
    Dscp,
    /// The port is held to its rate as a whole; rules mark packets for the next switch.
    RateLimiter,
    /// Rules mark packets for the next switch.
    Mark,
    /// Not at all.
    None,
}

/// A switch and what can be done at its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presented {
    /// As the site file calls it.
    pub name: String,
    /// `ovs (kernel)`, `ovs (userspace)`, `soft`.
    pub datapath: String,
    /// Ports.
    pub ports: Vec<PresentedPort>,
}

/// See [`Presented`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PresentedPort {
    /// OpenFlow number.
    pub number: u32,
    /// The interface's name.
    pub interface: String,
    /// How classes are chosen.
    pub selection: Selection,
    /// Negotiated, bit/s.
    pub speed: Option<u64>,
}

/// The interfaces whose queueing the records of a state folder call ours; `None` when one is damaged.
pub fn queueing_in_record(state: &std::path::Path) -> Option<std::collections::BTreeSet<String>> {
    let folders = [state.to_owned(), state.join("soft"), state.join("netfpga")];
    let mut all = std::collections::BTreeSet::new();
    for folder in folders {
        all.extend(shaping::in_record(&folder)?);
    }
    Some(all)
}

/// What became of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// What could not be done.
    pub faults: Vec<Fault>,
    /// Requests that changed something; 0 when all was so already.
    pub changes: usize,
}

impl Outcome {
    fn add(&mut self, other: Outcome) {
        self.faults.extend(other.faults);
        self.changes += other.changes;
    }
}

/// A switch as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SwitchReport {
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<PortReport>,
    /// The card under it, where it has one.
    pub card: Option<CardState>,
}

/// A port as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PortReport {
    /// OpenFlow number.
    pub number: u32,
    /// The interface's name.
    pub interface: String,
    /// There is no such interface.
    pub missing: bool,
    /// Up, with a carrier.
    pub up: bool,
    /// Negotiated, bit/s; `None` if the interface does not say.
    pub speed: Option<u64>,
    /// True when it can only send or receive at a time.
    pub half_duplex: bool,
    /// True when speed and duplex were set by hand, not negotiated.
    pub by_hand: bool,
    /// Classes, in the order of their queue numbers.
    pub classes: Vec<ClassReport>,
    /// The interface's counters.
    pub counters: Counters,
    /// The card's own counters that are not zero.
    pub hardware: BTreeMap<String, u64>,
}

/// A class's counters at a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClassReport {
    /// Bytes sent.
    pub bytes: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Packets waiting.
    pub queued: u32,
}

/// An interface's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "their names say it")]
pub struct Counters {
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
}

/// All datapaths of a host, each with its switches.
pub struct Datapaths(Vec<(Kind, Vec<String>, Box<dyn Datapath>)>);

/// The datapaths that a configuration names. A `keeper` is a process that stays.
pub fn open(config: &Config, keeper: bool) -> Datapaths {
    let of = |kind: Kind| -> Vec<SwitchConfig> {
        config.switches.iter().filter(|s| s.datapath == kind).cloned().collect()
    };
    let ovs = of(Kind::Ovs);
    let (soft, cards) = (of(Kind::Soft), of(Kind::Netfpga));
    let names = |list: &[SwitchConfig]| list.iter().map(|s| s.name.clone()).collect();
    let (ovs_names, soft_names, card_names) = (names(&ovs), names(&soft), names(&cards));
    let mut all: Vec<(Kind, Vec<String>, Box<dyn Datapath>)> = Vec::new();
    // Without switches it is still who gives back what it made for an earlier configuration; without Open vSwitch there is nothing of that.
    if !ovs.is_empty() || config.ovs.database.exists() {
        all.push((Kind::Ovs, ovs_names, Box::new(ovs::Ovs::new(config, ovs))));
    }
    let soft = soft::Soft::new(config, soft, "soft", keeper, Box::new(|_| Ok(Box::new(Wires::new()))));
    all.push((Kind::Soft, soft_names, Box::new(soft)));
    all.push((Kind::Netfpga, card_names, Box::new(netfpga::Netfpga::new(config, cards, keeper))));
    Datapaths(all)
}

impl Datapaths {
    /// See [`Datapath::present`].
    pub fn present(&mut self) -> Vec<Presented> {
        self.0.iter_mut().flat_map(|(_, _, d)| d.present()).collect()
    }

    /// See [`Datapath::validate`] and [`Datapath::apply`]: nothing is changed for a switch that has a fault before.
    pub fn apply(&mut self, wanted: &[Switch], adopt: Adopt) -> Outcome {
        let mut all = Outcome::default();
        for (_, names, datapath) in &mut self.0 {
            let own: Vec<Switch> = wanted.iter().filter(|s| names.contains(&s.name)).cloned().collect();
            let faults = datapath.validate(&own);
            let (left, sound): (Vec<Switch>, Vec<Switch>) =
                own.into_iter().partition(|s| faults.iter().any(|f| f.switch == s.name && f.port.is_none()));
            let left: Vec<String> = left.into_iter().map(|s| s.name).collect();
            let outcome = datapath.apply(&sound, &left, adopt);
            all.faults.extend(faults);
            all.add(outcome);
        }
        all
    }

    /// See [`Datapath::gaps`].
    pub fn gaps(&mut self, wanted: &[Switch]) -> Vec<Fault> {
        let mut all = Vec::new();
        for (_, names, datapath) in &mut self.0 {
            let own: Vec<Switch> = wanted.iter().filter(|s| names.contains(&s.name)).cloned().collect();
            all.extend(datapath.gaps(&own));
        }
        all
    }

    /// See [`Datapath::mend`].
    pub fn mend(&mut self) -> Outcome {
        let mut all = Outcome::default();
        self.0.iter_mut().for_each(|(_, _, d)| all.add(d.mend()));
        all
    }

    /// See [`Datapath::notices`].
    pub fn notices(&mut self, wait: bool) -> Vec<Fault> {
        self.0.iter_mut().flat_map(|(_, _, d)| d.notices(wait)).collect()
    }

    /// See [`Datapath::report`].
    pub fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport> {
        let mut all = Vec::new();
        for (_, names, datapath) in &mut self.0 {
            let own: Vec<Switch> = wanted.iter().filter(|s| names.contains(&s.name)).cloned().collect();
            all.extend(datapath.report(&own));
        }
        all
    }

    /// See [`Datapath::views`].
    pub fn views(&mut self) -> Vec<(String, View)> {
        self.0.iter_mut().flat_map(|(_, _, d)| d.views()).collect()
    }

    /// See [`Datapath::release`].
    ///
    /// # Errors
    /// With what is left.
    pub fn release(&mut self) -> Result<Vec<String>, String> {
        let (mut kept, mut left) = (Vec::new(), Vec::new());
        for (_, _, datapath) in &mut self.0 {
            match datapath.release() {
                Ok(others) => kept.extend(others),
                Err(why) => left.push(why),
            }
        }
        if left.is_empty() { Ok(kept) } else { Err(left.join("; ")) }
    }
}
