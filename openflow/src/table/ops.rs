//! Actions in one form for both versions (OF 1.0 section 3.3, OF 1.3.5 sections 5.10 to 5.12 and
//! 7.2.5).

use crate::error::OfErrorCode;
use crate::{of10, of13};

/// Port numbers are those of OpenFlow 1.3; the reserved ones of 1.0 are translated.
use of13::port as port13;

/// One action. Remembered decisions consist of these, so they are small: an operand of more than 8
/// bytes is split into two actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Output to a port (OpenFlow 1.3 numbers, reserved ones included).
    Output(u32),
    /// Output to the controller: at most this many bytes, [`of13::action::NO_BUFFER`] for the whole
    /// packet.
    Controller(u16),
    /// Apply a group.
    Group(u32),
    /// The queue of the outputs behind this action.
    SetQueue(u32),
    /// Ethernet destination.
    SetEthDst([u8; 6]),
    /// Ethernet source.
    SetEthSrc([u8; 6]),
    /// Ethernet type, behind a VLAN tag.
    SetEthType(u16),
    /// VLAN id.
    SetVlanVid(u16),
    /// VLAN priority.
    SetVlanPcp(u8),
    /// Push a VLAN tag of this type.
    PushVlan(u16),
    /// Pop the VLAN tag.
    PopVlan,
    /// IP protocol.
    SetIpProto(u8),
    /// IPv4 source.
    SetIpv4Src(u32),
    /// IPv4 destination.
    SetIpv4Dst(u32),
    /// The first half of the IPv6 source.
    SetIpv6SrcHigh([u8; 8]),
    /// The second half of the IPv6 source.
    SetIpv6SrcLow([u8; 8]),
    /// The first half of the IPv6 destination.
    SetIpv6DstHigh([u8; 8]),
    /// The second half of the IPv6 destination.
    SetIpv6DstLow([u8; 8]),
    /// IPv6 flow label.
    SetIpv6Flabel(u32),
    /// DSCP.
    SetDscp(u8),
    /// ECN.
    SetEcn(u8),
    /// TCP or UDP source port.
    SetL4Src(u16),
    /// TCP or UDP destination port.
    SetL4Dst(u16),
    /// SCTP source port.
    SetSctpSrc(u16),
    /// SCTP destination port.
    SetSctpDst(u16),
    /// ICMP type.
    SetIcmpType(u8),
    /// ICMP code.
    SetIcmpCode(u8),
    /// ICMPv6 type.
    SetIcmpv6Type(u8),
    /// ICMPv6 code.
    SetIcmpv6Code(u8),
    /// The first half of the target of a neighbour solicitation or advertisement.
    SetNdTargetHigh([u8; 8]),
    /// The second half of that target.
    SetNdTargetLow([u8; 8]),
    /// Source link-layer address in a neighbour solicitation.
    SetNdSll([u8; 6]),
    /// Target link-layer address in a neighbour advertisement.
    SetNdTll([u8; 6]),
    /// ARP opcode.
    SetArpOp(u16),
    /// ARP sender's address.
    SetArpSpa(u32),
    /// ARP target's address.
    SetArpTpa(u32),
    /// ARP sender's Ethernet address.
    SetArpSha([u8; 6]),
    /// ARP target's Ethernet address.
    SetArpTha([u8; 6]),
    /// Decrement the TTL or hop limit; a packet with an invalid one is dropped.
    DecTtl,
    /// TTL or hop limit.
    SetTtl(u8),
    /// Push an MPLS label stack entry of this type.
    PushMpls(u16),
    /// Pop the MPLS label stack entry; what is under it is of this type.
    PopMpls(u16),
    /// MPLS label.
    SetMplsLabel(u32),
    /// MPLS traffic class.
    SetMplsTc(u8),
    /// MPLS bottom of stack.
    SetMplsBos(u8),
    /// Decrement the MPLS TTL; a packet with an invalid one is dropped.
    DecMplsTtl,
    /// MPLS TTL.
    SetMplsTtl(u8),
    /// Copy the TTL of the next header outwards into the MPLS header.
    CopyTtlOut,
    /// Copy the TTL of the MPLS header inwards into the next one.
    CopyTtlIn,
    /// Push a PBB service tag of this type.
    PushPbb(u16),
    /// Pop the PBB service tag.
    PopPbb,
    /// PBB I-SID.
    SetPbbIsid(u32),
    /// Set TUNNEL_ID, in network order; changes no byte of the packet.
    SetTunnelId([u8; 8]),
}

