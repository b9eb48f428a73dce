//! Keys, actions, hashes and rows, compared with tables and a vector that were observed on the
//! Verilog.

use tandem_fpga_config::codec::{Action, Exact, Field, Key, Mask, Pattern, Row, hash};
use tandem_fpga_config::profile::{self, FlowMap};

/// UDP from 10.0.0.1:1000 to 10.0.0.2:2000, untagged.
pub fn udp_frame() -> Vec<u8> {
    let mut frame = vec![0, 0x0a, 0, 0, 0, 2, 0, 0x0a, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x03, 0xe8, 0x07, 0xd0, 0, 12, 0, 0, 1, 2, 3, 4]);
    frame.resize(60, 0);
    frame
}

fn map() -> FlowMap {
    profile::builtin::named("openflow-switch").expect("built in").flow_table.expect("it has one")
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

/// The vector observed on the Verilog: key, first row, second row.
const VECTOR: (&str, u16, u16) =
    ("d007e803110200000a0100000a0008020000000a00010000000a000000ffff00", 0x5dc9, 0x78fd);

#[test]
fn the_vectors_key_is_that_of_its_frame_and_its_rows_are_those_of_the_verilog() {
    let bytes: [u8; 32] = hex(VECTOR.0).try_into().expect("32 bytes");
    let key = Key::of_bytes(&bytes);
    assert_eq!(key.bytes(), bytes);
    assert_eq!(Key::of_frame(&udp_frame(), 0), key);
    assert_eq!(hash::rows(&key), [VECTOR.1, VECTOR.2]);
    let mut valid = key;
    valid.set(Field::VALID, 1);
    assert_eq!(hash::rows(&valid), [VECTOR.1, VECTOR.2], "the valid bit's byte counts as zero");
}

#[test]
fn fields_lie_where_the_table_of_the_key_says() {
    let table = [
        ("tp_dst", 0, 16),
        ("tp_src", 16, 16),
        ("ip_proto", 32, 8),
        ("ip_dst", 40, 32),
        ("ip_src", 72, 32),
        ("eth_type", 104, 16),
        ("eth_dst", 120, 48),
        ("eth_src", 168, 48),
        ("source", 216, 8),
        ("ip_tos", 224, 8),
        ("vlan", 232, 16),
    ];
    for ((name, bit, width), (n, field)) in table.into_iter().zip(Field::ALL) {
        assert_eq!((n, field.bit, field.width), (name, bit, width));
        let mut key = Key::default();
        key.set(field, u64::MAX);
        for at in 0..256u32 {
            let set = key.0[(at / 32) as usize] >> (at % 32) & 1 == 1;
            assert_eq!(set, (bit..bit + width).contains(&at), "bit {at} of {name}");
        }
        assert_eq!(key.get(field), field.full());
    }
    assert_eq!(Mask::ANY.0[7], 0x00ff_ffff, "CMP_7 and MASK_7 hold 24 bits");
}

#[test]
fn actions_lie_where_the_table_of_the_action_says() {
    let at = |bit: u32, width: u32, words: [u32; 10]| {
        (0..width)
            .fold(0u64, |n, i| n | u64::from(words[((bit + i) / 32) as usize] >> ((bit + i) % 32) & 1) << i)
    };
    let mac = [1, 2, 3, 4, 5, 6];
    let table: [(Action, u16, u32, u32, u64); 9] = [
        (Action { vid: Some(0x123), ..Action::default() }, 0x02, 32, 16, 0x123),
        (Action { pcp: Some(5), ..Action::default() }, 0x04, 48, 8, 5),
        (Action { dl_src: Some(mac), ..Action::default() }, 0x10, 56, 48, 0x0102_0304_0506),
        (Action { dl_dst: Some(mac), ..Action::default() }, 0x20, 104, 48, 0x0102_0304_0506),
        (Action { nw_src: Some(0x0a00_0001), ..Action::default() }, 0x40, 152, 32, 0x0a00_0001),
        (Action { nw_dst: Some(0x0a00_0002), ..Action::default() }, 0x80, 184, 32, 0x0a00_0002),
        (Action { tos: Some(0xb8), ..Action::default() }, 0x100, 216, 8, 0xb8),
        (Action { tp_src: Some(1000), ..Action::default() }, 0x200, 224, 16, 1000),
        (Action { tp_dst: Some(2000), ..Action::default() }, 0x400, 240, 16, 2000),
    ];
    for (action, flag, bit, width, value) in table {
        let words = action.words();
        assert_eq!(at(16, 16, words), u64::from(flag), "{action:?}");
        assert_eq!(at(bit, width, words), value, "{action:?}");
        assert_eq!(Action::of_words(&words), action);
    }
    let strip = Action { strip: true, ..Action::to(0x55) };
    assert_eq!((at(0, 16, strip.words()), at(16, 16, strip.words())), (0x55, 0x08));
    assert_eq!(Action::of_words(&strip.words()), strip);
}

#[test]
fn vlan_arp_icmp_and_tos_are_read_as_the_facts_say() {
    let mut tagged = udp_frame();
    tagged.splice(12..12, [0x81, 0, 0xf1, 0x23]);
    tagged[19] = 0xbb;
    let key = Key::of_frame(&tagged, 3);
    assert_eq!(key.get(Field::VLAN), 0xe123, "bit 12 is zero");
    assert_eq!(key.get(Field::IP_TOS), 0xb8, "the low two bits are zero");
    assert_eq!((key.get(Field::SOURCE), key.get(Field::TP_DST)), (3, 2000));
    let mut arp = vec![0xff; 12];
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 1, 1, 1, 1, 1, 1, 10, 0, 0, 1, 2, 2, 2, 2, 2, 2, 10, 0, 0, 2]);
    let key = Key::of_frame(&arp, 0);
    let ip = (key.get(Field::IP_PROTO), key.get(Field::IP_SRC), key.get(Field::IP_DST));
    assert_eq!(ip, (2, 0x0a00_0001, 0x0a00_0002), "opcode, SPA, TPA");
    let mut icmp = udp_frame();
    icmp[23] = 1;
    let key = Key::of_frame(&icmp, 0);
    assert_eq!((key.get(Field::TP_SRC), key.get(Field::TP_DST)), (3, 0xe8), "type and code");
}

