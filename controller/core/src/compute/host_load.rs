//! What servers and VMs use, as their hypervisors measure it: from counters to rates.
//!
//! Rates are smoothed like those of ports, `history * old + (1 - history) * new`; memory is a level
//! and is taken as told. A counter that is `u64::MAX` is not kept by its hypervisor; one that steps
//! back has started again, unless it is near its 64th bit. A VM that has moved counts from zero on
//! its new server and keeps its rates meanwhile. A server that has been silent for three periods is
//! forgotten, and so are its VMs: nothing is decided by numbers that nobody renews.

use crate::network::switch_counters::Smoothed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{BitRate, Bytes, LoadSample, ServerId, Time, VmId};

/// The highest rate in units per second that a counter which stepped back is believed to have run
/// at: 400 Gbit/s in bytes, and 50 cores.
pub(crate) const BELIEVABLE: f64 = 50e9;

/// The latest counters of one server or VM, and the rates that came out of them.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) sample: LoadSample,
    pub(crate) at: Time,
    pub(crate) cpu: Smoothed,
    pub(crate) disk_read: Smoothed,
    pub(crate) disk_written: Smoothed,
    pub(crate) rx: Smoothed,
    pub(crate) tx: Smoothed,
    pub(crate) dirty: Smoothed,
}

impl Load {
    pub(crate) fn new(sample: LoadSample, at: Time) -> Load {
        let none = Smoothed::default();
        Load { sample, at, cpu: none, disk_read: none, disk_written: none, rx: none, tx: none, dirty: none }
    }

    /// Takes in newer counters; true when a rate came out of them.
    pub(crate) fn add(&mut self, sample: LoadSample, now: Time, history: f64) -> bool {
        let period = now.since(self.at);
        if period.is_zero() {
            return false;
        }
        let old = self.sample;
        let mut moved = false;
        let mut rate = |kept: &mut Smoothed, old: u64, new: u64| {
            if let Some(steps) = advance(old, new, period) {
                kept.add(steps as f64 / period.as_secs_f64(), history);
                moved = true;
            }
        };
        rate(&mut self.cpu, old.cpu_ns, sample.cpu_ns);
        rate(&mut self.disk_read, old.disk_read, sample.disk_read);
        rate(&mut self.disk_written, old.disk_written, sample.disk_written);
        rate(&mut self.rx, old.rx_bytes, sample.rx_bytes);
        rate(&mut self.tx, old.tx_bytes, sample.tx_bytes);
        rate(&mut self.dirty, old.dirtied, sample.dirtied);
        (self.sample, self.at) = (sample, now);
        moved
    }

    pub(crate) fn view(&self) -> LoadView {
        let bits = |bytes: Smoothed| BitRate((bytes.value() * 8.0).round() as u64);
        LoadView {
            cpu: self.cpu.value() / 1e9,
            ram: Bytes(if self.sample.ram == u64::MAX { 0 } else { self.sample.ram }),
            disk_read: bits(self.disk_read),
            disk_written: bits(self.disk_written),
            rx: bits(self.rx),
            tx: bits(self.tx),
            dirty: bits(self.dirty),
        }
    }
}

/// How far a counter of 64 bits went; `None` when it started again or is not kept.
pub(crate) fn advance(old: u64, new: u64, period: Duration) -> Option<u64> {
    if old == u64::MAX || new == u64::MAX {
        return None;
    }
    let steps = new.wrapping_sub(old);
    (new >= old || steps as f64 / period.as_secs_f64() <= BELIEVABLE).then_some(steps)
}

/// What servers and VMs use, as their hypervisors have measured it.
#[derive(Debug, Clone)]
pub struct Loads {
    pub(crate) history: f64,
    pub(crate) servers: BTreeMap<ServerId, Load>,
    pub(crate) vms: BTreeMap<VmId, (ServerId, Load)>,
}

impl Loads {
    /// Nothing is known yet. `history` is the weight of the past, 0 to below 1.
    pub fn new(history: f64) -> Loads {
        Loads { history, servers: BTreeMap::new(), vms: BTreeMap::new() }
    }

    /// Takes in a server's counters; true when a rate came out of them.
    pub fn server(&mut self, server: ServerId, sample: LoadSample, now: Time) -> bool {
        match self.servers.get_mut(&server) {
            Some(load) => load.add(sample, now, self.history),
            None => {
                self.servers.insert(server, Load::new(sample, now));
                false
            }
        }
    }

