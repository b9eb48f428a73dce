//! A whole plan on 1,000 servers with 10,000 VMs: keep-policy under best fit and worst fit without
//! a bound on its moves, and the evacuation of a server.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a bench reads the clock")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tandem_core::Core;
use tandem_model::{
    Allocation, BitRate, Bytes, Event, GatewayId, MoveOptions, NodeId, PersistedState, PlanGoal, PortInfo,
    ServerId, Site, SwitchCaps, SwitchId, Time, VmId, VmRecord, VmRequest, VmState,
};

const SERVERS: u32 = 1_000;
const VMS: u64 = 10_000;

fn site(allocation: Allocation) -> Site {
    let text = "[topology]\nshape = \"three-tier\"\ncore = 4\naggregation = 6\nedge = 25\nservers_per_edge = 40\n\
                [bandwidth]\nedge = \"10 Gbit/s\"\naggregation = \"1 Tbit/s\"\ncore = \"4 Tbit/s\"\n\
                gateway = \"4 Tbit/s\"\n[servers]\ncpu = 64\nram = \"256 GiB\"\n[keep_policy]\nmoves = 1000000\n";
    let mut site = tandem_model::site::read(text, "bench").unwrap_or_else(|f| panic!("{f}"));
    site.policy.allocation = allocation.into();
    site
}

/// A fixed sequence of numbers (the MMIX generator), the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// VMs of all sizes, scattered over the servers with no policy at all.
fn scattered(site: &Arc<Site>) -> Core {
    let mut dice = Dice(1);
    let mut stored = PersistedState::default();
    // A core without VMs knows the ways.
    let now = Time::from_secs(1);
    let ways = connect(core(site, PersistedState::default(), now), site);
    let mut used = vec![0u32; SERVERS as usize];
    for n in 1..=VMS {
        let mut resources = site.vm.default;
        resources.cpu = 1 + dice.below(8) as u32;
        resources.ram = Bytes((1 + dice.below(16)) << 30);
        resources.net = BitRate::mbit(1 + dice.below(20));
        let server = loop {
            let server = dice.below(u64::from(SERVERS)) as u32;
            if used[server as usize] + resources.cpu <= 64 {
                break ServerId(server);
            }
        };
        used[server.0 as usize] += resources.cpu;
        let (path_up, path_down) =
            ways.default_ways(server, 0, GatewayId(0)).unwrap_or_else(|| panic!("no way"));
        stored.vms.push(VmRecord {
            id: VmId(n),
            request: VmRequest { resources, ..VmRequest::default() },
            server,
            uplink: 0,
            gateway: GatewayId(0),
            mac: tandem_model::Mac([2, 0, 0, (n >> 16) as u8, (n >> 8) as u8, n as u8]),
            address: std::net::Ipv4Addr::from_bits(0x0A00_0000 + n as u32),
            path_up,
            path_down,
            pin: None,
            state: VmState::Running,
            placed_at: now,
            running_at: Some(now),
            expires_at: None,
        });
    }
    connect(core(site, stored, now), site)
}

fn core(site: &Arc<Site>, stored: PersistedState, now: Time) -> Core {
    Core::new(site.clone(), stored, now).expect("known policies")
}

/// All switches connect.
fn connect(mut core: Core, site: &Arc<Site>) -> Core {
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
        let ports = ports.collect();
        core.handle(Event::SwitchUp { switch: switch.dpid, ports, caps }, Time::from_secs(1));
    }
    core
}

fn plans(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for (name, allocation) in [("best-fit", Allocation::BestFit), ("worst-fit", Allocation::WorstFit)] {
        let site = Arc::new(site(allocation));
        let core = scattered(&site);
        let options = MoveOptions::default();
        let keep = core.plan(&PlanGoal::KeepPolicy, options);
        println!(
            "keep-policy {name}: {} moves, {} left, {} -> {} servers",
            keep.moves.len(),
            keep.left.len(),
            keep.active_before,
            keep.active_after
        );
        group.bench_function(BenchmarkId::new("keep-policy", name), |b| {
            b.iter(|| black_box(core.plan(&PlanGoal::KeepPolicy, options)));
        });
        let evacuate = PlanGoal::Evacuate { server: ServerId(0) };
        let plan = core.plan(&evacuate, options);
        println!("evacuate {name}: {} moves, {} left", plan.moves.len(), plan.left.len());
        group.bench_function(BenchmarkId::new("evacuate", name), |b| {
            b.iter(|| black_box(core.plan(&evacuate, options)));
        });
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
