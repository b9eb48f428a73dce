//! A machine over the system's ssh: commands, files, and long-running programs whose input and
//! output we hold.
//!
//! One connection a machine: [`Ssh::connect`] starts a master (`ssh -M`) that runs `cat` there;
//! everything else is multiplexed over it and costs one round trip instead of a key exchange. The
//! master's input is ours, so that it ends with this process, however that ends, and the remote
//! `cat` (the *keeper*) with it. Its control socket is in a folder that only we can open.
//!
//! Commands are texts for `sh`, whatever the user's login shell is. Nothing secret belongs into a
//! command, because `ps` shows it: secrets go over standard input. A command that is given up after
//! its time-out may still run there.

use crate::inventory::{HostKeys, Machine};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a machine may take to accept a connection and let us in.
pub const CONNECT: Duration = Duration::from_secs(15);
/// How long an ordinary command may take.
pub const COMMAND: Duration = Duration::from_secs(60);
/// How long a file may take.
pub const FILE: Duration = Duration::from_secs(600);
/// A connection that is silent for this long, three times, is dead.
const ALIVE: Duration = Duration::from_secs(5);
/// How much of a program's complaints is kept.
const COMPLAINTS: usize = 16 << 10;
/// What a command says at most: a kept program is a tenth of it.
const MOST_OUTPUT: u64 = 256 << 20;
/// ssh's own status when it could not do its part (ssh(1), EXIT STATUS).
const SSH_FAILED: i32 = 255;

