//! The client of a world's hypervisor service: attaches over a Unix socket, and again whenever the
//! service comes back.
//!
//! It stands beside the router, not under it: the stream's contract (`hypervisor.proto`) is the
//! router's own towards the core, with orders that may be repeated, answers per VM in order, and
//! migrations answered as they ended. The service does the ordering where its VMs are; a router
//! here would only queue what is queued there. It has all servers of the site, so it is a world of
//! its own: `tandem serve` attaches either it or hypervisors.

use crate::owner::Owner;
use crate::{EventLoop, HypervisorReport, ORDERS};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tandem_agent_protocol::hypervisor::hypervisor_client::HypervisorClient;
use tandem_agent_protocol::hypervisor::{self as wire, order::Order as Kind, report::Report};
use tandem_agent_protocol::lab_sockets::{LAB, Lab};
use tandem_agent_protocol::local_peers::check_server;
use tandem_model::text::{escaped, escaped_to};
use tandem_model::{
    BitRate, Bytes, ClassId, Effect, Event, FixedAddress, FoundVm, GatewayId, LoadSample, Mac, MigrationId,
    MigrationMode, PortNo, Progress, Resources, ServerId, Time, TrafficEnd, TrafficId, VmId, VmOrigin,
    VmSpec,
};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Uri};

/// The hypervisor service of this user's lab of that name.
pub fn default_world(lab: &str) -> PathBuf {
    Lab::own(lab).world().into()
}

/// The user that a service's name says it is of: root may name another user's.
fn user_of(socket: &Path) -> Option<u32> {
    let name = socket.to_str()?.strip_prefix('@')?;
    Lab::of_socket(LAB, name).map(|(lab, _)| lab.owner)
}

/// Connects, and checks who listens before anything is sent: the names of such sockets are
/// anybody's to take.
async fn connect(path: PathBuf, user: Option<u32>) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    check_server(stream.peer_cred()?.uid(), user)
        .map_err(|refused| std::io::Error::new(std::io::ErrorKind::PermissionDenied, refused))?;
    Ok(stream)
}

/// Orders on their way to the service; as many again may be in its own hands.
const QUEUE: usize = 256;
/// How long an order may wait for room before the service counts as gone.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the service may take for its hello.
const HELLO: Duration = Duration::from_secs(20);
/// Between attempts to reach the service.
const RETRY: Duration = Duration::from_millis(300);
/// The same while it serves another controller.
const REFUSED_RETRY: Duration = Duration::from_secs(2);

