//! A folder for one run's sockets, store and logs, gone when it is dropped.

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Those that are there, for [`clean_when_interrupted`].
static ALL: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn all<T>(work: impl FnOnce(&mut Vec<PathBuf>) -> T) -> T {
    work(&mut ALL.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Tries to remove a folder so often: who was stopped or killed may still be in the middle of
/// making something in it.
const TRIES: u32 = 50;
/// Before the next try.
const PAUSE: Duration = Duration::from_millis(10);

fn remove(folder: &Path) {
    for _ in 0..TRIES {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => std::thread::sleep(PAUSE),
            _ => return,
        }
    }
}

/// From now on an interrupt or SIGTERM removes these folders before it ends the process. What the
/// process holds (a lab, a controller) ends with it by itself.
///
/// # Errors
/// When no thread or signal handler can be had.
pub fn clean_when_interrupted() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut int, mut term) = {
        let _guard = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        // 128 and the signal's number, as shells have it.
        let code = runtime.block_on(async {
            tokio::select! {
                _ = int.recv() => 130,
                _ = term.recv() => 143,
            }
        });
        eprintln!("interrupted; taking everything down");
        all(|paths| paths.drain(..).for_each(|path| remove(&path)));
        std::process::exit(code);
    })?;
    Ok(())
}

/// From now on this process ends, and the folder with it, when its standard input does: whoever
/// started it is gone, however that happened. It is the first process of a process namespace, so
/// that all that it started ends too; until then it stands, for what writes into the folder while
/// that is removed would leave it behind.
///
/// # Errors
/// When no thread can be had.
pub fn end_when_stdin_closes(folder: &Path) -> anyhow::Result<()> {
    let folder = folder.to_owned();
    std::thread::Builder::new().name("lifeline".into()).spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        // From the first process of a namespace, this is for all others in it (kill(2),
        // pid_namespaces(7)).
        if std::process::id() == 1 {
            let _ = kill(Pid::from_raw(-1), Signal::SIGSTOP);
            wait_until_others_stand();
        }
        remove(&folder);
        std::process::exit(1);
    })?;
    Ok(())
}

/// Waits for what was stopped to stand: a thread that is in the middle of a call ends that first,
/// and may make something by it.
fn wait_until_others_stand() {
    for _ in 0..TRIES {
        if !others_run() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// True while a thread of another process that is seen here is not stopped and has not ended.
fn others_run() -> bool {
    let ids = |folder: &Path| -> Vec<u32> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    };
    let proc = Path::new("/proc");
    let others = ids(proc).into_iter().filter(|pid| *pid != std::process::id());
    others.map(|pid| proc.join(pid.to_string()).join("task")).any(|tasks| {
        ids(&tasks).into_iter().any(|thread| {
            let stat = std::fs::read_to_string(tasks.join(thread.to_string()).join("stat"));
            // The state stands behind the name, which is in parentheses (proc_pid_stat(5)).
            let state =
                stat.ok().and_then(|s| s.rsplit_once(')').map(|(_, rest)| rest.trim_start().to_owned()));
            state.is_some_and(|state| !state.starts_with(['T', 't', 'Z', 'X']))
        })
    })
}

/// A folder below the system's temporary folder, removed when it is dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes one below the system's temporary folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(what: &str) -> anyhow::Result<TempDir> {
        let path = std::env::temp_dir().join(format!("tandem-{what}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        all(|paths| paths.push(path.clone()));
        Ok(TempDir(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        remove(&self.0);
        all(|paths| paths.retain(|p| *p != self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody still makes things in it while it is removed; it is gone when he has ended.
    #[test]
    fn a_folder_into_which_somebody_still_writes_is_gone_in_the_end() {
        let scratch = TempDir::new("scratch-test").expect("a folder");
        let folder = scratch.path().to_owned();
        let at = folder.clone();
        let writer = std::thread::spawn(move || {
            let start = std::time::Instant::now();
            let mut n = 0u32;
            while start.elapsed() < Duration::from_millis(100) {
                n += 1;
                let _ = std::fs::create_dir(at.join(n.to_string()));
            }
        });
        while !folder.join("100").exists() && !writer.is_finished() {
            std::thread::yield_now();
        }
        drop(scratch);
        writer.join().expect("no panic");
        assert!(!folder.exists());
    }
}
