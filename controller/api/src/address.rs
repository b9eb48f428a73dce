//! Where a service listens: TCP or a Unix socket.

use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen or to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `tcp:127.0.0.1:6653`.
    Tcp(String),
    /// `unix:/run/tandem/openflow.sock`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;
    fn from_str(s: &str) -> Result<Address, String> {
        match s.split_once(':') {
            Some(("tcp", rest)) if rest.contains(':') => Ok(Address::Tcp(rest.to_owned())),
            Some(("unix", path)) if !path.is_empty() => Ok(Address::Unix(path.into())),
            _ => Err(format!("{s:?} is no address; write tcp:127.0.0.1:6653 or unix:/path/to/socket")),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(a) => write!(f, "tcp:{a}"),
            Address::Unix(p) => write!(f, "unix:{}", p.display()),
        }
    }
}
