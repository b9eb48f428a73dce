//! The lab of a testbed: serves what every lab serves, and forwards it to the machines' nodes.

mod flows;

use crate::control::messages::{Clock, LabRequest, LabResponse, Machine, Pings, Status};
use crate::control::peer_lines::PeerLines;
use crate::control::service::{LabBackend, Reports, lock};
use crate::node::guest::Ordered;
use crate::node::loads::{self, ServerLoad};
use crate::node::traffic::{FlowSpec, clock, tool_of};
use crate::precopy::Failed;
use crate::precopy::transfer::Control;
use crate::world::emulated::lab_process::{address, addressing, flow};
use crate::world::testbed::node_client::NodeClient;
use crate::world::testbed::node_protocol::{HostSetup, NodeRequest, NodeSetup, PortSetup};
use anyhow::{Context, bail};
use flows::Flows;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tandem_agent_protocol::hypervisor::{self as wire, report::Report as What};
use tandem_model::{NodeId, PortNo, Site};
use tandem_testbed::inventory::{self, Inventory};
use tandem_testbed::lease::Lease;
use tandem_testbed::ssh::{Ssh, quote};

/// Prints the kernel's release, then the first line of Open vSwitch's version where it is.
const FACTS: &str = "uname -r; PATH=$PATH:/usr/sbin:/sbin ovs-vswitchd --version 2>/dev/null | head -n 1";

/// Measurements of clocks that are kept, of all machines together: experiments take a few each
/// minute.
const CLOCKS: usize = 10_000;

/// A running VM: on which server, on which of the nodes.
#[derive(Debug, Clone, Copy)]
struct Placed {
    server: u32,
    node: usize,
}

/// A testbed that is up.
pub struct Testbed {
    name: String,
    site: Site,
    inventory: Inventory,
    machines: Vec<Machine>,
    nodes: Vec<NodeClient>,
    vms: Mutex<BTreeMap<u64, Placed>>,
    flows: Mutex<Flows>,
    clocks: Mutex<Vec<Clock>>,
    steps: Vec<(String, f64)>,
    /// Connections to machines that are only switches, and the testbed's lock; both end with the
    /// lab.
    held: Mutex<Option<(Vec<Arc<Ssh>>, Lease)>>,
    /// What orders and lost nodes cause to be said.
    lines: PeerLines,
    reports: Reports,
}

/// The servers and gateways of a machine, by the site.
fn take(site: &Site, machine: &inventory::Machine) -> anyhow::Result<NodeSetup> {
    let topology = &site.topology;
    let mut hosts = Vec::new();
    for node in machine.servers.iter().chain(&machine.gateways) {
        let id = topology.by_name(&node.name);
        let (gateway, mac, address) = match id {
            Some(NodeId::Server(n)) => topology.server(n).map(|s| (false, s.mac, s.address)),
            Some(NodeId::Gateway(n)) => topology.gateway(n).map(|g| (true, g.mac, g.address)),
            _ => None,
        }
        .with_context(|| format!("the site has no {:?}", node.name))?;
        let mut ports = Vec::new();
        for port in &node.ports {
            let link = id.and_then(|id| topology.link_at(id, PortNo(port.number)));
            let link = link
                .and_then(|l| topology.link(l))
                .with_context(|| format!("{} has no port {} in the site", node.name, port.number))?;
            ports.push(PortSetup {
                number: port.number,
                interface: port.interface.clone(),
                rate: link.cfg.rate.0,
                queue: link.cfg.queue,
            });
        }
        ports.sort_by_key(|p| p.number);
        let prefix_len = site.addresses.network.len();
        hosts.push(HostSetup { name: node.name.clone(), gateway, mac: mac.0, address, prefix_len, ports });
    }
    Ok(NodeSetup { control: machine.control.clone(), hosts, announce: site.discovery.announce })
}

