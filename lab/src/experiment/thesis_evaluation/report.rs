//! What came out: a line for each point, a figure for each of the thesis', and the ratio to what it
//! published.

use super::measure::Point;
use super::published::{Published, most_traffic};
use super::sweep::Sweep;
use crate::experiment::plot::{Axis, Curve, Drawing, Figure, Role};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::{Table, number};
use std::fmt::Write as _;

/// A line of a figure: what of a point it shows, and its name behind the engine's.
type Shown = (&'static str, fn(&Point) -> Option<f64>);

impl Published {
    fn shown(self) -> &'static [Shown] {
        match self {
            Published::TrafficMemory | Published::HostsMemory => &[
                ("the whole machine", |p| p.memory.map(|m| m.0)),
                ("its processes", |p| p.memory.map(|m| m.1)),
            ],
            _ => &[("", |p| Some(p.ratio))],
        }
    }

    fn sweep(self) -> Option<Sweep> {
        Sweep::ALL.into_iter().find(|s| s.figures().contains(&self))
    }

    fn axes(self) -> (&'static str, Axis, Axis) {
        let ratio = || Axis::to("average host link ratio", "%", 110.0);
        let traffic = || Axis::to("traffic generated for each host", "Mbit/s", 512.0).powers_of_two(1.0);
        let hosts = || Axis::to("hosts", "", 128.0).powers_of_two(8.0).counting();
        let memory = |to| Axis::to("memory", "MB", to);
        match self {
            Published::TrafficRatio => ("Host link ratio and traffic for each host", traffic(), ratio()),
            Published::HostsRatio => ("Host link ratio and size of the data centre", hosts(), ratio()),
            Published::GatewayRatio => {
                let x = Axis::to("hosts behind one gateway", "", 64.0).powers_of_two(1.0).counting();
                ("Host link ratio and hosts behind a gateway", x, ratio())
            }
            Published::TrafficMemory => ("Memory and traffic for each host", traffic(), memory(60.0)),
            Published::HostsMemory => ("Memory and size of the data centre", hosts(), memory(650.0)),
        }
    }
}

fn engines(points: &[Point]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for point in points {
        if !names.contains(&point.engine.as_str()) {
            names.push(&point.engine);
        }
    }
    names
}

/// Fills the run folder, the manifest apart.
pub(super) fn write(
    folder: &mut RunFolder,
    points: &[Point],
    figures: &[Published],
    place: &str,
) -> anyhow::Result<()> {
    folder.table(all(points))?;
    folder.table(beside(points, figures))?;
    figures.iter().try_for_each(|f| folder.figure(&format!("figure-{}", f.number()), draw(*f, points, place)))
}

/// Every point.
fn all(points: &[Point]) -> Table {
    let mut table = Table::new(
        "points",
        3,
        &[
            "engine",
            "sweep",
            "x",
            "hosts",
            "switches",
            "ratio_percent",
            "asked_mbit",
            "received_mbit",
            "machine_memory_mb",
            "process_memory_mb",
            "up_s",
        ],
    );
    for p in points {
        let memory = |of: fn((f64, f64)) -> f64| p.memory.map(|m| number(of(m), 1)).unwrap_or_default();
        table.row([
            p.engine.clone(),
            p.sweep.name().to_owned(),
            number(p.x, 3),
            p.hosts.to_string(),
            p.switches.to_string(),
            number(p.ratio, 2),
            number(p.asked, 3),
            number(p.received, 3),
            memory(|m| m.0),
            memory(|m| m.1),
            number(p.up, 3),
        ]);
    }
    table
}

/// Every value that the thesis published, beside ours and the ratio of both.
fn beside(points: &[Point], figures: &[Published]) -> Table {
    let columns = ["figure", "engine", "x", "what", "published", "measured", "measured_over_published"];
    let mut table = Table::new("beside-published", 4, &columns);
    for figure in figures {
        for p in points.iter().filter(|p| Some(p.sweep) == figure.sweep()) {
            let Some(published) = figure.at(p.x) else { continue };
            for (what, of) in figure.shown() {
                let Some(value) = of(p) else { continue };
                table.row([
                    figure.number().to_owned(),
                    p.engine.clone(),
                    number(p.x, 3),
                    if what.is_empty() { "ratio" } else { what }.to_owned(),
                    number(published, 2),
                    number(value, 2),
                    number(value / published, 3),
                ]);
            }
        }
    }
    table
}

