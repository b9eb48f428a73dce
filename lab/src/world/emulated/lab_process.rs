//! The lab's own process, inside the sandbox: builds the network, then serves the control socket
//! and the hypervisor service until it is told to end.

use super::lab_control;
use super::network;
use super::static_forwarding;
use crate::control::messages::{LabRequest, LabResponse, Status};
use crate::control::service::{self, LabBackend, Reports};
use crate::node::announce;
use crate::node::guest::Ordered;
use crate::node::hosts::Hosts;
use crate::node::loads;
use crate::node::migrate::Movers;
use crate::node::probe::Probes;
use crate::node::static_arp;
use crate::node::traffic::{FlowSpec, tool_of};
use crate::node::vms::{Addressing, NewVm};
use crate::precopy::Failed;
use crate::precopy::transfer::Control;
use crate::world::emulated::lab_control::Start;
use crate::world::emulated::network::Network;
use crate::world::emulated::relay::{Controller, Relay};
use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tandem_agent_protocol::hypervisor::{self as wire, report::Report as What};
use tandem_agent_protocol::local_peers::LocalPeers;
use tandem_linux::netlink::Netlink;
use tandem_linux::ovs::Ovs;
use tandem_linux::{limits, link, sandbox};
use tandem_model::TrafficTool;
use tandem_model::{NodeId, PortNo, Site};

/// A lab that is up.
struct Lab {
    start: Start,
    site: Site,
    network: Network,
    movers: Movers,
    probes: Probes,
    relay: Option<Relay>,
}

/// `__inside`: says one line on standard output (the lab's status, or why there is none) and then
/// serves.
///
/// # Errors
/// When the lab cannot be built.
pub fn run() -> anyhow::Result<()> {
    let is_up = Arc::new(AtomicBool::new(false));
    end_with_asker(is_up.clone())?;
    let result = prepare();
    is_up.store(true, Ordering::Relaxed);
    let line = match &result {
        Ok((lab, ..)) => LabResponse::Status(lab.status()),
        Err(error) => LabResponse::Error { why: format!("{error:#}") },
    };
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(&line)?)?;
    out.flush()?;
    let (lab, peers, control, world) = result?;
    // Whoever started us reads no more; what is to be said from now on is said in the lab's own
    // log.
    let log = std::fs::File::create(Path::new(sandbox::PRIVATE).join("lab.log"))?;
    nix::unistd::dup2_stdout(&log)?;
    nix::unistd::dup2_stderr(&log)?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let announce = lab.site.discovery.announce;
    let lab = Arc::new(lab);
    if let Some(period) = announce {
        announce::every(period, &lab, |lab| lab.network.hosts.announce())?;
    }
    service::run(lab, Reports::default(), peers, control, world)
}

/// Between two looks whether whoever asked for the lab is still there.
const LOOK: u16 = 200;

/// Ends this process, and the lab with it, when whoever asked for it goes before it is up. What the
/// building would end with in any case: nobody takes in that it is up.
fn end_with_asker(is_up: Arc<AtomicBool>) -> anyhow::Result<()> {
    let watch = move || {
        while !is_up.load(Ordering::Relaxed) {
            let out = std::io::stdout();
            // A pipe without a reader is an error of the pipe (poll(2), POLLERR).
            let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
            let found = poll(&mut fds, PollTimeout::from(LOOK));
            let is_gone = fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLERR));
            if found.is_ok() && is_gone && !is_up.load(Ordering::Relaxed) {
                std::process::exit(1);
            }
        }
    };
    std::thread::Builder::new().name("asker".into()).spawn(watch)?;
    Ok(())
}

fn prepare() -> anyhow::Result<(Lab, LocalPeers, UnixListener, UnixListener)> {
    limits::raise_descriptors()?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let start: Start = serde_json::from_str(&text).context("this is started by `tandem-lab up` only")?;
    // First of all: daemons that are started below must not inherit them.
    let control = lab_control::adopt(start.control_fd)?;
    let world = lab_control::adopt(start.world_fd)?;
    let peers = lab_control::peers(start.group.as_deref())?;
    let site = tandem_core::site::read(&start.site, &start.site_file)?;
    let folder = Path::new(sandbox::PRIVATE);
    let relay = relay(&start)?;
    let network = network::build(&site, folder, &start)?;
    let lab = Lab { start, site, network, movers: Movers::default(), probes: Probes::default(), relay };
    Ok((lab, peers, control, world))
}

/// The way to a controller that the switches do not reach by themselves.
fn relay(start: &Start) -> anyhow::Result<Option<Relay>> {
    let controller = match (&start.outside, start.controller.strip_prefix("unix:")) {
        (Some(outside), _) => {
            let sockets = outside.sockets.iter().map(|fd| lab_control::adopt_socket(*fd));
            Controller::Outside(outside.address, sockets.collect::<anyhow::Result<_>>()?)
        }
        (None, Some(path)) if start.engine.engine().needs_tcp() => Controller::Unix(path.into()),
        (None, _) => return Ok(None),
    };
    Netlink::open()?.batch(&[link::set_up(1, true)]).context("loopback")?;
    Relay::start(&start.controller, controller).map(Some)
}

