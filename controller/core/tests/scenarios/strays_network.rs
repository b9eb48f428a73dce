//! A controller with an empty store comes to VMs that run: their packets walk on, whoever connects
//! first, and nobody passes for another.

use crate::packets::{Fate, udp};
use crate::strays::notices;
use crate::world::{SMALL, World, read};
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Adoption, Arp, ArpOp, DhcpReplyKind, DhcpRequestKind, Effect, Event, FoundVm, GroupId, Mac, NodeId,
    Owner, PersistedState, Request, Response, ServerId, SwitchId, VmId, VmRecord,
};

/// Two classes, so that a VM may be of another one than the default.
const CLASSES: &str =
    "[[class]]\nname = \"gold\"\nshare = 60\n[[class]]\nname = \"bronze\"\nshare = 40\ndefault = true\n";

/// A data centre with VMs on all ways there are, and nobody who controls it: the controller is
/// gone, and a new one with an empty store has not met anybody yet.
fn orphaned(one_table: bool, make: impl FnOnce(&mut World) -> Vec<VmRecord>) -> (Vec<VmRecord>, World) {
    orphaned_on(SMALL, one_table, make)
}

fn orphaned_on(
    site: &str,
    one_table: bool,
    make: impl FnOnce(&mut World) -> Vec<VmRecord>,
) -> (Vec<VmRecord>, World) {
    let mut before = World::dark(read(site), PersistedState::default());
    before.one_table = one_table;
    before.connect_all();
    before.attach(Vec::new());
    let vms = make(&mut before);
    let vms = vms.iter().map(|v| before.core.vm(v.id).cloned().expect("it runs")).collect();
    let mut after =
        World::dark_at(read(site), PersistedState::default(), before.now + Duration::from_secs(5));
    after.one_table = one_table;
    after.specs.clone_from(&before.specs);
    after.tables.clone_from(&before.tables);
    (vms, after)
}

/// On two servers, by the default path and by another one.
fn two_ways(world: &mut World) -> Vec<VmRecord> {
    let first = world.vm();
    let mut large = world.request();
    large.resources.cpu = 8;
    let second = world.vm_of(large);
    let default = world.core.vm(second.id).expect("it runs").path_up.clone();
    let via = ["agg1", "agg2"].into_iter().find(|name| {
        let via = vec![world.switch(name)];
        let id = world.ask(Request::PinPath { vm: second.id, via });
        matches!(world.answer(id), Some(Response::Done | Response::VmRunning { .. }))
            && world.core.vm(second.id).expect("it runs").path_up != default
    });
    assert!(via.is_some(), "no other way for {}", second.id);
    vec![first, second]
}

fn owners(world: &World) -> Vec<Owner> {
    let all = world.tables.values().flat_map(|t| t.values()).filter_map(|r| r.cookie.owner());
    let mut owners: Vec<Owner> = all.filter(|o| o.is_recorded()).collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}

/// Whoever comes first, and in whatever order switches do as they are told: at every moment all VMs
/// reach their gateway and are reached.
#[test]
fn a_strays_packets_walk_through_at_every_moment() {
    // With two gateways, a VM whose own is not the nearest has exact rules to it, without which its
    // packets go astray.
    let two_gateways =
        "[topology]\nshape = \"three-tier\"\ncore = 2\naggregation = 2\nedge = 2\ngateways = 2\n";
    let cases = [(false, false), (false, true), (true, false), (true, true)];
    let cases = [SMALL, two_gateways].into_iter().flat_map(|site| cases.map(|case| (site, case)));
    for (site, (one_table, world_first)) in cases {
        let (vms, mut world) = orphaned_on(site, one_table, two_ways);
        let all_reach = |world: &World| vms.iter().for_each(|vm| world.assert_reachable(vm));
        all_reach(&world);
        world.held.switches = true;
        if world_first {
            world.attach_found();
            all_reach(&world);
        }
        for n in 0..world.site.topology.switches.len() as u32 {
            world.connect(SwitchId(n));
            all_reach(&world);
        }
        if !world_first {
            assert_eq!(owners(&world), [Owner::Vm(1), Owner::Vm(2)], "they may be somebody's");
            world.attach_found();
        }
        all_reach(&world);
        while world.is_waiting() {
            world.confirm(|waiting| waiting - 1);
            // The second one may be on its way from one path to the other, and is on one of them.
            all_reach(&world);
        }
        let served = world.core.snapshot().strays.clone();
        assert!(served.iter().all(|s| s.unserved.is_none()), "{served:?}");
        assert!(notices(&world, "vm-stray-unserved").is_empty());
        assert_eq!(world.reserved(), 0, "a stray reserves nothing");
        // From now on it does not matter what switches had.
        world.held.switches = false;
        world.tables.clear();
        world.connect_all();
        all_reach(&world);
    }
}

