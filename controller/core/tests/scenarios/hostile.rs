//! Events with numbers that nobody has: what a switch, an agent, a hypervisor or a client may say,
//! it says here in any order. Nothing panics, nothing is computed with what has overflowed, and
//! what is shown stays bounded.

use crate::world::{SMALL, World, read};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Adoption, AgentSample, AgentSwitch, Arp, ArpOp, BitRate, Bytes, ClassId, ClassSample, Cookie,
    DhcpRequest, DhcpRequestKind, Dpid, Event, FlowSample, FoundVm, GatewayId, GroupId, LeftRules,
    LoadSample, Mac, MigrationId, MoveOptions, Owner, PlanGoal, PlanId, PortCounters, PortInfo, PortNo,
    PortSample, Progress, QueueSelection, Request, Resources, ServerId, Share, StoreId, SwitchCaps, SwitchId,
    Time, TrafficId, TxnId, VmId, VmOrigin, VmRequest, VmSpec,
};

fn long() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..6,
        1 => Just(u64::MAX),
        1 => Just(u64::MAX - 1),
        1 => Just(1 << 63),
        1 => Just(u64::from(u32::MAX)),
        1 => Just(1 << 53),
        1 => any::<u64>(),
    ]
}

fn short() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0u32..6, 1 => Just(u32::MAX), 1 => Just(0xffff_fffe), 1 => Just(1 << 31), 1 => any::<u32>()]
}

/// One of the small site's, or nobody's.
fn dpid() -> impl Strategy<Value = Dpid> {
    let site = read(SMALL);
    let all: Vec<Dpid> = site.topology.switches.iter().map(|s| s.dpid).collect();
    prop_oneof![6 => prop::sample::select(all), 1 => long().prop_map(Dpid)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just("a\u{1b}[2J\nb".to_owned()), "[a-z]{1,8}", Just("x".repeat(5000))]
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        4 => (0u8..3, 0u8..8).prop_map(|(a, b)| Ipv4Addr::new(10, 0, a, b)),
        1 => Just(Ipv4Addr::UNSPECIFIED),
        1 => Just(Ipv4Addr::BROADCAST),
        1 => any::<u32>().prop_map(Ipv4Addr::from),
    ]
}

fn mac() -> impl Strategy<Value = Mac> {
    prop_oneof![
        3 => (0u8..6).prop_map(|n| Mac([2, 0, 0, 0, 0, n])),
        1 => Just(Mac([0xff; 6])),
        1 => any::<[u8; 6]>().prop_map(Mac),
    ]
}

fn load() -> impl Strategy<Value = LoadSample> {
    prop::array::uniform7(long()).prop_map(|n| LoadSample {
        cpu_ns: n[0],
        ram: n[1],
        disk_read: n[2],
        disk_written: n[3],
        rx_bytes: n[4],
        tx_bytes: n[5],
        dirtied: n[6],
    })
}

fn counters() -> impl Strategy<Value = PortSample> {
    (short(), prop::array::uniform8(long())).prop_map(|(port, n)| PortSample {
        port: PortNo(port),
        counters: PortCounters {
            rx_packets: tandem_model::counted(n[0]),
            tx_packets: tandem_model::counted(n[1]),
            rx_bytes: tandem_model::counted(n[2]),
            tx_bytes: tandem_model::counted(n[3]),
            rx_dropped: tandem_model::counted(n[4]),
            tx_dropped: tandem_model::counted(n[5]),
            rx_errors: tandem_model::counted(n[6]),
            tx_errors: tandem_model::counted(n[7]),
            ..PortCounters::default()
        },
    })
}

fn agent_switch() -> impl Strategy<Value = AgentSwitch> {
    let site = read(SMALL);
    let names: Vec<String> = site.topology.switches.iter().map(|s| s.name.clone()).collect();
    let name = prop_oneof![4 => prop::sample::select(names), 1 => text()];
    let ports = vec(short().prop_map(|n| (PortNo(n), QueueSelection::Queue)), 0..4);
    (name, text(), ports).prop_map(|(name, datapath, ports)| AgentSwitch { name, datapath, ports })
}

