//! A weighted sum of what a VM costs on a server, by `[policy.weighted]`.

use crate::policy::allocation::{AllocationPolicy, Rank};
use crate::policy::view::{PlacementView, ServerView};
use std::collections::BTreeMap;
use tandem_model::site::Weights;
use tandem_model::{Resources, ServerId, Site, VmRequest};

/// The server with the lowest weighted sum of four costs comes first (the simple additive weighting
/// of multi-criteria decisions, Fishburn 1967):
///
/// - `server`: the share of its most-used resource that is reserved;
/// - `edge`: the mean load of its edge switch's links to other switches;
/// - `path`: the load of the fullest link between its edge switch and the nearest gateway;
/// - `energy`: the idle power of a server that is empty, which is taken to be switched off.
///
/// A link's load is the larger of reserved and measured over what it may carry. Power is the linear
/// model of Fan, Weber and Barroso (ISCA 2007), P(u) = P_idle + (P_busy - P_idle) u. The second
/// part comes with the VM wherever it goes, so what tells servers apart is P_idle, which is due
/// with a server's first VM. It is taken to grow with the server's cores, and 1 stands for that of
/// the largest server.
///
/// While `edge` and `path` are 0 only a server's own reservations count, and a decision takes
/// O(log n). Else it takes O(n log n): all n servers are put in order, and each edge switch's links
/// are looked at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weighted {
    /// With 1 for the largest, so that no sum overflows.
    weights: Weights,
    /// Cores of the largest server.
    cores: u32,
}

/// A load beyond this does not make a place any worse.
const MOST: f64 = 1000.0;

impl Weighted {
    /// What a server costs by its own reservations, in units of [`ServerView::FULL`].
    fn own_cost(&self, server: &ServerView) -> f64 {
        let share = server.share() as f64 / ServerView::FULL as f64;
        let is_off = server.used == Resources::default();
        let idle = if is_off { f64::from(server.capacity.cpu) / f64::from(self.cores.max(1)) } else { 0.0 };
        (self.weights.server * share.min(MOST) + self.weights.energy * idle) * ServerView::FULL as f64
    }

    /// What a place behind an edge switch costs by the network, in the same units. Loads count in
    /// per mille, so that a few packets more or less do not send VMs from edge to edge.
    fn network_cost(&self, edge: f64, path: f64) -> f64 {
        let in_steps = |load: f64| (load.clamp(0.0, MOST) * 1000.0).round() / 1000.0;
        (self.weights.edge * in_steps(edge) + self.weights.path * in_steps(path)) * ServerView::FULL as f64
    }
}

impl AllocationPolicy for Weighted {
    fn name(&self) -> &str {
        "weighted"
    }

    fn configure(&mut self, site: &Site) {
        let Weights { server, edge, path, energy } = site.policy.weighted;
        let largest = server.max(edge).max(path).max(energy).max(f64::MIN_POSITIVE);
        let [server, edge, path, energy] = [server, edge, path, energy].map(|weight| weight / largest);
        self.weights = Weights { server, edge, path, energy };
        self.cores = site.topology.servers.iter().map(|s| s.capacity.cpu).max().unwrap_or(1);
    }

    fn rank(&self, server: &ServerView) -> Rank {
        Rank(self.own_cost(server) as u64)
    }

    fn choose(&self, view: &dyn PlacementView, _request: &VmRequest) -> Option<Vec<ServerId>> {
        if self.weights.edge == 0.0 && self.weights.path == 0.0 {
            return None;
        }
        let mut by_edge = BTreeMap::new();
        let mut order = Vec::new();
        for server in view.servers() {
            let Some(edge) = view.edge_of(server.id) else { continue };
            let network = *by_edge
                .entry(edge)
                .or_insert_with(|| self.network_cost(view.edge_load(edge), view.path_load(edge)));
            order.push(((self.own_cost(&server) + network) as u64, server.id));
        }
        order.sort_unstable();
        Some(order.into_iter().map(|(_, id)| id).collect())
    }
}
