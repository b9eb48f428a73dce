//! What goes wrong while a VM starts: everything is undone, and the one who asked hears why.

use crate::world::{SMALL, Tables, World, read};
use std::time::Duration;
use tandem_model::{Effect, Event, Request, Resources, Response, StoreId, TxnId, VmId};

/// No trace of a VM is left anywhere.
fn assert_no_trace(world: &mut World, tables: &Tables) {
    assert_eq!(world.core.vms().count(), 0);
    assert_eq!(&world.tables, tables, "rules");
    assert_eq!(world.reserved(), 0, "links");
    assert_eq!(world.used(), [Resources::default(); 4], "servers");
    assert_eq!(world.stored.vms, [], "store");
    assert!(world.specs.is_empty(), "hypervisor");
}

fn why(world: &World, id: tandem_model::RequestId) -> String {
    match world.answer(id) {
        Some(Response::Failed { why }) => why,
        other => panic!("not failed: {other:?}"),
    }
}

#[test]
fn a_placement_that_cannot_be_stored_is_undone() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.store = true;
    let id = world.ask_vm();
    world.tell(Event::StoreFailed { id: StoreId(1), why: "disk full".into() });
    assert!(why(&world, id).contains("disk full"));
    assert!(!world.log.iter().any(|e| matches!(e, Effect::AllocateVm { .. })));
    assert_no_trace(&mut world, &tables);
    assert_eq!(world.core.counters().failed, 1);
}

/// It runs already when the store fails: it is stopped again, since nobody may be told of a VM that
/// a restart would forget.
#[test]
fn a_running_vm_that_cannot_be_stored_is_stopped() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.store = true;
    let id = world.ask_vm();
    world.tell(Event::Stored { id: StoreId(1) });
    world.tell(Event::StoreFailed { id: StoreId(2), why: "disk full".into() });
    assert_eq!(world.answer(id), None, "not before it is gone");
    world.tell(Event::Stored { id: StoreId(3) });
    assert!(why(&world, id).contains("disk full"));
    assert!(!world.log.iter().any(|e| matches!(e, Effect::TrafficStart { .. })));
    assert_no_trace(&mut world, &tables);
}

/// The last write of a world.
fn last_store(world: &World) -> StoreId {
    let of = |e: &Effect| if let Effect::Store { id, .. } = e { Some(*id) } else { None };
    world.log.iter().rev().find_map(of).expect("a write")
}

/// A deletion that the store does not take leaves the VM as it was, and says so at once.
#[test]
fn a_deletion_that_cannot_be_stored_leaves_the_vm_running() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let tables = world.tables.clone();
    world.held.store = true;
    let id = world.ask(Request::DeleteVm { vm: vm.id });
    assert_eq!(world.answer(id), None, "not before the store has it");
    let write = last_store(&world);
    world.tell(Event::StoreFailed { id: write, why: "disk full".into() });
    assert!(why(&world, id).contains("disk full") && why(&world, id).contains("nothing was changed"));
    assert_eq!(world.tables, tables);
    assert_eq!(world.core.vm(vm.id).map(|v| v.state.clone()), Some(tandem_model::VmState::Running));
    world.assert_reachable(&vm);
    world.held.store = false;
    let id = world.ask(Request::DeleteVm { vm: vm.id });
    assert_eq!(world.answer(id), Some(Response::Done));
}

/// A stopped VM that cannot be forgotten is tried again until the store works; only then its place
/// is free. Whoever waits is told at once, and a restart in between does not bring it back.
#[test]
fn a_removal_that_cannot_be_stored_is_tried_again() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    let vm = world.vm();
    world.held.store = true;
    let id = world.ask(Request::DeleteVm { vm: vm.id });
    let write = last_store(&world);
    world.tell(Event::Stored { id: write });
    let write = last_store(&world);
    world.tell(Event::StoreFailed { id: write, why: "disk full".into() });
    assert!(why(&world, id).contains("is stopped") && why(&world, id).contains("disk full"));
    assert!(world.reserved() > 0);
    world.held.store = false;
    world.wait(Duration::from_secs(1));
    assert_no_trace(&mut world, &tables);
}

/// The transactions that wait for a switch's word.
fn open(world: &World) -> Vec<(tandem_model::Dpid, TxnId, Effect)> {
    let of = |e: &Effect| match e {
        Effect::ApplyRules { switch, txn, .. } => Some((*switch, *txn, e.clone())),
        _ => None,
    };
    world.log.iter().filter_map(of).collect()
}

#[test]
fn a_switch_that_refuses_rules_undoes_the_vm() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.rules = true;
    let id = world.ask_vm();
    let (switch, txn, _) = open(&world)[0].clone();
    world.held.rules = false;
    world.tell(Event::RulesRefused { switch, txn, why: "table full".into() });
    let why = why(&world, id);
    assert!(why.contains("edge1") && why.contains("table full"), "{why}");
    assert_no_trace(&mut world, &tables);
}

