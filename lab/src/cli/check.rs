//! `tandem-lab check`: what this machine cannot do for a site.

use crate::world::emulated::shortcomings::{Machine, shortcomings};
use anyhow::anyhow;
use std::path::PathBuf;
use tandem_core::site;

/// Which site.
#[derive(Debug, clap::Args)]
pub(super) struct CheckOptions {
    /// The site file.
    #[arg(long)]
    site: PathBuf,
    /// Print JSON, for programs: a list of `about`, `problem` and `instead`.
    #[arg(long)]
    json: bool,
}

/// Prints what is short, or that nothing is.
///
/// # Errors
/// When the site file cannot be read or has faults.
pub(super) fn run(options: &CheckOptions) -> anyhow::Result<()> {
    let text = super::read(&options.site)?;
    let site =
        site::read(&text, &options.site.display().to_string()).map_err(|faults| anyhow!("{faults}"))?;
    let notes = shortcomings(&site, &Machine::now());
    if options.json {
        println!("{}", serde_json::to_string(&notes)?);
        return Ok(());
    }
    notes.iter().for_each(|note| println!("note: {note}"));
    if notes.is_empty() {
        println!("this machine can emulate {}", site.name);
    }
    Ok(())
}
