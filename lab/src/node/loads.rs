//! What servers and VMs have used: counters since their start.
//!
//! - CPU: what a VM's image (or `tandem-lab vm load --cpu`) declares, and what its processes really
//!   used. A server's is that of its VMs.
//! - Memory: what a VM was given, as a hypervisor gives it; a server's is that of its VMs.
//! - Network: a VM's by its own interface, a server's by its uplinks, as the kernel counts.
//! - Dirtied memory, and what was written to disks: by the image.
//!
//! A VM takes its counters along to another server; servers' counters get what was used while it
//! was there, and never run back.

use crate::control::service::lock;
use crate::node::hosts::Hosts;
use crate::node::processes::CpuTimes;
use crate::node::traffic::clock;
use crate::node::vms::ETH0;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tandem_agent_protocol::hypervisor as wire;
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::{NetNs, visit};

/// What somebody has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Used {
    /// CPU time of all cores together, nanoseconds.
    pub cpu_ns: u64,
    /// Bytes of memory that it has now.
    pub ram: u64,
    /// Bytes of its disk that were written.
    pub disk_written: u64,
    /// Bytes received.
    pub rx: u64,
    /// Bytes sent.
    pub tx: u64,
    /// Bytes of memory written to.
    pub dirtied: u64,
}

impl Used {
    /// As it is reported. Nothing is read from an emulated disk.
    pub fn report(&self) -> wire::Load {
        wire::Load {
            cpu_ns: Some(self.cpu_ns),
            ram_bytes: Some(self.ram),
            disk_read_bytes: None,
            disk_written_bytes: Some(self.disk_written),
            rx_bytes: Some(self.rx),
            tx_bytes: Some(self.tx),
            dirtied_bytes: Some(self.dirtied),
        }
    }
}

/// A server's, with its VMs'.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLoad {
    /// Its name.
    pub name: String,
    /// Its own.
    pub used: Used,
    /// Its VMs'.
    pub vms: Vec<(u64, Used)>,
}

/// Counters of servers, from those of the VMs that they have had.
#[derive(Debug, Default)]
pub struct Collector {
    times: CpuTimes,
    /// By VM, as last seen.
    last: BTreeMap<u64, Used>,
    /// By server: what VMs have used there.
    servers: BTreeMap<usize, Used>,
}

/// Bytes that an interface has received and sent; of several, their sum. Nothing of one that is
/// gone.
fn traffic(interfaces: &[u32]) -> (u64, u64) {
    let Ok(mut netlink) = Netlink::open() else { return (0, 0) };
    let stats = interfaces.iter().filter_map(|index| link::one(&mut netlink, *index).ok()?.stats);
    stats.fold((0, 0), |(rx, tx), s| (rx + s.rx_bytes, tx + s.tx_bytes))
}

impl Collector {
    /// Looks at everything.
    ///
    /// # Errors
    /// When a namespace cannot be entered.
    pub fn look(&mut self, hosts: &Hosts) -> anyhow::Result<Vec<ServerLoad>> {
        let mut vms = Vec::new();
        // The VMs are ours for a moment only.
        for (id, vm) in hosts.vms().iter() {
            vms.push((id, vm.server, vm.inode, vm.guest.clone(), vm.ns.duplicate()?));
        }
        let mut places: Vec<(&NetNs, Vec<u32>)> = Vec::new();
        for host in &hosts.servers {
            places.push((&host.ns, host.uplinks.iter().map(|(_, index)| *index).collect()));
        }
        places.extend(vms.iter().map(|(.., ns)| (ns, vec![ETH0])));
        let counted = visit(&places, |indices| traffic(indices)).context("reading interfaces' counters")?;
        let inodes: Vec<u64> = vms.iter().map(|(_, _, inode, ..)| *inode).collect();
        let cpu = self.times.look(&inodes);
        let (of_servers, of_vms) = counted.split_at(hosts.servers.len());

        let mut seen = BTreeMap::new();
        let mut by_server: BTreeMap<usize, Vec<(u64, Used)>> = BTreeMap::new();
        for ((id, server, inode, guest, _), (rx, tx)) in vms.iter().zip(of_vms) {
            let now = clock();
            let mut guest = lock(guest);
            let used = Used {
                cpu_ns: guest.cpu_ns(now) + cpu.get(inode).copied().unwrap_or(0),
                ram: guest.ram,
                disk_written: guest.behaviour.disk_written,
                rx: *rx,
                tx: *tx,
                dirtied: guest.dirtied(now) as u64,
            };
            seen.insert(*id, used);
            by_server.entry(*server).or_default().push((*id, used));
        }
        for (server, list) in &by_server {
            let all = self.servers.entry(*server).or_default();
            for (id, used) in list {
                let before = self.last.get(id).copied().unwrap_or_default();
                all.cpu_ns += used.cpu_ns.saturating_sub(before.cpu_ns);
                all.disk_written += used.disk_written.saturating_sub(before.disk_written);
                all.dirtied += used.dirtied.saturating_sub(before.dirtied);
            }
        }
        self.last = seen;
        let servers = hosts.servers.iter().enumerate().zip(of_servers).map(|((n, host), (rx, tx))| {
            let vms = by_server.remove(&n).unwrap_or_default();
            let mut used = self.servers.get(&n).copied().unwrap_or_default();
            used.ram = vms.iter().map(|(_, u)| u.ram).sum();
            used.rx = *rx;
            used.tx = *tx;
            ServerLoad { name: host.name.clone(), used, vms }
        });
        Ok(servers.collect())
    }
}

/// As it is reported, for a server of that number.
pub fn report(server: u32, load: &ServerLoad) -> wire::Loads {
    wire::Loads {
        server,
        load: Some(load.used.report()),
        vms: load.vms.iter().map(|(vm, u)| wire::VmLoad { vm: *vm, load: Some(u.report()) }).collect(),
    }
}
