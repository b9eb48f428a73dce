//! How XAPI is spoken: calls and answers as values, in two forms on the wire.
//!
//! ```text
//!  Call (method, values) -- xml.rs  (XML-RPC, every version)  --+
//!                        -- json.rs (JSON-RPC 2.0, newer ones) -+- http.rs -- plain, tls.rs (pinned), tunnel.rs (ssh) -- host
//! ```
//!
//! The codecs are pure. What a server sends is bounded in size (`http.rs`) and in depth (here), and
//! is never trusted: anything that is not an answer is [`Malformed`]. Values are JSON's in both
//! forms. XAPI sends 64-bit integers as decimal strings in XML-RPC and as numbers in JSON-RPC;
//! whoever reads one accepts both ([`integer`]).

pub mod http;
pub mod json;
pub mod tls;
pub mod xml;

use serde::{Deserialize, Deserializer};
pub use serde_json::Value;
use std::fmt;

/// Values nested deeper than this are refused. XAPI's records need five.
pub const DEPTH: usize = 64;

/// XAPI's refusal of a call: a code of its data model and what it says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Such as `VM_BAD_POWER_STATE`.
    pub code: String,
    /// What belongs to it, in the code's order.
    pub args: Vec<String>,
}

impl Failure {
    /// The n-th of what belongs to it, or "".
    pub fn arg(&self, n: usize) -> &str {
        self.args.get(n).map_or("", String::as_str)
    }

    /// From the list that XAPI sends: the code first.
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

/// Bytes that are no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No XML.
    #[error("not XML: {0}")]
    Xml(String),
    /// No JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// Well-formed, but not what an answer looks like.
    #[error("not an answer of XAPI: {0}")]
    NotAnAnswer(&'static str),
    /// A fault of the XML-RPC layer itself.
    #[error("XML-RPC fault {code}: {text}")]
    Fault {
        /// Its number.
        code: i64,
        /// What it says.
        text: String,
    },
    /// Nested deeper than [`DEPTH`].
    #[error("nested deeper than {DEPTH} levels")]
    TooDeep,
    /// A text of ours that XML cannot carry.
    #[error("{0:?} has a character that XML cannot carry; write it without control characters")]
    Unsendable(String),
    /// A value of another type than the data model says.
    #[error("an answer of another type than expected: {0}")]
    WrongType(String),
}

/// What came back: a value, or XAPI's refusal.
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

/// A value as the type that the data model says.
///
/// # Errors
/// When it is another one.
pub fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Malformed> {
    serde_json::from_value(value).map_err(|e| Malformed::WrongType(e.to_string()))
}
