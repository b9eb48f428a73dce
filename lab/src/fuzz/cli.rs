//! `tandem-lab fuzz-core`: many seeds on all cores, progress, hashes, and what to do about a seed
//! that fails.

use super::action::Step;
use super::run::{Planted, Report, Which, actions, one};
use super::shrink::shrink;
use super::sites::place;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Schedules that are shrunk of all that fail.
const MOST_SHRUNK: usize = 5;
/// How often progress is said.
const PROGRESS: Duration = Duration::from_secs(5);

/// The whole core with the real switch drivers in virtual time, under schedules of everything that
/// can go wrong.
///
/// Each seed is a data centre and a schedule: VMs, groups and moves are asked for while connections
/// are lost, rules refused, answers late, doubled or missing, ports flap, the store fails,
/// hypervisors die and the controller is killed. After every event what must always hold is looked
/// at; in the end everything is mended, and all of it must be as it should: each switch's rules,
/// who reaches whom (packets walk through the switches' tables), the store, the VMs that run.
///
/// A seed that fails prints what it is against, its shortest schedule and the command that repeats
/// it. Hashes of what the core decided are the same in two builds that decide the same: `--hashes
/// FILE` writes them, `--compare FILE` holds a build against them.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// So many seeds.
    #[arg(long, default_value_t = 200)]
    pub seeds: u64,
    /// The first seed. From 1000000 on the data centres are leaf-spine fabrics and graphs with loops and
    /// parallel links; below they are trees and chains.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// So many events for each schedule; then everything is mended.
    #[arg(long, default_value_t = 1000)]
    pub events: u64,
    /// So many at once; as many as there are cores, if not given.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Write seed and hash of each run to this file, a line each.
    #[arg(long)]
    pub hashes: Option<PathBuf>,
    /// Compare with hashes that were written before; names the seeds that differ and fails.
    #[arg(long)]
    pub compare: Option<PathBuf>,
    /// Do these actions only, of the first seed's schedule, by their places: what a failing seed
    /// prints.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["hashes", "compare"])]
    pub keep: Option<Vec<usize>>,
    /// Print the first seed's site, and every event and effect of its run.
    #[arg(long)]
    pub trace: bool,
    /// Runs that shrinking a failing schedule may take.
    #[arg(long, default_value_t = 2000)]
    pub shrink: u32,
}

/// Runs the verb.
///
/// # Errors
/// When a file cannot be read or written.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    // A panic is a violation of the seed that it is of, and told as such.
    std::panic::set_hook(Box::new(|_| ()));
    if let Some(kept) = &options.keep {
        return Ok(repeat(options, Which::Only(kept)));
    }
    if options.trace {
        return Ok(repeat(options, Which::Until(options.events)));
    }
    let before = options.compare.as_deref().map(|file| read_hashes(file, options)).transpose()?;
    let started = Instant::now();
    let reports = all(options);
    let took = started.elapsed();
    let events: u64 = reports.values().map(|r| r.events).sum();
    let overlaps: u64 = reports.values().map(|r| r.overlaps).sum();
    let failed: Vec<u64> = reports.iter().filter(|(_, r)| r.violation.is_some()).map(|(s, _)| *s).collect();
    for (seed, report) in reports.iter().filter(|(_, r)| r.violation.is_some()).take(50) {
        if let Some(violation) = &report.violation {
            println!("seed {seed}: {violation}");
        }
    }
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    let violations = reports.values().filter_map(|r| r.violation.as_ref());
    violations.for_each(|v| *kinds.entry(v.invariant).or_default() += 1);
    kinds.iter().for_each(|(invariant, count)| println!("{count} against \"{invariant}\""));
    failed.iter().take(MOST_SHRUNK).for_each(|seed| explain(options, *seed, &reports[seed]));
    println!(
        "{} schedules, {events} events in {:.1} s ({:.1} us of wall time an event), {} with a violation; two open \
         transactions of a switch were about the same rule {overlaps} times",
        reports.len(),
        took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / events.max(1) as f64,
        failed.len()
    );
    if let Some(file) = &options.hashes {
        write_hashes(file, options, &reports)?;
    }
    let differing = before.map_or(0, |before| compare(&before, &reports));
    Ok(if failed.is_empty() && differing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all seeds, and says how far it is.
fn all(options: &Options) -> BTreeMap<u64, Report> {
    let jobs =
        options.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let next = AtomicU64::new(0);
    let is_done = AtomicBool::new(false);
    let reports = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= options.seeds {
                            break;
                        }
                        let seed = options.first + n;
                        let which = Which::Until(options.events);
                        let report = one(seed, options.events, which, Planted::Nothing, false);
                        if let Ok(mut reports) = reports.lock() {
                            reports.insert(seed, report);
                        }
                    }
                })
            })
            .collect();
        let watcher = scope.spawn(|| {
            let started = Instant::now();
            while !is_done.load(Ordering::Relaxed) {
                std::thread::park_timeout(PROGRESS);
                let done = reports.lock().map_or(0, |r| r.len());
                if !is_done.load(Ordering::Relaxed) {
                    eprintln!(
                        "{done} of {} schedules after {:.0} s",
                        options.seeds,
                        started.elapsed().as_secs_f64()
                    );
                }
            }
        });
        workers.into_iter().for_each(|worker| drop(worker.join()));
        is_done.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
    });
    reports.into_inner().unwrap_or_default()
}

