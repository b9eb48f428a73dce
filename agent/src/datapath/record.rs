//! Records of the configuration before the agent changed it: a JSON file each in the state folder.
//! They alone define what belongs to the agent.
//!
//! A record is on disk before the change that it is about: it is written to a temporary file,
//! synced, renamed, and the folder synced. So the file is always complete, before or after a write.
//! A record that cannot be read nevertheless (a full disk, an editing mistake) stops all changes:
//! without it, what belongs to the agent is unknown.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// It cannot be read.
    #[error(
        "{}, which says what this agent has to give back, is damaged ({why}); nothing was touched. Put a copy of it back; or, if all \
         interfaces and bridges are as they should be without an agent, remove it",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It cannot be written.
    #[error("{}: {cause}; what was there before could not be written down, and is therefore left alone", file.display())]
    Unsaved {
        /// The file.
        file: PathBuf,
        /// The kernel's answer; in the message.
        cause: io::Error,
    },
}

/// A record in the state folder that survives a crash while it is written.
pub(super) struct Record<T> {
    file: PathBuf,
    now: Result<T, String>,
}

impl<T: Default + PartialEq + Serialize + DeserializeOwned> Record<T> {
    /// Reads the file; empty if it does not exist.
    pub(super) fn open(file: PathBuf) -> Record<T> {
        let now = match std::fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(error.to_string()),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
        };
        Record { file, now }
    }

    /// The contents.
    ///
    /// # Errors
    /// When the file is damaged.
    pub(super) fn get(&self) -> Result<&T, RecordError> {
        self.now.as_ref().map_err(|why| RecordError::Damaged { file: self.file.clone(), why: why.clone() })
    }

    /// Writes it; returns once it is on disk. Unchanged contents are not written.
    ///
    /// When the file is damaged or cannot be written; the contents are then unchanged.
    pub(super) fn put(&mut self, next: T) -> Result<(), RecordError> {
        if *self.get()? == next {
            return Ok(());
        }
        let unsaved = |cause| RecordError::Unsaved { file: self.file.clone(), cause };
        let text = serde_json::to_vec(&next).map_err(|e| unsaved(e.into()))?;
        write(&self.file, &text).map_err(unsaved)?;
        self.now = Ok(next);
        Ok(())
    }
}

/// Writes a file completely or not at all, so that it survives a power failure.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let beside = file.with_extension("new");
    let mut new = File::create(&beside)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    std::fs::rename(&beside, file)?;
    File::open(folder)?.sync_all()
}

/// The id of the machine's boot: a new boot has lost the kernel's configuration and numbers
/// interfaces anew.
pub(super) fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Example = BTreeMap<String, u32>;

    #[test]
    fn what_was_put_is_there_for_the_next_one_and_a_damaged_file_is_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("deep/record.json");
        let mut record = Record::<Example>::open(file.clone());
        assert!(record.get().expect("none is an empty one").is_empty());
        record.put(Example::from([("p1".into(), 1)])).expect("room");
        assert_eq!(Record::<Example>::open(file.clone()).get().expect("whole").len(), 1);
        let whole = std::fs::read(&file).expect("the file");
        for length in 0..whole.len() {
            std::fs::write(&file, &whole[..length]).expect("room");
            let mut record = Record::<Example>::open(file.clone());
            let error = record.get().expect_err("cut short").to_string();
            assert!(error.contains("damaged") && error.contains("record.json"), "{error}");
            record.put(Example::new()).expect_err("it is not known what would be lost");
            assert_eq!(std::fs::read(&file).expect("the file"), &whole[..length]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_damage(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("record.json");
            std::fs::write(&file, &bytes).expect("room");
            let _ = Record::<Example>::open(file).get().map_err(|e| e.to_string());
        }
    }
}