fn facts(ssh: &Ssh) -> anyhow::Result<Machine> {
    let machine = ssh.machine();
    let said = ssh.run("asking for its versions", FACTS)?;
    let mut lines = said.lines();
    Ok(Machine {
        name: machine.name.clone(),
        address: machine.address.clone(),
        nodes: machine.nodes().map(|n| n.name.clone()).collect(),
        kernel: lines.next().unwrap_or_default().to_owned(),
        ovs: lines.next().map(str::to_owned),
    })
}

/// Does `work` for each, side by side; the results in order.
fn side_by_side<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        threads.into_iter().filter_map(|t| t.join().ok()).collect()
    })
}

impl Testbed {
    /// Takes over the machines: connections, the lock, then a node on each that has servers or
    /// gateways.
    ///
    /// # Errors
    /// With the machine and what it says; all are then as they were, and the lock is given back.
    pub fn up(
        name: &str,
        site: Site,
        inventory: Inventory,
        program: &Path,
        purpose: &str,
    ) -> anyhow::Result<Testbed> {
        let missing = inventory.missing(&site);
        if !missing.is_empty() {
            bail!("the inventory has no machine for {}", missing.join(", "));
        }
        if !site.modules.arp {
            bail!(
                "the site says arp = false, but a testbed's hosts find each other by ARP; write arp = true under [modules]"
            );
        }
        let mut last = clock();
        let mut steps = Vec::new();
        let mut step = |what: &str| {
            let now = clock();
            steps.push((what.to_owned(), (now - last) as f64 / 1e6));
            last = now;
        };
        let connected = tandem_testbed::ssh::connect_all(&inventory.machines);
        let connected: Vec<Arc<Ssh>> =
            connected.into_iter().map(|c| c.map(Arc::new)).collect::<Result<_, _>>()?;
        step("connections");
        let held = Lease::take(&connected, purpose, tandem_testbed::lease::Kind::Process)?;
        let machines: Vec<Machine> =
            side_by_side(&connected, |ssh| facts(ssh)).into_iter().collect::<anyhow::Result<_>>()?;
        step("lock and versions");
        let opened = side_by_side(&connected, |ssh| -> anyhow::Result<Option<NodeClient>> {
            let take = take(&site, ssh.machine())?;
            if take.hosts.is_empty() {
                return Ok(None);
            }
            NodeClient::open(ssh, program, &take).map(Some)
        });
        // Of several that fail, each is told; those that came up end with their channel.
        let mut nodes = Vec::new();
        let mut faults = Vec::new();
        for one in opened {
            match one {
                Ok(node) => nodes.extend(node),
                Err(error) => faults.push(format!("{error:#}")),
            }
        }
        if !faults.is_empty() {
            for node in &nodes {
                faults.extend(node.end().err().map(|e| format!("{e:#}")));
            }
            bail!("{}", faults.join("\n"));
        }
        step("programs and interfaces");
        let testbed = Testbed {
            name: name.to_owned(),
            site,
            inventory,
            machines,
            nodes,
            vms: Mutex::default(),
            flows: Mutex::default(),
            clocks: Mutex::default(),
            steps: Vec::new(),
            held: Mutex::new(Some((connected, held))),
            lines: PeerLines::default(),
            reports: Reports::default(),
        };
        testbed.read_clocks()?;
        step("clocks");
        Ok(Testbed { steps, ..testbed })
    }

    /// The way to the controller.
    pub fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// What filters at VMs' ports, each with the machines that have it.
    fn port_filters(&self) -> Vec<String> {
        let mut machines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for node in &self.nodes {
            machines.entry(node.port_filter()).or_default().push(node.machine());
        }
        machines.into_iter().map(|(filter, on)| format!("{filter} (on {})", on.join(", "))).collect()
    }

