//! Actual bridges: joined from the database's rows, with the marks of the owners that created or
//! adopted them.
//!
//! A mark is the entry `tandem` = owner in `external_ids` of a Bridge, Port or Interface. An
//! adopted one also has `tandem-found`, with the settings that a release restores.

use super::interfaces::{ofport, rows};
use super::row::elements;
use super::{Error, Ovsdb, Row, State};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The key of the owner's mark.
pub(super) const MARK: &str = "tandem";

/// The key of the settings before the adoption.
pub(super) const BEFORE: &str = "tandem-found";

/// The key of the settings that the owner has made on something that it adopted. A setting that
/// differs from them by now was changed by somebody else, and is not restored.
pub(super) const SET: &str = "tandem-set";

/// The key of a Port's queueing before the adoption.
pub(super) const QUEUEING: &str = "tandem-qos";

/// The columns of a Bridge that are compared. All are configuration: vswitchd writes none of them.
pub(super) const BRIDGE_COLUMNS: [&str; 7] =
    ["ports", "controller", "fail_mode", "protocols", "datapath_type", "other_config", "external_ids"];

/// Columns of a Controller that the database writes itself, and that cannot be set.
const CONTROLLER_FACTS: [&str; 5] = ["_uuid", "_version", "is_connected", "role", "status"];

/// An actual bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualBridge {
    /// Name.
    pub name: String,
    /// Datapath id: the one that was set, otherwise the one vswitchd chose; 0 while there is none.
    pub datapath_id: u64,
    /// `system` (kernel) or `netdev` (userspace).
    pub datapath_type: String,
    /// Protocols; empty for vswitchd's choice.
    pub protocols: Vec<String>,
    /// Targets of the controllers, sorted.
    pub controllers: Vec<String>,
    /// Whether `fail_mode` is secure.
    pub secure: bool,
    /// Ports by name, without the bridge's own.
    pub ports: Vec<ActualPort>,
    /// The owner in its mark.
    pub owner: Option<String>,
    /// Whether its owner adopted it, and has to restore it on release.
    pub adopted: bool,
}

/// An actual port. For a bond, its values are those of the first interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualPort {
    /// Name.
    pub name: String,
    /// OpenFlow port number as given by vswitchd (`ofport`); absent while it is not attached.
    pub number: Option<u32>,
    /// Its interfaces; more than one make a bond.
    pub interfaces: Vec<String>,
    /// The type of its queueing in the database (`linux-htb`); absent for none.
    pub qos: Option<String>,
    /// An owner has cleared its queueing, and has to restore it on release.
    pub took_queueing: bool,
    /// OpenFlow port number that was requested (`ofport_request`).
    pub requested: Option<u32>,
    /// Why it could not be attached.
    pub error: Option<String>,
    /// Whether it has a carrier.
    pub link_state: Option<State>,
    /// The owner in its mark.
    pub owner: Option<String>,
}

/// The database's bridges, with the rows that they consist of.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) bridges: Vec<FoundBridge>,
    /// Rows of QoS and of Queue, by their uuids.
    pub(super) qos: BTreeMap<String, Row>,
    pub(super) queues: BTreeMap<String, Row>,
    pub(super) next_cfg: i64,
    pub(super) cur_cfg: i64,
}

#[derive(Debug, Clone)]
pub(super) struct FoundBridge {
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) row: Row,
    pub(super) ports: Vec<FoundPort>,
    pub(super) controllers: Vec<FoundController>,
}

#[derive(Debug, Clone)]
pub(super) struct FoundPort {
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) row: Row,
    pub(super) interfaces: Vec<FoundInterface>,
}

#[derive(Debug, Clone)]
pub(super) struct FoundInterface {
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) row: Row,
}

#[derive(Debug, Clone)]
pub(super) struct FoundController {
    pub(super) uuid: String,
    /// The columns that can be set.
    pub(super) columns: Map<String, Value>,
}

fn owner(row: &Row) -> Option<&str> {
    row.entry("external_ids", MARK)
}

/// The record under a key of a row's `external_ids`.
fn record(row: &Row, table: &'static str, what: &str, key: &'static str) -> Result<Option<Value>, Error> {
    let Some(text) = row.entry("external_ids", key) else { return Ok(None) };
    let damaged = |why: String| Error::DamagedRecord { table, what: what.to_owned(), key, why };
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_object() => Ok(Some(value)),
        Ok(_) => Err(damaged("it is no JSON object".into())),
        Err(error) => Err(damaged(error.to_string())),
    }
}

