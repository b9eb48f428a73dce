//! The path first, level by level from the core downwards, then a server at its end.

use crate::policy::allocation::{AllocationPolicy, Offer, Rank};
use crate::policy::levels::{self, Levels, neighbours};
use crate::policy::view::{PlacementView, ServerView};
use std::collections::BTreeMap;
use tandem_model::{BitRate, GatewayId, Hop, LinkId, NodeId, ServerId, Site, SwitchId, VmRequest, paths};

/// The network-driven placement (Adami et al., IM 2013): a core switch is chosen, then one of its
/// aggregation switches, then one of that one's edge switches, then a server behind it, each by the
/// fit that `[policy.joint]` has for its level (see the module [`levels`]), and only
/// over links and switches with room for the VM. The path is the one that was chosen. Where a level
/// has nothing with room, the next switch of the level above is taken, so that a VM is refused only
/// when no path downwards leads to a server with room. Servers that no such path leads to, as in a
/// site whose switches are all on one level, come last, by the fit of their edge switch, on the path
/// that the routing policy takes.
///
/// A decision costs O(n log n) in the neighbours of the switches on its path, and the servers behind
/// the edge switch; where it has to look further, each switch and each link once for every set of
/// gateways: O(links) at most.
#[derive(Debug, Clone, Default)]
pub struct NetworkDriven {
    levels: Levels,
    /// Switches with a link to a gateway.
    top: Vec<SwitchId>,
    /// Per switch, the servers whose uplinks lead to it.
    behind: Vec<Vec<ServerId>>,
    /// Switches with servers behind them to which no way leads downwards.
    others: Vec<SwitchId>,
}

/// One decision.
struct Descent<'d, 'o> {
    policy: &'d NetworkDriven,
    view: &'d dyn PlacementView,
    need: BitRate,
    request: &'d VmRequest,
    offer: &'d mut Offer<'o>,
    /// From the top to where it is.
    way: Vec<SwitchId>,
    /// Per switch: nothing below it takes the VM, whichever way leads there.
    hopeless: Vec<bool>,
}

fn mark(of: &mut [bool], id: SwitchId) {
    of.get_mut(id.0 as usize).into_iter().for_each(|mark| *mark = true);
}

fn is_marked(of: &[bool], id: SwitchId) -> bool {
    of.get(id.0 as usize).copied().unwrap_or(true)
}

fn gateway(node: NodeId) -> Option<GatewayId> {
    if let NodeId::Gateway(id) = node { Some(id) } else { None }
}

impl Descent<'_, '_> {
    fn has_room(&self, switch: SwitchId) -> bool {
        self.view.switch_left(switch).is_some_and(|left| left.0 / 2 >= self.need.0)
    }

    fn link_has_room(&self, link: LinkId) -> bool {
        let left = |down| self.view.hop(Hop { link, down }).left;
        [true, false].into_iter().all(|down| left(down).is_some_and(|left| left >= self.need))
    }

    /// The gateways to which a switch has a link with room, in order of id.
    fn gateways(&self, of: SwitchId) -> Vec<GatewayId> {
        let hops = paths::hops_from(&self.view.site().topology, NodeId::Switch(of));
        let with_room = hops.filter(|(hop, _)| self.link_has_room(hop.link));
        let mut list: Vec<GatewayId> = with_room.filter_map(|(_, node)| gateway(node)).collect();
        list.sort_unstable();
        list.dedup();
        list
    }

    fn ordered(&self, switches: &[SwitchId]) -> Vec<SwitchId> {
        let load = |id| self.view.switch_load(id);
        self.policy.levels.in_order(&self.view.site().topology, switches, &load)
    }

    /// Tries a switch and all below it; true when a place was taken.
    fn descend(&mut self, switch: SwitchId) -> bool {
        if is_marked(&self.hopeless, switch) || !self.has_room(switch) {
            return false;
        }
        self.way.push(switch);
        let has_found = self.try_servers(switch) || self.try_below(switch);
        self.way.pop();
        if !has_found {
            mark(&mut self.hopeless, switch);
        }
        has_found
    }

