//! Tunnels to hosts with outdated TLS: ssh to one of them, and through it to the plain port of
//! each.
//!
//! There is one ssh connection, made by the system's ssh (with its configuration, keys and agent),
//! with a forwarding per host. The local end of each is a Unix socket in a private folder; all
//! vanish with the connection.

use super::session::CallError;
use crate::config::SshTarget;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;
use tandem_testbed::ssh::{Connection, SshError, Target};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Time-out of the ssh login.
const CONNECT: Duration = Duration::from_secs(30);
/// A tunnel stays open when it is unused: seconds of a year.
const FOREVER: NonZeroUsize = NonZeroUsize::new(365 * 24 * 3600).expect("it is more than 0");

struct Tunnel {
    session: Connection,
    /// Local ends, by remote address.
    ends: BTreeMap<String, PathBuf>,
    /// The folder of the sockets.
    folder: TempDir,
}

/// A pool's tunnels through ssh.
#[derive(Default)]
pub(super) struct Tunnels {
    open: Mutex<Option<Tunnel>>,
}

impl Tunnels {
    /// The local end of a tunnel to this address's plain port.
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
    // A user who has configured the tunnel has tried it by hand: that user's own ssh configuration
    // applies.
    let target = Target { idle: FOREVER, reads_user_configuration: true, ..ssh.to_target(&who, CONNECT) };
    Ok(Tunnel { session: Connection::open(&target).await?, ends: BTreeMap::new(), folder })
}
