//! A host over the system's ssh: one multiplexed connection, made when it is first needed and again
//! when it has broken.
//!
//! Commands are texts for `sh`, whatever root's login shell is; what they are about comes as
//! arguments, never in their text. They get /dev/null or a given text as their input (a closed one
//! confuses tools there), and end there by themselves at their time-out (timeout(1)). A connection
//! that nobody uses for a while ends: also that of a controller that was killed.

use super::section::Host;
use crate::VmmError;
use crate::config::SshTarget;
use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder, Stdio};
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tandem_testbed::inventory::HostKeys;
use tandem_testbed::ssh::quote;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// A connection that nobody uses ends after so many seconds.
const IDLE: usize = 120;
/// After so long without a word the connection is looked at before it is used.
const LOOK: Duration = Duration::from_secs(15);
/// What a command may take on its way, beside its own time.
const SLACK: Duration = Duration::from_secs(10);
/// What a command says at most: a list of ten thousand domains is 2 MiB.
const MOST_OUTPUT: u64 = 16 << 20;
/// ssh's own status when it could not do its part (ssh(1), EXIT STATUS).
const SSH_FAILED: i32 = 255;
/// timeout(1)'s status when it has ended a command.
const TIMED_OUT: [i32; 2] = [124, 137];
/// In front of every command: where Xen's tools are.
const PREFACE: &str = "PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; for d in /usr/lib/xen-*/bin; do [ -x \"$d/xl\" ] && PATH=$d:$PATH; done; export PATH LC_ALL=C\n";

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A host.
pub(crate) struct Remote {
    pub(crate) name: String,
    target: SshTarget,
    connect: Duration,
    /// Holds the configuration and the connection's socket; only we can open it.
    folder: tempfile::TempDir,
    session: Mutex<Option<(Arc<Session>, u64)>>,
    used: std::sync::Mutex<Instant>,
    last: std::sync::atomic::AtomicU64,
}

/// A connection and which one it is: what was prepared on an earlier one is prepared again.
pub(crate) type Connection = (Arc<Session>, u64);

