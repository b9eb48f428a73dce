//! The part of a lab that is seen from outside: bringing one up, asking it, entering its nodes,
//! taking it down.

use super::{relay, room};
use crate::control::labs;
use crate::control::messages::{self, LabRequest, LabResponse, Status};
use crate::controller_process::beside;
use crate::node::traffic;
use crate::world::emulated::datapath::{Choice, Datapaths, SwitchDatapaths};
use crate::world::emulated::engine::EngineKind;
use crate::world::emulated::room::{Available, Required};
use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use tandem_agent_protocol::lab_sockets::{LAB, Lab};
use tandem_agent_protocol::local_peers::LocalPeers;
use tandem_linux::probe::Probe;
use tandem_linux::sandbox;
use tandem_model::Site;
use tandem_testbed::ssh::quote;

/// What the inner process is told, on its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// The lab's name.
    pub name: String,
    /// The site file's text and name.
    pub site: String,
    /// See `site`.
    pub site_file: String,
    /// Where switches find their controller, in OVS's words.
    pub controller: String,
    /// OpenFlow versions, in OVS's words.
    pub protocols: Vec<String>,
    /// Where the agents find their controller, in an agent's words.
    pub agents: String,
    /// An agent per switch instead of one for all.
    pub agent_per_switch: bool,
    /// What the switches are made of.
    pub datapath: SwitchDatapaths,
    /// A group whose members may use the lab too.
    pub group: Option<String>,
    /// What makes hosts, switches and links.
    #[serde(default)]
    pub engine: EngineKind,
    /// The agent's program.
    pub agent_program: PathBuf,
    /// The controller's address outside, and numbers of the sockets that connect to it; none where
    /// it is at a Unix socket.
    #[serde(default)]
    pub outside: Option<Outside>,
    /// Numbers of the listening sockets.
    pub control_fd: i32,
    /// See `control_fd`.
    pub world_fd: i32,
}

/// A controller outside of the lab's network namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outside {
    /// Where it listens.
    pub address: SocketAddr,
    /// Numbers of the sockets that can be connected to it.
    pub sockets: Vec<i32>,
}

/// What `up` is asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The lab's name; the site's if not given.
    pub name: Option<String>,
    /// The site file's text and name.
    pub text: String,
    /// See `text`.
    pub file: String,
    /// Where switches find their controller, in OVS's words.
    pub controller: String,
    /// OpenFlow versions, in OVS's words.
    pub protocols: Vec<String>,
    /// Where the agents find their controller, in an agent's words.
    pub agents: String,
    /// An agent per switch instead of one for all.
    pub agent_per_switch: bool,
    /// What the switches are made of.
    pub datapath: Choice,
    /// What makes hosts, switches and links.
    pub engine: EngineKind,
    /// A group whose members may use the lab too.
    pub group: Option<String>,
}

/// A lab that is up.
#[derive(Debug)]
pub struct Up {
    /// What it says of itself.
    pub status: Status,
    /// Its first process's id, as seen from outside. Killing it ends everything.
    pub pid: u32,
}

/// Takes a descriptor that was handed down by number.
///
/// # Errors
/// When there is none of that number.
pub fn adopt(fd: i32) -> anyhow::Result<UnixListener> {
    adopt_socket(fd).map(UnixListener::from)
}

/// The same of any socket. What is started from now on does not inherit it.
///
/// # Errors
/// When there is none of that number.
pub fn adopt_socket(fd: i32) -> anyhow::Result<OwnedFd> {
    let context = || format!("descriptor {fd} was not handed down");
    let socket = tandem_linux::sys::adopt(fd).with_context(context)?;
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).with_context(context)?;
    Ok(socket)
}

/// Who may use a lab's sockets: its user, root, and the members of a group if one is named.
///
/// # Errors
/// When there is no such group.
pub fn peers(group: Option<&str>) -> anyhow::Result<LocalPeers> {
    Ok(group.map_or_else(|| Ok(LocalPeers::same_user()), LocalPeers::with_group)?)
}

fn hand_down(listener: &UnixListener) -> anyhow::Result<()> {
    fcntl(listener.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).context("handing a socket down")?;
    Ok(())
}

