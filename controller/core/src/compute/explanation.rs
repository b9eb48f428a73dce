//! What a request would lead to, on paper: nothing is reserved, asked or written.

use crate::compute::ComputeRef;
use crate::compute::forming::of_member;
use crate::compute::inventory::Inventory;
use crate::compute::placement::{PlacedMember, Room};
use crate::network::links::LinkTable;
use crate::network::paths::Memo;
use crate::network::place::Placement;
use std::collections::BTreeMap;
use tandem_model::{
    BitRate, Candidate, Explanation, NearMiss, NodeId, PlannedPlace, Rejection, Resource, ServerId, SwitchId,
    VmGroupRequest, VmRequest,
};

/// So many servers are listed at most.
const LISTED: usize = 1000;

/// Reservations that something is tried on.
#[derive(Clone)]
pub(crate) struct Trial {
    pub(crate) inventory: Inventory,
    pub(crate) links: LinkTable,
}

/// How far a request gets on paper.
pub(crate) struct Tried<'r> {
    /// Members with a place, everything of theirs reserved on the paper.
    pub(crate) placed: Vec<PlacedMember<'r>>,
    /// Why the next one has none.
    pub(crate) refused: Option<Rejection>,
}

impl Trial {
    fn reserve(&mut self, request: &VmRequest, place: &Placement) {
        self.inventory.reserve(place.server, request.resources);
        self.links.reserve(&place.path_up, request.resources.net);
        self.links.reserve(&place.path_down, request.resources.net);
    }
}

impl<'a> ComputeRef<'a> {
    /// A copy of what is reserved.
    pub(crate) fn paper(self) -> Trial {
        Trial { inventory: self.compute.inventory.clone(), links: self.net.links.clone() }
    }

