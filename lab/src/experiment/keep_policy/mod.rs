//! Keep-policy, the seed's algorithm: its table, exactly, and what it is worth over a day of a large data centre.

pub mod arrivals;
pub mod day;
pub mod report;
pub mod table;

use super::manifest::Manifest;
use anyhow::Context;
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

/// Runs both parts, writes the run folder and prints the tables.
///
/// # Errors
/// When the table is not the seed's, an option is out of bounds, or a file cannot be written.
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
    if options.table_only {
        Manifest::new("keep-policy", "simulated", 0, table::SITE).write(out)?;
    } else {
        let started = Instant::now();
        let mut runs = Vec::new();
        for keep in [false, true] {
            let one = Instant::now();
            runs.push(day::run(&options.day, keep)?);
            let what = if keep { "kept" } else { "not kept" };
            eprintln!("policy {what}: {:.1} s", one.elapsed().as_secs_f64());
        }
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