/// Brings a lab up and returns when its network is there; it runs on by itself.
///
/// # Errors
/// When something is missing, the site has faults, there is such a lab already, or a step failed;
/// nothing is then left.
pub fn up(plan: &Plan) -> anyhow::Result<Up> {
    let checked: Site = tandem_core::site::read(&plan.text, &plan.file)?;
    // Files of options are read by the lab's process, which has this one's folder.
    traffic::check(&checked).with_context(|| plan.file.clone())?;
    let agent_program = beside("tandem-agent", "TANDEM_AGENT")?;
    let datapath = Datapaths::ask(&agent_program)?.decide(plan.datapath, &Probe::new(), &checked)?;
    plan.engine.engine().check(&checked, &datapath)?;
    let outside = plan.controller.starts_with("tcp:").then(|| relay::parse(&plan.controller)).transpose()?;
    if outside.is_none() && !plan.controller.starts_with("unix:/") {
        bail!(
            "{:?} is nothing that a switch can connect to; write unix:/path/to/socket or tcp:127.0.0.1:6653",
            plan.controller
        );
    }
    if plan.group.is_some() && !geteuid().is_root() {
        bail!(
            "--group is for root's labs: an ordinary user's lives in a user namespace, where the kernel shows no other users' ids"
        );
    }
    peers(plan.group.as_deref())?;
    let mut required = Required::of(&checked);
    plan.engine.engine().require(&checked, &mut required);
    required.check(&Available::now())?;
    let name = plan.name.clone().unwrap_or_else(|| checked.name.clone());
    let (control, world) = labs::bind(&name)?;
    hand_down(&control)?;
    hand_down(&world)?;
    let sockets = outside.map(|to| relay::sockets(&checked, to)).transpose()?.unwrap_or_default();
    let start = Start {
        name,
        site: plan.text.clone(),
        site_file: plan.file.clone(),
        controller: plan.controller.clone(),
        protocols: plan.protocols.clone(),
        agents: plan.agents.clone(),
        agent_per_switch: plan.agent_per_switch,
        datapath,
        group: plan.group.clone(),
        engine: plan.engine,
        agent_program,
        outside: outside
            .map(|address| Outside { address, sockets: sockets.iter().map(AsRawFd::as_raw_fd).collect() }),
        control_fd: control.as_raw_fd(),
        world_fd: world.as_raw_fd(),
    };
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(program);
    command.arg("__outer").stdin(Stdio::piped()).stdout(Stdio::piped());
    sandbox::outer(&mut command);
    let mut outer = command.spawn().context("making namespaces")?;
    if let Some(mut input) = outer.stdin.take() {
        input.write_all(serde_json::to_string(&start)?.as_bytes())?;
    }
    drop((control, world, sockets));
    let mut lines = BufReader::new(outer.stdout.take().context("no output")?).lines();
    let pid = lines.next().transpose()?.and_then(|l| l.parse().ok());
    let ended = outer.wait()?;
    let Some(pid) = pid.filter(|_| ended.success()) else {
        bail!("the lab's first process did not start ({ended})")
    };
    match lines.next().transpose()?.as_deref().map(serde_json::from_str::<LabResponse>) {
        Some(Ok(LabResponse::Status(status))) => Ok(Up { status, pid }),
        Some(Ok(LabResponse::Error { why })) => bail!("{why}"),
        _ => bail!("the lab ended before it was up"),
    }
}

/// `__outer`: starts the first process in the new namespaces, says its id, and ends.
///
/// # Errors
/// When it cannot be started.
pub fn outer() -> anyhow::Result<()> {
    let first = sandbox::inner(Command::new(std::env::current_exe()?).arg("__init"))?;
    println!("{}", first.id());
    Ok(())
}

/// `__init`, the first process: starts the lab's own process and buries whoever dies, until that
/// one does.
///
/// # Errors
/// When the sandbox cannot be set up.
pub fn init() -> anyhow::Result<ExitCode> {
    // Found before /proc is another one.
    let program = std::env::current_exe()?;
    sandbox::settle()?;
    let inside = Command::new(program).arg("__inside").spawn()?;
    let id = i32::try_from(inside.id())?;
    drop_output()?;
    drop_handed_down()?;
    loop {
        match waitpid(None, Some(WaitPidFlag::empty())) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == id => return Ok(ExitCode::from(code as u8)),
            Ok(WaitStatus::Signaled(pid, ..)) if pid.as_raw() == id => return Ok(ExitCode::FAILURE),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return Ok(ExitCode::FAILURE),
        }
    }
}

/// Lets go of the lab's sockets, which are its own process's: whoever held them here would hold the
/// lab's name until the last process of the sandbox is gone.
fn drop_handed_down() -> anyhow::Result<()> {
    let numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|e| e.file_name().to_str().and_then(|n| n.parse().ok()))
        .filter(|n| *n > 2)
        .collect();
    // One of them was the listing itself, which is closed by now.
    numbers.into_iter().for_each(|n| drop(tandem_linux::sys::adopt(n)));
    Ok(())
}

fn drop_output() -> anyhow::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

