//! The state of a switch for people: its controllers and its flows, in the syntax of `ovs-ofctl`.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use tandem_model::Mac;
use tandem_openflow::of13::port;
use tandem_openflow::switch::Switch;
use tandem_openflow::table::{Criteria, FieldId, Instructions, Op};

/// The state of a switch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SwitchDump {
    /// Its controllers, each with the reason why it is not connected; empty if it is.
    pub controllers: Vec<(String, String)>,
    /// Remarks on its packet I/O, such as on a card, a line each.
    #[serde(default)]
    pub about: Vec<String>,
    /// Its flows.
    pub flows: Vec<DumpedFlow>,
}

/// A flow as text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DumpedFlow {
    /// Its table.
    pub table: u8,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
    /// Its match.
    pub matches: String,
    /// Its actions.
    pub does: String,
    /// Packets that matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where else it is held, such as in a row of a card.
    pub place: Option<String>,
}

/// The flows of a switch, by table and descending priority.
pub(super) fn flows(switch: &Switch) -> Vec<DumpedFlow> {
    let mut all = Vec::new();
    for (table, flows) in (0u8..).zip(&switch.pipeline().tables) {
        all.extend(flows.iter().map(|f| DumpedFlow {
            table,
            priority: f.priority,
            cookie: f.cookie,
            matches: matches(&f.criteria),
            does: does(&f.instructions),
            packets: f.packets,
            bytes: f.bytes,
            place: switch.remark_of(f.id).map(str::to_owned),
        }));
    }
    all.sort_by_key(|f| (f.table, std::cmp::Reverse(f.priority)));
    all
}

fn matches(criteria: &Criteria) -> String {
    let mut out = String::new();
    for (field, value, mask) in criteria.fields() {
        let (name, width) = name(field);
        let full = if width == 128 { u128::MAX } else { (1 << width) - 1 };
        if !out.is_empty() {
            out.push(',');
        }
        let _ = write!(out, "{name}={}", shown(field, value));
        if mask & full != full {
            let _ = match prefix(mask & full, width) {
                Some(length)
                    if matches!(
                        field,
                        FieldId::Ipv4Src | FieldId::Ipv4Dst | FieldId::ArpSpa | FieldId::ArpTpa
                    ) =>
                {
                    write!(out, "/{length}")
                }
                _ => write!(out, "/{}", shown(field, mask & full)),
            };
        }
    }
    if out.is_empty() { "any".into() } else { out }
}

/// The length of a mask that is a prefix.
fn prefix(mask: u128, width: u32) -> Option<u32> {
    let zeros = mask.trailing_zeros().min(width);
    (mask.count_ones() == width - zeros).then_some(width - zeros)
}

/// Its name in `ovs-ofctl`, and its width in bits.
fn name(field: FieldId) -> (&'static str, u32) {
    match field {
        FieldId::InPort => ("in_port", 32),
        FieldId::InPhyPort => ("in_phy_port", 32),
        FieldId::Metadata => ("metadata", 64),
        FieldId::EthDst => ("dl_dst", 48),
        FieldId::EthSrc => ("dl_src", 48),
        FieldId::EthType => ("dl_type", 16),
        FieldId::VlanVid => ("vlan_tci", 13),
        FieldId::VlanPcp => ("dl_vlan_pcp", 3),
        FieldId::IpDscp => ("ip_dscp", 6),
        FieldId::IpEcn => ("nw_ecn", 2),
        FieldId::IpProto => ("nw_proto", 8),
        FieldId::Ipv4Src => ("nw_src", 32),
        FieldId::Ipv4Dst => ("nw_dst", 32),
        FieldId::L4Src => ("tp_src", 16),
        FieldId::L4Dst => ("tp_dst", 16),
        FieldId::IcmpType => ("icmp_type", 8),
        FieldId::IcmpCode => ("icmp_code", 8),
        FieldId::ArpOp => ("arp_op", 16),
        FieldId::ArpSpa => ("arp_spa", 32),
        FieldId::ArpTpa => ("arp_tpa", 32),
        FieldId::ArpSha => ("arp_sha", 48),
        FieldId::ArpTha => ("arp_tha", 48),
        FieldId::Ipv6Src => ("ipv6_src", 128),
        FieldId::Ipv6Dst => ("ipv6_dst", 128),
        FieldId::Ipv6Flabel => ("ipv6_label", 20),
        FieldId::Icmpv6Type => ("icmpv6_type", 8),
        FieldId::Icmpv6Code => ("icmpv6_code", 8),
        FieldId::Ipv6NdTarget => ("nd_target", 128),
        FieldId::Ipv6NdSll => ("nd_sll", 48),
        FieldId::Ipv6NdTll => ("nd_tll", 48),
        FieldId::MplsLabel => ("mpls_label", 20),
        FieldId::MplsTc => ("mpls_tc", 3),
        FieldId::MplsBos => ("mpls_bos", 1),
        FieldId::PbbIsid => ("pbb_isid", 24),
        FieldId::TunnelId => ("tun_id", 64),
        FieldId::Ipv6Exthdr => ("ipv6_exthdr", 9),
    }
}

