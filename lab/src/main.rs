//! `tandem-lab`: data centres without hardware.

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use tandem_lab::experiment::{fit, manifest::Manifest};
use tandem_model::Allocation;

/// Data centres without hardware: simulated in virtual time, or emulated with real packets; and the experiments on them.
#[derive(Debug, Parser)]
#[command(name = "tandem-lab", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run an experiment; it writes a run folder and prints a table beside the seed's numbers.
    Experiment {
        /// Which one.
        #[arg(value_enum)]
        name: Experiment,
        /// In which world.
        #[arg(long, value_enum, default_value = "simulated")]
        world: World,
        /// The run folder; made if it is not there.
        #[arg(long)]
        out: PathBuf,
        /// Another site file than the experiment's own.
        #[arg(long)]
        site: Option<PathBuf>,
        /// Record both runs into the run folder, for `tandem replay`.
        #[arg(long)]
        record: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Experiment {
    /// The seed's figure 4.2: the first server's link ratio under best fit and worst fit.
    BestVsWorstFit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum World {
    /// Virtual time, no privileges, milliseconds.
    Simulated,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("info").init();
    match Cli::parse().verb {
        Verb::Experiment { name: Experiment::BestVsWorstFit, world: World::Simulated, out, site, record } => {
            let text = match &site {
                Some(path) => std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?,
                None => fit::SITE.to_owned(),
            };
            std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
            let started = std::time::Instant::now();
            let run = |policy, name: &str| {
                let path = out.join(format!("{name}.jsonl"));
                fit::simulate(fit::site(&text, policy)?, record.then_some(path.as_path()))
            };
            let (best, worst) =
                (run(Allocation::BestFit, "best-fit")?, run(Allocation::WorstFit, "worst-fit")?);
            let took = started.elapsed();
            fit::write(&out, &best, &worst, &Manifest::new("best-vs-worst-fit", "simulated", 0, &text))?;
            println!("{}", fit::table(&best, &worst));
            println!(
                "{} simulated seconds took {:.1} ms; everything is in {}",
                2 * fit::SECONDS,
                took.as_secs_f64() * 1e3,
                out.display()
            );
            Ok(())
        }
    }
}
