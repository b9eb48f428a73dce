//! Whether a card's data path keeps up: every frame that entered it is decided soon after. Pure:
//! readings and times go in, a verdict comes out.
//!
//! Some frames make the look-up of the OpenFlow switch bitfile fall one frame behind, or stop the
//! data path until a reset, while the registers still answer (the faults in the profiles). Two
//! signs show it:
//!
//! 1. **A gap that lasts.** Frames that entered are counted in one place and decided frames in
//!    another. While frames are on their way between the two, the first count is ahead, so a gap
//!    counts only where nothing entered during the look ([`Look::meanwhile`] is 0) and what had
//!    entered had the time to be decided ([`DRAIN`]). It must be seen twice, [`Health::HOLD`]
//!    apart.
//! 2. **Frames that wait and nothing moves.** Where frames wait in front of the data path
//!    ([`Look::waiting`]) and none of them has entered by the next look, the data path takes no
//!    more.
//!
//! Neither can be caused by traffic, however it falls between the readings. What can shift the
//! counts are others: whoever reads or writes the first counter clears it, and the others can be
//! written. Then decided frames are ahead of those that entered, which no card can do, and the
//! comparison starts anew; or the gap is of several frames while frames go on to be decided, where
//! a card that lags has a gap of one. What is left: somebody who writes one less into a counter in
//! the middle of traffic is taken for a card that lags, and causes a reset.
//!
//! Not seen: a card that lagged already at the first look, as long as frames still leave it (how
//! the two counts stood before is not known); a lag under traffic that leaves no look without a
//! frame; and faults that spoil one decision only.

use std::collections::VecDeque;
use std::time::Duration;
use tandem_model::Time;

/// How long frames that entered may take to be decided: 6,250 clocks of 8 ns, where a look-up takes
/// tens.
pub const DRAIN: Duration = Duration::from_micros(50);

/// One look at a card: its registers in the order in which they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Frames that entered the data path since that counter was read last (reading clears it).
    pub entered: u32,
    /// Frames that wait in front of the data path; 0 where that cannot be seen. Read after
    /// `entered`.
    pub waiting: u64,
    /// Frames decided, the wrapping sum of their counters. Read [`DRAIN`] after `entered`, or
    /// later.
    pub decided: u32,
    /// Frames that entered since `entered` was read. Read last.
    pub meanwhile: u32,
}

/// What a look says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it.
    Well,
    /// Something does, and may still pass.
    Suspect,
    /// So many frames entered that were not decided, though there was time; later ones are decided
    /// in their place.
    Lags(u64),
    /// Nothing moves, though frames wait or are inside (how many frames entered and were not
    /// decided).
    Stopped(u64),
}

impl Verdict {
    /// The card has to be reset.
    pub const fn is_ill(self) -> bool {
        matches!(self, Verdict::Lags(_) | Verdict::Stopped(_))
    }
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    frames: u64,
    /// Frames decided in all when it was first seen.
    decided: u64,
    since: Time,
}

/// Judges from look-ups and frames whether a card's data path goes on.
#[derive(Debug, Clone)]
pub struct Health {
    /// The register at the last look; `None` before the first.
    last: Option<u32>,
    /// Frames decided since the first look.
    decided: u64,
    /// Entered and not decided, at least. It is exact after a look in which nothing entered.
    inside: u64,
    gap: Option<Gap>,
    /// Since when frames wait and nothing moves.
    stuck: Option<Time>,
}

impl Health {
    /// How long a sign must last.
    pub const HOLD: Duration = Duration::from_millis(20);

    /// Of a card whose past is not known: the first look is where the comparison starts.
    pub const fn new() -> Health {
        Health { last: None, decided: 0, inside: 0, gap: None, stuck: None }
    }

    /// Of a card that was just reset: all its counters are 0.
    pub const fn after_reset() -> Health {
        Health { last: Some(0), ..Health::new() }
    }

    /// Takes a look that was made at `now`.
    pub fn look(&mut self, look: Look, now: Time) -> Verdict {
        if self.last.is_none() && look.meanwhile > 0 {
            // How many are on their way is not known: the comparison starts where none is.
            return Verdict::Well;
        }
        let Some(last) = self.last.replace(look.decided) else { return Verdict::Well };
        let entered = u64::from(look.entered) + u64::from(look.meanwhile);
        let decided = u64::from(look.decided.wrapping_sub(last));
        self.decided = self.decided.saturating_add(decided);
        // More were decided than there were: somebody else has read the first counter or written
        // the second, or it is lower after a reset (a wrap by nearly 2^32).
        self.inside = self.inside.saturating_add(entered).saturating_sub(decided);
        let stuck = self.stuck(look, entered == 0 && decided == 0, now);
        if look.meanwhile > 0 {
            // What is inside may be on its way.
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
    /// may have come this moment, so it takes two, and nothing that entered from before the first
    /// to after the second.
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
            // Several, and frames are decided: somebody has written a counter.
            (self.inside, self.gap) = (0, None);
            return None;
        }
        // Several that are never decided: a card that stopped, or a counter that was written while
        // nothing came since. The next frame that waits or is decided tells.
        Some(false)
    }
}

impl Default for Health {
    fn default() -> Health {
        Health::new()
    }
}

/// When a card that is ill again may be reset: at once, but after three times in a minute only with
/// a pause that grows.
///
/// Who can stop a card can do it again and again; each reset costs a moment of all ports' traffic
/// and all that is written anew.
#[derive(Debug, Clone, Default)]
pub struct Pauses {
    /// The last recoveries, the oldest first; three at most.
    recovered: VecDeque<Time>,
    pause: Duration,
}

impl Pauses {
    /// Within this time recoveries are counted, and without an outage for so long all is forgotten.
    pub const WINDOW: Duration = Duration::from_secs(60);
    /// So many in [`Pauses::WINDOW`] are without a pause.
    pub const FREE: usize = 3;
    /// The first pause; each further one is twice as long.
    pub const FIRST: Duration = Duration::from_secs(5);
    /// The longest pause.
    pub const LONGEST: Duration = Duration::from_secs(300);

    /// The card is ill: how long to wait before it is reset.
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

    /// True where an outage at that time is one of a row: less than a minute after the last
    /// recovery.
    pub fn is_repeated(&self, now: Time) -> bool {
        self.recovered.back().is_some_and(|last| now.since(*last) < Pauses::WINDOW)
    }

    /// It was reset, and everything was written.
    pub fn recovered(&mut self, now: Time) {
        if self.recovered.len() >= Pauses::FREE {
            self.recovered.pop_front();
        }
        self.recovered.push_back(now);
    }
}
