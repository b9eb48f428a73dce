//! A VM moves to another server: asked for, prepared, transferred, switched over, released. And
//! what is refused, and why.

use crate::packets::Fate;
use crate::world::{SMALL, World, read};
use std::time::Duration;
use tandem_model::{
    BitRate, Bytes, Effect, Event, MigrationEnd, MigrationId, MigrationMode, MoveOptions, NodeId, Phase,
    Progress, Request, RequestId, Resource, Resources, Response, ServerId, StoreOp, VmId, VmRecord, VmState,
};

pub(crate) const FIRST: MigrationId = MigrationId(1);

/// A data centre of four servers at two edges, whose hypervisors say nothing of moves by
/// themselves.
pub(crate) fn held() -> World {
    let mut world = World::new(read(SMALL));
    world.held.moves = true;
    world
}

impl World {
    pub(crate) fn migrate(&mut self, vm: VmId, to: Option<u32>) -> RequestId {
        let to = to.map(ServerId);
        self.ask(Request::MigrateVm { vm, to, options: MoveOptions::default() })
    }

    pub(crate) fn phase(&self) -> Option<Phase> {
        self.core.migrations().next().map(|m| m.phase)
    }

    pub(crate) fn progress(&mut self, round: u32, sent: u64, remaining: u64, dirty: BitRate) {
        let (sent, remaining) = (Bytes(sent), Bytes(remaining));
        let progress = Progress { round, sent, remaining, rate: BitRate::mbit(100), dirty };
        self.tell(Event::MigrationProgress { migration: FIRST, progress });
    }

    pub(crate) fn moved(&mut self) {
        let order = self.order();
        self.move_over(&order);
        self.tell(Event::VmMoved { migration: FIRST, downtime: Some(Duration::from_millis(30)) });
    }

    pub(crate) fn failed(&mut self, at: Option<u32>) {
        let at = at.map(ServerId);
        self.tell(Event::MigrationFailed { migration: FIRST, at, why: "the connection was cut".into() });
    }

    pub(crate) fn ended(&mut self) -> Vec<MigrationEnd> {
        let snapshot = self.core.snapshot();
        snapshot.migrations.iter().filter_map(|m| m.ended.clone()).map(|(_, end)| end).collect()
    }

    pub(crate) fn now_at(&self, vm: VmId) -> VmRecord {
        self.core.vm(vm).cloned().expect("the VM")
    }

    /// What VMs alone have reserved: nothing is held by anybody else.
    pub(crate) fn assert_books_of_vms(&mut self) {
        let vms: Vec<VmRecord> = self.core.vms().cloned().collect();
        let hops = |v: &VmRecord| (v.path_up.len() + v.path_down.len()) as u64;
        let links: u64 = vms.iter().map(|v| v.request.resources.net.0 * hops(v)).sum();
        assert_eq!(self.reserved(), links);
        for (n, used) in (0..).zip(self.used()) {
            let here = vms.iter().filter(|v| v.server == ServerId(n));
            let all = here.fold(Resources::default(), |sum, v| sum.plus(v.request.resources));
            assert_eq!(used, all, "server {n}");
        }
    }

    /// A VM is where the store says, alone, with nothing left of any migration.
    pub(crate) fn assert_settled(&mut self, vm: VmId) {
        assert_eq!(self.core.migrations().count(), 0);
        assert!(self.stored.migrations.is_empty());
        self.assert_books_of_vms();
        let now = self.now_at(vm);
        assert_eq!(self.stored.vms.iter().find(|v| v.id == vm), Some(&now));
        let left = self.tables.values().flat_map(|t| t.values()).filter_map(|r| r.cookie.owner());
        assert!(!left.into_iter().any(|o| matches!(o, tandem_model::Owner::Migration(_))));
        self.assert_reachable(&now);
        let address = now.address;
        let from = self.site.topology.gateways[0].uplinks[0];
        let gateway = &self.site.topology.gateways[0];
        let packet = crate::packets::udp(gateway.mac, gateway.address, address);
        let fates = self.spread(NodeId::Gateway(now.gateway), from, packet);
        assert_eq!(fates, [Fate::At(NodeId::Server(now.server))]);
    }
}

