//! The operator's hand: ports off and on, pinned paths; each kept over a restart and taken back on
//! its own.

use crate::world::{SMALL, World, port, read};
use std::time::Duration;
use tandem_core::snapshot::OverrideView;
use tandem_model::{
    Dpid, Effect, Event, NodeId, PortNo, PortOverride, Rejection, Request, RequestId, Response, SwitchId,
    VmId, VmRecord, VmState, paths,
};

/// The port of `switch` that leads to `other`.
fn port_to(world: &World, switch: &str, other: &str) -> (SwitchId, PortNo) {
    let link = world.link(switch, other);
    let node = world.node(switch);
    let end = world.site.topology.link(link).and_then(|l| l.end_at(node)).expect("an end");
    (world.switch(switch), end.port)
}

fn set(world: &mut World, (switch, port): (SwitchId, PortNo), up: bool) -> Option<Response> {
    let id = world.ask(Request::SetPort { switch, port, up });
    world.answer(id)
}

/// The port changes that switches were told since `forget`.
fn told(world: &World) -> Vec<(Dpid, PortNo, bool)> {
    let told = world.log.iter().filter_map(|e| match e {
        Effect::SetPort { switch, port, up } => Some((*switch, *port, *up)),
        _ => None,
    });
    told.collect()
}

fn names(world: &World, vm: VmId) -> Vec<String> {
    let record = world.core.vm(vm).expect("the VM");
    let topology = &world.site.topology;
    paths::nodes(topology, NodeId::Server(record.server), &record.path_up)
        .into_iter()
        .map(|n| topology.name(n).to_owned())
        .collect()
}

fn record(world: &World, vm: VmId) -> VmRecord {
    world.core.vm(vm).cloned().expect("the VM")
}

fn pin(world: &mut World, vm: VmId, via: &[&str]) -> Option<Response> {
    let via = via.iter().map(|name| world.switch(name)).collect();
    let id = world.ask(Request::PinPath { vm, via });
    world.answer(id)
}

fn rejection(answer: Option<Response>) -> Rejection {
    match answer {
        Some(Response::Rejected { rejection }) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

fn overrides(world: &mut World) -> Vec<OverrideView> {
    world.core.snapshot().overrides.to_vec()
}

/// Which of the two aggregation switches a VM's path does not go by.
fn other_agg(world: &World, vm: VmId) -> &'static str {
    if names(world, vm).iter().any(|n| n == "agg1") { "agg2" } else { "agg1" }
}

#[test]
fn a_port_that_is_switched_off_is_routed_around_and_comes_back_when_it_is_on_again() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let by = names(&world, vm.id)[2].clone();
    let at = port_to(&world, "edge1", &by);
    let dpid = world.dpid("edge1");
    world.forget();
    assert_eq!(set(&mut world, at, false), Some(Response::Done));
    assert_eq!(told(&world), [(dpid, at.1, false)]);
    let off = world.noticed("link-down");
    assert!(off.len() == 1 && off[0].contains("the operator has switched off edge1."), "{off:?}");
    assert_ne!(names(&world, vm.id)[2], by, "the VM goes another way before the switch has said anything");
    world.assert_reachable(&record(&world, vm.id));
    let link = world.link("edge1", &by);
    let view = world.core.snapshot().links[link.0 as usize].clone();
    assert_eq!((view.state.as_str(), view.switched_off.len()), ("down", 1));
    let seen = overrides(&mut world);
    assert!(matches!(&seen[..], [OverrideView::PortOff { switch, lifted: false, .. }] if switch == "edge1"));

    // The switch says so too; then somebody switches it on there, and is overruled.
    world.tell(Event::PortChanged { switch: dpid, port: port(at.1, false), removed: false });
    world.forget();
    world.tell(Event::PortChanged { switch: dpid, port: port(at.1, true), removed: false });
    assert_eq!(told(&world), [(dpid, at.1, false)]);
    assert!(!world.core.is_usable(link), "whatever the switch says");

    // Again is no mistake; another port's hand is not this one's.
    assert_eq!(set(&mut world, at, false), Some(Response::Done));
    let never = (at.0, PortNo(at.1.0 + 1));
    let why = rejection(set(&mut world, never, true)).summary;
    assert!(why.contains("was not switched off here"), "{why}");
    assert!(matches!(set(&mut world, (at.0, PortNo(99)), false), Some(Response::NotFound { .. })));

    world.forget();
    assert_eq!(set(&mut world, at, true), Some(Response::Done));
    assert_eq!(told(&world), [(dpid, at.1, true)]);
    world.tell(Event::PortChanged { switch: dpid, port: port(at.1, true), removed: false });
    assert!(world.core.is_usable(link));
    assert_eq!((overrides(&mut world), world.stored.ports.clone()), (Vec::new(), Vec::new()));
}

