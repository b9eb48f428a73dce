//! Rules: what we want in a switch, free of any OpenFlow version. What a switch reports is a flow.

use crate::{Mac, PortNo, Prefix};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

/// Ethernet type of IPv4.
pub const ETH_IPV4: u16 = 0x0800;
/// Ethernet type of ARP.
pub const ETH_ARP: u16 = 0x0806;
/// Ethernet type of LLDP.
pub const ETH_LLDP: u16 = 0x88cc;

/// Which 802.1Q tag a frame has. A tag with VID 0 gives a priority and no VLAN (IEEE 802.1Q section
/// 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum VlanTag {
    /// It is of no VLAN: no tag, or one with VID 0. Never in a rule for a switch with one table,
    /// since OpenFlow 1.0 has no word for it.
    NoVlan,
    /// It has no tag.
    Untagged,
    /// It has a tag with VID 0.
    Priority,
}

impl VlanTag {
    /// What both allow; `None` when no frame is like that.
    pub fn both(self, other: VlanTag) -> Option<VlanTag> {
        match (self, other) {
            (a, b) if a == b => Some(a),
            (VlanTag::NoVlan, narrow) | (narrow, VlanTag::NoVlan) => Some(narrow),
            _ => None,
        }
    }
}

/// Bits that a packet carries from one table of a switch to the next (OF 1.3.5 section 5.1); none
/// of them is set when it enters. Only in rules for switches with several tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The bits of `mask` as they are, or are to be. No bit outside of it is set.
    pub value: u64,
    /// Which bits are meant.
    pub mask: u64,
}

impl Metadata {
    /// These bits of a value.
    pub fn new(value: u64, mask: u64) -> Metadata {
        Metadata { value: value & mask, mask }
    }

    /// Whether a packet that carries `bits` is matched.
    pub fn matches(self, bits: u64) -> bool {
        (bits ^ self.value) & self.mask == 0
    }

    /// What a packet that carries `bits` carries after this was written.
    pub fn written_over(self, bits: u64) -> u64 {
        bits & !self.mask | self.value & self.mask
    }
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

/// What a rule matches; `None` is any. IP fields need `eth_type` IPv4, ports need `ip_proto` TCP or
/// UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RuleMatch {
    /// The port the packet came in by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_port: Option<PortNo>,
    /// What an earlier table has written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Source Ethernet address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eth_src: Option<Mac>,
    /// Destination Ethernet address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eth_dst: Option<Mac>,
    /// Ethernet type, behind a tag if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eth_type: Option<u16>,
    /// 802.1Q tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanTag>,
    /// Source IPv4 prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub ip_src: Option<Prefix>,
    /// Destination IPv4 prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub ip_dst: Option<Prefix>,
    /// IP DSCP (RFC 2474), 6 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_dscp: Option<u8>,
    /// IP protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_proto: Option<u8>,
    /// TCP or UDP source port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l4_src: Option<u16>,
    /// TCP or UDP destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l4_dst: Option<u16>,
}

/// What is done with a packet, in order. No action at all is a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// Send out of a port (never the port it came in by: that is `Hairpin`).
    Output(PortNo),
    /// Send back out of the port it came in by.
    Hairpin,
    /// Send to the controller, whole.
    Controller,
    /// Send out of a port by one of its queues.
    Enqueue {
        /// Port.
        port: PortNo,
        /// Queue of that port.
        queue: u32,
    },
    /// Let the packet carry this into later tables. Never in a rule for a switch with one table.
    WriteMetadata(Metadata),
    /// Go on in a later table. Last in its list; never in a rule for a switch with one table.
    Goto(u8),
    /// Use this queue of whatever port follows, in later tables too. Never in a rule for a switch
    /// with one table.
    SetQueue(u32),
    /// Set the IP DSCP (6 bits) before what follows.
    SetDscp(u8),
    /// Set the destination Ethernet address before what follows.
    SetEthDst(Mac),
}

/// What identifies a rule in a switch: a second rule with the same key replaces the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RuleKey {
    /// Flow table; 0 is where packets enter. Switches with one table get 0 only.
    #[serde(default)]
    pub table: u8,
    /// Higher wins.
    pub priority: u16,
    /// What it matches.
    #[serde(rename = "match")]
    pub matching: RuleMatch,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Rule {
    /// Priority and match.
    #[serde(flatten)]
    pub key: RuleKey,
    /// What is done, in order.
    pub actions: Vec<RuleAction>,
    /// Whose rule it is.
    pub cookie: Cookie,
}