fn rejected(world: &World, id: RequestId) -> tandem_model::Rejection {
    match world.answer(id) {
        Some(Response::Rejected { rejection }) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

/// Every step waits for the one before it, and each is written down before anything depends on it.
#[test]
fn a_move_goes_through_its_phases_each_confirmed_before_the_next() {
    let mut world = held();
    let vm = world.vm();
    let tables = world.tables.clone();
    world.forget();
    (world.held.store, world.held.switches) = (true, true);
    let id = world.migrate(vm.id, Some(2));
    let written = |w: &World, n: usize| {
        let all: Vec<_> = w.log.iter().filter(|e| matches!(e, Effect::Store { .. })).cloned().collect();
        match &all[n] {
            Effect::Store { id, op: record } => (*id, record.clone()),
            _ => unreachable!(),
        }
    };
    let (store, StoreOp::PutMigration { migration }) = written(&world, 0) else { panic!("{:?}", world.log) };
    assert_eq!((migration.phase, migration.to.server), (Phase::Reserve, ServerId(2)));
    assert!(world.answer(id).is_none() && world.tables == tables, "nothing before the store has it");
    assert_eq!(world.used()[2], vm.request.resources, "but its place is taken");

    world.tell(Event::Stored { id: store });
    assert_eq!(world.answer(id), Some(Response::Migrating { migration: FIRST }));
    assert_eq!(world.phase(), Some(Phase::Prepare));
    let asked = |w: &World| w.log.iter().any(|e| matches!(e, Effect::MigrateVm { .. }));
    world.confirm_all();
    assert_eq!(world.phase(), Some(Phase::Transfer));
    assert!(!asked(&world), "not before the store knows that it may be under way");
    let (store, StoreOp::PutMigration { migration }) = written(&world, 1) else { panic!("{:?}", world.log) };
    assert_eq!(migration.phase, Phase::Transfer);
    world.tell(Event::Stored { id: store });
    let Effect::MigrateVm { from, to, manner, spec, rate, .. } = world.order() else { panic!() };
    assert_eq!((from, to, manner), (ServerId(0), ServerId(2), MigrationMode::Live));
    assert_eq!((spec.mac, spec.address), (vm.mac, vm.address));
    assert!(rate.0 > 0 && rate <= world.site.migration.rate);

    world.progress(1, 1000, 5000, BitRate(0));
    assert_eq!(world.core.snapshot().migrations[0].progress.map(|p| p.sent), Some(Bytes(1000)));
    world.tell(Event::VmSuspended { migration: FIRST });
    assert_eq!(world.phase(), Some(Phase::SwitchOver));
    world.moved();
    assert_eq!(world.phase(), Some(Phase::Confirm));
    let (_, StoreOp::PutMigration { migration }) = written(&world, 2) else { panic!() };
    assert_eq!(migration.phase, Phase::SwitchOver);
    let (store, StoreOp::PutMoved { vm: there, .. }) = written(&world, 3) else { panic!() };
    assert_eq!(there.server, ServerId(2));
    let used = world.used();
    assert_eq!((used[0], used[2]), (vm.request.resources, vm.request.resources), "both, until it is written");
    assert!(world.log.iter().any(|e| matches!(e, Effect::SendArp { .. })), "its gateway is told");
    world.tell(Event::Stored { id: store });
    assert_eq!(world.phase(), Some(Phase::Release));
    world.confirm_all();
    let (store, StoreOp::RemoveMigration { migration: FIRST }) = written(&world, 4) else { panic!() };
    assert_eq!(world.used()[0], Resources::default());
    world.write(&StoreOp::PutMoved { vm: there, migration });
    world.write(&StoreOp::RemoveMigration { migration: FIRST });
    world.tell(Event::Stored { id: store });
    world.assert_settled(vm.id);
    let downtime = Some(Duration::from_millis(30));
    assert_eq!(world.ended(), [MigrationEnd::Moved { downtime }]);
    assert_eq!((world.core.counters().migrated, world.noticed("migration-ended").len()), (1, 1));
    let traffic = |e: &Effect| matches!(e, Effect::TrafficStart { .. } | Effect::TrafficStop { .. });
    assert!(!world.log.iter().any(traffic), "its flows go on");
}

/// There and back: it has its default path again, and no exact rule of it is left anywhere.
#[test]
fn a_vm_that_comes_home_needs_no_exact_rules() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let tables = world.tables.clone();
    for (n, to) in [2, 3, 1, 0].into_iter().enumerate() {
        let id = world.migrate(vm.id, Some(to));
        assert!(matches!(world.answer(id), Some(Response::Migrating { .. })), "{:?}", world.answer(id));
        world.assert_settled(vm.id);
        assert_eq!((world.now_at(vm.id).server, world.ended().len()), (ServerId(to), n + 1));
    }
    assert_eq!(world.now_at(vm.id), vm);
    assert_eq!(world.tables, tables);
}

#[test]
fn without_a_target_the_policy_chooses_and_leaves_its_own_server_out() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    world.migrate(vm.id, None);
    assert_eq!(world.now_at(vm.id).server, ServerId(1), "first fit");
    world.migrate(vm.id, None);
    assert_eq!(world.now_at(vm.id).server, ServerId(0));
}

