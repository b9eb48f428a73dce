//! One run: a server or a link gets hot, and what the core does about it.

use anyhow::{Context, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tandem_model::{BitRate, Hop, Request, Response, ServerId, Site, Time, VmId, VmRecord, VmRequest, site};
use tandem_sim::loads::{DefaultLoad, Load};
use tandem_sim::{SimEvent, Simulation};

/// The experiment's site file.
pub const SITE: &str = include_str!("../../../sites/hotspot.toml");

/// VMs: one more than three for each server.
const VMS: u32 = 49;

/// Share of its cores that a VM uses until it gets hot.
const USUAL: f64 = 0.2;

/// What a VM is sent when its link gets hot: seven of them make 94% of it.
const HOT_RATE: BitRate = BitRate::mbit(134);

/// How long a slow rise takes.
const RAMP: Duration = Duration::from_secs(180);

/// Between two VMs' starts: so slowly that nobody takes the start itself for a trend.
const GAP: Duration = Duration::from_secs(60);

/// When it gets hot, counted from the start of the run: the VMs are there, and the statistics have
/// settled.
pub const HOT: Duration = Duration::from_secs(3240);

/// What gets hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A server's CPU: all its VMs use all they have.
    Server,
    /// A link between an edge and an aggregation switch: all VMs behind it are sent more than they
    /// asked for.
    Link,
}

impl What {
    /// As it is written in files.
    pub fn name(self) -> &'static str {
        match self {
            What::Server => "server",
            What::Link => "link",
        }
    }
}

/// A run's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// What gets hot.
    pub what: What,
    /// At once, or slowly.
    pub slow: bool,
    /// `[hotspot] horizon`: zero only reacts.
    pub horizon: Duration,
    /// How long the run goes on after it got hot.
    pub tail: Duration,
}

impl Scenario {
    /// `at once` or `slowly`.
    pub fn rise(&self) -> &'static str {
        if self.slow { "slow" } else { "sudden" }
    }
}

/// A second of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Seconds since it began to get hot; negative before.
    pub second: i64,
    /// Share in use of what gets hot, as it really is.
    pub ratio: f64,
    /// Moves under way.
    pub under_way: usize,
    /// Moves ended well so far.
    pub moves: u64,
}

/// What came of a run. Times are seconds since it began to get hot.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The conditions.
    pub scenario: Scenario,
    /// Every second.
    pub rows: Vec<Row>,
    /// When the core first said that it is hot, or will be.
    pub noticed: f64,
    /// When the first transfer began.
    pub begun: f64,
    /// When it was above the threshold for the last time; `None` if it never was.
    pub cool: Option<f64>,
    /// Seconds above the threshold.
    pub over: usize,
    /// Moves.
    pub moves: u64,
    /// One statistics period, in seconds.
    pub period: f64,
    /// The threshold.
    pub threshold: f64,
}

impl Outcome {
    /// From the hotspot to the first transfer, in statistics periods.
    pub fn periods(&self) -> f64 {
        (self.begun - self.noticed) / self.period
    }
}

struct Run {
    sim: Simulation,
    site: Arc<Site>,
    scenario: Scenario,
    /// Who makes it hot, and what they used before.
    heaters: Vec<(VmId, Load)>,
    server: ServerId,
    hop: Hop,
}

/// Runs it.
///
/// # Errors
/// When the core does not relieve what is hot, is slower about it than two statistics periods, or
/// moves a VM back and forth.
pub fn run(scenario: Scenario) -> anyhow::Result<Outcome> {
    let mut site = site::read(SITE, "hotspot.toml")?;
    site.migration.hotspot.horizon = scenario.horizon;
    let mut run = Run::start(Arc::new(site), scenario)?;
    run.sim.run_until(Time::ZERO + HOT)?;
    let early = run.sim.take_events();
    ensure!(early.is_empty(), "something was said or moved before anything was hot: {early:?}");
    let seconds = scenario.tail.as_secs();
    let mut rows = Vec::new();
    let mut events = Vec::new();
    let mut bytes = run.bytes();
    for second in 0..seconds {
        run.heat(Duration::from_secs(second));
        run.sim.run_until(Time::ZERO + HOT + Duration::from_secs(second + 1))?;
        let ratio = run.ratio(&mut bytes);
        let under_way = run.sim.under_way().len();
        let moves = run.sim.moved().moved;
        rows.push(Row { second: second as i64, ratio, under_way, moves });
        events.extend(run.sim.take_events());
    }
    run.judge(rows, &events)
}

