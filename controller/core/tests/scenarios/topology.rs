//! Links and switches that come and go: what becomes of the VMs whose path they carried, and what
//! the operator hears.

use crate::packets::Fate;
use crate::world::{SMALL, World, port, read};
use std::time::Duration;
use tandem_model::{Dpid, Effect, Event, LinkId, NodeId, PortNo, SwitchCaps, VmRecord, VmState};

fn now(world: &World, vm: &VmRecord) -> VmRecord {
    world.core.vm(vm.id).cloned().expect("the VM")
}

/// The aggregation switch on a VM's way up.
fn via(world: &World, vm: &VmRecord) -> (LinkId, String) {
    let link = vm.path_up[1].link;
    let name = |n: NodeId| world.site.topology.name(n).to_owned();
    let ends = world.site.topology.link(link).map(|l| [name(l.a.node), name(l.b.node)]).expect("a link");
    (link, ends.into_iter().find(|n| n.starts_with("agg")).expect("an aggregation switch"))
}

/// The cable between edge and aggregation goes: the VM is back on the other way at once, and its
/// path holds when the cable returns (nothing moves without need).
#[test]
fn a_cut_link_is_routed_around_and_its_return_moves_nothing() {
    for one_table in [false, true] {
        let mut world = World::dark(read(SMALL), Default::default());
        world.one_table = one_table;
        world.connect_all();
        world.attach(Vec::new());
        let vm = world.vm();
        let (link, agg) = via(&world, &vm);
        world.set_link(link, false);
        let moved = now(&world, &vm);
        assert_eq!(
            (moved.state.clone(), moved.address, moved.server),
            (VmState::Running, vm.address, vm.server)
        );
        assert_ne!(via(&world, &moved).1, agg);
        world.assert_reachable(&moved);
        assert_eq!(world.core.counters().rerouted, 1);
        assert_eq!(world.stored.vms[0].path_up, moved.path_up, "the store has the new path");
        world.set_link(link, true);
        assert_eq!(now(&world, &vm).path_up, moved.path_up);
        world.assert_reachable(&moved);
        assert_eq!(world.core.counters().rerouted, 1);
    }
}

/// Every link between switches is cut in turn, in the thesis' data centre with a VM on every
/// server: whoever is running is reachable.
#[test]
fn any_one_link_may_be_cut() {
    let mut world =
        World::new(read("[topology]\nshape = \"three-tier\"\n[policy]\nallocation = \"worst-fit\"\n"));
    let vms: Vec<VmRecord> = (0..16).map(|_| world.vm()).collect();
    let links: Vec<LinkId> = (0..world.site.topology.links.len() as u32).map(LinkId).collect();
    for link in links {
        if world.ends(link).len() < 2 {
            continue;
        }
        world.set_link(link, false);
        for vm in &vms {
            let vm = now(&world, vm);
            assert_eq!(vm.state, VmState::Running, "{link}");
            assert!(vm.path_up.iter().chain(&vm.path_down).all(|h| h.link != link));
            world.assert_reachable(&vm);
        }
        world.set_link(link, true);
        vms.iter().for_each(|vm| world.assert_reachable(&now(&world, vm)));
    }
}

/// Make before break: while each transaction is confirmed in its turn, the VM is reachable again
/// from the first moment that its new way is complete, and no rule is removed before every rule was
/// added.
#[test]
fn new_rules_come_before_old_ones_go() {
    let text = format!("{SMALL}[bandwidth]\naggregation = \"1 Mbit/s\"\n[policy]\nlink_margin = 2.0\n");
    let mut world = World::new(read(&text));
    let vms: Vec<VmRecord> = (0..4).map(|_| world.vm()).collect();
    // The ones off the default way have exact rules to be removed.
    let (link, _) = via(&world, &vms[3]);
    world.forget();
    world.set_link(link, false);
    let mut removed = std::collections::BTreeSet::new();
    for effect in &world.log {
        if let Effect::ApplyRules { add, remove, .. } = effect {
            let owners = add.iter().filter_map(|r| r.cookie.owner());
            for owner in owners {
                assert!(!removed.contains(&owner) || remove.is_empty(), "{owner:?} adds after it removed");
            }
            removed.extend(add.iter().filter_map(|r| r.cookie.owner()).filter(|_| !remove.is_empty()));
        }
    }
    vms.iter().for_each(|vm| world.assert_reachable(&now(&world, vm)));
}

