//! Repetitions: an experiment is run several times, and what came out is put together, as means with
//! 95% intervals.
//!
//! Tables and figures are combined as they are, so that no experiment needs to know that it is
//! repeated: rows by their keys, points of a line by their x.

use crate::experiment::interval::Interval;
use crate::experiment::plot::{Bars, Curve, Drawing, Figure, Role};
use crate::experiment::run_folder::{OutputOptions, RunFolder};
use crate::experiment::table::{Table, number};
use anyhow::Context;
use std::collections::BTreeMap;

/// Rows of a combined table that are printed at most; the file has all of them.
const PRINTED: usize = 60;

/// Runs an experiment as often as it is asked for, with the next seed each time where it has one,
/// and prints its table or, of several, the means.
///
/// # Errors
/// With the repetition that failed.
pub fn run(
    output: &OutputOptions,
    seed: Option<u64>,
    mut once: impl FnMut(&mut RunFolder, u64) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let mut whole = RunFolder::make(&output.out, output.csv)?;
    let nth = |n: u32| seed.map_or(0, |s| s.wrapping_add(u64::from(n)));
    if output.repeat <= 1 {
        print!("{}", once(&mut whole, nth(0))?);
        println!("everything is in {}", output.out.display());
        return Ok(());
    }
    let mut runs = Vec::new();
    for n in 0..output.repeat {
        eprintln!("repetition {} of {}", n + 1, output.repeat);
        let mut folder = whole.repetition(n)?;
        once(&mut folder, nth(n)).with_context(|| format!("repetition {} of {}", n + 1, output.repeat))?;
        runs.push(folder);
    }
    let text = combine(&mut whole, &runs)?;
    if let Some(mut manifest) = runs.first_mut().and_then(|r| r.manifest.take()) {
        manifest.repeat = output.repeat;
        manifest.arguments = crate::experiment::manifest::Manifest::new("", "", 0, "").arguments;
        whole.finish(manifest)?;
    }
    print!("{text}");
    println!(
        "means of {} repetitions with 95% intervals; everything is in {}",
        output.repeat,
        output.out.display()
    );
    Ok(())
}

/// Puts the tables and figures of repetitions together; the short tables for people.
///
/// # Errors
/// When a file cannot be written.
pub fn combine(whole: &mut RunFolder, runs: &[RunFolder]) -> anyhow::Result<String> {
    let mut text = String::new();
    for first in runs.first().map(|r| r.tables.clone()).unwrap_or_default() {
        let same: Vec<&Table> =
            runs.iter().flat_map(|r| &r.tables).filter(|t| t.name == first.name).collect();
        let table = tables(&first, &same);
        if table.rows.len() <= PRINTED {
            text += &format!("{}:\n{}\n", table.name, table.text());
        }
        whole.table(table)?;
    }
    for (name, _) in runs.first().map(|r| r.figures.clone()).unwrap_or_default() {
        let same: Vec<&Drawing> =
            runs.iter().flat_map(|r| &r.figures).filter(|(n, _)| *n == name).map(|(_, d)| d).collect();
        if let Some(drawing) = drawings(&same) {
            whole.figure(&name, drawing)?;
        }
    }
    Ok(text)
}

/// A table of means: a column that has numbers only gets a column with half the width of its 95%
/// interval beside it.
fn tables(first: &Table, all: &[&Table]) -> Table {
    let numeric = |column: usize| {
        let fields = || all.iter().flat_map(|t| &t.rows).filter_map(|r| r.get(column));
        fields().all(|f| f.is_empty() || f.parse::<f64>().is_ok())
    };
    let keys = first.keys.min(first.columns.len());
    let numeric: Vec<bool> = (0..first.columns.len()).map(|n| n >= keys && numeric(n)).collect();
    let mut columns: Vec<String> = Vec::new();
    for (name, numeric) in first.columns.iter().zip(&numeric) {
        columns.push(name.clone());
        if *numeric {
            columns.push(format!("{name}_ci95"));
        }
    }
    columns.push("measured".to_owned());
    // In the order in which they come first.
    let mut order: Vec<&[String]> = Vec::new();
    let mut groups: BTreeMap<&[String], Vec<&Vec<String>>> = BTreeMap::new();
    for row in all.iter().flat_map(|t| &t.rows) {
        let key = row.get(..keys).unwrap_or_default();
        let group = groups.entry(key).or_default();
        if group.is_empty() {
            order.push(key);
        }
        group.push(row);
    }
    let mut table = Table { name: first.name.clone(), columns, keys, rows: Vec::new() };
    for key in order {
        let rows = groups.get(key).map(Vec::as_slice).unwrap_or_default();
        let mut fields = key.to_vec();
        for (n, numeric) in numeric.iter().enumerate().skip(keys) {
            let of = || rows.iter().filter_map(|r| r.get(n));
            if *numeric {
                let values: Vec<f64> = of().filter_map(|f| f.parse().ok()).collect();
                let interval = Interval::of(&values);
                let known = |v: f64| if values.is_empty() { String::new() } else { number(v, 4) };
                fields.extend([known(interval.mean), known(interval.half)]);
            } else {
                let same = of().all(|f| Some(f) == of().next());
                fields.push(if same { of().next().cloned().unwrap_or_default() } else { "varies".into() });
            }
        }
        fields.push(rows.len().to_string());
        table.row(fields);
    }
    table
}

