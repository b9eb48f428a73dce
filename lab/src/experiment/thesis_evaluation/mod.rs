//! The thesis' performance evaluation (Teixeira 2013, section 4.2): figures 4.3 to 4.7, measured
//! again beside its own series.
//!
//! Each point is a data centre of its own: it is brought up, every host gets a VM that is sent as
//! much as the host's link has, the links' ratios are read as the controller measures them, the
//! machine's memory before and meanwhile, and it is taken down.

mod measure;
pub mod published;
mod report;
mod sweep;

use crate::experiment::manifest::Manifest;
use crate::experiment::run_folder::RunFolder;
use crate::world::World;
use anyhow::{Context, ensure};
use measure::Point;
use published::Published;
use sweep::Sweep;
use tandem_model::TrafficTool;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Which of the thesis' figures.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Published::ALL)]
    pub figures: Vec<Published>,
    /// Points of each figure at most, spread evenly; all that the thesis has if not given.
    #[arg(long, value_name = "N")]
    pub points: Option<usize>,
    /// Hosts of the largest data centre.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(8..=1024))]
    pub hosts: u32,
    /// Seconds that the traffic of each point is measured.
    #[arg(long, default_value_t = 5.0, value_parser = crate::cli::numbers::positive)]
    pub seconds: f64,
    /// What generates the traffic: a tool of the lab, such as udp or tcp.
    #[arg(long, default_value = "tcp")]
    pub tool: TrafficTool,
    /// Three points of each figure, 16 hosts at most, 2 seconds each.
    #[arg(long, conflicts_with_all = ["points", "hosts", "seconds"])]
    pub quick: bool,
}

impl Options {
    /// With what `--quick` means.
    #[must_use]
    pub fn bounded(&self) -> Options {
        if !self.quick {
            return self.clone();
        }
        Options { points: Some(3), hosts: 16, seconds: 2.0, ..self.clone() }
    }
}

/// Measures on each engine, by its name, and fills the run folder; the table for people.
///
/// # Errors
/// With the point that failed; its world and its controller are then gone.
pub fn run(
    engines: &[(String, Box<dyn World>)],
    options: &Options,
    folder: &mut RunFolder,
) -> anyhow::Result<String> {
    let options = options.bounded();
    ensure!(options.points != Some(0), "--points 0 measures nothing; write 1 or more, or leave it out");
    let (_, first) = engines.first().context("no engine to measure on")?;
    let example =
        Sweep::Traffic.centres(Some(1), options.hosts).first().map(|c| c.site("thesis", options.tool));
    let mut manifest = Manifest::new("thesis-evaluation", first.kind(), 0, &example.unwrap_or_default());
    let mut points: Vec<Point> = Vec::new();
    for (engine, world) in engines {
        for sweep in Sweep::ALL {
            if !sweep.figures().iter().any(|f| options.figures.contains(f)) {
                continue;
            }
            for centre in sweep.centres(options.points, options.hosts) {
                let point = measure::point(&**world, engine, sweep, &centre, &options, &mut manifest)
                    .with_context(|| format!("{engine}, {} at {}", sweep.name(), centre.x))?;
                if !world.is_virtual() {
                    eprintln!("{}", report::line(&point));
                }
                points.push(point);
            }
        }
    }
    // Each engine is named at its own line.
    manifest.engine = None;
    report::write(folder, &points, &options.figures, &manifest.place())?;
    folder.finish(manifest)?;
    Ok(report::table(&points, &options.figures))
}
