//! Virtual machines: what is asked for, where it went, and why it could not.

use crate::{
    BitRate, Bytes, ClassId, Constraints, GatewayId, GroupId, Hop, Mac, PortNo, Resources, ServerId,
    SwitchId, Time, TrafficTool, VmGroupRequest, VmId,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = RequestedVm))]
pub struct VmRequest {
    /// CPU, RAM, disk, network.
    pub resources: Resources,
    /// Service class; `None` is the site's default class.
    #[serde(default)]
    pub class: Option<ClassId>,
    /// How long the VM lives once it runs; `None` is until it is deleted.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<crate::schema::Span>))]
    pub timeout: Option<Duration>,
    /// A name for people. No two VMs of a controller have the same; those of older stores may.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is made from, by the name that its hypervisor knows; `None` is the hypervisor's
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What generates its traffic; `None` is what its class says, or the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub traffic: Option<TrafficTool>,
    /// Where it may run.
    #[serde(default, skip_serializing_if = "Constraints::is_none")]
    pub constraints: Constraints,
    /// Who asked for it, where that is known: the name that a text socket acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
}

/// Where a VM is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum VmState {
    /// Placed; the decision is on its way to the store.
    Placed,
    /// Rules and hypervisor are being asked.
    Starting,
    /// It runs and its address answers.
    Running,
    /// It runs, but no path to its gateway is alive or has room.
    Cut {
        /// Why, as text.
        why: String,
    },
    /// It is being stopped: on request, at expiry, or because the start failed.
    Stopping {
        /// Why, as text.
        why: String,
    },
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VmState::Placed => "placed",
            VmState::Starting => "starting",
            VmState::Running => "running",
            VmState::Cut { .. } => "cut off",
            VmState::Stopping { .. } => "stopping",
        })
    }
}

/// A placed VM, as kept by the core and in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VmRecord {
    /// Its id.
    pub id: VmId,
    /// What was asked for (after a resize: what it has now).
    pub request: VmRequest,
    /// Where it runs.
    pub server: ServerId,
    /// By which of the server's uplinks (index into `Server::uplinks`, 0 is the primary).
    pub uplink: u32,
    /// Through which gateway it speaks to the outside.
    pub gateway: GatewayId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its address, in its edge's prefix.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub address: Ipv4Addr,
    /// From the VM's server to the gateway.
    pub path_up: Vec<Hop>,
    /// From the gateway to the VM's server.
    pub path_down: Vec<Hop>,
    /// The operator's hand: the switches that its path goes by, from the server on, while that can
    /// be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Vec<SwitchId>>,
    /// Where it is in its life.
    pub state: VmState,
    /// When it was placed. This and the others are by the wall clock.
    pub placed_at: Time,
    /// When it first ran.
    pub running_at: Option<Time>,
    /// When it expires, absolute; moved with the wall clock when that is set, so that what is left
    /// stays the same.
    pub expires_at: Option<Time>,
}

/// VMs that may talk to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct GroupRecord {
    /// Its id.
    pub id: GroupId,
    /// Its members, in order of id.
    pub members: Vec<VmId>,
    /// The request that it was made for together with its members; `None` for a group of VMs that
    /// were there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<VmGroupRequest>>,
}

impl GroupRecord {
    /// What each member may send to each other one, where links are reserved for that.
    pub fn rate(&self) -> Option<BitRate> {
        self.request.as_ref()?.rate
    }
}

/// A resource that can be short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU cores.
    Cpu,
    /// Main memory.
    Ram,
    /// Disk.
    Disk,
    /// The server's network.
    Net,
    /// A link's capacity on the way to the gateway.
    Link,
    /// A free address in the edge's prefix.
    Address,
    /// No live path from the server to any gateway.
    Path,
    /// What a switch on the way to the gateway may forward, by `[policy] switch_margin`.
    Switch,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::Cpu => "CPU",
            Resource::Ram => "RAM",
            Resource::Disk => "disk",
            Resource::Net => "server network",
            Resource::Link => "link capacity",
            Resource::Address => "addresses",
            Resource::Path => "a live path",
            Resource::Switch => "switch capacity",
        })
    }
}

/// A server that nearly fitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NearMiss {
    /// Server's or switch's name, or link's ends (`agg1.2<->edge1.1`).
    pub place: String,
    /// What was short there.
    pub resource: Resource,
    /// How much was needed, in the resource's unit (cores, bytes, bit/s, addresses).
    pub needed: u64,
    /// How much was there.
    pub available: u64,
}

impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = |n: u64| match self.resource {
            Resource::Ram | Resource::Disk => Bytes(n).to_string(),
            Resource::Net | Resource::Link | Resource::Switch => BitRate(n).to_string(),
            Resource::Cpu => format!("{n} cores"),
            Resource::Address | Resource::Path => n.to_string(),
        };
        write!(
            f,
            "{}: {} short, {} needed, {} free",
            self.place,
            self.resource,
            amount(self.needed),
            amount(self.available)
        )
    }
}

/// Why a request could not be met. Always with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Rejection {
    /// One sentence for the person who asked.
    pub summary: String,
    /// How many servers (or links) were short of each resource.
    pub counts: Vec<(Resource, u32)>,
    /// The nearest misses, nearest first.
    pub nearest: Vec<NearMiss>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)?;
        for miss in &self.nearest {
            write!(f, "\n  {miss}")?;
        }
        Ok(())
    }
}

/// What a hypervisor needs to start a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// CPU, RAM, disk, network.
    pub resources: Resources,
    /// Name for people.
    pub name: Option<String>,
    /// What it is made from; `None` is the hypervisor's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The address that it will have, however it gets it.
    pub address: Ipv4Addr,
    /// By which of the server's uplinks: the server's port number.
    pub uplink_port: PortNo,
    /// The address to configure by hand, with its prefix length and router: only where DHCP is
    /// switched off.
    pub fixed_address: Option<FixedAddress>,
    /// Which request it is made for. It is kept with the VM, with all the rest of this.
    #[serde(default)]
    pub origin: crate::VmOrigin,
}

/// An address that a VM is given without DHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedAddress {
    /// Address.
    pub address: Ipv4Addr,
    /// Prefix length of the site's network.
    pub prefix_len: u8,
    /// Default router.
    pub router: Ipv4Addr,
}