/// Keeps attached to the service behind `socket` until the event loop is gone.
pub async fn attach(socket: PathBuf, owner: Owner, event_loop: Arc<dyn EventLoop>) {
    let mut said = String::new();
    while !event_loop.is_gone() {
        let (why, refused) = match session(&socket, &owner, &event_loop).await {
            Ok(()) => ("it closed the connection".to_owned(), false),
            Err(error) => match refusal(&error) {
                Some(why) => (why, true),
                None => (format!("{error:#}"), false),
            },
        };
        if refused {
            if why != said {
                let world = format!("the hypervisor service {}", socket.display());
                let event = Event::WorldRefused { world, why: why.clone() };
                let _ = event_loop.report(HypervisorReport::Event(event)).await;
                said = why;
            }
            // When the one that it serves has gone, it serves this one.
            tokio::time::sleep(REFUSED_RETRY).await;
            continue;
        }
        if why != said {
            if why.contains("nothing was sent to it") || why.contains("may not use") {
                tracing::warn!("hypervisor service {}: {why}; trying again", socket.display());
            } else {
                tracing::debug!("hypervisor service {}: {why}; trying again", socket.display());
            }
            said = why;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Why a service does not serve this controller, where that is what it says.
fn refusal(error: &anyhow::Error) -> Option<String> {
    let status = error.downcast_ref::<tonic::Status>()?;
    let refused = status.code() == tonic::Code::FailedPrecondition;
    refused.then(|| escaped_to(status.message(), 500).to_string())
}

/// A call that says who calls.
fn introduced<T>(message: T, owner: &Owner) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let metadata = request.metadata_mut();
    for (key, value) in [("tandem-store", owner.store.to_string()), ("tandem-site", owner.site.clone())] {
        // What metadata cannot hold is written otherwise: it is for people.
        let plain: String = value.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
        if let Ok(value) = plain.parse() {
            metadata.insert(key, value);
        }
    }
    request
}

async fn session(socket: &Path, owner: &Owner, event_loop: &Arc<dyn EventLoop>) -> anyhow::Result<()> {
    // `@name` is a socket without a file (unix(7), abstract): a NUL in front of the name.
    let path = match socket.to_str().and_then(|s| s.strip_prefix('@')) {
        Some(name) => PathBuf::from(format!("\0{name}")),
        None => socket.to_owned(),
    };
    // The URI is not used: the connector knows where to go.
    let user = user_of(socket);
    let channel = Endpoint::from_static("http://hypervisor")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { connect(path, user).await.map(hyper_util::rt::TokioIo::new) }
        }))
        .await?;
    let (orders, queue) = mpsc::channel(QUEUE);
    let mut client = HypervisorClient::new(channel);
    let mut reports = client.attach(introduced(ReceiverStream::new(queue), owner)).await?.into_inner();
    // Its hello comes by itself. Until it is known whose servers they are, nothing is ordered, and
    // nothing of it is taken for true.
    let hello = tokio::time::timeout(HELLO, reports.message()).await;
    let hello = hello.map_err(|_| anyhow::anyhow!("it has not said hello within {HELLO:?}"))??;
    let Some(Report::Hello(hello)) = hello.and_then(|r| r.report) else {
        anyhow::bail!("it says something else before hello; is it a hypervisor service?");
    };
    check_site(&hello, &owner.site)?;
    let (effects, mut inbox) = mpsc::channel(ORDERS);
    event_loop.report(HypervisorReport::Attached(effects)).await?;
    let world = hello.world.clone();
    greet(hello, event_loop).await?;
    let result = async {
        let mut waiting: Option<(Kind, tokio::time::Instant)> = None;
        loop {
            let until = waiting.as_ref().map_or_else(tokio::time::Instant::now, |(_, until)| *until);
            tokio::select! {
                // Reports are read while an order waits: the service may be waiting for us to take
                // one before it goes on.
                report = reports.message() => match report?.and_then(|r| r.report) {
                    Some(Report::Hello(_)) => anyhow::bail!("it says hello again; it is attached anew"),
                    Some(report) => event_loop.report(HypervisorReport::Event(event(report, &world))).await?,
                    None => return anyhow::Ok(()),
                },
                room = orders.reserve(), if waiting.is_some() => {
                    let room = room?;
                    if let Some((order, _)) = waiting.take() {
                        room.send(wire::Order { order: Some(order) });
                    }
                },
                effect = inbox.recv(), if waiting.is_none() => match effect {
                    Some(effect) => {
                        waiting = order(effect).map(|o| (o, tokio::time::Instant::now() + ORDER_TIMEOUT));
                    }
                    None => anyhow::bail!("more than {ORDERS} wishes were waiting for it; it is told everything anew"),
                },
                () = tokio::time::sleep_until(until), if waiting.is_some() => {
                    anyhow::bail!("it has taken no order for {ORDER_TIMEOUT:?}; it is told everything anew")
                }
            }
        }
    }
    .await;
    let why =
        result.as_ref().err().map_or_else(|| "it closed the connection".to_owned(), ToString::to_string);
    event_loop.report(HypervisorReport::Detached(why)).await?;
    result
}

/// A VM with what is kept with it. What makes no sense of that counts as not kept.
fn found(running: &wire::Running) -> FoundVm {
    let spec = running.kept.as_ref().and_then(kept_spec).map(Box::new);
    FoundVm { vm: VmId(running.vm), server: ServerId(running.server), runs: true, spec }
}

