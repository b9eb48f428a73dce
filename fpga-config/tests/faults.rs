//! The bitfile's faults in the model, if enabled: their definite effects, and their bounds.
//! `transcripts.rs` compares them with the Verilog.

use proptest::prelude::*;
use std::time::Duration;
use tandem_fpga_config::codec::{Action, Field, Key, Pattern, Row};
use tandem_fpga_config::model::Model;
use tandem_fpga_config::profile::{FlowMap, builtin};
use tandem_fpga_config::registers::Registers;
use tandem_model::Time;

const NOW: Time = Time::from_secs(10);

/// A card that sends frames from queue q to queue `(q + 2) % 8`.
fn card(faults: bool) -> (Model, FlowMap) {
    let profile = builtin::named("openflow-switch").expect("built in");
    let map = profile.flow_table.expect("it has one");
    let card = Model::new(profile, Time::from_secs(1));
    let mut card = if faults { card.with_faults() } else { card };
    card.set_time(NOW);
    fill(&mut card, &map);
    (card, map)
}

fn fill(card: &mut Model, map: &FlowMap) {
    for queue in 0..8u8 {
        let pattern = Pattern::ANY.with(Field::SOURCE, queue.into(), 0xff);
        let action = Action::to(1 << ((queue + 2) % 8));
        Row { pattern, action }.commit(map, queue.into(), card).expect("committed");
    }
}

/// A frame of this length with this IPv4 header length and protocol, and this last byte.
fn frame(length: usize, header: u8, protocol: u8, tag: Option<u16>, last: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(tag.into_iter().flat_map(|tag| [0x81, 0, (tag >> 8) as u8, tag as u8]));
    frame.extend([8, 0, 0x40 | header, 0, 0, 46, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x03, 0xe8, 0x07, 0xd0, 0, 26, 0, 0]);
    frame.resize(length, 0x78);
    if let Some(byte) = frame.last_mut() {
        *byte = last;
    }
    frame
}

fn good(last: u8) -> Vec<u8> {
    frame(60, 5, 17, None, last)
}

/// The frames that left, as queue and last byte.
fn left(out: Vec<(u8, Vec<u8>)>) -> Vec<(u8, u8)> {
    out.into_iter().map(|(queue, frame)| (queue, frame.last().copied().unwrap_or(0))).collect()
}

fn lag(card: &mut Model, entered: &mut u64) -> u64 {
    let profile = card.profile().clone();
    let path = profile.data_path.expect("described");
    *entered += u64::from(card.read32(path.entered).expect("a register"));
    let decided: u32 = path.decided.iter().map(|a| card.read32(*a).expect("a register")).sum();
    *entered - u64::from(decided)
}

/// Whether the data path accepts words, by the input arbiter's register.
fn takes_words(card: &mut Model) -> bool {
    let (address, mask) = card.profile().data_path.as_ref().and_then(|d| d.ready).expect("described");
    card.read32(address).expect("a register") & mask != 0
}

/// A header length of 14 or 15: each frame leaves by the decision for the next, so that from then
/// on one frame is missing, also in the counters.
#[test]
fn one_frame_with_a_header_beyond_its_end_makes_every_later_one_leave_one_late() {
    for (header, protocol) in [(14, 17), (15, 6), (14, 1), (15, 1)] {
        let (mut card, _) = card(true);
        let mut entered = 0;
        assert_eq!(left(card.packet(0, &good(1), NOW)), [(2, 1)]);
        assert_eq!(lag(&mut card, &mut entered), 0);
        assert_eq!(left(card.packet(4, &frame(60, header, protocol, None, 2), NOW)), []);
        assert_eq!(left(card.packet(6, &good(3), NOW)), [(6, 2)], "by its own, when the next is there");
        assert_eq!(left(card.packet(2, &good(4), NOW)), [(4, 3)], "3 leaves by the decision for 4");
        assert_eq!(left(card.packet(0, &good(5), NOW)), [(2, 4)]);
        assert_eq!(lag(&mut card, &mut entered), 1, "which the registers show");
        assert!(takes_words(&mut card));
    }
}

/// A header length of 12 or 13: only the next frame is decided by a wrong key; afterwards the
/// counters agree.
#[test]
fn a_header_a_little_beyond_its_frame_spoils_one_decision() {
    for header in [12, 13] {
        let (mut card, _) = card(true);
        let mut entered = 0;
        card.packet(4, &frame(60, header, 17, None, 1), NOW);
        let out = left(card.packet(6, &good(2), NOW));
        assert_eq!(out, [(2, 2), (6, 1)], "2 leaves as if it had come by queue 0");
        assert_eq!(left(card.packet(6, &good(3), NOW)), [(0, 3)]);
        assert_eq!(lag(&mut card, &mut entered), 0, "which the registers do not show");
    }
}