/// One figure of several; none where pictures cannot be added up and differ.
fn drawings(all: &[&Drawing]) -> Option<Drawing> {
    match all.first()? {
        Drawing::Lines(first) => {
            let figures: Vec<&Figure> =
                all.iter().filter_map(|d| if let Drawing::Lines(f) = d { Some(f) } else { None }).collect();
            Some(Drawing::Lines(lines(first, &figures)))
        }
        Drawing::Bars(first) => {
            let figures: Vec<&Bars> =
                all.iter().filter_map(|d| if let Drawing::Bars(b) = d { Some(b) } else { None }).collect();
            Some(Drawing::Bars(bars(first, &figures)))
        }
        other => all.iter().all(|d| d == other).then(|| (*other).clone()),
    }
}

fn placed(place: &str, repetitions: usize) -> String {
    let means = format!("means of {repetitions} repetitions with 95% intervals");
    if place.is_empty() { means } else { format!("{place}; {means}") }
}

fn lines(first: &Figure, all: &[&Figure]) -> Figure {
    let curve = |curve: &Curve| {
        if curve.role != Role::Measured {
            return curve.clone();
        }
        let same: Vec<&Curve> = all
            .iter()
            .flat_map(|f| &f.curves)
            .filter(|c| c.name == curve.name && c.role == curve.role)
            .collect();
        let points = same.iter().map(|c| c.points.len()).min().unwrap_or(0);
        let at = |n: usize| {
            // Where time is real, the n-th sample is not always at the very same moment.
            let of = |value: fn(&(f64, f64)) -> f64| {
                Interval::of(&same.iter().filter_map(|c| c.points.get(n)).map(value).collect::<Vec<_>>())
            };
            let y = of(|p| p.1);
            ((of(|p| p.0).mean, y.mean), y.half)
        };
        let (points, half) = (0..points).map(at).unzip();
        Curve { points, half, ..curve.clone() }
    };
    let curves: Vec<Curve> = first.curves.iter().map(curve).collect();
    Figure { curves, place: placed(&first.place, all.len()), ..first.clone() }
}

fn bars(first: &Bars, all: &[&Bars]) -> Bars {
    let of = |n: usize, group: usize| {
        let values: Vec<f64> = all
            .iter()
            .filter_map(|b| b.series.get(n)?.1.get(group).copied())
            .filter(|v| v.is_finite())
            .collect();
        Interval::of(&values)
    };
    let groups = 0..first.groups.len();
    let mean = |n: usize| groups.clone().map(|g| of(n, g).mean).collect();
    let half = |n: usize| groups.clone().map(|g| of(n, g).half).collect();
    Bars {
        place: placed(&first.place, all.len()),
        series: first.series.iter().enumerate().map(|(n, (name, _))| (name.clone(), mean(n))).collect(),
        half: (0..first.series.len()).map(half).collect(),
        ..first.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::plot::Axis;

    #[test]
    fn rows_are_put_together_by_their_keys_and_numbers_get_an_interval() {
        let run = |ratio: &str, why: &str| {
            Table::of_lines("t", 2, &format!("policy;second;ratio;why\nbest;1;{ratio};{why}\nbest;2;5;ok\n"))
        };
        let (a, b, c) = (run("69", "ok"), run("70", "hot"), run("71", "ok"));
        let table = tables(&a, &[&a, &b, &c]);
        assert_eq!(table.columns, ["policy", "second", "ratio", "ratio_ci95", "why", "measured"]);
        // Student's t of two degrees of freedom is 4.303, the deviation is 1: 4.303 / sqrt(3).
        assert_eq!(table.rows[0], ["best", "1", "70", "2.4843", "varies", "3"]);
        assert_eq!(table.rows[1], ["best", "2", "5", "0", "ok", "3"]);
    }

    #[test]
    fn a_row_that_one_repetition_lacks_says_how_often_it_was_measured() {
        let a = Table::of_lines("t", 1, "k;v\nx;1\ny;\n");
        let b = Table::of_lines("t", 1, "k;v\nx;3\n");
        let table = tables(&a, &[&a, &b]);
        assert_eq!(table.rows[0][3], "2");
        assert_eq!(table.rows[1], ["y", "", "", "1"], "nothing is known of it, and nothing is said");
    }

    #[test]
    fn measured_lines_get_a_band_and_published_ones_stay() {
        let figure = |y: f64| Figure {
            title: "t".into(),
            place: "simulated world".into(),
            x: Axis::to("x", "", 1.0),
            y: Axis::to("y", "", 1.0),
            curves: vec![
                Curve { name: "m".into(), points: vec![(0.0, y), (1.0, 2.0)], ..Curve::default() },
                Curve { name: "p".into(), role: Role::Published, points: vec![(0.0, y)], ..Curve::default() },
            ],
        };
        let (a, b) = (figure(1.0), figure(3.0));
        let both = lines(&a, &[&a, &b]);
        assert_eq!(both.curves[0].points, [(0.0, 2.0), (1.0, 2.0)]);
        // t of one degree of freedom is 12.706; the mean's deviation is 1.
        assert!((both.curves[0].half[0] - 12.706).abs() < 1e-9 && both.curves[0].half[1] == 0.0);
        assert_eq!(both.curves[1], a.curves[1]);
        assert!(both.place.contains("2 repetitions"), "{}", both.place);
    }
}
