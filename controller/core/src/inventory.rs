//! The inventory: what every server has, what is reserved on it, and which one the policy tries first.

use crate::index::Index;
use crate::policy::{AllocationPolicy, ServerView};
use tandem_model::{BitRate, Bytes, Resource, Resources, ServerId, Ties, Topology, VmRequest};

/// See the module.
pub struct Inventory {
    servers: Vec<ServerView>,
    policy: Box<dyn AllocationPolicy>,
    ties: Ties,
    index: Index,
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
        let index = Index::new(servers.iter().map(|s| (key(policy.as_ref(), ties, s), s.free())));
        Inventory { servers, policy, ties, index }
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

    /// Replaces the policy; the index is built anew, O(n log n).
    pub fn set_policy(&mut self, policy: Box<dyn AllocationPolicy>) {
        self.policy = policy;
        self.index =
            Index::new(self.servers.iter().map(|s| (key(self.policy.as_ref(), self.ties, s), s.free())));
    }

    /// The first server, in the policy's order, with room for the request that `admit` (links, addresses) takes too.
    pub fn find(&self, request: &VmRequest, admit: &mut dyn FnMut(ServerId) -> bool) -> Option<ServerId> {
        let need = request.resources;
        if let Some(order) = self.policy.choose(&mut self.servers.iter().copied(), request) {
            return order.into_iter().find(|id| {
                self.server(*id).is_some_and(|s| s.free().fits(need) && self.policy.accepts(s, request))
                    && admit(*id)
            });
        }
        let mut admit = |n: u32| {
            let server = &self.servers[n as usize];
            self.policy.accepts(server, request) && admit(server.id)
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
        self.index.update(id.0, key(self.policy.as_ref(), self.ties, server), server.free());
    }

    /// What a server is short of for `need`: the resource, how much is needed, how much is there. Empty when it has room.
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
