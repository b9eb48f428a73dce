//! Service classes: who can choose them where, and what they are guaranteed. What they have sent is counted in [`crate::managed`].

use crate::placement::Placement;
use crate::rules::changes::Purpose;
use crate::rules::compile;
use crate::services::{ComputeMut, MigrationMut, RulesMut, RulesRef};
use crate::stored::StoreWait;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::paths;
use tandem_model::{
    BitRate, Dpid, Hop, NodeId, PortNo, QueueSelection, Rejection, RequestId, Response, Share, Site, StoreOp,
    SwitchId, VmId, VmRequest, VmState,
};

/// A class as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassView {
    /// Its name.
    pub name: String,
    /// What it is guaranteed and may have at most.
    #[serde(flatten)]
    pub share: Share,
    /// How its packets are marked.
    pub dscp: u8,
    /// Whoever asks for no class has this one.
    pub default: bool,
}

/// So many percent of a port's rate, down to whole bytes a second: shares of 100% in all never add up to more than the rate.
pub fn portion(rate: BitRate, percent: f64) -> BitRate {
    BitRate((rate.0 as f64 * percent / 100.0) as u64 / 8 * 8)
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Classes {
    shares: Vec<Share>,
    selection: BTreeMap<SwitchId, BTreeMap<PortNo, QueueSelection>>,
    queues: BTreeSet<SwitchId>,
}

impl Classes {
    /// The site's classes; no agent has reported yet.
    pub fn new(site: &Site) -> Classes {
        Classes {
            shares: site.classes.iter().map(|c| Share { share: c.share, ceiling: c.ceiling }).collect(),
            selection: BTreeMap::new(),
            queues: BTreeSet::new(),
        }
    }

    /// The switches whose rules choose queues.
    pub fn queues(&self) -> &BTreeSet<SwitchId> {
        &self.queues
    }

    /// How a class is chosen at a port; `None` while no agent has said anything.
    pub fn selection(&self, switch: SwitchId, port: PortNo) -> Option<QueueSelection> {
        self.selection.get(&switch)?.get(&port).copied()
    }

    /// What classes have now, in their order.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// The same with their names and marks.
    pub fn views(&self, site: &Site) -> Vec<ClassView> {
        let default = site.default_class.map(|d| usize::from(d.0));
        let all = site.classes.iter().zip(&self.shares).enumerate();
        all.map(|(n, (class, share))| ClassView {
            name: class.name.clone(),
            share: *share,
            dscp: class.dscp,
            default: default == Some(n),
        })
        .collect()
    }

    /// Shares that were changed in an earlier run, if the site's classes are still as many.
    pub(crate) fn restore(&mut self, shares: &[Share]) {
        if shares.len() == self.shares.len() {
            self.shares = shares.to_vec();
        }
    }
}

pub(crate) fn refused(summary: String) -> Rejection {
    Rejection { summary, counts: Vec::new(), nearest: Vec::new() }
}

impl<'a> RulesRef<'a> {
    pub(crate) fn class_exists(self, request: &VmRequest) -> Result<(), Rejection> {
        match request.class {
            Some(id) if usize::from(id.0) >= self.cx.site.classes.len() => {
                let names: Vec<&str> = self.cx.site.classes.iter().map(|c| c.name.as_str()).collect();
                let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                Err(refused(format!("there is no class {id}; the site has {there}")))
            }
            _ => Ok(()),
        }
    }

    /// A class other than the default one is a promise: every port on the way must be able to keep it.
    pub(crate) fn class_is_kept<'p>(
        self,
        request: &VmRequest,
        place: &'p Placement,
    ) -> Result<(), Rejection> {
        let Some((_, class)) = self.cx.site.class(request.class) else { return Ok(()) };
        if request.class.is_none() || request.class == self.cx.site.default_class {
            return Ok(());
        }
        let topology = &self.cx.site.topology;
        let hops = |path: &'p [Hop]| (0..).zip(path).map(move |(at, hop)| (path, at, hop));
        for (path, at, hop) in hops(&place.path_up).chain(hops(&place.path_down)) {
            let Some(node @ NodeId::Switch(switch)) = paths::tail(topology, *hop) else { continue };
            let Some(port) = compile::port_on(topology, node, hop.link) else { continue };
            let why = match self.rules.classes.selection(switch, port) {
                Some(QueueSelection::Queue | QueueSelection::Dscp) => continue,
                // The queues that the packet meets next are the next switch's, which reads its mark.
                Some(QueueSelection::Mark | QueueSelection::RateLimiter)
                    if self.sorts_marks(path.get(at + 1)) =>
                {
                    continue;
                }
                Some(QueueSelection::Mark | QueueSelection::RateLimiter) => {
                    "only marks packets, and behind it is no switch that would tell them apart"
                }
                Some(QueueSelection::None) => "can tell no classes apart",
                None => "has no agent that manages its queues (is tandem-agent running there?)",
            };
            let name = topology.name(node);
            return Err(refused(format!("class {} cannot be kept: port {port} of {name} {why}", class.name)));
        }
        Ok(())
    }

    /// True when the switch that sends on this hop tells classes apart by queues or marks.
    fn sorts_marks(self, hop: Option<&Hop>) -> bool {
        let topology = &self.cx.site.topology;
        let sorted = |hop: &Hop| {
            let Some(node @ NodeId::Switch(switch)) = paths::tail(topology, *hop) else { return None };
            self.rules.classes.selection(switch, compile::port_on(topology, node, hop.link)?)
        };
        matches!(hop.and_then(sorted), Some(QueueSelection::Queue | QueueSelection::Dscp))
    }
}

