//! The filter as one program in classic bytecode, by cls_bpf with direct action at a port's ingress
//! (linux/pkt_cls.h, linux/filter.h).
//!
//! A load beyond a packet's end makes a classic program return 0, which means "pass" here. So
//! lengths are compared before anything is loaded.

use super::Port;
use crate::netlink::{CREATE, REPLACE, Request};
use crate::tc;

/// A packet passes (TC_ACT_OK), or is dropped (TC_ACT_SHOT).
const PASS: u32 = 0;
const SHOT: u32 = 2;

// linux/bpf_common.h, linux/filter.h: loads at fixed offsets, at offsets from X, of the length;
// arithmetic; jumps; return.
const LOAD_4: u16 = 0x20;
const LOAD_2: u16 = 0x28;
const LOAD_1: u16 = 0x30;
const LOAD_4_X: u16 = 0x40;
const LOAD_2_X: u16 = 0x48;
const LOAD_LENGTH: u16 = 0x80;
/// Sets X to the length of the IPv4 header at this offset.
const LOAD_X_IHL: u16 = 0xb1;
const SUBTRACT_X: u16 = 0x1c;
const AND: u16 = 0x54;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Metadata of the packet (SKF_AD_OFF): its VLAN tag, whether there is one, the type of the tag.
const BESIDE: u32 = 0xffff_f000;
const TAG: u32 = BESIDE + 44;
const TAG_PRESENT: u32 = BESIDE + 48;
const TAG_TYPE: u32 = BESIDE + 60;

/// Where the program goes on after a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    Drop,
    Pass,
    Untagged,
    Arp,
    Own,
    Unnamed,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Do(u16, u32),
    Jump(u16, u32, To, To),
    Here(To),
}

fn steps(port: &Port) -> Vec<Step> {
    use Step::{Do, Here, Jump};
    let is = |value: u32| Jump(IF_EQUAL, value, To::Next, To::Drop);
    let [m0, m1, m2, m3, m4, m5] = port.mac;
    let [h0, h1, h2, h3, h4, h5] = port.host;
    let mac = (u32::from_be_bytes([m0, m1, m2, m3]), u32::from_be_bytes([0, 0, m4, m5]));
    let host = (u32::from_be_bytes([h0, h1, h2, h3]), u32::from_be_bytes([0, 0, h4, h5]));
    let address = port.address.to_bits();
    vec![
        // The lengths of Ethernet and of the shortest IPv4 header.
        Do(LOAD_LENGTH, 0),
        Jump(IF_AT_LEAST, 34, To::Next, To::Drop),
        // The kernel has moved a tag into the metadata; only VID 0 of 802.1Q is not a VLAN.
        Do(LOAD_4, TAG_PRESENT),
        Jump(IF_EQUAL, 0, To::Untagged, To::Next),
        Do(LOAD_4, TAG),
        Do(AND, 0x0fff),
        is(0),
        Do(LOAD_4, TAG_TYPE),
        is(0x8100),
        Here(To::Untagged),
        Do(LOAD_4, 6),
        is(mac.0),
        Do(LOAD_2, 10),
        is(mac.1),
        // Packets to the host are dropped: four bytes differ, or else the other two.
        Do(LOAD_2, 4),
        Jump(IF_EQUAL, host.1, To::Next, To::Unnamed),
        Do(LOAD_4, 0),
        Jump(IF_EQUAL, host.0, To::Drop, To::Next),
        Here(To::Unnamed),
        Do(LOAD_2, 12),
        Jump(IF_EQUAL, 0x0806, To::Arp, To::Next),
        is(0x0800),
        Do(LOAD_1, 14),
        Jump(IF_AT_LEAST, 0x45, To::Next, To::Drop),
        Jump(IF_GREATER, 0x4f, To::Drop, To::Next),
        Do(LOAD_4, 26),
        Jump(IF_EQUAL, address, To::Own, To::Next),
        // A DHCP client without an address: UDP, not fragmented, to the broadcast address.
        is(0),
        Do(LOAD_4, 30),
        is(u32::MAX),
        Do(LOAD_1, 23),
        is(17),
        Do(LOAD_2, 20),
        Do(AND, 0x3fff),
        is(0),
        Do(LOAD_X_IHL, 14),
        Do(LOAD_LENGTH, 0),
        Do(SUBTRACT_X, 0),
        Jump(IF_AT_LEAST, 14 + 8, To::Next, To::Drop),
        Do(LOAD_4_X, 14),
        Jump(IF_EQUAL, 68 << 16 | 67, To::Pass, To::Drop),
        Here(To::Own),
        // Only the first fragment has ports.
        Do(LOAD_2, 20),
        Do(AND, 0x1fff),
        Jump(IF_EQUAL, 0, To::Next, To::Pass),
        Do(LOAD_1, 23),
        Jump(IF_EQUAL, 17, To::Next, To::Pass),
        Do(LOAD_X_IHL, 14),
        Do(LOAD_LENGTH, 0),
        Do(SUBTRACT_X, 0),
        Jump(IF_AT_LEAST, 14 + 8, To::Next, To::Drop),
        Do(LOAD_2_X, 14),
        Jump(IF_EQUAL, 67, To::Drop, To::Pass),
        Here(To::Arp),
        Do(LOAD_LENGTH, 0),
        Jump(IF_AT_LEAST, 42, To::Next, To::Drop),
        // Ethernet, IPv4, lengths 6 and 4.
        Do(LOAD_4, 14),
        is(0x0001_0800),
        Do(LOAD_2, 18),
        is(0x0604),
        Do(LOAD_4, 22),
        is(mac.0),
        Do(LOAD_2, 26),
        is(mac.1),
        Do(LOAD_4, 28),
        Jump(IF_EQUAL, address, To::Pass, To::Next),
        // A probe: a request of a host without an address (RFC 5227 2.1.1).
        is(0),
        Do(LOAD_2, 20),
        is(1),
        Here(To::Pass),
        Do(RETURN, PASS),
        Here(To::Drop),
        Do(RETURN, SHOT),
    ]
}