impl FoundBridge {
    pub(super) fn owner(&self) -> Option<&str> {
        owner(&self.row)
    }

    /// The settings before the adoption; absent on a bridge that its owner created.
    pub(super) fn before(&self) -> Result<Option<Value>, Error> {
        record(&self.row, "Bridge", &self.name, BEFORE)
    }

    /// The settings that its owner has made; absent if an earlier release of the owner made them.
    pub(super) fn set(&self) -> Result<Option<Value>, Error> {
        record(&self.row, "Bridge", &self.name, SET)
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.row.entry("external_ids", BEFORE).is_some()
    }

    /// An empty value in the database means the kernel's datapath.
    pub(super) fn datapath_type(&self) -> &str {
        self.row.text("datapath_type").filter(|t| !t.is_empty()).unwrap_or("system")
    }

    /// The datapath id that was set, as the database holds it.
    pub(super) fn set_datapath_id(&self) -> Option<&str> {
        self.row.entry("other_config", "datapath-id")
    }

    pub(super) fn actual(&self, qos: &BTreeMap<String, Row>) -> ActualBridge {
        let own = |p: &&FoundPort| p.name != self.name;
        let text = |s: &str| s.to_owned();
        let mut ports: Vec<ActualPort> = self.ports.iter().filter(own).map(|p| p.actual(qos)).collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        let id = self.set_datapath_id().and_then(number).or_else(|| number(self.row.text("datapath_id")?));
        let mut controllers: Vec<String> = self.controllers.iter().map(|c| text(c.target())).collect();
        controllers.sort();
        ActualBridge {
            name: self.name.clone(),
            datapath_id: id.unwrap_or(0),
            datapath_type: text(self.datapath_type()),
            protocols: self.row.texts("protocols").into_iter().map(text).collect(),
            controllers,
            secure: self.row.text("fail_mode") == Some("secure"),
            ports,
            owner: self.owner().map(text),
            adopted: self.is_adopted(),
        }
    }
}

/// A datapath id as vswitchd reads it: up to 16 hexadecimal digits, also after `0x`, and not 0.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() > 16 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|id| *id != 0)
}

impl FoundPort {
    pub(super) fn owner(&self) -> Option<&str> {
        owner(&self.row)
    }

    /// The row of QoS that it names.
    pub(super) fn qos(&self) -> Option<&str> {
        self.row.uuids("qos").first().copied()
    }

    /// The queueing before an owner took it over, with the owner's name.
    pub(super) fn queueing_before(&self) -> Result<Option<Value>, Error> {
        record(&self.row, "Port", &self.name, QUEUEING)
    }

    fn actual(&self, qos: &BTreeMap<String, Row>) -> ActualPort {
        let first = self.interfaces.first();
        let kind = self.qos().map(|u| qos.get(u).and_then(|r| r.text("type")).unwrap_or_default());
        ActualPort {
            name: self.name.clone(),
            interfaces: self.interfaces.iter().map(|i| i.name.clone()).collect(),
            qos: kind.map(ToOwned::to_owned),
            took_queueing: self.row.entry("external_ids", QUEUEING).is_some(),
            number: first.and_then(FoundInterface::number),
            requested: first.and_then(FoundInterface::requested),
            error: first.and_then(|i| i.row.text("error")).map(ToOwned::to_owned),
            link_state: first.and_then(|i| State::of(&i.row, "link_state")),
            owner: self.owner().map(ToOwned::to_owned),
        }
    }
}

impl FoundInterface {
    pub(super) fn owner(&self) -> Option<&str> {
        owner(&self.row)
    }

    pub(super) fn number(&self) -> Option<u32> {
        ofport(&self.row)
    }

    pub(super) fn requested(&self) -> Option<u32> {
        self.row.integer("ofport_request").and_then(|n| u32::try_from(n).ok())
    }

    /// The requested number before the owner requested another; absent on an interface that the
    /// owner created.
    pub(super) fn before(&self) -> Result<Option<Option<u32>>, Error> {
        let Some(text) = self.row.entry("external_ids", BEFORE) else { return Ok(None) };
        let damaged = || Error::DamagedRecord {
            table: "Interface",
            what: self.name.clone(),
            key: BEFORE,
            why: format!("{text:?} is neither a number nor \"none\""),
        };
        if text == "none" {
            Ok(Some(None))
        } else {
            text.parse().map(|n| Some(Some(n))).map_err(|_| damaged())
        }
    }

