//! What a hypervisor driver says when something cannot be done: what was tried, on which host, why
//! not, and what to do.

use crate::owner::Owner;
use std::time::Duration;
use tandem_model::text::escaped_to;
use tandem_model::{Bytes, ServerId, VmId};

/// Why a call of a driver failed. `host` is the server's or pool's name in the hypervisors file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VmmError {
    /// The hypervisor has nothing of that name to make a VM from.
    #[error("{host} has no image {image:?}{}; it knows {}", hint(.why), list(.known))]
    NoSuchTemplate {
        /// Which host.
        host: String,
        /// What was asked for.
        image: String,
        /// What is missing of it, in words; may be empty.
        why: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Nobody answers there.
    #[error(
        "{host} cannot be reached while {what}: {}; is it on, and is its management network up?",
        shown(.why)
    )]
    HostUnreachable {
        /// Which host.
        host: String,
        /// What was tried.
        what: String,
        /// In the transport's words.
        why: String,
    },
    /// It does not let us in, or is not the one that we know.
    #[error("{host} does not let us in as {user}: {}; {todo}", shown(.why))]
    WrongCredentials {
        /// Which host.
        host: String,
        /// Who tried.
        user: String,
        /// In the host's words.
        why: String,
        /// What to change where.
        todo: String,
    },
    /// Not enough memory.
    #[error(
        "{host} has {free} of memory free, and {vm} needs {needed}; is memory used there that the controller does not know of (dom0, other VMs)?"
    )]
    NoMemory {
        /// Which host.
        host: String,
        /// For which VM.
        vm: VmId,
        /// Needed.
        needed: Bytes,
        /// Free.
        free: Bytes,
    },
    /// The VM is not where it should be: somebody else has removed it, or it has crashed.
    #[error("{vm} is not on {host} any more: somebody destroyed it there, or it crashed")]
    GoneBehindOurBack {
        /// Which host.
        host: String,
        /// Which VM.
        vm: VmId,
    },
    /// There is a VM with that id which was made for another request: it is not the one that is
    /// meant, and is not touched.
    #[error("there is a {vm} on {host} already that was made for another request; it is left alone")]
    NotMeant {
        /// Which host.
        host: String,
        /// Which VM.
        vm: VmId,
    },
    /// There is a VM with that id of which nothing says for which request it was made: it may hold
    /// somebody's data, and is not touched.
    #[error(
        "there is a {vm} on {host} already that an earlier release made, and nothing says for which request; it is left alone. Start it \
         there and adopt it (`tandem vm adopt {vm}`), or remove it (`tandem vm stop-stray {vm}`)"
    )]
    MadeForUnknown {
        /// Which host.
        host: String,
        /// Which VM.
        vm: VmId,
    },
    /// The host or pool serves another controller.
    #[error(
        "{host} serves another controller, {by}; stop that one first, or, if it is gone for good, take the host over: \
         `tandem hypervisors take-over`"
    )]
    Owned {
        /// Which host or pool.
        host: String,
        /// Which controller.
        by: Owner,
    },
    /// It is not possible in this way; something else would be.
    #[error("{what}: {}", shown(.why))]
    Refused {
        /// What was tried, on what.
        what: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The host tried and failed.
    #[error("{host}: {what} failed: {}", shown(.why))]
    Failed {
        /// Which host.
        host: String,
        /// What was tried.
        what: String,
        /// In the host's words.
        why: String,
    },
    /// It took too long.
    #[error("{host}: {what} was given up after {after:?}; it is cleaned up when the host answers again")]
    TimeOut {
        /// Which host.
        host: String,
        /// What was tried.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// It was given up on request.
    #[error("cancelled")]
    Cancelled,
    /// What the host said cannot be understood.
    #[error(
        "{host}: the answer to {what} makes no sense: {}; is this version of its tools supported?",
        shown(.why)
    )]
    BadAnswer {
        /// Which host.
        host: String,
        /// What was asked.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl VmmError {
    /// True when the host itself does not answer, does not let us in or serves somebody else:
    /// nothing is known of what is there, and it may be tried again later.
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

/// Where the VM of a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmLocation {
    /// It runs there. Also its old server when that does not answer and the new one does not have
    /// it: it is there or nowhere.
    At(ServerId),
    /// It was lost: both servers answer, and neither has it.
    Lost,
    /// Nobody can tell until both servers answer again: it was handed over when the connection was
    /// cut. `resolve` is asked again.
    Unknown,
}

/// A move that did not end at its new server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct MigrateError {
    /// Where the VM is.
    pub at: VmLocation,
    /// Why it was not moved.
    #[source]
    pub why: VmmError,
}

/// What a host says of itself may be anybody's words: a guest's, a neighbour's.
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