fn shown(field: FieldId, value: u128) -> String {
    match field {
        FieldId::EthDst
        | FieldId::EthSrc
        | FieldId::ArpSha
        | FieldId::ArpTha
        | FieldId::Ipv6NdSll
        | FieldId::Ipv6NdTll => {
            let [_, _, _, _, _, _, _, _, _, _, mac @ ..] = value.to_be_bytes();
            Mac(mac).to_string()
        }
        FieldId::Ipv4Src | FieldId::Ipv4Dst | FieldId::ArpSpa | FieldId::ArpTpa => {
            Ipv4Addr::from_bits(value as u32).to_string()
        }
        FieldId::EthType | FieldId::VlanVid | FieldId::Metadata | FieldId::TunnelId => format!("{value:#x}"),
        FieldId::InPort => to(value as u32),
        FieldId::Ipv6Src | FieldId::Ipv6Dst | FieldId::Ipv6NdTarget => Ipv6Addr::from_bits(value).to_string(),
        _ => value.to_string(),
    }
}

fn to(number: u32) -> String {
    match number {
        port::IN_PORT => "IN_PORT".into(),
        port::FLOOD => "FLOOD".into(),
        port::ALL => "ALL".into(),
        port::CONTROLLER => "CONTROLLER".into(),
        port::LOCAL => "LOCAL".into(),
        port::TABLE => "TABLE".into(),
        other => other.to_string(),
    }
}

fn does(instructions: &Instructions) -> String {
    let mut parts = Vec::new();
    let list = |ops: &[Op]| ops.iter().map(op).collect::<Vec<_>>().join(",");
    if let Some(meter) = instructions.meter {
        parts.push(format!("meter:{meter}"));
    }
    if !instructions.apply.is_empty() {
        parts.push(list(&instructions.apply));
    }
    if instructions.clear {
        parts.push("clear_actions".into());
    }
    if !instructions.write.is_empty() {
        parts.push(format!("write_actions({})", list(&instructions.write)));
    }
    if let Some((value, mask)) = instructions.metadata {
        parts.push(format!("write_metadata:{value:#x}/{mask:#x}"));
    }
    if let Some(table) = instructions.goto {
        parts.push(format!("goto_table:{table}"));
    }
    if parts.is_empty() { "drop".into() } else { parts.join(",") }
}

fn op(op: &Op) -> String {
    match op {
        Op::Output(port) => format!("output:{}", to(*port)),
        Op::Controller(u16::MAX) => "CONTROLLER".into(),
        Op::Controller(bytes) => format!("CONTROLLER:{bytes}"),
        Op::Group(group) => format!("group:{group}"),
        Op::SetQueue(queue) => format!("set_queue:{queue}"),
        Op::SetEthDst(mac) => format!("mod_dl_dst:{}", Mac(*mac)),
        Op::SetEthSrc(mac) => format!("mod_dl_src:{}", Mac(*mac)),
        Op::SetVlanVid(vid) => format!("mod_vlan_vid:{vid}"),
        Op::SetVlanPcp(pcp) => format!("mod_vlan_pcp:{pcp}"),
        Op::PushVlan(kind) => format!("push_vlan:{kind:#06x}"),
        Op::PopVlan => "pop_vlan".into(),
        Op::SetIpv4Src(a) => format!("mod_nw_src:{}", Ipv4Addr::from_bits(*a)),
        Op::SetIpv4Dst(a) => format!("mod_nw_dst:{}", Ipv4Addr::from_bits(*a)),
        Op::SetDscp(dscp) => format!("mod_nw_tos:{}", u32::from(*dscp) << 2),
        Op::SetL4Src(port) => format!("mod_tp_src:{port}"),
        Op::SetL4Dst(port) => format!("mod_tp_dst:{port}"),
        Op::DecTtl => "dec_ttl".into(),
        Op::SetTtl(ttl) => format!("mod_nw_ttl:{ttl}"),
        Op::SetEcn(ecn) => format!("mod_nw_ecn:{ecn}"),
        Op::PushMpls(kind) => format!("push_mpls:{kind:#06x}"),
        Op::PopMpls(kind) => format!("pop_mpls:{kind:#06x}"),
        Op::SetMplsTtl(ttl) => format!("set_mpls_ttl({ttl})"),
        Op::DecMplsTtl => "dec_mpls_ttl".into(),
        Op::PushPbb(kind) => format!("push_pbb:{kind:#06x}"),
        Op::PopPbb => "pop_pbb".into(),
        Op::CopyTtlOut => "copy_ttl_out".into(),
        Op::CopyTtlIn => "copy_ttl_in".into(),
        other => {
            let (value, field) = set_field(other);
            format!("set_field:{value}->{field}")
        }
    }
}

