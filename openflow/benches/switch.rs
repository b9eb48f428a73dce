//! The switch's hot path: a packet in, its decision, a packet out.
//! `cargo bench -p tandem-openflow --bench switch`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tandem_model::Time;
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{Config, ConnId, Port, Sink, Switch};
use tandem_openflow::table::flows::Filter;
use tandem_openflow::table::{AddOptions, Criteria as Match, FieldId, Flow, Instructions, Op, Pipeline};

/// Counts the bytes that the switch sends.
#[derive(Default)]
struct Counter(u64);

impl Sink for Counter {
    fn transmit(&mut self, _: u32, _: u32, frame: &[u8]) {
        self.0 += black_box(frame).len() as u64;
    }
    fn send(&mut self, _: ConnId, _: &[u8]) {}
    fn close(&mut self, _: ConnId, _: &SessionError) {}
    fn set_port(&mut self, _: u32, _: bool) {}
}

/// A UDP packet over IPv4 of this length, from the `n`th of many senders.
fn frame(length: usize, n: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0];
    frame.extend(n.to_be_bytes());
    frame.extend([8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 1]);
    frame.extend(&n.to_be_bytes()[2..]);
    frame.extend([10, 0, 0, 2, 3, 232, 7, 208, 0, 26, 0, 0]);
    frame.resize(length, 0);
    frame
}

/// A switch with two ports. Its last flow does `ops` to every packet, behind `others` flows that no
/// packet of the benchmark matches.
fn switch(others: u32, ops: Vec<Op>, cache: usize) -> (Switch, Counter) {
    let mut s = Switch::new(Config { cache, ..Config::default() });
    let mut sink = Counter::default();
    for number in 1..=2 {
        let port = Port {
            number,
            name: format!("p{number}"),
            mac: [2, 0, 0, 0, 1, number as u8],
            up: true,
            speed: None,
            config: 0,
            queues: Vec::new(),
        };
        s.port(port, Time::ZERO, &mut sink);
    }
    for flow in flows(others, ops) {
        s.add_flow(0, flow).expect("room");
    }
    (s, sink)
}

fn flows(others: u32, ops: Vec<Op>) -> impl Iterator<Item = Flow> {
    let other = |n: u32| {
        let address = u128::from(0x0b00_0000 + n);
        let criteria =
            Match::any().with(FieldId::EthType, 0x0800, u128::MAX).with(FieldId::Ipv4Dst, address, u128::MAX);
        Flow::new(10, criteria, Instructions::applying(vec![Op::Output(1)]), Time::ZERO)
    };
    let last = Flow::new(1, Match::any(), Instructions::applying(ops), Time::ZERO);
    (0..others).map(other).chain([last])
}

fn hits(c: &mut Criterion) {
    let mut group = c.benchmark_group("on_packet");
    group.throughput(Throughput::Elements(1));
    let rewrite = || vec![Op::SetEthDst([2, 0, 0, 0, 0, 9]), Op::DecTtl, Op::SetTtl(64), Op::Output(2)];
    for (name, length, senders, ops) in [
        ("hit, 64 bytes", 64, 1, vec![Op::Output(2)]),
        ("hit, 1400 bytes", 1400, 1, vec![Op::Output(2)]),
        ("hit, 64 bytes, 1000 packets' keys in turn", 64, 1000, vec![Op::Output(2)]),
        ("hit, 64 bytes, queue", 64, 1, vec![Op::SetQueue(3), Op::Output(2)]),
        ("hit, 64 bytes, rewritten", 64, 1, rewrite()),
        ("hit, 64 bytes, tagged", 64, 1, vec![Op::PushVlan(0x8100), Op::SetVlanVid(7), Op::Output(2)]),
    ] {
        let (mut s, mut sink) = switch(100, ops, 4096);
        let mut frames: Vec<_> = (0..senders).map(|n| frame(length, n)).collect();
        let (mut at, mut now) = (0, 0);
        group.bench_function(name, |b| {
            b.iter(|| {
                at = if at + 1 < frames.len() { at + 1 } else { 0 };
                now += 1;
                s.on_packet(1, black_box(&mut frames[at]), Time(now), &mut sink);
            });
        });
        let counters = s.pipeline().cache();
        assert!(counters.misses < 4000 + counters.hits / 10, "{name}: {counters:?}");
        black_box(sink.0);
    }
    for others in [1, 100, 1000] {
        let (mut s, mut sink) = switch(others, vec![Op::Output(2)], 0);
        let mut frame = frame(64, 1);
        group.bench_function(format!("without a cache, behind {others} other flows"), |b| {
            b.iter(|| s.on_packet(1, black_box(&mut frame), Time::ZERO, &mut sink));
        });
    }
    group.finish();
}

fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("flows");
    for count in [1000u32, 10_000] {
        group.throughput(Throughput::Elements(count.into()));
        group.bench_function(format!("add {count}"), |b| {
            b.iter_batched(
                || flows(count - 1, vec![Op::Output(2)]).collect::<Vec<_>>(),
                |flows| {
                    let mut p = Pipeline::new(1, 100_000, vec![1, 2]);
                    for flow in flows {
                        p.tables[0].add(flow, AddOptions::default()).expect("room");
                    }
                    p
                },
                BatchSize::LargeInput,
            );
        });
    }
    let filled = |count: u32| {
        let mut p = Pipeline::new(1, 100_000, vec![1, 2]);
        for flow in flows(count - 1, vec![Op::Output(2)]) {
            p.tables[0].add(flow, AddOptions::default()).expect("room");
        }
        p
    };
    let count = 10_000;
    group.throughput(Throughput::Elements(count.into()));
    group.bench_function(format!("delete {count}, one by one"), |b| {
        b.iter_batched(
            || filled(count),
            |mut p| {
                for flow in flows(count - 1, vec![Op::Output(2)]) {
                    p.tables[0].delete(&Filter::strictly(flow.criteria, flow.priority));
                }
                assert!(p.tables[0].is_empty());
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, hits, changes);
criterion_main!(benches);
