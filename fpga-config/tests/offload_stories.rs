//! Events of a card in operation: a rule in between, a restart, a flush, a failing access, counters
//! at their limits.

mod world;

use std::time::Duration;
use tandem_fpga_config::codec::entry::exact_counters;
use tandem_fpga_config::codec::ports::{At, PortMap, queue};
use tandem_fpga_config::codec::{Exact, Key, Port, RejectReason};
use tandem_fpga_config::counters::Sweep;
use tandem_fpga_config::model::Model;
use tandem_fpga_config::offload::row_plan::Owner;
use tandem_fpga_config::offload::{Offload, OffloadError, Options, Place};
use tandem_fpga_config::registers::{Access, AccessError, Registers};
use tandem_openflow::table::flows::Filter;
use tandem_openflow::table::{AddOptions, Criteria, FieldId, Flow, Instructions, Op};
use world::{World, ports, udp};

const NEVER: Duration = Duration::ZERO;
fn add(w: &mut World, text: &str) {
    assert!(w.add(text, NEVER, NEVER), "{text}");
}

fn synced(w: &mut World, text: &str, frames: &[(u8, Vec<u8>)]) -> tandem_fpga_config::offload::Report {
    let old = w.soft.clone();
    add(w, text);
    w.sync(&old, frames)
}

fn id(w: &World, priority: u16) -> u64 {
    w.soft.tables[0].iter().find(|f| f.priority == priority).expect("a flow").id
}

#[test]
fn a_rule_between_23_others_moves_each_row_at_most_once() {
    let frames: Vec<_> = (0..32).map(|n| (0, udp(n, 0))).collect();
    for cpu_ports in [true, false] {
        // The first row is the guard, 8 rows are for the software path.
        let rows = if cpu_ports { 23 } else { 31 };
        // At every place of a card with one free row, wherever that is.
        for place in 0..rows {
            let mut w = World::new(ports(4, false, cpu_ports), Options::default());
            for n in (0..rows - 1).map(|n| (n * 7) % (rows - 1)) {
                let match_ = format!("in_port=3,ip,nw_dst=10.0.0.{}/{}", n, if n % 2 == 0 { 32 } else { 28 });
                synced(&mut w, &format!("priority={},{match_},actions=output:1", 10 * n + 10), &frames);
            }
            assert_eq!(w.offload.rows().iter().flatten().count(), rows + if cpu_ports { 8 } else { 0 });
            let report = synced(
                &mut w,
                &format!("priority={},in_port=3,ip,nw_dst=10.0.0.0/26,actions=output:2", 10 * place + 5),
                &frames,
            );
            assert!(
                (1..=rows).contains(&report.commits),
                "{} commits at place {place} of {rows}",
                report.commits
            );
            assert_eq!((report.gaps, w.lost), (0, 0));
            assert!(
                matches!(w.offload.place(id(&w, 10 * place as u16 + 5)), Some(Place::Rows(r)) if r.len() == 1)
            );
        }
    }
}

#[test]
fn a_change_of_actions_is_one_commit_and_a_change_of_nothing_none() {
    let mut w = World::new(ports(4, false, true), Options::default());
    synced(&mut w, "priority=10,in_port=3,ip,actions=output:1", &[]);
    let old = w.soft.clone();
    w.modify("priority=10,in_port=3,ip,actions=output:2", true);
    assert_eq!(w.sync(&old, &[(0, udp(2, 0))]).commits, 1);
    w.now = w.now + Duration::from_secs(10);
    let old = w.soft.clone();
    assert_eq!(w.sync(&old, &[]).commits, 0);
}

/// 30 rules for 23 rows, with packets for all: some have rows, some exact entries.
fn busy(options: Options) -> World {
    let mut w = World::new(ports(4, false, true), options);
    for n in 0..30u16 {
        synced(&mut w, &format!("priority={},in_port=3,ip,nw_dst=10.0.0.{n},actions=output:1", 100 + n), &[]);
    }
    for n in 0..30 {
        w.packet(0, &udp(n, 0));
        w.packet(0, &udp(n, 0));
    }
    w
}

