//! Recorded runs (`--record`); `tandem replay FILE` reads them.

use anyhow::Context;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use tandem_core::record_replay::{Header, Recording};

/// A recording in a file.
pub type Recorder = Recording<BufWriter<File>>;

/// Creates `path` and writes the header.
///
/// # Errors
/// When the file cannot be written.
pub fn create(path: &Path, header: &Header) -> anyhow::Result<Recorder> {
    let file =
        File::create(path).with_context(|| format!("cannot create the recording {}", path.display()))?;
    Recording::new(BufWriter::new(file), header)
        .with_context(|| format!("cannot write the recording {}", path.display()))
}