fn kept_spec(a: &wire::Allocate) -> Option<VmSpec> {
    let (r, origin) = (a.resources?, a.origin?);
    let text = |t: &String| (!t.is_empty()).then(|| t.clone());
    let fixed = |f: wire::FixedAddress| {
        let prefix_len = u8::try_from(f.prefix_len).ok().filter(|len| *len <= 32)?;
        let (address, router) = (Ipv4Addr::from_bits(f.address), Ipv4Addr::from_bits(f.router));
        Some(FixedAddress { address, prefix_len, router })
    };
    Some(VmSpec {
        resources: Resources {
            cpu: r.cpu_cores,
            ram: Bytes(r.ram_bytes),
            disk: Bytes(r.disk_bytes),
            net: BitRate(r.net_bit_per_s),
        },
        name: text(&a.name),
        image: text(&a.image),
        mac: Mac(a.mac.as_slice().try_into().ok()?),
        address: Ipv4Addr::from_bits(a.address),
        uplink_port: PortNo(a.uplink_port),
        fixed_address: a.fixed_address.and_then(fixed),
        origin: VmOrigin {
            placed_at: Time(origin.placed_at_ns),
            class: origin.class.and_then(|c| u16::try_from(c).ok()).map(ClassId),
            timeout: origin.lifetime_ns.map(Duration::from_nanos),
            gateway: origin.gateway.map(GatewayId),
        },
    })
}

/// Refuses the servers of another site; a service of an earlier release does not say.
fn check_site(hello: &wire::Hello, site: &str) -> anyhow::Result<()> {
    if hello.site.is_empty() || hello.site == site {
        return Ok(());
    }
    anyhow::bail!(
        "its servers are those of the site \"{}\", and this is the controller of \"{}\"; nothing was sent to it. Serve that site's file, or \
         name another service with --world",
        escaped(&hello.site),
        escaped(site)
    )
}

/// The VMs that a service has, and then that it is there.
async fn greet(hello: wire::Hello, event_loop: &Arc<dyn EventLoop>) -> anyhow::Result<()> {
    let (world, vms) = (hello.world.clone(), hello.vms.iter().map(found).collect());
    event_loop.report(HypervisorReport::Event(Event::VmsFound { vms })).await?;
    event_loop.report(HypervisorReport::Event(event(Report::Hello(hello), &world))).await?;
    Ok(())
}

fn event(report: Report, world: &str) -> Event {
    match report {
        Report::Hello(h) => Event::WorldUp {
            world: h.world,
            vms: h.vms.iter().map(|r| (VmId(r.vm), ServerId(r.server))).collect(),
            traffic: h.traffic,
        },
        Report::Started(s) => {
            Event::VmStarted { vm: VmId(s.vm), address: s.address.map(Ipv4Addr::from_bits) }
        }
        Report::Failed(f) => Event::VmFailed { vm: VmId(f.vm), why: f.why },
        Report::Stopped(s) => Event::VmStopped { vm: VmId(s.vm) },
        Report::Resized(r) => Event::VmResized { vm: VmId(r.vm) },
        Report::MigrationProgress(p) => Event::MigrationProgress {
            migration: MigrationId(p.migration),
            progress: Progress {
                round: p.round,
                sent: Bytes(p.sent_bytes),
                remaining: Bytes(p.remaining_bytes),
                rate: BitRate(p.rate_bit_per_s),
                dirty: BitRate(p.dirty_bit_per_s),
            },
        },
        Report::Suspended(s) => Event::VmSuspended { migration: MigrationId(s.migration) },
        Report::Moved(m) => Event::VmMoved {
            migration: MigrationId(m.migration),
            downtime: m.downtime_ns.map(Duration::from_nanos),
        },
        Report::MigrationFailed(f) => {
            Event::MigrationFailed { migration: MigrationId(f.migration), at: f.at.map(ServerId), why: f.why }
        }
        Report::Loads(l) => Event::ServerSamples {
            server: ServerId(l.server),
            sample: load(l.load),
            vms: l.vms.into_iter().map(|v| (VmId(v.vm), load(v.load))).collect(),
        },
        Report::Rival(r) => Event::RivalSeen { world: world.to_owned(), who: r.who },
        Report::TrafficEnded(t) => Event::TrafficEnded { id: TrafficId(t.id), why: t.why },
    }
}

fn load(load: Option<wire::Load>) -> LoadSample {
    let load = load.unwrap_or_default();
    let count = |n: Option<u64>| n.unwrap_or(u64::MAX);
    LoadSample {
        cpu_ns: count(load.cpu_ns),
        ram: count(load.ram_bytes),
        disk_read: count(load.disk_read_bytes),
        disk_written: count(load.disk_written_bytes),
        rx_bytes: count(load.rx_bytes),
        tx_bytes: count(load.tx_bytes),
        dirtied: count(load.dirtied_bytes),
    }
}