impl Remote {
    pub(crate) fn new(host: &Host) -> std::io::Result<Remote> {
        let folder = tempfile::Builder::new()
            .prefix("tandem-xl-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir()?;
        let mut file = std::fs::File::create(folder.path().join("config"))?;
        file.write_all(configuration(&host.ssh).as_bytes())?;
        Ok(Remote {
            name: host.name.clone(),
            target: host.ssh.clone(),
            connect: host.times.connect,
            folder,
            session: Mutex::new(None),
            used: std::sync::Mutex::new(Instant::now()),
            last: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// The connection, made anew if it has broken.
    pub(crate) async fn connection(&self) -> Result<Connection, VmmError> {
        let mut slot = self.session.lock().await;
        let idle = self.used.lock().map_or(LOOK, |u| u.elapsed());
        if let Some((session, number)) = &*slot {
            let good = idle < LOOK || matches!(timeout(self.connect, session.check()).await, Ok(Ok(())));
            if good {
                return Ok((session.clone(), *number));
            }
            *slot = None;
        }
        let mut builder = SessionBuilder::default();
        builder
            .user(self.target.user.clone())
            .port(self.target.port)
            .connect_timeout(self.connect)
            .control_directory(self.folder.path())
            .config_file(self.folder.path().join("config"))
            .known_hosts_check(match self.target.host_keys {
                HostKeys::Strict => KnownHosts::Strict,
                HostKeys::AcceptNew => KnownHosts::Add,
            });
        if let Some(idle) = NonZeroUsize::new(IDLE) {
            builder.control_persist(ControlPersist::IdleFor(idle));
        }
        if let Some(key) = &self.target.key {
            builder.keyfile(key);
        }
        if let Some(file) = &self.target.known_hosts {
            builder.user_known_hosts_file(file);
        }
        // Twice: for the connection, and for the login.
        let session = match timeout(self.connect * 2, builder.connect(&self.target.address)).await {
            Ok(Ok(session)) => Arc::new(session),
            Ok(Err(error)) => return Err(self.refused(&error)),
            Err(_) => {
                return Err(self.away("connecting", &format!("no login within {:?}", self.connect * 2)));
            }
        };
        let number = self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        *slot = Some((session.clone(), number));
        self.touch();
        Ok((session, number))
    }

    fn touch(&self) {
        if let Ok(mut used) = self.used.lock() {
            *used = Instant::now();
        }
    }

    fn away(&self, what: &str, why: &str) -> VmmError {
        let why = format!("{}, ssh to {} port {}", one_line(why), self.target.address, self.target.port);
        VmmError::HostUnreachable { host: self.name.clone(), what: what.to_owned(), why }
    }

    /// Why ssh did not connect, by its own words.
    fn refused(&self, error: &openssh::Error) -> VmmError {
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            why = format!("{why}: {error}");
            cause = error.source();
        }
        let key = why.contains("Host key verification failed") || why.contains("IDENTIFICATION HAS CHANGED");
        let todo = if key {
            format!(
                "its host key is not the known one: compare it with `ssh-keyscan -p {} {}`, then add that line to known_hosts",
                self.target.port, self.target.address
            )
        } else if why.contains("Permission denied") || why.contains("Too many authentication failures") {
            format!(
                "put the public key into ~{}/.ssh/authorized_keys there, or write `key` in the hypervisors file",
                self.target.user
            )
        } else if why.contains("Unable to negotiate") || why.contains("no matching") {
            "it is too old for today's algorithms: write `options` for it, as the example does for srv2"
                .to_owned()
        } else {
            return self.away("connecting", &why);
        };
        let (host, user) = (self.name.clone(), self.target.user.clone());
        VmmError::WrongCredentials { host, user, why: one_line(&why), todo }
    }

    /// Runs a command for at most `limit`, and gives what it gave, whatever its status.
    pub(crate) async fn run(
        &self,
        connection: &Connection,
        what: &str,
        script: &str,
        arguments: &[&str],
        input: &[u8],
        limit: Duration,
    ) -> Result<Output, VmmError> {
        let words: String = arguments.iter().map(|a| format!(" {}", quote(a))).collect();
        let body = quote(&format!("{PREFACE}{script}"));
        let seconds = limit.as_secs().max(1);
        let outer = format!(
            "if command -v timeout >/dev/null 2>&1; then exec timeout -k 5 {seconds} sh -c \"$0\" tandem \"$@\"; else exec sh -c \"$0\" tandem \"$@\"; fi"
        );
        let text = format!("exec sh -c {} {body}{words}", quote(&outer));
        let call = async {
            let mut command = connection.0.raw_command(&text);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
            let mut child = command.spawn().await?;
            if let Some(mut stdin) = child.stdin().take() {
                // A command that does not read all of it says so by its status.
                let _ = stdin.write_all(input).await;
            }
            let (stdout, stderr) = (child.stdout().take(), child.stderr().take());
            let (stdout, stderr) = tokio::join!(at_most(stdout), at_most(stderr));
            // Who says more than that is not read on, and ends by that.
            Ok::<_, openssh::Error>((child.wait().await?, stdout, stderr))
        };
        let result = timeout(limit + SLACK, call).await;
        let timed_out = || VmmError::TimeOut { host: self.name.clone(), what: what.to_owned(), after: limit };
        match result {
            Err(_) => {
                self.forget(connection).await;
                Err(timed_out())
            }
            Ok(Err(error)) => {
                self.forget(connection).await;
                Err(self.away(what, &format!("the connection was cut ({error})")))
            }
            Ok(Ok((status, stdout, stderr))) => {
                let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
                    let (host, what) = (self.name.clone(), what.to_owned());
                    let why = format!("it is longer than {} MiB", MOST_OUTPUT >> 20);
                    return Err(VmmError::BadAnswer { host, what, why });
                };
                let status = status.code().unwrap_or(SSH_FAILED);
                let stderr = String::from_utf8_lossy(&stderr).into_owned();
                if status == SSH_FAILED && connection.0.check().await.is_err() {
                    self.forget(connection).await;
                    let why = format!("the connection was cut ({})", one_line(&stderr));
                    return Err(self.away(what, &why));
                }
                self.touch();
                if TIMED_OUT.contains(&status) {
                    return Err(timed_out());
                }
                let stdout = String::from_utf8_lossy(&stdout).into_owned();
                Ok(Output { status, stdout, stderr })
            }
        }
    }

    /// The next call connects again.
    async fn forget(&self, connection: &Connection) {
        let mut slot = self.session.lock().await;
        if slot.as_ref().is_some_and(|(_, number)| *number == connection.1) {
            *slot = None;
        }
    }

    /// A command that has to end well.
    pub(crate) fn good(&self, what: &str, output: Output) -> Result<String, VmmError> {
        if output.status == 0 {
            return Ok(output.stdout);
        }
        let why = match one_line(&output.stderr) {
            none if none.is_empty() => format!("status {}", output.status),
            why => why,
        };
        Err(VmmError::Failed { host: self.name.clone(), what: what.to_owned(), why })
    }
}

/// All that a command says by one of its outputs; `None` when that is too much.
async fn at_most(output: Option<impl AsyncRead + Unpin>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(output) = output {
        // What was read before the connection broke is told by its status.
        let _ = output.take(MOST_OUTPUT + 1).read_to_end(&mut bytes).await;
    }
    (bytes.len() as u64 <= MOST_OUTPUT).then_some(bytes)
}

/// The last lines of a complaint as one line.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let tail = lines.len().saturating_sub(4);
    lines[tail..].join("; ")
}

/// ssh's configuration for a host. ssh takes the first value that it sees: the file's own options
/// come before ours.
fn configuration(target: &SshTarget) -> String {
    let mut text = String::from("Host *\n");
    let ours = [
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "PermitLocalCommand=no",
        "LogLevel=ERROR",
    ];
    for option in target.options.iter().map(String::as_str).chain(ours) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        text.push_str(&format!("  {key} {value}\n"));
    }
    text
}
