//! Strategies for messages of both versions.

mod multipart13;
mod v10;
mod v13;

use proptest::collection::vec;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use tandem_model::Mac;
use tandem_openflow::wire::{Bytes, Pad, Text};
pub(crate) use v10::message10;
pub(crate) use v13::{changes_and_statistics13, message13};

fn pad<const N: usize>() -> impl Strategy<Value = Pad<N>> {
    any::<[u8; N]>().prop_map(Pad)
}
fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}
fn ip() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}
fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes)
}
/// Bytes whose length with 8 more is a multiple of 8.
fn eights() -> impl Strategy<Value = Bytes> {
    vec(any::<[u8; 8]>(), 0..4).prop_map(|b| Bytes(b.concat()))
}

/// A name in a field, with any bytes behind its NUL.
fn text<const N: usize>() -> impl Strategy<Value = Text<N>> {
    any::<[u8; N]>().prop_map(Text)
}
