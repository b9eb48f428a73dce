//! Packets of a VM that moves, on any topology, from any place to any other: walked through the rules that the switches have, before,
//! while and after they are changed, in whatever order the switches get to it.

use crate::packets::{Fate, udp};
use crate::world::World;
use proptest::prelude::*;
use tandem_model::{
    Ask, Effect, Event, MigrationRecord, NodeId, Phase, Place, ServerId, Stored, VmId, VmRecord,
};

/// Where the copies of a packet to the VM end, from its gateway.
fn to_vm(world: &World, vm: &VmRecord, place: &Place) -> Vec<Fate> {
    let gateway = &world.site.topology.gateways[vm.gateway.0 as usize];
    let packet = udp(gateway.mac, gateway.address, vm.address);
    world.spread(NodeId::Gateway(vm.gateway), place.path_down[0].link, packet)
}

/// Where those of a packet from it end, sent from one of its places to some address.
fn from_vm(world: &World, vm: &VmRecord, place: &Place, to: std::net::Ipv4Addr) -> Vec<Fate> {
    world.spread(NodeId::Server(place.server), place.path_up[0].link, udp(vm.mac, vm.address, to))
}

fn at(place: &Place) -> Fate {
    Fate::At(NodeId::Server(place.server))
}

fn both(m: &MigrationRecord) -> Vec<Fate> {
    let mut all = vec![at(&m.from), at(&m.to)];
    all.sort_unstable_by_key(|f| format!("{f:?}"));
    all
}

/// Every packet reaches what it should exactly once: the VM at all of `places`, its gateway and its mates from each of them.
fn assert_reached(world: &World, vm: &VmRecord, places: &[&Place], mates: &[VmRecord]) {
    let mut all: Vec<Fate> = places.iter().map(|p| at(p)).collect();
    all.sort_unstable_by_key(|f| format!("{f:?}"));
    let gateway = Fate::At(NodeId::Gateway(vm.gateway));
    let router = world.site.topology.gateways[vm.gateway.0 as usize].address;
    for place in places {
        assert_eq!(to_vm(world, vm, place), all, "to it");
        for to in [router, std::net::Ipv4Addr::new(192, 0, 2, 1)] {
            assert_eq!(from_vm(world, vm, place, to), [gateway], "from {:?} to {to}", place.server);
        }
        for mate in mates {
            let there = Fate::At(NodeId::Server(mate.server));
            assert_eq!(from_vm(world, vm, place, mate.address), [there], "from {:?} to a mate", place.server);
        }
    }
    for mate in mates {
        let from = NodeId::Server(mate.server);
        let packet = udp(mate.mac, mate.address, vm.address);
        assert_eq!(world.spread(from, mate.path_up[0].link, packet), all, "from a mate to it");
    }
}

/// While switches change their rules: the places that have it get every packet once, others at most once, and nothing goes in circles.
fn assert_never_lost(world: &World, vm: &VmRecord, m: &MigrationRecord, has: &Place, mates: &[VmRecord]) {
    let once = |fates: Vec<Fate>, what: &str| {
        let count = |fate: Fate| fates.iter().filter(|f| **f == fate).count();
        assert_eq!(count(at(has)), 1, "{what}: {fates:?}");
        assert!(
            count(at(&m.from)) <= 1 && count(at(&m.to)) <= 1 && count(Fate::Loop) == 0,
            "{what}: {fates:?}"
        );
    };
    once(to_vm(world, vm, has), "from the gateway");
    for mate in mates {
        let packet = udp(mate.mac, mate.address, vm.address);
        once(world.spread(NodeId::Server(mate.server), mate.path_up[0].link, packet), "from a mate");
        let back = from_vm(world, vm, has, mate.address);
        assert_eq!(back, [Fate::At(NodeId::Server(mate.server))], "to a mate");
    }
    let router = world.site.topology.gateways[vm.gateway.0 as usize].address;
    assert_eq!(from_vm(world, vm, has, router), [Fate::At(NodeId::Gateway(vm.gateway))]);
}

fn topologies() -> impl Strategy<Value = String> {
    let tier = (1u32..4, 2u32..5, 2u32..5, 1u32..3, 1u32..3, 1u32..3).prop_map(
        |(core, aggregation, edge, up, gateways, uplinks)| {
            format!(
                "[topology]\nshape = \"three-tier\"\ngateways = {gateways}\ncore = {core}\naggregation = {aggregation}\n\
                 edge = {edge}\naggregation_core_links = {}\nserver_uplinks = {uplinks}\n",
                up.min(core)
            )
        },
    );
    let other = prop_oneof![
        Just("[topology]\nshape = \"fat-tree\"\nk = 4\n".to_owned()),
        Just("[topology]\nshape = \"three-tier\"\naggregation = 0\n".to_owned()),
        Just("[topology]\nshape = \"linear\"\nswitches = 5\nservers_per_switch = 2\n".to_owned()),
    ];
    prop_oneof![3 => tier, 2 => other]
}

