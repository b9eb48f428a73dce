//! The published table (Teixeira 2013): three servers with 0, 3 and 3 of six equal VMs, brought
//! back to the policy by the real core, VM by VM.
//!
//! An iteration of the thesis's algorithm looks at one VM: servers in order, and on each its VMs in
//! order of id, as they were at the start. The core plans all of them at once and moves what would
//! land elsewhere. A row is what the plan makes of the servers after each VM; that the moves, as
//! they are carried out, pass through exactly these states, and that a second run finds nothing to
//! do, is checked.

use crate::experiment::keep_policy::day::name;
use crate::experiment::plot::{Move, Step};
use anyhow::{Context, bail, ensure};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tandem_model::site::{KeepOrder, KeepPlanner};
use tandem_model::{
    Allocation, MoveOptions, Plan, PlanGoal, Request, Response, ServerId, Site, Time, VmId, VmRequest, site,
};
use tandem_sim::{SimEvent, Simulation};

/// The experiment's site file.
pub const SITE: &str = include_str!("../../../sites/keep-policy-table.toml");

/// Header of `table.csv`.
pub const HEADER: &str = "policy;iteration;server_1;server_2;server_3";

/// VMs on each server.
pub type Occupation = [u32; 3];

/// A row of the table, and which VMs are where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The VMs on each server, by their numbers.
    pub servers: [Vec<u64>; 3],
    /// Which VM was looked at to get here; none at the start.
    pub vm: Option<u64>,
}

impl Row {
    /// How many VMs each server has.
    pub fn occupation(&self) -> Occupation {
        [0, 1, 2].map(|n| self.servers[n].len() as u32)
    }
}

/// The picture of how `after` comes from `before`.
pub fn step(before: &Row, after: &Row) -> Step {
    let at = |row: &Row, vm: u64| row.servers.iter().position(|s| s.contains(&vm));
    let moved = after.vm.and_then(|vm| {
        let (from, to) = (at(before, vm)?, at(after, vm)?);
        (from != to).then_some(Move { vm, from, to })
    });
    let caption = match (after.vm, moved) {
        _ if before == after => "at the end".to_owned(),
        (Some(vm), Some(_)) => format!("vm{vm} moves"),
        (Some(vm), None) => format!("vm{vm} stays"),
        (None, _) => "at the start".to_owned(),
    };
    Step { caption, servers: before.servers.to_vec(), moved }
}

/// Where it starts.
const START: Occupation = [0, 3, 3];

