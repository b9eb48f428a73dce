//! The difference between actual and wanted bridges, as operations of one transaction. Pure: rows
//! in, operations out.
//!
//! 1. The wanted bridges are checked, against each other and against the actual ones, so that a
//!    refusal comes before any change.
//! 2. Bridges and ports with the owner's mark that are no longer wanted are removed; adopted ones
//!    are restored.
//! 3. Wanted bridges are created, or changed where they differ.
//! 4. Each bridge that is changed is guarded: if it differs from what was read, the transaction
//!    fails as a whole (RFC 7047 section 5.2.6).
//!
//! Nothing without a mark of the owner is ever removed. So a bridge that the owner created, that is
//! no longer wanted, and that has a foreign port stays for that port: without the owner's ports,
//! controllers and marks.

use super::Error;
use super::actual::{
    BEFORE, BRIDGE_COLUMNS, Found, FoundBridge, FoundController, FoundPort, MARK, SET, number, same,
};
use super::desired::{self, Adopt, INACTIVITY_PROBE, MAX_BACKOFF, WantedBridge, WantedPort};
use super::queueing;
use super::refusals::refusals;
use super::row::{map, texts};
use super::row_change::RowChange;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The changes, and the settings that are left.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// Operations of one transaction; empty if there is no difference.
    pub(super) operations: Vec<Value>,
    /// Settings that somebody else has changed since the owner made them, and that are therefore
    /// not restored, as text.
    pub(super) kept: Vec<String>,
}

/// The operations that turn `found` into `wanted`. Bridges named in `spared` are not changed.
pub(super) fn difference(
    found: &Found,
    owner: &str,
    wanted: &[WantedBridge],
    spared: &[String],
    adopt: Adopt,
) -> Result<Difference, Error> {
    // 1.
    desired::check(owner, wanted)?;
    if let Some((_, refusal)) = refusals(found, owner, wanted, adopt).into_iter().next() {
        return Err(refusal);
    }
    let by_name: BTreeMap<&str, &FoundBridge> = found.bridges.iter().map(|b| (b.name.as_str(), b)).collect();
    let mut plan = Plan::new(owner, found);
    // 2.
    let is_wanted = |b: &&FoundBridge| wanted.iter().any(|w| w.name == b.name) || spared.contains(&b.name);
    for bridge in found.bridges.iter().filter(|b| !is_wanted(b)) {
        plan.give_up(bridge)?;
    }
    // 3.
    for bridge in wanted {
        match by_name.get(bridge.name.as_str()) {
            Some(there) => plan.change(there, bridge)?,
            None => plan.make(bridge),
        }
    }
    Ok(plan.finish())
}

/// The operations collected so far.
pub(super) struct Plan<'a> {
    pub(super) owner: &'a str,
    pub(super) found: &'a Found,
    pub(super) guards: Vec<Value>,
    pub(super) operations: Vec<Value>,
    /// See [`Difference::kept`].
    pub(super) kept: Vec<String>,
    pub(super) made: Vec<Value>,
    pub(super) removed: Vec<Value>,
    /// Counts names of new rows.
    last_name: usize,
}

