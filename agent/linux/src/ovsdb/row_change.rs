//! The changes of one row, as operations of a transaction (RFC 7047 section 5.2).

use super::row::{map, texts};
use serde_json::{Map, Value, json};

/// The changes of one row.
#[derive(Default)]
pub(super) struct RowChange {
    columns: Map<String, Value>,
    pub(super) mutations: Vec<Value>,
}

impl RowChange {
    pub(super) fn set(&mut self, column: &str, value: Value) {
        self.columns.insert(column.to_owned(), value);
    }

    /// Writes entries into a map and leaves the others. An insert alone would not replace an entry
    /// (RFC 7047 section 5.1).
    pub(super) fn put(&mut self, column: &str, entries: &[(&str, &str)]) {
        self.take(column, &entries.iter().map(|(k, _)| *k).collect::<Vec<_>>());
        self.mutations.push(json!([column, "insert", map(entries.iter().copied())]));
    }

    /// Removes entries from a map.
    pub(super) fn take(&mut self, column: &str, keys: &[&str]) {
        self.mutations.push(json!([column, "delete", texts(keys)]));
    }

    pub(super) fn operations(self, table: &str, uuid: &str) -> Vec<Value> {
        let condition = json!([["_uuid", "==", ["uuid", uuid]]]);
        let mut operations = Vec::new();
        if !self.columns.is_empty() {
            operations
                .push(json!({ "op": "update", "table": table, "where": condition, "row": self.columns }));
        }
        if !self.mutations.is_empty() {
            operations.push(
                json!({ "op": "mutate", "table": table, "where": condition, "mutations": self.mutations }),
            );
        }
        operations
    }
}
