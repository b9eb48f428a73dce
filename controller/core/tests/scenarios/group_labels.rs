//! Groups whose rules are by labels: any groups on any switches, and what becomes of every packet
//! between any two VMs; and how many rules that takes.

use crate::fabric::{Fabric, Sender, TAG};
use crate::packets::{Fate, udp};
use crate::world::{World, read};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};
use tandem_core::rules::labels::FEW;
use tandem_model::{
    Effect, Event, GroupId, LinkId, Mac, NodeId, Owner, PersistedState, Request, Response, Rule, RuleAction,
    ServerId, SwitchCaps, SwitchId, VmId, VmRecord, VmState,
};

fn vms(world: &World) -> Vec<VmRecord> {
    world.core.vms().filter(|v| v.state == VmState::Running).cloned().collect()
}

/// The groups that there are, by what the store holds.
fn mates(world: &World) -> BTreeSet<(VmId, VmId)> {
    let groups = world.stored.groups.iter().map(|g| &g.members);
    groups.flat_map(|m| m.iter().flat_map(|a| m.iter().map(|b| (*a, *b)))).filter(|(a, b)| a != b).collect()
}

/// Where a packet from one VM to another ends.
fn between(world: &World, a: &VmRecord, b: &VmRecord) -> Vec<Fate> {
    world.spread(NodeId::Server(a.server), a.path_up[0].link, udp(a.mac, a.address, b.address))
}

/// Every VM reaches those that it shares a group with, each once, and nothing that it sends gets to
/// any other: it is dropped where it enters.
pub(crate) fn assert_exact(world: &World, what: &str) {
    let (vms, mates) = (vms(world), mates(world));
    for a in &vms {
        let (edge, _) =
            tandem_core::network::attachment::server_port(&world.site.topology, a).expect("an edge");
        for b in vms.iter().filter(|b| b.id != a.id) {
            let wanted = match mates.contains(&(a.id, b.id)) {
                true => Fate::At(NodeId::Server(b.server)),
                false => Fate::Dropped(edge),
            };
            assert_eq!(between(world, a, b), [wanted], "{} to {} after {what}", a.id, b.id);
        }
        // Nor to a server, nor to an address that nobody has, nor with the Ethernet address of
        // another.
        for server in world.site.topology.servers.iter().take(3) {
            let packet = udp(a.mac, a.address, server.address);
            let fates = world.spread(NodeId::Server(a.server), a.path_up[0].link, packet);
            assert_eq!(fates, [Fate::Dropped(edge)], "{} to {} after {what}", a.id, server.name);
        }
    }
    // Nobody gets what a server sends to a VM, with whose address ever.
    for (n, server) in (0u32..).zip(&world.site.topology.servers) {
        let from = NodeId::Server(ServerId(n));
        for to in vms.iter().take(4) {
            for source in [Some(server.address), vms.first().map(|v| v.address)].into_iter().flatten() {
                let fates = world.spread(from, server.uplinks[0], udp(server.mac, source, to.address));
                let dropped = fates.iter().all(|f| matches!(f, Fate::Dropped(_)));
                assert!(dropped, "{} as {source} to {}: {fates:?} after {what}", server.name, to.id);
            }
        }
    }
}