#[test]
fn rules_without_a_row_get_exact_entries_for_their_packets_and_the_most_used_get_rows() {
    let mut w = busy(Options::default());
    assert_eq!((w.offload.exact_entries(), w.entries), (7, 7));
    let exact: Vec<u16> =
        (100..130).filter(|p| matches!(w.offload.place(id(&w, *p)), Some(Place::Exact(1)))).collect();
    assert_eq!(exact.len(), 7);
    assert_eq!(w.in_card, 23 * 2 + 7, "the second packet of each of those is the card's");
    // One of them is used much more than the others: it gets a row.
    for _ in 0..500 {
        w.packet(0, &udp((exact[0] - 100) as u8, 0));
    }
    w.compare_counts();
    w.now = w.now + Duration::from_secs(6);
    let old = w.soft.clone();
    assert!((1..=23).contains(&w.sync(&old, &[(0, udp(2, 0))]).commits));
    assert!(matches!(w.offload.place(id(&w, exact[0])), Some(Place::Rows(_))), "{}", w.story());
    w.compare_counts();
    // Idle entries are removed.
    w.now = w.now + Duration::from_secs(61);
    w.card.set_time(w.now);
    w.compare_counts();
    assert_eq!(w.offload.exact_entries(), 0);
}

/// Sweeps read an eighth of many entries at a time; a flow that only an unread entry has used does
/// not expire.
#[test]
fn a_flow_that_only_an_unread_entry_uses_is_not_timed_out() {
    let mut w = busy(Options::default());
    let frame = |n: u16| {
        let mut frame = udp(200, 0);
        frame[10..12].copy_from_slice(&n.to_be_bytes());
        frame
    };
    assert!(w.add(
        "priority=1,in_port=3,ip,nw_dst=10.0.0.200,actions=output:1",
        Duration::from_secs(12),
        NEVER
    ));
    w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers");
    for n in 0..3000 {
        w.packet(0, &frame(n));
    }
    // Two of 3,000 keys may find both of their rows taken.
    let entries = w.offload.exact_entries();
    assert!(entries > 2500, "{entries}");
    for n in (0..60).map(|n| 50 * n) {
        w.now = w.now + Duration::from_secs(5);
        w.card.set_time(w.now);
        w.packet(0, &frame(n));
        assert_eq!(w.expire(), 0, "it was used this very moment");
    }
    w.now = w.now + Duration::from_secs(15);
    w.card.set_time(w.now);
    assert_eq!(w.expire(), 1);
}

#[test]
fn a_restart_adopts_what_is_right_and_writes_nothing() {
    let mut w = busy(Options::default());
    let map = w.map;
    let rows: Vec<_> = w.offload.rows().iter().map(|s| s.map(|s| s.row)).collect();
    w.compare_counts();
    w.offload =
        Offload::start(map, w.ports.clone(), Options::default(), w.now, &mut w.card).expect("it answers");
    let old = w.soft.clone();
    let frames: Vec<_> = (0..30).map(|n| (0, udp(n, 0))).collect();
    let report = w.sync(&old, &frames);
    assert_eq!((report.commits, report.exact_written, report.exact_deleted), (0, 0, 0), "{}", w.story());
    assert_eq!(w.offload.rows().iter().map(|s| s.map(|s| s.row)).collect::<Vec<_>>(), rows);
    assert!(w.offload.rows().iter().flatten().all(|s| s.owner != Owner::Found));
    let before = w.in_card;
    for (n, frame) in &frames {
        w.packet(*n, frame);
    }
    assert_eq!(w.in_card - before, 30, "all of them in the card, as before");
    w.compare_counts();
    // Only the wrong rows on the card are removed.
    let (start, old) = (w.now, w.soft.clone());
    let gone = Filter::strictly(w.line("in_port=3,ip,nw_dst=10.0.0.3,actions=drop").criteria(), 103);
    w.soft.tables[0].delete(&gone);
    w.alone.tables[0].delete(&gone);
    w.offload =
        Offload::start(map, w.ports.clone(), Options::default(), start, &mut w.card).expect("it answers");
    let report = w.sync(&old, &frames);
    assert!(report.commits + report.exact_deleted >= 1 && report.commits <= 24, "{report:?}");
    for (n, frame) in &frames {
        w.packet(*n, frame);
    }
}