impl Lab {
    fn status(&self) -> Status {
        let t = &self.site.topology;
        Status {
            name: self.start.name.clone(),
            site: self.site.name.clone(),
            counts: [
                t.switches.len(),
                t.servers.len(),
                t.gateways.len(),
                t.links.len(),
                self.network.hosts.running().len(),
            ],
            datapath: self.start.datapath.places(&self.site),
            engine: Some(self.start.engine),
            steps: self.network.steps.clone(),
            controller: self.start.controller.clone(),
            machines: Vec::new(),
            port_filter: self.network.hosts.port_filter().unwrap_or_else(|_| "none".into()),
            trouble: self.trouble(),
        }
    }

    /// What is not as it should be.
    fn trouble(&self) -> Vec<String> {
        let relay = self.relay.as_ref().and_then(Relay::trouble);
        unfiltered(&self.network.hosts).into_iter().chain(relay).collect()
    }

    fn find(&self, node: &str) -> anyhow::Result<LabResponse> {
        let switch = matches!(self.site.topology.by_name(node), Some(NodeId::Switch(_)));
        let netns = if switch { Some(self.network.root.raw()) } else { self.network.hosts.descriptor(node) };
        match netns {
            Some(netns) => Ok(LabResponse::Found { netns }),
            None => bail!(
                "there is no node {node:?}; nodes are srv1, gw1, edge1 (switches share one namespace) or vm1"
            ),
        }
    }
}

/// How a VM gets its address, as the controller orders it.
///
/// # Errors
/// When it orders what cannot be.
pub fn addressing(a: &wire::Allocate) -> anyhow::Result<Addressing> {
    let Some(f) = &a.fixed_address else { return Ok(Addressing::Dhcp) };
    let len = u8::try_from(f.prefix_len).ok().filter(|l| *l <= 32).context("a prefix has at most 32 bits")?;
    Ok(Addressing::Fixed(Ipv4Addr::from_bits(f.address), len, Ipv4Addr::from_bits(f.router)))
}

/// The address that a VM will have, which is the only one that it may use.
///
/// # Errors
/// When the order does not say.
pub fn address(a: &wire::Allocate) -> anyhow::Result<Ipv4Addr> {
    let said = a.fixed_address.as_ref().map_or(a.address, |f| f.address);
    match Ipv4Addr::from_bits(said) {
        Ipv4Addr::UNSPECIFIED => bail!("the order to start vm{} does not say which address it gets", a.vm),
        address => Ok(address),
    }
}

/// The flow that the controller orders, and its ends' names.
///
/// # Errors
/// When an end is missing, or is a gateway that the site does not have.
pub fn flow(site: &Site, t: &wire::TrafficStart) -> anyhow::Result<(FlowSpec, String, String)> {
    let from = t.from.context("a flow needs a sender")?;
    let to = t.to.context("a flow needs a receiver")?;
    let name = |end: &wire::End| match end.node.context("an end needs a node")? {
        wire::end::Node::Gateway(n) => {
            let gateway = site.topology.gateways.get(n as usize);
            Ok(gateway.with_context(|| format!("there is no gateway {n}"))?.name.clone())
        }
        wire::end::Node::Vm(id) => anyhow::Ok(format!("vm{id}")),
    };
    let sender = name(&from)?;
    let receiver = name(&to)?;
    let tool = match t.tool.as_str() {
        "" => None,
        name => Some(name.parse::<TrafficTool>()?),
    };
    let ends = [from.address, to.address].map(Ipv4Addr::from_bits);
    let ends = ((sender.clone(), ends[0]), (receiver.clone(), ends[1]));
    let spec = FlowSpec::of(t.id, &ends.0, &ends.1, t.rate_bit_per_s, tool_of(tool, t.tcp));
    let packet = u16::try_from(t.packet).unwrap_or(1400);
    Ok((FlowSpec { packet, ..spec.told_by(&site.traffic) }, sender, receiver))
}

/// What is said where VMs can use each other's addresses.
pub fn unfiltered(hosts: &Hosts) -> Option<String> {
    hosts.port_filter().err().map(|why| format!("VMs can use each other's addresses: {why}"))
}

impl LabBackend for Lab {
    fn hello(&self) -> wire::Hello {
        let vms = self.network.hosts.running().into_iter();
        let vms = vms.map(|(vm, server)| wire::Running { vm, server: server as u32, kept: None }).collect();
        wire::Hello { world: self.start.name.clone(), vms, traffic: true, site: self.site.name.clone() }
    }

