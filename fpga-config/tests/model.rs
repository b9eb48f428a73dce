//! The card in memory has the documented behaviour of a card, point by point.

use std::time::Duration;
use tandem_fpga_config::codec::{Action, Exact, Field, Key, Mask, Pattern, Row};
use tandem_fpga_config::counters::ExactCounter;
use tandem_fpga_config::device_id::DeviceId;
use tandem_fpga_config::model::{CLEARING, Model};
use tandem_fpga_config::profile::{FlowMap, Profile, builtin, probe};
use tandem_fpga_config::registers::{AccessError, Registers, UNMAPPED};
use tandem_model::Time;

const START: Time = Time::from_secs(1_000);

fn profile(name: &str) -> Profile {
    builtin::named(name).expect("a profile")
}

/// A card shortly after its reset, and the addresses of its flow table.
fn card() -> (Model, FlowMap) {
    let profile = profile("openflow-switch");
    let map = profile.flow_table.expect("a flow table");
    let mut model = Model::new(profile, START);
    model.set_time(START + CLEARING);
    (model, map)
}

fn read(model: &mut Model, address: u32) -> u32 {
    model.read32(address).expect("a register")
}

fn write(model: &mut Model, address: u32, value: u32) {
    model.write32(address, value).expect("a register");
}

/// A UDP frame of 60 bytes.
fn frame() -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x03, 0xe8, 0x07, 0xd0, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}

fn everything_to(ports: u16) -> Row {
    Row { pattern: Pattern { key: Key::default(), mask: Mask::ANY }, action: Action::to(ports) }
}

fn exact(ports: u16) -> Exact {
    Exact { key: Key::of_frame(&frame(), 0), action: Action::to(ports) }
}

/// The queues that the frame is sent to.
fn queues(model: &mut Model, now: Time) -> Vec<u8> {
    model.packet(0, &frame(), now).into_iter().map(|(queue, _)| queue).collect()
}

#[test]
fn after_a_reset_no_row_matches_and_a_packet_is_dropped_and_counted_by_its_source() {
    let (mut model, map) = card();
    assert_eq!(queues(&mut model, START), [0_u8; 0]);
    assert_eq!(read(&mut model, map.dropped), 1);
    assert_eq!([read(&mut model, map.wildcard_misses), read(&mut model, map.exact_misses)], [1, 1]);
}

#[test]
fn the_lowest_matching_row_wins_and_is_the_only_one_that_counts() {
    let (mut model, map) = card();
    everything_to(1 << 2).commit(&map, 9, &mut model).expect("committed");
    everything_to(1 << 4).commit(&map, 3, &mut model).expect("committed");
    let now = START + Duration::from_secs(70);
    assert_eq!(queues(&mut model, now), [4]);
    assert_eq!(read(&mut model, map.packets_hit + 4 * 3), 1);
    assert_eq!(read(&mut model, map.bytes_hit + 4 * 3), 60);
    assert_eq!(read(&mut model, map.last_seen + 4 * 3), 70);
    assert_eq!(read(&mut model, map.packets_hit + 4 * 9), 0);
    assert_eq!(read(&mut model, map.seconds), 70);
    Row::deleted().commit(&map, 3, &mut model).expect("committed");
    assert_eq!(queues(&mut model, now), [2], "a deleted row matches nothing");
}

#[test]
fn an_exact_entry_beats_every_row_and_a_wildcard_hit_counts_an_exact_miss_too() {
    let (mut model, map) = card();
    everything_to(1 << 4).commit(&map, 0, &mut model).expect("committed");
    assert_eq!(queues(&mut model, START), [4]);
    let entry = exact(1 << 6);
    entry.write(&map, entry.rows()[1], &mut model).expect("written");
    assert_eq!(queues(&mut model, START), [6], "found in its second row");
    let counts = [map.wildcard_misses, map.wildcard_hits, map.exact_misses, map.exact_hits];
    assert_eq!(counts.map(|c| read(&mut model, c)), [0, 1, 1, 1], "lookups = exact hits + exact misses");
    entry.delete(&map, entry.rows()[1], &mut model).expect("deleted");
    assert_eq!(queues(&mut model, START), [4]);
}

