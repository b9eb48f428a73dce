//! Reports changes of the database: `monitor_cond` (ovsdb-server(7) section 4.1.12), or `monitor`
//! (RFC 7047 section 4.1.5) if the server is older than Open vSwitch 2.6; conditions are then
//! evaluated here.
//!
//! The server sends differences: a changed set comes as the elements that were added or removed, a
//! default value does not come at all. The monitor keeps the rows and applies the differences, so
//! that its user gets whole rows.

use super::row::{elements, is_map, pairs};
use super::{Error, Ovsdb, Row};
use serde_json::{Map, Value, json};
use std::borrow::BorrowMut;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How a column is compared with a value (RFC 7047 section 5.1, `<function>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Equals the value.
    Equal,
    /// Differs from the value.
    NotEqual,
    /// Has all elements of the value.
    Includes,
    /// Has no element of the value.
    Excludes,
}

impl Comparison {
    fn word(self) -> &'static str {
        match self {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Includes => "includes",
            Comparison::Excludes => "excludes",
        }
    }

    fn holds(self, found: &Value, asked: &Value) -> bool {
        let list = |v: &Value| -> Vec<Value> {
            if is_map(v) { pairs(v).map(|(k, v)| json!([k, v])).collect() } else { elements(v).to_vec() }
        };
        let (found, asked) = (list(found), list(asked));
        let all = asked.iter().all(|a| found.contains(a));
        match self {
            Comparison::Equal => all && found.len() == asked.len(),
            Comparison::NotEqual => !(all && found.len() == asked.len()),
            Comparison::Includes => all,
            Comparison::Excludes => !asked.iter().any(|a| found.contains(a)),
        }
    }
}

/// The rows and columns of a table to watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    table: String,
    columns: Vec<String>,
    conditions: Vec<(String, Comparison, Value)>,
}

impl Watch {
    /// All rows of a table.
    pub fn new<C: Into<String>>(table: impl Into<String>, columns: impl IntoIterator<Item = C>) -> Watch {
        Watch {
            table: table.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            conditions: Vec::new(),
        }
    }

    /// Only rows for which this condition holds; with several conditions, one has to hold. A column
    /// that is compared is also watched.
    #[must_use]
    pub fn when(
        mut self,
        column: impl Into<String>,
        comparison: Comparison,
        value: impl Into<Value>,
    ) -> Watch {
        let column = column.into();
        if !self.columns.contains(&column) {
            self.columns.push(column.clone());
        }
        self.conditions.push((column, comparison, value.into()));
        self
    }

    fn request(&self, conditional: bool) -> Value {
        let mut request = json!({ "columns": self.columns });
        if conditional && !self.conditions.is_empty() {
            request["where"] = self.conditions.iter().map(|(c, f, v)| json!([c, f.word(), v])).collect();
        }
        request
    }

    fn holds(&self, row: &Row) -> bool {
        self.conditions.is_empty()
            || self.conditions.iter().any(|(c, f, v)| row.get(c).is_some_and(|found| f.holds(found, v)))
    }
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Its table.
    pub table: String,
    /// Its uuid.
    pub row: String,
    /// What happened.
    pub change: Change,
}

/// What happened to a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It existed when the monitor began.
    Found(Row),
    /// It was inserted, or its condition began to hold.
    Inserted(Row),
    /// It was modified.
    Changed {
        /// The row now.
        now: Row,
        /// The columns that changed.
        columns: Vec<String>,
    },
    /// It was deleted, or its condition no longer holds.
    Deleted(Row),
}

impl Change {
    /// The row now, or as it last was.
    pub fn row(&self) -> &Row {
        match self {
            Change::Found(row) | Change::Inserted(row) | Change::Deleted(row) => row,
            Change::Changed { now, .. } => now,
        }
    }
}

/// The properties of a column in the schema that differences depend on.
#[derive(Debug)]
struct Column {
    /// Whether it may have several elements; its changes then come as differences.
    several: bool,
    /// Its value when the server leaves it out.
    default: Value,
}

impl Column {
    /// RFC 7047 section 3.2, `<type>`.
    fn of(schema: &Value, table: &str, column: &str) -> Column {
        let kind = &schema["tables"][table]["columns"][column]["type"];
        let several = kind["max"] == "unlimited" || kind["max"].as_i64().is_some_and(|n| n > 1);
        let key = kind.get("key").unwrap_or(kind);
        let word = key.get("type").unwrap_or(key).as_str().unwrap_or_default();
        let default = match word {
            _ if kind.get("value").is_some() => json!(["map", []]),
            _ if several || kind["min"] == 0 => json!(["set", []]),
            "integer" | "real" => json!(0),
            "boolean" => json!(false),
            "string" => json!(""),
            _ => json!(["uuid", "00000000-0000-0000-0000-000000000000"]),
        };
        Column { several, default }
    }
}

/// A running monitor. It borrows its connection ([`Ovsdb::monitor`]) and ends when it is dropped,
/// or owns it ([`Ovsdb::into_monitor`]). Changes that are not fetched wait in the server.
#[derive(Debug)]
pub struct Monitor<D: BorrowMut<Ovsdb> = Ovsdb> {
    db: D,
    id: String,
    watches: Vec<Watch>,
    columns: BTreeMap<(String, String), Column>,
    rows: BTreeMap<(String, String), Row>,
    /// Changes in received messages that were not returned yet.
    ready: VecDeque<Update>,
}

impl Ovsdb {
    /// Watches tables; existing rows come first, as [`Change::Found`].
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such table or column; those of the connection.
    pub fn monitor(&mut self, watches: &[Watch]) -> Result<Monitor<&mut Ovsdb>, Error> {
        Monitor::begin(self, watches)
    }

    /// Like [`Ovsdb::monitor`], for a monitor that owns its connection.
    ///
    /// # Errors
    /// As [`Ovsdb::monitor`].
    pub fn into_monitor(self, watches: &[Watch]) -> Result<Monitor<Ovsdb>, Error> {
        Monitor::begin(self, watches)
    }

    /// Waits until vswitchd has executed configuration number `wanted` (`cur_cfg`).
    pub(super) fn wait_for_vswitchd(&mut self, wanted: i64, limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        let mut reached = 0;
        let mut monitor = self.monitor(&[Watch::new("Open_vSwitch", ["cur_cfg"])])?;
        loop {
            match monitor.next(deadline.saturating_duration_since(Instant::now()))? {
                Some(update) => reached = update.change.row().integer("cur_cfg").unwrap_or(0),
                None => return Err(Error::VswitchdSilent { wanted, reached, limit }),
            }
            if reached >= wanted {
                return Ok(());
            }
        }
    }
}

impl<D: BorrowMut<Ovsdb>> Monitor<D> {
    fn begin(mut db: D, watches: &[Watch]) -> Result<Monitor<D>, Error> {
        let connection = db.borrow_mut();
        let columns = columns(connection, watches)?;
        let id = connection.next_monitor_id();
        let request = |conditional| {
            let mut tables: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
            for watch in watches {
                tables.entry(&watch.table).or_default().push(watch.request(conditional));
            }
            json!(["Open_vSwitch", id, tables])
        };
        let initial = match connection.ask("monitor_cond", &request(true))? {
            Ok(initial) => initial,
            Err(error) if error == "unknown method" || error["error"] == "unknown method" => {
                connection.call("monitor", &request(false))?
            }
            Err(error) => {
                let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
                return Err(Error::Refused {
                    operation: "monitor_cond".into(),
                    error: text("error"),
                    details: text("details"),
                });
            }
        };
        let mut monitor = Monitor {
            db,
            id,
            watches: watches.to_vec(),
            columns,
            rows: BTreeMap::new(),
            ready: VecDeque::new(),
        };
        monitor.take_in(&initial, true);
        Ok(monitor)
    }

    /// The next change; `None` when nothing has changed for `within`.
    ///
    /// # Errors Those of the connection. After one, the monitor is over: connect again and begin a
    /// new one, whose [`Change::Found`] rows then show what was missed.
    pub fn next(&mut self, within: Duration) -> Result<Option<Update>, Error> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Ok(Some(update));
            }
            let Some(message) = self.db.borrow_mut().receive(deadline)? else { return Ok(None) };
            let ours = message["params"][0] == *self.id;
            if ours && matches!(message["method"].as_str(), Some("update" | "update2")) {
                self.take_in(&message["params"][1], false);
            }
        }
    }

    /// The rows after the changes that were received, by (table, uuid).
    pub fn rows(&self) -> &BTreeMap<(String, String), Row> {
        &self.rows
    }

    fn take_in(&mut self, updates: &Value, initial: bool) {
        for (table, rows) in updates.as_object().into_iter().flatten() {
            for (uuid, update) in rows.as_object().into_iter().flatten() {
                let key = (table.clone(), uuid.clone());
                let before = self.rows.remove(&key);
                let now = self.row_after(table, before.as_ref(), update);
                if let Some(now) = &now {
                    self.rows.insert(key, now.clone());
                }
                let change = match (before, now) {
                    (None, Some(row)) if initial => Change::Found(row),
                    (None, Some(row)) => Change::Inserted(row),
                    (Some(row), None) => Change::Deleted(row),
                    (Some(before), Some(now)) => {
                        let differs = |c: &&String| before.get(c) != now.get(c);
                        let columns: Vec<String> = now.0.keys().filter(differs).cloned().collect();
                        if columns.is_empty() {
                            continue;
                        }
                        Change::Changed { now, columns }
                    }
                    (None, None) => continue,
                };
                self.ready.push_back(Update { table: table.clone(), row: uuid.clone(), change });
            }
        }
    }

    fn row_after(&self, table: &str, before: Option<&Row>, update: &Value) -> Option<Row> {
        if let Some(Value::Object(difference)) = update.get("modify") {
            let mut now = before?.clone();
            for (column, change) in difference {
                let several =
                    self.columns.get(&(table.to_owned(), column.clone())).is_some_and(|c| c.several);
                let value = match now.get(column) {
                    Some(old) if several => patched(old, change),
                    _ => change.clone(),
                };
                now.0.insert(column.clone(), value);
            }
            return Some(now);
        }
        let whole = ["initial", "insert", "new"].iter().find_map(|word| update.get(word))?.as_object()?;
        let defaults = self.columns.iter().filter(|((t, _), _)| t == table);
        let mut row: Map<String, Value> =
            defaults.map(|((_, name), column)| (name.clone(), column.default.clone())).collect();
        row.extend(whole.clone());
        let row = Row(row);
        // The server has evaluated the conditions, unless it was too old; doing it again has no
        // effect.
        self.watches.iter().any(|w| w.table == table && w.holds(&row)).then_some(row)
    }
}

impl<D: BorrowMut<Ovsdb>> Drop for Monitor<D> {
    fn drop(&mut self) {
        // The next user of the connection skips the reply. If the connection is lost, the monitor
        // has ended anyway.
        let _ = self.db.borrow_mut().send_request("monitor_cancel", &json!([self.id]));
    }
}

fn columns(db: &mut Ovsdb, watches: &[Watch]) -> Result<BTreeMap<(String, String), Column>, Error> {
    let schema = db.schema()?;
    let all = watches.iter().flat_map(|w| w.columns.iter().map(|c| (w.table.clone(), c.clone())));
    Ok(all.map(|key| (Column::of(schema, &key.0, &key.1), key)).map(|(column, key)| (key, column)).collect())
}

/// A set or map after a difference (ovsdb-server(7) section 4.1.14): an element on both sides is
/// removed, a new one is added, a map's value is replaced.
fn patched(old: &Value, difference: &Value) -> Value {
    if is_map(old) || is_map(difference) {
        let mut now: Vec<Value> = pairs(old).map(|(k, v)| json!([k, v])).collect();
        for (key, value) in pairs(difference) {
            let there = now.iter().position(|pair| pair[0] == *key);
            match there {
                Some(n) if now[n][1] == *value => drop(now.remove(n)),
                Some(n) => now[n] = json!([key, value]),
                None => now.push(json!([key, value])),
            }
        }
        return json!(["map", now]);
    }
    let mut now = elements(old).to_vec();
    for element in elements(difference) {
        match now.iter().position(|e| e == element) {
            Some(n) => drop(now.remove(n)),
            None => now.push(element.clone()),
        }
    }
    json!(["set", now])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_sets_and_maps_are_put_together() {
        let set = |list: &[&str]| json!(["set", list]);
        assert_eq!(patched(&set(&["a", "b"]), &json!("a")), set(&["b"]));
        assert_eq!(patched(&json!("a"), &set(&["b", "a"])), set(&["b"]));
        assert_eq!(patched(&set(&[]), &json!(["uuid", "u"])), json!(["set", [["uuid", "u"]]]));
        assert_eq!(
            patched(
                &json!(["map", [["goes", "1"], ["turns", "2"], ["stays", "3"]]]),
                &json!(["map", [["goes", "1"], ["turns", "9"], ["comes", "4"]]])
            ),
            json!(["map", [["turns", "9"], ["stays", "3"], ["comes", "4"]]])
        );
    }

    #[test]
    fn comparisons_mean_what_the_rfc_says() {
        let set = json!(["set", ["a", "b"]]);
        for (comparison, value, holds) in [
            (Comparison::Equal, json!(["set", ["b", "a"]]), true),
            (Comparison::Equal, json!("a"), false),
            (Comparison::NotEqual, json!("a"), true),
            (Comparison::Includes, json!("a"), true),
            (Comparison::Includes, json!(["set", ["a", "c"]]), false),
            (Comparison::Excludes, json!("c"), true),
            (Comparison::Excludes, json!(["set", ["a", "c"]]), false),
        ] {
            assert_eq!(comparison.holds(&set, &value), holds, "{comparison:?} {value}");
        }
        let map = json!(["map", [["tandem", "one"], ["x", "y"]]]);
        assert!(Comparison::Includes.holds(&map, &json!(["map", [["tandem", "one"]]])));
        assert!(!Comparison::Includes.holds(&map, &json!(["map", [["tandem", "two"]]])));
    }

    #[test]
    fn what_the_server_leaves_out_has_its_type_s_default() {
        let schema = json!({"tables": {"T": {"columns": {
            "count": {"type": "integer"}, "name": {"type": {"key": {"type": "string"}}}, "yes": {"type": "boolean"},
            "maybe": {"type": {"key": "string", "min": 0, "max": 1}},
            "many": {"type": {"key": {"type": "uuid", "refTable": "T"}, "min": 0, "max": "unlimited"}},
            "map": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
        }}}});
        for (name, several, default) in [
            ("count", false, json!(0)),
            ("name", false, json!("")),
            ("yes", false, json!(false)),
            ("maybe", false, json!(["set", []])),
            ("many", true, json!(["set", []])),
            ("map", true, json!(["map", []])),
        ] {
            let column = Column::of(&schema, "T", name);
            assert_eq!((column.several, column.default), (several, default), "{name}");
        }
    }
}