fn agent_sample() -> impl Strategy<Value = AgentSample> {
    let class = (long(), long(), long(), short()).prop_map(|(bytes, packets, drops, queued)| ClassSample {
        bytes,
        packets,
        drops,
        queued,
    });
    (counters(), prop::option::of(long()), any::<bool>(), vec(class, 0..4), long()).prop_map(
        |(interface, speed, half_duplex, classes, n)| AgentSample {
            interface,
            speed: speed.map(BitRate),
            half_duplex,
            classes,
            hardware: [("rx_crc".to_owned(), n)].into(),
        },
    )
}

fn port() -> impl Strategy<Value = PortInfo> {
    (short(), text(), mac(), any::<bool>(), prop::option::of(long())).prop_map(
        |(port, name, mac, up, speed)| PortInfo {
            port: PortNo(port),
            name,
            mac,
            up,
            speed: speed.map(BitRate),
        },
    )
}

fn resources() -> impl Strategy<Value = Resources> {
    (short(), long(), long(), long()).prop_map(|(cpu, ram, disk, net)| Resources {
        cpu,
        ram: Bytes(ram),
        disk: Bytes(disk),
        net: BitRate(net),
    })
}

fn from_network() -> impl Strategy<Value = Event> {
    let at = || (dpid(), short().prop_map(PortNo));
    let arp = (any::<bool>(), mac(), mac(), address(), mac(), address()).prop_map(
        |(request, eth_dst, sender_mac, sender_ip, target_mac, target_ip)| Arp {
            op: if request { ArpOp::Request } else { ArpOp::Reply },
            eth_dst,
            sender_mac,
            sender_ip,
            target_mac,
            target_ip,
        },
    );
    let kinds = [
        DhcpRequestKind::Discover,
        DhcpRequestKind::Request,
        DhcpRequestKind::Decline,
        DhcpRequestKind::Release,
        DhcpRequestKind::Inform,
    ];
    let maybe = || prop::option::of(address());
    let dhcp =
        (prop::sample::select(kinds.to_vec()), any::<u32>(), mac(), mac(), address(), maybe(), maybe())
            .prop_map(|(kind, xid, mac, eth_src, client, requested, server)| DhcpRequest {
                kind,
                xid,
                mac,
                eth_src,
                client,
                requested,
                server,
                broadcast: true,
            });
    let caps = (text(), any::<u8>(), text(), text())
        .prop_map(|(version, tables, description, peer)| SwitchCaps { version, tables, description, peer });
    let flow = (long(), short(), long(), long()).prop_map(|(cookie, flows, packets, bytes)| FlowSample {
        cookie: Cookie(cookie),
        flows,
        packets: tandem_model::counted(packets),
        bytes: tandem_model::counted(bytes),
    });
    prop_oneof![
        1 => (dpid(), vec(port(), 0..4), caps).prop_map(|(switch, ports, caps)| Event::SwitchUp { switch, ports, caps }),
        1 => (dpid(), text()).prop_map(|(switch, why)| Event::SwitchDown { switch, why }),
        1 => (dpid(), port(), any::<bool>())
            .prop_map(|(switch, port, removed)| Event::PortChanged { switch, port, removed }),
        1 => (at(), at()).prop_map(|(from, to)| Event::LinkSeen { from, to }),
        1 => (at(), arp).prop_map(|((switch, port), arp)| Event::ArpSeen { switch, port, arp }),
        1 => (at(), mac(), address()).prop_map(|((switch, port), mac, ip)| Event::HostSeen { switch, port, mac, ip }),
        1 => (at(), dhcp).prop_map(|((switch, port), dhcp)| Event::DhcpSeen { switch, port, dhcp }),
        4 => (dpid(), vec(counters(), 0..4), vec(flow, 0..4))
            .prop_map(|(switch, ports, flows)| Event::Samples { switch, ports, flows, rules: Vec::new() }),
        1 => (at(), text()).prop_map(|((switch, port), why)| Event::PortRefused { switch, port, why }),
        1 => (dpid(), long(), short(), short()).prop_map(|(switch, txn, added, removed)| Event::RulesApplied {
            switch,
            txn: TxnId(txn),
            added,
            removed
        }),
        1 => (dpid(), long(), text())
            .prop_map(|(switch, txn, why)| Event::MetadataRefused { switch, txn: TxnId(txn), why }),
        1 => (dpid(), long(), text())
            .prop_map(|(switch, txn, why)| Event::RulesRefused { switch, txn: TxnId(txn), why }),
        1 => (dpid(), short(), short())
            .prop_map(|(switch, missing, stale)| Event::RulesRepaired { switch, missing, stale }),
        1 => (dpid(), text()).prop_map(|(switch, what)| Event::SwitchTrouble { switch, what }),
        1 => (dpid(), vec(left_rules(), 0..4)).prop_map(|(switch, left)| Event::RulesLeft { switch, left }),
        1 => (dpid(), short(), text())
            .prop_map(|(switch, rules, example)| Event::RulesUnlike { switch, rules, example }),
    ]
}