#[test]
fn vector_crc_rows_of_the_key_decide_where_the_card_looks() {
    let text = "d007e803110200000a0100000a0008020000000a00010000000a000000ffff00";
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex");
    }
    let key = Key::of_bytes(&bytes);
    let (mut model, map) = card();
    let mut frame = frame();
    // The frame is made from the key's fields, so that the test does not depend on their offsets in
    // the vector.
    for (at, field) in [(0, Field::ETH_DST), (6, Field::ETH_SRC)] {
        frame[at..at + 6].copy_from_slice(&key.get(field).to_be_bytes()[2..]);
    }
    for (at, field) in [(26, Field::IP_SRC), (30, Field::IP_DST)] {
        frame[at..at + 4].copy_from_slice(&key.get(field).to_be_bytes()[4..]);
    }
    for (at, field) in [(34, Field::TP_SRC), (36, Field::TP_DST)] {
        frame[at..at + 2].copy_from_slice(&key.get(field).to_be_bytes()[6..]);
    }
    let source = key.get(Field::SOURCE) as u8;
    assert_eq!(Key::of_frame(&frame, source), key, "the frame has the vector's key");
    for row in [0x5dc9, 0x78fd] {
        let entry = Exact { key, action: Action::to(1 << 2) };
        entry.write(&map, row, &mut model).expect("written");
        assert_eq!(model.packet(source, &frame, START), [(2, frame.clone())], "row 0x{row:04x}");
        entry.delete(&map, row, &mut model).expect("deleted");
        assert_eq!(model.packet(source, &frame, START), []);
    }
    let entry = Exact { key, action: Action::to(1 << 2) };
    entry.write(&map, 0x5dca, &mut model).expect("written");
    assert_eq!(model.packet(source, &frame, START), [], "a row where the card does not look");
}

#[test]
fn reading_a_row_destroys_a_half_built_one() {
    let (mut model, map) = card();
    everything_to(1 << 2).commit(&map, 5, &mut model).expect("committed");
    write(&mut model, map.action, 0x1234);
    write(&mut model, map.read_row, 5);
    assert_eq!(read(&mut model, map.action), 1 << 2);
    assert_eq!(Row::read(&map, 5, &mut model).expect("read"), everything_to(1 << 2));
}

#[test]
fn staging_registers_hold_32_bits_and_a_row_24_of_the_last_words_of_key_and_mask() {
    let (mut model, map) = card();
    for address in [map.key + 28, map.mask + 28] {
        write(&mut model, address, 0xffff_ffff);
        assert_eq!(read(&mut model, address), 0xffff_ffff);
    }
    // Row numbers are used modulo 32, READ_ADDR stores the value, WRITE_ADDR nothing.
    write(&mut model, map.write_row, 0x45);
    write(&mut model, map.read_row, 0x25);
    for address in [map.key + 28, map.mask + 28] {
        assert_eq!(read(&mut model, address), 0x00ff_ffff);
    }
    assert_eq!([read(&mut model, map.read_row), read(&mut model, map.write_row)], [0x25, 0]);
}

#[test]
fn counters_of_exact_entries_are_cleared_by_reading_but_for_bit_24() {
    let (mut model, map) = card();
    let entry = exact(1 << 2);
    let row = entry.rows()[0];
    entry.write(&map, row, &mut model).expect("written");
    let counters = map.exact_entry(row.into()).expect("a row") + 0x20;
    // As after 2^24 - 1 packets.
    write(&mut model, counters, 0x00ff_ffff);
    let later = START + Duration::from_secs(200);
    queues(&mut model, later);
    let mut wide = ExactCounter::new();
    let counted = wide.read(read(&mut model, counters), read(&mut model, counters + 4));
    assert_eq!((counted.packets, counted.bytes, counted.last_seen), (1 << 24, 60, 200 - 128));
    assert_eq!(read(&mut model, counters) & 0x01ff_ffff, 1 << 24, "bit 24 stays");
    queues(&mut model, later);
    let counted = wide.read(read(&mut model, counters), read(&mut model, counters + 4));
    assert_eq!((counted.packets, counted.bytes), (1, 60), "and is not counted again");
    assert_eq!(wide.packets(), (1 << 24) + 1);
}

#[test]
fn row_counters_accumulate_can_be_written_and_wrap() {
    let (mut model, map) = card();
    everything_to(1 << 2).commit(&map, 0, &mut model).expect("committed");
    write(&mut model, map.bytes_hit, u32::MAX - 29);
    queues(&mut model, START);
    assert_eq!([read(&mut model, map.bytes_hit), read(&mut model, map.bytes_hit)], [30, 30]);
    let mut simulated = Model::new(profile("openflow-switch"), START).clearing_row_counters();
    everything_to(1 << 2).commit(&map, 0, &mut simulated).expect("committed");
    queues(&mut simulated, START);
    assert_eq!([read(&mut simulated, map.packets_hit), read(&mut simulated, map.packets_hit)], [1, 0]);
}

