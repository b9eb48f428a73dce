//! Changes a packet's bytes and updates every checksum over them. A packet without the field is
//! unchanged; `super::consistent` refuses flows whose match does not imply the fields that they
//! set.

mod arp;
mod ethernet;
mod icmp;
mod ip;
mod mpls;
mod pbb;
mod transport;

pub(super) use arp::arp;
pub(super) use ethernet::{ether_type, mac, pop_vlan, push_vlan, set_ether_type, tagged, tagged_twice, vlan};
pub(super) use icmp::{icmp, nd_option, nd_target};
pub(crate) use ip::fragment;
pub(super) use ip::{
    dec_ttl, drop_precedence, flow_label, ip_protocol, ipv4_address, ipv6_address, set_ttl, traffic_class,
};
pub(super) use mpls::{
    copy_ttl_in, copy_ttl_out, dec_mpls_ttl, mpls_bits, pop_mpls, push_mpls, set_mpls_ttl,
};
pub(super) use pbb::{pbb_isid, pop_pbb, push_pbb};
pub(super) use transport::{port, sctp_port};

/// IP protocol numbers (IANA).
mod protocol {
    /// ICMP.
    pub(super) const ICMP: u8 = 1;
    /// TCP.
    pub(super) const TCP: u8 = 6;
    /// UDP.
    pub(super) const UDP: u8 = 17;
    /// DCCP.
    pub(super) const DCCP: u8 = 33;
    /// ICMPv6.
    pub(super) const ICMPV6: u8 = 58;
    /// SCTP.
    pub(super) const SCTP: u8 = 132;
    /// UDP-Lite.
    pub(super) const UDP_LITE: u8 = 136;
}

/// A 16-bit number in a frame.
fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?))
}

/// Updates a checksum after one of the words under it has changed (RFC 1624 equation 3).
fn adjust(frame: &mut [u8], checksum_at: usize, old: u16, new: u16) {
    let Some(sum) = word(frame, checksum_at) else { return };
    let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    frame[checksum_at..checksum_at + 2].copy_from_slice(&(!(total as u16)).to_be_bytes());
}

/// Sets an even number of bytes and updates these checksums. A frame that ends before them is
/// unchanged.
fn set(frame: &mut [u8], at: usize, value: &[u8], checksums: &[Option<usize>]) {
    if frame.len() < at + value.len() {
        return;
    }
    for (i, new) in value.chunks_exact(2).enumerate() {
        let at = at + 2 * i;
        let Some(old) = word(frame, at) else { return };
        frame[at..at + 2].copy_from_slice(new);
        for sum in checksums.iter().flatten() {
            adjust(frame, *sum, old, u16::from_be_bytes([new[0], new[1]]));
        }
    }
}

/// Sets bits of a word and updates these checksums.
fn set_bits(frame: &mut [u8], at: usize, value: u16, mask: u16, checksums: &[Option<usize>]) {
    if let Some(old) = word(frame, at) {
        set(frame, at, &(old & !mask | value & mask).to_be_bytes(), checksums);
    }
}
