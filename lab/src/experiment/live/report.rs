//! What is written and printed: the tables `gaps`, `transfers` and `series` (the packets around each
//! pause), two figures, a table for people.

use super::Rules;
use crate::experiment::live::measure::Cell;
use crate::experiment::plot::{Bars, Drawing};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::Table;
use std::fmt::Write as _;

/// What is kept of the packets: so long before and after the pause.
const AROUND_NS: u64 = 1_000_000_000;

fn milliseconds(ns: u64, since: u64) -> f64 {
    (i128::from(ns) - i128::from(since)) as f64 / 1e6
}

fn series(cells: &[Cell]) -> String {
    let mut text = String::from(
        "memory_mb;dirty;rules;direction;packet;sent_ms;received_ms;old_server_ms;new_server_ms\n",
    );
    for c in cells {
        let zero = c.pause.paused_ns;
        let window = zero.saturating_sub(AROUND_NS)..c.pause.resumed_ns + AROUND_NS;
        for (direction, packets) in [("to_vm", &c.down), ("from_vm", &c.up)] {
            for (n, p) in packets.iter().filter(|p| window.contains(&p.sent)).enumerate() {
                let at =
                    |t: Option<u64>| t.map(|t| format!("{:.3}", milliseconds(t, zero))).unwrap_or_default();
                let seen = |n: usize| at(p.seen.get(n).copied().flatten());
                let _ = writeln!(
                    text,
                    "{};{};{};{direction};{n};{:.3};{};{};{}",
                    c.memory,
                    c.dirty,
                    c.rules.word(),
                    milliseconds(p.sent, zero),
                    at(p.received),
                    seen(0),
                    seen(1)
                );
            }
        }
    }
    text
}

/// Fills the run folder but for the manifest.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(folder: &mut RunFolder, world: &str, cells: &[Cell], place: &str) -> anyhow::Result<()> {
    let mut gaps = String::from(super::GAPS);
    let mut transfers =
        String::from("world;memory_mb;dirty;rules;seconds;pause_ms;packets;network_lost_near_pause\n");
    for c in cells {
        let key = format!("{world};{};{};{}", c.memory, c.dirty, c.rules.word());
        writeln!(gaps, "{key};{};{:.1};{}", c.loss.lost, c.loss.longest_ms, c.loss.network_lost)?;
        let pause = milliseconds(c.pause.resumed_ns, c.pause.paused_ns);
        let took = c.took.as_secs_f64();
        writeln!(transfers, "{key};{took:.3};{pause:.1};{};{}", c.loss.sent, c.loss.near_lost)?;
    }
    folder.table(Table::of_lines("gaps", 4, &gaps))?;
    folder.table(Table::of_lines("transfers", 4, &transfers))?;
    folder.table(Table::of_lines("series", 5, &series(cells)))?;
    let gap = bars(cells, "The longest time in which nothing arrives", "time (ms)", |c| c.loss.longest_ms);
    folder.figure("longest-gap", Drawing::Bars(Bars { place: place.to_owned(), ..gap }))?;
    let lost =
        bars(cells, "Packets lost by the network (no bar: none)", "packets", |c| c.loss.network_lost as f64);
    folder.figure("network-lost", Drawing::Bars(Bars { place: place.to_owned(), ..lost }))
}

fn bars(cells: &[Cell], title: &str, unit: &str, value: impl Fn(&Cell) -> f64) -> Bars {
    let mut groups: Vec<(u64, String)> = Vec::new();
    for c in cells {
        let group = (c.memory, c.dirty.clone());
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let mean = |group: &(u64, String), rules: Rules| {
        let of = |c: &&Cell| c.rules == rules && (c.memory, &c.dirty) == (group.0, &group.1);
        let values: Vec<f64> = cells.iter().filter(of).map(&value).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let series: Vec<(&str, Vec<f64>)> = [Rules::First, Rules::After, Rules::Pause]
        .into_iter()
        .filter(|rules| cells.iter().any(|c| c.rules == *rules))
        .map(|rules| (rules.title(), groups.iter().map(|g| mean(g, rules)).collect()))
        .collect();
    let labels: Vec<String> = groups.iter().map(|(mib, dirty)| format!("{mib} MiB {dirty}")).collect();
    Bars::of(title, "", unit, &labels, &series)
}

/// A cell's row of the table.
pub(super) fn line(c: &Cell) -> String {
    format!(
        "{:>8} {:<12} {:<6} {:>8.2} {:>10.1} {:>10.1} {:>14} {:>14}",
        c.memory,
        c.dirty,
        c.rules.word(),
        c.took.as_secs_f64(),
        milliseconds(c.pause.resumed_ns, c.pause.paused_ns),
        c.loss.longest_ms,
        format!("{} of {}", c.loss.lost, c.loss.sent),
        format!("{} ({})", c.loss.network_lost, c.loss.near_lost)
    )
}

/// The table for people.
pub(super) fn table(cells: &[Cell], datapath: &str) -> String {
    let mut out = format!("Live migration, datapath in {datapath}\n\n");
    let _ = writeln!(
        out,
        "{:>8} {:<12} {:<6} {:>8} {:>10} {:>10} {:>14} {:>14}",
        "MiB", "writes", "rules", "seconds", "pause ms", "gap ms", "lost", "by the network"
    );
    for c in cells {
        let _ = writeln!(out, "{}", line(c));
    }
    let _ = writeln!(out, "\nin parentheses: sent within a quarter of a second of the pause");
    let total =
        |rules: Rules| cells.iter().filter(|c| c.rules == rules).map(|c| c.loss.network_lost).sum::<u64>();
    for rules in [Rules::First, Rules::After, Rules::Pause] {
        if cells.iter().any(|c| c.rules == rules) {
            let _ = write!(out, "\nlost by the network, rules {}: {}", rules.word(), total(rules));
        }
    }
    out.push('\n');
    out
}
