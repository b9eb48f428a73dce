//! Reads and writes the attributes of traffic control messages. Every length is checked before it
//! is used.

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

/// TCA_OPTIONS (linux/rtnetlink.h).
const OPTIONS: u16 = 2;

pub(super) fn handle(major: u16, minor: u16) -> TcHandle {
    TcHandle { major, minor }
}

fn bare(index: u32, parent: TcHandle, own: TcHandle) -> TcMessage {
    let mut m = TcMessage::with_index(index.cast_signed());
    m.header.parent = parent;
    m.header.handle = own;
    m
}

/// A message without attributes, for deletions.
pub(super) fn named(index: u32, parent: TcHandle, own: TcHandle) -> TcMessage {
    bare(index, parent, own)
}

/// A message whose options are attributes, as (type, value).
pub(super) fn nested(
    index: u32,
    parent: TcHandle,
    own: TcHandle,
    kind: &str,
    options: Vec<(u16, Vec<u8>)>,
) -> TcMessage {
    let mut m = bare(index, parent, own);
    let options = options.into_iter().map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)));
    m.attributes = vec![TcAttribute::Kind(kind.to_owned()), TcAttribute::Options(options.collect())];
    m
}

/// A message whose options are one structure instead of attributes, which the netlink crate's list
/// of options cannot express.
pub(super) fn whole(index: u32, parent: TcHandle, own: TcHandle, kind: &str, options: Vec<u8>) -> TcMessage {
    let mut m = bare(index, parent, own);
    m.attributes =
        vec![TcAttribute::Kind(kind.to_owned()), TcAttribute::Other(DefaultNla::new(OPTIONS, options))];
    m
}

/// The kind of a queueing discipline, class or filter.
pub(super) fn kind(message: &TcMessage) -> &str {
    let kind = message.attributes.iter().find_map(|a| match a {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    });
    kind.unwrap_or_default()
}

/// The typed options, empty when there are none.
pub(super) fn options(message: &TcMessage) -> &[TcOption] {
    let options = message.attributes.iter().find_map(|a| match a {
        TcAttribute::Options(list) => Some(list.as_slice()),
        _ => None,
    });
    options.unwrap_or_default()
}

/// The bytes of all options of a kind that the netlink crate does not know; it keeps them as one
/// attribute.
pub(super) fn option_bytes(message: &TcMessage) -> Vec<u8> {
    match options(message) {
        [TcOption::Other(nla)] => bytes(nla),
        _ => Vec::new(),
    }
}

/// An attribute's value.
pub(super) fn bytes(nla: &DefaultNla) -> Vec<u8> {
    let mut out = vec![0; nla.value_len()];
    nla.emit_value(&mut out);
    out
}

/// Reads a sequence of attributes as (type, value); ends at a truncated one.
pub(super) fn walk(mut data: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *data.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = data.get(4..length)?;
        data = data.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits flag nesting and network byte order (linux/netlink.h:
        // NLA_TYPE_MASK).
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

/// The number at an offset.
pub(super) fn u32_at(data: &[u8], offset: usize) -> Option<u32> {
    data.get(offset..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// The number at an offset.
pub(super) fn u64_at(data: &[u8], offset: usize) -> Option<u64> {
    data.get(offset..)?.first_chunk().map(|b| u64::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_attribute_ends_the_walk() {
        let data = [5, 0, 1, 0x80, 9, 0, 0, 0, 4, 0, 2, 0, 8, 0, 3, 0, 1];
        assert_eq!(walk(&data).collect::<Vec<_>>(), [(1, [9].as_slice()), (2, &[])]);
        assert_eq!(walk(&[3, 0, 1, 0]).count(), 0, "shorter than its own header");
        assert_eq!((u32_at(&[1, 0, 0], 0), u64_at(&[0; 8], 9)), (None, None));
    }
}
