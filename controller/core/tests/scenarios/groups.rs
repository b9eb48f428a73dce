//! VMs cannot reach each other unless they are grouped.

use crate::packets::Fate;
use crate::world::{SMALL, World, read};
use std::net::Ipv4Addr;
use tandem_model::{
    Arp, ArpOp, Effect, Event, GroupId, Mac, NodeId, Request, RequestId, Response, StoreId, VmRecord,
};

/// Two on one server, one beside it at the same edge, one at the other edge.
fn four(world: &mut World) -> Vec<VmRecord> {
    let mut vms: Vec<VmRecord> = (0..2).map(|_| world.vm()).collect();
    let mut large = world.request();
    large.resources.cpu = 7;
    vms.push(world.vm_of(large.clone()));
    large.resources.cpu = 8;
    vms.push(world.vm_of(large));
    let servers: Vec<u32> = vms.iter().map(|v| v.server.0).collect();
    assert_eq!(servers, [0, 0, 1, 2]);
    vms
}

fn group(world: &mut World, vms: &[&VmRecord]) -> RequestId {
    let members = vms.iter().map(|v| v.address).collect();
    world.ask(Request::CreateGroup { members })
}

fn assert_isolated(world: &World, vms: &[VmRecord]) {
    for a in vms {
        world.assert_reachable(a);
        for b in vms.iter().filter(|b| b.id != a.id) {
            assert!(matches!(world.send(a, b.address), Fate::Dropped(_)), "{} to {}", a.id, b.id);
        }
    }
}

fn assert_together(world: &World, vms: &[VmRecord]) {
    for a in vms {
        for b in vms.iter().filter(|b| b.id != a.id) {
            let there = Fate::At(NodeId::Server(b.server));
            assert_eq!(world.send(a, b.address), there, "{} to {}", a.id, b.id);
        }
    }
}

#[test]
fn vms_are_isolated_from_each_other_and_from_servers() {
    let mut world = World::new(read(SMALL));
    let vms = four(&mut world);
    assert_isolated(&world, &vms);
    for server in &world.site.topology.servers {
        assert!(matches!(world.send(&vms[0], server.address), Fate::Dropped(_)), "{}", server.name);
    }
}

#[test]
fn a_groups_members_reach_each_other_wherever_they_are_and_nobody_else() {
    for one_table in [false, true] {
        let mut world = World::dark(read(SMALL), Default::default());
        world.one_table = one_table;
        world.connect_all();
        world.attach(Vec::new());
        let vms = four(&mut world);
        let outsider = world.vm();
        let tables = world.tables.clone();
        let id = group(&mut world, &vms.iter().collect::<Vec<_>>());
        assert_eq!(world.answer(id), Some(Response::GroupCreated { group: GroupId(1) }));
        assert_together(&world, &vms);
        for vm in &vms {
            world.assert_reachable(vm);
            assert!(matches!(world.send(vm, outsider.address), Fate::Dropped(_)));
            assert!(matches!(world.send(&outsider, vm.address), Fate::Dropped(_)));
        }
        let id = world.ask(Request::DeleteGroup { group: GroupId(1) });
        assert_eq!(world.answer(id), Some(Response::Done));
        assert_eq!(world.tables, tables);
        assert_isolated(&world, &vms);
        let id = world.ask(Request::DeleteGroup { group: GroupId(1) });
        assert!(matches!(world.answer(id), Some(Response::NotFound { .. })));
    }
}

/// A VM in two groups: leaving one leaves the other as it is, also where both want the same rules.
#[test]
fn groups_may_overlap() {
    let mut world = World::new(read(SMALL));
    let vms = four(&mut world);
    group(&mut world, &[&vms[0], &vms[2], &vms[3]]);
    group(&mut world, &[&vms[0], &vms[3]]);
    world.ask(Request::DeleteGroup { group: GroupId(2) });
    assert_together(&world, &[vms[0].clone(), vms[2].clone(), vms[3].clone()]);
    assert!(matches!(world.send(&vms[1], vms[0].address), Fate::Dropped(_)));
}