#[test]
fn a_second_one_or_a_long_frame_stops_everything_until_a_reset() {
    for long in [false, true] {
        let (mut card, map) = card(true);
        let mut entered = 0;
        card.packet(4, &frame(60, 15, 17, None, 1), NOW);
        card.packet(4, &good(2), NOW);
        // A second frame of that kind, or one that does not fit the buffer before the decision.
        let second = if long { frame(1514, 5, 17, None, 3) } else { frame(60, 15, 17, None, 3) };
        card.packet(4, &second, NOW);
        for last in 0..200 {
            assert_eq!(card.packet(0, &good(last), NOW), [], "long: {long}");
        }
        // A long frame is stuck half-way and not counted; the ready bit shows the stop
        // nevertheless.
        assert_eq!(lag(&mut card, &mut entered), u64::from(!long) * 2, "long: {long}");
        assert!(!takes_words(&mut card));
        assert_eq!(card.read32(map.seconds).expect("a register"), 9, "registers answer");
        // CTRL bit 8 of the bus FPGA.
        let control = card.read32(0x008).expect("a register");
        card.write32(0x008, control | 0x100).expect("a register");
        let later = NOW + Duration::from_millis(5);
        card.set_time(later);
        fill(&mut card, &map);
        assert_eq!(left(card.packet(4, &good(9), later)), [(6, 9)], "nothing of before is left");
        assert!(takes_words(&mut card));
        assert_eq!(left(card.packet(0, &good(8), later)), [(2, 8)]);
    }
}

/// Behind the first frame, a frame can wait for the decision of the next one as long as the words
/// up to that decision fit the buffer with its own.
#[test]
fn behind_one_frames_of_80_bytes_go_on_and_longer_ones_stop_everything() {
    for length in 60..=128 {
        let (mut card, _) = card(true);
        card.packet(4, &frame(60, 14, 17, None, 1), NOW);
        card.packet(4, &frame(length, 5, 17, None, 2), NOW);
        let out = left(card.packet(4, &good(3), NOW));
        assert_eq!(out, if length <= 80 { vec![(6, 2)] } else { vec![] }, "{length}");
    }
}

/// Frames that end before their ports, or before ARP's addresses, have the same effect.
#[test]
fn frames_that_end_too_early_disturb_the_next_one_too() {
    let mut arp = vec![0xff; 12];
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.resize(40, 0);
    for early in [frame(32, 5, 17, None, 1), arp] {
        let (mut card, _) = card(true);
        assert_eq!(left(card.packet(4, &early, NOW)), [], "{early:02x?}");
        let out = left(card.packet(6, &good(2), NOW));
        assert!(out.contains(&(2, 2)), "as if it had come by queue 0: {out:?}");
        assert_eq!(left(card.packet(6, &good(3), NOW)), [(0, 3)]);
    }
}

/// A tagged frame of 121 to 128 bytes, closely followed by one of at most 64; all other pairs are
/// forwarded.
#[test]
fn only_a_short_frame_close_behind_a_tagged_one_of_16_words_stops_everything() {
    let close = |first: &[u8], second: &[u8]| {
        let (mut card, _) = card(true);
        let all = card.burst(&[(2, first), (0, second)], NOW).len();
        let after = card.packet(4, &good(9), NOW).len();
        assert_eq!(takes_words(&mut card), after == 1);
        (all, after)
    };
    for length in 60..=160 {
        let (tagged, plain) = (frame(length, 5, 17, Some(5), 1), frame(length, 5, 17, None, 1));
        let stops = (121..=128).contains(&length);
        let wanted = if stops { (1, 0) } else { (2, 1) };
        for second in [60, 64] {
            assert_eq!(close(&tagged, &frame(second, 5, 17, None, 2)), wanted, "{length}, then {second}");
        }
        assert_eq!(close(&tagged, &frame(65, 5, 17, None, 2)), (2, 1), "{length}, then 65");
        assert_eq!(close(&plain, &good(2)), (2, 1), "{length} without a tag");
        // If nothing moves between both, there is no race.
        let (mut card, _) = card(true);
        assert_eq!(card.packet(2, &tagged, NOW).len(), 1);
        assert_eq!(card.packet(0, &good(2), NOW).len(), 1);
    }
}