#[test]
fn the_ingress_port_is_not_taken_out_of_the_bitmap() {
    let (mut model, map) = card();
    everything_to(0b0101).commit(&map, 0, &mut model).expect("committed");
    assert_eq!(queues(&mut model, START), [0, 2]);
}

#[test]
fn what_is_not_mapped_reads_as_deadbeef_and_what_is_outside_is_never_asked() {
    let (mut model, _) = card();
    assert_eq!(read(&mut model, 0x300_0000), UNMAPPED);
    assert_eq!(read(&mut model, 0x44_0200), UNMAPPED);
    assert!(matches!(model.read32(0x800_0000), Err(AccessError::Address(_))));
    assert!(matches!(model.read32(2), Err(AccessError::Address(_))));
    assert!(matches!(model.write32(0x800_0000, 0), Err(AccessError::Address(_))));
}

#[test]
fn the_exact_table_is_cleared_for_4_2_ms_after_a_reset_and_does_not_answer() {
    let (mut model, map) = card();
    let entry = exact(1 << 2);
    entry.write(&map, entry.rows()[0], &mut model).expect("written");
    let now = START + Duration::from_secs(1);
    model.set_time(now);
    let control = read(&mut model, 0x008);
    write(&mut model, 0x008, control | 0x100);
    write(&mut model, map.exact, 7);
    assert_eq!(read(&mut model, map.exact), UNMAPPED);
    assert_eq!(read(&mut model, 0x010), 1 << 25, "the bus FPGA noticed the time-out");
    assert_eq!(read(&mut model, 0x010), 0, "cleared by reading");
    model.set_time(now + CLEARING);
    assert_eq!(read(&mut model, map.exact), 0, "the write was lost");
    assert_eq!(queues(&mut model, now + CLEARING), [0_u8; 0], "and the entry is gone");
    assert_eq!(read(&mut model, map.seconds), 0, "the clock began anew");
}

#[test]
fn the_watchdog_flushes_after_8_6_s_without_a_sign_of_life() {
    for name in ["openflow-switch", "openflow-switch-alternate"] {
        let profile = profile(name);
        let (map, dog) = (profile.flow_table.expect("table"), profile.watchdog.expect("watchdog"));
        let mut model = Model::new(profile, START);
        model.set_time(START + CLEARING);
        everything_to(1 << 2).commit(&map, 0, &mut model).expect("committed");
        assert_eq!(queues(&mut model, START + Duration::from_secs(100)), [2], "off after a reset");
        write(&mut model, dog.enable, 1);
        let mut now = START + Duration::from_secs(100);
        for _ in 0..4 {
            now = now + Duration::from_secs(8);
            model.set_time(now);
            read(&mut model, dog.counter);
            assert_eq!(queues(&mut model, now), [2], "{name}: kicked by a read of its block");
        }
        now = now + Duration::from_secs(8);
        model.set_time(now);
        read(&mut model, 0x200_0100);
        now = now + Duration::from_millis(8_599);
        assert_eq!(queues(&mut model, now), [2], "{name}: kicked by the input arbiter");
        now = now + Duration::from_millis(1);
        assert_eq!(queues(&mut model, now), [0_u8; 0], "{name}: flushed");
        assert_eq!(Row::read(&map, 0, &mut model).expect("read").pattern, Pattern::exactly(Key::default()));
    }
}

#[test]
fn a_disabled_queue_holds_its_frames_until_it_is_full_and_lets_them_go() {
    let (mut model, map) = card();
    everything_to(1 << 2).commit(&map, 0, &mut model).expect("committed");
    write(&mut model, 0x200_0300, 1 << 2);
    let queue = 0x200_0380 + 0x10 * 2;
    // 8 words each and one before: 227 fit 2048 words.
    for _ in 0..260 {
        assert_eq!(queues(&mut model, START), [0_u8; 0]);
    }
    let values: Vec<u32> = (0..4).map(|n| read(&mut model, queue + 4 * n)).collect();
    assert_eq!(values, [227 * 60, 227, 33, 227 * 9]);
    write(&mut model, 0x200_0300, 0);
    assert_eq!(queues(&mut model, START).len(), 228, "what was held, and this one");
    assert_eq!(read(&mut model, queue + 0xc), 0);
}

