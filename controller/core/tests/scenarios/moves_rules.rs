//! Packets of a VM that moves, on any topology, from any place to any other: walked through the
//! rules that the switches have, before, while and after they are changed, in whatever order the
//! switches get to it.

use crate::packets::{Fate, udp};
use crate::world::{SMALL, World, read};
use proptest::prelude::*;
use std::collections::BTreeSet;
use tandem_model::{
    ClassId, Dpid, Effect, Event, MigrationId, MigrationRecord, NodeId, Owner, PersistedState, Phase, Place,
    QueueSelection, Request, RuleAction, RuleKey, ServerId, SwitchId, VmId, VmRecord,
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

/// Every packet reaches what it should exactly once: the VM at all of `places`, its gateway and its
/// mates from each of them.
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

/// While switches change their rules: the places that have it get every packet once, others at most
/// once, and nothing goes in circles.
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
        Just("[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 2\nedge = 2\naggregation_core_links = 1\n\
              [[legacy]]\nname = \"cellar\"\nbetween = [\"agg2\", \"edge2\"]\n\
              [[legacy]]\nname = \"under-desk\"\nbetween = [\"edge1\", \"srv1\"]\n[modules]\ndhcp = false\n".to_owned()),
        Just("[topology]\nshape = \"linear\"\nswitches = 5\nservers_per_switch = 2\n".to_owned()),
    ];
    prop_oneof![3 => tier, 2 => other]
}

const CLASSES: &str = "[[class]]\nname = \"gold\"\nshare = 70\ndscp = 46\n\
                       [[class]]\nname = \"silver\"\nshare = 30\ndscp = 10\ndefault = true\n";

/// An agent presents all ports of all switches, which choose queues by rule.
fn manage(world: &mut World) {
    for n in 0..world.site.topology.switches.len() as u32 {
        let ports = world.site.topology.ports(NodeId::Switch(SwitchId(n)));
        let ports = ports.iter().map(|(p, _)| (*p, QueueSelection::Queue)).collect();
        let switch = world.site.topology.switches[n as usize].dpid;
        world.tell(Event::PortsManaged { agent: "host1".into(), switch, ports });
    }
}

/// What the rules of groups do, in all switches. Which of two groups has one that both want depends
/// on what came before.
fn of_groups(world: &World) -> BTreeSet<(Dpid, RuleKey, Vec<RuleAction>)> {
    let all = world.tables.iter().flat_map(|(dpid, table)| table.values().map(|r| (*dpid, r)));
    let of_groups = all.filter(|(_, r)| matches!(r.cookie.owner(), Some(Owner::Group(_))));
    of_groups.map(|(dpid, r)| (dpid, r.key, r.actions.clone())).collect()
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
        classes in any::<bool>(),
        // Groups of a few have rules pair by pair, larger ones by labels.
        homes in prop::collection::vec(any::<prop::sample::Index>(), 3..7),
        // Switches with one table among others with two.
        mixed in prop::option::weighted(0.3, any::<prop::sample::Index>()),
        // Further groups of the same VMs, the first with the one that moves.
        further in 0usize..4,
        to in any::<prop::sample::Index>(),
        fails in any::<bool>(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        // Nobody keeps a class over a switch that knows none.
        let classes = classes && !text.contains("legacy");
        let more = if classes { CLASSES } else { "" };
        let text = format!("{text}[migration]\nper_server = 8\n{more}");
        let Ok(site) = tandem_model::site::read(&text, "site.toml") else {
            return Err(TestCaseError::reject("no such topology"));
        };
        let connect = |world: &mut World| {
            world.one_table = one_table;
            world.connect_all();
            if let Some(mixed) = mixed {
                let switch = SwitchId(mixed.index(world.site.topology.switches.len()) as u32);
                world.one_table = !one_table;
                if !world.site.topology.switches[switch.0 as usize].legacy {
                    world.connect(switch);
                }
            }
        };
        let mut world = World::dark(site.clone(), PersistedState::default());
        connect(&mut world);
        world.attach(Vec::new());
        let servers = world.site.topology.servers.len();
        if classes {
            manage(&mut world);
        }
        let mut request = world.request();
        request.class = classes.then_some(ClassId(0));
        let vms: Vec<VmId> = homes.iter().map(|_| world.vm_of(request.clone()).id).collect();
        for (vm, home) in vms.iter().zip(&homes) {
            go(&mut world, *vm, home.index(servers) as u32);
        }
        let members: Vec<_> = vms.iter().map(|id| world.now_at(*id).address).collect();
        world.ask(Request::CreateGroup { members: members.clone() });
        for n in 0..further {
            world.ask(Request::CreateGroup { members: members[n.min(members.len() - 2)..].to_vec() });
        }
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
        // Nothing is left of the way there: a controller that begins with what is stored has the
        // same rules for the groups.
        let mut again = World::dark(site, world.stored.clone());
        connect(&mut again);
        if classes {
            manage(&mut again);
        }
        let (now, anew) = (of_groups(&world), of_groups(&again));
        let different: Vec<_> = now.symmetric_difference(&anew).collect();
        prop_assert!(different.is_empty(), "{different:?}");
        for vm in vms.iter().filter(|_| !world.site.topology.switches.iter().any(|s| s.legacy)) {
            world.assert_reachable(&world.now_at(*vm));
        }
    }
}

