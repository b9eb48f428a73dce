//! Keep-policy, the algorithm of the thesis (Teixeira 2013): its table, exactly, and what it is
//! worth over a day of a large data centre.

pub mod arrivals;
pub mod day;
pub mod report;
pub mod table;

use crate::experiment::manifest::Manifest;
use crate::experiment::repeat;
use crate::experiment::run_folder::{OutputOptions, RunFolder};
use crate::experiment::table::Table;
use anyhow::anyhow;
use std::fmt::Write as _;
use std::time::Instant;
use tandem_model::Allocation;

/// Options of the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where results go.
    #[command(flatten)]
    pub output: OutputOptions,
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

/// Runs both parts, fills the run folder and prints the tables.
///
/// # Errors
/// When the table is not the published one, an option is out of bounds, or a file cannot be
/// written.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let seed = (!options.table_only).then_some(options.day.seed);
    repeat::run(&options.output, seed, |folder, seed| once(options, folder, seed))
}

fn once(options: &Options, folder: &mut RunFolder, seed: u64) -> anyhow::Result<String> {
    let mut tables = Vec::new();
    for policy in [Allocation::BestFit, Allocation::WorstFit] {
        tables.push((policy, table::run(policy)?));
    }
    let rows: Vec<_> = tables.iter().map(|(policy, steps)| (*policy, table::rows(steps))).collect();
    folder.table(Table::of_lines("table", 2, &table::csv(&rows)))?;
    let mut members = table::members(Allocation::BestFit)?;
    members.extend(table::members(Allocation::WorstFit)?);
    folder.table(Table::of_lines("moves", 3, &table::moves_csv(&members)))?;
    let mut manifest = Manifest::new("keep-policy", "simulated", 0, table::SITE);
    folder.figure("steps", report::strip(&tables, &manifest.place()))?;
    let mut text = format!("{}\n{}\n", table::table(&rows), table::moves_table(&members));
    if !options.table_only {
        let day = day::Options { seed, ..options.day };
        let started = Instant::now();
        let runs = both(&day)?;
        let took = started.elapsed();
        manifest = Manifest::new("keep-policy", "simulated", seed, &day::site_text(&day, true)?);
        report::write(folder, &day, &runs, &manifest.place())?;
        text += &report::table(&day, &runs);
        let _ = writeln!(text, "both runs took {:.1} s", took.as_secs_f64());
    }
    folder.finish(manifest)?;
    Ok(text)
}