#[test]
fn after_a_flush_by_the_watchdog_everything_is_written_again() {
    let mut w = busy(Options::default());
    w.sweep();
    let enable = w.card.profile().register("WDT_ENABLE_FLG").expect("it has a watchdog").address;
    w.card.write32(enable, 1).expect("mapped");
    assert!(w.offload.verify(&mut w.card).expect("it answers"));
    w.now = w.now + Duration::from_secs(9);
    w.card.set_time(w.now);
    w.card.write32(enable, 0).expect("mapped");
    assert!(!w.offload.verify(&mut w.card).expect("it answers"), "a row that is not what was written");
    w.now = w.now + Duration::from_millis(5);
    w.card.set_time(w.now);
    let report = w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers");
    assert_eq!(report.commits, 32, "24 rows and 8 for the CPU ports");
    assert!(w.offload.verify(&mut w.card).expect("it answers"));
    for n in 0..30 {
        w.packet(0, &udp(n, 0));
    }
    w.compare_counts();
}

#[test]
fn while_the_exact_table_is_cleared_the_card_cannot_be_read() {
    let mut w = World::new(ports(4, false, true), Options::default());
    let profile = w.card.profile().clone();
    let mut card = Model::new(profile, w.now);
    let error = Offload::start(w.map, w.ports.clone(), Options::default(), w.now, &mut card);
    assert!(matches!(error, Err(OffloadError::NoAnswer(0x100_001c))), "{error:?}");
    w.now = w.now + Duration::from_millis(5);
    card.set_time(w.now);
    assert!(Offload::start(w.map, w.ports.clone(), Options::default(), w.now, &mut card).is_ok());
}

/// A card that stops answering after some writes.
struct Failing<'a>(&'a mut Model, usize);

impl Registers for Failing<'_> {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        self.0.read32(address)
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        self.1 = self.1.checked_sub(1).ok_or(AccessError::Closed(Access::Write(address, value)))?;
        self.0.write32(address, value)
    }
}

#[test]
fn after_a_failed_write_the_card_is_read_again_and_brought_right() {
    for writes in (0..400).step_by(13) {
        let mut w = busy(Options::default());
        w.compare_counts();
        for n in 0..10u16 {
            add(&mut w, &format!("priority={},in_port=3,ip,nw_dst=10.0.0.{n}/30,actions=output:2", 200 + n));
        }
        let failed = w.offload.sync(&w.soft.tables[0], w.now, &mut Failing(&mut w.card, writes));
        assert!(matches!(failed, Err(OffloadError::Access(_))), "{failed:?}");
        w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers again");
        for n in 0..30 {
            w.packet(0, &udp(n, 0));
            w.packet(0, &udp(n, 0));
        }
    }
}

#[test]
fn bit_24_of_an_exact_entrys_packets_stays_and_is_not_counted_again() {
    let mut w = busy(Options::default());
    w.compare_counts();
    let (n, flow) = (0..30u8)
        .find_map(|n| {
            let flow = id(&w, 100 + u16::from(n));
            matches!(w.offload.place(flow), Some(Place::Exact(1))).then_some((n, flow))
        })
        .expect("one has an entry");
    let entry = Exact { key: Key::of_frame(&udp(n, 0), queue(0)), action: Default::default() };
    let row = entry
        .rows()
        .into_iter()
        .find(|row| {
            Exact::read(&w.map, *row, &mut w.card).expect("it answers").is_some_and(|e| e.key == entry.key)
        })
        .expect("it is in one of its rows");
    let base = w.soft.tables[0].iter().find(|f| f.id == flow).expect("there").packets;
    let packets = |w: &mut World| {
        w.sweep();
        w.soft.tables[0].iter().find(|f| f.id == flow).expect("there").packets - base
    };
    // As after so many packets.
    w.card.write32(exact_counters(&w.map, row), 0x00ff_fffe).expect("mapped");
    (0..3).for_each(|_| w.packet(0, &udp(n, 0)));
    assert_eq!(packets(&mut w), 0x0100_0001);
    assert_eq!(packets(&mut w), 0x0100_0001, "nothing since");
    w.packet(0, &udp(n, 0));
    assert_eq!(packets(&mut w), 0x0100_0002, "one more, though bit 24 is still set");
    assert!(w.card.read32(exact_counters(&w.map, row)).expect("mapped") & 0x0100_0000 != 0);
}

/// Counts reads by address.
struct Counting<'a>(&'a mut Model, std::collections::BTreeMap<u32, usize>);

impl Registers for Counting<'_> {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        *self.1.entry(address).or_default() += 1;
        self.0.read32(address)
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        self.0.write32(address, value)
    }
}