/// A VM of another class than the default one: what marks its packets at the gateway stays too,
/// also where that is a product.
#[test]
fn the_class_of_a_stray_stays() {
    for one_table in [false, true] {
        let site = format!("{SMALL}{CLASSES}");
        let (vms, mut world) = orphaned_on(&site, one_table, |world| {
            for n in 0..world.site.topology.switches.len() as u32 {
                let ports = world.site.topology.ports(NodeId::Switch(SwitchId(n)));
                let by_mark = ports.iter().map(|(p, _)| (*p, tandem_model::QueueSelection::Dscp)).collect();
                let switch = world.site.topology.switches[n as usize].dpid;
                world.tell(Event::PortsManaged { agent: "a".into(), switch, ports: by_mark });
            }
            let mut request = world.request();
            request.class = Some(tandem_model::ClassId(1 - world.site.default_class.expect("one").0));
            vec![world.vm_of(request)]
        });
        let vm = &vms[0];
        let marks = |world: &World| {
            let gateway = &world.site.topology.gateways[0];
            let packet = udp(gateway.mac, gateway.address, vm.address);
            let (fate, way) = world.walk_marked(NodeId::Gateway(vm.gateway), vm.path_down[0].link, packet);
            assert_eq!(fate, Fate::At(NodeId::Server(vm.server)));
            way.into_iter().map(|(switch, mark, _)| (switch, mark)).collect::<Vec<_>>()
        };
        let before = marks(&world);
        world.connect_all();
        assert_eq!(marks(&world), before, "the world has not told yet");
        world.attach_found();
        assert_eq!(marks(&world), before);
    }
}

/// Its gateway asks for it by ARP, it asks for its gateway, and it renews its lease: all as if it
/// had a record.
#[test]
fn a_strays_arp_is_answered_and_its_lease_is_renewed() {
    let (vms, mut world) = orphaned(false, two_ways);
    world.connect_all();
    world.attach_found();
    let vm = &vms[0];
    let gateway = world.site.topology.gateways[0].clone();
    let mut who_has =
        |at: (tandem_model::Dpid, tandem_model::PortNo), from: (Mac, Ipv4Addr), ip: Ipv4Addr| {
            world.forget();
            let arp = Arp {
                op: ArpOp::Request,
                eth_dst: Mac::BROADCAST,
                sender_mac: from.0,
                sender_ip: from.1,
                target_mac: Mac([0; 6]),
                target_ip: ip,
            };
            world.tell(Event::ArpSeen { switch: at.0, port: at.1, arp });
            world.log.iter().find_map(|e| match e {
                Effect::SendArp { arp, .. } if arp.op == ArpOp::Reply => Some(arp.sender_mac),
                _ => None,
            })
        };
    let (server, outside) = {
        let site = read(SMALL);
        let helper = World::dark(site, PersistedState::default());
        (helper.port_of(vm.server), helper.gateway_port())
    };
    assert_eq!(who_has(outside, (gateway.mac, gateway.address), vm.address), Some(vm.mac));
    assert_eq!(who_has(server, (vm.mac, vm.address), gateway.address), Some(gateway.mac));
    // Not another one's, and not at another server's port.
    assert_eq!(who_has(server, (vm.mac, vm.address), vms[1].address), None);
    assert_eq!(who_has(server, (vms[1].mac, vms[1].address), gateway.address), None);
    world.forget();
    let renewal = world.dhcp(vm.id, DhcpRequestKind::Request, Some(vm.address));
    world.tell(renewal);
    let reply = world.log.iter().find_map(|e| match e {
        Effect::SendDhcp { dhcp, .. } => Some(dhcp.clone()),
        _ => None,
    });
    let reply = reply.expect("an answer");
    assert_eq!(
        (reply.kind, reply.address, reply.router),
        (DhcpReplyKind::Ack, vm.address, Some(gateway.address))
    );
}

