//! Filters that assign packets to classes: u32 (linux/pkt_cls.h: `TCA_U32_*`) or cls_bpf with
//! classic bytecode (`TCA_BPF_*`).
//!
//! Each filter has a preference of its own, which identifies it. The kernel tries filters in the
//! order of preferences; the first match decides.

use super::attributes::{bytes, handle, kind, named, nested, options};
use crate::netlink::{CREATE, Request};
use netlink_packet_core::Nla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcFilterBpfOption, TcFilterU32Option, TcMessage, TcOption, TcU32Selector, TcU32SelectorFlags,
};

const U32_CLASSID: u16 = 1;
const U32_SEL: u16 = 5;
/// A match ends the search (TC_U32_TERMINAL).
const U32_TERMINAL: u8 = 1;

const BPF_CLASSID: u16 = 3;
pub(super) const BPF_OPS_LEN: u16 = 4;
pub(super) const BPF_OPS: u16 = 5;

/// linux/if_ether.h: ETH_P_ALL, ETH_P_IP, ETH_P_8021Q.
const ALL: u16 = 0x0003;
const IP: u16 = 0x0800;
const VLAN: u16 = 0x8100;

/// The preference of the filter that overrides the root's default class, which the kernel cannot
/// change in place. It comes after all others; no [`Filter`] of a [`super::Tree`] has it.
pub(super) const CATCH_ALL: u16 = 0xffff;

/// The packets that a filter matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Select {
    /// IPv4 without a VLAN tag, with this differentiated services code point: 0 to 63 (RFC 2474).
    Dscp(u8),
    /// With a VLAN tag of this priority, 0 to 7 (IEEE 802.1Q), where the tag is in the packet (not
    /// in its metadata, as with the kernel's own VLAN devices), with the network header behind it:
    /// as a userspace switch sends by a packet socket.
    Pcp(u8),
    /// Any other condition; only ever read. It equals no wanted filter, so that
    /// [`super::difference`] removes it.
    Foreign,
}

/// The kernel's classifier that compares packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Classifier {
    /// u32: words of the packet under a mask.
    #[default]
    U32,
    /// cls_bpf, with a program in classic bytecode.
    Bpf,
}

/// Assigns packets to a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Filter {
    /// tc's preference, 1 (first) to 65534. It identifies the filter: no two filters of an
    /// interface have the same.
    pub priority: u16,
    /// The packets.
    pub select: Select,
    /// The classifier.
    pub classifier: Classifier,
    /// The class's number.
    pub class: u16,
}

impl Filter {
    /// A filter by u32.
    pub const fn new(priority: u16, select: Select, class: u16) -> Filter {
        Filter { priority, select, classifier: Classifier::U32, class }
    }

    /// The same with another classifier.
    #[must_use]
    pub const fn by(self, classifier: Classifier) -> Filter {
        Filter { classifier, ..self }
    }

    /// The request that adds it. [`Select::Foreign`] matches nothing.
    pub fn request(&self, index: u32) -> Request {
        match self.classifier {
            Classifier::U32 => u32(index, self.priority, self.select, self.class),
            Classifier::Bpf => cbpf(index, self.priority, self.select, self.class),
        }
    }

    /// With only the bits that the packet's field has.
    pub(super) fn normal(self) -> Filter {
        let select = match self.select {
            Select::Dscp(dscp) => Select::Dscp(dscp & 0x3f),
            Select::Pcp(pcp) => Select::Pcp(pcp & 7),
            Select::Foreign => Select::Foreign,
        };
        Filter { select, ..self }
    }
}

fn protocol(select: Select) -> u16 {
    match select {
        Select::Dscp(_) => IP,
        Select::Pcp(_) => VLAN,
        Select::Foreign => ALL,
    }
}

fn request(
    index: u32,
    priority: u16,
    protocol: u16,
    kind: &str,
    options: Vec<(u16, Vec<u8>)>,
    flags: u16,
) -> Request {
    let mut m = nested(index, handle(1, 0), handle(0, 0), kind, options);
    m.header.info = u32::from(priority) << 16 | u32::from(protocol.to_be());
    Request {
        what: format!("{kind} filter of preference {priority} on interface {index}"),
        message: RouteNetlinkMessage::NewTrafficFilter(m),
        flags,
    }
}

fn class_id(class: u16) -> Vec<u8> {
    (1u32 << 16 | u32::from(class)).to_ne_bytes().to_vec()
}