/// While switches change their rules: who shared a group before and does so afterwards is never
/// lost, and nobody else is reached.
fn assert_no_gap(world: &World, before: &BTreeSet<(VmId, VmId)>, vms: &[VmRecord], what: &str) {
    let after = mates(world);
    for a in vms {
        for b in vms.iter().filter(|b| b.id != a.id) {
            let fates = between(world, a, b);
            let there = fates.iter().filter(|f| matches!(f, Fate::At(_))).count();
            let pair = (a.id, b.id);
            if before.contains(&pair) && after.contains(&pair) {
                assert_eq!(fates, [Fate::At(NodeId::Server(b.server))], "{} to {} in {what}", a.id, b.id);
            } else if !before.contains(&pair) && !after.contains(&pair) {
                assert_eq!(there, 0, "{} to {} in {what}: {fates:?}", a.id, b.id);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Group(Vec<Index>),
    Ungroup(Index),
    Delete(Index),
    Move(Index, Index),
    Link(Index),
    /// A switch comes back with another number of tables.
    Tables(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(any::<Index>(), 2..9).prop_map(Step::Group),
        2 => any::<Index>().prop_map(Step::Ungroup),
        1 => any::<Index>().prop_map(Step::Delete),
        3 => (any::<Index>(), any::<Index>()).prop_map(|(vm, to)| Step::Move(vm, to)),
        1 => any::<Index>().prop_map(Step::Link),
        2 => any::<Index>().prop_map(Step::Tables),
    ]
}

fn sites() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        3 => Just("shape = \"three-tier\"\ncore = 1\naggregation = 2\nedge = 3\naggregation_core_links = 1\nserver_uplinks = 2\n"),
        2 => Just("shape = \"linear\"\nswitches = 4\nservers_per_switch = 2\n"),
        1 => Just("shape = \"three-tier\"\naggregation = 0\nedge = 3\ncore = 2\n"),
    ]
}

/// Takes a step, and describes it.
fn take(world: &mut World, step: &Step, single: &mut BTreeSet<SwitchId>, down: &mut Option<LinkId>) {
    let there = vms(world);
    match step {
        Step::Group(members) => {
            let members = members.iter().map(|i| there[i.index(there.len())].address).collect();
            world.ask(Request::CreateGroup { members });
        }
        Step::Ungroup(i) if !world.stored.groups.is_empty() => {
            let group = world.stored.groups[i.index(world.stored.groups.len())].id;
            world.ask(Request::DeleteGroup { group });
        }
        Step::Delete(i) if there.len() > 3 => {
            world.ask(Request::DeleteVm { vm: there[i.index(there.len())].id });
        }
        Step::Move(vm, to) => {
            let to = to.index(world.site.topology.servers.len()) as u32;
            world.migrate(there[vm.index(there.len())].id, Some(to));
        }
        Step::Link(i) => match down.take() {
            Some(link) => world.set_link(link, true),
            None => {
                let link = LinkId(i.index(world.site.topology.links.len()) as u32);
                if world.ends(link).len() == 2 {
                    world.set_link(link, false);
                    *down = Some(link);
                }
            }
        },
        Step::Tables(i) => {
            let switch = SwitchId(i.index(world.site.topology.switches.len()) as u32);
            if !single.remove(&switch) {
                single.insert(switch);
            }
            world.one_table = single.contains(&switch);
            let dpid = world.site.topology.switches[switch.0 as usize].dpid;
            world.tables.remove(&dpid);
            world.connect(switch);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Groups come and go, overlap as they like, their members move and go, links and switches
    /// change: after each step who may reach whom is exactly what the groups say, and on the way
    /// there nobody loses what he keeps or gets what is not for him.
    #[test]
    fn who_reaches_whom_is_what_the_groups_say(
        site in sites(),
        count in 5usize..10,
        steps in prop::collection::vec(step(), 1..12),
        order in prop::collection::vec(any::<Index>(), 64),
    ) {
        let text = format!("[topology]\n{site}[servers]\ncpu = 4\n[migration]\nper_server = 8\n");
        let mut world = World::new(read(&text));
        for _ in 0..count {
            world.vm();
        }
        // Away from where their addresses are from, one or two to a server.
        let ids: Vec<VmId> = vms(&world).iter().map(|v| v.id).collect();
        for (n, vm) in ids.iter().enumerate() {
            let to = (n * 3 + 1) % world.site.topology.servers.len();
            world.migrate(*vm, Some(to as u32));
        }
        let (mut single, mut down) = (BTreeSet::new(), None);
        let mut order = order.into_iter().cycle();
        for step in steps {
            let what = format!("{step:?}");
            // Where links or tables change, packets may be lost for a while; and a VM that moves
            // has rules of its own (moves_rules).
            let is_watched = matches!(step, Step::Group(_) | Step::Ungroup(_) | Step::Delete(_)) && down.is_none();
            let before = mates(&world);
            world.held.switches = is_watched;
            take(&mut world, &step, &mut single, &mut down);
            while world.is_waiting() {
                let there = vms(&world);
                let pick = order.next().expect("endless");
                world.confirm(|pending| pick.index(pending));
                assert_no_gap(&world, &before, &there, &what);
            }
            world.held.switches = false;
            if down.is_none() {
                assert_exact(&world, &what);
            }
        }
        // Rules are those of the state, whatever has led to it.
        let owned: BTreeSet<u32> = world.stored.groups.iter().map(|g| g.id.0 as u32).collect();
        for rule in world.tables.values().flat_map(|t| t.values()) {
            if let Some(Owner::Group(n)) = rule.cookie.owner() {
                prop_assert!(owned.contains(&n), "{rule:?}");
            }
        }
    }
}

/// How many rules of groups each switch has.
fn counts(world: &World) -> BTreeMap<SwitchId, usize> {
    let of = |dpid| world.site.topology.switch_by_dpid(dpid).expect("declared");
    let is_groups = |o: Option<Owner>| matches!(o, Some(Owner::Group(_)));
    world
        .tables
        .iter()
        .map(|(dpid, t)| (of(*dpid), t.values().filter(|r| is_groups(r.cookie.owner())).count()))
        .collect()
}

/// The published data centre with a group of so many VMs over all its edges.
fn grouped(members: usize, one_table: bool) -> World {
    let site = "[topology]\nshape = \"three-tier\"\n[servers]\ncpu = 64\nram = \"1 TiB\"\ndisk = \"10 TiB\"\n\
                [bandwidth]\nedge = \"10 Gbit/s\"\naggregation = \"40 Gbit/s\"\ncore = \"100 Gbit/s\"\n[policy]\nallocation = \"worst-fit\"\n";
    let mut world = World::dark(read(site), PersistedState::default());
    world.one_table = one_table;
    world.connect_all();
    world.attach(Vec::new());
    let addresses = (0..members).map(|_| world.vm().address).collect();
    let id = world.ask(Request::CreateGroup { members: addresses });
    assert_eq!(world.answer(id), Some(Response::GroupCreated { group: GroupId(1) }));
    world
}

/// A switch has a number of rules for each member, and not for each pair of them.
#[test]
fn rules_of_a_group_grow_with_its_members_and_not_with_their_square() {
    for n in [10, 20, 40] {
        let world = grouped(n, false);
        let topology = &world.site.topology;
        for (switch, count) in counts(&world) {
            let here = vms(&world).iter().filter(|v| topology.edge_of(v.server, 0) == Some(switch)).count();
            let most = match topology.switches[switch.0 as usize].prefix {
                // A label for each, a way to each, one more for neighbours at one port; and what is
                // to nobody.
                Some(_) => 2 * n + here + 1,
                // A way to each, for each part of the network that servers and VMs are in.
                None => n,
            };
            assert!(count <= most, "{n} members: {count} rules at {switch}, {most} are enough");
        }
    }
}

/// Of a few members there are fewer pairs than labels.
#[test]
fn a_group_of_a_few_has_rules_pair_by_pair() {
    for (n, by_label) in [(FEW, false), (FEW + 1, true)] {
        let world = grouped(n, false);
        let rules: Vec<_> = world.tables.values().flat_map(|t| t.values()).collect();
        let writes = |a: &RuleAction| matches!(a, RuleAction::WriteMetadata(_));
        assert_eq!(rules.iter().any(|r| r.actions.iter().any(writes)), by_label, "{n} members");
    }
}

/// The same in real switches, frame by frame: with a tag of VID 0 too, not with a false address,
/// and nothing is found to be repaired.
#[test]
fn labels_do_in_real_switches_what_they_say() {
    let mut world = grouped(20, false);
    let (outsider, _) = (world.vm(), world.vm());
    let members: Vec<VmRecord> = vms(&world).into_iter().filter(|v| v.id.0 <= 20).collect();
    let mut fabric = Fabric::of(&world);
    for a in &members {
        let sender = Sender::vm(a);
        for b in members.iter().filter(|b| b.id != a.id) {
            for tags in [&[][..], &[(TAG, 0)]] {
                let ended = sender.sends(&mut fabric, &sender.udp(b.mac, b.address, tags));
                assert!(ended.is_at(NodeId::Server(b.server)), "{} to {}: {ended:?}", a.id, b.id);
            }
        }
        let b = &members[usize::from(a.id == members[0].id)];
        let as_b = Sender { ip: b.address, mac: b.mac, ..sender };
        for (sender, mac, ip, tags) in [
            // To a member by another's Ethernet address, or to all.
            (sender, outsider.mac, b.address, &[][..]),
            (sender, Mac::BROADCAST, b.address, &[]),
            // In a VLAN.
            (sender, b.mac, b.address, &[(TAG, 5)]),
            // With a member's IP address alone, or with both of its addresses from where it is not.
            (Sender { ip: b.address, ..sender }, outsider.mac, outsider.address, &[]),
            (as_b, outsider.mac, outsider.address, &[]),
            (sender, outsider.mac, outsider.address, &[]),
        ] {
            let ended = sender.sends(&mut fabric, &sender.udp(mac, ip, tags));
            assert!(ended.is_nowhere(), "{} as {} to {ip} at {mac}: {ended:?}", a.id, sender.ip);
        }
        let sender = Sender::vm(&outsider);
        let ended = sender.sends(&mut fabric, &sender.udp(a.mac, a.address, &[]));
        assert!(ended.is_nowhere(), "from outside to {}: {ended:?}", a.id);
    }
    assert_eq!(fabric.repairs(2), 0);
}

/// A switch with one table has no metadata.
#[test]
fn switches_with_one_table_have_rules_pair_by_pair() {
    let world = grouped(6, true);
    assert_exact(&world, "all of them");
    let rules = world.tables.values().flat_map(|t| t.values());
    for rule in rules {
        assert_eq!((rule.key.table, rule.key.matching.metadata), (0, None));
        assert!(!rule.actions.iter().any(|a| matches!(a, RuleAction::WriteMetadata(_))), "{rule:?}");
    }
}

/// A switch that comes back with another number of tables has its rules in the form that it would
/// have had from the beginning.
#[test]
fn a_switch_that_changes_its_tables_gets_the_form_that_it_can_have() {
    for one_table in [false, true] {
        let mut changed = grouped(10, !one_table);
        changed.one_table = one_table;
        changed.tables.clear();
        changed.connect_all();
        assert_eq!(counts(&changed), counts(&grouped(10, one_table)), "one table: {one_table}");
    }
}

/// A packet is labelled only where what is for nobody of the group is dropped already: else it
/// would go on to whom it may not reach.
#[test]
fn labels_come_after_what_is_done_with_them() {
    let mut world = grouped(2, false);
    let more: Vec<_> = (0..4).map(|_| world.vm().address).collect();
    world.forget();
    world.held.switches = true;
    world.ask(Request::CreateGroup { members: more });
    let added = |world: &World| -> Vec<u8> {
        let changes = world.log.iter().filter_map(|e| match e {
            Effect::ApplyRules { add, .. } => Some(add),
            _ => None,
        });
        changes.flatten().map(|r| r.key.table).collect()
    };
    assert!(!added(&world).is_empty() && !added(&world).contains(&0), "labels in the first step");
    world.confirm_all();
    assert!(added(&world).contains(&0));
    assert_exact(&world, "the second group");
}

/// A switch with two tables takes no metadata, and says so of the first group's rules: that group
/// is there all the same, pair by pair in that switch, and so are later ones, also when it connects
/// again. What it refuses for another reason, it refuses.
#[test]
fn a_switch_without_metadata_gets_pairs() {
    let mut world = grouped(2, false);
    let members: Vec<VmRecord> = (0..6).map(|_| world.vm()).collect();
    let addresses: Vec<_> = members.iter().map(|v| v.address).collect();
    let topology = &world.site.topology;
    let (odd, _) = tandem_core::network::attachment::server_port(topology, &members[2]).expect("an edge");
    let (dpid, name) =
        (topology.switches[odd.0 as usize].dpid, topology.switches[odd.0 as usize].name.clone());
    let has_metadata = |rules: &[Rule]| {
        let writes = |a: &RuleAction| matches!(a, RuleAction::WriteMetadata(_));
        rules.iter().any(|r| r.key.matching.metadata.is_some() || r.actions.iter().any(writes))
    };
    world.forget();
    world.held.switches = true;
    let request = world.ask(Request::CreateGroup { members: addresses.clone() });
    let refused = world.log.iter().find_map(|e| match e {
        Effect::ApplyRules { switch, txn, add, .. } if *switch == dpid && has_metadata(add) => Some(*txn),
        _ => None,
    });
    let txn = refused.expect("labels at its edge");
    world.forget_pending(dpid, txn);
    let why = "BAD_INSTRUCTION/UNSUP_METADATA".to_owned();
    world.tell(Event::MetadataRefused { switch: dpid, txn, why });
    world.confirm_all();
    world.held.switches = false;
    assert_eq!(world.answer(request), Some(Response::GroupCreated { group: GroupId(2) }));
    assert_eq!((world.noticed("metadata-refused").len(), world.noticed("rules-refused").len()), (1, 0));
    assert_exact(&world, "a refusal");
    let is_odd = |world: &World| {
        let labelled = |d| has_metadata(&world.tables[d].values().cloned().collect::<Vec<_>>());
        !labelled(&dpid) && world.tables.keys().any(labelled)
    };
    assert!(is_odd(&world), "pairs there, labels elsewhere");

    world.switch_down(&name);
    world.connect(odd);
    world.ask(Request::CreateGroup { members: addresses[1..].to_vec() });
    assert_exact(&world, "it has come back");
    assert!(is_odd(&world));

    // Now that it has been sent none, a refusal is one.
    world.forget();
    world.held.switches = true;
    let request = world.ask(Request::CreateGroup { members: vec![addresses[0], vms(&world)[0].address] });
    let sent = world.log.iter().find_map(|e| match e {
        Effect::ApplyRules { switch, txn, .. } => Some((*switch, *txn)),
        _ => None,
    });
    let (switch, txn) = sent.expect("a transaction");
    world.forget_pending(switch, txn);
    world.tell(Event::RulesRefused { switch, txn, why: "FLOW_MOD_FAILED/TABLE_FULL".into() });
    world.confirm_all();
    assert!(matches!(world.answer(request), Some(Response::Failed { why }) if why.contains("TABLE_FULL")));

    // With other software it is asked again.
    world.held.switches = false;
    let ports =
        world.site.topology.ports(NodeId::Switch(odd)).iter().map(|(p, _)| crate::world::port(*p, true));
    let (ports, version) = (ports.collect(), "1.3".to_owned());
    let caps = SwitchCaps { version, tables: 2, description: "newer".into(), peer: "a test".into() };
    world.switch_down(&name);
    world.tell(Event::SwitchUp { switch: dpid, ports, caps });
    assert!(!is_odd(&world));
    assert_exact(&world, "it has metadata");
}

/// The table in docs/rules.md has the numbers of rules that the core makes: in all switches
/// together, and in the switch that has most.
#[test]
fn the_documentation_has_the_numbers_of_rules() {
    let text = include_str!("../../../../docs/rules.md");
    let (_, table) = text.split_once("| members | pair by pair | by labels |\n").expect("the table");
    let rows: Vec<&str> = table.lines().skip(1).take_while(|l| l.starts_with('|')).collect();
    assert!(rows.len() > 3, "{rows:?}");
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let members: usize = cells[1].split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        // A group of a few has rules pair by pair.
        let documented = if cells[3] == "(pairs)" { cells[2] } else { cells[3] };
        let counts = counts(&grouped(members, false));
        let most = counts.values().max().copied().unwrap_or_default();
        let numbers = [counts.values().sum::<usize>(), most];
        let written: Vec<String> = documented.split(", ").map(|n| n.replace(',', "")).collect();
        assert_eq!(written, numbers.map(|n| n.to_string()), "{members} members: {counts:?}");
    }
}
