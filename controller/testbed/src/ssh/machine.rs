//! A machine as threads use it: commands, files, and long-running programs whose input and output
//! we hold.
//!
//! [`Ssh::connect`] runs `cat` there (the *keeper*), whose input is ours: it lives as long as the
//! connection and this process, however that ends. The connection itself is taken down with
//! [`Ssh`]; after a process that was killed it ends by itself soon after its keeper.
//!
//! The calls block. What waits for ssh is a small runtime of this module, so that threads and tasks
//! of other runtimes may call alike.

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

/// What a command says at most: a kept program is a tenth of it.
const MOST_OUTPUT: u64 = 256 << 20;
/// ssh's own status when it could not do its part (ssh(1), EXIT STATUS).
const SSH_FAILED: i32 = 255;
/// How long a program has to end by the end of its input, before its connection is cut.
const END: Duration = Duration::from_secs(2);
/// Threads that wait for ssh. All waiting is asynchronous, so a second one is for the moment that a
/// connection's end takes.
const THREADS: usize = 2;

/// A connected machine; its connection ends when this is dropped. May be used from several threads.
#[derive(Debug)]
pub struct Ssh {
    machine: Machine,
    connection: Mutex<Arc<Connection>>,
    keeper: Option<u32>,
    /// Its input is closed before its connection.
    keeper_program: Mutex<Option<Remote>>,
}

/// What waits for ssh, once for all machines.
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
    // Whoever comes second drops its own, in which nothing runs.
    Ok(RUNTIME.get_or_init(|| made))
}

/// Waits for what is done on the module's runtime.
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

/// A command for `sh`, whatever the user's login shell is.
fn for_sh(script: &str) -> String {
    format!("exec sh -c {}", quote(script))
}

impl Ssh {
    /// Connects.
    ///
    /// # Errors
    /// When the machine is not reached or does not let us in.
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

    /// The connection that was made last.
    fn latest(&self) -> Arc<Connection> {
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// A connection for something new: another one where the last has ended. What a cut connection
    /// has left on the machine, such as its lock, is given back by that.
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

    /// The words by which another process of this user runs a command line over this connection;
    /// the command line comes behind them.
    pub fn words(&self) -> Vec<String> {
        let socket = self.latest().control_socket().to_string_lossy().into_owned();
        // Port 9 discards (RFC 863): where the connection has ended, no other is made.
        let words = ["ssh", "-S", &socket, "-o", "BatchMode=yes", "-T", "-p", "9", "--", "none"];
        words.map(str::to_owned).into()
    }

    /// Runs a command with `stdin` as its input, to its end or until `limit`; any exit status is a
    /// result. `what` says in words what it does, for errors.
    ///
    /// # Errors
    /// When the machine is not reached, the connection ends, the time is over, or it prints more
    /// than 256 MiB.
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

    /// As [`Ssh::try_run`], but a status that is not 0 is an error too.
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

    /// Runs an ordinary command without input; what it printed.
    ///
    /// # Errors
    /// As [`Ssh::run_with`].
    pub fn run(&self, what: &str, script: &str) -> Result<String, SshError> {
        self.run_with(what, script, &[], COMMAND)
    }

    /// Starts a long-running program.
    ///
    /// # Errors
    /// When no ssh can be started. Whether the program could be started shows when it ends.
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
            // What is dropped here ends with its connection; what runs there may go on.
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

    /// Writes a file there: beside it, checked to be whole, then moved over it. A cut connection
    /// leaves the old one. Folders are made.
    ///
    /// # Errors
    /// When it could not be written; the old file is then as it was.
    pub fn put(&self, content: &[u8], path: &Path, mode: u32) -> Result<(), SshError> {
        let what = format!("writing {}", path.display());
        let (file, folder) = (quote_path(path), path.parent().map(quote_path).unwrap_or_else(|| "/".into()));
        let size = content.len();
        // The beginning of a file that was cut off is shorter: cat ends as if that were all.
        let script = format!(
            "set -e; umask 077; mkdir -p -m 755 {folder}; new={file}.new.$$; trap 'rm -f \"$new\"' EXIT; trap 'exit 1' HUP PIPE TERM; cat > \"$new\"; \
             [ \"$(wc -c < \"$new\")\" -eq {size} ] || {{ echo 'only a part of it arrived' >&2; exit 1; }}; \
             chmod {mode:o} \"$new\"; sync \"$new\" 2>/dev/null || :; mv -f \"$new\" {file}"
        );
        self.run_with(&what, &script, content, FILE).map(drop)
    }

    /// Copies a file of this machine there, as [`Ssh::put`] does.
    ///
    /// # Errors
    /// As [`Ssh::put`], and when the file cannot be read.
    pub fn put_file(&self, local: &Path, path: &Path, mode: u32) -> Result<(), SshError> {
        let content =
            std::fs::read(local).map_err(|e| self.io(&format!("reading {}", local.display()), e))?;
        self.put(&content, path, mode)
    }

    /// Reads a file there; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, path: &Path) -> Result<Option<Vec<u8>>, SshError> {
        /// What no `cat` answers.
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
        // Programs that somebody still holds lose their connection, as when a cable is pulled.
        let mut exit = Command::new("ssh");
        exit.arg("-S").arg(self.latest().control_socket()).args(["-O", "exit", "none"]);
        let _ = exit.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// The keeper's id, once it has said it. What the machine says before that (a login shell's
/// greeting) is passed over.
fn keeper_id(stdout: PipeReader, limit: Duration) -> Option<u32> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // Reads on until the connection ends, so that nothing the machine says can block it.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(pid) = line.strip_prefix("tandem-keeper ") {
                let _ = sender.try_send(pid.trim().parse::<u32>().ok());
            }
        }
    });
    receiver.recv_timeout(limit).ok().flatten()
}

/// Connects to all machines side by side; in the order of `machines`.
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

/// A program that runs on a machine. Dropping it closes its input and ends the connection to it; a
/// program that does not end by that goes on there.
#[derive(Debug)]
pub struct Remote {
    machine: String,
    what: String,
    /// Its input.
    pub stdin: Option<PipeWriter>,
    /// Its output.
    pub stdout: Option<PipeReader>,
    /// Its status and what it complained, once it has ended.
    ended: mpsc::Receiver<Result<(i32, String), SshError>>,
    /// Dropped or sent, its connection ends.
    give_up: Option<oneshot::Sender<()>>,
}

impl Remote {
    /// Closes its input and waits until it has ended; its status and what it complained, and what
    /// of its output nobody has taken.
    ///
    /// # Errors
    /// When the connection was cut, or `limit` is over; it is then let go.
    pub fn finish(mut self, limit: Duration) -> Result<Output, SshError> {
        let start = Instant::now();
        drop(self.stdin.take());
        let rest = self.stdout.take();
        let (sender, read) = mpsc::sync_channel(1);
        // A pipe that its program fills would keep it from ending.
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
        // It may have been waited for before: then the channel is closed, and there is no waiting.
        let _ = self.ended.recv_timeout(END);
        drop(self.give_up.take());
    }
}