/// Ends a lab and waits until its network and its name are gone.
///
/// # Errors
/// When there is no such lab.
pub fn down(name: &str) -> anyhow::Result<()> {
    // How long it may take, by what it has. One that does not say is ended all the same.
    let hosts = match messages::ask(name, &LabRequest::Status) {
        Ok(LabResponse::Status(status)) => status.counts[1] + status.counts[2],
        _ => 0,
    };
    let limit = room::down_limit(hosts as u64);
    let stream = labs::connect(name, false)?;
    // A lab that turns us away says why and ends; it may have done so before this is written.
    let said = writeln!(&stream, "{}", serde_json::to_string(&LabRequest::Down)?);
    let mut line = String::new();
    let _ = BufReader::new(&stream).read_line(&mut line);
    if let Ok(LabResponse::Error { why }) = serde_json::from_str(&line) {
        bail!("{why}");
    }
    said?;
    // The answer comes, and then the end: the sandbox's processes hold the other end of this
    // socket.
    let mut rest = Vec::new();
    let _ = (&stream).read_to_end(&mut rest);
    // Its interfaces are gone with its answer. Its name is held until the kernel has taken the last
    // process of the sandbox apart, which with many switches takes seconds: vswitchd has a packet
    // socket per port.
    let start = Instant::now();
    while start.elapsed() < limit {
        if labs::connect(name, false).is_err() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("the lab {name:?} has not ended within {limit:?}")
}

/// So long a command in a VM waits for the VM's address; one that has none is entered after that.
const ADDRESS_LIMIT: Duration = Duration::from_secs(5);
/// So often it is looked for.
const ADDRESS_POLL: Duration = Duration::from_millis(20);

/// Runs a command in a node. Call it before any thread is started.
///
/// # Errors
/// When there is no such lab or node, or the command cannot be started.
pub fn exec(name: &str, node: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else { bail!("no command was given") };
    let mut child = match messages::ask(name, &LabRequest::Find { node: node.to_owned() })? {
        LabResponse::Found { netns } => {
            sandbox::enter(process_of(name)?, netns)?;
            if node.starts_with("vm") {
                await_default_route();
            }
            let mut child = Command::new(program);
            child.args(arguments);
            child
        }
        LabResponse::Remote { ssh, prefix } => {
            let (program, options) = ssh.split_first().context("the lab does not say how")?;
            let words: Vec<String> = command.iter().map(|w| quote(w)).collect();
            let mut child = Command::new(program);
            child.args(options).arg(format!("{prefix} {}", words.join(" ")));
            child
        }
        _ => bail!("the lab {name:?} answered something else"),
    };
    let status = child.status().with_context(|| format!("cannot start {program} in {node}"))?;
    Ok(exit_code(status))
}

/// Waits until the namespace that this process is in has a default route. A VM runs for the
/// controller once it has been told its address; its DHCP client takes a moment to set it.
fn await_default_route() {
    let deadline = Instant::now() + ADDRESS_LIMIT;
    // To connect a UDP socket looks up the route, and sends nothing (192.0.2.0/24 is for examples, RFC 5737).
    let has_route = || UdpSocket::bind("0.0.0.0:0").is_ok_and(|s| s.connect("192.0.2.1:9").is_ok());
    while !has_route() && Instant::now() < deadline {
        std::thread::sleep(ADDRESS_POLL);
    }
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    ExitCode::from(status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1) as u8)
}

/// Runs a command inside a testbed's node, on its own machine: `pid` is the node's process, `netns`
/// its descriptor. Call it before any thread is started.
///
/// # Errors
/// When the node is gone, or the command cannot be started.
pub fn enter(pid: u32, netns: i32, node: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else { bail!("no command was given") };
    sandbox::enter(pid, netns)?;
    let status = Command::new(program).args(arguments).status();
    Ok(exit_code(status.with_context(|| format!("cannot start {program} in {node}"))?))
}

/// The id, as seen from here, of the process that holds a lab's control socket.
///
/// # Errors
/// When it is not found, or another user's.
pub fn process_of(name: &str) -> anyhow::Result<u32> {
    let lab = Lab::named(name)?;
    let wanted = format!("@{}", lab.socket(LAB, ""));
    // Names are bytes of anybody's choice, and so is what such a line says: the process has to be
    // the lab's owner's.
    let table = std::fs::read("/proc/net/unix").context("reading /proc/net/unix")?;
    let table = String::from_utf8_lossy(&table);
    let inodes: Vec<String> = table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listening = fields.get(3) == Some(&"00010000");
            (listening && fields.get(7) == Some(&wanted.as_str())).then(|| format!("socket:[{}]", fields[6]))
        })
        .collect();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        if !entry.metadata().is_ok_and(|m| m.uid() == lab.owner) {
            continue;
        }
        let inside = std::fs::read(entry.path().join("cmdline")).is_ok_and(|c| c.ends_with(b"__inside\0"));
        if inside && holds(&entry.path(), &inodes) {
            return Ok(pid);
        }
    }
    bail!("the process of lab {name:?} is not found; is the lab another user's?")
}

fn holds(process: &Path, inodes: &[String]) -> bool {
    let Ok(fds) = std::fs::read_dir(process.join("fd")) else { return false };
    fds.flatten().any(|fd| {
        std::fs::read_link(fd.path())
            .is_ok_and(|to| to.to_str().is_some_and(|to| inodes.iter().any(|i| i == to)))
    })
}