/// Why something could not be done on a machine.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// There is no ssh here.
    #[error("cannot start ssh here ({cause}); `apt-get install openssh-client`")]
    NoProgram {
        /// Why; in the message.
        cause: std::io::Error,
    },
    /// Nobody answers there.
    #[error(
        "{machine}: ssh cannot reach {address} port {port}: {why}; is it on, is the cable of the control network in, does sshd run there?"
    )]
    Unreachable {
        /// The machine's name.
        machine: String,
        /// Its address.
        address: String,
        /// Its TCP port.
        port: u16,
        /// In ssh's words.
        why: String,
    },
    /// It does not let us in.
    #[error(
        "{machine}: {user} is not let in: {why}; put the public key into ~{user}/.ssh/authorized_keys there (`ssh-copy-id`), or write `key` under [ssh] in the inventory"
    )]
    Refused {
        /// The machine's name.
        machine: String,
        /// Who tried.
        user: String,
        /// In ssh's words.
        why: String,
    },
    /// Its host key is not the known one, or none is known.
    #[error(
        "{machine}: its host key is not the known one: {why}; compare `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the machine with `ssh-keyscan -p {port} {address}`, then add the latter's line to known_hosts, or write host_keys = \"accept-new\" for the first connection"
    )]
    HostKey {
        /// The machine's name.
        machine: String,
        /// Its address.
        address: String,
        /// Its TCP port.
        port: u16,
        /// In ssh's words.
        why: String,
    },
    /// The connection ended in the middle of something.
    #[error(
        "{machine}: the connection was cut while {what}: {why}; what was begun may be half done, try again"
    )]
    Cut {
        /// The machine's name.
        machine: String,
        /// What was tried.
        what: String,
        /// In ssh's words.
        why: String,
    },
    /// It took too long.
    #[error("{machine}: {what} was given up after {after:?}; it may still run there")]
    TimeOut {
        /// The machine's name.
        machine: String,
        /// What was tried.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// The command failed.
    #[error("{machine}: {what} failed (status {status}): {why}")]
    Failed {
        /// The machine's name.
        machine: String,
        /// What was tried.
        what: String,
        /// Its exit status.
        status: i32,
        /// What it said.
        why: String,
    },
    /// Something here failed.
    #[error("{machine}: {what}")]
    Io {
        /// The machine's name.
        machine: String,
        /// What was tried.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained.
    pub stderr: String,
}

impl Output {
    /// What it printed, as text without the last line's end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// A connected machine; its connection ends when this is dropped. May be used from several threads.
#[derive(Debug)]
pub struct Ssh {
    machine: Machine,
    /// The options of every ssh to that machine, and its destination.
    arguments: Vec<OsString>,
    keeper: Option<u32>,
    /// Its input is closed before it is waited for.
    master: Mutex<(Option<ChildStdin>, Child)>,
    /// Holds the control socket; removed last.
    _folder: tempfile::TempDir,
}

/// A text as one word for `sh`.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A path as one word for `sh`.
pub fn quote_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

fn arguments(machine: &Machine, socket: &Path) -> Vec<OsString> {
    let ssh = &machine.ssh;
    let strict = match ssh.host_keys {
        HostKeys::Strict => "yes",
        HostKeys::AcceptNew => "accept-new",
    };
    let mut options: Vec<OsString> = vec!["-T".into(), "-S".into(), socket.into()];
    let mut option = |text: String| options.extend(["-o".into(), text.into()]);
    // ssh takes the first value that it sees: the inventory's come before ours, ours before the
    // user's own configuration.
    ssh.options.iter().for_each(|o| option(o.clone()));
    option("BatchMode=yes".into());
    option(format!("ConnectTimeout={}", CONNECT.as_secs()));
    option(format!("ServerAliveInterval={}", ALIVE.as_secs()));
    option("ServerAliveCountMax=3".into());
    option(format!("StrictHostKeyChecking={strict}"));
    if let Some(file) = &ssh.known_hosts {
        option(format!("UserKnownHostsFile=\"{}\"", file.display()));
    }
    if let Some(key) = &ssh.key {
        option(format!("IdentityFile=\"{}\"", key.display()));
        option("IdentitiesOnly=yes".into());
    }
    option("ControlPersist=no".into());
    option("ClearAllForwardings=yes".into());
    option("ForwardAgent=no".into());
    option("PermitLocalCommand=no".into());
    option("RemoteCommand=none".into());
    option("LogLevel=ERROR".into());
    options.extend(["-p".into(), ssh.port.to_string().into(), "-l".into(), ssh.user.clone().into()]);
    options.extend(["--".into(), machine.address.clone().into()]);
    options
}

impl Ssh {
    /// Connects.
    ///
    /// # Errors
    /// When the machine is not reached or does not let us in.
    pub fn connect(machine: &Machine) -> Result<Ssh, SshError> {
        let io =
            |what: &str, source| SshError::Io { machine: machine.name.clone(), what: what.into(), source };
        // Only we can open it (mode 0700), and its name is short: a socket's path has room for 107
        // bytes (unix(7)).
        let folder = tempfile::Builder::new()
            .prefix("tandem-ssh-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir()
            .map_err(|e| io("making a folder for the connection's socket", e))?;
        let arguments = arguments(machine, &folder.path().join("s"));
        let mut child = Command::new("ssh")
            .args(["-M"])
            .args(&arguments)
            .arg("echo tandem-keeper $$; exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|cause| SshError::NoProgram { cause })?;
        let complaints = child.stderr.take().map(listen);
        let stdin = child.stdin.take();
        let (ready, readiness) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            // Reads on until the connection ends, so that nothing the machine says can block it.
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Some(pid) = line.strip_prefix("tandem-keeper ") {
                        let _ = ready.send(pid.trim().parse::<u32>().ok());
                    }
                }
            });
        }
        let mut ssh = Ssh {
            machine: machine.clone(),
            arguments,
            keeper: None,
            master: Mutex::new((stdin, child)),
            _folder: folder,
        };
        // Twice: for the connection, and for the login.
        match readiness.recv_timeout(CONNECT * 2) {
            Ok(keeper) => {
                ssh.keeper = keeper;
                Ok(ssh)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Err(SshError::TimeOut {
                machine: machine.name.clone(),
                what: format!("connecting to {}", machine.address),
                after: CONNECT * 2,
            }),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                drop(ssh);
                let said = complaints.and_then(|c| c.join().ok()).unwrap_or_default();
                Err(refused(machine, &said))
            }
        }
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The id, on the machine, of a process that lives as long as this connection.
    pub fn keeper(&self) -> Option<u32> {
        self.keeper
    }

    /// The words by which another process of this user runs a command line over this connection;
    /// the command line comes behind them.
    pub fn words(&self) -> Vec<String> {
        let arguments = self.arguments.iter().map(|a| a.to_string_lossy().into_owned());
        ["ssh", "-o", "ControlMaster=no"].map(str::to_owned).into_iter().chain(arguments).collect()
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(["-o", "ControlMaster=no"])
            .args(&self.arguments)
            .arg(format!("exec sh -c {}", quote(script)));
        command
    }

    /// Runs a command with `stdin` as its input, to its end or until `limit`; any exit status is a
    /// result. `what` says in words what it does, for errors.
    ///
    /// # Errors
    /// When the machine is not reached, the connection ends, or the time is over.
    pub fn try_run(
        &self,
        what: &str,
        script: &str,
        stdin: &[u8],
        limit: Duration,
    ) -> Result<Output, SshError> {
        let start = Instant::now();
        let mut child = self
            .command(script)
            .stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|cause| SshError::NoProgram { cause })?;
        if let Some(mut input) = child.stdin.take() {
            let bytes = stdin.to_vec();
            // A command that does not read all of it ends this with a broken pipe; its status says
            // what that means.
            std::thread::spawn(move || drop(input.write_all(&bytes)));
        }
        let output = child.stdout.take().map(|o| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                // Who says more than that is not read on, and ends by that.
                o.take(MOST_OUTPUT).read_to_end(&mut bytes).map(|_| bytes)
            })
        });
        let complaints = child.stderr.take().map(listen);
        let io = |source| self.io(what, source);
        let status = wait(&mut child, start, limit);
        let Ok(Some(status)) = status else {
            let _ = child.kill();
            let _ = child.wait();
            status.map_err(io)?;
            // The master holds the pipes until the command ends there: the threads that read them
            // are left to themselves.
            let machine = self.machine.name.clone();
            return Err(SshError::TimeOut { machine, what: what.into(), after: limit });
        };
        let stdout =
            output.map_or(Ok(Vec::new()), |o| o.join().unwrap_or_else(|_| Ok(Vec::new()))).map_err(io)?;
        let stderr = complaints.and_then(|c| c.join().ok()).unwrap_or_default();
        let stderr = stderr.trim().to_owned();
        match status.code() {
            Some(SSH_FAILED) | None => {
                let why = if stderr.is_empty() { "ssh does not say why".to_owned() } else { stderr };
                Err(SshError::Cut { machine: self.machine.name.clone(), what: what.into(), why })
            }
            Some(status) => Ok(Output { status, stdout, stderr }),
        }
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
        let mut child = self
            .command(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|cause| SshError::NoProgram { cause })?;
        Ok(Remote {
            machine: self.machine.name.clone(),
            what: what.to_owned(),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            complaints: child.stderr.take().map(listen),
            child,
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
        let master = self.master.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        end(&mut master.0, &mut master.1);
    }
}

