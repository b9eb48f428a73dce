//! The order of moves: which must wait for which, and how long all of them take.
//!
//! While a VM moves, its room on the old server AND on the new one is taken, and so is its rate on
//! the links of both ways (once on those that both ways share). The guarantee: whatever moves are
//! begun in whatever order and however many at once, as long as each begins only when those that it
//! waits for have ended, no server and no link ever has more on it than it may.
//!
//! Why it holds: moves are numbered in an order that works one after the other. A move into a
//! server waits for earlier moves out of it that give back enough for ALL earlier moves into it and
//! itself. So at any moment the last-numbered move into that server that has begun has seen to it
//! that everything in use there, finished or not, has room. Links are counted likewise, per
//! direction.

use crate::migration::MigrationRef;
use crate::migration::transfer_path::Step;
use crate::migration::what_if::PlanningState;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tandem_model::{Cause, Hop, Resources, ServerId, SpreadLevel, VmId, VmRecord};

/// A place with room of several kinds: what is left of it (below zero where more is on it than may
/// be), what earlier moves take, and what they give back.
struct Ledger<const N: usize> {
    left: [i128; N],
    gives: Vec<(u32, [i128; N])>,
}

impl<const N: usize> Ledger<N> {
    /// Takes `need`, and says which earlier moves must have given back for that.
    fn take(&mut self, need: [i128; N], after: &mut BTreeSet<u32>) {
        for (left, need) in self.left.iter_mut().zip(need) {
            *left -= need;
        }
        let mut left = self.left;
        for (step, given) in &self.gives {
            if left.iter().all(|l| *l >= 0) {
                break;
            }
            // What gives nothing of what is short is not waited for.
            if left.iter().zip(given).any(|(left, given)| *left < 0 && *given > 0) {
                left.iter_mut().zip(given).for_each(|(left, given)| *left += given);
                after.insert(*step);
            }
        }
    }
}

fn numbers(r: Resources) -> [i128; 4] {
    [i128::from(r.cpu), i128::from(r.ram.0), i128::from(r.disk.0), i128::from(r.net.0)]
}

fn minus<'a>(of: &'a [Hop], other: &'a [Hop]) -> impl Iterator<Item = Hop> + 'a {
    of.iter().copied().filter(|hop| !other.contains(hop))
}

/// For every step of a list that works one after the other, the earlier steps that must have ended
/// before it begins. `before` is the data centre before the first of them.
pub(crate) fn after(before: &PlanningState<'_>, steps: &[Step]) -> Vec<Vec<u32>> {
    let mut servers: BTreeMap<ServerId, Ledger<4>> = BTreeMap::new();
    let mut hops: BTreeMap<(u32, bool), Ledger<1>> = BTreeMap::new();
    let mut last: BTreeMap<VmId, u32> = BTreeMap::new();
    let server = |servers: &mut BTreeMap<ServerId, Ledger<4>>, id: ServerId| {
        servers.entry(id).or_insert_with(|| {
            let view = before.inventory.server(id).copied();
            let (has, used) = view.map_or(([0; 4], [0; 4]), |v| (numbers(v.capacity), numbers(v.used)));
            Ledger { left: std::array::from_fn(|n| has[n] - used[n]), gives: Vec::new() }
        });
    };
    let link = |hops: &mut BTreeMap<(u32, bool), Ledger<1>>, hop: Hop| {
        hops.entry((hop.link.0, hop.down)).or_insert_with(|| {
            let left = i128::from(before.links.limit(hop).0) - i128::from(before.links.reserved(hop).0);
            Ledger { left: [left], gives: Vec::new() }
        });
    };
    let mut result = Vec::with_capacity(steps.len());
    for (n, step) in (0u32..).zip(steps) {
        let mut after = BTreeSet::new();
        after.extend(last.insert(step.vm, n));
        let need = before.core.compute().vm(step.vm).map(|v| v.request.resources).unwrap_or_default();
        let rate = [i128::from(need.net.0)];
        server(&mut servers, step.to.server);
        server(&mut servers, step.from.server);
        if let Some(ledger) = servers.get_mut(&step.to.server) {
            ledger.take(numbers(need), &mut after);
        }
        if let Some(ledger) = servers.get_mut(&step.from.server) {
            ledger.gives.push((n, numbers(need)));
        }
        for (new, old) in [(&step.to.path_up, &step.from.path_up), (&step.to.path_down, &step.from.path_down)]
        {
            for hop in minus(new, old) {
                link(&mut hops, hop);
                if let Some(ledger) = hops.get_mut(&(hop.link.0, hop.down)) {
                    ledger.take(rate, &mut after);
                }
            }
            for hop in minus(old, new) {
                link(&mut hops, hop);
                if let Some(ledger) = hops.get_mut(&(hop.link.0, hop.down)) {
                    ledger.gives.push((n, rate));
                }
            }
        }
        // Where an earlier one of its tag leaves first.
        after.extend(
            (0u32..).zip(&steps[..n as usize]).filter(|(_, s)| are_apart(before, s, step)).map(|(k, _)| k),
        );
        result.push(after.into_iter().collect());
    }
    result
}

/// True when a step brings a VM to where another step takes one away that it is kept apart from.
fn are_apart(before: &PlanningState<'_>, earlier: &Step, step: &Step) -> bool {
    let compute = before.core.compute();
    let spread = |vm: VmId| compute.vm(vm).and_then(|vm| vm.request.constraints.spread.as_ref());
    let (Some(a), Some(b)) = (spread(earlier.vm), spread(step.vm)) else { return false };
    let edge = |server| before.core.cx.site.topology.edge_of(server, 0);
    let (left, entered) = (earlier.from.server, step.to.server);
    let is_there = match b.level {
        SpreadLevel::Server => left == entered,
        SpreadLevel::Edge => edge(left) == edge(entered),
    };
    earlier.vm != step.vm && a.tag == b.tag && is_there
}

