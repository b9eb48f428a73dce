//! The first row drops the key that the card makes of every frame with an IPv4 header length below
//! 5: no such frame is forwarded, whatever the flows are and however they change.

mod world;

use std::time::Duration;
use tandem_fpga_config::codec::ports::queue;
use tandem_fpga_config::codec::{Action, Exact, Field, Key, Pattern, Row};
use tandem_fpga_config::model::Model;
use tandem_fpga_config::offload::row_plan::Owner;
use tandem_fpga_config::offload::{Offload, Options, Place, Seen};
use tandem_fpga_config::profile::{FaultKey, FlowMap, Profile, builtin};
use tandem_fpga_config::registers::Registers;
use world::{World, ports};

const NEVER: Duration = Duration::ZERO;
/// The fault's key in the bitfile's profile.
const GUARD: FaultKey = FaultKey { source: 0, vlan: 0xffff };

/// UDP in a frame of 60 bytes, with this IPv4 header length and tag.
fn frame(length: u8, tag: Option<u16>) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(tag.into_iter().flat_map(|tag| [0x81, 0, (tag >> 8) as u8, tag as u8]));
    frame.extend([8, 0, 0x40 | length, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x03, 0xe8, 0x07, 0xd0, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}

/// Frames with too short a header, with and without a tag.
fn short() -> impl Iterator<Item = Vec<u8>> {
    (0..5).flat_map(|length| [frame(length, None), frame(length, Some(0x6005))])
}

/// A switch that forwards everything from port 0 (OpenFlow number 3).
fn port_0_forwards(cpu_ports: bool) -> World {
    let mut w = World::new(ports(4, false, cpu_ports), Options::default());
    let old = w.soft.clone();
    assert!(w.add("priority=9,in_port=3,actions=output:1", NEVER, NEVER));
    assert!(w.add("priority=5,in_port=1,actions=output:4", NEVER, NEVER));
    w.sync(&old, &[]);
    w
}

fn leaves(card: &mut Model, from: u8, frame: &[u8], w_now: tandem_model::Time) -> bool {
    !card.packet(from, frame, w_now).is_empty()
}

#[test]
fn a_header_that_is_too_short_leaves_by_no_port_wherever_it_came_from() {
    for cpu_ports in [true, false] {
        let mut w = port_0_forwards(cpu_ports);
        for from in 0..8 {
            for frame in short() {
                assert!(!leaves(&mut w.card, from, &frame, w.now), "queue {from}: {frame:02x?}");
            }
        }
        assert!(leaves(&mut w.card, 0, &frame(5, None), w.now), "a header of 5 is right");
        let hits = w.card.read32(w.map.packets_hit).expect("a register");
        assert_eq!(hits.wrapping_sub(u32::MAX), 8 * 10, "the guard took them all, and nothing else");
        // Without the guard, port 0's rule matches such frames from any other port.
        Row::deleted().commit(&w.map, 0, &mut w.card).expect("committed");
        let out = w.card.packet(queue(2), &frame(4, None), w.now);
        assert_eq!(out, [(queue(1), frame(4, None))], "that is the fault");
    }
}

#[test]
fn the_guard_is_in_the_first_row_before_anything_else_and_is_put_back_like_any_row() {
    let mut w = port_0_forwards(true);
    let guard = Row::guard(GUARD);
    assert_eq!(w.map.guard, Some(GUARD));
    assert_eq!(
        (guard.pattern.mask.0, guard.action),
        ([0; 8], Action::default()),
        "looks at all, sends nowhere"
    );
    let first = w.offload.rows()[0].expect("there");
    assert_eq!((first.owner, first.row), (Owner::Guard, guard));
    // Another process overwrites it: that is detected, and repaired by writing that row alone.
    Row::deleted().commit(&w.map, 0, &mut w.card).expect("committed");
    let found = (0..40).any(|_| !w.offload.verify(&mut w.card).expect("it answers"));
    assert!(found, "it is read back like other rows");
    let report = w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers");
    assert_eq!((report.commits, report.gaps), (1, 0));
    assert_eq!(Row::read(&w.map, 0, &mut w.card).expect("read"), guard);
    assert!((0..40).all(|_| w.offload.verify(&mut w.card).expect("it answers")));
    // A restart finds the guard, and writes nothing.
    let mut again =
        Offload::start(w.map, w.ports.clone(), Options::default(), w.now, &mut w.card).expect("it answers");
    let report = again.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers");
    assert_eq!(report.commits, 0);
}

/// Counts row commits, and checks after each that a frame of every flow is forwarded rightly.
struct Watching<'a> {
    card: &'a mut Model,
    map: FlowMap,
    now: tandem_model::Time,
    order: Vec<u32>,
}

