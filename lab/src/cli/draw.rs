//! `tandem-lab draw`.

use crate::draw;
use anyhow::Context;
use std::path::PathBuf;
use tandem_model::site;
use tandem_testbed::inventory::Inventory;

/// What is drawn, and into which file.
#[derive(Debug, clap::Args)]
pub(super) struct DrawOptions {
    /// The site file.
    #[arg(long)]
    site: PathBuf,
    /// Also draw machines, interfaces and port numbers at both ends of each cable, and print them as a table.
    #[arg(long, requires = "inventory")]
    cabling: bool,
    /// The testbed's machines (inventory.toml).
    #[arg(long)]
    inventory: Option<PathBuf>,
    /// The picture (SVG); standard output if not given, except with --cabling.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Draws a site.
///
/// # Errors
/// When the site or the inventory has faults, or the picture cannot be written.
pub(super) fn run(options: DrawOptions) -> anyhow::Result<()> {
    let DrawOptions { site, cabling, inventory, out } = options;
    let checked = site::read(&super::read(&site)?, &site.display().to_string())?;
    let inventory = inventory.map(|file| Inventory::load(&file, Some(&checked))).transpose()?;
    let shown = inventory.as_ref().filter(|_| cabling);
    let svg = draw::svg(&checked, shown);
    match (&out, shown) {
        (Some(file), _) => {
            std::fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))?;
        }
        (None, None) => print!("{svg}"),
        (None, Some(_)) => {}
    }
    if let Some(inventory) = shown {
        print!("{}", draw::table(&checked, inventory));
    }
    Ok(())
}
