//! Runs a Mininet script in a child that can start and change nothing, and gives back what it
//! records (`recorder.py`, beside this file).
//!
//! A script is a program of somebody. Around it are, where the machine lets us: namespaces of its own
//! for the network, processes and IPC, so that nothing it starts is left; the user `nobody` without
//! any capability, when we are root; limits of time, memory, output and file sizes. Without
//! namespaces it may not start processes at all.

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tandem_model::text::escaped;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// What the child runs.
const RECORDER: &str = include_str!("recorder.py");
/// Bytes of a recorded topology, at most.
const LARGEST_RECORD: u64 = 32 << 20;
/// Bytes that the script may print, at most.
const LARGEST_OUTPUT: u64 = 1 << 20;
/// The user and group `nobody` and `nogroup` of Debian.
const NOBODY: &str = "65534";

/// A script to be run.
pub(super) struct Run<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub topo: Option<&'a str>,
    pub limit: Duration,
}

/// What the recorder says.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Recorded(Value),
    Fault { line: usize, problem: String, instead: String },
}

/// Runs the script; what was recorded, as JSON.
///
/// # Errors
/// When it makes no topology: it raises, ends, prints or takes too much, or never ends.
pub(super) async fn record(run: &Run<'_>) -> anyhow::Result<String> {
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|p| Path::new(p).exists());
    let python = python.context("a Mininet script needs python3: apt-get install python3 mininet")?;
    let confinement = Confinement::of_this_machine().await;
    let folder = std::path::absolute(run.file).ok().and_then(|p| Some(p.parent()?.to_owned()));
    let folder = folder.unwrap_or_else(|| "/".into());
    let request = json!({
        "file": run.file, "folder": folder, "topo": run.topo,
        "seconds": run.limit.as_secs_f64(), "forks": confinement.has_processes(),
    });
    let mut command = confinement.command(python);
    command
        .args(["-I", "-B", "-c", RECORDER, &request.to_string()])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {python}"))?;
    let mut guard = Group::of(&child);
    let talk = talk(&mut child, run.text);
    let said = match tokio::time::timeout(run.limit, talk).await {
        Ok(said) => said,
        Err(_) => {
            guard.kill();
            let _ = child.wait().await;
            let seconds = run.limit.as_secs();
            bail!(
                "{}: the script has not ended after {seconds} s, and was stopped. Take out what waits or loops, \
                 or give it longer: --time-limit SECONDS",
                run.file
            );
        }
    };
    guard.kill();
    let status = child.wait().await;
    let (answer, output) = said.with_context(|| run.file.to_owned())?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Recorded(recorded)) => Ok(recorded.to_string()),
        Ok(Answer::Fault { line: 0, problem, instead }) => {
            bail!("{}: {}; {}", run.file, escaped(&problem), escaped(&instead))
        }
        Ok(Answer::Fault { line, problem, instead }) => {
            bail!("{}:{line}: {}; {}", run.file, escaped(&problem), escaped(&instead))
        }
        Err(error) => {
            let how = status.map_or_else(|e| e.to_string(), |status| status.to_string());
            let text = String::from_utf8_lossy(&output);
            let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("nothing");
            bail!(
                "{}: the script ended without a topology ({how}; {error}); the last that it printed: {}",
                run.file,
                escaped(last)
            )
        }
    }
}

/// Hands the script over, and reads both outputs as far as they go.
async fn talk(child: &mut Child, script: &str) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let mut input = child.stdin.take().context("the child has an input")?;
    let output = child.stdout.take().context("the child has an output")?;
    let errors = child.stderr.take().context("the child has an error output")?;
    let hand_over = async {
        // A child that ends early says why by its output.
        let _ = input.write_all(script.as_bytes()).await;
        drop(input);
    };
    // What comes first ends it: both outputs, or one of them that is too much.
    let both = async {
        tokio::try_join!(bounded(output, LARGEST_RECORD), bounded(errors, LARGEST_OUTPUT), async {
            hand_over.await;
            Ok(())
        })
    };
    match both.await {
        Ok((answer, printed, ())) => Ok((answer, printed)),
        Err(TooMuch::Io(error)) => Err(error).context("cannot read what the script says"),
        Err(TooMuch::Bytes(most)) => {
            bail!("the script says more than {} MiB, and was stopped; take out what it prints", most >> 20)
        }
    }
}

enum TooMuch {
    Io(std::io::Error),
    Bytes(u64),
}

async fn bounded(from: impl AsyncRead + Unpin, most: u64) -> Result<Vec<u8>, TooMuch> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes).await.map_err(TooMuch::Io)?;
    if bytes.len() as u64 > most { Err(TooMuch::Bytes(most)) } else { Ok(bytes) }
}

/// How a child is kept from the machine.
enum Confinement {
    /// Root: namespaces, then the user `nobody` without capabilities.
    Root,
    /// Another user: a user namespace of its own first.
    User,
    /// No namespaces: limits alone.
    None,
}

impl Confinement {
    const NAMESPACES: &[&str] = &["--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts"];

    async fn of_this_machine() -> Confinement {
        let is_root = rustix::process::geteuid().is_root();
        let wanted = if is_root { Confinement::Root } else { Confinement::User };
        let probe =
            wanted.command("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let works =
            matches!(tokio::time::timeout(Duration::from_secs(10), probe).await, Ok(Ok(s)) if s.success());
        if works { wanted } else { Confinement::None }
    }

    /// Whether what the script starts is certain to go with it.
    fn has_processes(&self) -> bool {
        !matches!(self, Confinement::None)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = match self {
            Confinement::None => {
                let mut command = Command::new(program);
                if rustix::process::geteuid().is_root() {
                    command.uid(65534).gid(65534);
                }
                return command;
            }
            Confinement::Root | Confinement::User => Command::new("unshare"),
        };
        if matches!(self, Confinement::User) {
            command.args(["--user", "--map-current-user"]);
        }
        command.args(Confinement::NAMESPACES).arg("--");
        command.args(["setpriv", "--no-new-privs", "--inh-caps=-all"]);
        if matches!(self, Confinement::Root) {
            let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
            command.args([&user, &group, "--clear-groups", "--bounding-set=-all"]);
        }
        command.arg(program);
        command
    }
}

/// The child's process group, and the first process of its PID namespace; both end with this.
struct Group {
    leader: Option<rustix::process::Pid>,
}

impl Group {
    fn of(child: &Child) -> Group {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Group { leader: pid.and_then(rustix::process::Pid::from_raw) }
    }

    /// Ends everything. The first process of a PID namespace takes all others of it along
    /// (pid_namespaces(7)), also those that have left the process group.
    fn kill(&mut self) {
        use rustix::process::{Pid, Signal, kill_process, kill_process_group};
        let Some(leader) = self.leader.take() else { return };
        let id = leader.as_raw_nonzero();
        let listed = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for child in listed.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
