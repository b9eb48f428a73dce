//! One point: a data centre is brought up, loaded, measured and taken down.

use super::Options;
use super::sweep::{Centre, Sweep};
use crate::experiment::manifest::Manifest;
use crate::experiment::usage;
use crate::world::{Start, World};
use std::time::{Duration, Instant};

/// Between two VMs that are requested: an emulated host starts one in milliseconds, and a program is
/// started to ask for each.
const REQUESTS: Duration = Duration::from_millis(50);
/// From the last request until traffic is measured: VMs start, TCP finds its rate.
const SETTLE: Duration = Duration::from_secs(3);
/// Between two readings.
const READING: Duration = Duration::from_secs(1);

/// What a point gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) engine: String,
    pub(super) sweep: Sweep,
    pub(super) x: f64,
    pub(super) hosts: u32,
    pub(super) switches: u32,
    /// Of all hosts' links, on average over hosts and readings, percent.
    pub(super) ratio: f64,
    /// What all hosts were sent together, Mbit/s: asked for, and received.
    pub(super) asked: f64,
    pub(super) received: f64,
    /// Memory, MB: what the machine has less for others than before; what the processes hold. None
    /// where the data centre is in this process.
    pub(super) memory: Option<(f64, f64)>,
    /// Seconds until all was up: switches connected, with their rules.
    pub(super) up: f64,
}

pub(super) fn point(
    world: &dyn World,
    engine: &str,
    sweep: Sweep,
    centre: &Centre,
    options: &Options,
    manifest: &mut Manifest,
) -> anyhow::Result<Point> {
    let text = centre.site("thesis", options.tool);
    let name = format!("{}-{}", sweep.name(), centre.x);
    let before = usage::machine_available()?;
    let began = Instant::now();
    let start = Start { name: &name, experiment: "thesis-evaluation", text: &text, csv: None, record: None };
    let mut data_centre = world.start(start)?;
    let up = began.elapsed().as_secs_f64();
    data_centre.describe(manifest);
    let mut at = Duration::ZERO;
    for _ in 0..centre.hosts() {
        data_centre.request_vm_at(at)?;
        at += REQUESTS;
    }
    at += SETTLE;
    data_centre.advance_to(at)?;
    let mut ratios = Vec::new();
    let end = at + Duration::from_secs_f64(options.seconds);
    while at < end {
        at += READING.min(end - at);
        data_centre.advance_to(at)?;
        ratios.extend(data_centre.server_link_ratios()?);
    }
    let processes = data_centre.processes()?;
    let memory = if processes.is_empty() {
        None
    } else {
        let machine = before.saturating_sub(usage::machine_available()?);
        Some((machine as f64 / 1e6, usage::of(&processes).memory as f64 / 1e6))
    };
    data_centre.finish()?;
    let ratio = ratios.iter().sum::<f64>() / ratios.len().max(1) as f64;
    let asked = centre.host * f64::from(centre.hosts());
    Ok(Point {
        engine: engine.to_owned(),
        sweep,
        x: centre.x,
        hosts: centre.hosts(),
        switches: centre.switches(),
        ratio: ratio * 100.0,
        asked,
        received: asked * ratio,
        memory,
        up,
    })
}
