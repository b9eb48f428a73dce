//! The thesis' evaluation and the traffic tools, with real packets, at points that take seconds: what
//! is measured is in the tables, and beside what was published.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use tandem_tests::{can_emulate_on, program};

fn experiment(arguments: &[&str], out: &Path) -> Result<String> {
    let output = Command::new(program("tandem-lab")?)
        .arg("experiment")
        .args(arguments)
        .arg("--out")
        .arg(out)
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A table's rows, each by its columns' names.
fn rows(file: &Path) -> Result<Vec<BTreeMap<String, String>>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().context("no first line")?.split(',').collect();
    let row = |line: &str| -> BTreeMap<String, String> {
        names.iter().map(|name| (*name).to_owned()).zip(line.split(',').map(str::to_owned)).collect()
    };
    Ok(lines.map(row).collect())
}

#[test]
fn a_gateway_of_4_mbit_serves_hosts_as_the_thesis_measured_it() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let points = ["thesis-evaluation", "--figures", "4.5", "--hosts", "8", "--points", "2", "--seconds", "3"];
    let text = experiment(&[&points[..], &["--datapath", "soft"]].concat(), folder.path())?;
    let rows = rows(&folder.path().join("csv/points.csv"))?;
    ensure!(rows.len() == 2, "1 and 8 hosts: {text}");
    for (row, published) in rows.iter().zip([100.0, 50.0]) {
        let number =
            |column: &str| row[column].parse::<f64>().with_context(|| format!("{column} of {row:?}"));
        let ratio = number("ratio_percent")?;
        ensure!((ratio - published).abs() < 15.0, "{ratio}% where {published}% were published: {row:?}");
        ensure!(number("process_memory_mb")? > 5.0 && number("up_s")? > 0.0, "{row:?}");
    }
    for file in
        ["csv/beside-published.csv", "figures/figure-4.5.svg", "figures/figure-4.5.pdf", "manifest.json"]
    {
        ensure!(folder.path().join(file).is_file(), "{file}");
    }
    Ok(())
}

#[test]
fn a_traffic_tool_is_judged_by_what_arrives() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let rates = ["traffic-tools", "--tool", "udp,tcp", "--rates", "2", "--seconds", "1"];
    let text = experiment(&[&rates[..], &["--datapath", "soft"]].concat(), folder.path())?;
    let rows = rows(&folder.path().join("csv/tools.csv"))?;
    ensure!(rows.iter().map(|r| r["tool"].as_str()).eq(["udp", "tcp"]), "{text}");
    for row in &rows {
        let reach: f64 = row["reach_percent"].parse().with_context(|| format!("{row:?}"))?;
        ensure!((60.0..140.0).contains(&reach), "2 Mbit/s are little for any machine: {row:?}");
    }
    Ok(())
}