    fn try_below(&mut self, switch: SwitchId) -> bool {
        let has_room = |link| self.link_has_room(link);
        let mut below = neighbours(&self.view.site().topology, switch, false, &has_room);
        below.retain(|id| !is_marked(&self.hopeless, *id));
        self.ordered(&below).into_iter().any(|id| self.descend(id))
    }

    fn try_servers(&mut self, edge: SwitchId) -> bool {
        let servers = self.policy.behind.get(edge.0 as usize).map_or(&[][..], Vec::as_slice);
        if servers.is_empty() {
            return false;
        }
        let upwards: Vec<SwitchId> = self.way.iter().rev().copied().collect();
        self.servers_in_order(servers).into_iter().any(|server| (self.offer)(server, &upwards))
    }

    fn servers_in_order(&self, servers: &[ServerId]) -> Vec<ServerId> {
        let views = servers.iter().filter_map(|id| self.view.server(*id));
        let with_room = views.filter(|s: &ServerView| s.free().fits(self.request.resources));
        self.policy.levels.servers(with_room)
    }

    /// Servers that no way downwards has led to.
    fn try_others(&mut self) {
        let policy = self.policy;
        for edge in self.ordered(&policy.others) {
            let servers = policy.behind.get(edge.0 as usize).map_or(&[][..], Vec::as_slice);
            if self.servers_in_order(servers).into_iter().any(|server| (self.offer)(server, &[])) {
                return;
            }
        }
    }
}

impl AllocationPolicy for NetworkDriven {
    fn name(&self) -> &str {
        "network-driven"
    }

    fn configure(&mut self, site: &Site) {
        let topology = &site.topology;
        self.levels = Levels { fits: site.policy.joint, ties: site.policy.ties };
        self.behind = vec![Vec::new(); topology.switches.len()];
        for (n, server) in (0u32..).zip(&topology.servers) {
            for uplink in 0..server.uplinks.len() {
                let edge = topology.edge_of(ServerId(n), uplink);
                let list = edge.and_then(|edge| self.behind.get_mut(edge.0 as usize));
                list.into_iter().filter(|l| l.last() != Some(&ServerId(n))).for_each(|l| l.push(ServerId(n)));
            }
        }
        let switches = (0..topology.switches.len() as u32).map(SwitchId);
        let leads_out = |id: &SwitchId| {
            paths::hops_from(topology, NodeId::Switch(*id)).any(|(_, node)| gateway(node).is_some())
        };
        self.top = switches.clone().filter(leads_out).collect();
        let mut reached = vec![false; topology.switches.len()];
        let mut open = self.top.clone();
        while let Some(id) = open.pop() {
            if !is_marked(&reached, id) {
                mark(&mut reached, id);
                open.extend(neighbours(topology, id, false, &|_| true));
            }
        }
        let has_servers = |id: &SwitchId| self.behind.get(id.0 as usize).is_some_and(|list| !list.is_empty());
        self.others = switches.filter(|id| has_servers(id) && !is_marked(&reached, *id)).collect();
    }

    fn rank(&self, server: &ServerView) -> Rank {
        levels::rank(self.levels.fits.server, server)
    }

    fn choose_with_path(
        &self,
        view: &dyn PlacementView,
        request: &VmRequest,
        offer: &mut Offer<'_>,
    ) -> bool {
        let switches = view.site().topology.switches.len();
        let mut descent = Descent {
            policy: self,
            view,
            need: request.resources.net,
            request,
            offer,
            way: Vec::new(),
            hopeless: Vec::new(),
        };
        // Which gateways a VM may have is the core's to know: what is hopeless by some gateways may
        // not be so by others.
        let mut hopeless: BTreeMap<Vec<GatewayId>, Vec<bool>> = BTreeMap::new();
        for id in descent.ordered(&self.top) {
            let gateways = descent.gateways(id);
            if gateways.is_empty() {
                continue;
            }
            descent.hopeless = hopeless.remove(&gateways).unwrap_or_else(|| vec![false; switches]);
            if descent.descend(id) {
                return true;
            }
            hopeless.insert(gateways, std::mem::take(&mut descent.hopeless));
        }
        descent.try_others();
        true
    }

    fn routing(&self) -> Option<&'static str> {
        Some("by-level")
    }
}
