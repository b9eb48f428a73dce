//! Times to compile a rule, to write a table to a card, and to sweep the counters. The card's
//! registers are memory, so that only this crate's own work is measured.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use tandem_fpga_config::codec::ofctl::Line;
use tandem_fpga_config::codec::{Key, PortMap, Rule, Transport, hash};
use tandem_fpga_config::offload::select::{Candidate, choose};
use tandem_fpga_config::offload::{Offload, Options};
use tandem_fpga_config::profile::builtin;
use tandem_fpga_config::registers::{AccessError, Registers};
use tandem_model::Time;
use tandem_openflow::table::{AddOptions, Flow, FlowTable};

/// Registers without content.
struct Nowhere;

impl Registers for Nowhere {
    fn read32(&mut self, _: u32) -> Result<u32, AccessError> {
        Ok(0)
    }

    fn write32(&mut self, _: u32, _: u32) -> Result<(), AccessError> {
        Ok(())
    }
}

fn line(n: u16) -> Line {
    let text = format!(
        "priority={n},in_port=1,ip,nw_dst=10.0.{}.{},actions=mod_dl_dst:02:00:00:00:00:01,output:2",
        n / 256,
        n % 256
    );
    Line::parse(&text, None).expect("good")
}

fn table(flows: u16) -> FlowTable {
    let mut table = FlowTable::new(100_000);
    let how = AddOptions { check_overlap: false, keep_counts: false };
    for n in 0..flows {
        let line = line(2 * n);
        let flow = Flow::new(line.priority, line.criteria(), line.instructions().expect("good"), Time::ZERO);
        table.add(flow, how).expect("room");
    }
    table
}

fn offload(table: &FlowTable) -> Offload {
    let map = builtin::named("openflow-switch").expect("built in").flow_table.expect("it has one");
    let mut offload =
        Offload::start(map, PortMap::one_card(true), Options::default(), Time::ZERO, &mut Nowhere)
            .expect("started");
    offload.sync(table, Time::ZERO, &mut Nowhere).expect("synced");
    offload
}

fn rules(c: &mut Criterion) {
    let ports = PortMap::one_card(true);
    let one = line(7);
    let (criteria, instructions) = (one.criteria(), one.instructions().expect("good"));
    c.bench_function("rule/compile", |b| {
        b.iter(|| {
            Rule::new(black_box(&criteria), black_box(&instructions), &ports, Transport::Software).rows()
        });
    });
    let flood = Line::parse("dl_dst=ff:ff:ff:ff:ff:ff,actions=flood", None).expect("good");
    let (criteria, instructions) = (flood.criteria(), flood.instructions().expect("good"));
    c.bench_function("rule/compile_flood", |b| {
        b.iter(|| {
            Rule::new(black_box(&criteria), black_box(&instructions), &ports, Transport::Software).rows()
        });
    });
    let frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45][..], &[0; 50]].concat();
    c.bench_function("key/of_frame", |b| b.iter(|| Key::of_frame(black_box(&frame), 0)));
    let key = Key::of_frame(&frame, 0);
    c.bench_function("key/hash", |b| b.iter(|| hash::rows(black_box(&key))));

    let candidates: Vec<Candidate> = (0..24)
        .map(|n| {
            let line = line(n);
            let rule =
                Rule::new(&line.criteria(), &line.instructions().expect("good"), &ports, Transport::Software);
            let rows = rule.rows();
            Candidate { id: n.into(), rule, rows, used: n.into(), had: false, exact: false }
        })
        .collect();
    c.bench_function("choose/24_rules", |b| b.iter(|| choose(black_box(&candidates), 24, true)));
}

fn syncs(c: &mut Criterion) {
    let how = AddOptions { check_overlap: false, keep_counts: false };
    for flows in [20u16, 1000, 10_000] {
        let before = table(flows);
        let ready = offload(&before);
        let mut after = before.clone();
        let line = line(21);
        let flow = Flow::new(line.priority, line.criteria(), line.instructions().expect("good"), Time::ZERO);
        after.add(flow, how).expect("room");
        c.bench_function(&format!("sync/one_more_of_{flows}"), |b| {
            b.iter_batched(
                || ready.clone(),
                |mut offload| {
                    offload.sync(black_box(&after), Time::ZERO, &mut Nowhere).expect("synced");
                    offload
                },
                BatchSize::LargeInput,
            );
        });
        let mut same = ready.clone();
        c.bench_function(&format!("sync/nothing_new_of_{flows}"), |b| {
            b.iter(|| same.sync(black_box(&before), Time::ZERO, &mut Nowhere));
        });
    }
    let mut full = offload(&table(24));
    c.bench_function("sweep/24_rows", |b| {
        b.iter(|| full.sweep(black_box(Time::ZERO + Duration::from_secs(1)), &mut Nowhere));
    });
}

criterion_group!(benches, rules, syncs);
criterion_main!(benches);
