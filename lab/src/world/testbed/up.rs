//! Starting a testbed's coordinator as a process of its own, and that process.

use crate::control::labs;
use crate::control::messages::{LabResponse, Status};
use crate::control::service::{self, LabBackend};
use crate::world::emulated::lab_control;
use crate::world::testbed::coordinator::Testbed;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tandem_agent_protocol::local_peers::LocalPeers;
use tandem_model::site;
use tandem_testbed::inventory::Inventory;

/// Between signs of life to the machines' nodes, which wait longer for one
/// ([`super::node::SILENCE`]).
const ALIVE: Duration = Duration::from_secs(3);

/// What `up` is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The lab's name; the site's if not given.
    pub name: Option<String>,
    /// The site file's text and name.
    pub text: String,
    /// See `text`.
    pub file: String,
    /// The inventory's file.
    pub inventory: PathBuf,
    /// What runs on the machines: this program, or one that was built for them.
    pub program: Option<PathBuf>,
    /// What for, in the testbed's lock.
    pub purpose: String,
    /// A group whose members may use the lab too.
    #[serde(default)]
    pub group: Option<String>,
}

/// Takes a testbed over and returns when its servers and gateways are there; it runs on by itself.
///
/// # Errors
/// When a file has faults, a machine is not reached, somebody else holds the testbed, or a step
/// failed; nothing is then left.
pub fn up(plan: &Plan) -> anyhow::Result<Status> {
    let mut plan = plan.clone();
    plan.inventory = std::path::absolute(&plan.inventory)?;
    // Faults in the files are told at once, by this process.
    let checked = site::read(&plan.text, &plan.file)?;
    Inventory::load(&plan.inventory, Some(&checked))?;
    let mut child = Command::new(std::env::current_exe().context("finding this program")?);
    child.arg("__testbed").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A signal of the terminal is for us, not for the lab.
    child.process_group(0);
    let mut child = child.spawn().context("starting the testbed's own process")?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "{}", serde_json::to_string(&plan)?)?;
    }
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    match serde_json::from_str(&line) {
        Ok(LabResponse::Status(status)) => Ok(status),
        Ok(LabResponse::Error { why }) => {
            child.wait()?;
            bail!("{why}")
        }
        _ => bail!("the testbed's process ended before it was up ({})", child.wait()?),
    }
}

/// `__testbed`: says one line on standard output (the lab's status, or why there is none) and then
/// serves.
///
/// # Errors
/// When the testbed cannot be had.
pub fn run() -> anyhow::Result<()> {
    let result = prepare();
    let line = match &result {
        Ok((testbed, ..)) => LabResponse::Status(testbed.status()),
        Err(error) => LabResponse::Error { why: format!("{error:#}") },
    };
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(&line)?)?;
    out.flush()?;
    let (testbed, peers, control, world) = result?;
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    let testbed = Arc::new(testbed);
    for n in 0..testbed.nodes() {
        let testbed = testbed.clone();
        std::thread::Builder::new().name("alive".into()).spawn(move || {
            while testbed.keep_alive(n) {
                std::thread::sleep(ALIVE);
            }
        })?;
    }
    end_by_signal(testbed.clone())?;
    let reports = testbed.reports();
    service::run(testbed, reports, peers, control, world)
}

/// SIGTERM and SIGINT give everything back, as `down` does.
fn end_by_signal(testbed: Arc<Testbed>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        use tokio::signal::unix::{SignalKind, signal};
        runtime.block_on(async {
            let (Ok(mut term), Ok(mut int)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return std::future::pending().await;
            };
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        });
        testbed.end();
        std::process::exit(0);
    })?;
    Ok(())
}

fn prepare() -> anyhow::Result<(Testbed, LocalPeers, UnixListener, UnixListener)> {
    let mut text = String::new();
    std::io::stdin().read_line(&mut text)?;
    let plan: Plan =
        serde_json::from_str(&text).context("this is started by `tandem-lab up --inventory` only")?;
    let site = site::read(&plan.text, &plan.file)?;
    let peers = lab_control::peers(plan.group.as_deref())?;
    let inventory = Inventory::load(&plan.inventory, Some(&site))?;
    let name = plan.name.unwrap_or_else(|| site.name.clone());
    let (control, world) = labs::bind(&name)?;
    let program = plan.program.unwrap_or_else(|| Path::new("/proc/self/exe").to_owned());
    let testbed = Testbed::up(&name, site, inventory, &program, &plan.purpose)?;
    Ok((testbed, peers, control, world))
}
