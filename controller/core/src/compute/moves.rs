//! A migration as the core keeps it: its record, what it waits for, and what it holds.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use tandem_model::{
    BitRate, Bytes, Hop, MigrationEnd, MigrationId, MigrationRecord, Phase, Place, Progress, RequestId,
    Resources, ServerId, Time, VmId, VmRecord,
};

/// A migration that is under way, or one of the last that have ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MigrationView {
    /// What is being done.
    #[serde(flatten)]
    pub record: MigrationRecord,
    /// How far the transfer is; `None` before it began.
    pub progress: Option<Progress>,
    /// When and how it ended; `None` while it is under way.
    pub ended: Option<(Time, MigrationEnd)>,
}

/// So many that have ended are remembered.
pub(crate) const REMEMBERED: usize = 50;

/// Which places of a VM that moves have their rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActivePlaces {
    /// The old one only.
    Old,
    /// Both.
    Both,
    /// The new one only.
    New,
}

/// What a migration has taken on top of what its VM has reserved itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct HeldResources {
    pub(crate) servers: Vec<(ServerId, Resources)>,
    pub(crate) hops: Vec<(Hop, BitRate)>,
}

/// What is seen of a transfer's rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rounds {
    /// The round that it is in.
    pub(crate) round: u32,
    /// What was to be sent when it began.
    pub(crate) to_send: Bytes,
    /// Rounds in a row that did not get smaller.
    pub(crate) stuck: u32,
}

/// A migration that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Migration {
    pub(crate) record: MigrationRecord,
    pub(crate) progress: Option<Progress>,
    /// When it last got on.
    pub(crate) last_progress_at: Time,
    pub(crate) rounds: Rounds,
    pub(crate) reach: ActivePlaces,
    pub(crate) held: HeldResources,
    /// The rate that is reserved on the path of its own traffic.
    pub(crate) reserved: BitRate,
    /// The rate that it had before it yielded to one of higher priority.
    pub(crate) yielded: Option<BitRate>,
    /// Changes of rules that the phase waits for.
    pub(crate) waiting: u32,
    /// The hypervisors were asked, and have not said how it ended.
    pub(crate) ordered: bool,
    /// Its rules and reservations are gone; the store is still to forget it.
    pub(crate) settled: bool,
    /// Who is answered when it is in the store.
    pub(crate) requester: Option<RequestId>,
    /// Who wants it cancelled.
    pub(crate) cancellers: Vec<RequestId>,
    /// The VM is to be given this where it goes, for somebody who waits for that.
    pub(crate) grow: Option<(RequestId, Resources)>,
    /// Why it is undone.
    pub(crate) why: Option<String>,
    /// The VM was lost on the way.
    pub(crate) lost: bool,
    /// By which uplink of the new server the hypervisors were told to attach it.
    pub(crate) uplink: u32,
    pub(crate) downtime: Option<std::time::Duration>,
}

impl Migration {
    pub(crate) fn new(record: MigrationRecord, now: Time) -> Migration {
        Migration {
            record,
            progress: None,
            last_progress_at: now,
            rounds: Rounds::default(),
            reach: ActivePlaces::Old,
            held: HeldResources::default(),
            reserved: BitRate(0),
            yielded: None,
            waiting: 0,
            ordered: false,
            settled: false,
            requester: None,
            cancellers: Vec::new(),
            grow: None,
            why: None,
            lost: false,
            uplink: 0,
            downtime: None,
        }
    }

    /// What its VM needs at the new place: it comes with what it has, and may grow there in one
    /// resource while it shrinks in another.
    pub(crate) fn size_at_new_place(&self, vm: &VmRecord) -> Resources {
        let has = vm.request.resources;
        self.grow.map_or(has, |(_, wanted)| wanted.max(has))
    }

    /// The VM is taken to be at the new place: it is paused or runs there.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.record.phase, Phase::SwitchOver | Phase::Confirm | Phase::Release)
    }
}

/// All migrations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Migrations {
    pub(crate) open: BTreeMap<MigrationId, Migration>,
    pub(crate) by_vm: BTreeMap<VmId, MigrationId>,
    /// Latest last.
    pub(crate) ended: VecDeque<MigrationView>,
    pub(crate) last: u64,
}

impl Migrations {
    pub(crate) fn insert(&mut self, migration: Migration) {
        self.by_vm.insert(migration.record.vm, migration.record.id);
        self.open.insert(migration.record.id, migration);
    }

    pub(crate) fn remove(&mut self, id: MigrationId) -> Option<Migration> {
        let gone = self.open.remove(&id)?;
        self.by_vm.remove(&gone.record.vm);
        Some(gone)
    }

    /// Those under way in order of id, then those that have ended, latest first.
    pub(crate) fn views(&self) -> Vec<MigrationView> {
        let open = self.open.values().map(|m| MigrationView {
            record: m.record.clone(),
            progress: m.progress,
            ended: None,
        });
        open.chain(self.ended.iter().rev().cloned()).collect()
    }
}

/// A VM as it is at a place.
pub(crate) fn at(vm: &VmRecord, place: &Place) -> VmRecord {
    VmRecord {
        server: place.server,
        uplink: place.uplink,
        gateway: place.gateway,
        path_up: place.path_up.clone(),
        path_down: place.path_down.clone(),
        ..vm.clone()
    }
}
