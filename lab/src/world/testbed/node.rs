//! The node: what a machine's servers and gateways do. It is the first process of its own process
//! namespace, with its own mounts and, for what is in no host's namespace, an empty network.

use super::lines;
use super::nic_lease;
use crate::control::messages::{LabRequest, LabResponse};
use crate::node::announce;
use crate::node::hosts::{Host, Hosts};
use crate::node::traffic::clock;
use crate::node::vms::{NewVm, join};
use crate::world::testbed::lease_guard::Handover;
use crate::world::testbed::lines::LONGEST;
use crate::world::testbed::node_protocol::NodeRequest;
use anyhow::{Context, bail};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tandem_agent_protocol::hypervisor as wire;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::{link, nic, sandbox, sys, tc};
use tandem_model::PortNo;

/// A coordinator that says nothing for so long is gone, also when no end of the connection was
/// seen.
pub const SILENCE: Duration = Duration::from_secs(20);
/// Orders that wait while one is carried out; whoever sends more waits at the other end of the
/// connection.
const EVENTS: usize = 16;
/// A gateway's bridge: beyond what the kernel gives to interfaces of its own.
const BRIDGE: u32 = 90_000;

enum Event {
    Line(String),
    /// The coordinator is gone.
    End,
    /// The guard is gone.
    Alone,
}

/// `__node`: serves until the coordinator says so or is gone.
///
/// # Errors
/// When it was not started by a guard, or the hosts could not be set up.
pub fn run(lifeline: i32) -> anyhow::Result<()> {
    // Before any thread is started.
    let mut lifeline = BufReader::new(File::from(sys::adopt(lifeline)?));
    let mut line = String::new();
    lifeline.read_line(&mut line)?;
    let handed: Handover = serde_json::from_str(&line).context("this is started by a guard only")?;
    let adopt = |fd: &i32| sys::adopt(*fd).map(NetNs::from).context("a namespace was not handed down");
    let spaces: Vec<NetNs> = handed.spaces.iter().map(adopt).collect::<anyhow::Result<_>>()?;
    let home = adopt(&handed.home)?;
    nix::unistd::setsid().context("beginning a session")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("making namespaces")?;
    sandbox::settle()?;

    let (sender, events) = mpsc::sync_channel(EVENTS);
    let from_guard = sender.clone();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut lifeline, &mut rest);
        let _ = from_guard.send(Event::Alone);
    });
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Ok(Some(line)) = lines::next(&mut input, LONGEST) {
            if sender.send(Event::Line(line)).is_err() {
                return;
            }
        }
        let _ = sender.send(Event::End);
    });
    let held: Vec<NetNs> = spaces.iter().map(NetNs::duplicate).collect::<Result<_, _>>()?;
    let hosts = match prepare(&handed, spaces) {
        Ok(hosts) => Arc::new(hosts),
        Err(error) => {
            answer(&LabResponse::Error { why: format!("{error:#}") });
            return Err(error);
        }
    };
    if let Some(period) = handed.take.announce {
        announce::every(period, &hosts, Hosts::announce)?;
    }
    let port_filter = hosts.port_filter().unwrap_or_else(|why| format!("none: {why}"));
    answer(&LabResponse::Ready { guard: handed.guard, node: handed.node, port_filter });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _guard = runtime.enter();
    loop {
        match events.recv_timeout(SILENCE) {
            Ok(Event::Line(line)) => {
                let reply = match serde_json::from_str::<NodeRequest>(&line) {
                    Ok(order) => carry_out(&hosts, order)
                        .unwrap_or_else(|error| LabResponse::Error { why: format!("{error:#}") }),
                    Err(error) => LabResponse::Error { why: format!("not understood: {error}") },
                };
                answer(&reply);
                if matches!(reply, LabResponse::Ending) {
                    return Ok(());
                }
            }
            Ok(Event::Alone) => {
                let left = nic_lease::restore(&handed.loans, &held, &home);
                bail!("the guard has died; the interfaces are given back{}", left.join("; "));
            }
            Ok(Event::End) => bail!("the coordinator is gone"),
            Err(_) => bail!("the coordinator has said nothing for {SILENCE:?}"),
        }
    }
}

