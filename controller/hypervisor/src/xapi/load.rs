//! Loads: XAPI reports averages over five seconds, while the core needs counters. So each average,
//! times its interval, is added to a counter once.
//!
//! A host reports itself and the VMs that it runs. A VM's counter belongs to its UUID, and
//! continues when the VM moves. Values that a host does not measure are reported as unknown.

use super::pool::Pool;
use super::rrd::{self, Updates, Whose};
use super::session::CallError;
use crate::{ServerLoad, VmmError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tandem_model::{LoadSample, ServerId, VmId};

/// The first request goes back this many seconds: one or two rows.
const BACK: u64 = 15;

/// The counters of one host or VM.
#[derive(Debug, Clone, PartialEq)]
struct Sum {
    /// Time of the last row that was added.
    until: u64,
    /// When a host last reported it.
    heard: Instant,
    cpu_ns: Option<f64>,
    ram: Option<f64>,
    read: Option<f64>,
    written: Option<f64>,
    rx: Option<f64>,
    tx: Option<f64>,
}

/// The counters of all hosts and VMs.
#[derive(Debug, Default)]
struct Sums {
    /// Start of the next request, by the hosts' own clocks.
    next: BTreeMap<ServerId, u64>,
    of: BTreeMap<(Whose, String), Sum>,
}

/// The counters of a driver.
#[derive(Debug, Default)]
pub struct Loads(Mutex<Sums>);

impl Loads {
    /// Requests a host's rows, adds them, and returns the counters.
    ///
    /// When the host does not answer.
    pub async fn of(&self, pool: &Pool, server: ServerId) -> Result<ServerLoad, VmmError> {
        let deed = pool.deed(server, None, "asking for its load");
        let host = pool.host(server).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).next.get(&server).copied();
        let start = next.unwrap_or(now.saturating_sub(BACK));
        let path = format!("/rrd_updates?start={start}&cf=AVERAGE&interval=5&host=true");
        let bytes = pool.session.document(&host.record.address, &path).await.map_err(|e| deed.failed(e))?;
        let updates = rrd::parse(&bytes).map_err(|source| {
            deed.failed(CallError::Malformed { route: host.record.name_label.clone(), cause: source })
        })?;
        let all = pool.ours().await.map_err(|e| deed.failed(e))?;
        let ours: Vec<(VmId, bool, String)> =
            all.into_iter().map(|o| (o.vm, o.record.resident_on == host.reference, o.record.uuid)).collect();
        Ok(self.take_in(server, &host.record.uuid, &ours, start, &updates))
    }

    /// Adds a host's rows for a request from `start` on, and returns the counters. `ours` are the
    /// pool's VMs of ours: whether each is on this host, and its UUID. Other VMs are not counted.
    pub fn take_in(
        &self,
        server: ServerId,
        host: &str,
        ours: &[(VmId, bool, String)],
        start: u64,
        updates: &Updates,
    ) -> ServerLoad {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The host's clock counts, even if it was set back: then later rows are requested when they
        // come, instead of never until the clock has caught up.
        sums.next.insert(server, updates.end);
        let known = |whose, uuid: &str| match whose {
            Whose::Host => uuid == host,
            Whose::Vm => ours.iter().any(|(_, _, u)| u == uuid),
        };
        sums.add(updates, updates.end < start, &known);
        let of = |whose, uuid: &str| {
            sums.of.get(&(whose, uuid.to_owned())).map_or(LoadSample::UNKNOWN, Sum::sample)
        };
        let here = ours.iter().filter(|(_, here, _)| *here);
        ServerLoad {
            server: of(Whose::Host, host),
            vms: here.map(|(vm, _, uuid)| (*vm, of(Whose::Vm, uuid))).collect(),
        }
    }
}

/// Counters of hosts and VMs without a report for this time are dropped.
const FORGOTTEN: Duration = Duration::from_secs(3600);

