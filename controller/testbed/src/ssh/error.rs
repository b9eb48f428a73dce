//! Errors of remote operations, and the interpretation of ssh's messages.

use super::Target;
use std::time::Duration;

/// Why an operation on a machine failed.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// There is no ssh on this machine.
    #[error("cannot start ssh here ({cause}); `apt-get install openssh-client`")]
    NoProgram {
        /// The reason; in the message.
        cause: std::io::Error,
    },
    /// The machine does not answer.
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
        /// ssh's message.
        why: String,
    },
    /// The machine refuses the login.
    #[error(
        "{machine}: {user} is not let in: {why}; put the public key into ~{user}/.ssh/authorized_keys there (`ssh-copy-id`), or write `key` under [ssh] in the inventory"
    )]
    Refused {
        /// The machine's name.
        machine: String,
        /// The login user.
        user: String,
        /// ssh's message.
        why: String,
    },
    /// The machine's host key is unknown, or differs from the known one.
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
        /// ssh's message.
        why: String,
    },
    /// Both sides have no algorithm in common.
    #[error(
        "{machine}: its ssh is too old for this one: {why}; write what it can into `options`, such as \"KexAlgorithms=+diffie-hellman-group1-sha1\""
    )]
    TooOld {
        /// The machine's name.
        machine: String,
        /// ssh's message.
        why: String,
    },
    /// The connection was lost during an operation.
    #[error(
        "{machine}: the connection was cut while {what}: {why}; what was begun may be half done, try again"
    )]
    Cut {
        /// The machine's name.
        machine: String,
        /// What was tried.
        what: String,
        /// ssh's message.
        why: String,
    },
    /// It took too long.
    #[error("{machine}: {what} was given up after {after:?}; it may still run there")]
    TimeOut {
        /// The machine's name.
        machine: String,
        /// What was tried.
        what: String,
        /// The time-out.
        after: Duration,
    },
    /// The command printed too much.
    #[error("{machine}: what {what} prints is longer than {mib} MiB, so the rest was not read", mib = most >> 20)]
    TooLong {
        /// The machine's name.
        machine: String,
        /// What was tried.
        what: String,
        /// The most bytes of an output.
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
        /// Its message.
        why: String,
    },
    /// A local operation failed.
    #[error("{machine}: {what}")]
    Io {
        /// The machine's name.
        machine: String,
        /// What was tried.
        what: String,
        /// The reason.
        source: std::io::Error,
    },
}

/// The meaning of ssh's last message when it does not connect.
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
