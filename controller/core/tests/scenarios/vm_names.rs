//! Names of VMs belong to one VM each: from the request on, over restarts, until it is gone; what is
//! older than that rule still loads and is still replayed.

use crate::world::{SMALL, World, read};
use tandem_core::record_replay::replay;
use tandem_model::{Effect, Request, RequestId, Response, ServerId, VmGroupRequest, VmId, VmRecord};

fn ask(world: &mut World, name: &str) -> RequestId {
    let request = tandem_model::VmRequest { name: Some(name.to_owned()), ..world.request() };
    world.ask(Request::RequestVm { request })
}

fn runs(world: &mut World, name: &str) -> VmRecord {
    let id = ask(world, name);
    match world.answer(id) {
        Some(Response::VmRunning { vm }) => *vm,
        other => panic!("no VM: {other:?}"),
    }
}

fn taken(name: &str, vm: VmId) -> Option<Response> {
    Some(Response::NameTaken { name: name.to_owned(), vm })
}

#[test]
fn a_second_vm_of_a_name_is_refused_before_anything_is_done() {
    let mut world = World::new(read(SMALL));
    let first = runs(&mut world, "web");
    let (used, reserved) = (world.used(), world.reserved());
    world.forget();
    let second = ask(&mut world, "web");
    assert_eq!(world.answer(second), taken("web", first.id));
    assert!(world.log.iter().all(|e| matches!(e, Effect::Response { .. })), "{:?}", world.log);
    assert_eq!((world.used(), world.reserved()), (used, reserved));
    // Others are others: also in another case, and those without any name.
    let other = runs(&mut world, "Web");
    assert_eq!(other.id, VmId(2), "no number was used up");
    let (a, b) = (world.vm(), world.vm());
    assert_ne!(a.id, b.id);
}

/// Two requests at once: the first has not even reached the store when the second comes.
#[test]
fn of_two_requests_at_once_one_gets_the_name() {
    let mut world = World::new(read(SMALL));
    world.held.store = true;
    let (first, second) = (ask(&mut world, "web"), ask(&mut world, "web"));
    assert_eq!(world.answer(first), None);
    assert_eq!(world.answer(second), taken("web", VmId(1)));
}

/// A name is free again when its VM is gone, and not before.
#[test]
fn a_name_is_free_when_its_vm_is_gone() {
    let mut world = World::new(read(SMALL));
    let first = runs(&mut world, "web");
    world.held.hypervisor = true;
    let deletion = world.ask(Request::DeleteVm { vm: first.id });
    let early = ask(&mut world, "web");
    assert_eq!((world.answer(deletion), world.answer(early)), (None, taken("web", first.id)));
    world.held.hypervisor = false;
    world.tell(tandem_model::Event::VmStopped { vm: first.id });
    assert_eq!(world.answer(deletion), Some(Response::Done));
    assert_eq!(runs(&mut world, "web").id, VmId(2));
    // One whose start was refused has none either.
    let mut huge = world.request();
    (huge.name, huge.resources.cpu) = (Some("huge".into()), 10_000);
    let refused = world.ask(Request::RequestVm { request: huge });
    assert!(matches!(world.answer(refused), Some(Response::Rejected { .. })));
    runs(&mut world, "huge");
}

/// After a restart names are those of the store; one that holds a name twice loads as it is.
#[test]
fn names_are_kept_over_a_restart_and_old_doubles_load() {
    let mut before = World::new(read(SMALL));
    let (first, second) = (runs(&mut before, "web"), runs(&mut before, "db"));
    let mut stored = before.stored.clone();
    let there: Vec<(VmId, ServerId)> = vec![(first.id, first.server), (second.id, second.server)];
    let mut after = World::dark(read(SMALL), stored.clone());
    after.connect_all();
    after.attach(there.clone());
    let again = ask(&mut after, "web");
    assert_eq!(after.answer(again), taken("web", first.id));
    stored.vms.iter_mut().for_each(|vm| vm.request.name = Some("web".into()));
    let mut old = World::dark(read(SMALL), stored);
    old.connect_all();
    old.attach(there);
    for vm in [&first, &second] {
        let record = old.core.vm(vm.id).cloned().expect("it is there");
        old.assert_reachable(&record);
    }
    let again = ask(&mut old, "web");
    assert_eq!(old.answer(again), taken("web", first.id));
    old.ask(Request::DeleteVm { vm: first.id });
    let again = ask(&mut old, "web");
    assert_eq!(old.answer(again), taken("web", second.id));
}

/// A recording of before: its site does not say that names are unique, and it is decided as it was.
#[test]
fn an_old_recording_with_doubles_is_replayed_as_it_was_decided() {
    let mut site = read(SMALL);
    site.vm.unique_names = false;
    let mut world = World::new(site);
    let (first, second) = (runs(&mut world, "web"), runs(&mut world, "web"));
    assert_ne!(first.id, second.id);
    let recorded = crate::restart::recorded(&world);
    let text = String::from_utf8(recorded).expect("text");
    let old = text.replace(",\"unique_names\":false", "");
    assert_ne!(old, text, "the header has the field now, and had not");
    assert!(replay(old.as_bytes()).is_ok_and(|events| events == world.lines.len()));
    let otherwise = text.replace("\"unique_names\":false", "\"unique_names\":true");
    assert!(replay(otherwise.as_bytes()).is_err(), "with it the second would have been refused");
}

/// Members of a group that is requested as one have names like other VMs, also those that they are
/// given by the group's.
#[test]
fn a_group_whose_members_would_share_a_name_is_refused_as_a_whole() {
    let mut world = World::new(read(SMALL));
    let web = runs(&mut world, "web-1");
    let db = runs(&mut world, "db");
    let (used, reserved) = (world.used(), world.reserved());
    world.forget();
    let mut group = crate::vm_groups::group_of(&world, 2);
    let request = |group: &VmGroupRequest| Request::RequestVmGroup { request: Box::new(group.clone()) };
    let by_its_own_name = world.ask(request(&group));
    assert_eq!(world.answer(by_its_own_name), taken("web-1", web.id));
    group.name = "store".into();
    group.members[1].name = Some("db".into());
    let of_a_vm = world.ask(request(&group));
    assert_eq!(world.answer(of_a_vm), taken("db", db.id));
    group.members.iter_mut().for_each(|member| member.name = Some("twin".into()));
    let of_each_other = world.ask(request(&group));
    assert!(
        matches!(world.answer(of_each_other), Some(Response::Conflict { why }) if why.contains("twin")),
        "two members of one name"
    );
    assert!(world.log.iter().all(|e| matches!(e, Effect::Response { .. })), "{:?}", world.log);
    assert_eq!((world.used(), world.reserved()), (used, reserved));
    group.members[1].name = Some("twin-2".into());
    let good = world.ask(request(&group));
    assert!(matches!(world.answer(good), Some(Response::VmGroupRunning { .. })));
}
