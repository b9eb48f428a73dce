//! Emulated VMs: a namespace each, with its own Ethernet address, on its server's bridge, getting its address by DHCP.
//!
//! A server's bridge is made for its first VM. VMs' ports are isolated from each other: what VMs of one server have to say to each
//! other goes through the edge switch, which knows who may.

use super::network::{BRIDGE, Network, PORT_BASE};
use anyhow::{Context, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::{ethtool, link};
use tandem_model::{NodeId, PortNo, ServerId, Site};

/// Interface numbers of VMs' ports at their servers start here.
const VM_BASE: u32 = 100_000;
/// A VM's own interface's number. Linux 6.1 (and others before 6.15) refuses one that the namespace of whoever asks has too, whichever namespace it is for:
/// therefore none that Open vSwitch's bridges, cards, or links get.
const ETH0: u32 = 80_000;

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
    /// On which server.
    pub server: ServerId,
    /// Its namespace.
    pub ns: NetNs,
    port: PortNo,
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
    bridges: BTreeSet<(ServerId, PortNo)>,
}

/// A VM to be started.
#[derive(Debug, Clone, Copy)]
pub struct NewVm {
    /// Its id.
    pub id: u64,
    /// On which server.
    pub server: ServerId,
    /// By which of the server's ports.
    pub port: PortNo,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// How it gets its address.
    pub addressing: Addressing,
}

/// How a VM gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        Ok(Vms { script, running: BTreeMap::new(), bridges: BTreeSet::new() })
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
    pub fn start(&mut self, site: &Site, network: &Network, new: NewVm) -> anyhow::Result<()> {
        let NewVm { id, server, port, mac, addressing } = new;
        if self.running.contains_key(&id) {
            return Ok(());
        }
        let Some(host) = network.servers.get(server.0 as usize) else { bail!("there is no server {server}") };
        let bridge = self.bridge(site, host, server, port)?;
        let ns = NetNs::many(1, link::disable_ipv6)?.pop().context("no namespace was made")?;
        let index = vm_index(id);
        let outer_name = format!("vm{id}");
        let veth = link::Veth::new(("eth0", ETH0, &ns), (&outer_name, index, host)).mac_a(mac);
        Netlink::open()?.batch(&[veth.request()])?;
        host.run(|| {
            Netlink::open()?.batch(&[
                link::plug(index, bridge),
                link::port_flags(index, true, true),
                link::set_up(index, true),
            ])
        })??;
        let script = self.script.clone();
        let client = ns.run(move || -> anyhow::Result<Option<Child>> {
            let mut requests = vec![link::set_up(1, true)];
            if let Addressing::Fixed(address, len, router) = addressing {
                requests.push(link::address(ETH0, address, len));
                requests.push(link::default_route(ETH0, router));
            }
            Netlink::open()?.batch(&requests)?;
            ethtool::tx_checksum_off(["eth0"])?;
            if addressing != Addressing::Dhcp {
                return Ok(None);
            }
            // In the foreground, asking every second, for as long as it takes: the controller gives up, not the client.
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
        self.running.insert(id, Vm { server, ns, port, client });
        Ok(())
    }

    /// Stops a VM; one that does not run is stopped already.
    pub fn stop(&mut self, id: u64) {
        // Its namespace goes with it, and the veth pair with the namespace.
        self.running.remove(&id);
    }

    /// Plugs a VM into the bridge of another uplink of its server.
    ///
    /// # Errors
    /// When there is no such VM or uplink.
    pub fn move_to(&mut self, site: &Site, network: &Network, id: u64, port: PortNo) -> anyhow::Result<()> {
        let Some(server) = self.running.get(&id).map(|vm| vm.server) else { bail!("there is no vm{id}") };
        let Some(host) = network.servers.get(server.0 as usize) else { bail!("there is no server {server}") };
        let bridge = self.bridge(site, host, server, port)?;
        host.run(|| {
            let index = vm_index(id);
            Netlink::open()?.batch(&[
                link::unplug(index),
                link::plug(index, bridge),
                link::port_flags(index, true, true),
            ])
        })??;
        if let Some(vm) = self.running.get_mut(&id) {
            vm.port = port;
        }
        Ok(())
    }

    /// The bridge behind a server's port, made if it is not there. The server's own address moves from its first port to that
    /// port's bridge.
    fn bridge(&mut self, site: &Site, host: &NetNs, server: ServerId, port: PortNo) -> anyhow::Result<u32> {
        let number = BRIDGE + port.0 - 1;
        if self.bridges.contains(&(server, port)) {
            return Ok(number);
        }
        let Some(cfg) = site.topology.server(server) else { bail!("there is no server {server}") };
        if site.topology.link_at(NodeId::Server(server), port).is_none() || port.0 == 0 || number >= PORT_BASE
        {
            bail!("server {} has no uplink at port {port}", cfg.name);
        }
        let (own, len) = (PORT_BASE + port.0, site.addresses.network.len());
        let name = format!("br{}", port.0 - 1);
        let first = port == PortNo(1);
        let mut requests = vec![link::bridge(&name, number, first.then_some(cfg.mac.0))];
        if first {
            requests.push(link::remove_address(own, cfg.address, len));
        }
        requests.push(link::plug(own, number));
        if first {
            requests.push(link::address(number, cfg.address, len));
        }
        host.run(|| -> anyhow::Result<()> {
            Netlink::open()?.batch(&requests)?;
            ethtool::tx_checksum_off([name.as_str()])?;
            Ok(())
        })??;
        self.bridges.insert((server, port));
        Ok(number)
    }
}

/// The number of a VM's port at its server. Interface numbers are 31 bits; ids that far apart do not run at once.
fn vm_index(id: u64) -> u32 {
    VM_BASE + (id % 1_000_000_000) as u32
}
