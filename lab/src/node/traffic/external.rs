//! Programs of others that generate traffic: found when they are needed, run in a node's namespace
//! in a process group of their own, started again when they end early, and ended by their group.
//!
//! ```text
//! start --ends well--> start again at once
//!   |  `--ends badly--> noted with its last words; again after a pause that doubles; given up
//!   |                   after TRIES in a row
//!   `--the flow ends--> interrupted, read to its end, killed after FINISH
//! ```
//!
//! Nothing of it is left when the task is dropped: the group is killed and waited for.

use super::measured::{Shared, with};
use super::{FINISH, Stop};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tandem_linux::netns::NetNs;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::time::{sleep, timeout};

/// Starts in a row that end badly before it is given up.
const TRIES: u32 = 7;
/// The pause after the first bad end; it doubles with each.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 200 });
/// Bytes that are kept of what a program says last.
const WORDS: usize = 600;
/// Bytes of a line of output; a longer one is cut.
const LINE: u64 = 64 * 1024;

/// A program and where it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Debian's package.
    pub package: &'static str,
}

/// A program that is not there.
#[derive(Debug, thiserror::Error)]
#[error("the program {} is not on this machine: install Debian's package {} (apt-get install {})", .0.name, .0.package, .0.package)]
pub struct Missing(pub Program);

impl Program {
    /// Where it is, by PATH.
    ///
    /// # Errors
    /// When it is not there.
    pub fn find(self) -> Result<PathBuf, Missing> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join(self.name)).find(|p| p.is_file());
        found.ok_or(Missing(self))
    }
}

/// What is run again and again until a flow ends.
pub(super) trait Run: Send + 'static {
    /// The next run's command.
    fn command(&mut self) -> anyhow::Result<Command>;

    /// Takes a line of standard output.
    fn line(&mut self, line: &str);

    /// How it ended: well, or badly and why. `said` is what it said last on standard error.
    fn ended(&mut self, status: ExitStatus, said: &str) -> Result<(), String> {
        if status.success() { Ok(()) } else { Err(last_words(status, said)) }
    }
}

/// How a program ended, with what it said last.
pub(super) fn last_words(status: ExitStatus, said: &str) -> String {
    let said = said.trim();
    if said.is_empty() { status.to_string() } else { format!("{status}: {said}") }
}

/// A child in a process group of its own, which ends with this value.
struct Group(Child);

