//! The hypervisors: VMs that start, stop, grow, die and move, in virtual time, as `model`'s event
//! documentation says that they do.
//!
//! Everything is kept per VM and server, so that a VM that is told to run twice is seen to.

use super::action::TransferEnd;
use super::draw::Draw;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tandem_model::{
    BitRate, Bytes, Effect, Event, FoundVm, MigrationId, MigrationMode, Progress, ServerId, Time, VmId,
    VmSpec,
};

/// A VM at a server.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    /// What it was last asked for with.
    pub(super) spec: VmSpec,
    /// Put there by a schedule and not by the core.
    pub(super) is_stray: bool,
}

#[derive(Debug, Clone)]
struct Transfer {
    vm: VmId,
    from: ServerId,
    to: ServerId,
    spec: VmSpec,
    is_suspended: bool,
    end: Option<TransferEnd>,
}

/// What happens later by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Later {
    /// A transfer has got on, in this round.
    Progress(MigrationId, u32),
    /// The VM is paused.
    Suspend(MigrationId),
    /// It is over.
    End(MigrationId),
    /// A VM's DHCP client begins, or tries again for the n-th time.
    Dhcp(VmId, ServerId, u32),
}

/// What came of a call.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What the controller is told.
    pub(super) events: Vec<Event>,
    /// What happens later.
    pub(super) later: Vec<(Time, Later)>,
    /// Orders that are tried again, because a server does not answer.
    pub(super) again: Vec<Effect>,
}

/// The hypervisors of all servers, with the VMs that run on them.
pub(super) struct Hypervisors {
    /// Every VM that is there.
    pub(super) guests: BTreeMap<(VmId, ServerId), Guest>,
    /// Servers that do not answer.
    pub(super) away: BTreeSet<ServerId>,
    /// What should never have been asked.
    pub(super) wrong: Option<String>,
    transfers: BTreeMap<MigrationId, Transfer>,
    ended: BTreeSet<MigrationId>,
    arrives: BTreeMap<VmId, Time>,
    starts_fail: u32,
    next_transfer: Option<TransferEnd>,
    slow: Duration,
    stutter: u32,
    draw: Draw,
}

impl Hypervisors {
    /// Nothing runs.
    pub(super) fn new(seed: u64) -> Hypervisors {
        Hypervisors {
            guests: BTreeMap::new(),
            away: BTreeSet::new(),
            wrong: None,
            transfers: BTreeMap::new(),
            ended: BTreeSet::new(),
            arrives: BTreeMap::new(),
            starts_fail: 0,
            next_transfer: None,
            slow: Duration::ZERO,
            stutter: 0,
            draw: Draw::new(seed, 4),
        }
    }

    /// When an order for a VM arrives that is given now: after those before it.
    pub(super) fn arrival(&mut self, vm: VmId, now: Time) -> Time {
        let at = now + self.draw.micros(300, 60_000) + self.slow;
        let last = self.arrives.entry(vm).or_default();
        *last = at.max(Time(last.0 + 1));
        *last
    }

    /// Everything takes so much longer.
    pub(super) fn slow(&mut self, by: Duration) {
        self.slow = by;
    }

    /// So many starts and resizes fail.
    pub(super) fn fail_starts(&mut self, starts: u32) {
        self.starts_fail = starts;
    }

    /// So many answers are said twice.
    pub(super) fn stutter(&mut self, answers: u32) {
        self.stutter = answers;
    }

    /// How the next transfer ends.
    pub(super) fn end_next(&mut self, end: TransferEnd) {
        self.next_transfer = Some(end);
    }

    /// Nothing is wrong any more; transfers that would never end, end.
    pub(super) fn mend(&mut self, now: Time) -> Vec<(Time, Later)> {
        self.slow = Duration::ZERO;
        self.starts_fail = 0;
        self.next_transfer = None;
        self.stutter = 0;
        let hanging = self.transfers.iter_mut().filter(|(_, t)| t.end == Some(TransferEnd::Hangs));
        let end = now + Duration::from_millis(300);
        hanging
            .map(|(id, t)| {
                t.end = None;
                (end, Later::End(*id))
            })
            .collect()
    }

    /// True while nothing is being moved.
    pub(super) fn is_quiet(&self) -> bool {
        self.transfers.is_empty()
    }

    /// How often the next answer is said.
    pub(super) fn copies(&mut self) -> u32 {
        if self.stutter == 0 {
            return 1;
        }
        self.stutter -= 1;
        2
    }