/// Encodes the program with its jumps as distances.
fn assemble(steps: &[Step]) -> Vec<tc::Instruction> {
    let is_code = |step: &Step| !matches!(step, Step::Here(_));
    let place = |to: To| {
        let at = steps.iter().position(|s| matches!(s, Step::Here(here) if *here == to));
        at.map(|at| steps.iter().take(at).filter(|s| is_code(s)).count())
    };
    let code = steps.iter().filter(|s| is_code(s)).enumerate();
    code.map(|(n, step)| {
        let distance = |to: To| {
            let target = if to == To::Next { Some(n + 1) } else { place(to) };
            // All targets are ahead and near; a wrong one would drop packets, which the tests would
            // show.
            u8::try_from(target.unwrap_or(n + 1).saturating_sub(n + 1)).unwrap_or(u8::MAX)
        };
        match *step {
            Step::Do(code, value) => (code, 0, 0, value),
            Step::Jump(code, value, yes, no) => (code, distance(yes), distance(no), value),
            Step::Here(_) => (RETURN, 0, 0, SHOT),
        }
    })
    .collect()
}

/// The requests that attach it to a port.
pub(super) fn requests(port: &Port) -> [Request; 2] {
    let program = assemble(&steps(port));
    let mut qdisc = tc::ingress(port.index);
    qdisc.flags = CREATE & !netlink_packet_core::NLM_F_EXCL;
    let mut filter = tc::direct_action(port.index, &program);
    filter.flags = REPLACE;
    [qdisc, filter]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn every_jump_lands_within_the_program() {
        let port = Port { index: 1, mac: [2; 6], address: Ipv4Addr::new(10, 0, 0, 1), host: [4; 6] };
        let program = assemble(&steps(&port));
        for (n, (code, yes, no, _)) in program.iter().enumerate() {
            let furthest = n + 1 + usize::from(*yes).max(usize::from(*no));
            assert!(*code == RETURN || furthest < program.len(), "instruction {n}");
        }
        assert_eq!(program.last().map(|i| (i.0, i.3)), Some((RETURN, SHOT)));
    }
}
