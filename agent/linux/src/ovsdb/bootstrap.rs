//! Creates bridges in a private database, all in one transaction: for a caller that starts with an
//! empty database and wants all bridges or an error.

use super::{Error, INACTIVITY_PROBE, MAX_BACKOFF, Ovsdb};
use serde_json::{Value, json};
use std::time::Duration;

/// A port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name of an existing interface.
    pub name: String,
    /// OpenFlow port number.
    pub number: u32,
}

/// A bridge to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Name.
    pub name: String,
    /// Datapath id.
    pub dpid: u64,
    /// Ports.
    pub ports: Vec<Port>,
}

/// The settings that all bridges share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// e.g. `tcp:10.0.0.1:6653`. Of Unix sockets vswitchd takes only
    /// `unix:RUNDIR/BRIDGE.controller`; `%` stands for the bridge's name.
    pub controller: String,
    /// e.g. `OpenFlow10`, `OpenFlow13`.
    pub protocols: Vec<String>,
    /// `netdev` (userspace) or `system` (kernel).
    pub datapath_type: String,
}

impl Ovsdb {
    /// Creates bridges with their ports in one transaction and waits until vswitchd has executed
    /// it.
    ///
    /// # Errors
    /// When the database refuses, vswitchd takes longer than `limit`, or a port could not be
    /// attached (which the database alone does not show).
    pub fn make(&mut self, bridges: &[Bridge], common: &Common, limit: Duration) -> Result<(), Error> {
        let mut operations = Vec::new();
        let mut made = Vec::new();
        for (n, bridge) in bridges.iter().enumerate() {
            let mut ports = Vec::new();
            for (m, port) in bridge.ports.iter().enumerate() {
                let (row, interface) = (format!("p{n}x{m}"), format!("i{n}x{m}"));
                operations.push(json!({ "op": "insert", "table": "Interface", "uuid-name": interface,
                    "row": { "name": port.name, "ofport_request": port.number } }));
                operations.push(json!({ "op": "insert", "table": "Port", "uuid-name": row,
                    "row": { "name": port.name, "interfaces": ["named-uuid", interface] } }));
                ports.push(json!(["named-uuid", row]));
            }
            let (row, own, controller) = (format!("b{n}"), format!("l{n}"), format!("c{n}"));
            operations.push(json!({ "op": "insert", "table": "Interface", "uuid-name": format!("{own}i"),
                "row": { "name": bridge.name, "type": "internal" } }));
            operations.push(json!({ "op": "insert", "table": "Port", "uuid-name": own,
                "row": { "name": bridge.name, "interfaces": ["named-uuid", format!("{own}i")] } }));
            ports.push(json!(["named-uuid", own]));
            operations.push(json!({ "op": "insert", "table": "Controller", "uuid-name": controller,
                "row": { "target": common.controller.replace('%', &bridge.name), "max_backoff": MAX_BACKOFF, "inactivity_probe": INACTIVITY_PROBE } }));
            operations.push(json!({ "op": "insert", "table": "Bridge", "uuid-name": row, "row": {
                "name": bridge.name,
                "fail_mode": "secure",
                "datapath_type": common.datapath_type,
                "protocols": ["set", common.protocols],
                "controller": ["named-uuid", controller],
                "other_config": ["map", [["datapath-id", format!("{:016x}", bridge.dpid)]]],
                "ports": ["set", ports],
            } }));
            made.push(json!(["named-uuid", row]));
        }
        operations.push(json!({ "op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [
            ["bridges", "insert", ["set", made]],
            ["next_cfg", "+=", 1],
        ] }));
        operations
            .push(json!({ "op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"] }));
        let results = self.transact(&operations)?;
        let wanted = results.last().and_then(|r| r["rows"][0]["next_cfg"].as_i64()).unwrap_or(0);
        self.wait_for_vswitchd(wanted, limit)?;
        self.check_ports(bridges)
    }

    fn check_ports(&mut self, bridges: &[Bridge]) -> Result<(), Error> {
        let ask = json!({ "op": "select", "table": "Interface", "where": [], "columns": ["name", "ofport", "error"] });
        let results = self.transact(&[ask])?;
        let rows = results.first().and_then(|r| r["rows"].as_array()).cloned().unwrap_or_default();
        let by_name: std::collections::BTreeMap<&str, &Value> =
            rows.iter().filter_map(|r| Some((r["name"].as_str()?, r))).collect();
        let mut bad = Vec::new();
        for port in bridges.iter().flat_map(|b| &b.ports) {
            let row = by_name.get(port.name.as_str());
            if row.and_then(|r| r["ofport"].as_i64()) != Some(port.number.into()) {
                let error = row.and_then(|r| r["error"].as_str()).unwrap_or("no number was given");
                bad.push(format!("port {} (number {}): {error}", port.name, port.number));
            }
        }
        if bad.is_empty() { Ok(()) } else { Err(Error::Ports { ports: bad.join("; ") }) }
    }
}
