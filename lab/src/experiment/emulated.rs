//! Figure 4.2 with real packets: a lab, a controller and a VM request a second, once under each policy.

use super::fit::{self, Series};
use super::manifest::Manifest;
use crate::emulated::outside::{self, Plan};
use crate::scratch::Scratch;
use crate::tandem::{self, Controller, Options};
use anyhow::{Context, bail};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tandem_model::{Allocation, site};

/// How long switches may take to connect.
const CONNECT: Duration = Duration::from_secs(60);

/// A lab that is taken down when this is dropped, also when the run failed.
struct Lab(String);

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = outside::down(&self.0) {
            tracing::warn!("{error:#}");
        }
    }
}

/// Runs both policies and writes the run folder.
///
/// # Errors
/// With the step that failed; labs and controllers are then gone.
pub fn run(text: &str, out: &Path, record: bool) -> anyhow::Result<()> {
    let mut series = Vec::new();
    for (policy, name) in [(Allocation::BestFit, "best-fit"), (Allocation::WorstFit, "worst-fit")] {
        series.push(one(text, name, policy, out, record).with_context(|| format!("the run under {name}"))?);
    }
    let [best, worst] = &series[..] else { bail!("a run is missing") };
    fit::write(out, best, worst, &Manifest::new("best-vs-worst-fit", "emulated", 0, text))?;
    println!("{}", fit::table(best, worst));
    println!("everything is in {}", out.display());
    Ok(())
}

/// The site file's text under another policy.
fn with_policy(text: &str, name: &str) -> String {
    ["best-fit", "worst-fit", "first-fit"].iter().fold(text.to_owned(), |t, p| {
        t.replace(&format!("allocation = \"{p}\""), &format!("allocation = \"{name}\""))
    })
}

fn one(text: &str, name: &str, policy: Allocation, out: &Path, record: bool) -> anyhow::Result<Series> {
    let text = with_policy(text, name);
    let site = site::read(&text, "the experiment's site")?;
    if site.policy.allocation != policy {
        bail!("the site file must say allocation = \"best-fit\" or \"worst-fit\" under [policy]");
    }
    let scratch = Scratch::new(name)?;
    let site_file = scratch.path().join("site.toml");
    std::fs::write(&site_file, &text)?;
    let statistics = out.join(name);
    std::fs::create_dir_all(&statistics)?;
    let recording = out.join(format!("{name}.jsonl"));
    let lab_name = format!("{}-{name}-{}", site.name, std::process::id());
    let plan = Plan {
        name: Some(lab_name.clone()),
        text: text.clone(),
        file: "the experiment's site".into(),
        controller: tandem::openflow(scratch.path()),
        agents: tandem::agents(scratch.path()),
        agent_per_switch: false,
        protocols: vec!["OpenFlow10".into(), "OpenFlow13".into()],
    };
    eprintln!(
        "{name}: bringing up {} servers and {} switches",
        site.topology.servers.len(),
        site.topology.switches.len()
    );
    let controller = Controller::start(&Options {
        site: &site_file,
        folder: scratch.path(),
        lab: &lab_name,
        csv: Some(&statistics),
        record: record.then_some(recording.as_path()),
    })?;
    outside::up(&plan)?;
    let _lab = Lab(lab_name);
    controller.wait_connected(CONNECT)?;
    wait_world(&controller)?;
    let series = seconds(&controller, name)?;
    controller.stop()?;
    Ok(series)
}

/// Waits until the controller has found the lab's hypervisor service.
fn wait_world(controller: &Controller) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let notices = controller.json(&["notices"])?;
        let there = notices.as_array().is_some_and(|n| n.iter().any(|n| n["kind"] == "world-up"));
        if there {
            return Ok(());
        }
        if start.elapsed() > CONNECT {
            bail!("the controller does not find the lab's hypervisor service");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn seconds(controller: &Controller, name: &str) -> anyhow::Result<Series> {
    let mut series = Series::default();
    let mut requests: Vec<(u64, Child)> = Vec::new();
    let start = Instant::now() + Duration::from_millis(100);
    let live = std::io::stderr().is_terminal();
    for second in 0..=fit::SECONDS {
        wait_until(start + Duration::from_secs(second));
        if second > 0 {
            let child = controller
                .command(&["vm", "request"])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            requests.push((second, child));
        }
        // The value of a second is the last reading within it.
        wait_until(start + Duration::from_secs(second) + Duration::from_millis(930));
        let links = controller.json(&["links"])?;
        let first = links
            .as_array()
            .into_iter()
            .flatten()
            .find(|l| l["name"].as_str().is_some_and(|n| n.ends_with("<->srv1.1")));
        let ratio =
            first.and_then(|l| l["ratio"].as_f64()).context("the first server's link is not listed")?;
        let servers = controller.json(&["topology"])?;
        let counts = servers["servers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|s| s["vms"].as_array().map_or(0, |v| v.len() as u32));
        series.ratio.push((ratio * 10_000.0).round() / 100.0);
        series.occupation.push(counts.collect());
        if live {
            eprint!(
                "\r{name}: second {second:>2} of {}, first server's link {:5.1}%",
                fit::SECONDS,
                ratio * 100.0
            );
            std::io::stderr().flush()?;
        } else if second % 8 == 0 {
            eprintln!(
                "{name}: second {second} of {}, first server's link {:.1}%",
                fit::SECONDS,
                ratio * 100.0
            );
        }
    }
    if live {
        eprintln!();
    }
    for (second, child) in requests {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "the request of second {second} failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
    }
    Ok(series)
}

fn wait_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}