#[test]
fn a_port_stays_off_over_restarts_of_the_switch_and_of_the_controller() {
    let mut before = World::new(read(SMALL));
    let at = port_to(&before, "edge1", "agg1");
    let dpid = before.dpid("edge1");
    set(&mut before, at, false);
    before.switch_down("edge1");
    before.forget();
    before.connect(at.0);
    assert_eq!(told(&before), [(dpid, at.1, false)], "told again on every connection");

    let mut after = World::dark(read(SMALL), before.stored.clone());
    after.connect_all();
    assert_eq!(told(&after), [(dpid, at.1, false)]);
    assert!(!after.core.is_usable(after.link("edge1", "agg1")));
    assert!(after.core.is_usable(after.link("edge1", "agg2")));

    // Taken back while the switch is away: it is told when it is back, and only then is the
    // override gone.
    after.switch_down("edge1");
    after.forget();
    assert_eq!(set(&mut after, at, true), Some(Response::Done));
    assert_eq!(told(&after), []);
    assert!(matches!(overrides(&mut after)[..], [OverrideView::PortOff { lifted: true, .. }]));
    let mut again = World::dark(read(SMALL), after.stored.clone());
    again.connect_all();
    assert_eq!(told(&again), [(dpid, at.1, true)], "also by a controller that was started meanwhile");
    assert_eq!((overrides(&mut again), again.stored.ports.clone()), (Vec::new(), Vec::<PortOverride>::new()));
}

#[test]
fn what_the_store_refuses_is_not_done_and_what_the_switch_refuses_is_said() {
    let mut world = World::new(read(SMALL));
    let at = port_to(&world, "edge1", "agg1");
    world.held.store = true;
    world.forget();
    let id = world.ask(Request::SetPort { switch: at.0, port: at.1, up: false });
    assert_eq!((world.answer(id), told(&world)), (None, Vec::new()), "first it is written down");
    let store = world.log.iter().find_map(|e| match e {
        Effect::Store { id, .. } => Some(*id),
        _ => None,
    });
    world.tell(Event::StoreFailed { id: store.expect("a write"), why: "disk full".into() });
    assert!(matches!(world.answer(id), Some(Response::Failed { .. })));
    assert!(told(&world).is_empty() && world.core.is_usable(world.link("edge1", "agg1")));

    let switch = world.dpid("edge1");
    world.tell(Event::PortRefused { switch, port: at.1, why: "OFPPMFC_EPERM".into() });
    assert!(world.noticed("port-refused")[0].contains("OFPPMFC_EPERM"));
}

#[test]
fn a_pinned_path_goes_by_the_named_switches_both_ways_and_ends_with_its_pin() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let by = other_agg(&world, vm.id);
    let before = names(&world, vm.id);
    assert_eq!(pin(&mut world, vm.id, &[by, "core1"]), Some(Response::Done));
    assert_eq!(names(&world, vm.id)[2], by);
    let now = record(&world, vm.id);
    let back: Vec<_> = now.path_down.iter().rev().map(|h| (h.link, !h.down)).collect();
    assert_eq!(now.path_up.iter().map(|h| (h.link, h.down)).collect::<Vec<_>>(), back);
    world.assert_reachable(&now);
    assert!(matches!(&overrides(&mut world)[..], [OverrideView::PathPinned { kept: true, .. }]));

    // The same again, and one that it keeps already: nothing moves.
    world.forget();
    assert_eq!(pin(&mut world, vm.id, &[by]), Some(Response::Done));
    assert!(!world.log.iter().any(|e| matches!(e, Effect::ApplyRules { .. })));

    let id = world.ask(Request::UnpinPath { vm: vm.id });
    assert_eq!(world.answer(id), Some(Response::Done));
    assert_eq!(names(&world, vm.id), before, "the default path again");
    world.assert_reachable(&record(&world, vm.id));
    assert!(overrides(&mut world).is_empty());
    let id = world.ask(Request::UnpinPath { vm: vm.id });
    assert!(rejection(world.answer(id)).summary.contains("not pinned"));
}