impl<'a> Plan<'a> {
    fn new(owner: &'a str, found: &'a Found) -> Plan<'a> {
        Plan {
            owner,
            found,
            guards: Vec::new(),
            operations: Vec::new(),
            kept: Vec::new(),
            made: Vec::new(),
            removed: Vec::new(),
            last_name: 0,
        }
    }

    fn finish(self) -> Difference {
        let kept = self.kept;
        let mut operations = self.guards;
        operations.extend(self.operations);
        let mut mutations = Vec::new();
        if !self.removed.is_empty() {
            mutations.push(json!(["bridges", "delete", ["set", self.removed]]));
        }
        if !self.made.is_empty() {
            mutations.push(json!(["bridges", "insert", ["set", self.made]]));
        }
        if operations.is_empty() && mutations.is_empty() {
            return Difference { operations, kept };
        }
        mutations.push(json!(["next_cfg", "+=", 1]));
        operations
            .push(json!({ "op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": mutations }));
        operations
            .push(json!({ "op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"] }));
        Difference { operations, kept }
    }

    fn name(&mut self) -> String {
        self.last_name += 1;
        format!("r{}", self.last_name)
    }

    pub(super) fn insert(&mut self, table: &str, row: Value) -> Value {
        let name = self.name();
        self.operations.push(json!({ "op": "insert", "table": table, "uuid-name": name, "row": row }));
        json!(["named-uuid", name])
    }

    fn mark(&self) -> Value {
        map([(MARK, self.owner)])
    }

    fn insert_port(&mut self, name: &str, mut interface: Value) -> Value {
        interface["name"] = json!(name);
        interface["external_ids"] = self.mark();
        let interface = self.insert("Interface", interface);
        let row = json!({ "name": name, "interfaces": interface, "external_ids": self.mark() });
        self.insert("Port", row)
    }

    fn insert_wanted(&mut self, port: &WantedPort) -> Value {
        self.insert_port(&port.name, json!({ "ofport_request": port.number }))
    }

    fn make(&mut self, wanted: &WantedBridge) {
        let mut ports = vec![self.insert_port(&wanted.name, json!({ "type": "internal" }))];
        ports.extend(wanted.ports.iter().map(|port| self.insert_wanted(port)));
        let controllers: Vec<Value> = controllers(wanted)
            .into_iter()
            .map(|row| self.insert("Controller", Value::Object(row)))
            .collect();
        let row = json!({
            "name": wanted.name,
            "fail_mode": fail_mode(wanted),
            "datapath_type": wanted.datapath_type,
            "protocols": texts(&wanted.protocols),
            "controller": ["set", controllers],
            "other_config": map([("datapath-id", datapath_id(wanted))]),
            "external_ids": self.mark(),
            "ports": ["set", ports],
        });
        let bridge = self.insert("Bridge", row);
        self.made.push(bridge);
    }

    /// Adds the changes of a bridge to the plan, with a guard.
    pub(super) fn touch(&mut self, bridge: &FoundBridge, row: RowChange, others: Vec<Value>) {
        let mut operations = others;
        operations.extend(row.operations("Bridge", &bridge.uuid));
        if !operations.is_empty() {
            self.guard(bridge);
            self.operations.extend(operations);
        }
    }

    pub(super) fn guard(&mut self, bridge: &FoundBridge) {
        let read: Map<String, Value> = BRIDGE_COLUMNS
            .iter()
            .filter_map(|c| Some(((*c).to_owned(), bridge.row.get(c)?.clone())))
            .collect();
        self.guards.push(json!({
            "op": "wait", "timeout": 0, "table": "Bridge", "where": [["_uuid", "==", ["uuid", bridge.uuid]]],
            "columns": read.keys().collect::<Vec<_>>(), "until": "==", "rows": [read],
        }));
    }

    /// Makes the transaction fail if the port's queueing differs from what was read.
    pub(super) fn guard_queueing(&mut self, port: &FoundPort) {
        let Some(qos) = port.row.get("qos") else { return };
        self.guards.push(json!({
            "op": "wait", "timeout": 0, "table": "Port", "where": [["_uuid", "==", ["uuid", port.uuid]]],
            "columns": ["qos"], "until": "==", "rows": [{ "qos": qos }],
        }));
    }

    fn change(&mut self, there: &FoundBridge, wanted: &WantedBridge) -> Result<(), Error> {
        let mut row = RowChange::default();
        let as_set = as_set(wanted);
        if there.owner().is_none() {
            let before = as_found(there);
            row.put("external_ids", &[(MARK, self.owner), (BEFORE, &before), (SET, &as_set)]);
        } else if there.before()?.is_some() && there.row.entry("external_ids", SET) != Some(&as_set) {
            row.put("external_ids", &[(SET, &as_set)]);
        }
        if there.datapath_type() != wanted.datapath_type {
            row.set("datapath_type", json!(wanted.datapath_type));
        }
        if there.row.text("fail_mode") != Some(fail_mode(wanted)) {
            row.set("fail_mode", json!(fail_mode(wanted)));
        }
        if !same(there.row.get("protocols"), &texts(&wanted.protocols)) {
            row.set("protocols", texts(&wanted.protocols));
        }
        if there.set_datapath_id().and_then(number) != Some(wanted.datapath_id) {
            row.put("other_config", &[("datapath-id", &datapath_id(wanted))]);
        }
        // Inserts of rows for this bridge come before the operations that refer to them.
        let start = self.operations.len();
        self.change_controllers(&there.controllers, controllers(wanted), &mut row);
        let mut new: Vec<Value> = Vec::new();
        let has_local = there.ports.iter().any(|p| p.name == there.name);
        if !has_local && !there.is_adopted() && there.owner().is_some() {
            new.push(self.insert_port(&there.name, json!({ "type": "internal" })));
        }
        for port in &wanted.ports {
            match there.ports.iter().find(|p| p.name == port.name) {
                Some(found) => {
                    self.renumber(found, port);
                    if port.takes_queueing {
                        queueing::take(self, found);
                    } else {
                        queueing::give_back(self, found)?;
                    }
                }
                None => new.push(self.insert_wanted(port)),
            }
        }
        if !new.is_empty() {
            row.mutations.push(json!(["ports", "insert", ["set", new]]));
        }
        let is_wanted =
            |p: &&FoundPort| p.name == there.name || wanted.ports.iter().any(|w| w.name == p.name);
        let gone: Vec<&FoundPort> = there.ports.iter().filter(|p| !is_wanted(p)).collect();
        self.give_up_ports(gone, &mut row)?;
        let others = self.operations.split_off(start);
        self.touch(there, row, others);
        Ok(())
    }

    /// Gives an existing port its number. On a foreign port, the number that it had requested is
    /// recorded.
    fn renumber(&mut self, found: &FoundPort, wanted: &WantedPort) {
        let Some(interface) = found.interfaces.iter().find(|i| i.name == wanted.name) else { return };
        if interface.requested() == Some(wanted.number) {
            return;
        }
        let mut row = RowChange::default();
        row.set("ofport_request", json!(wanted.number));
        if found.owner() != Some(self.owner) && interface.owner().is_none() {
            let before = interface.requested().map_or_else(|| "none".to_owned(), |n| n.to_string());
            let set = wanted.number.to_string();
            row.put("external_ids", &[(MARK, self.owner), (BEFORE, &before), (SET, &set)]);
        } else if interface.set().is_some() {
            row.put("external_ids", &[(SET, &wanted.number.to_string())]);
        }
        self.operations.extend(row.operations("Interface", &interface.uuid));
    }

    /// Changes a bridge's controllers to `wanted` in place: vswitchd deletes the flows of a bridge
    /// that had no controller and gets one, or the other way round, and of no other bridge.
    pub(super) fn change_controllers(
        &mut self,
        there: &[FoundController],
        mut wanted: Vec<Map<String, Value>>,
        bridge: &mut RowChange,
    ) {
        let mut pairs: Vec<(&FoundController, Map<String, Value>)> = Vec::new();
        let mut left: Vec<&FoundController> = Vec::new();
        for controller in there {
            match wanted.iter().position(|w| w["target"] == *controller.target()) {
                Some(n) => pairs.push((controller, wanted.remove(n))),
                None => left.push(controller),
            }
        }
        let both = left.len().min(wanted.len());
        pairs.extend(left.drain(..both).zip(wanted.drain(..both)));
        for (controller, columns) in &pairs {
            let mut row = RowChange::default();
            for (column, value) in columns {
                if !same(controller.columns.get(column), value) {
                    row.set(column, value.clone());
                }
            }
            self.operations.extend(row.operations("Controller", &controller.uuid));
        }
        if left.is_empty() && wanted.is_empty() {
            return;
        }
        let mut all: Vec<Value> = pairs.iter().map(|(c, _)| json!(["uuid", c.uuid])).collect();
        all.extend(wanted.into_iter().map(|row| self.insert("Controller", Value::Object(row))));
        bridge.set("controller", json!(["set", all]));
    }
}

