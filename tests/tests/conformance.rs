//! os-ken's switch tester against the agent's soft switch: all its tests that send single packets,
//! and some that send streams, fail as `tests/conformance/known.toml` says and no other way; and
//! nothing of a run stays, however it ends. `scripts/test --conformance` runs all.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tandem_tests::{can_emulate, program, wait};

/// Longest stream of packets of a test of groups or meters, in seconds; all tests have 30.
const SECONDS: &str = "20";

fn tester(out: &Path) -> Result<Command> {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/run"));
    command.arg("--agent").arg(program("tandem-agent")?).arg("--out").arg(out).stdin(Stdio::null());
    Ok(command)
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// True when this machine has what the tester needs; its own switch is Open vSwitch.
fn is_installed() -> Result<bool> {
    if !can_emulate() {
        return Ok(false);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/install");
    let output = Command::new(script).stdin(Stdio::null()).output().context(script)?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() || std::env::var_os("CI").is_none(), "in CI nothing is skipped; {why}");
    if !output.status.success() {
        eprintln!("skipped: {why}");
    }
    Ok(output.status.success())
}

#[test]
fn the_soft_switch_fails_in_the_switch_tester_where_the_list_says_so_and_nowhere_else() -> Result<()> {
    if !is_installed()? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let output =
        tester(folder.path())?.args(["--sample", "--target", "tandem", "--seconds", SECONDS]).output()?;
    ensure!(output.status.success(), "{}", said(&output));
    let results: Value = serde_json::from_slice(&std::fs::read(folder.path().join("tandem.json"))?)?;
    let results = results.as_array().context("a list")?;
    let passed = |group: &str| results.iter().filter(|r| r["group"] == group && r["result"] == "OK").count();
    // What was not run, or is on the list, cannot fail.
    let least = [
        ("match, plain", 393),
        ("match, MPLS", 161),
        ("match, PBB", 156),
        ("match, OpenFlow 1.0", 138),
        ("action, plain", 100),
        ("action, MPLS", 61),
        ("action, PBB", 47),
        ("action, OpenFlow 1.0", 42),
        ("group", 2),
        ("meter", 2),
    ];
    for (group, least) in least {
        let passed = passed(group);
        ensure!(passed >= least, "{group}: {passed} tests pass, {least} did when this was written");
    }
    Ok(())
}

/// Processes whose command line has a text.
fn processes(text: &str) -> Result<usize> {
    let mut found = 0;
    for entry in std::fs::read_dir("/proc")? {
        let line = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        found += usize::from(String::from_utf8_lossy(&line).contains(text));
    }
    Ok(found)
}

#[test]
fn a_run_that_is_ended_leaves_nothing() -> Result<()> {
    if !is_installed()? {
        return Ok(());
    }
    for signal in ["-INT", "-TERM", "-KILL"] {
        let folder = tempfile::tempdir()?;
        // The agent under a name that is this run's alone: other programs of a run are called the
        // same in each. All end together, since they are in one process namespace.
        let agent = folder.path().join("agent");
        std::os::unix::fs::symlink(program("tandem-agent")?, &agent)?;
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/run"));
        command.arg("--agent").arg(&agent).arg("--out").arg(folder.path().join("out"));
        command.args(["--target", "tandem", "--only", "of13/meter"]).stdin(Stdio::null());
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut run = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let agent_line = format!("{}\0--config", agent.display());
        let up = wait("the tester's agent", || Ok((processes(&agent_line)? > 0).then_some(())));
        Command::new("kill").args([signal, &run.id().to_string()]).status()?;
        run.wait()?;
        up.with_context(|| std::fs::read_to_string(folder.path().join("log")).unwrap_or_default())?;
        let name = folder.path().display().to_string();
        wait("everything to be gone", || Ok((processes(&name)? == 0).then_some(()))).context(signal)?;
    }
    Ok(())
}
