//! What the core says of changes of the data centre, for policies and for clients that follow them:
//! each change once, in the call that brought it about.

use crate::hotspots::site as hotspot_site;
use crate::loads::{Meters, with_vms};
use crate::moves::held;
use crate::world::{SMALL, World, read};
use std::time::Duration;
use tandem_core::Core;
use tandem_model::{
    Arp, ArpOp, BitRate, Event, HotPlace, Mac, MoveOptions, PersistedState, PlanGoal, Request, Resource,
    Resources, ServerId, SiteEvent, VmId,
};

/// An announcement of its own address (RFC 5227 section 2.3) by a machine at a port.
fn announcement(world: &World, at: (tandem_model::Dpid, tandem_model::PortNo), mac: Mac, ip: &str) -> Event {
    let ip = ip.parse().expect("an address");
    let arp = Arp {
        op: ArpOp::Request,
        eth_dst: Mac([0xff; 6]),
        sender_mac: mac,
        sender_ip: ip,
        target_mac: Mac([0; 6]),
        target_ip: ip,
    };
    assert!(world.site.topology.switches.iter().any(|s| s.dpid == at.0));
    Event::ArpSeen { switch: at.0, port: at.1, arp }
}

#[test]
fn a_cable_and_a_switch_that_go_and_come_back_are_said_once_each() {
    let mut world = World::new(read(SMALL));
    let link = world.link("agg1", "edge1");
    world.set_link(link, false);
    world.set_link(link, true);
    assert_eq!(world.site_events, [SiteEvent::LinkDown { link }, SiteEvent::LinkUp { link }]);
    world.forget();
    let switch = world.switch("edge1");
    world.switch_down("edge1");
    world.switch_down("edge1");
    world.connect(switch);
    assert_eq!(world.site_events, [SiteEvent::SwitchDown { switch }, SiteEvent::SwitchUp { switch }]);
    world.tell(Event::Wake);
    assert!(world.core.site_events().is_empty(), "the next call forgets them");
}

#[test]
fn a_host_joins_and_is_lost() {
    let mut world = World::new(read(SMALL));
    let at = world.gateway_port();
    let gateway = &world.site.topology.gateways[0];
    let (mac, ip) = (gateway.mac, Some(gateway.address));
    let event = announcement(&world, at, mac, &gateway.address.to_string());
    world.tell(event.clone());
    world.tell(event);
    let switch = world.switch("core1");
    let joined = SiteEvent::HostJoined { mac, ip, switch, port: at.1 };
    assert_eq!(world.site_events, [joined]);
    world.forget();
    world.wait(world.site.discovery.host_timeout + Duration::from_secs(30));
    let lost = SiteEvent::HostLost { mac, ip, switch, port: at.1 };
    assert!(world.site_events.contains(&lost), "{:?}", world.site_events);
}

/// A machine that nobody declared may send what it likes: it cannot crowd out what others wait for.
#[test]
fn an_unknown_machine_is_said_once_a_minute_whatever_it_sends() {
    let mut world = World::new(read(SMALL));
    let at = world.gateway_port();
    for n in 1..30u8 {
        let event = announcement(&world, at, Mac([0, 1, 2, 3, 4, n]), &format!("192.168.7.{n}"));
        world.tell(event);
    }
    let joined = |e: &&SiteEvent| matches!(e, SiteEvent::HostJoined { .. });
    assert_eq!(world.site_events.iter().filter(joined).count(), 1, "{:?}", world.site_events);
}

#[test]
fn a_vm_starts_moves_and_ends() {
    let mut world = held();
    let vm = world.vm();
    let (id, from) = (vm.id, vm.server);
    let started = SiteEvent::VmStarted { vm: id, server: from };
    assert_eq!(world.site_events.last(), Some(&started), "after its host has joined");
    world.forget();
    let to = ServerId(if from.0 == 3 { 2 } else { 3 });
    world.migrate(id, Some(to.0));
    assert!(world.site_events.is_empty(), "it has not moved yet: {:?}", world.site_events);
    world.moved();
    assert_eq!(world.site_events, [SiteEvent::VmMoved { vm: id, from, to }]);
    world.forget();
    world.ask(Request::DeleteVm { vm: id });
    assert_eq!(world.site_events, [SiteEvent::VmEnded { vm: id, server: to }]);
}

