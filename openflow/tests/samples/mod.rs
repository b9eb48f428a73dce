//! Handwritten messages: one of every type, with every action, instruction, match field and
//! statistics body.
#![allow(dead_code, unused_imports, reason = "each test takes what it needs")]

mod v10;
mod v13;

use std::net::Ipv4Addr;
use tandem_model::Mac;
use tandem_openflow::AnyMessage;
use tandem_openflow::wire::{Bytes, Pad};
pub(crate) use v10::{actions10, samples10};
pub(crate) use v13::{actions13, flow_mod13, known_to_ovs, matches13, rare_actions13, rare13, samples13};

/// An Ethernet frame with an experimental type.
pub(crate) fn frame() -> Bytes {
    let mut bytes = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5];
    bytes.extend_from_slice(&[7; 46]);
    Bytes(bytes)
}

fn pad<const N: usize>() -> Pad<N> {
    Pad::default()
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// All messages, with their bytes.
pub(crate) fn all() -> Vec<(AnyMessage, Vec<u8>)> {
    let v10 = samples10().into_iter().map(AnyMessage::V10);
    let v13 = samples13().into_iter().chain(rare13()).map(AnyMessage::V13);
    v10.chain(v13)
        .map(|m| {
            let mut out = Vec::new();
            m.encode(0x1234, &mut out).expect("fits");
            (m, out)
        })
        .collect()
}
