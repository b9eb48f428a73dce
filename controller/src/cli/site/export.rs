//! `tandem site export`: a site as a Mininet script, a containerlab file or a Graphviz graph.

use crate::server::serve::read_site;
use clap::Args;
use std::path::PathBuf;
use tandem_site_import::export::{containerlab, graphviz, script};

/// What to write, of which site.
///
/// `tandem site export --mininet site.toml > net.py` makes a script that `sudo python3 net.py` runs;
/// `tandem site export --dot site.toml | dot -Tsvg > site.svg` draws the site.
#[derive(Debug, Args)]
#[group(skip)]
pub struct ExportArgs {
    #[command(flatten)]
    form: Form,
    /// The site file.
    site: PathBuf,
    /// Where to write; by default it is printed. A file that is there is not replaced.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Form {
    /// A Mininet script in Python, with the rates, delays, losses and queues of the links.
    #[arg(long)]
    mininet: bool,
    /// A topology file of containerlab: switches as ovs-bridge, rates under `vars` of each link.
    #[arg(long)]
    clab: bool,
    /// A graph for Graphviz.
    #[arg(long)]
    dot: bool,
}

pub(super) fn export(args: &ExportArgs) -> anyhow::Result<bool> {
    let site = read_site(&args.site)?;
    let text = match &args.form {
        Form { mininet: true, .. } => script(&site),
        Form { clab: true, .. } => containerlab(&site),
        Form { .. } => graphviz(&site),
    };
    super::write(&text, args.out.as_deref())?;
    Ok(true)
}
