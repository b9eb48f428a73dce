//! After an intended reset the card has everything again: rows, exact entries, settings and all
//! counts, without a read of 32768 entries.

mod world;

use std::time::Duration;
use tandem_fpga_config::codec::Transport;
use tandem_fpga_config::codec::entry::Row;
use tandem_fpga_config::counters::Sweep;
use tandem_fpga_config::model::CLEARING;
use tandem_fpga_config::offload::Options;
use tandem_fpga_config::registers::{AccessError, Registers};
use tandem_fpga_config::settings::Settings;
use world::{World, ports};

/// CTRL of the bus FPGA, and its bit that resets the user FPGA.
const CTRL: u32 = 0x008;
const RESET: u32 = 1 << 8;

struct Counted<'a>(&'a mut tandem_fpga_config::model::Model, usize);

impl Registers for Counted<'_> {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        self.1 += 1;
        self.0.read32(address)
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        self.1 += 1;
        self.0.write32(address, value)
    }
}

/// To 10.0.0.`last`.
fn udp(last: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, last]);
    frame.extend([0x03, 0xe8, 0x07, 0xd0, 0, 20, 0, 0]);
    frame.resize(60, 0);
    frame
}

#[test]
fn everything_is_there_again_and_nothing_that_was_counted_is_lost() {
    let options = Options { transport: Transport::Card, ..Options::default() };
    let mut w = World::new(ports(4, false, true), options);
    let never = Duration::ZERO;
    // More rules than rows, so that some packets get exact entries; one rule is exact itself.
    for n in 0..40 {
        let line = format!("priority={},in_port=3,ip,nw_dst=10.0.0.{n},actions=output:1", 100 + n);
        w.add(&line, never, never);
    }
    w.add(
        "priority=90,in_port=3,tcp,dl_vlan=0xffff,dl_vlan_pcp=0,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nw_tos=0,nw_src=10.0.0.1,nw_dst=10.0.0.9,tp_src=1,tp_dst=2,actions=output:4",
        never,
        never,
    );
    let old = w.soft.clone();
    w.sync(&old, &[]);
    for _ in 0..4 {
        (0..40).for_each(|n| w.packet(0, &udp(n)));
    }
    let (rows, entries) = (w.offload.rows().to_vec(), w.offload.exact_entries());
    assert_eq!((w.in_card, entries), (143, 18));
    // A queue and a receiver were turned off.
    let profile = w.card.profile().clone();
    let named = |name: &str| profile.register(name).expect("a register").address;
    let (queues, mac) = (named("BRAM_OQ_DISABLE_QUEUES"), named("MAC_GRP_2_CONTROL"));
    w.card.write32(queues, 0x80).expect("mapped");
    w.card.write32(mac, 0x13).expect("mapped");
    let mut macs = Sweep::new(&profile, "MAC_GRP");
    macs.read(&mut w.card).expect("it answers");

    // 1. Counts are read. 2. The card is reset, and clears its table. 3. Everything is written.
    let settings = Settings::read(&profile, &mut w.card).expect("it answers");
    for credit in w.offload.sweep_all(w.now, &mut w.card).expect("it answers") {
        w.soft.credit(credit.flow, credit.packets, credit.bytes, credit.last_used);
    }
    let before: Vec<u64> = macs.read(&mut w.card).expect("it answers").iter().map(|r| r.value).collect();
    let control = w.card.read32(CTRL).expect("mapped");
    w.card.write32(CTRL, control | RESET).expect("mapped");
    macs.restart();
    w.offload.was_reset();
    w.now = w.now + CLEARING + Duration::from_micros(1);
    w.card.set_time(w.now);
    settings.write(&mut w.card).expect("it answers");
    let mut counted = Counted(&mut w.card, 0);
    w.offload.sync(&w.soft.tables[0], w.now, &mut counted).expect("it answers");
    assert!(counted.1 < 4000, "{} accesses", counted.1);

    let after: Vec<u64> = macs.read(&mut w.card).expect("it answers").iter().map(|r| r.value).collect();
    let names = profile.registers.iter().filter(|r| r.name.contains("MAC_GRP") && r.is.is_some());
    for ((name, before), after) in names.map(|r| &r.name).zip(before).zip(after) {
        assert!(after >= before || name.ends_with("IN_QUEUE"), "{name} went from {before} to {after}");
    }
    assert_eq!(w.offload.rows(), rows, "the same rows in the same places");
    for (at, slot) in (0..).zip(&rows) {
        let read = Row::read(&w.map, at, &mut w.card).expect("it answers");
        assert!(slot.map_or(read.is_deleted(), |s| s.row == read), "row {at} in the card");
    }
    assert_eq!(w.offload.exact_entries(), entries);
    assert_eq!(w.card.read32(queues).expect("mapped"), 0x80);
    assert_eq!(w.card.read32(mac).expect("mapped"), 0x13);
    // The second packet of each flow is forwarded by the card again, and everything is counted.
    let in_card = w.in_card;
    (0..40).for_each(|n| w.packet(0, &udp(n)));
    assert_eq!(w.in_card - in_card, 40);
    w.compare_counts();
}