#[test]
fn a_member_that_goes_leaves_and_a_group_of_one_is_none() {
    let mut world = World::new(read(SMALL));
    let vms = four(&mut world);
    group(&mut world, &[&vms[0], &vms[2], &vms[3]]);
    world.ask(Request::DeleteVm { vm: vms[3].id });
    assert_eq!(world.stored.groups[0].members, [vms[0].id, vms[2].id]);
    assert_together(&world, &[vms[0].clone(), vms[2].clone()]);
    world.ask(Request::DeleteVm { vm: vms[2].id });
    assert_eq!(world.stored.groups, []);
    assert_isolated(&world, &vms[..2]);
}

#[test]
fn a_group_needs_two_running_vms() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let id = group(&mut world, &[&vm, &vm]);
    assert!(matches!(world.answer(id), Some(Response::Conflict { why }) if why.contains("two")));
    let nobody = Ipv4Addr::new(10, 0, 0, 99);
    let id = world.ask(Request::CreateGroup { members: vec![vm.address, nobody] });
    assert!(matches!(world.answer(id), Some(Response::NotFound { what }) if what.contains("10.0.0.99")));
    assert_eq!(world.stored.groups, []);
}

#[test]
fn a_group_that_cannot_be_stored_or_is_refused_is_undone() {
    let mut world = World::new(read(SMALL));
    let vms = four(&mut world);
    let tables = world.tables.clone();
    world.held.store = true;
    let last = world.log.iter().filter(|e| matches!(e, Effect::Store { .. })).count() as u64;
    let id = group(&mut world, &[&vms[0], &vms[3]]);
    world.tell(Event::StoreFailed { id: StoreId(last + 1), why: "disk full".into() });
    assert!(matches!(world.answer(id), Some(Response::Failed { why }) if why.contains("disk full")));
    assert_eq!(world.tables, tables);

    (world.held.store, world.held.rules) = (false, true);
    world.forget();
    let id = group(&mut world, &[&vms[0], &vms[3]]);
    let sent = world.log.iter().find_map(|e| match e {
        Effect::ApplyRules { switch, txn, .. } => Some((*switch, *txn)),
        _ => None,
    });
    let (switch, txn) = sent.expect("a transaction");
    world.held.rules = false;
    world.tell(Event::RulesRefused { switch, txn, why: "table full".into() });
    assert!(matches!(world.answer(id), Some(Response::Failed { why }) if why.contains("table full")));
    assert_eq!((world.stored.groups.len(), world.tables.clone()), (0, tables));
    assert_isolated(&world, &vms);
}

/// What the store does not take has not happened: the group goes on, and a later deletion ends it.
#[test]
fn a_group_whose_deletion_cannot_be_stored_stays() {
    let mut world = World::new(read(SMALL));
    let vms = four(&mut world);
    let two = [vms[0].clone(), vms[3].clone()];
    group(&mut world, &[&two[0], &two[1]]);
    let (tables, of) = (world.tables.clone(), world.stored.groups[0].id);
    world.held.store = true;
    let id = world.ask(Request::DeleteGroup { group: of });
    let write = world.log.iter().rev().find_map(|e| match e {
        Effect::Store { id, .. } => Some(*id),
        _ => None,
    });
    world.tell(Event::StoreFailed { id: write.expect("a write"), why: "disk full".into() });
    assert!(
        matches!(world.answer(id), Some(Response::Failed { why }) if why.contains("nothing was changed"))
    );
    assert_eq!(world.tables, tables);
    assert_together(&world, &two);
    world.held.store = false;
    let id = world.ask(Request::DeleteGroup { group: of });
    assert_eq!((world.answer(id), world.stored.groups.len()), (Some(Response::Done), 0));
    assert_isolated(&world, &vms);
}

