//! Placement: a server by the policy, with room of every resource, an address, and a path to a gateway with room on every link
//! in both directions; or the reasons why there is none.

use crate::links::LinkTable;
use crate::rules::compile;
use crate::services::{ComputeMut, ComputeRef, NetworkRef};
use std::collections::BTreeMap;
use tandem_model::paths::{self, Path};
use tandem_model::{
    BitRate, GatewayId, Hop, NearMiss, NodeId, Rejection, Resource, ServerId, SwitchId, VmRecord, VmRequest,
};

/// Where a VM goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The server.
    pub server: ServerId,
    /// By which of its uplinks.
    pub uplink: u32,
    /// Through which gateway.
    pub gateway: GatewayId,
    /// From the server to the gateway.
    pub path_up: Path,
    /// From the gateway to the server.
    pub path_down: Path,
}

impl Placement {
    /// The same place as a migration's record has it.
    pub(crate) fn at(place: &tandem_model::Place) -> Placement {
        let tandem_model::Place { server, uplink, gateway, path_up, path_down } = place.clone();
        Placement { server, uplink, gateway, path_up, path_down }
    }

    pub(crate) fn into_place(self) -> tandem_model::Place {
        let Placement { server, uplink, gateway, path_up, path_down } = self;
        tandem_model::Place { server, uplink, gateway, path_up, path_down }
    }

    /// Where a VM is.
    pub(crate) fn of(record: &VmRecord) -> Placement {
        Placement {
            server: record.server,
            uplink: record.uplink,
            gateway: record.gateway,
            path_up: record.path_up.clone(),
            path_down: record.path_down.clone(),
        }
    }
}

/// How far the search of paths got for one edge switch, so that it is done once per decision and edge.
pub(crate) type Memo = BTreeMap<SwitchId, bool>;

impl<'a> ComputeRef<'a> {
    /// Decides, without changing anything.
    ///
    /// # Errors
    /// A `Rejection` that says what was short on which servers or links.
    pub(crate) fn place(self, request: &VmRequest) -> Result<Placement, Rejection> {
        let mut found = None;
        let mut hopeless = Memo::new();
        let server = self.compute.inventory.find(request, &mut |server| {
            // Whoever does not answer now would only fail.
            if self.compute.away.contains_key(&server) {
                return false;
            }
            let primary = self.cx.site.topology.edge_of(server, 0);
            if primary.is_none_or(|edge| self.compute.addresses.left(edge) == 0) {
                return false;
            }
            found = self.network().connect_on(
                &self.net.links,
                (server, request.resources.net),
                None,
                &mut hopeless,
            );
            found.is_some()
        });
        match (server, found) {
            (Some(_), Some(placement)) => Ok(placement),
            _ => Err(self.explain(request)),
        }
    }

    /// Why nothing fits: counts over all servers, and the nearest misses. O(n), only for rejections.
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
        let in_service = |s: &&crate::policy::ServerView| {
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
            let access = compile::access_path(topology, server, uplink)?;
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
                    compile::paths_via(topology, &self.net.routes, server, uplink, *gateway)
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

    fn admits(self, links: &LinkTable, path: &[Hop], rate: BitRate) -> bool {
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

    fn detour_on(
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
                NodeId::Switch(id) if crate::live::is_openflow(topology, *n) => {
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

    fn own_link_miss(self, server: ServerId, rate: BitRate) -> Option<NearMiss> {
        let access = compile::access_path(&self.cx.site.topology, server, 0)?;
        let back: Path = access.iter().rev().map(|h| Hop { link: h.link, down: !h.down }).collect();
        self.net
            .links
            .shortage(&access, rate)
            .or_else(|| self.net.links.shortage(&back, rate))
            .map(|h| self.link_miss(h, rate))
    }

    fn path_miss(self, server: ServerId, edge: SwitchId, rate: BitRate) -> Option<NearMiss> {
        let topology = &self.cx.site.topology;
        let mut miss = None;
        for gateway in self.net.routes.gateways_from(edge) {
            let Some((up, down)) = compile::paths_via(topology, &self.net.routes, server, 0, gateway) else {
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
        compile::paths_via(&self.cx.site.topology, &self.net.routes, server, uplink, gateway)
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

    /// Gives back what [`Core::reserve`] took.
    pub(crate) fn release(&mut self, placement: &Placement, request: &VmRequest) {
        self.cx.dirty.server(placement.server);
        self.compute.inventory.release(placement.server, request.resources);
        self.net.links.release(&placement.path_up, request.resources.net);
        self.net.links.release(&placement.path_down, request.resources.net);
    }
}

fn placement(
    server: ServerId,
    uplink: usize,
    gateway: GatewayId,
    path_up: Path,
    path_down: Path,
) -> Placement {
    Placement { server, uplink: uplink as u32, gateway, path_up, path_down }
}
