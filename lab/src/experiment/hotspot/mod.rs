//! Hotspots: a server and a link are made hot, suddenly and slowly; how soon and by how many moves
//! they are cool again, with and without looking ahead, and that nothing swings back and forth.

pub mod report;
pub mod scenario;

use crate::experiment::manifest::Manifest;
use crate::experiment::repeat;
use crate::experiment::run_folder::{OutputOptions, RunFolder};
use anyhow::Context;
use scenario::{Outcome, Scenario, What};
use std::time::Duration;

/// Options of the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where results go.
    #[command(flatten)]
    pub output: OutputOptions,
    /// How far ahead the trend is looked at where it is, in seconds.
    #[arg(long, default_value_t = 60)]
    pub horizon: u64,
    /// How long each run goes on, in virtual minutes.
    #[arg(long, default_value_t = 60)]
    pub minutes: u64,
}

/// All runs: a server and a link, each hot at once, slowly, and slowly with a look ahead.
///
/// # Errors
/// When one of them does not go as it must.
pub fn all(horizon: Duration, tail: Duration) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for what in [What::Server, What::Link] {
        for (slow, horizon) in [(false, Duration::ZERO), (true, Duration::ZERO), (true, horizon)] {
            let scenario = Scenario { what, slow, horizon, tail };
            let outcome = scenario::run(scenario).with_context(|| {
                format!("hot {}, {} rise, {} s ahead", what.name(), scenario.rise(), horizon.as_secs())
            })?;
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

/// Runs all, fills the run folder and prints the table. Nothing is random here: repetitions are
/// equal.
///
/// # Errors
/// See [`all`]; also when a file cannot be written.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let horizon = Duration::from_secs(options.horizon);
    let tail = Duration::from_secs(options.minutes.saturating_mul(60));
    repeat::run(&options.output, None, |folder: &mut RunFolder, _| {
        let outcomes = all(horizon, tail)?;
        let manifest = Manifest::new("hotspot", "simulated", 0, scenario::SITE);
        report::write(folder, &outcomes, &manifest.place())?;
        folder.finish(manifest)?;
        Ok(format!("{}no VM was moved back and forth\n", report::table(&outcomes)))
    })
}
