//! Traffic that the attached world is asked to generate for a VM. Nobody attached means no traffic.

use crate::{BitRate, ClassId, GatewayId, TrafficId, VmId};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Transport of a generated flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams at the stated rate, whatever gets lost.
    Udp,
    /// One connection, paced to the stated rate.
    Tcp,
}

/// Which way a VM's generated traffic goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the gateway to the VM.
    ToVm,
    /// From the VM to the gateway.
    FromVm,
    /// Both at once, each at the stated rate.
    Both,
}

/// An end of a generated flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficEnd {
    /// A gateway and its address.
    Gateway(GatewayId, Ipv4Addr),
    /// A VM and its address.
    Vm(VmId, Ipv4Addr),
}

/// One generated flow, in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSpec {
    /// Names the flow from start to stop.
    pub id: TrafficId,
    /// Sender.
    pub from: TrafficEnd,
    /// Receiver.
    pub to: TrafficEnd,
    /// Rate in layer-2 bits.
    pub rate: BitRate,
    /// UDP or TCP.
    pub transport: Transport,
    /// IP packet size in bytes, headers included (UDP; TCP takes the path's).
    pub packet: u16,
    /// The VM's service class.
    pub class: Option<ClassId>,
}
