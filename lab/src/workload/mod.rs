//! Requests VMs from a controller: at random (Poisson arrivals and sizes, as the requester of the
//! thesis, Teixeira 2013, or any other [`distribution`]), at a fixed rate, or as a public cloud's
//! tenants did ([`trace`]).

pub mod distribution;
mod plan;
pub mod trace;

pub use plan::{Planned, plan};

use crate::cli::numbers::positive;
use anyhow::bail;
use distribution::{Choice, Values, choice, count, rate, size, time};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use tandem_api::endpoints::{CREATE_GROUP, REQUEST_VM};
use tandem_api::groups::NewGroup;
use tandem_api::{Address, Client, VmRef};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What is requested, and how often.
///
/// A field is a number or a distribution: constant:VALUE, uniform:LEAST:MOST, poisson:MEAN,
/// exponential:MEAN, normal:MEAN:SD, log-normal:MEAN:SD, pareto:LEAST:SHAPE, weibull:SCALE:SHAPE,
/// each number with a unit as in site files or without.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The controller's API.
    #[arg(long, env = "TANDEM_API", default_value = tandem_api::DEFAULT_ADDRESS)]
    pub api: Address,
    /// How many VMs; 10 by default, or all of a trace.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: Option<u32>,
    /// Time between requests, in seconds: a number is the mean of exponential distances (Poisson
    /// arrivals); or a distribution, such as weibull:2s:0.7.
    #[arg(long, default_value = "1", value_parser = time, conflicts_with = "trace")]
    pub interval: Values,
    /// Requests at equal distances instead of Poisson arrivals.
    #[arg(long, conflicts_with = "trace")]
    pub fixed: bool,
    /// CPU cores: a number is a mean (Poisson, at least 1); or a distribution, such as uniform:1:4.
    /// The site's default if not given.
    #[arg(long, value_parser = count, conflicts_with = "trace")]
    pub cpu: Option<Values>,
    /// RAM in GiB: a number is a mean (Poisson, at least 1); or a distribution, such as
    /// log-normal:4GiB:2GiB. The site's default if not given.
    #[arg(long, value_parser = size, conflicts_with = "trace")]
    pub ram: Option<Values>,
    /// Disk in GiB, as RAM.
    #[arg(long, value_parser = size)]
    pub disk: Option<Values>,
    /// Network rate in Mbit/s: a number is a mean (Poisson, at least 1); or a distribution, such as
    /// pareto:500kbit/s:2. The site's default if not given.
    #[arg(long, value_parser = rate)]
    pub net: Option<Values>,
    /// How long each VM lives, in seconds: a number, or a distribution, such as exponential:85min.
    /// Of a trace: VMs whose lifetime it does not have.
    #[arg(long, visible_alias = "lifetime", value_parser = time)]
    pub timeout: Option<Values>,
    /// Service class: a name, or names with weights, such as gold=1,silver=3.
    #[arg(long, value_parser = choice)]
    pub class: Option<Choice>,
    /// Image: a name, or names with weights.
    #[arg(long, value_parser = choice)]
    pub image: Option<Choice>,
    /// What generates its traffic (`tandem-lab traffic-tools`): a name, or names with weights.
    #[arg(long, value_parser = choice, value_name = "TOOL")]
    pub traffic: Option<Choice>,
    /// Request so many VMs at one moment, and make a group of them when all of them run.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=1000), conflicts_with = "trace")]
    pub group_size: Option<u32>,
    /// Replay the arrivals of a public cloud, such as lab/data/vm-traces/arrivals.txt: cores and RAM
    /// are the trace's.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// How long the trace's VMs lived: lab/data/vm-traces/lifetimes.txt.
    #[arg(long, value_name = "FILE", requires = "trace")]
    pub trace_lifetimes: Option<PathBuf>,
    /// What the trace's letters stand for, if not those of the Azure trace.
    #[arg(long, value_name = "FILE", requires = "trace")]
    pub trace_flavours: Option<PathBuf>,
    /// Make a group of each batch of a tenant in the trace.
    #[arg(long, requires = "trace")]
    pub batches: bool,
    /// Divide all times by this: distances between requests, and lifetimes.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub speed_up: f64,
    /// The same seed requests the same VMs at the same moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// The random numbers of a seed.
pub fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
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
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    plan.iter().filter_map(|p| p.group).for_each(|group| *sizes.entry(group).or_default() += 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let accepted = runtime.block_on(async {
        let start = Instant::now();
        let mut requests: JoinSet<(Option<usize>, Option<Ipv4Addr>)> = JoinSet::new();
        let mut groups = Groups { client: client.clone(), sizes, answers: BTreeMap::new(), start };
        let mut accepted = 0;
        for (n, planned) in plan.into_iter().enumerate() {
            let due = start + planned.at;
            // Answers are taken while the next request is not due yet.
            loop {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(due) => break,
                    Some(Ok((group, address))) = requests.join_next(), if !requests.is_empty() => {
                        accepted += usize::from(address.is_some());
                        groups.take(group, address).await;
                    }
                }
            }
            let client = client.clone();
            let group = planned.group;
            requests.spawn(async move { (group, request(client, n + 1, start, planned).await) });
        }
        while let Some(Ok((group, address))) = requests.join_next().await {
            accepted += usize::from(address.is_some());
            groups.take(group, address).await;
        }
        accepted
    });
    println!("{accepted} of {total} accepted");
    if accepted == 0 && total > 0 {
        bail!("no request was met");
    }
    Ok(())
}

/// Requests one VM, and prints what came of it; its address when it runs.
async fn request(client: Client, number: usize, start: Instant, planned: Planned) -> Option<Ipv4Addr> {
    let at = start.elapsed();
    let result = client.send(REQUEST_VM.with(&planned.vm)).await;
    let took = start.elapsed().saturating_sub(at);
    let (address, text) = match result {
        Ok(reply) => (Some(reply.body.address), reply.body.address.to_string()),
        Err(error) => (None, format!("{:#}", anyhow::Error::from(error)).replace('\n', " ")),
    };
    println!(
        "{:>8.2} s  request {number:<4} {text} ({:.2} s)  {}",
        at.as_secs_f64(),
        took.as_secs_f64(),
        planned.text
    );
    address
}

/// Groups whose members have been asked for.
struct Groups {
    client: Client,
    /// How many members each has.
    sizes: BTreeMap<usize, usize>,
    /// What came of them so far.
    answers: BTreeMap<usize, Vec<Option<Ipv4Addr>>>,
    start: Instant,
}

impl Groups {
    /// Takes note of what came of a member; makes the group when it was the last one.
    async fn take(&mut self, group: Option<usize>, address: Option<Ipv4Addr>) {
        let Some(group) = group else { return };
        let answers = self.answers.entry(group).or_default();
        answers.push(address);
        let size = self.sizes.get(&group).copied().unwrap_or(0);
        if answers.len() < size {
            return;
        }
        let answers = self.answers.remove(&group).unwrap_or_default();
        let members: Vec<VmRef> = answers.into_iter().flatten().map(VmRef::from).collect();
        let text = if size < 2 {
            return;
        } else if members.len() < size {
            format!("not made: {} of its {size} VMs run", members.len())
        } else {
            match self.client.send(CREATE_GROUP.with(&NewGroup { members })).await {
                Ok(reply) => format!("group {} of {size} VMs", reply.body.id),
                Err(error) => format!("{:#}", anyhow::Error::from(error)).replace('\n', " "),
            }
        };
        println!("{:>8.2} s  group {group:<6} {text}", self.start.elapsed().as_secs_f64());
    }
}
