//! Writes the statistics' CSV files: lines in each at every statistics period.

use crate::clock::now;
use crate::event_loop::Handle;
use anyhow::Context;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tandem_core::export;

/// The files of a folder. One that cannot be written is named once; the others go on.
struct Files {
    folder: PathBuf,
    open: BTreeMap<&'static str, Option<File>>,
}

impl Files {
    /// Adds whole lines to a file, which gets its header first if it is new.
    fn append(&mut self, name: &'static str, header: impl FnOnce() -> String, lines: &str) {
        let slot = self.open.entry(name).or_insert_with(|| {
            let opened = open(&self.folder, name, &header());
            opened.map_err(complain).ok()
        });
        if let Some(file) = slot
            && let Err(error) = file.write_all(lines.as_bytes())
        {
            tracing::error!(
                "cannot write {}: {error}; no more lines of it",
                self.folder.join(name).display()
            );
            *slot = None;
        }
    }
}

/// Appends to the files in `folder` until the event loop is gone.
pub async fn run(folder: PathBuf, period: Duration, event_loop: Handle) {
    let start = now();
    let mut files = Files { folder, open: BTreeMap::new() };
    let mut readings = export::WrittenReadings::default();
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if event_loop.inputs.is_closed() {
            return;
        }
        let seconds = now().since(start).as_secs_f64();
        let snapshot = event_loop.snapshot.load_full();
        for csv in export::csv(&snapshot) {
            files.append(csv.file, || csv.header(), &(csv.line(seconds) + "\n"));
        }
        let classes = export::class_csv(&snapshot).into_iter();
        for table in
            export::rate_csv(&snapshot).into_iter().chain(classes).chain([export::load_csv(&snapshot)])
        {
            files.append(table.file, || table.header(), &(table.line(seconds) + "\n"));
        }
        let hardware = export::hardware_lines(&snapshot, seconds);
        if !hardware.is_empty() {
            files.append(export::HARDWARE, || export::HARDWARE_HEADER.to_owned(), &hardware);
        }
        let flows = readings.lines(&snapshot, seconds);
        if !flows.is_empty() {
            files.append(export::FLOWS, || export::FLOWS_HEADER.to_owned(), &flows);
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