/// A member goes while the store is full: the smaller group is written as soon as there is room.
#[test]
fn a_smaller_group_is_written_when_the_store_has_room_again() {
    let mut world = World::new(read(SMALL));
    let vms = four(&mut world);
    group(&mut world, &[&vms[0], &vms[1], &vms[3]]);
    world.held.store = true;
    world.forget();
    world.ask(Request::DeleteVm { vm: vms[1].id });
    // 1. Written as stopping, 2. gone from the store; then its group is written without it.
    for _ in 0..2 {
        let write = world.log.iter().rev().find_map(|e| match e {
            Effect::Store { id, .. } => Some(*id),
            _ => None,
        });
        world.tell(Event::Stored { id: write.expect("a write") });
    }
    let smaller = world.log.iter().rev().find_map(|e| match e {
        Effect::Store { id, op: tandem_model::StoreOp::PutGroup { .. } } => Some(*id),
        _ => None,
    });
    world.tell(Event::StoreFailed { id: smaller.expect("the group is written"), why: "disk full".into() });
    assert_eq!(world.stored.groups[0].members.len(), 3, "what the store has is the group as it was");
    world.held.store = false;
    world.wait(std::time::Duration::from_secs(1));
    assert_eq!(world.stored.groups[0].members, [vms[0].id, vms[3].id]);
}

/// A link between the edges goes: the group's packets take another way.
#[test]
fn a_groups_rules_follow_the_topology() {
    let mut world = World::new(read(SMALL));
    let vms = four(&mut world);
    let two = [vms[0].clone(), vms[3].clone()];
    group(&mut world, &[&two[0], &two[1]]);
    for link in [world.link("agg1", "edge1"), world.link("agg2", "edge2")] {
        world.set_link(link, false);
        assert_together(&world, &two);
        world.set_link(link, true);
        assert_together(&world, &two);
    }
}

/// A member is pinned to a path by its server's other uplink: it sends and receives at another edge
/// from then on.
#[test]
fn a_groups_rules_follow_a_member_to_another_uplink() {
    for count in [2, 5] {
        let mut world = World::new(read(
            "[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 1\nedge = 2\naggregation_core_links = 1\n\
             server_uplinks = 2\n",
        ));
        let vms: Vec<VmRecord> = (0..count).map(|_| world.vm()).collect();
        group(&mut world, &vms.iter().collect::<Vec<_>>());
        let edge = |world: &World, vm: &VmRecord| {
            tandem_core::network::attachment::server_port(&world.site.topology, vm).map(|(switch, _)| switch)
        };
        let before = edge(&world, &vms[0]);
        let other = if before == Some(world.switch("edge1")) { "edge2" } else { "edge1" };
        let via = vec![world.switch(other)];
        let id = world.ask(Request::PinPath { vm: vms[0].id, via });
        let now: Vec<VmRecord> = world.core.vms().cloned().collect();
        assert_ne!(edge(&world, &now[0]), before, "{:?}", world.answer(id));
        assert_together(&world, &now);
    }
}

/// Members may learn each other's Ethernet address, others may not.
#[test]
fn a_vm_learns_the_ethernet_addresses_of_its_group_only() {
    let mut world = World::new(read(SMALL));
    let vms = four(&mut world);
    group(&mut world, &[&vms[0], &vms[3]]);
    let mut who_has = |ip: Ipv4Addr| {
        world.forget();
        let arp = Arp {
            op: ArpOp::Request,
            eth_dst: Mac::BROADCAST,
            sender_mac: vms[0].mac,
            sender_ip: vms[0].address,
            target_mac: Mac([0; 6]),
            target_ip: ip,
        };
        let (switch, port) = world.port_of(vms[0].server);
        world.tell(Event::ArpSeen { switch, port, arp });
        world.log.iter().find_map(|e| match e {
            Effect::SendArp { arp, .. } => Some(arp.sender_mac),
            _ => None,
        })
    };
    assert_eq!(who_has(vms[3].address), Some(vms[3].mac));
    assert_eq!(who_has(vms[1].address), None);
}
