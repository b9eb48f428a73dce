//! Strays: VMs of this site at hypervisors that the store has no record of. Another controller's,
//! or ours from before the store was lost.
//!
//! ```text
//! VmsFound + WorldUp --not known--> stray --"stop it"--> StopVm --VmStopped--> gone
//!                                     +----"adopt it"--> (store) --Stored--> a VM like any other, as it runs
//! ```
//! 1. A stray is never stopped by itself. It is listed, and told once.
//! 2. Its id, its Ethernet address and its IP address are given to nobody else while it is there,
//!    and it keeps its network ([`crate::compute::stray_network`], [`crate::compute::left_rules`]).
//! 3. Adopting changes nothing of it: its request is what is kept with it ([`FoundVm::spec`]); what
//!    is not kept is asked for.
//! 4. A VM with an id of ours that was made for another request ([`VmOrigin::placed_at`]) is a
//!    stray too.

use crate::compute::ipam::vm_mac;
use crate::compute::kept_rules::Left;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use tandem_model::{FoundVm, Mac, RequestId, ServerId, VmId, VmOrigin, VmRecord};

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Stray {
    pub(crate) found: FoundVm,
    /// Its address: by its tag, or as it was seen at its server's port.
    pub(crate) address: Option<Ipv4Addr>,
    /// The address was taken from the pool for it.
    pub(crate) holds: bool,
    /// Who waits for it to be gone.
    pub(crate) stopping: Vec<RequestId>,
    /// It is on its way to the store.
    pub(crate) adopting: bool,
    pub(crate) network: Network,
}

impl Stray {
    /// Its Ethernet address: by its tag, or as VMs of its id have it.
    pub(crate) fn mac(&self) -> Mac {
        self.found.spec.as_ref().map_or_else(|| vm_mac(self.found.vm), |s| s.mac)
    }

    /// What must be said to adopt it, by the names of the command's options.
    pub(crate) fn lacks(&self) -> Vec<&'static str> {
        let size: &[&str] = if self.found.spec.is_none() { &["cpu", "ram", "disk", "net"] } else { &[] };
        let address = self.address.is_none().then_some("address");
        size.iter().copied().chain(address).collect()
    }
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strays {
    /// What hypervisors have told last.
    pub(crate) found: BTreeMap<(VmId, ServerId), FoundVm>,
    pub(crate) all: BTreeMap<(VmId, ServerId), Stray>,
    /// Those that were served and are gone, or are not served any more: what is theirs in the
    /// network is still to be taken away.
    pub(crate) gone: Vec<VmRecord>,
    /// Servers that have told what runs there, since the start.
    pub(crate) heard: BTreeSet<ServerId>,
    pub(crate) left: Left,
    /// VMs on record that did not run where it says when hypervisors told last, while others with
    /// their ids did elsewhere.
    pub(crate) elsewhere: BTreeSet<VmId>,
    /// Strays whose rules are new, and not in all switches yet.
    pub(crate) unsettled: BTreeSet<VmId>,
}

impl Strays {
    /// All, in order of id and server.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stray> {
        self.all.values()
    }

    /// Those with that id: one per server at most.
    pub(crate) fn of(&self, vm: VmId) -> impl Iterator<Item = &Stray> {
        self.all.range((vm, ServerId(0))..=(vm, ServerId(u32::MAX))).map(|(_, s)| s)
    }

    /// For which request a VM at a server was made, where that is known.
    pub(crate) fn origin(&self, vm: VmId, server: ServerId) -> Option<VmOrigin> {
        self.found.get(&(vm, server))?.spec.as_ref().map(|s| s.origin)
    }
}

/// What a stray has of the network.
#[derive(Debug, Clone, Default)]
pub(crate) enum Network {
    /// Nobody has looked yet.
    #[default]
    Unseen,
    /// That of the record that it would have.
    Served(Box<VmRecord>),
    /// Nothing by this controller, and why.
    Refused(String),
}

impl Network {
    pub(crate) fn served(&self) -> Option<&VmRecord> {
        match self {
            Network::Served(record) => Some(record),
            _ => None,
        }
    }

    pub(crate) fn refused(&self) -> Option<&str> {
        match self {
            Network::Refused(why) => Some(why),
            _ => None,
        }
    }
}