#[test]
fn a_sweep_of_a_full_card_reads_less_than_200_registers_and_none_twice() {
    let mut w = World::new(ports(4, false, false), Options::default());
    // One more row is the guard, which is not counted.
    for n in 0..31u16 {
        synced(&mut w, &format!("priority={},in_port=3,ip,nw_dst=10.0.0.{n},actions=output:1", 100 + n), &[]);
    }
    (0..31).for_each(|n| w.packet(0, &udp(n, 0)));
    let (profile, now) = (w.card.profile().clone(), w.now);
    let mut card = Counting(&mut w.card, Default::default());
    let credits = w.offload.sweep(now, &mut card).expect("it answers");
    assert_eq!(credits.len(), 31);
    let rows = card.1.values().sum::<usize>();
    assert_eq!(rows, 31 * 3 + 1, "packets, bytes and last seen of each row, and the clock");
    let others = ["MAC_GRP", "BRAM_OQ"].map(|block| {
        let mut sweep = Sweep::new(&profile, block);
        sweep.read(&mut card).expect("it answers");
        sweep.len()
    });
    let all = card.1.values().sum::<usize>();
    assert!(card.1.values().all(|n| *n == 1), "no register is read twice");
    assert_eq!(all, rows + others.iter().sum::<usize>());
    println!(
        "a full card: {rows} reads for 31 rows, {} for 4 MACs, {} for 8 queues: {all}",
        others[0], others[1]
    );
    assert!(all < 200, "{all}");
}

#[test]
fn what_a_port_is_set_to_holds_in_the_card() {
    let list = |change: &dyn Fn(&mut Port)| {
        let mut list: Vec<Port> =
            (0..4).map(|n| Port::new(n + 1, format!("nf2c{n}"), At::Card(n as u8))).collect();
        change(&mut list[1]);
        PortMap::new(list, false).expect("good ports")
    };
    let out = |ports: PortMap, actions: &str, n: u8| {
        let mut w = World::new(ports, Options::default());
        add(&mut w, &format!("actions={actions}"));
        w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers");
        let out = w.card.packet(queue(n), &udp(2, 0), w.now);
        out.into_iter().map(|(q, _)| q / 2).collect::<Vec<u8>>()
    };
    assert_eq!(out(list(&|_| {}), "flood", 0), [1, 2, 3]);
    assert_eq!(out(list(&|p| p.flood = false), "flood", 0), [2, 3], "OFPPC_NO_FLOOD");
    assert_eq!(out(list(&|p| p.flood = false), "all", 0), [1, 2, 3]);
    assert_eq!(out(list(&|p| p.forward = false), "all", 0), [2, 3], "OFPPC_NO_FWD");
    assert_eq!(out(list(&|p| p.receive = false), "all", 1), [0u8; 0], "OFPPC_NO_RECV");
    assert_eq!(out(list(&|p| p.receive = false), "all", 0), [1, 2, 3]);
    assert_eq!(out(list(&|_| {}), "in_port", 2), [2]);
    assert_eq!(out(list(&|_| {}), "output:3", 2), [0u8; 0], "not back where it came from");
}

/// OFPPC_NO_FWD is set and cleared during traffic.
#[test]
fn other_ports_are_other_rows_and_the_same_rules() {
    let mut w = busy(Options::default());
    let places: Vec<_> = (100..130).map(|p| w.offload.place(id(&w, p))).collect();
    let set = |w: &mut World, forward: bool| {
        let list = w.ports.iter().cloned().map(|p| Port { forward: forward || p.number != 1, ..p }).collect();
        w.offload.set_ports(PortMap::new(list, true).expect("good ports"));
        w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers")
    };
    // Without the path from its CPU port there is another row for rules.
    let commits = set(&mut w, false).commits;
    assert!((24..=25).contains(&commits), "23 rows send nowhere: {commits}");
    for n in 0..30 {
        let out = w.card.packet(queue(0), &udp(n, 0), w.now);
        assert!(out.iter().all(|(q, _)| *q == 1), "to a port that forwards nothing, or to software: {out:?}");
    }
    let commits = set(&mut w, true).commits;
    assert!((24..=25).contains(&commits), "{commits}");
    let again: Vec<_> = (100..130).map(|p| w.offload.place(id(&w, p))).collect();
    let rows = |places: &[Option<Place>]| places.iter().filter(|p| matches!(p, Some(Place::Rows(_)))).count();
    assert_eq!((rows(&places), rows(&again)), (23, 23));
}

