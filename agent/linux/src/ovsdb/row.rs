//! Values as OVSDB writes them (RFC 7047 section 5.1): an optional value is a set of at most one,
//! and a set of exactly one may be written as its element.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A row's columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row(pub(super) Map<String, Value>);

impl Row {
    /// A column as the database wrote it.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.0.get(column)
    }

    /// A text, if there is one.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.only(column)?.as_str()
    }

    /// A number, if there is one.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.only(column)?.as_i64()
    }

    /// A boolean, if there is one.
    pub fn flag(&self, column: &str) -> Option<bool> {
        self.only(column)?.as_bool()
    }

    /// A set of texts.
    pub fn texts(&self, column: &str) -> Vec<&str> {
        self.elements(column).filter_map(Value::as_str).collect()
    }

    /// A set of references to rows.
    pub fn uuids(&self, column: &str) -> Vec<&str> {
        self.elements(column).filter_map(uuid).collect()
    }

    /// A map's entries whose keys are texts.
    pub fn map(&self, column: &str) -> BTreeMap<&str, &Value> {
        self.get(column).map(|v| entries(v).collect()).unwrap_or_default()
    }

    /// One entry of a map of texts.
    pub fn entry(&self, column: &str, key: &str) -> Option<&str> {
        entries(self.get(column)?).find(|(k, _)| *k == key)?.1.as_str()
    }

    fn elements(&self, column: &str) -> impl Iterator<Item = &Value> {
        self.get(column).map(elements).unwrap_or_default().iter()
    }

    fn only(&self, column: &str) -> Option<&Value> {
        match elements(self.get(column)?) {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// The elements of a set; a bare value is a set of one.
pub(super) fn elements(value: &Value) -> &[Value] {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(tag), Value::Array(list)]) if tag == "set" => list,
        _ => std::slice::from_ref(value),
    }
}

/// The pairs of a map, unconverted.
pub(super) fn pairs(value: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let list = match value.as_array().map(Vec::as_slice) {
        Some([Value::String(tag), Value::Array(list)]) if tag == "map" => list.as_slice(),
        _ => &[],
    };
    list.iter().filter_map(|pair| match pair.as_array().map(Vec::as_slice) {
        Some([key, value]) => Some((key, value)),
        _ => None,
    })
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    pairs(value).filter_map(|(key, value)| Some((key.as_str()?, value)))
}

pub(super) fn is_map(value: &Value) -> bool {
    value.get(0).is_some_and(|tag| tag == "map")
}

/// The uuid that a reference holds.
pub(super) fn uuid(value: &Value) -> Option<&str> {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(tag), Value::String(uuid)]) if tag == "uuid" => Some(uuid),
        _ => None,
    }
}

/// Writes a set of texts.
pub(super) fn texts<S: AsRef<str>>(list: impl IntoIterator<Item = S>) -> Value {
    let list: Vec<Value> = list.into_iter().map(|s| json!(s.as_ref())).collect();
    json!(["set", list])
}

/// Writes a map of texts.
pub(super) fn map<K: AsRef<str>, V: AsRef<str>>(list: impl IntoIterator<Item = (K, V)>) -> Value {
    let list: Vec<Value> = list.into_iter().map(|(k, v)| json!([k.as_ref(), v.as_ref()])).collect();
    json!(["map", list])
}

/// Writes an optional value.
pub(super) fn optional(value: Option<impl Into<Value>>) -> Value {
    value.map_or_else(|| json!(["set", []]), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_one_and_bare_values_are_the_same_and_wrong_shapes_are_nothing() {
        let Value::Object(columns) = json!({
            "none": ["set", []], "one": "a", "set": ["set", ["a", "b"]], "number": ["set", [5]], "yes": true,
            "ref": ["uuid", "u1"], "refs": ["set", [["uuid", "u1"], ["uuid", "u2"]]],
            "map": ["map", [["k", "v"], ["n", 7], "wrong", [1, 2]]], "odd": {"a": 1},
        }) else {
            unreachable!()
        };
        let row = Row(columns);
        assert_eq!((row.text("none"), row.text("one"), row.text("set")), (None, Some("a"), None));
        assert_eq!((row.integer("number"), row.integer("one"), row.flag("yes")), (Some(5), None, Some(true)));
        assert_eq!(
            (row.texts("none"), row.texts("one"), row.texts("set")),
            (vec![], vec!["a"], vec!["a", "b"])
        );
        assert_eq!((row.uuids("ref"), row.uuids("refs")), (vec!["u1"], vec!["u1", "u2"]));
        assert_eq!(row.map("map").len(), 2);
        assert_eq!(
            (row.entry("map", "k"), row.entry("map", "n"), row.entry("odd", "a")),
            (Some("v"), None, None)
        );
    }
}
