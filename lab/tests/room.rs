//! A lab for which there is no room, by limits that this test sets: refused with the reason before
//! anything is made.

use anyhow::{Result, ensure};
use std::process::{Command, Output, Stdio};

/// 50 edge switches with 100 servers each.
const SITE: &str = "name = \"large\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 2\nedge = 50\nservers_per_edge = 100\n\
    [bandwidth]\nedge = \"100 Mbit/s\"\n[traffic]\nenabled = false\n";

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: root");
    if !root {
        eprintln!("skipped: missing root");
    }
    root
}

/// `tandem-lab up` by a shell that has set a limit before.
fn up(limit: &str, site: &str, name: &str) -> Result<Output> {
    let script = format!(
        "set -e; {limit}; exec \"$0\" up --site \"$1\" --name \"$2\" --datapath soft --controller unix:/nowhere --agents unix:/nowhere"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_tandem-lab"), site, name]).stdin(Stdio::null());
    Ok(command.output()?)
}

#[test]
fn five_thousand_servers_are_refused_with_the_reason_before_anything_is_made() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let name = format!("room-{}", std::process::id());
    let site = std::env::temp_dir().join(format!("tandem-{name}.toml"));
    std::fs::write(&site, SITE)?;
    let output = up("ulimit -Sn 1000; ulimit -Hn 2000", &site.display().to_string(), &name);
    std::fs::remove_file(&site)?;
    let output = output?;
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        // It was to be refused; nothing of it may stay.
        Command::new(env!("CARGO_BIN_EXE_tandem-lab")).args(["down", "--name", &name]).status()?;
    }
    if why.contains("not possible here") && std::env::var_os("CI").is_none() {
        eprintln!("skipped: {why}");
        return Ok(());
    }
    ensure!(!output.status.success(), "{why}");
    for words in ["nothing was made", "descriptors are needed", "may have 2000", "LimitNOFILE"] {
        ensure!(why.contains(words), "{words} in {why}");
    }
    // Not even its name was taken.
    let status = Command::new(env!("CARGO_BIN_EXE_tandem-lab")).args(["status", "--name", &name]).output()?;
    let text = String::from_utf8_lossy(&status.stderr).into_owned();
    ensure!(!status.status.success() && text.contains("there is no lab"), "{text}");
    Ok(())
}
