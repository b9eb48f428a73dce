//! The wall clock, which may be wrong and may be set, and what hangs on it: the ends of VMs' times,
//! and moments that are stored or shown.
//!
//! Everything timed goes by `now`: the wall clock at the start plus what has passed by a monotonic
//! clock. Here is how far the wall clock is ahead of that, which changes only by
//! [`Event::WallClockStepped`](tandem_model::Event).
//!
//! A VM's time is time that passes. Its end is stored as a moment by the wall clock, so when that
//! is set, the stored end is moved by as much: what is left stays the same, and no timer moves.
//! Between two controllers nothing monotonic goes on, so every minute it is written down that one
//! runs ([`StoreOp::PutAlive`]). The next one counts the time between only when that is
//! [`BELIEVED`]: more, or less than none, may as well be a clock that is wrong, and then every VM
//! has what was left of its time when a controller last ran. So a wrong clock ends no VM's time
//! early by more than that; the price is that VMs live longer by the time without a controller when
//! that was long.

use crate::compute::pending_writes::PendingWrite;
use crate::compute::{ComputeMut, ComputeRef};
use crate::stored_item::Kept;
use crate::timers::Timer;
use std::time::Duration;
use tandem_model::{Level, StoreOp, Time, VmId, VmState};

/// A controller that has been away for so long by the wall clock is believed to have been: an
/// upgrade, a crash, a restart of its machine. Small, because a VM loses so much at most if it was
/// the clock; hardware clocks that go on are wrong by minutes, others by years.
pub(crate) const BELIEVED: Duration = Duration::from_secs(600);

/// How often it is written down that a controller runs: as much may be counted too little after a
/// restart.
pub(crate) const ALIVE: Duration = Duration::from_secs(60);

/// A span of the wall clock as text: `3600 s`.
pub(crate) fn seconds(nanoseconds: i64) -> String {
    format!("{:.0} s", Duration::from_nanos(nanoseconds.unsigned_abs()).as_secs_f64())
}

impl ComputeMut<'_> {
    pub(crate) fn on_wall_clock_stepped(&mut self, by: i64) {
        if by == 0 {
            return;
        }
        self.cx.wall_clock.ahead = self.cx.wall_clock.ahead.saturating_add(by);
        let moved = self.move_ends(by);
        let way = if by > 0 { "forward" } else { "back" };
        let mut text = format!(
            "the wall clock of the controller's machine was set {way} by {}; no timer moves",
            seconds(by)
        );
        if moved > 0 {
            text += &format!(", and the {moved} VMs whose time ends keep what is left of it");
        }
        self.cx.notice(Level::Warning, "clock-stepped", text);
        // Moments that are converted as they are shown.
        self.net.hosts.publish_all();
        self.cx.dirty.hotspots = true;
    }

    /// The ends of what the store holds, after a restart; `alive_at` is when a controller last ran.
    pub(crate) fn restore_leases(&mut self, alive_at: Option<Time>) {
        let away = alive_at.map_or(0, |at| self.cx.now.ahead_of(at));
        // The clock is read to the nanosecond, and may be slewed back a little: that is no doubt.
        let believed = -1_000_000_000..=i64::try_from(BELIEVED.as_nanos()).unwrap_or(i64::MAX);
        if !believed.contains(&away) {
            let moved = self.move_ends(away);
            let said = if away < 0 {
                format!("ran {} from now", seconds(away))
            } else {
                format!("ran {} ago", seconds(away))
            };
            if moved > 0 {
                let text = format!(
                    "by this machine's clock a controller last {said}; is it right (`date`)? That time is not counted: the {moved} VMs \
                     whose time ends have what was left of it then"
                );
                self.cx.notice(Level::Warning, "clock-doubted", text);
            }
        }
        let ends: Vec<(VmId, Time)> = self.compute().leases().collect();
        ends.iter().for_each(|(id, at)| self.cx.timers.set(*at, Timer::Expiry(*id)));
        if !ends.is_empty() && !self.cx.wall_clock.writing {
            self.write_alive();
        }
    }

    /// A VM's time has begun, and ends at `at` by the wall clock.
    pub(crate) fn begin_lease(&mut self, id: VmId, at: Time) {
        self.cx.timers.set(at.moved(self.cx.wall_clock.ahead.saturating_neg()), Timer::Expiry(id));
        if !self.cx.wall_clock.writing {
            self.write_alive();
        }
    }

    /// Moves all stored ends; returns how many. What is left of a VM's time is its end less when a
    /// controller last ran, so a kill between the writes must leave no less of it: the later of
    /// both is written first.
    pub(crate) fn move_ends(&mut self, by: i64) -> usize {
        let ends: Vec<VmId> = self.compute().leases().map(|(id, _)| id).collect();
        if ends.is_empty() {
            return 0;
        }
        for vm in self.compute.vms.values_mut() {
            vm.record.expires_at = vm.record.expires_at.map(|at| at.moved(by));
        }
        self.cx.dirty.vms = true;
        if by < 0 {
            self.write_alive();
        }
        ends.iter().for_each(|id| self.keep(Kept::Vm(*id)));
        if by > 0 {
            self.write_alive();
        }
        ends.len()
    }

    pub(crate) fn write_alive(&mut self) {
        self.cx.wall_clock.writing = true;
        self.store(StoreOp::PutAlive { at: self.cx.wall_now() }, PendingWrite::Alive);
        self.cx.timers.replace(self.cx.now + ALIVE, Timer::Alive);
    }

    pub(crate) fn on_alive(&mut self) {
        if self.compute().leases().next().is_some() {
            self.write_alive();
        } else {
            self.cx.wall_clock.writing = false;
        }
    }
}

impl<'a> ComputeRef<'a> {
    /// VMs that run and whose time ends, and when, by the wall clock.
    pub(crate) fn leases(self) -> impl Iterator<Item = (VmId, Time)> + 'a {
        let runs = |s: &VmState| matches!(s, VmState::Running | VmState::Cut { .. });
        let running = self.compute.vms.iter().filter(move |(_, v)| runs(&v.record.state));
        running.filter_map(|(id, v)| Some((*id, v.record.expires_at?)))
    }
}