fn fail_mode(wanted: &WantedBridge) -> &'static str {
    if wanted.secure { "secure" } else { "standalone" }
}

fn datapath_id(wanted: &WantedBridge) -> String {
    format!("{:016x}", wanted.datapath_id)
}

fn controllers(wanted: &WantedBridge) -> Vec<Map<String, Value>> {
    let row = |target: String| {
        Map::from_iter([
            ("target".to_owned(), json!(target)),
            ("max_backoff".to_owned(), json!(MAX_BACKOFF)),
            ("inactivity_probe".to_owned(), json!(INACTIVITY_PROBE)),
        ])
    };
    wanted.targets().into_iter().map(row).collect()
}

/// The settings of a bridge that a release restores, as the text of its record.
fn as_found(there: &FoundBridge) -> String {
    let controllers: Vec<&Map<String, Value>> = there.controllers.iter().map(|c| &c.columns).collect();
    json!({
        "datapath-id": there.set_datapath_id(),
        "datapath_type": there.row.get("datapath_type"),
        "fail_mode": there.row.get("fail_mode"),
        "protocols": there.row.get("protocols"),
        "controllers": controllers,
    })
    .to_string()
}

/// The owner's settings on a bridge that it adopts, as the text of its record, by column.
fn as_set(wanted: &WantedBridge) -> String {
    let mut targets = wanted.targets();
    targets.sort_unstable();
    json!({
        "datapath-id": datapath_id(wanted),
        "datapath_type": wanted.datapath_type,
        "fail_mode": fail_mode(wanted),
        "protocols": texts(&wanted.protocols),
        "controllers": targets,
    })
    .to_string()
}
