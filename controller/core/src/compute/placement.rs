//! Placement: a server by the policy, with room of every resource, an address, and a path to a
//! gateway with room on every link in both directions; or the reasons why there is none.

use crate::compute::placement_view::Seen;
use crate::compute::{ComputeMut, ComputeRef};
use crate::network::paths::Memo;
use crate::network::place::Placement;
use crate::policy::view;
use std::collections::BTreeMap;
use tandem_model::{NearMiss, NodeId, Rejection, Resource, SwitchId, VmRequest};

impl<'a> ComputeRef<'a> {
    /// Decides, without changing anything.
    ///
    /// # Errors
    /// A `Rejection` that says what was short on which servers or links.
    pub(crate) fn place(self, request: &VmRequest) -> Result<Placement, Rejection> {
        let mut found = None;
        let mut hopeless = Memo::new();
        let view = Seen { compute: self, inventory: &self.compute.inventory, links: &self.net.links };
        let server = self.compute.inventory.find(&view, request, &mut |server, via| {
            // Whoever does not answer now would only fail.
            if self.compute.away.contains_key(&server) {
                return false;
            }
            let primary = self.cx.site.topology.edge_of(server, 0);
            if primary.is_none_or(|edge| self.compute.addresses.left(edge) == 0) {
                return false;
            }
            let (links, net) = (&self.net.links, request.resources.net);
            found = if via.is_empty() {
                self.network().connect_on(links, (server, net), None, &mut hopeless)
            } else {
                self.network().connect_via(links, (server, net), None, via)
            };
            found.is_some()
        });
        match (server, found) {
            (Some(_), Some(placement)) => Ok(placement),
            _ => Err(self.explain(request)),
        }
    }

    /// Why nothing fits: counts over all servers, and the nearest misses. O(n), only for
    /// rejections.
    pub(crate) fn explain(self, request: &VmRequest) -> Rejection {
        let need = request.resources;
        let topology = &self.cx.site.topology;
        let mut counts: BTreeMap<Resource, u32> = BTreeMap::new();
        let mut misses: Vec<(u64, NearMiss)> = Vec::new();
        let mut by_edge: BTreeMap<(SwitchId, u32), Option<NearMiss>> = BTreeMap::new();
        let distance = |miss: &NearMiss| {
            let short = miss.needed.saturating_sub(miss.available);
            (u128::from(short) * 1_000_000 / u128::from(miss.needed.max(1))) as u64
        };
        let mut near = |miss: NearMiss| {
            if misses.iter().any(|(_, m)| m.place == miss.place && m.resource == miss.resource) {
                return;
            }
            misses.push((distance(&miss), miss));
            misses.sort_by_key(|(d, _)| *d);
            misses.truncate(self.cx.site.policy.near_misses as usize);
        };
        let in_service = |s: &&view::ServerView| {
            !self.compute.inventory.is_drained(s.id) && !self.compute.away.contains_key(&s.id)
        };
        for server in self.compute.inventory.servers().iter().filter(in_service) {
            let name = topology.name(NodeId::Server(server.id)).to_owned();
            let short = self.compute.inventory.shortage(server.id, need);
            if !short.is_empty() {
                short.iter().for_each(|(resource, ..)| *counts.entry(*resource).or_default() += 1);
                // A server is as far off as what it is shortest of.
                let place = |(resource, needed, available)| NearMiss {
                    place: name.clone(),
                    resource,
                    needed,
                    available,
                };
                short.into_iter().map(place).max_by_key(distance).into_iter().for_each(&mut near);
                continue;
            }
            if !self.compute.inventory.accepts(server.id, request) {
                continue;
            }
            let Some(edge) = topology.edge_of(server.id, 0) else { continue };
            if self.compute.addresses.left(edge) == 0 {
                let place = topology.name(NodeId::Switch(edge)).to_owned();
                *counts.entry(Resource::Address).or_default() += 1;
                near(NearMiss { place, resource: Resource::Address, needed: 1, available: 0 });
                continue;
            }
            let own = self.network().own_link_miss(server.id, need.net);
            let miss = own.or_else(|| {
                by_edge
                    .entry((edge, 0))
                    .or_insert_with(|| self.network().path_miss(server.id, edge, need.net))
                    .clone()
            });
            if let Some(miss) = miss {
                *counts.entry(miss.resource).or_default() += 1;
                near(miss);
            }
        }
        let counts: Vec<(Resource, u32)> = counts.into_iter().collect();
        let total = self.compute.inventory.servers().len();
        let nearest: Vec<NearMiss> = misses.into_iter().map(|(_, m)| m).collect();
        let mut reasons: Vec<String> = counts.iter().map(|(r, n)| format!("{n} short of {r}")).collect();
        let drained = self.compute.inventory.drained().count();
        reasons.extend((drained > 0).then(|| format!("{drained} out of service")));
        let silent = self.compute.away.len();
        reasons.extend((silent > 0).then(|| format!("{silent} whose hypervisor does not answer")));
        let summary = if total == 0 {
            "the site has no servers".to_owned()
        } else if reasons.is_empty() {
            format!("none of {total} servers is accepted by the {} policy", self.compute.inventory.policy())
        } else {
            format!("none of {total} servers can take the VM: {}", reasons.join(", "))
        };
        Rejection { summary, counts, nearest }
    }
}

impl ComputeMut<'_> {
    /// Reserves what a placement takes.
    pub(crate) fn reserve(&mut self, placement: &Placement, request: &VmRequest) {
        self.cx.dirty.server(placement.server);
        self.compute.inventory.reserve(placement.server, request.resources);
        self.net.links.reserve(&placement.path_up, request.resources.net);
        self.net.links.reserve(&placement.path_down, request.resources.net);
    }

    /// Gives back what [`ComputeMut::reserve`] took.
    pub(crate) fn release(&mut self, placement: &Placement, request: &VmRequest) {
        self.cx.dirty.server(placement.server);
        self.compute.inventory.release(placement.server, request.resources);
        self.net.links.release(&placement.path_up, request.resources.net);
        self.net.links.release(&placement.path_down, request.resources.net);
    }
}