fn left_rules() -> impl Strategy<Value = LeftRules> {
    let owner = prop_oneof![
        short().prop_map(Owner::Vm),
        short().prop_map(Owner::Group),
        short().prop_map(Owner::Migration),
        Just(Owner::Base),
    ];
    let addresses = prop::collection::btree_set(address(), 0..4);
    (owner, addresses).prop_map(|(owner, addresses)| LeftRules { owner, addresses })
}

fn from_agent() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => text().prop_map(|agent| Event::AgentUp { agent }),
        1 => (text(), text()).prop_map(|(agent, what)| Event::AgentTrouble { agent, what }),
        4 => (proptest::option::of(text()), dpid(), vec(agent_sample(), 0..4))
            .prop_map(|(agent, switch, ports)| Event::AgentSamples { agent, switch, ports }),
        2 => (text(), vec(agent_switch(), 0..4))
            .prop_map(|(agent, switches)| Event::AgentHello { agent, switches }),
        1 => (text(), text()).prop_map(|(agent, why)| Event::AgentDown { agent, why }),
        1 => (text(), dpid(), short()).prop_map(|(agent, switch, n)| Event::PortsManaged {
            agent,
            switch,
            ports: vec![(PortNo(n), QueueSelection::Queue)]
        }),
    ]
}

/// The store and the clock of the controller itself.
fn from_controller() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => long().prop_map(|n| Event::Stored { id: StoreId(n) }),
        2 => (long(), text()).prop_map(|(n, why)| Event::StoreFailed { id: StoreId(n), why }),
        1 => any::<i64>().prop_map(|by| Event::WallClockStepped { by }),
    ]
}

fn from_world() -> impl Strategy<Value = Event> {
    let vm = || long().prop_map(VmId);
    let server = || short().prop_map(ServerId);
    let progress = (short(), prop::array::uniform4(long())).prop_map(|(round, n)| Progress {
        round,
        sent: Bytes(n[0]),
        remaining: Bytes(n[1]),
        rate: BitRate(n[2]),
        dirty: BitRate(n[3]),
    });
    prop_oneof![
        1 => (text(), vec((vm(), server()), 0..4)).prop_map(|(world, vms)| Event::WorldUp {
            world,
            vms,
            traffic: true
        }),
        2 => (vec((vm(), server()), 0..4), spec()).prop_map(|(vms, spec)| Event::VmsFound {
            vms: vms
                .into_iter()
                .map(|(vm, server)| FoundVm { vm, server, runs: vm.0 % 2 == 0, spec: spec.clone() })
                .collect()
        }),
        1 => (text(), text()).prop_map(|(world, why)| Event::WorldRefused { world, why }),
        1 => (text(), text()).prop_map(|(world, who)| Event::RivalSeen { world, who }),
        1 => vec((server(), text()), 0..3).prop_map(|servers| Event::ServersUnreachable { servers }),
        1 => text().prop_map(|why| Event::WorldDown { why }),
        1 => (vm(), prop::option::of(address())).prop_map(|(vm, address)| Event::VmStarted { vm, address }),
        1 => (vm(), text()).prop_map(|(vm, why)| Event::VmFailed { vm, why }),
        1 => vm().prop_map(|vm| Event::VmStopped { vm }),
        1 => vm().prop_map(|vm| Event::VmResized { vm }),
        1 => (long(), progress)
            .prop_map(|(n, progress)| Event::MigrationProgress { migration: MigrationId(n), progress }),
        1 => long().prop_map(|n| Event::VmSuspended { migration: MigrationId(n) }),
        1 => (long(), prop::option::of(long())).prop_map(|(n, ns)| Event::VmMoved {
            migration: MigrationId(n),
            downtime: ns.map(Duration::from_nanos)
        }),
        1 => (long(), prop::option::of(server()), text())
            .prop_map(|(n, at, why)| Event::MigrationFailed { migration: MigrationId(n), at, why }),
        6 => (server(), load(), vec((vm(), load()), 0..3))
            .prop_map(|(server, sample, vms)| Event::ServerSamples { server, sample, vms }),
        1 => (long(), text()).prop_map(|(n, why)| Event::TrafficEnded { id: TrafficId(n), why }),
    ]
}

