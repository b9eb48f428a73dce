//! The card's action on a packet: 320 bits in 10 words. The card changes the packet first
//! (`rewrite.rs`), then sends it to every queue of the bitmap.

use super::key::Field;

/// Words of an action.
pub const WORDS: usize = 10;

/// Bit positions in an action.
mod at {
    use super::Field;
    pub(super) const PORTS: Field = Field { bit: 0, width: 16 };
    pub(super) const FLAGS: Field = Field { bit: 16, width: 16 };
    pub(super) const VID: Field = Field { bit: 32, width: 16 };
    pub(super) const PCP: Field = Field { bit: 48, width: 8 };
    pub(super) const DL_SRC: Field = Field { bit: 56, width: 48 };
    pub(super) const DL_DST: Field = Field { bit: 104, width: 48 };
    pub(super) const NW_SRC: Field = Field { bit: 152, width: 32 };
    pub(super) const NW_DST: Field = Field { bit: 184, width: 32 };
    pub(super) const TOS: Field = Field { bit: 216, width: 8 };
    pub(super) const TP_SRC: Field = Field { bit: 224, width: 16 };
    pub(super) const TP_DST: Field = Field { bit: 240, width: 16 };
}

/// Flags: which of the fields are set. 0x01 (output) is not used.
pub mod flag {
    /// VLAN id.
    pub const VID: u16 = 0x02;
    /// VLAN priority.
    pub const PCP: u16 = 0x04;
    /// Take the VLAN tag off.
    pub const STRIP: u16 = 0x08;
    /// Ethernet source.
    pub const DL_SRC: u16 = 0x10;
    /// Ethernet destination.
    pub const DL_DST: u16 = 0x20;
    /// IPv4 source.
    pub const NW_SRC: u16 = 0x40;
    /// IPv4 destination.
    pub const NW_DST: u16 = 0x80;
    /// Type of service.
    pub const TOS: u16 = 0x100;
    /// Source port.
    pub const TP_SRC: u16 = 0x200;
    /// Destination port.
    pub const TP_DST: u16 = 0x400;
}

/// An action; without a queue it drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Action {
    /// A bit per queue.
    pub ports: u16,
    /// VLAN id, 12 bits.
    pub vid: Option<u16>,
    /// VLAN priority, 3 bits.
    pub pcp: Option<u8>,
    /// Takes the VLAN tag off.
    pub strip: bool,
    /// Ethernet source.
    pub dl_src: Option<[u8; 6]>,
    /// Ethernet destination.
    pub dl_dst: Option<[u8; 6]>,
    /// IPv4 source.
    pub nw_src: Option<u32>,
    /// IPv4 destination.
    pub nw_dst: Option<u32>,
    /// Type of service: DSCP in the upper 6 bits.
    pub tos: Option<u8>,
    /// TCP or UDP source port.
    pub tp_src: Option<u16>,
    /// TCP or UDP destination port.
    pub tp_dst: Option<u16>,
}

fn number(mac: [u8; 6]) -> u64 {
    mac.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn mac(number: u64) -> [u8; 6] {
    let [_, _, mac @ ..] = number.to_be_bytes();
    mac
}

impl Action {
    /// Sends to these queues, a bit each, and changes nothing.
    pub const fn to(ports: u16) -> Action {
        Action {
            ports,
            vid: None,
            pcp: None,
            strip: false,
            dl_src: None,
            dl_dst: None,
            nw_src: None,
            nw_dst: None,
            tos: None,
            tp_src: None,
            tp_dst: None,
        }
    }

    /// Encodes it as register words.
    pub fn words(&self) -> [u32; WORDS] {
        let mut words = [0; WORDS];
        at::PORTS.set(&mut words, self.ports.into());
        let mut flags = if self.strip { flag::STRIP } else { 0 };
        let fields: [(u16, Field, Option<u64>); 9] = [
            (flag::VID, at::VID, self.vid.map(u64::from)),
            (flag::PCP, at::PCP, self.pcp.map(u64::from)),
            (flag::DL_SRC, at::DL_SRC, self.dl_src.map(number)),
            (flag::DL_DST, at::DL_DST, self.dl_dst.map(number)),
            (flag::NW_SRC, at::NW_SRC, self.nw_src.map(u64::from)),
            (flag::NW_DST, at::NW_DST, self.nw_dst.map(u64::from)),
            (flag::TOS, at::TOS, self.tos.map(u64::from)),
            (flag::TP_SRC, at::TP_SRC, self.tp_src.map(u64::from)),
            (flag::TP_DST, at::TP_DST, self.tp_dst.map(u64::from)),
        ];
        for (flag, field, value) in fields {
            if let Some(value) = value {
                flags |= flag;
                field.set(&mut words, value);
            }
        }
        at::FLAGS.set(&mut words, flags.into());
        words
    }

    /// Decodes register words. Fields whose flag is not set are ignored, as on the card.
    pub fn of_words(words: &[u32; WORDS]) -> Action {
        let flags = at::FLAGS.get(words) as u16;
        let get = |flag: u16, field: Field| (flags & flag != 0).then(|| field.get(words));
        Action {
            ports: at::PORTS.get(words) as u16,
            vid: get(flag::VID, at::VID).map(|v| v as u16),
            pcp: get(flag::PCP, at::PCP).map(|v| v as u8),
            strip: flags & flag::STRIP != 0,
            dl_src: get(flag::DL_SRC, at::DL_SRC).map(mac),
            dl_dst: get(flag::DL_DST, at::DL_DST).map(mac),
            nw_src: get(flag::NW_SRC, at::NW_SRC).map(|v| v as u32),
            nw_dst: get(flag::NW_DST, at::NW_DST).map(|v| v as u32),
            tos: get(flag::TOS, at::TOS).map(|v| v as u8),
            tp_src: get(flag::TP_SRC, at::TP_SRC).map(|v| v as u16),
            tp_dst: get(flag::TP_DST, at::TP_DST).map(|v| v as u16),
        }
    }
}
