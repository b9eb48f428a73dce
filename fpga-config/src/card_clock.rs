//! How far a card's clock falls behind real time: a simulated card can take minutes for a second,
//! and a flow that it uses once in that second is not idle.

use std::time::Duration;
use tandem_model::Time;

/// Compares a card's seconds with real time. The register has whole seconds, so that only a certain
/// delay counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CardClock {
    /// Start of the comparison, and the register then.
    start: Option<(Time, u32)>,
    /// The delay found so far.
    behind: Duration,
}

impl CardClock {
    /// Takes a reading of the card's seconds; returns the delay added since the last one. If the
    /// clock went back, the card was reset, and the comparison starts again.
    pub fn reading(&mut self, now: Time, seconds: u32) -> Duration {
        let (start, first) = match self.start {
            Some((start, first)) if seconds >= first => (start, first),
            _ => {
                *self = CardClock { start: Some((now, seconds)), behind: Duration::ZERO };
                return Duration::ZERO;
            }
        };
        // The first reading may have been just before the next second, and this one just after its
        // own began.
        let passed = Duration::from_secs(u64::from(seconds - first).saturating_add(1));
        let behind = now.since(start).saturating_sub(passed);
        let more = behind.saturating_sub(self.behind);
        self.behind = self.behind.max(behind);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_card_that_takes_ten_seconds_for_one_falls_nine_behind_in_ten() {
        let mut clock = CardClock::default();
        let mut behind = Duration::ZERO;
        for tenth in 0..1000u64 {
            let now = Time(tenth * 100_000_000);
            behind += clock.reading(now, (tenth / 100) as u32);
        }
        // 99.9 s of real time, 9 s of the card's, and the second that may not be over.
        assert_eq!(behind, Duration::from_millis(89_900));
    }

    proptest! {
        #[test]
        fn a_clock_that_goes_right_is_never_behind_however_it_is_read(
            offset in 0u64..1_000_000_000, steps in prop::collection::vec(0u64..3_000_000_000, 1..200),
        ) {
            let (mut clock, mut at) = (CardClock::default(), 0u64);
            for step in steps {
                at += step;
                let seconds = ((at + offset) / 1_000_000_000) as u32;
                prop_assert_eq!(clock.reading(Time(at), seconds), Duration::ZERO);
            }
        }
    }
}
