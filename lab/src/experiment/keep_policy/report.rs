//! The day's tables (`series`, `summary`), its figure (`day`), the published table's steps as a strip
//! of pictures, and the table for the terminal.

use super::{day, table};
use crate::experiment::keep_policy::day::{Options, Row, Run, STEP};
use crate::experiment::plot::{Axis, Curve, Drawing, Figure, Strip};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::Table;
use std::fmt::Write as _;
use tandem_model::Allocation;

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

/// Puts the day's tables and its figure into the run folder.
///
/// # Errors
/// When one cannot be written.
pub fn write(folder: &mut RunFolder, options: &Options, runs: &[Run], place: &str) -> anyhow::Result<()> {
    folder.table(Table::of_lines("series", 2, &series(runs)))?;
    folder.table(Table::of_lines("summary", 3, &summary(options, runs)))?;
    let hour = |r: &Row| r.second as f64 / 3600.0;
    let most = runs.iter().flat_map(|r| &r.rows).map(|r| r.active).max().unwrap_or(1);
    let curves = runs.iter().enumerate().map(|(n, run)| Curve {
        name: if run.keep { "policy kept" } else { "policy not kept" }.to_owned(),
        style: n,
        points: run.rows.iter().map(|r| (hour(r), f64::from(r.active))).collect(),
        ..Curve::default()
    });
    let figure = Figure {
        title: format!("Servers with VMs over a day, {}", day::name(options.allocation)),
        place: place.to_owned(),
        x: Axis::to("time", "h", options.hours.max(STEP.as_secs_f64() / 3600.0)),
        y: Axis::to("active servers", "", f64::from(most) * 1.1).counting(),
        curves: curves.collect(),
    };
    folder.figure("day", Drawing::Lines(figure))
}

/// The published table's steps, a picture each.
pub fn strip(runs: &[(Allocation, Vec<table::Row>)], place: &str) -> Drawing {
    let rows = runs.iter().map(|(policy, rows)| {
        // The last picture is what the last step made.
        let steps = rows.windows(2).map(|pair| table::step(&pair[0], &pair[1]));
        let last = rows.last().map(|row| table::step(row, row));
        (day::name(*policy).to_owned(), steps.chain(last).collect())
    });
    Drawing::Strip(Strip {
        title: "Keep-policy, VM by VM: back to where the policy wants them".into(),
        place: place.to_owned(),
        rows: rows.collect(),
    })
}
