//! Paths between servers and gateways: which are alive, which have room, and what is short where
//! there is none.

use crate::network::links::LinkTable;
use crate::network::path_search::Search;
use crate::network::place::Placement;
use crate::network::{NetworkRef, attachment};
use crate::policy::routing::{PathSearch, Route};
use std::collections::BTreeMap;
use tandem_model::paths::Path;
use tandem_model::{BitRate, GatewayId, Hop, NearMiss, NodeId, Resource, ServerId, SwitchId, VmRecord};

/// How far the search of paths got for one edge switch, so that it is done once per decision and
/// edge.
pub(crate) type Memo = BTreeMap<SwitchId, bool>;

impl<'a> NetworkRef<'a> {
    /// A way between a server and a gateway with room for `rate` on `links`, which are the core's
    /// own or a paper copy: the one that the routing policy chooses. A VM that is there already keeps
    /// its gateway, which is `only`.
    pub(crate) fn connect_on(
        self,
        links: &LinkTable,
        (server, rate): (ServerId, BitRate),
        only: Option<GatewayId>,
        hopeless: &mut Memo,
    ) -> Option<Placement> {
        let topology = &self.cx.site.topology;
        // How many there are is asked for after the first one, which nearly always does: a server's
        // own record is far away in memory.
        let there = |uplink: &usize| {
            *uplink == 0 || topology.server(server).is_some_and(|s| *uplink < s.uplinks.len())
        };
        for uplink in (0..).take_while(there) {
            let Some(edge) = topology.edge_of(server, uplink) else { continue };
            let access = attachment::access_path(topology, server, uplink)?;
            let back = |hop: &Hop| Hop { down: !hop.down, ..*hop };
            let short = |hop: Hop| links.shortage(&[hop], rate).is_some();
            if access.iter().any(|hop| short(*hop) || short(back(hop))) {
                continue;
            }
            if hopeless.contains_key(&edge) {
                continue;
            }
            let gateways = only.map_or_else(|| self.net.routes.gateways_from(edge), |gateway| vec![gateway]);
            let search = Search { network: self, links, server, uplink, gateways: &gateways, rate };
            if let Some(route) = search.choose() {
                return Some(placement(server, uplink, route));
            }
            hopeless.insert(edge, true);
        }
        None
    }

    /// The same by the switches that an allocation policy has chosen with the server, from its edge
    /// switch on.
    pub(crate) fn connect_via(
        self,
        links: &LinkTable,
        (server, rate): (ServerId, BitRate),
        only: Option<GatewayId>,
        via: &[SwitchId],
    ) -> Option<Placement> {
        let topology = &self.cx.site.topology;
        let edge = *via.first()?;
        let uplinks = topology.server(server)?.uplinks.len();
        for uplink in (0..uplinks).filter(|uplink| topology.edge_of(server, *uplink) == Some(edge)) {
            let gateways = only.map_or_else(|| self.net.routes.gateways_from(edge), |gateway| vec![gateway]);
            let search = Search { network: self, links, server, uplink, gateways: &gateways, rate };
            if let Some(route) = search.via(via) {
                return Some(placement(server, uplink, route));
            }
        }
        None
    }

    pub(crate) fn admits(self, links: &LinkTable, path: &[Hop], rate: BitRate) -> bool {
        links.shortage(path, rate).is_none() && self.net.live.path_is_attended(links, path)
    }

    /// Some path by residual bandwidth, up and down, over one uplink of the server, whatever the
    /// routing policy wants.
    pub(crate) fn detour(
        self,
        server: ServerId,
        uplink: usize,
        gateway: GatewayId,
        rate: BitRate,
    ) -> Option<(Path, Path)> {
        let gateways = [gateway];
        let search =
            Search { network: self, links: &self.net.links, server, uplink, gateways: &gateways, rate };
        search.by_residual_to(gateway)
    }

    pub(crate) fn own_link_miss(
        self,
        links: &LinkTable,
        server: ServerId,
        rate: BitRate,
    ) -> Option<NearMiss> {
        let access = attachment::access_path(&self.cx.site.topology, server, 0)?;
        let back: Path = access.iter().rev().map(|h| Hop { link: h.link, down: !h.down }).collect();
        let short = links.shortage(&access, rate).or_else(|| links.shortage(&back, rate));
        short.map(|hop| self.link_miss(links, hop, rate))
    }