/// While a server is silent, what runs there is not known: its VM's rules stay, and its id and
/// address are given to nobody. When it answers and has no such VM, they go.
#[test]
fn rules_of_a_vm_that_may_run_stay_until_its_server_has_told() {
    let small_prefixes = format!("{SMALL}[addresses]\nprefix_len = 29\n");
    let (vms, mut world) = orphaned_on(&small_prefixes, false, two_ways);
    world.connect_all();
    let gone = &vms[1];
    world.specs.remove(&gone.id);
    let away = vec![(gone.server, "no route to host".to_owned())];
    world.tell(Event::ServersUnreachable { servers: away });
    world.attach_found();
    world.assert_reachable(&vms[0]);
    world.assert_reachable(gone);
    assert_eq!(owners(&world), [Owner::Vm(1), Owner::Vm(2)]);
    // A switch that comes again leaves them too.
    world.connect_all();
    world.assert_reachable(gone);
    let mut new = Vec::new();
    for _ in 0..3 {
        let vm = world.vm();
        assert!(vm.id != gone.id && vm.address != gone.address && vm.mac != gone.mac, "{vm:?}");
        new.push(vm);
    }
    world.tell(Event::ServersUnreachable { servers: Vec::new() });
    world.attach_found();
    assert!(matches!(world.receive(gone), Fate::Dropped(_)), "nobody has it");
    assert!(!owners(&world).contains(&Owner::Vm(2)));
    new.iter().chain(&vms[..1]).for_each(|vm| world.assert_reachable(vm));
    // Its address is free again: the others of its edge are given out first.
    let mut request = world.request();
    request.resources.cpu = 1;
    let given = std::iter::from_fn(|| {
        let id = world.ask(Request::RequestVm { request: request.clone() });
        match world.answer(id) {
            Some(Response::VmRunning { vm }) => Some(vm.address),
            _ => None,
        }
    });
    let given: Vec<Ipv4Addr> = given.collect();
    assert!(given.contains(&gone.address), "it is never given out again: {given:?}");
}

/// Stopped on request, dead, gone from its hypervisor, or halted there: a stray takes its rules
/// along.
#[test]
fn a_stray_that_goes_takes_its_rules_along() {
    for how in 0..4 {
        let (vms, mut world) = orphaned(false, two_ways);
        world.connect_all();
        world.attach_found();
        let (gone, stays) = (&vms[1], &vms[0]);
        match how {
            0 => {
                let id = world.ask(Request::StopStray { vm: gone.id, server: None });
                assert_eq!(world.answer(id), Some(Response::Done));
            }
            1 => world.tell(Event::VmFailed { vm: gone.id, why: "it is dead".into() }),
            2 => {
                world.specs.remove(&gone.id);
                world.attach_found();
            }
            _ => {
                let mut found = world.found();
                found.iter_mut().filter(|f| f.vm == gone.id).for_each(|f| f.runs = false);
                let there = found.iter().filter(|f| f.runs).map(|f| (f.vm, f.server)).collect();
                world.tell(Event::VmsFound { vms: found });
                world.attach(there);
            }
        }
        assert_eq!(owners(&world), [Owner::Vm(1)], "{how}");
        assert!(matches!(world.receive(gone), Fate::Dropped(_)), "{how}");
        let gateway = world.site.topology.gateways[0].address;
        assert!(matches!(world.send(gone, gateway), Fate::Dropped(_)), "{how}");
        world.assert_reachable(stays);
    }
}