    fn allocate(&self, a: &wire::Allocate) -> anyhow::Result<Option<u32>> {
        let mac: [u8; 6] = a.mac.as_slice().try_into().context("an Ethernet address has six bytes")?;
        let server = a.server as usize;
        let port = PortNo(a.uplink_port);
        let ordered = Ordered::of(a.resources, &a.image).policed(a.resources, self.site.vm.police);
        let addressing = addressing(a)?;
        let address = address(a)?;
        let new = NewVm { id: a.vm, server, port, mac, address, addressing, ordered };
        self.network.hosts.start_vm(new)?;
        if !self.site.modules.arp
            && let Err(error) = static_arp::vm(&self.network.hosts, a.vm, mac, Ipv4Addr::from_bits(a.address))
        {
            self.network.hosts.stop_vm(a.vm);
            return Err(error);
        }
        Ok(a.fixed_address.map(|f| f.address))
    }

    fn stop(&self, vm: u64) {
        self.network.hosts.stop_vm(vm);
    }

    fn connect(&self, c: &wire::Connect) -> anyhow::Result<()> {
        self.network.hosts.move_vm(c.vm, PortNo(c.uplink_port))
    }

    fn resize(&self, r: &wire::Resize) -> anyhow::Result<()> {
        self.network.hosts.resize_vm(r.vm, r.resources.context("a VM has resources")?)
    }

    fn server_of(&self, vm: u64) -> Option<u32> {
        self.network.hosts.server_of(vm).map(|n| n as u32)
    }

    fn migrate(&self, order: &wire::Migrate, control: &Control, say: &dyn Fn(What)) -> Result<u64, Failed> {
        self.movers.migrate(&self.network.hosts, order, control, say)
    }

    fn loads(&self) -> anyhow::Result<Vec<wire::Loads>> {
        Ok((0..).zip(&self.network.hosts.loads()?).map(|(n, load)| loads::report(n, load)).collect())
    }

    fn start_traffic(&self, t: &wire::TrafficStart) -> anyhow::Result<()> {
        let (spec, from, to) = flow(&self.site, t)?;
        self.network.hosts.start_flow(spec, Some(&from), Some(&to))
    }

    fn stop_traffic(&self, id: u64) {
        self.network.hosts.stop_flow(id);
    }

    fn answer(&self, ask: &LabRequest) -> anyhow::Result<LabResponse> {
        let hosts = &self.network.hosts;
        Ok(match ask {
            LabRequest::Status => LabResponse::Status(self.status()),
            LabRequest::Find { node } => self.find(node)?,
            LabRequest::PingAll { senders } => LabResponse::Pings(hosts.ping(*senders, &[])?),
            LabRequest::Flows => LabResponse::Flows { flows: hosts.flows() },
            LabRequest::StartFlow { id, from, to, rate, tcp, tool } => {
                let spec = FlowSpec::of(*id, from, to, *rate, tool_of(*tool, *tcp));
                hosts.start_flow(spec.told_by(&self.site.traffic), Some(&from.0), Some(&to.0))?;
                LabResponse::Done
            }
            LabRequest::StopFlow { id } => {
                hosts.stop_flow(*id);
                LabResponse::Done
            }
            LabRequest::Clocks => LabResponse::Clocks { clocks: Vec::new() },
            LabRequest::Counters => LabResponse::Counters { counters: hosts.counters()? },
            LabRequest::LoadVm { vm, change } => {
                hosts.change_vm(*vm, change)?;
                LabResponse::Done
            }
            LabRequest::SendFrom { id, rate: 0, .. } => {
                hosts.stop_flow(*id);
                LabResponse::Done
            }
            LabRequest::SendFrom { id, vm, gateway, rate } => {
                let found = self.site.topology.gateways.iter().find(|g| g.name == *gateway);
                let to = found.with_context(|| format!("there is no gateway {gateway:?}"))?.address;
                let from = format!("vm{vm}");
                // A sender's own address is of no matter.
                let ends = ((from.clone(), Ipv4Addr::UNSPECIFIED), (gateway.clone(), to));
                hosts.start_flow(
                    FlowSpec::of(*id, &ends.0, &ends.1, *rate, TrafficTool::UDP),
                    Some(&from),
                    Some(gateway),
                )?;
                LabResponse::Done
            }
            LabRequest::Hubs => {
                static_forwarding::make(&self.site, Path::new(sandbox::PRIVATE), &self.start)?;
                LabResponse::Done
            }
            LabRequest::Loads => LabResponse::Loads { servers: hosts.loads()? },
            LabRequest::Pauses => LabResponse::Pauses { pauses: self.movers.pauses() },
            LabRequest::StartProbe { probe } => {
                self.probes.start(hosts, probe)?;
                LabResponse::Done
            }
            LabRequest::StopProbe => {
                let (down, up) = self.probes.stop()?;
                LabResponse::Probed { down, up }
            }
            LabRequest::Down | LabRequest::Hold | LabRequest::MoveVm { .. } => LabResponse::Ending,
        })
    }

    fn end(&self) {
        let switchd = self.network.ovs.as_ref().map_or(Ok(()), Ovs::end_switchd);
        for result in [switchd, self.network.root.run(network::unplug).and_then(|r| r)] {
            if let Err(error) = result {
                // It ends all the same, only later.
                tracing::warn!("{error}");
            }
        }
        // The first process ends with us, and the kernel takes the rest.
    }
}
