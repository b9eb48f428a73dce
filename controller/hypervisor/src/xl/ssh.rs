//! A host by ssh (`tandem_testbed::ssh`): one connection, opened when it is first needed and again
//! when it has broken.
//!
//! Commands are texts for `sh`, whatever root's login shell is; variable parts are arguments, never
//! part of the text. They get /dev/null or a given text as their input (a closed one confuses some
//! tools), and end on the host at their time-out (timeout(1)). An unused connection is closed after
//! a while: also that of a killed controller.

use super::section::Host;
use crate::VmmError;
use std::sync::Arc;
use std::time::Duration;
use tandem_testbed::ssh::{self, Call, SshError, Target, quote};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A connection that was idle for this long is checked before it is used.
const LOOK: Duration = Duration::from_secs(15);
/// Additional time of a command for the network.
const SLACK: Duration = Duration::from_secs(10);
/// The most output of a command: a list of ten thousand domains is 2 MiB.
const MOST_OUTPUT: u64 = 16 << 20;
/// The exit statuses of timeout(1) when it has ended a command.
const TIMED_OUT: [i32; 2] = [124, 137];
/// Put before every command: the path of Xen's tools.
const PREFACE: &str = "PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; for d in /usr/lib/xen-*/bin; do [ -x \"$d/xl\" ] && PATH=$d:$PATH; done; export PATH LC_ALL=C\n";

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A host.
pub(crate) struct Remote {
    pub(crate) name: String,
    target: Target,
    session: Mutex<Option<Connection>>,
    used: std::sync::Mutex<Instant>,
    last: std::sync::atomic::AtomicU64,
}

/// A connection with its number: a new connection has to be prepared again.
pub(crate) type Connection = (Arc<ssh::Connection>, u64);

impl Remote {
    pub(crate) fn new(host: &Host) -> Remote {
        Remote {
            name: host.name.clone(),
            target: host.ssh.to_target(&host.name, host.times.connect),
            session: Mutex::new(None),
            used: std::sync::Mutex::new(Instant::now()),
            last: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// The connection, opened again if it has broken.
    pub(crate) async fn connection(&self) -> Result<Connection, VmmError> {
        let mut slot = self.session.lock().await;
        let idle = self.used.lock().map_or(LOOK, |u| u.elapsed());
        if let Some((session, number)) = &*slot {
            if idle < LOOK || session.is_alive().await {
                return Ok((session.clone(), *number));
            }
            *slot = None;
        }
        let opened = ssh::Connection::open(&self.target).await;
        let session = Arc::new(opened.map_err(|error| self.refused("connecting", error))?);
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
        let why = format!("{}, ssh to {} port {}", one_line(why), self.target.address, self.target.ssh.port);
        VmmError::HostUnreachable { host: self.name.clone(), what: what.to_owned(), why }
    }

    /// The error of ssh: its advice names the keys of the hypervisors file.
    fn refused(&self, what: &str, error: SshError) -> VmmError {
        let (host, user) = (self.name.clone(), self.target.ssh.user.clone());
        let (why, todo) = match error {
            SshError::HostKey { address, port, why, .. } => {
                let todo = format!(
                    "its host key is not the known one: compare it with `ssh-keyscan -p {port} {address}`, then add that line to known_hosts"
                );
                (why, todo)
            }
            SshError::Refused { why, .. } => {
                let todo = format!(
                    "put the public key into ~{user}/.ssh/authorized_keys there, or write `key` in the hypervisors file"
                );
                (why, todo)
            }
            SshError::TooOld { why, .. } => {
                let todo = "it is too old for today's algorithms: write `options` for it, as the example does for srv2";
                (why, todo.to_owned())
            }
            SshError::Unreachable { why, .. } => return self.away(what, &why),
            SshError::Cut { why, .. } => return self.away(what, &format!("the connection was cut ({why})")),
            SshError::TimeOut { after, .. } => {
                return self.away(what, &format!("no login within {after:?}"));
            }
            SshError::TooLong { most, .. } => {
                let why = format!("it is longer than {} MiB", most >> 20);
                return VmmError::BadAnswer { host, what: what.to_owned(), why };
            }
            other @ (SshError::NoProgram { .. } | SshError::Failed { .. } | SshError::Io { .. }) => {
                return self.away(what, &other.to_string());
            }
        };
        VmmError::WrongCredentials { host, user, why: one_line(&why), todo }
    }

    /// Runs a command for at most `limit`, and returns its result, whatever its status.
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
        let call = Call { what, command: &text, input, limit: limit + SLACK, most: MOST_OUTPUT };
        let timed_out = || VmmError::TimeOut { host: self.name.clone(), what: what.to_owned(), after: limit };
        let ssh::Output { status, stdout, stderr } = match connection.0.run(call).await {
            Ok(output) => output,
            Err(SshError::TimeOut { .. }) => {
                self.forget(connection).await;
                return Err(timed_out());
            }
            Err(error) => {
                if !matches!(error, SshError::TooLong { .. }) {
                    self.forget(connection).await;
                }
                return Err(self.refused(what, error));
            }
        };
        self.touch();
        if TIMED_OUT.contains(&status) {
            return Err(timed_out());
        }
        Ok(Output { status, stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr })
    }

    /// Drops the connection: the next call connects again.
    async fn forget(&self, connection: &Connection) {
        let mut slot = self.session.lock().await;
        if slot.as_ref().is_some_and(|(_, number)| *number == connection.1) {
            *slot = None;
        }
    }

    /// The output of a command that has to succeed.
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

/// The last lines of an error message as one line.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let tail = lines.len().saturating_sub(4);
    lines[tail..].join("; ")
}