fn resources(r: Resources) -> Option<wire::Resources> {
    Some(wire::Resources {
        cpu_cores: r.cpu,
        ram_bytes: r.ram.0,
        disk_bytes: r.disk.0,
        net_bit_per_s: r.net.0,
    })
}

fn end(end: TrafficEnd) -> Option<wire::End> {
    let (node, address) = match end {
        TrafficEnd::Gateway(id, ip) => (wire::end::Node::Gateway(id.0), ip),
        TrafficEnd::Vm(id, ip) => (wire::end::Node::Vm(id.0), ip),
    };
    Some(wire::End { node: Some(node), address: address.to_bits() })
}

fn allocate(vm: VmId, server: ServerId, spec: VmSpec) -> wire::Allocate {
    let origin = spec.origin;
    let nanos = |t: Duration| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX);
    wire::Allocate {
        vm: vm.0,
        server: server.0,
        resources: resources(spec.resources),
        name: spec.name.unwrap_or_default(),
        image: spec.image.unwrap_or_default(),
        mac: spec.mac.0.to_vec(),
        uplink_port: spec.uplink_port.0,
        address: spec.address.to_bits(),
        fixed_address: spec.fixed_address.map(|f| wire::FixedAddress {
            address: f.address.to_bits(),
            prefix_len: f.prefix_len.into(),
            router: f.router.to_bits(),
        }),
        origin: Some(wire::Origin {
            placed_at_ns: origin.placed_at.0,
            class: origin.class.map(|c| c.0.into()),
            lifetime_ns: origin.timeout.map(nanos),
            gateway: origin.gateway.map(|g| g.0),
        }),
    }
}

/// An effect as an order; `None` for effects that are no business of a hypervisor.
fn order(effect: Effect) -> Option<Kind> {
    Some(match effect {
        Effect::AllocateVm { vm, server, spec } => Kind::Allocate(allocate(vm, server, spec)),
        Effect::TagVm { vm, server, spec } => {
            Kind::Tag(wire::Tag { kept: Some(allocate(vm, server, *spec)) })
        }
        Effect::StopVm { vm, server, placed_at } => {
            Kind::Stop(wire::Stop { vm: vm.0, server: server.0, placed_at_ns: placed_at.map(|t| t.0) })
        }
        Effect::ResizeVm { vm, server, resources: r } => {
            Kind::Resize(wire::Resize { vm: vm.0, server: server.0, resources: resources(r) })
        }
        Effect::AttachVm { vm, server, uplink_port } => {
            Kind::Connect(wire::Connect { vm: vm.0, server: server.0, uplink_port: uplink_port.0 })
        }
        Effect::MigrateVm { migration, vm, from, to, manner, spec, rate, downtime, rounds } => {
            Kind::Migrate(wire::Migrate {
                migration: migration.0,
                vm: vm.0,
                from: from.0,
                to: to.0,
                uplink_port: spec.uplink_port.0,
                live: manner == MigrationMode::Live,
                rate_bit_per_s: rate.0,
                downtime_ns: u64::try_from(downtime.as_nanos()).unwrap_or(u64::MAX),
                rounds,
                resources: resources(spec.resources),
            })
        }
        Effect::SetMigrationRate { migration, rate } => {
            Kind::SetMigrationRate(wire::SetMigrationRate { migration: migration.0, rate_bit_per_s: rate.0 })
        }
        Effect::CancelMigration { migration, vm, from, to } => Kind::CancelMigration(wire::CancelMigration {
            migration: migration.0,
            vm: vm.0,
            from: from.0,
            to: to.0,
        }),
        Effect::ReportLoads { period } => Kind::ReportLoads(wire::ReportLoads {
            period_ns: u64::try_from(period.as_nanos()).unwrap_or(u64::MAX),
        }),
        Effect::TrafficStart { spec } => Kind::TrafficStart(wire::TrafficStart {
            id: spec.id.0,
            from: end(spec.from),
            to: end(spec.to),
            rate_bit_per_s: spec.rate.0,
            tcp: spec.transport == tandem_model::TrafficTool::TCP,
            tool: spec.transport.to_string(),
            packet: spec.packet.into(),
        }),
        Effect::TrafficStop { id } => Kind::TrafficStop(wire::TrafficStop { id: id.0 }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