/// How long anything may take, in virtual time.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The published numbers: the start, then after each of the six VMs.
pub fn seed(policy: Allocation) -> [Occupation; 7] {
    match policy {
        Allocation::WorstFit => [START, [1, 2, 3], [2, 1, 3], [2, 1, 3], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
        _ => [START, [0, 2, 4], [0, 1, 5], [0, 0, 6], [0, 0, 6], [0, 0, 6], [0, 0, 6]],
    }
}

struct Table {
    sim: Simulation,
}

impl Table {
    fn ask(&mut self, ask: Request) -> anyhow::Result<Response> {
        let id = self.sim.ask(self.sim.now(), ask);
        let end = self.sim.now() + PATIENCE;
        while self.sim.now() < end {
            self.sim.run_until(self.sim.now() + Duration::from_millis(10))?;
            let answers = self.sim.take_answers();
            if let Some((_, _, answer)) = answers.into_iter().find(|(_, to, _)| *to == id) {
                return Ok(answer);
            }
        }
        bail!("a question was not answered within {} s", PATIENCE.as_secs())
    }

    fn occupation(&self) -> Occupation {
        let all = self.sim.loads().occupation();
        [0, 1, 2].map(|n| all.get(n).copied().unwrap_or_default())
    }

    /// Waits until no migration is under way, and returns every occupation on the way there.
    fn settle(&mut self) -> anyhow::Result<Vec<Occupation>> {
        let mut seen = vec![self.occupation()];
        let end = self.sim.now() + PATIENCE;
        let mut quiet = 0;
        // A step is shorter than any transfer; between two of them the core needs a few.
        while quiet < 100 {
            ensure!(self.sim.now() < end, "moves have not ended within {} s", PATIENCE.as_secs());
            self.sim.run_until(self.sim.now() + Duration::from_millis(50))?;
            let now = self.occupation();
            quiet = if self.sim.under_way().is_empty() && seen.last() == Some(&now) { quiet + 1 } else { 0 };
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        Ok(seen)
    }

    /// Six VMs, moved to where the example has them.
    fn start(site: Arc<Site>) -> anyhow::Result<Table> {
        let mut table = Table { sim: Simulation::new(site.clone(), Time::ZERO, None)? };
        let resources = site.vm.default;
        for n in 0..6u32 {
            let request = VmRequest { resources, ..VmRequest::default() };
            let vm = match table.ask(Request::RequestVm { request })? {
                Response::VmRunning { vm } => vm,
                other => bail!("a VM did not start: {other:?}"),
            };
            let to = ServerId(1 + n / 3);
            if vm.server != to {
                let ask = Request::MigrateVm { vm: vm.id, to: Some(to), options: MoveOptions::default() };
                match table.ask(ask)? {
                    Response::Migrating { .. } => table.settle()?,
                    other => bail!("{} was not moved to {to}: {other:?}", vm.id),
                };
            }
        }
        ensure!(table.occupation() == START, "it starts with {:?}, not {START:?}", table.occupation());
        Ok(table)
    }

    fn plan(&mut self) -> anyhow::Result<Plan> {
        match self.ask(Request::Plan { aim: PlanGoal::KeepPolicy, options: MoveOptions::default() })? {
            Response::Planned { plan } => Ok(*plan),
            other => bail!("no plan: {other:?}"),
        }
    }
}

/// Runs one policy: which VMs are where at the start and after each VM.
///
/// # Errors
/// When something does not go as it should, or the table is not the published one.
pub fn run(policy: Allocation) -> anyhow::Result<Vec<Row>> {
    let mut site = site::read(SITE, "keep-policy-table.toml")?;
    site.policy.allocation = policy.into();
    let mut table = Table::start(Arc::new(site))?;
    let mut order: Vec<(ServerId, VmId)> = table.sim.vms().map(|(vm, server, _)| (server, vm)).collect();
    order.sort_unstable();

    let plan = table.plan()?;
    ensure!(plan.left.is_empty(), "{}: the plan leaves out {:?}", name(policy), plan.left);
    let mut now = Row { servers: Default::default(), vm: None };
    for (server, vm) in &order {
        now.servers.get_mut(server.0 as usize).context("a fourth server")?.push(vm.0);
    }
    let mut pictures = vec![now.clone()];
    for (server, vm) in &order {
        for step in plan.moves.iter().filter(|m| m.vm == *vm) {
            ensure!(step.from == *server, "{vm} is planned to leave {}, but is on {server}", step.from);
            let slot = |s: ServerId| {
                Some(s.0 as usize).filter(|n| *n < now.servers.len()).context("a fourth server")
            };
            let from = slot(step.from)?;
            let to = slot(step.to)?;
            now.servers[from].retain(|v| *v != vm.0);
            now.servers[to].push(vm.0);
        }
        now.vm = Some(vm.0);
        pictures.push(now.clone());
    }
    let rows = rows(&pictures);

    table.sim.take_events();
    match table.ask(Request::ApplyPlan { plan: plan.id })? {
        Response::Planned { .. } => {}
        other => bail!("{} was not begun: {other:?}", plan.id),
    }
    let mut seen = vec![START];
    seen.extend(table.settle()?);
    seen.dedup();
    let mut planned = rows.clone();
    planned.dedup();
    ensure!(seen == planned, "{}: the moves went by {seen:?}, planned were {planned:?}", name(policy));
    let begun = table
        .sim
        .take_events()
        .into_iter()
        .filter(|(_, s)| matches!(s, SimEvent::TransferBegun { .. }))
        .count();
    ensure!(begun == plan.moves.len(), "{begun} moves were begun, {} were planned", plan.moves.len());
    let again = table.plan()?;
    ensure!(again.moves.is_empty(), "{}: a second run would still move {:?}", name(policy), again.moves);
    let wanted = seed(policy);
    ensure!(rows == wanted, "{}: the table is {rows:?}, the published one is {wanted:?}", name(policy));
    Ok(pictures)
}

/// The table's rows: VMs on each server.
pub fn rows(pictures: &[Row]) -> Vec<Occupation> {
    pictures.iter().map(Row::occupation).collect()
}

/// Header of `moves.csv`.
pub const MOVES_HEADER: &str = "policy;planner;order;moves;server_1;server_2;server_3";

/// What a way of planning makes of the example: how many moves, and where VMs are then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Whose packing it is.
    pub policy: Allocation,
    /// Who makes the moves.
    pub planner: KeepPlanner,
    /// In which order VMs are looked at.
    pub order: KeepOrder,
    /// Moves that were carried out.
    pub moves: usize,
    /// VMs on each server then.
    pub end: Occupation,
}

fn planner_name(planner: KeepPlanner) -> &'static str {
    match planner {
        KeepPlanner::OneByOne => "one-by-one",
        KeepPlanner::FewestMoves => "fewest-moves",
    }
}

