//! Keep-policy, the thesis' algorithm: servers and their VMs in order, take each VM away on paper,
//! ask the allocation policy again, and move what would land elsewhere.
//!
//! The list of VMs is made once, so that a VM which has moved to a later server is not looked at
//! again. A VM's own server takes it back whatever the links say: it is there already. A move to an
//! equally good server that comes first is made too, since that is where the policy places new VMs;
//! `[keep_policy] gain` above 0 leaves such moves out.

use crate::migration::MigrationRef;
use crate::migration::transfer_path::Step;
use crate::migration::what_if::{PlanningState, use_of};
use crate::network::place::Placement;
use crate::policy::view::ServerView;
use tandem_model::site::KeepOrder;
use tandem_model::{Cause, MoveOptions, ServerId, VmId, VmRecord};

/// Bytes of a GiB.
const GIB: f64 = (1u64 << 30) as f64;

/// One VM, looked at in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Considered {
    /// The VM's number.
    pub vm: VmId,
    /// Where it is.
    pub from: ServerId,
    /// Where the policy wants it, with all earlier ones at their new places; the same server when
    /// it stays.
    pub to: ServerId,
}

/// VMs in the order of the algorithm, which is the site's; of equal ones by server and id.
pub(crate) fn in_order(core: MigrationRef<'_>) -> Vec<&VmRecord> {
    let mut vms: Vec<&VmRecord> = core.compute().vms().collect();
    vms.sort_by_key(|vm| (vm.server, vm.id));
    let server = |id: ServerId| core.compute.inventory.server(id).copied();
    // These sorts are stable.
    match core.cx.site.migration.keep_policy.order {
        KeepOrder::AsIs => {}
        KeepOrder::EmptiestFirst => vms.sort_by_key(|vm| server(vm.server).map(|s| s.share())),
        KeepOrder::LargestFirst => vms.sort_by_key(|vm| {
            let part = server(vm.server).map(|s| ServerView { used: vm.request.resources, ..s }.share());
            std::cmp::Reverse(part)
        }),
    }
    vms
}

/// Where a VM that was taken away from `own` belongs: its own server, or another one that the
/// policy prefers.
fn wanted(paper: &PlanningState<'_>, vm: &VmRecord, own: &Placement) -> Placement {
    let uses = use_of(paper.core, vm);
    let (plans, now) = (&paper.core.migration.plans, paper.core.cx.now);
    let resting = plans.is_resting(vm.id, now);
    let found = paper.find(vm, &|paper, server| {
        server == own.server
            || !(resting || plans.has_left(vm.id, server, now) || paper.gets_hot(server, uses, 1.0))
    });
    found.filter(|place| place.server != own.server).unwrap_or_else(|| own.clone())
}

/// How much a move is worth: by which share of a server the VM's place gets fuller (best fit) or
/// emptier (worst fit).
fn worth(paper: &PlanningState<'_>, vm: &VmRecord, from: ServerId, to: ServerId) -> f64 {
    let with = |server: ServerId| {
        let full = |s: &ServerView| {
            let used = s.used.plus(vm.request.resources);
            ServerView { used, ..*s }.share() as f64 / ServerView::FULL as f64
        };
        paper.inventory.server(server).map_or(0.0, full)
    };
    (with(to) - with(from)).abs()
}

/// The moves of one run, and what was left and why.
pub(crate) fn steps(paper: &mut PlanningState<'_>) -> (Vec<Step>, Vec<(VmId, String)>) {
    let core = paper.core;
    let cfg = &core.cx.site.migration.keep_policy;
    let (mut steps, mut left) = (Vec::new(), Vec::new());
    for vm in in_order(core) {
        if paper.immovable(vm).is_some() {
            continue;
        }
        let from = paper.take_away(vm);
        let to = wanted(paper, vm, &from);
        if to.server == from.server {
            paper.put(vm, from);
            continue;
        }
        if steps.len() >= cfg.moves as usize {
            paper.put(vm, from);
            let why = format!(
                "it would be moved too, but one run makes {} moves at most ([keep_policy] moves); the next run goes on here",
                cfg.moves
            );
            left.push((vm.id, why));
            break;
        }
        let name = |s: ServerId| core.cx.site.topology.name(tandem_model::NodeId::Server(s)).to_owned();
        let worth = worth(paper, vm, from.server, to.server);
        let why = format!("{} would place it on {} today", paper.inventory.policy(), name(to.server));
        match paper.step(vm, &from, to.clone(), Cause::KeepPolicy, why) {
            Ok(step) => {
                let price = step.predicted.bytes.0 as f64 / GIB;
                if worth < cfg.gain * price {
                    paper.take_away(vm);
                    paper.put(vm, from);
                    let why = format!(
                        "moving it to {} is worth {:.3} of a server for {price:.2} GiB, which is below [keep_policy] gain",
                        name(to.server),
                        worth
                    );
                    left.push((vm.id, why));
                } else {
                    steps.push(step);
                }
            }
            Err(why) => left.push((vm.id, why)),
        }
    }
    (steps, left)
}

impl<'a> MigrationRef<'a> {
    /// One run of keep-policy without gate or bound: every VM in the order of the algorithm, and
    /// where it belongs with all earlier ones at their new places. The thesis' table has a row for
    /// each.
    pub(crate) fn consider_all(self) -> Vec<Considered> {
        let mut paper = PlanningState::new(self, MoveOptions::default());
        let mut rows = Vec::new();
        for vm in in_order(self) {
            if paper.immovable(vm).is_some() {
                continue;
            }
            let from = paper.take_away(vm);
            let to = wanted(&paper, vm, &from);
            rows.push(Considered { vm: vm.id, from: from.server, to: to.server });
            paper.put(vm, to);
        }
        rows
    }
}