impl Op {
    /// True when it changes the packet's bytes.
    pub fn rewrites(self) -> bool {
        !matches!(
            self,
            Op::Output(_) | Op::Controller(_) | Op::Group(_) | Op::SetQueue(_) | Op::SetTunnelId(_)
        )
    }

    /// Its rank in an action set (OF 1.3.5 section 5.10).
    pub(super) fn place(self) -> u8 {
        match self {
            Op::CopyTtlIn => 1,
            Op::PopVlan | Op::PopMpls(_) | Op::PopPbb => 2,
            Op::PushMpls(_) => 3,
            Op::PushPbb(_) => 4,
            Op::PushVlan(_) => 5,
            Op::CopyTtlOut => 6,
            Op::DecTtl | Op::DecMplsTtl => 7,
            Op::SetQueue(_) => 9,
            Op::Group(_) => 10,
            Op::Output(_) | Op::Controller(_) => Op::LAST,
            _ => 8,
        }
    }

    /// The rank of outputs in an action set.
    pub(super) const LAST: u8 = 11;

    /// Whether a later table may see fields afterwards that do not follow from the packet's compact
    /// key: a header becomes visible, or is read in another way.
    pub(super) fn uncovers(self) -> bool {
        matches!(
            self,
            Op::PopMpls(_) | Op::PopPbb | Op::SetEthType(_) | Op::SetIpProto(_) | Op::SetIcmpv6Type(_)
        )
    }

    /// Translates an OpenFlow 1.3 action into one or two of these.
    ///
    /// For experimenters' actions, ports that OpenFlow 1.3 does not allow, tag types that are not
    /// defined, and fields that an action cannot set.
    pub fn from_of13(action: &of13::Action) -> Result<(Op, Option<Op>), Unsupported> {
        use of13::Action;
        let op = match action {
            Action::Output { port, max_len, .. } => sending(*port, *max_len)?,
            Action::SetQueue(queue) => Op::SetQueue(*queue),
            Action::Group(group) => Op::Group(*group),
            Action::PushVlan(kind, _) => Op::PushVlan(tag(*kind, &[0x8100, 0x88a8], "VLAN tag")?),
            Action::PopVlan(_) => Op::PopVlan,
            Action::PushMpls(kind, _) => Op::PushMpls(tag(*kind, &[0x8847, 0x8848], "MPLS header")?),
            Action::PopMpls(kind, _) => Op::PopMpls(*kind),
            Action::PushPbb(kind, _) => Op::PushPbb(tag(*kind, &[0x88e7], "PBB service tag")?),
            Action::PopPbb(_) => Op::PopPbb,
            Action::SetNwTtl(ttl, _) => Op::SetTtl(*ttl),
            Action::DecNwTtl(_) => Op::DecTtl,
            Action::SetMplsTtl(ttl, _) => Op::SetMplsTtl(*ttl),
            Action::DecMplsTtl(_) => Op::DecMplsTtl,
            Action::CopyTtlOut(_) => Op::CopyTtlOut,
            Action::CopyTtlIn(_) => Op::CopyTtlIn,
            Action::SetField(field) => return setting(field),
            Action::Experimenter { .. } => {
                return Err(Unsupported::new(format!("{action:?}"), OfErrorCode::BAD_ACTION_EXPERIMENTER));
            }
            Action::Other { kind, .. } => {
                return Err(Unsupported::new(
                    format!("an action of type {kind}"),
                    OfErrorCode::BAD_ACTION_TYPE,
                ));
            }
        };
        Ok((op, None))
    }
}

