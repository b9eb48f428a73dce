//! The seed's CSV files, as text: `;` between columns, a header line, a line per reading.
//!
//! `{core,agg,edge}stats.csv` hold the switches' ratios (columns are datapath ids), `{core,agg,edge}linkstats.csv` those of
//! the links, `hoststats.csv` those of the links between edge switches and servers. All in percent with two digits; the first
//! column is the time in seconds since the first line.

use crate::snapshot::{LinkLevel, Snapshot};
use tandem_model::Role;

/// One file's name, columns and values.
#[derive(Debug, Clone, PartialEq)]
pub struct Csv {
    /// File name.
    pub file: &'static str,
    /// Column names, without the time.
    pub columns: Vec<String>,
    /// One value per column, in percent.
    pub values: Vec<f64>,
}

impl Csv {
    /// The header line, without its end.
    pub fn header(&self) -> String {
        std::iter::once("time").chain(self.columns.iter().map(String::as_str)).collect::<Vec<_>>().join(";")
    }

    /// A line for the moment `seconds`, without its end.
    pub fn line(&self, seconds: f64) -> String {
        let mut line = format!("{seconds:.3}");
        for value in &self.values {
            line.push_str(&format!(";{value:.2}"));
        }
        line
    }
}

/// All files' columns and values, from one snapshot. The columns of a site never change.
pub fn csv(snapshot: &Snapshot) -> Vec<Csv> {
    let switches = |file, role| {
        let of_role = || snapshot.switches.iter().filter(move |s| s.role == Some(role) && !s.legacy);
        Csv {
            file,
            columns: of_role().map(|s| s.dpid.to_string()).collect(),
            values: of_role().map(|s| s.ratio * 100.0).collect(),
        }
    };
    let links = |file, level| {
        let of_level = || snapshot.links.iter().filter(move |l| l.level == level);
        Csv {
            file,
            columns: of_level().map(|l| l.column.clone()).collect(),
            values: of_level().map(|l| l.ratio * 100.0).collect(),
        }
    };
    vec![
        switches("corestats.csv", Role::Core),
        switches("aggstats.csv", Role::Aggregation),
        switches("edgestats.csv", Role::Edge),
        links("corelinkstats.csv", LinkLevel::Core),
        links("agglinkstats.csv", LinkLevel::Aggregation),
        links("edgelinkstats.csv", LinkLevel::Edge),
        links("hoststats.csv", LinkLevel::Host),
    ]
}
