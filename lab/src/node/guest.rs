//! What an emulated VM has and uses. A namespace has no CPU, memory or disk of its own: these are
//! what was requested and what its image does, counted while it runs; on top come the CPU time that
//! its processes really used and what its interface carried. Pure.

use crate::precopy::dirty::{Behaviour, Image, image};
use serde::{Deserialize, Serialize};
use tandem_agent_protocol::hypervisor as wire;

/// What a VM was requested with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// Cores.
    pub cpu: u32,
    /// Bytes.
    pub ram: u64,
    /// Bytes.
    pub disk: u64,
    /// Name of its image; empty for the default one.
    pub image: String,
    /// What it may send at most, bit/s on layer 2; `None` is as much as goes.
    #[serde(default)]
    pub police: Option<u64>,
}

impl Ordered {
    /// As the controller orders it.
    pub fn of(resources: Option<wire::Resources>, image: &str) -> Ordered {
        let r = resources.unwrap_or_default();
        let police = None;
        Ordered { cpu: r.cpu_cores, ram: r.ram_bytes, disk: r.disk_bytes, image: image.to_owned(), police }
    }

    /// Where the site polices VMs, held to the network rate that is ordered.
    pub fn policed(mut self, resources: Option<wire::Resources>, police: bool) -> Ordered {
        self.police = resources.map(|r| r.net_bit_per_s).filter(|net| police && *net > 0);
        self
    }
}

/// Changes of what a VM does; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Change {
    /// CPU time, as a part of all its cores.
    pub cpu: Option<f64>,
    /// Memory that is written to, bit/s.
    pub dirty: Option<u64>,
    /// Which part of the memory that goes to.
    pub working_set: Option<f64>,
}

/// What a VM has and uses. Times are nanoseconds of one clock that never runs back.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Cores.
    pub cpu: u32,
    /// Bytes of memory.
    pub ram: u64,
    /// Bytes of disk.
    pub disk: u64,
    /// What it does.
    pub behaviour: Behaviour,
    runs: bool,
    at: u64,
    cpu_ns: f64,
    dirtied: f64,
}

impl Guest {
    /// One that runs from now on.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn new(ordered: &Ordered, now: u64) -> anyhow::Result<Guest> {
        let Image { behaviour, .. } = image(&ordered.image)?;
        let behaviour = Behaviour { disk_written: behaviour.disk_written.min(ordered.disk), ..behaviour };
        let cpu = ordered.cpu;
        let ram = ordered.ram;
        let disk = ordered.disk;
        Ok(Guest { cpu, ram, disk, behaviour, runs: true, at: now, cpu_ns: 0.0, dirtied: 0.0 })
    }

    /// Counts until now.
    fn tick(&mut self, now: u64) {
        let ns = now.saturating_sub(self.at) as f64;
        self.at = self.at.max(now);
        if self.runs {
            self.cpu_ns += ns * self.behaviour.cpu * f64::from(self.cpu);
            self.dirtied += ns / 1e9 * self.behaviour.dirty as f64 / 8.0;
        }
    }

    /// It runs, or does not, from now on.
    pub fn set_running(&mut self, runs: bool, now: u64) {
        self.tick(now);
        self.runs = runs;
    }

    /// It does something else from now on.
    pub fn change(&mut self, change: &Change, now: u64) {
        self.tick(now);
        let b = &mut self.behaviour;
        b.cpu = change.cpu.unwrap_or(b.cpu).clamp(0.0, 1.0);
        b.dirty = change.dirty.unwrap_or(b.dirty);
        b.working_set = change.working_set.unwrap_or(b.working_set).clamp(0.0, 1.0);
    }

    /// It has these resources from now on.
    pub fn resize(&mut self, r: wire::Resources, now: u64) {
        self.tick(now);
        self.cpu = r.cpu_cores;
        self.ram = r.ram_bytes;
        self.disk = r.disk_bytes;
    }

    /// CPU time that it has used, besides its processes': nanoseconds.
    pub fn cpu_ns(&mut self, now: u64) -> u64 {
        self.tick(now);
        self.cpu_ns as u64
    }

    /// Bytes that it has written to its memory.
    pub fn dirtied(&mut self, now: u64) -> f64 {
        self.tick(now);
        self.dirtied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn web() -> Guest {
        let ordered = Ordered { cpu: 2, ram: 64 << 20, disk: 8 << 20, image: "web".into(), police: None };
        Guest::new(&ordered, 5 * SECOND).expect("an image")
    }

    #[test]
    fn what_it_uses_is_counted_while_it_runs() {
        let mut vm = web();
        assert_eq!((vm.cpu_ns(6 * SECOND), vm.dirtied(6 * SECOND) as u64), (400_000_000, 5_000_000));
        vm.set_running(false, 7 * SECOND);
        assert_eq!(vm.dirtied(100 * SECOND) as u64, 10_000_000);
        vm.set_running(true, 200 * SECOND);
        assert_eq!(vm.dirtied(201 * SECOND) as u64, 15_000_000);
        assert_eq!(vm.dirtied(100 * SECOND) as u64, 15_000_000, "time does not run back");
    }

    #[test]
    fn changes_and_new_sizes_hold_from_when_they_are_made() {
        let mut vm = web();
        vm.change(&Change { cpu: Some(7.0), dirty: Some(80_000_000), working_set: None }, 6 * SECOND);
        assert_eq!(vm.behaviour.working_set, 0.1);
        assert_eq!(vm.cpu_ns(7 * SECOND), 2_400_000_000, "no more than all cores");
        assert_eq!(vm.dirtied(7 * SECOND) as u64, 15_000_000);
        vm.resize(
            wire::Resources { cpu_cores: 4, ram_bytes: 1, disk_bytes: 2, net_bit_per_s: 3 },
            7 * SECOND,
        );
        assert_eq!(vm.cpu_ns(8 * SECOND), 6_400_000_000);
        assert_eq!((vm.ram, vm.disk), (1, 2));
    }

    #[test]
    fn a_disk_has_no_more_written_than_it_holds() {
        assert_eq!(web().behaviour.disk_written, 8 << 20);
        assert!(Guest::new(&Ordered { image: "no".into(), ..Ordered::of(None, "") }, 0).is_err());
    }
}
