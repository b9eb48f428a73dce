//! Writes recorded runs (`--record FILE`); `tandem replay FILE` reads them.

use anyhow::Context;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tandem_core::recording::{Header, Line};
use tandem_model::{Effect, Event, Time};

/// One recording, being written.
pub struct Recorder {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Recorder {
    /// Creates `path` and writes the header.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path, header: &Header) -> anyhow::Result<Recorder> {
        let file =
            File::create(path).with_context(|| format!("cannot create the recording {}", path.display()))?;
        let mut recorder = Recorder { path: path.to_owned(), out: BufWriter::new(file) };
        recorder.write(header)?;
        Ok(recorder)
    }

    fn write(&mut self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        let context = || format!("cannot write the recording {}", self.path.display());
        serde_json::to_writer(&mut self.out, value).with_context(context)?;
        self.out.write_all(b"\n").with_context(context)
    }

    /// Adds one event.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn line(&mut self, now: Time, event: Event, effects: &[Effect]) -> anyhow::Result<()> {
        self.write(&Line { now, event, effects: effects.to_vec() })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Err(error) = self.out.flush() {
            tracing::error!("the recording {} is not complete: {error}", self.path.display());
        }
    }
}
