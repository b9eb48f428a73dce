//! Traffic that the attached world is asked to generate for a VM. Nobody attached means no traffic.

use crate::{BitRate, ClassId, GatewayId, TrafficId, VmId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// What generates a flow: the name of a traffic tool of the attached world.
///
/// The core and the wire pass the name on without knowing what is behind it; a world that has no
/// such tool answers with the names of those that it has. [`UDP`](Self::UDP) and [`TCP`](Self::TCP)
/// are in every world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrafficTool {
    /// The name, then zeros.
    bytes: [u8; TrafficTool::LONGEST],
}

impl TrafficTool {
    /// Bytes of the longest name.
    pub const LONGEST: usize = 16;
    /// Datagrams at the stated rate, whatever gets lost.
    pub const UDP: TrafficTool = TrafficTool::known(*b"udp");
    /// One connection, paced to the stated rate: it slows down to what gets through.
    pub const TCP: TrafficTool = TrafficTool::known(*b"tcp");

    const fn known<const N: usize>(name: [u8; N]) -> TrafficTool {
        let mut bytes = [0; TrafficTool::LONGEST];
        let mut at = 0;
        while at < N {
            bytes[at] = name[at];
            at += 1;
        }
        TrafficTool { bytes }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let end = self.bytes.iter().position(|b| *b == 0).unwrap_or(self.bytes.len());
        std::str::from_utf8(&self.bytes[..end]).unwrap_or_default()
    }
}

/// Text that cannot be a traffic tool's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a traffic tool's name has 1 to {} lower-case letters, digits or '-'", TrafficTool::LONGEST)]
pub struct NoTrafficTool;

impl FromStr for TrafficTool {
    type Err = NoTrafficTool;

    fn from_str(text: &str) -> Result<TrafficTool, NoTrafficTool> {
        let may = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let mut bytes = [0; TrafficTool::LONGEST];
        let room = bytes.get_mut(..text.len()).ok_or(NoTrafficTool)?;
        if text.is_empty() || !text.bytes().all(may) {
            return Err(NoTrafficTool);
        }
        room.copy_from_slice(text.as_bytes());
        Ok(TrafficTool { bytes })
    }
}

impl fmt::Display for TrafficTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TrafficTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrafficTool({})", self.as_str())
    }
}

impl Serialize for TrafficTool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TrafficTool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TrafficTool, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
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

/// Between whom VMs' traffic is generated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficPattern {
    /// Between each VM and its gateway.
    #[default]
    Gateway,
    /// From all members of a group to the one of them with the lowest id, at once.
    Incast,
    /// Between any two members of a group, in both directions.
    AllToAll,
}

/// What a site file says under `[traffic.TOOL]`, by key. The tool alone knows what the keys mean.
pub type ToolOptions = BTreeMap<String, ToolOption>;

/// A value that a traffic tool is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ToolOption {
    /// True or false.
    Flag(bool),
    /// A number; never infinite and always one.
    Number(f64),
    /// A text: a time or size with its unit, a name, a path.
    Text(String),
}

impl fmt::Display for ToolOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToolOption::Flag(flag) => write!(f, "{flag}"),
            ToolOption::Number(number) => write!(f, "{number}"),
            ToolOption::Text(text) => write!(f, "{text:?}"),
        }
    }
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

impl TrafficEnd {
    /// The VM that it is, if it is one.
    pub fn vm(self) -> Option<VmId> {
        match self {
            TrafficEnd::Vm(vm, _) => Some(vm),
            TrafficEnd::Gateway(..) => None,
        }
    }
}

impl TrafficId {
    /// The flow of that direction between a VM and its gateway. An adopted VM may have any id: two
    /// flows of it may then share theirs with another, and none overflows.
    pub fn with_gateway(vm: VmId, from_vm: bool) -> TrafficId {
        TrafficId(vm.0.wrapping_mul(2).wrapping_add(u64::from(from_vm)))
    }

    /// The flow from one VM of a group to another: beyond all flows with gateways, and, for one
    /// receiver, consecutive for consecutive senders.
    pub fn between(from: VmId, to: VmId) -> TrafficId {
        const HALF: u64 = (1 << 31) - 1;
        TrafficId(1 << 62 | (to.0 & HALF) << 31 | (from.0 & HALF))
    }
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
    /// What generates it.
    pub transport: TrafficTool,
    /// IP packet size in bytes, headers included (UDP; TCP takes the path's).
    pub packet: u16,
    /// The VM's service class.
    pub class: Option<ClassId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_written_as_its_name_as_transports_were() {
        for (tool, name) in [(TrafficTool::UDP, "udp"), (TrafficTool::TCP, "tcp")] {
            assert_eq!(tool.as_str(), name);
            assert_eq!(name.parse(), Ok(tool));
            let json = serde_json::to_string(&tool).expect("JSON");
            assert_eq!(json, format!("{name:?}"));
            assert_eq!(serde_json::from_str::<TrafficTool>(&json).expect("a tool"), tool);
        }
        assert_eq!("burst-64".parse::<TrafficTool>().map(|t| t.to_string()), Ok("burst-64".to_owned()));
        for wrong in ["", "UDP", "a b", "a\0", "seventeen-letters", "\u{e9}"] {
            assert_eq!(wrong.parse::<TrafficTool>(), Err(NoTrafficTool), "{wrong:?}");
        }
    }
}
