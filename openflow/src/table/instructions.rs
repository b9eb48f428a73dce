//! What a flow does, in one form for both versions: actions and instructions as they are carried out (OF 1.0 section 3.3, OF 1.3.5 sections
//! 5.9 to 5.12), made from either version's.

use crate::error::Blame;
use crate::{of10, of13};

/// Port numbers as OpenFlow 1.3 has them; 1.0's reserved ones are translated.
use of13::port as port13;

/// One action, in one form for both versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Send out of a port (OpenFlow 1.3 numbers, reserved ones included).
    Output(u32),
    /// Send to the controller: this many bytes at most, [`of13::action::NO_BUFFER`] for the whole packet.
    Controller(u16),
    /// Through a group.
    Group(u32),
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
    /// Lower the TTL or hop limit; the packet ends where it is used up.
    DecTtl,
    /// TTL or hop limit.
    SetTtl(u8),
    /// ECN.
    SetEcn(u8),
}

impl Op {
    /// True when it changes the packet's bytes.
    pub fn rewrites(self) -> bool {
        !matches!(self, Op::Output(_) | Op::Controller(_) | Op::Group(_) | Op::SetQueue(_))
    }

    /// Its place in an action set: tags, TTL, fields, queue, group, and the output last (OF 1.3.5 section 5.10).
    fn place(self) -> u8 {
        match self {
            Op::PopVlan => 0,
            Op::PushVlan(_) => 1,
            Op::DecTtl => 2,
            Op::SetQueue(_) => 4,
            Op::Group(_) => 5,
            Op::Output(_) | Op::Controller(_) => 6,
            _ => 3,
        }
    }

    /// True when an action set holds only one of the two: they are of the same kind.
    fn same_kind(self, other: Op) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
            || (self.place() == 6 && other.place() == 6)
    }
}

/// Puts an action into an action set: the later replaces the earlier of its kind (section 5.10).
pub(super) fn into_set(set: &mut Vec<Op>, op: Op) {
    set.retain(|old| !old.same_kind(op));
    set.push(op);
}

/// Puts an action set into the order in which it is carried out; a group takes the place of an output (section 5.10).
pub(super) fn in_order(set: &mut Vec<Op>) {
    if set.iter().any(|op| matches!(op, Op::Group(_))) {
        set.retain(|op| op.place() != 6);
    }
    set.sort_by_key(|op| op.place());
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

/// Sending to a port by its OpenFlow 1.3 number: a physical one, or a reserved one with a meaning here. There is no switch without
/// OpenFlow under this one (NORMAL), and the way through the first table is for PACKET_OUT only.
fn sending(port: u32, max_len: u16) -> Result<Op, Unsupported> {
    match port {
        port13::CONTROLLER => Ok(Op::Controller(max_len)),
        1..=port13::MAX | port13::IN_PORT | port13::TABLE | port13::FLOOD | port13::ALL | port13::LOCAL => {
            Ok(Op::Output(port))
        }
        _ => Err(Unsupported::new(format!("sending to port {port:#x}"), Blame::BAD_OUT_PORT)),
    }
}

/// Refuses the way through the first table, which only PACKET_OUT can send.
pub(super) fn no_table(ops: Vec<Op>) -> Result<Vec<Op>, Unsupported> {
    if ops.contains(&Op::Output(port13::TABLE)) {
        return Err(Unsupported::new(
            "sending to the first table from a flow or group".into(),
            Blame::BAD_OUT_PORT,
        ));
    }
    Ok(ops)
}

/// What a flow does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instructions {
    /// A meter to pass first.
    pub meter: Option<u32>,
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
        let sends = |op: &Op| match *op {
            Op::Output(to) => to == port,
            Op::Controller(_) => port == port13::CONTROLLER,
            _ => false,
        };
        self.apply.iter().chain(&self.write).any(sends)
    }

    /// True when it sends through a group.
    pub fn sends_to_group(&self, group: u32) -> bool {
        self.groups().any(|g| g == group)
    }

    /// The groups that it sends through.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.apply.iter().chain(&self.write).filter_map(|op| match op {
            Op::Group(group) => Some(*group),
            _ => None,
        })
    }

    /// From OpenFlow 1.0 actions.
    ///
    /// # Errors
    /// For vendors' actions and ports that cannot be.
    pub fn from_of10(actions: &[of10::Action]) -> Result<Instructions, Unsupported> {
        Ok(Instructions::applying(no_table(ops10(actions)?)?))
    }

    /// From OpenFlow 1.3 instructions.
    ///
    /// # Errors
    /// For MPLS, PBB and experimenters, ports that cannot be, and an instruction that is there twice.
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
                Instruction::WriteActions(_, actions) => out.write = no_table(ops13(actions)?)?,
                Instruction::ApplyActions(_, actions) => out.apply = no_table(ops13(actions)?)?,
                Instruction::ClearActions(_) => out.clear = true,
                Instruction::Experimenter { .. } => {
                    let what = format!("{instruction:?}");
                    return Err(Unsupported::new(what, Blame::BAD_INSTRUCTION_EXPERIMENTER));
                }
                Instruction::Other { kind, .. } => {
                    let what = format!("an instruction of type {kind}");
                    return Err(Unsupported::new(what, Blame::UNKNOWN_INSTRUCTION));
                }
                Instruction::Meter(meter) => out.meter = Some(*meter),
            }
        }
        Ok(out)
    }
}

