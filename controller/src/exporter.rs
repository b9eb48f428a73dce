//! Writes the seed's CSV files: a line per statistics period in each.

use crate::hub::{Handle, now};
use anyhow::Context;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tandem_core::export;

/// Appends to the files in `folder` until the hub is gone. A file that cannot be written is named once; the others go on.
pub async fn run(folder: PathBuf, period: Duration, hub: Handle) {
    let start = now();
    let mut files: Vec<(&'static str, Option<File>)> = Vec::new();
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if hub.inputs.is_closed() {
            return;
        }
        let seconds = now().since(start).as_secs_f64();
        for csv in export::csv(&hub.snapshot.load()) {
            let index = files.iter().position(|(name, _)| *name == csv.file).unwrap_or_else(|| {
                files.push((csv.file, open(&folder, csv.file, &csv.header()).map_err(complain).ok()));
                files.len() - 1
            });
            if let Some((name, slot)) = files.get_mut(index)
                && let Some(file) = slot
                && let Err(error) = writeln!(file, "{}", csv.line(seconds))
            {
                tracing::error!(
                    "cannot write {}: {error}; no more lines of it",
                    folder.join(*name).display()
                );
                *slot = None;
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn complain(error: anyhow::Error) {
    tracing::error!("{error:#}");
}

fn open(folder: &Path, name: &str, header: &str) -> anyhow::Result<File> {
    let path = folder.join(name);
    let fail = || format!("cannot write the statistics file {}", path.display());
    std::fs::create_dir_all(folder).with_context(fail)?;
    let mut file = OpenOptions::new().create(true).append(true).open(&path).with_context(fail)?;
    if file.metadata().with_context(fail)?.len() == 0 {
        writeln!(file, "{header}").with_context(fail)?;
    }
    Ok(file)
}
