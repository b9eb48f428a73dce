//! The cases of OFTest (github.com/floodlight/oftest), a conformance suite for switches of OpenFlow
//! 1.0 and 1.3, reimplemented: each of its classes is named here. `docs/conformance.md` lists which
//! of its cases other tests cover, and which do not apply.

mod bench;
mod frames;

#[path = "oftest/actions10.rs"]
mod actions10;
#[path = "oftest/flows10.rs"]
mod flows10;
#[path = "oftest/groups.rs"]
mod groups;
#[path = "oftest/matches.rs"]
mod matches;
#[path = "oftest/packets.rs"]
mod packets;

/// The frame of a kind, with some bytes changed.
fn frame(kind: &str, changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut frame = frames::kinds().into_iter().find(|k| k.name == kind).expect("there is one").frame;
    for (at, bytes) in changes {
        frame[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    frame
}

/// The same with a VLAN tag of this id and priority.
fn tagged(mut frame: Vec<u8>, vid: u16, pcp: u16) -> Vec<u8> {
    let [high, low] = (pcp << 13 | vid).to_be_bytes();
    frame.splice(12..12, [0x81, 0, high, low]);
    frame
}
