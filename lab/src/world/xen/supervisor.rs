//! The process that a lab lives by: it prepares the folder, starts the hosts, and answers on the
//! control socket until it is told to end. All of its hosts end with it, however it ends.

use super::control;
use super::files;
use super::network;
use crate::control::admission::Admission;
use crate::world::xen::control::{HostStatus, Status, XenRequest, XenResponse};
use crate::world::xen::files::Ports;
use crate::world::xen::host::{Host, free_port};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tandem_agent_protocol::local_peers::LocalPeers;

/// MiB that a host's QEMU takes beside its guest's memory.
const OVERHEAD: u32 = 400;

/// What `up` is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The lab's name.
    pub name: String,
    /// How many hosts.
    pub hosts: usize,
    /// MiB of each.
    pub memory: u32,
    /// The image's folder.
    pub image: PathBuf,
    /// Where its files go; emptied first.
    pub folder: PathBuf,
}

/// Brings a lab up and returns when all its hosts are ready; it runs on by itself. Progress goes to
/// `say`.
///
/// # Errors
/// When something is missing, there is such a lab already, or a host does not come up; nothing then
/// runs, and the logs are in the folder.
pub fn up(plan: &Plan, mut say: impl FnMut(&str)) -> anyhow::Result<Status> {
    let mut child = Command::new(std::env::current_exe().context("finding this program")?);
    child.arg("__xen").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A signal of the terminal is for us, not for the lab.
    child.process_group(0);
    let mut child = child.spawn().context("starting the lab's own process")?;
    // Kept open: when this process ends before the lab is up, the lab ends.
    let mut input = child.stdin.take().context("no input")?;
    writeln!(input, "{}", serde_json::to_string(plan)?)?;
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        match serde_json::from_str(&line?) {
            Ok(XenResponse::Progress { line }) => say(&line),
            Ok(XenResponse::Status(status)) => {
                writeln!(input, "stay")?;
                return Ok(status);
            }
            Ok(XenResponse::Error { why }) => {
                child.wait()?;
                bail!("{why}")
            }
            _ => break,
        }
    }
    bail!("the lab's process ended before it was up ({})", child.wait()?)
}

/// Ends a lab and waits until it is gone.
///
/// # Errors
/// When there is no such lab, or it does not end.
pub fn down(name: &str) -> anyhow::Result<()> {
    control::ask(name, &XenRequest::Down)?;
    super::wait("the lab's end", Duration::from_secs(60), || Ok((!control::is_up(name)?).then_some(())))
}

struct Lab {
    plan: Plan,
    ports: Ports,
    hosts: Vec<Host>,
    _lock: File,
}

/// `__xen`: says lines on standard output (progress, then the lab's status or why there is none)
/// and then serves.
///
/// # Errors
/// When the lab cannot be had.
pub fn run() -> anyhow::Result<()> {
    let mut said = std::io::stdout();
    let mut say = |answer: &XenResponse| -> anyhow::Result<()> {
        writeln!(said, "{}", serde_json::to_string(answer)?)?;
        Ok(said.flush()?)
    };
    let result = prepare(&mut |line| say(&XenResponse::Progress { line }));
    let (mut lab, control) = match result {
        Ok(all) => all,
        Err(error) => return say(&XenResponse::Error { why: format!("{error:#}") }),
    };
    say(&XenResponse::Status(lab.status()))?;
    let null = File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    serve(&mut lab, control)?;
    lab.clean();
    Ok(())
}