/// The steps of one move, confirmed by hand: the far switches first, then the edge, and only then
/// are old rules removed.
#[test]
fn a_move_waits_for_barriers_between_its_steps() {
    let mut world = World::new(read(&format!("{SMALL}[bandwidth]\naggregation = \"1 Mbit/s\"\n")));
    let (first, second) = (world.vm(), world.vm());
    let (_, detour) = via(&world, &second);
    assert_ne!(via(&world, &first).1, detour);
    world.held.rules = true;
    world.forget();
    // The second VM's detour is cut: it goes back to the default way, and its exact rules go.
    let (link, _) = via(&world, &second);
    world.set_link(link, false);
    let mut steps: Vec<(bool, Dpid)> = Vec::new();
    while let Some(at) = world.log.iter().position(|e| matches!(e, Effect::ApplyRules { .. })) {
        let effect = world.log.remove(at);
        let Effect::ApplyRules { switch, txn, add, remove } = effect.clone() else { continue };
        assert!(add.is_empty() || remove.is_empty(), "one step does one thing");
        let mine = |o: tandem_model::Cookie| o.owner() == Some(tandem_model::Owner::Vm(2));
        if add.iter().any(|r| mine(r.cookie)) {
            steps.push((true, switch));
        }
        if add.is_empty() {
            steps.push((false, switch));
        }
        world.apply(&effect);
        world.tell(Event::RulesApplied { switch, txn, added: 0, removed: 0 });
    }
    let first_removal = steps.iter().position(|(add, _)| !add);
    let last_add = steps.iter().rposition(|(add, _)| *add);
    assert!(last_add.is_some(), "{steps:?}");
    assert!(first_removal.is_none() || first_removal > last_add, "{steps:?}");
    world.assert_reachable(&now(&world, &second));
    world.assert_reachable(&now(&world, &first));
}

/// Both ways up are cut: the VM is cut off, is said to be, and is back by itself when one of them
/// returns.
#[test]
fn a_vm_without_a_way_is_cut_off_and_comes_back() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let links = [world.link("agg1", "edge1"), world.link("agg2", "edge1")];
    links.iter().for_each(|l| world.set_link(*l, false));
    assert!(matches!(now(&world, &vm).state, VmState::Cut { .. }));
    assert_eq!(world.noticed("vm-cut").len(), 1);
    assert!(matches!(world.receive(&vm), Fate::Dropped(_)));
    for link in links {
        world.set_link(link, true);
        let back = now(&world, &vm);
        assert_eq!(back.state, VmState::Running);
        world.assert_reachable(&back);
    }
}

/// A server's own cable is cut: its VM has no other way; plugged in again it has its way back, with
/// everything reserved as before.
#[test]
fn a_servers_own_cable() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let before = world.reserved();
    let link = world.link("edge1", "srv1");
    world.set_link(link, false);
    assert!(matches!(now(&world, &vm).state, VmState::Cut { .. }));
    world.set_link(link, true);
    assert_eq!((now(&world, &vm).state, world.reserved()), (VmState::Running, before));
    world.assert_reachable(&now(&world, &vm));
    world.ask(tandem_model::Request::DeleteVm { vm: vm.id });
    assert_eq!(world.reserved(), 0);
}

/// A switch that loses its connection keeps forwarding, so nothing moves; after the grace time its
/// VMs take another way; it comes back and gets its rules.
#[test]
fn a_silent_switch_is_given_its_grace() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let (_, agg) = via(&world, &vm);
    world.switch_down(&agg);
    world.wait(Duration::from_secs(9));
    assert_eq!(via(&world, &now(&world, &vm)).1, agg, "not yet");
    world.assert_reachable(&now(&world, &vm));
    world.wait(Duration::from_secs(1));
    let moved = now(&world, &vm);
    assert_ne!(via(&world, &moved).1, agg);
    assert_eq!(world.noticed("switch-dead").len(), 1);
    world.assert_reachable(&moved);
    world.connect(world.switch(&agg));
    assert_eq!(via(&world, &now(&world, &vm)).1, via(&world, &moved).1);
    world.assert_reachable(&now(&world, &vm));
}

/// A switch that is back within its grace time was never missed.
#[test]
fn a_switch_that_is_back_in_time_moves_nothing() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let (_, agg) = via(&world, &vm);
    let tables = world.tables.clone();
    world.switch_down(&agg);
    world.wait(Duration::from_secs(9));
    world.connect(world.switch(&agg));
    world.wait(Duration::from_secs(5));
    assert_eq!(now(&world, &vm), vm);
    assert_eq!(world.tables, tables);
    assert_eq!(world.core.counters().rerouted, 0);
}

