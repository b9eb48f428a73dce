//! A packet's fields in 64 bytes: all fields that [`FlowKey`](super::FlowKey) has for common
//! packets, so that packets with equal compact keys have equal fields. Other packets (IPv6
//! extension headers, neighbour discovery, 802.3, MPLS, PBB, truncated or malformed ones) have no
//! compact key.

/// Properties of a packet that decide which fields it has, and that no field holds.
mod shape {
    /// There is a VLAN tag.
    pub(super) const TAGGED: u8 = 1;
    /// A later fragment of IPv4, which has no transport header.
    pub(super) const FRAGMENT: u8 = 2;
}

/// A packet's fields in 64 bytes, as the flow cache compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackedKey([u64; 8]);

#[inline]
fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

#[inline]
fn two(bytes: &[u8], at: usize) -> Option<u64> {
    take(bytes, at).map(|b| u16::from_be_bytes(b).into())
}

#[inline]
fn four(bytes: &[u8], at: usize) -> Option<u64> {
    take(bytes, at).map(|b| u32::from_be_bytes(b).into())
}

#[inline]
fn eight(bytes: &[u8], at: usize) -> Option<u64> {
    take(bytes, at).map(u64::from_be_bytes)
}

impl PackedKey {
    /// Equal to no packet's key: a key always has an Ethernet type.
    pub(super) const NONE: PackedKey = PackedKey([0; 8]);

    /// The key of a frame that came in by a port.
    #[inline]
    pub(super) fn new(frame: &[u8], in_port: u32) -> Option<PackedKey> {
        let start: &[u8; 14] = frame.first_chunk()?;
        let mac = |at: usize| {
            let high = u64::from(u16::from_be_bytes([start[at], start[at + 1]])) << 32;
            let low = u32::from_be_bytes([start[at + 2], start[at + 3], start[at + 4], start[at + 5]]);
            high | u64::from(low)
        };
        let (mut tci, mut seen, mut at) = (0, 0u8, 12);
        if super::rewrite::tagged(start) {
            (tci, seen, at) = (two(frame, 14)?, shape::TAGGED, 16);
        }
        let kind = two(frame, at)?;
        let body = &frame[at + 2..];
        let mut key = [mac(0) << 16 | tci, mac(6) << 16 | kind, 0, 0, 0, 0, 0, 0];
        // Type of service or traffic class, protocol; then the fields that depend on them.
        let (mut class, mut protocol) = (0, 0);
        match kind {
            0x0800 => {
                let header: &[u8; 20] = body.first_chunk()?;
                let length = usize::from(header[0] & 0xf) * 4;
                if header[0] >> 4 != 4 || length < 20 || body.len() < length {
                    return None;
                }
                (class, protocol) = (header[1], header[9]);
                key[3] = eight(header, 12)?;
                if u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0 {
                    seen |= shape::FRAGMENT;
                } else {
                    key[4] = transport(protocol, 1, &body[length..])?;
                }
            }
            0x86dd => {
                let word = four(body, 0)?;
                protocol = *body.get(6)?;
                // Extension headers.
                if word >> 28 != 6 || matches!(protocol, 0 | 43 | 44 | 50 | 51 | 59 | 60) {
                    return None;
                }
                class = (word >> 20) as u8;
                (key[3], key[4]) = (eight(body, 8)?, eight(body, 16)?);
                (key[5], key[6]) = (eight(body, 24)?, eight(body, 32)?);
                // Neighbour discovery.
                if protocol == 58 && matches!(body.get(40), Some(135 | 136)) {
                    return None;
                }
                key[7] = transport(protocol, 58, body.get(40..)?)? | (word & 0xf_ffff) << 32;
            }
            0x0806 => {
                if take(body, 0)? != [0, 1, 8, 0, 6, 4] {
                    return None;
                }
                // Opcode, sender's addresses, target's addresses.
                (key[3], key[4]) = (two(body, 6)?, eight(body, 8)?);
                (key[5], key[6]) = (eight(body, 16)?, four(body, 24)?);
            }
            // 802.3 with a length, MPLS, PBB.
            0..0x0600 | 0x8847 | 0x8848 | 0x88e7 => return None,
            _ => {}
        }
        key[2] =
            u64::from(in_port) << 32 | u64::from(seen) << 16 | u64::from(class) << 8 | u64::from(protocol);
        Some(PackedKey(key))
    }

    #[inline]
    pub(super) fn hash(&self) -> u64 {
        // Four products are computed independently: a chain of eight would take twice as long.
        let pair = |at: usize| super::key::mix(self.0[at], self.0[at + 1].rotate_left(32));
        super::key::mix(pair(0) ^ pair(2).rotate_left(17), pair(4) ^ pair(6).rotate_left(17))
    }
}

/// Transport ports, or type and code if `protocol` is `icmp`.
#[inline]
fn transport(protocol: u8, icmp: u8, body: &[u8]) -> Option<u64> {
    match protocol {
        6 | 17 | 132 => four(body, 0),
        p if p == icmp => two(body, 0),
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::FlowKey;
    use proptest::prelude::*;

    /// Random frames that are often well-formed and have few different values.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop_oneof![
            Just(vec![8, 0, 0x45, 0, 0, 60, 0, 0, 0, 0, 64]),
            Just(vec![8, 0, 0x46, 4, 0, 60, 0, 0, 0, 1, 64]),
            Just(vec![8, 0, 0x44, 4, 0, 60, 0, 0, 0, 1, 64]),
            Just(vec![0x86, 0xdd, 0x60, 0, 0, 0, 0, 20]),
            Just(vec![0x86, 0xdd, 0x60, 0x10, 0, 1, 0, 20]),
            Just(vec![8, 6, 0, 1, 8, 0, 6, 4]),
            Just(vec![8, 6, 0, 2, 8, 0, 6, 4]),
            Just(vec![0x88, 0x47]),
            Just(vec![0x88, 0xcc]),
            Just(vec![0x81, 0, 0, 1, 8, 0]),
        ];
        let tag = prop_oneof![
            Just(vec![]),
            Just(vec![0x81, 0, 0, 0]),
            Just(vec![0x88, 0xa8, 0x20, 1]),
            Just(vec![0x81, 0, 0x30, 1]),
        ];
        let value = prop_oneof![4 => Just(0u8), 1 => Just(1u8), 1 => Just(6u8), 1 => Just(17u8), 1 => Just(58u8), 1 => Just(135u8)];
        (tag, kind, proptest::collection::vec(value, 0..50), 0usize..64).prop_map(|(tag, kind, rest, cut)| {
            let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
            frame.extend([tag, kind, rest].concat());
            frame.truncate(if cut > 50 { cut } else { frame.len() });
            frame
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        /// The frames differ in one byte, so that keys are often equal; then all fields that flows
        /// match have to be equal.
        #[test]
        fn equal_compact_keys_mean_equal_fields(frame in frame(), at: prop::sample::Index, value: u8, cut in 0usize..4) {
            let mut other = frame.clone();
            if !other.is_empty() {
                let at = at.index(other.len());
                other[at] = value;
                other.truncate(other.len().saturating_sub(cut));
            }
            if let (Some(a), Some(b)) = (PackedKey::new(&frame, 1), PackedKey::new(&other, 1)) {
                if a == b {
                    prop_assert_eq!(FlowKey::new(&frame, 1), FlowKey::new(&other, 1));
                    prop_assert_eq!(a.hash(), b.hash());
                }
                prop_assert_ne!(PackedKey::new(&frame, 2), Some(a), "the port is part of it");
                prop_assert_ne!(a, PackedKey::NONE);
            }
        }
    }
}
