//! The worlds in which an experiment's packets are real, behind one small trait: an experiment cannot tell them apart.
//!
//! [`Run::start`] brings up a world with a controller of its own; dropping it takes both down, and gives a testbed back.

use crate::control::messages::{self, FlowReport, LabRequest, LabResponse, Status};
use crate::controller_process::{self, Controller, Options};
use crate::experiment::records::Records;
use crate::temp_dir::TempDir;
use crate::world::emulated::datapath::Choice;
use crate::world::emulated::lab_control;
use crate::world::testbed::up;
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tandem_model::{Site, site};
use tandem_testbed::inventory::Inventory;

/// Flow measurement, VMs and so on are asked for by name ([`messages::ask`]), in every world in the same words. This is the rest.
pub trait World {
    /// `emulated` or `testbed`, for the manifest.
    fn kind(&self) -> &'static str;
    /// How long switches may take to find the controller.
    fn patience(&self) -> Duration;
    /// What the controller is told besides its usual options: where this world's switches and agents look for it.
    fn controller_options(&self) -> Vec<String>;
    /// Brings up the servers and gateways (and switches, where they are not there already) of a site under a name.
    ///
    /// # Errors
    /// With the step that failed; nothing is then left.
    fn up(&self, name: &str, text: &str, folder: &Path, purpose: &str) -> anyhow::Result<Status>;
}

/// Namespaces of this machine.
pub struct Emulated {
    /// OpenFlow versions that the switches offer.
    pub protocols: Vec<String>,
    /// What they are made of.
    pub datapath: Choice,
}

/// How much longer the controller may take to have connected and filled all switches, for each of them.
const EACH_SWITCH: Duration = Duration::from_secs(1);

impl World for Emulated {
    fn kind(&self) -> &'static str {
        "emulated"
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn controller_options(&self) -> Vec<String> {
        Vec::new()
    }

    fn up(&self, name: &str, text: &str, folder: &Path, _: &str) -> anyhow::Result<Status> {
        let up = lab_control::up(&lab_control::Plan {
            group: None,
            name: Some(name.to_owned()),
            text: text.to_owned(),
            file: "the experiment's site".into(),
            controller: controller_process::openflow(folder),
            agents: controller_process::agents(folder),
            agent_per_switch: false,
            protocols: self.protocols.clone(),
            datapath: self.datapath,
        })?;
        Ok(up.status)
    }
}

/// Machines of an inventory.
pub struct Testbed {
    /// The inventory's file.
    pub inventory: PathBuf,
    /// Folder of the certificate authority that the agents were enrolled with.
    pub authority: PathBuf,
    /// What runs on the machines, if not this program.
    pub program: Option<PathBuf>,
    checked: Inventory,
}

impl Testbed {
    /// Of an inventory's file.
    ///
    /// # Errors
    /// With its faults, or when there is no authority.
    pub fn new(inventory: PathBuf, authority: PathBuf, program: Option<PathBuf>) -> anyhow::Result<Testbed> {
        let checked = Inventory::load(&inventory, None)?;
        if !authority.is_dir() {
            bail!(
                "{} is not there: the agents trust the controller that they were enrolled with, and an experiment's must be that; \
                 name the folder `agents` beside that controller's store with --authority",
                authority.display()
            );
        }
        Ok(Testbed { inventory, authority, program, checked })
    }
}

impl World for Testbed {
    fn kind(&self) -> &'static str {
        "testbed"
    }

    // Open vSwitch tries again after 8 s at most, an agent after half a minute.
    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn controller_options(&self) -> Vec<String> {
        let c = &self.checked.controller;
        vec![
            "--openflow".into(),
            format!("tcp:{}:{}", c.listen, c.openflow),
            "--agents".into(),
            format!("tcp:{}:{}", c.listen, c.agents),
            "--authority".into(),
            self.authority.display().to_string(),
        ]
    }

    fn up(&self, name: &str, text: &str, _: &Path, purpose: &str) -> anyhow::Result<Status> {
        up::up(&up::Plan {
            group: None,
            name: Some(name.to_owned()),
            text: text.to_owned(),
            file: "the experiment's site".into(),
            inventory: self.inventory.clone(),
            program: self.program.clone(),
            purpose: purpose.to_owned(),
        })
    }
}