fn prepare(say: &mut dyn FnMut(String) -> anyhow::Result<()>) -> anyhow::Result<(Lab, UnixListener)> {
    let mut text = String::new();
    let mut input = BufReader::new(std::io::stdin());
    input.read_line(&mut text)?;
    let plan: Plan = serde_json::from_str(&text).context("this is started by `tandem-lab xen up` only")?;
    // 1. Whatever can be refused.
    let control = control::bind(&plan.name)?;
    let image = plan.image.canonicalize().ok().filter(|i| i.join("recipe").exists()).with_context(|| {
        format!("there is no image in {}; tests/xen/image makes it, tests/xen/run too", plan.image.display())
    })?;
    enough_memory(plan.hosts as u64 * u64::from(plan.memory + OVERHEAD))?;
    let lock = folder(&plan.folder)?;
    let plan = Plan { folder: plan.folder.canonicalize()?, ..plan };
    // 2. Files.
    let text = files::site(&plan.name, plan.hosts);
    let site = tandem_core::site::read(&text, "the lab's site")?;
    let parts = network::parts(&site);
    let ssh_ports = parts.iter().map(|_| free_port()).collect::<anyhow::Result<Vec<u16>>>()?;
    let ports = Ports { openflow: free_port()?, agents: free_port()? };
    files::keys(&plan.folder)?;
    files::known_hosts(&plan.folder, &ssh_ports)?;
    let write = |name: &str, text: String| std::fs::write(plan.folder.join(name), text);
    write("site.toml", text)?;
    write("inventory.toml", files::inventory(&plan.name, &parts, &ssh_ports, ports))?;
    write("hypervisors.toml", files::hypervisors(&site, &parts, &ssh_ports))?;
    // 3. Hosts. Whoever asked for them may go away meanwhile.
    let mut hosts = Vec::new();
    for (n, (part, port)) in parts.into_iter().zip(&ssh_ports).enumerate() {
        files::initrd(&plan.folder, &image, n, &part)?;
        let mut host = Host::new(&plan.folder, &image, n, part, *port, plan.memory);
        host.start()?;
        say(format!(
            "{} is booting; ssh at 127.0.0.1:{port}, console in {}.console",
            host.access.name, host.access.name
        ))?;
        hosts.push(host);
    }
    let (gone, left) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = input.read_line(&mut line);
        let _ = gone.send(line.trim() == "stay");
        let _ = input.read_to_string(&mut line);
    });
    let mut ready = vec![false; hosts.len()];
    while ready.contains(&false) {
        for (host, ready) in hosts.iter_mut().zip(&mut ready) {
            if !*ready && host.ready()? {
                *ready = true;
                say(format!("{} is up after {:.0} s", host.access.name, host.since().as_secs_f64()))?;
            }
        }
        if left.recv_timeout(Duration::from_millis(300)) == Ok(false) {
            bail!("whoever asked for the lab has gone");
        }
    }
    Ok((Lab { plan, ports, hosts, _lock: lock }, control))
}

/// Makes the folder ours alone, and empty.
fn folder(folder: &Path) -> anyhow::Result<File> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    let lock = File::create(folder.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!(
                "{} belongs to a lab that has not ended; end it, or choose another --folder",
                folder.display()
            )
        }
        Err(TryLockError::Error(error)) => return Err(error).context("locking the lab's folder"),
    }
    for entry in std::fs::read_dir(folder)?.flatten().filter(|e| e.file_name() != "lock") {
        let path = entry.path();
        if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
            .with_context(|| format!("emptying the lab's folder: {}", path.display()))?;
    }
    Ok(lock)
}

fn enough_memory(wanted: u64) -> anyhow::Result<()> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = text
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    match free.map(|kib| kib / 1024) {
        Some(free) if free < wanted => {
            bail!("the hosts need {wanted} MiB of memory, and {free} MiB are free; use fewer --hosts")
        }
        _ => Ok(()),
    }
}

impl Lab {
    fn status(&mut self) -> Status {
        let host = |h: &mut Host| {
            let ready = h.ready();
            HostStatus {
                pid: h.pid(),
                nodes: h.nodes(),
                trouble: ready.as_ref().err().map(|e| format!("{e:#}")),
                ready: ready.unwrap_or(false),
                seconds: h.since().as_secs(),
                access: h.access.clone(),
            }
        };
        Status {
            name: self.plan.name.clone(),
            pid: std::process::id(),
            folder: self.plan.folder.clone(),
            ports: self.ports,
            hosts: self.hosts.iter_mut().map(host).collect(),
        }
    }