/// The words in a queue: one before each frame, another for a tag that was removed, and one that a
/// tagged frame left over.
#[test]
fn words_in_a_queue_are_the_frames_and_what_goes_ahead_of_them() {
    let mut tagged = frame();
    tagged.splice(12..12, [0x81, 0, 0x60, 5]);
    let words = |strip: bool, frames: &[&[u8]]| {
        let (mut model, map) = card();
        let action = Action { strip, ..Action::to(1 << 2) };
        Row { action, ..everything_to(0) }.commit(&map, 0, &mut model).expect("committed");
        write(&mut model, 0x200_0300, 0xffff_ff04);
        assert_eq!(read(&mut model, 0x200_0300), 0xffff_ff04, "all 32 bits are kept");
        for frame in frames {
            assert_eq!(model.packet(0, frame, START), []);
        }
        read(&mut model, 0x200_03ac)
    };
    let (plain, long) = (frame(), [&tagged[..], &[0; 4]].concat());
    assert_eq!((tagged.len(), long.len()), (64, 68));
    assert_eq!(words(false, &[&plain]), 8 + 1);
    assert_eq!(words(false, &[&tagged]), 8 + 1);
    assert_eq!(words(true, &[&tagged]), 8 + 1 + 1, "60 bytes, and the tag that was taken off");
    // 68 bytes are 9 words; without the tag 64 bytes are 8, and the ninth precedes the next frame.
    assert_eq!(words(true, &[&long]), 8 + 1 + 1);
    assert_eq!(words(true, &[&long, &plain]), 8 + 1 + 1 + 8 + 1 + 1);
    assert_eq!(words(false, &[&long, &plain]), 9 + 1 + 8 + 1 + 1);
}

#[test]
fn a_committed_or_flushed_row_was_seen_at_that_moment() {
    let (mut model, map) = card();
    model.set_time(START + Duration::from_secs(30));
    everything_to(1 << 2).commit(&map, 33, &mut model).expect("committed");
    assert_eq!(read(&mut model, map.last_seen + 4), 30, "row 33 is row 1");
    assert_eq!(read(&mut model, map.last_seen), 0);
    let dog = profile("openflow-switch").watchdog.expect("a watchdog");
    assert_eq!(read(&mut model, dog.counter), 0, "it does not count while it is off");
    write(&mut model, dog.enable, 1);
    model.set_time(START + Duration::from_secs(31));
    assert_eq!(read(&mut model, dog.counter), 125_000_000, "in clocks of 8 ns");
    model.set_time(START + Duration::from_secs(40));
    assert_eq!(read(&mut model, map.last_seen), 40, "flushed");
}

/// The input arbiter's registers have the first two words of the last frame with their control
/// bits, and its state.
#[test]
fn the_input_arbiter_tells_of_the_last_frame() {
    let (mut model, _) = card();
    assert_eq!(read(&mut model, 0x200_011c), 2, "idle, and what is behind it takes words");
    let frame: Vec<u8> = (1..=13).collect();
    model.packet(4, &frame, START);
    let words: Vec<u32> = (1..8).map(|n| read(&mut model, 0x200_0100 + 4 * n)).collect();
    assert_eq!(words, [0x0102_0304, 0x0506_0708, 0, 0x090a_0b0c, 0x0d00_0000, 0x08, 2]);
}

#[test]
fn ports_count_and_a_port_that_is_off_or_unplugged_does_nothing() {
    let (mut model, map) = card();
    everything_to(1 << 2 | 1 << 5).commit(&map, 0, &mut model).expect("committed");
    assert_eq!(queues(&mut model, START), [2, 5]);
    assert_eq!([read(&mut model, 0x60_0008), read(&mut model, 0x60_001c)], [1, 60], "received");
    assert_eq!([read(&mut model, 0x64_0028), read(&mut model, 0x64_0030)], [1, 60], "sent");
    assert_eq!([read(&mut model, 0x78_0028), read(&mut model, 0x78_003c)], [1, 60], "to the CPU");
    write(&mut model, 0x64_0000, 1 << 3);
    assert_eq!(queues(&mut model, START), [5], "MAC TX off");
    write(&mut model, 0x60_0000, 1 << 4);
    assert_eq!(queues(&mut model, START), [0_u8; 0], "MAC RX off");
    write(&mut model, 0x60_0000, 0);
    model.set_link(0, false);
    assert_eq!(queues(&mut model, START), [0_u8; 0], "no cable");
    assert_eq!(read(&mut model, 0x44_0064) & 1 << 2, 0, "AUX_STATUS says so");
    assert_eq!(read(&mut model, 0x44_0064 + 0x80) & 1 << 2, 1 << 2);
}

