//! Anything in any order: after every step, the books agree with the VMs, and every running VM
//! reaches its gateway.

use crate::world::{SMALL, World, read};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_core::snapshot::OverrideView;
use tandem_model::{LinkId, Owner, Request, SwitchId, VmState};

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Request,
    Delete(prop::sample::Index),
    Resize(prop::sample::Index, u32),
    Group(prop::sample::Index, prop::sample::Index),
    Link(prop::sample::Index, bool),
    /// The operator switches a link's end off, or on again.
    Port(prop::sample::Index, bool),
    /// The operator pins a path to a switch.
    Pin(prop::sample::Index, prop::sample::Index),
    Unpin(prop::sample::Index),
    Down(prop::sample::Index),
    Up(prop::sample::Index),
    Wait(u64),
    /// From now on switches take their time.
    Slow,
    /// One of them has carried out one transaction.
    Confirm(prop::sample::Index),
    /// They are quick again.
    Quick,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    use prop::sample::Index;
    prop_oneof![
        4 => Just(Step::Request),
        1 => any::<Index>().prop_map(Step::Delete),
        1 => (any::<Index>(), 1u32..9).prop_map(|(i, n)| Step::Resize(i, n)),
        3 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Step::Group(a, b)),
        4 => (any::<Index>(), any::<bool>()).prop_map(|(i, up)| Step::Link(i, up)),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(i, up)| Step::Port(i, up)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(vm, by)| Step::Pin(vm, by)),
        1 => any::<Index>().prop_map(Step::Unpin),
        1 => any::<Index>().prop_map(Step::Down),
        2 => any::<Index>().prop_map(Step::Up),
        1 => (1u64..12).prop_map(Step::Wait),
        1 => Just(Step::Slow),
        6 => any::<Index>().prop_map(Step::Confirm),
        1 => Just(Step::Quick),
    ]
}

pub(crate) fn take(world: &mut World, step: &Step, away: &mut Vec<SwitchId>) {
    let ids: Vec<_> = world.core.vms().map(|v| v.id).collect();
    let links = world.site.topology.links.len();
    let switches = world.site.topology.switches.len();
    match step {
        Step::Request => {
            world.ask_vm();
        }
        Step::Delete(i) if !ids.is_empty() => {
            world.ask(Request::DeleteVm { vm: ids[i.index(ids.len())] });
        }
        Step::Resize(i, n) if !ids.is_empty() => {
            let mut resources = world.site.vm.default;
            (resources.cpu, resources.net) = (*n, tandem_model::BitRate::mbit(u64::from(*n)));
            world.ask(Request::ResizeVm { vm: ids[i.index(ids.len())], resources });
        }
        Step::Group(a, b) if !ids.is_empty() => {
            let (a, b) = (a.index(ids.len()), b.index(ids.len()));
            let running = |v: &&tandem_model::VmRecord| v.state == VmState::Running;
            let between = world.core.vms().skip(a.min(b)).take(a.abs_diff(b) + 1);
            let members = between.filter(running).map(|v| v.address).collect();
            world.ask(Request::CreateGroup { members });
        }
        Step::Link(i, up) => world.set_link(LinkId(i.index(links) as u32), *up),
        Step::Port(i, up) => {
            let (dpid, port) = world.ends(LinkId(i.index(links) as u32))[0];
            let switch = world.site.topology.switch_by_dpid(dpid).expect("declared");
            world.ask(Request::SetPort { switch, port, up: *up });
        }
        Step::Pin(vm, by) if !ids.is_empty() => {
            let via = vec![SwitchId(by.index(switches) as u32)];
            world.ask(Request::PinPath { vm: ids[vm.index(ids.len())], via });
        }
        Step::Unpin(vm) if !ids.is_empty() => {
            world.ask(Request::UnpinPath { vm: ids[vm.index(ids.len())] });
        }
        Step::Down(i) => {
            let id = SwitchId(i.index(switches) as u32);
            if !away.contains(&id) {
                away.push(id);
                let name = world.site.topology.switches[id.0 as usize].name.clone();
                world.switch_down(&name);
            }
        }
        // A switch that connects tells its ports as they are: here, all of them up.
        Step::Up(i) if !away.is_empty() => {
            let id = away.remove(i.index(away.len()));
            world.connect(id);
        }
        Step::Slow => world.held.switches = true,
        Step::Confirm(i) => world.confirm(|pending| i.index(pending)),
        Step::Quick => quick(world),
        Step::Wait(s) => world.wait_seen(Duration::from_secs(*s)),
        _ => {}
    }
}