#[test]
fn what_cannot_be_moved_is_refused_with_the_reason_and_nothing_changes() {
    let mut world = held();
    let vm = world.vm();
    let mut large = world.request();
    large.resources.cpu = world.site.topology.servers[1].capacity.cpu;
    let full = world.vm_of(large);
    assert_eq!(full.server, ServerId(1));
    let other = world.vm();
    world.forget();
    let (books, used) = (world.reserved(), world.used());
    for (to, why) in [(0, "it is there"), (99, "there is no server"), (1, "it is full")] {
        let id = world.migrate(vm.id, Some(to));
        let rejection = rejected(&world, id);
        assert!(rejection.summary.contains(why), "{}", rejection.summary);
        assert_eq!(to == 1, rejection.nearest.iter().any(|m| m.resource == Resource::Cpu));
    }
    let id = world.migrate(VmId(99), None);
    assert!(matches!(world.answer(id), Some(Response::NotFound { .. })));
    let id = world.ask(Request::CancelMigration { migration: MigrationId(7) });
    assert!(matches!(world.answer(id), Some(Response::NotFound { .. })));
    assert_eq!((world.reserved(), world.used(), world.stored.migrations.len()), (books, used, 0));

    world.migrate(vm.id, Some(2));
    let id = world.migrate(vm.id, Some(3));
    assert!(rejected(&world, id).summary.contains("mig1 moves it already"));
    let id = world.migrate(other.id, Some(3));
    assert!(rejected(&world, id).summary.contains("per_server"));
    let to = world.site.vm.default;
    let id = world.ask(Request::ResizeVm { vm: vm.id, resources: to });
    assert!(matches!(world.answer(id), Some(Response::Conflict { why }) if why.contains("being moved")));
    let id = world.ask(Request::PinPath { vm: vm.id, via: vec![world.switch("agg1")] });
    assert!(rejected(&world, id).summary.contains("being moved"));
    world.tell(Event::WorldDown { why: "gone".into() });
    let id = world.migrate(full.id, Some(3));
    assert!(rejected(&world, id).summary.contains("no hypervisor"));
}

#[test]
fn no_more_go_at_once_than_the_site_allows() {
    let mut world = World::new(read(&format!("{SMALL}[migration]\nat_once = 1\nper_server = 4\n")));
    world.held.moves = true;
    let (a, b) = (world.vm(), world.vm());
    world.migrate(a.id, Some(2));
    let id = world.migrate(b.id, Some(3));
    assert!(rejected(&world, id).summary.contains("at_once"));
    world.moved();
    let id = world.migrate(b.id, Some(3));
    assert!(matches!(world.answer(id), Some(Response::Migrating { .. })));
}

/// 300 Mbit/s over a path of 100: refused with the figures, unless it is wanted all the same.
#[test]
fn a_vm_that_dirties_faster_than_the_link_is_refused_unless_forced() {
    let text = format!("{SMALL}[migration]\ndirty_rate = \"300 Mbit/s\"\nrate = \"100 Mbit/s\"\n");
    let mut world = World::new(read(&text));
    let vm = world.vm();
    let id = world.migrate(vm.id, Some(2));
    let summary = rejected(&world, id).summary;
    assert!(summary.contains("converge") && summary.contains("300 Mbit/s"), "{summary}");
    for options in [
        MoveOptions { force: true, ..MoveOptions::default() },
        MoveOptions { manner: Some(MigrationMode::Cold), ..MoveOptions::default() },
    ] {
        let to = Some(if options.force { ServerId(2) } else { ServerId(0) });
        let id = world.ask(Request::MigrateVm { vm: vm.id, to, options });
        assert!(matches!(world.answer(id), Some(Response::Migrating { .. })), "{options:?}");
        assert_eq!(Some(world.now_at(vm.id).server), to);
    }
}

