//! The live topology: which switches, ports and links of the declared site are really there, and
//! what is there that the site does not know.
//!
//! Port states count at once. Discovery (LLDP, seen by the drivers) confirms links between OpenFlow
//! switches; a link that both ends should show and none does is missing. A legacy switch does not
//! pass LLDP on, so its silence is no fault: its links count as declared while the OpenFlow ports
//! at them are up.

use crate::network::links::{LinkState, LinkTable};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{
    Dpid, Endpoint, Hop, LinkId, NodeId, PortInfo, PortNo, SwitchCaps, SwitchId, Time, Topology, TxnId,
};

/// Whether a switch has the rules that it should have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// It was never asked.
    #[default]
    Never,
    /// It was told all its rules when it connected, and has not confirmed them yet.
    UnderWay,
    /// It has confirmed them.
    Done,
    /// It refused some. The audit, which goes on, tries again.
    Refused,
}

/// One switch, alive or not.
#[derive(Debug, Clone, Default)]
pub struct LiveSwitch {
    /// Connected, handshake done.
    pub connected: bool,
    /// True from the moment that it was away for longer than the grace time (or never came), until
    /// it is back.
    pub dead: bool,
    /// Whether it has its rules, and the transaction that they came with.
    pub sync: (Sync, Option<TxnId>),
    /// It has refused rules that are still wanted, and was sent all of them since.
    pub(crate) resyncs: bool,
    /// Before this time it is not sent all of them for that reason again.
    pub(crate) resync_after: Time,
    /// When it came or went last.
    pub since: Time,
    /// What it can do; `None` until it connected once.
    pub caps: Option<SwitchCaps>,
    /// Its ports, as it told them.
    pub ports: BTreeMap<PortNo, PortInfo>,
    /// How many it may have before what it says of further ones is ignored.
    pub(crate) most_ports: usize,
}

/// What discovery found that the site does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WiringMismatch {
    /// A declared port leads to another port than declared.
    Miswired {
        /// The declared link that is not there.
        link: LinkId,
        /// Where the cable really starts.
        from: (Dpid, PortNo),
        /// Where it really ends.
        to: (Dpid, PortNo),
    },
    /// Neither port is declared.
    Unknown {
        /// One end.
        from: (Dpid, PortNo),
        /// The other end.
        to: (Dpid, PortNo),
    },
}

/// Unknown switches that are said, each once: more than a site has switches.
pub(crate) const MOST_SAID: usize = 1024;

/// Which switches are connected, and which links and ports are up.
#[derive(Debug, Clone)]
pub struct LiveTopology {
    pub(crate) switches: Vec<LiveSwitch>,
    pub(crate) by_dpid: BTreeMap<Dpid, SwitchId>,
    /// Connected switches that the site does not know.
    pub(crate) unknown: BTreeMap<Dpid, SwitchCaps>,
    /// Those of them that were said: one that comes back all the time is not said again.
    pub(crate) said: BTreeSet<Dpid>,
    /// Per link and direction (0 up, 1 down): when discovery saw it last.
    pub(crate) seen: Vec<[Option<Time>; 2]>,
    /// Per link: when it came up last.
    pub(crate) up_since: Vec<Time>,
    /// What is wired otherwise, by sending port, and when it was seen last.
    pub(crate) surprises: BTreeMap<(Dpid, PortNo), (WiringMismatch, Time)>,
}

impl LiveTopology {
    /// Nothing is there yet.
    pub fn new(topology: &Topology, now: Time) -> LiveTopology {
        LiveTopology {
            switches: topology
                .switches
                .iter()
                .map(|_| LiveSwitch { since: now, ..LiveSwitch::default() })
                .collect(),
            by_dpid: (0u32..)
                .zip(&topology.switches)
                .filter(|(_, s)| !s.legacy)
                .map(|(n, s)| (s.dpid, SwitchId(n)))
                .collect(),
            unknown: BTreeMap::new(),
            said: BTreeSet::new(),
            seen: vec![[None; 2]; topology.links.len()],
            up_since: vec![now; topology.links.len()],
            surprises: BTreeMap::new(),
        }
    }

    /// The declared OpenFlow switch with that datapath id.
    pub fn id(&self, dpid: Dpid) -> Option<SwitchId> {
        self.by_dpid.get(&dpid).copied()
    }

    /// A switch's state.
    pub fn switch(&self, id: SwitchId) -> Option<&LiveSwitch> {
        self.switches.get(id.0 as usize)
    }

