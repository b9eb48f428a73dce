//! Switches compared: Open vSwitch, the agent's own switch and a modelled NetFPGA card, in one run
//! on the same wires.
//!
//! ```text
//! this process --unshare--> one process per datapath, in namespaces of its own:
//!                           testbench.rs (switch, four ends), measure.rs, rules.rs
//!              --qos------> an emulated data centre with a controller per datapath:
//!                           shares at a bottleneck
//!              <-- figures, which report.rs writes
//! ```
//!
//! The processes end with this one: they see the other end of their standard input close, whatever
//! ended it.

mod measure;
mod report;
mod rules;
mod testbench;

use super::qos;
use crate::controller_process::beside;
use crate::experiment::manifest::Manifest;
use crate::experiment::repeat;
use crate::experiment::run_folder::{OutputOptions, RunFolder};
use crate::temp_dir::{self, TempDir};
use crate::world::emulated::datapath::{Choice, Datapaths};
use crate::world::emulated::engine::EngineKind;
use crate::world::packets::Emulated;
use anyhow::{Context, bail};
use clap::ValueEnum;
use report::Column;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tandem_agent_protocol::datapaths::DatapathDescription;
use tandem_linux::link;
use tandem_linux::probe::Probe;
use tandem_model::DatapathKind;

/// The bottleneck of the class shares, Mbit/s.
const LINK: u32 = 10;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where results go.
    #[command(flatten)]
    pub output: OutputOptions,
    /// Which are compared.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ovs,soft,netfpga")]
    pub datapath: Vec<Choice>,
    /// Round trips.
    #[arg(long, default_value_t = 1000)]
    pub pings: u32,
    /// Seconds of each measurement of loss.
    #[arg(long, default_value_t = 3.0, value_parser = crate::cli::numbers::seconds)]
    pub seconds: f64,
    /// How often 100 and more rules are installed, and fewer ten times as often; the median is
    /// taken.
    #[arg(long, default_value_t = 5)]
    pub installs: u32,
    /// Seconds of each of the four parts of the class measurement; 0 leaves the classes out.
    #[arg(long, default_value_t = 3.0, value_parser = crate::cli::numbers::amount)]
    pub class_seconds: f64,
    /// Used by the experiment itself, when it is in its own namespaces already.
    #[arg(long, hide = true)]
    pub inside: Option<PathBuf>,
}

/// Which datapath a choice is.
fn described(choice: Choice, datapaths: &Datapaths) -> anyhow::Result<&DatapathDescription> {
    match choice {
        Choice::Kind(kind) => datapaths.get(kind),
        Choice::Auto => bail!("`auto` cannot be compared; write {}", DatapathKind::NAMES.join(", ")),
    }
}

/// Runs it, fills the run folder and prints the table.
///
/// # Errors
/// With the step that failed; nothing of it is then left.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let datapaths = Datapaths::ask(&beside("tandem-agent", "TANDEM_AGENT")?)?;
    if let (Some(folder), [choice]) = (&options.inside, &options.datapath[..]) {
        temp_dir::end_when_stdin_closes(folder)?;
        link::disable_ipv6();
        let measured = measure::all(described(*choice, &datapaths)?, folder, options)?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    temp_dir::clean_when_interrupted()?;
    repeat::run(&options.output, None, |folder, _| once(options, &datapaths, folder))
}

fn once(options: &Options, datapaths: &Datapaths, folder: &mut RunFolder) -> anyhow::Result<String> {
    let chosen: Vec<(Choice, &DatapathDescription)> = options
        .datapath
        .iter()
        .map(|choice| Ok((*choice, described(*choice, datapaths)?)))
        .collect::<anyhow::Result<_>>()?;
    let mut manifest = Manifest::new("datapaths", "emulated", 0, &qos::site_text(LINK));
    let places: Vec<&str> = chosen.iter().map(|(_, d)| d.lab.place.as_str()).collect();
    manifest.datapath = Some(places.join(", "));
    let probe = Probe::new();
    let mut columns = Vec::new();
    for (choice, datapath) in chosen {
        let missing = probe.missing(datapath.lab.needs_open_vswitch);
        let name = datapath.lab.title.clone();
        columns.push(if missing.is_empty() {
            let measured = outside(choice, options).with_context(|| format!("measuring {name}"))?;
            let shares = shares(choice, &name, options)?;
            Column { name, measured: Ok(measured), shares }
        } else {
            Column { name, measured: Err(format!("not here; missing: {}", missing.join(", "))), shares: None }
        });
    }
    report::write(folder, &columns)?;
    folder.finish(manifest)?;
    Ok(report::table(&columns))
}

/// Measures in namespaces of its own.
fn outside(choice: Choice, options: &Options) -> anyhow::Result<measure::Measured> {
    let word = choice.to_possible_value().context("a choice without a name")?;
    let word = word.get_name();
    let scratch = TempDir::new(&format!("datapaths-{word}"))?;
    let own = |path: &Path| path.display().to_string();
    let child = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe()?)
        .args(["experiment", "datapaths", "--datapath", word, "--out", &own(&options.output.out)])
        .args(["--pings", &options.pings.to_string(), "--seconds", &options.seconds.to_string()])
        .args(["--installs", &options.installs.to_string(), "--inside", &own(scratch.path())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting unshare (package util-linux)")?;
    // Its standard input must stay open: `wait_with_output` would close it, and with it the
    // measurement.
    let mut child = child;
    let held = child.stdin.take();
    let output = child.wait_with_output()?;
    drop(held);
    if !output.status.success() {
        bail!("the measurement did not come to its end; what it said is above");
    }
    serde_json::from_slice(&output.stdout).context("what the measurement says of itself")
}

/// What two classes get at a bottleneck, or the controller's refusal.
fn shares(choice: Choice, name: &str, options: &Options) -> anyhow::Result<Option<Result<f64, String>>> {
    if options.class_seconds <= 0.0 {
        return Ok(None);
    }
    eprintln!(
        "{name}: classes at a bottleneck of {LINK} Mbit/s (about {:.0} s)",
        options.class_seconds * 4.0 + 2.0
    );
    let world =
        Emulated { protocols: vec!["OpenFlow13".into()], datapath: choice, engine: EngineKind::Native };
    let cell = qos::one_cell(&world, LINK, options.class_seconds)?;
    Ok(Some(cell.map(|cell| qos::error(&cell))))
}
