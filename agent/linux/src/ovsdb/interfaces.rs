//! The state and counters of interfaces, as vswitchd reports them.

use super::{Error, Ovsdb, Row};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Up.
    Up,
    /// Down.
    Down,
}

impl State {
    pub(super) fn of(row: &Row, column: &str) -> Option<State> {
        match row.text(column)? {
            "up" => Some(State::Up),
            "down" => Some(State::Down),
            _ => None,
        }
    }
}

/// Whether both ends may send at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplex {
    /// One end at a time.
    Half,
    /// Both ends.
    Full,
}

/// An interface as vswitchd reports it (ovs-vswitchd.conf.db(5), table Interface). Values that
/// vswitchd does not know are absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceRow {
    /// Name.
    pub name: String,
    /// OpenFlow port number; absent while it is not attached.
    pub ofport: Option<u32>,
    /// Whether it is administratively up.
    pub admin_state: Option<State>,
    /// Whether it has a carrier.
    pub link_state: Option<State>,
    /// In bit/s.
    pub link_speed: Option<u64>,
    /// Half or full.
    pub duplex: Option<Duplex>,
    /// Hardware address.
    pub mac_in_use: Option<[u8; 6]>,
    /// Why it could not be attached.
    pub error: Option<String>,
    /// Counters since it was attached, e.g. `rx_packets`, `rx_bytes`, `tx_dropped`. vswitchd writes
    /// them every five seconds (`other_config:stats-update-interval`, in ms).
    pub statistics: BTreeMap<String, i64>,
}

/// Version and datapath types of Open vSwitch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its version; absent before vswitchd has come up for the first time.
    pub version: Option<String>,
    /// Datapath types that vswitchd supports, e.g. `netdev`, `system`.
    pub datapath_types: Vec<String>,
}

impl Ovsdb {
    /// Version and datapath types.
    ///
    /// # Errors
    /// As [`Ovsdb::transact`].
    pub fn about(&mut self) -> Result<About, Error> {
        let columns = ["ovs_version", "datapath_types"];
        let results = self.transact(&[
            json!({ "op": "select", "table": "Open_vSwitch", "where": [], "columns": columns }),
        ])?;
        let row = rows(&results, 0).pop().unwrap_or_default();
        Ok(About {
            version: row.text("ovs_version").map(ToOwned::to_owned),
            datapath_types: row.texts("datapath_types").into_iter().map(ToOwned::to_owned).collect(),
        })
    }

    /// All interfaces, by name.
    ///
    /// # Errors
    /// As [`Ovsdb::transact`].
    pub fn interfaces(&mut self) -> Result<Vec<InterfaceRow>, Error> {
        let columns = [
            "name",
            "ofport",
            "admin_state",
            "link_state",
            "link_speed",
            "duplex",
            "mac_in_use",
            "error",
            "statistics",
        ];
        let results = self
            .transact(&[json!({ "op": "select", "table": "Interface", "where": [], "columns": columns })])?;
        let mut rows: Vec<InterfaceRow> = rows(&results, 0).iter().map(interface).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rows)
    }
}

/// The rows of a transaction's `n`th result.
pub(super) fn rows(results: &[Value], n: usize) -> Vec<Row> {
    let list = results.get(n).and_then(|r| r["rows"].as_array()).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|row| row.as_object().cloned().map(Row)).collect()
}

/// The number that vswitchd assigned; -1 in the database means that it could not attach the
/// interface.
pub(super) fn ofport(row: &Row) -> Option<u32> {
    row.integer("ofport").and_then(|n| u32::try_from(n).ok())
}

fn interface(row: &Row) -> InterfaceRow {
    let statistics = row.map("statistics");
    InterfaceRow {
        name: row.text("name").unwrap_or_default().to_owned(),
        ofport: ofport(row),
        admin_state: State::of(row, "admin_state"),
        link_state: State::of(row, "link_state"),
        link_speed: row.integer("link_speed").and_then(|n| u64::try_from(n).ok()),
        duplex: match row.text("duplex") {
            Some("half") => Some(Duplex::Half),
            Some("full") => Some(Duplex::Full),
            _ => None,
        },
        mac_in_use: row.text("mac_in_use").and_then(mac),
        error: row.text("error").map(ToOwned::to_owned),
        statistics: statistics.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v.as_i64()?))).collect(),
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes?.try_into().ok()
}
