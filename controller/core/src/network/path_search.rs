//! The one place where a VM's path is chosen: the routing policy is shown what there is, and says
//! which.

use crate::network::links::LinkTable;
use crate::network::path_tree::reversed;
use crate::network::{NetworkRef, attachment, topology_state};
use crate::policy::routing::{PathSearch, Route};
use std::marker::PhantomData;
use tandem_model::paths::{self, Path};
use tandem_model::{BitRate, GatewayId, Hop, LinkId, NodeId, ServerId, SwitchId, Time, Topology};

/// Of so many shortest paths to a gateway a policy may choose.
const SHORTEST: usize = 16;

/// A search of paths from one uplink of a server.
pub(crate) struct Search<'a> {
    pub(crate) network: NetworkRef<'a>,
    /// What is reserved and measured: the core's own table, or a paper copy of it.
    pub(crate) links: &'a LinkTable,
    pub(crate) server: ServerId,
    /// Which uplink of the server, by its place among them.
    pub(crate) uplink: usize,
    /// The gateways that will do, the best one first.
    pub(crate) gateways: &'a [GatewayId],
    /// What has to fit on every hop, in each direction.
    pub(crate) rate: BitRate,
}

impl Search<'_> {
    /// The path that the site's routing policy takes, which is one that this search has offered.
    pub(crate) fn choose(&self) -> Option<Route<'_>> {
        self.network.net.routing.choose(self)
    }

    /// What a hop has left for this server by this uplink; `None` where it must not be used.
    fn residual(&self, hop: Hop, own: LinkId) -> Option<BitRate> {
        let topology = &self.network.cx.site.topology;
        let ends = [paths::head(topology, hop), paths::tail(topology, hop)];
        let attended = ends.iter().flatten().all(|node| match node {
            NodeId::Switch(id) if topology_state::is_openflow(topology, *node) => {
                self.network.net.live.switch(*id).is_some_and(|s| s.connected)
            }
            _ => true,
        });
        if !attended || (ends.contains(&Some(NodeId::Server(self.server))) && hop.link != own) {
            return None;
        }
        self.links.residual(hop)
    }

    /// What a hop's link has left in the direction with less; `None` where that is not enough.
    fn left_both_ways(&self, hop: Hop, own: LinkId) -> Option<BitRate> {
        let left = self.residual(hop, own)?.min(self.residual(Hop { down: !hop.down, ..hop }, own)?);
        (left >= self.rate).then_some(left)
    }

    /// Of the links from a node to its neighbour the one with the most left, the first of equal
    /// ones.
    fn widest_link(&self, from: NodeId, to: NodeId, own: LinkId) -> Option<Hop> {
        let topology = &self.network.cx.site.topology;
        let links = paths::hops_from(topology, from).filter(|(_, node)| *node == to);
        let with_room = links.filter_map(|(hop, _)| Some((self.left_both_ways(hop, own)?, hop)));
        with_room.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, hop)| hop)
    }

    fn own_link(&self) -> Option<LinkId> {
        self.network.cx.site.topology.server(self.server)?.uplinks.get(self.uplink).copied()
    }

    /// The path to a gateway and back, by residual bandwidth.
    pub(crate) fn by_residual_to(&self, gateway: GatewayId) -> Option<(Path, Path)> {
        let topology = &self.network.cx.site.topology;
        let own = self.own_link()?;
        let (here, there) = (NodeId::Server(self.server), NodeId::Gateway(gateway));
        let residual = |hop: Hop| self.residual(hop, own);
        let up = paths::by_residual(topology, here, there, self.rate, residual)?;
        let down = paths::by_residual(topology, there, here, self.rate, residual)?;
        Some((up, down))
    }
}

impl PathSearch for Search<'_> {
    fn now(&self) -> Time {
        self.network.cx.now
    }

    fn default_path(&self) -> Option<Route<'_>> {
        let topology = &self.network.cx.site.topology;
        let routes = &self.network.net.routes;
        self.gateways.iter().find_map(|gateway| {
            let (up, down) = attachment::paths_via(topology, routes, self.server, self.uplink, *gateway)?;
            let fits = |path: &Path| self.network.admits(self.links, path, self.rate);
            (fits(&up) && fits(&down)).then_some(Route { gateway: *gateway, up, down, search: PhantomData })
        })
    }

    fn by_residual(&self) -> Option<Route<'_>> {
        self.gateways.iter().find_map(|gateway| {
            let (up, down) = self.by_residual_to(*gateway)?;
            Some(Route { gateway: *gateway, up, down, search: PhantomData })
        })
    }

    fn shortest(&self) -> Vec<Route<'_>> {
        self.shortest_over(&|_| true)
    }

    fn shortest_over(&self, over: &dyn Fn(Hop) -> bool) -> Vec<Route<'_>> {
        let topology = &self.network.cx.site.topology;
        let Some(own) = self.own_link() else { return Vec::new() };
        // The way back takes the same links, so a link is of use only when it has room both ways.
        let fits = |hop: Hop| over(hop) && self.residual(hop, own).is_some_and(|left| left >= self.rate);
        let usable = |hop: Hop| fits(hop) && fits(Hop { link: hop.link, down: !hop.down });
        let mut routes = Vec::new();
        for gateway in self.gateways {
            let (here, there) = (NodeId::Server(self.server), NodeId::Gateway(*gateway));
            for up in paths::all_shortest(topology, here, there, SHORTEST, usable) {
                let down = reversed(&up);
                routes.push(Route { gateway: *gateway, up, down, search: PhantomData });
            }
        }
        routes
    }

    fn via(&self, switches: &[SwitchId]) -> Option<Route<'_>> {
        let topology = &self.network.cx.site.topology;
        let own = self.own_link()?;
        let is_twice = |(n, switch): (usize, &SwitchId)| switches[..n].contains(switch);
        if self.edge().as_ref() != switches.first() || switches.iter().enumerate().any(is_twice) {
            return None;
        }
        let mut up = attachment::access_path(topology, self.server, self.uplink)?;
        if !up.iter().all(|hop| self.left_both_ways(*hop, own).is_some()) {
            return None;
        }
        for pair in switches.windows(2) {
            up.push(self.widest_link(NodeId::Switch(pair[0]), NodeId::Switch(pair[1]), own)?);
        }
        let last = NodeId::Switch(*switches.last()?);
        self.gateways.iter().find_map(|gateway| {
            let hop = self.widest_link(last, NodeId::Gateway(*gateway), own)?;
            let up: Path = up.iter().copied().chain([hop]).collect();
            let down = reversed(&up);
            Some(Route { gateway: *gateway, up, down, search: PhantomData })
        })
    }

    fn edge(&self) -> Option<SwitchId> {
        self.network.cx.site.topology.edge_of(self.server, self.uplink)
    }

    fn topology(&self) -> &Topology {
        &self.network.cx.site.topology
    }

    fn switch_load(&self, switch: SwitchId) -> f64 {
        self.links.by_switch().load(switch)
    }

    fn room(&self, route: &Route<'_>) -> Vec<BitRate> {
        let hops = route.up.iter().chain(&route.down);
        let mut left: Vec<BitRate> = hops.filter_map(|hop| self.links.residual(*hop)).collect();
        left.sort_unstable();
        left
    }

    fn link_ratio(&self, link: LinkId) -> f64 {
        self.links.ratio(link)
    }
}
