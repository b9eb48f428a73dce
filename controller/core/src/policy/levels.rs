//! Levels of switches, each chosen by first, best or worst fit: what the joint placement of server
//! and path is made of (Adami et al., IM 2013; Teixeira 2013, whose controller ini had `core_policy`,
//! `agg_policy`, `edge_policy` and `host_policy`).
//!
//! The fits mean for a switch what they mean for a server: first fit takes the first one by id, best
//! fit the fullest with room, worst fit the emptiest. How full a switch is, is its load: the larger
//! of reserved and measured, over all that it sends, over the sum of its links' rates. Loads count
//! in per mille, so that a few packets more or less do not send VMs from switch to switch; of equal
//! ones the first by id is taken, or the last where the site says `ties = "last"`.

use crate::policy::allocation::{AllocationPolicy, Rank};
use crate::policy::allocation_policies::{best_fit::BestFit, first_fit::FirstFit, worst_fit::WorstFit};
use crate::policy::view::ServerView;
use std::cmp::Reverse;
use tandem_model::site::Joint;
use tandem_model::{Allocation, LinkId, NodeId, Role, ServerId, SwitchId, Ties, Topology, paths};

/// A load beyond this does not make a switch any fuller.
const MOST: f64 = 1_000_000.0;

/// By what each level is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Levels {
    /// The fits.
    pub fits: Joint,
    /// Which of equal ones.
    pub ties: Ties,
}

impl Default for Levels {
    fn default() -> Levels {
        Levels { fits: Joint::default(), ties: Ties::First }
    }
}

/// A server's place in the order of a fit.
pub fn rank(fit: Allocation, server: &ServerView) -> Rank {
    match fit {
        Allocation::FirstFit => FirstFit.rank(server),
        Allocation::BestFit => BestFit.rank(server),
        Allocation::WorstFit => WorstFit.rank(server),
    }
}

/// Sorts by a fit: `(how full, id)`.
fn sort<Id: Ord + Copy>(of: &mut [(u64, Id)], fit: Allocation, ties: Ties) {
    let full = |full: u64| match fit {
        Allocation::FirstFit => 0,
        Allocation::BestFit => u64::MAX - full,
        Allocation::WorstFit => full,
    };
    match ties {
        Ties::First => of.sort_unstable_by_key(|(load, id)| (full(*load), *id)),
        Ties::Last => of.sort_unstable_by_key(|(load, id)| (full(*load), Reverse(*id))),
    }
}

impl Levels {
    /// By what switches of a role are chosen.
    pub fn fit(&self, role: Role) -> Allocation {
        match role {
            Role::Core => self.fits.core,
            Role::Aggregation => self.fits.aggregation,
            Role::Edge => self.fits.edge,
        }
    }

    /// Switches of one or several levels, the upper levels first, each in the order of its fit.
    pub fn in_order(
        &self,
        topology: &Topology,
        switches: &[SwitchId],
        load: &dyn Fn(SwitchId) -> f64,
    ) -> Vec<SwitchId> {
        let mut order = Vec::with_capacity(switches.len());
        for role in [Role::Core, Role::Aggregation, Role::Edge] {
            let here = switches.iter().filter(|id| topology.switch(**id).is_some_and(|s| s.role == role));
            let in_steps = |id: SwitchId| (load(id).clamp(0.0, MOST) * 1000.0).round() as u64;
            let mut level: Vec<(u64, SwitchId)> = here.map(|id| (in_steps(*id), *id)).collect();
            sort(&mut level, self.fit(role), self.ties);
            order.extend(level.into_iter().map(|(_, id)| id));
        }
        order
    }

    /// Servers in the order of their fit.
    pub fn servers(&self, servers: impl Iterator<Item = ServerView>) -> Vec<ServerId> {
        let mut list: Vec<(u64, ServerId)> = servers.map(|s| (s.share(), s.id)).collect();
        sort(&mut list, self.fits.server, self.ties);
        list.into_iter().map(|(_, id)| id).collect()
    }
}

/// The neighbours of a switch on levels above it, or below it, over links that `has_room` takes:
/// each once, in order of id. O(ports).
pub fn neighbours(
    topology: &Topology,
    switch: SwitchId,
    above: bool,
    has_room: &dyn Fn(LinkId) -> bool,
) -> Vec<SwitchId> {
    let Some(role) = topology.switch(switch).map(|s| s.role) else { return Vec::new() };
    let hops = paths::hops_from(topology, NodeId::Switch(switch));
    let mut list: Vec<SwitchId> = hops
        .filter_map(|(hop, node)| match node {
            NodeId::Switch(id) => {
                let other = topology.switch(id)?.role;
                let is_there = if above { other < role } else { other > role };
                (is_there && has_room(hop.link)).then_some(id)
            }
            _ => None,
        })
        .collect();
    list.sort_unstable();
    list.dedup();
    list
}
