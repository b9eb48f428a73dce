//! The card's changes to the bytes of a frame.
//!
//! 1. The outer tag is removed; all other changes apply to the rest. So of a frame with two tags
//!    only the Ethernet addresses can be set: its type is that of the inner tag.
//! 2. Addresses, type of service and ports are set at their offsets, in the words that the frame
//!    has. A frame of fewer than 5 words keeps the end of its Ethernet source and everything behind
//!    it; one of fewer than 4 is unchanged. With a header length below 5 the ports are not set.
//! 3. Checksums are updated by the difference (RFC 1624), those of TCP and UDP too, also a zero in
//!    a UDP datagram, which then no longer means "none" (RFC 768) but is wrong. In a later fragment
//!    the payload is changed in place of the transport header.
//! 4. A tag is inserted: the one that was removed, with id and priority set; or, if there was none,
//!    a new one when either is set, even together with a strip action.

use super::action::Action;
use super::carried::{Carried, TAG};

/// Offset of IPv4 behind an Ethernet header.
const IP: usize = 14;

impl Action {
    /// Changes a frame (without FCS) as the card does. Fields that the frame does not have are not
    /// set.
    pub fn apply(&self, frame: &mut Vec<u8>) {
        let carried = Carried::of(frame);
        let (tag, length, words) = (carried.tag(), carried.len(), carried.words());
        // The last word is changed as a whole, with its bytes behind the frame's end.
        let behind: [u8; 8] = std::array::from_fn(|n| carried.byte(length + n));
        if tag.is_some() {
            frame.drain(12..16);
        }
        frame.extend(behind.into_iter().take(8 * words - length));
        if words >= 4 {
            self.addresses(frame, words);
        }
        if words >= 5 && word(frame, 12) == Some(0x0800) {
            self.ip(frame);
        }
        frame.truncate(length);
        if let Some(tag) = self.tag(tag).filter(|_| words >= 3) {
            let [t, g] = TAG.to_be_bytes();
            let [high, low] = tag.to_be_bytes();
            frame.splice(12..12, [t, g, high, low]);
        }
    }

    /// The tag of the frame that is sent.
    fn tag(&self, old: Option<u16>) -> Option<u16> {
        if old.is_some() && self.strip || old.is_none() && self.vid.is_none() && self.pcp.is_none() {
            return None;
        }
        let tag = old.unwrap_or(0);
        let tag = self.vid.map_or(tag, |v| tag & 0xf000 | v & 0xfff);
        Some(self.pcp.map_or(tag, |p| tag & 0x1fff | u16::from(p & 7) << 13))
    }

    fn addresses(&self, frame: &mut [u8], words: usize) {
        if let (Some(mac), Some(to)) = (self.dl_dst, frame.get_mut(0..6)) {
            to.copy_from_slice(&mac);
        }
        // The source address spans two words; the second is changed together with what is behind
        // it.
        let reach = if words >= 5 { 6 } else { 2 };
        for (to, from) in frame.iter_mut().skip(6).zip(self.dl_src.iter().flatten()).take(reach) {
            *to = *from;
        }
    }

    fn ip(&self, frame: &mut [u8]) {
        let (Some(first), Some(protocol)) = (frame.get(IP).copied(), frame.get(IP + 9).copied()) else {
            return;
        };
        let length = usize::from(first & 0xf);
        let transport = IP + 4 * length;
        let checksum = match protocol {
            6 => Some(transport + 16),
            17 => Some(transport + 6),
            _ => None,
        }
        .filter(|_| length >= 5);
        for (place, address) in [(12, self.nw_src), (16, self.nw_dst)] {
            let Some(address) = address else { continue };
            for (at, half) in [(IP + place, (address >> 16) as u16), (IP + place + 2, address as u16)] {
                set(frame, at, half, [Some(IP + 10), checksum]);
            }
        }
        if let (Some(tos), Some(old)) = (self.tos, word(frame, IP)) {
            set(frame, IP, old & 0xff03 | u16::from(tos & 0xfc), [Some(IP + 10), None]);
        }
        if checksum.is_none() {
            return;
        }
        for (place, port) in [(0, self.tp_src), (2, self.tp_dst)] {
            if let Some(port) = port {
                set(frame, transport + place, port, [checksum, None]);
            }
        }
    }
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    for (to, from) in frame.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *to = from;
    }
}

/// Sets a word and the checksums over it (RFC 1624 equation 3).
fn set(frame: &mut [u8], at: usize, value: u16, checksums: [Option<usize>; 2]) {
    let Some(old) = word(frame, at) else { return };
    put(frame, at, value);
    for sum_at in checksums.into_iter().flatten() {
        let Some(sum) = word(frame, sum_at) else { continue };
        let mut total = u32::from(!sum) + u32::from(!old) + u32::from(value);
        while total >> 16 != 0 {
            total = (total & 0xffff) + (total >> 16);
        }
        put(frame, sum_at, !(total as u16));
    }
}