/// A u32 key: mask, value, and the offset from the network header.
fn key(select: Select) -> (u32, u32, i32) {
    match select {
        // The second byte of the IP header, whose two lowest bits are ECN.
        Select::Dscp(dscp) => (0x00fc_0000, u32::from(dscp & 0x3f) << 18, 0),
        // The tag control information is in the first half of the word before the network header.
        Select::Pcp(pcp) => (0xe000_0000, u32::from(pcp & 7) << 29, -4),
        Select::Foreign => (0, 1, 0),
    }
}

/// struct tc_u32_sel: flags, offshift, nkeys, padding, offmask, off, offoff, hoff, hmask; then the
/// keys: mask, value, offset, offmask.
fn selector(keys: &[(u32, u32, i32)]) -> Vec<u8> {
    let mut out = vec![0; 16];
    out[0] = U32_TERMINAL;
    out[2] = u8::try_from(keys.len()).unwrap_or_default();
    for (mask, value, offset) in keys {
        out.extend_from_slice(&mask.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
        out.extend_from_slice(&offset.to_ne_bytes());
        out.extend_from_slice(&[0; 4]);
    }
    out
}

/// Adds a u32 filter at the HTB's root. The kernel refuses it if a filter of another protocol or
/// kind has that preference.
pub fn u32(index: u32, priority: u16, select: Select, class: u16) -> Request {
    let options = vec![(U32_CLASSID, class_id(class)), (U32_SEL, selector(&[key(select)]))];
    request(index, priority, protocol(select), "u32", options, CREATE)
}

/// Adds a filter for all packets that no other filter matches. If there is one already, it comes
/// behind that.
pub(super) fn catch_all(index: u32, class: u16) -> Request {
    let options = vec![(U32_CLASSID, class_id(class)), (U32_SEL, selector(&[]))];
    request(index, CATCH_ALL, ALL, "u32", options, CREATE & !netlink_packet_core::NLM_F_EXCL)
}

/// Classic BPF (linux/filter.h, linux/bpf_common.h), as (code, jump if true, jump if false,
/// constant).
pub(crate) type Instruction = (u16, u8, u8, u32);

/// Loads of one and two bytes at a fixed offset (BPF_LD | BPF_ABS with BPF_B, BPF_H), jump if
/// equal, return; each with a constant.
const LOAD_1: u16 = 0x30;
const LOAD_2: u16 = 0x28;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Bases of offsets in the network header and in the Ethernet header (SKF_NET_OFF, SKF_LL_OFF).
const NETWORK: u32 = 0xfff0_0000;
const LINK: u32 = 0xffe0_0000;

/// The program for a selection. It returns -1 for "the class of this filter", 0 for "no match".
fn program(select: Select) -> [Instruction; 5] {
    let (load, mask, value) = match select {
        Select::Dscp(dscp) => ((LOAD_1, NETWORK + 1), 0xfc, u32::from(dscp & 0x3f) << 2),
        // Behind two addresses and the Ethernet type of the tag.
        Select::Pcp(pcp) => ((LOAD_2, LINK + 14), 0xe000, u32::from(pcp & 7) << 13),
        Select::Foreign => ((LOAD_1, LINK), 0, 1),
    };
    [
        (load.0, 0, 0, load.1),
        (AND, 0, 0, mask),
        (JUMP_EQUAL, 0, 1, value),
        (RETURN, 0, 0, u32::MAX),
        (RETURN, 0, 0, 0),
    ]
}

/// struct sock_filter.
pub(super) fn operations(program: &[Instruction]) -> Vec<u8> {
    let mut out = Vec::new();
    for (code, yes, no, constant) in program {
        out.extend_from_slice(&code.to_ne_bytes());
        out.extend_from_slice(&[*yes, *no]);
        out.extend_from_slice(&constant.to_ne_bytes());
    }
    out
}

/// Adds the same filter with cls_bpf and classic bytecode, for kernels without u32.
pub fn cbpf(index: u32, priority: u16, select: Select, class: u16) -> Request {
    let program = program(select);
    let count = u16::try_from(program.len()).unwrap_or_default();
    let options = vec![
        (BPF_CLASSID, class_id(class)),
        (BPF_OPS_LEN, count.to_ne_bytes().to_vec()),
        (BPF_OPS, operations(&program)),
    ];
    request(index, priority, protocol(select), "bpf", options, CREATE)
}

/// Removes the filters with this preference. The kernel refuses (ENOENT) if there is none.
pub fn remove_filters(index: u32, priority: u16) -> Request {
    let mut m = named(index, handle(1, 0), handle(0, 0));
    m.header.info = u32::from(priority) << 16;
    Request {
        what: format!("removing the filters of preference {priority} from interface {index}"),
        message: RouteNetlinkMessage::DelTrafficFilter(m),
        flags: 0,
    }
}

/// An entry in the kernel's list of filters.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A filter that assigns packets to a class.
    Filter(Filter),
    /// The filter that overrides the root's default class, with its class.
    CatchAll(u16),
    /// The head of a preference, or a hash table.
    Nothing,
}