/// An action or instruction that this pipeline does not support.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this switch cannot do {what}")]
pub struct Unsupported {
    /// The action or instruction.
    pub what: String,
    /// The OpenFlow error to answer with.
    pub of_error: OfErrorCode,
}

impl Unsupported {
    pub(super) fn new(what: impl Into<String>, of_error: OfErrorCode) -> Unsupported {
        Unsupported { what: what.into(), of_error }
    }
}

/// Checks the Ethernet type of a tag to push.
fn tag(kind: u16, kinds: &[u16], what: &str) -> Result<u16, Unsupported> {
    if kinds.contains(&kind) {
        return Ok(kind);
    }
    Err(Unsupported::new(format!("pushing a {what} of type {kind:#06x}"), OfErrorCode::BAD_ACTION_ARGUMENT))
}

/// Output to a port by its OpenFlow 1.3 number: a physical port, or a reserved one that this switch
/// supports. NORMAL is not, since there is no other forwarding beside OpenFlow; TABLE is for
/// PACKET_OUT only.
fn sending(port: u32, max_len: u16) -> Result<Op, Unsupported> {
    match port {
        port13::CONTROLLER => Ok(Op::Controller(max_len)),
        1..=port13::MAX | port13::IN_PORT | port13::TABLE | port13::FLOOD | port13::ALL | port13::LOCAL => {
            Ok(Op::Output(port))
        }
        _ => Err(Unsupported::new(format!("sending to port {port:#x}"), OfErrorCode::BAD_OUT_PORT)),
    }
}

/// The two halves of an address.
fn halves(address: std::net::Ipv6Addr) -> ([u8; 8], [u8; 8]) {
    let bits = address.to_bits();
    (((bits >> 64) as u64).to_be_bytes(), (bits as u64).to_be_bytes())
}

/// Sets a field to a value.
fn setting(field: &of13::Field) -> Result<(Op, Option<Op>), Unsupported> {
    use of13::Field;
    let op = match field {
        Field::EthDst(m) => Op::SetEthDst(m.value.0),
        Field::EthSrc(m) => Op::SetEthSrc(m.value.0),
        Field::EthType(kind) => Op::SetEthType(*kind),
        // Section 7.2.5: OFPVID_PRESENT must be set.
        Field::VlanVid(v) if v.value & of13::oxm::VLAN_PRESENT == 0 => {
            let what = format!("setting VLAN_VID to {:#x}, without OFPVID_PRESENT", v.value);
            return Err(Unsupported::new(what, OfErrorCode::BAD_SET_ARGUMENT));
        }
        Field::VlanVid(v) => Op::SetVlanVid(v.value & 0xfff),
        Field::VlanPcp(v) => Op::SetVlanPcp(*v),
        Field::IpDscp(d) => Op::SetDscp(*d),
        Field::IpEcn(e) => Op::SetEcn(*e),
        Field::IpProto(p) => Op::SetIpProto(*p),
        Field::Ipv4Src(a) => Op::SetIpv4Src(a.value.to_bits()),
        Field::Ipv4Dst(a) => Op::SetIpv4Dst(a.value.to_bits()),
        Field::TcpSrc(p) | Field::UdpSrc(p) => Op::SetL4Src(*p),
        Field::TcpDst(p) | Field::UdpDst(p) => Op::SetL4Dst(*p),
        Field::SctpSrc(p) => Op::SetSctpSrc(*p),
        Field::SctpDst(p) => Op::SetSctpDst(*p),
        Field::Icmpv4Type(t) => Op::SetIcmpType(*t),
        Field::Icmpv4Code(c) => Op::SetIcmpCode(*c),
        Field::ArpOp(op) => Op::SetArpOp(*op),
        Field::ArpSpa(a) => Op::SetArpSpa(a.value.to_bits()),
        Field::ArpTpa(a) => Op::SetArpTpa(a.value.to_bits()),
        Field::ArpSha(m) => Op::SetArpSha(m.value.0),
        Field::ArpTha(m) => Op::SetArpTha(m.value.0),
        Field::Ipv6Src(a) => {
            let (high, low) = halves(a.value);
            return Ok((Op::SetIpv6SrcHigh(high), Some(Op::SetIpv6SrcLow(low))));
        }
        Field::Ipv6Dst(a) => {
            let (high, low) = halves(a.value);
            return Ok((Op::SetIpv6DstHigh(high), Some(Op::SetIpv6DstLow(low))));
        }
        Field::Ipv6NdTarget(a) => {
            let (high, low) = halves(*a);
            return Ok((Op::SetNdTargetHigh(high), Some(Op::SetNdTargetLow(low))));
        }
        Field::Ipv6Flabel(l) => Op::SetIpv6Flabel(l.value),
        Field::Icmpv6Type(t) => Op::SetIcmpv6Type(*t),
        Field::Icmpv6Code(c) => Op::SetIcmpv6Code(*c),
        Field::Ipv6NdSll(m) => Op::SetNdSll(m.0),
        Field::Ipv6NdTll(m) => Op::SetNdTll(m.0),
        Field::MplsLabel(l) => Op::SetMplsLabel(*l),
        Field::MplsTc(c) => Op::SetMplsTc(*c),
        Field::MplsBos(b) => Op::SetMplsBos(*b),
        Field::PbbIsid(s) => Op::SetPbbIsid(s.value.get()),
        Field::TunnelId(t) => Op::SetTunnelId(t.value.to_be_bytes()),
        // No action sets these (section 7.2.5): the input port, the metadata of tables, and the set
        // of extension headers.
        Field::InPort(_) | Field::InPhyPort(_) | Field::Metadata(_) | Field::Ipv6Exthdr(_) => {
            return Err(Unsupported::new(format!("setting {field:?}"), OfErrorCode::BAD_SET_TYPE));
        }
        Field::Other { .. } => {
            return Err(Unsupported::new(format!("setting {field:?}"), OfErrorCode::BAD_SET_TYPE));
        }
    };
    Ok((op, None))
}