    /// The number that the owner has requested on an adopted interface.
    pub(super) fn set(&self) -> Option<u32> {
        self.row.entry("external_ids", SET)?.parse().ok()
    }
}

impl FoundController {
    pub(super) fn target(&self) -> &str {
        self.columns.get("target").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The selects of one transaction; their results go to [`put_together`].
pub(super) fn questions() -> [Value; 7] {
    let select = |table: &str, columns: &[&str]| json!({ "op": "select", "table": table, "where": [], "columns": columns });
    let mut bridge = vec!["_uuid", "name", "datapath_id"];
    bridge.extend(BRIDGE_COLUMNS);
    [
        select("Open_vSwitch", &["next_cfg", "cur_cfg"]),
        select("Bridge", &bridge),
        select("Port", &["_uuid", "name", "interfaces", "qos", "external_ids"]),
        select(
            "Interface",
            &["_uuid", "name", "ofport", "ofport_request", "error", "link_state", "external_ids"],
        ),
        // All columns of controllers are read, to be restored later.
        json!({ "op": "select", "table": "Controller", "where": [] }),
        // The same for queueing.
        json!({ "op": "select", "table": "QoS", "where": [] }),
        json!({ "op": "select", "table": "Queue", "where": [] }),
    ]
}

/// Bridges by name, each with its ports in the order of their names.
pub(super) fn put_together(results: &[Value]) -> Found {
    let by_uuid = |n: usize| -> BTreeMap<String, Row> {
        rows(results, n)
            .into_iter()
            .filter_map(|row| Some((row.uuids("_uuid").first()?.to_string(), row)))
            .collect()
    };
    let (ports, interfaces, controllers) = (by_uuid(2), by_uuid(3), by_uuid(4));
    let name = |row: &Row| row.text("name").unwrap_or_default().to_owned();
    let interfaces_of = |port: &Row| {
        let found = port.uuids("interfaces").into_iter().filter_map(|u| Some((u, interfaces.get(u)?)));
        found
            .map(|(u, row)| FoundInterface { uuid: u.to_owned(), name: name(row), row: row.clone() })
            .collect()
    };
    let mut bridges: Vec<FoundBridge> = by_uuid(1)
        .into_iter()
        .map(|(uuid, row)| {
            let found = row.uuids("ports").into_iter().filter_map(|u| Some((u, ports.get(u)?)));
            let mut of_bridge: Vec<FoundPort> = found
                .map(|(u, port)| FoundPort {
                    uuid: u.to_owned(),
                    name: name(port),
                    interfaces: interfaces_of(port),
                    row: port.clone(),
                })
                .collect();
            of_bridge.sort_by(|a, b| a.name.cmp(&b.name));
            let found = row.uuids("controller").into_iter().filter_map(|u| Some((u, controllers.get(u)?)));
            let controllers = found.map(|(u, row)| controller(u, row)).collect();
            FoundBridge { name: name(&row), uuid, row, ports: of_bridge, controllers }
        })
        .collect();
    bridges.sort_by(|a, b| a.name.cmp(&b.name));
    let site = rows(results, 0).pop().unwrap_or_default();
    Found {
        bridges,
        qos: by_uuid(5),
        queues: by_uuid(6),
        next_cfg: site.integer("next_cfg").unwrap_or(0),
        cur_cfg: site.integer("cur_cfg").unwrap_or(0),
    }
}

fn controller(uuid: &str, row: &Row) -> FoundController {
    let mut columns = row.0.clone();
    columns.retain(|name, _| !CONTROLLER_FACTS.contains(&name.as_str()));
    FoundController { uuid: uuid.to_owned(), columns }
}

/// Whether two values of a column are equal, whatever the order of a set.
pub(super) fn same(one: Option<&Value>, other: &Value) -> bool {
    let Some(one) = one else { return false };
    let (one, other) = (elements(one), elements(other));
    one.len() == other.len() && one.iter().all(|e| other.contains(e))
}

impl Ovsdb {
    /// All bridges of the database, by name, read in one transaction.
    ///
    /// # Errors
    /// As [`Ovsdb::transact`].
    pub fn read_bridges(&mut self) -> Result<Vec<ActualBridge>, Error> {
        let found = self.find_bridges()?;
        Ok(found.bridges.iter().map(|b| b.actual(&found.qos)).collect())
    }

    pub(super) fn find_bridges(&mut self) -> Result<Found, Error> {
        self.transact(&questions()).map(|results| put_together(&results))
    }
}