/// Puts moves whose ends are given into an order that works one after the other: a move goes as
/// soon as its new server has room. Where a ring of them waits for each other, the smallest VM of
/// those that can waits on a free server in between, which is a move more. What cannot be done is
/// returned with its reason.
pub(crate) fn sequence(
    paper: &mut PlanningState<'_>,
    wanted: &[(VmId, ServerId)],
    cause: Cause,
    why: &str,
) -> (Vec<Step>, Vec<(VmId, String)>) {
    let core = paper.core;
    let name = |s: ServerId| core.cx.site.topology.name(tandem_model::NodeId::Server(s)).to_owned();
    let (mut steps, mut left) = (Vec::new(), Vec::new());
    let mut waiting: Vec<(&VmRecord, ServerId)> = Vec::new();
    for (id, to) in wanted {
        let Some(vm) = core.compute().vm(*id) else { continue };
        match paper.immovable(vm) {
            Some(why) => left.push((*id, why)),
            None if vm.server == *to => {}
            None if waiting.iter().any(|(other, _)| other.id == *id) => {}
            None => waiting.push((vm, *to)),
        }
    }
    // Each round every move that has room goes; only a VM that left a server can have made room for
    // the next round.
    while !waiting.is_empty() {
        let mut still = Vec::new();
        let count = waiting.len();
        for (vm, to) in waiting {
            if !paper.inventory.server(to).is_some_and(|s| s.free().fits(vm.request.resources)) {
                still.push((vm, to));
                continue;
            }
            let from = paper.take_away(vm);
            let Some(place) = paper.place_on(vm, to) else {
                paper.put(vm, from);
                still.push((vm, to));
                continue;
            };
            match paper.step(vm, &from, place, cause, why.to_owned()) {
                Ok(step) => steps.push(step),
                Err(why) => left.push((vm.id, why)),
            }
        }
        waiting = still;
        if waiting.len() < count {
            continue;
        }
        // Nothing moves: break a ring.
        let mut small: Vec<usize> = (0..waiting.len()).collect();
        small.sort_by_key(|n| (waiting[*n].0.request.resources.ram, waiting[*n].0.id));
        let full: BTreeSet<ServerId> = waiting.iter().map(|(_, to)| *to).collect();
        let broken = small.into_iter().any(|n| {
            let (vm, to) = waiting[n];
            // Once is enough: a VM that waits in between already makes no more room.
            if steps.iter().any(|s: &Step| s.vm == vm.id) {
                return false;
            }
            let from = paper.take_away(vm);
            let place = paper.find(vm, &|_, s| s != from.server && !full.contains(&s));
            let Some(place) = place else {
                paper.put(vm, from);
                return false;
            };
            let why = format!("{why}; it waits here until {} has room", name(to));
            match paper.step(vm, &from, place, cause, why) {
                Ok(step) => steps.push(step),
                Err(_) => return false,
            }
            true
        });
        if !broken {
            for (vm, to) in waiting.drain(..) {
                let why = paper.why_not(vm, to);
                left.push((vm.id, format!("{why}; no free server can hold it in between")));
            }
        }
    }
    (steps, left)
}

/// How long the steps take, `at_once` of them at the same time and `per_server` to or from one
/// server: each begins as soon as it may, in the plan's order.
pub(crate) fn duration(steps: &[Step], after: &[Vec<u32>], at_once: u32, per_server: u32) -> Duration {
    let mut followers: Vec<Vec<u32>> = vec![Vec::new(); steps.len()];
    let mut open: Vec<usize> = after.iter().map(Vec::len).collect();
    for (n, after) in (0u32..).zip(after) {
        after.iter().for_each(|before| followers[*before as usize].push(n));
    }
    let mut ready: BTreeSet<u32> =
        (0u32..).zip(&open).filter(|(_, open)| **open == 0).map(|(n, _)| n).collect();
    let mut running: BTreeSet<(Duration, u32)> = BTreeSet::new();
    let mut busy: BTreeMap<ServerId, u32> = BTreeMap::new();
    let mut now = Duration::ZERO;
    loop {
        let mut begun = Vec::new();
        for n in &ready {
            if running.len() >= at_once.max(1) as usize {
                break;
            }
            let step = &steps[*n as usize];
            let ends = [step.from.server, step.to.server];
            if ends.iter().any(|s| busy.get(s).copied().unwrap_or(0) >= per_server.max(1)) {
                continue;
            }
            ends.iter().for_each(|s| *busy.entry(*s).or_default() += 1);
            running.insert((now.saturating_add(step.predicted.duration), *n));
            begun.push(*n);
        }
        begun.iter().for_each(|n| {
            ready.remove(n);
        });
        let Some((at, n)) = running.pop_first() else { return now };
        now = at;
        let step = &steps[n as usize];
        for server in [step.from.server, step.to.server] {
            busy.entry(server).and_modify(|count| *count -= 1);
        }
        for follower in &followers[n as usize] {
            open[*follower as usize] -= 1;
            if open[*follower as usize] == 0 {
                ready.insert(*follower);
            }
        }
    }
}

impl<'a> MigrationRef<'a> {
    /// Servers that hold a VM once those of `steps` have moved; none moved: now.
    pub(crate) fn active_servers(self, steps: &[Step]) -> u32 {
        let at: BTreeMap<VmId, ServerId> = steps.iter().map(|s| (s.vm, s.to.server)).collect();
        let of = |vm: &VmRecord| at.get(&vm.id).copied().unwrap_or(vm.server);
        self.compute().vms().map(of).collect::<BTreeSet<ServerId>>().len() as u32
    }
}
