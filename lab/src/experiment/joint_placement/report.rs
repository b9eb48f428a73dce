//! The run folder (the tables `series` and `switches`, a figure for each level and `idle`) and the
//! table for the terminal.

use super::Placement;
use super::series::{LEVELS, Run};
use crate::experiment::plot::{Axis, Curve, Drawing, Figure};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::Table;
use std::fmt::Write as _;
use tandem_model::{Allocation, Role};

/// Header of `series.csv`: a row for each run, moment and level, loads in percent.
pub const SERIES: &str = "placement;fit;minute;level;vms;rejected;fullest;mean;spread;idle";

/// A level's name in files.
fn name(level: Role) -> &'static str {
    match level {
        Role::Core => "core",
        Role::Aggregation => "aggregation",
        Role::Edge => "edge",
    }
}

/// Which colour and marker a run has.
fn style(run: &Run) -> usize {
    let fit = match run.variant.fit {
        Allocation::BestFit => 0,
        Allocation::WorstFit => 1,
        Allocation::FirstFit => 2,
    };
    if run.variant.placement == Placement::ServerDriven { fit + 3 } else { fit }
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
                    name(level),
                    row.vms,
                    row.rejected,
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

/// Fills the run folder but for its manifest.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &mut RunFolder, runs: &[Run], place: &str) -> anyhow::Result<()> {
    folder.table(Table::of_lines("series", 4, &series(runs)))?;
    folder.table(Table::of_lines("switches", 3, &switches(runs)))?;
    for level in LEVELS {
        let title = format!("Fullest {} switch", name(level));
        let y = |most| Axis::to("switch ratio", "%", most);
        let figure = draw(&title, place, y, runs, |run, row| run.level(row, level).peak * 100.0);
        folder.figure(name(level), figure)?;
    }
    let idle = |run: &Run, row: &super::series::Row| LEVELS.iter().map(|l| run.level(row, *l).idle).sum();
    let y = |most| Axis::to("switches", "", most).counting();
    folder.figure("idle", draw("Switches that are idle", place, y, runs, idle))
}

fn draw(
    title: &str,
    place: &str,
    y: impl Fn(f64) -> Axis,
    runs: &[Run],
    value: impl Fn(&Run, &super::series::Row) -> f64,
) -> Drawing {
    let curves: Vec<Curve> = runs
        .iter()
        .map(|run| Curve {
            name: run.variant.name(),
            style: style(run),
            points: run.rows.iter().map(|row| (run.minute(row), value(run, row))).collect(),
            ..Curve::default()
        })
        .collect();
    let points = || curves.iter().flat_map(|line| &line.points);
    let (end, most) = points().fold((1.0f64, 0.1f64), |(x, y), point| (x.max(point.0), y.max(point.1)));
    Drawing::Lines(Figure {
        title: title.to_owned(),
        place: place.to_owned(),
        x: Axis::to("time", "min", end),
        y: y(most * 1.1),
        curves,
    })
}