/// The transfer is ordered only when every switch that has to know both places is there and has
/// said so.
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

/// Switches begin to choose queues in the middle of a move, and a link comes and goes: both places
/// keep their rules, and their marks.
#[test]
fn rules_that_are_made_anew_meanwhile_are_those_of_both_places() {
    let mut world = World::new(read(&format!("{SMALL}{CLASSES}")));
    world.held.moves = true;
    let (vm, mate) = (world.vm(), world.vm());
    world.ask(Request::CreateGroup { members: vec![vm.address, mate.address] });
    world.migrate(vm.id, Some(2));
    let m = world.core.migrations().next().cloned().expect("under way");
    manage(&mut world);
    assert_reached(&world, &vm, &[&m.from, &m.to], std::slice::from_ref(&mate));
    let queued = world.tables.values().flat_map(|t| t.values()).filter(|r| {
        matches!(r.cookie.owner(), Some(Owner::Migration(_)))
            && r.actions.iter().any(|a| matches!(a, RuleAction::SetQueue(1)))
    });
    assert_eq!(queued.count(), 2, "where the transfer's traffic enters, from either end");
    let link = world.link("agg1", "edge2");
    for up in [false, true] {
        world.set_link(link, up);
        let m = world.core.migrations().next().cloned().expect("still under way");
        assert_reached(&world, &vm, &[&m.from, &m.to], std::slice::from_ref(&mate));
    }
    world.moved();
    world.assert_settled(vm.id);
}

/// A VM that moves may show itself at both of its places, and gets its address there; nobody else
/// may, and it nowhere else.
#[test]
fn a_vm_that_moves_is_known_at_both_its_places() {
    use tandem_model::{DhcpRequestKind, Effect};
    let mut world = crate::moves::held();
    let vm = world.vm();
    world.migrate(vm.id, Some(2));
    let old = world.dhcp(vm.id, DhcpRequestKind::Discover, None);
    let order = world.order();
    world.move_over(&order);
    let new = world.dhcp(vm.id, DhcpRequestKind::Discover, None);
    let offered = |world: &mut World, event: &Event| {
        world.forget();
        world.held.dhcp = true;
        world.tell(event.clone());
        world.log.iter().any(|e| matches!(e, Effect::SendDhcp { .. }))
    };
    assert!(offered(&mut world, &old) && offered(&mut world, &new));
    let (switch, port) = world.port_of(ServerId(3));
    world.tell(Event::HostSeen { switch, port, mac: vm.mac, ip: vm.address });
    assert_eq!(world.noticed("spoofed").len(), 1);
    let (switch, port) = world.port_of(ServerId(2));
    world.forget();
    world.tell(Event::HostSeen { switch, port, mac: vm.mac, ip: vm.address });
    assert!(world.noticed("spoofed").is_empty());
    world.tell(Event::VmMoved { migration: MigrationId(1), downtime: None });
    assert!(!offered(&mut world, &old) && offered(&mut world, &new), "only where it is now");
}