/// The core switch is back before its grace time ends, no link changed, and yet it is what a VM
/// that was cut off waited for.
#[test]
fn a_vm_that_waited_for_a_switch_comes_back_with_it() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let aggs = ["agg1", "agg2"];
    aggs.iter().for_each(|a| world.switch_down(a));
    world.wait(Duration::from_secs(5));
    world.switch_down("core1");
    world.wait(Duration::from_secs(5));
    assert!(matches!(now(&world, &vm).state, VmState::Cut { .. }));
    aggs.iter().for_each(|a| world.connect(world.switch(a)));
    world.connect(world.switch("core1"));
    let back = now(&world, &vm);
    assert_eq!(back.state, VmState::Running);
    world.assert_reachable(&back);
}

/// While a switch is away nobody can see its links; when it is back within its grace time, that
/// silence is not held against them.
#[test]
fn the_silence_of_an_absence_is_no_missing_link() {
    let mut world = World::new(read(&format!("{SMALL}[discovery]\nswitch_grace = \"90 s\"\n")));
    let vm = world.vm();
    let (_, agg) = via(&world, &vm);
    world.wait_seen(Duration::from_secs(20));
    world.switch_down(&agg);
    world.wait_seen(Duration::from_secs(60));
    world.connect(world.switch(&agg));
    world.wait_seen(Duration::from_secs(20));
    assert_eq!(world.noticed("link-missing"), Vec::<&str>::new());
    assert_eq!(now(&world, &vm), vm);
}

/// A port that is removed altogether is as good as down.
#[test]
fn a_removed_port_is_down() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let (link, agg) = via(&world, &vm);
    let (switch, number) = world.ends(link)[0];
    world.tell(Event::PortChanged { switch, port: port(number, true), removed: true });
    assert_ne!(via(&world, &now(&world, &vm)).1, agg);
    world.assert_reachable(&now(&world, &vm));
}

/// Both ports are up but the cable between carries nothing: discovery misses it, the VM takes
/// another way.
#[test]
fn a_link_that_discovery_does_not_see_is_missing() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let (link, agg) = via(&world, &vm);
    for _ in 0..10 {
        world.discover_except(&[]);
        world.wait(Duration::from_secs(5));
    }
    assert_eq!(world.noticed("link-missing"), Vec::<&str>::new());
    for _ in 0..9 {
        world.discover_except(&[link]);
        world.wait(Duration::from_secs(5));
    }
    let missing = world.noticed("link-missing");
    assert_eq!(missing.len(), 1);
    assert!(missing[0].contains(&agg) && missing[0].contains("edge1"), "{missing:?}");
    assert_ne!(via(&world, &now(&world, &vm)).1, agg);
    world.assert_reachable(&now(&world, &vm));
    world.discover_except(&[]);
    assert!(world.core.is_usable(link), "seen again");
    assert_eq!(world.noticed("link-up").len(), 1);
}

/// Two cables are swapped, one leads to a switch that nobody declared, one is between ports that
/// nobody declared: each is named once, with what to do.
#[test]
fn what_is_wired_otherwise_is_named_once() {
    let mut world = World::new(read(SMALL));
    let (a, b) = (world.ends(world.link("agg1", "edge1")), world.ends(world.link("agg1", "edge2")));
    let swapped = Event::LinkSeen { from: a[0], to: b[1] };
    world.tell(swapped.clone());
    world.tell(swapped);
    let miswired = world.noticed("link-miswired");
    assert_eq!(miswired.len(), 1);
    assert!(miswired[0].contains("agg1") && miswired[0].contains("edge2") && miswired[0].contains("replug"));
    let spare = (world.dpid("edge1"), PortNo(40));
    world.tell(Event::LinkSeen { from: spare, to: (world.dpid("edge2"), PortNo(41)) });
    world.tell(Event::LinkSeen { from: (Dpid(0xdead), PortNo(1)), to: spare });
    assert_eq!(world.noticed("link-unknown").len(), 2);
    assert_eq!(world.core.snapshot().surprises.len(), 3);
    world.tell(Event::LinkSeen { from: a[0], to: a[1] });
    assert_eq!(world.core.snapshot().surprises.len(), 2, "replugged as declared");
    for _ in 0..10 {
        world.discover_except(&[]);
        world.wait(Duration::from_secs(5));
    }
    assert_eq!(world.core.snapshot().surprises.len(), 0, "what is not seen any more is forgotten");
}

#[test]
fn an_undeclared_switch_gets_no_rules_and_is_named() {
    let mut world = World::new(read(SMALL));
    world.forget();
    let caps =
        SwitchCaps { version: "1.3".into(), tables: 2, description: String::new(), peer: "tcp:x".into() };
    world.tell(Event::SwitchUp { switch: Dpid(0xdead), ports: vec![port(PortNo(1), true)], caps });
    assert!(world.noticed("switch-unknown")[0].contains("tcp:x"));
    assert_eq!(world.log.len(), 1, "nothing but the notice: {:?}", world.log);
    let listed = |w: &mut World| w.core.snapshot().switches.iter().any(|s| s.dpid == Dpid(0xdead));
    assert!(listed(&mut world));
    world.tell(Event::SwitchDown { switch: Dpid(0xdead), why: "gone".into() });
    assert!(!listed(&mut world));
}

