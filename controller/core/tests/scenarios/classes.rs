//! Service classes: marked where packets come in, put into queues where switches can, refused where
//! nobody keeps the promise.

use crate::packets::{Fate, udp};
use crate::world::{SMALL, World, read};
use tandem_core::snapshot::Snapshot;
use tandem_model::{
    ClassId, Dpid, Event, NodeId, PortNo, QueueSelection, Request, RequestId, Response, Share, StoreId,
    VmRecord,
};

const CLASSES: &str = "[[class]]\nname = \"gold\"\nshare = 70\ndscp = 46\n\
                       [[class]]\nname = \"silver\"\nshare = 30\ndscp = 10\ndefault = true\n";

fn world() -> World {
    World::new(read(&format!("{SMALL}{CLASSES}")))
}

/// An agent presents all ports of all switches.
pub(crate) fn manage(world: &mut World, selection: QueueSelection) {
    for dpid in dpids(world) {
        let ports = ports(world, dpid).into_iter().map(|p| (p, selection)).collect();
        world.tell(Event::PortsManaged { agent: "host1".into(), switch: dpid, ports });
    }
}

fn dpids(world: &World) -> Vec<Dpid> {
    world.site.topology.switches.iter().map(|s| s.dpid).collect()
}

fn ports(world: &mut World, dpid: Dpid) -> Vec<PortNo> {
    let snapshot = world.core.snapshot();
    let switch = snapshot.switches.iter().find(|s| s.dpid == dpid).expect("a declared switch");
    switch.ports.iter().map(|p| p.port).collect()
}

fn ask_class(world: &mut World, class: u16) -> RequestId {
    let mut request = world.request();
    request.class = Some(ClassId(class));
    world.ask(Request::RequestVm { request })
}

fn vm_of_class(world: &mut World, class: u16) -> VmRecord {
    let id = ask_class(world, class);
    match world.answer(id) {
        Some(Response::VmRunning { vm }) => *vm,
        other => panic!("no VM: {other:?}"),
    }
}

/// A packet's mark and queue at each switch on its way.
type Marks = Vec<(u8, Option<u32>)>;

/// The marks and queues of a VM's packets on their way out and in.
fn treatment(world: &World, vm: &VmRecord) -> (Marks, Marks) {
    let gateway = &world.site.topology.gateways[vm.gateway.0 as usize];
    let mut forged = udp(vm.mac, vm.address, gateway.address);
    // Whatever the VM itself writes there does not count.
    forged.dscp = 63;
    let (fate, up) = world.walk_marked(NodeId::Server(vm.server), vm.path_up[0].link, forged);
    assert_eq!(fate, Fate::At(NodeId::Gateway(vm.gateway)));
    let mut arriving = udp(gateway.mac, gateway.address, vm.address);
    arriving.dscp = 63;
    let (fate, down) = world.walk_marked(NodeId::Gateway(vm.gateway), vm.path_down[0].link, arriving);
    assert_eq!(fate, Fate::At(NodeId::Server(vm.server)));
    let plain = |t: crate::packets::Treatment| t.into_iter().map(|(_, dscp, queue)| (dscp, queue)).collect();
    (plain(up), plain(down))
}

#[test]
fn a_class_is_marked_where_it_comes_in_and_has_its_queue_all_the_way() {
    for one_table in [false, true] {
        for (selection, queued) in [(QueueSelection::Queue, true), (QueueSelection::Dscp, false)] {
            let mut world = World::dark(read(&format!("{SMALL}{CLASSES}")), Default::default());
            world.one_table = one_table;
            world.connect_all();
            world.attach(Vec::new());
            manage(&mut world, selection);
            for (class, dscp) in [(0, 46), (1, 10)] {
                let vm = vm_of_class(&mut world, class);
                let (up, down) = treatment(&world, &vm);
                let wanted = (dscp, queued.then_some(u32::from(class)));
                assert!(up.len() == 3 && down.len() == 3, "{up:?} {down:?}");
                assert!(up.iter().chain(&down).all(|t| *t == wanted), "{up:?} {down:?}, not {wanted:?}");
            }
            let vm = world.vm();
            assert!(treatment(&world, &vm).0.iter().all(|t| t.0 == 10), "no class is the default one");
        }
    }
}

#[test]
fn an_agent_that_comes_late_changes_the_rules_of_vms_that_run() {
    let mut world = world();
    manage(&mut world, QueueSelection::Dscp);
    let vm = vm_of_class(&mut world, 0);
    assert_eq!(treatment(&world, &vm).0, [(46, None); 3]);
    manage(&mut world, QueueSelection::Queue);
    assert_eq!(treatment(&world, &vm).0, [(46, Some(0)); 3]);
    manage(&mut world, QueueSelection::Dscp);
    assert_eq!(treatment(&world, &vm).1, [(46, None); 3]);
}

