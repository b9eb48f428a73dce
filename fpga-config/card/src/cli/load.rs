//! `load`.

use super::args::Cli;
use super::{given, loaded, print_json};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, Write};
use std::path::Path;
use tandem_fpga_card::program::program;
use tandem_fpga_config::bitfile::Bitfile;

/// Longer than any bitfile.
const MOST: u64 = 64 << 20;

pub(crate) fn load(cli: &Cli, file: &Path) -> anyhow::Result<()> {
    let size = std::fs::metadata(file).with_context(|| format!("reading {}", file.display()))?.len();
    if size > MOST {
        bail!("{} has {size} bytes: no bitfile is longer than {MOST}", file.display());
    }
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let bitfile = Bitfile::parse(&bytes).with_context(|| format!("{}", file.display()))?;
    let profile = loaded(cli)?;
    let wanted = given(cli)?.and_then(|p| p.directory);
    // Faults of the file alone are reported before the card is opened.
    if let Some(fpga) = &profile.board.user_fpga {
        bitfile.for_user(fpga).with_context(|| format!("{}", file.display()))?;
    }
    let mut card = cli.card.open(&profile, cli.timeout)?;
    let _lock = cli.card.lock("tandem-fpga load")?;
    if !cli.json {
        match bitfile.header() {
            Some(h) => writeln!(io::stdout(), "{} for {}, made {} {}", h.design, h.part, h.date, h.time)?,
            None => writeln!(io::stdout(), "a raw configuration of {} bytes", bitfile.data.len())?,
        }
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    // The bar goes to standard error, and only to a terminal.
    let bar = ProgressBar::new(u64::try_from(bitfile.data.len())?).with_style(style);
    let outcome = program(&mut *card, &profile.board, &bitfile, wanted.as_deref(), &mut |done| {
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    });
    bar.finish_and_clear();
    let id = outcome.with_context(|| format!("loading {} into {}", file.display(), cli.card))?;
    if cli.json {
        return print_json(&id);
    }
    writeln!(io::stdout(), "loaded; the card says: {id}")?;
    Ok(())
}
