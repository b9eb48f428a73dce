//! Paths by the switches that an operator has chosen.

use crate::network::NetworkRef;
use crate::network::path_tree::reversed;
use crate::network::place::Placement;
use std::collections::BTreeMap;
use tandem_model::paths::Path;
use tandem_model::{BitRate, Hop, NearMiss, NodeId, Rejection, Resource, SwitchId, VmRecord, paths};

/// True when `wanted` are among `nodes` in that order.
pub(crate) fn in_order(nodes: &[NodeId], wanted: impl Iterator<Item = SwitchId>) -> bool {
    let mut rest = nodes.iter();
    let mut wanted = wanted;
    wanted.all(|s| rest.any(|n| *n == NodeId::Switch(s)))
}

/// True while a VM's path, both ways, goes by the switches that it is pinned to (or it is pinned to
/// none).
pub(crate) fn keeps_pin(topology: &tandem_model::Topology, record: &VmRecord) -> bool {
    let Some(via) = &record.pin else { return true };
    let up = paths::nodes(topology, NodeId::Server(record.server), &record.path_up);
    let down = paths::nodes(topology, NodeId::Gateway(record.gateway), &record.path_down);
    in_order(&up, via.iter().copied()) && in_order(&down, via.iter().rev().copied())
}

impl<'a> NetworkRef<'a> {
    pub(crate) fn look_for_pinned_way(self, record: &VmRecord) -> Result<Placement, Rejection> {
        let (server, gateway) = (record.server, record.gateway);
        let count = self.cx.site.topology.server(server).map_or(0, |s| s.uplinks.len()) as u32;
        let others = (0..count).filter(|u| *u != record.uplink);
        let mut nearest = Vec::new();
        for uplink in std::iter::once(record.uplink).chain(others) {
            match self.by_way_of(record, uplink) {
                Ok(up) => {
                    let path_down = reversed(&up);
                    return Ok(Placement { server, uplink, gateway, path_up: up, path_down });
                }
                Err(miss) if nearest.contains(&miss) => {}
                Err(miss) => nearest.push(miss),
            }
        }
        let counts = nearest.iter().fold(BTreeMap::<Resource, u32>::new(), |mut all, miss| {
            *all.entry(miss.resource).or_default() += 1;
            all
        });
        let short: Vec<String> = counts.keys().map(ToString::to_string).collect();
        let summary = format!(
            "{}'s path cannot go by {}: short of {}",
            record.id,
            self.cx.pin_names(record),
            short.join(", ")
        );
        Err(Rejection { summary, counts: counts.into_iter().collect(), nearest })
    }

    /// A path by some switches in their order, on which every link has room both ways; or the first
    /// link that has none, or the first stop that cannot be reached at all.
    pub(crate) fn by_way_of(self, record: &VmRecord, uplink: u32) -> Result<Path, NearMiss> {
        let rate = record.request.resources.net;
        let with_room = self.walk(record, uplink, rate);
        // A detour around a full link may be where there is no way on: then the shortest way says
        // which link it was.
        let path = match with_room.or_else(|_| self.walk(record, uplink, BitRate(0))) {
            Ok(path) => path,
            Err(stop) => {
                let place = self.cx.site.topology.name(stop).to_owned();
                return Err(NearMiss { place, resource: Resource::Path, needed: 1, available: 0 });
            }
        };
        let full = |hop: &&Hop| self.room(record, **hop).is_none_or(|left| left < rate);
        let back = reversed(&path);
        let short = path.iter().chain(&back).find(full).copied();
        short.map_or(Ok(path), |hop| Err(self.link_miss(&self.net.links, hop, rate)))
    }

    /// What a hop has left for a VM. Where the VM is already, it has its room: what is measured
    /// there is its own traffic too.
    pub(crate) fn room(self, record: &VmRecord, hop: Hop) -> Option<BitRate> {
        let left = self.net.links.residual(hop)?;
        let has = record.path_up.contains(&hop) || record.path_down.contains(&hop);
        Some(if has { left.max(record.request.resources.net) } else { left })
    }

    /// From stop to stop by the shortest way, without passing anything twice; the stop that cannot
    /// be reached.
    pub(crate) fn walk(self, record: &VmRecord, uplink: u32, rate: BitRate) -> Result<Path, NodeId> {
        let topology = &self.cx.site.topology;
        let via = record.pin.iter().flatten().map(|s| NodeId::Switch(*s));
        let stops: Vec<NodeId> = via.chain([NodeId::Gateway(record.gateway)]).collect();
        let start = NodeId::Server(record.server);
        let own = topology.server(record.server).and_then(|s| s.uplinks.get(uplink as usize)).copied();
        let (mut path, mut passed) = (Path::new(), vec![start]);
        for (n, stop) in stops.iter().enumerate() {
            let from = passed.last().copied().unwrap_or(start);
            let residual = |hop: Hop| {
                let (tail, head) = (paths::tail(topology, hop)?, paths::head(topology, hop)?);
                let elsewhere = tail == start && Some(hop.link) != own;
                let again = passed.contains(&head) || stops[n + 1..].contains(&head);
                if elsewhere || again || !self.net.live.path_is_attended(&self.net.links, &[hop]) {
                    return None;
                }
                let back = Hop { link: hop.link, down: !hop.down };
                Some(self.room(record, hop)?.min(self.room(record, back)?))
            };
            let part = paths::by_residual(topology, from, *stop, rate, residual).ok_or(*stop)?;
            passed.extend(part.iter().filter_map(|hop| paths::head(topology, *hop)));
            path.extend(part);
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_found_in_their_order_only() {
        let nodes: Vec<NodeId> = [3, 1, 2].into_iter().map(|n| NodeId::Switch(SwitchId(n))).collect();
        let has = |wanted: &[u32]| in_order(&nodes, wanted.iter().map(|n| SwitchId(*n)));
        assert!(has(&[]) && has(&[1]) && has(&[3, 2]) && has(&[3, 1, 2]));
        assert!(!has(&[2, 1]) && !has(&[4]) && !has(&[3, 3]));
    }
}
