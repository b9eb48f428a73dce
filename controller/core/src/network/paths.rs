//! Other paths for running VMs: after a link or a switch is lost, and back to service after one returns.
//!
//! A VM keeps its server, its address and its gateway. It keeps its path too while every link of it is alive, so that nothing
//! moves without need. Rules for the new path come before the old ones go.

use crate::network::links::LinkTable;
use crate::network::place::Placement;
use crate::network::{NetworkRef, attachment, topology_state};
use std::collections::BTreeMap;
use tandem_model::paths::Path;
use tandem_model::{
    BitRate, GatewayId, Hop, NearMiss, NodeId, Resource, ServerId, SwitchId, VmRecord, paths,
};

/// How far the search of paths got for one edge switch, so that it is done once per decision and edge.
pub(crate) type Memo = BTreeMap<SwitchId, bool>;

impl<'a> NetworkRef<'a> {
    /// A way between a server and a gateway with room for `rate` on `links`, which are the core's own or a paper copy: default paths first,
    /// then any other. A VM that is there already keeps its gateway, which is `only`.
    pub(crate) fn connect_on(
        self,
        links: &LinkTable,
        (server, rate): (ServerId, BitRate),
        only: Option<GatewayId>,
        hopeless: &mut Memo,
    ) -> Option<Placement> {
        let topology = &self.cx.site.topology;
        // How many there are is asked for after the first one, which nearly always does: a server's own record is far away in memory.
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
            for gateway in &gateways {
                if let Some((up, down)) =
                    attachment::paths_via(topology, &self.net.routes, server, uplink, *gateway)
                    && self.admits(links, &up, rate)
                    && self.admits(links, &down, rate)
                {
                    return Some(placement(server, uplink, *gateway, up, down));
                }
            }
            for gateway in &gateways {
                if let Some((up, down)) = self.detour_on(links, server, uplink, *gateway, rate) {
                    return Some(placement(server, uplink, *gateway, up, down));
                }
            }
            hopeless.insert(edge, true);
        }
        None
    }

    pub(crate) fn admits(self, links: &LinkTable, path: &[Hop], rate: BitRate) -> bool {
        links.shortage(path, rate).is_none() && self.net.live.path_is_attended(links, path)
    }

    /// Some path by residual bandwidth, up and down, over one uplink of the server.
    pub(crate) fn detour(
        self,
        server: ServerId,
        uplink: usize,
        gateway: GatewayId,
        rate: BitRate,
    ) -> Option<(Path, Path)> {
        self.detour_on(&self.net.links, server, uplink, gateway, rate)
    }

    pub(crate) fn detour_on(
        self,
        links: &LinkTable,
        server: ServerId,
        uplink: usize,
        gateway: GatewayId,
        rate: BitRate,
    ) -> Option<(Path, Path)> {
        let topology = &self.cx.site.topology;
        let own = *topology.server(server)?.uplinks.get(uplink)?;
        let (a, b) = (NodeId::Server(server), NodeId::Gateway(gateway));
        let residual = |hop: Hop| {
            let ends = [paths::head(topology, hop), paths::tail(topology, hop)];
            let attended = ends.iter().flatten().all(|n| match n {
                NodeId::Switch(id) if topology_state::is_openflow(topology, *n) => {
                    self.net.live.switch(*id).is_some_and(|s| s.connected)
                }
                _ => true,
            });
            if !attended || (ends.contains(&Some(a)) && hop.link != own) {
                return None;
            }
            links.residual(hop)
        };
        let up = paths::by_residual(topology, a, b, rate, residual)?;
        let down = paths::by_residual(topology, b, a, rate, residual)?;
        Some((up, down))
    }

    pub(crate) fn own_link_miss(self, server: ServerId, rate: BitRate) -> Option<NearMiss> {
        let access = attachment::access_path(&self.cx.site.topology, server, 0)?;
        let back: Path = access.iter().rev().map(|h| Hop { link: h.link, down: !h.down }).collect();
        self.net
            .links
            .shortage(&access, rate)
            .or_else(|| self.net.links.shortage(&back, rate))
            .map(|h| self.link_miss(h, rate))
    }

    pub(crate) fn path_miss(self, server: ServerId, edge: SwitchId, rate: BitRate) -> Option<NearMiss> {
        let topology = &self.cx.site.topology;
        let mut miss = None;
        for gateway in self.net.routes.gateways_from(edge) {
            let Some((up, down)) = attachment::paths_via(topology, &self.net.routes, server, 0, gateway)
            else {
                continue;
            };
            if self.admits(&self.net.links, &up, rate) && self.admits(&self.net.links, &down, rate) {
                return None;
            }
            let short = self.net.links.shortage(&up, rate).or_else(|| self.net.links.shortage(&down, rate));
            miss = miss.or(short.map(|hop| self.link_miss(hop, rate)));
        }
        Some(miss.unwrap_or_else(|| NearMiss {
            place: topology.name(NodeId::Switch(edge)).to_owned(),
            resource: Resource::Path,
            needed: 1,
            available: 0,
        }))
    }

    pub(crate) fn link_miss(self, hop: Hop, rate: BitRate) -> NearMiss {
        match self.net.links.residual(hop) {
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

    /// The default paths between a server (by one of its uplinks) and a gateway, up and down; `None` while there are none.
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

    /// A way for a VM from where it is to its gateway: the default path if it is alive and has room, else by residual bandwidth; its
    /// own uplink first.
    pub(crate) fn way(self, record: &VmRecord, rate: BitRate) -> Option<Placement> {
        let topology = &self.cx.site.topology;
        let count = topology.server(record.server)?.uplinks.len() as u32;
        let others = (0..count).filter(|u| *u != record.uplink);
        for uplink in std::iter::once(record.uplink).chain(others) {
            let default = attachment::paths_via(
                topology,
                &self.net.routes,
                record.server,
                uplink as usize,
                record.gateway,
            )
            .filter(|(up, down)| {
                self.net.links.shortage(up, rate).is_none() && self.net.links.shortage(down, rate).is_none()
            })
            .filter(|(up, down)| self.is_alive(up) && self.is_alive(down))
            .filter(|(up, down)| {
                self.net.live.path_is_attended(&self.net.links, up)
                    && self.net.live.path_is_attended(&self.net.links, down)
            });
            let found = default.or_else(|| self.detour(record.server, uplink as usize, record.gateway, rate));
            if let Some((path_up, path_down)) = found {
                let (server, gateway) = (record.server, record.gateway);
                return Some(Placement { server, uplink, gateway, path_up, path_down });
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

pub(crate) fn placement(
    server: ServerId,
    uplink: usize,
    gateway: GatewayId,
    path_up: Path,
    path_down: Path,
) -> Placement {
    Placement { server, uplink: uplink as u32, gateway, path_up, path_down }
}