    /// What it says of itself.
    pub fn status(&self) -> Status {
        let t = &self.site.topology;
        Status {
            name: self.name.clone(),
            site: self.site.name.clone(),
            counts: [
                t.switches.len(),
                t.servers.len(),
                t.gateways.len(),
                t.links.len(),
                lock(&self.vms).len(),
            ],
            engine: None,
            datapath: format!("{} machines of {}", self.machines.len(), self.inventory.name),
            steps: self.steps.clone(),
            controller: format!(
                "tcp:{}:{}",
                self.inventory.controller.address, self.inventory.controller.openflow
            ),
            machines: self.machines.clone(),
            port_filter: self.port_filters().join("; "),
            trouble: self.nodes.iter().filter_map(NodeClient::lost).collect(),
        }
    }

    /// How many machines have a node.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Says to a node that we are there; false once it is lost, which is then said to the
    /// controller. Each node has a thread for this: one that does not answer must not make the
    /// others believe that we are gone.
    pub fn keep_alive(&self, n: usize) -> bool {
        let Some(node) = self.nodes.get(n) else { return false };
        if node.ask(&NodeRequest::Now).is_ok() {
            return true;
        }
        let why = node.lost().unwrap_or_default();
        self.lines.warn(|| why.clone());
        let gone: Vec<u64> = {
            let mut vms = lock(&self.vms);
            let gone = vms.iter().filter(|(_, p)| p.node == n).map(|(vm, _)| *vm).collect();
            vms.retain(|_, p| p.node != n);
            gone
        };
        for vm in gone {
            self.reports.send(What::Failed(wire::Failed { vm, why: why.clone(), died: true }));
        }
        false
    }

    /// Fails when a node is lost: what is measured then is worth nothing.
    fn all_there(&self) -> anyhow::Result<()> {
        let lost: Vec<String> = self.nodes.iter().filter_map(NodeClient::lost).collect();
        if !lost.is_empty() {
            bail!("{}", lost.join("; "));
        }
        Ok(())
    }

    fn read_clocks(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            let clock = node.clock()?;
            let mut clocks = lock(&self.clocks);
            clocks.push(clock);
            let excess = clocks.len().saturating_sub(CLOCKS);
            clocks.drain(..excess);
        }
        Ok(())
    }

    /// Which of the nodes a server, gateway or VM is on.
    fn node_of(&self, name: &str) -> anyhow::Result<usize> {
        let vm = name.strip_prefix("vm").and_then(|n| n.parse().ok());
        if let Some(placed) = vm.and_then(|id| lock(&self.vms).get(&id).copied()) {
            return Ok(placed.node);
        }
        let machine = self.inventory.node(name).map(|(m, _)| m.name.as_str());
        let node = self.nodes.iter().position(|n| Some(n.machine()) == machine);
        node.with_context(|| format!("there is no node {name:?}; nodes are srv1, gw1, edge1 or vm1"))
    }

    fn ask(&self, node: usize, order: &NodeRequest) -> anyhow::Result<LabResponse> {
        self.nodes.get(node).context("a machine that is not there")?.ask(order)
    }

    /// A node that is lost has servers that use nothing; the others' are still told.
    fn server_loads(&self) -> anyhow::Result<Vec<ServerLoad>> {
        let mut all = Vec::new();
        for answer in side_by_side(&self.nodes, |node| node.ask(&NodeRequest::Ask { ask: LabRequest::Loads }))
        {
            match answer {
                Ok(LabResponse::Loads { servers }) => all.extend(servers),
                Ok(_) => bail!("a node answered something else"),
                Err(error) => tracing::debug!("loads: {error:#}"),
            }
        }
        Ok(all)
    }

    fn ping(&self, senders: Option<usize>) -> anyhow::Result<Pings> {
        self.all_there()?;
        let t = &self.site.topology;
        let servers = t.servers.iter().map(|s| (s.name.clone(), s.address));
        let others: Vec<(String, Ipv4Addr)> =
            servers.chain(t.gateways.iter().map(|g| (g.name.clone(), g.address))).collect();
        let mut left = senders.unwrap_or(usize::MAX);
        let mut all = Pings::default();
        for node in &self.nodes {
            let here = self.inventory.machine(node.machine()).map_or(0, |m| m.servers.len()).min(left);
            left -= here;
            let order = NodeRequest::Ping { senders: Some(here), others: others.clone() };
            let LabResponse::Pings(pings) = node.ask(&order)? else {
                bail!("a node answered something else")
            };
            all.tried += pings.tried;
            all.answered += pings.answered;
            all.failed.extend(pings.failed);
        }
        Ok(all)
    }

    /// Where a command for a node is to be run. Switches are the machine itself.
    fn find(&self, name: &str) -> anyhow::Result<LabResponse> {
        if matches!(self.site.topology.by_name(name), Some(NodeId::Switch(_))) {
            let machine = self.inventory.node(name).map(|(m, _)| m.name.as_str());
            let held = lock(&self.held);
            let ssh =
                held.iter().flat_map(|(all, _)| all).find(|s| Some(s.machine().name.as_str()) == machine);
            let ssh = ssh.with_context(|| format!("the inventory has no machine for {name}"))?;
            return Ok(LabResponse::Remote { ssh: ssh.words(), prefix: "exec".into() });
        }
        let node = self.nodes.get(self.node_of(name)?).context("a machine that is not there")?;
        let order = NodeRequest::Ask { ask: LabRequest::Find { node: name.to_owned() } };
        let LabResponse::Found { netns } = node.ask(&order)? else {
            bail!("the node answered something else")
        };
        let (guard, process) = node.processes();
        let prefix = format!("exec /proc/{guard}/exe enter {process} {netns} {} --", quote(name));
        let ssh = node.ssh().context("the connection has ended")?;
        Ok(LabResponse::Remote { ssh: ssh.words(), prefix })
    }
}