impl Registers for Watching<'_> {
    fn read32(&mut self, address: u32) -> Result<u32, tandem_fpga_config::registers::AccessError> {
        self.card.read32(address)
    }

    fn write32(
        &mut self,
        address: u32,
        value: u32,
    ) -> Result<(), tandem_fpga_config::registers::AccessError> {
        self.card.write32(address, value)?;
        if address == self.map.write_row {
            self.order.push(value);
            let out = self.card.clone().packet(queue(0), &frame(5, None), self.now);
            assert_eq!(out, [(queue(1), frame(5, None))], "after {:?}", self.order);
        }
        Ok(())
    }
}

/// A card that was filled without a guard: the flow in the first row moves first, and its packets
/// are always matched rightly.
#[test]
fn a_flow_that_was_in_the_first_row_moves_before_the_guard_comes() {
    let mut old = port_0_forwards(false);
    let row = Row { pattern: Pattern::ANY.with(Field::SOURCE, 0, 0xff), action: Action::to(1 << 2) };
    let taken = old.offload.rows().iter().position(|s| s.is_some_and(|s| s.row == row)).expect("a row");
    Row::deleted().commit(&old.map, taken as u32, &mut old.card).expect("committed");
    row.commit(&old.map, 0, &mut old.card).expect("committed");
    let mut offload = Offload::start(old.map, old.ports.clone(), Options::default(), old.now, &mut old.card)
        .expect("it answers");
    let (map, now) = (old.map, old.now);
    let mut card = Watching { card: &mut old.card, map, now, order: Vec::new() };
    let report = offload.sync(&old.soft.tables[0], now, &mut card).expect("it answers");
    assert_eq!(card.order.last(), Some(&0), "the guard is last: {:?}", card.order);
    assert_eq!(report.gaps, 0);
    assert_eq!(offload.rows()[0].map(|s| s.owner), Some(Owner::Guard));
}

#[test]
fn no_exact_entry_has_the_guard_s_key() {
    let mut w = port_0_forwards(true);
    // Such frames reach software only from a card without the guard; they get no exact entry
    // nevertheless.
    for frame in short() {
        let seen = w.offload.packet_seen(&frame, 1, w.now, &mut w.card).expect("it answers");
        assert_eq!(seen, Seen::Nothing, "{frame:02x?}");
    }
    // A foreign entry with this key is removed, even with the same action as port 0's rule.
    let entry = Exact { key: Key::of_fault(GUARD), action: Action::to(1 << 2) };
    entry.write(&w.map, entry.rows()[0], &mut w.card).expect("written");
    assert!(leaves(&mut w.card, queue(2), &frame(3, None), w.now), "entries beat rows");
    w.offload =
        Offload::start(w.map, w.ports.clone(), Options::default(), w.now, &mut w.card).expect("it answers");
    assert_eq!(w.offload.exact_entries(), 1);
    w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers");
    assert_eq!(w.offload.exact_entries(), 0);
    assert!(!leaves(&mut w.card, queue(2), &frame(3, None), w.now));
}

/// If a bitfile does not have the fault, no row is reserved.
#[test]
fn a_bitfile_without_the_fault_has_all_its_rows() {
    let (name, text) = builtin::PROFILES[0];
    let without = text.split("[[fault]]\nid = \"short-header\"").collect::<Vec<_>>();
    let rest = without[1].split_once("[[block]]").expect("blocks").1;
    let profile = Profile::parse(name, &format!("{}[[block]]{rest}", without[0])).expect("right");
    let map = profile.flow_table.expect("a flow table");
    assert_eq!(map.guard, None);
    let now = world::start();
    let mut card = Model::new(profile, now);
    let now = now + Duration::from_secs(1);
    card.set_time(now);
    let mut w = World::new(ports(4, false, false), Options::default());
    for n in 0..40 {
        let text = format!("priority={},in_port=3,ip,nw_dst=10.0.0.{n},actions=output:1", 100 + n);
        assert!(w.add(&text, NEVER, NEVER));
    }
    let mut offload =
        Offload::start(map, w.ports.clone(), Options::default(), now, &mut card).expect("it answers");
    offload.sync(&w.soft.tables[0], now, &mut card).expect("it answers");
    let places = w.soft.tables[0].iter().filter(|f| matches!(offload.place(f.id), Some(Place::Rows(_))));
    assert_eq!(places.count(), 32);
}
