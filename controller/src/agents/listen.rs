//! Accepts connections: TLS handshakes, limited in number and time, with a log line for each
//! refusal.

use crate::agents::authority::Authority;
use crate::agents::connection::{Connection, Peer};
use crate::agents::limits::{Limits, Place, Subject};
use crate::agents::{Agents, HANDSHAKE, bounds, shown};
use crate::openflow_server::Listener;
use anyhow::Context as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tandem_agent_protocol::local_peers::LocalPeers;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// The queue of accepted connections.
pub(super) type Incoming = mpsc::Sender<std::io::Result<Connection>>;

/// The TLS configuration: the controller's certificate, and its own authority for those of agents.
/// A peer without a certificate is accepted, so that it can enrol.
pub(super) fn acceptor(authority: &Authority) -> anyhow::Result<TlsAcceptor> {
    let identity = authority.identity()?;
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes());
    let authority = certificate(authority.certificate()).context("the authority's certificate")?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let chain = vec![certificate(&identity.certificate)?, authority];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts connections until the server has ended.
pub(super) async fn accept(listener: Listener, acceptor: TlsAcceptor, agents: Agents, incoming: Incoming) {
    let local = LocalPeers::same_user();
    while !incoming.is_closed() {
        match &listener {
            Listener::Unix(l) => match l.accept().await {
                Ok((stream, _)) => accept_local(stream, &local, &agents.limits, &incoming).await,
                Err(error) => pause(&agents.limits, &error).await,
            },
            Listener::Tcp(l) => match l.accept().await {
                Ok((stream, from)) => accept_tcp(stream, from, &acceptor, &agents, &incoming),
                Err(error) => pause(&agents.limits, &error).await,
            },
        }
    }
}

async fn accept_local(stream: UnixStream, local: &LocalPeers, limits: &Limits, incoming: &Incoming) {
    let credentials = stream.peer_cred().map_err(|e| e.to_string());
    let may = credentials.and_then(|who| local.check_client(who.uid(), who.gid()).map_err(|e| e.to_string()));
    match may {
        Ok(()) => drop(incoming.send(Ok(Connection::Unix(stream))).await),
        Err(why) => {
            limits.warn(None, Subject::Admission, || format!("agent on the Unix socket refused: {why}"));
        }
    }
}

/// The handshake has a task of its own, so that a slow peer does not block others.
fn accept_tcp(
    stream: TcpStream,
    from: SocketAddr,
    acceptor: &TlsAcceptor,
    agents: &Agents,
    incoming: &Incoming,
) {
    let address = from.ip();
    let place = match agents.limits.enter(address) {
        Ok(place) => place,
        Err(why) => {
            let line = || format!("agent at {from} refused: {why}");
            return agents.limits.warn(Some(address), Subject::Handshake, line);
        }
    };
    let acceptor = acceptor.clone();
    let agents = agents.clone();
    let incoming = incoming.clone();
    tokio::spawn(async move {
        let (subject, why) = match greet(stream, &acceptor, &agents.authority, place, address).await {
            Ok(connection) => {
                let why = match &connection {
                    Connection::Tls(_, Peer::Refused(why), _) => Some(why.clone()),
                    _ => None,
                };
                let _ = incoming.send(Ok(connection)).await;
                (Subject::Admission, why)
            }
            Err(why) => (Subject::Handshake, Some(why)),
        };
        if let Some(why) = why {
            let line = || format!("agent at {from} refused: {}", bounds::line(&why));
            agents.limits.warn(Some(address), subject, line);
        }
    });
}

async fn pause(limits: &Limits, error: &std::io::Error) {
    limits.warn(None, Subject::Accept, || format!("cannot accept an agent's connection: {error}"));
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn greet(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    authority: &Authority,
    place: Place,
    address: IpAddr,
) -> Result<Connection, String> {
    let _ = stream.set_nodelay(true);
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| format!("no TLS handshake within {HANDSHAKE:?}"))?
        .map_err(|e| e.to_string())?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
    let peer = match certificate {
        None => Peer::Unknown(Some(address)),
        Some(certificate) => {
            let who =
                shown::identity(certificate).ok_or("its certificate has no name that an agent can have")?;
            match authority.admits(&who.name, &who.serial) {
                Ok(()) => Peer::Certified(who.name, who.serial, address),
                Err(why) => Peer::Refused(why.to_string()),
            }
        }
    };
    Ok(Connection::Tls(Box::new(stream), peer, place))
}
