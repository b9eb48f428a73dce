//! What a request would lead to is said without doing anything, and what is said is true.

use crate::vm_groups::group_of;
use crate::world::{SMALL, World, read, thesis_site};
use tandem_model::{
    BitRate, Bytes, Change, Constraints, Effect, Explanation, MoveOptions, OnPlace, Request, Resource,
    Response, ServerId, Spread, SpreadLevel, VmGroupRequest, VmRequest,
};

fn explain(world: &mut World, request: &VmGroupRequest) -> Explanation {
    let id = world.ask(Request::ExplainVms { request: Box::new(request.clone()) });
    match world.answer(id) {
        Some(Response::Explained { explanation }) => *explanation,
        other => panic!("no explanation: {other:?}"),
    }
}

fn one(request: VmRequest) -> VmGroupRequest {
    VmGroupRequest { members: vec![request], ..VmGroupRequest::default() }
}

#[test]
fn it_says_where_a_vm_would_go_and_the_vm_goes_there() {
    for policy in ["best-fit", "worst-fit"] {
        let mut world = World::new(thesis_site(policy));
        for _ in 0..20 {
            let request = world.request();
            let said = explain(&mut world, &one(request.clone()));
            assert_eq!((said.rejection, said.policy.as_str()), (None, policy));
            let vm = world.vm_of(request);
            let snapshot = world.core.snapshot();
            let view = snapshot.vms.iter().find(|v| v.record.id == vm.id).expect("it runs");
            let place = &said.places[0];
            assert_eq!(
                (&place.server, &place.gateway, &place.path),
                (&view.server_name, &view.gateway_name, &view.path)
            );
            let candidate = said.candidates.iter().find(|c| c.server == place.server);
            assert!(candidate.is_some_and(|c| c.fits), "{:?}", said.candidates);
        }
    }
}

/// The core is the same before and after, down to its next decisions.
#[test]
fn it_changes_nothing() {
    let mut world = World::new(thesis_site("best-fit"));
    let mut other = World::new(thesis_site("best-fit"));
    for _ in 0..10 {
        world.vm();
        other.vm();
    }
    let before = world.core.snapshot();
    let large = VmRequest {
        resources: tandem_model::Resources { cpu: 4, ..world.request().resources },
        ..world.request()
    };
    for request in [one(world.request()), group_of(&world, 5), one(large)] {
        world.forget();
        explain(&mut world, &request);
        assert!(matches!(world.log.as_slice(), [Effect::Response { .. }]), "{:?}", world.log);
        assert_eq!(world.core.next_deadline(), other.core.next_deadline());
    }
    let after = world.core.snapshot();
    assert_eq!(after.version, before.version);
    assert!(std::sync::Arc::ptr_eq(&before, &after), "not even a part of the snapshot is made anew");
    world.forget();
    other.forget();
    for _ in 0..10 {
        assert_eq!(world.vm(), other.vm());
    }
    let decided = |world: &World| -> Vec<Effect> {
        world.log.iter().filter(|e| !matches!(e, Effect::Response { .. })).cloned().collect()
    };
    assert_eq!(decided(&world), decided(&other));
}

#[test]
fn each_server_says_what_it_lacks_and_how_much() {
    let mut world = World::new(read(SMALL));
    let on = Constraints { on: Some(OnPlace::Server(ServerId(1))), spread: None };
    world.vm_of(VmRequest { constraints: on, ..world.request() });
    world.ask(Request::EvacuateServer { server: ServerId(2), options: MoveOptions::default() });
    let mut request = world.request();
    request.resources.cpu = 8;
    let said = explain(&mut world, &one(request));
    let of = |name: &str| said.candidates.iter().find(|c| c.server == name).expect("a server");
    assert!(of("srv1").fits && of("srv4").fits);
    let short = &of("srv2").short[0];
    assert_eq!((short.resource, short.needed, short.available), (Resource::Cpu, 8, 7));
    assert_eq!(of("srv3").barred.as_deref(), Some("it is out of service"));
    assert_eq!(said.places[0].server, "srv1");
}