    /// Where a VM is, of those that the core has to do with.
    fn place_of(&self, vm: VmId, of: [ServerId; 2]) -> Option<ServerId> {
        of.into_iter().find(|server| self.guests.contains_key(&(vm, *server)))
    }

    /// What is found at the servers that answer.
    pub(super) fn found(&self) -> Vec<FoundVm> {
        let there = self.guests.iter().filter(|((_, server), _)| !self.away.contains(server));
        there
            .map(|((vm, server), guest)| FoundVm {
                vm: *vm,
                server: *server,
                runs: true,
                spec: Some(Box::new(guest.spec.clone())),
            })
            .collect()
    }

    /// An order arrives.
    pub(super) fn take(&mut self, order: Effect, now: Time) -> Outcome {
        let mut out = Outcome::default();
        match order {
            Effect::AllocateVm { vm, server, spec } => self.start(vm, server, spec, now, &mut out),
            Effect::StopVm { vm, server, placed_at } => {
                // It is notified again when its server answers.
                if self.away.contains(&server) {
                    return out;
                }
                let meant = |g: &Guest| placed_at.is_none_or(|at| g.spec.origin.placed_at == at);
                if self.guests.get(&(vm, server)).is_some_and(meant) {
                    self.guests.remove(&(vm, server));
                }
                out.events.push(Event::VmStopped { vm });
            }
            Effect::TagVm { vm, server, spec } => {
                if let Some(guest) = self.guests.get_mut(&(vm, server))
                    && !self.away.contains(&server)
                {
                    guest.spec = *spec;
                }
            }
            Effect::ResizeVm { vm, server, resources } => {
                let fails = std::mem::take(&mut self.starts_fail);
                self.starts_fail = fails.saturating_sub(1);
                let guest = self.guests.get_mut(&(vm, server)).filter(|_| fails == 0);
                out.events.push(match guest.filter(|_| !self.away.contains(&server)) {
                    Some(guest) => {
                        guest.spec.resources = resources;
                        Event::VmResized { vm }
                    }
                    None => Event::VmFailed { vm, why: "it cannot be resized".to_owned() },
                });
            }
            Effect::AttachVm { vm, server, uplink_port } => {
                if let Some(guest) = self.guests.get_mut(&(vm, server)) {
                    guest.spec.uplink_port = uplink_port;
                }
            }
            Effect::MigrateVm { .. } => self.migrate(order, now, &mut out),
            Effect::CancelMigration { migration, vm, from, to } => {
                if self.away.contains(&from) || self.away.contains(&to) {
                    out.again.push(order);
                } else if !self.transfers.get(&migration).is_some_and(|t| t.is_suspended) {
                    self.transfers.remove(&migration);
                    self.tell_end(migration, vm, from, to, &mut out);
                }
            }
            _ => {}
        }
        out
    }

    fn start(&mut self, vm: VmId, server: ServerId, spec: VmSpec, now: Time, out: &mut Outcome) {
        let fail = |why: &str| Event::VmFailed { vm, why: why.to_owned() };
        if self.away.contains(&server) {
            return out.events.push(fail("its server does not answer"));
        }
        if self.starts_fail > 0 {
            self.starts_fail -= 1;
            return out.events.push(fail("it does not start"));
        }
        let placed_at = spec.origin.placed_at;
        let address = spec.fixed_address.map(|f| f.address);
        let started = Event::VmStarted { vm, address };
        let mut copies = self.guests.range((vm, ServerId(0))..=(vm, ServerId(u32::MAX)));
        if let Some(((_, at), guest)) = copies.next() {
            if guest.spec.origin.placed_at != placed_at {
                return out.events.push(fail("there is one that was made for another request"));
            }
            if *at != server {
                self.wrong = Some(format!("{vm} is to start on {server}, and the same VM runs on {at}"));
                return out.events.push(fail("it runs already, elsewhere"));
            }
            return out.events.push(started);
        }
        if address.is_none() {
            out.later.push((now + self.draw.micros(500, 90_000), Later::Dhcp(vm, server, 0)));
        }
        self.guests.insert((vm, server), Guest { spec, is_stray: false });
        out.events.push(started);
    }

