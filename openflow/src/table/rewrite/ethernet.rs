//! Ethernet: addresses, type, VLAN tags (IEEE 802.1Q, 802.3).

use super::word;

/// dl_type of an 802.3 frame that has no Ethernet type (OF 1.0 table 4: OFP_DL_TYPE_NOT_ETH_TYPE).
const NO_TYPE: u16 = 0x05ff;
/// Offset of the type in an untagged frame.
pub(super) const TYPE: usize = 12;

/// A frame's Ethernet type, and the offset of the payload of that type, behind a VLAN tag if there
/// is one. An 802.3 frame has a length in that place; its type is that of its SNAP header, if that
/// has OUI 0 (OF 1.0 section 3.4, table 4).
pub(in super::super) fn ether_type(frame: &[u8]) -> Option<(u16, usize)> {
    let at = type_place(frame);
    let kind = word(frame, at)?;
    if kind >= 0x0600 {
        return Some((kind, at + 2));
    }
    if frame.get(at + 2..at + 8) != Some(&[0xaa, 0xaa, 3, 0, 0, 0]) {
        return Some((NO_TYPE, at + 2));
    }
    Some(word(frame, at + 8).filter(|k| *k >= 0x0600).map_or((NO_TYPE, at + 2), |kind| (kind, at + 10)))
}

/// Offset of a frame's type or length, behind a VLAN tag if there is one.
pub(super) fn type_place(frame: &[u8]) -> usize {
    if tagged(frame) { TYPE + 4 } else { TYPE }
}

/// Sets the Ethernet type if the frame has one; in an 802.3 frame, that of the SNAP header.
pub(in super::super) fn set_ether_type(frame: &mut [u8], kind: u16) {
    let Some((old, body)) = ether_type(frame) else { return };
    if old != NO_TYPE {
        frame[body - 2..body].copy_from_slice(&kind.to_be_bytes());
    }
}

/// Sets an Ethernet address: offset 0 is the destination, 6 the source.
pub(in super::super) fn mac(frame: &mut [u8], place: usize, mac: [u8; 6]) {
    if let Some(field) = frame.get_mut(place..place + 6) {
        field.copy_from_slice(&mac);
    }
}

/// True if the frame has a VLAN tag.
#[inline]
pub(in super::super) fn tagged(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]))
}

/// True if the frame has a VLAN tag behind its VLAN tag.
pub(in super::super) fn tagged_twice(frame: &[u8]) -> bool {
    tagged(frame) && matches!(frame.get(16..18), Some([0x81, 0x00] | [0x88, 0xa8]))
}

/// Pushes a VLAN tag of this type, with VLAN 0 or the outer tag's fields copied (OF 1.3.5 section
/// 5.12.1).
pub(in super::super) fn push_vlan(frame: &mut Vec<u8>, kind: u16) {
    if frame.len() < 14 {
        return;
    }
    let tci = if tagged(frame) { word(frame, 14).unwrap_or(0) } else { 0 };
    let [k0, k1] = kind.to_be_bytes();
    let [t0, t1] = tci.to_be_bytes();
    frame.splice(TYPE..TYPE, [k0, k1, t0, t1]);
}

/// Removes the outermost VLAN tag, if there is one.
pub(in super::super) fn pop_vlan(frame: &mut Vec<u8>) {
    if tagged(frame) && frame.len() >= 18 {
        frame.drain(TYPE..TYPE + 4);
    }
}

/// Sets bits of the VLAN tag's control field, if there is a tag.
pub(in super::super) fn vlan(frame: &mut [u8], value: u16, mask: u16) {
    if tagged(frame) {
        super::set_bits(frame, 14, value, mask, &[]);
    }
}
