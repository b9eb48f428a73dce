//! The agents' server: takes agents in, tells each what its switches should be, and brings what
//! they see to the core.
//!
//! Over TCP by mutual TLS, with the controller's own [`authority`]; over a Unix socket the own user
//! and root are trusted (`SO_PEERCRED`). TLS is spoken here and not inside the RPC library, so that
//! every refusal is logged with its reason and its peer.
//!
//! An agent speaks for the switches that the authority's registry gives it, or, where that says
//! nothing, for the one that is called as it is; one on the Unix socket for all. It is told of no
//! other, and what it says of another is refused and said (`claims`).

pub mod authority;
pub mod bounds;
mod claims;
pub mod desired;
mod limits;
mod shown;
mod validate;

use crate::event_loop::{Handle, Input};
use crate::openflow_server::{Address, Listener};
use anyhow::Context as _;
use authority::Authority;
use limits::{Limits, Place, Subject};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tandem_agent_protocol::agent as wire;
use tandem_agent_protocol::agent::agents_server::{Agents as AgentsService, AgentsServer};
use tandem_agent_protocol::agent::enrolment_server::{Enrolment, EnrolmentServer};
use tandem_agent_protocol::local_peers::LocalPeers;
use tandem_api::agents::{AgentPortView, AgentView, CardView};
use tandem_model::{
    AgentSample, BitRate, ClassSample, Dpid, Event, LinkId, NodeId, PortCounters, PortNo, PortSample,
    QueueSelection, Site, SwitchId, counted,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

/// How long a peer may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A silent agent that does not answer a ping is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long an answer may take to begin; the stream behind it may last for ever.
const ANSWER: Duration = Duration::from_secs(30);
/// Calls at a time on one connection: an agent has its stream and now and then a renewal.
const CALLS: u32 = 8;
/// Desired states that wait for an agent: only the latest is of use, so this is for the moments in
/// which the shares of classes change one after the other. An agent that takes none of so many is
/// disconnected, and gets the latest when it comes back.
const ORDERS: usize = 8;
/// Connections that have a certificate, or none, and wait to be served.
const ACCEPTED: usize = 64;
/// Between an agent's reports, in milliseconds, where the site's period is longer than can be said.
const PERIOD_MS: u32 = 1000;

/// An agent in numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentFigures {
    /// Its name.
    pub name: String,
    /// Connected now.
    pub connected: bool,
    /// How many switches it has.
    pub switches: usize,
    /// The generation that it was sent last.
    pub generation: u64,
    /// The generation that it has applied.
    pub applied: u64,
    /// How long that took, in milliseconds.
    pub took_ms: f64,
    /// How much it could not do.
    pub faults: usize,
    /// The cards under its switches; none while it is away.
    pub cards: Vec<CardView>,
}

#[derive(Default)]
struct Live {
    views: BTreeMap<String, AgentView>,
    /// Whoever drops the sender ends the session.
    sessions: BTreeMap<String, (u64, oneshot::Sender<()>)>,
    /// Which session speaks for a switch.
    claims: BTreeMap<String, u64>,
    /// What each end of a link has negotiated, as its agent says: bit/s, and whether it is half
    /// duplex.
    ends: BTreeMap<(SwitchId, PortNo), (u64, bool)>,
    /// Which differences of two ends were told; told again when they come again.
    unlike: BTreeMap<LinkId, String>,
}

