//! Emulated VMs: a namespace each, with its own Ethernet address, on its server's bridge, getting
//! its address by DHCP.
//!
//! A server's bridge is made for its first VM. VMs' ports are isolated from each other: what VMs of
//! one server have to say to each other goes through the edge switch, which knows who may, and
//! sends it back.
//!
//! A VM's port lets out only what is the VM's own ([`tandem_linux::port_filter`]). The filter knows
//! the VM before its port is plugged in, at its first server and at each that it is moved to, and
//! forgets it when the VM has left or ended.

use super::processes;
use crate::node::guest::{Guest, Ordered};
use crate::node::hosts::Host;
use crate::node::traffic::clock;
use crate::node::vm_relocation::Gate;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tandem_linux::netlink::{Netlink, Request};
use tandem_linux::netns::NetNs;
use tandem_linux::port_filter::{self, Kind};
use tandem_linux::{ethtool, link, tc};
use tandem_model::PortNo;

/// Interface numbers of bridges start here: beyond what the kernel gives to interfaces of its own.
pub(super) const BRIDGE: u32 = 90_000;
/// Interface numbers of VMs' ports at their servers start here.
const VM_BASE: u32 = 100_000;
/// A VM's own interface's number. Linux 6.1 (and others before 6.15) refuses one that the namespace
/// of whoever asks has too, whichever namespace it is for: therefore none that Open vSwitch's
/// bridges, cards, or links get.
pub(super) const ETH0: u32 = 80_000;

/// What the DHCP client calls to configure the interface.
const DHCP_SCRIPT: &str = r#"#!/bin/sh
case "$1" in
deconfig) ip addr flush dev "$interface" ;;
bound|renew)
    ip addr replace "$ip/$mask" dev "$interface"
    [ -z "$router" ] || ip route replace default via "${router%% *}" dev "$interface"
    ;;
esac
"#;

/// A running VM.
pub struct Vm {
    /// On which of the servers that are here.
    pub server: usize,
    /// Its namespace.
    pub ns: NetNs,
    /// Its address and Ethernet address, where somebody has to know them.
    pub known: Option<(Ipv4Addr, [u8; 6])>,
    /// By which of the server's ports.
    pub port: PortNo,
    /// The number by which /proc knows its namespace.
    pub inode: u64,
    /// Closed while it is paused.
    pub gate: Gate,
    /// What it has and does.
    pub guest: Arc<Mutex<Guest>>,
    /// As whom it may speak at its server.
    pub identity: port_filter::Port,
    /// It is held to its network rate.
    is_policed: bool,
    client: Option<Child>,
}