pub(crate) fn quick(world: &mut World) {
    world.confirm_all();
    world.held.switches = false;
}

/// Every switch that is there has the rules that the core says it has, and no other but those that
/// it leaves.
pub(crate) fn assert_tables(world: &mut World, away: &[SwitchId]) {
    let snapshot = world.core.snapshot();
    for (n, switch) in world.site.topology.switches.iter().enumerate() {
        if away.contains(&SwitchId(n as u32)) {
            continue;
        }
        let wanted: BTreeMap<_, _> = snapshot.rules[n].iter().map(|r| (r.key, r.clone())).collect();
        let has = &world.tables[&switch.dpid];
        let missing: Vec<_> = wanted.values().filter(|r| has.get(&r.key) != Some(r)).collect();
        let stale: Vec<_> = has
            .iter()
            .filter(|(key, rule)| !wanted.contains_key(*key) && !world.may_stay(switch.dpid, rule))
            .map(|(key, _)| *key)
            .collect();
        assert!(
            missing.is_empty() && stale.is_empty(),
            "{}: missing {missing:#?}, stale {stale:#?}",
            switch.name
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn the_books_always_agree(
        steps in prop::collection::vec(step(), 1..40),
        two_uplinks in any::<bool>(),
        narrow in any::<bool>(),
    ) {
        let uplinks = if two_uplinks { "server_uplinks = 2\n" } else { "" };
        let bandwidth = if narrow { "[bandwidth]\naggregation = \"2 Mbit/s\"\n" } else { "" };
        let mut world = World::new(read(&format!("{SMALL}{uplinks}{bandwidth}")));
        let mut away = Vec::new();
        for step in &steps {
            take(&mut world, step, &mut away);
            let vms: Vec<_> = world.core.vms().cloned().collect();
            let moves: Vec<_> = world.core.migrations().cloned().collect();
            let (booked, servers) = crate::moves_chaos::books(&vms, &moves);
            let cpu: u32 = servers.values().map(|r| r.cpu).sum();
            let (reserved, used) = (world.reserved(), world.used().iter().map(|u| u.cpu).sum::<u32>());
            // A VM that outgrows its server is on its way to another: as large as it will be, which
            // only the core knows.
            prop_assert!(reserved == booked || (reserved > booked && !moves.is_empty()), "links after {:?}", step);
            prop_assert!(used == cpu || (used > cpu && !moves.is_empty()), "servers after {:?}", step);
            let mut addresses: Vec<_> = vms.iter().map(|v| v.address).collect();
            addresses.sort_unstable();
            addresses.dedup();
            prop_assert_eq!(addresses.len(), vms.len());
            if !world.held.switches {
                assert_tables(&mut world, &away);
            }
            if away.is_empty() && !world.held.switches {
                let running = vms.iter().filter(|v| v.state == VmState::Running);
                running.for_each(|vm| world.assert_reachable(vm));
            }
        }
        quick(&mut world);
        assert_tables(&mut world, &away);
        // Everything is mended and everything deleted: nothing of any VM is left.
        away.into_iter().for_each(|id| world.connect(id));
        let off = world.stored.ports.clone();
        for port in off {
            world.ask(Request::SetPort { switch: port.switch, port: port.port, up: true });
        }
        prop_assert_eq!(world.stored.ports.len(), 0);
        let overrides = world.core.snapshot().overrides.clone();
        let ports = overrides.iter().filter(|o| matches!(o, OverrideView::PortOff { .. }));
        prop_assert_eq!(ports.count(), 0, "every port was switched on again");
        for n in 0..world.site.topology.links.len() as u32 {
            world.set_link(LinkId(n), true);
        }
        crate::group_labels::assert_exact(&world, "all is mended");
        let vms: Vec<_> = world.core.vms().cloned().collect();
        for vm in &vms {
            prop_assert_eq!(&vm.state, &VmState::Running, "{} after all is mended", vm.id);
            world.assert_reachable(vm);
            world.ask(Request::DeleteVm { vm: vm.id });
        }
        prop_assert_eq!(world.reserved(), 0);
        let left = world.tables.values().flat_map(|t| t.values()).filter(|r| {
            !matches!(r.cookie.owner(), Some(Owner::Base | Owner::Fabric))
        });
        prop_assert_eq!(left.count(), 0);
        prop_assert!(world.stored.vms.is_empty() && world.stored.groups.is_empty());
    }
}
