//! A machine for use by threads: commands, files, and long-running programs with piped input and
//! output.
//!
//! [`Ssh::connect`] runs `cat` there (the *keeper*) with a pipe from this process as its input: it
//! lives as long as the connection and this process, however that ends. Dropping [`Ssh`] closes the
//! connection; if the process was killed, it ends by itself soon after its keeper.
//!
//! The calls block. A small runtime of this module waits for ssh, so that threads and tasks of
//! other runtimes may call.

use super::connection::{last_of, status_of};
use super::{COMMAND, Call, Connection, FILE, Output, SshError, Target, quote, quote_path};
use crate::inventory::Machine;
use std::future::Future;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// The most output of a command: ten times a stored program.
const MOST_OUTPUT: u64 = 256 << 20;
/// ssh's own exit status for its failures (ssh(1), EXIT STATUS).
const SSH_FAILED: i32 = 255;
/// How long a program may take to end after the end of its input, before its connection is cut.
const END: Duration = Duration::from_secs(2);
/// Threads of the runtime. All waiting is asynchronous; a second one is needed while a connection
/// is closed.
const THREADS: usize = 2;

/// A connected machine; dropping it closes the connection. May be used from several threads.
#[derive(Debug)]
pub struct Ssh {
    machine: Machine,
    connection: Mutex<Arc<Connection>>,
    keeper: Option<u32>,
    /// Its input is closed before its connection.
    keeper_program: Mutex<Option<Remote>>,
}

/// The runtime that waits for ssh, one for all machines.
fn runtime() -> std::io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("ssh")
        .enable_all()
        .build()?;
    // If two threads come at once, the second drops its own, which is idle.
    Ok(RUNTIME.get_or_init(|| made))
}

/// Waits for a future on the module's runtime.
fn wait_for<T: Send + 'static>(
    machine: &str,
    what: &str,
    work: impl Future<Output = Result<T, SshError>> + Send + 'static,
) -> Result<T, SshError> {
    let io = |source| SshError::Io { machine: machine.to_owned(), what: what.to_owned(), source };
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime().map_err(io)?.spawn(async move {
        let _ = sender.send(work.await);
    });
    receiver.recv().unwrap_or_else(|_| Err(io(std::io::Error::other("what waits for ssh has ended"))))
}

/// Wraps a script for `sh`, whatever the user's login shell is.
fn for_sh(script: &str) -> String {
    format!("exec sh -c {}", quote(script))
}

