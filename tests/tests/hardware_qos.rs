//! `tandem-lab experiment hardware-qos`, a short run: classes that rows of the modelled card mark
//! get their shares at the next hop.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tandem_tests::{can_emulate_on, program};

/// A run folder that is gone when the test ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(folder: &Folder, more: &[&str]) -> Result<(bool, String)> {
    let output = Command::new(program("tandem-lab")?)
        .args(["experiment", "hardware-qos", "--seconds", "4", "--out"])
        .arg(&folder.0)
        .args(more)
        .stdin(Stdio::null())
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn classes_that_the_card_marks_get_their_shares_at_the_next_hop() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let folder = Folder(std::env::temp_dir().join(format!("tandem-hardware-qos-{}", std::process::id())));
    let (good, text) = run(&folder, &[])?;
    ensure!(good, "{text}");
    println!("{text}");
    let shares = std::fs::read_to_string(folder.0.join("csv/shares.csv"))?;
    let rows: Vec<Vec<&str>> = shares.lines().skip(1).map(|l| l.split(',').collect()).collect();
    ensure!(rows.len() == 6, "three ways to mark, two classes: {shares}");
    for row in &rows {
        let [mark, class, guaranteed, share, mbit, right, other, in_rows] = row[..] else {
            anyhow::bail!("eight columns: {row:?}")
        };
        let number = |text: &str| text.parse::<f64>().with_context(|| format!("{text:?} of {row:?}"));
        ensure!(in_rows == "2", "{mark}: rules of the card in rows: {row:?}");
        ensure!(other == "0" && number(right)? > 100.0, "{class}: frames with another mark: {row:?}");
        ensure!(number(mbit)? > 0.0, "{row:?}");
        let far = (number(share)? - number(guaranteed)?).abs();
        ensure!(
            (mark == "none") == (far > 5.0),
            "{mark}, {class}: {share} of {guaranteed} guaranteed\n{shares}"
        );
        ensure!(mark == "none" || far <= 2.0, "{mark}, {class}: {share} of {guaranteed} guaranteed");
    }
    let limits = std::fs::read_to_string(folder.0.join("csv/limiters.csv"))?;
    // About 8 Gbit/s / (1 + 2^10), the step below; and 1 byte in 100 clocks of 8 ns.
    for line in ["router-buffer-sizing,10,7.805", "tutorial-router,10,7.805", "packet-generator,10,10.000"] {
        ensure!(limits.lines().any(|l| l == line), "{line} in {limits}");
    }
    for file in [
        "manifest.json",
        "csv/series.csv",
        "csv/abilities.csv",
        "figures/shares-dscp.svg",
        "figures/shares-vlan-priority.pdf",
    ] {
        ensure!(folder.0.join(file).exists(), "{file} is missing");
    }
    Ok(())
}

#[test]
fn a_real_card_without_its_wires_is_refused_before_anything_is_touched() -> Result<()> {
    let folder = Folder(std::env::temp_dir().join(format!("tandem-hardware-qos-no-{}", std::process::id())));
    for more in [&["--card", "mmap:0000:03:00.0"][..], &["--wires", "a,b,c"]] {
        let (good, text) = run(&folder, more)?;
        ensure!(!good && text.contains("a real card needs --wires"), "{text}");
    }
    ensure!(!folder.0.exists(), "it made a run folder");
    Ok(())
}
