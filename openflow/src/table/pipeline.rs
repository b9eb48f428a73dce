//! Several tables and what they do to a packet: apply and write actions, metadata, goto (OF 1.3.5 sections 5.1, 5.9 to 5.12). An
//! OpenFlow 1.0 switch is a pipeline of one table with applied actions only.

use super::flows::FlowTable;
use super::key::{FieldId, FlowKey};
use super::rewrite;
use crate::error::Blame;
use crate::{of10, of13};
use tandem_model::Time;

/// Port numbers as OpenFlow 1.3 has them; 1.0's reserved ones are translated.
use of13::port as port13;

/// One action, in one form for both versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Send out of a port (OpenFlow 1.3 numbers, reserved ones included).
    Output(u32),
    /// The queue for what is sent from here on.
    SetQueue(u32),
    /// Ethernet destination.
    SetEthDst([u8; 6]),
    /// Ethernet source.
    SetEthSrc([u8; 6]),
    /// VLAN id.
    SetVlanVid(u16),
    /// VLAN priority.
    SetVlanPcp(u8),
    /// Push a VLAN tag of this type.
    PushVlan(u16),
    /// Pop the VLAN tag.
    PopVlan,
    /// IPv4 source.
    SetIpv4Src(u32),
    /// IPv4 destination.
    SetIpv4Dst(u32),
    /// DSCP.
    SetDscp(u8),
    /// TCP or UDP source port.
    SetL4Src(u16),
    /// TCP or UDP destination port.
    SetL4Dst(u16),
    /// Lower the TTL; the packet ends where it is used up.
    DecTtl,
}

/// An action or instruction that this pipeline cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this switch cannot do {what}")]
pub struct Unsupported {
    /// Which.
    pub what: String,
    /// What to answer.
    pub blame: Blame,
}

impl Unsupported {
    fn new(what: String, blame: Blame) -> Unsupported {
        Unsupported { what, blame }
    }
}

/// A port that can be sent to, by OpenFlow 1.3 numbers: a physical one, or a reserved one with a meaning here.
fn sendable(port: u32) -> Result<u32, Unsupported> {
    match port {
        1..=port13::MAX | port13::IN_PORT..=port13::LOCAL => Ok(port),
        _ => Err(Unsupported::new(format!("sending to port {port:#x}"), Blame::BAD_OUT_PORT)),
    }
}

/// What a flow does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instructions {
    /// At once, in order.
    pub apply: Vec<Op>,
    /// Empties the action set first.
    pub clear: bool,
    /// Into the action set, done when the packet leaves the pipeline.
    pub write: Vec<Op>,
    /// Metadata: value and mask.
    pub metadata: Option<(u64, u64)>,
    /// On to a later table.
    pub goto: Option<u8>,
}

impl Instructions {
    /// Actions at once, nothing else.
    pub fn applying(apply: Vec<Op>) -> Instructions {
        Instructions { apply, ..Instructions::default() }
    }

    /// True when it sends to a port.
    pub fn sends_to(&self, port: u32) -> bool {
        self.apply.iter().chain(&self.write).any(|op| *op == Op::Output(port))
    }

    /// From OpenFlow 1.0 actions.
    ///
    /// # Errors
    /// For vendors' actions and ports that cannot be.
    pub fn from_of10(actions: &[of10::Action]) -> Result<Instructions, Unsupported> {
        use of10::Action;
        let wide = |p: u16| if p > of10::port::MAX { u32::from(p) | 0xffff_0000 } else { p.into() };
        let mut ops = Vec::new();
        for action in actions {
            match action {
                Action::Output { port, .. } => ops.push(Op::Output(sendable(wide(*port))?)),
                Action::Enqueue { port, queue_id, .. } => {
                    ops.extend([Op::SetQueue(*queue_id), Op::Output(sendable(wide(*port))?)])
                }
                Action::SetVlanVid(v, _) => ops.push(Op::SetVlanVid(*v)),
                Action::SetVlanPcp(v, _) => ops.push(Op::SetVlanPcp(*v)),
                Action::StripVlan(_) => ops.push(Op::PopVlan),
                Action::SetDlSrc(m, _) => ops.push(Op::SetEthSrc(m.0)),
                Action::SetDlDst(m, _) => ops.push(Op::SetEthDst(m.0)),
                Action::SetNwSrc(a) => ops.push(Op::SetIpv4Src(a.to_bits())),
                Action::SetNwDst(a) => ops.push(Op::SetIpv4Dst(a.to_bits())),
                Action::SetNwTos(t, _) => ops.push(Op::SetDscp(t >> 2)),
                Action::SetTpSrc(p, _) => ops.push(Op::SetL4Src(*p)),
                Action::SetTpDst(p, _) => ops.push(Op::SetL4Dst(*p)),
                Action::Vendor { vendor, .. } => {
                    let what = format!("an action of vendor {vendor:#x}");
                    return Err(Unsupported::new(what, Blame::BAD_ACTION_EXPERIMENTER));
                }
            }
        }
        Ok(Instructions::applying(ops))
    }