impl Drop for Vm {
    fn drop(&mut self) {
        if let Some(client) = &mut self.client {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

/// All VMs of a lab.
pub struct Vms {
    script: PathBuf,
    running: BTreeMap<u64, Vm>,
    /// Bridges that are there: server and port.
    bridges: BTreeSet<(usize, PortNo)>,
    /// What filters at VMs' ports; `None` where this kernel has nothing that can.
    filter: Option<Kind>,
    /// Why there is no filter.
    unfiltered: Option<String>,
}

/// A VM to be started.
#[derive(Debug, Clone)]
pub struct NewVm {
    /// Its id.
    pub id: u64,
    /// On which of the servers that are here.
    pub server: usize,
    /// By which of the server's ports.
    pub port: PortNo,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The address that it gets: the only one that it may speak as.
    pub address: Ipv4Addr,
    /// How it gets its address.
    pub addressing: Addressing,
    /// What it was requested with.
    pub ordered: Ordered,
}

/// How a VM gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addressing {
    /// By DHCP.
    Dhcp,
    /// By hand.
    Fixed(Ipv4Addr, u8, Ipv4Addr),
}

impl Vms {
    /// None yet; the DHCP client's script is put into `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(folder: &Path) -> anyhow::Result<Vms> {
        let script = folder.join("dhcp-client.sh");
        std::fs::write(&script, DHCP_SCRIPT)?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700))?;
        let (filter, unfiltered) = match Kind::probe() {
            Ok(kind) => (Some(kind), None),
            Err(error) => (None, Some(error.to_string())),
        };
        if let Some(why) = &unfiltered {
            tracing::warn!("VMs can use each other's addresses: {why}");
        }
        Ok(Vms { script, running: BTreeMap::new(), bridges: BTreeSet::new(), filter, unfiltered })
    }

    /// What filters at VMs' ports, or why nothing does.
    ///
    /// # Errors
    /// With the reason.
    pub fn filter(&self) -> Result<Kind, String> {
        self.filter.ok_or_else(|| self.unfiltered.clone().unwrap_or_default())
    }

    /// All running VMs.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Vm)> {
        self.running.iter().map(|(id, vm)| (*id, vm))
    }

    /// One VM.
    pub fn get(&self, id: u64) -> Option<&Vm> {
        self.running.get(&id)
    }

    /// Starts a VM; one that runs already is left as it is.
    ///
    /// # Errors
    /// With the step that failed; nothing of it is then left.
    pub fn start(&mut self, host: &Host, new: NewVm) -> anyhow::Result<()> {
        if self.running.contains_key(&new.id) {
            return Ok(());
        }
        let identity =
            port_filter::Port { index: vm_index(new.id), mac: new.mac, address: new.address, host: host.mac };
        let started = self.begin(host, new, identity);
        if started.is_err() {
            self.dismiss(host, &identity);
        }
        started
    }

    /// Lets nobody speak as this VM at a server any more.
    fn dismiss(&self, host: &Host, identity: &port_filter::Port) {
        let Some(filter) = self.filter else { return };
        let done = host.ns.run(|| filter.dismiss(identity)).and_then(|r| r);
        if let Err(error) = done {
            tracing::warn!("{} still knows a VM that has left it: {error}", host.name);
        }
    }

    fn begin(&mut self, host: &Host, new: NewVm, identity: port_filter::Port) -> anyhow::Result<()> {
        let NewVm { id, server, port, mac, address: _, addressing, ordered } = new;
        let guest = Guest::new(&ordered, clock())?;
        let police = ordered.police;
        let bridge = self.bridge(host, server, port)?;
        let ns = NetNs::many(1, link::disable_ipv6)?.pop().context("no namespace was made")?;
        let index = vm_index(id);
        let outer_name = format!("vm{id}");
        let veth = link::Veth::new(("eth0", ETH0, &ns), (&outer_name, index, &host.ns)).mac_a(mac);
        Netlink::open()?.batch(&[veth.request()])?;
        let filter = self.filter;
        host.ns.run(|| {
            if let Some(filter) = filter {
                filter.admit(&identity)?;
                filter.attach(&identity)?;
            }
            let [flags, learning] = port_manners(index);
            Netlink::open()?.batch(&[link::plug(index, bridge), flags, learning, link::set_up(index, true)])
        })??;
        let script = self.script.clone();
        let client = ns.run(move || -> anyhow::Result<Option<Child>> {
            let mut requests = vec![link::set_up(1, true)];
            if let Addressing::Fixed(address, len, router) = addressing {
                requests.push(link::address(ETH0, address, len));
                requests.push(link::default_route(ETH0, router));
            }
            requests.extend(police.map(police_at).into_iter().flat_map(|shape| tc::shape(ETH0, shape)));
            Netlink::open()?.batch(&requests)?;
            ethtool::tx_checksum_off(["eth0"])?;
            // A VM that is paused does not see its port go down, and forgets nobody. Kernels before
            // 5.16 have no such setting: there it asks anew for whom it talks to.
            let _ = std::fs::write("/proc/sys/net/ipv4/conf/eth0/arp_evict_nocarrier", "0");
            if addressing != Addressing::Dhcp {
                return Ok(None);
            }
            // In the foreground, asking every second, for as long as it takes: the controller gives
            // up, not the client.
            let client = Command::new("udhcpc")
                .args(["-f", "-i", "eth0", "-t", "5", "-T", "1", "-A", "1", "-s"])
                .arg(&script)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("starting udhcpc (package udhcpc)")?;
            Ok(Some(client))
        })??;
        let inode = processes::inode(&ns)?;
        let gate = Gate::default();
        let guest = Arc::new(Mutex::new(guest));
        let is_policed = police.is_some();
        let vm = Vm { server, ns, known: None, port, inode, gate, guest, identity, is_policed, client };
        self.running.insert(id, vm);
        Ok(())
    }

    /// Holds a VM to another network rate, if it is held to one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn police(&self, id: u64, rate: u64) -> anyhow::Result<()> {
        let Some(vm) = self.running.get(&id).filter(|vm| vm.is_policed && rate > 0) else { return Ok(()) };
        let request = tc::reshape(ETH0, police_at(rate));
        Ok(vm.ns.run(|| Netlink::open()?.batch(&[request]))??)
    }

    /// Notes a VM's addresses, and returns those of all others that are noted.
    pub fn know(&mut self, id: u64, address: Ipv4Addr, mac: [u8; 6]) -> Vec<(u64, (Ipv4Addr, [u8; 6]))> {
        if let Some(vm) = self.running.get_mut(&id) {
            vm.known = Some((address, mac));
        }
        self.running.iter().filter(|(n, _)| **n != id).filter_map(|(n, vm)| Some((*n, vm.known?))).collect()
    }

    /// Stops a VM; one that does not run is stopped already.
    pub fn stop(&mut self, servers: &[Host], id: u64) {
        // Its namespace goes with it, and the veth pair with the namespace.
        let Some(vm) = self.running.remove(&id) else { return };
        if let Some(host) = servers.get(vm.server) {
            self.dismiss(host, &vm.identity);
        }
    }

    /// Plugs a VM into the bridge of another uplink of its server.
    ///
    /// # Errors
    /// When there is no such VM or uplink.
    pub fn move_to(&mut self, servers: &[Host], id: u64, port: PortNo) -> anyhow::Result<()> {
        let Some(server) = self.running.get(&id).map(|vm| vm.server) else { bail!("there is no vm{id}") };
        let Some(host) = servers.get(server) else { bail!("vm{id} is on a server that is not here") };
        let bridge = self.bridge(host, server, port)?;
        host.ns.run(|| {
            let index = vm_index(id);
            let [flags, learning] = port_manners(index);
            Netlink::open()?.batch(&[link::unplug(index), link::plug(index, bridge), flags, learning])
        })??;
        if let Some(vm) = self.running.get_mut(&id) {
            vm.port = port;
        }
        Ok(())
    }

    /// Notes that a VM is on another server now.
    pub fn placed(&mut self, id: u64, server: usize, port: PortNo, identity: port_filter::Port) {
        if let Some(vm) = self.running.get_mut(&id) {
            vm.server = server;
            vm.port = port;
            vm.identity = identity;
        }
    }

    /// Makes the bridge on which a server lives, before there is any VM.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn settle(&mut self, host: &Host, server: usize) -> anyhow::Result<()> {
        match host.uplinks.first() {
            Some((port, _)) => self.bridge(host, server, *port).map(drop),
            None => Ok(()),
        }
    }

    /// The bridge behind a server's port, made if it is not there. The server's own address is on
    /// its first port's bridge.
    ///
    /// # Errors
    /// When the server has no such port, or the kernel refuses.
    pub fn bridge(&mut self, host: &Host, server: usize, port: PortNo) -> anyhow::Result<u32> {
        let number = bridge_number(port);
        if self.bridges.contains(&(server, port)) {
            return Ok(number);
        }
        let uplink = host.uplinks.iter().find(|(p, _)| *p == port);
        let Some((_, own)) = uplink.filter(|_| (1..=VM_BASE - BRIDGE).contains(&port.0)) else {
            bail!("server {} has no uplink at port {port}", host.name);
        };
        let first = host.uplinks.first().is_some_and(|(p, _)| *p == port);
        if let Some(filter) = self.filter {
            // Before there is a bridge: what is not announced never passes one.
            let is_new = !self.bridges.iter().any(|(n, _)| *n == server);
            host.ns
                .run(|| if is_new { filter.begin() } else { Ok(()) }.and_then(|()| filter.uplink(*own)))?
                .with_context(|| format!("filtering at {}", host.name))?;
        }
        join(host, &format!("br{}", port.0 - 1), number, &[*own], first)?;
        // What a VM says to another one of its server comes back at the uplink that it left by: a
        // bridge that learns would take the VM to be there. One that does not gives everything from
        // the uplink to all VMs, which take what is theirs. It may have learnt something since it
        // was plugged in.
        let forget = [link::port_learning(*own, false), link::forget_port(*own)];
        host.ns.run(|| Netlink::open()?.batch(&forget))??;
        self.bridges.insert((server, port));
        Ok(number)
    }
}

