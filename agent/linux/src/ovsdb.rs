//! A client of OVSDB (RFC 7047) over a Unix socket: transactions, and the one that builds many bridges at once.

use crate::Error;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest message that is taken in.
const LONGEST: usize = 64 << 20;

/// A connection to an ovsdb-server.
#[derive(Debug)]
pub struct Ovsdb {
    stream: UnixStream,
    buffer: Vec<u8>,
    last_id: u64,
}

/// A port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name of an interface that is there.
    pub name: String,
    /// OpenFlow port number.
    pub number: u32,
}

/// A bridge to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Name.
    pub name: String,
    /// Datapath id.
    pub dpid: u64,
    /// Ports.
    pub ports: Vec<Port>,
}

/// What bridges have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// e.g. `tcp:10.0.0.1:6653`. Of Unix sockets vswitchd takes only `unix:RUNDIR/BRIDGE.controller`; `%` stands for the
    /// bridge's name.
    pub controller: String,
    /// e.g. `OpenFlow10`, `OpenFlow13`.
    pub protocols: Vec<String>,
    /// `netdev` (userspace) or `system` (kernel).
    pub datapath_type: String,
}

impl Ovsdb {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(socket: &Path) -> Result<Ovsdb, Error> {
        let fail = || Error::io(format!("connecting to the OVS database at {}", socket.display()));
        let stream = UnixStream::connect(socket).map_err(fail())?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(fail())?;
        Ok(Ovsdb { stream, buffer: Vec::new(), last_id: 0 })
    }

    /// Carries out operations on `Open_vSwitch` as one transaction; all or nothing.
    ///
    /// # Errors
    /// With the operation that failed (RFC 7047 section 4.1.3: errors stand inside the result).
    pub fn transact(&mut self, operations: &[Value]) -> Result<Vec<Value>, Error> {
        let mut params = vec![json!("Open_vSwitch")];
        params.extend_from_slice(operations);
        let result = self.call("transact", &Value::Array(params))?;
        let list = result
            .as_array()
            .cloned()
            .ok_or_else(|| Error::Ovs(format!("a transaction was answered {result}")))?;
        for (n, item) in list.iter().enumerate() {
            if let Some(error) = item.get("error").filter(|e| !e.is_null()) {
                let details = item.get("details").and_then(Value::as_str).unwrap_or_default();
                let operation = operations
                    .get(n)
                    .map_or_else(|| "the commit".to_owned(), |o| format!("{} {}", o["op"], o["table"]));
                return Err(Error::Ovs(format!("the database refused {operation}: {error} {details}")));
            }
        }
        Ok(list)
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value, Error> {
        self.last_id += 1;
        let id = json!(self.last_id);
        self.send(&json!({ "method": method, "params": params, "id": id }))?;
        loop {
            let message = self.receive()?;
            // RFC 7047 section 4.1.11: the server may ask for a sign of life at any time.
            if message["method"] == "echo" {
                self.send(&json!({ "result": message["params"], "error": null, "id": message["id"] }))?;
                continue;
            }
            if message["id"] != id {
                continue;
            }
            if !message["error"].is_null() {
                return Err(Error::Ovs(format!("the database answered {method} with {}", message["error"])));
            }
            return Ok(message["result"].clone());
        }
    }

    fn send(&mut self, message: &Value) -> Result<(), Error> {
        self.stream
            .write_all(message.to_string().as_bytes())
            .map_err(Error::io("writing to the OVS database"))
    }

    fn receive(&mut self) -> Result<Value, Error> {
        loop {
            if let Some(end) = end_of_object(&self.buffer) {
                let text: Vec<u8> = self.buffer.drain(..end).collect();
                return serde_json::from_slice(&text)
                    .map_err(|e| Error::Ovs(format!("the database sent no JSON: {e}")));
            }
            if self.buffer.len() > LONGEST {
                return Err(Error::Ovs(format!("the database sends a message of more than {LONGEST} bytes")));
            }
            let mut chunk = [0; 65536];
            let count = self.stream.read(&mut chunk).map_err(Error::io("reading from the OVS database"))?;
            if count == 0 {
                return Err(Error::Ovs("the database has closed the connection".into()));
            }
            self.buffer.extend_from_slice(&chunk[..count]);
        }
    }

    /// Makes the database's one row, if it is not there yet.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn init(&mut self) -> Result<(), Error> {
        let rows = self.transact(&[
            json!({ "op": "select", "table": "Open_vSwitch", "where": [], "columns": ["_uuid"] }),
        ])?;
        let empty = rows.first().and_then(|r| r["rows"].as_array()).is_none_or(Vec::is_empty);
        if empty {
            self.transact(&[json!({ "op": "insert", "table": "Open_vSwitch", "row": {} })])?;
        }
        Ok(())
    }

    /// Makes bridges with their ports in one transaction and waits until vswitchd has carried it out.
    ///
    /// # Errors
    /// When the database refuses, vswitchd takes longer than `limit`, or a port could not be attached (which the database alone
    /// does not show).
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
                "row": { "target": common.controller.replace('%', &bridge.name), "max_backoff": 1000, "inactivity_probe": 10000 } }));
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
        self.wait_for(wanted, limit)?;
        self.check_ports(bridges)
    }

    /// Waits until vswitchd has carried out configuration number `wanted`.
    fn wait_for(&mut self, wanted: i64, limit: Duration) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let ask = json!({ "op": "select", "table": "Open_vSwitch", "where": [], "columns": ["cur_cfg"] });
            let reached =
                self.transact(&[ask])?.first().and_then(|r| r["rows"][0]["cur_cfg"].as_i64()).unwrap_or(0);
            if reached >= wanted {
                return Ok(());
            }
            if start.elapsed() > limit {
                return Err(Error::Ovs(format!("vswitchd has not taken the configuration for {limit:?}")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
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
        if bad.is_empty() { Ok(()) } else { Err(Error::Ovs(bad.join("; "))) }
    }
}

/// Where the first whole JSON object of `bytes` ends. Braces in texts do not count.
fn end_of_object(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for (n, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(n + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_cut_where_they_end_whatever_stands_in_their_texts() {
        let text = br#"{"a":"}\"{","b":[1,{}]}{"c":1}"#;
        assert_eq!(end_of_object(text), Some(text.len() - 7));
        for n in 0..text.len() - 7 {
            assert_eq!(end_of_object(&text[..n]), None);
        }
        assert_eq!(end_of_object(b"}"), Some(1), "garbage ends somewhere and is refused by the JSON reader");
    }
}
