//! When packets are sent: schedules that depend on a seed and nothing else.
//!
//! A schedule says how long after the one before each packet is due, given how long a packet takes
//! at the flow's rate. All have the flow's rate on average.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1, OpenClosed01};
use std::time::Duration;

/// When packets are due.
pub(super) trait Schedule: Send + 'static {
    /// How many packet times (the time that a packet takes at the flow's rate) the next packet is
    /// due after the one before. Whoever asks adds them up.
    fn gap(&mut self) -> f64;
}

/// Where a flow's random numbers begin: the site's seed and the flow's id.
pub(super) fn random(seed: u64, flow: u64) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&flow.to_le_bytes());
    ChaCha8Rng::from_seed(bytes)
}

/// Packets at equal distances.
pub(super) struct Constant;

impl Schedule for Constant {
    fn gap(&mut self) -> f64 {
        1.0
    }
}

/// A Poisson process: exponential gaps.
pub(super) struct Poisson(pub(super) ChaCha8Rng);

impl Schedule for Poisson {
    fn gap(&mut self) -> f64 {
        Exp1.sample(&mut self.0)
    }
}

/// How long the periods of an on/off source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Periods {
    /// Exponential.
    Exponential,
    /// Pareto: many sources together are self-similar (Willinger et al., SIGCOMM 1995).
    Pareto,
}

/// Periods in which packets are sent at equal distances, and periods of silence.
pub(super) struct OnOff {
    random: ChaCha8Rng,
    periods: Periods,
    /// Of Pareto, above 1: the mean is finite.
    shape: f64,
    /// Mean lengths, in packet times.
    on: f64,
    off: f64,
    /// Left of this period of sending, in packet times.
    left: f64,
}

/// A Pareto period longer than so many times its mean is cut: one in several thousand, which would
/// outlast the experiment.
const LONGEST: f64 = 1000.0;

impl OnOff {
    /// Periods of these lengths on average; a packet takes `packet` at the flow's rate.
    pub(super) fn new(
        mut random: ChaCha8Rng,
        periods: Periods,
        shape: f64,
        on: Duration,
        off: Duration,
        packet: Duration,
    ) -> OnOff {
        let packet = packet.as_secs_f64().max(1e-9);
        let (on, off) = (on.as_secs_f64() / packet, off.as_secs_f64() / packet);
        let left = period(&mut random, periods, shape, on);
        OnOff { random, periods, shape, on, off, left }
    }
}

fn period(random: &mut ChaCha8Rng, periods: Periods, shape: f64, mean: f64) -> f64 {
    match periods {
        Periods::Exponential => {
            let unit: f64 = Exp1.sample(random);
            mean * unit
        }
        Periods::Pareto => {
            // By inversion; the scale that makes this the mean.
            let uniform: f64 = OpenClosed01.sample(random);
            let scale = mean * (shape - 1.0) / shape;
            (scale * uniform.powf(-1.0 / shape)).min(mean * LONGEST)
        }
    }
}

impl Schedule for OnOff {
    fn gap(&mut self) -> f64 {
        // While it sends, it sends faster than the flow's rate by as much as it is silent.
        let step = self.on / (self.on + self.off);
        let mut gap = 0.0;
        let mut needed = step;
        // Periods that are shorter than a packet add up to one.
        while self.left < needed {
            needed -= self.left;
            gap += self.left + period(&mut self.random, self.periods, self.shape, self.off);
            self.left = period(&mut self.random, self.periods, self.shape, self.on).max(1e-9);
        }
        self.left -= needed;
        gap + needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: Duration = Duration::from_millis(1);

    fn on_off(seed: u64, periods: Periods) -> OnOff {
        let ms = Duration::from_millis;
        OnOff::new(random(seed, 7), periods, 1.9, ms(20), ms(60), PACKET)
    }

    fn gaps(mut schedule: impl Schedule, count: usize) -> Vec<f64> {
        (0..count).map(|_| schedule.gap()).collect()
    }

    #[test]
    fn the_same_seed_and_flow_send_at_the_same_moments_and_others_do_not() {
        assert_eq!(gaps(Poisson(random(1, 7)), 1000), gaps(Poisson(random(1, 7)), 1000));
        assert_ne!(gaps(Poisson(random(1, 7)), 10), gaps(Poisson(random(2, 7)), 10));
        assert_ne!(gaps(Poisson(random(1, 7)), 10), gaps(Poisson(random(1, 8)), 10));
        for periods in [Periods::Exponential, Periods::Pareto] {
            assert_eq!(gaps(on_off(1, periods), 1000), gaps(on_off(1, periods), 1000));
            assert_ne!(gaps(on_off(1, periods), 1000), gaps(on_off(2, periods), 1000));
        }
    }

    /// Mean 1: the flow's rate. A Poisson process' gaps have the variance of an exponential
    /// distribution, which is the square of its mean.
    #[test]
    fn a_poisson_schedule_has_the_flows_rate_and_exponential_gaps() {
        let gaps = gaps(Poisson(random(3, 1)), 100_000);
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn an_on_off_schedule_sends_at_four_times_the_rate_a_quarter_of_the_time() {
        for (periods, near) in [(Periods::Exponential, 0.05), (Periods::Pareto, 0.25)] {
            let gaps = gaps(on_off(5, periods), 200_000);
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            assert!((mean - 1.0).abs() < near, "{periods:?}: {mean}");
            let within = gaps.iter().filter(|g| (**g - 0.25).abs() < 1e-9).count();
            // 20 ms of sending at a packet each quarter of a millisecond are 80 packets in a row.
            assert!(within > gaps.len() * 9 / 10, "{periods:?}: {within}");
            assert!(gaps.iter().any(|g| *g > 10.0), "{periods:?}: it is never silent");
        }
    }
}
