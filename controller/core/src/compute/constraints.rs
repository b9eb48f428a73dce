//! Where a VM may be, whatever room there is and whatever a policy would prefer: its class's
//! servers, the place that it was asked for, and apart from the VMs of its tag.
//!
//! Every decision on a place goes by this: placement, moves by hand, evacuation, keep-policy and
//! mitigation. A VM that is somewhere already is not driven away: a constraint bars coming, not
//! staying.

use crate::compute::ComputeRef;
use std::collections::BTreeMap;
use tandem_model::{NodeId, OnPlace, ServerId, SpreadLevel, SwitchId, Topology, VmId, VmRecord, VmRequest};

/// What bars servers for one VM, found once for a decision on all of them.
pub(crate) struct Allowed<'a> {
    topology: &'a Topology,
    /// The class's name, and the only servers for it.
    class: Option<(&'a str, &'a [ServerId])>,
    on: Option<OnPlace>,
    /// Servers or edge switches that have a VM of the tag, and which.
    taken: Option<Taken>,
}

struct Taken {
    tag: String,
    places: TakenPlaces,
}

enum TakenPlaces {
    Servers(BTreeMap<ServerId, String>),
    Edges(BTreeMap<SwitchId, String>),
}

impl Allowed<'_> {
    /// Why a VM may not come to a server; `None` when it may.
    pub(crate) fn bars(&self, server: ServerId) -> Option<String> {
        let name = |node| self.topology.name(node);
        if let Some((class, servers)) = self.class
            && servers.binary_search(&server).is_err()
        {
            return Some(format!("class {class} has other servers ([[class]] servers)"));
        }
        match self.on {
            Some(OnPlace::Server(only)) if only != server => {
                return Some(format!("it is kept to {} (--on)", name(NodeId::Server(only))));
            }
            Some(OnPlace::Edge(only)) if self.topology.edge_of(server, 0) != Some(only) => {
                return Some(format!("it is kept to the servers of {} (--on)", name(NodeId::Switch(only))));
            }
            _ => {}
        }
        let Taken { tag, places } = self.taken.as_ref()?;
        let (who, place) = match places {
            TakenPlaces::Servers(servers) => (servers.get(&server)?, NodeId::Server(server)),
            TakenPlaces::Edges(edges) => {
                let edge = self.topology.edge_of(server, 0)?;
                (edges.get(&edge)?, NodeId::Switch(edge))
            }
        };
        Some(format!("{who} is at {}, and VMs of \"{tag}\" are kept apart (--spread)", name(place)))
    }

    fn take(&mut self, server: ServerId, who: impl FnOnce() -> String) {
        match self.taken.as_mut().map(|t| &mut t.places) {
            Some(TakenPlaces::Servers(servers)) => {
                servers.entry(server).or_insert_with(who);
            }
            Some(TakenPlaces::Edges(edges)) => {
                if let Some(edge) = self.topology.edge_of(server, 0) {
                    edges.entry(edge).or_insert_with(who);
                }
            }
            None => {}
        }
    }
}

impl<'a> ComputeRef<'a> {
    /// What bars servers for a request. `but` is the VM that it is of, if it is there already;
    /// `at` says where other VMs are; `before` are VMs of the same request with their servers, who
    /// have no record yet.
    pub(crate) fn allowed(
        self,
        request: &VmRequest,
        but: Option<VmId>,
        at: &dyn Fn(&VmRecord) -> ServerId,
        before: &mut dyn Iterator<Item = (&VmRequest, ServerId)>,
    ) -> Allowed<'a> {
        let site = &self.cx.site;
        let class = site.class(request.class).map(|(_, class)| class).filter(|c| !c.servers.is_empty());
        let spread = request.constraints.spread.as_ref();
        let mut allowed = Allowed {
            topology: &site.topology,
            class: class.map(|c| (c.name.as_str(), c.servers.as_slice())),
            on: request.constraints.on,
            taken: spread.map(|spread| Taken {
                tag: spread.tag.clone(),
                places: match spread.level {
                    SpreadLevel::Server => TakenPlaces::Servers(BTreeMap::new()),
                    SpreadLevel::Edge => TakenPlaces::Edges(BTreeMap::new()),
                },
            }),
        };
        let Some(spread) = spread else { return allowed };
        let same = |r: &VmRequest| r.constraints.spread.as_ref().is_some_and(|s| s.tag == spread.tag);
        for vm in self.vms().filter(|vm| Some(vm.id) != but && same(&vm.request)) {
            let who =
                || vm.request.name.clone().map_or(vm.id.to_string(), |name| format!("{name} ({})", vm.id));
            allowed.take(at(vm), who);
            // One that moves may be at either place in the end.
            if let Some(m) = self.migration_of(vm.id) {
                allowed.take(m.record.from.server, who);
                allowed.take(m.record.to.server, who);
            }
        }
        for (_, server) in before.filter(|(r, _)| same(r)) {
            allowed.take(server, || "another member of the request".to_owned());
        }
        allowed
    }

    /// Why a VM may not be moved to a server; `None` when it may.
    pub(crate) fn barred_move(self, vm: &VmRecord, to: ServerId) -> Option<String> {
        let allowed = self.allowed(&vm.request, Some(vm.id), &|other| other.server, &mut std::iter::empty());
        allowed.bars(to).or_else(|| self.short_for_mates(vm, to))
    }
}
