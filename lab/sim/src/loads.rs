//! What VMs use of their servers: a settable load of each, counted from change to change, and told
//! to the core every period.
//!
//! A VM uses no more cores than it has, and all VMs of a server together no more than the server
//! has: they share what there is. Network bytes are those of the flows: of a VM its own, of a
//! server all that go over its uplinks, migrations included.

use crate::energy::{Meter, Power};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tandem_model::{BitRate, Bytes, LoadSample, Resources, ServerId, Site, Time, VmId};

/// What a VM uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// CPU cores that it would use if its server had them, 1.5 is one and a half.
    pub cpu: f64,
    /// Memory in use.
    pub ram: Bytes,
    /// Disk reads and writes.
    pub disk: (BitRate, BitRate),
    /// Memory written anew.
    pub dirty: BitRate,
}

/// What a VM uses of what it has, as long as nobody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DefaultLoad {
    /// Share of its cores.
    pub cpu: f64,
    /// Share of its memory.
    pub ram: f64,
    /// Memory written anew; the site's assumption if not said.
    pub dirty: Option<BitRate>,
}

impl Default for DefaultLoad {
    /// A VM that idles, with half of its memory in use.
    fn default() -> DefaultLoad {
        DefaultLoad { cpu: 0.0, ram: 0.5, dirty: None }
    }
}

#[derive(Debug, Clone)]
struct VmUse {
    server: ServerId,
    has: Resources,
    load: Load,
    /// Cores that it gets.
    cores: f64,
    cpu_ns: f64,
    read: f64,
    written: f64,
    dirtied: f64,
}

#[derive(Debug, Clone, Default)]
struct ServerUse {
    vms: BTreeSet<VmId>,
    cpu_ns: f64,
    cores: f64,
    since: Time,
}

/// The loads of all servers and VMs.
#[derive(Debug)]
pub struct Loads {
    default_load: DefaultLoad,
    dirty: BitRate,
    capacity: Vec<f64>,
    servers: Vec<ServerUse>,
    vms: BTreeMap<VmId, VmUse>,
    meter: Meter,
    active: usize,
}

impl Loads {
    /// Servers without VMs.
    pub fn new(site: &Site, now: Time) -> Loads {
        let servers = &site.topology.servers;
        Loads {
            default_load: DefaultLoad::default(),
            dirty: site.migration.dirty_rate,
            capacity: servers.iter().map(|s| f64::from(s.capacity.cpu)).collect(),
            servers: vec![ServerUse { since: now, ..ServerUse::default() }; servers.len()],
            vms: BTreeMap::new(),
            meter: Meter::new(Power::default(), servers.len(), now),
            active: 0,
        }
    }

    /// From now on servers consume this; before the first VM.
    pub fn set_power(&mut self, power: Power, now: Time) {
        self.meter = Meter::new(power, self.servers.len(), now);
    }

    /// What VMs use that are started from now on.
    pub fn set_default_load(&mut self, default_load: DefaultLoad) {
        self.default_load = default_load;
    }

    /// A VM runs on a server; one that ran elsewhere goes on with its counters.
    pub fn place(&mut self, vm: VmId, server: ServerId, has: Resources, now: Time) {
        let default_load = self.default_load;
        let fresh = VmUse {
            server,
            has,
            load: Load {
                cpu: f64::from(has.cpu) * default_load.cpu,
                ram: Bytes((has.ram.0 as f64 * default_load.ram) as u64),
                disk: (BitRate(0), BitRate(0)),
                dirty: default_load.dirty.unwrap_or(self.dirty),
            },
            cores: 0.0,
            cpu_ns: 0.0,
            read: 0.0,
            written: 0.0,
            dirtied: 0.0,
        };
        let before = self.take(vm, now);
        self.vms.insert(vm, before.map_or(fresh, |before| VmUse { server, has, ..before }));
        self.settle(server, now);
        if let Some(s) = self.servers.get_mut(server.0 as usize) {
            s.vms.insert(vm);
            self.active += usize::from(s.vms.len() == 1);
        }
        self.divide(server, now);
    }

