//! Why something cannot be done on a machine, and what ssh's own words mean.

use super::Target;
use std::time::Duration;

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
    /// Both can ssh, and have no algorithm in common.
    #[error(
        "{machine}: its ssh is too old for this one: {why}; write what it can into `options`, such as \"KexAlgorithms=+diffie-hellman-group1-sha1\""
    )]
    TooOld {
        /// The machine's name.
        machine: String,
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
    /// The command prints without an end.
    #[error("{machine}: what {what} prints is longer than {mib} MiB, so the rest was not read", mib = most >> 20)]
    TooLong {
        /// The machine's name.
        machine: String,
        /// What was tried.
        what: String,
        /// Bytes that are read of one output.
        most: u64,
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

/// What ssh's last words mean when it does not connect.
pub(super) fn refused(target: &Target, said: &str) -> SshError {
    let why = said.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or("ssh does not say why");
    let (machine, why) = (target.name.clone(), why.to_owned());
    let (address, port) = (target.address.clone(), target.ssh.port);
    let has = |words: &[&str]| words.iter().any(|w| said.contains(w));
    if has(&["Host key verification failed", "HOST IDENTIFICATION HAS CHANGED"]) {
        return SshError::HostKey { machine, address, port, why };
    }
    if has(&["Permission denied", "Too many authentication failures"]) {
        return SshError::Refused { machine, user: target.ssh.user.clone(), why };
    }
    if has(&["Unable to negotiate", "no matching"]) {
        return SshError::TooOld { machine, why };
    }
    SshError::Unreachable { machine, address, port, why }
}
