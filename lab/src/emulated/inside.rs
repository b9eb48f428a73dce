//! The lab's own process, inside the sandbox: builds the network, then serves the control socket and the hypervisor service until it is
//! told to end.

use super::control::{Answer, Ask, Status};
use super::network::{self, Network};
use super::outside::{self, Start};
use super::ping;
use super::traffic::{Spec, Traffic};
use super::vms::{Addressing, NewVm, Vms};
use anyhow::Context;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use tandem_agent_protocol::hypervisor::hypervisor_server::{Hypervisor, HypervisorServer};
use tandem_agent_protocol::hypervisor::{self as wire, order::Order as Kind, report::Report as What};
use tandem_linux::sandbox;
use tandem_model::{NodeId, PortNo, ServerId, Site, site};
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status as RpcStatus, Streaming};

/// A lab that is up.
struct Lab {
    start: Start,
    site: Site,
    network: Network,
    vms: Mutex<Vms>,
    traffic: Mutex<Traffic>,
    reports: Mutex<Option<tokio::sync::mpsc::UnboundedSender<Result<wire::Report, RpcStatus>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `__inside`: says one line on standard output (the lab's status, or why there is none) and then serves.
///
/// # Errors
/// When the lab cannot be built.
pub fn run() -> anyhow::Result<()> {
    let result = prepare();
    let line = match &result {
        Ok((lab, ..)) => Answer::Status(lab.status()),
        Err(error) => Answer::Error { why: format!("{error:#}") },
    };
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(&line)?)?;
    out.flush()?;
    let (lab, control, world) = result?;
    // Whoever started us reads no more; what is to be said from now on is said in the lab's own log.
    let log = std::fs::File::create(Path::new(sandbox::PRIVATE).join("lab.log"))?;
    nix::unistd::dup2_stdout(&log)?;
    nix::unistd::dup2_stderr(&log)?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    serve(lab, control, world)
}

fn prepare() -> anyhow::Result<(Lab, UnixListener, UnixListener)> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let start: Start = serde_json::from_str(&text).context("this is started by `tandem-lab up` only")?;
    // First of all: daemons that are started below must not inherit them.
    let (control, world) = (outside::adopt(start.control_fd)?, outside::adopt(start.world_fd)?);
    let site = site::read(&start.site, &start.site_file)?;
    let folder = Path::new(sandbox::PRIVATE);
    let network = network::build(&site, folder, &start)?;
    let vms = Vms::new(folder)?;
    let lab = Lab {
        start,
        site,
        network,
        vms: Mutex::new(vms),
        traffic: Mutex::default(),
        reports: Mutex::default(),
    };
    Ok((lab, control, world))
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
                lock(&self.vms).iter().count(),
            ],
            datapath: network::datapath(&self.network.ovs).to_owned(),
            steps: self.network.steps.clone(),
            controller: self.start.controller.clone(),
        }
    }

    fn answer(&self, ask: &Ask, runtime: &tokio::runtime::Handle) -> Answer {
        let _guard = runtime.enter();
        match ask {
            Ask::Status => Answer::Status(self.status()),
            Ask::Find { node } => self.find(node),
            Ask::PingAll { senders } => match ping::all(&self.site, &self.network, *senders) {
                Ok(pings) => Answer::Pings(pings),
                Err(error) => Answer::Error { why: format!("{error:#}") },
            },
            Ask::Flows => Answer::Flows { flows: lock(&self.traffic).report() },
            Ask::StartFlow { id, from, to, rate, tcp } => {
                let spec = Spec {
                    id: *id,
                    addresses: (from.1, to.1),
                    ends: format!("{} -> {}", from.0, to.0),
                    rate: *rate,
                    tcp: *tcp,
                    packet: 1400,
                };
                match self.start_flow(spec, &from.0, &to.0) {
                    Ok(()) => Answer::Done,
                    Err(error) => Answer::Error { why: format!("{error:#}") },
                }
            }
            Ask::StopFlow { id } => {
                lock(&self.traffic).stop(*id);
                Answer::Done
            }
            Ask::Down => Answer::Ending,
        }
    }

    fn start_flow(&self, spec: Spec, from: &str, to: &str) -> anyhow::Result<()> {
        let vms = lock(&self.vms);
        let place = |name: &str| {
            let vm = name.strip_prefix("vm").and_then(|n| n.parse().ok()).and_then(|id| vms.get(id));
            let gateway = match self.site.topology.by_name(name) {
                Some(NodeId::Gateway(id)) => self.network.gateways.get(id.0 as usize),
                _ => None,
            };
            vm.map(|vm| &vm.ns).or(gateway).with_context(|| format!("{name:?} is no VM and no gateway"))
        };
        lock(&self.traffic).start(spec, place(from)?, place(to)?)
    }

    fn find(&self, node: &str) -> Answer {
        let vm = node.strip_prefix("vm").and_then(|n| n.parse().ok());
        let vms = lock(&self.vms);
        let ns = match (self.site.topology.by_name(node), vm.and_then(|id| vms.get(id))) {
            (Some(NodeId::Server(id)), _) => self.network.servers.get(id.0 as usize),
            (Some(NodeId::Gateway(id)), _) => self.network.gateways.get(id.0 as usize),
            (Some(NodeId::Switch(_)), _) => Some(&self.network.root),
            (None, Some(vm)) => Some(&vm.ns),
            (None, None) => None,
        };
        match ns {
            Some(ns) => Answer::Found { netns: ns.raw() },
            None => {
                let why = format!(
                    "there is no node {node:?}; nodes are srv1, gw1, edge1 (switches share one namespace) or vm1"
                );
                Answer::Error { why }
            }
        }
    }

    fn report(&self, report: What) {
        if let Some(sender) = &*lock(&self.reports) {
            // A controller that is gone hears of it when it is back: the first report lists what runs.
            let _ = sender.send(Ok(wire::Report { report: Some(report) }));
        }
    }

    /// Carries out one order. Orders come one after the other, so that a stop never overtakes its start.
    fn carry_out(&self, order: Kind, runtime: &tokio::runtime::Handle) {
        let _guard = runtime.enter();
        match order {
            Kind::Allocate(a) => {
                let vm = a.vm;
                match self.allocate(&a) {
                    Ok(address) => self.report(What::Started(wire::Started { vm, address })),
                    Err(error) => {
                        lock(&self.vms).stop(vm);
                        self.report(What::Failed(wire::Failed { vm, why: format!("{error:#}") }));
                    }
                }
            }
            Kind::Stop(s) => {
                lock(&self.vms).stop(s.vm);
                self.report(What::Stopped(wire::Stopped { vm: s.vm }));
            }
            // An emulated VM has no CPU or memory of its own to change.
            Kind::Resize(r) => self.report(What::Resized(wire::Resized { vm: r.vm })),
            Kind::Connect(c) => {
                let moved = lock(&self.vms).move_to(&self.site, &self.network, c.vm, PortNo(c.uplink_port));
                if let Err(error) = moved {
                    tracing::error!("vm{}: {error:#}", c.vm);
                }
            }
            Kind::TrafficStart(t) => {
                let id = t.id;
                if let Err(error) = self.start_traffic(&t) {
                    self.report(What::TrafficEnded(wire::TrafficEnded { id, why: format!("{error:#}") }));
                }
            }
            Kind::TrafficStop(t) => lock(&self.traffic).stop(t.id),
        }
    }

    fn allocate(&self, a: &wire::Allocate) -> anyhow::Result<Option<u32>> {
        let mac: [u8; 6] = a.mac.as_slice().try_into().context("an Ethernet address has six bytes")?;
        let addressing = match &a.fixed_address {
            Some(f) => {
                let len = u8::try_from(f.prefix_len)
                    .ok()
                    .filter(|l| *l <= 32)
                    .context("a prefix has at most 32 bits")?;
                Addressing::Fixed(Ipv4Addr::from_bits(f.address), len, Ipv4Addr::from_bits(f.router))
            }
            None => Addressing::Dhcp,
        };
        let new =
            NewVm { id: a.vm, server: ServerId(a.server), port: PortNo(a.uplink_port), mac, addressing };
        lock(&self.vms).start(&self.site, &self.network, new)?;
        Ok(a.fixed_address.map(|f| f.address))
    }

    fn start_traffic(&self, t: &wire::TrafficStart) -> anyhow::Result<()> {
        let (from, to) = (t.from.context("a flow needs a sender")?, t.to.context("a flow needs a receiver")?);
        let vms = lock(&self.vms);
        let place = |end: &wire::End| -> anyhow::Result<(String, &tandem_linux::netns::NetNs)> {
            match end.node.context("an end needs a node")? {
                wire::end::Node::Gateway(n) => {
                    let ns = self
                        .network
                        .gateways
                        .get(n as usize)
                        .with_context(|| format!("there is no gateway {n}"))?;
                    Ok((format!("gw{}", n + 1), ns))
                }
                wire::end::Node::Vm(id) => {
                    Ok((format!("vm{id}"), &vms.get(id).with_context(|| format!("there is no vm{id}"))?.ns))
                }
            }
        };
        let (sender, receiver) = (place(&from)?, place(&to)?);
        let spec = Spec {
            id: t.id,
            addresses: (Ipv4Addr::from_bits(from.address), Ipv4Addr::from_bits(to.address)),
            ends: format!("{} -> {}", sender.0, receiver.0),
            rate: t.rate_bit_per_s,
            tcp: t.tcp,
            packet: u16::try_from(t.packet).unwrap_or(1400),
        };
        lock(&self.traffic).start(spec, sender.1, receiver.1)
    }
}

