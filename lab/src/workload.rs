//! Requests VMs from a controller: at random (Poisson arrivals and sizes, as the requester of the
//! thesis, Teixeira 2013) or at a fixed rate.

use anyhow::{Context, bail};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp, Poisson};
use std::time::Duration;
use tandem_api::endpoints::REQUEST_VM;
use tandem_api::vms::NewVm;
use tandem_api::{Address, Client};
use tokio::time::Instant;

/// Bytes.
const GIB: f64 = (1u64 << 30) as f64;
/// Bits a second.
const MBIT: f64 = 1e6;

/// What is requested, and how often.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The controller's API.
    #[arg(long, env = "TANDEM_API", default_value = tandem_api::DEFAULT_ADDRESS)]
    pub api: Address,
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

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// When, counted from the start.
    at: Duration,
    /// For what.
    vm: NewVm,
    /// The same as options of `tandem vm request`, for people.
    text: String,
}

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
        let mut vm = NewVm { timeout: options.timeout, ..NewVm::default() };
        let mut words = Vec::new();
        for (name, mean, unit) in sizes {
            let Some(mean) = mean else { continue };
            let size = Poisson::new(mean).ok().with_context(|| format!("{name} must be a number above 0"))?;
            let value: f64 = size.sample(&mut random);
            let value = value.max(1.0);
            words.push(format!("{name} {value}{unit}"));
            match name {
                "--cpu" => vm.cpu = Some(value as u32),
                "--ram" => vm.ram = Some((value * GIB) as u64),
                "--disk" => vm.disk = Some((value * GIB) as u64),
                _ => vm.net = Some((value * MBIT) as u64),
            }
        }
        words.extend(options.timeout.map(|seconds| format!("--timeout {seconds}")));
        list.push(Planned { at: Duration::from_secs_f64(at), vm, text: words.join(" ") });
        at += if options.fixed { options.interval } else { gap.sample(&mut random) };
    }
    Ok(list)
}

/// Requests, and prints each result as it comes.
///
/// # Errors
/// When no controller answers, or every request failed.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let token = std::env::var("TANDEM_TOKEN").ok().filter(|t| !t.is_empty());
    let client = Client::new(options.api.clone()).with_token(token);
    let plan = plan(options)?;
    let total = plan.len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let accepted = runtime.block_on(async {
        let start = Instant::now();
        let mut requests = tokio::task::JoinSet::new();
        for (n, planned) in plan.into_iter().enumerate() {
            tokio::time::sleep_until(start + planned.at).await;
            requests.spawn(request(client.clone(), n + 1, start, planned));
        }
        requests.join_all().await.into_iter().filter(|ok| *ok).count()
    });
    println!("{accepted} of {total} accepted");
    if accepted == 0 && total > 0 {
        bail!("no request was met");
    }
    Ok(())
}

/// Requests one VM, and prints what came of it; true when it runs.
async fn request(client: Client, number: usize, start: Instant, planned: Planned) -> bool {
    let at = start.elapsed();
    let result = client.send(REQUEST_VM.with(&planned.vm)).await;
    let took = start.elapsed().saturating_sub(at);
    let (ok, text) = match result {
        Ok(reply) => (true, reply.body.address.to_string()),
        Err(error) => (false, format!("{:#}", anyhow::Error::from(error)).replace('\n', " ")),
    };
    println!(
        "{:>8.2} s  request {number:<4} {text} ({:.2} s)  {}",
        at.as_secs_f64(),
        took.as_secs_f64(),
        planned.text
    );
    ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_requests_the_same() {
        let options = Options {
            api: Address::Unix("/nowhere".into()),
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
        let mean = a.last().map_or(0.0, |planned| planned.at.as_secs_f64()) / 49.0;
        assert!((0.5..2.0).contains(&mean), "arrivals a second apart on average, got {mean}");
        assert!(plan(&Options { interval: 0.0, ..options }).is_err());
    }
}
