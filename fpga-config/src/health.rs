//! Determines whether a card's data path keeps up: whether every frame that entered it is decided
//! soon after. Pure: readings and times go in, a verdict comes out.
//!
//! Some frames make the look-up of the OpenFlow switch bitfile fall one frame behind, or stop the
//! data path until a reset, while the registers still answer (the faults in the profiles). Two
//! signs show it:
//!
//! 1. **A gap that lasts.** The card counts frames that enter and frames that are decided. While
//!    frames are in between, the first count is ahead, so a gap counts only where nothing entered
//!    during the look ([`Look::meanwhile`] is 0) and what had entered had the time to be decided
//!    ([`DRAIN`]). It must be seen twice, [`Health::HOLD`] apart.
//! 2. **Frames that wait while nothing moves.** When frames wait in front of the data path
//!    ([`Look::waiting`]) and none of them has entered by the next look, the data path accepts no
//!    more.
//!
//! Neither can be caused by traffic, however it falls between the readings. Only another process
//! can shift the counts: reading or writing the first counter clears it, and the others can be
//! written. Then more frames were decided than entered, which is impossible, and the comparison
//! starts again; or the gap is several frames while frames are decided, but a card that lags has a
//! gap of one. One case remains: a process that lowers a counter by one during traffic looks like a
//! card that lags, and causes a reset.
//!
//! Not detected: a card that lagged already at the first look, as long as frames leave it (the
//! difference of the counts before is not known); a lag under traffic so dense that no look is
//! without a frame; and faults that affect one decision only.

use std::collections::VecDeque;
use std::time::Duration;
use tandem_model::Time;

/// How long a frame that entered may take to be decided: 6,250 clocks of 8 ns, where a look-up
/// takes tens.
pub const DRAIN: Duration = Duration::from_micros(50);

/// One look at a card: its registers, in the order of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Frames that entered the data path since that counter was read last (reading clears it).
    pub entered: u32,
    /// Frames that wait in front of the data path; 0 if the bitfile does not show it. Read after
    /// `entered`.
    pub waiting: u64,
    /// Frames decided, as the wrapping sum of their counters. Read at least [`DRAIN`] after
    /// `entered`.
    pub decided: u32,
    /// Frames that entered since `entered` was read. Read last.
    pub meanwhile: u32,
}

/// The result of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is no sign of a fault.
    Well,
    /// There is a sign, which may still pass.
    Suspect,
    /// This many frames entered and were not decided in time; later ones are decided in their
    /// place.
    Lags(u64),
    /// Nothing moves, although frames wait or are inside (the number of frames that entered and
    /// were not decided).
    Stopped(u64),
}

impl Verdict {
    /// Whether the card has to be reset.
    pub const fn is_ill(self) -> bool {
        matches!(self, Verdict::Lags(_) | Verdict::Stopped(_))
    }
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    frames: u64,
    /// Total of decided frames when the gap was first seen.
    decided: u64,
    since: Time,
}

/// Decides from the counts of looks whether a card's data path works.
#[derive(Debug, Clone)]
pub struct Health {
    /// The register at the last look; `None` before the first.
    last: Option<u32>,
    /// Frames decided since the first look.
    decided: u64,
    /// Lower bound of the frames that entered and are not decided. Exact after a look in which
    /// nothing entered.
    inside: u64,
    gap: Option<Gap>,
    /// Since when frames wait and nothing moves.
    stuck: Option<Time>,
}

impl Health {
    /// How long a sign must last.
    pub const HOLD: Duration = Duration::from_millis(20);

    /// For a card with an unknown past: the first look starts the comparison.
    pub const fn new() -> Health {
        Health { last: None, decided: 0, inside: 0, gap: None, stuck: None }
    }

    /// For a card that was just reset: all its counters are 0.
    pub const fn after_reset() -> Health {
        Health { last: Some(0), ..Health::new() }
    }

