//! What plans promise, held against plans carried out on paper: in every order and with every
//! number of moves at once that a plan allows, no server and no link is ever overfilled; and a plan
//! reaches its aim or says why not.

use crate::engine::Core;
use crate::migration::fixture::{LIVE, core, size};
use crate::migration::policies::{DestinationSelector, View};
use crate::migration::policy_set::Policy;
use crate::migration::schedule;
use crate::migration::transfer_path::Step;
use crate::migration::what_if::PlanningState;

use crate::policy::{BestFit, WorstFit};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{Cause, Hop, Plan, PlanGoal, Resources, ServerId, VmId};

/// Three edge switches with three servers each. An edge's way up carries less than its servers
/// could send.
const TIGHT: &str = "[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 2\nedge = 3\nservers_per_edge = 3\n\
                     [bandwidth]\nedge = \"9 Mbit/s\"\naggregation = \"12 Mbit/s\"\n[servers]\ncpu = 6\n[keep_policy]\nmoves = 1000\n";

/// One switch with four servers.
const FLAT: &str =
    "[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 4\n[servers]\ncpu = 6\n";

/// A policy that knows where everything should be.
struct Wanted(Vec<(VmId, ServerId)>);

impl DestinationSelector for Wanted {
    fn name(&self) -> &str {
        "wanted"
    }
    fn assign(&self, _view: &View<'_>) -> Option<Vec<(VmId, ServerId)>> {
        Some(self.0.clone())
    }
}

fn wanted(ends: &[(u64, u32)]) -> Policy {
    let ends = ends.iter().map(|(vm, server)| (VmId(*vm), ServerId(*server))).collect();
    Policy { place: Box::new(Wanted(ends)), ..Policy::new(Box::new(BestFit)) }
}

fn ways(plan: &Plan) -> Vec<(u64, u32, u32)> {
    plan.moves.iter().map(|m| (m.vm.0, m.from.0, m.to.0)).collect()
}

/// Two servers that change their VMs, and a third that is free: one VM waits there, and everything
/// else follows from it.
#[test]
fn a_ring_goes_through_a_free_server() {
    let full = size(6);
    let core = core(FLAT, wanted(&[(1, 1), (2, 0)]), &[(0, full), (1, full)]);
    let plan = core.plan(&PlanGoal::KeepPolicy, LIVE);
    assert_eq!(ways(&plan), [(1, 0, 2), (2, 1, 0), (1, 2, 1)]);
    let after: Vec<&[u32]> = plan.moves.iter().map(|m| &m.after[..]).collect();
    assert_eq!(
        after,
        [&[][..], &[0], &[0, 1]],
        "the second needs the room of the first, the last one that of the second"
    );
    assert!(plan.left.is_empty(), "{:?}", plan.left);
    assert!(plan.moves[0].why.contains("waits here until"), "{}", plan.moves[0].why);
}

/// The same without a free server: nothing is begun that cannot be ended, and it is said what is
/// short.
#[test]
fn a_ring_without_a_free_server_is_left_as_it_is() {
    let full = size(6);
    let ends = [(1, 1), (2, 0)];
    let core = core(FLAT, wanted(&ends), &[(0, full), (1, full), (2, full), (3, full)]);
    let plan = core.plan(&PlanGoal::KeepPolicy, LIVE);
    assert_eq!(ways(&plan), []);
    let left: Vec<u64> = plan.left.iter().map(|(vm, _)| vm.0).collect();
    assert_eq!(left, [1, 2]);
    assert!(plan.left[0].1.contains("short of CPU: 6 needed, 0 free; no free server"), "{}", plan.left[0].1);
}

/// A chain, the last link of it first: each VM needs the room that the next one leaves.
#[test]
fn a_chain_is_turned_round() {
    let full = size(6);
    let core = core(FLAT, wanted(&[(1, 1), (2, 2), (3, 3)]), &[(0, full), (1, full), (2, full)]);
    let plan = core.plan(&PlanGoal::KeepPolicy, LIVE);
    assert_eq!(ways(&plan), [(3, 2, 3), (2, 1, 2), (1, 0, 1)]);
    let after: Vec<&[u32]> = plan.moves.iter().map(|m| &m.after[..]).collect();
    assert_eq!(after, [&[][..], &[0], &[1]]);
    let each = plan.moves[0].predicted.duration;
    assert_eq!(plan.duration, each * 3, "one after the other, whatever the site allows at once");
}

