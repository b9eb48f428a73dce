//! A run with real packets, in real time.

use super::requests;
use super::series::{MOMENTS, Row, Run};
use super::{Options, Variant};
use crate::experiment::manifest::Manifest;
use crate::world::Start;
use crate::world::packets::PacketWorld;
use crate::world::run::Run as World;
use anyhow::{Context, bail};
use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Between two moments at least: reading them takes a while, too.
const LEAST_STEP: Duration = Duration::from_secs(1);

/// What the command line says of a request that could not be met.
const REJECTED: &str = "rejected: ";

/// Runs one of the six.
///
/// # Errors
/// With the step that failed; the world is then gone.
pub fn run(
    world: &dyn PacketWorld,
    text: &str,
    variant: Variant,
    options: &Options,
    manifest: &mut Manifest,
) -> anyhow::Result<Run> {
    let scale = requests::scale(options);
    let text = super::site_text(text, variant, scale)?;
    let name = variant.name().replace('/', "-");
    let start = Start { name: &name, experiment: "joint-placement", text: &text, csv: None, record: None };
    eprintln!("{}: bringing up the world", variant.name());
    let lab = World::start(world, start)?;
    manifest.of_world(&lab.status);
    let arrivals = requests::plan(&lab.site, options)?;
    let mut run = Run::new(variant, &lab.site, scale, requests::holding(&lab.site, options));
    let length = requests::length(options);
    let step = (length / MOMENTS).max(LEAST_STEP);
    let started = Instant::now();
    let mut asked = Requests::default();
    let mut next = arrivals.into_iter().peekable();
    let mut moment = Duration::ZERO;
    while moment <= length {
        while let Some(arrival) = next.next_if(|a| a.at <= moment) {
            wait_until(started + arrival.at);
            let size = arrival.request.resources;
            let seconds = arrival.request.timeout.map_or(0.0, |t| t.as_secs_f64());
            let child = lab
                .controller
                .command(&["vm", "request", "--cpu", &size.cpu.to_string(), "--ram", &size.ram.to_string()])
                .args(["--disk", &size.disk.to_string(), "--net", &size.net.to_string()])
                .args(["--timeout", &seconds.to_string()])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .context("cannot ask for a VM")?;
            asked.under_way.push((arrival.at, child));
            asked.look()?;
        }
        wait_until(started + moment);
        lab.check()?;
        asked.look()?;
        run.rows.push(row(&lab, moment, asked.refused)?);
        eprintln!("{}: second {} of {}", variant.name(), moment.as_secs(), length.as_secs());
        moment += step;
    }
    asked.wait()?;
    lab.stop()?;
    Ok(run)
}

fn wait_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

fn row(lab: &World, at: Duration, rejected: u32) -> anyhow::Result<Row> {
    let topology = lab.controller.json(&["topology"])?;
    let switches = topology["switches"].as_array().context("the controller lists no switches")?;
    let declared = &lab.site.topology.switches;
    let ratio = |name: &str| {
        let found = switches.iter().find(|s| s["name"] == name).and_then(|s| s["ratio"].as_f64());
        found.with_context(|| format!("the controller does not list switch {name}"))
    };
    let ratio = declared.iter().map(|s| ratio(&s.name)).collect::<anyhow::Result<_>>()?;
    let servers = topology["servers"].as_array().into_iter().flatten();
    let on = |server: &Value| server["vms"].as_array().map_or(0, |vms| vms.len() as u32);
    Ok(Row { at, vms: servers.map(on).sum(), rejected, ratio })
}

/// Requests that were made, as processes of their own.
#[derive(Default)]
struct Requests {
    under_way: Vec<(Duration, Child)>,
    refused: u32,
}

impl Requests {
    /// Takes those that have ended.
    fn look(&mut self) -> anyhow::Result<()> {
        for (at, mut child) in std::mem::take(&mut self.under_way) {
            if child.try_wait()?.is_none() {
                self.under_way.push((at, child));
                continue;
            }
            self.take(at, child)?;
        }
        Ok(())
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        for (at, child) in std::mem::take(&mut self.under_way) {
            self.take(at, child)?;
        }
        Ok(())
    }

    fn take(&mut self, at: Duration, child: Child) -> anyhow::Result<()> {
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains(REJECTED) {
            self.refused += 1;
        } else if !output.status.success() {
            bail!("the request of second {} failed: {}", at.as_secs(), said.trim());
        }
        Ok(())
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        for (_, mut child) in self.under_way.drain(..) {
            // A run that broke off leaves no process behind.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
