//! What is said on a lab's control socket: one JSON line asks, one answers.

use crate::node::guest::Change;
use crate::node::loads::ServerLoad;
use crate::node::probe::{Packet, Probe};
use crate::node::vm_relocation::Pause;
use crate::world::emulated::engine::EngineKind;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use tandem_model::TrafficTool;

pub use crate::control::labs::{ask, hold};

/// A question.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum LabRequest {
    /// What is there?
    Status,
    /// Where is a node?
    Find {
        /// Its name, `vm7` for a VM.
        node: String,
    },
    /// Servers ping every other server and every gateway.
    PingAll {
        /// How many servers ping; all by default.
        senders: Option<usize>,
    },
    /// Every generated flow's figures.
    Flows,
    /// Start a flow besides those that the controller asks for.
    StartFlow {
        /// Its id: another flow of that id is replaced.
        id: u64,
        /// Sender: `vm1` or `gw1`, and its address.
        from: (String, Ipv4Addr),
        /// Receiver and its address.
        to: (String, Ipv4Addr),
        /// Bits a second, layer 2.
        rate: u64,
        /// TCP instead of UDP, where no tool is named.
        #[serde(default)]
        tcp: bool,
        /// What generates it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool: Option<TrafficTool>,
    },
    /// End a flow; its figures stay.
    StopFlow {
        /// Its id.
        id: u64,
    },
    /// How far each machine's clock is from the asker's world's: measured now. A lab on one machine
    /// has one clock.
    Clocks,
    /// The counters of every interface of servers, gateways and VMs.
    Counters,
    /// Let a VM do something else from now on: what it uses of CPU and memory.
    LoadVm {
        /// The VM's number.
        vm: u64,
        /// What changes.
        change: Change,
    },
    /// Let a VM send to a gateway at a rate from now on; at 0 no more.
    SendFrom {
        /// The flow's id.
        id: u64,
        /// Which VM.
        vm: u64,
        /// The gateway's name.
        gateway: String,
        /// Bits a second, layer 2.
        rate: u64,
    },
    /// Let the switches send every packet to all of their other ports, as hubs do: for a lab
    /// without a controller and without loops.
    Hubs,
    /// What have servers and VMs used?
    Loads,
    /// Move a VM without the controller knowing: what a hypervisor does by itself.
    MoveVm {
        /// The VM's number.
        vm: u64,
        /// To which server, by its number from 0.
        to: u32,
        /// To which of its ports.
        port: u32,
        /// Bits a second of the transfer, layer 2.
        rate: u64,
        /// The last of its memory is sent when that takes no longer, nanoseconds.
        downtime_ns: u64,
        /// Rounds of pre-copy at most.
        rounds: u32,
    },
    /// Which VMs were paused, and when?
    Pauses,
    /// Start counting single packets between a node and a VM, in both directions.
    StartProbe {
        /// Between whom.
        probe: Probe,
    },
    /// End that; what came of every packet.
    StopProbe,
    /// End.
    Down,
    /// End when this connection does, however that comes about.
    Hold,
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum LabResponse {
    /// To `Status`.
    Status(Status),
    /// To `Find`.
    Found {
        /// Number of the namespace's descriptor in the lab's process.
        netns: i32,
    },
    /// To `Find`, for what is on another machine.
    Remote {
        /// What to put before a command for it to be run there: words for ssh, then the beginning
        /// of its command line.
        ssh: Vec<String>,
        /// See `ssh`.
        prefix: String,
    },
    /// To `PingAll`.
    Pings(Pings),
    /// To `Flows`.
    Flows {
        /// In order of id.
        flows: Vec<FlowReport>,
    },
    /// To `Clocks`.
    Clocks {
        /// A machine each.
        clocks: Vec<Clock>,
    },
    /// To `Counters`.
    Counters {
        /// In order of nodes.
        counters: Vec<Counter>,
    },
    /// To `Loads`.
    Loads {
        /// A server each.
        servers: Vec<ServerLoad>,
    },
    /// To `MoveVm`.
    Moved {
        /// How long it was silent, nanoseconds.
        downtime_ns: u64,
    },
    /// To `Pauses`.
    Pauses {
        /// The oldest first.
        pauses: Vec<Pause>,
    },
    /// To `StopProbe`.
    Probed {
        /// From the node to the VM.
        down: Vec<Packet>,
        /// From the VM to the node.
        up: Vec<Packet>,
    },
    /// It is done.
    Done,
    /// A testbed's node is there, with all that it was lent.
    Ready {
        /// Its guard's process id.
        guard: u32,
        /// Its own.
        node: u32,
        /// What keeps its VMs from using others' addresses, or why nothing does.
        #[serde(default)]
        port_filter: String,
    },
    /// What a testbed's node answers to: what time is it?
    Now {
        /// Nanoseconds on its machine's clock.
        ns: u64,
    },
    /// A testbed's node has ended, and all that it was lent is given back.
    Returned {
        /// How it ended.
        node: String,
    },
    /// To `Down`: it ends now.
    Ending,
    /// It could not be done.
    Error {
        /// Why.
        why: String,
    },
}

