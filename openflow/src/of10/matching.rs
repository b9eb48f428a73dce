//! ofp_match (section 5.2.3), 40 bytes.

use crate::wire::{Pad, wire_struct};
use std::net::Ipv4Addr;
use tandem_model::Mac;

/// OFPFW bits: a set bit means any value.
pub mod wildcard {
    /// in_port.
    pub const IN_PORT: u32 = 1;
    /// dl_vlan.
    pub const DL_VLAN: u32 = 1 << 1;
    /// dl_src.
    pub const DL_SRC: u32 = 1 << 2;
    /// dl_dst.
    pub const DL_DST: u32 = 1 << 3;
    /// dl_type.
    pub const DL_TYPE: u32 = 1 << 4;
    /// nw_proto.
    pub const NW_PROTO: u32 = 1 << 5;
    /// tp_src.
    pub const TP_SRC: u32 = 1 << 6;
    /// tp_dst.
    pub const TP_DST: u32 = 1 << 7;
    /// First of six bits: how many low bits of nw_src are any; 32 and more is all.
    pub const NW_SRC_SHIFT: u32 = 8;
    /// First of six bits: the same for nw_dst.
    pub const NW_DST_SHIFT: u32 = 14;
    /// dl_vlan_pcp.
    pub const DL_VLAN_PCP: u32 = 1 << 20;
    /// nw_tos.
    pub const NW_TOS: u32 = 1 << 21;
    /// Everything.
    pub const ALL: u32 = (1 << 22) - 1;
}

/// dl_vlan of a packet without a VLAN tag (section 5.2.3).
pub const VLAN_NONE: u16 = 0xffff;

wire_struct! {
    /// What a flow matches.
    pub struct Match {
        /// OFPFW bits.
        wildcards: u32,
        /// Port the packet came in by.
        in_port: u16,
        /// Ethernet source.
        dl_src: Mac,
        /// Ethernet destination.
        dl_dst: Mac,
        /// VLAN id; 0xffff for untagged.
        dl_vlan: u16,
        /// VLAN priority.
        dl_vlan_pcp: u8,
        /// Reserved.
        pad1: Pad<1>,
        /// Ethernet type.
        dl_type: u16,
        /// IP ToS: DSCP in the upper 6 bits.
        nw_tos: u8,
        /// IP protocol, or the lower 8 bits of an ARP opcode.
        nw_proto: u8,
        /// Reserved.
        pad2: Pad<2>,
        /// IP source, or ARP sender.
        nw_src: Ipv4Addr,
        /// IP destination, or ARP target.
        nw_dst: Ipv4Addr,
        /// TCP or UDP source port, or ICMP type.
        tp_src: u16,
        /// TCP or UDP destination port, or ICMP code.
        tp_dst: u16,
    }
}

impl Match {
    /// Matches every packet.
    pub fn any() -> Match {
        Match {
            wildcards: wildcard::ALL,
            in_port: 0,
            dl_src: Mac([0; 6]),
            dl_dst: Mac([0; 6]),
            dl_vlan: 0,
            dl_vlan_pcp: 0,
            pad1: Pad::default(),
            dl_type: 0,
            nw_tos: 0,
            nw_proto: 0,
            pad2: Pad::default(),
            nw_src: Ipv4Addr::UNSPECIFIED,
            nw_dst: Ipv4Addr::UNSPECIFIED,
            tp_src: 0,
            tp_dst: 0,
        }
    }

    /// How many leading bits of nw_src are matched, 0 to 32.
    pub fn nw_src_bits(&self) -> u8 {
        32 - ((self.wildcards >> wildcard::NW_SRC_SHIFT) & 0x3f).min(32) as u8
    }

    /// How many leading bits of nw_dst are matched, 0 to 32.
    pub fn nw_dst_bits(&self) -> u8 {
        32 - ((self.wildcards >> wildcard::NW_DST_SHIFT) & 0x3f).min(32) as u8
    }
}
