//! One multiplexed connection to a machine.

use super::error::refused;
use super::{SshError, Target};
use openssh::{Child, ControlPersist, ForwardType, Session, SessionBuilder, Socket, Stdio};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How much of a program's standard error is kept.
const COMPLAINTS: usize = 16 << 10;
/// ssh's own exit status for its failures (ssh(1), EXIT STATUS).
const SSH_FAILED: i32 = 255;
/// A shell's status for an unknown command (POSIX sh, 2.8.2). openssh turns it into an error.
const NOT_FOUND: i32 = 127;

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, the last part of it if it is long.
    pub stderr: String,
}

impl Output {
    /// Its standard output as text, without the last line's end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// A command and its limits.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// A description for errors.
    pub what: &'a str,
    /// The command line, for the login shell.
    pub command: &'a str,
    /// Its standard input; if empty it reads /dev/null, since a closed input confuses some tools.
    pub input: &'a [u8],
    /// Its time-out.
    pub limit: Duration,
    /// The most bytes of its output.
    pub most: u64,
}

/// A connection; dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    target: Target,
    session: Session,
    /// The folder of the configuration and the control socket; removed last.
    _folder: tempfile::TempDir,
}

impl Connection {
    /// Connects.
    ///
    /// When the machine is not reached or refuses the login.
    pub async fn open(target: &Target) -> Result<Connection, SshError> {
        if target.address.starts_with('-') {
            return Err(refused(target, "its address would be an option of ssh"));
        }
        let io = |source| SshError::Io {
            machine: target.name.clone(),
            what: "making a folder for the connection's socket".to_owned(),
            source,
        };
        // Only this user can enter it (mode 0700), and its name is short: a socket's path has room
        // for 107 bytes (unix(7)).
        let folder = tempfile::Builder::new()
            .prefix("tandem-ssh-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir()
            .map_err(io)?;
        let config = folder.path().join("config");
        std::fs::write(&config, target.configuration()).map_err(io)?;
        let mut builder = SessionBuilder::default();
        builder
            .control_directory(folder.path())
            .config_file(&config)
            .control_persist(ControlPersist::IdleFor(target.idle))
            .known_hosts_check(target.host_keys());
        // Twice: for connecting, and for the login.
        let limit = target.connect * 2;
        match timeout(limit, builder.connect(&target.address)).await {
            Ok(Ok(session)) => Ok(Connection { target: target.clone(), session, _folder: folder }),
            Ok(Err(error)) => Err(not_connected(target, error)),
            Err(_) => Err(SshError::TimeOut {
                machine: target.name.clone(),
                what: format!("connecting to {}", target.address),
                after: limit,
            }),
        }
    }

    /// The machine.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the connection is up, as far as ssh's master knows.
    pub async fn is_alive(&self) -> bool {
        matches!(timeout(self.target.connect, self.session.check()).await, Ok(Ok(())))
    }

    /// Its control socket (`ssh -S`).
    pub fn control_socket(&self) -> &Path {
        self.session.control_socket()
    }

    /// Runs a command to its end; any exit status except ssh's own is a result.
    ///
    /// When the connection is lost, at the time-out, or when it prints too much.
    pub async fn run(&self, call: Call<'_>) -> Result<Output, SshError> {
        let (machine, what) = (self.target.name.clone(), call.what.to_owned());
        match timeout(call.limit, self.run_to_end(call)).await {
            Ok(result) => result,
            // The local process has ended with the future.
            Err(_) => Err(SshError::TimeOut { machine, what, after: call.limit }),
        }
    }

    async fn run_to_end(&self, call: Call<'_>) -> Result<Output, SshError> {
        let mut command = self.session.raw_command(call.command);
        command.stdin(if call.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().await.map_err(|e| self.not_started(e))?;
        let stdin = child.stdin().take();
        let write = async move {
            if let Some(mut stdin) = stdin {
                // A command that does not read all of its input causes a broken pipe here; its
                // status tells whether it failed.
                let _ = stdin.write_all(call.input).await;
            }
        };
        let (stdout, stderr) = (child.stdout().take(), child.stderr().take());
        let ((), stdout, stderr) = tokio::join!(write, at_most(stdout, call.most), last_of(stderr));
        let status = status_of(child).await;
        let (machine, what) = (self.target.name.clone(), call.what.to_owned());
        let Some(stdout) = stdout else {
            return Err(SshError::TooLong { machine, what, most: call.most });
        };
        if status == SSH_FAILED {
            return Err(self.cut(call.what, &stderr));
        }
        Ok(Output { status, stdout, stderr })
    }

    /// Starts a long-running program with these ends of pipes; its standard error is piped here.
    pub(super) async fn start(
        &self,
        command: &str,
        stdin: OwnedFd,
        stdout: OwnedFd,
    ) -> Result<Child<&Session>, SshError> {
        // This process's copies of the pipes' ends are closed with the command.
        let mut command = self.session.raw_command(command);
        command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::piped());
        command.spawn().await.map_err(|e| self.not_started(e))
    }

    /// Forwards a Unix socket here to a TCP port as seen from the machine, until the connection
    /// ends.
    ///
    /// When the machine refuses the forwarding.
    pub async fn forward(&self, near: &Path, host: &str, port: u16) -> Result<(), SshError> {
        let far = Socket::TcpSocket { host: host.into(), port };
        let asked = self.session.request_port_forward(ForwardType::Local, near, far).await;
        asked.map_err(|error| SshError::Failed {
            machine: self.target.name.clone(),
            what: format!("forwarding to {host} port {port}"),
            status: SSH_FAILED,
            why: words_of(&error),
        })
    }

    /// The error for a failure of ssh itself: the connection is lost.
    pub(super) fn cut(&self, what: &str, said: &str) -> SshError {
        // Without its master, ssh tries to resolve the placeholder that openssh gives as the host.
        let has_none = said.is_empty() || said.contains("hostname none");
        let why = if has_none { "the connection has ended".to_owned() } else { said.to_owned() };
        SshError::Cut { machine: self.target.name.clone(), what: what.to_owned(), why }
    }

    fn not_started(&self, error: openssh::Error) -> SshError {
        match error {
            openssh::Error::Ssh(cause) => SshError::NoProgram { cause },
            other => not_connected(&self.target, other),
        }
    }
}

/// The exit status of a remote program; ssh's own when the connection is lost.
pub(super) async fn status_of(child: Child<&Session>) -> i32 {
    match child.wait().await {
        Ok(status) => status.code().unwrap_or(SSH_FAILED),
        Err(openssh::Error::Remote(error)) if error.kind() == std::io::ErrorKind::NotFound => NOT_FOUND,
        Err(_) => SSH_FAILED,
    }
}

/// All bytes of an output; `None` when there are too many. Then reading stops, which ends the
/// program.
async fn at_most(output: Option<impl AsyncRead + Unpin>, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(output) = output {
        // If the connection broke, the exit status shows it.
        let _ = output.take(most.saturating_add(1)).read_to_end(&mut bytes).await;
    }
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// The last part of a program's standard error.
pub(super) async fn last_of(output: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let mut part = [0; 4096];
    if let Some(mut output) = output {
        while let Ok(n @ 1..) = output.read(&mut part).await {
            kept.extend_from_slice(&part[..n]);
            let surplus = kept.len().saturating_sub(COMPLAINTS);
            kept.drain(..surplus);
        }
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// The error for a failure of openssh to connect.
fn not_connected(target: &Target, error: openssh::Error) -> SshError {
    match error {
        // ssh itself reports reasons only as text, without an error number.
        openssh::Error::Connect(cause) if cause.raw_os_error().is_some() => SshError::NoProgram { cause },
        other => refused(target, &words_of(&other)),
    }
}

/// The text of ssh behind an error of openssh.
fn words_of(error: &openssh::Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words = error.to_string();
        cause = error.source();
    }
    words
}