#[test]
fn a_row_is_committed_by_its_last_write_and_deleted_by_an_impossible_key() {
    let a = map();
    let row = Row { pattern: Pattern::ANY.with(Field::IP_PROTO, 17, 0xff), action: Action::to(4) };
    let writes: Vec<(u32, u32)> = row.writes(&a, 7).collect();
    assert_eq!(writes.len(), 10 + 8 + 8 + 1);
    assert_eq!(writes[0], (0x200_1000, 4));
    assert_eq!(writes[10], (0x200_1028, 0xffff_ffff));
    assert_eq!(writes[18].0, 0x200_1048);
    assert_eq!(writes[26], (0x200_106c, 7));
    assert_eq!((a.bytes_hit + 4, a.packets_hit + 4, a.last_seen + 4), (0x200_1074, 0x200_10f4, 0x200_117c));
    let deleted = Row::deleted();
    assert!(deleted.is_deleted() && !row.is_deleted());
    assert_eq!(deleted.pattern.key.get(Field::SOURCE), 0xff);
    assert!((0..8).all(|q| !deleted.pattern.matches(&Key::of_frame(&udp_frame(), q))));
}

#[test]
fn an_exact_entry_is_invalid_while_its_body_is_written() {
    let entry = Exact { key: Key::of_frame(&udp_frame(), 0), action: Action::to(4) };
    let writes: Vec<(u32, u32)> = entry.writes(&map(), 2).collect();
    let top = 0x100_0000 + 2 * 128 + 28;
    assert_eq!(writes.first(), Some(&(top, entry.key.0[7])));
    assert_eq!(writes.last(), Some(&(top, entry.key.0[7] | 1 << 31)));
    assert_eq!(writes.iter().filter(|(at, _)| *at == top).count(), 2);
    assert_eq!(writes[8], (0x100_0000 + 2 * 128 + 0x20, 0), "counters start at zero");
    assert_eq!(writes[10], (0x100_0000 + 2 * 128 + 0x28, 4));
}
