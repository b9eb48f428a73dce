//! `tandem-lab bundle` and `tandem-lab rerun`.

use super::Cli;
use crate::bundle::{pack, rerun};
use anyhow::Context;
use clap::CommandFactory;
use std::path::PathBuf;
use std::process::ExitCode;

/// What is packed.
#[derive(Debug, clap::Args)]
pub(super) struct BundleOptions {
    /// The run folder: what an experiment's --out named.
    run: PathBuf,
    /// The file; RUN.tar.gz beside the folder if not given.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What is run again.
#[derive(Debug, clap::Args)]
pub(super) struct RerunOptions {
    /// The bundle.
    bundle: PathBuf,
    /// The run folder of the new run.
    #[arg(long)]
    out: PathBuf,
    /// Where packets are real: how far a value may be off, in percent of its series' largest.
    #[arg(long, default_value_t = 10.0, value_parser = super::numbers::amount)]
    tolerance: f64,
    /// Further options of the experiment: what names files or hardware of a machine is not taken
    /// from a bundle.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Packs.
///
/// # Errors
/// See [`pack::pack`].
pub(super) fn pack(options: &BundleOptions) -> anyhow::Result<()> {
    let beside = || {
        let mut name =
            options.run.file_name().context("the run folder has no name; write --out FILE")?.to_owned();
        name.push(".tar.gz");
        anyhow::Ok(options.run.with_file_name(name))
    };
    let bundle = options.out.clone().map_or_else(beside, Ok)?;
    let files = pack::pack(&options.run, &bundle)?;
    println!("{files} files of {} are in {}", options.run.display(), bundle.display());
    Ok(())
}

/// Runs again and compares.
///
/// # Errors
/// See [`rerun::rerun`].
pub(super) fn rerun(options: &RerunOptions) -> anyhow::Result<ExitCode> {
    let program = Cli::command();
    let experiments = program.find_subcommand("experiment").context("this program has no experiments")?;
    let result = rerun::rerun(&options.bundle, &options.out, experiments, &options.more)?;
    print!("{}", result.text(options.tolerance));
    Ok(if result.same(options.tolerance) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