    /// A VM is gone.
    pub fn remove(&mut self, vm: VmId, now: Time) {
        self.take(vm, now);
    }

    fn take(&mut self, vm: VmId, now: Time) -> Option<VmUse> {
        let server = self.vms.get(&vm)?.server;
        self.settle(server, now);
        let found = self.vms.remove(&vm);
        if let Some(s) = self.servers.get_mut(server.0 as usize) {
            s.vms.remove(&vm);
            self.active -= usize::from(s.vms.is_empty());
        }
        self.divide(server, now);
        found
    }

    /// A VM uses this from now on. One that does not run is left alone.
    pub fn set(&mut self, vm: VmId, load: Load, now: Time) {
        let Some(server) = self.vms.get(&vm).map(|v| v.server) else { return };
        self.settle(server, now);
        if let Some(v) = self.vms.get_mut(&vm) {
            v.load = load;
        }
        self.divide(server, now);
    }

    /// What a VM uses.
    pub fn of(&self, vm: VmId) -> Option<Load> {
        self.vms.get(&vm).map(|v| v.load)
    }

    /// Servers that hold VMs.
    pub fn active(&self) -> usize {
        self.active
    }

    /// VMs of each server.
    pub fn occupation(&self) -> Vec<u32> {
        self.servers.iter().map(|s| s.vms.len() as u32).collect()
    }

    /// The VMs on a server, in order of id.
    pub fn vms_on(&self, server: ServerId) -> impl Iterator<Item = VmId> {
        self.servers.get(server.0 as usize).into_iter().flat_map(|s| s.vms.iter().copied())
    }

    /// Share of a server's cores in use, 0 to 1.
    pub fn cpu(&self, server: ServerId) -> f64 {
        let n = server.0 as usize;
        let capacity = self.capacity.get(n).copied().unwrap_or_default();
        if capacity > 0.0 { self.servers.get(n).map_or(0.0, |s| s.cores / capacity) } else { 0.0 }
    }

    /// The energy meter, up to `now`.
    pub fn meter(&mut self, now: Time) -> &Meter {
        self.meter.advance(now);
        &self.meter
    }

    /// Counts a server and its VMs up to `now`.
    fn settle(&mut self, server: ServerId, now: Time) {
        let Some(s) = self.servers.get_mut(server.0 as usize) else { return };
        let past: Duration = now.since(s.since);
        if past.is_zero() {
            return;
        }
        s.since = now;
        s.cpu_ns += s.cores * past.as_nanos() as f64;
        let seconds = past.as_secs_f64();
        for id in &s.vms {
            if let Some(vm) = self.vms.get_mut(id) {
                vm.cpu_ns += vm.cores * past.as_nanos() as f64;
                vm.read += vm.load.disk.0.0 as f64 / 8.0 * seconds;
                vm.written += vm.load.disk.1.0 as f64 / 8.0 * seconds;
                vm.dirtied += vm.load.dirty.0 as f64 / 8.0 * seconds;
            }
        }
    }

    /// Gives a server's VMs the cores that there are.
    fn divide(&mut self, server: ServerId, now: Time) {
        let n = server.0 as usize;
        let (Some(s), Some(capacity)) = (self.servers.get_mut(n), self.capacity.get(n)) else { return };
        let wants = |v: &VmUse| v.load.cpu.clamp(0.0, f64::from(v.has.cpu));
        let wanted: f64 = s.vms.iter().filter_map(|id| self.vms.get(id)).map(wants).sum();
        let scale = if wanted > *capacity { capacity / wanted } else { 1.0 };
        for id in &s.vms {
            if let Some(vm) = self.vms.get_mut(id) {
                vm.cores = wants(vm) * scale;
            }
        }
        s.cores = wanted * scale;
        let share = if *capacity > 0.0 { s.cores / capacity } else { 0.0 };
        self.meter.set(n, s.vms.len(), share, now);
    }

