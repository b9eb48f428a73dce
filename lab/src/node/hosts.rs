//! Servers and gateways as namespaces, with the VMs and flows on them: what an emulated lab holds
//! whole, and each machine of a testbed a part of.

use super::announce::{self, Announcement};
use super::ping;
use crate::control::messages::{Counter, FlowReport, Pings};
use crate::control::service::lock;
use crate::node::guest::{Change, Guest};
use crate::node::loads::{Collector, ServerLoad};
use crate::node::ping::Target;
use crate::node::traffic::{FlowSpec, Traffic, clock};
use crate::node::vm_relocation::Gate;
use crate::node::vms::{ETH0, NewVm, Vms};
use anyhow::Context;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use tandem_agent_protocol::hypervisor as wire;
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_model::PortNo;

/// A server or a gateway.
#[derive(Debug)]
pub struct Host {
    /// As the site calls it.
    pub name: String,
    /// Its namespace.
    pub ns: NetNs,
    /// Its own Ethernet address.
    pub mac: [u8; 6],
    /// Its own address.
    pub address: Ipv4Addr,
    /// Bits of the whole network's prefix.
    pub prefix_len: u8,
    /// Its uplinks: port, and interface number in the namespace.
    pub uplinks: Vec<(PortNo, u32)>,
    /// Its address is on its first uplink itself, until there is a bridge.
    pub direct: bool,
}

/// The servers and gateways of a lab, or those of a site that are on this machine.
pub struct Hosts {
    /// Servers.
    pub servers: Vec<Host>,
    /// Gateways.
    pub gateways: Vec<Host>,
    vms: Mutex<Vms>,
    traffic: Mutex<Traffic>,
    loads: Mutex<Collector>,
}