/// What a rule belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The switch itself: discovery, isolation, table end.
    Base,
    /// The fabric: prefixes, servers and gateways, which are there without any VM. In JSON its word
    /// is `plan`, from when it was called so.
    #[serde(rename = "plan", alias = "fabric")]
    Fabric,
    /// A VM, by the low 32 bits of its id.
    Vm(u32),
    /// A VM group, by the low 32 bits of its id.
    Group(u32),
    /// An administrator's override.
    Admin(u32),
    /// A migration's own traffic, by the low 32 bits of its id.
    Migration(u32),
}

/// As people read it: `vm7`, `grp1`; what is not of a VM, group or migration by what it is for.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Base => f.write_str("base"),
            Owner::Fabric => f.write_str("plan"),
            Owner::Vm(n) => write!(f, "vm{n}"),
            Owner::Group(n) => write!(f, "grp{n}"),
            Owner::Admin(n) => write!(f, "admin{n}"),
            Owner::Migration(n) => write!(f, "mig{n}"),
        }
    }
}

impl Owner {
    /// True for what a record of the store stands behind: one that a store does not know may still
    /// be somebody's.
    pub fn is_recorded(self) -> bool {
        matches!(self, Owner::Vm(_) | Owner::Group(_) | Owner::Migration(_))
    }
}

/// Which flows of ours a switch keeps although nobody wants them there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    /// None: all of them are stale.
    #[default]
    Nothing,
    /// Those of VMs, groups and migrations that want no rule in this switch: they may run without a
    /// record of them.
    Unknown {
        /// Whose flows are stale all the same.
        but: BTreeSet<Owner>,
    },
}

impl Leave {
    /// True for [`Leave::Nothing`].
    pub fn is_nothing(&self) -> bool {
        *self == Leave::Nothing
    }
}

