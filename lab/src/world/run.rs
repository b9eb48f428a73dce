//! A world with real packets while an experiment runs in it, with a controller of its own or
//! without.
//!
//! Dropping a run takes the world and its controller down, and gives a testbed back.

use super::packets::PacketWorld;
use super::{DataCentre, Start};
use crate::control::messages::{self, FlowReport, LabRequest, LabResponse, Status};
use crate::controller_process::{Controller, Options};
use crate::experiment::manifest::Manifest;
use crate::experiment::records::Records;
use crate::experiment::usage;
use crate::temp_dir::TempDir;
use crate::world::emulated::lab_control;
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tandem_model::{ServerId, Site, TrafficTool};

/// How much longer the controller may take to have connected and filled all switches, for each of
/// them.
const EACH_SWITCH: Duration = Duration::from_secs(1);

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
    pub fn start(world: &dyn PacketWorld, start: Start<'_>) -> anyhow::Result<Bare> {
        let site = tandem_core::site::read(start.text, "the experiment's site")?;
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
    /// Everything up: switches connected, with their classes, and the world found by the
    /// controller.
    ///
    /// # Errors
    /// With the step that failed; nothing is then left.
    pub fn start(world: &dyn PacketWorld, start: Start<'_>) -> anyhow::Result<Run> {
        let site = tandem_core::site::read(start.text, "the experiment's site")?;
        let scratch = TempDir::new(start.name)?;
        let file = scratch.path().join("site.toml");
        std::fs::write(&file, start.text)?;
        let name = format!("{}-{}-{}", site.name, start.name, std::process::id());
        // The testbed first: nothing is asked of it before it is ours. An emulated world's switches
        // look for a controller from the start.
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
            // Of all that were ever enrolled, those that are not revoked have switches of this
            // site.
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
        tool: TrafficTool,
    ) -> anyhow::Result<()> {
        let tcp = tool == TrafficTool::TCP;
        let from = from.clone();
        let to = to.clone();
        self.ask(&LabRequest::StartFlow { id, from, to, rate, tcp, tool: Some(tool) }).map(drop)
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

/// What the controller's list of links says of a server's first link.
fn link_ratio(site: &Site, links: &Value, server: ServerId) -> anyhow::Result<f64> {
    let name = site.topology.server(server).map(|s| s.name.as_str()).unwrap_or_default();
    let end = format!("<->{name}.1");
    let of_server = |l: &&Value| l["name"].as_str().is_some_and(|n| n.ends_with(&end));
    let link = links.as_array().into_iter().flatten().find(of_server);
    link.and_then(|l| l["ratio"].as_f64()).with_context(|| format!("the link of {name} is not listed"))
}

/// Before the first second of an experiment's own time: what is asked for at 0 s is asked for in
/// time.
const LEAD: Duration = Duration::from_millis(100);

/// A [`Run`] as an experiment sees it that runs in every world.
pub struct PacketRun {
    run: Run,
    /// When the experiment's time was 0: at its first word.
    started: Option<Instant>,
    requests: Vec<(Duration, Child)>,
}

impl PacketRun {
    /// Everything up.
    ///
    /// # Errors
    /// With the step that failed; nothing is then left.
    pub fn start(world: &dyn PacketWorld, start: Start<'_>) -> anyhow::Result<PacketRun> {
        Ok(PacketRun { run: Run::start(world, start)?, started: None, requests: Vec::new() })
    }

    fn wait_until(&mut self, at: Duration) {
        let started = *self.started.get_or_insert_with(|| Instant::now() + LEAD);
        std::thread::sleep((started + at).saturating_duration_since(Instant::now()));
    }
}

impl DataCentre for PacketRun {
    fn site(&self) -> &Site {
        &self.run.site
    }

    fn advance_to(&mut self, at: Duration) -> anyhow::Result<()> {
        self.wait_until(at);
        self.run.check()
    }

    fn request_vm_at(&mut self, at: Duration) -> anyhow::Result<()> {
        self.wait_until(at);
        let mut command = self.run.controller.command(&["vm", "request"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        self.requests.push((at, child));
        Ok(())
    }

    fn server_link_ratio(&mut self, server: ServerId) -> anyhow::Result<f64> {
        let links = self.run.controller.json(&["links"])?;
        link_ratio(&self.run.site, &links, server)
    }

    fn server_link_ratios(&mut self) -> anyhow::Result<Vec<f64>> {
        let links = self.run.controller.json(&["links"])?;
        let servers = 0..self.run.site.topology.servers.len() as u32;
        servers.map(|n| link_ratio(&self.run.site, &links, ServerId(n))).collect()
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let mut all = usage::namespace_of(lab_control::process_of(&self.run.lab.name)?)?;
        all.push(self.run.controller.pid());
        Ok(all)
    }

    fn occupation(&mut self) -> anyhow::Result<Vec<u32>> {
        let topology = self.run.controller.json(&["topology"])?;
        let servers = topology["servers"].as_array().into_iter().flatten();
        Ok(servers.map(|s| s["vms"].as_array().map_or(0, |v| v.len() as u32)).collect())
    }

    fn describe(&self, manifest: &mut Manifest) {
        manifest.of_world(&self.run.status);
    }

    fn note(&mut self, moment: &str, records: &mut Records) -> anyhow::Result<()> {
        self.run.note(moment, records)
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        for (at, child) in self.requests {
            let output = child.wait_with_output()?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                bail!("the request of second {} failed: {}", at.as_secs(), said.trim());
            }
        }
        self.run.stop()
    }
}
