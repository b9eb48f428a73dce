//! VMs that move: pre-copy in virtual time.
//!
//! Memory is sent in rounds, over a flow on the migration's own path that shares its links with everything else; every round leaves what
//! was written anew meanwhile. With a rate that does not change this takes exactly what `tandem_core::migration::precopy` predicts. An order
//! may be repeated: what is under way goes on, and what has ended is told as it ended. Failures are drawn from a seed.

use super::{Deed, Simulation};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_core::migration::precopy;
use tandem_model::{
    BitRate, Bytes, Event, Hop, MigrationId, MigrationMode, Progress, ServerId, Time, TrafficId, Transport,
    VmId, VmSpec,
};

/// How often transfers go wrong, as shares from 0 to 1 of all; the rest goes well.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// They break off, and the VM stays where it was.
    pub fail: f64,
    /// They stop without a word, and only a cancel ends them.
    pub hang: f64,
    /// The VM itself is lost.
    pub lose: f64,
}

/// What goes wrong with one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Fail,
    Hang,
    Lose,
}

/// An order, as the core gives it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) migration: MigrationId,
    pub(super) vm: VmId,
    pub(super) from: ServerId,
    pub(super) to: ServerId,
    pub(super) manner: MigrationMode,
    pub(super) spec: VmSpec,
    pub(super) rate: BitRate,
    pub(super) downtime: Duration,
    pub(super) rounds: u32,
}

#[derive(Debug)]
pub(super) struct Transfer {
    order: Order,
    began: Time,
    round: u32,
    /// When this round began, and bits times 10^9 of it that were left when the rate changed last.
    round_at: Time,
    left: u128,
    rate: u64,
    since: Time,
    /// Bytes of the rounds before.
    sent: u64,
    round_bytes: u64,
    paused_at: Option<Time>,
    hangs: bool,
    /// Which of its timers still counts.
    epoch: u32,
}

const BIT_NANOS: u128 = 8_000_000_000;

impl Transfer {
    /// Counts up to `now`.
    fn settle(&mut self, now: Time) {
        let done = u128::from(self.rate) * now.since(self.since).as_nanos();
        self.left = self.left.saturating_sub(done);
        self.since = now;
    }

    #[cfg(test)]
    pub(super) fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    fn progress(&self, now: Time, dirty: BitRate) -> Progress {
        let gone = u128::from(self.rate) * now.since(self.since).as_nanos();
        let left = (self.left.saturating_sub(gone).div_ceil(BIT_NANOS) as u64).min(self.round_bytes);
        Progress {
            round: self.round,
            sent: Bytes(self.sent + self.round_bytes - left),
            remaining: Bytes(left),
            rate: BitRate(self.rate),
            dirty,
        }
    }
}

/// Numbers since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Transfers begun.
    pub begun: u64,
    /// VMs that came to run elsewhere.
    pub moved: u64,
    /// Transfers that failed or were cancelled.
    pub failed: u64,
    /// Bytes that transfers have sent, also those that failed.
    pub bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Moves {
    pub(super) transfers: BTreeMap<MigrationId, Transfer>,
    /// How those ended that the core may still ask about.
    pub(super) ended: BTreeMap<MigrationId, Event>,
    /// The ways of the migrations' own traffic, as the core has written them down.
    paths: BTreeMap<MigrationId, Vec<Hop>>,
    by_vm: BTreeMap<VmId, MigrationId>,
    faults: Faults,
    random: ChaCha8Rng,
    pub(super) moved: Moved,
}

/// A migration's traffic among the flows: beside those of VMs.
fn flow(migration: MigrationId) -> TrafficId {
    TrafficId(1 << 63 | migration.0)
}

impl Moves {
    pub(super) fn new() -> Moves {
        Moves {
            transfers: BTreeMap::new(),
            ended: BTreeMap::new(),
            paths: BTreeMap::new(),
            by_vm: BTreeMap::new(),
            faults: Faults::default(),
            random: ChaCha8Rng::seed_from_u64(0),
            moved: Moved::default(),
        }
    }

    pub(super) fn set_faults(&mut self, faults: Faults, seed: u64) {
        (self.faults, self.random) = (faults, ChaCha8Rng::seed_from_u64(seed));
    }

    /// The core has written down where a migration's traffic goes.
    pub(super) fn path(&mut self, migration: MigrationId, path: Vec<Hop>) {
        self.paths.insert(migration, path);
    }

    /// The core has forgotten a migration: it will not ask again.
    pub(super) fn forget(&mut self, migration: MigrationId) {
        self.paths.remove(&migration);
        self.ended.remove(&migration);
    }

    /// Transfers under way: the VM, and from where to where.
    pub(super) fn under_way(&self) -> impl Iterator<Item = (VmId, ServerId, ServerId)> {
        self.transfers.values().map(|t| (t.order.vm, t.order.from, t.order.to))
    }