/// Flows of one owner that a switch keeps although nobody wants them there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftRules {
    /// Whose they are.
    pub owner: Owner,
    /// The machines that they let send or be reached, by their addresses.
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// An OpenFlow cookie of ours: magic (16 bits), owner's kind (8), owner's number (32), generation
/// (8).
///
/// The magic tells our flows from anybody else's; only ours are ever changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Marks a flow as ours: the ASCII letters `Td` in the top 16 bits.
    pub const MAGIC: u64 = 0x5464 << 48;
    /// The bits of the magic, for masked OpenFlow 1.3 requests.
    pub const MAGIC_MASK: u64 = 0xffff << 48;

    /// The cookie of an owner's rule in its `generation`.
    pub fn new(owner: Owner, generation: u8) -> Cookie {
        let (kind, number) = match owner {
            Owner::Base => (0u64, 0),
            Owner::Fabric => (1, 0),
            Owner::Vm(n) => (2, n),
            Owner::Group(n) => (3, n),
            Owner::Admin(n) => (4, n),
            Owner::Migration(n) => (5, n),
        };
        Cookie(Self::MAGIC | kind << 40 | u64::from(number) << 8 | u64::from(generation))
    }

    /// True when the flow is ours.
    pub fn is_ours(self) -> bool {
        self.0 & Self::MAGIC_MASK == Self::MAGIC
    }

    /// Whose it is; `None` for a cookie that is not ours or of an unknown kind.
    pub fn owner(self) -> Option<Owner> {
        if !self.is_ours() {
            return None;
        }
        let number = (self.0 >> 8) as u32;
        match (self.0 >> 40) as u8 {
            0 => Some(Owner::Base),
            1 => Some(Owner::Fabric),
            2 => Some(Owner::Vm(number)),
            3 => Some(Owner::Group(number)),
            4 => Some(Owner::Admin(number)),
            5 => Some(Owner::Migration(number)),
            _ => None,
        }
    }

    /// The owner's generation.
    pub fn generation(self) -> u8 {
        self.0 as u8
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::Display for RuleMatch {
    /// In the words of `ovs-ofctl`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(p) = self.in_port {
            parts.push(format!("in_port={p}"));
        }
        if let Some(m) = self.metadata {
            parts.push(format!("metadata={m}"));
        }
        if let Some(m) = self.eth_src {
            parts.push(format!("dl_src={m}"));
        }
        if let Some(m) = self.eth_dst {
            parts.push(format!("dl_dst={m}"));
        }
        match self.vlan {
            Some(VlanTag::NoVlan) => parts.push("vlan_tci=0/0xfff".into()),
            Some(VlanTag::Untagged) => parts.push("dl_vlan=0xffff".into()),
            Some(VlanTag::Priority) => parts.push("dl_vlan=0".into()),
            None => {}
        }
        match (self.eth_type, self.ip_proto) {
            (Some(ETH_IPV4), Some(6)) => parts.push("tcp".into()),
            (Some(ETH_IPV4), Some(17)) => parts.push("udp".into()),
            (Some(ETH_IPV4), Some(n)) => parts.push(format!("ip,nw_proto={n}")),
            (Some(ETH_IPV4), None) => parts.push("ip".into()),
            (Some(ETH_ARP), _) => parts.push("arp".into()),
            (Some(t), _) => parts.push(format!("dl_type={t:#06x}")),
            (None, _) => {}
        }
        if let Some(p) = self.ip_src {
            parts.push(format!("nw_src={p}"));
        }
        if let Some(p) = self.ip_dst {
            parts.push(format!("nw_dst={p}"));
        }
        if let Some(d) = self.ip_dscp {
            parts.push(format!("ip_dscp={d}"));
        }
        if let Some(p) = self.l4_src {
            parts.push(format!("tp_src={p}"));
        }
        if let Some(p) = self.l4_dst {
            parts.push(format!("tp_dst={p}"));
        }
        f.write_str(if parts.is_empty() { "any".into() } else { parts.join(",") }.as_str())
    }
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleAction::Output(p) => write!(f, "output:{p}"),
            RuleAction::Hairpin => f.write_str("in_port"),
            RuleAction::Controller => f.write_str("controller"),
            RuleAction::Enqueue { port, queue } => write!(f, "enqueue:{port}:{queue}"),
            RuleAction::WriteMetadata(m) => write!(f, "write_metadata:{m}"),
            RuleAction::Goto(t) => write!(f, "goto_table:{t}"),
            RuleAction::SetQueue(q) => write!(f, "set_queue:{q}"),
            RuleAction::SetDscp(d) => write!(f, "set_dscp:{d}"),
            RuleAction::SetEthDst(m) => write!(f, "mod_dl_dst:{m}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_tells_whose_rule_it_is_and_a_foreign_one_tells_nothing() {
        let all = [
            Owner::Base,
            Owner::Fabric,
            Owner::Vm(u32::MAX),
            Owner::Group(7),
            Owner::Admin(0),
            Owner::Migration(9),
        ];
        for owner in all {
            let cookie = Cookie::new(owner, 200);
            assert!(cookie.is_ours());
            assert_eq!((cookie.owner(), cookie.generation()), (Some(owner), 200));
        }
        assert_eq!(Cookie(0).owner(), None);
        assert_eq!(Cookie(Cookie::MAGIC | 99 << 40).owner(), None);
    }

    #[test]
    fn a_rule_is_written_in_the_words_of_ovs_ofctl() {
        let m = RuleMatch {
            in_port: Some(PortNo(3)),
            eth_type: Some(ETH_IPV4),
            ip_proto: Some(17),
            l4_dst: Some(67),
            ..RuleMatch::default()
        };
        assert_eq!(m.to_string(), "in_port=3,udp,tp_dst=67");
        assert_eq!(RuleMatch::default().to_string(), "any");
        let label = Metadata::new(0xff05, 0xff);
        let labelled = RuleMatch { metadata: Some(label), ..RuleMatch::default() };
        assert_eq!(labelled.to_string(), "metadata=0x5/0xff");
        assert_eq!(RuleAction::WriteMetadata(label).to_string(), "write_metadata:0x5/0xff");
    }

    #[test]
    fn metadata_is_written_and_matched_under_its_mask() {
        let label = Metadata::new(0x0500, 0xff00);
        assert_eq!(label.written_over(0x1234), 0x0534);
        assert!(label.matches(0x0534) && !label.matches(0x1234) && !label.matches(0));
        assert!(Metadata::new(0, 0xff).matches(0x0500));
    }
}
