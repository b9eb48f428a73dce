//! The inventory: what every server has, what is reserved on it, and which one the policy tries
//! first.

use crate::compute::rank_index::Index;
use crate::policy::allocation::{AllocationPolicy, Offer};
use crate::policy::allocation_policies::first_fit::FirstFit;
use crate::policy::view::PlacementView;
use crate::policy::view::ServerView;
use std::collections::BTreeSet;
use std::sync::Arc;
use tandem_model::{BitRate, Bytes, Resource, Resources, ServerId, Ties, Topology, VmRequest};

/// What every server has, and what is reserved of it. What is tried on a clone changes nothing.
#[derive(Clone)]
pub struct Inventory {
    servers: Vec<ServerView>,
    policy: Arc<dyn AllocationPolicy>,
    ties: Ties,
    index: Index,
    /// Out of service: they keep what they have and get nothing more.
    drained: BTreeSet<ServerId>,
}

fn with_margin(capacity: Resources, margin: f64) -> Resources {
    let scale = |n: u64| (n as f64 * margin) as u64;
    Resources {
        cpu: scale(u64::from(capacity.cpu)).min(u64::from(u32::MAX)) as u32,
        ram: Bytes(scale(capacity.ram.0)),
        disk: Bytes(scale(capacity.disk.0)),
        net: BitRate(scale(capacity.net.0)),
    }
}

impl Inventory {
    /// All servers of `topology`, empty, each filled up to its capacity times `margin` (above 0).
    pub fn new(topology: &Topology, policy: Box<dyn AllocationPolicy>, ties: Ties, margin: f64) -> Inventory {
        let servers: Vec<ServerView> = (0u32..)
            .zip(&topology.servers)
            .map(|(n, s)| ServerView {
                id: ServerId(n),
                capacity: with_margin(s.capacity, margin),
                used: Resources::default(),
            })
            .collect();
        let policy: Arc<dyn AllocationPolicy> = Arc::from(policy);
        let index = Index::new(servers.iter().map(|s| (key(policy.as_ref(), ties, s), s.free())));
        Inventory { servers, policy, ties, index, drained: BTreeSet::new() }
    }

    /// One server as the policy sees it.
    pub fn server(&self, id: ServerId) -> Option<&ServerView> {
        self.servers.get(id.0 as usize)
    }

    /// All servers, in order of id.
    pub fn servers(&self) -> &[ServerView] {
        &self.servers
    }

    /// The policy's name.
    pub fn policy(&self) -> &str {
        self.policy.name()
    }

    /// Takes the policy out, so that it can be told something; [`Inventory::return_policy`] puts it
    /// back. In between nothing is decided.
    pub(crate) fn lend_policy(&mut self) -> Arc<dyn AllocationPolicy> {
        std::mem::replace(&mut self.policy, Arc::new(FirstFit))
    }

    /// Puts back what was lent.
    pub(crate) fn return_policy(&mut self, policy: Arc<dyn AllocationPolicy>) {
        self.policy = policy;
    }

    /// Replaces the policy; the index is built anew, O(n log n).
    pub fn set_policy(&mut self, policy: Box<dyn AllocationPolicy>) {
        self.policy = Arc::from(policy);
        let entry = |s: &ServerView| (key(self.policy.as_ref(), self.ties, s), self.open(s));
        self.index = Index::new(self.servers.iter().map(entry));
    }

    /// Takes a server out of service, or back into it; true when it was not so before.
    pub fn set_drained(&mut self, id: ServerId, drained: bool) -> bool {
        if self.server(id).is_none() {
            return false;
        }
        let changed = if drained { self.drained.insert(id) } else { self.drained.remove(&id) };
        self.change(id, |used| used);
        changed
    }

    /// True for a server that is out of service.
    pub fn is_drained(&self, id: ServerId) -> bool {
        self.drained.contains(&id)
    }

    /// Servers that are out of service, in order of id.
    pub fn drained(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.drained.iter().copied()
    }

    /// What a server has open for more VMs. The index skips those out of service with all others
    /// that are full.
    fn open(&self, server: &ServerView) -> Resources {
        if self.is_drained(server.id) { Resources::default() } else { server.free() }
    }

