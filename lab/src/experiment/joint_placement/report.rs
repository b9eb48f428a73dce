//! The run folder (`series.csv`, `switches.csv`, a figure for each level, `idle.svg`) and the table
//! for the terminal.

use super::Placement;
use super::series::{LEVELS, Run};
use crate::experiment::plot;
use anyhow::Context;
use plotters::style::RGBColor;
use std::fmt::Write as _;
use std::path::Path;
use tandem_model::{Allocation, Role};

/// Header of `series.csv`: a row for each run, moment and level, loads in percent.
pub const SERIES: &str = "placement;fit;minute;vms;rejected;level;fullest;mean;spread;idle";

/// A level's name in files.
fn name(level: Role) -> &'static str {
    match level {
        Role::Core => "core",
        Role::Aggregation => "aggregation",
        Role::Edge => "edge",
    }
}

fn color(fit: Allocation) -> RGBColor {
    match fit {
        Allocation::FirstFit => RGBColor(40, 140, 70),
        Allocation::BestFit => plot::COLORS[0],
        Allocation::WorstFit => plot::COLORS[1],
    }
}

/// `series.csv`.
pub fn series(runs: &[Run]) -> String {
    let mut text = format!("{SERIES}\n");
    for run in runs {
        let (placement, fit) = (run.variant.placement.name(), run.variant.fit.name());
        for row in &run.rows {
            for level in LEVELS {
                let l = run.level(row, level);
                let _ = writeln!(
                    text,
                    "{placement};{fit};{:.2};{};{};{};{:.3};{:.3};{:.3};{}",
                    run.minute(row),
                    row.vms,
                    row.rejected,
                    name(level),
                    l.peak * 100.0,
                    l.mean * 100.0,
                    l.spread * 100.0,
                    l.idle
                );
            }
        }
    }
    text
}

/// `switches.csv`: a row for each run and moment, a column for each switch, in percent.
pub fn switches(runs: &[Run]) -> String {
    let mut text = "placement;fit;minute".to_owned();
    for (name, _) in runs.first().map_or(&[][..], |run| &run.switches) {
        let _ = write!(text, ";{name}");
    }
    text.push('\n');
    for run in runs {
        for row in &run.rows {
            let (placement, fit) = (run.variant.placement.name(), run.variant.fit.name());
            let _ = write!(text, "{placement};{fit};{:.2}", run.minute(row));
            for ratio in &row.ratio {
                let _ = write!(text, ";{:.3}", ratio * 100.0);
            }
            text.push('\n');
        }
    }
    text
}

/// What each run comes to while VMs leave as they come.
pub fn table(runs: &[Run]) -> String {
    let mut text = format!("{:<28} {:>6} {:>8}", "", "VMs", "rejected");
    for level in LEVELS {
        let _ = write!(text, "  {:>27}", format!("{}: fullest spread idle", name(level)));
    }
    text.push('\n');
    for run in runs {
        let rejected = run.rows.last().map_or(0, |row| row.rejected);
        let _ = write!(text, "{:<28} {:>6.0} {rejected:>8}", run.variant.name(), run.steady_vms());
        for level in LEVELS {
            let l = run.steady_level(level);
            let figures = format!("{:.1}% {:>5.1}% {:>4.1}", l.peak * 100.0, l.spread * 100.0, l.idle);
            let _ = write!(text, "  {figures:>27}");
        }
        text.push('\n');
    }
    text
}

/// Writes the run folder but for its manifest.
///
/// # Errors
/// When a file cannot be written.
pub fn write(out: &Path, world: &str, runs: &[Run]) -> anyhow::Result<()> {
    let put = |name: &str, text: String| {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put("series.csv", series(runs))?;
    put("switches.csv", switches(runs))?;
    for level in LEVELS {
        let title = format!("Fullest {} switch ({world})", name(level));
        let file = out.join(format!("{}.svg", name(level)));
        draw(&file, &title, "switch ratio (%)", runs, |run, row| run.level(row, level).peak * 100.0)?;
    }
    let idle = |run: &Run, row: &super::series::Row| LEVELS.iter().map(|l| run.level(row, *l).idle).sum();
    draw(&out.join("idle.svg"), &format!("Switches that are idle ({world})"), "switches", runs, idle)
}

fn draw(
    path: &Path,
    title: &str,
    what: &str,
    runs: &[Run],
    value: impl Fn(&Run, &super::series::Row) -> f64,
) -> anyhow::Result<()> {
    let names: Vec<String> = runs.iter().map(|run| run.variant.name()).collect();
    let lines: Vec<plot::Line<'_>> = runs
        .iter()
        .zip(&names)
        .map(|(run, name)| plot::Line {
            name,
            color: color(run.variant.fit),
            dashed: run.variant.placement == Placement::ServerDriven,
            points: run.rows.iter().map(|row| (run.minute(row), value(run, row))).collect(),
        })
        .collect();
    let points = || lines.iter().flat_map(|line| &line.points);
    let (end, most) = points().fold((1.0f64, 0.1f64), |(x, y), point| (x.max(point.0), y.max(point.1)));
    plot::lines(path, title, ("minute", end), (what, most * 1.1), &lines)
}