/// What a VM that is policed has at its own port: packets wait, as many as at a link, and those
/// beyond are lost.
fn police_at(rate: u64) -> tc::Shape {
    tc::Shape { rate, queue: 50, delay: std::time::Duration::ZERO, loss_ppm: 0 }
}

/// Makes a bridge of some of a host's uplinks, which do not pass packets from one to the other;
/// with `home`, the host lives there.
///
/// # Errors
/// When the kernel refuses.
pub fn join(host: &Host, name: &str, number: u32, uplinks: &[u32], home: bool) -> anyhow::Result<()> {
    let mut requests = vec![link::bridge(name, number, home.then_some(host.mac))];
    for uplink in uplinks {
        if home && host.direct {
            requests.push(link::remove_address(*uplink, host.address, host.prefix_len));
        }
        requests.push(link::plug(*uplink, number));
        if uplinks.len() > 1 {
            requests.push(link::port_flags(*uplink, true, false));
        }
    }
    if home {
        requests.push(link::address(number, host.address, host.prefix_len));
    }
    host.ns.run(|| -> anyhow::Result<()> {
        Netlink::open()?.batch(&requests)?;
        ethtool::tx_checksum_off([name])?;
        Ok(())
    })??;
    Ok(())
}

/// The interface number of the bridge behind a server's port.
pub(super) fn bridge_number(port: PortNo) -> u32 {
    BRIDGE + port.0.saturating_sub(1)
}

/// How a VM's port behaves: see the module.
pub(super) fn port_manners(index: u32) -> [Request; 2] {
    [link::port_flags(index, true, true), link::port_learning(index, false)]
}

/// The number of a VM's port at its server. Interface numbers are 31 bits; ids that far apart do
/// not run at once.
pub(super) fn vm_index(id: u64) -> u32 {
    VM_BASE + (id % 1_000_000_000) as u32
}