    /// What a server and its VMs have used; network bytes are left open.
    pub fn sample(&mut self, server: ServerId, now: Time) -> (LoadSample, Vec<(VmId, LoadSample)>) {
        self.settle(server, now);
        let blank = LoadSample {
            cpu_ns: 0,
            ram: 0,
            disk_read: 0,
            disk_written: 0,
            rx_bytes: 0,
            tx_bytes: 0,
            dirtied: 0,
        };
        let Some(s) = self.servers.get(server.0 as usize) else { return (blank, Vec::new()) };
        let vms: Vec<(VmId, LoadSample)> = s
            .vms
            .iter()
            .filter_map(|id| self.vms.get(id).map(|v| (*id, v)))
            .map(|(id, v)| {
                let sample = LoadSample {
                    cpu_ns: v.cpu_ns as u64,
                    ram: v.load.ram.0.min(v.has.ram.0),
                    disk_read: v.read as u64,
                    disk_written: v.written as u64,
                    dirtied: v.dirtied as u64,
                    ..blank
                };
                (id, sample)
            })
            .collect();
        // Of a server only what it is asked for counts: its VMs' disks go on with them when they
        // move.
        let sum = |of: fn(&LoadSample) -> u64| vms.iter().map(|(_, v)| of(v)).sum();
        let own = LoadSample {
            cpu_ns: s.cpu_ns as u64,
            ram: sum(|v| v.ram),
            disk_read: u64::MAX,
            disk_written: u64::MAX,
            dirtied: u64::MAX,
            ..blank
        };
        (own, vms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::site;

    fn load(cpu: f64) -> Load {
        Load { cpu, ram: Bytes(1 << 20), disk: (BitRate(0), BitRate(8)), dirty: BitRate::mbit(8) }
    }

    #[test]
    fn vms_share_what_a_server_has_and_take_their_counters_along() {
        let text = "[topology]\nshape = \"linear\"\nswitches = 2\n[servers]\ncpu = 4\n";
        let site = site::read(text, "x").expect("a good site");
        let mut loads = Loads::new(&site, Time::ZERO);
        let has = Resources { cpu: 4, ram: Bytes(1 << 30), ..Resources::default() };
        let a = ServerId(0);
        let b = ServerId(1);
        let at = Time::from_secs;
        for vm in [VmId(1), VmId(2)] {
            loads.place(vm, a, has, at(0));
        }
        assert_eq!((loads.active(), loads.cpu(a)), (1, 0.0), "both idle");
        loads.set(VmId(1), load(9.0), at(10));
        assert_eq!(loads.cpu(a), 1.0, "a VM uses no more than it has");
        loads.set(VmId(2), load(4.0), at(20));
        let cpu = |sample: &LoadSample| sample.cpu_ns / 1_000_000_000;
        let (server, vms) = loads.sample(a, at(30));
        assert_eq!(cpu(&server), 80, "4 cores for 20 s");
        assert_eq!(vms.iter().map(|(_, s)| cpu(s)).collect::<Vec<_>>(), [60, 20], "10 s alone, 10 s shared");
        loads.place(VmId(2), b, has, at(30));
        assert_eq!((loads.active(), loads.occupation()[..2].to_vec()), (2, vec![1, 1]));
        let (_, vms) = loads.sample(b, at(40));
        assert_eq!(cpu(&vms[0].1), 60, "20 s worth of before and 10 s of 4 cores");
        // 20 s of the site's 1 Mbit/s, then 20 s of 8 Mbit/s; 20 s of a byte a second.
        assert_eq!((vms[0].1.dirtied, vms[0].1.disk_written), (22_500_000, 20));
        loads.remove(VmId(1), at(40));
        loads.remove(VmId(2), at(40));
        assert_eq!((loads.active(), loads.cpu(b)), (0, 0.0));
    }
}
