//! `manifest.json`: what was run, with what, so that a run can be repeated.

use crate::control::messages::{Machine, Status};
use crate::world::emulated::engine::EngineKind;
use anyhow::Context;
use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};

/// What was run, and with what.
#[derive(Debug, Serialize)]
pub struct Manifest {
    /// Name of the experiment.
    pub experiment: String,
    /// `simulated`, `emulated` or `testbed`.
    pub world: String,
    /// Version of Tandem.
    pub version: String,
    /// Commit it was built from, with `-dirty` if it had changes; `None` outside a checkout.
    pub commit: Option<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// The site file's text.
    pub site: String,
    /// The kernel's release.
    pub kernel: String,
    /// Open vSwitch's version, where it is used on this machine.
    pub ovs: Option<String>,
    /// Where packets were forwarded.
    pub datapath: Option<String>,
    /// What made hosts, switches and links, in the emulated world.
    pub engine: Option<EngineKind>,
    /// A testbed's machines with their kernels and versions of Open vSwitch.
    pub machines: Vec<Machine>,
    /// The command line.
    pub command: Vec<String>,
}

impl Manifest {
    /// What is known of this run and this machine.
    pub fn new(experiment: &str, world: &str, seed: u64, site: &str) -> Manifest {
        let kernel =
            std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        Manifest {
            experiment: experiment.to_owned(),
            world: world.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: first_line("git", &["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]),
            seed,
            site: site.to_owned(),
            kernel,
            ovs: (world == "emulated").then(|| first_line("ovs-vswitchd", &["--version"])).flatten(),
            datapath: None,
            engine: None,
            machines: Vec::new(),
            command: std::env::args().collect(),
        }
    }

    /// Adds what a world said of itself.
    pub fn of_world(&mut self, status: &Status) {
        self.datapath = Some(status.datapath.clone());
        self.engine = status.engine;
        self.machines.clone_from(&status.machines);
    }

    /// Writes `manifest.json` into the run folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join("manifest.json");
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stderr(Stdio::null()).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