    /// A switch's state, to change.
    pub(crate) fn switch_mut(&mut self, id: SwitchId) -> Option<&mut LiveSwitch> {
        self.switches.get_mut(id.0 as usize)
    }

    /// Connected switches that the site does not know.
    pub fn unknown(&self) -> &BTreeMap<Dpid, SwitchCaps> {
        &self.unknown
    }

    /// True the first time that an unknown switch comes; never again once [`MOST_SAID`] were said,
    /// because ids can be invented.
    pub(crate) fn is_to_be_said(&mut self, dpid: Dpid) -> bool {
        self.said.len() < MOST_SAID && self.said.insert(dpid)
    }

    pub(crate) fn unknown_mut(&mut self) -> &mut BTreeMap<Dpid, SwitchCaps> {
        &mut self.unknown
    }

    /// What is wired otherwise than declared.
    pub fn surprises(&self) -> impl Iterator<Item = WiringMismatch> + '_ {
        self.surprises.values().map(|(s, _)| *s)
    }

    /// A discovery frame from one port was seen at another. Returns the declared link it confirms,
    /// or a surprise that was not known yet.
    pub fn link_seen(
        &mut self,
        topology: &Topology,
        from: (Dpid, PortNo),
        to: (Dpid, PortNo),
        now: Time,
    ) -> (Option<LinkId>, Option<WiringMismatch>) {
        let end =
            |(dpid, port): (Dpid, PortNo)| self.id(dpid).map(|s| Endpoint { node: NodeId::Switch(s), port });
        let (Some(a), Some(b)) = (end(from), end(to)) else {
            return (None, self.surprise(WiringMismatch::Unknown { from, to }, from, now));
        };
        let declared = topology.link_at(a.node, a.port);
        let other = declared.and_then(|l| topology.link(l)?.other(a.node));
        match (declared, other) {
            (Some(link), Some(other)) if other == b => {
                let down = topology.link(link).is_some_and(|l| l.a == a);
                if let Some(seen) = self.seen.get_mut(link.0 as usize) {
                    seen[usize::from(down)] = Some(now);
                }
                self.surprises.remove(&from);
                (Some(link), None)
            }
            (Some(_), Some(other)) if through_legacy(topology, other.node, b.node) => (None, None),
            (Some(link), _) => (None, self.surprise(WiringMismatch::Miswired { link, from, to }, from, now)),
            (None, _) => match topology.link_at(b.node, b.port) {
                Some(link) => (None, self.surprise(WiringMismatch::Miswired { link, from, to }, from, now)),
                None => (None, self.surprise(WiringMismatch::Unknown { from, to }, from, now)),
            },
        }
    }

    pub(crate) fn surprise(
        &mut self,
        surprise: WiringMismatch,
        from: (Dpid, PortNo),
        now: Time,
    ) -> Option<WiringMismatch> {
        let known = self.surprises.insert(from, (surprise, now)).is_some_and(|(s, _)| s == surprise);
        (!known).then_some(surprise)
    }

    /// Forgets surprises that were not seen since `before`.
    pub(crate) fn forget_surprises(&mut self, before: Time) {
        self.surprises.retain(|_, (_, seen)| *seen >= before);
    }

    /// When discovery saw a link last, in the direction seen longest ago of those that were ever
    /// seen.
    pub fn last_seen(&self, link: LinkId) -> Option<Time> {
        let [up, down] = self.seen.get(link.0 as usize).copied()?;
        up.max(down)
    }

    /// A link came up (again): what was seen before does not speak for it, and discovery gets its
    /// time.
    pub(crate) fn came_up(&mut self, link: LinkId, now: Time) {
        if let (Some(seen), Some(since)) =
            (self.seen.get_mut(link.0 as usize), self.up_since.get_mut(link.0 as usize))
        {
            (*seen, *since) = ([None; 2], now);
        }
    }

    /// True when discovery can and should show this link: both ends are OpenFlow switches.
    pub fn is_discoverable(topology: &Topology, link: LinkId) -> bool {
        topology
            .link(link)
            .is_some_and(|l| [l.a.node, l.b.node].into_iter().all(|n| is_openflow(topology, n)))
    }

    /// True when a port of an OpenFlow switch is there and up, or the node is something whose ports
    /// nobody reports.
    pub(crate) fn end_is_up(&self, topology: &Topology, end: Endpoint) -> Option<bool> {
        let NodeId::Switch(id) = end.node else { return None };
        if !is_openflow(topology, end.node) {
            return None;
        }
        let switch = self.switch(id)?;
        if switch.dead {
            return Some(false);
        }
        // A switch that has not come yet, or is away for a moment, is taken to be as declared.
        switch.caps.as_ref()?;
        Some(switch.ports.get(&end.port).is_some_and(|p| p.up))
    }

    /// What a link's state is now. `timeout` is how long a discoverable link may go unseen; `None`
    /// where discovery is off.
    pub fn link_state(
        &self,
        topology: &Topology,
        links: &LinkTable,
        id: LinkId,
        timeout: Option<std::time::Duration>,
        now: Time,
    ) -> LinkState {
        let Some(link) = topology.link(id) else { return LinkState::Down };
        let ends = [self.end_is_up(topology, link.a), self.end_is_up(topology, link.b)];
        if ends.contains(&Some(false)) {
            return LinkState::Down;
        }
        let Some(timeout) = timeout else { return LinkState::Declared };
        if !Self::is_discoverable(topology, id) {
            let host = [link.a.node, link.b.node].iter().any(|n| !matches!(n, NodeId::Switch(_)));
            return if host && ends.contains(&Some(true)) {
                LinkState::Confirmed
            } else {
                LinkState::Declared
            };
        }
        if ends != [Some(true), Some(true)] || !self.both_connected(link.a.node, link.b.node) {
            // Nobody looks: keep what is known.
            return match links.state(id) {
                LinkState::Down => LinkState::Declared,
                known => known,
            };
        }
        if links.state(id) == LinkState::Down {
            return LinkState::Declared;
        }
        let up_since = self.up_since.get(id.0 as usize).copied().unwrap_or(now);
        let watched_since = up_since.max(self.both_since(link.a.node, link.b.node));
        let seen = self.last_seen(id);
        if seen.is_some_and(|seen| now.since(seen) < timeout) {
            return LinkState::Confirmed;
        }
        // Silence counts only from when somebody listens: while a switch was away, nothing could be
        // seen.
        let silent_since = seen.map_or(watched_since, |seen| seen.max(watched_since));
        if now.since(silent_since) < timeout { links.state(id) } else { LinkState::Missing }
    }

    pub(crate) fn both_connected(&self, a: NodeId, b: NodeId) -> bool {
        [a, b].into_iter().all(|n| match n {
            NodeId::Switch(id) => self.switch(id).is_some_and(|s| s.connected),
            _ => true,
        })
    }

    /// Since when both switches are connected.
    pub(crate) fn both_since(&self, a: NodeId, b: NodeId) -> Time {
        let since = |n: NodeId| match n {
            NodeId::Switch(id) => self.switch(id).map_or(Time::ZERO, |s| s.since),
            _ => Time::ZERO,
        };
        since(a).max(since(b))
    }

    /// True when every OpenFlow switch on the path is connected.
    pub fn path_is_attended(&self, links: &LinkTable, path: &[Hop]) -> bool {
        let mut switches = path.iter().flat_map(|hop| links.switches(hop.link));
        switches.all(|id| self.switch(id).is_some_and(|s| s.connected))
    }
}

/// True for a switch that speaks OpenFlow.
pub fn is_openflow(topology: &Topology, node: NodeId) -> bool {
    matches!(node, NodeId::Switch(id) if topology.switch(id).is_some_and(|s| !s.legacy))
}

/// True when `from` is a legacy switch and `to` is reached from it over legacy switches only.
pub(crate) fn through_legacy(topology: &Topology, from: NodeId, to: NodeId) -> bool {
    if is_openflow(topology, from) || !matches!(from, NodeId::Switch(_)) {
        return false;
    }
    let mut seen = vec![from];
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for (_, next) in tandem_model::paths::hops_from(topology, node) {
            if next == to {
                return true;
            }
            if matches!(next, NodeId::Switch(_)) && !is_openflow(topology, next) && !seen.contains(&next) {
                seen.push(next);
                open.push(next);
            }
        }
    }
    false
}

/// The datapath id of a switch that can be asked now.
pub(crate) fn connected(live: &LiveTopology, topology: &Topology, switch: SwitchId) -> Option<Dpid> {
    live.switch(switch).filter(|s| s.connected)?;
    topology.switch(switch).map(|s| s.dpid)
}