#[test]
fn a_path_without_room_for_the_vm_or_without_a_way_is_refused() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    for agg in ["agg1", "agg2"] {
        let link = world.link(agg, "edge2");
        world.set_link(link, false);
    }
    let id = world.migrate(vm.id, Some(2));
    let rejection = rejected(&world, id);
    assert_eq!(rejection.counts, [(Resource::Path, 1)]);
    world.switch_down("edge1");
    let id = world.migrate(vm.id, Some(1));
    assert!(matches!(world.answer(id), Some(Response::Rejected { .. })), "{:?}", world.answer(id));
    world.assert_books_of_vms();
}

/// The transfer's own traffic: exact rules between the two servers, marked with its class, on the
/// least loaded way.
#[test]
fn its_own_traffic_has_a_path_and_a_class_of_its_own() {
    let classes = "[[class]]\nname = \"gold\"\nshare = 70\n[[class]]\nname = \"bulk\"\nshare = 30\n";
    let mut world = World::new(read(&format!("{SMALL}{classes}")));
    world.held.moves = true;
    let vm = world.vm();
    let agg = world.switch("agg1");
    // What is measured there makes the other way the less loaded one.
    let dpid = world.dpid("agg1");
    for (n, bytes) in [(0u64, 0u64), (1, 1_000_000)] {
        let ports = world.site.topology.ports(NodeId::Switch(agg)).iter();
        let sample = |port| tandem_model::PortSample {
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
        let ports = ports.map(|(p, _)| sample(*p)).collect();
        world.wait(Duration::from_secs(n));
        world.tell(Event::Samples { switch: dpid, ports, flows: Vec::new(), rules: Vec::new() });
    }
    world.migrate(vm.id, Some(2));
    let servers = world.site.topology.servers.clone();
    let bulk = world.site.classes[1].dscp;
    for (a, b) in [(0, 2), (2, 0)] {
        let from = NodeId::Server(ServerId(a));
        let (s, t) = (&servers[a as usize], &servers[b as usize]);
        let packet = crate::packets::udp(s.mac, s.address, t.address);
        let (fate, treatment) = world.walk_marked(from, s.uplinks[0], packet);
        assert_eq!(fate, Fate::At(NodeId::Server(ServerId(b))));
        assert!(treatment.iter().all(|(switch, dscp, _)| *dscp == bulk && *switch != agg), "{treatment:?}");
    }
    world.moved();
    world.assert_settled(vm.id);
}

/// What others load, the cap gives up; what a round dirtied nearly as fast as it was sent, it is
/// raised by, as far as there is room.
#[test]
fn the_cap_follows_the_links_and_the_dirty_rate() {
    let text = format!(
        "{SMALL}[bandwidth]\nedge = \"1 Gbit/s\"\naggregation = \"1 Gbit/s\"\ncore = \"1 Gbit/s\"\n[statistics]\nhistory_weight = 0.0\n"
    );
    let mut world = World::new(read(&text));
    world.held.moves = true;
    let vm = world.vm();
    world.migrate(vm.id, Some(2));
    let rate = |w: &World| w.core.migrations().next().expect("one").rate;
    let first = rate(&world);
    assert!(first > BitRate::mbit(900), "{first}");
    let path = world.core.migrations().next().expect("one").path.clone();
    let measure = |world: &mut World, second: u64, mbit: u64| {
        let hop = path[1];
        let link = world.site.topology.link(hop.link).expect("a link");
        let end = if hop.down { link.a } else { link.b };
        let NodeId::Switch(id) = end.node else { panic!() };
        let switch = world.site.topology.switches[id.0 as usize].dpid;
        let bytes = second * mbit * 125_000;
        let sample = tandem_model::PortSample {
            port: end.port,
            counters: tandem_model::PortCounters {
                rx_packets: Some(0),
                tx_packets: Some(0),
                rx_bytes: Some(0),
                tx_bytes: Some(bytes),
                rx_dropped: Some(0),
                tx_dropped: Some(0),
                rx_errors: Some(0),
                tx_errors: Some(0),
                ..tandem_model::PortCounters::default()
            },
        };
        world.wait(Duration::from_secs(1));
        world.tell(Event::Samples { switch, ports: vec![sample], flows: Vec::new(), rules: Vec::new() });
    };
    // 700 Mbit/s in all, where it sends 100 itself and may send 990 or so: the link is not full, so
    // it may go on.
    measure(&mut world, 0, 0);
    measure(&mut world, 1, 700);
    world.progress(1, 1, 1000, BitRate(0));
    assert_eq!(rate(&world), first);
    // Others have taken more than is left beside it.
    measure(&mut world, 2, 900);
    let sum = BitRate::mbit(1100);
    assert!(first < sum);
    world.progress(1, 2, 1000, BitRate(0));
    let lower = rate(&world);
    assert!(lower < first, "{lower}");
    assert!(world.log.iter().any(|e| matches!(e, Effect::SetMigrationRate { rate, .. } if *rate == lower)));
    // The next round is dirtied fast, and the link is free again: up by a step.
    measure(&mut world, 3, 600);
    let before = rate(&world);
    world.progress(2, 3, 900, before);
    let after = rate(&world);
    assert!(after > before && after.0 <= before.0 + 50_000_000, "{before} to {after}");
    world.moved();
    world.assert_books_of_vms();
}

/// It grows where it has room: it is moved first, and answered once.
#[test]
fn a_vm_that_outgrows_its_server_is_moved_and_then_resized() {
    for fails in [false, true] {
        let mut world = held();
        let vm = world.vm();
        let mut large = world.request();
        large.resources.cpu = world.site.topology.servers[0].capacity.cpu - vm.request.resources.cpu;
        let beside = world.vm_of(large);
        assert_eq!(beside.server, vm.server);
        world.held.hypervisor = true;
        let mut size = vm.request.resources;
        size.cpu += 1;
        let id = world.ask(Request::ResizeVm { vm: vm.id, resources: size });
        assert!(world.answer(id).is_none());
        assert_eq!(world.used()[1], size, "reserved as large as it will be");
        if fails {
            world.failed(Some(0));
            assert!(matches!(world.answer(id), Some(Response::Failed { why }) if why.contains("cut")));
            assert_eq!(world.now_at(vm.id), vm);
            world.assert_settled(vm.id);
            continue;
        }
        world.moved();
        assert!(world.answer(id).is_none());
        let resize = Effect::ResizeVm { vm: vm.id, server: ServerId(1), resources: size };
        assert!(world.log.contains(&resize), "{:?}", world.log);
        world.tell(Event::VmResized { vm: vm.id });
        assert_eq!(world.answer(id), Some(Response::Done));
        assert_eq!((world.now_at(vm.id).request.resources, world.used()[1]), (size, size));
        world.assert_settled(vm.id);
    }
}

/// One of a group moves at a time: the packets of two could not be told apart where their ways
/// cross.
#[test]
fn members_of_a_group_move_one_after_the_other() {
    let mut world = held();
    let (a, b) = (world.vm(), world.vm());
    world.ask(Request::CreateGroup { members: vec![a.address, b.address] });
    let per_server = "per_server";
    world.migrate(a.id, Some(2));
    let id = world.migrate(b.id, Some(3));
    assert!(rejected(&world, id).summary.contains(per_server));
    let mut world = World::new(read(&format!("{SMALL}[migration]\nper_server = 4\n")));
    world.held.moves = true;
    let (a, b) = (world.vm(), world.vm());
    world.ask(Request::CreateGroup { members: vec![a.address, b.address] });
    world.migrate(a.id, Some(2));
    let id = world.migrate(b.id, Some(3));
    assert!(rejected(&world, id).summary.contains("group"));
}

/// A pinned VM is moved only to where its pin can be kept, or by force.
#[test]
fn a_pin_is_kept_or_the_move_is_refused_or_forced() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let via = vec![world.switch("agg2")];
    world.ask(Request::PinPath { vm: vm.id, via: via.clone() });
    world.migrate(vm.id, Some(2));
    let there = world.now_at(vm.id);
    assert_eq!((there.server, &there.pin), (ServerId(2), &Some(via)));
    let by = |vm: &VmRecord| {
        tandem_model::paths::nodes(&world.site.topology, NodeId::Server(vm.server), &vm.path_up)
    };
    assert!(by(&there).contains(&world.node("agg2")));
    for (a, b) in [("agg2", "edge1"), ("agg1", "edge2")] {
        let link = world.link(a, b);
        world.set_link(link, false);
    }
    let id = world.migrate(vm.id, Some(0));
    assert!(rejected(&world, id).summary.contains("pinned"));
    let options = MoveOptions { force: true, ..MoveOptions::default() };
    let id = world.ask(Request::MigrateVm { vm: vm.id, to: Some(ServerId(0)), options });
    assert!(matches!(world.answer(id), Some(Response::Migrating { .. })), "{:?}", world.answer(id));
    let forced = world.now_at(vm.id);
    assert_eq!(forced.server, ServerId(0));
    assert!(forced.pin.is_some(), "it stays a wish");
    world.assert_settled(vm.id);
    assert_eq!(forced.state, VmState::Running);
}