#[test]
fn a_pin_that_cannot_be_is_refused_with_the_reason_and_changes_nothing() {
    let mut world = World::new(read(&format!("{SMALL}[bandwidth]\naggregation = \"2 Mbit/s\"\n")));
    let vms: Vec<VmRecord> = (0..3).map(|_| world.vm()).collect();
    // Links of 2 Mbit/s take two VMs of 1 Mbit/s: find one whose other side is full.
    let full = vms.iter().find_map(|vm| {
        let via = vec![world.switch(other_agg(&world, vm.id))];
        let id = world.ask(Request::PinPath { vm: vm.id, via });
        match world.answer(id) {
            Some(Response::Rejected { rejection }) => Some(rejection),
            _ => None,
        }
    });
    let full = full.expect("one of three cannot be moved");
    assert!(full.summary.contains("link capacity") && full.nearest[0].needed == 1_000_000, "{full}");

    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let (path, tables, reserved) = (names(&world, vm.id), world.tables.clone(), world.reserved());
    for (via, why) in [
        (vec![], "each once"),
        (vec!["agg1", "agg1"], "each once"),
        // The only way to the gateway is by core1, and nothing is passed twice.
        (vec!["core1", "agg1"], "short of a live path"),
    ] {
        let why_not = rejection(pin(&mut world, vm.id, &via)).summary;
        assert!(why_not.contains(why), "{via:?}: {why_not}");
    }
    let id = world.ask(Request::PinPath { vm: VmId(99), via: Vec::new() });
    assert!(matches!(world.answer(id), Some(Response::NotFound { .. })));
    assert_eq!(world.reserved(), reserved);
    assert_eq!((names(&world, vm.id), &world.tables), (path, &tables));
    assert!(overrides(&mut world).is_empty() && world.stored.vms[0].pin.is_none());
    // A switch that is away for so long that paths avoid it.
    let by = other_agg(&world, vm.id);
    world.switch_down(by);
    world.wait_seen(Duration::from_secs(15));
    let why = rejection(pin(&mut world, vm.id, &[by]));
    assert!(why.nearest.iter().any(|m| m.place == by), "{why}");
}

#[test]
fn a_pinned_vm_leaves_its_path_when_it_breaks_and_goes_back_when_it_can() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let by = other_agg(&world, vm.id);
    pin(&mut world, vm.id, &[by]);
    world.forget();
    let link = world.link(by, "edge1");
    world.set_link(link, false);
    assert_ne!(names(&world, vm.id)[2], by);
    world.assert_reachable(&record(&world, vm.id));
    assert_eq!(world.noticed("path-left").len(), 1);
    assert!(matches!(&overrides(&mut world)[..], [OverrideView::PathPinned { kept: false, .. }]));
    // Nothing else that happens brings it back, or is reported again.
    let far = world.link("core1", "gw1");
    world.set_link(far, false);
    world.set_link(far, true);
    assert_eq!((world.noticed("path-left").len(), world.noticed("path-back").len()), (1, 0));

    world.set_link(link, true);
    assert_eq!(names(&world, vm.id)[2], by);
    assert_eq!(world.noticed("path-back").len(), 1);
    world.assert_reachable(&record(&world, vm.id));

    // A controller that starts anew knows of the pin.
    let mut after = World::dark(read(SMALL), world.stored.clone());
    after.connect_all();
    after.attach(vec![(vm.id, vm.server)]);
    assert_eq!(names(&after, vm.id), names(&world, vm.id));
    after.assert_reachable(&record(&after, vm.id));
    after.set_link(link, false);
    after.set_link(link, true);
    assert_eq!(names(&after, vm.id)[2], by);
}

