//! A move on paper, and what its transfer takes: the way of its own traffic, the rate that is left
//! there, and how long that lasts.

use crate::migration::policies::{View, Way};
use crate::migration::what_if::PlanningState;
use crate::migration::{MigrationRef, precopy};
use crate::network::attachment;
use crate::network::links::LinkTable;
use crate::network::place::Placement;
use tandem_model::paths::Path;
use tandem_model::{
    BitRate, Cause, Hop, MigrationMode, NodeId, Prediction, Reroute, ServerId, SwitchId, VmId, VmRecord,
    paths,
};

/// Of so many shortest paths between two edge switches the best one is taken.
const WAYS: usize = 16;

/// A move on paper.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) vm: VmId,
    pub(crate) from: Placement,
    pub(crate) to: Placement,
    pub(crate) manner: MigrationMode,
    pub(crate) cause: Cause,
    pub(crate) predicted: Prediction,
    pub(crate) why: String,
}

impl PlanningState<'_> {
    /// The way of a migration's own traffic between the first uplinks of two servers, and what it
    /// has left.
    fn way(&mut self, from: ServerId, to: ServerId) -> Option<(Path, BitRate)> {
        let (core, topology) = (self.core, &self.core.cx.site.topology);
        let (a, b) = (topology.edge_of(from, 0)?, topology.edge_of(to, 0)?);
        let known = self.ways.entry((a, b)).or_insert_with(|| core.ways(a, b).into()).clone();
        let out = attachment::access_path(topology, from, 0)?;
        let into = attachment::access_path(topology, to, 0)?;
        let back = || into.iter().rev().map(|h| Hop { down: !h.down, ..*h });
        let whole = known.iter().map(|middle| out.iter().chain(middle).copied().chain(back()).collect());
        core.best_way(&self.view(), &self.links, whole)
    }

    /// Moves a VM that was taken away from `from` to its new place, with what that will take.
    ///
    /// # Errors
    /// Why it cannot be moved there; it is put back where it was.
    pub(crate) fn step(
        &mut self,
        vm: &VmRecord,
        from: &Placement,
        to: Placement,
        cause: Cause,
        why: String,
    ) -> Result<Step, String> {
        let manner = self.options.manner.unwrap_or(self.core.cx.site.migration.manner);
        let name = |s: ServerId| self.core.cx.site.topology.name(NodeId::Server(s)).to_owned();
        let (a, b) = (name(from.server), name(to.server));
        let way = self.way(from.server, to.server);
        let predicted = match way {
            None => Err(format!("there is no way from {a} to {b} for the transfer")),
            Some((_, free)) => {
                let rate = free.min(self.core.cx.site.migration.rate);
                let predicted = self.core.predict_move(vm, rate, manner);
                let dirty = self.core.compute().dirty_rate(vm.id);
                if predicted.converges || self.options.force {
                    Ok(predicted)
                } else if rate.0 == 0 {
                    Err(format!("the way from {a} to {b} has nothing left for the transfer"))
                } else {
                    Err(format!(
                        "it dirties {dirty} and can be sent to {b} at {rate}: the transfer would not come to an end; move it cold, or force it"
                    ))
                }
            }
        };
        match predicted {
            Ok(predicted) => {
                self.put(vm, to.clone());
                Ok(Step { vm: vm.id, from: from.clone(), to, manner, cause, predicted, why })
            }
            Err(why) => {
                self.put(vm, from.clone());
                Err(why)
            }
        }
    }
}

impl<'a> MigrationRef<'a> {
    /// The shortest paths between two edge switches that can be used now.
    fn ways(self, a: SwitchId, b: SwitchId) -> Vec<Path> {
        let usable = |hop: Hop| self.net.links.is_usable(hop.link);
        paths::all_shortest(&self.cx.site.topology, NodeId::Switch(a), NodeId::Switch(b), WAYS, usable)
    }

    /// Of some paths from server to server the one that the policy takes for a migration's own
    /// traffic, and what it has left.
    pub(crate) fn best_way(
        self,
        view: &View<'_>,
        links: &LinkTable,
        paths: impl Iterator<Item = Path>,
    ) -> Option<(Path, BitRate)> {
        let mut best: Option<(f64, Path, BitRate)> = None;
        for hops in paths {
            let mut left = hops.iter().map(|hop| links.residual(*hop));
            let Some(free) = left.try_fold(u64::MAX, |least, left| Some(least.min(left?.0))) else {
                continue;
            };
            if !self.net.live.path_is_attended(links, &hops) {
                continue;
            }
            let load = hops.iter().map(|hop| links.fill(*hop)).fold(0.0, f64::max);
            let rank =
                self.migration.policies.path.rank(&Way { hops: &hops, free: BitRate(free), load }, view);
            if best.as_ref().is_none_or(|(least, ..)| rank.total_cmp(least).is_lt()) {
                best = Some((rank, hops, BitRate(free)));
            }
        }
        best.map(|(_, hops, free)| (hops, free))
    }

    /// What moving a VM at `rate` is expected to take.
    pub(crate) fn predict_move(self, vm: &VmRecord, rate: BitRate, manner: MigrationMode) -> Prediction {
        let (cfg, need) = (&self.cx.site.migration, vm.request.resources);
        match manner {
            MigrationMode::Live => {
                precopy::predict(need.ram, rate, self.compute().dirty_rate(vm.id), cfg.downtime, cfg.rounds)
            }
            MigrationMode::Cold => precopy::cold(need.ram, need.disk, rate),
        }
    }
}

/// The moves that are planned, and what cannot be moved and why.
pub(crate) type Found = (Vec<Step>, Vec<(VmId, String)>);

/// All that a plan proposes.
#[derive(Debug, Default)]
pub(crate) struct Proposal {
    /// Other paths, all of them before the first move.
    pub(crate) reroutes: Vec<Reroute>,
    /// The moves, one after the other.
    pub(crate) steps: Vec<Step>,
    /// What cannot be planned, and why.
    pub(crate) left: Vec<(VmId, String)>,
}