/// A lab that goes down when it is dropped, and when this process is killed.
struct Lab {
    name: String,
    /// Kept, not read.
    held: Option<UnixStream>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = lab_control::down(&self.name) {
            tracing::warn!("{error:#}");
        }
    }
}

/// A world without a controller.
pub struct Bare {
    /// What it said of itself when it came up.
    pub status: Status,
    /// The site.
    pub site: Site,
    lab: Lab,
    _scratch: TempDir,
}

impl Bare {
    /// Everything up but a controller.
    ///
    /// # Errors
    /// With the step that failed; nothing is then left.
    pub fn start(world: &dyn World, start: Start<'_>) -> anyhow::Result<Bare> {
        let site = site::read(start.text, "the experiment's site")?;
        let scratch = TempDir::new(start.name)?;
        let name = format!("{}-{}-{}", site.name, start.name, std::process::id());
        let status =
            world.up(&name, start.text, scratch.path(), &format!("experiment {}", start.experiment))?;
        let mut lab = Lab { name, held: None };
        lab.held = Some(messages::hold(&lab.name)?);
        Ok(Bare { status, site, lab, _scratch: scratch })
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.lab.name
    }

    /// Asks the world.
    ///
    /// # Errors
    /// With what it says.
    pub fn ask(&self, ask: &LabRequest) -> anyhow::Result<LabResponse> {
        messages::ask(&self.lab.name, ask)
    }
}

/// A world and a controller of its own.
pub struct Run {
    /// The controller.
    pub controller: Controller,
    /// What the world said of itself when it came up.
    pub status: Status,
    /// The site.
    pub site: Site,
    /// After the controller: what it orders last is still carried out.
    lab: Lab,
    _scratch: TempDir,
}

/// What a run is started with.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Names the run among those of the experiment.
    pub name: &'a str,
    /// The experiment, for the testbed's lock.
    pub experiment: &'a str,
    /// The site file's text.
    pub text: &'a str,
    /// Folder for the statistics' CSV files.
    pub csv: Option<&'a Path>,
    /// Recording.
    pub record: Option<&'a Path>,
}