fn draw(figure: Published, points: &[Point], place: &str) -> Drawing {
    let (title, x, mut y) = figure.axes();
    let mut curves = Vec::new();
    for engine in engines(points) {
        for (what, of) in figure.shown() {
            let of_engine = points.iter().filter(|p| p.engine == engine && Some(p.sweep) == figure.sweep());
            let line: Vec<(f64, f64)> = of_engine.filter_map(|p| Some((p.x, of(p)?))).collect();
            let name = if what.is_empty() { engine.to_owned() } else { format!("{engine}, {what}") };
            if !line.is_empty() {
                curves.push(Curve { name, style: curves.len(), points: line, ..Curve::default() });
            }
        }
    }
    let most = curves.iter().flat_map(|c| &c.points).map(|p| p.1).fold(y.to, f64::max);
    if most > y.to {
        y.to = most * 1.1;
    }
    curves.push(Curve {
        name: "published (Mininet, 2013)".into(),
        role: Role::Published,
        style: curves.len(),
        points: figure.points(),
        half: Vec::new(),
    });
    let title = format!("{title} (figure {})", figure.number());
    Drawing::Lines(Figure { title, place: place.to_owned(), x, y, curves })
}

/// A point's line, while it goes on.
pub(super) fn line(p: &Point) -> String {
    let memory = p.memory.map_or("-".to_owned(), |(machine, processes)| {
        format!("{machine:.0} MB of the machine, {processes:.0} MB of processes")
    });
    format!(
        "{}, {} at {}: {:.1}% of each host's link, {:.1} of {:.1} Mbit/s in sum; {memory}; up in {:.2} s",
        p.engine,
        p.sweep.name(),
        p.x,
        p.ratio,
        p.received,
        p.asked,
        p.up
    )
}

/// The table for people.
pub(super) fn table(points: &[Point], figures: &[Published]) -> String {
    let mut text = beside(points, figures).text();
    if figures.contains(&Published::TrafficRatio) {
        text.push('\n');
        for engine in engines(points) {
            let most = points
                .iter()
                .filter(|p| p.engine == engine && p.sweep == Sweep::Traffic)
                .map(|p| p.received)
                .fold(0.0, f64::max);
            let _ = writeln!(
                text,
                "{engine}: at most {most:.1} Mbit/s in sum through figure 4.3's data centre, {:.1} times the published {:.1}",
                most / most_traffic(),
                most_traffic()
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(engine: &str, sweep: Sweep, x: f64, ratio: f64) -> Point {
        Point {
            engine: engine.to_owned(),
            sweep,
            x,
            hosts: 8,
            switches: 14,
            ratio,
            asked: 8.0 * x,
            received: 8.0 * x * ratio / 100.0,
            memory: Some((92.0, 46.0)),
            up: 1.0,
        }
    }

    #[test]
    fn each_value_is_beside_the_published_one_of_the_same_point() {
        let points = [
            point("native", Sweep::Traffic, 32.0, 95.6),
            point("native", Sweep::Hosts, 8.0, 100.0),
            point("native", Sweep::Hosts, 9.0, 100.0),
        ];
        let table = beside(&points, &[Published::TrafficRatio, Published::HostsMemory]);
        assert_eq!(table.rows.len(), 3, "{}", table.text());
        assert_eq!(table.rows[0][4..], ["23.9", "95.6", "4"]);
        assert_eq!(table.rows[1][3..], ["the whole machine", "46", "92", "2"]);
        assert_eq!(table.rows[2][3..], ["its processes", "46", "46", "1"]);
        let text = super::table(&points, &[Published::TrafficRatio]);
        assert!(text.contains("244.7 Mbit/s in sum") && text.contains("4.0 times"), "{text}");
    }

    #[test]
    fn a_figure_has_a_line_for_each_engine_and_the_published_one_on_top() {
        let points = [point("native", Sweep::Hosts, 8.0, 99.0), point("mininet", Sweep::Hosts, 8.0, 98.0)];
        let Drawing::Lines(figure) = draw(Published::HostsRatio, &points, "emulated world") else {
            panic!("no lines")
        };
        let names: Vec<&str> = figure.curves.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["native", "mininet", "published (Mininet, 2013)"]);
        assert!(figure.svg().expect("drawn").contains("hosts"));
    }
}
