//! Translates a lab's messages (`hypervisor.proto`) from and to the core's types.

use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_agent_protocol::hypervisor::{self as wire, order::Order as Kind, report::Report};
use tandem_model::{
    BitRate, Bytes, ClassId, Effect, Event, FixedAddress, FoundVm, GatewayId, LoadSample, Mac, MigrationId,
    MigrationMode, PortNo, Progress, Resources, ServerId, Time, TrafficEnd, TrafficId, VmId, VmOrigin,
    VmSpec,
};

/// A VM with the specification stored with it; an invalid one counts as not stored.
pub(super) fn found(running: &wire::Running) -> FoundVm {
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

/// The event of a report. `world` is the service's name, for people.
pub(super) fn event(report: Report, world: &str) -> Event {
    match report {
        Report::Hello(h) => Event::WorldUp {
            world: h.world,
            vms: h.vms.iter().map(|r| (VmId(r.vm), ServerId(r.server))).collect(),
            traffic: h.traffic,
        },
        Report::Started(s) => {
            Event::VmStarted { vm: VmId(s.vm), address: s.address.map(Ipv4Addr::from_bits) }
        }
        Report::Failed(f) if f.died => Event::VmDied { vm: VmId(f.vm), why: f.why },
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

/// The order of an effect; `None` for effects that are not for a hypervisor.
pub(super) fn order(effect: Effect) -> Option<Kind> {
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