/// A VM off its default path has rules in several switches; one of them refuses, the others did
/// what they were told.
#[test]
fn what_other_switches_confirmed_is_taken_back_when_one_refuses() {
    let mut world = World::new(read(&format!("{SMALL}[bandwidth]\naggregation = \"1 Mbit/s\"\n")));
    let first = world.vm();
    let tables = world.tables.clone();
    world.held.rules = true;
    world.forget();
    let id = world.ask_vm();
    let inner = open(&world);
    assert!(inner.len() > 1, "the second VM takes another way: {inner:?}");
    assert!(inner.iter().all(|(s, ..)| *s != world.dpid("edge1")), "the edge comes last");
    for (switch, txn, effect) in &inner[1..] {
        world.apply(effect);
        world.tell(Event::RulesApplied { switch: *switch, txn: *txn, added: 1, removed: 0 });
    }
    world.held.rules = false;
    world.tell(Event::RulesRefused { switch: inner[0].0, txn: inner[0].1, why: "no".into() });
    assert!(!why(&world, id).is_empty());
    assert_eq!(world.tables, tables);
    world.assert_reachable(&first);
    // A late word about a transaction that is over changes nothing.
    world.forget();
    world.tell(Event::RulesApplied { switch: inner[0].0, txn: inner[0].1, added: 0, removed: 0 });
    assert_eq!(world.log, []);
}

/// The edge switch goes away before it confirmed: the VM fails, and when the switch is back it has
/// nothing of it.
#[test]
fn a_switch_that_vanishes_in_the_middle_of_a_transaction_fails_the_vm() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.rules = true;
    let id = world.ask_vm();
    world.held.rules = false;
    world.switch_down("edge1");
    assert!(why(&world, id).contains("edge1 went away"));
    world.connect(world.switch("edge1"));
    assert_no_trace(&mut world, &tables);
}

/// A second connection without a goodbye of the first: what was asked on the first is void too.
#[test]
fn a_switch_that_connects_anew_fails_what_was_asked_before() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.rules = true;
    let id = world.ask_vm();
    world.held.rules = false;
    world.connect(world.switch("edge1"));
    assert!(matches!(world.answer(id), Some(Response::Failed { .. })));
    assert_no_trace(&mut world, &tables);
}

/// A VM whose switch is away is deleted: it does not wait for the switch, which gets the truth when
/// it is back.
#[test]
fn deleting_does_not_wait_for_an_absent_switch() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    let vm = world.vm();
    world.switch_down("edge1");
    let id = world.ask(Request::DeleteVm { vm: vm.id });
    assert_eq!(world.answer(id), Some(Response::Done));
    world.connect(world.switch("edge1"));
    assert_no_trace(&mut world, &tables);
}

/// Who is to blame when a VM does not come up in time is named.
#[test]
fn a_start_that_takes_too_long_fails_and_names_what_is_missing() {
    type Hold = fn(&mut World);
    let cases: [(Hold, &str); 3] = [
        (|w| w.held.rules = true, "switches have not confirmed"),
        (|w| w.held.hypervisor = true, "hypervisor has not started"),
        (|w| w.held.dhcp = true, "not taken its address by DHCP"),
    ];
    for (hold, blame) in cases {
        let mut world = World::new(read(SMALL));
        let tables = world.tables.clone();
        hold(&mut world);
        let id = world.ask_vm();
        world.wait_seen(Duration::from_secs(59));
        assert_eq!(world.answer(id), None);
        world.held = Default::default();
        let late = open(&world).into_iter().filter(|_| blame.starts_with("switches")).collect::<Vec<_>>();
        world.wait(Duration::from_secs(1));
        for (switch, txn, effect) in late {
            // What the slow switch was sent first, it does first.
            let now = world.tables.clone();
            world.apply(&effect);
            world.tell(Event::RulesApplied { switch, txn, added: 1, removed: 0 });
            world.tables = now;
        }
        assert!(why(&world, id).contains(blame), "{}", why(&world, id));
        assert_no_trace(&mut world, &tables);
    }
}

/// The hypervisor says no.
#[test]
fn a_vm_that_the_hypervisor_cannot_start_is_undone() {
    let mut world = World::new(read(SMALL));
    let tables = world.tables.clone();
    world.held.hypervisor = true;
    let id = world.ask_vm();
    world.held.hypervisor = false;
    world.tell(Event::VmFailed { vm: VmId(1), why: "no such template".into() });
    assert!(why(&world, id).contains("no such template"));
    assert_no_trace(&mut world, &tables);
    assert_eq!(world.vm().id, VmId(2), "ids are never used again");
}
