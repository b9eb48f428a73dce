//! What has happened in a data centre, for whoever follows it: policies of the core, and clients
//! of the API.
//!
//! The core says each of them once, at the moment of the change, in the call that brought it about.
//! They are told apart from notices, which are sentences for people, and from effects, which are
//! orders: nothing in Tandem is carried out because of one, so a recorded run has none.

use crate::{LinkId, Mac, PlanId, PortNo, Resource, ServerId, SwitchId, VmId};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A server or a link, as what can be a hotspot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HotPlace {
    /// A server.
    Server(ServerId),
    /// A link.
    Link(LinkId),
}

/// One change of the data centre.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SiteEvent {
    /// A host was seen that was not there before. Of machines that nobody declared there is at most
    /// one event per switch port and minute.
    HostJoined {
        /// Its Ethernet address.
        mac: Mac,
        /// Its IP address, where it is known.
        ip: Option<Ipv4Addr>,
        /// The switch at which it was seen.
        switch: SwitchId,
        /// The port of that switch.
        port: PortNo,
    },
    /// A host was seen at another port than before.
    HostMoved {
        /// Its Ethernet address.
        mac: Mac,
        /// Its IP address, where it is known.
        ip: Option<Ipv4Addr>,
        /// The switch at which it is now.
        switch: SwitchId,
        /// The port of that switch.
        port: PortNo,
    },
    /// A host answers no more.
    HostLost {
        /// Its Ethernet address.
        mac: Mac,
        /// Its IP address, where it is known.
        ip: Option<Ipv4Addr>,
        /// The switch at which it was.
        switch: SwitchId,
        /// The port of that switch.
        port: PortNo,
    },
    /// Traffic may be sent over a link again.
    LinkUp {
        /// The link's id.
        link: LinkId,
    },
    /// No traffic may be sent over a link any more: one of its ports is down or switched off, one
    /// of its switches is away, or discovery does not see it.
    LinkDown {
        /// The link's id.
        link: LinkId,
    },
    /// A switch has connected.
    SwitchUp {
        /// The switch's id.
        switch: SwitchId,
    },
    /// A switch has lost its connection. It goes on forwarding by the rules that it has.
    SwitchDown {
        /// The switch's id.
        switch: SwitchId,
    },
    /// Too much of a server or of a link is used, or will be as the trend has it. Said again when
    /// what was only expected has come.
    HotspotFound {
        /// Where.
        place: HotPlace,
        /// Of what.
        resource: Resource,
        /// The share in use, 0 to 1, and above; where it is only expected, the expected share.
        ratio: f64,
        /// True when only the trend says so.
        expected: bool,
    },
    /// It is no hotspot any more, or nobody measures it any more.
    HotspotCooled {
        /// Where.
        place: HotPlace,
        /// Of what.
        resource: Resource,
    },
    /// A VM runs: it was started, started again, or adopted as it ran.
    VmStarted {
        /// The VM's number.
        vm: VmId,
        /// Where.
        server: ServerId,
    },
    /// A VM that has run is gone, whatever ended it.
    VmEnded {
        /// The VM's number.
        vm: VmId,
        /// Where it was.
        server: ServerId,
    },
    /// A VM runs on another server than before.
    VmMoved {
        /// The VM's number.
        vm: VmId,
        /// Where it was.
        from: ServerId,
        /// Where it is.
        to: ServerId,
    },
    /// A plan is being carried out.
    PlanBegun {
        /// The plan's number.
        plan: PlanId,
        /// Its moves.
        moves: u32,
    },
    /// No move of a plan waits or is under way any more.
    PlanEnded {
        /// The plan's number.
        plan: PlanId,
        /// Its moves.
        moves: u32,
        /// Those of them that were done.
        done: u32,
    },
}

impl SiteEvent {
    /// The name of its kind, as in `kind` of its written form.
    pub fn name(&self) -> &'static str {
        match self {
            SiteEvent::HostJoined { .. } => "host_joined",
            SiteEvent::HostMoved { .. } => "host_moved",
            SiteEvent::HostLost { .. } => "host_lost",
            SiteEvent::LinkUp { .. } => "link_up",
            SiteEvent::LinkDown { .. } => "link_down",
            SiteEvent::SwitchUp { .. } => "switch_up",
            SiteEvent::SwitchDown { .. } => "switch_down",
            SiteEvent::HotspotFound { .. } => "hotspot_found",
            SiteEvent::HotspotCooled { .. } => "hotspot_cooled",
            SiteEvent::VmStarted { .. } => "vm_started",
            SiteEvent::VmEnded { .. } => "vm_ended",
            SiteEvent::VmMoved { .. } => "vm_moved",
            SiteEvent::PlanBegun { .. } => "plan_begun",
            SiteEvent::PlanEnded { .. } => "plan_ended",
        }
    }
}
