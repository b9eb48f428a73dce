//! The protocol of XAPI: calls and replies as values, in two forms on the wire.
//!
//! ```text
//!  Call (method, values) -- xml.rs  (XML-RPC, every version)  --+
//!                        -- json.rs (JSON-RPC 2.0, newer ones) -+- http.rs -- plain, tls.rs (pinned), tunnel.rs (ssh) -- host
//! ```
//!
//! The codecs are pure. A server's output is limited in size (`http.rs`) and depth (here), and is
//! not trusted: anything that is not a valid reply is [`Malformed`]. Values are JSON's in both
//! forms. XAPI sends 64-bit integers as decimal strings in XML-RPC and as numbers in JSON-RPC; both
//! are accepted ([`integer`]).

pub mod http;
pub mod json;
pub mod tls;
pub mod xml;

use serde::{Deserialize, Deserializer};
pub use serde_json::Value;
use std::fmt;

/// The deepest nesting of values that is accepted. XAPI's records need five levels.
pub const DEPTH: usize = 64;

/// XAPI's refusal of a call: a code of its data model with arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Such as `VM_BAD_POWER_STATE`.
    pub code: String,
    /// Its arguments, in the code's order.
    pub args: Vec<String>,
}

impl Failure {
    /// The n-th argument, or "".
    pub fn arg(&self, n: usize) -> &str {
        self.args.get(n).map_or("", String::as_str)
    }

    /// Made from XAPI's list, with the code first.
    pub(crate) fn from_list(list: Vec<Value>) -> Result<Failure, Malformed> {
        let mut words = list.into_iter().map(|v| match v {
            Value::String(s) => s,
            other => other.to_string(),
        });
        let code = words.next().ok_or(Malformed::NotAnAnswer("a failure without a code"))?;
        Ok(Failure { code, args: words.collect() })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if !self.args.is_empty() {
            write!(f, " [{}]", self.args.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Bytes that are not a valid reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They are not XML.
    #[error("not XML: {0}")]
    Xml(String),
    /// They are not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// They are well-formed, but do not have the form of a reply.
    #[error("not an answer of XAPI: {0}")]
    NotAnAnswer(&'static str),
    /// A fault of the XML-RPC layer itself.
    #[error("XML-RPC fault {code}: {text}")]
    Fault {
        /// Its code.
        code: i64,
        /// Its text.
        text: String,
    },
    /// Values are nested deeper than [`DEPTH`].
    #[error("nested deeper than {DEPTH} levels")]
    TooDeep,
    /// A text of a call that XML cannot represent.
    #[error("{0:?} has a character that XML cannot carry; write it without control characters")]
    Unsendable(String),
    /// A value has another type than in the data model.
    #[error("an answer of another type than expected: {0}")]
    WrongType(String),
}

/// The reply: a value, or XAPI's refusal.
pub type Answer = Result<Value, Failure>;

/// For `#[serde(deserialize_with)]`: a 64-bit integer, as a number or as decimal text.
///
/// # Errors
/// When it is neither.
pub fn integer<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let value = Value::deserialize(from)?;
    let read = match &value {
        Value::Number(n) => n.as_i64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    };
    read.ok_or_else(|| serde::de::Error::custom(format!("{value} is no integer")))
}

/// Converts a value to a type of the data model.
///
/// When it has another type.
pub fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Malformed> {
    serde_json::from_value(value).map_err(|e| Malformed::WrongType(e.to_string()))
}