/// A lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its site's name.
    pub site: String,
    /// Switches, servers, gateways, links, VMs.
    pub counts: [usize; 5],
    /// `user space` or `the kernel`.
    pub datapath: String,
    /// What made hosts, switches and links: `native`; nothing of this machine, for a testbed.
    #[serde(default)]
    pub engine: Option<EngineKind>,
    /// How long each step of bringing it up took, in milliseconds.
    pub steps: Vec<(String, f64)>,
    /// Where the switches look for their controller.
    pub controller: String,
    /// A testbed's machines; none where all is on this one.
    #[serde(default)]
    pub machines: Vec<Machine>,
    /// What keeps VMs from using others' addresses.
    #[serde(default)]
    pub port_filter: String,
    /// What is not as it should be.
    #[serde(default)]
    pub trouble: Vec<String>,
}

/// A machine of a testbed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// As the inventory calls it.
    pub name: String,
    /// Where it is reached.
    pub address: String,
    /// What it is to the site: switches, servers, gateways.
    pub nodes: Vec<String>,
    /// The kernel's release.
    pub kernel: String,
    /// Open vSwitch's version, where it has one.
    pub ovs: Option<String>,
}

/// How far a machine's clock (CLOCK_MONOTONIC) is ahead of that of the lab's own process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Which machine.
    pub machine: String,
    /// When it was measured: nanoseconds on the lab's own clock.
    pub at_ns: i64,
    /// Nanoseconds ahead.
    pub offset_ns: i64,
    /// The round trip by which it was measured, nanoseconds: the offset is right within half of it.
    pub rtt_ns: i64,
}

/// An interface's counters, as the kernel keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the kernel's own names, linux/if_link.h: rtnl_link_stats64")]
pub struct Counter {
    /// `srv1`, `gw1`, `vm1`.
    pub node: String,
    /// The interface's name.
    pub interface: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_dropped: u64,
    pub rx_errors: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_dropped: u64,
    pub tx_errors: u64,
}

/// Who reached whom.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pings {
    /// Pairs tried.
    pub tried: usize,
    /// Pairs that answered.
    pub answered: usize,
    /// Some that did not.
    pub failed: Vec<String>,
}

