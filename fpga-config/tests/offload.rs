//! Card, offload and table in software together decide like the table alone: for random flows and
//! packets, through additions, changes, deletions, row moves, wraps and time-outs, and at every
//! moment in between.

mod world;

#[path = "world/chance.rs"]
mod chance;

use std::time::Duration;
use tandem_fpga_config::codec::ports::queue;
use tandem_fpga_config::codec::{Header, Key, PortMap, Transport};
use tandem_fpga_config::offload::Options;
use tandem_fpga_config::profile::RowCounters;
use tandem_openflow::table::flows::Filter;
use world::{Dice, World, ports};

#[derive(Default, Debug)]
struct Figures {
    rule_sets: u64,
    compared: u64,
    in_card: u64,
    on_the_way: u64,
    commits: usize,
    entries: u64,
    gaps: usize,
    lost: u64,
    expired: usize,
    most_rows: usize,
    odd: u64,
}

/// A run: events on a switch, and random packets after each.
fn story(seed: u64, ports: PortMap, options: Options, faults: bool, figures: &mut Figures) {
    let events = 60;
    let mut d = Dice(seed);
    let fragments = options.transport == Transport::Software;
    let taken: Vec<u8> = ports.ingress().iter().collect();
    let mut w = World::new(ports, options);
    if faults {
        w.card = w.card.with_faults();
    }
    let none = Duration::ZERO;
    let crowded = d.one_in(2);
    for event in 0..events {
        let old = w.soft.clone();
        match d.roll(if crowded && event < events / 2 { 6 } else { 12 }) {
            0..6 => {
                let idle = if d.one_in(5) { Duration::from_secs(12) } else { none };
                let hard = if d.one_in(8) { Duration::from_secs(22) } else { none };
                w.add(&chance::flow(&mut d, !fragments), idle, hard);
            }
            6 => {
                let all = chance::flow(&mut d, true);
                w.modify(&all, false);
            }
            7 | 8 => {
                let flows: Vec<_> =
                    w.soft.tables[0].iter().map(|f| (f.criteria.clone(), f.priority)).collect();
                if !flows.is_empty() {
                    let (criteria, priority) = flows[d.roll(flows.len() as u64) as usize].clone();
                    w.delete(&Filter::strictly(criteria, priority));
                }
            }
            9 => {
                let line = w.line(&format!("{}actions=drop", chance::matched(&mut d, true)));
                if w.soft.tables[0].select(&Filter::covered_by(line.criteria())).count() < 8 {
                    w.delete(&Filter::covered_by(line.criteria()));
                }
            }
            10 => {
                w.now = w.now + Duration::from_secs(5);
                w.card.set_time(w.now);
                figures.expired += w.expire();
            }
            _ => w.sweep(),
        }
        let pick = |d: &mut Dice| (d.pick(&taken), chance::frame(d, fragments));
        let frames: Vec<_> = (0..16).map(|_| pick(&mut d)).collect();
        w.sync(&old, &frames);
        figures.rule_sets += 1;
        for _ in 0..30 {
            let (n, frame) = pick(&mut d);
            w.packet(n, &frame);
            if d.one_in(4) {
                let frame = chance::odd(&mut d, fragments);
                if !faults || Key::read(&frame, queue(n)).1 != Header::Broken {
                    w.packet(n, &frame);
                }
            }
            if d.one_in(3) {
                w.packet(n, &frame);
            }
        }
        if d.one_in(4) {
            w.compare_counts();
        }
        figures.most_rows = figures.most_rows.max(w.offload.rows().iter().flatten().count());
    }
    w.compare_counts();
    figures.compared += w.compared;
    figures.in_card += w.in_card;
    figures.on_the_way += w.tried;
    figures.commits += w.commits;
    figures.entries += w.entries;
    figures.gaps += w.gaps;
    figures.lost += w.lost;
    figures.odd += w.odd;
}

fn stories(
    name: &str,
    seeds: std::ops::Range<u64>,
    ports: impl Fn() -> PortMap,
    options: Options,
    faults: bool,
) -> Figures {
    let mut figures = Figures::default();
    for seed in seeds {
        story(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed, ports(), options, faults, &mut figures);
    }
    println!("{name}: {figures:?}, 0 differences");
    figures
}

#[test]
fn four_ports_of_a_card_decide_like_the_table() {
    let figures = stories("four card ports", 0..40, || ports(4, false, true), Options::default(), false);
    assert!(figures.in_card * 5 > figures.compared, "the card must have something to do: {figures:?}");
    assert!(figures.entries > 100 && figures.expired > 10 && figures.most_rows > 28, "{figures:?}");
}

#[test]
fn ports_of_a_card_and_a_plain_nic_decide_like_the_table() {
    stories("four card ports and a plain one", 100..120, || ports(4, true, true), Options::default(), false);
}

#[test]
fn three_ports_of_a_card_decide_like_the_table() {
    stories("three card ports", 200..215, || ports(3, false, true), Options::default(), false);
}

#[test]
fn with_ports_in_the_card_whole_packets_are_decided_like_by_the_table() {
    let options = Options { transport: Transport::Card, ..Options::default() };
    let figures = stories("transport in the card", 300..330, || ports(4, false, true), options, false);
    assert!(figures.in_card * 5 > figures.compared, "{figures:?}");
}

#[test]
fn counters_that_reading_clears_count_the_same() {
    let options = Options { row_counters: Some(RowCounters::ClearOnRead), ..Options::default() };
    stories("row counters cleared by reading", 400..410, || ports(4, false, true), options, false);
}

#[test]
fn a_card_without_cpu_ports_does_what_it_accepts() {
    let options = Options { transport: Transport::Card, ..Options::default() };
    let figures = stories("no CPU ports", 500..530, || ports(4, false, false), options, false);
    assert_eq!(figures.entries, 0, "nothing comes to software");
}

/// With its faults a card decides as without them, as long as no frame ends before its header and
/// none follows another closely: frames with a header length below 5 are never forwarded. Frames
/// that end before their header are left out: their effect on the next frames does not follow from
/// the flows (`tests/faults.rs` tests it).
#[test]
fn with_its_faults_a_card_isolates_its_ports() {
    for cpu_ports in [true, false] {
        let options = Options { transport: Transport::Card, ..Options::default() };
        let figures = stories("with faults", 600..612, || ports(4, false, cpu_ports), options, true);
        assert!(figures.odd > 1_000, "{figures:?}");
    }
}
