//! One writer per card: a row is built in staging registers that a second writer, or a reader of
//! rows, overwrites.
//!
//! The lock is a file that is locked (flock) as long as the value lives, and goes with it; if its
//! holder is killed, the kernel unlocks it.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The right to write to a card.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

/// Why it was not given.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{path} is held by {holder}: one writer per card. Stop it, or ask it")]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// Who, in its own words.
        holder: String,
    },
    /// The file could not be used.
    #[error("the lock {path}")]
    File {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock; `who` is what others are told.
    ///
    /// # Errors
    /// When somebody else has it, or the file cannot be made.
    pub fn take(path: &Path, who: &str) -> Result<Lock, LockError> {
        let failed = |source: io::Error| LockError::File { path: path.to_owned(), source };
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(path)
                .map_err(failed)?;
            let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((mut file, nix::Error::EWOULDBLOCK)) => {
                    let mut holder = String::new();
                    let _ = Read::take(&mut file, 200).read_to_string(&mut holder);
                    let holder = match holder.trim() {
                        "" => "another process".to_owned(),
                        text => text.to_owned(),
                    };
                    return Err(LockError::Held { path: path.to_owned(), holder });
                }
                Err((_, error)) => return Err(failed(error.into())),
            };
            // Its former holder may have removed the file between opening and locking it: then it
            // locks nothing that others see.
            let same = std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
            if same != file.metadata().ok().map(|m| (m.dev(), m.ino())) {
                continue;
            }
            let text = format!("{who} (process {})\n", std::process::id());
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(text.as_bytes()))
                .map_err(failed)?;
            return Ok(Lock { file, path: path.to_owned() });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked, so that nobody's new file is removed.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.flush();
    }
}
