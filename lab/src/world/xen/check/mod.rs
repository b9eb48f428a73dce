//! What `scripts/test --xen` looks at: the controller with its `xl` driver on real Xen hosts, moves
//! under pings, and what failures leave.
//!
//! Each check starts from hosts without domains and says what it found. One that fails does not
//! keep the others from being tried; the run fails in the end. Figures are collected for a table.

mod failures;
mod interrupted;
mod life;
mod moves;

use crate::world::xen::data_centre::{DataCentre, Vm};
use crate::world::xen::pings::Report;
use crate::world::xen::supervisor::Plan;
use anyhow::{Context, bail, ensure};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run's figures.
#[derive(Default)]
pub struct Figures(Vec<(String, String)>);

impl Figures {
    /// Adds a line.
    pub fn add(&mut self, what: &str, figure: impl Into<String>) {
        let figure = figure.into();
        println!("   {what}: {figure}");
        self.0.push((what.to_owned(), figure));
    }

    fn seconds(&mut self, what: &str, since: Instant) {
        self.add(what, format!("{:.1} s", since.elapsed().as_secs_f64()));
    }

    fn table(&self) -> String {
        let width = self.0.iter().map(|(w, _)| w.len()).max().unwrap_or(0);
        self.0.iter().fold(String::new(), |mut text, (what, figure)| {
            let _ = writeln!(text, "{what:<width$}  {figure}");
            text
        })
    }
}

/// What a check is given.
pub struct Bench<'a> {
    /// The lab and its controller.
    pub dc: &'a mut DataCentre,
    /// Where its figures go.
    pub figures: &'a mut Figures,
    /// Where raw files of pings go.
    pub out: &'a Path,
}

type Check = fn(&mut Bench<'_>) -> anyhow::Result<()>;

const CHECKS: [(&str, Check); 15] = [
    ("life", life::life),
    ("live", moves::live),
    ("cold", moves::cold),
    ("cancel", moves::cancel),
    ("no-memory", failures::no_memory),
    ("no-template", failures::no_template),
    ("wrong-key", failures::wrong_key),
    ("behind-our-back", failures::behind_our_back),
    ("transport-cut", failures::transport_cut),
    ("controller-killed-in-transfer", interrupted::in_transfer),
    ("controller-killed-before-transfer", interrupted::before_transfer),
    ("controller-killed-in-switch-over", interrupted::in_switch_over),
    ("target-killed", failures::target_killed),
    ("host-gone", failures::host_gone),
    ("source-killed", failures::source_killed),
];

/// Runs the checks of these names, or all; fails when one did.
///
/// # Errors
/// With those that failed.
pub fn run(plan: &Plan, agent: &Path, only: &[String], out: &Path) -> anyhow::Result<()> {
    let known = |name: &String| CHECKS.iter().any(|(n, _)| n == name);
    if let Some(unknown) = only.iter().find(|n| !known(n)) {
        let names: Vec<&str> = CHECKS.iter().map(|(n, _)| *n).collect();
        bail!("there is no check {unknown:?}; there are {}", names.join(", "));
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let began = Instant::now();
    let mut figures = Figures::default();
    let mut dc = DataCentre::up(plan, agent, |line| println!("{line}"))?;
    figures.seconds("hosts booted, agents deployed, switches connected", began);
    let mut failed: Vec<String> = Vec::new();
    for (name, check) in CHECKS.iter().filter(|(n, _)| only.is_empty() || only.iter().any(|o| o == n)) {
        println!("== {name}");
        let began = Instant::now();
        let mut bench = Bench { dc: &mut dc, figures: &mut figures, out: &out.join(name) };
        let result = check(&mut bench);
        println!(
            "   {} after {:.0} s",
            if result.is_ok() { "good" } else { "FAILED" },
            began.elapsed().as_secs_f64()
        );
        if let Err(error) = result {
            println!("   {error:#}");
            failed.push(format!("{name}: {error:#}"));
        }
        if let Err(error) = dc.clean() {
            println!("   cleaning up: {error:#}");
            failed.push(format!("{name}, cleaning up: {error:#}"));
        }
    }
    figures.seconds("all of it", began);
    let table = figures.table();
    std::fs::write(out.join("figures.txt"), &table)?;
    print!("\n{table}");
    println!("logs are in {}, raw files of pings in {}", dc.lab.folder.display(), out.display());
    ensure!(failed.is_empty(), "{} of the checks failed:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

impl Bench<'_> {
    /// A VM on srv1 that answers pings.
    fn vm(&mut self, image: &str) -> anyhow::Result<Vm> {
        let began = Instant::now();
        let vm = self.dc.request(&["--image", image])?;
        self.dc.expect_answer(vm.address)?;
        let at = self.dc.server_of(vm.id)?;
        println!(
            "   vm{} ({image}) runs on {} as {} after {:.0} s",
            vm.id,
            at.as_deref().unwrap_or("?"),
            vm.address,
            began.elapsed().as_secs_f64()
        );
        ensure!(at.as_deref() == Some("srv1"), "vm{} is on {at:?}, and first fit takes srv1", vm.id);
        Ok(vm)
    }

    /// The VM is at `at` and nowhere else, by the controller and by Xen, and answers.
    fn expect_at(&self, vm: &Vm, at: &str) -> anyhow::Result<()> {
        let other = if at == "srv1" { "srv2" } else { "srv1" };
        let name = format!("tandem-vm{}", vm.id);
        self.dc.expect_domains(at, &[&name])?;
        self.dc.expect_domains(other, &[])?;
        let known = self.dc.server_of(vm.id)?;
        ensure!(
            known.as_deref() == Some(at),
            "the controller has vm{} on {known:?}, and it runs on {at}",
            vm.id
        );
        self.dc.expect_answer(vm.address)
    }

    /// What the network lost of a VM's pings, which must be nothing.
    fn expect_nothing_lost(&mut self, what: &str, report: &Report) -> anyhow::Result<()> {
        if let Some(silence) = report.silence_ms {
            self.figures.add(&format!("{what}: silence of the guest"), format!("{:.0} ms", silence));
        }
        let sent = report.sent;
        let lost = report.lost;
        let network = report.network_lost;
        self.figures.add(
            &format!("{what}: pings lost by the network"),
            format!("{network} of {lost} lost, of {sent}; {} twice", report.duplicates),
        );
        ensure!(
            network == 0 && report.duplicates == 0,
            "the network lost {network} (before the silence, in it, after it: {:?}) and doubled {}; the watchers missed {}",
            report.where_lost,
            report.duplicates,
            report.missed
        );
        Ok(())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }
}