/// Says a line. Nobody may listen any more; the end of the input says so, too.
fn answer(answer: &LabResponse) {
    if let Ok(text) = serde_json::to_string(answer) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

fn prepare(handed: &Handover, spaces: Vec<NetNs>) -> anyhow::Result<Hosts> {
    let mut servers = Vec::new();
    let mut gateways = Vec::new();
    for (order, ns) in handed.take.hosts.iter().zip(spaces) {
        let there = ns.run(|| Netlink::open().and_then(|mut n| nic::look(&mut n)))??;
        let mut requests = vec![link::set_up(1, true)];
        let mut uplinks = Vec::new();
        for port in &order.ports {
            let found = there.iter().find(|n| n.name == port.interface);
            let index = found.with_context(|| format!("{} is not here any more", port.interface))?.index;
            requests.push(link::set_up(index, true));
            let delay = Duration::ZERO;
            let loss_ppm = 0;
            requests
                .extend(tc::shape(index, tc::Shape { rate: port.rate, queue: port.queue, delay, loss_ppm }));
            uplinks.push((PortNo(port.number), index));
        }
        ns.run(|| Netlink::open().and_then(|mut n| n.batch(&requests)))?
            .with_context(|| format!("setting up {}", order.name))?;
        let name = order.name.clone();
        let mac = order.mac;
        let address = order.address;
        let prefix_len = order.prefix_len;
        let host = Host { name, ns, mac, address, prefix_len, uplinks, direct: false };
        if order.gateway {
            let all: Vec<u32> = host.uplinks.iter().map(|(_, index)| *index).collect();
            join(&host, "br0", BRIDGE, &all, true)
                .with_context(|| format!("making the bridge of {}", host.name))?;
            gateways.push(host);
        } else {
            servers.push(host);
        }
    }
    let hosts = Hosts::new(servers, gateways, Path::new(sandbox::PRIVATE))?;
    hosts.settle()?;
    Ok(hosts)
}

fn carry_out(hosts: &Hosts, order: NodeRequest) -> anyhow::Result<LabResponse> {
    Ok(match order {
        NodeRequest::Now => LabResponse::Now { ns: clock() },
        NodeRequest::StartVm { vm, server, port, mac, address, addressing, ordered } => {
            let index = hosts.servers.iter().position(|s| s.name == server);
            let server = index.with_context(|| format!("there is no server {server:?} here"))?;
            let port = PortNo(port);
            hosts.start_vm(NewVm { id: vm, server, port, mac, address, addressing, ordered })?;
            LabResponse::Done
        }
        NodeRequest::StopVm { vm } => {
            hosts.stop_vm(vm);
            LabResponse::Done
        }
        NodeRequest::MoveVm { vm, port } => {
            hosts.move_vm(vm, PortNo(port))?;
            LabResponse::Done
        }
        NodeRequest::ResizeVm { vm, cpu, ram, disk, net } => {
            let resources =
                wire::Resources { cpu_cores: cpu, ram_bytes: ram, disk_bytes: disk, net_bit_per_s: net };
            hosts.resize_vm(vm, resources)?;
            LabResponse::Done
        }
        NodeRequest::StartFlow { spec, from, to } => {
            hosts.start_flow(spec, from.as_deref(), to.as_deref())?;
            LabResponse::Done
        }
        NodeRequest::Ping { senders, others } => LabResponse::Pings(hosts.ping(senders, &others)?),
        NodeRequest::Ask { ask } => match ask {
            LabRequest::Find { node } => {
                let netns = hosts.descriptor(&node).with_context(|| format!("there is no node {node:?}"))?;
                LabResponse::Found { netns }
            }
            LabRequest::Flows => LabResponse::Flows { flows: hosts.flows() },
            LabRequest::StopFlow { id } => {
                hosts.stop_flow(id);
                LabResponse::Done
            }
            LabRequest::Counters => LabResponse::Counters { counters: hosts.counters()? },
            LabRequest::LoadVm { vm, change } => {
                hosts.change_vm(vm, &change)?;
                LabResponse::Done
            }
            LabRequest::Loads => LabResponse::Loads { servers: hosts.loads()? },
            LabRequest::Down => LabResponse::Ending,
            other => bail!("{other:?} is the coordinator's to answer"),
        },
    })
}
