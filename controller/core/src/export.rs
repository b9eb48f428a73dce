//! Statistics as CSV text: `;` between columns, a header line, a line per reading; the first column
//! is the time in seconds since the first line.
//!
//! The thesis' files: `{core,agg,edge}stats.csv` hold the switches' ratios (columns are datapath
//! ids), `{core,agg,edge}linkstats.csv` those of the links, `hoststats.csv` those of the links
//! between edge switches and servers. All in percent with two digits.
//!
//! The same figures in bit/s are in `{core,agg,edge}rate.csv`, `{core,agg,edge}linkrate.csv` and
//! `hostrate.csv`, with the same columns: what a switch sends by all its ports, and what a link carries
//! in its busier direction.
//!
//! Beside them, what agents count: `classstats.csv` has the rate of each class at each port in
//! bit/s (columns are `dpid.port.class`), `queuestats.csv` what its queue has dropped so far and
//! how many packets wait in it (`dpid.port.class.drops`, `dpid.port.class.queued`); a cell is empty
//! while nobody counts. `hwstats.csv` has a line per counter of a card instead
//! (`time;dpid.port;counter;value`), since every driver has other names.
//!
//! `flowstats.csv` has a line for each of our rules that has counted packets since the last reading
//! of its switch, with what was counted since the switch has the rule
//! (`time;dpid;table;priority;owner;match;packets;bytes;age;idle`, the last two in seconds); a cell
//! is empty where it is not counted or not known.
//!
//! `serverload.csv` holds what servers use, as their hypervisors measure it, by the servers' names:
//! `srv1.cpu` in thousandths of a core, `srv1.ram` in bytes, `srv1.disk_read`, `srv1.disk_written`,
//! `srv1.rx` and `srv1.tx` in bit/s, `srv1.vms` the VMs on it; a cell of the former is empty while
//! nobody tells.

use crate::network::rule_counters::RuleCount;
use crate::snapshot::{LinkLevel, LinkView, PortView, Snapshot, SwitchView};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use tandem_model::text::escaped;
use tandem_model::{NodeId, Owner, Role, RuleKey, SwitchId, Time};

/// One file's name, columns and values.
#[derive(Debug, Clone, PartialEq)]
pub struct Csv {
    /// File name.
    pub file: &'static str,
    /// Column names, without the time.
    pub columns: Vec<String>,
    /// One value per column, in percent; `None` where no switch counts.
    pub values: Vec<Option<f64>>,
}

impl Csv {
    /// The header line, without its end.
    pub fn header(&self) -> String {
        header(&self.columns)
    }

    /// A line for the moment `seconds`, without its end.
    pub fn line(&self, seconds: f64) -> String {
        let mut line = format!("{seconds:.3}");
        for value in &self.values {
            line.push(';');
            if let Some(value) = value {
                let _ = write!(line, "{value:.2}");
            }
        }
        line
    }
}

/// A header line, without its end.
fn header(columns: &[String]) -> String {
    let cells = columns.iter().map(|c| cell(c));
    std::iter::once("time".to_owned()).chain(cells).collect::<Vec<_>>().join(";")
}

/// A text as a cell (RFC 4180 2.6, 2.7): in quotes where it would end the cell or the line, and
/// never one that a spreadsheet takes for a formula.
pub fn cell(text: &str) -> String {
    let mut shown = escaped(text).to_string();
    if shown.starts_with(['=', '+', '-', '@']) {
        shown.insert(0, '\'');
    }
    if shown.contains([';', ',', '"']) { format!("\"{}\"", shown.replace('"', "\"\"")) } else { shown }
}

/// All files' columns and values, from one snapshot. The columns of a site never change.
pub fn csv(snapshot: &Snapshot) -> Vec<Csv> {
    let ratios = by_level(
        snapshot,
        [
            "corestats.csv",
            "aggstats.csv",
            "edgestats.csv",
            "corelinkstats.csv",
            "agglinkstats.csv",
            "edgelinkstats.csv",
            "hoststats.csv",
        ],
        |switch| Some(switch.ratio * 100.0),
        |link| (!link.uncounted).then_some(link.ratio * 100.0),
    );
    ratios.map(|(file, columns, values)| Csv { file, columns, values }).into()
}