#[test]
fn without_cpu_ports_a_rule_that_the_card_cannot_do_is_reported() {
    let mut w = World::new(ports(4, false, false), Options::default());
    add(&mut w, "priority=5,actions=controller");
    add(&mut w, "priority=4,in_port=3,actions=output:1");
    let flow = id(&w, 5);
    let report = w.offload.sync(&w.soft.tables[0], w.now, &mut w.card).expect("it answers");
    let why = RejectReason::NoSoftware(Box::new(RejectReason::Reserved("the controller")));
    assert_eq!(report.rejected, [(flow, why.clone())]);
    assert_eq!(w.offload.place(flow), Some(Place::Software(why)));
    assert_eq!(
        w.card.packet(queue(0), &udp(2, 0), w.now),
        [(queue(1), udp(2, 0))],
        "as if it were not there"
    );
}

/// OpenFlow 1.3: masks, pushed tags, action sets, and fields that only 1.3 has.
#[test]
fn flows_of_1_3_are_decided_by_the_card_like_by_the_table() {
    const ALL: u128 = u128::MAX;
    let any = Criteria::any;
    let untagged = any().with(FieldId::VlanVid, 0, 0x1fff);
    let vlan = |n: u128| any().with(FieldId::VlanVid, 0x1000 | n, 0x1fff);
    let apply = Instructions::applying;
    let write = |ops: Vec<Op>| Instructions { write: ops, ..Instructions::default() };
    let out = || Op::Output(1);
    let cases: Vec<(Criteria, Instructions, bool)> = vec![
        (any().with(FieldId::EthDst, 0x0100_0000_0000, 0x0100_0000_0000), apply(vec![out()]), true),
        (any().with(FieldId::VlanVid, 0x1000, 0x1000), apply(vec![Op::PopVlan, out()]), true),
        (vlan(4).clone(), apply(vec![Op::SetVlanPcp(3), out()]), true),
        (any().with(FieldId::VlanVid, 0x1004, 0x1004), apply(vec![out()]), true),
        (untagged.clone(), apply(vec![Op::PushVlan(0x8100), Op::SetVlanVid(9), out()]), true),
        (untagged.clone(), apply(vec![Op::PushVlan(0x88a8), out()]), false),
        (any(), apply(vec![Op::PushVlan(0x8100), out()]), false),
        (untagged.clone(), write(vec![out(), Op::SetVlanVid(9), Op::PushVlan(0x8100)]), true),
        (any().with(FieldId::VlanPcp, 0, 0), apply(vec![out()]), true),
        (any(), apply(vec![Op::DecTtl, out()]), false),
        (any(), apply(vec![out(), Op::DecTtl]), true),
        (any(), Instructions { goto: Some(1), ..apply(vec![out()]) }, false),
        (any(), Instructions { meter: Some(1), ..apply(vec![out()]) }, false),
        (any(), apply(vec![Op::Group(1)]), false),
        (any().with(FieldId::Metadata, 0, 0xff), apply(vec![out()]), true),
        (any().with(FieldId::IpEcn, 0, 3).with(FieldId::EthType, 0x0800, ALL), apply(vec![out()]), false),
        (
            any().with(FieldId::EthType, 0x86dd, ALL).with(FieldId::IpProto, 17, ALL),
            apply(vec![out()]),
            false,
        ),
        (any().with(FieldId::VlanVid, 0, 0x0fff), apply(vec![out()]), false),
    ];
    let mut frames: Vec<(u8, Vec<u8>)> = vec![(0, udp(2, 0))];
    for (tag, destination) in [(0u16, 0xffu8), (4, 2), (0x6004, 2), (5, 2), (0x7005, 3)] {
        let mut frame = udp(2, 0);
        frame[0] = destination;
        frame.splice(12..12, [&[0x81, 0][..], &tag.to_be_bytes()].concat());
        frames.push((2, frame));
    }
    for (criteria, instructions, in_card) in cases {
        let mut w = World::new(ports(4, false, true), Options::default());
        let old = w.soft.clone();
        for table in [&mut w.soft, &mut w.alone] {
            let flow = Flow::new(5, criteria.clone(), instructions.clone(), w.now);
            table.tables[0].add(flow, AddOptions { check_overlap: false, keep_counts: false }).expect("room");
        }
        w.sync(&old, &frames);
        let place = w.offload.place(id(&w, 5)).expect("it is there");
        assert_eq!(matches!(place, Place::Rows(_)), in_card, "{criteria:?} {instructions:?}: {place}");
        for (n, frame) in &frames {
            w.packet(*n, frame);
        }
        w.compare_counts();
    }
}
