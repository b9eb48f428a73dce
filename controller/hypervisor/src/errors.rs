//! Errors of hypervisor drivers: what was tried, on which host, why it failed, and what to do.

use crate::owner::Owner;
use std::time::Duration;
use tandem_model::text::escaped_to;
use tandem_model::{Bytes, ServerId, VmId};

/// Why a driver's call failed. `host` is the server's or pool's name in the hypervisors file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VmmError {
    /// The hypervisor has no image or template of that name.
    #[error("{host} has no image {image:?}{}; it knows {}", hint(.why), list(.known))]
    NoSuchTemplate {
        /// The host.
        host: String,
        /// The requested image.
        image: String,
        /// What it lacks, as text; may be empty.
        why: String,
        /// The existing ones.
        known: Vec<String>,
    },
    /// The host does not answer.
    #[error(
        "{host} cannot be reached while {what}: {}; is it on, and is its management network up?",
        shown(.why)
    )]
    HostUnreachable {
        /// The host.
        host: String,
        /// What was tried.
        what: String,
        /// The transport's error.
        why: String,
    },
    /// The host refuses the login, or its key or certificate is unknown.
    #[error("{host} does not let us in as {user}: {}; {todo}", shown(.why))]
    WrongCredentials {
        /// The host.
        host: String,
        /// The login user.
        user: String,
        /// The host's reason.
        why: String,
        /// What to change, and where.
        todo: String,
    },
    /// The host has too little free memory.
    #[error(
        "{host} has {free} of memory free, and {vm} needs {needed}; is memory used there that the controller does not know of (dom0, other VMs)?"
    )]
    NoMemory {
        /// The host.
        host: String,
        /// The VM.
        vm: VmId,
        /// Memory needed.
        needed: Bytes,
        /// Memory free.
        free: Bytes,
    },
    /// The VM does not exist where it should: somebody else has removed it, or it has crashed.
    #[error("{vm} is not on {host} any more: somebody destroyed it there, or it crashed")]
    GoneBehindOurBack {
        /// The host.
        host: String,
        /// The VM.
        vm: VmId,
    },
    /// There is a VM with this id that was created for another request. It is another VM, and is
    /// not touched.
    #[error("there is a {vm} on {host} already that was made for another request; it is left alone")]
    NotMeant {
        /// The host.
        host: String,
        /// The VM.
        vm: VmId,
    },
    /// There is a VM with this id whose request is unknown. It may hold somebody's data, and is not
    /// touched.
    #[error(
        "there is a {vm} on {host} already that an earlier release made, and nothing says for which request; it is left alone. Start it \
         there and adopt it (`tandem vm adopt {vm}`), or remove it (`tandem vm stop-stray {vm}`)"
    )]
    MadeForUnknown {
        /// The host.
        host: String,
        /// The VM.
        vm: VmId,
    },
    /// The host or pool serves another controller.
    #[error(
        "{host} serves another controller, {by}; stop that one first, or, if it is gone for good, take the host over: \
         `tandem hypervisors take-over`"
    )]
    Owned {
        /// The host or pool.
        host: String,
        /// The other controller.
        by: Owner,
    },
    /// The request is not possible; another one may be.
    #[error("{what}: {}", shown(.why))]
    Refused {
        /// What was tried, on what.
        what: String,
        /// The reason, and what to do.
        why: String,
    },
    /// The host tried and failed.
    #[error("{host}: {what} failed: {}", shown(.why))]
    Failed {
        /// The host.
        host: String,
        /// What was tried.
        what: String,
        /// The host's error.
        why: String,
    },
    /// It took too long.
    #[error("{host}: {what} was given up after {after:?}; it is cleaned up when the host answers again")]
    TimeOut {
        /// The host.
        host: String,
        /// What was tried.
        what: String,
        /// The time-out.
        after: Duration,
    },
    /// It was cancelled on request.
    #[error("cancelled")]
    Cancelled,
    /// The host's output cannot be parsed.
    #[error(
        "{host}: the answer to {what} makes no sense: {}; is this version of its tools supported?",
        shown(.why)
    )]
    BadAnswer {
        /// The host.
        host: String,
        /// The request.
        what: String,
        /// What is wrong with the output.
        why: String,
    },
}

impl VmmError {
    /// Whether the host itself is unavailable: it does not answer, refuses the login, or serves
    /// another controller. The state of its VMs is unknown, and the call may be repeated later.
    pub fn is_away(&self) -> bool {
        matches!(
            self,
            VmmError::HostUnreachable { .. }
                | VmmError::WrongCredentials { .. }
                | VmmError::TimeOut { .. }
                | VmmError::Owned { .. }
        )
    }
}

/// The location of a move's VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmLocation {
    /// It runs there. Also its source when that does not answer and the target does not have it: it
    /// is there or nowhere.
    At(ServerId),
    /// It is lost: both servers answer, and neither has it.
    Lost,
    /// Unknown until both servers answer again: the connection was lost during the hand-over.
    /// `resolve` has to be repeated.
    Unknown,
}

/// A move that did not end on its target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct MigrateError {
    /// Where the VM is.
    pub at: VmLocation,
    /// Why it was not moved.
    #[source]
    pub why: VmmError,
}

/// A host's text may come from anybody, such as a guest: it is escaped.
fn shown(why: &str) -> impl std::fmt::Display + '_ {
    escaped_to(why, 1000)
}

fn hint(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}

fn list(known: &[String]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    known.iter().map(|name| escaped_to(name, 64).to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_host_and_what_to_do() {
        let none = VmmError::NoSuchTemplate {
            host: "srv1".into(),
            image: "web".into(),
            why: String::new(),
            known: vec!["idle".into(), "db".into()],
        };
        assert_eq!(none.to_string(), "srv1 has no image \"web\"; it knows idle, db");
        let full = VmmError::NoMemory {
            host: "srv2".into(),
            vm: VmId(7),
            needed: Bytes::mib(96),
            free: Bytes::mib(20),
        };
        assert!(
            full.to_string().starts_with("srv2 has 20 MiB of memory free, and vm7 needs 96 MiB"),
            "{full}"
        );
        assert!(!full.is_away());
    }

    #[test]
    fn a_hosts_words_are_shown_on_one_line_and_cut() {
        let why = format!("\u{1b}[2Jok\nroot: {}", "x".repeat(5000));
        for error in [
            VmmError::Failed { host: "srv1".into(), what: "starting vm7".into(), why: why.clone() },
            VmmError::BadAnswer { host: "srv1".into(), what: "listing".into(), why: why.clone() },
            VmmError::Refused { what: "moving vm7".into(), why: why.clone() },
            VmmError::NoSuchTemplate {
                host: "srv1".into(),
                image: "a".into(),
                why: String::new(),
                known: vec![why],
            },
        ] {
            let text = error.to_string();
            assert!(!text.contains(['\u{1b}', '\n']) && text.len() < 2000, "{text}");
        }
    }
}