/// Closes a program's input, gives it a moment to end by that, and ends it.
fn end(stdin: &mut Option<ChildStdin>, child: &mut Child) {
    drop(stdin.take());
    if !matches!(wait(child, Instant::now(), Duration::from_secs(2)), Ok(Some(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
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
    pub stdin: Option<ChildStdin>,
    /// Its output.
    pub stdout: Option<ChildStdout>,
    complaints: Option<JoinHandle<String>>,
    child: Child,
}

impl Remote {
    /// True once it has ended, or its connection has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn ended(&mut self) -> std::io::Result<bool> {
        self.child.try_wait().map(|s| s.is_some())
    }

    /// Closes its input and waits until it has ended; its status and what it complained, and what
    /// of its output nobody has taken.
    ///
    /// # Errors
    /// When the connection was cut, or `limit` is over; it is then let go.
    pub fn finish(mut self, limit: Duration) -> Result<Output, SshError> {
        drop(self.stdin.take());
        let rest = self.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = rest.map(|r| r.take(MOST_OUTPUT).read_to_end(&mut bytes));
            bytes
        });
        let io = |source| SshError::Io { machine: self.machine.clone(), what: self.what.clone(), source };
        let status = wait(&mut self.child, Instant::now(), limit).map_err(io)?;
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            // The readers are left to themselves, as in `try_run`.
            return Err(SshError::TimeOut {
                machine: self.machine.clone(),
                what: self.what.clone(),
                after: limit,
            });
        }
        let stdout = reader.join().unwrap_or_default();
        let stderr = self.complaints.take().and_then(|c| c.join().ok()).unwrap_or_default().trim().to_owned();
        let (machine, what) = (self.machine.clone(), self.what.clone());
        match status.map(|s| s.code()) {
            None | Some(None | Some(SSH_FAILED)) => Err(SshError::Cut { machine, what, why: stderr }),
            Some(Some(status)) => Ok(Output { status, stdout, stderr }),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        end(&mut self.stdin, &mut self.child);
    }
}

/// Waits for a child until `limit` after `start`; `None` when it still runs then.
fn wait(
    child: &mut Child,
    start: Instant,
    limit: Duration,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Collects a program's complaints, the last of them if they are many.
fn listen(stderr: ChildStderr) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut part = [0; 4096];
        let mut stderr = stderr;
        while let Ok(n @ 1..) = stderr.read(&mut part) {
            kept.extend_from_slice(&part[..n]);
            let surplus = kept.len().saturating_sub(COMPLAINTS);
            kept.drain(..surplus);
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

/// What ssh's last words mean.
fn refused(machine: &Machine, said: &str) -> SshError {
    let why = said.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or("ssh does not say why");
    let (name, why) = (machine.name.clone(), why.to_owned());
    let (address, port) = (machine.address.clone(), machine.ssh.port);
    if said.contains("Host key verification failed") || said.contains("HOST IDENTIFICATION HAS CHANGED") {
        return SshError::HostKey { machine: name, address, port, why };
    }
    if said.contains("Permission denied") || said.contains("Too many authentication failures") {
        return SshError::Refused { machine: name, user: machine.ssh.user.clone(), why };
    }
    SshError::Unreachable { machine: name, address, port, why }
}