/// Refuses output to TABLE, which is for PACKET_OUT only.
pub(super) fn no_table(ops: Vec<Op>) -> Result<Vec<Op>, Unsupported> {
    if ops.contains(&Op::Output(port13::TABLE)) {
        return Err(Unsupported::new(
            "sending to the first table from a flow or group",
            OfErrorCode::BAD_OUT_PORT,
        ));
    }
    Ok(ops)
}

/// Translates a port's number of OpenFlow 1.0 to 1.3: the reserved ones are at the top of either
/// range.
pub(crate) fn wide(port: u16) -> u32 {
    if port > of10::port::MAX { u32::from(port) | 0xffff_0000 } else { port.into() }
}

/// Translates a list of OpenFlow 1.0 actions.
///
/// For vendors' actions and for ports that OpenFlow 1.0 does not allow.
pub fn ops10(actions: &[of10::Action]) -> Result<Vec<Op>, Unsupported> {
    use of10::Action;
    let mut ops = Vec::new();
    for action in actions {
        match action {
            Action::Output { port, max_len } => ops.push(sending(wide(*port), *max_len)?),
            Action::Enqueue { port, queue_id, .. } => {
                // The queue is for this output only (section 5.2.4); later outputs have none.
                ops.extend([
                    Op::SetQueue(*queue_id),
                    sending(wide(*port), of13::action::NO_BUFFER)?,
                    Op::SetQueue(super::executor::NO_QUEUE),
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
                return Err(Unsupported::new(what, OfErrorCode::BAD_ACTION_EXPERIMENTER));
            }
            Action::Other { kind, .. } => {
                return Err(Unsupported::new(
                    format!("an action of type {kind}"),
                    OfErrorCode::BAD_ACTION_TYPE,
                ));
            }
        }
    }
    Ok(ops)
}

/// Translates a list of OpenFlow 1.3 actions.
///
/// # Errors
/// As [`Op::from_of13`].
pub fn ops13(actions: &[of13::Action]) -> Result<Vec<Op>, Unsupported> {
    let mut ops = Vec::with_capacity(actions.len());
    for action in actions {
        let (op, second) = Op::from_of13(action)?;
        ops.push(op);
        ops.extend(second);
    }
    Ok(ops)
}
