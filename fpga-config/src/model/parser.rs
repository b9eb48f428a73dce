//! The header parser of the look-up, word by word. It goes on until it has all fields of a frame's
//! key, even beyond the frame's last word: then it takes words of the next frame. This is the
//! bitfile's fault with headers longer than their frame.

use crate::codec::{Field, Key};

/// The kind of a word, by its control bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A tag that was removed, in the low 16 bits.
    Tag,
    /// The word before every frame: bytes in bits 15:0, source queue in 31:16, words in 47:32.
    Queue,
    /// 8 bytes of a frame.
    Data,
    /// A frame's last bytes, or a word that is left over behind them.
    Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between frames.
    Ahead,
    /// Inside a frame, with the index of its next word. The fourth repeats for each word of IPv4
    /// options.
    Fields(u8),
    /// The key is complete, but the frame has not ended.
    Behind,
    /// The key was completed by a frame's last word, or by one before the next frame: the following
    /// word does not begin a frame.
    Again,
}

#[derive(Debug, Clone)]
pub(super) struct Parser {
    state: State,
    key: Key,
    /// Bytes of the frame, 12 bits.
    bytes: u32,
    after_tag: bool,
    ip: bool,
    arp: bool,
    /// The transport is TCP or UDP.
    ports: bool,
    icmp: bool,
    /// Remaining words of 4 bytes in the IPv4 header, 4 bits.
    length: u8,
}

impl Parser {
    pub(super) fn new() -> Parser {
        Parser {
            state: State::Ahead,
            key: Key::of_short_header(),
            bytes: 0,
            after_tag: false,
            ip: false,
            arp: false,
            ports: false,
            icmp: false,
            length: 0,
        }
    }

    /// Takes a word; returns the key and its byte count once the key is complete.
    pub(super) fn word(&mut self, kind: Kind, data: u64) -> Option<(Key, u32)> {
        match self.state {
            State::Again => {
                self.key = Key::of_short_header();
                self.state = State::Ahead;
                if kind != Kind::Data {
                    self.ahead(kind, data);
                }
                None
            }
            State::Ahead => {
                self.ahead(kind, data);
                None
            }
            State::Fields(at) => self.fields(at, kind, data).then_some((self.key, self.bytes)),
            State::Behind => {
                if kind != Kind::Data {
                    self.state = State::Ahead;
                    self.key = Key::of_short_header();
                    self.bytes = 0;
                }
                None
            }
        }
    }

    fn ahead(&mut self, kind: Kind, data: u64) {
        match kind {
            Kind::Tag => {
                self.key.set(Field::VLAN, data & 0xefff);
                self.after_tag = true;
            }
            Kind::Queue => {
                self.key.set(Field::SOURCE, data >> 16);
                let tag = if std::mem::take(&mut self.after_tag) { 4 } else { 0 };
                self.bytes = (data as u32 & 0xffff).wrapping_add(tag) & 0xfff;
            }
            Kind::Data => {
                self.key.set(Field::ETH_DST, data >> 16);
                self.key.set(Field::ETH_SRC, (data & 0xffff) << 32);
                self.state = State::Fields(1);
            }
            Kind::Last => {}
        }
    }

    /// Takes a word inside a frame; true when the key is complete.
    fn fields(&mut self, at: u8, kind: Kind, data: u64) -> bool {
        let key = &mut self.key;
        let mut next = at + 1;
        match at {
            1 => {
                let source = key.get(Field::ETH_SRC) & 0xffff_0000_0000;
                key.set(Field::ETH_SRC, source | data >> 32);
                let ether_type = data >> 16 & 0xffff;
                key.set(Field::ETH_TYPE, ether_type);
                self.ip = ether_type == 0x0800;
                self.arp = ether_type == 0x0806;
                self.length = (data >> 8 & 0xf) as u8;
                if self.ip {
                    key.set(Field::IP_TOS, data & 0xfc);
                }
            }
            2 => {
                if self.ip && self.length < 5 {
                    *key = Key::of_short_header();
                    self.state = State::Behind;
                    return true;
                }
                if self.ip {
                    key.set(Field::IP_PROTO, data & 0xff);
                } else if self.arp {
                    key.set(Field::IP_PROTO, data >> 16 & 0xff);
                }
                self.ports = self.ip && matches!(data & 0xff, 6 | 17);
                self.icmp = self.ip && data & 0xff == 1;
            }
            3 if self.ip => {
                key.set(Field::IP_SRC, data >> 16 & 0xffff_ffff);
                key.set(Field::IP_DST, (data & 0xffff) << 16);
            }
            3 if self.arp => {
                key.set(Field::IP_SRC, data & 0xffff_ffff);
                next = 5;
            }
            3 => {}
            4 => return self.options(kind, data),
            5 => {
                let low = key.get(Field::IP_DST) & 0xffff;
                key.set(Field::IP_DST, (data & 0xffff) << 16 | low);
            }
            _ => {
                let high = key.get(Field::IP_DST) & 0xffff_0000;
                key.set(Field::IP_DST, high | data >> 48);
                self.arp = false;
                return self.complete(kind);
            }
        }
        self.state = State::Fields(next);
        false
    }

    /// Takes a word behind the IPv4 addresses; its 8 bytes are 2 words of the header's length.
    fn options(&mut self, kind: Kind, data: u64) -> bool {
        let key = &mut self.key;
        let left = self.length;
        self.length = self.length.wrapping_sub(2) & 0xf;
        if std::mem::take(&mut self.ip) {
            let high = key.get(Field::IP_DST) & 0xffff_0000;
            key.set(Field::IP_DST, high | data >> 48);
        }
        match left {
            5 if self.ports => {
                key.set(Field::TP_SRC, data >> 32 & 0xffff);
                key.set(Field::TP_DST, data >> 16 & 0xffff);
            }
            6 if self.ports => key.set(Field::TP_SRC, data & 0xffff),
            4 if self.ports => key.set(Field::TP_DST, data >> 48),
            5 if self.icmp => {
                key.set(Field::TP_SRC, data >> 40 & 0xff);
                key.set(Field::TP_DST, data >> 32 & 0xff);
            }
            6 if self.icmp => {
                key.set(Field::TP_SRC, data >> 8 & 0xff);
                key.set(Field::TP_DST, data & 0xff);
            }
            _ => {}
        }
        if (self.ports || self.icmp) && !matches!(left, 4 | 5) {
            return false;
        }
        self.complete(kind)
    }

    fn complete(&mut self, kind: Kind) -> bool {
        self.state = if kind == Kind::Data { State::Behind } else { State::Again };
        true
    }
}
