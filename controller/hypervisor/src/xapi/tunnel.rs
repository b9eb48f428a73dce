//! The way to hosts that are too old for today's TLS: ssh to one of them, and through it to the
//! plain port of each.
//!
//! One ssh connection, by the system's ssh (so its configuration, keys and agent count), with a
//! forwarding per host. The near end of each is a Unix socket in a folder that only we can enter;
//! all are gone with the connection.

use super::session::CallError;
use crate::config::SshTarget;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;
use tandem_testbed::ssh::{Connection, SshError, Target};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// To log in by ssh, at most.
const CONNECT: Duration = Duration::from_secs(30);
/// A tunnel stays however long nobody calls through it: seconds of a year.
const FOREVER: NonZeroUsize = NonZeroUsize::new(365 * 24 * 3600).expect("it is more than 0");

struct Tunnel {
    session: Connection,
    /// Near ends, by the address behind them.
    ends: BTreeMap<String, PathBuf>,
    /// Holds the sockets.
    folder: TempDir,
}

/// A pool's way through ssh.
#[derive(Default)]
pub(super) struct Tunnels {
    open: Mutex<Option<Tunnel>>,
}

impl Tunnels {
    /// The near end of a tunnel to this address's plain port.
    pub(super) async fn to(&self, ssh: &SshTarget, address: &str, port: u16) -> Result<PathBuf, CallError> {
        let mut open = self.open.lock().await;
        if let Some(tunnel) = &*open
            && !tunnel.session.is_alive().await
        {
            *open = None;
        }
        let trouble = |e: SshError| {
            let who = format!("{}@{}", ssh.user, ssh.address);
            CallError::Tunnel(format!("{e}; does `ssh -p {} {who} true` work?", ssh.port))
        };
        let tunnel = match &mut *open {
            Some(tunnel) => tunnel,
            none => none.insert(dig(ssh).await.map_err(trouble)?),
        };
        if let Some(end) = tunnel.ends.get(address) {
            return Ok(end.clone());
        }
        let end = tunnel.folder.path().join(format!("xapi{}", tunnel.ends.len()));
        tunnel.session.forward(&end, address, port).await.map_err(trouble)?;
        tunnel.ends.insert(address.to_owned(), end.clone());
        Ok(end)
    }
}

async fn dig(ssh: &SshTarget) -> Result<Tunnel, SshError> {
    let who = format!("{}@{}", ssh.user, ssh.address);
    let io = |source| SshError::Io {
        machine: who.clone(),
        what: "making a folder for the tunnel's sockets".to_owned(),
        source,
    };
    let folder = tempfile::Builder::new().prefix("tandem-xapi-").tempdir().map_err(io)?;
    // Whoever set this up tried it by hand: what that user's own configuration says counts.
    let target = Target { idle: FOREVER, reads_user_configuration: true, ..ssh.to_target(&who, CONNECT) };
    Ok(Tunnel { session: Connection::open(&target).await?, ends: BTreeMap::new(), folder })
}
