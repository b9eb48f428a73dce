//! Where to listen, for switches and for everybody else who dials the controller.

use anyhow::Context;
use std::path::PathBuf;
use std::str::FromStr;
use tokio::net::{TcpListener, UnixListener};

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

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// On TCP.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

/// Listens, taking over a Unix socket whose owner is gone.
///
/// # Errors
/// When the address is in use or cannot be had.
pub async fn listen(address: &Address) -> anyhow::Result<Listener> {
    let taken = || {
        format!(
            "cannot listen on {address}; is another `tandem serve` running? Stop it, or choose another address"
        )
    };
    match address {
        Address::Tcp(a) => Ok(Listener::Tcp(TcpListener::bind(a).await.with_context(taken)?)),
        Address::Unix(path) => {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                anyhow::bail!(taken());
            }
            if std::fs::symlink_metadata(path)
                .is_ok_and(|m| std::os::unix::fs::FileTypeExt::is_socket(&m.file_type()))
            {
                std::fs::remove_file(path).with_context(taken)?;
            }
            Ok(Listener::Unix(UnixListener::bind(path).with_context(taken)?))
        }
    }
}