fn go(world: &mut World, vm: VmId, to: u32) -> bool {
    world.forget();
    world.migrate(vm, Some(to));
    world.core.migrations().next().is_some() || world.now_at(vm).server == ServerId(to)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn every_packet_arrives_once_at_every_place_that_may_have_the_vm(
        text in topologies(),
        one_table in any::<bool>(),
        homes in prop::collection::vec(any::<prop::sample::Index>(), 3),
        to in any::<prop::sample::Index>(),
        fails in any::<bool>(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let Ok(site) = tandem_model::site::read(&format!("{text}[migration]\nper_server = 8\n"), "site.toml") else {
            return Err(TestCaseError::reject("no such topology"));
        };
        let mut world = World::dark(site, Stored::default());
        world.one_table = one_table;
        world.connect_all();
        world.attach(Vec::new());
        let servers = world.site.topology.servers.len();
        let vms: Vec<VmId> = homes.iter().map(|_| world.vm().id).collect();
        for (vm, home) in vms.iter().zip(&homes) {
            go(&mut world, *vm, home.index(servers) as u32);
        }
        let members = vms.iter().map(|id| world.now_at(*id).address).collect();
        world.ask(Ask::CreateGroup { members });
        let before = world.tables.clone();
        (world.held.moves, world.held.switches) = (true, true);
        let to = to.index(servers) as u32;
        if world.now_at(vms[0]).server == ServerId(to) || !go(&mut world, vms[0], to) {
            return Ok(());
        }
        let m = world.core.migrations().next().cloned().expect("under way");
        let vm = world.now_at(vms[0]);
        let mates: Vec<VmRecord> = vms[1..].iter().map(|id| world.now_at(*id)).collect();
        let mut order = order.into_iter().cycle();
        let mut step = |world: &mut World, has: &Place| {
            let mut steps = 0;
            while world.is_waiting() {
                let pick = order.next().expect("endless");
                world.confirm(|pending| pick.index(pending));
                assert_never_lost(world, &vm, &m, has, &mates);
                steps += 1;
                assert!(steps < 10_000);
            }
        };
        step(&mut world, &m.from);
        prop_assert_eq!(world.phase(), Some(Phase::Transfer));
        assert_reached(&world, &vm, &[&m.from, &m.to], &mates);
        prop_assert_eq!(to_vm(&world, &vm, &m.from), both(&m));
        world.tell(Event::VmSuspended { migration: m.id });
        assert_reached(&world, &vm, &[&m.from, &m.to], &mates);
        let id = m.id;
        if fails {
            let why = "cut".into();
            world.tell(Event::MigrationFailed { migration: id, at: Some(m.from.server), why });
            step(&mut world, &m.from);
            assert_reached(&world, &vm, &[&m.from], &mates);
            prop_assert_eq!(&world.tables, &before);
        } else {
            let order = world.order();
            world.move_over(&order);
            world.tell(Event::VmMoved { migration: id, downtime: None });
            step(&mut world, &m.to);
            assert_reached(&world, &vm, &[&m.to], &mates);
        }
        prop_assert_eq!(world.core.migrations().count(), 0);
        world.assert_books_of_vms();
        for vm in &vms {
            world.assert_reachable(&world.now_at(*vm));
        }
    }
}

/// The transfer is ordered only when every switch that has to know both places is there and has said so.
#[test]
fn a_switch_that_refuses_or_goes_away_takes_the_move_back() {
    for refuses in [true, false] {
        let mut world = crate::moves::held();
        let vm = world.vm();
        let tables = world.tables.clone();
        world.forget();
        world.held.switches = true;
        world.migrate(vm.id, Some(2));
        assert_eq!(world.phase(), Some(Phase::Prepare));
        if refuses {
            let refused = world.log.iter().rev().find_map(|e| match e {
                Effect::ApplyRules { switch, txn, .. } => Some((*switch, *txn)),
                _ => None,
            });
            let (switch, txn) = refused.expect("a transaction");
            world.forget_pending(switch, txn);
            world.tell(Event::RulesRefused { switch, txn, why: "table full".into() });
        } else {
            world.switch_down("edge2");
        }
        world.confirm_all();
        assert!(!world.log.iter().any(|e| matches!(e, Effect::MigrateVm { .. })));
        world.held.switches = false;
        if !refuses {
            let edge = world.switch("edge2");
            world.connect(edge);
        }
        assert_eq!(world.tables, tables, "refuses: {refuses}");
        assert_eq!(world.noticed("migration-undone").len(), 1);
        world.assert_settled(vm.id);
        assert_eq!(world.now_at(vm.id), vm);
        assert_eq!(world.core.counters().migrations_undone, 1);
    }
}
