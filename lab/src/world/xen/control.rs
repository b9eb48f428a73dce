//! What is said on a Xen lab's control socket: one JSON line asks, one answers.

use crate::world::xen::files::Ports;
use crate::world::xen::host::Access;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use tandem_agent_protocol::lab_sockets::{self, ConnectError, Lab, XEN};

/// A question.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum XenRequest {
    /// What is there?
    Status,
    /// End a host as a power cut would.
    Kill {
        /// The host's name.
        host: String,
    },
    /// Boot a host that was ended, with the disk that it had.
    Start {
        /// The host's name.
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
pub enum XenResponse {
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

/// Connects to this user's lab of that name; whoever listens is checked before anything is said.
fn connect(name: &str) -> anyhow::Result<UnixStream> {
    let socket = Lab::named(name)?.socket(XEN, "");
    lab_sockets::connect(&socket, None).map_err(|error| match error {
        ConnectError::Io(error) => anyhow::anyhow!(
            "there is no Xen lab {name:?} ({error}); `tandem-lab xen up --name {name}` makes one"
        ),
        refused @ ConnectError::NotAllowed(_) => anyhow::anyhow!("Xen lab {name:?}: {refused}"),
    })
}

/// Takes a lab's name.
///
/// # Errors
/// When there is a lab of that name.
pub fn bind(name: &str) -> anyhow::Result<UnixListener> {
    let socket = Lab::named(name)?.socket(XEN, "");
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(&socket)?).map_err(|error| {
        if let Err(ConnectError::NotAllowed(why)) = lab_sockets::connect(&socket, None) {
            return anyhow::anyhow!(
                "the name of Xen lab {name:?} was taken by somebody else: {why}; `ss -xlp | grep {socket}` says by which process. \
                 End it, or choose another name with --name"
            );
        }
        anyhow::Error::from(error).context(format!(
            "there is a Xen lab {name:?} already; `tandem-lab xen down --name {name}` ends it, `--name` gives another name"
        ))
    })
}

/// Asks a lab.
///
/// # Errors
/// When there is no such lab, or what it says.
pub fn ask(name: &str, ask: &XenRequest) -> anyhow::Result<XenResponse> {
    let stream = connect(name)?;
    // A lab that turns us away says why and ends; it may have done so before this is written.
    let said = writeln!(&stream, "{}", serde_json::to_string(ask)?);
    let mut line = String::new();
    let heard = BufReader::new(stream).read_line(&mut line);
    match serde_json::from_str(&line) {
        Ok(XenResponse::Error { why }) => bail!("{why}"),
        Ok(answer) => Ok(answer),
        Err(_) => said
            .and(heard.map(drop))
            .map_err(anyhow::Error::from)
            .and_then(|()| bail!("the Xen lab {name:?} ended before it answered")),
    }
}

/// What a lab says of itself.
///
/// # Errors
/// As [`ask`].
pub fn status(name: &str) -> anyhow::Result<Status> {
    match ask(name, &XenRequest::Status)? {
        XenResponse::Status(status) => Ok(status),
        _ => bail!("the Xen lab {name:?} answered something else"),
    }
}

/// Holds a lab: it goes down when the connection is dropped, also when this process is killed.
///
/// # Errors
/// When there is no such lab, or it does not answer.
pub fn hold(name: &str) -> anyhow::Result<UnixStream> {
    let stream = connect(name)?;
    writeln!(&stream, "{}", serde_json::to_string(&XenRequest::Hold)?)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    match serde_json::from_str(&line) {
        Ok(XenResponse::Done) => Ok(stream),
        _ => bail!("the Xen lab {name:?} cannot be held"),
    }
}

/// True while there is a lab of that name.
///
/// # Errors
/// When it cannot be a lab's name.
pub fn is_up(name: &str) -> anyhow::Result<bool> {
    Lab::named(name)?;
    Ok(connect(name).is_ok())
}
