//! Keep-policy as a whole: the packing of servers that the algorithm of the thesis leads to, with the
//! fewest moves.
//!
//! One VM after the other moves some VMs to make room for others that are just like them. Here the
//! algorithm is run to its end on paper; what counts of it is how many VMs of each kind each server
//! holds then. VMs are of one kind when they have the same resources, class and gateway; one whose path
//! is pinned is of its own. A server keeps as many VMs of a kind as it is to hold, and only what it has
//! too many goes to servers that have too few: no list of moves can be shorter, since every VM that a
//! server has too many has to leave it. A ring of servers that wait for each other takes moves in
//! between, so where one by one is not longer, that is taken.

use crate::migration::transfer_path::Found;
use crate::migration::what_if::PlanningState;
use crate::migration::{MigrationRef, rebalance, schedule};
use std::collections::BTreeMap;
use tandem_model::{BitRate, Bytes, Cause, ClassId, GatewayId, MoveOptions, ServerId, VmId, VmRecord};

/// What VMs have to have in common to stand for each other.
type Kind = (u32, Bytes, Bytes, BitRate, Option<ClassId>, GatewayId, Option<VmId>);

fn kind(vm: &VmRecord) -> Kind {
    let r = vm.request.resources;
    let own = vm.pin.as_ref().map(|_| vm.id);
    (r.cpu, r.ram, r.disk, r.net, vm.request.class, vm.gateway, own)
}

/// Who goes where, so that each server holds of each kind what it holds at the end of one by one.
fn wanted(core: MigrationRef<'_>) -> Vec<(VmId, ServerId)> {
    let rows = core.consider_all();
    // Per kind and server, how many VMs it has too many; below zero, too few.
    let mut surplus: BTreeMap<(Kind, ServerId), i64> = BTreeMap::new();
    let mut vms: BTreeMap<(Kind, ServerId), Vec<(bool, VmId)>> = BTreeMap::new();
    for row in &rows {
        let Some(vm) = core.compute().vm(row.vm) else { continue };
        let kind = kind(vm);
        *surplus.entry((kind, row.from)).or_default() += 1;
        *surplus.entry((kind, row.to)).or_default() -= 1;
        // Who would have stayed, stays rather.
        vms.entry((kind, row.from)).or_default().push((row.from == row.to, row.vm));
    }
    let mut wanted = Vec::new();
    let mut free: BTreeMap<Kind, Vec<ServerId>> = BTreeMap::new();
    for ((kind, server), too_many) in &surplus {
        let times = usize::try_from(-too_many).unwrap_or(0);
        free.entry(*kind).or_default().extend(std::iter::repeat_n(*server, times));
    }
    for ((kind, server), list) in &mut vms {
        list.sort_unstable();
        let leaving = surplus.get(&(*kind, *server)).and_then(|n| usize::try_from(*n).ok()).unwrap_or(0);
        let places = free.entry(*kind).or_default();
        for (_, vm) in list.iter().take(leaving) {
            if !places.is_empty() {
                wanted.push((*vm, places.remove(0)));
            }
        }
    }
    wanted
}

/// The moves of one run, and what was left and why.
pub(crate) fn steps(core: MigrationRef<'_>, options: MoveOptions) -> Found {
    let most = core.cx.site.migration.keep_policy.moves as usize;
    let mut wanted = wanted(core);
    let (plans, now) = (&core.migration.plans, core.cx.now);
    wanted.retain(|(vm, to)| !plans.is_resting(*vm, now) && !plans.has_left(*vm, *to, now));
    let next = wanted.get(most).copied();
    wanted.truncate(most);
    let mut paper = PlanningState::new(core, options);
    let why = format!("{} packs servers so, with the fewest moves", paper.inventory.policy());
    let (steps, mut left) = schedule::sequence(&mut paper, &wanted, Cause::KeepPolicy, &why);
    if let Some((vm, _)) = next {
        let why =
            format!("it would be moved too, but one run makes {most} moves at most ([keep_policy] moves)");
        left.push((vm, why));
    }
    let one_by_one = rebalance::steps(&mut PlanningState::new(core, options));
    shorter((steps, left), one_by_one)
}

/// What leaves less undone, of equal ones what takes fewer moves.
fn shorter(whole: Found, one_by_one: Found) -> Found {
    let cost = |found: &Found| (found.1.len(), found.0.len());
    if cost(&whole) <= cost(&one_by_one) { whole } else { one_by_one }
}
