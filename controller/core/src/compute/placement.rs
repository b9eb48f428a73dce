//! Placement: a server by the policy, with room of every resource, an address, and a path to a
//! gateway with room on every link in both directions; or the reasons why there is none.

use crate::compute::inventory::Inventory;
use crate::compute::placement_view::Seen;
use crate::compute::{ComputeMut, ComputeRef};
use crate::network::links::LinkTable;
use crate::network::paths::Memo;
use crate::network::place::Placement;
use crate::policy::view;
use std::collections::BTreeMap;
use tandem_model::{BitRate, Hop, NearMiss, NodeId, Rejection, Resource, ServerId, SwitchId, VmRequest};

/// How many different constraints a rejection names.
const BARRED_SHOWN: usize = 4;

/// A VM of a request of several that has a place already.
pub(crate) struct PlacedMember<'a> {
    pub(crate) request: &'a VmRequest,
    pub(crate) place: Placement,
}

/// What a decision goes by: the core's own reservations or a paper copy of them, on which
/// everything of `before` is reserved.
#[derive(Clone, Copy)]
pub(crate) struct Room<'a> {
    pub(crate) inventory: &'a Inventory,
    pub(crate) links: &'a LinkTable,
    /// Other VMs of the same request, which have places and neither records nor addresses yet.
    pub(crate) before: &'a [PlacedMember<'a>],
    /// What each of them is to send to each other one, if that is reserved.
    pub(crate) rate: Option<BitRate>,
}