    /// Takes in the counters that a VM has on `server`.
    pub fn vm(&mut self, vm: VmId, server: ServerId, sample: LoadSample, now: Time) {
        match self.vms.get_mut(&vm) {
            Some((on, load)) if *on == server => {
                load.add(sample, now, self.history);
            }
            // It has moved: its rates are what they were, its counters are new ones.
            Some((on, load)) => (*on, load.sample, load.at) = (server, sample, now),
            None => {
                self.vms.insert(vm, (server, Load::new(sample, now)));
            }
        }
    }

    /// What a server uses.
    pub fn of_server(&self, server: ServerId) -> Option<LoadView> {
        self.servers.get(&server).map(Load::view)
    }

    /// What a VM uses.
    pub fn of_vm(&self, vm: VmId) -> Option<LoadView> {
        self.vms.get(&vm).map(|(_, load)| load.view())
    }

    /// At which rate a VM writes its memory anew; `None` where that is not counted.
    pub fn dirty(&self, vm: VmId) -> Option<BitRate> {
        let (_, load) = self.vms.get(&vm)?;
        load.dirty.primed().then(|| load.view().dirty)
    }

    /// When a server last told.
    pub fn told(&self, server: ServerId) -> Option<Time> {
        self.servers.get(&server).map(|load| load.at)
    }

    /// Forgets a VM.
    pub fn forget_vm(&mut self, vm: VmId) {
        self.vms.remove(&vm);
    }

    /// Forgets a server and the VMs that it told of.
    pub fn forget_server(&mut self, server: ServerId) {
        self.servers.remove(&server);
        self.vms.retain(|_, (on, _)| *on != server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerId = ServerId(0);

    fn at(cpu_ns: u64, bytes: u64) -> LoadSample {
        LoadSample { cpu_ns, ram: 7, rx_bytes: bytes, tx_bytes: bytes, ..LoadSample::UNKNOWN }
    }

    #[test]
    fn counters_become_rates_and_a_level_stays_a_level() {
        let mut loads = Loads::new(0.5);
        assert!(!loads.server(SERVER, at(0, 0), Time::from_secs(1)), "one sample makes no rate");
        assert!(loads.server(SERVER, at(3_000_000_000, 125_000), Time::from_secs(3)));
        let load = loads.of_server(SERVER).expect("told");
        assert!((load.cpu - 1.5).abs() < 1e-9, "3 s of CPU time in 2 s are one core and a half");
        assert_eq!((load.rx, load.ram, load.dirty), (BitRate(500_000), Bytes(7), BitRate(0)));
        loads.server(SERVER, at(3_000_000_000, 125_000), Time::from_secs(4));
        let load = loads.of_server(SERVER).expect("told");
        assert!((load.cpu - 0.75).abs() < 1e-9, "half of it is the past");
    }

    #[test]
    fn a_counter_that_starts_again_makes_no_peak_and_one_that_wraps_goes_on() {
        let second = Duration::from_secs(1);
        assert_eq!(advance(u64::MAX - 10, 9, second), Some(20));
        assert_eq!(advance(3_000_000_000, 5, second), None, "32 bits are not enough to wrap");
        assert_eq!(advance(u64::MAX, 5, second), None, "not counted");
        assert_eq!(advance(5, u64::MAX, second), None, "not counted any more");
    }

    #[test]
    fn a_vm_that_moved_keeps_its_rates_and_is_counted_anew() {
        let mut loads = Loads::new(0.0);
        let (vm, there) = (VmId(1), ServerId(1));
        loads.vm(vm, SERVER, at(0, 0), Time::from_secs(0));
        loads.vm(vm, SERVER, at(2_000_000_000, 0), Time::from_secs(1));
        loads.vm(vm, there, at(100, 0), Time::from_secs(2));
        assert!(loads.of_vm(vm).is_some_and(|l| (l.cpu - 2.0).abs() < 1e-9));
        loads.vm(vm, there, at(1_000_000_100, 0), Time::from_secs(3));
        assert!(loads.of_vm(vm).is_some_and(|l| (l.cpu - 1.0).abs() < 1e-9));
        assert_eq!(loads.dirty(vm), None, "nobody counts what it dirties");
        loads.forget_server(SERVER);
        assert!(loads.of_vm(vm).is_some(), "it is elsewhere");
        loads.forget_server(there);
        assert_eq!(loads.of_vm(vm), None);
    }
}

/// What a server or a VM uses, smoothed by the site's history weight; 0 where it is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LoadView {
    /// CPU cores in use, 1.5 is one and a half.
    pub cpu: f64,
    /// Memory in use.
    pub ram: Bytes,
    /// Read from disks, bit/s.
    pub disk_read: BitRate,
    /// Written to disks, bit/s.
    pub disk_written: BitRate,
    /// Received from the network.
    pub rx: BitRate,
    /// Sent to the network.
    pub tx: BitRate,
    /// Memory dirtied, bit/s.
    pub dirty: BitRate,
}
