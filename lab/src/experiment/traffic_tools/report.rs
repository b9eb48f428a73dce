//! What came out: a row for each tool and rate, a figure of what arrives and one of what it costs.

use super::Cell;
use crate::experiment::plot::{Axis, Bars, Curve, Drawing, Figure, Role};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::{Table, number};

fn tools(cells: &[Cell]) -> Vec<&str> {
    let mut names: Vec<&str> = cells.iter().map(|c| c.tool.as_str()).collect();
    names.dedup();
    names
}

/// Every cell; a tool that was not measured has a row that says why.
fn rows(cells: &[Cell]) -> Table {
    let columns =
        ["tool", "asked_mbit", "reached_mbit", "reach_percent", "cpu_ms_per_mbit", "memory_mb", "note"];
    let mut table = Table::new("tools", 2, &columns);
    for c in cells {
        let key = [c.tool.clone(), number(c.rate, 0)];
        match &c.result {
            Ok(m) => table.row(key.into_iter().chain([
                number(m.reached, 3),
                number(100.0 * m.reached / c.rate, 1),
                number(m.cpu_ms, 3),
                number(m.memory, 1),
                String::new(),
            ])),
            Err(why) => {
                let skipped = format!("skipped: {}", why.replace('\n', " "));
                table.row(key.into_iter().chain(vec![String::new(); 4]).chain([skipped]));
            }
        }
    }
    table
}

/// Fills the run folder, the manifest apart.
pub(super) fn write(folder: &mut RunFolder, cells: &[Cell], place: &str) -> anyhow::Result<()> {
    folder.table(rows(cells))?;
    let measured: Vec<&Cell> = cells.iter().filter(|c| c.result.is_ok()).collect();
    if measured.is_empty() {
        return Ok(());
    }
    folder.figure("reach", reach(&measured, cells, place))?;
    folder.figure("cost", cost(&measured, cells, place))
}

fn ends(measured: &[&Cell]) -> (f64, f64) {
    let rates = || measured.iter().map(|c| c.rate);
    (rates().fold(f64::INFINITY, f64::min), rates().fold(1.0, f64::max))
}

fn reach(measured: &[&Cell], cells: &[Cell], place: &str) -> Drawing {
    let (least, most) = ends(measured);
    let points = |tool: &str| -> Vec<(f64, f64)> {
        let of_tool = measured.iter().filter(|c| c.tool == tool);
        of_tool.filter_map(|c| Some((c.rate, 100.0 * c.result.as_ref().ok()?.reached / c.rate))).collect()
    };
    let lines = tools(cells).into_iter().map(|tool| (tool, points(tool))).filter(|(_, p)| !p.is_empty());
    let mut curves: Vec<Curve> = lines
        .enumerate()
        .map(|(n, (tool, points))| Curve { name: tool.to_owned(), style: n, points, ..Curve::default() })
        .collect();
    curves.push(Curve {
        name: "all that was asked for".into(),
        role: Role::Bound,
        style: curves.len(),
        points: vec![(least, 100.0), (most, 100.0)],
        half: Vec::new(),
    });
    Drawing::Lines(Figure {
        title: "How much of the rate that is asked for arrives".into(),
        place: place.to_owned(),
        x: Axis::to("rate asked for", "Mbit/s", most.max(least * 2.0)).powers_of_two(least),
        y: Axis::to("arrives", "%", 120.0),
        curves,
    })
}

fn cost(measured: &[&Cell], cells: &[Cell], place: &str) -> Drawing {
    let mut rates: Vec<f64> = measured.iter().map(|c| c.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let value = |tool: &str, rate: f64| {
        let cell = measured.iter().find(|c| c.tool == tool && c.rate == rate);
        cell.and_then(|c| c.result.as_ref().ok()).map_or(f64::NAN, |m| m.cpu_ms)
    };
    let series: Vec<(&str, Vec<f64>)> = tools(cells)
        .into_iter()
        .filter(|tool| measured.iter().any(|c| c.tool == *tool))
        .map(|tool| (tool, rates.iter().map(|r| value(tool, *r)).collect()))
        .collect();
    let groups: Vec<String> = rates.iter().map(|r| format!("{r} Mbit/s")).collect();
    let y = "CPU for each Mbit that arrives (ms, logarithmic)";
    Drawing::Bars(Bars::of("What each traffic tool costs", place, y, &groups, &series))
}

/// A cell's line, while it goes on.
pub(super) fn line(c: &Cell) -> String {
    match &c.result {
        Ok(m) => format!(
            "{} at {} Mbit/s: {:.2} Mbit/s arrive, {:.3} ms of CPU for each Mbit, {:.1} MB",
            c.tool, c.rate, m.reached, m.cpu_ms, m.memory
        ),
        Err(why) => format!("{}: skipped: {why}", c.tool),
    }
}

/// The table for people.
pub(super) fn table(cells: &[Cell]) -> String {
    rows(cells).text()
}

#[cfg(test)]
mod tests {
    use super::super::Measured;
    use super::*;
    use crate::experiment::table::CsvStyle;
    use crate::temp_dir::TempDir;

    #[test]
    fn a_tool_that_is_missing_is_named_with_the_reason_and_the_others_are_drawn() {
        let measured = Measured { reached: 2.0, cpu_ms: 0.25, memory: 3.21 };
        let cells = [
            Cell { tool: "udp".into(), rate: 100.0, result: Ok(measured) },
            Cell { tool: "iperf3".into(), rate: 100.0, result: Err("no program\niperf3".into()) },
        ];
        let text = table(&cells);
        assert!(text.contains("skipped: no program iperf3"), "{text}");
        assert_eq!(rows(&cells).rows[0], ["udp", "100", "2", "2", "0.25", "3.2", ""]);
        let temp = TempDir::new("tools-test").expect("a folder");
        let mut folder = RunFolder::make(temp.path(), CsvStyle::Comma).expect("a run folder");
        write(&mut folder, &cells, "emulated world").expect("written");
        let svg = std::fs::read_to_string(temp.path().join("figures/reach.svg")).expect("there");
        assert!(svg.contains("udp") && !svg.contains("iperf3"), "{svg}");
        write(&mut folder, &cells[1..], "emulated world").expect("nothing to draw is no error");
    }
}
