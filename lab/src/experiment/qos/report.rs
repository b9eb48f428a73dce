//! What came out: a table for people, tables for programs, two figures for each cell.

use super::{Cell, SHARES, Sample};
use crate::experiment::plot::{Axis, Curve, Drawing, Figure, Role};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::Table;
use std::fmt::Write as _;

/// Fills the run folder, the manifest apart.
pub(super) fn write(folder: &mut RunFolder, cells: &[Cell], place: &str) -> anyhow::Result<()> {
    let mut shares = String::from("transport;order;link_mbit;class;guaranteed;share\n");
    let mut series = String::from(
        "transport;order;link_mbit;sample;second;gold_mbit;silver_mbit;gold_queue;silver_queue\n",
    );
    let mut used = String::from("transport;order;link_mbit;used;borrowed\n");
    let mut idle = String::from("transport;order;link_mbit;sent;lost\n");
    for c in cells {
        let key = format!("{};{};{}", c.transport, c.order, c.link);
        for ((class, guaranteed, _), share) in SHARES.iter().zip(c.share) {
            writeln!(shares, "{key};{class};{guaranteed};{share:.2}")?;
        }
        for (n, s) in c.samples.iter().enumerate() {
            let ([gold, silver], [waiting, behind]) = (s.rate, s.queued);
            writeln!(series, "{key};{};{:.1};{gold:.3};{silver:.3};{waiting};{behind}", n + 1, s.at)?;
        }
        writeln!(used, "{key};{:.1};{:.1}", c.used, c.borrowed)?;
        writeln!(idle, "{key};{};{}", c.idle_lost.1, c.idle_lost.0)?;
    }
    folder.table(Table::of_lines("shares", 5, &shares))?;
    folder.table(Table::of_lines("series", 4, &series))?;
    folder.table(Table::of_lines("link-used", 3, &used))?;
    folder.table(Table::of_lines("idle-port", 3, &idle))?;
    cells.iter().try_for_each(|cell| draw(folder, cell, place))
}

/// A cell's two figures: what each class got, and what waited.
fn draw(folder: &mut RunFolder, cell: &Cell, place: &str) -> anyhow::Result<()> {
    let Cell { link, transport, order, .. } = cell;
    let end = cell.samples.last().map_or(1.0, |s| s.at);
    let flat = |y: f64| vec![(0.0, y), (end, y)];
    let measured = |n: usize, of: &dyn Fn(&Sample) -> f64| Curve {
        name: SHARES[n].0.to_owned(),
        style: n,
        points: cell.samples.iter().map(|s| (s.at, of(s))).collect(),
        ..Curve::default()
    };
    let fixed = |name: String, role: Role, style: usize, y: f64| Curve {
        name,
        role,
        style,
        points: flat(y),
        half: Vec::new(),
    };
    let mut curves: Vec<Curve> = (0..2).map(|n| measured(n, &|s| s.rate[n])).collect();
    for (n, (class, share, _)) in SHARES.iter().enumerate() {
        curves.push(fixed(format!("{class}'s guarantee"), Role::Bound, n, f64::from(link * share) / 100.0));
    }
    curves.push(fixed("published: 50/50".into(), Role::Published, 2, f64::from(*link) / 2.0));
    let of = |what: &str| format!("{transport}, {order}, {link} Mbit/s: {what}");
    let goodput = Figure {
        title: of("goodput of each class"),
        place: place.to_owned(),
        x: Axis::to("time", "s", end),
        y: Axis::to("goodput", "Mbit/s", f64::from(*link) * 1.05),
        curves,
    };
    let name = format!("{transport}-{order}-{link}");
    folder.figure(&format!("shares-{name}"), Drawing::Lines(goodput))?;
    let most = cell.samples.iter().flat_map(|s| s.queued).max().unwrap_or(1).max(10) as f64;
    let queues = Figure {
        title: of("packets that wait at the bottleneck"),
        place: place.to_owned(),
        x: Axis::to("time", "s", end),
        y: Axis::to("packets", "", most * 1.1).counting(),
        curves: (0..2).map(|n| measured(n, &|s| s.queued[n] as f64)).collect(),
    };
    folder.figure(&format!("queues-{name}"), Drawing::Lines(queues))
}

pub(super) fn table(cells: &[Cell], datapath: &str) -> String {
    let mut out = format!(
        "Shares of the bottleneck (percent), datapath in {datapath}; guaranteed {}/{}, published 50/50\n\n",
        SHARES[0].1, SHARES[1].1
    );
    let _ = writeln!(
        out,
        "{:>9}  {:<9} {:<13} {:>14} {:>14} {:>8} {:>10} {:>20}",
        "Mbit/s", "transport", "order", "gold", "silver", "used", "borrowed", "lost on idle port"
    );
    for c in cells {
        let _ = writeln!(
            out,
            "{:>9}  {:<9} {:<13} {:>14.1} {:>14.1} {:>7.1}% {:>9.1}% {:>20}",
            c.link,
            c.transport,
            c.order,
            c.share[0],
            c.share[1],
            c.used,
            c.borrowed,
            format!("{} of {}", c.idle_lost.0, c.idle_lost.1)
        );
    }
    let worst = cells.iter().map(|c| (c.share[0] - f64::from(SHARES[0].1)).abs()).fold(0.0, f64::max);
    let _ = writeln!(out, "\nfarthest from {}/{}: {worst:.2} points", SHARES[0].1, SHARES[1].1);
    out
}
