//! `flows`: shows the contents of the card's tables.

use super::args::Cli;
use super::{Opened, print_json};
use serde::Serialize;
use std::io::{self, Write};
use tandem_fpga_config::codec::listing::Shown;
use tandem_fpga_config::codec::{Exact, Pattern, PortMap, Row};
use tandem_fpga_config::profile::RowCounters;
use tandem_fpga_config::registers::AccessError;

#[derive(Debug, Serialize)]
struct Tables {
    rows: Vec<Wildcard>,
    empty_rows: u16,
    exact: Vec<Entry>,
    clock: u32,
}

#[derive(Debug, Serialize)]
struct Wildcard {
    row: u16,
    flow: String,
    packets: u32,
    bytes: u32,
    last_seen: u32,
}

#[derive(Debug, Serialize)]
struct Entry {
    row: u32,
    flow: String,
}

pub(crate) fn flows(cli: &Cli) -> anyhow::Result<()> {
    let mut opened = Opened::to_write(cli)?;
    let tables = read(&mut opened)?;
    if cli.json {
        return print_json(&tables);
    }
    let mut out = io::stdout().lock();
    for row in &tables.rows {
        let ago = match row.packets {
            0 => String::new(),
            _ => format!(", last {} s ago", tables.clock.saturating_sub(row.last_seen)),
        };
        writeln!(
            out,
            "row {:>2}: {}  [{} packets, {} bytes{ago}]",
            row.row, row.flow, row.packets, row.bytes
        )?;
    }
    for entry in &tables.exact {
        writeln!(out, "exact 0x{:04x}: {}", entry.row, entry.flow)?;
    }
    if opened.flow_map()?.row_counters == RowCounters::ClearOnRead && !tables.rows.is_empty() {
        writeln!(out, "(reading has cleared the counters of these rows)")?;
    }
    writeln!(
        out,
        "{} wildcard rows used, {} free; {} exact entries. The lowest row that matches wins, an exact entry beats rows. Ports 1 to 4 are the card's.",
        tables.rows.len(),
        tables.empty_rows,
        tables.exact.len()
    )?;
    Ok(())
}

fn read(opened: &mut Opened) -> anyhow::Result<Tables> {
    let map = opened.flow_map()?;
    let ports = PortMap::one_card(true);
    let card = &mut *opened.card;
    let mut rows = Vec::new();
    let mut empty_rows = 0;
    for row in 0..map.rows {
        let found = Row::read(&map, row.into(), card)?;
        // After a reset a row matches an all-zero key, which no packet has.
        if found.is_deleted() || found.pattern == Row::after_reset().pattern {
            empty_rows += 1;
            continue;
        }
        let at = 4 * u32::from(row);
        let guard = map.guard.is_some_and(|key| found == Row::guard(key));
        rows.push(Wildcard {
            row,
            flow: match guard {
                true => "guard: drops what a fault of the bitfile makes of frames from any port".to_owned(),
                false => Shown(&found.pattern, &found.action, &ports).to_string(),
            },
            packets: card.read32(map.packets_hit + at)?,
            bytes: card.read32(map.bytes_hit + at)?,
            last_seen: card.read32(map.last_seen + at)?,
        });
    }
    let exact =
        (0..map.exact_rows)
            .filter_map(|row| {
                let found = Exact::read(&map, u16::try_from(row).ok()?, card).transpose()?;
                Some(found.map(|e| Entry {
                    row,
                    flow: Shown(&Pattern::exactly(e.key), &e.action, &ports).to_string(),
                }))
            })
            .collect::<Result<Vec<_>, AccessError>>()?;
    Ok(Tables { rows, empty_rows, exact, clock: card.read32(map.seconds)? })
}
