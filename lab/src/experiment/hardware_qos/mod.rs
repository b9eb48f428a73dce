//! Classes of service with a NetFPGA card: marked by rows of the card, sorted by the queues of the
//! next Linux hop; and what the bitfiles with rate limiters are set to.
//!
//! ```text
//! gold's sender   -- card port 0 --+        +-- 1  next hop  2 (bottleneck, 70% and 30%) -- sink
//! silver's sender -- card port 1 --+- card -+
//!                                  +-- 2 ---+
//! ```
//!
//! The card's rows set the DSCP, or a VLAN priority; the hop is a switch of its own, whose rules
//! choose a queue by the mark alone. Without marks everything is in one class, which is measured
//! first. No bitfile has both a flow table and rate limiters, so these are set and read back only:
//! what they let out of a port can be measured on a card.
//!
//! The card is the model, one behind a co-simulation socket, or a real one (`--card`, `--wires`).
//! The measurement runs in namespaces of its own, but with a real card in this one, where its
//! interfaces are.

mod report;
mod testbench;

use crate::controller_process;
use crate::experiment::manifest::Manifest;
use crate::experiment::repeat;
use crate::experiment::run_folder::{OutputOptions, RunFolder};
use crate::temp_dir::{self, TempDir};
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tandem_linux::link;

/// Classes, guaranteed in percent, DSCP, VLAN priority.
pub(super) const CLASSES: [(&str, u64, u8, u8); 2] = [("gold", 70, 46, 5), ("silver", 30, 10, 1)];
/// The bitfiles with rate limiters.
const LIMITERS: [&str; 3] = ["router-buffer-sizing", "tutorial-router", "packet-generator"];

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where results go.
    #[command(flatten)]
    pub output: OutputOptions,
    /// The card: `model`, `cosim:SOCKET`, `ioctl:nf2c0` or `mmap:PCI`.
    #[arg(long, default_value = "model")]
    pub card: String,
    /// With a real card: the interfaces that are cabled to its ports 0, 1 and 2 (two senders, then
    /// the next hop).
    #[arg(long, value_delimiter = ',', value_name = "INTERFACE")]
    pub wires: Vec<String>,
    /// The bottleneck, Mbit/s.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub link: u32,
    /// Seconds of each of the three measurements.
    #[arg(long, default_value_t = 6.0, value_parser = crate::cli::numbers::seconds)]
    pub seconds: f64,
    /// Used by the experiment itself, when it is in its own namespaces already.
    #[arg(long, hide = true)]
    pub inside: Option<PathBuf>,
}

/// How packets are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mark {
    /// Not at all.
    None,
    /// By the DSCP in the TOS byte.
    Dscp,
    /// By the priority of a VLAN tag that the card adds.
    Priority,
}

impl Mark {
    pub(super) const ALL: [Mark; 3] = [Mark::None, Mark::Dscp, Mark::Priority];

    pub(super) fn word(self) -> &'static str {
        match self {
            Mark::None => "none",
            Mark::Dscp => "DSCP",
            Mark::Priority => "VLAN priority",
        }
    }
}

/// What one way to mark gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) mark: Mark,
    /// Where the card's rules live.
    pub(super) places: Vec<String>,
    /// Mbit/s per class that came out of the bottleneck.
    pub(super) rates: [f64; 2],
    /// Packets that came to the bottleneck's other end with the right mark, or with another one.
    pub(super) marked: [u64; 2],
    /// Second, and Mbit/s per class.
    pub(super) series: Vec<(f64, [f64; 2])>,
}

impl Measured {
    /// Percent of what both got, per class.
    pub(super) fn shares(&self) -> [f64; 2] {
        let sum = (self.rates[0] + self.rates[1]).max(f64::MIN_POSITIVE);
        self.rates.map(|r| 100.0 * r / sum)
    }
}

/// A limiter that was asked for the bottleneck's rate: bit/s that it was set to, or why not.
pub(super) struct Limited {
    pub(super) bitfile: &'static str,
    pub(super) set: Result<u64, String>,
}

/// Runs it, fills the run folder and prints the table.
///
/// # Errors
/// With the step that failed; nothing of it is then left.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let real = ["ioctl:", "mmap:"].iter().any(|way| options.card.starts_with(way));
    ensure!(
        options.wires.len() == if real { 3 } else { 0 },
        "a real card needs --wires with the interfaces at its ports 0, 1 and 2, and any other has none of them"
    );
    if let Some(folder) = &options.inside {
        temp_dir::end_when_stdin_closes(folder)?;
        link::disable_ipv6();
        println!("{}", serde_json::to_string(&testbench::measure(options, folder)?)?);
        return Ok(());
    }
    temp_dir::clean_when_interrupted()?;
    repeat::run(&options.output, None, |folder, _| once(options, real, folder))
}

fn once(options: &Options, real: bool, folder: &mut RunFolder) -> anyhow::Result<String> {
    let mut manifest = Manifest::new("hardware-qos", if real { "card" } else { "emulated" }, 0, "");
    manifest.datapath = Some(format!("netfpga ({}), next hop soft", options.card));
    let scratch = TempDir::new("hardware-qos")?;
    let measured =
        if real { testbench::measure(options, scratch.path())? } else { outside(options, scratch.path())? };
    let limited: Vec<Limited> =
        LIMITERS.iter().map(|bitfile| Limited { bitfile, set: limit(bitfile, options.link) }).collect();
    report::write(folder, options.link, &measured, &limited, &manifest.place())?;
    folder.finish(manifest)?;
    Ok(report::table(&options.card, options.link, &measured, &limited))
}

/// Measures in namespaces of its own.
fn outside(options: &Options, folder: &Path) -> anyhow::Result<Vec<Measured>> {
    let own = |path: &Path| path.display().to_string();
    let mut child = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe()?)
        .args(["experiment", "hardware-qos", "--out", &own(&options.output.out), "--card", &options.card])
        .args(["--link", &options.link.to_string(), "--seconds", &options.seconds.to_string()])
        .args(["--inside", &own(folder)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting unshare (package util-linux)")?;
    // Its standard input must stay open: `wait_with_output` would close it, and with it the
    // measurement.
    let held = child.stdin.take();
    let output = child.wait_with_output()?;
    drop(held);
    if !output.status.success() {
        bail!("the measurement did not come to its end; what it said is above");
    }
    serde_json::from_slice(&output.stdout).context("what the measurement says of itself")
}

/// Sets the first limiter of a bitfile, on its model; it is read back there.
fn limit(bitfile: &str, link: u32) -> Result<u64, String> {
    let tool = controller_process::beside("tandem-fpga", "TANDEM_FPGA").map_err(|e| format!("{e:#}"))?;
    let rate = format!("{link} Mbit/s");
    let output = Command::new(tool)
        .args(["--card", "model", "--json", "--profile", bitfile, "limit", "0", &rate])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?;
    value["bit_per_second"].as_u64().ok_or_else(|| "it does not say to what".to_owned())
}
