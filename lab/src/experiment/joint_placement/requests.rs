//! What is requested, and when, by a seed alone: Poisson arrivals of mean 1 s, sizes of CPU and
//! network by Poisson variables, as the requester of the thesis (Teixeira 2013) draws them.

use super::Options;
use anyhow::Context;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp, Poisson};
use std::time::Duration;
use tandem_model::{BitRate, Bytes, Resources, Site, VmRequest};

/// Mean time between two requests (Adami et al., IM 2013).
const MEAN_GAP: f64 = 1.0;

/// How long a VM lives where the site does not say (Adami et al., IM 2013).
const HOLDING: Duration = Duration::from_secs(85 * 60);

/// Network rates are drawn in steps of 1 kbit/s.
const STEP: u64 = 1000;

/// A request, and when it comes, counted from the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// When.
    pub at: Duration,
    /// What.
    pub request: VmRequest,
}

/// How long requests come.
pub fn length(options: &Options) -> Duration {
    Duration::from_secs(u64::from(options.minutes) * 60) / scale(options)
}

/// By how much time is shorter.
pub fn scale(options: &Options) -> u32 {
    options.scale.unwrap_or(1).max(1)
}

/// How long each VM lives.
pub fn holding(site: &Site, options: &Options) -> Duration {
    site.vm.lifetime.unwrap_or(HOLDING) / scale(options)
}

/// All requests of a run, in order of time.
///
/// # Errors
/// When the site's default VM has nothing of what is drawn.
pub fn plan(site: &Site, options: &Options) -> anyhow::Result<Vec<Arrival>> {
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let gap = Exp::new(1.0 / MEAN_GAP).context("arrivals have no mean")?;
    let mean = site.vm.default;
    let cpu = Poisson::new(f64::from(mean.cpu))
        .ok()
        .context("[vm] cpu is the mean of what is drawn: at least 1")?;
    let net = Poisson::new(mean.net.0 as f64 / STEP as f64)
        .ok()
        .context("[vm] net is the mean of what is drawn: at least 1 kbit/s")?;
    let (times, end) = (scale(options), length(options).as_secs_f64());
    let timeout = Some(holding(site, options));
    let mut list = Vec::new();
    let mut at: f64 = gap.sample(&mut random);
    while at < end {
        let (cores, steps): (f64, f64) = (cpu.sample(&mut random), net.sample(&mut random));
        let resources = Resources {
            cpu: (cores.max(1.0) as u32).saturating_mul(times),
            ram: Bytes(mean.ram.0.saturating_mul(times.into())),
            disk: Bytes(mean.disk.0.saturating_mul(times.into())),
            net: BitRate((steps.max(1.0) as u64).saturating_mul(STEP).saturating_mul(times.into())),
        };
        let request = VmRequest { resources, class: None, timeout, name: None, image: None };
        list.push(Arrival { at: Duration::from_secs_f64(at), request });
        at += gap.sample(&mut random);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::joint_placement::SITE;

    #[test]
    fn requests_have_the_paper_s_numbers_and_a_seed_gives_the_same_ones() {
        let site = tandem_core::site::read(SITE, "joint-placement.toml").expect("the experiment's site");
        let options = Options::default();
        let list = plan(&site, &options).expect("a plan");
        assert_eq!(list, plan(&site, &options).expect("a plan"));
        assert_ne!(list, plan(&site, &Options { seed: 2, ..options.clone() }).expect("a plan"));
        assert!(list.windows(2).all(|w| w[0].at <= w[1].at), "in order of time");
        assert!(list.iter().all(|a| a.request.timeout == Some(HOLDING)));
        // Poisson: five standard deviations.
        let live = |at: Duration| list.iter().filter(|a| a.at <= at && a.at + HOLDING > at).count() as f64;
        for minute in [90, 120, 169] {
            let there = live(Duration::from_secs(minute * 60));
            assert!((there - 5100.0).abs() < 5.0 * 5100f64.sqrt(), "{there} VMs in minute {minute}");
        }
        let scaled = plan(&site, &Options { scale: Some(20), ..options }).expect("a plan");
        assert!((scaled.len() as f64 * 20.0 / list.len() as f64 - 1.0).abs() < 0.25);
        assert!(scaled.iter().all(|a| a.request.timeout == Some(HOLDING / 20)));
        let mean = |list: &[Arrival]| {
            list.iter().map(|a| a.request.resources.net.0).sum::<u64>() as f64 / list.len() as f64
        };
        assert!((mean(&scaled) / mean(&list) / 20.0 - 1.0).abs() < 0.2);
    }
}
