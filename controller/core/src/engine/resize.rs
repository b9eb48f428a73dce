//! A request for other resources: where the VM is, or, without room there, by a move.

use crate::migration::MigrationMut;
use tandem_model::{NodeId, RequestId, Resources, Response, VmId, VmState};

impl MigrationMut<'_> {
    pub(crate) fn resize_vm(&mut self, request: RequestId, id: VmId, to: Resources) {
        let Some(vm) = self.compute.vms.get(&id) else {
            return self.cx.answer(request, Response::NotFound { what: id.to_string() });
        };
        if vm.record.state != VmState::Running || vm.resizing.is_some() {
            let why =
                format!("{id} is {} or being resized; only a running VM can be resized", vm.record.state);
            return self.cx.answer(request, Response::Conflict { why });
        }
        if let Some(m) = self.compute().migration_of(id) {
            let why = format!("{id} is being moved by {}; resize it when it has arrived", m.record.id);
            return self.cx.answer(request, Response::Conflict { why });
        }
        let before = vm.record.request.resources;
        let (server, up, down) = (vm.record.server, vm.record.path_up.clone(), vm.record.path_down.clone());
        let more = to.minus(before);
        let place = self.cx.site.topology.name(NodeId::Server(server)).to_owned();
        let mut nearest: Vec<tandem_model::NearMiss> = self
            .compute
            .inventory
            .shortage(server, more)
            .into_iter()
            .map(|(resource, needed, available)| tandem_model::NearMiss {
                place: place.clone(),
                resource,
                needed,
                available,
            })
            .collect();
        let short =
            self.net.links.shortage(&up, more.net).or_else(|| self.net.links.shortage(&down, more.net));
        if let Some(hop) = short.filter(|_| more.net.0 > 0) {
            nearest.push(match self.network().link_miss(&self.net.links, hop, more.net) {
                // A link that is down has no room either: what is asked for is room.
                miss if miss.resource == tandem_model::Resource::Path => tandem_model::NearMiss {
                    resource: tandem_model::Resource::Link,
                    needed: more.net.0,
                    ..miss
                },
                miss => miss,
            });
        }
        if !nearest.is_empty() {
            // Where it has room: first there, then it grows.
            let Err(elsewhere) = self.begin_growth(id, request, to) else { return };
            let counts = nearest.iter().map(|m| (m.resource, 1)).collect();
            let summary =
                format!("{place} has no room for {id} to grow; it stays as it is, for {}", elsewhere.summary);
            let rejection = tandem_model::Rejection { summary, counts, nearest };
            return self.cx.answer(request, Response::Rejected { rejection });
        }
        self.compute_mut().resize_where_it_is(id, request, to);
    }
}
