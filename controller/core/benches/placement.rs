//! A placement decision with everything it takes: the server by the policy, all resources, link
//! admission on every hop both ways, and what it reserves (index update included). Three-tier trees
//! of 1,000 to 100,000 servers with as many VMs.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a bench reads the clock")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tandem_core::{Core, Placement};
use tandem_model::{
    BitRate, Bytes, Event, NodeId, PersistedState, PolicyName, PortInfo, Site, SwitchCaps, SwitchId, Time,
    VmRequest,
};

/// Edge switches of 40 servers each, 4 to an aggregation switch, links wide enough that servers
/// fill up first.
fn site(servers: u32, allocation: &str) -> Site {
    let edge = servers / 40;
    let aggregation = (edge / 4).max(2);
    let text = format!(
        "[topology]\nshape = \"three-tier\"\ncore = 4\naggregation = {aggregation}\nedge = {edge}\n\
         servers_per_edge = 40\n[bandwidth]\nedge = \"10 Gbit/s\"\naggregation = \"1 Tbit/s\"\n\
         core = \"4 Tbit/s\"\ngateway = \"4 Tbit/s\"\n[servers]\ncpu = 64\nram = \"256 GiB\"\n"
    );
    let mut site = tandem_model::site::read(&text, "bench").unwrap_or_else(|f| panic!("{f}"));
    site.policy.allocation = PolicyName(allocation.to_owned());
    site
}

/// A core whose switches are all connected.
fn core(site: &Arc<Site>) -> Core {
    let now = Time::from_secs(1);
    let mut core = Core::new(site.clone(), PersistedState::default(), now).expect("known policies");
    for (n, switch) in (0u32..).zip(&site.topology.switches) {
        let ports = site.topology.ports(NodeId::Switch(SwitchId(n))).iter().map(|(port, _)| PortInfo {
            port: *port,
            name: String::new(),
            mac: tandem_model::Mac([0; 6]),
            up: true,
            speed: None,
        });
        let caps =
            SwitchCaps { version: "1.3".into(), tables: 2, description: String::new(), peer: String::new() };
        core.handle(Event::SwitchUp { switch: switch.dpid, ports: ports.collect(), caps }, now);
    }
    core
}

fn place(core: &mut Core, request: &VmRequest) -> Placement {
    let placement = core.place(request).unwrap_or_else(|r| panic!("{r}"));
    core.reserve(&placement, request);
    placement
}

/// A fixed sequence of numbers (the MMIX generator), the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// 1 to 8 cores, 1 to 16 GiB, 10 GiB, 1 to 20 Mbit/s.
    fn request(&mut self, site: &Site) -> VmRequest {
        let mut resources = site.vm.default;
        resources.cpu = 1 + self.below(8) as u32;
        resources.ram = Bytes((1 + self.below(16)) << 30);
        resources.net = BitRate::mbit(1 + self.below(20));
        VmRequest { resources, ..VmRequest::default() }
    }
}

fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("placement");
    // The last two see the whole data centre and take O(n log n), so they are measured on smaller
    // ones.
    let all: [(&str, &[u32]); 6] = [
        ("best-fit", &[1_000, 10_000, 100_000]),
        ("worst-fit", &[1_000, 10_000, 100_000]),
        ("server-driven", &[1_000, 10_000, 100_000]),
        ("network-driven", &[1_000, 10_000, 100_000]),
        ("least-loaded-edge", &[1_000, 4_000]),
        ("weighted", &[1_000, 4_000]),
    ];
    for (name, sizes) in all {
        for servers in sizes.iter().copied() {
            let site = Arc::new(site(servers, name));
            let mut core = core(&site);
            // A data centre in use: VMs of all sizes, so that servers are full to every degree.
            let mut dice = Dice(1);
            let mut held: Vec<(Placement, VmRequest)> = Vec::new();
            for _ in 0..servers {
                let request = dice.request(&site);
                held.push((place(&mut core, &request), request));
            }
            group.bench_function(BenchmarkId::new(name, servers), |b| {
                b.iter_custom(|times| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..times {
                        // Some VM anywhere goes, outside the timing, so that the data centre stays
                        // as full as it is.
                        let slot = dice.below(held.len() as u64) as usize;
                        let (old, its) = &held[slot];
                        core.release(old, its);
                        let request = dice.request(&site);
                        let start = Instant::now();
                        let new = black_box(place(&mut core, &request));
                        spent += start.elapsed();
                        held[slot] = (new, request);
                    }
                    spent
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