/// Each change that is told is enough: done, the request is met; a little less, and it is not.
#[test]
fn the_smallest_changes_are_enough_and_no_more_than_that() {
    let text = format!(
        "{SMALL}[servers]\ncpu = 4\nram = \"8 GiB\"\nnet = \"20 Mbit/s\"\n[bandwidth]\nedge = \"10 Mbit/s\"\n"
    );
    let mut world = World::new(read(&text));
    let mut request = world.request();
    request.resources.ram = Bytes::gib(10);
    let said = explain(&mut world, &one(request.clone()));
    assert!(said.rejection.is_some());
    assert!(
        said.changes.contains(&Change::AskForLess { resource: Resource::Ram, less: 2 << 30 }),
        "{:?}",
        said.changes
    );
    let more = Change::MoreOnServer { server: "srv1".into(), resource: Resource::Ram, more: 2 << 30 };
    assert!(said.changes.contains(&more), "{:?}", said.changes);
    assert!(said.changes.contains(&Change::ServerMargin { hundredths: 125 }), "{:?}", said.changes);
    let texts: Vec<String> = said.changes.iter().map(ToString::to_string).collect();
    assert!(
        texts.contains(&"with 2.0 GiB RAM less".to_owned())
            || texts.contains(&"with 2 GiB RAM less".to_owned()),
        "{texts:?}"
    );
    request.resources.ram = Bytes::gib(8);
    world.vm_of(request.clone());

    // Links: 13 of 10 Mbit/s.
    let mut world = World::new(read(&text));
    let mut request = world.request();
    request.resources.net = BitRate::mbit(13);
    let said = explain(&mut world, &one(request.clone()));
    let less = Change::AskForLess { resource: Resource::Net, less: 3_000_000 };
    assert!(said.changes.contains(&less), "{:?}", said.changes);
    assert!(said.changes.contains(&Change::LinkMargin { hundredths: 130 }), "{:?}", said.changes);
    for (margin, met) in [("1.3", true), ("1.29", false)] {
        let mut wider = World::new(read(&format!("{text}[policy]\nlink_margin = {margin}\n")));
        assert_eq!(explain(&mut wider, &one(request.clone())).rejection.is_none(), met, "{margin}");
    }

    // Switches: a margin that is too small for what passes up and down.
    let said = |margin: f64| {
        let text = format!("{text}[policy]\nswitch_margin = {margin:.2}\n");
        let mut world = World::new(read(&text));
        let mut request = world.request();
        request.resources.net = BitRate::mbit(8);
        explain(&mut world, &one(request))
    };
    let narrow = said(0.1);
    assert!(narrow.rejection.is_some());
    let wider = narrow.changes.iter().find_map(|change| match change {
        Change::SwitchMargin { hundredths } => Some(f64::from(*hundredths) / 100.0),
        _ => None,
    });
    let wider = wider.unwrap_or_else(|| panic!("{:?}", narrow.changes));
    assert!(said(wider).rejection.is_none());
    assert!(said(wider - 0.01).rejection.is_some(), "the smallest such change");
}

#[test]
fn conditions_and_servers_out_of_service_are_among_the_changes() {
    let mut world = World::new(read(SMALL));
    let spread =
        Constraints { spread: Some(Spread { level: SpreadLevel::Server, tag: "db".into() }), on: None };
    let apart = VmRequest { constraints: spread, ..world.request() };
    for _ in 0..4 {
        world.vm_of(apart.clone());
    }
    let said = explain(&mut world, &one(apart));
    assert!(said.changes.contains(&Change::WithoutSpread), "{:?}", said.changes);
    let on = Constraints { on: Some(OnPlace::Server(ServerId(1))), spread: None };
    let mut kept = VmRequest { constraints: on, ..world.request() };
    kept.resources.cpu = 8;
    world.ask(Request::EvacuateServer { server: ServerId(3), options: MoveOptions::default() });
    world.wait_seen(std::time::Duration::from_secs(30));
    let said = explain(&mut world, &one(kept));
    let less = Change::AskForLess { resource: Resource::Cpu, less: 1 };
    assert!(said.changes.contains(&less), "{:?}", said.changes);
    // Nobody else has a whole server free, but the one that is out of service has.
    let mut world = World::new(read(SMALL));
    let mut whole = world.request();
    whole.resources.cpu = 8;
    world.ask(Request::EvacuateServer { server: ServerId(3), options: MoveOptions::default() });
    for _ in 0..3 {
        world.vm_of(whole.clone());
    }
    let said = explain(&mut world, &one(whole));
    let back = Change::ReturnServer { server: "srv4".into() };
    assert!(said.changes.contains(&back), "{:?}", said.changes);
}

#[test]
fn a_group_is_explained_as_it_would_be_decided() {
    let mut world = World::new(read(SMALL));
    let mut request = group_of(&world, 5);
    request.members.iter_mut().for_each(|m| m.resources.cpu = 8);
    let said = explain(&mut world, &request);
    assert_eq!((said.member, said.places.len()), (5, 4));
    assert!(said.rejection.as_ref().is_some_and(|r| r.summary.starts_with("member 5 of 5")), "{said:?}");
    assert!(said.candidates.iter().all(|c| !c.fits));
    let less = Change::AskForLess { resource: Resource::Cpu, less: 4 };
    assert!(said.changes.contains(&less), "{:?}", said.changes);
    request.members.iter_mut().for_each(|m| m.resources.cpu = 4);
    assert_eq!(explain(&mut world, &request).rejection, None);
    request.members.iter_mut().for_each(|m| m.resources.cpu = 5);
    assert!(explain(&mut world, &request).rejection.is_some());
}
