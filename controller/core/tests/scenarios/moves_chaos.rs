//! Anything in any order while VMs move: links, switches, hypervisors and the store fail, VMs die
//! and grow, the controller is killed. After every step the books agree with the places that VMs
//! have, no rule is without an owner, and no server holds more than it can.

use crate::chaos::{self, assert_tables, quick};
use crate::packets::{Fate, udp};
use crate::world::{SMALL, World, read};
use prop::sample::Index;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tandem_model::{
    Cause, Effect, Event, Hop, LinkId, MigrationId, MigrationRecord, MoveOptions, NodeId, Owner, Phase,
    Place, Request, Resources, ServerId, SwitchId, VmId, VmRecord, VmState,
};

#[derive(Debug, Clone)]
enum Step {
    /// What may happen without migrations, too.
    Other(chaos::Step),
    Migrate(Index, Option<Index>, bool),
    Cancel(Index),
    Progress(Index),
    Suspend(Index),
    Arrive(Index),
    Fail(Index),
    /// The VM itself is lost on the way.
    Lose(Index),
    /// A VM dies.
    Die(Index),
    WorldDown,
    WorldUp,
    Store(bool),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => chaos::step().prop_map(Step::Other),
        8 => (any::<Index>(), prop::option::of(any::<Index>()), any::<bool>())
            .prop_map(|(vm, to, force)| Step::Migrate(vm, to, force)),
        1 => any::<Index>().prop_map(Step::Cancel),
        1 => any::<Index>().prop_map(Step::Progress),
        2 => any::<Index>().prop_map(Step::Suspend),
        5 => any::<Index>().prop_map(Step::Arrive),
        2 => any::<Index>().prop_map(Step::Fail),
        1 => any::<Index>().prop_map(Step::Lose),
        1 => any::<Index>().prop_map(Step::Die),
        1 => Just(Step::WorldDown),
        2 => Just(Step::WorldUp),
        1 => any::<bool>().prop_map(Step::Store),
        1 => Just(Step::Kill),
    ]
}

/// The data centre around the controller, which outlives it.
struct Chaos {
    world: World,
    text: String,
    away: Vec<SwitchId>,
    up: bool,
    /// Orders that have not ended, as last given.
    open: BTreeMap<MigrationId, Effect>,
    ended: BTreeSet<MigrationId>,
}

impl Chaos {
    fn there(&self) -> Vec<(VmId, ServerId)> {
        self.world.specs.iter().map(|(vm, (server, _))| (*vm, *server)).collect()
    }

    /// Takes in what the hypervisors were asked; an order that has ended is answered as it ended.
    fn hear(&mut self) {
        loop {
            let orders: Vec<Effect> = self
                .world
                .log
                .iter()
                .filter(|e| matches!(e, Effect::MigrateVm { .. } | Effect::CancelMigration { .. }))
                .cloned()
                .collect();
            self.world.forget();
            if orders.is_empty() {
                return;
            }
            for order in orders {
                let (id, from) = match &order {
                    Effect::MigrateVm { migration, from, .. } => (*migration, *from),
                    Effect::CancelMigration { migration, from, .. } => (*migration, *from),
                    _ => continue,
                };
                match self.ended.get(&id) {
                    // As it ended; where the VM is now, if it has died since or was started again.
                    Some(_) => {
                        let vm = self.world.core.migrations().find(|m| m.id == id).map(|m| m.vm);
                        let at = vm.and_then(|vm| self.world.specs.get(&vm)).map(|(server, _)| *server);
                        self.tell_end(id, at);
                    }
                    None if matches!(order, Effect::MigrateVm { .. }) => {
                        self.open.insert(id, order);
                    }
                    // One that was never heard of.
                    None if !self.open.contains_key(&id) => {
                        self.ended.insert(id);
                        self.tell_end(id, Some(from));
                    }
                    None => {}
                }
            }
        }
    }

