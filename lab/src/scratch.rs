//! A folder for one run's sockets, store and logs, gone when it is dropped.

use anyhow::Context;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below the system's temporary folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(what: &str) -> anyhow::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("tandem-{what}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
