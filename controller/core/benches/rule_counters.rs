//! What it costs that switches say with every poll what each rule has counted: one poll of a switch
//! with thousands of rules, and the snapshot that shows it; and the same without counters of rules.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tandem_core::Core;
use tandem_model::{
    Event, NodeId, PersistedState, PortCounters, PortInfo, PortNo, PortSample, RuleCounters, RuleKey,
    RuleMatch, RuleSample, SwitchCaps, SwitchId, Time,
};

const SITE: &str =
    "[topology]\nshape = \"three-tier\"\ncore = 2\naggregation = 4\nedge = 25\nservers_per_edge = 40\n";

fn core() -> (Core, tandem_model::Dpid, Vec<PortSample>) {
    let site = Arc::new(tandem_model::site::read(SITE, "bench").unwrap_or_else(|f| panic!("{f}")));
    let now = Time::from_secs(1);
    let mut core = Core::new(site.clone(), PersistedState::default(), now);
    let id = SwitchId(site.topology.switches.len() as u32 - 1);
    let numbers: Vec<PortNo> = site.topology.ports(NodeId::Switch(id)).iter().map(|(p, _)| *p).collect();
    let switch = site.topology.switches[id.0 as usize].dpid;
    let port = |port: &PortNo| PortInfo {
        port: *port,
        name: String::new(),
        mac: tandem_model::Mac([0; 6]),
        up: true,
        speed: None,
    };
    let caps =
        SwitchCaps { version: "1.3".into(), tables: 2, description: String::new(), peer: String::new() };
    core.handle(Event::SwitchUp { switch, ports: numbers.iter().map(port).collect(), caps }, now);
    let counters = PortCounters { rx_bytes: Some(1000), tx_bytes: Some(1000), ..PortCounters::default() };
    (core, switch, numbers.into_iter().map(|port| PortSample { port, counters }).collect())
}

fn samples(rules: u32, packets: u64) -> Vec<RuleSample> {
    let sample = |n: u32| RuleSample {
        key: RuleKey {
            table: 0,
            priority: 100,
            matching: RuleMatch { in_port: Some(PortNo(n)), ..RuleMatch::default() },
        },
        counters: RuleCounters {
            packets: Some(packets * u64::from(n % 2)),
            bytes: Some(packets),
            age: Some(Duration::from_secs(packets)),
        },
    };
    (0..rules).map(sample).collect()
}

fn poll(c: &mut Criterion) {
    let mut group = c.benchmark_group("a poll and its snapshot");
    for rules in [0, 1000, 10_000] {
        let (mut core, switch, ports) = core();
        core.snapshot();
        let (mut now, mut packets) = (Time::from_secs(2), 0);
        group.bench_function(BenchmarkId::new("rules", rules), |b| {
            b.iter_batched(
                || {
                    packets += 1;
                    samples(rules, packets)
                },
                |rules| {
                    now = now + Duration::from_secs(5);
                    let event = Event::Samples { switch, ports: ports.clone(), flows: Vec::new(), rules };
                    black_box(core.handle(event, now));
                    black_box(core.snapshot());
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, poll);
criterion_main!(benches);