    fn tell_end(&mut self, migration: MigrationId, at: Option<ServerId>) {
        let to = self.world.core.migrations().find(|m| m.id == migration).map(|m| m.to.server);
        let event = if at.is_some() && at == to {
            Event::VmMoved { migration, downtime: None }
        } else {
            Event::MigrationFailed { migration, at, why: "failed".into() }
        };
        self.world.tell(event);
    }

    fn end(&mut self, i: &Index, how: fn(&Effect) -> Option<ServerId>) {
        if !self.up || self.open.is_empty() {
            return;
        }
        let ids: Vec<MigrationId> = self.open.keys().copied().collect();
        let id = ids[i.index(ids.len())];
        let order = self.open.remove(&id).expect("open");
        let Effect::MigrateVm { vm, to, .. } = &order else { return };
        // One that has died meanwhile cannot arrive.
        let at = how(&order).filter(|_| self.world.specs.contains_key(vm));
        if at == Some(*to) {
            self.world.move_over(&order);
        }
        if at.is_none() {
            self.world.specs.remove(vm);
        }
        self.ended.insert(id);
        self.tell_end(id, at);
    }

    fn take(&mut self, step: &Step) {
        let vms: Vec<VmId> = self.world.core.vms().map(|v| v.id).collect();
        let servers = self.world.site.topology.servers.len();
        let moves: Vec<MigrationId> = self.open.keys().copied().collect();
        match step {
            Step::Other(step) => chaos::take(&mut self.world, step, &mut self.away),
            Step::Migrate(vm, to, force) if !vms.is_empty() => {
                let to = to.map(|i| ServerId(i.index(servers) as u32));
                let options = MoveOptions { force: *force, ..MoveOptions::default() };
                self.world.ask(Request::MigrateVm { vm: vms[vm.index(vms.len())], to, options });
            }
            Step::Cancel(i) => {
                let open: Vec<MigrationId> = self.world.core.migrations().map(|m| m.id).collect();
                if !open.is_empty() {
                    self.world.ask(Request::CancelMigration { migration: open[i.index(open.len())] });
                }
            }
            Step::Progress(i) if self.up && !moves.is_empty() => {
                let progress = tandem_model::Progress { round: 1, ..Default::default() };
                let migration = moves[i.index(moves.len())];
                self.world.tell(Event::MigrationProgress { migration, progress });
            }
            Step::Suspend(i) if self.up && !moves.is_empty() => {
                self.world.tell(Event::VmSuspended { migration: moves[i.index(moves.len())] });
            }
            Step::Arrive(i) => self.end(i, |order| match order {
                Effect::MigrateVm { to, .. } => Some(*to),
                _ => None,
            }),
            Step::Fail(i) => self.end(i, |order| match order {
                Effect::MigrateVm { from, .. } => Some(*from),
                _ => None,
            }),
            Step::Lose(i) => self.end(i, |_| None),
            Step::Die(i) if self.up && !self.world.specs.is_empty() => {
                let all: Vec<VmId> = self.world.specs.keys().copied().collect();
                let vm = all[i.index(all.len())];
                self.world.specs.remove(&vm);
                self.world.tell(Event::VmFailed { vm, why: "killed".into() });
            }
            Step::WorldDown if self.up => {
                self.up = false;
                self.world.tell(Event::WorldDown { why: "gone".into() });
            }
            Step::WorldUp => self.world_up(),
            Step::Store(broken) => {
                self.world.held.broken = *broken;
                // What could not be written is tried again.
                self.world.wait(Duration::from_secs(2));
            }
            Step::Kill => self.kill(),
            _ => {}
        }
        self.hear();
    }

    fn world_up(&mut self) {
        if !self.up {
            self.up = true;
            let there = self.there();
            self.world.attach(there);
        }
    }

    fn kill(&mut self) {
        let before = &self.world;
        let mut after = World::dark_at(read(&self.text), before.stored.clone(), before.now);
        after.held = before.held;
        after.held.switches = false;
        after.specs.clone_from(&before.specs);
        after.tables.clone_from(&before.tables);
        after.continue_after(before);
        self.world = after;
        for n in 0..self.world.site.topology.switches.len() as u32 {
            if !self.away.contains(&SwitchId(n)) {
                self.world.connect(SwitchId(n));
            }
        }
        if std::mem::take(&mut self.up) {
            self.world_up();
        }
    }

