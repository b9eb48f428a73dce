//! Accepts connections: on a Unix socket only those of this user and root, since any peer may claim
//! to be a switch.

use super::connection::connection;
use super::switchboard::Peer;
use super::{Caller, Listener, Server, Subject};
use std::time::Duration;
use tandem_agent_protocol::local_peers::LocalPeers;

/// The pause after a connection could not be accepted, such as for lack of descriptors: tried again
/// soon, without a busy loop.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts switches until the event loop has ended.
pub async fn accept(listener: Listener, server: Server) {
    let local = LocalPeers::same_user();
    while !server.0.event_loop.is_closed() {
        let accepted = match &listener {
            Listener::Tcp(l) => l.accept().await.map(|(stream, at)| {
                let _ = stream.set_nodelay(true);
                let caller = Caller { peer: Peer::Address(at.ip()), name: format!("tcp:{at}") };
                spawn(&server, stream, caller);
            }),
            Listener::Unix(l) => l.accept().await.map(|(stream, _)| {
                let peer = unix_peer(&stream);
                let name = match peer {
                    Peer::Process { user, process } => format!("unix: process {process} of user {user}"),
                    _ => "unix: a process".to_owned(),
                };
                let caller = Caller { peer, name };
                match may_connect(&local, &stream) {
                    Ok(()) => spawn(&server, stream, caller),
                    Err(why) => {
                        if let Some(held_back) = server.may_log(&caller, Subject::Refused) {
                            let name = &caller.name;
                            tracing::warn!(kind = "switch-refused", held_back, "{name}: refused: {why}");
                        }
                    }
                }
            }),
        };
        if let Err(error) = accepted {
            let nobody = Caller { peer: Peer::Unknown, name: String::new() };
            if server.may_log(&nobody, Subject::Refused).is_some() {
                tracing::error!("cannot accept a switch's connection: {error}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn may_connect(local: &LocalPeers, stream: &tokio::net::UnixStream) -> Result<(), String> {
    let who = stream.peer_cred().map_err(|e| format!("the kernel does not say who connects: {e}"))?;
    local.check_client(who.uid(), who.gid()).map_err(|e| e.to_string())
}

/// SO_PEERCRED, unix(7). A process in a namespace that is not visible here has the id 0.
fn unix_peer(stream: &tokio::net::UnixStream) -> Peer {
    let Ok(credentials) = stream.peer_cred() else { return Peer::Unknown };
    match credentials.pid() {
        Some(process) if process > 0 => Peer::Process { user: credentials.uid(), process },
        _ => Peer::Unknown,
    }
}

fn spawn<S>(server: &Server, stream: S, caller: Caller)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(connection(stream, caller, server.clone()));
}