fn order_name(order: KeepOrder) -> &'static str {
    match order {
        KeepOrder::AsIs => "as-is",
        KeepOrder::EmptiestFirst => "emptiest-first",
        KeepOrder::LargestFirst => "largest-first",
    }
}

/// The example by each order of the thesis' algorithm, and with the fewest moves.
///
/// # Errors
/// When something does not go as it should.
pub fn members(policy: Allocation) -> anyhow::Result<Vec<Member>> {
    let ways = [
        (KeepPlanner::OneByOne, KeepOrder::AsIs),
        (KeepPlanner::OneByOne, KeepOrder::EmptiestFirst),
        (KeepPlanner::OneByOne, KeepOrder::LargestFirst),
        (KeepPlanner::FewestMoves, KeepOrder::AsIs),
    ];
    let mut members = Vec::new();
    for (planner, order) in ways {
        let mut site = site::read(SITE, "keep-policy-table.toml")?;
        site.policy.allocation = policy.into();
        (site.migration.keep_policy.planner, site.migration.keep_policy.order) = (planner, order);
        let mut table = Table::start(Arc::new(site))?;
        let plan = table.plan()?;
        ensure!(plan.left.is_empty(), "{}: the plan leaves out {:?}", name(policy), plan.left);
        let moves = plan.moves.len();
        if moves > 0 {
            match table.ask(Request::ApplyPlan { plan: plan.id })? {
                Response::Planned { .. } => {}
                other => bail!("{} was not begun: {other:?}", plan.id),
            }
            table.settle()?;
        }
        members.push(Member { policy, planner, order, moves, end: table.occupation() });
    }
    Ok(members)
}

/// `moves.csv`.
pub fn moves_csv(members: &[Member]) -> String {
    let mut text = format!("{MOVES_HEADER}\n");
    for m in members {
        let [a, b, c] = m.end;
        let (planner, order) = (planner_name(m.planner), order_name(m.order));
        let _ = writeln!(text, "{};{planner};{order};{};{a};{b};{c}", name(m.policy), m.moves);
    }
    text
}

/// The same for people.
pub fn moves_table(members: &[Member]) -> String {
    let mut text = String::new();
    for m in members {
        let [a, b, c] = m.end;
        let how = format!("{}, {}", planner_name(m.planner), order_name(m.order));
        let _ = writeln!(text, "{:<10} {how:<28} {} moves to {a}-{b}-{c}", name(m.policy), m.moves);
    }
    text
}

/// `table.csv`.
pub fn csv(runs: &[(Allocation, Vec<Occupation>)]) -> String {
    let mut text = format!("{HEADER}\n");
    for (policy, rows) in runs {
        for (n, [a, b, c]) in rows.iter().enumerate() {
            let _ = writeln!(text, "{};{n};{a};{b};{c}", name(*policy));
        }
    }
    text
}

/// The same for people.
pub fn table(runs: &[(Allocation, Vec<Occupation>)]) -> String {
    let mut text = String::new();
    for (policy, rows) in runs {
        let states: Vec<String> = rows.iter().map(|[a, b, c]| format!("{a}-{b}-{c}")).collect();
        let _ = writeln!(text, "{:<10} {}   as published", name(*policy), states.join("  "));
    }
    text
}
