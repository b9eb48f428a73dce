//! One cell: a VM of a size and image is started, watched by packets while it moves to another
//! server, judged and deleted.

use super::Rules;
use crate::cli::vm;
use crate::control::client::Client;
use crate::control::messages::{LabRequest, LabResponse, Status};
use crate::experiment::live::loss_analysis::{LossAnalysis, analyze};
use crate::node::probe::{Packet, Probe};
use crate::node::vm_relocation::Pause;
use crate::world::Start;
use crate::world::packets::PacketWorld;
use crate::world::run::{Bare, Run, wait};
use anyhow::{Context, bail};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tandem_agent_protocol::hypervisor as wire;
use tandem_model::{BitRate, NodeId, ServerId, Site};

/// Of a transfer, Mbit/s: a quarter of the links, so that what is measured is the move and not how
/// busy links queue.
const RATE: u64 = 100;
/// The last of the memory is sent when that takes no longer.
const DOWNTIME: Duration = Duration::from_millis(50);
/// Rounds of pre-copy at most.
const ROUNDS: u32 = 4;
/// Packets before and after the move.
const AROUND: Duration = Duration::from_secs(1);
/// A move takes no longer.
const LIMIT: Duration = Duration::from_secs(300);

/// Two edge switches with controller; one without.
pub(super) fn site_text(rules: Rules) -> String {
    let (name, edge) = if rules == Rules::Pause { ("live-pause", 1) } else { ("live", 2) };
    format!(
        "name = \"{name}\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = {edge}\nedge = {edge}\nservers_per_edge = 2\n\
         [bandwidth]\ngateway = \"400 Mbit/s\"\ncore = \"400 Mbit/s\"\naggregation = \"400 Mbit/s\"\nedge = \"400 Mbit/s\"\n\
         [servers]\ncpu = 8\nram = \"4 GiB\"\ndisk = \"100 GiB\"\n[vm]\nnet = \"1 Mbit/s\"\ndisk = \"1 GiB\"\n\
         [traffic]\nenabled = false\n[policy]\nallocation = \"best-fit\"\n\
         [statistics]\nperiod = \"500 ms\"\nhistory_weight = 0.0\n\
         [migration]\nrate = \"{RATE} Mbit/s\"\ndowntime = \"{} ms\"\nrounds = {ROUNDS}\n",
        DOWNTIME.as_millis()
    )
}

/// What was measured.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) memory: u64,
    pub(super) dirty: String,
    pub(super) rules: Rules,
    pub(super) loss: LossAnalysis,
    /// From the order to its end.
    pub(super) took: Duration,
    pub(super) pause: Pause,
    pub(super) down: Vec<Packet>,
    pub(super) up: Vec<Packet>,
}

enum Place {
    /// With a controller.
    Run(Run),
    /// Without one; how many VMs there were.
    Bare(Bare, Client, u64),
}

/// A world that is up.
pub(super) struct Bench {
    place: Place,
    rules: Rules,
    every: Duration,
}

/// A VM that is to be moved: its id and address, its server's and its destination's names.
struct Vm {
    id: u64,
    address: Ipv4Addr,
    from: u32,
    to: u32,
}

impl Bench {
    pub(super) fn start(world: &dyn PacketWorld, rules: Rules, every_ms: u64) -> anyhow::Result<Bench> {
        let text = site_text(rules);
        let start =
            Start { name: rules.word(), experiment: "live-migration", text: &text, csv: None, record: None };
        let place = if rules == Rules::Pause {
            let bare = Bare::start(world, start)?;
            bare.ask(&LabRequest::Hubs)?;
            let client = Client::attach(bare.name())?;
            Place::Bare(bare, client, 0)
        } else {
            Place::Run(Run::start(world, start)?)
        };
        Ok(Bench { place, rules, every: Duration::from_millis(every_ms.max(1)) })
    }

    pub(super) fn status(&self) -> &Status {
        match &self.place {
            Place::Run(run) => &run.status,
            Place::Bare(bare, ..) => &bare.status,
        }
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        match self.place {
            Place::Run(run) => run.stop(),
            Place::Bare(..) => Ok(()),
        }
    }

    fn site(&self) -> &Site {
        match &self.place {
            Place::Run(run) => &run.site,
            Place::Bare(bare, ..) => &bare.site,
        }
    }

    fn ask(&self, ask: &LabRequest) -> anyhow::Result<LabResponse> {
        match &self.place {
            Place::Run(run) => run.ask(ask),
            Place::Bare(bare, ..) => bare.ask(ask),
        }
    }

    pub(super) fn cell(&mut self, memory: u64, image: &str) -> anyhow::Result<Cell> {
        let vm = self.start_vm(memory, image)?;
        let t = &self.site().topology;
        let gateway = t.gateways.first().context("the site has no gateway")?;
        let names = [vm.from, vm.to].map(|n| t.name(NodeId::Server(ServerId(n))).to_owned());
        let name = format!("vm{}", vm.id);
        let node = (gateway.name.clone(), gateway.address);
        self.reached(&name, &node)?;
        let probe = Probe {
            node,
            vm: (name, vm.address),
            taps: names.to_vec(),
            every_us: u64::try_from(self.every.as_micros())?,
        };
        self.ask(&LabRequest::StartProbe { probe })?;
        std::thread::sleep(AROUND);
        let begin = Instant::now();
        let moved = self.move_vm(&vm, &names[1]);
        let took = begin.elapsed();
        std::thread::sleep(AROUND);
        let LabResponse::Probed { down, up } = self.ask(&LabRequest::StopProbe)? else {
            bail!("the lab answered something else")
        };
        moved?;
        let LabResponse::Pauses { pauses } = self.ask(&LabRequest::Pauses)? else {
            bail!("the lab answered something else")
        };
        let pause = pauses.into_iter().rfind(|p| p.vm == vm.id).context("the lab knows of no pause")?;
        self.stop_vm(&vm)?;
        let loss = analyze(&down, &up, &pause);
        let dirty = image.to_owned();
        let rules = self.rules;
        Ok(Cell { memory, dirty, rules, loss, took, pause, down, up })
    }

