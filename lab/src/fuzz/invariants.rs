//! What must hold after every event: cheap, so that it can be looked at every time.

use super::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Dpid, Effect, Event, Hop, Leave, Level, Request, Resources, RuleKey, ServerId, StoreOp, SwitchId, TxnId,
    VmId, VmState,
};

/// After so many calls that led to something, what the core shows is looked at as a whole.
const SAMPLE: u32 = 48;
/// Notices that a snapshot has at most.
const MOST_NOTICES: usize = 200;
/// Migrations and plans that have ended and are remembered: no more than a screen or two.
const MOST_REMEMBERED: usize = 400;
/// Hosts that nobody declared, of which the core remembers no more than this.
const MOST_UNKNOWN: usize = 4096;

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, in plain words; the same words for the same invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
    /// When, since the start.
    pub at: Duration,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:.3} s, against \"{}\": {}", self.at.as_secs_f64(), self.invariant, self.what)
    }
}

/// What the harness writes down of the core's orders to switches.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Transactions without an answer, by switch.
    open: BTreeMap<Dpid, BTreeMap<TxnId, Vec<RuleKey>>>,
    /// Rules that two open transactions of a switch were about.
    pub(super) overlaps: u64,
    /// Syncs without an answer.
    syncs: BTreeMap<Dpid, TxnId>,
    /// What each switch may keep although nobody wants it.
    pub(super) leave: BTreeMap<Dpid, Leave>,
    /// A VM was given a path without room, which is better than none: links may be promised too
    /// much from then on.
    overbooked_links: bool,
    /// A VM that runs already was taken up where it is: its server may be promised too much from
    /// then on.
    overbooked_servers: bool,
    calls: u32,
}

impl Books {
    /// The controller is gone, and all that it waited for.
    pub(super) fn forget_controller(&mut self) {
        self.open.clear();
        self.syncs.clear();
        self.leave.clear();
    }

    /// True while no switch is being changed.
    pub(super) fn is_quiet(&self) -> bool {
        self.open.values().all(BTreeMap::is_empty) && self.syncs.is_empty()
    }

    fn close(&mut self, switch: Dpid, txn: TxnId) {
        if let Some(open) = self.open.get_mut(&switch) {
            open.remove(&txn);
        }
        if self.syncs.get(&switch) == Some(&txn) {
            self.syncs.remove(&switch);
        }
    }

    fn open(&mut self, switch: Dpid, txn: TxnId, keys: Vec<RuleKey>) {
        let open = self.open.entry(switch).or_default();
        if !open.is_empty() {
            let others: BTreeSet<&RuleKey> = open.values().flatten().collect();
            self.overlaps += keys.iter().filter(|k| others.contains(k)).count() as u64;
        }
        open.insert(txn, keys);
    }
}

impl World {
    /// Before an event is told.
    pub(super) fn before(&mut self, event: &Event) {
        match event {
            Event::RulesApplied { switch, txn, .. }
            | Event::RulesRefused { switch, txn, .. }
            | Event::MetadataRefused { switch, txn, .. } => {
                self.books.close(*switch, *txn);
            }
            Event::SwitchDown { switch, .. } => {
                self.books.open.remove(switch);
                self.books.syncs.remove(switch);
            }
            // It takes up what it has from the moment that it is asked for, whether that fits or not.
            Event::Request { request: Request::AdoptVm { .. }, .. } => {
                self.books.overbooked_links = true;
                self.books.overbooked_servers = true;
            }
            _ => {}
        }
    }

    /// After what the core has decided, before it is carried out.
    pub(super) fn after(&mut self, effects: &[Effect]) {
        if effects.is_empty() {
            return;
        }
        let mut touches_vms = false;
        for effect in effects {
            match effect {
                Effect::SyncRules { switch, txn, leave, .. } => {
                    self.books.open.remove(switch);
                    self.books.syncs.insert(*switch, *txn);
                    self.books.leave.insert(*switch, leave.clone());
                }
                Effect::LeaveRules { switch, leave } => {
                    self.books.leave.insert(*switch, leave.clone());
                }
                Effect::ApplyRules { switch, txn, add, remove } => {
                    let keys = add.iter().map(|r| r.key).chain(remove.iter().copied()).collect();
                    self.books.open(*switch, *txn, keys);
                }
                Effect::Store {
                    op:
                        StoreOp::PutVm { .. }
                        | StoreOp::PutVmGroup { .. }
                        | StoreOp::PutMoved { .. }
                        | StoreOp::PutMigration { .. },
                    ..
                } => touches_vms = true,
                Effect::Notice { notice } => self.note_overbooking(&notice.kind, notice.level),
                _ => {}
            }
        }
        if touches_vms {
            self.check_vms();
        }
        self.books.calls += 1;
        // A schedule that is shrunk must fail wherever it fails.
        if self.stops || self.books.calls.is_multiple_of(SAMPLE) {
            self.check_snapshot();
        }
    }

