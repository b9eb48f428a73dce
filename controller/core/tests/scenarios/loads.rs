//! What servers and VMs use, as their hypervisors tell it.

use crate::world::{SMALL, World, read};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_core::export;
use tandem_model::{
    BitRate, Bytes, Effect, Event, GatewayId, LoadSample, PersistedState, Resources, ServerId, Site, VmId,
    VmRecord, VmRequest, VmState,
};

/// Counters of VMs that use what they are told to, and of the servers that they are on.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    /// Cores and bit/s that each VM uses.
    pub(crate) use_of: BTreeMap<VmId, (f64, u64)>,
    cpu_ns: BTreeMap<(ServerId, Option<VmId>), u64>,
    bytes: BTreeMap<(ServerId, Option<VmId>), u64>,
}

impl Meters {
    pub(crate) fn new(use_of: &[(u64, f64)]) -> Meters {
        let use_of = use_of.iter().map(|(vm, cores)| (VmId(*vm), (*cores, 0))).collect();
        Meters { use_of, ..Meters::default() }
    }

    fn sample(&mut self, key: (ServerId, Option<VmId>), ram: u64) -> LoadSample {
        let (cpu_ns, bytes) = (*self.cpu_ns.entry(key).or_default(), *self.bytes.entry(key).or_default());
        LoadSample { cpu_ns, ram, rx_bytes: bytes, tx_bytes: 0, ..LoadSample::UNKNOWN }
    }

    /// A period goes by, and every server tells what it and its VMs have used in it.
    pub(crate) fn period(&mut self, world: &mut World) {
        let period = world.site.statistics.period;
        world.discover_except(&[]);
        world.wait(period);
        let at: Vec<(VmId, ServerId)> = world.core.vms().map(|v| (v.id, v.server)).collect();
        for (vm, server) in &at {
            let (cores, rate) = self.use_of.get(vm).copied().unwrap_or_default();
            for key in [(*server, None), (*server, Some(*vm))] {
                *self.cpu_ns.entry(key).or_default() += (cores * period.as_secs_f64() * 1e9) as u64;
                *self.bytes.entry(key).or_default() += (rate as f64 / 8.0 * period.as_secs_f64()) as u64;
            }
        }
        for n in 0..world.site.topology.servers.len() as u32 {
            let server = ServerId(n);
            let on: Vec<VmId> = at.iter().filter(|(_, s)| *s == server).map(|(vm, _)| *vm).collect();
            let vms = on.into_iter().map(|vm| (vm, self.sample((server, Some(vm)), 1 << 20))).collect();
            let sample = self.sample((server, None), 1 << 30);
            world.tell(Event::ServerSamples { server, sample, vms });
        }
    }
}

/// Running VMs `1..`, each on its server, as a store holds them.
pub(crate) fn placed(site: &Site, vms: &[(u32, Resources)]) -> PersistedState {
    let ways = World::dark(site.clone(), PersistedState::default());
    let mut stored = PersistedState::default();
    for (n, (server, resources)) in (1u64..).zip(vms) {
        let server = ServerId(*server);
        let (path_up, path_down) = ways.core.default_ways(server, 0, GatewayId(0)).expect("a way");
        let edge = site.topology.edge_of(server, 0).and_then(|e| site.topology.switch(e)).expect("an edge");
        stored.vms.push(VmRecord {
            id: VmId(n),
            request: VmRequest { resources: *resources, ..VmRequest::default() },
            server,
            uplink: 0,
            gateway: GatewayId(0),
            mac: tandem_model::Mac([2, 0, 0, 0, 1, n as u8]),
            address: edge.prefix.expect("a prefix").nth(100 + n).expect("an address"),
            path_up,
            path_down,
            pin: None,
            state: VmState::Running,
            placed_at: ways.now,
            running_at: Some(ways.now),
            expires_at: None,
        });
    }
    stored
}

/// A data centre whose switches and hypervisors are there, with VMs where the test wants them.
pub(crate) fn with_vms(site: Site, vms: &[(u32, Resources)]) -> World {
    let stored = placed(&site, vms);
    let there = stored.vms.iter().map(|v| (v.id, v.server)).collect();
    let mut world = World::dark(site, stored);
    world.connect_all();
    world.attach(there);
    world
}