/// Its room went to somebody else while it was away: it waits until that one is gone.
#[test]
fn a_pinned_vm_goes_back_only_when_there_is_room() {
    let mut world = World::new(read(&format!("{SMALL}[bandwidth]\naggregation = \"1 Mbit/s\"\n")));
    let vm = world.vm();
    let by = names(&world, vm.id)[2].clone();
    assert_eq!(pin(&mut world, vm.id, &[&by]), Some(Response::Done));
    let link = world.link(&by, "edge1");
    world.set_link(link, false);
    assert_ne!(names(&world, vm.id)[2], by);
    // The link comes back with other traffic on it: measured counts like reserved.
    let (switch, number) = world.ends(link)[0];
    let sample = |bytes| tandem_model::PortSample {
        port: number,
        counters: tandem_model::PortCounters {
            rx_packets: Some(0),
            tx_packets: Some(0),
            rx_bytes: Some(bytes),
            tx_bytes: Some(bytes),
            rx_dropped: Some(0),
            tx_dropped: Some(0),
            rx_errors: Some(0),
            tx_errors: Some(0),
            ..tandem_model::PortCounters::default()
        },
    };
    let tell = |world: &mut World, bytes| {
        world.tell(Event::Samples {
            switch,
            ports: vec![sample(bytes)],
            flows: Vec::new(),
            rules: Vec::new(),
        });
        world.wait(Duration::from_secs(1));
    };
    tell(&mut world, 0);
    tell(&mut world, 100_000);
    world.set_link(link, true);
    assert_ne!(names(&world, vm.id)[2], by, "0.8 of 1 Mbit/s are taken");
    // Half of what was measured before is left each second, until nothing is.
    for _ in 0..30 {
        tell(&mut world, 100_000);
    }
    world.wait_seen(Duration::from_secs(30));
    assert_eq!(names(&world, vm.id)[2], by, "the sweep of links finds it free");
    assert_eq!(record(&world, vm.id).state, VmState::Running);
}

/// A VM whose own traffic fills its server's link is not in its own way.
#[test]
fn what_a_vm_itself_sends_does_not_count_against_its_pin() {
    let mut world = World::new(read(SMALL));
    let mut request = world.request();
    request.resources.net = tandem_model::BitRate::mbit(10);
    let vm = world.vm_of(request);
    let (switch, port) = world.port_of(vm.server);
    for bytes in [0, 1_250_000] {
        let sample = tandem_model::PortSample {
            port,
            counters: tandem_model::PortCounters {
                rx_packets: Some(0),
                tx_packets: Some(0),
                rx_bytes: Some(bytes),
                tx_bytes: Some(bytes),
                rx_dropped: Some(0),
                tx_dropped: Some(0),
                rx_errors: Some(0),
                tx_errors: Some(0),
                ..tandem_model::PortCounters::default()
            },
        };
        world.tell(Event::Samples { switch, ports: vec![sample], flows: Vec::new(), rules: Vec::new() });
        world.wait(Duration::from_secs(1));
    }
    assert_eq!(world.core.server_link_ratio(vm.server), 1.0);
    let by = other_agg(&world, vm.id);
    assert_eq!(pin(&mut world, vm.id, &[by]), Some(Response::Done));
    assert_eq!(names(&world, vm.id)[2], by);
}

/// Which ids were asked is of no interest, but that each is answered once is checked by `answer`.
#[test]
fn a_pin_whose_store_fails_is_no_pin() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let by = other_agg(&world, vm.id);
    let before = names(&world, vm.id);
    world.held.store = true;
    world.forget();
    let via = vec![world.switch(by)];
    let id: RequestId = world.ask(Request::PinPath { vm: vm.id, via });
    let store = world.log.iter().find_map(|e| match e {
        Effect::Store { id, .. } => Some(*id),
        _ => None,
    });
    world.tell(Event::StoreFailed { id: store.expect("a write"), why: "disk full".into() });
    assert!(matches!(world.answer(id), Some(Response::Failed { .. })));
    assert_eq!((names(&world, vm.id), record(&world, vm.id).pin), (before, None));
}