    fn host(&mut self, name: &str) -> anyhow::Result<&mut Host> {
        let found = self.hosts.iter_mut().find(|h| h.access.name == *name);
        found.with_context(|| format!("there is no host {name:?}"))
    }

    fn carry_out(&mut self, ask: &XenRequest) -> anyhow::Result<XenResponse> {
        match ask {
            XenRequest::Status => return Ok(XenResponse::Status(self.status())),
            XenRequest::Kill { host } => self.host(host)?.kill()?,
            XenRequest::Start { host } => self.host(host)?.start()?,
            XenRequest::Down | XenRequest::Hold => {}
        }
        Ok(XenResponse::Done)
    }

    /// Ends the hosts, and removes what is large or secret; logs stay.
    fn clean(&mut self) {
        self.hosts.iter_mut().for_each(|h| drop(h.kill()));
        for entry in std::fs::read_dir(&self.plan.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ended = [".qcow2", ".initrd", ".pid", ".sock", ".ssh"].iter().any(|e| name.ends_with(e));
            if ended || ["key", "host-key"].contains(&name.as_str()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Questions that wait while one is carried out; whoever asks then waits.
const ASKED: usize = 16;
/// Who asks at once: a thread each.
const ASKERS: usize = 64;

/// One line of a connection, or the end of one that held the lab.
enum Heard {
    Request(XenRequest, UnixStream),
    Released,
}

/// Answers until it is told to end. All is done by this thread: QEMU must be started by one that
/// lives as long as the lab.
fn serve(lab: &mut Lab, control: UnixListener) -> anyhow::Result<()> {
    // An asker at a time is carried out; others wait with what they ask.
    let (sender, heard) = mpsc::sync_channel(ASKED);
    let admission = Admission::new(LocalPeers::same_user());
    let askers = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new().name("control".into()).spawn(move || {
        for stream in control.incoming() {
            let Ok(mut stream) = stream else {
                // No descriptor is free: the next one may be.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            let is_full = askers.load(Ordering::Relaxed) >= ASKERS;
            let refused = admission.check(&stream).err().or_else(|| {
                is_full.then(|| format!("this lab is being asked by {ASKERS} already; try again"))
            });
            if let Some(why) = refused {
                let line = serde_json::to_string(&XenResponse::Error { why }).unwrap_or_default();
                // Whoever does not read it does not hear it.
                let _ = stream.set_nonblocking(true).and_then(|()| writeln!(stream, "{line}"));
                continue;
            }
            let sender = sender.clone();
            let askers = askers.clone();
            askers.fetch_add(1, Ordering::Relaxed);
            let ended = askers.clone();
            let talk = move || {
                listen(&stream, &sender);
                askers.fetch_sub(1, Ordering::Relaxed);
            };
            if std::thread::Builder::new().name("asker".into()).spawn(talk).is_err() {
                ended.fetch_sub(1, Ordering::Relaxed);
            }
        }
    })?;
    while let Ok(heard) = heard.recv() {
        let Heard::Request(ask, stream) = heard else { return Ok(()) };
        let answer = lab.carry_out(&ask).unwrap_or_else(|e| XenResponse::Error { why: format!("{e:#}") });
        // An asker that has gone needs no answer.
        let _ = writeln!(&stream, "{}", serde_json::to_string(&answer)?);
        if matches!(ask, XenRequest::Down) {
            return Ok(());
        }
    }
    Ok(())
}

fn listen(stream: &UnixStream, sender: &mpsc::SyncSender<Heard>) {
    let mut reader = BufReader::new(stream.take(1 << 20));
    let mut line = String::new();
    let _ = reader.read_line(&mut line);
    let (Ok(ask), Ok(back)) = (serde_json::from_str::<XenRequest>(&line), stream.try_clone()) else { return };
    let holds = matches!(ask, XenRequest::Hold);
    let _ = sender.send(Heard::Request(ask, back));
    if holds {
        line.clear();
        let _ = reader.read_to_string(&mut line);
        let _ = sender.send(Heard::Released);
    }
}