/// What is on servers and links while some moves are done and some are under way.
struct Floor<'a> {
    core: &'a Core,
    steps: &'a [Step],
    done: BTreeSet<usize>,
    under_way: BTreeSet<usize>,
}

impl Floor<'_> {
    fn size_of(&self, vm: VmId) -> Resources {
        self.core.vm(vm).expect("it stays").request.resources
    }

    /// Every server and every hop holds what it may, with both places of what is under way.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut servers: BTreeMap<ServerId, Resources> = BTreeMap::new();
        let mut hops: BTreeMap<Hop, u64> = BTreeMap::new();
        for vm in self.core.vms() {
            let last = self.done.iter().rev().map(|n| &self.steps[*n]).find(|s| s.vm == vm.id);
            let at = last.map_or_else(|| crate::Placement::of(vm), |s| s.to.clone());
            let mut on = BTreeSet::from([at.server]);
            let mut over: BTreeSet<Hop> = at.path_up.iter().chain(&at.path_down).copied().collect();
            for step in self.under_way.iter().map(|n| &self.steps[*n]).filter(|s| s.vm == vm.id) {
                prop_assert_eq!(step.from.server, at.server, "it leaves from where it is");
                on.insert(step.to.server);
                over.extend(step.to.path_up.iter().chain(&step.to.path_down));
            }
            let size = self.size_of(vm.id);
            on.into_iter().for_each(|s| {
                let sum = servers.entry(s).or_default();
                *sum = sum.plus(size);
            });
            over.into_iter().for_each(|hop| *hops.entry(hop).or_default() += size.net.0);
        }
        for (server, used) in servers {
            let capacity = self.core.read().compute.inventory.server(server).expect("a server").capacity;
            prop_assert!(capacity.fits(used), "{} holds {:?} of {:?}", server, used, capacity);
        }
        for (hop, used) in hops {
            prop_assert!(used <= self.core.read().net.links.limit(hop).0, "{:?} carries {}", hop, used);
        }
        Ok(())
    }
}

/// Carries steps out in an order that `dice` chooses, with as many at once as it likes.
fn carry_out(core: &Core, steps: &[Step], after: &[Vec<u32>], mut dice: u64) -> Result<(), TestCaseError> {
    let mut floor = Floor { core, steps, done: BTreeSet::new(), under_way: BTreeSet::new() };
    floor.check()?;
    while floor.done.len() < steps.len() {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = |of: &[usize]| of[(dice >> 33) as usize % of.len()];
        let may = |n: &usize| {
            !floor.done.contains(n)
                && !floor.under_way.contains(n)
                && after[*n].iter().all(|before| floor.done.contains(&(*before as usize)))
        };
        let ready: Vec<usize> = (0..steps.len()).filter(may).collect();
        let running: Vec<usize> = floor.under_way.iter().copied().collect();
        // Two of three times something begins, so that as much as may be is under way at once.
        if !ready.is_empty() && (running.is_empty() || !(dice >> 20).is_multiple_of(3)) {
            floor.under_way.insert(pick(&ready));
        } else {
            prop_assert!(!running.is_empty(), "a plan never waits for itself");
            let ended = pick(&running);
            floor.under_way.remove(&ended);
            floor.done.insert(ended);
        }
        floor.check()?;
    }
    Ok(())
}

/// VMs of 1 to 3 cores on servers of 6, as many as fit on servers and links.
fn scattered(site: &str, vms: &[(u32, u32)], policy: impl Into<Policy>) -> Core {
    let mut fitting: Vec<(u32, Resources)> = Vec::new();
    for (server, n) in vms {
        let mut more = fitting.clone();
        more.push((*server, size(*n)));
        let core = core(site, Box::new(BestFit), &more);
        let floor = Floor { core: &core, steps: &[], done: BTreeSet::new(), under_way: BTreeSet::new() };
        if floor.check().is_ok() {
            fitting = more;
        }
    }
    core(site, policy, &fitting)
}