/// A filter as the kernel reports it.
pub(super) fn parse(message: &TcMessage) -> Found {
    let handle = u32::from(message.header.handle);
    // The head of a preference has no handle, and a u32 hash table no node number.
    if handle == 0 || kind(message) == "u32" && handle & 0xfff == 0 {
        return Found::Nothing;
    }
    let priority = (message.header.info >> 16) as u16;
    let protocol = u16::from_be((message.header.info & 0xffff) as u16);
    let (classifier, class, select) = match kind(message) {
        "u32" => {
            let (class, select) = parse_u32(options(message), protocol);
            if priority == CATCH_ALL && protocol == ALL && select == Some(None) {
                return Found::CatchAll(class);
            }
            (Classifier::U32, class, select.flatten())
        }
        "bpf" => {
            let (class, select) = parse_bpf(options(message), protocol);
            (Classifier::Bpf, class, select)
        }
        _ => (Classifier::U32, 0, None),
    };
    Found::Filter(Filter { priority, select: select.unwrap_or(Select::Foreign), classifier, class })
}

/// The class, and the selection: `Some(None)` matches every packet.
fn parse_u32(options: &[TcOption], protocol: u16) -> (u16, Option<Option<Select>>) {
    let (mut class, mut selector, mut foreign) = (None, None, false);
    for option in options {
        let TcOption::U32(option) = option else { continue };
        match option {
            TcFilterU32Option::ClassId(id) if id.major == 1 => class = Some(id.minor),
            TcFilterU32Option::Selector(s) => selector = Some(s),
            // Its place, and the number of its matches.
            TcFilterU32Option::Hash(_) | TcFilterU32Option::Flags(_) | TcFilterU32Option::Pnct(_) => {}
            // Padding (TCA_U32_PAD).
            TcFilterU32Option::Other(nla) if nla.kind() == 12 => {}
            _ => foreign = true,
        }
    }
    let select = selector.filter(|s| !foreign && is_plain(s)).and_then(|s| match s.keys.as_slice() {
        [] => Some(None),
        [k] if k.offmask == 0 => {
            let found = match protocol {
                IP => Select::Dscp((k.val >> 18) as u8 & 0x3f),
                VLAN => Select::Pcp((k.val >> 29) as u8),
                _ => return None,
            };
            (key(found) == (k.mask, k.val, k.off)).then_some(Some(found))
        }
        _ => None,
    });
    (class.unwrap_or_default(), select.filter(|_| class.is_some()))
}

fn is_plain(selector: &TcU32Selector) -> bool {
    selector.flags == TcU32SelectorFlags::from_bits_retain(U32_TERMINAL)
        && selector.offshift == 0
        && selector.offmask == 0
        && selector.hmask == 0
}

fn parse_bpf(options: &[TcOption], protocol: u16) -> (u16, Option<Select>) {
    let (mut class, mut operations_found, mut foreign) = (None, None, false);
    for option in options {
        let TcOption::Bpf(option) = option else { continue };
        match option {
            TcFilterBpfOption::ClassId(id) if id.major == 1 => class = Some(id.minor),
            TcFilterBpfOption::Other(nla) if nla.kind() == BPF_OPS => operations_found = Some(bytes(nla)),
            TcFilterBpfOption::Other(nla) if nla.kind() == BPF_OPS_LEN => {}
            TcFilterBpfOption::ProgName(_)
            | TcFilterBpfOption::FlagsGeneric(_)
            | TcFilterBpfOption::ProgTag(_)
            | TcFilterBpfOption::ProgId(_) => {}
            _ => foreign = true,
        }
    }
    let candidates: Vec<Select> = match protocol {
        IP => (0..64).map(Select::Dscp).collect(),
        VLAN => (0..8).map(Select::Pcp).collect(),
        _ => Vec::new(),
    };
    let select = operations_found
        .filter(|_| !foreign && class.is_some())
        .and_then(|found| candidates.into_iter().find(|s| operations(&program(*s)) == found));
    (class.unwrap_or_default(), select)
}
