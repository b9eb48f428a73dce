//! `Port.qos`: queueing that was configured in the database, and that vswitchd sets up in the
//! kernel.
//!
//! Whoever shapes such a port by other means has to clear the column, or vswitchd would overwrite
//! the shaping. The rows of QoS and Queue are in tables of their own (RFC 7047 section 3.2:
//! `isRoot`) and stay. Their contents are recorded in the port's `external_ids` in the same
//! transaction, so that the column can be restored even if somebody removes the rows meanwhile.

use super::actual::{FoundPort, QUEUEING};
use super::plan::Plan;
use super::row::{Row, pairs, uuid};
use super::row_change::RowChange;
use super::{Error, Found};
use serde_json::{Map, Value, json};

/// Columns that the database writes itself.
const FACTS: [&str; 2] = ["_uuid", "_version"];

/// Clears a port's queueing and records it; does nothing if there is none. A port that the owner
/// created needs no record: its queueing is removed with the port.
pub(super) fn take(plan: &mut Plan<'_>, port: &FoundPort) {
    let Some(qos) = port.qos() else { return };
    let mut row = RowChange::default();
    row.set("qos", json!(["set", []]));
    if port.owner() != Some(plan.owner) {
        row.put("external_ids", &[(QUEUEING, &as_found(plan.found, plan.owner, qos))]);
    }
    plan.guard_queueing(port);
    plan.operations.extend(row.operations("Port", &port.uuid));
}

/// Restores a port's queueing to that before the owner took it over, if it did. Queueing that
/// somebody else has set since stays, and is reported.
pub(super) fn give_back(plan: &mut Plan<'_>, port: &FoundPort) -> Result<(), Error> {
    let Some(before) = port.queueing_before()? else { return Ok(()) };
    if before["owner"] != plan.owner {
        return Ok(());
    }
    let mut row = RowChange::default();
    if port.qos().is_some() {
        plan.kept.push(format!(
            "port {} has got another queueing (Port.qos) since it was taken over; that one stays, and what was there before is not put back",
            port.name
        ));
    } else {
        let value = rows(plan, &before);
        row.set("qos", value);
    }
    row.take("external_ids", &[QUEUEING]);
    plan.guard_queueing(port);
    plan.operations.extend(row.operations("Port", &port.uuid));
    Ok(())
}

fn settings(row: &Row) -> Map<String, Value> {
    let mut columns = row.0.clone();
    columns.retain(|name, _| !FACTS.contains(&name.as_str()));
    columns
}

fn as_found(found: &Found, owner: &str, qos: &str) -> String {
    let row = found.qos.get(qos);
    let queues: Vec<Value> = row
        .and_then(|r| r.get("queues"))
        .into_iter()
        .flat_map(pairs)
        .filter_map(|(number, queue)| {
            let id = uuid(queue)?;
            Some(json!([number, id, found.queues.get(id).map(settings)]))
        })
        .collect();
    let mut columns = row.map(settings).unwrap_or_default();
    columns.remove("queues");
    json!({ "owner": owner, "qos": qos, "row": columns, "queues": queues }).to_string()
}

/// A reference to the QoS row: the former one if it still exists, otherwise a new one with the same
/// contents.
fn rows(plan: &mut Plan<'_>, before: &Value) -> Value {
    if let Some(id) = before["qos"].as_str().filter(|id| plan.found.qos.contains_key(*id)) {
        return json!(["uuid", id]);
    }
    let list = before["queues"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut queues = Vec::new();
    for queue in list {
        let reference = match queue[1].as_str().filter(|id| plan.found.queues.contains_key(*id)) {
            Some(id) => json!(["uuid", id]),
            None => plan.insert("Queue", json!(queue[2].as_object().cloned().unwrap_or_default())),
        };
        queues.push(json!([queue[0], reference]));
    }
    let mut row = before["row"].as_object().cloned().unwrap_or_default();
    row.insert("queues".into(), json!(["map", queues]));
    plan.insert("QoS", Value::Object(row))
}