/// A start that fails is no VM that has ended: nobody has heard of it.
#[test]
fn a_vm_that_never_ran_does_not_end() {
    let mut world = World::new(read(SMALL));
    world.held.hypervisor = true;
    world.ask_vm();
    world.tell(Event::VmFailed { vm: VmId(1), why: "out of memory".into() });
    world.tell(Event::VmStopped { vm: VmId(1) });
    assert_eq!(world.core.vms().count(), 0);
    assert!(world.site_events.is_empty(), "{:?}", world.site_events);
}

#[test]
fn a_plan_begins_and_ends_around_its_moves() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let (from, to) = (vm.server, ServerId(3));
    world.forget();
    let aim = PlanGoal::Move { vm: vm.id, to: Some(to) };
    world.ask(Request::Plan { aim, options: MoveOptions::default() });
    assert!(world.site_events.is_empty(), "a plan that is only made changes nothing");
    let plan = world.core.snapshot().plans[0].plan.id;
    world.ask(Request::ApplyPlan { plan });
    let vm = vm.id;
    let expected = [
        SiteEvent::PlanBegun { plan, moves: 1 },
        SiteEvent::VmMoved { vm, from, to },
        SiteEvent::PlanEnded { plan, moves: 1, done: 1 },
    ];
    assert_eq!(world.site_events, expected);
}

#[test]
fn a_hotspot_is_found_and_cools_also_when_nobody_measures_it_any_more() {
    let site = hotspot_site("");
    let size = Resources { cpu: 1, net: BitRate(1000), ..site.vm.default };
    let mut world = with_vms(site, &[(0, size)]);
    let mut meters = Meters::default();
    let mut run = |world: &mut World, cores: f64, samples: usize| {
        for _ in 0..samples {
            meters.use_of.insert(VmId(1), (cores, 0));
            meters.period(world);
        }
    };
    run(&mut world, 0.0, 1);
    world.forget();
    let (place, resource) = (HotPlace::Server(ServerId(0)), Resource::Cpu);
    let cooled = SiteEvent::HotspotCooled { place, resource };
    let is_found = |e: &SiteEvent| matches!(e, SiteEvent::HotspotFound { place: p, .. } if *p == place);
    run(&mut world, 7.6, 3);
    assert_eq!(world.site_events.len(), 1, "{:?}", world.site_events);
    assert!(
        matches!(world.site_events[0], SiteEvent::HotspotFound { expected: false, ratio, .. } if ratio > 0.9)
    );
    run(&mut world, 1.0, 1);
    assert_eq!(world.site_events[1..], [cooled]);
    world.forget();
    run(&mut world, 7.6, 5);
    assert!(world.site_events.iter().any(is_found), "{:?}", world.site_events);
    world.forget();
    world.wait(Duration::from_secs(300));
    let cold = |e: &&SiteEvent| **e == cooled;
    assert_eq!(world.site_events.iter().filter(cold).count(), 1, "its hypervisor says nothing any more");
}

/// What the core says of it is not part of what it decides: a recording has none of it, so that one
/// of before is replayed to the same lines.
#[test]
fn they_are_no_effects() {
    let mut world = World::new(read(SMALL));
    world.vm();
    assert!(!world.site_events.is_empty());
    let mut replayed = Core::new(world.site.clone(), PersistedState::default(), world.header.started)
        .expect("known policies");
    for line in &world.lines {
        assert_eq!(replayed.handle(line.event.clone(), line.now), line.effects);
    }
}
