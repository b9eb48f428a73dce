//! What ports can do for classes of service, and what their agents count of each class.

use crate::network::agent_ports::ClassCounters;
use crate::network::attachment;
use crate::network::place::Placement;
use crate::rejection::refused;
use crate::rules::qos::portion;
use crate::rules::{RulesMut, RulesRef};
use tandem_model::{
    Hop, NodeId, PortNo, QueueSelection, Rejection, RequestId, Response, Share, SwitchId, VmRecord,
    VmRequest, paths,
};

impl<'a> RulesRef<'a> {
    /// The classes of a port as they are shown.
    pub(crate) fn class_counters(self, switch: SwitchId, port: PortNo) -> Vec<ClassCounters> {
        let whole = self.cx.port_rate(switch, port).unwrap_or_default();
        self.net
            .managed
            .classes(switch, port)
            .zip(self.rules.classes.shares())
            .map(|((sample, rate), share)| ClassCounters {
                sample,
                rate,
                share: if whole.0 == 0 { 0.0 } else { rate.0 as f64 * 100.0 / whole.0 as f64 },
                guaranteed: portion(whole, share.share),
            })
            .collect()
    }
}

impl<'a> RulesRef<'a> {
    /// A way by the switches that a VM is pinned to, with room for it on every link that it is not
    /// on already; by its own uplink first.
    pub(crate) fn pinned_way(self, record: &VmRecord) -> Result<Placement, Rejection> {
        let new = self.network().look_for_pinned_way(record)?;
        self.class_is_kept(&record.request, &new)?;
        Ok(new)
    }
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

    /// A class other than the default one is a promise: every port on the way must be able to keep
    /// it.
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
            let Some(port) = attachment::port_on(topology, node, hop.link) else { continue };
            let why = match self.rules.classes.selection(switch, port) {
                Some(QueueSelection::Queue | QueueSelection::Dscp) => continue,
                // The queues that the packet meets next are the next switch's, which reads its
                // mark.
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
    pub(crate) fn sorts_marks(self, hop: Option<&Hop>) -> bool {
        let topology = &self.cx.site.topology;
        let sorted = |hop: &Hop| {
            let Some(node @ NodeId::Switch(switch)) = paths::tail(topology, *hop) else { return None };
            self.rules.classes.selection(switch, attachment::port_on(topology, node, hop.link)?)
        };
        matches!(hop.and_then(sorted), Some(QueueSelection::Queue | QueueSelection::Dscp))
    }
}

impl RulesMut<'_> {
    pub(crate) fn shares_not_stored(&mut self, before: Vec<Share>, request: RequestId, why: String) {
        self.rules.classes.shares = before;
        self.cx.dirty.switches = true;
        self.cx.answer(request, Response::Failed { why });
    }
}