    /// Where a VM is given a path or a place although there is no room, because any is better than
    /// none, limits say nothing any more.
    fn note_overbooking(&mut self, kind: &str, level: Level) {
        // While VMs move, they are not told apart.
        let is_doubtful = level == Level::Warning || self.core.migrations().next().is_some();
        self.books.overbooked_links |= match kind {
            "vm-rerouted" | "path-left" => is_doubtful,
            "vm-adopted" | "group-overbooked" => true,
            _ => false,
        };
        self.books.overbooked_servers |= kind == "vm-adopted";
    }

    /// No address twice, and no two migrations of one VM.
    fn check_vms(&mut self) {
        let mut addresses: BTreeMap<Ipv4Addr, VmId> = BTreeMap::new();
        let mut twice = None;
        for vm in self.core.vms() {
            if let Some(other) = addresses.insert(vm.address, vm.id) {
                twice = Some(format!("{other} and {} both have {}", vm.id, vm.address));
            }
        }
        let mut moving = BTreeSet::new();
        let mut wrong = None;
        for m in self.core.migrations() {
            if !moving.insert(m.vm) {
                wrong = Some(format!("{} has two migrations", m.vm));
            }
            if self.core.vm(m.vm).is_none() {
                wrong = Some(format!("{} is of {}, which is not there", m.id, m.vm));
            }
        }
        if let Some(what) = twice {
            self.violate("no address is given out twice", what);
        }
        if let Some(what) = wrong {
            self.violate("a VM has at most one migration", what);
        }
    }

    /// What the core shows: servers and links within their limits, and nothing that grows without
    /// end.
    pub(super) fn check_snapshot(&mut self) {
        let snapshot = self.core.snapshot();
        for server in snapshot.servers.iter() {
            if !server.capacity.fits(server.used) && !self.books.overbooked_servers {
                let what =
                    format!("{} has {:?}, reserved are {:?}", server.name, server.capacity, server.used);
                return self.violate("no server is filled beyond its limit", what);
            }
        }
        let margin = self.site.policy.link_margin;
        for link in snapshot.links.iter() {
            let most = (link.capacity.0 as f64 * margin) as u64;
            if link.reserved_up.0.max(link.reserved_down.0) > most && !self.books.overbooked_links {
                let what = format!(
                    "{} may carry {most} bit/s, reserved are {} up and {} down",
                    link.name, link.reserved_up, link.reserved_down
                );
                return self.violate("no link is promised beyond its limit", what);
            }
        }
        for n in 0..self.site.topology.switches.len() as u32 {
            let (reserved, most) = self.core.switch_reserved(SwitchId(n));
            if let Some(most) = most.filter(|most| reserved > *most && !self.books.overbooked_links) {
                let name = &self.site.topology.switches[n as usize].name;
                let what = format!("{name} may send {most}, reserved are {reserved}");
                return self.violate("no switch is promised beyond its limit", what);
            }
        }
        let declared = snapshot.servers.len() + snapshot.site.topology.gateways.len() + snapshot.vms.len();
        let sizes = [
            ("notices", snapshot.notices.len(), MOST_NOTICES),
            ("migrations", snapshot.migrations.len(), MOST_REMEMBERED + snapshot.vms.len()),
            ("plans", snapshot.plans.len(), MOST_REMEMBERED),
            ("hosts", snapshot.hosts.len(), declared + MOST_UNKNOWN),
            ("strays", snapshot.strays.len(), self.hypervisors.guests.len() + MOST_REMEMBERED),
        ];
        for (what, is, most) in sizes {
            if is > most {
                let what = format!("{is} {what} are remembered, at most {most} are expected");
                return self.violate("memory is bounded", what);
            }
        }
    }

    /// What is reserved on every hop, by the records of VMs and migrations: for a moment at which
    /// nothing is being given back.
    pub(super) fn recount_links(&mut self) -> BTreeMap<Hop, u64> {
        let mut hops: BTreeMap<Hop, u64> = BTreeMap::new();
        self.recount_pairs(&mut hops);
        for vm in self.core.vms() {
            for hop in vm.path_up.iter().chain(&vm.path_down) {
                *hops.entry(*hop).or_default() += vm.request.resources.net.0;
            }
        }
        hops
    }

    /// The same of servers.
    pub(super) fn recount_servers(&self) -> BTreeMap<ServerId, Resources> {
        let mut servers: BTreeMap<ServerId, Resources> = BTreeMap::new();
        for vm in self.core.vms() {
            let sum = servers.entry(vm.server).or_default();
            *sum = sum.plus(vm.request.resources);
        }
        servers
    }

    /// A VM that should run and be reached.
    pub(super) fn runs(state: &VmState) -> bool {
        *state == VmState::Running
    }
}
