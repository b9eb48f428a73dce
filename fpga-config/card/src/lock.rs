//! One writer per card: a row is written to staging registers, which a second writer, or a reader
//! of rows, overwrites.
//!
//! The lock is a file with a flock as long as the value lives, and is removed with it; if its
//! holder is killed, the kernel releases the flock.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The lock for writing to a card.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{path} is held by {holder}: one writer per card. Stop it, or ask it")]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// The holder's description of itself.
        holder: String,
    },
    /// The file could not be used.
    #[error("the lock {path}")]
    File {
        /// The lock's file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock; `who` is shown to other processes.
    ///
    /// When another process holds it, or the file cannot be created.
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
            // Its former holder may have removed the file between opening and locking it: the lock
            // would be on a file that no other process sees.
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
        // Removed before the unlock, so that another holder's new file is not removed.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.flush();
    }
}
