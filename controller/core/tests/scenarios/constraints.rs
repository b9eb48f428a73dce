//! Constraints on where VMs are: every policy goes by them, and so does every move.

use crate::vm_groups::group_of;
use crate::world::{SMALL, World, read};
use std::collections::BTreeSet;
use tandem_core::policy::registry;
use tandem_model::{
    Constraints, MoveOptions, OnPlace, PlanGoal, QueueSelection, Request, Response, ServerId, Spread,
    SpreadLevel, SwitchId, VmRecord, VmRequest,
};

const CLASSES: &str = "[[class]]\nname = \"gold\"\nshare = 70\nservers = [\"srv2..srv3\"]\n\
                       [[class]]\nname = \"rest\"\nshare = 30\n";

fn spread(level: SpreadLevel, tag: &str) -> Constraints {
    Constraints { spread: Some(Spread { level, tag: tag.into() }), on: None }
}

fn on(place: OnPlace) -> Constraints {
    Constraints { on: Some(place), spread: None }
}

fn ask(world: &mut World, constraints: &Constraints) -> Option<Response> {
    let request = VmRequest { constraints: constraints.clone(), ..world.request() };
    let id = world.ask(Request::RequestVm { request });
    world.answer(id)
}

fn placed(world: &mut World, constraints: &Constraints) -> VmRecord {
    match ask(world, constraints) {
        Some(Response::VmRunning { vm }) => *vm,
        other => panic!("no VM: {other:?}"),
    }
}

fn moved(world: &mut World, vm: &VmRecord, to: Option<u32>) -> Option<Response> {
    let options = MoveOptions { force: true, ..Default::default() };
    let id = world.ask(Request::MigrateVm { vm: vm.id, to: to.map(ServerId), options });
    world.answer(id)
}

/// Four servers behind two edges, under every allocation policy there is.
fn worlds() -> Vec<World> {
    let names = registry::names(registry::ALLOCATION);
    assert!(names.len() >= 5, "{names:?}");
    let site = |name: &String| read(&format!("{SMALL}[policy]\nallocation = \"{name}\"\n"));
    names.iter().map(|name| World::new(site(name))).collect()
}

#[test]
fn vms_of_a_tag_are_on_different_servers_under_every_policy() {
    for mut world in worlds() {
        let apart = spread(SpreadLevel::Server, "db");
        let servers: BTreeSet<ServerId> = (0..4).map(|_| placed(&mut world, &apart).server).collect();
        assert_eq!(servers.len(), 4);
        let Some(Response::Rejected { rejection }) = ask(&mut world, &apart) else {
            panic!("a fifth server")
        };
        assert!(rejection.summary.contains("are kept apart (--spread)"), "{rejection}");
        // Others go where they like.
        placed(&mut world, &spread(SpreadLevel::Server, "other"));
        placed(&mut world, &Constraints::default());
    }
}

#[test]
fn vms_of_a_tag_are_behind_different_edges_under_every_policy() {
    for mut world in worlds() {
        let apart = spread(SpreadLevel::Edge, "db");
        let servers = [placed(&mut world, &apart).server, placed(&mut world, &apart).server];
        let edges: BTreeSet<_> = servers.iter().map(|s| world.site.topology.edge_of(*s, 0)).collect();
        assert_eq!(edges.len(), 2);
        assert!(matches!(ask(&mut world, &apart), Some(Response::Rejected { .. })), "a third edge");
    }
}

#[test]
fn the_members_of_a_group_are_kept_apart_from_each_other() {
    for mut world in worlds() {
        let mut request = group_of(&world, 4);
        request.members.iter_mut().for_each(|m| m.constraints = spread(SpreadLevel::Server, "web"));
        let id = world.ask(Request::RequestVmGroup { request: Box::new(request.clone()) });
        let Some(Response::VmGroupRunning { vms, .. }) = world.answer(id) else {
            panic!("{:?}", world.answer(id))
        };
        assert_eq!(vms.iter().map(|vm| vm.server).collect::<BTreeSet<_>>().len(), 4);
        request.name = "web2".into();
        request.members.push(request.members[0].clone());
        request.members.iter_mut().for_each(|m| m.constraints = spread(SpreadLevel::Server, "web2"));
        let id = world.ask(Request::RequestVmGroup { request: Box::new(request) });
        let Some(Response::Rejected { rejection }) = world.answer(id) else { panic!("five servers") };
        assert!(rejection.summary.starts_with("member 5 of 5"), "{rejection}");
    }
}

#[test]
fn a_vm_goes_to_the_server_or_edge_that_it_is_asked_for_on() {
    for mut world in worlds() {
        let third = on(OnPlace::Server(ServerId(2)));
        assert_eq!(placed(&mut world, &third).server, ServerId(2));
        let edge = world.site.topology.edge_of(ServerId(3), 0).expect("an edge");
        let vm = placed(&mut world, &on(OnPlace::Edge(edge)));
        assert_eq!(world.site.topology.edge_of(vm.server, 0), Some(edge));
        // A place that there is not bars all.
        let Some(Response::Rejected { .. }) = ask(&mut world, &on(OnPlace::Edge(SwitchId(0)))) else {
            panic!("a core switch has no servers")
        };
    }
}

