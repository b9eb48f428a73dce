//! The store as the core sees it: writes that wait together are one transaction, of which all or
//! nothing is kept.

use super::draw::Draw;
use std::collections::BTreeSet;
use std::time::Duration;
use tandem_model::{MigrationRecord, PersistedState, StoreId, StoreOp, Time, VmId};

/// The store as the harness keeps it: what has been written, and what waits.
#[derive(Debug, Clone)]
pub(super) struct Store {
    /// What is on disk.
    pub(super) kept: PersistedState,
    /// Members of groups that were written with all of them.
    pub(super) formed: BTreeSet<VmId>,
    waiting: Vec<(StoreId, StoreOp)>,
    fails: u32,
    slow: Duration,
    /// Planted for a test: deletions of VMs are confirmed and not made.
    pub(super) forgets_deletions: bool,
    draw: Draw,
}

impl Store {
    /// An empty store.
    pub(super) fn new(seed: u64) -> Store {
        Store {
            kept: PersistedState::default(),
            formed: BTreeSet::new(),
            waiting: Vec::new(),
            fails: 0,
            slow: Duration::ZERO,
            forgets_deletions: false,
            draw: Draw::new(seed, 3),
        }
    }

    /// Takes a write. When the store is to be asked to [`Store::commit`], unless it is on its way
    /// already.
    pub(super) fn write(&mut self, id: StoreId, record: StoreOp, now: Time) -> Option<Time> {
        self.waiting.push((id, record));
        (self.waiting.len() == 1).then(|| now + self.draw.micros(100, 4000) + self.slow)
    }

    /// Ends a transaction of all that waits: its writes, and whether they are on disk. Those that
    /// are have still to be [kept](Store::keep), each before the controller is told of it.
    pub(super) fn commit(&mut self) -> (Vec<(StoreId, StoreOp)>, bool) {
        let fails = self.fails > 0;
        self.fails = self.fails.saturating_sub(1);
        (std::mem::take(&mut self.waiting), !fails)
    }

    /// The controller is killed: what waits was just written, or never will be.
    pub(super) fn cut(&mut self, written: bool) {
        let batch = std::mem::take(&mut self.waiting);
        if written {
            batch.iter().for_each(|(_, record)| self.keep(record));
        }
    }

    /// So many transactions fail.
    pub(super) fn fail(&mut self, transactions: u32) {
        self.fails = transactions;
    }

    /// Everything takes so much longer.
    pub(super) fn slow(&mut self, by: Duration) {
        self.slow = by;
    }

    /// Nothing is wrong any more.
    pub(super) fn mend(&mut self) {
        self.fails = 0;
        self.slow = Duration::ZERO;
    }

    /// True while nothing waits to be written.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }

    fn keep_migration(&mut self, migration: &MigrationRecord) {
        self.kept.last_migration = self.kept.last_migration.max(migration.id.0);
        put(&mut self.kept.migrations, migration.clone(), |m| m.id);
    }

    /// A write is on disk.
    pub(super) fn keep(&mut self, record: &StoreOp) {
        let kept = &mut self.kept;
        match record {
            StoreOp::PutVm { vm } => {
                kept.last_vm = kept.last_vm.max(vm.id.0);
                put(&mut kept.vms, (**vm).clone(), |v| v.id);
            }
            StoreOp::RemoveVm { .. } if self.forgets_deletions => {}
            StoreOp::RemoveVm { vm } => kept.vms.retain(|v| v.id != *vm),
            StoreOp::PutGroup { group } => {
                kept.last_group = kept.last_group.max(group.id.0);
                put(&mut kept.groups, group.clone(), |g| g.id);
            }
            StoreOp::RemoveGroup { group } => kept.groups.retain(|g| g.id != *group),
            StoreOp::PutShares { shares } => kept.shares.clone_from(shares),
            StoreOp::PutPort { port } => put(&mut kept.ports, *port, |p| (p.switch, p.port)),
            StoreOp::RemovePort { switch, port } => {
                kept.ports.retain(|p| (p.switch, p.port) != (*switch, *port));
            }
            StoreOp::PutMigration { migration } => self.keep_migration(migration),
            StoreOp::RemoveMigration { migration } => kept.migrations.retain(|m| m.id != *migration),
            StoreOp::PutMoved { vm, migration } => {
                put(&mut kept.vms, (**vm).clone(), |v| v.id);
                self.keep_migration(migration);
            }
            StoreOp::PutDrained { server } => put(&mut kept.drained, *server, |s| *s),
            StoreOp::RemoveDrained { server } => kept.drained.retain(|s| s != server),
            StoreOp::PutVmGroup { group, vms } => {
                kept.last_group = kept.last_group.max(group.id.0);
                put(&mut kept.groups, group.clone(), |g| g.id);
                vms.iter().for_each(|vm| put(&mut kept.vms, vm.clone(), |v| v.id));
                self.formed.extend(group.members.iter().copied());
            }
            StoreOp::TakeBackVmGroup { group, vms } => {
                self.formed.retain(|id| vms.iter().all(|vm| vm.id != *id));
                kept.groups.retain(|g| g.id != *group);
                vms.iter().for_each(|vm| put(&mut kept.vms, vm.clone(), |v| v.id));
            }
            StoreOp::PutAlive { at } => kept.alive_at = Some(*at),
        }
    }
}

/// Writes or replaces, in order of the key, as the store reads it back.
fn put<T, K: Ord>(list: &mut Vec<T>, item: T, key: impl Fn(&T) -> K) {
    match list.binary_search_by(|other| key(other).cmp(&key(&item))) {
        Ok(at) => list[at] = item,
        Err(at) => list.insert(at, item),
    }
}
