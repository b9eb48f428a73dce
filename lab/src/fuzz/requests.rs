//! What was asked of the controller: everything is answered once, and what was answered is in the
//! store.

use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{GroupId, PersistedState, Request, RequestId, Response, ServerId, Share, VmState};

/// Requests without an answer, and the numbers of those that have one.
#[derive(Debug, Default)]
pub(super) struct Requests {
    last: u64,
    waiting: BTreeMap<RequestId, Request>,
    /// Groups whose deletion was asked for: their creation may be answered after it.
    deleted: BTreeSet<GroupId>,
    answered: BTreeSet<RequestId>,
}

impl Requests {
    /// The number of a new request.
    pub(super) fn ask(&mut self, ask: Request) -> RequestId {
        self.last += 1;
        let id = RequestId(self.last);
        if let Request::DeleteGroup { group } = &ask {
            self.deleted.insert(*group);
        }
        self.waiting.insert(id, ask);
        id
    }

    /// Takes an answer; what was asked.
    ///
    /// # Errors
    /// When it is the second one, or nobody has asked.
    pub(super) fn answer(&mut self, id: RequestId) -> Result<Request, String> {
        match self.waiting.remove(&id) {
            Some(ask) => {
                self.answered.insert(id);
                Ok(ask)
            }
            None if self.answered.contains(&id) => Err(format!("{id} is answered a second time")),
            None => Err(format!("{id} is answered, and nobody has asked")),
        }
    }

    /// The controller is gone: nobody waits any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.answered.clear();
    }

    /// Those that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&RequestId, &Request)> {
        self.waiting.iter()
    }
}

/// Why an answer does not hold after a restart, if it does not; `kept` is what the store has
/// confirmed.
pub(super) fn is_not_durable(ask: &Request, answer: &Response, kept: &PersistedState) -> Option<String> {
    let is_drained = |server: &ServerId| kept.drained.contains(server);
    let vm = |id| kept.vms.iter().find(|v| v.id == id);
    let holds = match (ask, answer) {
        (_, Response::VmRunning { vm: record }) => {
            let running = |s: &VmState| matches!(s, VmState::Running | VmState::Cut { .. });
            vm(record.id).is_some_and(|v| running(&v.state) && v.server == record.server)
        }
        (_, Response::VmGroupRunning { group, vms }) => {
            let running = |s: &VmState| matches!(s, VmState::Running | VmState::Cut { .. });
            let is_there = |r: &tandem_model::VmRecord| vm(r.id).is_some_and(|v| running(&v.state));
            vms.iter().all(is_there) && kept.groups.iter().any(|g| g.id == *group)
        }
        (_, Response::Migrating { migration }) => kept.migrations.iter().any(|m| m.id == *migration),
        (Request::EvacuateServer { server, .. }, Response::Planned { .. }) => is_drained(server),
        (Request::ReturnServer { server }, Response::Done) => !is_drained(server),
        (Request::DeleteVm { vm: id }, Response::Done) => vm(*id).is_none(),
        (Request::DeleteGroup { group }, Response::Done) => !kept.groups.iter().any(|g| g.id == *group),
        (Request::SetShares { shares }, Response::Done) => same(shares, &kept.shares),
        (Request::SetPort { switch, port, up: false }, Response::Done) => {
            kept.ports.iter().any(|p| (p.switch, p.port, p.up) == (*switch, *port, false))
        }
        (Request::SetPort { switch, port, up: true }, Response::Done) => {
            !kept.ports.iter().any(|p| (p.switch, p.port, p.up) == (*switch, *port, false))
        }
        (Request::PinPath { vm: id, .. }, Response::Done) => vm(*id).is_some_and(|v| v.pin.is_some()),
        (Request::UnpinPath { vm: id }, Response::Done) => vm(*id).is_none_or(|v| v.pin.is_none()),
        (Request::ResizeVm { vm: id, resources }, Response::Done) => {
            vm(*id).is_none_or(|v| v.request.resources == *resources)
        }
        _ => true,
    };
    (!holds).then(|| format!("{ask:?} was answered {answer:?}, and the store has not got it"))
}

fn same(a: &[Share], b: &[Share]) -> bool {
    a == b
}
