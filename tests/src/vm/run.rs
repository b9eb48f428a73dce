//! A run's folder: its lock, its key, and who its machines are.

use anyhow::{Context, bail};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A run in virtual machines. The folder is kept for inspection; the next run of the same name begins
/// with an empty one.
#[derive(Debug)]
pub struct Run {
    /// Absolute.
    pub folder: PathBuf,
    /// The image's folder, absolute.
    pub image: PathBuf,
    /// The public half of the run's key, as an authorized_keys line.
    pub public_key: String,
    _lock: File,
}

impl Run {
    /// Empties the folder and makes the run's key.
    ///
    /// # Errors
    /// When the image is not made, or another run holds the folder.
    pub fn begin(folder: &Path, image: &Path) -> anyhow::Result<Run> {
        let image = image
            .canonicalize()
            .with_context(|| format!("there is no image in {}; tests/vm/image makes it", image.display()))?;
        if !image.join("recipe").exists() {
            bail!("the image in {} is half made; tests/vm/image makes it", image.display());
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let lock = File::create(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "{} belongs to a run that has not ended; end it, or choose another folder",
                    folder.display()
                )
            }
            Err(TryLockError::Error(error)) => return Err(error).context("locking the run's folder"),
        }
        for entry in std::fs::read_dir(&folder)?.flatten().filter(|e| e.file_name() != "lock") {
            let path = entry.path();
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
                .with_context(|| format!("emptying the run's folder: {}", path.display()))?;
        }
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "tandem-vm", "-f"])
            .arg(folder.join("key"))
            .status()
            .context("starting ssh-keygen (package openssh-client)")?;
        if !made.success() {
            bail!("ssh-keygen could not make the run's key ({made})");
        }
        let public_key = std::fs::read_to_string(folder.join("key.pub"))?.trim().to_owned();
        Ok(Run { folder, image, public_key, _lock: lock })
    }

    /// Writes down that the machine whose sshd is at this loopback port has the image's host key.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn know_host(&self, port: u16) -> anyhow::Result<()> {
        use std::io::Write;
        let key = std::fs::read_to_string(self.image.join("host-key.pub"))?;
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("known_hosts"))?;
        writeln!(file, "[127.0.0.1]:{port} {}", key.trim())?;
        Ok(())
    }
}