#[test]
fn a_phy_is_busy_once_after_a_write_and_its_reset_clears_itself() {
    let (mut model, _) = card();
    write(&mut model, 0x44_0000, 0x8000);
    assert_eq!(read(&mut model, 0x44_0000), 1 << 31);
    assert_eq!(read(&mut model, 0x44_0000), 0x1140);
    let id = read(&mut model, 0x44_0008) << 16 | read(&mut model, 0x44_000c);
    assert_eq!(id & !0xf, 0x0020_60b0);
    write(&mut model, 0x44_0000, 0x1940);
    read(&mut model, 0x44_0000);
    assert_eq!(read(&mut model, 0x44_0064) & 1 << 2, 0, "powered down: no link");
}

#[test]
fn the_device_id_block_is_read_as_it_was_written() {
    let (mut model, _) = card();
    let id = DeviceId::read(&mut model).expect("asked").expect("there");
    assert_eq!((id.directory.as_str(), id.version), ("openflow_switch", (1, 0, 0)));
    assert_eq!(read(&mut model, 0x40_0000), 0x5e46_1ffe);
    assert_eq!(read(&mut model, 0x40_001c).to_be_bytes(), *b"open", "big-endian inside words");
    let long = DeviceId { description: "x".repeat(300), directory: "y".repeat(300), ..id };
    let mut model = Model::new(profile("openflow-switch"), START).saying(Some(long));
    let read = DeviceId::read(&mut model).expect("asked").expect("there");
    assert_eq!((read.directory.len(), read.description.len()), (63, 99), "cut, with a NUL at the end");
}

#[test]
fn probing_tells_every_profile_apart_and_leaves_no_trace() {
    let all = builtin::all().expect("profiles");
    for (i, profile) in all.iter().enumerate() {
        let mut model = Model::new(profile.clone(), START);
        if let Some(map) = profile.flow_table {
            write(&mut model, map.mask, 0x77);
        }
        let found = probe::probe(&mut model, &all).expect("asked");
        assert_eq!(found.fits, [i], "{}", profile.name);
        assert_eq!(found.device_id.map(|d| Some(d.directory)), Some(profile.directory.clone()));
        if let Some(map) = profile.flow_table {
            assert_eq!(read(&mut model, map.mask), 0x77);
        }
        // Without a device id block only a flow table is proof.
        let mut model = Model::new(profile.clone(), START).saying(None);
        let fits = probe::probe(&mut model, &all).expect("asked").fits;
        assert_eq!(fits.contains(&i), profile.flow_table.is_some(), "{}", profile.name);
    }
    let mut empty = Model::new(all[0].clone(), START).unloaded();
    let found = probe::probe(&mut empty, &all).expect("asked");
    assert_eq!((found.fits.len(), found.device_id), (0, None));
}

#[test]
fn cpci_registers_are_as_after_a_reset_and_behave() {
    let (mut model, _) = card();
    assert_eq!(read(&mut model, 0x000), 1 << 24 | 4);
    assert_eq!(read(&mut model, 0x008), 1 << 16, "host little-endian");
    assert_eq!(read(&mut model, 0x050), 1);
    write(&mut model, 0x020, 0xabcd);
    assert_eq!(read(&mut model, 0x020), 0xabcd);
    assert_eq!(read(&mut model, 0x1020), 0xabcd, "address bits 21:12 are not decoded");
    write(&mut model, 0x00c, 1);
    assert_eq!(read(&mut model, 0x020), 0, "reset");
}

#[test]
fn the_exact_table_takes_memory_only_for_what_was_written() {
    let (mut model, map) = card();
    for row in 0..map.exact_rows {
        assert_eq!(read(&mut model, map.exact_entry(row).expect("a row")), 0);
        write(&mut model, map.exact_entry(row).expect("a row") + 28, 0);
    }
    assert_eq!(model.exact_rows_in_memory(), 0);
    let entry = exact(1 << 2);
    entry.write(&map, entry.rows()[0], &mut model).expect("written");
    assert_eq!(model.exact_rows_in_memory(), 1);
}