impl Group {
    fn signal(&self, signal: Signal) {
        // One that has ended meanwhile is not waited for yet: the number is still its own.
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Runs a program in a namespace until the flow ends.
pub(super) async fn supervise(
    mut run: impl Run,
    name: &'static str,
    place: NetNs,
    mut stop: Stop,
    shared: Shared,
) {
    let mut bad = 0;
    while !*stop.borrow() {
        let ended = match once(&mut run, &place, &mut stop).await {
            Ok((status, said)) => run.ended(status, &said),
            Err(error) => Err(format!("{error:#}")),
        };
        // What an interrupted program says of itself is no failure.
        if *stop.borrow() || stop.has_changed().is_err() {
            return;
        }
        match ended {
            Ok(()) => {
                bad = 0;
                continue;
            }
            Err(why) => {
                bad += 1;
                let again = if bad >= TRIES {
                    format!("given up after {bad} starts")
                } else {
                    "started again".into()
                };
                with(&shared, |m| m.failed = Some(format!("{name} ended ({again}): {why}")));
                if bad >= TRIES {
                    return;
                }
            }
        }
        let pause = sleep(PAUSE * 2u32.saturating_pow(bad - 1));
        tokio::select! {
            () = pause => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

fn pipe_of(fd: impl Into<OwnedFd>) -> std::io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(fd.into())
}

/// One run: how it ended, and what it said last.
async fn once(run: &mut impl Run, place: &NetNs, stop: &mut Stop) -> anyhow::Result<(ExitStatus, String)> {
    let mut command = run.command()?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut group = Group(place.run(|| command.spawn())??);
    let missing = || std::io::Error::other("a child without output");
    let mut lines = BufReader::new(pipe_of(group.0.stdout.take().ok_or_else(missing)?)?);
    let mut errors = pipe_of(group.0.stderr.take().ok_or_else(missing)?)?;
    let mut said = Vec::new();
    let mut line = Vec::new();
    let mut chunk = vec![0u8; 4096];
    let (mut has_lines, mut has_errors, mut told) = (true, true, false);
    while has_lines || has_errors {
        // A line that is as long as allowed is cut there: what follows is another one.
        let mut part = (&mut lines).take(LINE - line.len() as u64);
        tokio::select! {
            read = part.read_until(b'\n', &mut line), if has_lines => {
                has_lines = read.is_ok_and(|n| n > 0);
                if line.ends_with(b"\n") || line.len() as u64 >= LINE || !has_lines {
                    if !line.is_empty() {
                        run.line(String::from_utf8_lossy(&line).trim_end());
                    }
                    line.clear();
                }
            }
            read = errors.read(&mut chunk), if has_errors => {
                let length = read.unwrap_or(0);
                has_errors = length > 0;
                said.extend_from_slice(&chunk[..length]);
                let old = said.len().saturating_sub(WORDS);
                said.drain(..old);
            }
            _ = stop.wait_for(|stop| *stop), if !told => {
                told = true;
                group.signal(Signal::SIGINT);
            }
            () = sleep(FINISH / 2), if told => group.signal(Signal::SIGKILL),
        }
    }
    // It has closed its output: it has ended, or is about to.
    let waited = async {
        loop {
            if let Some(status) = group.0.try_wait()? {
                return Ok::<_, std::io::Error>(status);
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let status = match timeout(FINISH / 2, waited).await {
        Ok(status) => status?,
        Err(_) => {
            group.signal(Signal::SIGKILL);
            group.0.wait()?
        }
    };
    Ok((status, String::from_utf8_lossy(&said).trim().replace('\n', "; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;
    use tokio::sync::watch;

    /// A shell's script, and what it said.
    struct Script(&'static str, Arc<Mutex<Vec<String>>>);

    impl Run for Script {
        fn command(&mut self) -> anyhow::Result<Command> {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", self.0]);
            Ok(command)
        }

        fn line(&mut self, line: &str) {
            self.1.lock().expect("lines").push(line.to_owned());
        }
    }

    struct Supervised {
        stop: watch::Sender<bool>,
        shared: Shared,
        lines: Arc<Mutex<Vec<String>>>,
        task: tokio::task::JoinHandle<()>,
    }

    fn supervised(script: &'static str) -> Supervised {
        let (stop, stopped) = watch::channel(false);
        let shared = Shared::default();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let place = NetNs::current().expect("ours");
        let task =
            tokio::spawn(supervise(Script(script, lines.clone()), "sh", place, stopped, shared.clone()));
        Supervised { stop, shared, lines, task }
    }

    impl Supervised {
        async fn until(&self, what: &str, mut is: impl FnMut(&Supervised) -> bool) {
            let begin = Instant::now();
            while !is(self) {
                assert!(begin.elapsed() < Duration::from_secs(30), "{what}: {:?}", self.lines.lock());
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test]
    async fn one_that_ends_badly_is_started_again_and_its_last_words_are_kept() {
        let s = supervised("echo one; echo 'no route to anywhere' >&2; exit 3");
        s.until("two starts", |s| s.lines.lock().expect("lines").len() >= 2).await;
        let note = with(&s.shared, |m| m.failed.clone()).expect("why");
        assert_eq!(note, "sh ended (started again): exit status: 3: no route to anywhere");
        s.stop.send(true).expect("it listens");
        s.task.await.expect("it ends with the flow");
    }

    #[tokio::test]
    async fn one_that_never_works_is_given_up() {
        let s = supervised("exit 9");
        s.task.await.expect("it is given up");
        let note = with(&s.shared, |m| m.failed.clone()).expect("why");
        assert_eq!(note, "sh ended (given up after 7 starts): exit status: 9");
    }

    #[tokio::test]
    async fn one_that_is_killed_is_started_again_and_of_its_group_nothing_is_left() {
        let s = supervised("sleep 1000 & echo $! $$; wait");
        let pids = |s: &Supervised, n: usize| -> Option<(i32, i32)> {
            let lines = s.lines.lock().expect("lines");
            let (child, shell) = lines.get(n)?.split_once(' ')?;
            Some((child.parse().ok()?, shell.parse().ok()?))
        };
        s.until("it runs", |s| pids(s, 0).is_some()).await;
        let (child, shell) = pids(&s, 0).expect("its ids");
        killpg(Pid::from_raw(shell), Signal::SIGKILL).expect("it runs");
        s.until("it runs again", |s| pids(s, 1).is_some()).await;
        assert!(with(&s.shared, |m| m.failed.clone()).is_some_and(|why| why.contains("signal: 9")));
        let (second, _) = pids(&s, 1).expect("its ids");
        s.task.abort();
        let _ = s.task.await;
        let runs = |pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
        };
        let begin = Instant::now();
        while [child, second].into_iter().any(runs) {
            assert!(begin.elapsed() < Duration::from_secs(10), "something is left");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn one_that_does_not_listen_to_an_interrupt_is_killed() {
        let s = supervised("trap '' INT; echo up; sleep 1000");
        s.until("it runs", |s| !s.lines.lock().expect("lines").is_empty()).await;
        s.stop.send(true).expect("it listens");
        s.task.await.expect("it is killed");
    }

    #[test]
    fn a_program_that_is_missing_is_said_with_its_package() {
        let missing = Program { name: "no-such-program", package: "nothing" }.find().expect_err("not there");
        let said = missing.to_string();
        assert!(said.contains("no-such-program") && said.contains("apt-get install nothing"), "{said}");
    }
}