/// Value and name of the field of a set-field action, by its OpenFlow name.
fn set_field(op: &Op) -> (String, &'static str) {
    let mac = |mac: &[u8; 6]| Mac(*mac).to_string();
    let four = |address: &u32| Ipv4Addr::from_bits(*address).to_string();
    // An address is set in two halves, which the mask shows.
    let high =
        |half: &[u8; 8]| format!("{}/64", Ipv6Addr::from_bits(u128::from(u64::from_be_bytes(*half)) << 64));
    let low = |half: &[u8; 8]| {
        let address = Ipv6Addr::from_bits(u64::from_be_bytes(*half).into());
        format!("{address}/{}", Ipv6Addr::from_bits(u64::MAX.into()))
    };
    match op {
        Op::SetEthType(kind) => (format!("{kind:#06x}"), "eth_type"),
        Op::SetIpProto(protocol) => (protocol.to_string(), "ip_proto"),
        Op::SetIpv6SrcHigh(h) => (high(h), "ipv6_src"),
        Op::SetIpv6SrcLow(h) => (low(h), "ipv6_src"),
        Op::SetIpv6DstHigh(h) => (high(h), "ipv6_dst"),
        Op::SetIpv6DstLow(h) => (low(h), "ipv6_dst"),
        Op::SetIpv6Flabel(label) => (label.to_string(), "ipv6_label"),
        Op::SetSctpSrc(port) => (port.to_string(), "sctp_src"),
        Op::SetSctpDst(port) => (port.to_string(), "sctp_dst"),
        Op::SetIcmpType(kind) => (kind.to_string(), "icmp_type"),
        Op::SetIcmpCode(code) => (code.to_string(), "icmp_code"),
        Op::SetIcmpv6Type(kind) => (kind.to_string(), "icmpv6_type"),
        Op::SetIcmpv6Code(code) => (code.to_string(), "icmpv6_code"),
        Op::SetNdTargetHigh(h) => (high(h), "nd_target"),
        Op::SetNdTargetLow(h) => (low(h), "nd_target"),
        Op::SetNdSll(m) => (mac(m), "nd_sll"),
        Op::SetNdTll(m) => (mac(m), "nd_tll"),
        Op::SetArpOp(opcode) => (opcode.to_string(), "arp_op"),
        Op::SetArpSpa(a) => (four(a), "arp_spa"),
        Op::SetArpTpa(a) => (four(a), "arp_tpa"),
        Op::SetArpSha(m) => (mac(m), "arp_sha"),
        Op::SetArpTha(m) => (mac(m), "arp_tha"),
        Op::SetMplsLabel(label) => (label.to_string(), "mpls_label"),
        Op::SetMplsTc(class) => (class.to_string(), "mpls_tc"),
        Op::SetMplsBos(bottom) => (bottom.to_string(), "mpls_bos"),
        Op::SetPbbIsid(service) => (service.to_string(), "pbb_isid"),
        Op::SetTunnelId(tunnel) => (format!("{:#x}", u64::from_be_bytes(*tunnel)), "tun_id"),
        // The other actions are handled above.
        other => (format!("{other:?}"), "?"),
    }
}