impl<'a> ComputeRef<'a> {
    /// What is reserved now.
    pub(crate) fn room(self) -> Room<'a> {
        Room { inventory: &self.compute.inventory, links: &self.net.links, before: &[], rate: None }
    }

    /// Decides, without changing anything.
    ///
    /// # Errors
    /// A `Rejection` that says what was short on which servers or links.
    pub(crate) fn place(self, request: &VmRequest) -> Result<Placement, Rejection> {
        self.place_in(self.room(), request)
    }

    /// The same where it is said what there is.
    pub(crate) fn place_in(self, room: Room<'_>, request: &VmRequest) -> Result<Placement, Rejection> {
        self.find_place(room, request).ok_or_else(|| self.explain_in(room, request))
    }

    /// The same without the reasons, which take a look at all servers.
    pub(crate) fn find_place(self, room: Room<'_>, request: &VmRequest) -> Option<Placement> {
        let mut found = None;
        let mut hopeless = Memo::new();
        let view = Seen { compute: self, inventory: room.inventory, links: room.links };
        let allowed = self.allowed_in(room, request);
        let server = room.inventory.find(&view, request, &mut |server, via| {
            // Whoever does not answer now would only fail.
            if self.compute.away.contains_key(&server) || allowed.bars(server).is_some() {
                return false;
            }
            let primary = self.cx.site.topology.edge_of(server, 0);
            if primary.is_none_or(|edge| self.addresses_at(room, edge) == 0) {
                return false;
            }
            let (links, net) = (room.links, request.resources.net);
            found = if via.is_empty() {
                self.network().connect_on(links, (server, net), None, &mut hopeless)
            } else {
                self.network().connect_via(links, (server, net), None, via)
            };
            found = found.take().filter(|place| self.pair_miss(room, request, place).is_none());
            found.is_some()
        });
        server.and(found)
    }

    pub(crate) fn allowed_in(
        self,
        room: Room<'_>,
        request: &VmRequest,
    ) -> crate::compute::constraints::Allowed<'a> {
        let mut before = room.before.iter().map(|m| (m.request, m.place.server));
        self.allowed(request, None, &|vm| vm.server, &mut before)
    }

    /// Addresses of an edge that no other VM of the same request takes.
    pub(crate) fn addresses_at(self, room: Room<'_>, edge: SwitchId) -> u64 {
        let topology = &self.cx.site.topology;
        let taken = room.before.iter().filter(|m| topology.edge_of(m.place.server, 0) == Some(edge)).count();
        self.compute.addresses.left(edge).saturating_sub(taken as u64)
    }

    /// The first link without room for a VM at a place and what it and the others of its request
    /// send to each other.
    pub(crate) fn pair_miss(
        self,
        room: Room<'_>,
        request: &VmRequest,
        place: &Placement,
    ) -> Option<NearMiss> {
        let rate = room.rate?;
        let at = (place.server, place.uplink);
        let own = place.path_up.iter().chain(&place.path_down);
        let mut needed: BTreeMap<Hop, u64> = BTreeMap::new();
        own.for_each(|hop| *needed.entry(*hop).or_default() += request.resources.net.0);
        for mate in room.before {
            let mate = (mate.place.server, mate.place.uplink);
            let ways = [self.hops_between(at, mate), self.hops_between(mate, at)];
            let [Some(out), Some(back)] = ways else {
                let place = self.cx.server_name(place.server);
                return Some(NearMiss { place, resource: Resource::Path, needed: 1, available: 0 });
            };
            out.into_iter().chain(back).for_each(|hop| *needed.entry(hop).or_default() += rate.0);
        }
        let left = |hop: Hop| room.links.residual(hop).map_or(0, |left| left.0);
        let (hop, needed) = needed.into_iter().find(|(hop, needed)| left(*hop) < *needed)?;
        let place = self.cx.link_name(hop.link);
        Some(NearMiss { place, resource: Resource::Link, needed, available: left(hop) })
    }

    /// What keeps a request from a server that it may come to: what the server is short of, else
    /// what is short on the way, else nothing.
    pub(crate) fn misses(
        self,
        room: Room<'_>,
        request: &VmRequest,
        server: ServerId,
        by_edge: &mut BTreeMap<SwitchId, Option<NearMiss>>,
    ) -> Vec<NearMiss> {
        let need = request.resources;
        let topology = &self.cx.site.topology;
        let short = room.inventory.shortage(server, need);
        if !short.is_empty() {
            let place = topology.name(NodeId::Server(server));
            let miss = |(resource, needed, available)| NearMiss {
                place: place.to_owned(),
                resource,
                needed,
                available,
            };
            return short.into_iter().map(miss).collect();
        }
        let Some(edge) = topology.edge_of(server, 0) else { return Vec::new() };
        if self.addresses_at(room, edge) == 0 {
            let place = topology.name(NodeId::Switch(edge)).to_owned();
            return vec![NearMiss { place, resource: Resource::Address, needed: 1, available: 0 }];
        }
        let own = self.network().own_link_miss(room.links, server, need.net);
        let path = || {
            by_edge
                .entry(edge)
                .or_insert_with(|| self.network().path_miss(room.links, server, edge, need.net))
                .clone()
        };
        let miss = own.or_else(path);
        let pairs = || {
            room.rate?;
            let net = need.net;
            let place = self.network().connect_on(room.links, (server, net), None, &mut Memo::new())?;
            self.pair_miss(room, request, &place)
        };
        miss.or_else(pairs).into_iter().collect()
    }

    /// Why nothing fits: counts over all servers, and the nearest misses. O(n), only for
    /// rejections.
    pub(crate) fn explain(self, request: &VmRequest) -> Rejection {
        self.explain_in(self.room(), request)
    }

    /// The same where it is said what there is.
    pub(crate) fn explain_in(self, room: Room<'_>, request: &VmRequest) -> Rejection {
        let mut counts: BTreeMap<Resource, u32> = BTreeMap::new();
        let mut misses: Vec<(u64, NearMiss)> = Vec::new();
        let mut by_edge: BTreeMap<SwitchId, Option<NearMiss>> = BTreeMap::new();
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
            !room.inventory.is_drained(s.id) && !self.compute.away.contains_key(&s.id)
        };
        let allowed = self.allowed_in(room, request);
        // How many servers each constraint keeps the VM from, in the order in which they are met.
        let mut barred: Vec<(String, u32)> = Vec::new();
        let mut barred_otherwise = 0;
        for server in room.inventory.servers().iter().filter(in_service) {
            if let Some(why) = allowed.bars(server.id) {
                let is_full = barred.len() >= BARRED_SHOWN;
                match barred.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, n)) => *n += 1,
                    None if is_full => barred_otherwise += 1,
                    None => barred.push((why, 1)),
                }
                continue;
            }
            if !room.inventory.accepts(server.id, request)
                && room.inventory.shortage(server.id, request.resources).is_empty()
            {
                continue;
            }
            let short = self.misses(room, request, server.id, &mut by_edge);
            short.iter().for_each(|miss| *counts.entry(miss.resource).or_default() += 1);
            // A server is as far off as what it is shortest of.
            short.into_iter().max_by_key(distance).into_iter().for_each(&mut near);
        }
        let counts: Vec<(Resource, u32)> = counts.into_iter().collect();
        let total = room.inventory.servers().len();
        let nearest: Vec<NearMiss> = misses.into_iter().map(|(_, m)| m).collect();
        let mut reasons: Vec<String> = counts.iter().map(|(r, n)| format!("{n} short of {r}")).collect();
        reasons.extend(barred.iter().map(|(why, n)| format!("{n} barred ({why})")));
        reasons.extend((barred_otherwise > 0).then(|| format!("{barred_otherwise} barred likewise")));
        let drained = room.inventory.drained().count();
        reasons.extend((drained > 0).then(|| format!("{drained} out of service")));
        let silent = self.compute.away.len();
        reasons.extend((silent > 0).then(|| format!("{silent} whose hypervisor does not answer")));
        let summary = if total == 0 {
            "the site has no servers".to_owned()
        } else if reasons.is_empty() {
            format!("none of {total} servers is accepted by the {} policy", room.inventory.policy())
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