/// A stray with what is somebody else's: an address or an Ethernet address of a VM on record, of a
/// server, of a gateway, or of another stray. It is not served, its notice says why, and it does
/// not get in the other's way, whatever switches had for it.
#[test]
fn a_stray_that_has_what_is_anothers_is_not_served() {
    let gateway = read(SMALL).topology.gateways[0].clone();
    let server = read(SMALL).topology.servers[1].clone();
    for wrong in ["vm's address", "vm's mac", "gateway's mac", "server's address", "outside", "two strays"] {
        let (vms, mut world) = orphaned(false, |world| vec![world.vm()]);
        let stray = &vms[0];
        let mut record = stray.clone();
        record.id = VmId(9);
        record.mac = Mac([2, 0x10, 0, 0, 0, 9]);
        record.server = ServerId(1);
        record.path_up[0] =
            tandem_model::Hop { link: world.site.topology.servers[1].uplinks[0], ..record.path_up[0] };
        let last = record.path_down.len() - 1;
        record.path_down[last].link = record.path_up[0].link;
        let known = matches!(wrong, "vm's address" | "vm's mac");
        if wrong == "vm's mac" {
            record.address = Ipv4Addr::from_bits(stray.address.to_bits() + 1);
            record.mac = stray.mac;
        }
        let stored = PersistedState {
            vms: if known { vec![record.clone()] } else { Vec::new() },
            last_vm: 9,
            ..PersistedState::default()
        };
        let mut next = World::dark_at(read(SMALL), stored, world.now);
        next.specs.clone_from(&world.specs);
        next.tables.clone_from(&world.tables);
        world = next;
        let (at, spec) = world.specs.get_mut(&stray.id).expect("it runs");
        match wrong {
            "gateway's mac" => spec.mac = gateway.mac,
            "server's address" => spec.address = server.address,
            "outside" => spec.address = Ipv4Addr::new(192, 0, 2, 1),
            _ => {}
        }
        if wrong == "two strays" {
            let other = (ServerId(at.0 + 1), spec.clone());
            world.specs.insert(VmId(5), other);
        }
        world.connect_all();
        if known {
            let found = FoundVm { vm: record.id, server: record.server, runs: true, spec: None };
            let mut all = world.found();
            all.push(found);
            let there = all.iter().map(|f| (f.vm, f.server)).collect();
            world.tell(Event::VmsFound { vms: all });
            world.attach(there);
        } else {
            world.attach_found();
        }
        let said = notices(&world, "vm-stray-unserved");
        let listed = world.core.snapshot().strays.clone();
        let why = listed[0].unserved.clone().unwrap_or_else(|| panic!("{wrong}: it is served"));
        assert!(said.iter().any(|s| s.contains("vm1 on srv1") && s.contains(&why)), "{wrong}: {said:?}");
        // Said once.
        world.tell(Event::WorldDown { why: "restarted".into() });
        world.connect_all();
        assert_eq!(notices(&world, "vm-stray-unserved").len(), said.len(), "{wrong}");
        if known {
            world.assert_reachable(&record);
            // When that one is gone, it is served.
            if wrong == "vm's address" {
                assert_eq!(owners(&world), [Owner::Vm(9)], "{wrong}");
                let to = world.site.topology.gateways[0].address;
                assert!(matches!(world.send(stray, to), Fate::Dropped(_)), "{wrong}: it passes for vm9");
                world.attach_found();
                let id = world.ask(Request::DeleteVm { vm: record.id });
                world.tell(Event::VmStopped { vm: record.id });
                assert_eq!(world.answer(id), Some(Response::Done));
                world.assert_reachable(stray);
            }
        }
    }
}

/// Members of a group whose record is lost talk on while they are strays. A new group has another
/// id. When one of them is adopted the group has ended, since adopting keeps no groups; so it has
/// when the last stray is gone.
#[test]
fn a_group_without_a_record_lasts_until_a_member_has_one() {
    for adopted in [true, false] {
        let (vms, mut world) = orphaned(false, |world| {
            let vms = two_ways(world);
            let members = vms.iter().map(|v| v.address).collect();
            let id = world.ask(Request::CreateGroup { members });
            assert!(matches!(world.answer(id), Some(Response::GroupCreated { .. })));
            vms
        });
        let together = |world: &World| {
            let there = |vm: &VmRecord| Fate::At(NodeId::Server(vm.server));
            (world.send(&vms[0], vms[1].address) == there(&vms[1]))
                && (world.send(&vms[1], vms[0].address) == there(&vms[0]))
        };
        world.connect_all();
        assert!(together(&world));
        world.attach_found();
        assert!(together(&world));
        assert_eq!(owners(&world), [Owner::Vm(1), Owner::Vm(2), Owner::Group(1)]);
        let arp = |world: &mut World| {
            world.forget();
            let (switch, port) = world.port_of(vms[0].server);
            let arp = Arp {
                op: ArpOp::Request,
                eth_dst: Mac::BROADCAST,
                sender_mac: vms[0].mac,
                sender_ip: vms[0].address,
                target_mac: Mac([0; 6]),
                target_ip: vms[1].address,
            };
            world.tell(Event::ArpSeen { switch, port, arp });
            world.log.iter().any(|e| matches!(e, Effect::SendArp { arp, .. } if arp.sender_mac == vms[1].mac))
        };
        assert!(arp(&mut world), "members learn each other's Ethernet address");
        let new: Vec<VmRecord> = (0..2).map(|_| world.vm()).collect();
        let members = new.iter().map(|v| v.address).collect();
        let id = world.ask(Request::CreateGroup { members });
        assert_eq!(world.answer(id), Some(Response::GroupCreated { group: GroupId(2) }));
        assert!(together(&world));
        if adopted {
            let id = world.ask(Request::AdoptVm { vm: VmId(1), server: None, known: Adoption::default() });
            assert!(matches!(world.answer(id), Some(Response::VmRunning { .. })));
            vms.iter().for_each(|vm| world.assert_reachable(vm));
        } else {
            for vm in &vms {
                world.ask(Request::StopStray { vm: vm.id, server: None });
            }
        }
        assert!(!together(&world) && !owners(&world).contains(&Owner::Group(1)), "{adopted}");
        assert!(!arp(&mut world));
        new.iter().for_each(|vm| world.assert_reachable(vm));
    }
}