/// What a hypervisor says that it keeps with a VM.
fn spec() -> impl Strategy<Value = Option<Box<VmSpec>>> {
    let origin = (long(), prop::option::of(short()), prop::option::of(long()), prop::option::of(short()))
        .prop_map(|(at, class, timeout, gateway)| VmOrigin {
            placed_at: Time(at),
            class: class.map(|c| ClassId(c as u16)),
            timeout: timeout.map(Duration::from_nanos),
            gateway: gateway.map(GatewayId),
        });
    let spec = (resources(), mac(), address(), short(), origin, prop::option::of(text())).prop_map(
        |(resources, mac, address, port, origin, name)| VmSpec {
            resources,
            name,
            image: None,
            mac,
            address,
            uplink_port: PortNo(port),
            fixed_address: None,
            origin,
        },
    );
    prop::option::of(spec.prop_map(Box::new))
}

fn question() -> impl Strategy<Value = Request> {
    let vm = || long().prop_map(VmId);
    let share = prop_oneof![Just(1e-320), Just(f64::MAX), Just(0.0), Just(100.0), 0.0f64..200.0];
    let shares = vec((share.clone(), share), 0..4);
    let request = (resources(), prop::option::of(long()), prop::option::of(text())).prop_map(
        |(resources, timeout, name)| VmRequest {
            resources,
            timeout: timeout.map(Duration::from_nanos),
            name,
            ..VmRequest::default()
        },
    );
    prop_oneof![
        4 => request.prop_map(|request| Request::RequestVm { request }),
        1 => vm().prop_map(|vm| Request::DeleteVm { vm }),
        2 => (vm(), prop::option::of(short()), resources(), address()).prop_map(|(vm, server, r, address)| {
            let known = Adoption {
                cpu: Some(r.cpu),
                ram: Some(r.ram),
                disk: Some(r.disk),
                net: Some(r.net),
                address: Some(address),
                ..Adoption::default()
            };
            Request::AdoptVm { vm, server: server.map(ServerId), known }
        }),
        1 => (vm(), prop::option::of(short()))
            .prop_map(|(vm, server)| Request::StopStray { vm, server: server.map(ServerId) }),
        1 => (vm(), resources()).prop_map(|(vm, resources)| Request::ResizeVm { vm, resources }),
        1 => vec(address(), 0..4).prop_map(|members| Request::CreateGroup { members }),
        1 => long().prop_map(|n| Request::DeleteGroup { group: GroupId(n) }),
        1 => shares.prop_map(|s| Request::SetShares {
            shares: s.into_iter().map(|(share, ceiling)| Share { share, ceiling }).collect()
        }),
        1 => (short(), short(), any::<bool>())
            .prop_map(|(s, p, up)| Request::SetPort { switch: SwitchId(s), port: PortNo(p), up }),
        1 => (vm(), vec(short(), 0..4))
            .prop_map(|(vm, via)| Request::PinPath { vm, via: via.into_iter().map(SwitchId).collect() }),
        1 => vm().prop_map(|vm| Request::UnpinPath { vm }),
        1 => (vm(), prop::option::of(short())).prop_map(|(vm, to)| Request::MigrateVm {
            vm,
            to: to.map(ServerId),
            options: MoveOptions::default()
        }),
        1 => long().prop_map(|n| Request::CancelMigration { migration: MigrationId(n) }),
        1 => short().prop_map(|n| Request::EvacuateServer { server: ServerId(n), options: MoveOptions::default() }),
        1 => short().prop_map(|n| Request::ReturnServer { server: ServerId(n) }),
        1 => Just(Request::Plan { aim: PlanGoal::KeepPolicy, options: MoveOptions::default() }),
        1 => Just(Request::Plan { aim: PlanGoal::Relieve, options: MoveOptions::default() }),
        1 => long().prop_map(|n| Request::ApplyPlan { plan: PlanId(n) }),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Event(Event),
    Request(Request),
    /// A VM that is as it should be, so that there is something to be told of.
    Vm,
    Wait(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![
        4 => (0u64..5_000).prop_map(Duration::from_millis),
        1 => Just(Duration::from_nanos(1)),
        1 => Just(Duration::from_secs(100 * 366 * 86_400)),
    ];
    prop_oneof![
        6 => from_network().prop_map(Step::Event),
        6 => from_world().prop_map(Step::Event),
        4 => from_agent().prop_map(Step::Event),
        1 => from_controller().prop_map(Step::Event),
        4 => question().prop_map(Step::Request),
        3 => Just(Step::Vm),
        2 => wait.prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]
    #[test]
    fn numbers_that_nobody_has_are_no_panic(steps in vec(step(), 1..60)) {
        let mut world = World::new(read(&format!("{SMALL}[hotspot]\nrelieve = true\nhorizon = \"15 s\"\n")));
        for step in steps {
            match step {
                Step::Event(event) => world.tell(event),
                Step::Request(ask) => drop(world.ask(ask)),
                Step::Vm => drop(world.ask_vm()),
                // One event at the end of it: a year of sweeps in between shows nothing more.
                Step::Wait(time) => {
                    world.now = world.now + time;
                    world.tell(Event::Wake);
                }
            }
            let snapshot = world.core.snapshot();
            prop_assert!(world.core.next_deadline().is_none_or(|t| t > world.now || t.0 == u64::MAX));
            drop(snapshot);
        }
    }
}

/// A recording of a small run, as it is written.
fn recorded() -> String {
    let mut world = World::new(read(SMALL));
    world.ask_vm();
    world.wait(Duration::from_secs(3));
    let mut out = Vec::new();
    let mut recording = tandem_core::record_replay::Recording::new(&mut out, &world.header).expect("memory");
    for line in &world.lines {
        recording.line(line.now, &line.event, &line.effects).expect("memory");
    }
    String::from_utf8(out).expect("JSON")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// A recording that somebody sends with a report may be damaged, or made: it is replayed, or
    /// why not is said.
    #[test]
    fn a_damaged_recording_is_no_panic(
        changes in vec((any::<prop::sample::Index>(), 0u8..4, any::<u8>()), 1..4),
    ) {
        let whole = recorded();
        prop_assert!(tandem_core::record_replay::replay(whole.as_bytes()).is_ok());
        let mut bytes = whole.into_bytes();
        for (at, how, byte) in changes {
            let digits: Vec<usize> =
                (0..bytes.len()).filter(|n| how > 0 || !bytes[*n].is_ascii_digit()).collect();
            let at = digits[at.index(digits.len())];
            match how {
                // Another byte anywhere; another digit; another number; the end.
                0 => bytes[at] = byte,
                1 => bytes[at] = b'0' + byte % 10,
                2 => drop(bytes.splice(at..at, b"9".repeat(usize::from(byte % 20)))),
                _ => bytes.truncate(at),
            }
        }
        if let Err(why) = tandem_core::record_replay::replay(&bytes[..]) {
            prop_assert!(!why.to_string().is_empty());
        }
    }
}