impl LabBackend for Testbed {
    fn hello(&self) -> wire::Hello {
        let vms = lock(&self.vms);
        let vms = vms.iter().map(|(vm, p)| wire::Running { vm: *vm, server: p.server, kept: None }).collect();
        wire::Hello { world: self.name.clone(), vms, traffic: true, site: self.site.name.clone() }
    }

    fn allocate(&self, a: &wire::Allocate) -> anyhow::Result<Option<u32>> {
        let server = self.site.topology.servers.get(a.server as usize);
        let server = server.with_context(|| format!("there is no server {}", a.server))?.name.clone();
        let mac: [u8; 6] = a.mac.as_slice().try_into().context("an Ethernet address has six bytes")?;
        let node = self.node_of(&server)?;
        let ordered = Ordered::of(a.resources, &a.image).policed(a.resources, self.site.vm.police);
        let vm = a.vm;
        let port = a.uplink_port;
        let address = address(a)?;
        let addressing = addressing(a)?;
        let order = NodeRequest::StartVm { vm, server, port, mac, address, addressing, ordered };
        self.ask(node, &order)?;
        lock(&self.vms).insert(a.vm, Placed { server: a.server, node });
        Ok(a.fixed_address.map(|f| f.address))
    }

    fn stop(&self, vm: u64) {
        let Some(placed) = lock(&self.vms).remove(&vm) else { return };
        if let Err(error) = self.ask(placed.node, &NodeRequest::StopVm { vm }) {
            // A node that is lost has no VMs.
            self.lines.warn(|| format!("{error:#}"));
        }
    }

    fn connect(&self, c: &wire::Connect) -> anyhow::Result<()> {
        let node = self.node_of(&format!("vm{}", c.vm))?;
        self.ask(node, &NodeRequest::MoveVm { vm: c.vm, port: c.uplink_port }).map(drop)
    }

    fn resize(&self, r: &wire::Resize) -> anyhow::Result<()> {
        let node = self.node_of(&format!("vm{}", r.vm))?;
        let to = r.resources.context("a VM has resources")?;
        let cpu = to.cpu_cores;
        let ram = to.ram_bytes;
        let disk = to.disk_bytes;
        self.ask(node, &NodeRequest::ResizeVm { vm: r.vm, cpu, ram, disk, net: to.net_bit_per_s }).map(drop)
    }