/// A generated flow's figures since its start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FlowReport {
    /// Its id.
    pub id: u64,
    /// Sender's and receiver's names.
    pub ends: String,
    /// The traffic tool: `udp`, `tcp` ...
    pub transport: String,
    /// Asked for, bit/s on layer 2.
    pub rate: u64,
    /// Received, bit/s of payload.
    pub goodput: f64,
    /// Received, bytes of payload.
    pub bytes: u64,
    /// Packets (UDP) or messages of 8192 bytes (TCP) sent.
    pub sent: u64,
    /// The same, received; TCP loses none, what is missing is on its way.
    pub received: u64,
    /// Packets that came after a later one (UDP).
    pub reordered: u64,
    /// Mean delay in milliseconds.
    pub delay_ms: f64,
    /// Jitter in milliseconds (RFC 3550 section 6.4.1).
    pub jitter_ms: f64,
    /// Seconds it ran.
    pub seconds: f64,
    /// True once it was stopped.
    pub ended: bool,
    /// What the tool has to say: why it does not go on, what it has left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The delay is by the wall clocks of both ends, as a tool of others has it.
    #[serde(default)]
    pub own_clock: bool,
    /// What `transport` is another name of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<TrafficTool>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some_ask() -> impl Strategy<Value = LabRequest> {
        let end = || (".{0,9}", any::<u32>()).prop_map(|(name, ip)| (name, Ipv4Addr::from(ip)));
        prop_oneof![
            Just(LabRequest::Status),
            Just(LabRequest::Down),
            Just(LabRequest::Hold),
            ".{0,20}".prop_map(|node| LabRequest::Find { node }),
            any::<Option<usize>>().prop_map(|senders| LabRequest::PingAll { senders }),
            (any::<u64>(), end(), end(), any::<u64>(), any::<bool>()).prop_map(
                |(id, from, to, rate, tcp)| {
                    LabRequest::StartFlow { id, from, to, rate, tcp, tool: tcp.then_some(TrafficTool::TCP) }
                }
            ),
            (any::<u64>(), any::<u64>(), ".{0,9}", any::<u64>())
                .prop_map(|(id, vm, gateway, rate)| LabRequest::SendFrom { id, vm, gateway, rate }),
            (any::<u64>(), any::<[u32; 3]>(), any::<[u64; 2]>()).prop_map(
                |(vm, [to, port, rounds], [rate, downtime_ns])| LabRequest::MoveVm {
                    vm,
                    to,
                    port,
                    rate,
                    downtime_ns,
                    rounds
                }
            ),
            (any::<u64>(), any::<Option<u64>>()).prop_map(|(vm, dirty)| LabRequest::LoadVm {
                vm,
                change: Change { cpu: Some(0.5), dirty, working_set: None }
            }),
            (end(), end(), proptest::collection::vec(".{0,9}", 0..3), any::<u64>()).prop_map(
                |(node, vm, taps, every_us)| LabRequest::StartProbe {
                    probe: Probe { node, vm, taps, every_us }
                }
            ),
        ]
    }

    proptest! {
        /// A line asks and a line answers: neither may contain the end of one, whatever names have
        /// in them.
        #[test]
        fn what_is_asked_is_one_line_and_is_understood_as_it_was_meant(ask in some_ask()) {
            let line = serde_json::to_string(&ask).expect("JSON");
            prop_assert!(!line.contains('\n'));
            let heard: LabRequest = serde_json::from_str(&line).expect("what was said");
            prop_assert_eq!(serde_json::to_string(&heard).expect("JSON"), line);
        }

        #[test]
        fn any_line_is_a_question_or_an_error_that_is_one_line(
            ask in some_ask(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<char>()), 0..4),
        ) {
            let mut text: Vec<char> = serde_json::to_string(&ask).expect("JSON").chars().collect();
            for (at, c) in changes {
                let at = at.index(text.len());
                text[at] = c;
            }
            let line: String = text.into_iter().collect();
            if let Err(error) = serde_json::from_str::<LabRequest>(&line) {
                let answer = LabResponse::Error { why: format!("not understood: {error}") };
                let answer = serde_json::to_string(&answer).expect("JSON");
                prop_assert!(!answer.contains('\n'));
                let heard = serde_json::from_str::<LabResponse>(&answer);
                let is_error = matches!(heard, Ok(LabResponse::Error { .. }));
                prop_assert!(is_error);
            }
        }

        #[test]
        fn figures_of_flows_come_through_as_they_are(
            id in any::<u64>(), ends in ".{0,20}", counts in any::<[u64; 4]>(), goodput in any::<u32>(), ended in any::<bool>(),
        ) {
            let [bytes, sent, received, reordered] = counts;
            let goodput = f64::from(goodput);
            let flow = FlowReport { id, ends, bytes, sent, received, reordered, goodput, ended, ..Default::default() };
            let line = serde_json::to_string(&LabResponse::Flows { flows: vec![flow] }).expect("JSON");
            prop_assert!(!line.contains('\n'));
            let heard: LabResponse = serde_json::from_str(&line).expect("what was said");
            prop_assert_eq!(serde_json::to_string(&heard).expect("JSON"), line);
        }
    }
}
