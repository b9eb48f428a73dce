//! A day's requests, by a seed alone: Poisson arrivals that swing with the hour, exponential
//! lifetimes, sizes of a public cloud.
//!
//! The rate of arrivals is `mean * (1 - swing * cos(2 pi (hour - 4) / 24))`: least at 4 in the
//! morning, most at 16. With lifetimes of mean `L` the VMs that live swing around arrivals' mean
//! times `L` too, less and later (M(t)/M/infinity, Eick, Massey and Whitt, Management Science 39,
//! 1993). The day starts with as many VMs as that gives at midnight; an exponential lifetime that
//! has lasted a while has the same rest as a new one. Sizes and their shares are those of 259,171
//! VMs of the Azure public data set V1 (Cortez et al., SOSP 2017; CC-BY-4.0), sizes of less than
//! 0.05% left out.

use crate::experiment::keep_policy::day::Options;
use anyhow::Context;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, Exp};
use std::f64::consts::TAU;
use std::time::Duration;
use tandem_model::{BitRate, Bytes, Resources, VmRequest};

/// Cores, memory in MiB, and the share of all VMs in 1/10,000.
const SIZES: [(u32, u64, u32); 6] =
    [(1, 1792, 6039), (2, 3584, 1853), (4, 7168, 992), (8, 14_336, 900), (1, 768, 159), (8, 57_344, 57)];

/// Network rate and disk of every VM: the data set says nothing of them.
const NET: BitRate = BitRate::mbit(10);
const DISK: Bytes = Bytes(20 << 30);

/// The hour with the fewest arrivals.
const QUIET: f64 = 4.0;

/// A request, and when it comes, counted from the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// When.
    pub at: Duration,
    /// What.
    pub request: VmRequest,
}

/// A number from 0 to below 1.
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

fn size(random: &mut ChaCha8Rng) -> Resources {
    let mut left = (uniform(random) * 10_000.0) as u32;
    let found = SIZES.iter().find(|(_, _, share)| {
        let mine = left < *share;
        left = left.saturating_sub(*share);
        mine
    });
    let (cpu, ram, _) = found.unwrap_or(&SIZES[0]);
    Resources { cpu: *cpu, ram: Bytes(ram << 20), disk: DISK, net: NET }
}

/// VMs that live `hours` after midnight, on average.
pub fn expected(options: &Options, hours: f64) -> f64 {
    let turn = TAU / 24.0;
    let life = options.lifetime_hours;
    let damping = (1.0 + (turn * life).powi(2)).sqrt();
    let lag = (turn * life).atan();
    f64::from(options.vms) * (1.0 - options.swing / damping * (turn * (hours - QUIET) - lag).cos())
}

/// All requests in order of time: those of the start, spread evenly over `warm_up`, then a day's.
///
/// # Errors
/// When a mean is not a number above 0.
pub fn plan(options: &Options, warm_up: Duration) -> anyhow::Result<Vec<Arrival>> {
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let lifetime = Exp::new(1.0 / (options.lifetime_hours * 3600.0))
        .ok()
        .filter(|_| options.lifetime_hours > 0.0)
        .context("--lifetime-hours must be a number above 0")?;
    let request = |random: &mut ChaCha8Rng, more: Duration| {
        let lives: f64 = lifetime.sample(random);
        VmRequest {
            resources: size(random),
            timeout: Some(Duration::from_secs_f64(lives.clamp(1.0, 1e8)) + more),
            ..VmRequest::default()
        }
    };
    let first = expected(options, 0.0).round().max(0.0) as u32;
    // The last twentieth of the warm-up is for the last of them to start.
    let step = warm_up.mul_f64(0.95) / first.max(1);
    let mut list: Vec<Arrival> = (0..first)
        .map(|n| {
            let at = step * n;
            Arrival { at, request: request(&mut random, warm_up - at) }
        })
        .collect();
    // Thinning (Lewis and Shedler 1979): arrivals at the highest rate, of which those above the
    // hour's are left out.
    let mean = f64::from(options.vms) / (options.lifetime_hours * 3600.0);
    let most = mean * (1.0 + options.swing);
    let gap = Exp::new(most).ok().context("--vms must be above 0")?;
    let mut at = gap.sample(&mut random);
    while at < options.hours * 3600.0 {
        let hour = at / 3600.0;
        let rate = mean * (1.0 - options.swing * (TAU / 24.0 * (hour - QUIET)).cos());
        if uniform(&mut random) * most < rate {
            let at = warm_up + Duration::from_secs_f64(at);
            list.push(Arrival { at, request: request(&mut random, Duration::ZERO) });
        }
        at += gap.sample(&mut random);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_day_and_it_has_the_numbers_that_were_asked_for() {
        let options = Options { vms: 2000, ..Options::default() };
        let warm_up = Duration::from_secs(1800);
        let list = plan(&options, warm_up).expect("good options");
        assert_eq!(list, plan(&options, warm_up).expect("good options"));
        assert!(list.windows(2).all(|w| w[0].at <= w[1].at), "in order of time");
        let alive = |hours: f64| {
            let now = warm_up + Duration::from_secs_f64(hours * 3600.0);
            let lives = |a: &&Arrival| a.at <= now && a.request.timeout.is_some_and(|t| a.at + t > now);
            list.iter().filter(lives).count() as f64
        };
        for hour in 0..24 {
            let there = alive(f64::from(hour));
            let wanted = expected(&options, f64::from(hour));
            // Poisson: five standard deviations.
            assert!((there - wanted).abs() < 5.0 * wanted.sqrt(), "hour {hour}: {there} instead of {wanted}");
        }
        let cores: u32 = list.iter().map(|a| a.request.resources.cpu).sum();
        let mean = f64::from(cores) / list.len() as f64;
        assert!((2.1..2.25).contains(&mean), "{mean} cores each");
        assert_eq!(SIZES.iter().map(|s| s.2).sum::<u32>(), 10_000);
        let other = plan(&Options { seed: 2, ..options }, warm_up).expect("good options");
        assert_ne!(list, other);
    }
}
