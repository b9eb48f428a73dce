//! A simulated day of a large data centre: VMs come and go, with the policy kept and without.

use super::arrivals;
use crate::experiment::keep_policy::arrivals::Arrival;
use anyhow::{bail, ensure};
use std::sync::Arc;
use std::time::Duration;
use tandem_model::{Allocation, Request, Response, Site, Time, site};
use tandem_sim::energy::Power;
use tandem_sim::loads::DefaultLoad;
use tandem_sim::{Delays, Simulation, TransferCounts};

/// Until the VMs of the start are there; it does not count.
const WARM_UP: Duration = Duration::from_secs(1800);

/// Between two rows of the series.
pub const STEP: Duration = Duration::from_secs(300);

/// How many servers an edge switch has.
const PER_EDGE: u32 = 20;

/// What the day is like.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args)]
#[group(id = "day")]
pub struct Options {
    /// Servers, of 32 cores and 64 GiB; a multiple of 20.
    #[arg(long, default_value_t = 1000)]
    pub servers: u32,
    /// VMs at the same time, on the day's average.
    #[arg(long, default_value_t = 10_000)]
    pub vms: u32,
    /// How long the day is.
    #[arg(long, default_value_t = 24.0, value_parser = crate::cli::numbers::hours)]
    pub hours: f64,
    /// Mean lifetime of a VM.
    #[arg(long, default_value_t = 4.0, value_parser = crate::cli::numbers::positive)]
    pub lifetime_hours: f64,
    /// How far arrivals swing around their mean between night and afternoon, 0 to 1.
    #[arg(long, default_value_t = 0.4, value_parser = crate::cli::numbers::part)]
    pub swing: f64,
    /// Share of its cores that a VM uses.
    #[arg(long, default_value_t = 0.25, value_parser = crate::cli::numbers::part)]
    pub vm_cpu: f64,
    /// Minutes between two runs of keep-policy.
    #[arg(long, default_value_t = 30)]
    pub every_minutes: u32,
    /// Moves of a run of keep-policy at most.
    #[arg(long, default_value_t = 400)]
    pub moves: u32,
    /// What a move must be worth: share of a server freed or evened out, per GiB sent; 0 takes
    /// every move.
    #[arg(long, default_value_t = 0.0, value_parser = crate::cli::numbers::amount)]
    pub gain: f64,
    /// Which policy places VMs, and is kept.
    #[arg(long, value_parser = allocation, default_value = "best-fit")]
    pub allocation: Allocation,
    /// The same seed requests the same VMs at the same moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What servers consume.
    #[command(flatten)]
    pub power: PowerOptions,
}

/// What a server consumes, in watts; see [`Power`].
#[derive(Debug, Clone, Copy, PartialEq, clap::Args)]
pub struct PowerOptions {
    /// Watts of a server with VMs whose CPU does nothing.
    #[arg(long = "idle-watts", default_value_t = Power::default().idle, value_parser = crate::cli::numbers::amount)]
    pub idle: f64,
    /// Watts of a server whose CPU is fully used.
    #[arg(long = "peak-watts", default_value_t = Power::default().peak, value_parser = crate::cli::numbers::amount)]
    pub peak: f64,
    /// Watts of a server without VMs, which sleeps.
    #[arg(long = "asleep-watts", default_value_t = Power::default().asleep, value_parser = crate::cli::numbers::amount)]
    pub asleep: f64,
}

impl Default for PowerOptions {
    fn default() -> PowerOptions {
        let Power { idle, peak, asleep } = Power::default();
        PowerOptions { idle, peak, asleep }
    }
}

impl From<PowerOptions> for Power {
    fn from(options: PowerOptions) -> Power {
        Power { idle: options.idle, peak: options.peak, asleep: options.asleep }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            servers: 1000,
            vms: 10_000,
            hours: 24.0,
            lifetime_hours: 4.0,
            swing: 0.4,
            vm_cpu: 0.25,
            every_minutes: 30,
            moves: 400,
            gain: 0.0,
            allocation: Allocation::BestFit,
            seed: 1,
            power: PowerOptions::default(),
        }
    }
}

fn allocation(text: &str) -> Result<Allocation, String> {
    match text {
        "first-fit" => Ok(Allocation::FirstFit),
        "best-fit" => Ok(Allocation::BestFit),
        "worst-fit" => Ok(Allocation::WorstFit),
        _ => Err(format!("{text:?} is not first-fit, best-fit or worst-fit")),
    }
}

/// The name of a policy, as site files have it.
pub fn name(allocation: Allocation) -> &'static str {
    match allocation {
        Allocation::FirstFit => "first-fit",
        Allocation::BestFit => "best-fit",
        Allocation::WorstFit => "worst-fit",
    }
}