/// A legacy switch between two declared neighbours says nothing itself; discovery frames pass it,
/// and that is no fault.
#[test]
fn a_legacy_switch_may_be_silent() {
    let text = format!("{SMALL}[[legacy]]\nname = \"cellar\"\nbetween = [\"agg2\", \"edge2\"]\n");
    let mut world = World::new(read(&text));
    let far = world.ends(world.link("agg2", "cellar"))[0];
    let near = world.ends(world.link("cellar", "edge2"))[0];
    for _ in 0..10 {
        world.discover_except(&[]);
        world.tell(Event::LinkSeen { from: far, to: near });
        world.tell(Event::LinkSeen { from: near, to: far });
        world.wait(Duration::from_secs(5));
    }
    let faults: Vec<_> =
        world.notices().into_iter().filter(|n| n.level != tandem_model::Level::Info).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let link = world.link("cellar", "edge2");
    assert!(world.core.is_usable(link));
}

/// Events of switches and ports that do not exist, and garbage numbers, change nothing and break
/// nothing.
#[test]
fn nonsense_is_ignored() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    let switch = Dpid(u64::MAX);
    world.tell(Event::PortChanged { switch, port: port(PortNo(u32::MAX), false), removed: false });
    world.tell(Event::SwitchDown { switch, why: String::new() });
    world.tell(Event::Samples { switch, ports: Vec::new(), flows: Vec::new(), rules: Vec::new() });
    let edge = world.dpid("edge1");
    world.tell(Event::PortChanged { switch: edge, port: port(PortNo(u32::MAX), false), removed: true });
    world.tell(Event::RulesApplied { switch: edge, txn: tandem_model::TxnId(999), added: 0, removed: 0 });
    assert_eq!(world.tables, tables);
}

/// A server with two uplinks loses the one that its VM uses: the VM moves to the other edge with
/// its address.
#[test]
fn a_server_with_two_uplinks_survives_the_loss_of_one() {
    let mut world = World::new(read(&format!("{SMALL}server_uplinks = 2\n")));
    let vm = world.vm();
    let link = vm.path_up[0].link;
    world.set_link(link, false);
    let moved = now(&world, &vm);
    assert_eq!((moved.state.clone(), moved.address), (VmState::Running, vm.address));
    assert_ne!(moved.uplink, vm.uplink);
    assert!(world.log.iter().any(|e| matches!(e, Effect::AttachVm { .. })));
    world.assert_reachable(&moved);
}

/// A switch of another site gets nothing at all, and is said once however often it comes.
#[test]
fn a_switch_of_another_site_is_sent_nothing_and_said_once() {
    let mut world = World::new(read(SMALL));
    let dpid = tandem_model::Dpid(0xabcdef);
    let caps = tandem_model::SwitchCaps {
        version: "1.3".into(),
        tables: 4,
        description: String::new(),
        peer: "tcp:192.0.2.7".into(),
    };
    let before = world.log.len();
    for _ in 0..5 {
        world.tell(Event::SwitchUp { switch: dpid, ports: Vec::new(), caps: caps.clone() });
        world.tell(Event::SwitchDown { switch: dpid, why: "it left".into() });
    }
    assert_eq!(world.noticed("switch-unknown").len(), 1);
    let sent: Vec<_> = world.log[before..].iter().filter(|e| !matches!(e, Effect::Notice { .. })).collect();
    assert!(sent.is_empty(), "{sent:?}");
}

/// Whatever a switch calls itself: a notice is one line that moves no cursor, and is cut.
#[test]
fn what_others_wrote_is_one_short_line_in_a_notice() {
    let mut world = World::new(read(SMALL));
    let caps = tandem_model::SwitchCaps {
        version: "1.3".into(),
        tables: 4,
        description: String::new(),
        peer: "x\n12:00 ERROR all is lost\u{1b}[2J\u{202e}".repeat(1000),
    };
    world.tell(Event::SwitchUp { switch: tandem_model::Dpid(0xabcdef), ports: Vec::new(), caps });
    let notices = world.noticed("switch-unknown");
    let [text] = notices[..] else { panic!("{notices:?}") };
    assert!(text.contains("\\u{a}12:00 ERROR"), "{text}");
    assert!(!text.contains(['\n', '\u{1b}', '\u{202e}']) && text.len() < 12_000, "{} bytes", text.len());
}