    /// The first server, in the policy's order, with room for the request that `admit` (links,
    /// addresses) takes too, by the switches that it is given; without any, by whatever path.
    pub fn find(
        &self,
        view: &dyn PlacementView,
        request: &VmRequest,
        admit: &mut Offer<'_>,
    ) -> Option<ServerId> {
        let need = request.resources;
        let mut taken = None;
        let has_chosen = self.policy.choose_with_path(view, request, &mut |id, via| {
            let takes = |s: &ServerView| s.free().fits(need) && self.policy.accepts(s, request);
            let takes = taken.is_none()
                && !self.is_drained(id)
                && self.server(id).is_some_and(takes)
                && admit(id, via);
            taken = taken.or(takes.then_some(id));
            takes
        });
        if has_chosen {
            return taken;
        }
        if let Some(order) = self.policy.choose(view, request) {
            return order.into_iter().find(|id| {
                let takes = |s: &ServerView| s.free().fits(need) && self.policy.accepts(s, request);
                !self.is_drained(*id) && self.server(*id).is_some_and(takes) && admit(*id, &[])
            });
        }
        // A request for nothing fits everywhere, so the index alone does not keep it away from
        // those out of service.
        let mut admit = |n: u32| {
            let server = &self.servers[n as usize];
            !self.is_drained(server.id) && self.policy.accepts(server, request) && admit(server.id, &[])
        };
        self.index.first(need, &mut admit).map(ServerId)
    }

    /// Whether the policy's further conditions let a server take a request.
    pub fn accepts(&self, id: ServerId, request: &VmRequest) -> bool {
        self.server(id).is_some_and(|s| self.policy.accepts(s, request))
    }

    /// Reserves, without asking whether there is room (`find` or `shortage` did).
    pub fn reserve(&mut self, id: ServerId, what: Resources) {
        self.change(id, |used| used.plus(what));
    }

    /// Gives back what was reserved.
    pub fn release(&mut self, id: ServerId, what: Resources) {
        self.change(id, |used| used.minus(what));
    }

    fn change(&mut self, id: ServerId, change: impl FnOnce(Resources) -> Resources) {
        let Some(server) = self.servers.get_mut(id.0 as usize) else { return };
        server.used = change(server.used);
        let server = *server;
        self.index.update(id.0, key(self.policy.as_ref(), self.ties, &server), self.open(&server));
    }

    /// Gives a server more than it has: on paper.
    pub(crate) fn enlarge(&mut self, id: ServerId, by: Resources) {
        if let Some(server) = self.servers.get_mut(id.0 as usize) {
            server.capacity = server.capacity.plus(by);
        }
        self.change(id, |used| used);
    }

    /// Fills all servers up to another margin: on paper.
    pub(crate) fn set_margin(&mut self, topology: &Topology, margin: f64) {
        for (server, declared) in self.servers.iter_mut().zip(&topology.servers) {
            server.capacity = with_margin(declared.capacity, margin);
        }
        let entry = |s: &ServerView| (key(self.policy.as_ref(), self.ties, s), self.open(s));
        self.index = Index::new(self.servers.iter().map(entry));
    }

    /// What a server is short of for `need`: the resource, how much is needed, how much is there.
    /// Empty when it has room.
    pub fn shortage(&self, id: ServerId, need: Resources) -> Vec<(Resource, u64, u64)> {
        let Some(server) = self.server(id) else { return Vec::new() };
        let free = server.free();
        [
            (Resource::Cpu, u64::from(need.cpu), u64::from(free.cpu)),
            (Resource::Ram, need.ram.0, free.ram.0),
            (Resource::Disk, need.disk.0, free.disk.0),
            (Resource::Net, need.net.0, free.net.0),
        ]
        .into_iter()
        .filter(|(_, needed, there)| needed > there)
        .collect()
    }
}

fn key(policy: &dyn AllocationPolicy, ties: Ties, server: &ServerView) -> (u64, u32) {
    let tie = match ties {
        Ties::First => server.id.0,
        Ties::Last => u32::MAX - server.id.0,
    };
    (policy.rank(server).0, tie)
}