fn rejection(world: &mut World, class: u16) -> String {
    let id = ask_class(world, class);
    match world.answer(id) {
        Some(Response::Rejected { rejection }) => rejection.summary,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_promise_that_nobody_keeps_is_refused_and_says_where() {
    let mut world = world();
    assert!(rejection(&mut world, 0).contains("is tandem-agent running there"));
    manage(&mut world, QueueSelection::None);
    assert!(rejection(&mut world, 0).contains("can tell no classes apart"));
    assert!(rejection(&mut world, 7).contains("the site has gold, silver"));
    assert_eq!(world.core.snapshot().vms.len(), 0, "nothing is left of them");
    // The default class promises nothing that has to be kept.
    vm_of_class(&mut world, 1);
}

#[test]
fn a_port_that_only_marks_needs_a_switch_behind_it_that_sorts() {
    for marks in [QueueSelection::Mark, QueueSelection::RateLimiter] {
        let mut world = world();
        manage(&mut world, QueueSelection::Queue);
        // Core switches mark: on the way down the aggregation switch sorts, on the way up nobody
        // stands behind them.
        let core = world.site.topology.switches.iter().position(|s| s.role == tandem_model::Role::Core);
        let dpid = world.site.topology.switches[core.expect("a core switch")].dpid;
        let all = ports(&mut world, dpid).into_iter().map(|p| (p, marks)).collect();
        world.tell(Event::PortsManaged { agent: "host1".into(), switch: dpid, ports: all });
        assert!(rejection(&mut world, 0).contains("only marks packets"), "{marks:?}");
        assert_eq!(world.core.snapshot().vms.len(), 0, "nothing is left of it");
        // With queues towards the gateway the rest may mark.
        let up = up_ports(&world, dpid);
        let mixed = |p: PortNo| if up.contains(&p) { QueueSelection::Queue } else { marks };
        let all = ports(&mut world, dpid).into_iter().map(|p| (p, mixed(p))).collect();
        world.tell(Event::PortsManaged { agent: "host1".into(), switch: dpid, ports: all });
        vm_of_class(&mut world, 0);
    }
}

/// The ports that lead to gateways.
fn up_ports(world: &World, dpid: Dpid) -> Vec<PortNo> {
    let topology = &world.site.topology;
    let id = topology.switch_by_dpid(dpid).expect("a switch");
    let node = NodeId::Switch(id);
    let up = |link: tandem_model::LinkId| {
        let other = topology.link(link).and_then(|l| l.other(node));
        other.is_some_and(|e| matches!(e.node, NodeId::Gateway(_)))
    };
    topology.ports(node).iter().filter(|(_, link)| up(*link)).map(|(port, _)| *port).collect()
}

fn shares(snapshot: &Snapshot) -> Vec<f64> {
    snapshot.classes.iter().map(|c| c.share.share).collect()
}

#[test]
fn shares_change_once_the_store_has_them_and_survive_a_restart() {
    let mut world = world();
    let new = |a, b| vec![Share { share: a, ceiling: 100.0 }, Share { share: b, ceiling: 100.0 }];
    for bad in [new(80.0, 30.0), new(0.0, 10.0), vec![Share { share: 10.0, ceiling: 100.0 }]] {
        let id = world.ask(Request::SetShares { shares: bad });
        assert!(matches!(world.answer(id), Some(Response::Rejected { .. })));
    }
    let id = world.ask(Request::SetShares { shares: new(60.0, 40.0) });
    assert_eq!(world.answer(id), Some(Response::Done));
    assert_eq!(shares(&world.core.snapshot()), [60.0, 40.0]);

    world.held.store = true;
    let id = world.ask(Request::SetShares { shares: new(50.0, 50.0) });
    let store = world.log.iter().rev().find_map(|e| match e {
        tandem_model::Effect::Store { id, .. } => Some(*id),
        _ => None,
    });
    world.tell(Event::StoreFailed { id: store.unwrap_or(StoreId(0)), why: "disk full".into() });
    assert!(matches!(world.answer(id), Some(Response::Failed { .. })));
    assert_eq!(shares(&world.core.snapshot()), [60.0, 40.0], "a failed change is no change");

    let mut again = World::dark(world.site.as_ref().clone(), world.stored.clone());
    assert_eq!(shares(&again.core.snapshot()), [60.0, 40.0]);
}
