//! `tandem-lab node`, as ssh starts it: lends interfaces, starts the node, and gives them back when
//! the node has ended, however it ended.
//!
//! It stays in the machine's own namespaces and does nothing else, so that nothing of what a node
//! does can hurt it. The node holds the other end of a pipe: when that closes, the guard has died,
//! and the node gives the interfaces back itself.

use super::nic_lease;
use crate::control::messages::LabResponse;
use crate::world::testbed::nic_lease::NicLease;
use crate::world::testbed::node_protocol::NodeSetup;
use anyhow::Context;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::process::{Child, Command};
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::nic;

/// The longest first line.
const LONGEST: usize = 1 << 20;

/// What the guard hands to the node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handover {
    /// What the machine is to be.
    pub take: NodeSetup,
    /// What was lent.
    pub loans: Vec<NicLease>,
    /// Numbers of the descriptors that hold the hosts' namespaces.
    pub spaces: Vec<i32>,
    /// And the machine's own.
    pub home: i32,
    /// The guard's process id, and the node's own as the machine sees it.
    pub guard: u32,
    /// See `guard`.
    pub node: u32,
}

fn say(answer: &LabResponse) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

/// The first line, byte by byte: what follows is the node's.
fn first_line() -> anyhow::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0u8; 1];
    // Not the buffered standard input, which would take more than the line.
    let mut input = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    while line.len() < LONGEST && input.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).context("the first line is no text")
}

/// Our own address of this very connection (sshd(8), ENVIRONMENT: client address and port, server
/// address and port).
fn own_address() -> Option<String> {
    std::env::var("SSH_CONNECTION").ok()?.split_whitespace().nth(2).map(str::to_owned)
}

/// Lends interfaces, starts the node, waits for its end and restores the interfaces. With `once`,
/// the program's own file is removed: it was copied for this one time.
///
/// # Errors
/// When the node could not be started, or something could not be given back.
pub fn run(once: bool) -> anyhow::Result<()> {
    if once {
        std::fs::remove_file(std::env::current_exe()?).context("removing the copied program")?;
    }
    let (mut child, lifeline, loans, spaces, home) = match start() {
        Ok(started) => started,
        Err(error) => {
            say(&LabResponse::Error { why: format!("{error:#}") })?;
            return Err(error);
        }
    };
    let ended = child.wait();
    drop(lifeline);
    let left = nic_lease::restore(&loans, &spaces, &home);
    // Whoever asked may have gone; what is left over is said on standard error, too.
    let status = ended.map_or_else(|e| e.to_string(), |s| s.to_string());
    if left.is_empty() {
        let _ = say(&LabResponse::Returned { node: status });
        return Ok(());
    }
    let _ = say(&LabResponse::Error { why: left.join("; ") });
    anyhow::bail!("{}", left.join("; "))
}

type Started = (Child, File, Vec<NicLease>, Vec<NetNs>, NetNs);

fn start() -> anyhow::Result<Started> {
    let take: NodeSetup = serde_json::from_str(&first_line()?)
        .context("this is started over ssh, by `tandem-lab up --inventory`")?;
    let found = nic::look(&mut Netlink::open()?)?;
    let loans = nic_lease::plan(&take, &found, own_address().as_deref())?;
    let home = NetNs::current()?;
    let spaces = NetNs::many(take.hosts.len(), link::disable_ipv6)?;
    nic_lease::lend(&loans, &spaces, &home)?;
    match start_node(take, &loans, &spaces, &home) {
        Ok((child, lifeline)) => Ok((child, lifeline, loans, spaces, home)),
        Err(error) => {
            let left = nic_lease::restore(&loans, &spaces, &home);
            Err(if left.is_empty() { error } else { error.context(left.join("; ")) })
        }
    }
}

fn start_node(
    take: NodeSetup,
    loans: &[NicLease],
    spaces: &[NetNs],
    home: &NetNs,
) -> anyhow::Result<(Child, File)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("making a pipe")?;
    for fd in spaces.iter().chain([home]).map(AsFd::as_fd).chain([reader.as_fd()]) {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).context("handing a descriptor down")?;
    }
    // The node is the first process of a process namespace: whatever it starts ends with it. Ours
    // stays as it is for what we start later, threads above all (setns(2), pid_namespaces(7)).
    let own = File::open("/proc/self/ns/pid").context("opening /proc/self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID).context("making a process namespace (root is needed)")?;
    // Found by its file even when that was removed.
    let child = Command::new("/proc/self/exe").arg("__node").arg(reader.as_raw_fd().to_string()).spawn();
    setns(&own, CloneFlags::CLONE_NEWPID).context("going back to the own process namespace")?;
    let mut child = child.context("starting the node")?;
    let handed = Handover {
        take,
        loans: loans.to_vec(),
        spaces: spaces.iter().map(NetNs::raw).collect(),
        home: home.raw(),
        guard: std::process::id(),
        node: child.id(),
    };
    let mut lifeline = File::from(writer);
    if let Err(error) = writeln!(lifeline, "{}", serde_json::to_string(&handed)?) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error).context("the node ended at once");
    }
    Ok((child, lifeline))
}