/// What the files of [`csv`] have as ratios, in bit/s; the same columns in the same order.
pub fn rate_csv(snapshot: &Snapshot) -> Vec<Table> {
    // A port that does not count adds nothing, as in the ratio.
    let sent = |ports: &[PortView]| {
        ports.iter().filter_map(|p| p.tx).fold(0u64, |sum, rate| sum.saturating_add(rate.0))
    };
    let rates = by_level(
        snapshot,
        [
            "corerate.csv",
            "aggrate.csv",
            "edgerate.csv",
            "corelinkrate.csv",
            "agglinkrate.csv",
            "edgelinkrate.csv",
            "hostrate.csv",
        ],
        |switch| Some(sent(&switch.ports)),
        |link| (!link.uncounted).then_some(link.up.0.max(link.down.0)),
    );
    rates.map(|(file, columns, values)| Table { file, columns, values }).into()
}

/// A file's name, its columns and a value for each.
type Columns<T> = (&'static str, Vec<String>, Vec<Option<T>>);

/// The files of the thesis: the switches of each level from the core down, then the links of each
/// level, those of the servers last.
fn by_level<T>(
    snapshot: &Snapshot,
    files: [&'static str; 7],
    of_switch: impl Fn(&SwitchView) -> Option<T>,
    of_link: impl Fn(&LinkView) -> Option<T>,
) -> [Columns<T>; 7] {
    let switches = |file, role| {
        let of_role = || snapshot.switches.iter().filter(move |s| s.role == Some(role) && !s.legacy);
        (file, of_role().map(|s| s.dpid.to_string()).collect(), of_role().map(|s| of_switch(s)).collect())
    };
    let links = |file, level| {
        let of_level = || snapshot.links.iter().filter(move |l| l.level == level);
        (file, of_level().map(|l| l.column.clone()).collect(), of_level().map(&of_link).collect())
    };
    let [core, aggregation, edge, core_links, aggregation_links, edge_links, hosts] = files;
    [
        switches(core, Role::Core),
        switches(aggregation, Role::Aggregation),
        switches(edge, Role::Edge),
        links(core_links, LinkLevel::Core),
        links(aggregation_links, LinkLevel::Aggregation),
        links(edge_links, LinkLevel::Edge),
        links(hosts, LinkLevel::Host),
    ]
}

/// Classes and their queues at every declared port of every OpenFlow switch; nothing where the site
/// has no classes. The columns of a site never change.
pub fn class_csv(snapshot: &Snapshot) -> Vec<Table> {
    let topology = &snapshot.site.topology;
    if snapshot.classes.is_empty() {
        return Vec::new();
    }
    let mut rates = Table { file: "classstats.csv", columns: Vec::new(), values: Vec::new() };
    let mut queues = Table { file: "queuestats.csv", columns: Vec::new(), values: Vec::new() };
    for ((n, switch), view) in (0u32..).zip(&topology.switches).zip(snapshot.switches.iter()) {
        if switch.legacy {
            continue;
        }
        for (port, _) in topology.ports(NodeId::Switch(SwitchId(n))) {
            let seen = view.ports.iter().find(|p| p.port == *port);
            for (n, class) in snapshot.classes.iter().enumerate() {
                let counters = seen.and_then(|p| p.classes.get(n));
                let column = format!("{}.{port}.{}", switch.dpid, class.name);
                queues.columns.extend([format!("{column}.drops"), format!("{column}.queued")]);
                queues.values.push(counters.map(|c| c.sample.drops));
                queues.values.push(counters.map(|c| c.sample.queued.into()));
                rates.columns.push(column);
                rates.values.push(counters.map(|c| c.rate.0));
            }
        }
    }
    vec![rates, queues]
}

/// What every server uses; see the module for the columns, which never change for a site.
pub fn load_csv(snapshot: &Snapshot) -> Table {
    let mut table = Table { file: "serverload.csv", columns: Vec::new(), values: Vec::new() };
    for server in snapshot.servers.iter() {
        let load = server.load;
        let values = [
            ("cpu", load.map(|l| (l.cpu * 1000.0).round() as u64)),
            ("ram", load.map(|l| l.ram.0)),
            ("disk_read", load.map(|l| l.disk_read.0)),
            ("disk_written", load.map(|l| l.disk_written.0)),
            ("rx", load.map(|l| l.rx.0)),
            ("tx", load.map(|l| l.tx.0)),
            ("vms", Some(server.vms.len() as u64)),
        ];
        for (what, value) in values {
            table.columns.push(format!("{}.{what}", server.name));
            table.values.push(value);
        }
    }
    table
}

/// A file of whole numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// File name.
    pub file: &'static str,
    /// Column names, without the time.
    pub columns: Vec<String>,
    /// One value per column; `None` while nobody counts.
    pub values: Vec<Option<u64>>,
}

impl Table {
    /// The header line, without its end.
    pub fn header(&self) -> String {
        header(&self.columns)
    }

    /// A line for the moment `seconds`, without its end.
    pub fn line(&self, seconds: f64) -> String {
        let mut line = format!("{seconds:.3}");
        for value in &self.values {
            line.push(';');
            if let Some(value) = value {
                let _ = write!(line, "{value}");
            }
        }
        line
    }
}

/// The file of the cards' counters.
pub const HARDWARE: &str = "hwstats.csv";

/// Its header line, without its end.
pub const HARDWARE_HEADER: &str = "time;dpid.port;counter;value";

/// Its lines for the moment `seconds`, each with its end; empty where no card counts anything.
pub fn hardware_lines(snapshot: &Snapshot, seconds: f64) -> String {
    let mut lines = String::new();
    for switch in snapshot.switches.iter() {
        for port in &switch.ports {
            for (name, value) in port.agent.iter().flat_map(|a| &a.hardware) {
                // A driver's name is its own affair, but a line stays a line of four columns.
                let _ = writeln!(lines, "{seconds:.3};{}.{};{};{value}", switch.dpid, port.port, cell(name));
            }
        }
    }
    lines
}

/// The file of the rules' counters.
pub const FLOWS: &str = "flowstats.csv";

/// Its header line, without its end.
pub const FLOWS_HEADER: &str = "time;dpid;table;priority;owner;match;packets;bytes;age;idle";

/// Which readings of switches have been written already.
#[derive(Debug, Clone, Default)]
pub struct WrittenReadings(BTreeMap<SwitchId, Time>);

impl WrittenReadings {
    /// Lines for the moment `seconds`, each with its end: one for each rule of ours that has counted
    /// packets since its switch's reading before, so that a rule that rests costs nothing however
    /// many there are. The first time it is one for each rule that has ever counted any.
    pub fn lines(&mut self, snapshot: &Snapshot, seconds: f64) -> String {
        let mut lines = String::new();
        for ((n, switch), reading) in
            (0u32..).zip(&snapshot.site.topology.switches).zip(&*snapshot.rule_readings)
        {
            let Some(at) = reading.at else { continue };
            let before = self.0.insert(SwitchId(n), at);
            if before == Some(at) {
                continue;
            }
            let since = before.map(|before| at.since(before));
            let has_counted = |count: &&RuleCount| {
                let rested = since.zip(count.idle).is_some_and(|(since, idle)| idle >= since);
                count.counters.packets.is_some_and(|packets| packets > 0) && !rested
            };
            let owners: BTreeMap<RuleKey, Owner> = snapshot.rules[n as usize]
                .iter()
                .filter_map(|rule| Some((rule.key, rule.cookie.owner()?)))
                .collect();
            for count in reading.rules.iter().filter(has_counted) {
                // A rule that is not wanted any more is nobody's.
                let Some(owner) = owners.get(&count.key) else { continue };
                let key = &count.key;
                let matching = cell(&key.matching.to_string());
                let counters = [count.counters.packets, count.counters.bytes].map(number);
                let times = [count.counters.age, count.idle].map(time);
                let _ = writeln!(
                    lines,
                    "{seconds:.3};{};{};{};{owner};{matching};{};{}",
                    switch.dpid,
                    key.table,
                    key.priority,
                    counters.join(";"),
                    times.join(";")
                );
            }
        }
        lines
    }
}

/// A counter's cell; empty where it is not counted.
fn number(counter: Option<u64>) -> String {
    counter.map(|n| n.to_string()).unwrap_or_default()
}

/// Seconds, or an empty cell.
fn time(time: Option<Duration>) -> String {
    time.map(|t| format!("{:.3}", t.as_secs_f64())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Csv, cell};

    #[test]
    fn what_no_switch_counts_is_an_empty_cell() {
        let columns = vec!["a".to_owned(), "b".to_owned()];
        let csv = Csv { file: "edgelinkstats.csv", columns, values: vec![Some(1.0), None] };
        assert_eq!((csv.header().as_str(), csv.line(2.0).as_str()), ("time;a;b", "2.000;1.00;"));
    }

    #[test]
    fn a_cell_ends_where_it_should_and_is_no_formula() {
        assert_eq!(cell("rx_crc errors"), "rx_crc errors");
        assert_eq!(cell("a;b\"c"), "\"a;b\"\"c\"");
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0"] {
            assert!(cell(formula).starts_with('\''), "{formula}");
        }
        assert_eq!(cell("=a;b"), "\"'=a;b\"");
        assert_eq!(cell("a\r\nb\tc"), "a\\u{d}\\u{a}b\\u{9}c");
    }
}
