//! Table, CSV and figure.

use super::{CLASSES, Limited, Mark, Measured};
use crate::experiment::plot::{self, COLORS, Line};
use anyhow::Context;
use std::fmt::Write as _;
use std::path::Path;

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

/// The run folder.
pub(super) fn write(out: &Path, link: u32, all: &[Measured], limited: &[Limited]) -> anyhow::Result<()> {
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
    for (name, text) in [
        ("shares.csv", shares),
        ("series.csv", series),
        ("limiters.csv", limits),
        ("abilities.csv", abilities),
    ] {
        std::fs::write(out.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    for m in all.iter().filter(|m| m.mark != Mark::None) {
        let end = m.series.last().map_or(1.0, |s| s.0);
        let points = |n: usize| m.series.iter().map(|(at, r)| (*at, r[n])).collect::<Vec<_>>();
        let guaranteed = |share: u64| {
            let rate = f64::from(link) * share as f64 / 100.0;
            vec![(0.0, rate), (end, rate)]
        };
        let line = |n: usize, name, dashed, points| Line { name, color: COLORS[n], dashed, points };
        let file = format!("shares-{}.svg", m.mark.word().to_lowercase().replace(' ', "-"));
        plot::lines(
            &out.join(file),
            &format!("marked by {} on the card, {link} Mbit/s at the next hop", m.mark.word()),
            ("second", end),
            ("Mbit/s", f64::from(link) * 1.05),
            &[
                line(0, "gold", false, points(0)),
                line(1, "silver", false, points(1)),
                line(0, "gold's guarantee", true, guaranteed(CLASSES[0].1)),
                line(1, "silver's guarantee", true, guaranteed(CLASSES[1].1)),
            ],
        )?;
    }
    Ok(())
}