impl Hosts {
    /// Without VMs; `folder` is for the DHCP client's script.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn new(servers: Vec<Host>, gateways: Vec<Host>, folder: &Path) -> anyhow::Result<Hosts> {
        let vms = Mutex::new(Vms::new(folder)?);
        let traffic = Mutex::new(Traffic::new(folder));
        Ok(Hosts { servers, gateways, vms, traffic, loads: Mutex::default() })
    }

    /// The VMs; held for a moment only: a VM that is paused may be waiting.
    pub(crate) fn vms(&self) -> MutexGuard<'_, Vms> {
        lock(&self.vms)
    }

    /// What keeps VMs from using others' addresses, as text; or why nothing does.
    ///
    /// # Errors
    /// With the reason.
    pub fn port_filter(&self) -> Result<String, String> {
        lock(&self.vms).filter().map(|kind| kind.to_string())
    }

    /// On which of the servers a VM runs.
    pub fn server_of(&self, vm: u64) -> Option<usize> {
        lock(&self.vms).get(vm).map(|vm| vm.server)
    }

    /// What servers and VMs have used.
    ///
    /// # Errors
    /// When the kernel does not list their interfaces.
    pub fn loads(&self) -> anyhow::Result<Vec<ServerLoad>> {
        lock(&self.loads).look(self)
    }

    fn with_guest(&self, vm: u64, work: impl FnOnce(&mut Guest)) -> anyhow::Result<()> {
        let guest = lock(&self.vms).get(vm).map(|vm| vm.guest.clone());
        let guest = guest.with_context(|| format!("there is no vm{vm}"))?;
        work(&mut lock(&guest));
        Ok(())
    }

    /// A VM does something else from now on.
    ///
    /// # Errors
    /// When there is no such VM.
    pub fn change_vm(&self, vm: u64, change: &Change) -> anyhow::Result<()> {
        self.with_guest(vm, |guest| guest.change(change, clock()))
    }

    /// A VM has other resources from now on.
    ///
    /// # Errors
    /// When there is no such VM.
    pub fn resize_vm(&self, vm: u64, resources: wire::Resources) -> anyhow::Result<()> {
        self.with_guest(vm, |guest| guest.resize(resources, clock()))?;
        lock(&self.vms).police(vm, resources.net_bit_per_s)
    }

    /// Makes the bridges on which the servers live, before there is any VM.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn settle(&self) -> anyhow::Result<()> {
        let mut vms = lock(&self.vms);
        self.servers.iter().enumerate().try_for_each(|(n, host)| vms.settle(host, n))
    }

    /// Running VMs: id, and which of the servers.
    pub fn running(&self) -> Vec<(u64, usize)> {
        lock(&self.vms).iter().map(|(id, vm)| (id, vm.server)).collect()
    }

    /// Starts a VM; one that runs already is left as it is.
    ///
    /// # Errors
    /// With the step that failed; nothing of it is then left.
    pub fn start_vm(&self, new: NewVm) -> anyhow::Result<()> {
        let host =
            self.servers.get(new.server).with_context(|| format!("there is no server {}", new.server))?;
        lock(&self.vms).start(host, new)
    }

    /// Notes a VM's addresses, and returns those of all others that are noted.
    pub fn know_vm(&self, id: u64, mac: [u8; 6], address: Ipv4Addr) -> Vec<(u64, (Ipv4Addr, [u8; 6]))> {
        lock(&self.vms).know(id, address, mac)
    }

    /// Stops a VM; one that does not run is stopped already.
    pub fn stop_vm(&self, id: u64) {
        lock(&self.vms).stop(&self.servers, id);
    }

    /// Plugs a VM into another uplink of its server.
    ///
    /// # Errors
    /// When there is no such VM or uplink.
    pub fn move_vm(&self, id: u64, port: PortNo) -> anyhow::Result<()> {
        lock(&self.vms).move_to(&self.servers, id, port)
    }

    /// A hold on the namespace of `srv1`, `gw1` or `vm1`; `None` when there is no such node.
    pub fn place(&self, name: &str) -> Option<NetNs> {
        let host = self.servers.iter().chain(&self.gateways).find(|h| h.name == name);
        let vms = lock(&self.vms);
        let vm = name.strip_prefix("vm").and_then(|n| n.parse().ok()).and_then(|id| vms.get(id));
        host.map(|h| &h.ns).or(vm.map(|v| &v.ns))?.duplicate().ok()
    }

    /// The number of the descriptor that holds a node's namespace for as long as the node is there.
    pub fn descriptor(&self, name: &str) -> Option<i32> {
        let host = self.servers.iter().chain(&self.gateways).find(|h| h.name == name);
        let vms = lock(&self.vms);
        let vm = name.strip_prefix("vm").and_then(|n| n.parse().ok()).and_then(|id| vms.get(id));
        host.map(|h| h.ns.raw()).or(vm.map(|v| v.ns.raw()))
    }

    /// Lets every server, gateway and VM that is here announce itself once.
    ///
    /// # Errors
    /// When a namespace cannot be entered.
    pub fn announce(&self) -> anyhow::Result<()> {
        let mut all = Vec::new();
        for host in self.servers.iter().chain(&self.gateways) {
            let Some((_, uplink)) = host.uplinks.first() else { continue };
            let who = Announcement { interface: *uplink, mac: host.mac, address: host.address };
            all.push((host.ns.duplicate()?, who));
        }
        for (_, vm) in lock(&self.vms).iter() {
            let who = Announcement { interface: ETH0, mac: vm.identity.mac, address: vm.identity.address };
            // A VM that is paused says nothing.
            if vm.gate.try_read().is_ok() {
                all.push((vm.ns.duplicate()?, who));
            }
        }
        announce::send(&all)
    }

    /// Starts those ends of a flow that are here. Must be called as [`Traffic::start`].
    ///
    /// # Errors
    /// When an end is not here, or no socket can be had.
    pub fn start_flow(&self, spec: FlowSpec, from: Option<&str>, to: Option<&str>) -> anyhow::Result<()> {
        let place = |name: &str| self.place(name).with_context(|| format!("there is no node {name:?}"));
        let gate = from.map(|name| self.gate(name)).unwrap_or_default();
        let from = from.map(place).transpose()?;
        let to = to.map(place).transpose()?;
        lock(&self.traffic).start(spec, from.as_ref().map(|ns| (ns, gate)), to.as_ref())
    }

    /// Closed while a node is paused; that of a server or gateway never is.
    pub fn gate(&self, name: &str) -> Gate {
        let id = name.strip_prefix("vm").and_then(|n| n.parse().ok());
        id.and_then(|id| lock(&self.vms).get(id).map(|vm| vm.gate.clone())).unwrap_or_default()
    }

    /// Ends a flow; its figures stay. Must be called as [`Traffic::start`].
    pub fn stop_flow(&self, id: u64) {
        lock(&self.traffic).stop(id);
    }

    /// Everything that was measured.
    pub fn flows(&self) -> Vec<FlowReport> {
        lock(&self.traffic).report()
    }

    /// Lets the first `senders` servers (all by default) ping each other and everything in
    /// `others`.
    ///
    /// # Errors
    /// When a socket cannot be had.
    pub fn ping(&self, senders: Option<usize>, others: &[(String, Ipv4Addr)]) -> anyhow::Result<Pings> {
        let here = |hosts| {
            let hosts: &Vec<Host> = hosts;
            hosts.iter().map(|h| Target { name: &h.name, address: h.address, ns: Some(&h.ns) })
        };
        let mut targets: Vec<Target<'_>> = here(&self.servers).chain(here(&self.gateways)).collect();
        for (name, address) in others {
            if !targets.iter().any(|t| t.address == *address) {
                targets.push(Target { name, address: *address, ns: None });
            }
        }
        let count = senders.map_or(self.servers.len(), |n| n.min(self.servers.len()));
        ping::all(&self.servers[..count], &targets)
    }

    /// The counters of every interface of every server, gateway and VM.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub fn counters(&self) -> anyhow::Result<Vec<Counter>> {
        let mut list = Vec::new();
        for host in self.servers.iter().chain(&self.gateways) {
            read(&host.name, &host.ns, &mut list)?;
        }
        for (id, vm) in lock(&self.vms).iter() {
            read(&format!("vm{id}"), &vm.ns, &mut list)?;
        }
        Ok(list)
    }
}

fn read(node: &str, ns: &NetNs, list: &mut Vec<Counter>) -> anyhow::Result<()> {
    let interfaces = ns.run(|| Netlink::open().and_then(|mut n| link::list(&mut n)))??;
    for interface in interfaces.into_iter().filter(|i| i.name != "lo") {
        let Some(s) = interface.stats else { continue };
        list.push(Counter {
            node: node.to_owned(),
            interface: interface.name,
            rx_bytes: s.rx_bytes,
            rx_packets: s.rx_packets,
            rx_dropped: s.rx_dropped,
            rx_errors: s.rx_errors,
            tx_bytes: s.tx_bytes,
            tx_packets: s.tx_packets,
            tx_dropped: s.tx_dropped,
            tx_errors: s.tx_errors,
        });
    }
    Ok(())
}
