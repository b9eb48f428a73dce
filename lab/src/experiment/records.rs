//! What was read off the machines besides the experiment's own figures: `counters.csv` (raw, before
//! and after) and `clock-offsets.csv`.

use crate::control::messages::{Clock, Counter};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::Table;
use crate::world::testbed::clock_offset;
use anyhow::Context;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Counters and clocks that were read off the machines of a run.
#[derive(Debug, Default)]
pub struct Records {
    counters: String,
    /// By run: each run's world has clocks of its own.
    clocks: BTreeMap<String, Vec<Clock>>,
}

impl Records {
    /// True when nothing was read: a simulated world has no machines.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.clocks.is_empty()
    }

    /// All that has been measured of a run's clocks so far.
    pub fn clocks(&mut self, run: &str, clocks: Vec<Clock>) {
        self.clocks.insert(run.to_owned(), clocks);
    }

    fn row(&mut self, run: &str, moment: &str, object: (&str, &str), counter: &str, value: &Value) {
        let _ = writeln!(self.counters, "{run};{moment};{};{};{counter};{value}", object.0, object.1);
    }

    fn numbers(&mut self, run: &str, moment: &str, object: (&str, &str), values: &Value, skip: &[&str]) {
        for (name, value) in values.as_object().into_iter().flatten() {
            if value.is_u64() && !skip.contains(&name.as_str()) {
                self.row(run, moment, object, name, value);
            }
        }
    }

    /// The counters of servers', gateways' and VMs' interfaces.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub fn interfaces(&mut self, run: &str, moment: &str, counters: &[Counter]) -> anyhow::Result<()> {
        for counter in counters {
            let object = format!("{} {}", counter.node, counter.interface);
            self.numbers(run, moment, ("interface", &object), &serde_json::to_value(counter)?, &[]);
        }
        Ok(())
    }

    /// The counters of switches' ports and of the classes there, as the controller heard them last.
    ///
    /// # Errors
    /// When the controller says something else.
    pub fn switches(&mut self, run: &str, moment: &str, topology: &Value) -> anyhow::Result<()> {
        let switches = topology["switches"].as_array().context("the controller lists no switches")?;
        for switch in switches {
            for port in switch["ports"].as_array().into_iter().flatten() {
                let name = format!("{}.{}", switch["name"].as_str().unwrap_or_default(), port["port"]);
                self.numbers(run, moment, ("port", &name), port, &["port", "rx", "tx"]);
                for (n, class) in port["classes"].as_array().into_iter().flatten().enumerate() {
                    self.numbers(run, moment, ("class", &format!("{name} queue {n}")), class, &["rate"]);
                }
            }
        }
        Ok(())
    }

    /// Puts the tables into the run folder: nothing where nothing was read, as in a simulated world,
    /// and that of the clocks only where there is more than one.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&self, folder: &mut RunFolder) -> anyhow::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let counters = format!("run;moment;kind;object;counter;value\n{}", self.counters);
        folder.table(Table::of_lines("counters", 5, &counters))?;
        let mut text = String::new();
        for (run, clocks) in self.clocks.iter().filter(|(_, c)| !c.is_empty()) {
            for (n, line) in clock_offset::csv(clocks).lines().enumerate() {
                match (n, text.is_empty()) {
                    (0, true) => text = format!("run;{line}\n"),
                    (0, false) => {}
                    _ => {
                        let _ = writeln!(text, "{run};{line}");
                    }
                }
            }
        }
        if text.is_empty() {
            return Ok(());
        }
        folder.table(Table::of_lines("clock-offsets", 2, &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_written_as_they_are_read_and_rates_are_not_counters() {
        let mut records = Records::default();
        let topology = serde_json::json!({"switches": [{"name": "edge1", "ports": [{
            "port": 2, "up": true, "peer": "srv1.1", "rx": 17, "tx_bytes": 99,
            "classes": [{"bytes": 5, "rate": 3}]}]}]});
        records.switches("r", "before", &topology).expect("a topology");
        assert_eq!(
            records.counters,
            "r;before;port;edge1.2;tx_bytes;99\nr;before;class;edge1.2 queue 0;bytes;5\n"
        );
        assert!(records.switches("r", "after", &Value::Null).is_err());
    }
}