/// What the server and its sessions share.
#[derive(Clone)]
pub struct Agents {
    /// Who is let in.
    pub authority: Arc<Authority>,
    /// Where agents reach the controller by TCP, for tokens.
    pub addresses: Arc<Vec<Address>>,
    handle: Handle,
    site: Arc<Site>,
    live: Arc<Mutex<Live>>,
    sessions: Arc<AtomicU64>,
    limits: Limits,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub enum Peer {
    /// A certificate of ours: its name and its serial number.
    Certified(String, String, IpAddr),
    /// On this machine: the own user, or root.
    Local,
    /// Nobody that we know; may enrol.
    Stranger(Option<IpAddr>),
    /// A certificate of ours that is good no longer, and why: told on the first call, so that the
    /// agent can say it, too.
    Refused(String),
}

impl Peer {
    fn address(&self) -> limits::Address {
        match self {
            Peer::Certified(_, _, address) => Some(*address),
            Peer::Stranger(address) => *address,
            Peer::Local | Peer::Refused(_) => None,
        }
    }
}

impl Agents {
    /// For a site.
    pub fn new(authority: Authority, addresses: Vec<Address>, handle: Handle, site: Arc<Site>) -> Agents {
        Agents {
            authority: Arc::new(authority),
            addresses: Arc::new(addresses),
            handle,
            site,
            live: Arc::default(),
            sessions: Arc::default(),
            limits: Limits::new(),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that have been seen since the start, by name.
    pub fn views(&self) -> Vec<AgentView> {
        self.live().views.values().cloned().collect()
    }

    /// The same in numbers.
    pub fn figures(&self) -> Vec<AgentFigures> {
        let figures = |v: &AgentView| AgentFigures {
            name: v.name.clone(),
            connected: v.connected,
            switches: v.switches.len(),
            generation: v.generation,
            applied: v.applied,
            took_ms: v.took_ms,
            faults: v.faults.len(),
            cards: if v.connected { v.cards.clone() } else { Vec::new() },
        };
        self.live().views.values().map(figures).collect()
    }

    /// Ends an agent's connection, if it has one.
    pub fn disconnect(&self, name: &str) {
        self.live().sessions.remove(name);
    }

    /// A session ends; false when another one has taken its place.
    fn leave(&self, name: &str, session: u64) -> bool {
        let mut live = self.live();
        live.claims.retain(|_, by| *by != session);
        let current = live.sessions.get(name).is_none_or(|(current, _)| *current == session);
        if current {
            live.sessions.remove(name);
            if let Some(view) = live.views.get_mut(name) {
                view.connected = false;
            }
        }
        current
    }

    /// Takes in what an end of a link has negotiated; what is to be said when the other end has
    /// something else. The seed lost days to this: one end negotiates, the other does not.
    fn compare(&self, switch: SwitchId, port: PortNo, end: (u64, bool)) -> Option<String> {
        let topology = &self.site.topology;
        let link = topology.link_at(NodeId::Switch(switch), port)?;
        let cable = topology.link(link)?;
        let here = NodeId::Switch(switch);
        let other = if cable.a.node == here && cable.a.port == port { cable.b } else { cable.a };
        let mut live = self.live();
        live.ends.insert((switch, port), end);
        let NodeId::Switch(far) = other.node else { return None };
        let there = *live.ends.get(&(far, other.port))?;
        let unlike = match (end, there) {
            // An end that does not know its speed, as a veth pair or one without a carrier, says
            // nothing about the cable.
            ((0, _), _) | (_, (0, _)) => false,
            (here, there) => here != there,
        };
        if !unlike {
            live.unlike.remove(&link);
            return None;
        }
        let say = |node, port: PortNo, (speed, half): (u64, bool)| {
            let duplex = if half { "half" } else { "full" };
            format!("{}.{port} has {} {duplex} duplex", topology.name(node), BitRate(speed))
        };
        let mut ends = [say(here, port, end), say(other.node, other.port, there)];
        ends.sort();
        let what = format!(
            "the two ends of a cable differ: {}; let both negotiate (`ethtool -s INTERFACE autoneg on`), or set both alike",
            ends.join(", ")
        );
        let told = live.unlike.insert(link, what.clone());
        (told.as_ref() != Some(&what)).then_some(what)
    }

    /// Serves agents until the event loop is gone.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn serve(self, listeners: Vec<Listener>) -> anyhow::Result<impl Future<Output = ()>> {
        let acceptor = self.acceptor()?;
        let (sender, incoming) = mpsc::channel::<std::io::Result<Connection>>(ACCEPTED);
        for listener in listeners {
            tokio::spawn(accept(listener, acceptor.clone(), self.clone(), sender.clone()));
        }
        let agents = AgentsServer::new(self.clone()).max_decoding_message_size(bounds::MESSAGE);
        let enrolment = EnrolmentServer::new(self).max_decoding_message_size(bounds::ENROLMENT);
        Ok(async move {
            let served = tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(KEEP_ALIVE))
                .http2_keepalive_timeout(Some(KEEP_ALIVE))
                .http2_max_header_list_size(16 << 10)
                .max_concurrent_streams(CALLS)
                .timeout(ANSWER)
                .add_service(agents)
                .add_service(enrolment)
                .serve_with_incoming(ReceiverStream::new(incoming))
                .await;
            if let Err(error) = served {
                tracing::error!("the agents' server has stopped: {error}");
            }
        })
    }

    fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let identity = self.authority.identity()?;
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes());
        let authority = certificate(self.authority.certificate()).context("the authority's certificate")?;
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
}

async fn accept(
    listener: Listener,
    acceptor: TlsAcceptor,
    agents: Agents,
    incoming: mpsc::Sender<std::io::Result<Connection>>,
) {
    let local = LocalPeers::same_user();
    loop {
        if incoming.is_closed() {
            return;
        }
        match &listener {
            Listener::Unix(l) => match l.accept().await {
                Ok((stream, _)) => {
                    let may = stream
                        .peer_cred()
                        .map_err(|e| e.to_string())
                        .and_then(|who| local.check_client(who.uid(), who.gid()).map_err(|e| e.to_string()));
                    match may {
                        Ok(()) => drop(incoming.send(Ok(Connection::Unix(stream))).await),
                        Err(why) => agents.limits.warn(None, Subject::Admission, || {
                            format!("agent on the Unix socket refused: {why}")
                        }),
                    }
                }
                Err(error) => pause(&agents.limits, &error).await,
            },
            Listener::Tcp(l) => match l.accept().await {
                Ok((stream, from)) => {
                    let address = from.ip();
                    let place = match agents.limits.enter(address) {
                        Ok(place) => place,
                        Err(why) => {
                            let line = || format!("agent at {from} refused: {why}");
                            agents.limits.warn(Some(address), Subject::Handshake, line);
                            continue;
                        }
                    };
                    let (acceptor, agents, incoming) = (acceptor.clone(), agents.clone(), incoming.clone());
                    tokio::spawn(async move {
                        let (subject, why) =
                            match greet(stream, &acceptor, &agents.authority, place, address).await {
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
                Err(error) => pause(&agents.limits, &error).await,
            },
        }
    }
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
        None => Peer::Stranger(Some(address)),
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

/// A connection, with who is at its other end.
enum Connection {
    Unix(UnixStream),
    Tls(
        Box<TlsStream<TcpStream>>,
        Peer,
        #[allow(dead_code, reason = "it counts as long as it is there")] Place,
    ),
}

impl Connected for Connection {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        match self {
            Connection::Unix(_) => Peer::Local,
            Connection::Tls(_, peer, _) => peer.clone(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Connection::Tls(s, _, _) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Connection::Tls(s, _, _) => Pin::new(s).poll_write(cx, buf),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_flush(cx),
            Connection::Tls(s, _, _) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Connection::Tls(s, _, _) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

fn peer<T>(request: &Request<T>) -> Peer {
    request.extensions().get::<Peer>().cloned().unwrap_or(Peer::Stranger(None))
}

#[tonic::async_trait]
impl Enrolment for Agents {
    async fn enrol(
        &self,
        request: Request<wire::EnrolRequest>,
    ) -> Result<Response<wire::Certificate>, Status> {
        let address = peer(&request).address();
        let ask = request.into_inner();
        // Before anything of it is used or written to the log.
        if !self.limits.may_enrol(address) {
            self.limits.warn(address, Subject::Enrolment, || {
                format!("enrolments from {} are held back: too many in a minute", shown_address(address))
            });
            return Err(Status::resource_exhausted(
                "too many enrolments from this address; try again in a minute",
            ));
        }
        if let Err(why) = bounds::check_enrolment(&ask) {
            let line = || format!("enrolment from {} refused: {why}", shown_address(address));
            self.limits.warn(address, Subject::Enrolment, line);
            return Err(Status::invalid_argument(why.to_string()));
        }
        match self.authority.enrol(&ask.name, &ask.secret, &ask.request) {
            Ok(certificate) => {
                // Whoever is connected by an earlier certificate of that name has one that is good
                // no longer.
                self.disconnect(&ask.name);
                tracing::info!(kind = "agent-enrolled", "agent {} is enrolled", ask.name);
                let authority = self.authority.certificate().to_owned();
                Ok(Response::new(wire::Certificate { certificate, authority }))
            }
            Err(why) => {
                let why = why.to_string();
                let line = || format!("enrolment as {:?} refused: {}", ask.name, bounds::line(&why));
                self.limits.warn(address, Subject::Enrolment, line);
                Err(Status::permission_denied(why))
            }
        }
    }
}

fn shown_address(address: limits::Address) -> String {
    address.map_or_else(|| "the Unix socket".to_owned(), |a| a.to_string())
}

type ToAgent = Result<wire::ToAgent, Status>;

#[tonic::async_trait]
impl AgentsService for Agents {
    type AttachStream = ReceiverStream<ToAgent>;

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::Certificate>, Status> {
        let (name, serial) = match peer(&request) {
            Peer::Certified(name, serial, _) => (name, serial),
            Peer::Refused(why) => return Err(Status::permission_denied(why)),
            Peer::Local | Peer::Stranger(_) => {
                return Err(Status::unauthenticated("only an agent with a certificate can renew it"));
            }
        };
        let renewed = self.authority.renew(&name, &serial, &request.into_inner().request);
        let certificate = renewed.map_err(|why| Status::permission_denied(why.to_string()))?;
        tracing::info!(kind = "agent-renewed", "agent {name} has renewed its certificate");
        let authority = self.authority.certificate().to_owned();
        Ok(Response::new(wire::Certificate { certificate, authority }))
    }

    async fn attach(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let peer = peer(&request);
        let address = peer.address();
        match &peer {
            Peer::Stranger(_) => {
                let why = "show a certificate: tandem-agent enroll --token TOKEN";
                self.limits
                    .warn(address, Subject::Admission, || "agent refused: it shows no certificate".into());
                return Err(Status::unauthenticated(why));
            }
            Peer::Refused(why) => return Err(Status::permission_denied(why.clone())),
            // The connection may be older than what has become of its certificate.
            Peer::Certified(name, serial, _) => self.authority.admits(name, serial).map_err(|why| {
                self.limits.warn(address, Subject::Admission, || format!("agent refused: {why}"));
                Status::permission_denied(why.to_string())
            })?,
            Peer::Local => {}
        }
        let mut inbox = request.into_inner();
        let first = tokio::time::timeout(HANDSHAKE, inbox.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello"))??;
        let Some(wire::from_agent::Message::Hello(hello)) = first.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("the first message is a hello"));
        };
        let hello = bounds::hello(hello).map_err(|why| {
            self.limits.warn(address, Subject::Admission, || format!("agent refused: {why}"));
            Status::invalid_argument(why.to_string())
        })?;
        if let Peer::Certified(name, _, _) = &peer
            && *name != hello.name
        {
            let why = format!("its certificate is that of {name:?}, it calls itself {:?}", hello.name);
            self.limits.warn(address, Subject::Admission, || format!("agent refused: {why}"));
            return Err(Status::permission_denied(why));
        }
        let (sender, outbox) = mpsc::channel(ORDERS);
        tokio::spawn(Session::start(self.clone(), peer, hello, sender, inbox));
        Ok(Response::new(ReceiverStream::new(outbox)))
    }
}

/// One agent's connection.
struct Session {
    agents: Agents,
    id: u64,
    peer: Peer,
    /// What it has of what it may speak for.
    hello: wire::Hello,
    /// Of the switches that the site has.
    dpids: BTreeMap<String, Dpid>,
    sent: Vec<wire::Switch>,
    outbox: mpsc::Sender<ToAgent>,
}

/// Another than those of an earlier controller: milliseconds since the epoch when this one began,
/// and one more for each. An agent only says which it has, so a clock that was set back between
/// both is no harm.
fn generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = crate::clock::now().0 / 1_000_000;
    LAST.fetch_max(now, Ordering::Relaxed);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Session {
    async fn start(
        agents: Agents,
        peer: Peer,
        hello: wire::Hello,
        outbox: mpsc::Sender<ToAgent>,
        mut inbox: Streaming<wire::FromAgent>,
    ) {
        let name = hello.name.clone();
        let id = agents.sessions.fetch_add(1, Ordering::Relaxed);
        let (alive, mut ended) = oneshot::channel();
        let mut session =
            Session { agents, id, peer, hello, dpids: BTreeMap::new(), sent: Vec::new(), outbox };
        let mut begun = session.enter(alive).await;
        let mut versions = session.agents.handle.version.clone();
        if begun.is_ok() {
            begun = session.tell_desired();
        }
        let why = loop {
            if let Err(why) = begun {
                break why;
            }
            tokio::select! {
                message = inbox.message() => match message {
                    Ok(Some(message)) => begun = session.take(message).await,
                    Ok(None) => break "it has closed the connection".to_owned(),
                    Err(status) => break bounds::line(status.message()),
                },
                changed = versions.changed() => match changed {
                    Ok(()) => begun = session.tell_desired(),
                    Err(_) => return,
                },
                // Nobody sends on it: it ends when another session of that agent, or a revocation,
                // takes its place.
                _ = &mut ended => break "another connection has taken its place, or it was revoked or enrolled anew".to_owned(),
            }
        };
        let _ = session.outbox.try_send(Err(Status::aborted(why.clone())));
        if session.agents.leave(&name, id) {
            session.event(Event::AgentDown { agent: name, why }).await;
        }
    }

    async fn event(&self, event: Event) {
        // When the event loop is gone, the process ends.
        let _ = self.agents.handle.inputs.send(Input::Event(event)).await;
    }

    async fn trouble(&self, what: String) {
        self.event(Event::AgentTrouble { agent: self.hello.name.clone(), what }).await;
    }

    /// Takes the place of an earlier session of its name, and says what it has.
    async fn enter(&mut self, alive: oneshot::Sender<()>) -> Result<(), String> {
        let agents = self.agents.clone();
        let earlier = {
            let mut live = agents.live();
            let earlier = live.sessions.insert(self.hello.name.clone(), (self.id, alive));
            if let Some((id, _)) = &earlier {
                live.claims.retain(|_, by| by != id);
            }
            earlier
        };
        drop(earlier);
        // From now on a revocation ends this session; one that came just before is seen here.
        if let Peer::Certified(name, serial, _) = &self.peer {
            agents.authority.admits(name, serial).map_err(|why| why.to_string())?;
        }
        let refused = self.claim().map_err(|why| why.to_string())?;
        let hello = self.hello.clone();
        {
            let mut live = agents.live();
            let view = AgentView {
                name: hello.name.clone(),
                connected: true,
                version: hello.version,
                machine: hello.machine,
                switches: hello.switches.iter().map(|s| s.name.clone()).collect(),
                applied: hello.generation,
                ..AgentView::default()
            };
            live.views.insert(hello.name.clone(), view);
        }
        self.event(Event::AgentUp { agent: hello.name.clone() }).await;
        self.say_claims(refused).await;
        for presented in &hello.switches {
            let Some(id) = desired::find(&agents.site, &presented.name) else {
                self.trouble(format!("the site file has no switch {:?}", presented.name)).await;
                continue;
            };
            let Some(switch) = agents.site.topology.switch(id) else { continue };
            self.dpids.insert(presented.name.clone(), switch.dpid);
            if let Some(what) = validate::contradicts(switch, &presented.datapath) {
                self.trouble(what).await;
            }
            let ports = presented
                .ports
                .iter()
                .map(|p| {
                    let selection = match p.selection() {
                        wire::QueueSelection::Queue => QueueSelection::Queue,
                        wire::QueueSelection::Dscp => QueueSelection::Dscp,
                        wire::QueueSelection::RateLimiter => QueueSelection::RateLimiter,
                        wire::QueueSelection::Mark => QueueSelection::Mark,
                        wire::QueueSelection::None => QueueSelection::None,
                    };
                    (PortNo(p.number), selection)
                })
                .collect();
            let agent = hello.name.clone();
            self.event(Event::PortsManaged { agent, switch: switch.dpid, ports }).await;
        }
        Ok(())
    }

    /// Sends the desired state if it is another one than before. An agent that does not take them
    /// is disconnected, and synchronised anew when it is back.
    fn tell_desired(&mut self) -> Result<(), String> {
        let snapshot = self.agents.handle.snapshot.load_full();
        let switches = desired::of(&self.agents.site, &snapshot.classes, &self.hello.switches);
        if switches == self.sent {
            return Ok(());
        }
        self.sent.clone_from(&switches);
        let generation = generation();
        let period = u32::try_from(self.agents.site.statistics.period.as_millis()).unwrap_or(PERIOD_MS);
        let message = wire::to_agent::Message::Desired(wire::Desired {
            generation,
            switches,
            report_period_ms: period,
        });
        if let Some(view) = self.agents.live().views.get_mut(&self.hello.name) {
            view.generation = generation;
        }
        match self.outbox.try_send(Ok(wire::ToAgent { message: Some(message) })) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(format!(
                "it has not taken the last {ORDERS} desired states; it gets the latest when it is back"
            )),
            // The connection has just ended: it gets it when it is back.
            Err(mpsc::error::TrySendError::Closed(_)) => Err("its connection has ended".into()),
        }
    }

    async fn take(&mut self, message: wire::FromAgent) -> Result<(), String> {
        match message.message {
            Some(wire::from_agent::Message::Applied(applied)) => {
                let applied = bounds::applied(applied).map_err(|why| why.to_string())?;
                let faults: Vec<String> = applied.faults.iter().map(fault).collect();
                for fault in &faults {
                    self.trouble(fault.clone()).await;
                }
                if let Some(view) = self.agents.live().views.get_mut(&self.hello.name) {
                    (view.applied, view.took_ms, view.faults) = (applied.generation, applied.took_ms, faults);
                }
            }
            Some(wire::from_agent::Message::Report(report)) => {
                let report = bounds::report(report).map_err(|why| why.to_string())?;
                self.report(report).await;
            }
            Some(wire::from_agent::Message::Hello(_)) | None => {}
        }
        Ok(())
    }

    async fn report(&mut self, report: wire::Report) {
        for what in report.faults.iter().map(fault) {
            self.trouble(what).await;
        }
        let (mut views, mut ends, mut cards) = (Vec::new(), Vec::new(), Vec::new());
        let mut foreign = BTreeSet::new();
        for mut switch in report.switches {
            let Some(has) = self.hello.switches.iter().find(|s| s.name == switch.name) else {
                foreign.insert(switch.name);
                continue;
            };
            cards.extend(switch.card.take().map(|card| card_view(&switch.name, &card)));
            // Ports that it has not said to have are no ports.
            let numbers: BTreeSet<u32> = has.ports.iter().map(|p| p.number).collect();
            let mut seen = BTreeSet::new();
            switch.ports.retain(|p| numbers.contains(&p.number) && seen.insert(p.number));
            let id = desired::find(&self.agents.site, &switch.name);
            let presented = self.hello.switches.iter().find(|s| s.name == switch.name);
            for port in &switch.ports {
                let at = presented.and_then(|s| s.ports.iter().find(|p| p.number == port.number));
                let end = (port.speed_bit_per_s, port.half_duplex);
                ends.extend(id.map(|id| (id, PortNo(port.number), end)));
                views.push(AgentPortView {
                    port: format!("{}.{}", switch.name, port.number),
                    interface: at.map(|p| p.interface.clone()).unwrap_or_default(),
                    datapath: presented.map(|s| s.datapath.clone()).unwrap_or_default(),
                    up: port.up,
                    speed: port.speed_bit_per_s,
                    half_duplex: port.half_duplex,
                    hardware: port.hardware.iter().map(|c| (c.name.clone(), c.value)).collect(),
                });
            }
            let Some(dpid) = self.dpids.get(&switch.name).copied() else { continue };
            let ports = switch.ports.into_iter().map(sample).collect();
            self.event(Event::AgentSamples { switch: dpid, ports }).await;
        }
        self.say_claims(foreign.into_iter().map(claims::Claim::not_its).collect()).await;
        if let Some(view) = self.agents.live().views.get_mut(&self.hello.name) {
            (view.ports, view.cards) = (views, cards);
        }
        for what in ends.into_iter().filter_map(|(switch, port, end)| self.agents.compare(switch, port, end))
        {
            self.trouble(what).await;
        }
    }
}

fn card_view(switch: &str, card: &wire::CardReport) -> CardView {
    use wire::card_report::Path;
    let path = match card.path() {
        Path::Forwards => "forwards",
        Path::Stopped => "stopped",
        Path::Recovering => "recovering",
        Path::Unreachable => "unreachable",
    };
    CardView {
        switch: switch.to_owned(),
        path: path.into(),
        outages: card.outages,
        outage_ms: card.outage_ms,
    }
}

fn counters(p: &wire::PortReport) -> PortCounters {
    PortCounters {
        rx_packets: counted(p.rx_packets),
        tx_packets: counted(p.tx_packets),
        rx_bytes: counted(p.rx_bytes),
        tx_bytes: counted(p.tx_bytes),
        rx_dropped: counted(p.rx_dropped),
        tx_dropped: counted(p.tx_dropped),
        rx_errors: counted(p.rx_errors),
        tx_errors: counted(p.tx_errors),
        rx_frame_errors: p.rx_frame_errors,
        rx_overrun_errors: p.rx_overrun_errors,
        rx_crc_errors: p.rx_crc_errors,
        collisions: p.collisions,
        ..PortCounters::default()
    }
}

fn sample(p: wire::PortReport) -> AgentSample {
    let class = |c: &wire::ClassReport| ClassSample {
        bytes: c.bytes,
        packets: c.packets,
        drops: c.drops,
        queued: c.queued,
    };
    AgentSample {
        interface: PortSample { port: PortNo(p.number), counters: counters(&p) },
        speed: (p.speed_bit_per_s > 0).then_some(BitRate(p.speed_bit_per_s)),
        half_duplex: p.half_duplex,
        classes: p.classes.iter().map(class).collect(),
        hardware: p.hardware.into_iter().map(|c| (c.name, c.value)).collect(),
    }
}

fn fault(f: &wire::Fault) -> String {
    match (f.switch_name.as_str(), f.port) {
        ("", _) => f.why.clone(),
        (switch, 0) => format!("{switch}: {}", f.why),
        (switch, port) => format!("{switch} port {port}: {}", f.why),
    }
}
