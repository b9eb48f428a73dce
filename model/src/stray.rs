//! VMs at hypervisors that a controller has no record of, and what is kept with every VM so that it
//! can be taken up.
//!
//! A hypervisor keeps with each VM the [`VmSpec`] that it was last asked for, which holds all of
//! its request. So a controller whose store is gone, or is another one, can say whose VM it is and
//! adopt it; it never stops one by itself.

use crate::{BitRate, Bytes, ClassId, GatewayId, ServerId, Time, VmId, VmSpec};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Which request a VM was made for, and what of it a hypervisor itself has no use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VmOrigin {
    /// When it was placed, to the nanosecond: two VMs with the same id that were made for different
    /// requests differ in it.
    pub placed_at: Time,
    /// Its service class; `None` is the site's default class.
    #[serde(default)]
    pub class: Option<ClassId>,
    /// How long it lives once it runs; `None` is until it is deleted.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// Through which gateway it speaks to the outside.
    #[serde(default)]
    pub gateway: Option<GatewayId>,
}

/// A VM of this site that was found at a hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundVm {
    /// Which, by its tag.
    pub vm: VmId,
    /// Where.
    pub server: ServerId,
    /// False when it is there but does not run.
    pub runs: bool,
    /// What it was last asked for with; `None` where its tag does not say (it was made by an older
    /// version).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Box<VmSpec>>,
}

/// What the operator says of a VM that is to be adopted, where its tag does not say it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Adoption {
    /// CPU cores.
    pub cpu: Option<u32>,
    /// RAM.
    pub ram: Option<Bytes>,
    /// Disk.
    pub disk: Option<Bytes>,
    /// Network, each direction.
    pub net: Option<BitRate>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Service class.
    pub class: Option<ClassId>,
    /// How long it lives from its adoption on.
    pub timeout: Option<Duration>,
    /// A name for people.
    pub name: Option<String>,
    /// What it was made from.
    pub image: Option<String>,
}