impl Sums {
    /// `set_back`: the host's clock was set back.
    fn add(&mut self, updates: &Updates, set_back: bool, known: &dyn Fn(Whose, &str) -> bool) {
        let mut rows: Vec<&(u64, Vec<f64>)> = updates.rows.iter().collect();
        rows.sort_by_key(|(t, _)| *t);
        let step = updates.step as f64;
        let now = Instant::now();
        let mine: BTreeSet<(Whose, &str)> = updates
            .columns
            .iter()
            .flatten()
            .map(|c| (c.whose, c.uuid.as_str()))
            .filter(|(whose, uuid)| known(*whose, uuid))
            .collect();
        for (whose, uuid) in &mine {
            let sum = self.of.entry((*whose, (*uuid).to_owned())).or_insert_with(|| Sum::new(now));
            sum.heard = now;
            if set_back {
                sum.until = sum.until.min(updates.end);
            }
        }
        self.of.retain(|_, sum| now.duration_since(sum.heard) < FORGOTTEN);
        for (t, cells) in rows {
            // A row in the future would stop the counting until then.
            if *t > updates.end.saturating_add(updates.step) {
                continue;
            }
            // All columns of a host or VM have the same time: whether a row is new is decided
            // before the first one is added.
            let mut new: BTreeMap<(Whose, &str), Cells> = BTreeMap::new();
            for (column, cell) in updates.columns.iter().zip(cells) {
                if let Some(column) = column
                    && cell.is_finite()
                    && mine.contains(&(column.whose, column.uuid.as_str()))
                {
                    new.entry((column.whose, &column.uuid)).or_default().take(&column.name, *cell);
                }
            }
            for ((whose, uuid), cells) in new {
                let Some(sum) = self.of.get_mut(&(whose, uuid.to_owned())) else { continue };
                if *t > sum.until {
                    sum.until = *t;
                    sum.add(&cells, step);
                }
            }
        }
    }
}

/// One row of one host or VM: rates per second.
#[derive(Debug, Default)]
struct Cells {
    cpus: Option<f64>,
    memory: Option<f64>,
    total_kib: Option<f64>,
    free_kib: Option<f64>,
    read: Option<f64>,
    written: Option<f64>,
    rx: Option<f64>,
    tx: Option<f64>,
}

impl Cells {
    /// Names as in XAPI's metrics: `cpu0` is a share of a CPU; `vif_0_rx`, `pif_eth0_rx` and
    /// `vbd_xvda_read` are bytes a second.
    fn take(&mut self, name: &str, value: f64) {
        let add = |to: &mut Option<f64>| *to = Some(to.unwrap_or(0.0) + value.max(0.0));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match name {
            "memory" => self.memory = Some(value),
            "memory_total_kib" => self.total_kib = Some(value),
            "memory_free_kib" => self.free_kib = Some(value),
            _ if name.strip_prefix("cpu").is_some_and(number) => add(&mut self.cpus),
            // pif_aggr has the sums over all interfaces; each interface is counted once.
            _ if name.starts_with("vif_") || name.starts_with("pif_eth") => {
                if name.ends_with("_rx") {
                    add(&mut self.rx);
                } else if name.ends_with("_tx") {
                    add(&mut self.tx);
                }
            }
            _ if name.starts_with("vbd_") => {
                if name.ends_with("_read") {
                    add(&mut self.read);
                } else if name.ends_with("_write") {
                    add(&mut self.written);
                }
            }
            _ => {}
        }
    }
}

impl Sum {
    fn new(now: Instant) -> Sum {
        let none = None;
        Sum { until: 0, heard: now, cpu_ns: none, ram: none, read: none, written: none, rx: none, tx: none }
    }

    fn add(&mut self, cells: &Cells, step: f64) {
        let grow = |sum: &mut Option<f64>, rate: Option<f64>, unit: f64| {
            if let Some(rate) = rate {
                *sum = Some(sum.unwrap_or(0.0) + rate * step * unit);
            }
        };
        grow(&mut self.cpu_ns, cells.cpus, 1e9);
        grow(&mut self.read, cells.read, 1.0);
        grow(&mut self.written, cells.written, 1.0);
        grow(&mut self.rx, cells.rx, 1.0);
        grow(&mut self.tx, cells.tx, 1.0);
        let used = cells.total_kib.zip(cells.free_kib).map(|(total, free)| (total - free).max(0.0) * 1024.0);
        self.ram = cells.memory.or(used).or(self.ram);
    }

