//! The clocks: [`now`], which everything timed goes by, and [`wall`], which is stored and shown.
//!
//! `now` is the wall clock when the process first asked and what has passed since by
//! CLOCK_MONOTONIC (clock_gettime(2)): it reads like a date and never jumps. A wall clock that is
//! set (by hand, by a time service that steps it, by a machine that was asleep) is noticed by
//! [`WallWatch`] and told to the core as an event.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tandem_model::Time;

/// How often the wall clock is looked at, at least.
pub const LOOK: Duration = Duration::from_secs(1);
/// A difference from which on the wall clock was set. Time services slew smaller ones away (chrony:
/// `makestep 1.0`, systemd-timesyncd 0.4 s); those that are stepped nevertheless are noticed when
/// they have added up.
const STEP: Duration = Duration::from_millis(500);

/// The wall clock at the start, and the start.
static START: LazyLock<(Time, Instant)> = LazyLock::new(|| (wall(), Instant::now()));

/// The present moment, for everything timed: never decreases, and passes as fast as time does.
pub fn now() -> Time {
    START.0 + START.1.elapsed()
}

/// What the wall clock shows: to be stored or shown, and for what is good until a date.
pub fn wall() -> Time {
    Time::ZERO + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Notices when the wall clock is set. Told the time only, so that a test can tell it any.
#[derive(Debug, Default)]
pub struct WallWatch {
    /// By how much the wall clock is ahead of `now`, in nanoseconds, as far as is known.
    ahead: i64,
}

impl WallWatch {
    /// By how much the wall clock was set since the last time, in nanoseconds, if it was.
    pub fn look(&mut self, wall: Time, now: Time) -> Option<i64> {
        let by = wall.ahead_of(now).saturating_sub(self.ahead);
        if Duration::from_nanos(by.unsigned_abs()) < STEP {
            return None;
        }
        self.ahead = self.ahead.saturating_add(by);
        Some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_step_is_told_once_with_its_size_and_a_drift_when_it_has_added_up() {
        let at = |s: u64| Time::from_secs(1_700_000_000 + s);
        let mut watch = WallWatch::default();
        assert_eq!(watch.look(at(1), at(1)), None);
        // An hour ahead, and it stays so; then a day back; then right again.
        assert_eq!(watch.look(at(3602), at(2)), Some(3600 * SECOND));
        assert_eq!(watch.look(at(3603), at(3)), None);
        assert_eq!(watch.look(Time(at(4).0 - 82_800 * 1_000_000_000), at(4)), Some(-86_400 * SECOND));
        assert_eq!(watch.look(at(5), at(5)), Some(82_800 * SECOND));
        // 0.1 s a look.
        let told: Vec<Option<i64>> =
            (1..=6).map(|n| watch.look(Time(at(5 + n).0 + n * 100_000_000), at(5 + n))).collect();
        assert_eq!(told, [None, None, None, None, Some(SECOND / 2), None]);
        // A clock that starts at the epoch.
        assert!(watch.look(Time::ZERO, at(12)).is_some_and(|by| by < -1_600_000_000 * SECOND));
    }

    #[test]
    fn now_begins_at_the_wall_clock_and_goes_on() {
        let (first, wall, second) = (now(), wall(), now());
        assert!(first <= second);
        assert!(wall.ahead_of(first).unsigned_abs() < 60_000_000_000, "{first:?} {wall:?}");
    }
}
