//! What the coordinator says to a machine's node: a JSON line asks, a line answers
//! ([`LabResponse`](crate::control::messages::LabResponse)).

use crate::control::messages::LabRequest;
use crate::node::guest::Ordered;
use crate::node::traffic::FlowSpec;
use crate::node::vms::Addressing;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The first line: what the machine is to be. Answered by `Ready`, or by `Error` with nothing
/// changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSetup {
    /// The interface of the control network, which stays where it is.
    pub control: String,
    /// Servers and gateways on this machine.
    pub hosts: Vec<HostSetup>,
    /// How often they and their VMs announce themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce: Option<Duration>,
}

/// A server or gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSetup {
    /// As the site calls it.
    pub name: String,
    /// A gateway, else a server.
    pub gateway: bool,
    /// Its Ethernet address; the interface keeps its own.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// Bits of the whole network's prefix.
    pub prefix_len: u8,
    /// Its ports, in order.
    pub ports: Vec<PortSetup>,
}

/// A port of a server or gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSetup {
    /// From 1.
    pub number: u32,
    /// The machine's interface.
    pub interface: String,
    /// What is sent is held to this, bit/s on layer 2.
    pub rate: u64,
    /// Packets that wait at most.
    pub queue: u32,
}

/// An order to a node that is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "order")]
pub enum NodeRequest {
    /// What time is it? Also says that the coordinator is there.
    Now,
    /// Start a VM.
    StartVm {
        /// Its id.
        vm: u64,
        /// Its server's name.
        server: String,
        /// The server's port.
        port: u32,
        /// Its Ethernet address.
        mac: [u8; 6],
        /// The address that it gets.
        address: Ipv4Addr,
        /// How it gets its address.
        addressing: Addressing,
        /// What it was requested with.
        ordered: Ordered,
    },
    /// Give a VM other resources.
    ResizeVm {
        /// The VM's number.
        vm: u64,
        /// Cores.
        cpu: u32,
        /// Bytes of memory.
        ram: u64,
        /// Bytes of disk.
        disk: u64,
        /// Bit/s of its network, where it is held to it.
        #[serde(default)]
        net: u64,
    },
    /// Stop a VM.
    StopVm {
        /// The VM's number.
        vm: u64,
    },
    /// Plug a VM into another uplink of its server.
    MoveVm {
        /// The VM's number.
        vm: u64,
        /// The server's port.
        port: u32,
    },
    /// Start what is here of a flow.
    StartFlow {
        /// The flow.
        spec: FlowSpec,
        /// The sender, if it is here.
        from: Option<String>,
        /// The receiver, if it is here.
        to: Option<String>,
    },
    /// Let the servers here ping everybody.
    Ping {
        /// So many of them.
        senders: Option<usize>,
        /// Who is on other machines.
        others: Vec<(String, Ipv4Addr)>,
    },
    /// What is asked of every lab: `Find`, `Flows`, `StopFlow`, `Counters`, `LoadVm`, `Loads`,
    /// `Down`.
    Ask {
        /// The question.
        ask: LabRequest,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node's program may be another build than the coordinator's (`--node-program`).
    #[test]
    fn lines_to_nodes_are_worded_as_they_have_been() {
        let line = |order: &NodeRequest| serde_json::to_string(order).expect("JSON");
        assert_eq!(line(&NodeRequest::Now), r#"{"order":"now"}"#);
        let flows = NodeRequest::Ask { ask: LabRequest::Flows };
        assert_eq!(line(&flows), r#"{"order":"ask","ask":{"ask":"flows"}}"#);
        let setup = NodeSetup { control: "eth0".into(), hosts: Vec::new(), announce: None };
        assert_eq!(serde_json::to_string(&setup).expect("JSON"), r#"{"control":"eth0","hosts":[]}"#);
    }
}