/// Waits until `ready` gives a value.
///
/// # Errors
/// When it does not within `limit`.
pub fn wait<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Run {
    /// Everything up: switches connected, with their classes, and the world found by the controller.
    ///
    /// # Errors
    /// With the step that failed; nothing is then left.
    pub fn start(world: &dyn World, start: Start<'_>) -> anyhow::Result<Run> {
        let site = site::read(start.text, "the experiment's site")?;
        let scratch = TempDir::new(start.name)?;
        let file = scratch.path().join("site.toml");
        std::fs::write(&file, start.text)?;
        let name = format!("{}-{}-{}", site.name, start.name, std::process::id());
        // The testbed first: nothing is asked of it before it is ours. An emulated world's switches look for a controller from the start.
        let status =
            world.up(&name, start.text, scratch.path(), &format!("experiment {}", start.experiment))?;
        let mut lab = Lab { name, held: None };
        lab.held = Some(messages::hold(&lab.name)?);
        let controller = Controller::start(&Options {
            site: &file,
            folder: scratch.path(),
            lab: &lab.name,
            csv: start.csv,
            record: start.record,
            more: &world.controller_options(),
        })?;
        let run = Run { controller, status, site, lab, _scratch: scratch };
        let switches = u32::try_from(run.site.topology.switches.len()).unwrap_or(u32::MAX);
        run.wait_ready(world.patience() + EACH_SWITCH * switches)?;
        Ok(run)
    }

    fn wait_ready(&self, limit: Duration) -> anyhow::Result<()> {
        let controller = &self.controller;
        controller.wait_connected(limit)?;
        wait("the hypervisor service", limit, || {
            let notices = controller.json(&["notices"])?;
            let there = |kind: &str| notices.as_array().is_some_and(|l| l.iter().any(|n| n["kind"] == kind));
            Ok((there("world-up") && there("agent-up")).then_some(()))
        })?;
        wait("the classes in the switches", limit, || {
            let agents = controller.json(&["agent", "list"])?;
            let list = agents.as_array().cloned().unwrap_or_default();
            // Of all that were ever enrolled, those that are not revoked have switches of this site.
            let mut meant = list.iter().filter(|a| a["certificate"]["revoked"] != true).peekable();
            let applied = |a: &Value| {
                a["agent"]["generation"].as_u64().is_some_and(|g| g > 0)
                    && a["agent"]["generation"] == a["agent"]["applied"]
            };
            Ok((meant.peek().is_some() && meant.all(applied)).then_some(()))
        })
    }

    /// The lab's name.
    pub fn lab_name(&self) -> &str {
        &self.lab.name
    }

    /// Asks the world.
    ///
    /// # Errors
    /// With what it says.
    pub fn ask(&self, ask: &LabRequest) -> anyhow::Result<LabResponse> {
        messages::ask(&self.lab.name, ask)
    }

    /// Fails when a part of the world is lost.
    ///
    /// # Errors
    /// With which, and why.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.ask(&LabRequest::Status)? {
            LabResponse::Status(status) if !status.trouble.is_empty() => {
                bail!("{}", status.trouble.join("; "))
            }
            _ => Ok(()),
        }
    }

    /// Starts a flow besides those that the controller asks for.
    ///
    /// # Errors
    /// With what the world says.
    pub fn start_flow(
        &self,
        id: u64,
        from: &(String, Ipv4Addr),
        to: &(String, Ipv4Addr),
        rate: u64,
        tcp: bool,
    ) -> anyhow::Result<()> {
        self.ask(&LabRequest::StartFlow { id, from: from.clone(), to: to.clone(), rate, tcp }).map(drop)
    }

    /// Every flow's figures.
    ///
    /// # Errors
    /// With what the world says.
    pub fn flows(&self) -> anyhow::Result<BTreeMap<u64, FlowReport>> {
        match self.ask(&LabRequest::Flows)? {
            LabResponse::Flows { flows } => Ok(flows.into_iter().map(|f| (f.id, f)).collect()),
            _ => bail!("the lab answered something else"),
        }
    }

    /// Requests a VM of a class; its name and address.
    ///
    /// # Errors
    /// With what the controller says.
    pub fn vm(&self, class: &str) -> anyhow::Result<(String, Ipv4Addr)> {
        let vm = self.controller.json(&["vm", "request", "--class", class])?;
        let address =
            vm["address"].as_str().and_then(|a| a.parse().ok()).context("a VM without an address")?;
        Ok((format!("vm{}", vm["id"]), address))
    }

    /// Puts the clocks and all raw counters of this moment into `records`.
    ///
    /// # Errors
    /// With what the world or the controller says.
    pub fn note(&self, moment: &str, records: &mut Records) -> anyhow::Result<()> {
        if let LabResponse::Clocks { clocks } = self.ask(&LabRequest::Clocks)? {
            records.clocks(&self.lab.name, clocks);
        }
        if let LabResponse::Counters { counters } = self.ask(&LabRequest::Counters)? {
            records.interfaces(&self.lab.name, moment, &counters)?;
        }
        records.switches(&self.lab.name, moment, &self.controller.json(&["topology"])?)
    }

    /// Takes everything down.
    ///
    /// # Errors
    /// When the controller cannot be told.
    pub fn stop(self) -> anyhow::Result<()> {
        self.controller.stop()
    }
}
