//! `tandem-lab experiment datapaths`: it comes to its end, its run folder holds what it says, and
//! it leaves nothing when it is killed.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tandem_tests::{can_emulate_on, program, wait};

/// A run folder that is gone when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(what: &str) -> Folder {
        Folder(std::env::temp_dir().join(format!("tandem-datapaths-{what}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `csv/table.csv`, in the thesis' form: (datapath, what) to (value, detail).
fn rows(folder: &Path) -> Result<BTreeMap<(String, String), (String, String)>> {
    let text = std::fs::read_to_string(folder.join("csv/table.csv"))?;
    let row = |line: &str| {
        let mut f = line.split(';').map(str::to_owned);
        let mut next = || f.next().context("five fields");
        let (datapath, what, _unit) = (next()?, next()?, next()?);
        Ok(((datapath, what), (next()?, next()?)))
    };
    text.lines().skip(1).map(row).collect()
}

#[test]
fn switches_are_compared_and_each_says_what_it_refuses() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let folder = Folder::new("run");
    // Open vSwitch is asked for as well: where it is not installed its column says so.
    let output = Command::new(program("tandem-lab")?)
        .args([
            "experiment",
            "datapaths",
            "--pings",
            "30",
            "--seconds",
            "0.4",
            "--installs",
            "1",
            "--csv",
            "thesis",
            "--class-seconds",
            "1",
        ])
        .arg("--out")
        .arg(&folder.0)
        .stdin(Stdio::null())
        .output()?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{text}{errors}");
    let rows = rows(&folder.0)?;
    let of = |datapath: &str, what: &str| {
        let found = rows.get(&(datapath.to_owned(), what.to_owned()));
        found.cloned().with_context(|| format!("{datapath}, {what} in {text}"))
    };
    for datapath in ["soft switch", "modelled card"] {
        let trip: f64 = of(datapath, "round trip, median")?.0.parse()?;
        let rule: f64 = of(datapath, "a rule, of 1000 installed")?.0.parse()?;
        ensure!(trip > 0.0 && rule > 0.0, "{datapath}: {trip}, {rule}");
        let (lost, sent) = of(datapath, "lost on the backlogged port")?
            .0
            .split_once(" of ")
            .map(|(a, b)| Ok::<_, anyhow::Error>((a.parse::<u64>()?, b.parse::<u64>()?)))
            .context("two numbers")??;
        // Four times the port's rate is offered; what waits in its queue is a part of the rest.
        ensure!(
            lost * 2 > sent,
            "{datapath}: {lost} of {sent} lost at a port that is offered four times its rate"
        );
    }
    ensure!(of("modelled card", "in hardware, of 1")?.0 == "1", "{text}");
    // A card has 32 rows, of which those that forward have some.
    let held: u32 = of("modelled card", "in hardware, of 1000")?.0.parse()?;
    ensure!((1..32).contains(&held), "{held} of 1000 rules in 32 rows");
    // What a card's hardware can do is in its rows; what it cannot is done behind it, with the
    // reason.
    ensure!(of("modelled card", "IPv4 destination to a port")?.0 == "hardware", "{text}");
    let (place, why) = of("modelled card", "IPv6 destination")?;
    ensure!(place == "software" && why.contains("cannot match"), "{place}: {why}");
    ensure!(of("soft switch", "a queue")?.0 == "software", "{text}");
    ensure!(of("soft switch", "push a PBB tag")?.0 == "software", "{text}");
    // Queues keep shares, and a card's port has none: the controller says so when it is asked.
    of("soft switch", "70% class, off its share")?.0.parse::<f64>()?;
    let (share, why) = of("modelled card", "70% class, off its share")?;
    ensure!(share == "refused" && why.contains("only marks packets"), "{share}: {why}");
    if Path::new("/usr/sbin/ovs-vswitchd").exists() {
        ensure!(of("Open vSwitch", "IPv4 destination to a port")?.0 == "accepted", "{text}");
    } else {
        ensure!(of("Open vSwitch", "all")?.1.contains("openvswitch-switch"), "{text}");
    }
    for name in ["manifest.json", "figures/latency.png", "figures/installation.svg"] {
        ensure!(folder.0.join(name).metadata()?.len() > 100, "{name}");
    }
    Ok(())
}

/// Processes whose command line has a text, other than this one.
fn processes(text: &str) -> Result<usize> {
    let mut found = 0;
    for entry in std::fs::read_dir("/proc")? {
        let line = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        found += usize::from(String::from_utf8_lossy(&line).contains(text));
    }
    Ok(found)
}

#[test]
fn one_that_ends_early_leaves_nothing() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let folder = Folder::new("early");
    for signal in ["-INT", "-TERM", "-KILL"] {
        let mut child = Command::new(program("tandem-lab")?)
            .args(["experiment", "datapaths", "--datapath", "netfpga", "--pings", "60000", "--out"])
            .arg(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let scratch = std::env::temp_dir().join(format!("tandem-datapaths-netfpga-{}", child.id()));
        let agent = scratch.join("agent.toml").display().to_string();
        let up = wait("the measurement's agent", || Ok((processes(&agent)? > 0).then_some(())));
        Command::new("kill").args([signal, &child.id().to_string()]).status()?;
        child.wait()?;
        up?;
        let all = scratch.display().to_string();
        wait("everything to be gone", || Ok((processes(&all)? == 0 && !scratch.exists()).then_some(())))
            .context(signal)?;
    }
    Ok(())
}
