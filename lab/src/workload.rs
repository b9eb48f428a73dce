//! Requests VMs from a controller: at random (Poisson arrivals and sizes, as the requester of the
//! thesis, Teixeira 2013) or at a fixed rate.

use crate::controller_process;
use anyhow::{Context, bail};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp, Poisson};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is requested, and how often.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The controller's API.
    #[arg(long, env = "TANDEM_API", default_value = "unix:/run/tandem/api.sock")]
    pub api: String,
    /// How many VMs.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// Mean time between requests, in seconds.
    #[arg(long, default_value_t = 1.0, value_parser = crate::cli::numbers::positive)]
    pub interval: f64,
    /// Requests at equal distances instead of Poisson arrivals.
    #[arg(long)]
    pub fixed: bool,
    /// Mean number of CPU cores (Poisson, at least 1); the site's default if not given.
    #[arg(long, value_parser = crate::cli::numbers::positive)]
    pub cpu: Option<f64>,
    /// Mean RAM in GiB (Poisson, at least 1); the site's default if not given.
    #[arg(long, value_parser = crate::cli::numbers::positive)]
    pub ram: Option<f64>,
    /// Mean disk in GiB (Poisson, at least 1); the site's default if not given.
    #[arg(long, value_parser = crate::cli::numbers::positive)]
    pub disk: Option<f64>,
    /// Mean network rate in Mbit/s (Poisson, at least 1); the site's default if not given.
    #[arg(long, value_parser = crate::cli::numbers::positive)]
    pub net: Option<f64>,
    /// Seconds that each VM lives.
    #[arg(long, value_parser = crate::cli::numbers::positive)]
    pub timeout: Option<f64>,
    /// The same seed requests the same VMs at the same moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// One request: when, counted from the start, and with which arguments.
type Planned = (Duration, Vec<String>);

/// The requests of a run, by its seed alone.
///
/// # Errors
/// When a mean is not a number above 0.
pub fn plan(options: &Options) -> anyhow::Result<Vec<Planned>> {
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let gap = Exp::new(1.0 / options.interval)
        .ok()
        .filter(|_| options.interval > 0.0)
        .context("--interval must be a number of seconds above 0")?;
    let sizes = [
        ("--cpu", options.cpu, ""),
        ("--ram", options.ram, " GiB"),
        ("--disk", options.disk, " GiB"),
        ("--net", options.net, " Mbit/s"),
    ];
    let mut at = 0.0;
    let mut list = Vec::new();
    for _ in 0..options.count {
        let mut arguments = Vec::new();
        for (name, mean, unit) in sizes {
            let Some(mean) = mean else { continue };
            let size = Poisson::new(mean).ok().with_context(|| format!("{name} must be a number above 0"))?;
            let value: f64 = size.sample(&mut random);
            arguments.extend([name.to_owned(), format!("{}{unit}", value.max(1.0))]);
        }
        if let Some(timeout) = options.timeout {
            arguments.extend(["--timeout".to_owned(), timeout.to_string()]);
        }
        list.push((Duration::from_secs_f64(at), arguments));
        at += if options.fixed { options.interval } else { gap.sample(&mut random) };
    }
    Ok(list)
}

/// Requests, and prints each result as it comes.
///
/// # Errors
/// When no controller answers, or every request failed.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let program = controller_process::program()?;
    let start = Instant::now();
    let (sender, results) = std::sync::mpsc::channel();
    let plan = plan(options)?;
    let total = plan.len();
    let feeder = std::thread::spawn(move || {
        let mut waiting = Vec::new();
        for (n, (at, arguments)) in plan.into_iter().enumerate() {
            std::thread::sleep(at.saturating_sub(start.elapsed()));
            let _ = sender.send((n, start.elapsed(), arguments));
            waiting.push(n);
        }
        waiting.len()
    });
    let api = options.api.clone();
    let mut threads = Vec::new();
    for (n, at, arguments) in results {
        let program = program.clone();
        let api = api.clone();
        threads.push(std::thread::spawn(move || {
            let output = Command::new(program)
                .args(["--api", &api, "vm", "request"])
                .args(&arguments)
                .stdin(Stdio::null())
                .output();
            let took = start.elapsed() - at;
            let (ok, text) = match output {
                Ok(o) if o.status.success() => (true, String::from_utf8_lossy(&o.stdout).trim().to_owned()),
                Ok(o) => (false, String::from_utf8_lossy(&o.stderr).trim().replace('\n', " ")),
                Err(e) => (false, e.to_string()),
            };
            println!(
                "{:>8.2} s  request {:<4} {} ({:.2} s)  {}",
                at.as_secs_f64(),
                n + 1,
                text,
                took.as_secs_f64(),
                arguments.join(" ")
            );
            ok
        }));
    }
    let _ = feeder.join();
    let accepted = threads.into_iter().filter_map(|t| t.join().ok()).filter(|ok| *ok).count();
    println!("{accepted} of {total} accepted");
    if accepted == 0 && total > 0 {
        bail!("no request was met");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_requests_the_same() {
        let options = Options {
            api: String::new(),
            count: 50,
            interval: 1.0,
            fixed: false,
            cpu: Some(2.0),
            ram: Some(2.0),
            disk: None,
            net: Some(5.0),
            timeout: None,
            seed: 7,
        };
        let (a, b) = (plan(&options).expect("a plan"), plan(&options).expect("a plan"));
        assert_eq!(a, b);
        let other = plan(&Options { seed: 8, ..options.clone() }).expect("a plan");
        assert_ne!(a, other);
        let mean = a.last().map_or(0.0, |(at, _)| at.as_secs_f64()) / 49.0;
        assert!((0.5..2.0).contains(&mean), "arrivals a second apart on average, got {mean}");
        assert!(plan(&Options { interval: 0.0, ..options }).is_err());
    }
}