#[test]
fn a_class_with_servers_of_its_own_goes_nowhere_else() {
    let mut world = World::new(read(&format!("{SMALL}[policy]\nallocation = \"worst-fit\"\n{CLASSES}")));
    crate::classes::manage(&mut world, QueueSelection::Queue);
    let gold = VmRequest { class: Some(tandem_model::ClassId(0)), ..world.request() };
    let servers: Vec<u32> = (0..4).map(|_| world.vm_of(gold.clone()).server.0).collect();
    assert_eq!(servers, [1, 2, 1, 2]);
    let vm = world.core.vms().next().cloned().expect("a VM");
    let Some(Response::Rejected { rejection }) = moved(&mut world, &vm, Some(0)) else { panic!("moved") };
    assert!(rejection.summary.contains("class gold has other servers"), "{rejection}");
    // VMs of a class that says nothing go everywhere, there too.
    let servers: BTreeSet<u32> = (0..4).map(|_| world.vm().server.0).collect();
    assert!(servers.contains(&0) && servers.contains(&3), "{servers:?}");
}

#[test]
fn a_move_against_a_constraint_is_refused_with_the_reason() {
    let mut world = World::new(read(SMALL));
    let apart = spread(SpreadLevel::Server, "db");
    let (a, b) = (placed(&mut world, &apart), placed(&mut world, &apart));
    let Some(Response::Rejected { rejection }) = moved(&mut world, &a, Some(b.server.0)) else {
        panic!("moved")
    };
    assert!(rejection.summary.contains("VMs of \"db\" are kept apart"), "{rejection}");
    let kept = placed(&mut world, &on(OnPlace::Server(ServerId(2))));
    for to in [Some(3), None] {
        let Some(Response::Rejected { rejection }) = moved(&mut world, &kept, to) else { panic!("moved") };
        assert!(rejection.summary.contains("it is kept to srv3 (--on)"), "{rejection}");
    }
    let free = moved(&mut world, &a, Some(3));
    assert!(matches!(free, Some(Response::Migrating { .. })), "{free:?}");
}

#[test]
fn an_evacuation_moves_only_to_where_constraints_allow_and_says_who_stays() {
    let mut world = World::new(read(SMALL));
    let apart = spread(SpreadLevel::Edge, "db");
    let (a, b) = (placed(&mut world, &apart), placed(&mut world, &apart));
    let kept = placed(&mut world, &on(OnPlace::Server(a.server)));
    let edge = |world: &World, server| world.site.topology.edge_of(server, 0);
    assert_ne!(edge(&world, a.server), edge(&world, b.server));
    let id = world.ask(Request::EvacuateServer { server: a.server, options: MoveOptions::default() });
    let Some(Response::Planned { plan }) = world.answer(id) else { panic!("{:?}", world.answer(id)) };
    let stays = plan.left.iter().find(|(vm, _)| *vm == kept.id).map(|(_, why)| why.as_str());
    assert!(stays.is_some_and(|why| why.contains("--on")), "{:?}", plan.left);
    world.wait(std::time::Duration::from_secs(60));
    let now = world.core.vm(a.id).cloned().expect("it runs");
    assert_ne!(now.server, a.server);
    assert_ne!(edge(&world, now.server), edge(&world, b.server));
}

/// Best fit would put all on one server: keep-policy leaves apart what is to be apart.
#[test]
fn keep_policy_does_not_bring_together_what_is_kept_apart() {
    let mut world = World::new(read(&format!("{SMALL}[policy]\nallocation = \"best-fit\"\n")));
    let apart = spread(SpreadLevel::Server, "db");
    let vms = [placed(&mut world, &apart), placed(&mut world, &apart)];
    let plan = world.core.plan(&PlanGoal::KeepPolicy, MoveOptions::default());
    assert!(plan.moves.is_empty(), "{plan:?}");
    let considered = world.core.consider_all();
    assert!(considered.iter().all(|c| c.from == c.to), "{considered:?}");
    // Without the constraint it would.
    let mut world = World::new(read(&format!("{SMALL}[policy]\nallocation = \"worst-fit\"\n")));
    for _ in &vms {
        placed(&mut world, &Constraints::default());
    }
    let site = read(&format!("{SMALL}[policy]\nallocation = \"best-fit\"\n"));
    let mut again = World::dark(site, world.stored.clone());
    again.connect_all();
    again.attach(world.core.vms().map(|vm| (vm.id, vm.server)).collect());
    let plan = again.core.plan(&PlanGoal::KeepPolicy, MoveOptions::default());
    assert_eq!(plan.moves.len(), 1, "{plan:?}");
}

/// Constraints are in the store with the VM: the next controller goes by them too.
#[test]
fn constraints_outlive_the_controller() {
    let mut world = World::new(read(SMALL));
    let apart = spread(SpreadLevel::Server, "db");
    let vms: Vec<VmRecord> = (0..2).map(|_| placed(&mut world, &apart)).collect();
    let mut after = World::dark(read(SMALL), world.stored.clone());
    after.connect_all();
    after.attach(vms.iter().map(|vm| (vm.id, vm.server)).collect());
    let third = placed(&mut after, &apart);
    assert!(vms.iter().all(|vm| vm.server != third.server));
    let Some(Response::Rejected { .. }) = moved(&mut after, &third, Some(vms[0].server.0)) else {
        panic!("moved")
    };
}

/// A plan that brings a VM to where another one of its tag leaves has it wait for that.
#[test]
fn a_move_waits_until_the_one_that_it_is_kept_apart_from_has_left() {
    let mut world = World::new(read(SMALL));
    let apart = spread(SpreadLevel::Server, "db");
    let (a, b) = (placed(&mut world, &apart), placed(&mut world, &apart));
    world.held.moves = true;
    let first = moved(&mut world, &b, Some(3));
    assert!(matches!(first, Some(Response::Migrating { .. })), "{first:?}");
    // While it moves it may be at either place in the end.
    for to in [b.server.0, 3] {
        let second = moved(&mut world, &a, Some(to));
        let Some(Response::Rejected { rejection }) = second else { panic!("{second:?}") };
        assert!(rejection.summary.contains("kept apart"), "{rejection}");
    }
}