/// Links fail while VMs are strays: they get another path, as every VM does.
#[test]
fn a_stray_gets_another_path() {
    let (vms, mut world) = orphaned(false, two_ways);
    world.connect_all();
    world.attach_found();
    let way = |world: &World, vm: &VmRecord| {
        let packet = udp(vm.mac, vm.address, Ipv4Addr::new(192, 0, 2, 1));
        world.walk(NodeId::Server(vm.server), packet).1
    };
    for name in ["agg1", "agg2"] {
        let (link, switch) = (world.link(name, "edge1"), world.switch(name));
        world.set_link(link, false);
        for vm in &vms {
            world.assert_reachable(vm);
            let way = way(&world, vm);
            assert!(
                way.contains(&world.switch("edge1")) && !way.contains(&switch),
                "over a dead link: {way:?}"
            );
        }
        world.set_link(link, true);
        vms.iter().for_each(|vm| world.assert_reachable(vm));
    }
}

/// What an older version kept says nothing of addresses: the rules that switches have stay while
/// the VM runs, and go with it.
#[test]
fn without_a_tag_what_switches_have_stays() {
    let (vms, mut world) = orphaned(false, two_ways);
    world.connect_all();
    let there: Vec<_> = vms.iter().map(|v| (v.id, v.server)).collect();
    world.attach(there.clone());
    vms.iter().for_each(|vm| world.assert_reachable(vm));
    let said = notices(&world, "vm-stray-unserved");
    assert!(said.len() == 1 && said[0].contains("vm1 on srv1, vm2 on srv2 (what is kept"), "{said:?}");
    world.connect_all();
    vms.iter().for_each(|vm| world.assert_reachable(vm));
    for _ in 0..3 {
        let new = world.vm();
        assert!(vms.iter().all(|vm| vm.address != new.address && vm.id != new.id), "{new:?}");
    }
    world.attach(there[..1].to_vec());
    world.assert_reachable(&vms[0]);
    assert!(matches!(world.receive(&vms[1]), Fate::Dropped(_)));
}

/// A switch comes with rules of a VM that may run, while a new VM with its address is on its way to
/// the store: they go before that one starts.
#[test]
fn nobody_passes_for_a_vm_that_was_placed_before_a_switch_came() {
    let (vms, orphans) = orphaned(false, |world| vec![world.vm()]);
    let stored = PersistedState { last_vm: 5, ..PersistedState::default() };
    let mut world = World::dark_at(read(SMALL), stored, orphans.now);
    world.connect_all();
    world.tell(Event::ServersUnreachable { servers: vec![(vms[0].server, "silent".to_owned())] });
    world.attach(Vec::new());
    world.held.store = true;
    let id = world.ask_vm();
    world.tables.clone_from(&orphans.tables);
    world.connect_all();
    assert_eq!(owners(&world), [Owner::Vm(1)], "it may be somebody's");
    world.catch_up();
    let Some(Response::VmRunning { vm }) = world.answer(id) else { panic!("{:?}", world.answer(id)) };
    assert_eq!((vm.id, vm.address), (VmId(6), vms[0].address));
    assert_eq!(owners(&world), [Owner::Vm(6)]);
    let gateway = world.site.topology.gateways[0].address;
    assert!(matches!(world.send(&vms[0], gateway), Fate::Dropped(_)), "it passes for {}", vm.id);
    world.assert_reachable(&vm);
}