impl MigrationMut<'_> {
    pub(crate) fn on_ports_managed(&mut self, agent: &str, dpid: Dpid, ports: Vec<(PortNo, QueueSelection)>) {
        let Some(id) = self.net.live.id(dpid) else {
            let text = format!("agent {agent} manages switch {dpid}, which is not in the site file");
            return self.cx.notice(tandem_model::Level::Warning, "agent-unknown-switch", text);
        };
        self.net.managed.entrust(id, agent);
        let ports: BTreeMap<PortNo, QueueSelection> = ports.into_iter().collect();
        let by_queue = ports.values().any(|s| *s == QueueSelection::Queue);
        self.rules.classes.selection.insert(id, ports);
        let changed = if by_queue {
            self.rules.classes.queues.insert(id)
        } else {
            self.rules.classes.queues.remove(&id)
        };
        self.cx.dirty.switches = true;
        if changed && !self.cx.site.classes.is_empty() {
            self.mark_anew();
        }
    }

    /// Rules that choose queues, or no longer do.
    fn mark_anew(&mut self) {
        let site = self.cx.site.clone();
        let plan = compile::plan(&site, &self.net.routes, self.rules.classes.queues());
        let (_, differences) = self.rules.desired.replace(tandem_model::Owner::Fabric, plan);
        self.compute_mut().start_change(Purpose::Upkeep, differences, &[]);
        let there: Vec<VmId> = self
            .compute
            .vms
            .iter()
            .filter(|(_, v)| matches!(v.record.state, VmState::Running | VmState::Starting))
            .map(|(id, _)| *id)
            .collect();
        there.into_iter().for_each(|id| self.compute_mut().install(id, Purpose::Upkeep));
        self.compute_mut().serve_strays();
        self.mark_transfers_anew();
        self.compute_mut().refresh_groups();
    }
}

impl ComputeMut<'_> {
    pub(crate) fn set_shares(&mut self, request: RequestId, shares: &[Share]) {
        let total: f64 = shares.iter().map(|s| s.share).sum();
        let sane = |s: &Share| s.share > 0.0 && s.share <= s.ceiling && s.ceiling <= 100.0;
        let why = if shares.len() != self.rules.classes.shares.len() {
            Some(format!("the site has {} classes; write a share for each", self.rules.classes.shares.len()))
        } else if !shares.iter().all(sane) {
            Some("a share is more than 0 and at most its ceiling, a ceiling at most 100 (percent)".into())
        } else if total > 100.000_001 {
            Some(format!("the shares add up to {total}%; 100% is all there is"))
        } else {
            None
        };
        if let Some(why) = why {
            return self.cx.answer(request, Response::Rejected { rejection: refused(why) });
        }
        let before = std::mem::replace(&mut self.rules.classes.shares, shares.to_vec());
        self.cx.dirty.switches = true;
        self.store(StoreOp::PutShares { shares: shares.to_vec() }, StoreWait::Shares(before, request));
    }
}

impl RulesMut<'_> {
    pub(crate) fn shares_not_stored(&mut self, before: Vec<Share>, request: RequestId, why: String) {
        self.rules.classes.shares = before;
        self.cx.dirty.switches = true;
        self.cx.answer(request, Response::Failed { why });
    }
}
