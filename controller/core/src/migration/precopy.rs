//! What a transfer is expected to take.
//!
//! Pre-copy (Clark et al., "Live Migration of Virtual Machines", NSDI 2005, section 3): the first
//! round sends all of the memory while the VM runs, every further one what was dirtied during the
//! round before. When what is left can be sent within the allowed pause, or the rounds are used up,
//! the VM is paused and the rest is sent. With a memory of `M`, a rate of `r` and a dirty rate of
//! `d` the rounds send `M`, `M d/r`, `M (d/r)^2`, ..., never more than `M` each.

use std::time::Duration;
use tandem_model::{BitRate, Bytes, Prediction};

/// What is said of a transfer that never ends: some 136 years, which can still be added to a time.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A live move of `memory` at `rate` while `dirty` of it is written anew, which is paused when the
/// rest can be sent in `downtime`, and after `rounds` rounds at the latest. It converges when the
/// rest gets that small within these rounds.
pub fn predict(memory: Bytes, rate: BitRate, dirty: BitRate, downtime: Duration, rounds: u32) -> Prediction {
    let mut rest = memory.0;
    let (mut bytes, mut duration, mut done) = (0u64, Duration::ZERO, 0);
    while done < rounds.max(1) {
        let round = time_to_send(rest, rate);
        bytes = bytes.saturating_add(rest);
        duration = duration.saturating_add(round).min(NEVER);
        done += 1;
        rest = sent_in(round, dirty).min(memory.0);
        if time_to_send(rest, rate) <= downtime {
            break;
        }
    }
    let pause = time_to_send(rest, rate);
    Prediction {
        bytes: Bytes(bytes.saturating_add(rest)),
        rounds: done,
        duration: duration.saturating_add(pause).min(NEVER),
        downtime: pause,
        converges: rate.0 > 0 && pause <= downtime,
    }
}

/// A cold move: the VM is silent while all of its memory and its local disks are sent.
pub fn cold(memory: Bytes, disk: Bytes, rate: BitRate) -> Prediction {
    let bytes = memory.0.saturating_add(disk.0);
    let duration = time_to_send(bytes, rate);
    Prediction { bytes: Bytes(bytes), rounds: 0, duration, downtime: duration, converges: rate.0 > 0 }
}

/// How long `bytes` take at `rate`, rounded up to a nanosecond.
fn time_to_send(bytes: u64, rate: BitRate) -> Duration {
    if bytes == 0 {
        return Duration::ZERO;
    }
    if rate.0 == 0 {
        return NEVER;
    }
    let nanos = (u128::from(bytes) * 8_000_000_000).div_ceil(u128::from(rate.0));
    u64::try_from(nanos).map_or(NEVER, Duration::from_nanos).min(NEVER)
}

/// How many bytes go at `rate` in `time`.
fn sent_in(time: Duration, rate: BitRate) -> u64 {
    u64::try_from(u128::from(rate.0).saturating_mul(time.as_nanos()) / 8_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAUSE: Duration = Duration::from_millis(300);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// 1 Gbit/s is 125,000,000 bytes a second. Worked out by hand.
    #[test]
    fn the_rounds_are_those_of_the_paper() {
        let gbit = BitRate::mbit(1000);
        // (memory, dirty rate, allowed pause, rounds) -> (bytes, rounds, duration, pause,
        // converges)
        let table = [
            // Nothing is dirtied: one round of 1 s, and no rest.
            ((125_000_000, 0, 300, 30), (125_000_000, 1, 1000, 0, true)),
            // A tenth of the rate: 1 s, of which 12.5 MB are left, which take 100 ms.
            ((125_000_000, 100, 300, 30), (137_500_000, 1, 1100, 100, true)),
            // The same with a pause of 50 ms: a second round of 100 ms, which leaves 1.25 MB or 10
            // ms.
            ((125_000_000, 100, 50, 30), (138_750_000, 2, 1110, 10, true)),
            // Half of the rate: 1000, 500, then 250 ms are left.
            ((125_000_000, 500, 300, 30), (218_750_000, 2, 1750, 250, true)),
            // Half of the rate and one round only: 500 ms are left, which is too long.
            ((125_000_000, 500, 300, 1), (187_500_000, 1, 1500, 500, false)),
            // As fast as it is sent: three rounds of all of it, and all of it again.
            ((125_000_000, 1000, 300, 3), (500_000_000, 3, 4000, 1000, false)),
            // Four times as fast: no round sends more than there is.
            ((125_000_000, 4000, 300, 3), (500_000_000, 3, 4000, 1000, false)),
            // All of it fits the pause, but the first round is always sent while the VM runs.
            ((12_500_000, 1000, 300, 30), (25_000_000, 1, 200, 100, true)),
            ((0, 1000, 300, 30), (0, 1, 0, 0, true)),
        ];
        for ((memory, dirty, pause, rounds), (bytes, sent, duration, downtime, converges)) in table {
            let found = predict(Bytes(memory), gbit, BitRate::mbit(dirty), ms(pause), rounds);
            let expected = Prediction {
                bytes: Bytes(bytes),
                rounds: sent,
                duration: ms(duration),
                downtime: ms(downtime),
                converges,
            };
            assert_eq!(found, expected, "{memory} bytes, {dirty} Mbit/s dirty, {pause} ms, {rounds} rounds");
        }
    }

    #[test]
    fn a_cold_move_is_silent_from_the_first_byte_to_the_last() {
        let found = cold(Bytes(100_000_000), Bytes(25_000_000), BitRate::mbit(1000));
        let second = ms(1000);
        let expected = Prediction {
            bytes: Bytes(125_000_000),
            rounds: 0,
            duration: second,
            downtime: second,
            converges: true,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn without_a_rate_it_never_ends_and_does_not_converge() {
        let none = BitRate(0);
        for found in [predict(Bytes(1), none, BitRate(1), PAUSE, 30), cold(Bytes(1), Bytes(0), none)] {
            assert!(!found.converges);
            assert_eq!(found.duration, NEVER);
        }
        let huge = predict(Bytes(u64::MAX), BitRate(1), BitRate(u64::MAX), PAUSE, 30);
        assert!(!huge.converges, "and nothing overflows");
    }

    proptest! {
        /// More dirt never means less to send, a shorter time or a shorter pause than a VM that
        /// writes nothing has; the pause is part of the duration, and one that converges keeps to
        /// what is allowed.
        #[test]
        fn a_prediction_is_consistent(
            memory in 0u64..1 << 40, rate in 1u64..1 << 40, dirty in 0u64..1 << 40, pause in 0u64..10_000, rounds in 1u32..50,
        ) {
            let found = predict(Bytes(memory), BitRate(rate), BitRate(dirty), ms(pause), rounds);
            let still = predict(Bytes(memory), BitRate(rate), BitRate(0), ms(pause), rounds);
            prop_assert!(found.bytes >= still.bytes && found.duration >= still.duration);
            prop_assert!(found.downtime <= found.duration && found.rounds >= 1 && found.rounds <= rounds);
            prop_assert_eq!(found.converges, found.downtime <= ms(pause));
            prop_assert!(u128::from(found.bytes.0) <= u128::from(memory) * u128::from(found.rounds + 1));
        }
    }
}