impl Ssh {
    /// Connects.
    ///
    /// When the machine is not reached or refuses the login.
    pub fn connect(machine: &Machine) -> Result<Ssh, SshError> {
        let target = Target::from(machine);
        let limit = target.connect;
        let connection =
            wait_for(&machine.name, "connecting", async move { Connection::open(&target).await })?;
        let mut ssh = Ssh {
            machine: machine.clone(),
            connection: Mutex::new(Arc::new(connection)),
            keeper: None,
            keeper_program: Mutex::new(None),
        };
        let mut keeper = ssh.spawn("starting its keeper", "echo tandem-keeper $$; exec cat")?;
        ssh.keeper = keeper.stdout.take().and_then(|stdout| keeper_id(stdout, limit));
        if ssh.keeper.is_none() {
            let what = format!("starting its keeper on {}", machine.address);
            let said = keeper.finish(END)?;
            return Err(SshError::Failed {
                machine: machine.name.clone(),
                what,
                status: said.status,
                why: if said.stderr.is_empty() { "it does not say its id".to_owned() } else { said.stderr },
            });
        }
        ssh.keeper_program = Mutex::new(Some(keeper));
        Ok(ssh)
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The id, on the machine, of a process that lives as long as this connection.
    pub fn keeper(&self) -> Option<u32> {
        self.keeper
    }

    /// The latest connection.
    fn latest(&self) -> Arc<Connection> {
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// A connection for a new operation: another one if the last is lost. Locks that the lost
    /// connection held on the machine are released by its end.
    fn open(&self, what: &str) -> Result<Arc<Connection>, SshError> {
        let mut connection = self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // ssh's master removes its socket when it ends.
        if !connection.control_socket().exists() {
            let target = connection.target().clone();
            let another = async move { Connection::open(&target).await };
            *connection = Arc::new(wait_for(&self.machine.name, what, another)?);
        }
        Ok(connection.clone())
    }

    /// The command line by which another process of this user runs a command over this connection;
    /// the command is appended.
    pub fn words(&self) -> Vec<String> {
        let socket = self.latest().control_socket().to_string_lossy().into_owned();
        // Port 9 discards (RFC 863): after the connection has ended, no other can be opened.
        let words = ["ssh", "-S", &socket, "-o", "BatchMode=yes", "-T", "-p", "9", "--", "none"];
        words.map(str::to_owned).into()
    }

    /// Runs a command with `stdin` as its input, to its end or until `limit`; any exit status is a
    /// result. `what` describes it for errors.
    ///
    /// # Errors When the machine is not reached, the connection is lost, at the time-out, or when
    /// it prints more than 256 MiB.
    pub fn try_run(
        &self,
        what: &str,
        script: &str,
        stdin: &[u8],
        limit: Duration,
    ) -> Result<Output, SshError> {
        let connection = self.open(what)?;
        let (said, command, input) = (what.to_owned(), for_sh(script), stdin.to_vec());
        wait_for(&self.machine.name, what, async move {
            let call = Call { what: &said, command: &command, input: &input, limit, most: MOST_OUTPUT };
            connection.run(call).await
        })
    }

    /// Like [`Ssh::try_run`], with any status except 0 as an error.
    ///
    /// # Errors
    /// As [`Ssh::try_run`], and when the command fails.
    pub fn run_with(
        &self,
        what: &str,
        script: &str,
        stdin: &[u8],
        limit: Duration,
    ) -> Result<String, SshError> {
        let output = self.try_run(what, script, stdin, limit)?;
        if output.status == 0 {
            return Ok(output.text());
        }
        let said = [output.stderr.clone(), output.text()].into_iter().find(|t| !t.is_empty());
        let why = said.unwrap_or_else(|| "it does not say why".to_owned());
        Err(SshError::Failed {
            machine: self.machine.name.clone(),
            what: what.into(),
            status: output.status,
            why,
        })
    }

    /// Runs a command without input; returns its output.
    ///
    /// # Errors
    /// As [`Ssh::run_with`].
    pub fn run(&self, what: &str, script: &str) -> Result<String, SshError> {
        self.run_with(what, script, &[], COMMAND)
    }

    /// Starts a long-running program.
    ///
    /// When ssh cannot be started. Whether the program started shows when it ends.
    pub fn spawn(&self, what: &str, script: &str) -> Result<Remote, SshError> {
        let io = |source| self.io(what, source);
        let (its_input, stdin) = std::io::pipe().map_err(io)?;
        let (stdout, its_output) = std::io::pipe().map_err(io)?;
        let (give_up, given_up) = oneshot::channel();
        let (sender, ended) = mpsc::sync_channel(1);
        let (started, start) = mpsc::sync_channel(1);
        let connection = self.open(what)?;
        let (said, command) = (what.to_owned(), for_sh(script));
        runtime().map_err(io)?.spawn(async move {
            let child = match connection.start(&command, its_input.into(), its_output.into()).await {
                Ok(child) => child,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            let to_its_end = async {
                let mut child = child;
                let stderr = last_of(child.stderr().take()).await;
                (status_of(child).await, stderr)
            };
            // The local process ends with its connection; the remote program may go on.
            tokio::select! {
                (status, stderr) = to_its_end => {
                    let result = match status {
                        SSH_FAILED => Err(connection.cut(&said, &stderr)),
                        status => Ok((status, stderr)),
                    };
                    let _ = sender.send(result);
                }
                _ = given_up => {}
            }
        });
        start.recv().unwrap_or_else(|_| Err(io(std::io::Error::other("what waits for ssh has ended"))))?;
        Ok(Remote {
            machine: self.machine.name.clone(),
            what: what.to_owned(),
            stdin: Some(stdin),
            stdout: Some(stdout),
            ended,
            give_up: Some(give_up),
        })
    }

    /// Writes a file there: under a temporary name, checked to be complete, then renamed. A lost
    /// connection leaves the old file. Folders are created.
    ///
    /// When it could not be written; the old file is unchanged then.
    pub fn put(&self, content: &[u8], path: &Path, mode: u32) -> Result<(), SshError> {
        let what = format!("writing {}", path.display());
        let (file, folder) = (quote_path(path), path.parent().map(quote_path).unwrap_or_else(|| "/".into()));
        let size = content.len();
        // A truncated transfer is shorter: cat cannot tell it from the end.
        let script = format!(
            "set -e; umask 077; mkdir -p -m 755 {folder}; new={file}.new.$$; trap 'rm -f \"$new\"' EXIT; trap 'exit 1' HUP PIPE TERM; cat > \"$new\"; \
             [ \"$(wc -c < \"$new\")\" -eq {size} ] || {{ echo 'only a part of it arrived' >&2; exit 1; }}; \
             chmod {mode:o} \"$new\"; sync \"$new\" 2>/dev/null || :; mv -f \"$new\" {file}"
        );
        self.run_with(&what, &script, content, FILE).map(drop)
    }

    /// Copies a local file there, like [`Ssh::put`].
    ///
    /// # Errors
    /// As [`Ssh::put`], and when the file cannot be read.
    pub fn put_file(&self, local: &Path, path: &Path, mode: u32) -> Result<(), SshError> {
        let content =
            std::fs::read(local).map_err(|e| self.io(&format!("reading {}", local.display()), e))?;
        self.put(&content, path, mode)
    }

    /// Reads a file there; `None` when it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, path: &Path) -> Result<Option<Vec<u8>>, SshError> {
        /// An exit status that `cat` does not use.
        const ABSENT: i32 = 66;
        let what = format!("reading {}", path.display());
        let file = quote_path(path);
        let output =
            self.try_run(&what, &format!("[ -e {file} ] || exit {ABSENT}; exec cat {file}"), &[], FILE)?;
        match output.status {
            0 => Ok(Some(output.stdout)),
            ABSENT => Ok(None),
            status => {
                let (machine, why) = (self.machine.name.clone(), output.stderr);
                Err(SshError::Failed { machine, what, status, why })
            }
        }
    }

    fn io(&self, what: &str, source: std::io::Error) -> SshError {
        SshError::Io { machine: self.machine.name.clone(), what: what.to_owned(), source }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let keeper = self.keeper_program.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(keeper.take());
        // Programs that are still used lose their connection, as when a cable is pulled.
        let mut exit = Command::new("ssh");
        exit.arg("-S").arg(self.latest().control_socket()).args(["-O", "exit", "none"]);
        let _ = exit.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// The keeper's process id, once printed. Other output before it (a login shell's greeting) is
/// skipped.
fn keeper_id(stdout: PipeReader, limit: Duration) -> Option<u32> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // Reads on until the connection ends, so that no output of the machine can block it.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(pid) = line.strip_prefix("tandem-keeper ") {
                let _ = sender.try_send(pid.trim().parse::<u32>().ok());
            }
        }
    });
    receiver.recv_timeout(limit).ok().flatten()
}

