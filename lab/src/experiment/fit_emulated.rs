//! Figure 4.2 with real packets: a world, a controller and a VM request a second, once under each policy.

use super::fit;
use crate::experiment::fit::Series;
use crate::experiment::manifest::Manifest;
use crate::experiment::records::Records;
use crate::experiment::world::{Run, Start, World};
use anyhow::{Context, bail};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tandem_model::{Allocation, Site, site};

/// Runs both policies and writes the run folder.
///
/// # Errors
/// With the step that failed; worlds and controllers are then gone.
pub fn run(world: &dyn World, text: &str, out: &Path, record: bool) -> anyhow::Result<()> {
    let mut series = Vec::new();
    let mut manifest = Manifest::new("best-vs-worst-fit", world.kind(), 0, text);
    let mut records = Records::default();
    for (policy, name) in [(Allocation::BestFit, "best-fit"), (Allocation::WorstFit, "worst-fit")] {
        let text = with_policy(text, name, policy)?;
        let statistics = out.join(name);
        std::fs::create_dir_all(&statistics)?;
        forget_csv(&statistics)?;
        let recording = out.join(format!("{name}.jsonl"));
        let start = Start {
            name,
            experiment: "best-vs-worst-fit",
            text: &text,
            csv: Some(&statistics),
            record: record.then_some(recording.as_path()),
        };
        series.push(
            one(world, start, &mut manifest, &mut records)
                .with_context(|| format!("the run under {name}"))?,
        );
    }
    let [best, worst] = &series[..] else { bail!("a run is missing") };
    fit::write(out, best, worst, &manifest)?;
    records.write(out)?;
    println!("{}", fit::table(best, worst));
    println!("everything is in {}", out.display());
    Ok(())
}

/// A controller appends to the files that it finds, since it may have been restarted; a run begins anew.
fn forget_csv(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "csv") {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// The site file's text under another policy.
fn with_policy(text: &str, name: &str, policy: Allocation) -> anyhow::Result<String> {
    let text = ["best-fit", "worst-fit", "first-fit"].iter().fold(text.to_owned(), |t, p| {
        t.replace(&format!("allocation = \"{p}\""), &format!("allocation = \"{name}\""))
    });
    if site::read(&text, "the experiment's site")?.policy.allocation != policy {
        bail!("the site file must say allocation = \"best-fit\" or \"worst-fit\" under [policy]");
    }
    Ok(text)
}

fn one(
    world: &dyn World,
    start: Start<'_>,
    manifest: &mut Manifest,
    records: &mut Records,
) -> anyhow::Result<Series> {
    eprintln!("{}: bringing up the world", start.name);
    let run = Run::start(world, start)?;
    manifest.of_world(&run.status);
    run.note("before", records)?;
    let series = seconds(&run, start.name)?;
    run.note("after", records)?;
    run.stop()?;
    Ok(series)
}

/// How many VMs the site's servers hold, but never more than the seed's figure has.
fn filling(site: &Site) -> u64 {
    let vm = site.vm.default;
    let fits = |has: u64, needs: u64| has.checked_div(needs).unwrap_or(u64::MAX);
    let of = |r: &tandem_model::Resources| {
        fits(r.cpu.into(), vm.cpu.into())
            .min(fits(r.ram.0, vm.ram.0))
            .min(fits(r.disk.0, vm.disk.0))
            .min(fits(r.net.0, vm.net.0))
    };
    site.topology.servers.iter().map(|s| of(&s.capacity)).sum::<u64>().min(fit::SECONDS)
}

fn seconds(run: &Run, name: &str) -> anyhow::Result<Series> {
    let controller = &run.controller;
    let mut series = Series::default();
    let mut requests: Vec<(u64, Child)> = Vec::new();
    let first = run.site.topology.servers.first().map(|s| format!("<->{}.1", s.name)).unwrap_or_default();
    let last = filling(&run.site);
    let start = Instant::now() + Duration::from_millis(100);
    let live = std::io::stderr().is_terminal();
    for second in 0..=last {
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
            .find(|l| l["name"].as_str().is_some_and(|n| n.ends_with(&first)));
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
        run.check()?;
        if live {
            eprint!("\r{name}: second {second:>2} of {last}, first server's link {:5.1}%", ratio * 100.0);
            std::io::stderr().flush()?;
        } else if second % 8 == 0 {
            eprintln!("{name}: second {second} of {last}, first server's link {:.1}%", ratio * 100.0);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_data_centre_is_filled_by_as_many_vms_as_its_figure_has() {
        let site = fit::site(fit::SITE, Allocation::BestFit).expect("the experiment's site");
        assert_eq!(filling(&site), fit::SECONDS);
    }
}