    /// A number from 0 to below 1.
    fn draw(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn draw_fault(&mut self) -> Option<Fault> {
        let (drawn, faults) = (self.draw(), self.faults);
        if drawn < faults.fail {
            Some(Fault::Fail)
        } else if drawn < faults.fail + faults.hang {
            Some(Fault::Hang)
        } else {
            (drawn < faults.fail + faults.hang + faults.lose).then_some(Fault::Lose)
        }
    }
}

impl Simulation {
    pub(super) fn migrate(&mut self, order: Order) {
        let id = order.migration;
        if self.moves.transfers.contains_key(&id) {
            return;
        }
        if let Some(ended) = self.moves.ended.get(&id).cloned() {
            return self.later(self.delays.packet, ended);
        }
        let at = self.vms.get(&order.vm).map(|(server, _)| *server);
        if at == Some(order.to) {
            return self.later(self.delays.packet, Event::VmMoved { migration: id, downtime: None });
        }
        let busy = self.moves.by_vm.get(&order.vm);
        if at != Some(order.from) || busy.is_some() {
            let why = busy.map_or_else(
                || format!("{} does not run on {}", order.vm, order.from),
                |other| format!("{} is being moved already, as {other}", order.vm),
            );
            return self.later(self.delays.packet, Event::MigrationFailed { migration: id, at, why });
        }
        let mut bytes = order.spec.resources.ram;
        if order.manner == MigrationMode::Cold {
            bytes = Bytes(bytes.0.saturating_add(order.spec.resources.disk.0));
        }
        let dirty = self.dirty(order.vm);
        if let Some(fault) = self.moves.draw_fault() {
            let whole = precopy::predict(bytes, order.rate, dirty, order.downtime, order.rounds)
                .duration
                .as_secs_f64();
            let after = Duration::from_secs_f64(whole.min(1e6) * self.moves.draw());
            self.push(self.now + after, Deed::Fault(id, fault));
        }
        self.moves.moved.begun += 1;
        self.moves.by_vm.insert(order.vm, id);
        let (rate, path) = (order.rate, self.moves.paths.get(&id).cloned().unwrap_or_default());
        let transfer = Transfer {
            order,
            began: self.now,
            round: 1,
            round_at: self.now,
            left: u128::from(bytes.0) * BIT_NANOS,
            rate: 0,
            since: self.now,
            sent: 0,
            round_bytes: bytes.0,
            paused_at: None,
            hangs: false,
            epoch: 0,
        };
        self.moves.transfers.insert(id, transfer);
        self.push(self.now + self.delays.progress, Deed::Progress(id));
        self.flows.start(flow(id), rate, Transport::Tcp, path, self.now);
        self.follow_rates();
        self.time_round(id);
    }

    fn dirty(&self, vm: VmId) -> BitRate {
        self.loads.of(vm).map_or(BitRate(0), |l| l.dirty)
    }

    /// Transfers whose flow's rate has changed have another end in sight.
    pub(super) fn follow_rates(&mut self) {
        for id in self.flows.take_changed() {
            if id.0 >> 63 == 1 {
                self.time_round(MigrationId(id.0 & !(1 << 63)));
            }
        }
    }

    /// Sets the timer for the end of a transfer's round, at the rate that its flow has now.
    fn time_round(&mut self, id: MigrationId) {
        let now = self.now;
        let Some(transfer) = self.moves.transfers.get_mut(&id).filter(|t| !t.hangs) else { return };
        transfer.settle(now);
        transfer.rate = self.flows.rate(flow(id)).map_or(0, |r| r.0);
        transfer.epoch += 1;
        let (epoch, rate) = (transfer.epoch, u128::from(transfer.rate));
        let needs = match (transfer.left, rate) {
            (0, _) => Some(0),
            (_, 0) => None,
            (left, rate) => Some(left.div_ceil(rate)),
        };
        // Without a rate it waits for one.
        if let Some(nanos) = needs {
            let end = now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.push(end, Deed::Round(id, epoch));
        }
    }

    pub(super) fn end_round(&mut self, id: MigrationId, epoch: u32) {
        let now = self.now;
        let Some(dirty) = self.moves.transfers.get(&id).map(|t| self.dirty(t.order.vm)) else { return };
        let Some(transfer) = self.moves.transfers.get_mut(&id).filter(|t| t.epoch == epoch && !t.hangs)
        else {
            return;
        };
        transfer.sent += transfer.round_bytes;
        if transfer.paused_at.is_some() {
            return self.arrive(id);
        }
        let memory = transfer.order.spec.resources.ram.0;
        let took = now.since(transfer.round_at).as_nanos();
        let written = u64::try_from(u128::from(dirty.0).saturating_mul(took) / BIT_NANOS).unwrap_or(u64::MAX);
        let rest = if transfer.order.manner == MigrationMode::Cold { 0 } else { written.min(memory) };
        let rate = u128::from(transfer.rate.max(1));
        let short = (u128::from(rest) * BIT_NANOS).div_ceil(rate) <= transfer.order.downtime.as_nanos();
        let last = short || transfer.round >= transfer.order.rounds.max(1);
        transfer.round += 1;
        (transfer.round_at, transfer.since, transfer.round_bytes) = (now, now, rest);
        transfer.left = u128::from(rest) * BIT_NANOS;
        if last {
            transfer.paused_at = Some(now);
            self.later(self.delays.packet, Event::VmSuspended { migration: id });
        }
        self.time_round(id);
    }