/// The day's site file, with the policy kept or not.
///
/// # Errors
/// When the number of servers does not fill edge switches.
pub fn site_text(options: &Options, keep: bool) -> anyhow::Result<String> {
    ensure!(
        options.servers > 0 && options.servers.is_multiple_of(PER_EDGE),
        "--servers {} does not fill edge switches of {PER_EDGE} servers; give a multiple of {PER_EDGE}",
        options.servers
    );
    let edges = options.servers / PER_EDGE;
    let aggregation = edges.div_ceil(5).max(2);
    let core = aggregation.div_ceil(3).max(2);
    let period = if keep { format!("period = \"{} min\"\n", options.every_minutes) } else { String::new() };
    Ok(format!(
        "# {servers} servers behind {edges} edge switches. Links are wide: the day is about servers.\n\
         name = \"keep-policy-day\"\n\n\
         [topology]\nshape = \"three-tier\"\ngateways = 1\ncore = {core}\naggregation = {aggregation}\nedge = {edges}\n\
         servers_per_edge = {PER_EDGE}\ncore_gateway_links = 1\naggregation_core_links = 2\nedge_aggregation_links = 2\n\n\
         [bandwidth]\ngateway = \"400 Gbit/s\"\ncore = \"200 Gbit/s\"\naggregation = \"100 Gbit/s\"\nedge = \"10 Gbit/s\"\n\n\
         [servers]\ncpu = 32\nram = \"64 GiB\"\ndisk = \"4 TiB\"\n\n\
         [addresses]\nnetwork = \"10.0.0.0/8\"\nprefix_len = 21   # a VM that moves keeps its address\n\n\
         [policy]\nallocation = \"{policy}\"\n\n\
         [statistics]\nperiod = \"5 min\"\n\n\
         [modules]\ndiscovery = false\n\n\
         [discovery]\nhost_timeout = \"1 h\"\n\n\
         [migration]\nrate = \"1 Gbit/s\"\nat_once = 64\nper_server = 4\n\n\
         [keep_policy]\n{period}moves = {moves}\ngain = {gain}\n",
        servers = options.servers,
        policy = name(options.allocation),
        moves = options.moves,
        gain = options.gain,
    ))
}

/// A moment of a run; sums are since the start of the day.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Row {
    /// Seconds since midnight.
    pub second: u64,
    /// VMs on servers.
    pub vms: u32,
    /// Servers with VMs.
    pub active: u32,
    /// VMs that were moved.
    pub moves: u64,
    /// Bytes that their moves have sent.
    pub bytes: u64,
    /// Requests that were not met.
    pub rejected: u64,
    /// What all servers take now.
    pub watts: f64,
    /// What they have consumed.
    pub kwh: f64,
}

/// A run and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Was the policy kept?
    pub keep: bool,
    /// Every [`STEP`].
    pub rows: Vec<Row>,
    /// Requests of the day.
    pub requests: u64,
    /// Transfers that failed.
    pub failed: u64,
}

/// Runs the day.
///
/// # Errors
/// When an option is out of bounds, or the data centre behaves as it must not.
pub fn run(options: &Options, keep: bool) -> anyhow::Result<Run> {
    let site: Arc<Site> = Arc::new(site::read(&site_text(options, keep)?, "keep-policy-day")?);
    let arrivals = arrivals::plan(options, WARM_UP)?;
    let mut sim = Simulation::new(site, Time::ZERO, None)?;
    sim.set_power(options.power.into());
    sim.set_default_load(DefaultLoad { cpu: options.vm_cpu, ..DefaultLoad::default() });
    sim.set_delays(Delays { progress: Duration::from_secs(30), ..Delays::default() });
    let mut day = Day { sim, next: arrivals.into_iter().peekable(), rejected: 0 };
    let midnight = Time::ZERO + WARM_UP;
    day.until(midnight)?;
    let start = day.row(Row::default(), TransferCounts::default());
    let before = day.sim.moved();
    let rejected_before = day.rejected;
    let requested = |day: &mut Day| day.sim.core().counters().requested;
    let requests_before = requested(&mut day);
    let base = Row { kwh: start.kwh, rejected: rejected_before, ..Row::default() };
    let mut rows = vec![day.row(base, before)];
    let steps = (options.hours * 3600.0 / STEP.as_secs_f64()).round() as u32;
    for step in 1..=steps {
        day.until(midnight + STEP * step)?;
        let second = u64::from(step) * STEP.as_secs();
        rows.push(Row { second, ..day.row(base, before) });
    }
    let requests = requested(&mut day) - requests_before;
    Ok(Run { keep, rows, requests, failed: day.sim.moved().failed - before.failed })
}

struct Day {
    sim: Simulation,
    next: std::iter::Peekable<std::vec::IntoIter<Arrival>>,
    rejected: u64,
}

impl Day {
    fn until(&mut self, until: Time) -> anyhow::Result<()> {
        while let Some(arrival) = self.next.next_if(|a| Time::ZERO + a.at <= until) {
            self.sim.ask(Time::ZERO + arrival.at, Request::RequestVm { request: arrival.request });
        }
        self.sim.run_until(until)?;
        for (_, _, answer) in self.sim.take_answers() {
            match answer {
                Response::VmRunning { .. } => {}
                Response::Rejected { .. } => self.rejected += 1,
                other => bail!("a request was answered {other:?}"),
            }
        }
        self.sim.take_events();
        Ok(())
    }

    /// As it is now, less what was before the day.
    fn row(&mut self, base: Row, before: TransferCounts) -> Row {
        let (watts, kwh) = self.sim.energy();
        let moved = self.sim.moved();
        Row {
            second: 0,
            vms: self.sim.loads().occupation().iter().sum(),
            active: self.sim.loads().active() as u32,
            moves: moved.moved - before.moved,
            bytes: moved.bytes - before.bytes,
            rejected: self.rejected - base.rejected,
            watts,
            kwh: kwh - base.kwh,
        }
    }
}