    fn migrate(&mut self, order: Effect, now: Time, out: &mut Outcome) {
        let Effect::MigrateVm { migration, vm, from, to, manner, spec, .. } = &order else { return };
        let (migration, vm, from, to) = (*migration, *vm, *from, *to);
        if self.transfers.contains_key(&migration) {
            return;
        }
        if self.away.contains(&from) || self.away.contains(&to) {
            // Nobody can tell yet where it is.
            if self.ended.contains(&migration) {
                return out.again.push(order);
            }
            // Whoever asks again is told the same: it is not begun later.
            self.ended.insert(migration);
            let why = "a server does not answer".to_owned();
            return out.events.push(Event::MigrationFailed { migration, at: Some(from), why });
        }
        let busy = self.transfers.values().any(|t| t.vm == vm);
        if self.ended.contains(&migration) || busy || self.place_of(vm, [from, to]) != Some(from) {
            return self.tell_end(migration, vm, from, to, out);
        }
        let end = self.next_transfer.take();
        let takes = self.draw.micros(100_000, 4_000_000);
        let transfer = Transfer { vm, from, to, spec: (**spec).clone(), is_suspended: false, end };
        self.transfers.insert(migration, transfer);
        if *manner == MigrationMode::Cold {
            out.later.push((now + takes / 20, Later::Suspend(migration)));
        } else {
            out.later.push((now + takes / 4, Later::Progress(migration, 1)));
            out.later.push((now + takes / 2, Later::Progress(migration, 2)));
            out.later.push((now + takes * 9 / 10, Later::Suspend(migration)));
        }
        out.later.push((now + takes, Later::End(migration)));
    }

    /// Something happens that was to happen later.
    pub(super) fn pass(&mut self, later: Later, now: Time) -> Outcome {
        let mut out = Outcome::default();
        match later {
            Later::Progress(migration, round) => {
                if self.transfers.get(&migration).is_some_and(|t| !t.is_suspended) {
                    let progress = Progress {
                        round,
                        sent: Bytes(u64::from(round) << 24),
                        remaining: Bytes(1 << (24 - round)),
                        rate: BitRate::mbit(10),
                        dirty: BitRate(100_000),
                    };
                    out.events.push(Event::MigrationProgress { migration, progress });
                }
            }
            Later::Suspend(migration) => {
                let Some(t) = self.transfers.get_mut(&migration) else { return out };
                match t.end {
                    Some(TransferEnd::Hangs) => {}
                    Some(TransferEnd::FailsEarly) => return self.end(migration, now),
                    _ => {
                        t.is_suspended = true;
                        out.events.push(Event::VmSuspended { migration });
                    }
                }
            }
            Later::End(migration) => return self.end(migration, now),
            Later::Dhcp(..) => {}
        }
        out
    }

    fn end(&mut self, migration: MigrationId, now: Time) -> Outcome {
        let mut out = Outcome::default();
        let Some(t) = self.transfers.get(&migration) else { return out };
        if t.end == Some(TransferEnd::Hangs) {
            return out;
        }
        if self.away.contains(&t.from) || self.away.contains(&t.to) {
            out.later.push((now + Duration::from_secs(1), Later::End(migration)));
            return out;
        }
        let Some(t) = self.transfers.remove(&migration) else { return out };
        match t.end {
            None if !self.guests.contains_key(&(t.vm, t.to)) => self.relocate(&t),
            Some(TransferEnd::LosesVm) => drop(self.guests.remove(&(t.vm, t.from))),
            _ => {}
        }
        self.tell_end(migration, t.vm, t.from, t.to, &mut out);
        out
    }

    fn relocate(&mut self, t: &Transfer) {
        if self.guests.remove(&(t.vm, t.from)).is_some() {
            self.guests.insert((t.vm, t.to), Guest { spec: t.spec.clone(), is_stray: false });
        }
    }

    fn tell_end(
        &mut self,
        migration: MigrationId,
        vm: VmId,
        from: ServerId,
        to: ServerId,
        out: &mut Outcome,
    ) {
        self.ended.insert(migration);
        out.events.push(match self.place_of(vm, [to, from]) {
            Some(at) if at == to => Event::VmMoved { migration, downtime: Some(Duration::from_millis(30)) },
            at => Event::MigrationFailed { migration, at, why: "it has ended so".to_owned() },
        });
    }

    /// A VM dies; what moved it ends in its time.
    pub(super) fn kill(&mut self, vm: VmId, server: ServerId) -> Option<Event> {
        let guest = self.guests.remove(&(vm, server))?;
        (!guest.is_stray).then(|| Event::VmDied { vm, why: "it died".to_owned() })
    }
}
