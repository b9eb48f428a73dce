//! A card in memory accepts any frames, with and without the faults of its bitfile; no frame that
//! it sends is longer than a received one plus a tag; and a reset restores its initial state.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tandem_fpga_config::codec::{Action, Key, Pattern, Row};
use tandem_fpga_config::model::{CLEARING, Model};
use tandem_fpga_config::profile::{Profile, builtin};
use tandem_fpga_config::registers::Registers;
use tandem_model::Time;

/// Whether the card has faults; a row's action as register words; bursts of frames, by queue.
type Input = (bool, [u32; 10], Vec<Vec<(u8, Vec<u8>)>>);

static PROFILE: LazyLock<Profile> = LazyLock::new(|| builtin::named("openflow-switch").expect("built in"));

fuzz_target!(|input: Input| {
    let (faults, action, bursts) = input;
    let map = PROFILE.flow_table.expect("it has one");
    let card = Model::new(PROFILE.clone(), Time::ZERO);
    let mut card = if faults { card.with_faults() } else { card };
    let now = Time::ZERO + CLEARING;
    card.set_time(now);
    let row = Row { pattern: Pattern::ANY, action: Action::of_words(&action) };
    row.commit(&map, 5, &mut card).expect("committed");
    let longest = bursts.iter().flatten().map(|(_, frame)| frame.len()).max().unwrap_or(0);
    for burst in &bursts {
        let frames: Vec<(u8, &[u8])> = burst.iter().map(|(queue, frame)| (*queue, &frame[..])).collect();
        for (queue, frame) in card.burst(&frames, now) {
            assert!(queue < 8 && frame.len() <= longest + 4);
        }
        for (queue, frame) in frames {
            let _ = Key::read(frame, queue);
        }
    }
    card.write32(0x008, 0x1_0100).expect("a register");
    let later = now + CLEARING;
    card.set_time(later);
    let all = Row { pattern: Pattern::ANY, action: Action::to(4) };
    all.commit(&map, 0, &mut card).expect("committed");
    assert_eq!(card.packet(0, &[8; 60], later), [(2, vec![8; 60])]);
});
