//! `tandem site`: site files from other tools' topologies and back, and from what is there.

mod discover;
mod export;
mod import;
mod mininet_script;

use super::args::GlobalArgs;
use super::testbed::Which;
use anyhow::Context;
use clap::Subcommand;
pub use export::ExportArgs;
pub use import::ImportArgs;
use std::path::{Path, PathBuf};

/// What can be done with site files.
#[derive(Debug, Subcommand)]
pub enum SiteCommand {
    /// Write a site file of a testbed: its machines' NICs over ssh, and the cables that the running
    /// controller has seen.
    Discover {
        /// Which testbed.
        #[command(flatten)]
        which: Which,
        /// Where to write it; by default it is printed.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Write a site file of another tool's topology, and say what could not be carried over.
    Import(ImportArgs),
    /// Write a site as a file of another tool.
    Export(ExportArgs),
}

/// `tandem site`; false when not all went well.
///
/// # Errors
/// With what failed, and what to do about it.
pub async fn site(global: &GlobalArgs, command: SiteCommand) -> anyhow::Result<bool> {
    match command {
        SiteCommand::Discover { which, out } => discover::discover(global, which, out).await,
        SiteCommand::Import(args) => import::import(args).await,
        SiteCommand::Export(args) => export::export(&args),
    }
}

/// Prints a text, or writes it to a new file: one that is there may have been written by hand, and
/// is not replaced.
fn write(text: &str, out: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = out else {
        print!("{text}");
        return Ok(());
    };
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.with_context(|| format!("cannot make {}; choose another --out", path.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