/// The hypervisor service: hands orders to the worker, one at a time.
struct Service {
    lab: Arc<Lab>,
    orders: mpsc::Sender<Kind>,
}

#[tonic::async_trait]
impl Hypervisor for Service {
    type AttachStream = UnboundedReceiverStream<Result<wire::Report, RpcStatus>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::Order>>,
    ) -> Result<Response<Self::AttachStream>, RpcStatus> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let vms =
            lock(&self.lab.vms).iter().map(|(vm, v)| wire::Running { vm, server: v.server.0 }).collect();
        let hello = wire::Hello { world: self.lab.start.name.clone(), vms, traffic: true };
        let _ = sender.send(Ok(wire::Report { report: Some(What::Hello(hello)) }));
        *lock(&self.lab.reports) = Some(sender);
        let orders = self.orders.clone();
        let mut inbox = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(order)) = inbox.message().await {
                if let Some(order) = order.order
                    && orders.send(order).is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }
}

fn serve(lab: Lab, control: UnixListener, world: UnixListener) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lab = Arc::new(lab);
    let (orders, queue) = mpsc::channel::<Kind>();
    let (worker_lab, handle) = (lab.clone(), runtime.handle().clone());
    std::thread::Builder::new().name("orders".into()).spawn(move || {
        while let Ok(order) = queue.recv() {
            worker_lab.carry_out(order, &handle);
        }
    })?;
    world.set_nonblocking(true)?;
    let service = HypervisorServer::new(Service { lab: lab.clone(), orders });
    {
        let _guard = runtime.enter();
        let incoming = UnixListenerStream::new(tokio::net::UnixListener::from_std(world)?);
        runtime.spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    }
    for stream in control.incoming() {
        let stream = stream?;
        let (lab, handle) = (lab.clone(), runtime.handle().clone());
        std::thread::spawn(move || {
            if let Err(error) = converse(&lab, stream, &handle) {
                tracing::debug!("control: {error:#}");
            }
        });
    }
    Ok(())
}

fn converse(lab: &Lab, stream: UnixStream, runtime: &tokio::runtime::Handle) -> anyhow::Result<()> {
    let mut writer = stream.try_clone()?;
    for line in BufReader::new(stream.take(1 << 20)).lines() {
        let line = line?;
        let answer = match serde_json::from_str::<Ask>(&line) {
            Ok(ask) => lab.answer(&ask, runtime),
            Err(error) => Answer::Error { why: format!("not understood: {error}") },
        };
        writeln!(writer, "{}", serde_json::to_string(&answer)?)?;
        if matches!(answer, Answer::Ending) {
            writer.flush()?;
            for result in
                [lab.network.ovs.end_switchd(), lab.network.root.run(network::unplug).and_then(|r| r)]
            {
                if let Err(error) = result {
                    // It ends all the same, only later.
                    tracing::warn!("{error}");
                }
            }
            // The first process ends with us, and the kernel takes the rest.
            std::process::exit(0);
        }
    }
    Ok(())
}