    fn start_vm(&mut self, memory: u64, image: &str) -> anyhow::Result<Vm> {
        match &mut self.place {
            Place::Run(run) => {
                let ram = format!("{memory} MiB");
                let vm = run.controller.json(&["vm", "request", "--ram", &ram, "--image", image])?;
                let address = vm["address"].as_str().and_then(|a| a.parse().ok());
                let from = vm["server"].as_u64().and_then(|n| u32::try_from(n).ok());
                let from = from.context("a VM without a server")?;
                let servers = u32::try_from(run.site.topology.servers.len())?;
                // The other edge's servers are the other half of all.
                let to = (from + servers / 2) % servers;
                let id = vm["id"].as_u64().context("a VM without an id")?;
                Ok(Vm { id, address: address.context("a VM without an address")?, from, to })
            }
            Place::Bare(bare, client, count) => {
                *count += 1;
                let id = *count;
                let t = &bare.site.topology;
                let router = t.gateways.first().context("the site has no gateway")?.address;
                let server = t.servers.first().context("the site has no server")?;
                // Behind the servers' own.
                let address = Ipv4Addr::from_bits(server.address.to_bits() + 100 + u32::try_from(id)?);
                let fixed = wire::FixedAddress {
                    address: address.to_bits(),
                    prefix_len: bare.site.addresses.network.len().into(),
                    router: router.to_bits(),
                };
                client.allocate(wire::Allocate {
                    vm: id,
                    server: 0,
                    resources: Some(wire::Resources {
                        cpu_cores: 1,
                        ram_bytes: memory << 20,
                        disk_bytes: 1 << 30,
                        net_bit_per_s: 1_000_000,
                    }),
                    mac: vec![2, 0, 0, 7, 0, u8::try_from(id % 256)?],
                    uplink_port: 1,
                    fixed_address: Some(fixed),
                    address: address.to_bits(),
                    image: image.to_owned(),
                    ..wire::Allocate::default()
                })?;
                Ok(Vm { id, address, from: 0, to: 1 })
            }
        }
    }

    /// Waits until the VM reaches the gateway: it has its address, and both know each other.
    fn reached(&self, vm: &str, gateway: &(String, Ipv4Addr)) -> anyhow::Result<()> {
        let address = match &self.place {
            Place::Run(run) => run.lab_name(),
            Place::Bare(bare, ..) => bare.name(),
        };
        let program = std::env::current_exe().context("finding this program")?;
        wait("the VM reaches the gateway", Duration::from_secs(30), || {
            let ping = std::process::Command::new(&program)
                .args([
                    "exec",
                    "--name",
                    address,
                    vm,
                    "--",
                    "ping",
                    "-c",
                    "1",
                    "-W",
                    "1",
                    &gateway.1.to_string(),
                ])
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .status()?;
            Ok(ping.success().then_some(()))
        })
    }

    fn move_vm(&self, vm: &Vm, to: &str) -> anyhow::Result<()> {
        let name = format!("vm{}", vm.id);
        match (&self.place, self.rules) {
            (Place::Bare(_, client, _), _) => {
                let order = wire::Migrate {
                    migration: vm.id,
                    vm: vm.id,
                    from: vm.from,
                    to: vm.to,
                    uplink_port: 1,
                    live: true,
                    rate_bit_per_s: RATE * 1_000_000,
                    downtime_ns: u64::try_from(DOWNTIME.as_nanos())?,
                    rounds: ROUNDS,
                    resources: None,
                };
                client.migrate(order, LIMIT).map(drop)
            }
            (Place::Run(run), rules) => {
                if rules == Rules::After {
                    let downtime = u64::try_from(DOWNTIME.as_nanos())?;
                    vm::move_vm(run.lab_name(), vm.id, to, 1, BitRate::mbit(RATE), downtime, ROUNDS)?;
                }
                run.controller.json(&["migrate", &name, "--to", to, "--force"]).map(drop)
            }
        }
    }

    fn stop_vm(&self, vm: &Vm) -> anyhow::Result<()> {
        match &self.place {
            Place::Run(run) => run.controller.json(&["vm", "delete", &format!("vm{}", vm.id)]).map(drop),
            Place::Bare(_, client, _) => {
                client.order(wire::order::Order::Stop(wire::Stop {
                    vm: vm.id,
                    server: vm.to,
                    placed_at_ns: None,
                }))?;
                client.until("the VM's end", Duration::from_secs(30), |report| match report {
                    wire::report::Report::Stopped(s) if s.vm == vm.id => Some(()),
                    _ => None,
                })
            }
        }
    }
}