    /// What is short on the default paths between a server and its gateways; `None` where one of them
    /// has room, or where the routing policy knows another way.
    pub(crate) fn path_miss(
        self,
        links: &LinkTable,
        server: ServerId,
        edge: SwitchId,
        rate: BitRate,
    ) -> Option<NearMiss> {
        let topology = &self.cx.site.topology;
        let mut miss = None;
        for gateway in self.net.routes.gateways_from(edge) {
            let Some((up, down)) = attachment::paths_via(topology, &self.net.routes, server, 0, gateway)
            else {
                continue;
            };
            if self.admits(links, &up, rate) && self.admits(links, &down, rate) {
                return None;
            }
            let short = links.shortage(&up, rate).or_else(|| links.shortage(&down, rate));
            miss = miss.or(short.map(|hop| self.link_miss(links, hop, rate)));
        }
        Some(miss.unwrap_or_else(|| NearMiss {
            place: topology.name(NodeId::Switch(edge)).to_owned(),
            resource: Resource::Path,
            needed: 1,
            available: 0,
        }))
    }

    pub(crate) fn link_miss(self, links: &LinkTable, hop: Hop, rate: BitRate) -> NearMiss {
        if let Some((switch, left)) = links.short_switch(hop, rate) {
            return NearMiss {
                place: self.cx.site.topology.name(NodeId::Switch(switch)).to_owned(),
                resource: Resource::Switch,
                // It passes the switch on its way up and on its way down.
                needed: rate.0.saturating_mul(2),
                available: left.0,
            };
        }
        match links.residual(hop) {
            Some(left) => NearMiss {
                place: self.cx.link_name(hop.link),
                resource: Resource::Link,
                needed: rate.0,
                available: left.0,
            },
            None => NearMiss {
                place: self.cx.link_name(hop.link),
                resource: Resource::Path,
                needed: 1,
                available: 0,
            },
        }
    }

    /// The default paths between a server (by one of its uplinks) and a gateway, up and down;
    /// `None` while there are none.
    pub(crate) fn default_ways(
        self,
        server: ServerId,
        uplink: usize,
        gateway: GatewayId,
    ) -> Option<(Path, Path)> {
        attachment::paths_via(&self.cx.site.topology, &self.net.routes, server, uplink, gateway)
    }
}

/// Why a VM is cut off.
pub(crate) const NO_WAY: &str = "no live path leads from its server to its gateway";

impl<'a> NetworkRef<'a> {
    /// True while every link of its path, both ways, can be used.
    pub(crate) fn has_way(self, record: &VmRecord) -> bool {
        self.is_alive(&record.path_up) && self.is_alive(&record.path_down)
    }

    pub(crate) fn is_alive(self, path: &[Hop]) -> bool {
        path.iter().all(|hop| self.net.links.is_usable(hop.link))
    }

    /// A way for a VM from where it is to its gateway: the one that the routing policy
    /// chooses, by its own uplink first.
    pub(crate) fn way(self, record: &VmRecord, rate: BitRate) -> Option<Placement> {
        self.way_on(&self.net.links, record, rate)
    }

    /// The same on `links`, which are the core's own or a paper copy.
    pub(crate) fn way_on(self, links: &LinkTable, record: &VmRecord, rate: BitRate) -> Option<Placement> {
        let topology = &self.cx.site.topology;
        let count = topology.server(record.server)?.uplinks.len() as u32;
        let others = (0..count).filter(|u| *u != record.uplink);
        for uplink in std::iter::once(record.uplink).chain(others) {
            let gateways = [record.gateway];
            let search = Search {
                network: self,
                links,
                server: record.server,
                uplink: uplink as usize,
                gateways: &gateways,
                rate,
            };
            if let Some(route) = search.choose() {
                return Some(placement(record.server, uplink as usize, route));
            }
        }
        None
    }
}

impl<'a> NetworkRef<'a> {
    pub(crate) fn server_side_port(self, record: &VmRecord) -> Option<tandem_model::PortNo> {
        let topology = &self.cx.site.topology;
        let link = *topology.server(record.server)?.uplinks.get(record.uplink as usize)?;
        attachment::port_on(topology, NodeId::Server(record.server), link)
    }
}

/// A server and uplink, with the route that was chosen for them.
fn placement(server: ServerId, uplink: usize, route: Route<'_>) -> Placement {
    let Route { gateway, up: path_up, down: path_down, .. } = route;
    Placement { server, uplink: uplink as u32, gateway, path_up, path_down }
}