fn plan_and_steps(core: &Core, aim: &PlanGoal) -> (Plan, Vec<Step>, Vec<Vec<u32>>) {
    let plan = core.plan(aim, LIVE);
    let steps = core.read().steps_for(aim, LIVE, None).steps;
    let after = schedule::after(&PlanningState::new(core.read(), LIVE), &steps);
    let of_plan: Vec<Vec<u32>> = plan.moves.iter().map(|m| m.after.clone()).collect();
    assert_eq!(of_plan, after, "the same data centre, the same plan");
    (plan, steps, after)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whoever wants VMs wherever: what can be moved is, in no order is anything overfilled, and
    /// what is left out is named.
    #[test]
    fn any_assignment_is_carried_out_without_overfilling(
        vms in prop::collection::vec((0u32..9, 1u32..4), 1..16),
        ends in prop::collection::vec(0u32..9, 16),
        dice in any::<u64>(),
    ) {
        let start = scattered(TIGHT, &vms, Box::new(BestFit));
        // Only assignments that would fit in the end.
        let mut free: BTreeMap<u32, i64> = (0..9).map(|s| (s, 6)).collect();
        let mut list = Vec::new();
        for (vm, end) in start.vms().zip(&ends) {
            let n = i64::from(vm.request.resources.cpu);
            let to = if free[end] >= n { *end } else { vm.server.0 };
            *free.entry(to).or_default() -= n;
            list.push((vm.id, ServerId(to)));
        }
        let mut paper = PlanningState::new(start.read(), LIVE);
        let (steps, left) = schedule::sequence(&mut paper, &list, Cause::KeepPolicy, "test");
        let after = schedule::after(&PlanningState::new(start.read(), LIVE), &steps);
        carry_out(&start, &steps, &after, dice)?;
        for (vm, to) in list {
            let last = steps.iter().rev().find(|s| s.vm == vm).map(|s| s.to.server);
            let there = last.unwrap_or(start.vm(vm).expect("it stays").server) == to;
            prop_assert!(there || left.iter().any(|(v, why)| *v == vm && !why.is_empty()), "{} is forgotten", vm);
        }
    }

    /// Evacuations: the server is empty afterwards, or what is left on it is named; nothing is
    /// overfilled on the way.
    #[test]
    fn an_evacuation_empties_or_says_why(
        vms in prop::collection::vec((0u32..9, 1u32..4), 1..20),
        server in 0u32..9,
        dice in any::<u64>(),
    ) {
        let core = scattered(TIGHT, &vms, Box::new(BestFit));
        let server = ServerId(server);
        let (plan, steps, after) = plan_and_steps(&core, &PlanGoal::Evacuate { server });
        carry_out(&core, &steps, &after, dice)?;
        for vm in core.vms().filter(|v| v.server == server) {
            let moved = plan.moves.iter().any(|m| m.vm == vm.id && m.to != server);
            prop_assert!(moved != plan.left.iter().any(|(v, _)| *v == vm.id), "{} is moved or left", vm.id);
        }
    }

    /// Keep-policy: nothing is overfilled on the way, best fit never needs more servers than
    /// before, and the same data centre gets the same plan.
    #[test]
    fn keep_policy_overfills_nothing_and_best_fit_never_spreads(
        vms in prop::collection::vec((0u32..9, 1u32..4), 1..20),
        worst in any::<bool>(),
        dice in any::<u64>(),
    ) {
        let policy: Box<dyn crate::policy::AllocationPolicy> =
            if worst { Box::new(WorstFit) } else { Box::new(BestFit) };
        let core = scattered(TIGHT, &vms, policy);
        let (plan, steps, after) = plan_and_steps(&core, &PlanGoal::KeepPolicy);
        carry_out(&core, &steps, &after, dice)?;
        prop_assert!(worst || plan.active_after <= plan.active_before, "{:?}", ways(&plan));
    }
}
