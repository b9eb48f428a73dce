//! What is said on a Xen lab's control socket: one JSON line asks, one answers.

use super::files::Ports;
use super::host::Access;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;

/// A question.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Ask {
    /// What is there?
    Status,
    /// End a host as a power cut would.
    Kill {
        /// Which.
        host: String,
    },
    /// Boot a host that was ended, with the disk that it had.
    Start {
        /// Which.
        host: String,
    },
    /// End.
    Down,
    /// End when this connection does, however that comes about.
    Hold,
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// Of `up`: how far it is.
    Progress {
        /// In words.
        line: String,
    },
    /// To `Status`, and of `up`.
    Status(Status),
    /// It is done.
    Done,
    /// It could not be done.
    Error {
        /// Why.
        why: String,
    },
}

/// A lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its holder's process: whoever ends it ends the lab.
    pub pid: u32,
    /// Where its files are.
    pub folder: PathBuf,
    /// Where the controller is to listen.
    pub ports: Ports,
    /// Its hosts.
    pub hosts: Vec<HostStatus>,
}

impl Status {
    /// A host by its name.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn host(&self, name: &str) -> anyhow::Result<&HostStatus> {
        let known = || self.hosts.iter().map(|h| h.access.name.as_str()).collect::<Vec<_>>().join(", ");
        self.hosts
            .iter()
            .find(|h| h.access.name == name || h.nodes.iter().any(|n| n == name))
            .with_context(|| format!("there is no host {name:?} in lab {}; there are {}", self.name, known()))
    }
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// How it is reached.
    pub access: Access,
    /// Its QEMU's process, while it runs.
    pub pid: Option<u32>,
    /// What it is to the site.
    pub nodes: Vec<String>,
    /// True when all its services are up.
    pub ready: bool,
    /// What is wrong with it.
    pub trouble: Option<String>,
    /// Seconds since it was started.
    pub seconds: u64,
}

fn address(name: &str) -> anyhow::Result<SocketAddr> {
    let usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(usable) {
        bail!(
            "{name:?} cannot be a lab's name; choose up to 64 letters, digits, '-', '_' or '.' with --name"
        );
    }
    Ok(SocketAddr::from_abstract_name(format!("tandem-xen/{name}"))?)
}

/// Takes a lab's name.
///
/// # Errors
/// When there is a lab of that name.
pub fn bind(name: &str) -> anyhow::Result<UnixListener> {
    UnixListener::bind_addr(&address(name)?).with_context(|| {
        format!(
            "there is a Xen lab {name:?} already; `tandem-lab xen down --name {name}` ends it, `--name` gives another name"
        )
    })
}

/// Asks a lab.
///
/// # Errors
/// When there is no such lab, or what it says.
pub fn ask(name: &str, ask: &Ask) -> anyhow::Result<Answer> {
    let stream = UnixStream::connect_addr(&address(name)?).map_err(|e| {
        anyhow::anyhow!("there is no Xen lab {name:?} ({e}); `tandem-lab xen up --name {name}` makes one")
    })?;
    writeln!(&stream, "{}", serde_json::to_string(ask)?)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    match serde_json::from_str(&line) {
        Ok(Answer::Error { why }) => bail!("{why}"),
        Ok(answer) => Ok(answer),
        Err(_) => bail!("the Xen lab {name:?} ended before it answered"),
    }
}

/// What a lab says of itself.
///
/// # Errors
/// As [`ask`].
pub fn status(name: &str) -> anyhow::Result<Status> {
    match ask(name, &Ask::Status)? {
        Answer::Status(status) => Ok(status),
        _ => bail!("the Xen lab {name:?} answered something else"),
    }
}

/// Holds a lab: it goes down when the connection is dropped, also when this process is killed.
///
/// # Errors
/// When there is no such lab, or it does not answer.
pub fn hold(name: &str) -> anyhow::Result<UnixStream> {
    let stream = UnixStream::connect_addr(&address(name)?)?;
    writeln!(&stream, "{}", serde_json::to_string(&Ask::Hold)?)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    match serde_json::from_str(&line) {
        Ok(Answer::Done) => Ok(stream),
        _ => bail!("the Xen lab {name:?} cannot be held"),
    }
}

/// True while there is a lab of that name.
///
/// # Errors
/// When it cannot be a lab's name.
pub fn is_up(name: &str) -> anyhow::Result<bool> {
    Ok(UnixStream::connect_addr(&address(name)?).is_ok())
}