    /// From OpenFlow 1.3 instructions.
    ///
    /// # Errors
    /// For groups, meters, MPLS, PBB and experimenters, ports that cannot be, and an instruction that is there twice.
    pub fn from_of13(instructions: &[of13::Instruction]) -> Result<Instructions, Unsupported> {
        use of13::Instruction;
        let mut out = Instructions::default();
        for (at, instruction) in instructions.iter().enumerate() {
            let same =
                |other: &Instruction| std::mem::discriminant(other) == std::mem::discriminant(instruction);
            if instructions[..at].iter().any(same) {
                return Err(Unsupported::new(
                    "the same instruction twice".into(),
                    Blame::UNSUPPORTED_INSTRUCTION,
                ));
            }
            match instruction {
                Instruction::GotoTable(table, _) => out.goto = Some(*table),
                Instruction::WriteMetadata { metadata, mask, .. } => out.metadata = Some((*metadata, *mask)),
                Instruction::WriteActions(_, actions) => out.write = ops13(actions)?,
                Instruction::ApplyActions(_, actions) => out.apply = ops13(actions)?,
                Instruction::ClearActions(_) => out.clear = true,
                Instruction::Experimenter { .. } => {
                    let what = format!("{instruction:?}");
                    return Err(Unsupported::new(what, Blame::BAD_INSTRUCTION_EXPERIMENTER));
                }
                Instruction::Meter(_) => {
                    return Err(Unsupported::new(format!("{instruction:?}"), Blame::UNSUPPORTED_INSTRUCTION));
                }
            }
        }
        Ok(out)
    }
}

fn ops13(actions: &[of13::Action]) -> Result<Vec<Op>, Unsupported> {
    use of13::{Action, Field};
    actions
        .iter()
        .map(|action| {
            Ok(match action {
                Action::Output { port, .. } => Op::Output(sendable(*port)?),
                Action::SetQueue(queue) => Op::SetQueue(*queue),
                Action::PushVlan(kind @ (0x8100 | 0x88a8), _) => Op::PushVlan(*kind),
                Action::PushVlan(kind, _) => {
                    let what = format!("pushing a VLAN tag of type {kind:#06x}");
                    return Err(Unsupported::new(what, Blame::BAD_ACTION_ARGUMENT));
                }
                Action::PopVlan(_) => Op::PopVlan,
                Action::DecNwTtl(_) => Op::DecTtl,
                Action::SetField(field) => match field {
                    Field::EthDst(m) => Op::SetEthDst(m.value.0),
                    Field::EthSrc(m) => Op::SetEthSrc(m.value.0),
                    Field::VlanVid(v) => Op::SetVlanVid(v.value & 0xfff),
                    Field::VlanPcp(v) => Op::SetVlanPcp(*v),
                    Field::Ipv4Src(a) => Op::SetIpv4Src(a.value.to_bits()),
                    Field::Ipv4Dst(a) => Op::SetIpv4Dst(a.value.to_bits()),
                    Field::IpDscp(d) => Op::SetDscp(*d),
                    Field::TcpSrc(p) | Field::UdpSrc(p) => Op::SetL4Src(*p),
                    Field::TcpDst(p) | Field::UdpDst(p) => Op::SetL4Dst(*p),
                    other => {
                        return Err(Unsupported::new(format!("setting {other:?}"), Blame::BAD_SET_TYPE));
                    }
                },
                other => {
                    let blame = match other {
                        Action::Group(_) => Blame::BAD_OUT_GROUP,
                        Action::Experimenter { .. } => Blame::BAD_ACTION_EXPERIMENTER,
                        _ => Blame::BAD_ACTION_TYPE,
                    };
                    return Err(Unsupported::new(format!("{other:?}"), blame));
                }
            })
        })
        .collect()
}

/// A packet that leaves the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Out of which port; `CONTROLLER` and other reserved numbers as OpenFlow 1.3 has them, except that FLOOD, ALL and IN_PORT are
    /// already real ports.
    pub port: u32,
    /// By which queue.
    pub queue: u32,
    /// Its bytes.
    pub frame: Vec<u8>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The tables; packets enter at 0.
    pub tables: Vec<FlowTable>,
    /// The switch's ports, in order.
    pub ports: Vec<u32>,
}