    fn check(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let world = &mut self.world;
        let vms: Vec<VmRecord> = world.core.vms().cloned().collect();
        let moves: Vec<MigrationRecord> = world.core.migrations().cloned().collect();
        let ids: BTreeSet<VmId> = moves.iter().map(|m| m.vm).collect();
        prop_assert_eq!(ids.len(), moves.len(), "one of each VM");
        prop_assert!(ids.iter().all(|id| vms.iter().any(|v| v.id == *id)), "none without its VM");
        let capacity: Vec<Resources> = world.core.snapshot().servers.iter().map(|s| s.capacity).collect();
        for (used, capacity) in world.used().iter().zip(&capacity) {
            prop_assert!(capacity.fits(*used), "{used:?} of {capacity:?} after {step:?}");
        }
        // What grows on the way, or is settled and only not written, has other books.
        let plain = |m: &MigrationRecord| {
            m.cause != Cause::Resize
                && !(world.held.broken && matches!(m.phase, Phase::Undo | Phase::Release))
        };
        if moves.iter().all(plain) {
            let (links, servers) = books(&vms, &moves);
            prop_assert_eq!(world.reserved(), links, "links after {:?}", step);
            for (n, used) in (0..).zip(world.used()) {
                let wanted = servers.get(&ServerId(n)).copied().unwrap_or_default();
                prop_assert_eq!(used, wanted, "server {} after {:?}", n, step);
            }
        }
        if world.held.switches {
            return Ok(());
        }
        assert_tables(world, &self.away);
        let groups: BTreeSet<u32> = world.core.snapshot().groups.iter().map(|g| g.id.0 as u32).collect();
        for (dpid, table) in &world.tables {
            let id = world.site.topology.switch_by_dpid(*dpid).expect("declared");
            for rule in table.values().filter(|_| !self.away.contains(&id)) {
                let owned = match rule.cookie.owner() {
                    Some(Owner::Vm(n)) => vms.iter().any(|v| v.id.0 as u32 == n),
                    Some(Owner::Group(n)) => groups.contains(&n),
                    Some(Owner::Migration(n)) => moves.iter().any(|m| m.id.0 as u32 == n),
                    _ => true,
                };
                prop_assert!(owned || world.may_stay(*dpid, rule), "{rule:?} after {step:?}");
            }
        }
        if self.away.is_empty() {
            for vm in vms.iter().filter(|v| v.state == VmState::Running) {
                let over = moves.iter().find(|m| m.vm == vm.id && m.phase == Phase::SwitchOver);
                match over {
                    None => reached_once(world, vm, vm.server, &vm.path_down),
                    Some(m) => {
                        let place: &Place = &m.to;
                        let alive = place.path_up.iter().chain(&place.path_down);
                        if alive.clone().all(|hop| world.core.is_usable(hop.link)) {
                            reached_once(world, vm, place.server, &place.path_down);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// A VM gets each packet once where it is.
fn reached_once(world: &World, vm: &VmRecord, server: ServerId, down: &[Hop]) {
    let gateway = &world.site.topology.gateways[vm.gateway.0 as usize];
    let packet = udp(gateway.mac, gateway.address, vm.address);
    let fates = world.spread(NodeId::Gateway(vm.gateway), down[0].link, packet);
    let there = fates.iter().filter(|f| **f == Fate::At(NodeId::Server(server))).count();
    assert_eq!((there, fates.contains(&Fate::Loop)), (1, false), "{}: {fates:?}", vm.id);
}

/// What all places together take: a hop that both places of a VM use counts once.
pub(crate) fn books(vms: &[VmRecord], moves: &[MigrationRecord]) -> (u64, BTreeMap<ServerId, Resources>) {
    let mut links = 0;
    let mut servers: BTreeMap<ServerId, Resources> = BTreeMap::new();
    for vm in vms {
        let mut places = vec![Place::of(vm)];
        if let Some(m) = moves.iter().find(|m| m.vm == vm.id) {
            places = vec![m.from.clone(), m.to.clone()];
            links += m.path.len() as u64 * m.rate.0;
        }
        let up: BTreeSet<Hop> = places.iter().flat_map(|p| p.path_up.clone()).collect();
        let down: BTreeSet<Hop> = places.iter().flat_map(|p| p.path_down.clone()).collect();
        links += vm.request.resources.net.0 * (up.len() + down.len()) as u64;
        for place in places {
            let sum = servers.entry(place.server).or_default();
            *sum = sum.plus(vm.request.resources);
        }
    }
    (links, servers)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 4000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_while_vms_move_the_books_agree(
        steps in prop::collection::vec(step(), 1..60),
        two_uplinks in any::<bool>(),
        narrow in any::<bool>(),
        one_table in any::<bool>(),
    ) {
        let uplinks = if two_uplinks { "server_uplinks = 2\n" } else { "" };
        let bandwidth = if narrow { "[bandwidth]\naggregation = \"3 Mbit/s\"\n" } else { "" };
        let text = format!("{SMALL}{uplinks}{bandwidth}[migration]\nper_server = 3\ndirty_rate = \"100 kbit/s\"\n");
        let mut world = World::dark(read(&text), Default::default());
        (world.one_table, world.held.moves) = (one_table, true);
        world.connect_all();
        world.attach(Vec::new());
        for _ in 0..2 {
            world.ask_vm();
        }
        let (away, open, ended) = Default::default();
        let mut chaos = Chaos { world, text, away, up: true, open, ended };
        for step in &steps {
            chaos.take(step);
            chaos.check(step)?;
        }
        // Everything is mended, everything arrives, and everything is deleted: nothing is left.
        chaos.world.held.broken = false;
        quick(&mut chaos.world);
        chaos.hear();
        chaos.world_up();
        for id in std::mem::take(&mut chaos.away) {
            chaos.world.connect(id);
        }
        for port in chaos.world.stored.ports.clone() {
            chaos.world.ask(Request::SetPort { switch: port.switch, port: port.port, up: true });
        }
        for n in 0..chaos.world.site.topology.links.len() as u32 {
            chaos.world.set_link(LinkId(n), true);
        }
        for _ in 0..4 {
            chaos.world.wait_seen(Duration::from_secs(2));
            chaos.hear();
            let first = any_index();
            while !chaos.open.is_empty() {
                chaos.end(&first, |order| match order {
                    Effect::MigrateVm { to, .. } => Some(*to),
                    _ => None,
                });
                chaos.hear();
            }
        }
        let world = &mut chaos.world;
        prop_assert_eq!(world.core.migrations().count(), 0);
        prop_assert!(world.stored.migrations.is_empty());
        world.assert_books_of_vms();
        crate::group_labels::assert_exact(world, "all is mended");
        let vms: Vec<VmRecord> = world.core.vms().cloned().collect();
        for vm in &vms {
            prop_assert_eq!(&vm.state, &VmState::Running, "{} after all is mended", vm.id);
            prop_assert_eq!(Some(vm.server), world.specs.get(&vm.id).map(|(s, _)| *s), "{} is there", vm.id);
            world.assert_reachable(vm);
            world.ask(Request::DeleteVm { vm: vm.id });
        }
        prop_assert_eq!(world.reserved(), 0);
        let left = world.tables.values().flat_map(|t| t.values()).filter(|r| {
            !matches!(r.cookie.owner(), Some(Owner::Base | Owner::Fabric))
        });
        let left: Vec<String> = left.map(|r| format!("{r:?}")).collect();
        prop_assert_eq!(left, Vec::<String>::new());
        prop_assert!(world.stored.vms.is_empty() && world.stored.groups.is_empty());
    }
}

/// The first of however many.
fn any_index() -> Index {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    any::<Index>().new_tree(&mut runner).expect("an index").current()
}