/// A port's number in OpenFlow 1.0 as 1.3 has it: the reserved ones stand at the top of either's numbers.
pub(crate) fn wide(port: u16) -> u32 {
    if port > of10::port::MAX { u32::from(port) | 0xffff_0000 } else { port.into() }
}

/// A list of OpenFlow 1.0 actions.
///
/// # Errors
/// For vendors' actions and ports that cannot be.
pub fn ops10(actions: &[of10::Action]) -> Result<Vec<Op>, Unsupported> {
    use of10::Action;
    let mut ops = Vec::new();
    for action in actions {
        match action {
            Action::Output { port, max_len } => ops.push(sending(wide(*port), *max_len)?),
            Action::Enqueue { port, queue_id, .. } => {
                // Only what is sent here goes by that queue (section 5.2.4), later outputs go by none.
                ops.extend([
                    Op::SetQueue(*queue_id),
                    sending(wide(*port), of13::action::NO_BUFFER)?,
                    Op::SetQueue(0),
                ]);
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
            Action::Other { kind, .. } => {
                return Err(Unsupported::new(format!("an action of type {kind}"), Blame::BAD_ACTION_TYPE));
            }
        }
    }
    Ok(ops)
}

/// A list of OpenFlow 1.3 actions.
///
/// # Errors
/// For MPLS, PBB and experimenters, and ports that cannot be.
pub fn ops13(actions: &[of13::Action]) -> Result<Vec<Op>, Unsupported> {
    use of13::{Action, Field};
    actions
        .iter()
        .map(|action| {
            Ok(match action {
                Action::Output { port, max_len, .. } => sending(*port, *max_len)?,
                Action::SetQueue(queue) => Op::SetQueue(*queue),
                Action::PushVlan(kind @ (0x8100 | 0x88a8), _) => Op::PushVlan(*kind),
                Action::PushVlan(kind, _) => {
                    let what = format!("pushing a VLAN tag of type {kind:#06x}");
                    return Err(Unsupported::new(what, Blame::BAD_ACTION_ARGUMENT));
                }
                Action::PopVlan(_) => Op::PopVlan,
                Action::DecNwTtl(_) => Op::DecTtl,
                Action::SetNwTtl(ttl, _) => Op::SetTtl(*ttl),
                Action::Group(group) => Op::Group(*group),
                Action::SetField(field) => match field {
                    Field::EthDst(m) => Op::SetEthDst(m.value.0),
                    Field::EthSrc(m) => Op::SetEthSrc(m.value.0),
                    Field::VlanVid(v) => Op::SetVlanVid(v.value & 0xfff),
                    Field::VlanPcp(v) => Op::SetVlanPcp(*v),
                    Field::Ipv4Src(a) => Op::SetIpv4Src(a.value.to_bits()),
                    Field::Ipv4Dst(a) => Op::SetIpv4Dst(a.value.to_bits()),
                    Field::IpDscp(d) => Op::SetDscp(*d),
                    Field::IpEcn(e) => Op::SetEcn(*e),
                    Field::TcpSrc(p) | Field::UdpSrc(p) => Op::SetL4Src(*p),
                    Field::TcpDst(p) | Field::UdpDst(p) => Op::SetL4Dst(*p),
                    other => {
                        return Err(Unsupported::new(format!("setting {other:?}"), Blame::BAD_SET_TYPE));
                    }
                },
                other => {
                    let blame = match other {
                        Action::Experimenter { .. } => Blame::BAD_ACTION_EXPERIMENTER,
                        _ => Blame::BAD_ACTION_TYPE,
                    };
                    return Err(Unsupported::new(format!("{other:?}"), blame));
                }
            })
        })
        .collect()
}