/// Hypervisors are asked for loads when they come, at the site's period; what they tell shows up
/// beside servers and VMs and in the file.
#[test]
fn loads_are_asked_for_and_shown() {
    let site = read(&format!("{SMALL}[statistics]\nperiod = \"5 s\"\nhistory_weight = 0.0\n"));
    let size = site.vm.default;
    let mut world = with_vms(site, &[(0, size), (0, size), (1, size)]);
    let asked = Effect::ReportLoads { period: Duration::from_secs(5) };
    assert_eq!(world.log.iter().filter(|e| **e == asked).count(), 1);
    assert_eq!(world.core.snapshot().servers[0].load, None, "nobody has told yet");
    let mut meters = Meters::new(&[(1, 0.5), (2, 0.25), (3, 1.0)]);
    meters.use_of.insert(VmId(1), (0.5, 8_000));
    (0..3).for_each(|_| meters.period(&mut world));
    let snapshot = world.core.snapshot();
    let load = snapshot.servers[0].load.expect("told");
    assert!((load.cpu - 0.75).abs() < 1e-6, "{load:?}");
    assert_eq!((load.rx, load.ram), (BitRate(8_000), Bytes(1 << 30)));
    let vm = snapshot.vms[0].load.expect("told");
    assert!((vm.cpu - 0.5).abs() < 1e-6 && vm.rx == BitRate(8_000), "{vm:?}");
    let table = export::load_csv(&snapshot);
    assert_eq!(table.file, "serverload.csv");
    let header = "time;srv1.cpu;srv1.ram;srv1.disk_read;srv1.disk_written;srv1.rx;srv1.tx;srv1.vms;srv2.cpu";
    assert!(table.header().starts_with(header), "{}", table.header());
    assert!(table.line(1.0).starts_with("1.000;750;1073741824;0;0;8000;0;2;1000;"), "{}", table.line(1.0));
    let files = export::csv(&snapshot).len();
    assert_eq!(files, 7, "the thesis' files are as they were");
}

/// A server that falls silent is no longer judged by what it once told, and a VM that is gone is
/// forgotten.
#[test]
fn silence_and_a_deleted_vm_are_forgotten() {
    let site = read(&format!("{SMALL}[statistics]\nperiod = \"5 s\"\n"));
    let size = site.vm.default;
    let mut world = with_vms(site, &[(0, size)]);
    let mut meters = Meters::new(&[(1, 0.5)]);
    (0..3).for_each(|_| meters.period(&mut world));
    assert!(world.core.vm_load(VmId(1)).is_some());
    world.wait(Duration::from_secs(14));
    assert!(world.core.server_load(ServerId(0)).is_some(), "two missing samples are no silence");
    world.wait(Duration::from_secs(2));
    assert_eq!(world.core.server_load(ServerId(0)), None);
    assert_eq!(world.core.vm_load(VmId(1)), None);
    assert_eq!(world.core.snapshot().servers[0].load, None);
    (0..2).for_each(|_| meters.period(&mut world));
    assert!(world.core.vm_load(VmId(1)).is_some(), "it tells again");
    world.ask(tandem_model::Request::DeleteVm { vm: VmId(1) });
    assert_eq!(world.core.vm_load(VmId(1)), None);
}

/// Samples of servers that nobody declared and of VMs that are elsewhere are not believed.
#[test]
fn unknown_vms_and_vms_elsewhere_are_not_believed() {
    let site = read(SMALL);
    let size = site.vm.default;
    let mut world = with_vms(site, &[(0, size)]);
    let sample = LoadSample { cpu_ns: 1, ..LoadSample::UNKNOWN };
    for at in [1, 2] {
        world.wait(Duration::from_secs(at));
        for server in [ServerId(1), ServerId(99)] {
            world.tell(Event::ServerSamples {
                server,
                sample,
                vms: vec![(VmId(1), sample), (VmId(77), sample)],
            });
        }
    }
    assert_eq!(world.core.vm_load(VmId(1)), None);
    assert_eq!(world.core.server_load(ServerId(99)), None);
    assert!(world.core.server_load(ServerId(1)).is_some());
}
