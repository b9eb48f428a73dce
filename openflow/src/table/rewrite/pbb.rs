//! Provider backbone bridging (IEEE 802.1ah): a service tag of 4 bytes (3 bits priority, flags, 24
//! bits I-SID) before the customer's frame.

use super::ethernet::{TYPE, ether_type, tagged};
use super::{set_bits, word};

/// Bytes of the service tag.
const TAG: usize = 4;
/// Bytes of both customer addresses.
const ADDRESSES: usize = 12;

/// Offset of the service tag.
fn service_tag(frame: &[u8]) -> Option<usize> {
    let (0x88e7, at) = ether_type(frame)? else { return None };
    (frame.len() >= at + TAG).then_some(at)
}

/// Puts a backbone header before the frame: the frame's addresses, and a service tag with the I-SID
/// of an existing tag and the priority of the VLAN tag, or zeros (OF 1.3.5 sections 5.12 and
/// 5.12.1).
pub(in super::super) fn push_pbb(frame: &mut Vec<u8>, kind: u16) {
    if frame.len() < TYPE + 2 {
        return;
    }
    let service = service_tag(frame).and_then(|at| frame.get(at + 1..at + TAG)?.first_chunk::<3>().copied());
    let priority = if tagged(frame) { word(frame, 14).unwrap_or(0) >> 8 & 0xe0 } else { 0 };
    let [s0, s1, s2] = service.unwrap_or_default();
    let [k0, k1] = kind.to_be_bytes();
    let mut header = [0; ADDRESSES + 2 + TAG];
    header[..ADDRESSES].copy_from_slice(&frame[..ADDRESSES]);
    header[ADDRESSES..].copy_from_slice(&[k0, k1, priority as u8, s0, s1, s2]);
    frame.splice(0..0, header);
}

/// Removes the service tag: the customer's addresses become the frame's. A backbone VLAN tag stays.
pub(in super::super) fn pop_pbb(frame: &mut Vec<u8>) {
    let Some(at) = service_tag(frame) else { return };
    let customer = at + TAG;
    if frame.len() < customer + ADDRESSES + 2 {
        return;
    }
    frame.copy_within(customer..customer + ADDRESSES, 0);
    frame.drain(at - 2..customer + ADDRESSES);
}

/// Sets the I-SID.
pub(in super::super) fn pbb_isid(frame: &mut [u8], service: u32) {
    if let Some(at) = service_tag(frame) {
        set_bits(frame, at, (service >> 16) as u16, 0x00ff, &[]);
        set_bits(frame, at + 2, service as u16, 0xffff, &[]);
    }
}