    /// Places the members of a request on paper, one after the other, as the request itself would.
    pub(crate) fn try_on<'r>(self, paper: &mut Trial, request: &'r VmGroupRequest) -> Tried<'r> {
        let mut placed: Vec<PlacedMember<'r>> = Vec::new();
        for (n, member) in request.members.iter().enumerate() {
            let room = Room {
                inventory: &paper.inventory,
                links: &paper.links,
                before: &placed,
                rate: request.rate,
            };
            match self.place_member(room, member) {
                Ok(place) => {
                    paper.reserve(member, &place);
                    for (hop, rate) in self.pairs_with(&placed, &place, request.rate) {
                        paper.links.reserve(&[hop], BitRate(rate));
                    }
                    placed.push(PlacedMember { request: member, place });
                }
                Err(rejection) => {
                    return Tried { placed, refused: Some(of_member(rejection, request, n)) };
                }
            }
        }
        Tried { placed, refused: None }
    }

    /// True when all members of a request have places on paper.
    pub(crate) fn is_admitted(self, paper: &mut Trial, request: &VmGroupRequest) -> bool {
        let mut placed: Vec<PlacedMember<'_>> = Vec::new();
        for member in &request.members {
            let room = Room {
                inventory: &paper.inventory,
                links: &paper.links,
                before: &placed,
                rate: request.rate,
            };
            let place = self.find_place(room, member);
            let kept = |place: &Placement| self.rules().class_is_kept(member, place).is_ok();
            let Some(place) = place.filter(kept) else { return false };
            paper.reserve(member, &place);
            for (hop, rate) in self.pairs_with(&placed, &place, request.rate) {
                paper.links.reserve(&[hop], BitRate(rate));
            }
            placed.push(PlacedMember { request: member, place });
        }
        true
    }

    /// What a request would lead to now.
    pub(crate) fn explain_request(self, mut request: VmGroupRequest) -> Explanation {
        self.complete(&mut request);
        let mut paper = self.paper();
        let Tried { placed, refused } = self.try_on(&mut paper, &request);
        // The candidates are of the member that is refused, with those before it placed; where none
        // is, of the first.
        let (at, before) = match &refused {
            Some(_) => (placed.len(), placed.as_slice()),
            None => (0, &[][..]),
        };
        let first = self.paper();
        let paper = if refused.is_some() { &paper } else { &first };
        let room = Room { inventory: &paper.inventory, links: &paper.links, before, rate: request.rate };
        let candidates = request.members.get(at).map(|m| self.candidates(room, m)).unwrap_or_default();
        let left_out = self.compute.inventory.servers().len().saturating_sub(candidates.len());
        let changes =
            if refused.is_some() { self.smallest_changes(&request, at, &candidates) } else { Vec::new() };
        Explanation {
            policy: self.compute.inventory.policy().to_owned(),
            places: placed.iter().map(|member| self.planned_place(member)).collect(),
            rejection: refused,
            member: at as u32 + 1,
            candidates,
            left_out: left_out as u32,
            changes,
        }
    }

    fn planned_place(self, member: &PlacedMember<'_>) -> PlannedPlace {
        let topology = &self.cx.site.topology;
        let PlacedMember { request, place } = member;
        let nodes = tandem_model::paths::nodes(topology, NodeId::Server(place.server), &place.path_up);
        PlannedPlace {
            vm: request.name.clone(),
            server: topology.name(NodeId::Server(place.server)).to_owned(),
            gateway: topology.name(NodeId::Gateway(place.gateway)).to_owned(),
            path: nodes.into_iter().map(|node| topology.name(node).to_owned()).collect(),
        }
    }

    /// Every server as a request finds it.
    fn candidates(self, room: Room<'_>, request: &VmRequest) -> Vec<Candidate> {
        let allowed = self.allowed_in(room, request);
        let (mut by_edge, mut hopeless) = (BTreeMap::new(), Memo::new());
        let servers = room.inventory.servers().iter().take(LISTED);
        let candidate = |server: ServerId| {
            let name = self.cx.server_name(server);
            let barred = if room.inventory.is_drained(server) {
                Some("it is out of service".to_owned())
            } else if let Some(why) = self.compute.away.get(&server) {
                Some(format!("its hypervisor does not answer: {why}"))
            } else {
                allowed.bars(server)
            };
            let (short, barred) = match barred {
                Some(why) => (Vec::new(), Some(why)),
                None => self.lacks(room, request, server, &mut by_edge, &mut hopeless),
            };
            Candidate { server: name, fits: barred.is_none() && short.is_empty(), short, barred }
        };
        servers.map(|s| s.id).map(candidate).collect()
    }

    /// What a server that a request may come to lacks for it, or why it does not take it all the
    /// same.
    fn lacks(
        self,
        room: Room<'_>,
        request: &VmRequest,
        server: ServerId,
        by_edge: &mut BTreeMap<SwitchId, Option<NearMiss>>,
        hopeless: &mut Memo,
    ) -> (Vec<NearMiss>, Option<String>) {
        let net = request.resources.net;
        if room.inventory.shortage(server, request.resources).is_empty() {
            if !room.inventory.accepts(server, request) {
                let policy = room.inventory.policy();
                return (Vec::new(), Some(format!("the {policy} policy does not take it there")));
            }
            let connected = self.network().connect_on(room.links, (server, net), None, hopeless);
            if let Some(place) = connected
                && self.pair_miss(room, request, &place).is_none()
                && self.addresses_left(room, server)
            {
                let kept = self.rules().class_is_kept(request, &place);
                return (Vec::new(), kept.err().map(|rejection| rejection.summary));
            }
        }
        let short = self.misses(room, request, server, by_edge);
        if !short.is_empty() {
            return (short, None);
        }
        // The default way has room, and the routing policy takes none.
        let place = self.cx.server_name(server);
        (vec![NearMiss { place, resource: Resource::Path, needed: 1, available: 0 }], None)
    }

    /// True when there is an address for one more VM on a server.
    fn addresses_left(self, room: Room<'_>, server: ServerId) -> bool {
        let edge = self.cx.site.topology.edge_of(server, 0);
        edge.is_some_and(|edge| self.addresses_at(room, edge) > 0)
    }
}
