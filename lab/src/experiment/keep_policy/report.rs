//! The day's files: `series.csv`, `summary.csv`, `day.svg`, and the table for the terminal.

use super::day;
use crate::experiment::keep_policy::day::{Options, Row, Run, STEP};
use crate::experiment::plot;
use anyhow::Context;
use std::fmt::Write as _;
use std::path::Path;

/// Header of `series.csv`.
pub const SERIES: &str = "keep_policy;second;vms;active_servers;moves;moved_gib;rejected;watts;kwh";
/// Header of `summary.csv`.
pub const SUMMARY: &str = "allocation;keep_policy;servers;requests;rejected;mean_vms;mean_active_servers;least_active_servers;moves;\
                           failed_moves;moved_gib;kwh";

const GIB: f64 = (1u64 << 30) as f64;

fn word(keep: bool) -> &'static str {
    if keep { "yes" } else { "no" }
}

/// The series of all runs.
pub fn series(runs: &[Run]) -> String {
    let mut text = format!("{SERIES}\n");
    for run in runs {
        for r in &run.rows {
            let _ = writeln!(
                text,
                "{};{};{};{};{};{:.2};{};{:.1};{:.3}",
                word(run.keep),
                r.second,
                r.vms,
                r.active,
                r.moves,
                r.bytes as f64 / GIB,
                r.rejected,
                r.watts,
                r.kwh
            );
        }
    }
    text
}

/// What a run comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Totals {
    /// VMs, on average.
    pub vms: f64,
    /// Servers with VMs, on average.
    pub active: f64,
    /// Servers with VMs, at least.
    pub least: u32,
    /// The last row: sums of the day.
    pub last: Row,
}

/// Adds a run up.
pub fn totals(run: &Run) -> Totals {
    let mean = |of: fn(&Row) -> u32| {
        run.rows.iter().map(|r| f64::from(of(r))).sum::<f64>() / run.rows.len().max(1) as f64
    };
    Totals {
        vms: mean(|r| r.vms),
        active: mean(|r| r.active),
        least: run.rows.iter().map(|r| r.active).min().unwrap_or_default(),
        last: run.rows.last().copied().unwrap_or_default(),
    }
}

/// A row for each run.
pub fn summary(options: &Options, runs: &[Run]) -> String {
    let mut text = format!("{SUMMARY}\n");
    for run in runs {
        let t = totals(run);
        let _ = writeln!(
            text,
            "{};{};{};{};{};{:.1};{:.1};{};{};{};{:.2};{:.1}",
            day::name(options.allocation),
            word(run.keep),
            options.servers,
            run.requests,
            t.last.rejected,
            t.vms,
            t.active,
            t.least,
            t.last.moves,
            run.failed,
            t.last.bytes as f64 / GIB,
            t.last.kwh
        );
    }
    text
}

/// The same for people.
pub fn table(options: &Options, runs: &[Run]) -> String {
    let mut text = format!(
        "{:<24} {:>9} {:>9} {:>12} {:>8} {:>12} {:>10}\n",
        format!("{} h, {}", options.hours, day::name(options.allocation)),
        "VMs",
        "rejected",
        "active (min)",
        "moves",
        "moved GiB",
        "kWh"
    );
    for run in runs {
        let t = totals(run);
        let _ = writeln!(
            text,
            "{:<24} {:>9.0} {:>9} {:>12} {:>8} {:>12.1} {:>10.1}",
            if run.keep { "policy kept" } else { "not kept" },
            t.vms,
            t.last.rejected,
            format!("{:.0} ({})", t.active, t.least),
            t.last.moves,
            t.last.bytes as f64 / GIB,
            t.last.kwh
        );
    }
    text
}

/// Writes the day's files into the run folder.
///
/// # Errors
/// When one cannot be written.
pub fn write(out: &Path, options: &Options, runs: &[Run]) -> anyhow::Result<()> {
    let put = |name: &str, text: String| {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put("series.csv", series(runs))?;
    put("summary.csv", summary(options, runs))?;
    let hour = |r: &Row| r.second as f64 / 3600.0;
    let most = runs.iter().flat_map(|r| &r.rows).map(|r| r.active).max().unwrap_or(1);
    let lines: Vec<plot::Line<'_>> = runs
        .iter()
        .enumerate()
        .map(|(n, run)| plot::Line {
            name: if run.keep { "policy kept" } else { "policy not kept" },
            color: plot::COLORS[n % plot::COLORS.len()],
            dashed: false,
            points: run.rows.iter().map(|r| (hour(r), f64::from(r.active))).collect(),
        })
        .collect();
    let hours = options.hours.max(STEP.as_secs_f64() / 3600.0);
    plot::lines(
        &out.join("day.svg"),
        &format!("Servers with VMs over a day, {}", day::name(options.allocation)),
        ("hour", hours),
        ("active servers", f64::from(most) * 1.1),
        &lines,
    )
}