    fn sample(&self) -> LoadSample {
        // A conversion from f64 saturates; the result stays below the value for "not counted".
        let count = |n: Option<f64>| n.map_or(u64::MAX, |n| (n as u64).min(u64::MAX - 1));
        LoadSample {
            cpu_ns: count(self.cpu_ns),
            ram: count(self.ram),
            disk_read: count(self.read),
            disk_written: count(self.written),
            rx_bytes: count(self.rx),
            tx_bytes: count(self.tx),
            dirtied: u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updates(rows: &str) -> Updates {
        let text = format!(
            "<xport><meta><step>5</step><end>20</end><legend><entry>AVERAGE:vm:v:cpu0</entry><entry>AVERAGE:vm:v:cpu1</entry>\
             <entry>AVERAGE:vm:v:vif_0_rx</entry><entry>AVERAGE:vm:v:memory</entry><entry>AVERAGE:host:h:pif_aggr_rx</entry>\
             <entry>AVERAGE:host:h:memory_total_kib</entry><entry>AVERAGE:host:h:memory_free_kib</entry></legend></meta><data>{rows}</data></xport>"
        );
        rrd::parse(text.as_bytes()).expect("a table")
    }

    #[test]
    fn each_average_is_added_once_and_what_is_not_measured_is_not_counted() {
        let mut sums = Sums::default();
        let first = "<row><t>10</t><v>0.5</v><v>0.25</v><v>100</v><v>4096</v><v>9</v><v>8</v><v>6</v></row>";
        sums.add(&updates(first), false, &|_, _| true);
        // Requested again, with another row, newest first.
        let second = "<row><t>15</t><v>1</v><v>NaN</v><v>20</v><v>8192</v><v>9</v><v>8</v><v>5</v></row>";
        sums.add(&updates(&format!("{second}{first}")), false, &|_, _| true);
        let vm = sums.of[&(Whose::Vm, "v".to_owned())].sample();
        // (0.5 + 0.25 + 1) of a CPU for 5 s; (100 + 20) bytes a second for 5 s.
        assert_eq!((vm.cpu_ns, vm.rx_bytes, vm.ram), (8_750_000_000, 600, 8192));
        assert_eq!((vm.tx_bytes, vm.disk_read, vm.dirtied), (u64::MAX, u64::MAX, u64::MAX));
        let host = sums.of[&(Whose::Host, "h".to_owned())].sample();
        assert_eq!((host.ram, host.rx_bytes), (3 * 1024, u64::MAX));
    }

    fn of(loads: &Loads, start: u64, updates: &Updates) -> ServerLoad {
        loads.take_in(ServerId(0), "h", &[(VmId(1), true, "v".to_owned())], start, updates)
    }

    /// A host's clock goes back by an hour (ntpd on a host with a wrong clock), or has an absurd
    /// value for a moment: counting goes on.
    #[test]
    fn a_clock_that_is_set_back_does_not_end_the_counting() {
        let loads = Loads::default();
        let row = |t: u64| format!("<row><t>{t}</t><v>1</v><v>0</v><v>100</v><v>4096</v></row>");
        let at = |end: u64, rows: &str| Updates { end, ..updates(rows) };
        let cpu = |load: ServerLoad| load.vms[0].1.cpu_ns;
        assert_eq!(cpu(of(&loads, 3595, &at(3600, &row(3600)))), 5_000_000_000);
        // The next request starts at 3600; the host's clock is at 0 by now.
        assert_eq!(cpu(of(&loads, 3600, &at(5, &row(5)))), 5_000_000_000, "that row may be an old one");
        assert_eq!(cpu(of(&loads, 5, &at(10, &row(10)))), 10_000_000_000);
        // A row in the far future is skipped, and such a clock is forgotten with the next reply.
        assert_eq!(cpu(of(&loads, 10, &at(15, &row(u64::MAX)))), 10_000_000_000);
        of(&loads, 15, &at(u64::MAX, ""));
        of(&loads, u64::MAX, &at(20, ""));
        assert_eq!(cpu(of(&loads, 20, &at(25, &row(25)))), 15_000_000_000);
    }

    /// Other users' VMs in the pool are not counted.
    #[test]
    fn what_is_not_ours_is_not_kept() {
        let loads = Loads::default();
        for n in 0..1000 {
            let entry = format!("<entry>AVERAGE:vm:other-{n}:cpu0</entry>");
            let text = format!(
                "<xport><step>5</step><end>20</end><legend>{entry}</legend>\
                 <data><row><t>15</t><v>1</v></row></data></xport>"
            );
            of(&loads, 10, &rrd::parse(text.as_bytes()).expect("a table"));
        }
        assert_eq!(loads.0.lock().expect("no panic").of.len(), 0);
    }

    use proptest::prelude::*;

    proptest! {
        /// Whatever a host reports, counters never go back, and never become "not counted" once
        /// they were counted.
        #[test]
        fn counters_only_grow_whatever_a_host_tells(
            looks in prop::collection::vec(
                (any::<u64>(), any::<u64>(), 0u64..1 << 40,
                 prop::collection::vec((any::<u64>(), prop::collection::vec(any::<f64>(), 0..8)), 0..4)),
                1..6,
            ),
        ) {
            let (loads, mut before) = (Loads::default(), 0);
            for (start, end, step, rows) in looks {
                let table = Updates { step, end, rows, ..updates("") };
                let load = of(&loads, start, &table).vms[0].1;
                let now = if load.cpu_ns == u64::MAX { 0 } else { load.cpu_ns };
                prop_assert!(now >= before);
                before = now;
            }
        }
    }
}
