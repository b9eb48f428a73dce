//! `tandem-lab calibrate`.

use super::world::{Place, WorldKind};
use crate::control::messages::{self, LabRequest};
use crate::controller_process;
use crate::experiment::calibrate;
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::Table;
use crate::world::Start;
use crate::world::run::Run;
use anyhow::{Context, bail};
use std::process::ExitCode;
use tandem_model::Site;

/// What is measured, and where.
#[derive(Debug, clap::Args)]
pub(super) struct CalibrateOptions {
    /// In which world.
    #[arg(long, value_enum, default_value = "emulated", conflicts_with = "name")]
    world: WorldKind,
    #[command(flatten)]
    place: Place,
    /// A lab that is up already, with its controller, instead of bringing one up.
    #[arg(long, requires = "site")]
    name: Option<String>,
    /// With --name: the controller's API.
    #[arg(long, env = "TANDEM_API", default_value = "unix:/run/tandem/api.sock")]
    api: String,
    #[command(flatten)]
    options: calibrate::Options,
}

/// Measures every link, prints the table and says whether all are as declared.
///
/// # Errors
/// With the step that failed.
pub(super) fn run(options: CalibrateOptions) -> anyhow::Result<ExitCode> {
    let CalibrateOptions { world, place, name, api, options } = options;
    if place.output.repeat > 1 {
        bail!("links are measured once (--seconds N measures longer); leave --repeat out");
    }
    let mut folder = RunFolder::make(&place.output.out, place.output.csv)?;
    let text = place.site()?.context("--site FILE says what is declared")?;
    let measure = |site: &Site, ask: &dyn Fn(&LabRequest) -> _, statistics: &dyn Fn() -> _| {
        calibrate::run(&calibrate::Lab { site, ask, statistics }, &options, |line| eprintln!("{line}"))
    };
    let findings = if let Some(name) = name {
        let site = tandem_core::site::read(&text, "the site file")?;
        measure(&site, &|ask| messages::ask(&name, ask), &|| {
            controller_process::json(&api, &["stats", "--now"])
        })?
    } else {
        let world = place.packet_world(world, &["OpenFlow13"])?;
        let start =
            Start { name: "calibrate", experiment: "calibrate", text: &text, csv: None, record: None };
        let run = Run::start(&*world, start)?;
        let findings = measure(&run.site, &|ask| run.ask(ask), &|| run.controller.json(&["stats", "--now"]))?;
        run.stop()?;
        findings
    };
    folder.table(Table::of_lines("calibration", 1, &calibrate::csv(&findings, options.tolerance)))?;
    print!("{}", calibrate::table(&findings, options.tolerance));
    println!("everything is in {}", folder.path().display());
    let good = findings.iter().all(|f| !f.verdict(options.tolerance).starts_with("DIFFERS"));
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
