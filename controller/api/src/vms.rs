//! VMs: those that are asked for, and those that run without a record of them.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use tandem_model::{BitRate, Bytes, Resources, SpreadLevel};
use utoipa::ToSchema;

/// The body of `POST /api/v1/vms`; what is left out is the site's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = VmRequest)]
pub struct NewVm {
    /// CPU cores.
    pub cpu: Option<u32>,
    /// Bytes of RAM.
    pub ram: Option<u64>,
    /// Bytes of disk.
    pub disk: Option<u64>,
    /// Network, bit/s in each direction.
    pub net: Option<u64>,
    /// A class of the site file, by its name.
    pub class: Option<String>,
    /// Seconds to live once it runs.
    pub timeout: Option<f64>,
    /// A name, which no other VM has; it says which VM is meant wherever its number does.
    pub name: Option<String>,
    /// What it is made from, by the name that its hypervisor knows.
    pub image: Option<String>,
    /// What generates its traffic where the world can: the name of a traffic tool; its class's or
    /// the site's if left out.
    pub traffic: Option<String>,
    /// Only on this server, or on the servers of this edge switch, by its name.
    pub on: Option<String>,
    /// Keep it apart from the VMs of its tag: on another server, or behind another edge switch.
    pub spread: Option<SpreadLevel>,
    /// Whom it is kept apart from: all VMs that were requested with this tag.
    pub tag: Option<String>,
}

impl NewVm {
    /// What it is to have.
    pub fn size(&self) -> VmSize {
        VmSize { cpu: self.cpu, ram: self.ram, disk: self.disk, net: self.net }
    }
}

/// The body of `PATCH /api/v1/vms/{vm}`; what is left out stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VmSize {
    /// CPU cores.
    pub cpu: Option<u32>,
    /// Bytes of RAM.
    pub ram: Option<u64>,
    /// Bytes of disk.
    pub disk: Option<u64>,
    /// Network, bit/s in each direction.
    pub net: Option<u64>,
}

impl VmSize {
    /// What is said, and `default` for the rest.
    pub fn resources(&self, default: Resources) -> Resources {
        Resources {
            cpu: self.cpu.unwrap_or(default.cpu),
            ram: self.ram.map_or(default.ram, Bytes),
            disk: self.disk.map_or(default.disk, Bytes),
            net: self.net.map_or(default.net, BitRate),
        }
    }
}

/// The body of `POST /api/v1/strays/{vm}/adopt`: what is not kept with the VM, by the names that it
/// lacks. The rest is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Adoption)]
pub struct AdoptVm {
    /// The server where it is, by its name; only needed where there are several VMs with its id.
    pub server: Option<String>,
    /// CPU cores.
    #[schema(minimum = 1)]
    pub cpu: Option<u32>,
    /// Bytes of RAM.
    #[schema(minimum = 1)]
    pub ram: Option<u64>,
    /// Bytes of disk.
    pub disk: Option<u64>,
    /// Network, bit/s in each direction.
    pub net: Option<u64>,
    /// Its address.
    #[schema(value_type = Option<String>, format = "ipv4")]
    pub address: Option<Ipv4Addr>,
    /// A class of the site file, by its name.
    pub class: Option<String>,
    /// Seconds to live from now on.
    pub timeout: Option<f64>,
    /// A name for people.
    pub name: Option<String>,
    /// What it was made from.
    pub image: Option<String>,
}

impl AdoptVm {
    /// What it has, as far as it is said.
    pub fn size(&self) -> VmSize {
        VmSize { cpu: self.cpu, ram: self.ram, disk: self.disk, net: self.net }
    }
}
