//! Table, CSV and figure.

use super::{CLASSES, Limited, Mark, Measured};
use crate::experiment::plot::{Axis, Curve, Drawing, Figure, Role};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::Table;
use std::fmt::Write as _;

/// What each bitfile can and cannot do for a class: flow table, marks, queues to choose, limits.
const ABILITIES: [[&str; 5]; 5] = [
    ["openflow-switch", "32 rows, 32768 exact", "yes: DSCP, VLAN priority", "no", "no"],
    ["reference-switch, -router, -nic", "no", "no", "no", "no"],
    ["router-buffer-sizing", "no", "no", "no", "per port, 16 steps"],
    ["tutorial-router", "no", "no", "no", "per port, 16 steps"],
    ["packet-generator", "no", "no", "no", "8 token buckets"],
];

fn share(measured: &Measured) -> String {
    let [gold, silver] = measured.shares();
    format!("{gold:.1}/{silver:.1}")
}

fn place(measured: &Measured) -> String {
    let hardware = measured.places.iter().filter(|p| p.starts_with("hardware row")).count();
    let other = measured.places.iter().find(|p| !p.starts_with("hardware row"));
    let other = other.map_or_else(String::new, |p| format!("; {p}"));
    format!("{hardware} of {} in rows{other}", measured.places.len())
}

fn set(limited: &Limited) -> String {
    match &limited.set {
        Ok(rate) => format!("{:.3}", *rate as f64 / 1e6),
        Err(why) => why.clone(),
    }
}

/// For people.
pub(super) fn table(card: &str, link: u32, all: &[Measured], limited: &[Limited]) -> String {
    let [(_, gold, ..), (_, silver, ..)] = CLASSES;
    let mut out = format!(
        "Classes marked by rows of the card ({card}), sorted by the next hop at {link} Mbit/s; guaranteed {gold}/{silver}\n\n"
    );
    let _ = writeln!(
        out,
        "{:<14} {:>12} {:>12} {:>14} {:>14}  rules of the card",
        "mark", "gold/silver", "Mbit/s", "right mark", "another"
    );
    for m in all {
        let _ = writeln!(
            out,
            "{:<14} {:>12} {:>12.2} {:>14} {:>14}  {}",
            m.mark.word(),
            share(m),
            m.rates[0] + m.rates[1],
            m.marked[0],
            m.marked[1],
            place(m)
        );
    }
    let _ = writeln!(
        out,
        "\nA limiter asked for {link} Mbit/s, on its model: set and read back, no packet was measured\n"
    );
    for l in limited {
        let _ = writeln!(out, "{:<24} at most {} Mbit/s", l.bitfile, set(l));
    }
    let _ = writeln!(
        out,
        "\n{:<32} {:<22} {:<26} {:<16} limit",
        "bitfile", "flow table", "mark", "choose a queue"
    );
    for [bitfile, flows, mark, queue, limit] in ABILITIES {
        let _ = writeln!(out, "{bitfile:<32} {flows:<22} {mark:<26} {queue:<16} {limit}");
    }
    out
}

/// Fills the run folder, the manifest apart.
pub(super) fn write(
    folder: &mut RunFolder,
    link: u32,
    all: &[Measured],
    limited: &[Limited],
    place: &str,
) -> anyhow::Result<()> {
    let mut shares = String::from("mark;class;guaranteed;share;mbit;right_mark;other_mark;in_rows\n");
    let mut series = String::from("mark;second;gold_mbit;silver_mbit\n");
    for m in all {
        let rows = m.places.iter().filter(|p| p.starts_with("hardware row")).count();
        for (n, (class, guaranteed, ..)) in CLASSES.iter().enumerate() {
            let (share, [right, other]) = (m.shares()[n], m.marked);
            let word = m.mark.word();
            writeln!(
                shares,
                "{word};{class};{guaranteed};{share:.2};{:.3};{right};{other};{rows}",
                m.rates[n]
            )?;
        }
        for (second, [gold, silver]) in &m.series {
            writeln!(series, "{};{second:.1};{gold:.3};{silver:.3}", m.mark.word())?;
        }
    }
    let mut limits = String::from("bitfile;asked_mbit;set_mbit\n");
    for l in limited {
        writeln!(limits, "{};{link};{}", l.bitfile, set(l))?;
    }
    let mut abilities = String::from("bitfile;flow_table;mark;choose_queue;limit\n");
    for row in ABILITIES {
        writeln!(abilities, "{}", row.join(";"))?;
    }
    folder.table(Table::of_lines("shares", 2, &shares))?;
    folder.table(Table::of_lines("series", 2, &series))?;
    folder.table(Table::of_lines("limiters", 2, &limits))?;
    folder.table(Table::of_lines("abilities", 1, &abilities))?;
    for m in all.iter().filter(|m| m.mark != Mark::None) {
        let end = m.series.last().map_or(1.0, |s| s.0);
        let measured = CLASSES.iter().enumerate().map(|(n, class)| Curve {
            name: class.0.to_owned(),
            style: n,
            points: m.series.iter().map(|(at, r)| (*at, r[n])).collect(),
            ..Curve::default()
        });
        let guaranteed = CLASSES.iter().enumerate().map(|(n, (class, share, ..))| {
            let rate = f64::from(link) * *share as f64 / 100.0;
            let name = format!("{class}'s guarantee");
            let points = vec![(0.0, rate), (end, rate)];
            Curve { name, role: Role::Bound, style: n, points, half: Vec::new() }
        });
        let figure = Figure {
            title: format!("marked by {} on the card, {link} Mbit/s at the next hop", m.mark.word()),
            place: place.to_owned(),
            x: Axis::to("time", "s", end),
            y: Axis::to("goodput", "Mbit/s", f64::from(link) * 1.05),
            curves: measured.chain(guaranteed).collect(),
        };
        let name = format!("shares-{}", m.mark.word().to_lowercase().replace(' ', "-"));
        folder.figure(&name, Drawing::Lines(figure))?;
    }
    Ok(())
}
