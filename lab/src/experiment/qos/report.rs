//! What came out: a table for people, CSV files for programs, a figure per bottleneck.

use super::{Cell, SHARES, Sample};
use crate::experiment::plot::{self, COLORS, Line, PUBLISHED};
use anyhow::Context;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Mean and half the width of its 95% interval (Student's t).
pub(super) fn mean(values: &[f64]) -> (f64, f64) {
    /// Two-sided 95% quantiles for 1 to 10 degrees of freedom; above, the normal one is near
    /// enough.
    const T: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, T.get(values.len() - 2).copied().unwrap_or(1.96) * (variance / n).sqrt())
}

type Key = (u32, String, String);

pub(super) fn grouped(cells: &[Cell]) -> BTreeMap<Key, Vec<&Cell>> {
    let mut groups: BTreeMap<Key, Vec<&Cell>> = BTreeMap::new();
    for cell in cells {
        groups.entry((cell.link, cell.transport.clone(), cell.order.clone())).or_default().push(cell);
    }
    groups
}

pub(super) fn write(out: &Path, cells: &[Cell]) -> anyhow::Result<()> {
    let mut shares = String::from("transport;order;link_mbit;class;guaranteed;share\n");
    let mut intervals = String::from("transport;order;link_mbit;class;repeats;share;half_width_95\n");
    for ((link, transport, order), group) in grouped(cells) {
        for (n, (class, guaranteed, _)) in SHARES.iter().enumerate() {
            let values: Vec<f64> = group.iter().map(|c| c.share[n]).collect();
            let (share, half) = mean(&values);
            writeln!(shares, "{transport};{order};{link};{class};{guaranteed};{share:.2}")?;
            writeln!(intervals, "{transport};{order};{link};{class};{};{share:.2};{half:.2}", values.len())?;
        }
    }
    let mut series = String::from(
        "transport;order;link_mbit;repeat;second;gold_mbit;silver_mbit;gold_queue;silver_queue\n",
    );
    for group in grouped(cells).values() {
        for (round, cell) in group.iter().enumerate() {
            for s in &cell.samples {
                writeln!(
                    series,
                    "{};{};{};{};{:.1};{:.3};{:.3};{};{}",
                    cell.transport,
                    cell.order,
                    cell.link,
                    round + 1,
                    s.at,
                    s.rate[0],
                    s.rate[1],
                    s.queued[0],
                    s.queued[1]
                )?;
            }
        }
    }
    let mut used = String::from("transport;order;link_mbit;used;borrowed\n");
    for c in cells {
        writeln!(used, "{};{};{};{:.1};{:.1}", c.transport, c.order, c.link, c.used, c.borrowed)?;
    }
    let mut idle = String::from("transport;order;link_mbit;sent;lost\n");
    for c in cells {
        writeln!(idle, "{};{};{};{};{}", c.transport, c.order, c.link, c.idle_lost.1, c.idle_lost.0)?;
    }
    for (name, text) in [
        ("shares.csv", shares),
        ("intervals.csv", intervals),
        ("series.csv", series),
        ("link-used.csv", used),
        ("idle-port.csv", idle),
    ] {
        std::fs::write(out.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    for ((link, transport, order), group) in grouped(cells) {
        let Some(cell) = group.first() else { continue };
        let points =
            |f: &dyn Fn(&Sample) -> f64| cell.samples.iter().map(|s| (s.at, f(s))).collect::<Vec<_>>();
        let end = cell.samples.last().map_or(1.0, |s| s.at);
        let guaranteed = |n: usize| {
            vec![(0.0, f64::from(link * SHARES[n].1) / 100.0), (end, f64::from(link * SHARES[n].1) / 100.0)]
        };
        let name = format!("{transport}-{order}-{link}");
        plot::lines(
            &out.join(format!("shares-{name}.svg")),
            &format!("{transport}, {order}, {link} Mbit/s: goodput of each class"),
            ("second", end),
            ("Mbit/s", f64::from(link) * 1.05),
            &[
                Line { name: "gold", color: COLORS[0], dashed: false, points: points(&|s| s.rate[0]) },
                Line { name: "silver", color: COLORS[1], dashed: false, points: points(&|s| s.rate[1]) },
                Line { name: "gold's guarantee", color: COLORS[0], dashed: true, points: guaranteed(0) },
                Line { name: "silver's guarantee", color: COLORS[1], dashed: true, points: guaranteed(1) },
                Line {
                    name: "published 50/50",
                    color: PUBLISHED,
                    dashed: true,
                    points: vec![(0.0, f64::from(link) / 2.0), (end, f64::from(link) / 2.0)],
                },
            ],
        )?;
        let most = cell.samples.iter().flat_map(|s| s.queued).max().unwrap_or(1).max(10) as f64;
        plot::lines(
            &out.join(format!("queues-{name}.svg")),
            &format!("{transport}, {order}, {link} Mbit/s: packets that wait at the bottleneck"),
            ("second", end),
            ("packets", most * 1.1),
            &[
                Line {
                    name: "gold",
                    color: COLORS[0],
                    dashed: false,
                    points: points(&|s| s.queued[0] as f64),
                },
                Line {
                    name: "silver",
                    color: COLORS[1],
                    dashed: false,
                    points: points(&|s| s.queued[1] as f64),
                },
            ],
        )?;
    }
    Ok(())
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
    for ((link, transport, order), group) in grouped(cells) {
        let of = |n: usize| mean(&group.iter().map(|c| c.share[n]).collect::<Vec<_>>());
        let gold = of(0);
        let silver = of(1);
        let used = mean(&group.iter().map(|c| c.used).collect::<Vec<_>>()).0;
        let borrowed = mean(&group.iter().map(|c| c.borrowed).collect::<Vec<_>>()).0;
        let lost: u64 = group.iter().map(|c| c.idle_lost.0).sum();
        let sent: u64 = group.iter().map(|c| c.idle_lost.1).sum();
        let show =
            |(m, h): (f64, f64)| if group.len() > 1 { format!("{m:.1} +-{h:.1}") } else { format!("{m:.1}") };
        let _ = writeln!(
            out,
            "{link:>9}  {transport:<9} {order:<13} {:>14} {:>14} {used:>7.1}% {borrowed:>9.1}% {:>20}",
            show(gold),
            show(silver),
            format!("{lost} of {sent}")
        );
    }
    let worst = cells.iter().map(|c| (c.share[0] - f64::from(SHARES[0].1)).abs()).fold(0.0, f64::max);
    let _ = writeln!(out, "\nfarthest from {}/{}: {worst:.2} points", SHARES[0].1, SHARES[1].1);
    out
}