    fn server_of(&self, vm: u64) -> Option<u32> {
        lock(&self.vms).get(&vm).map(|p| p.server)
    }

    fn migrate(&self, order: &wire::Migrate, _: &Control, _: &dyn Fn(What)) -> Result<u64, Failed> {
        let why = "this testbed's VMs are namespaces of one machine each and cannot be moved to another; \
                   use servers with Xen, or the emulated world";
        Err(Failed { at: Some(order.from), why: why.into() })
    }

    fn loads(&self) -> anyhow::Result<Vec<wire::Loads>> {
        let all = self.server_loads()?;
        let numbered = all.iter().filter_map(|load| match self.site.topology.by_name(&load.name) {
            Some(NodeId::Server(n)) => Some(loads::report(n.0, load)),
            _ => None,
        });
        Ok(numbered.collect())
    }

    fn start_traffic(&self, t: &wire::TrafficStart) -> anyhow::Result<()> {
        let (spec, from, to) = flow(&self.site, t)?;
        self.start_flow(&spec, &from, &to)
    }

    fn stop_traffic(&self, id: u64) {
        let ends = lock(&self.flows).end(id);
        if let Some(Err(error)) = ends.map(|ends| self.stop_ends(id, ends)) {
            self.lines.warn(|| format!("{error:#}"));
        }
    }

    fn answer(&self, ask: &LabRequest) -> anyhow::Result<LabResponse> {
        Ok(match ask {
            LabRequest::Status => LabResponse::Status(self.status()),
            LabRequest::Find { node } => self.find(node)?,
            LabRequest::PingAll { senders } => LabResponse::Pings(self.ping(*senders)?),
            LabRequest::Flows => LabResponse::Flows { flows: self.flows()? },
            LabRequest::StartFlow { id, from, to, rate, tcp, tool } => {
                let spec = FlowSpec::of(*id, from, to, *rate, tool_of(*tool, *tcp));
                self.start_flow(&spec.told_by(&self.site.traffic), &from.0, &to.0)?;
                LabResponse::Done
            }
            LabRequest::StopFlow { id } => {
                let ends = lock(&self.flows).end(*id);
                ends.map_or(Ok(()), |ends| self.stop_ends(*id, ends))?;
                LabResponse::Done
            }
            LabRequest::Clocks => {
                self.read_clocks()?;
                LabResponse::Clocks { clocks: lock(&self.clocks).clone() }
            }
            LabRequest::Counters => {
                let mut all = Vec::new();
                for node in &self.nodes {
                    let answer = node.ask(&NodeRequest::Ask { ask: LabRequest::Counters })?;
                    let LabResponse::Counters { counters } = answer else {
                        bail!("a node answered something else")
                    };
                    all.extend(counters);
                }
                LabResponse::Counters { counters: all }
            }
            LabRequest::LoadVm { vm, .. } => {
                self.ask(self.node_of(&format!("vm{vm}"))?, &NodeRequest::Ask { ask: ask.clone() })?
            }
            LabRequest::Loads => LabResponse::Loads { servers: self.server_loads()? },
            LabRequest::Pauses => LabResponse::Pauses { pauses: Vec::new() },
            LabRequest::SendFrom { .. }
            | LabRequest::Hubs
            | LabRequest::StartProbe { .. }
            | LabRequest::StopProbe => {
                bail!("that is done in the emulated world only")
            }
            LabRequest::Down | LabRequest::Hold | LabRequest::MoveVm { .. } => LabResponse::Ending,
        })
    }

    fn end(&self) {
        for error in side_by_side(&self.nodes, NodeClient::end).into_iter().filter_map(Result::err) {
            tracing::warn!("{error:#}");
        }
        // Gives the lock back and ends the connections.
        drop(lock(&self.held).take());
    }
}
