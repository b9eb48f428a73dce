//! Statistics when a request arrives (`[statistics] on_request`): what is known of candidates' switches
//! and is older than it may be is read first, then the request is decided.
//!
//! ```text
//! RequestVm -> nothing is too old ------------------------------------> decided
//!           -> PollNow to each switch --Samples from all, or 2 s later-> decided
//! ```
//! The candidates are the edge switches of servers with room for the VM, and all switches above
//! them: whichever path it gets, what is known of it is fresh. A switch that is away, or does not
//! answer in time, is decided by what there is. Everything comes and goes by events and effects, so
//! a replay decides the same.

use crate::compute::{ComputeMut, ComputeRef};
use crate::network::polling::POLL_TIMEOUT;
use crate::timers::Timer;
use std::collections::BTreeSet;
use tandem_model::{Effect, RequestId, Role, SwitchId, VmRequest};

impl ComputeRef<'_> {
    /// The candidates' switches that are connected and whose readings are too old.
    fn too_old(self, request: &VmRequest) -> BTreeSet<SwitchId> {
        let topology = &self.cx.site.topology;
        let oldest = self.cx.site.statistics.oldest();
        let servers = self.compute.inventory.servers().iter();
        let takes =
            servers.filter(|s| !self.compute.inventory.is_drained(s.id) && s.free().fits(request.resources));
        let edges: BTreeSet<SwitchId> = takes
            .flat_map(|s| {
                let uplinks = topology.server(s.id).map_or(0, |server| server.uplinks.len());
                (0..uplinks).filter_map(move |uplink| topology.edge_of(s.id, uplink))
            })
            .collect();
        if edges.is_empty() {
            // It is refused whatever switches say.
            return BTreeSet::new();
        }
        let is_old = |id: SwitchId| {
            let read = self.net.statistics.read_at(id);
            read.is_none_or(|at| self.cx.now.since(at) > oldest)
        };
        let candidates = (0u32..)
            .zip(&topology.switches)
            .filter(|(n, switch)| switch.role != Role::Edge || edges.contains(&SwitchId(*n)));
        let connected = |id: SwitchId| self.net.live.switch(id).is_some_and(|s| s.connected);
        candidates
            .filter(|(_, switch)| !switch.legacy)
            .map(|(n, _)| SwitchId(n))
            .filter(|id| connected(*id) && is_old(*id))
            .collect()
    }
}

impl ComputeMut<'_> {
    /// A VM is requested: it is decided at once, or when what is too old has been read.
    pub(crate) fn read_and_request_vm(&mut self, id: RequestId, request: VmRequest) {
        let waits = self.cx.site.statistics.on_request && self.compute.world.is_some();
        let too_old = if waits { self.compute().too_old(&request) } else { BTreeSet::new() };
        if too_old.is_empty() {
            return self.request_vm(id, request);
        }
        for switch in &too_old {
            // One that was asked already answers all who wait for it.
            let is_asked = self.compute.readings.requests.values().any(|(_, open)| open.contains(switch));
            if let Some(declared) = self.cx.site.topology.switch(*switch).filter(|_| !is_asked) {
                self.cx.effects.push(Effect::PollNow { switch: declared.dpid });
            }
        }
        self.compute.readings.requests.insert(id, (request, too_old));
        self.cx.timers.set(self.cx.now + POLL_TIMEOUT, Timer::ReadingsTimeout(id));
    }

    /// A switch has been read, or is away: requests that waited for nobody else are decided, in the
    /// order in which they came.
    pub(crate) fn readings_told(&mut self, switch: SwitchId) {
        let mut ready = Vec::new();
        for (id, (_, open)) in &mut self.compute.readings.requests {
            if open.remove(&switch) && open.is_empty() {
                ready.push(*id);
            }
        }
        ready.into_iter().for_each(|id| self.decide(id));
    }

    /// A request has waited long enough.
    pub(crate) fn on_readings_timeout(&mut self, id: RequestId) {
        self.decide(id);
    }

    fn decide(&mut self, id: RequestId) {
        if let Some((request, _)) = self.compute.readings.requests.remove(&id) {
            self.request_vm(id, request);
        }
    }
}