/// Repeats one run and says how it ends.
fn repeat(options: &Options, which: Which<'_>) -> ExitCode {
    if options.trace {
        eprintln!("{}", place(options.first).text);
    }
    let report = one(options.first, options.events, which, Planted::Nothing, options.trace);
    println!("seed {}: {} events, hash {:016x}", options.first, report.events, report.hash);
    match report.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("seed {}: {violation}", options.first);
            ExitCode::FAILURE
        }
    }
}

/// Shrinks a schedule that fails and prints what is left of it.
fn explain(options: &Options, seed: u64, report: &Report) {
    if options.shrink == 0 {
        return;
    }
    eprintln!("shrinking seed {seed} ({} actions)", report.actions);
    let Some(shortest) = shrink(seed, options.events, report.actions, Planted::Nothing, options.shrink)
    else {
        println!("seed {seed} fails only while it is run to its number of events");
        return;
    };
    let steps = actions(seed, options.events);
    let kept: Vec<&Step> = shortest.kept.iter().filter_map(|n| steps.get(*n)).collect();
    println!("\nseed {seed}, {} of {} actions: {}", kept.len(), report.actions, shortest.violation);
    println!("{}", place(seed).text.lines().map(|l| format!("    {l}")).collect::<Vec<_>>().join("\n"));
    kept.iter().for_each(|step| println!("    {step}"));
    let places: Vec<String> = shortest.kept.iter().map(ToString::to_string).collect();
    println!(
        "repeat it with\n    tandem-lab fuzz-core --first {seed} --events {} --keep {}\n",
        options.events,
        places.join(",")
    );
}

fn write_hashes(file: &Path, options: &Options, reports: &BTreeMap<u64, Report>) -> anyhow::Result<()> {
    let mut text = format!("# seed and hash of what the core decided, {} events each\n", options.events);
    for (seed, report) in reports {
        writeln!(text, "{seed} {:016x}", report.hash)?;
    }
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Hashes by seed, of a file that `--hashes` has written; the seeds to run must be in it.
fn read_hashes(file: &Path, options: &Options) -> anyhow::Result<BTreeMap<u64, u64>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let hashes = parse_hashes(&text).with_context(|| format!("{} is no file of hashes", file.display()))?;
    let wanted = format!(" {} events each", options.events);
    if text.lines().next().is_some_and(|first| first.starts_with('#') && !first.ends_with(&wanted)) {
        bail!("{} is of another number of events: {}", file.display(), text.lines().next().unwrap_or(""));
    }
    Ok(hashes)
}

/// The lines of a file of hashes.
///
/// # Errors
/// When a line is neither a comment nor a seed and a hash.
pub fn parse_hashes(text: &str) -> anyhow::Result<BTreeMap<u64, u64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (seed, hash) = line.split_once(' ').context("a line has a seed, a space and a hash")?;
            Ok((seed.parse()?, u64::from_str_radix(hash.trim(), 16)?))
        })
        .collect()
}

/// Names the seeds that decide otherwise than before; how many there are.
fn compare(before: &BTreeMap<u64, u64>, reports: &BTreeMap<u64, Report>) -> usize {
    let both = reports.iter().filter_map(|(seed, report)| Some((seed, before.get(seed)?, report.hash)));
    let differing: Vec<u64> = both.clone().filter(|(_, a, b)| **a != *b).map(|(seed, ..)| *seed).collect();
    println!("{} of {} hashes are as before", both.count() - differing.len(), reports.len());
    if !differing.is_empty() {
        let names: Vec<String> = differing.iter().map(ToString::to_string).collect();
        println!("these seeds decide otherwise: {}", names.join(" "));
    }
    differing.len()
}