/// In a burst of any length, a working card loses nothing; a stopped one holds a bounded part.
#[test]
fn a_long_burst_goes_through_whole_and_one_that_cannot_is_held_in_bounds() {
    let long = frame(1514, 5, 17, None, 1);
    let many: Vec<(u8, &[u8])> = vec![(2, &long); 64];
    let (mut card, _) = card(true);
    assert_eq!(card.burst(&many, NOW).len(), 64);
    card.packet(4, &frame(60, 15, 17, None, 1), NOW);
    assert_eq!(
        card.burst(&many, NOW).len(),
        1,
        "the first of them decides about the one before, and is stuck"
    );
    for _ in 0..200 {
        assert_eq!(card.burst(&many, NOW), []);
    }
    assert!(format!("{card:?}").len() < 4 << 20, "what waits is bounded");
}

#[test]
fn without_faults_all_of_these_leave_by_their_own_decision() {
    for header in 5..16 {
        let (mut card, _) = card(false);
        assert_eq!(left(card.packet(4, &frame(60, header, 17, None, 1), NOW)), [(6, 1)]);
        assert_eq!(left(card.packet(6, &good(2), NOW)), [(0, 2)]);
    }
    let (mut card, _) = card(false);
    let (tagged, short) = (frame(128, 5, 17, Some(5), 1), good(2));
    assert_eq!(left(card.burst(&[(2, &tagged), (0, &short)], NOW)), [(2, 2), (4, 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A card with its faults accepts any frames in any order: its registers work, it holds a
    /// bounded number of frames, sends only received ones, and a reset restores its initial state.
    #[test]
    fn any_frames_are_taken(frames in prop::collection::vec(
        (0u8..10, prop::collection::vec(any::<u8>(), 0..140), any::<bool>(), 0u8..16, any::<bool>()), 0..40,
    )) {
        let (mut card, map) = card(true);
        let mut came: Vec<Vec<u8>> = Vec::new();
        for (queue, mut frame, tagged, header, close) in frames {
            if tagged && frame.len() > 20 {
                frame[12..14].copy_from_slice(&[0x81, 0]);
                frame[16..19].copy_from_slice(&[8, 0, 0x40 | header]);
            } else if frame.len() > 24 {
                frame[12..15].copy_from_slice(&[8, 0, 0x40 | header]);
                frame[23] = 17;
            }
            came.push(frame.clone());
            let short = good(1);
            came.push(short.clone());
            let out = match close {
                true => card.burst(&[(queue, &frame), (0, &short)], NOW),
                false => card.packet(queue, &frame, NOW),
            };
            for (_, frame) in out {
                prop_assert!(came.contains(&frame));
            }
        }
        prop_assert_eq!(card.read32(map.seconds).expect("a register"), 9);
        card.write32(0x008, 0x1_0100).expect("a register");
        let later = NOW + Duration::from_millis(5);
        card.set_time(later);
        fill(&mut card, &map);
        prop_assert_eq!(left(card.packet(4, &good(7), later)), [(6, 7)]);
    }

    /// A complete header gives the same key word by word and as a whole: the same row matches.
    #[test]
    fn a_whole_header_is_read_alike_word_by_word(
        bytes in prop::collection::vec(any::<u8>(), 100..180),
        kind in prop::sample::select(vec![0x0800u16, 0x0800, 0x0806, 0x8100, 0x86dd, 0x0040]),
        tagged in any::<bool>(), header in 0u8..16, protocol in prop::sample::select(vec![1u8, 6, 17, 47]),
        queue in 0u8..8,
    ) {
        let mut frame = bytes;
        let at = if tagged { 16 } else { 12 };
        frame[12..14].copy_from_slice(&[0x81, 0]);
        frame[at..at + 2].copy_from_slice(&kind.to_be_bytes());
        frame[at + 2] = 0x40 | header;
        frame[at + 11] = protocol;
        let key = Key::of_frame(&frame, queue);
        for faults in [false, true] {
            let (mut card, map) = card(faults);
            Row { pattern: Pattern::exactly(key), action: Action::to(1 << 7) }
                .commit(&map, 0, &mut card)
                .expect("committed");
            let out = card.packet(queue, &frame, NOW);
            prop_assert_eq!(out, vec![(7, frame.clone())], "faults: {}", faults);
        }
    }
}