impl Pipeline {
    /// Empty tables of at most `most` flows each.
    pub fn new(tables: u8, most: usize, ports: Vec<u32>) -> Pipeline {
        Pipeline { tables: (0..tables).map(|_| FlowTable::new(most)).collect(), ports }
    }

    /// What becomes of a packet; `None` when the first table has no flow for it (OpenFlow 1.0: to the controller; 1.3: dropped).
    pub fn process(&mut self, frame: &[u8], in_port: u32, now: Time) -> Option<Vec<Sent>> {
        let mut packet = Packet { frame: frame.to_vec(), queue: 0, in_port, sent: Vec::new() };
        let mut set: Vec<Op> = Vec::new();
        let (mut table, mut metadata) = (0usize, 0u64);
        loop {
            let mut key = FlowKey::new(&packet.frame, in_port);
            key.set(FieldId::Metadata, metadata.into());
            let length = packet.frame.len();
            let Some(flow) = self.tables.get_mut(table).and_then(|t| t.lookup(&key, length, now)) else {
                // A miss in a later table drops the packet, what was already sent stays sent.
                return (table > 0).then_some(packet.sent);
            };
            let instructions = flow.instructions.clone();
            if !packet.apply(&instructions.apply, &self.ports) {
                return Some(packet.sent);
            }
            if instructions.clear {
                set.clear();
            }
            for op in instructions.write {
                // One action of each kind: the later replaces the earlier (section 5.10).
                set.retain(|old| std::mem::discriminant(old) != std::mem::discriminant(&op));
                set.push(op);
            }
            if let Some((value, mask)) = instructions.metadata {
                metadata = metadata & !mask | value & mask;
            }
            match instructions.goto {
                // Only forwards (section 5.1), so this ends.
                Some(next) if usize::from(next) > table => table = next.into(),
                _ => break,
            }
        }
        // The set's order is fixed: tags, TTL, fields, queue, and the output last (section 5.10).
        set.sort_by_key(|op| match op {
            Op::PopVlan => 0,
            Op::PushVlan(_) => 1,
            Op::DecTtl => 2,
            Op::SetQueue(_) => 4,
            Op::Output(_) => 5,
            _ => 3,
        });
        packet.apply(&set, &self.ports);
        Some(packet.sent)
    }
}

struct Packet {
    frame: Vec<u8>,
    queue: u32,
    in_port: u32,
    sent: Vec<Sent>,
}

impl Packet {
    /// Does actions in order; false when the packet ends here.
    fn apply(&mut self, ops: &[Op], ports: &[u32]) -> bool {
        for op in ops {
            match *op {
                Op::Output(port) => self.output(port, ports),
                Op::SetQueue(queue) => self.queue = queue,
                Op::SetEthDst(mac) => rewrite::mac(&mut self.frame, 0, mac),
                Op::SetEthSrc(mac) => rewrite::mac(&mut self.frame, 6, mac),
                Op::SetVlanVid(vid) => rewrite::vlan(&mut self.frame, vid, 0x0fff),
                Op::SetVlanPcp(pcp) => rewrite::vlan(&mut self.frame, u16::from(pcp) << 13, 0xe000),
                Op::PushVlan(kind) => rewrite::push_vlan(&mut self.frame, kind),
                Op::PopVlan => rewrite::pop_vlan(&mut self.frame),
                Op::SetIpv4Src(a) => rewrite::ipv4_address(&mut self.frame, 12, a),
                Op::SetIpv4Dst(a) => rewrite::ipv4_address(&mut self.frame, 16, a),
                Op::SetDscp(d) => rewrite::dscp(&mut self.frame, d),
                Op::SetL4Src(p) => rewrite::port(&mut self.frame, 0, p),
                Op::SetL4Dst(p) => rewrite::port(&mut self.frame, 2, p),
                Op::DecTtl => {
                    if !rewrite::dec_ttl(&mut self.frame) {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn output(&mut self, port: u32, ports: &[u32]) {
        let targets: Vec<u32> = match port {
            port13::FLOOD | port13::ALL => ports.iter().copied().filter(|p| *p != self.in_port).collect(),
            port13::IN_PORT => vec![self.in_port],
            // A packet never goes back where it came from, unless it is said so (IN_PORT).
            p if p == self.in_port => Vec::new(),
            p => vec![p],
        };
        let (queue, frame) = (self.queue, &self.frame);
        self.sent.extend(targets.into_iter().map(|port| Sent { port, queue, frame: frame.clone() }));
    }
}