/// Connects to all machines in parallel; returns the results in the order of `machines`.
pub fn connect_all<'m>(machines: impl IntoIterator<Item = &'m Machine>) -> Vec<Result<Ssh, SshError>> {
    std::thread::scope(|scope| {
        let tasks: Vec<_> = machines.into_iter().map(|m| (m, scope.spawn(|| Ssh::connect(m)))).collect();
        tasks
            .into_iter()
            .map(|(m, task)| {
                task.join().unwrap_or_else(|_| {
                    let source = std::io::Error::other("the thread that connects has ended");
                    Err(SshError::Io { machine: m.name.clone(), what: "connecting".into(), source })
                })
            })
            .collect()
    })
}

/// A program running on a machine. Dropping it closes its input and its connection; a program that
/// does not end by that goes on there.
#[derive(Debug)]
pub struct Remote {
    machine: String,
    what: String,
    /// Its input.
    pub stdin: Option<PipeWriter>,
    /// Its output.
    pub stdout: Option<PipeReader>,
    /// Its exit status and standard error, once it has ended.
    ended: mpsc::Receiver<Result<(i32, String), SshError>>,
    /// Dropping it, or sending, closes the connection.
    give_up: Option<oneshot::Sender<()>>,
}

impl Remote {
    /// Closes its input and waits until it has ended; returns its status, its standard error, and
    /// the unread part of its output.
    ///
    /// When the connection was lost, or at the time-out; it is abandoned then.
    pub fn finish(mut self, limit: Duration) -> Result<Output, SshError> {
        let start = Instant::now();
        drop(self.stdin.take());
        let rest = self.stdout.take();
        let (sender, read) = mpsc::sync_channel(1);
        // A full pipe would keep the program from ending.
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = rest.map(|r| r.take(MOST_OUTPUT).read_to_end(&mut bytes));
            let _ = sender.send(bytes);
        });
        let (machine, what) = (self.machine.clone(), self.what.clone());
        let (status, stderr) = match self.ended.recv_timeout(limit) {
            Ok(result) => result?,
            Err(RecvTimeoutError::Timeout) => return Err(SshError::TimeOut { machine, what, after: limit }),
            Err(RecvTimeoutError::Disconnected) => {
                let why = "the connection has ended".to_owned();
                return Err(SshError::Cut { machine, what, why });
            }
        };
        let stdout = read.recv_timeout(limit.saturating_sub(start.elapsed()).max(END)).unwrap_or_default();
        Ok(Output { status, stdout, stderr })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.stdout.take());
        // If it was waited for before, the channel is closed, and this returns at once.
        let _ = self.ended.recv_timeout(END);
        drop(self.give_up.take());
    }
}
