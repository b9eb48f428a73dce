//! Keep-policy, the algorithm of the thesis (Teixeira 2013): its table, exactly, and what it is
//! worth over a day of a large data centre.

pub mod arrivals;
pub mod day;
pub mod report;
pub mod table;

use crate::experiment::manifest::Manifest;
use anyhow::{Context, anyhow};
use std::path::PathBuf;
use std::time::Instant;
use tandem_model::Allocation;

/// Options of the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The run folder; made if it is not there.
    #[arg(long)]
    pub out: PathBuf,
    /// Only the table, without the day.
    #[arg(long)]
    pub table_only: bool,
    /// The day.
    #[command(flatten)]
    pub day: day::Options,
}

/// The day without keeping the policy and with, side by side: neither knows of the other.
///
/// # Errors
/// See [`day::run`].
pub fn both(options: &day::Options) -> anyhow::Result<[day::Run; 2]> {
    std::thread::scope(|scope| {
        let without = scope.spawn(|| day::run(options, false));
        let with = day::run(options, true)?;
        let without =
            without.join().map_err(|_| anyhow!("the run without keeping the policy broke off"))??;
        Ok([without, with])
    })
}

/// Runs both parts, writes the run folder and prints the tables.
///
/// # Errors
/// When the table is not the published one, an option is out of bounds, or a file cannot be
/// written.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let out = &options.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut tables = Vec::new();
    for policy in [Allocation::BestFit, Allocation::WorstFit] {
        tables.push((policy, table::run(policy)?));
    }
    let path = out.join("table.csv");
    std::fs::write(&path, table::csv(&tables)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", table::table(&tables));
    let mut members = table::members(Allocation::BestFit)?;
    members.extend(table::members(Allocation::WorstFit)?);
    let path = out.join("moves.csv");
    std::fs::write(&path, table::moves_csv(&members))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", table::moves_table(&members));
    if options.table_only {
        Manifest::new("keep-policy", "simulated", 0, table::SITE).write(out)?;
    } else {
        let started = Instant::now();
        let runs = both(&options.day)?;
        let took = started.elapsed();
        report::write(out, &options.day, &runs)?;
        let text = day::site_text(&options.day, true)?;
        Manifest::new("keep-policy", "simulated", options.day.seed, &text).write(out)?;
        print!("{}", report::table(&options.day, &runs));
        println!("both runs took {:.1} s", took.as_secs_f64());
    }
    println!("everything is in {}", out.display());
    Ok(())
}