    /// The VM runs on the other server.
    fn arrive(&mut self, id: MigrationId) {
        let Some(transfer) = self.moves.transfers.get(&id) else { return };
        let order = transfer.order.clone();
        // A cold one is silent from its first byte on.
        let silent_from = match order.manner {
            MigrationMode::Live => transfer.paused_at.unwrap_or(self.now),
            MigrationMode::Cold => transfer.began,
        };
        let downtime = Some(self.now.since(silent_from));
        self.vms.insert(order.vm, (order.to, order.spec.clone()));
        self.loads.place(order.vm, order.to, order.spec.resources, self.now);
        self.moves.moved.moved += 1;
        self.end(id, Event::VmMoved { migration: id, downtime });
    }

    /// A transfer is over: its flow ends, and the core is told.
    fn end(&mut self, id: MigrationId, event: Event) {
        let Some(transfer) = self.moves.transfers.remove(&id) else { return };
        self.moves.by_vm.remove(&transfer.order.vm);
        self.flows.advance(self.now);
        self.moves.moved.bytes += match &event {
            Event::VmMoved { .. } => transfer.sent,
            _ => {
                self.moves.moved.failed += 1;
                transfer.progress(self.now, BitRate(0)).sent.0
            }
        };
        self.flows.stop(flow(id), self.now);
        self.follow_rates();
        self.moves.ended.insert(id, event.clone());
        self.later(self.delays.packet, event);
    }

    pub(super) fn set_migration_rate(&mut self, id: MigrationId, rate: BitRate) {
        if self.moves.transfers.contains_key(&id) {
            self.flows.ask(flow(id), rate, self.now);
            self.follow_rates();
        }
    }

    pub(super) fn cancel_migration(&mut self, id: MigrationId, vm: VmId, to: ServerId) {
        let why = "it was cancelled".to_owned();
        match self.moves.transfers.get(&id) {
            // Too late: it goes on, and says so in the end.
            Some(transfer) if transfer.paused_at.is_some() && !transfer.hangs => {}
            Some(transfer) => {
                let at = Some(transfer.order.from);
                self.end(id, Event::MigrationFailed { migration: id, at, why });
            }
            None => {
                let at = self.vms.get(&vm).map(|(server, _)| *server);
                let event = match self.moves.ended.get(&id) {
                    Some(ended) => ended.clone(),
                    None if at == Some(to) => Event::VmMoved { migration: id, downtime: None },
                    None => Event::MigrationFailed { migration: id, at, why },
                };
                self.later(self.delays.packet, event);
            }
        }
    }

    /// A VM that is stopped is not moved any further.
    pub(super) fn drop_transfer_of(&mut self, vm: VmId) {
        if let Some(id) = self.moves.by_vm.get(&vm).copied() {
            let why = format!("{vm} was stopped");
            self.end(id, Event::MigrationFailed { migration: id, at: None, why });
        }
    }

    pub(super) fn break_transfer(&mut self, id: MigrationId, fault: Fault) {
        let Some(transfer) = self.moves.transfers.get_mut(&id) else { return };
        let (vm, from) = (transfer.order.vm, transfer.order.from);
        match fault {
            Fault::Fail => {
                let why = "the connection between the hypervisors was cut".into();
                self.end(id, Event::MigrationFailed { migration: id, at: Some(from), why });
            }
            // In its pause it is nearly there.
            Fault::Hang if transfer.paused_at.is_some() => {}
            Fault::Hang => {
                transfer.settle(self.now);
                (transfer.hangs, transfer.rate) = (true, 0);
                self.flows.ask(flow(id), BitRate(0), self.now);
                self.follow_rates();
            }
            Fault::Lose => {
                self.vms.remove(&vm);
                self.loads.remove(vm, self.now);
                let why = format!("{vm} did not survive on either server");
                self.end(id, Event::MigrationFailed { migration: id, at: None, why });
            }
        }
    }

    pub(super) fn tell_progress(&mut self, id: MigrationId) -> anyhow::Result<()> {
        let Some(transfer) = self.moves.transfers.get(&id).filter(|t| !t.hangs) else { return Ok(()) };
        let progress = transfer.progress(self.now, self.dirty(transfer.order.vm));
        self.push(self.now + self.delays.progress, Deed::Progress(id));
        self.feed(Event::MigrationProgress { migration: id, progress })
    }
}