impl Run {
    fn start(site: Arc<Site>, scenario: Scenario) -> anyhow::Result<Run> {
        let mut sim = Simulation::new(site.clone(), Time::ZERO, None)?;
        sim.set_default_load(DefaultLoad { cpu: USUAL, ..DefaultLoad::default() });
        for n in 0..VMS {
            let request = VmRequest { resources: site.vm.default, ..VmRequest::default() };
            sim.ask(Time::ZERO + GAP * n, Request::RequestVm { request });
        }
        sim.run_until(Time::ZERO + GAP * VMS)?;
        let answers = sim.take_answers();
        let running = answers.iter().filter(|(_, _, a)| matches!(a, Response::VmRunning { .. })).count();
        ensure!(running == VMS as usize, "{running} of {VMS} VMs run: {answers:?}");
        let full = sim.loads().occupation().iter().position(|n| *n == 4).context("no server is full")?;
        let server = ServerId(full as u32);
        let records: Vec<VmRecord> = sim.core().vms().cloned().collect();
        let of_server = |r: &&VmRecord| r.server == server;
        let one = records.iter().find(of_server).context("the full server has no VM")?;
        // The last but one of the hops to a VM is the one into its edge switch.
        let [.., hop, _] = one.path_down[..] else { bail!("{} has no way down", one.id) };
        let heated = |r: &&VmRecord| match scenario.what {
            What::Server => of_server(r),
            // Four on one of the servers behind it, three on the other.
            What::Link => r.path_down.contains(&hop),
        };
        let ids = records.iter().filter(heated).map(|r| r.id);
        let heaters = ids.filter_map(|vm| sim.loads().of(vm).map(|load| (vm, load))).collect();
        Ok(Run { sim, site, scenario, heaters, server, hop })
    }

    /// What gets hot is so hot `after` it began to.
    fn heat(&mut self, after: Duration) {
        let part = if self.scenario.slow { (after.as_secs_f64() / RAMP.as_secs_f64()).min(1.0) } else { 1.0 };
        let between = |from: f64, to: f64| from + (to - from) * part;
        for (vm, before) in &self.heaters {
            match self.scenario.what {
                What::Server => {
                    let cpu = between(before.cpu, f64::from(self.site.vm.default.cpu));
                    self.sim.set_load(*vm, Load { cpu, ..*before });
                }
                What::Link => {
                    let usual = self.site.traffic_rate(self.site.vm.default.net).0 as f64;
                    let rate = BitRate(between(usual, HOT_RATE.0 as f64) as u64);
                    self.sim.set_traffic(*vm, rate);
                }
            }
        }
    }

    fn bytes(&mut self) -> u64 {
        let hop = self.hop;
        self.sim.flows().bytes(hop)
    }

    /// The share in use now, of a link: over the last second.
    fn ratio(&mut self, before: &mut u64) -> f64 {
        let now = self.bytes();
        let sent = now - std::mem::replace(before, now);
        match self.scenario.what {
            What::Server => self.sim.loads().cpu(self.server),
            What::Link => {
                let rate = self.site.topology.link(self.hop.link).map_or(1, |l| l.cfg.rate.0);
                sent as f64 * 8.0 / rate as f64
            }
        }
    }

    fn judge(self, rows: Vec<Row>, events: &[(Time, SimEvent)]) -> anyhow::Result<Outcome> {
        let cfg = &self.site.migration.hotspot;
        let threshold = if self.scenario.what == What::Server { cfg.server } else { cfg.link };
        let since = |at: Time| at.since(Time::ZERO + HOT).as_secs_f64();
        let what = self.scenario.what.name();
        let mut noticed = None;
        let mut moves: Vec<(Time, VmId, ServerId, ServerId)> = Vec::new();
        for (at, sign) in events {
            match sign {
                SimEvent::Notice(notice) if notice.kind == "hotspot" => {
                    noticed = noticed.or(Some(since(*at)))
                }
                SimEvent::TransferBegun { vm, from, to } => moves.push((*at, *vm, *from, *to)),
                SimEvent::Notice(_) => {}
            }
        }
        let noticed = noticed.with_context(|| format!("the hot {what} was never noticed"))?;
        let begun = moves.first().map(|m| since(m.0));
        let begun = begun.with_context(|| format!("nothing was moved away from the hot {what}"))?;
        let mut been: BTreeMap<VmId, BTreeSet<ServerId>> = BTreeMap::new();
        for (at, vm, from, to) in &moves {
            let been = been.entry(*vm).or_default();
            been.insert(*from);
            ensure!(
                !been.contains(to),
                "{vm} was moved back to {to}, {:.0} s after the {what} got hot",
                since(*at)
            );
        }
        // Not the same VM, but the same load: as bad.
        let pairs: BTreeSet<(ServerId, ServerId)> =
            moves.iter().map(|(_, _, from, to)| (*from, *to)).collect();
        if let Some((from, to)) = pairs.iter().find(|(from, to)| pairs.contains(&(*to, *from))) {
            bail!("VMs were moved from {from} to {to} and from {to} to {from}: load swings between them");
        }
        let half = self.scenario.tail.as_secs_f64() / 2.0;
        if let Some((at, vm, ..)) = moves.iter().find(|m| since(m.0) > half) {
            bail!("{vm} was still moved {:.0} s after the {what} got hot: it swings", since(*at));
        }
        let over: Vec<&Row> = rows.iter().filter(|r| r.ratio > threshold).collect();
        let cool = over.last().map(|r| r.second as f64 + 1.0);
        ensure!(cool.is_none_or(|at| at < half), "the {what} is still hot after {:.0} s", half);
        let outcome = Outcome {
            scenario: self.scenario,
            noticed,
            begun,
            cool,
            over: over.len(),
            moves: self.sim.moved().moved,
            period: self.site.statistics.period.as_secs_f64(),
            threshold,
            rows,
        };
        ensure!(
            outcome.periods() < 2.0,
            "from the hot {what} to the first transfer it took {:.1} statistics periods; it must be under two",
            outcome.periods()
        );
        Ok(outcome)
    }
}
