//! The ingress of an interface (sch_ingress), with a classic program that decides about each packet
//! itself (cls_bpf's direct action).

use super::attributes::{handle, nested};
use super::filter::{BPF_OPS, BPF_OPS_LEN, Instruction, operations};
use crate::netlink::{CREATE, Request};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

/// The handle and the parent of the ingress (TC_H_INGRESS).
const INGRESS: u16 = 0xffff;
/// `TCA_BPF_FLAGS` and its TCA_BPF_FLAG_ACT_DIRECT.
const FLAGS: u16 = 8;
const ACT_DIRECT: u32 = 1;
/// ETH_P_ALL.
const ALL: u16 = 0x0003;

/// The ingress of an interface.
pub(crate) fn ingress(index: u32) -> Request {
    let mut m = TcMessage::with_index(index.cast_signed());
    m.header.parent = TcHandle { major: INGRESS, minor: 0xfff1 };
    m.header.handle = handle(INGRESS, 0);
    m.attributes = vec![TcAttribute::Kind("ingress".into())];
    Request {
        what: format!("ingress of interface {index}"),
        message: RouteNetlinkMessage::NewQueueDiscipline(m),
        flags: CREATE,
    }
}

/// A program whose result is the action for the packet (TC_ACT_*).
pub(crate) fn direct_action(index: u32, program: &[Instruction]) -> Request {
    let count = u16::try_from(program.len()).unwrap_or_default();
    let options = vec![
        (BPF_OPS_LEN, count.to_ne_bytes().to_vec()),
        (BPF_OPS, operations(program)),
        (FLAGS, ACT_DIRECT.to_ne_bytes().to_vec()),
    ];
    let mut m = nested(index, handle(INGRESS, 0), handle(0, 1), "bpf", options);
    // Preference 1, all protocols.
    m.header.info = 1 << 16 | u32::from(ALL.to_be());
    Request {
        what: format!("a program at the ingress of interface {index}"),
        message: RouteNetlinkMessage::NewTrafficFilter(m),
        flags: CREATE,
    }
}