    /// Takes a look that was made at `now`.
    pub fn look(&mut self, look: Look, now: Time) -> Verdict {
        if self.last.is_none() && look.meanwhile > 0 {
            // Frames may be in between; the comparison starts at a look without one.
            return Verdict::Well;
        }
        let Some(last) = self.last.replace(look.decided) else { return Verdict::Well };
        let entered = u64::from(look.entered) + u64::from(look.meanwhile);
        let decided = u64::from(look.decided.wrapping_sub(last));
        self.decided = self.decided.saturating_add(decided);
        // More frames were decided than entered: another process has read the first counter or
        // written the second, or a reset has lowered it (which looks like a wrap by nearly 2^32).
        self.inside = self.inside.saturating_add(entered).saturating_sub(decided);
        let stuck = self.stuck(look, entered == 0 && decided == 0, now);
        if look.meanwhile > 0 {
            // Frames inside may still be decided.
            return if self.gap.is_some() || stuck.is_some() { Verdict::Suspect } else { Verdict::Well };
        }
        match self.gap_lasts(now) {
            _ if stuck == Some(true) => Verdict::Stopped(self.inside),
            Some(true) => Verdict::Lags(self.inside),
            None if stuck.is_none() => Verdict::Well,
            _ => Verdict::Suspect,
        }
    }

    /// The second sign: `None` without it, else whether it has lasted. Frames that wait at one look
    /// may have just come, so it takes two looks, and nothing may enter from before the first until
    /// after the second.
    fn stuck(&mut self, look: Look, still: bool, now: Time) -> Option<bool> {
        if look.waiting == 0 || !still {
            self.stuck = None;
            return None;
        }
        let since = *self.stuck.get_or_insert(now);
        Some(now.since(since) >= Health::HOLD)
    }

    /// The first sign, at a look in which nothing entered: `None` without it, else whether it has
    /// lasted.
    fn gap_lasts(&mut self, now: Time) -> Option<bool> {
        let fresh = Gap { frames: self.inside, decided: self.decided, since: now };
        if self.inside == 0 {
            self.gap = None;
            return None;
        }
        let gap = *self.gap.get_or_insert(fresh);
        if gap.frames != self.inside {
            self.gap = Some(fresh);
            return Some(false);
        }
        if gap.frames == 1 {
            return Some(now.since(gap.since) >= Health::HOLD);
        }
        if gap.decided != self.decided {
            // A gap of several frames while frames are decided: another process has written a
            // counter.
            (self.inside, self.gap) = (0, None);
            return None;
        }
        // A gap of several frames and none decided: a card that stopped, or a counter that was
        // written while no frames came. The next frame shows which.
        Some(false)
    }
}

impl Default for Health {
    fn default() -> Health {
        Health::new()
    }
}

/// When an unhealthy card may be reset: at once, but after three resets in a minute only after a
/// growing pause.
///
/// Whoever can stop a card can do it repeatedly; each reset interrupts the traffic of all ports,
/// and everything has to be written again.
#[derive(Debug, Clone, Default)]
pub struct Pauses {
    /// The last recoveries, at most three, the oldest first.
    recovered: VecDeque<Time>,
    pause: Duration,
}

impl Pauses {
    /// Recoveries are counted within this time; after as long without an outage all are forgotten.
    pub const WINDOW: Duration = Duration::from_secs(60);
    /// This many in [`Pauses::WINDOW`] are without a pause.
    pub const FREE: usize = 3;
    /// The first pause; each further one is twice as long.
    pub const FIRST: Duration = Duration::from_secs(5);
    /// The longest pause.
    pub const LONGEST: Duration = Duration::from_secs(300);

    /// The card is unhealthy: returns how long to wait before the reset.
    pub fn ill(&mut self, now: Time) -> Duration {
        if !self.is_repeated(now) {
            *self = Pauses::default();
        }
        let recent = self.recovered.iter().filter(|at| now.since(**at) < Pauses::WINDOW).count();
        if !self.pause.is_zero() {
            self.pause = (self.pause * 2).min(Pauses::LONGEST);
        } else if recent >= Pauses::FREE {
            self.pause = Pauses::FIRST;
        }
        self.pause
    }

    /// Whether an outage at that time is repeated: less than a minute after the last recovery.
    pub fn is_repeated(&self, now: Time) -> bool {
        self.recovered.back().is_some_and(|last| now.since(*last) < Pauses::WINDOW)
    }

    /// The card was reset, and everything was written.
    pub fn recovered(&mut self, now: Time) {
        if self.recovered.len() >= Pauses::FREE {
            self.recovered.pop_front();
        }
        self.recovered.push_back(now);
    }
}
