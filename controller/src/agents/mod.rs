//! The agents' server: takes agents in, tells each what its switches should be, and brings what they see to the core.
//!
//! Over TCP by mutual TLS, with the controller's own [`authority`]; over a Unix socket whoever may open it is trusted. TLS is spoken here
//! and not inside the RPC library, so that every refusal is logged with its reason and its peer.

pub mod api;
pub mod authority;
pub mod desired;
mod presented;

use crate::hub::{Handle, Input};
use crate::switches::{Address, Listener};
use anyhow::Context as _;
use authority::Authority;
use serde::Serialize;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tandem_agent_protocol::agent as wire;
use tandem_agent_protocol::agent::agents_server::{Agents as AgentsService, AgentsServer};
use tandem_agent_protocol::agent::enrolment_server::{Enrolment, EnrolmentServer};
use tandem_model::{
    AgentSample, BitRate, ClassSample, Dpid, Event, LinkId, NodeId, PortNo, PortSample, Selection, Site,
    SwitchId,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

/// How long a peer may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A silent agent that does not answer a ping is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Between an agent's reports, in milliseconds, where the site's period is longer than can be said.
const PERIOD_MS: u32 = 1000;

/// An agent as it is seen.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Connected now.
    pub connected: bool,
    /// Its version.
    pub version: String,
    /// Its machine's host name.
    pub machine: String,
    /// Its switches.
    pub switches: Vec<String>,
    /// The generation that it was sent last.
    pub generation: u64,
    /// The generation that it has applied.
    pub applied: u64,
    /// How long that took, in milliseconds.
    pub took_ms: f64,
    /// What it could not do.
    pub faults: Vec<String>,
    /// What its ports are, as reported last.
    pub ports: Vec<PortView>,
}

/// A port as its agent sees it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PortView {
    /// `edge1.3`.
    pub port: String,
    /// The interface's name.
    pub interface: String,
    /// `ovs (kernel)`, ...
    pub datapath: String,
    /// Up, with a carrier.
    pub up: bool,
    /// Negotiated, bit/s; 0 if not known.
    pub speed: u64,
    /// Cannot send and receive at once.
    pub half_duplex: bool,
    /// The card's own counters that are not zero.
    pub hardware: BTreeMap<String, u64>,
}

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
}

#[derive(Default)]
struct Live {
    views: BTreeMap<String, AgentView>,
    sessions: BTreeMap<String, (u64, mpsc::UnboundedSender<()>)>,
    /// What each end of a link has negotiated, as its agent says: bit/s, and whether it is half duplex.
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
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub enum Peer {
    /// A certificate of ours.
    Certified(String),
    /// On this machine, by a socket that only we and root can open.
    Local,
    /// Nobody that we know; may enrol.
    Stranger,
    /// A certificate of ours that is good no longer, and why: told on the first call, so that the agent can say it, too.
    Refused(String),
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
        let current = live.sessions.get(name).is_none_or(|(current, _)| *current == session);
        if current {
            live.sessions.remove(name);
            if let Some(view) = live.views.get_mut(name) {
                view.connected = false;
            }
        }
        current
    }

    /// Takes in what an end of a link has negotiated; what is to be said when the other end has something else. The seed lost days to
    /// this: one end negotiates, the other does not.
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
            // An end that does not know its speed, as a veth pair or one without a carrier, says nothing about the cable.
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

    /// Serves agents until the hub is gone.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn serve(self, listeners: Vec<Listener>) -> anyhow::Result<impl Future<Output = ()>> {
        let acceptor = self.acceptor()?;
        let (sender, incoming) = mpsc::channel::<std::io::Result<Connection>>(64);
        for listener in listeners {
            tokio::spawn(accept(listener, acceptor.clone(), self.authority.clone(), sender.clone()));
        }
        let (agents, enrolment) = (AgentsServer::new(self.clone()), EnrolmentServer::new(self));
        Ok(async move {
            let served = tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(KEEP_ALIVE))
                .http2_keepalive_timeout(Some(KEEP_ALIVE))
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
    authority: Arc<Authority>,
    incoming: mpsc::Sender<std::io::Result<Connection>>,
) {
    loop {
        if incoming.is_closed() {
            return;
        }
        match &listener {
            Listener::Unix(l) => match l.accept().await {
                Ok((stream, _)) => {
                    let _ = incoming.send(Ok(Connection::Unix(stream))).await;
                }
                Err(error) => pause(&error).await,
            },
            Listener::Tcp(l) => match l.accept().await {
                Ok((stream, from)) => {
                    let (acceptor, authority, incoming) =
                        (acceptor.clone(), authority.clone(), incoming.clone());
                    tokio::spawn(async move {
                        let greeted = greet(stream, &acceptor, &authority).await;
                        if let Ok(Connection::Tls(_, Peer::Refused(why))) = &greeted {
                            tracing::warn!(kind = "agent-refused", "agent at {from} refused: {why}");
                        }
                        match greeted {
                            Ok(connection) => drop(incoming.send(Ok(connection)).await),
                            Err(why) => {
                                tracing::warn!(kind = "agent-refused", "agent at {from} refused: {why}")
                            }
                        }
                    });
                }
                Err(error) => pause(&error).await,
            },
        }
    }
}

async fn pause(error: &std::io::Error) {
    tracing::error!("cannot accept an agent's connection: {error}");
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn greet(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    authority: &Authority,
) -> Result<Connection, String> {
    let _ = stream.set_nodelay(true);
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| format!("no TLS handshake within {HANDSHAKE:?}"))?
        .map_err(|e| e.to_string())?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
    let peer = match certificate {
        None => Peer::Stranger,
        Some(certificate) => {
            let name = common_name(certificate).ok_or("its certificate has no name")?;
            match authority.admits(&name) {
                Ok(()) => Peer::Certified(name),
                Err(why) => Peer::Refused(why.to_string()),
            }
        }
    };
    Ok(Connection::Tls(Box::new(stream), peer))
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// A connection, with who is at its other end.
enum Connection {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>, Peer),
}

impl Connected for Connection {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        match self {
            Connection::Unix(_) => Peer::Local,
            Connection::Tls(_, peer) => peer.clone(),
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
            Connection::Tls(s, _) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Connection::Tls(s, _) => Pin::new(s).poll_write(cx, buf),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_flush(cx),
            Connection::Tls(s, _) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Connection::Tls(s, _) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

fn peer<T>(request: &Request<T>) -> Peer {
    request.extensions().get::<Peer>().cloned().unwrap_or(Peer::Stranger)
}

#[tonic::async_trait]
impl Enrolment for Agents {
    async fn enrol(
        &self,
        request: Request<wire::EnrolRequest>,
    ) -> Result<Response<wire::Certificate>, Status> {
        let ask = request.into_inner();
        match self.authority.enrol(&ask.name, &ask.secret, &ask.request) {
            Ok(certificate) => {
                tracing::info!(kind = "agent-enrolled", "agent {} is enrolled", ask.name);
                let authority = self.authority.certificate().to_owned();
                Ok(Response::new(wire::Certificate { certificate, authority }))
            }
            Err(why) => {
                tracing::warn!(kind = "agent-refused", "enrolment as {:?} refused: {why}", ask.name);
                Err(Status::permission_denied(why.to_string()))
            }
        }
    }
}

type ToAgent = Result<wire::ToAgent, Status>;

#[tonic::async_trait]
impl AgentsService for Agents {
    type AttachStream = UnboundedReceiverStream<ToAgent>;

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::Certificate>, Status> {
        let name = match peer(&request) {
            Peer::Certified(name) => name,
            Peer::Refused(why) => return Err(Status::permission_denied(why)),
            Peer::Local | Peer::Stranger => {
                return Err(Status::unauthenticated("only an agent with a certificate can renew it"));
            }
        };
        let renewed = self.authority.renew(&name, &request.into_inner().request);
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
        match &peer {
            Peer::Stranger => {
                let why = "show a certificate: tandem-agent enroll --token TOKEN";
                tracing::warn!(kind = "agent-refused", "agent refused: it shows no certificate");
                return Err(Status::unauthenticated(why));
            }
            Peer::Refused(why) => return Err(Status::permission_denied(why.clone())),
            Peer::Certified(_) | Peer::Local => {}
        }
        let mut inbox = request.into_inner();
        let first = tokio::time::timeout(HANDSHAKE, inbox.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello"))??;
        let Some(wire::from_agent::Message::Hello(hello)) = first.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("the first message is a hello"));
        };
        if let Peer::Certified(name) = &peer
            && *name != hello.name
        {
            let why = format!("its certificate is that of {name:?}, it calls itself {:?}", hello.name);
            tracing::warn!(kind = "agent-refused", "agent refused: {why}");
            return Err(Status::permission_denied(why));
        }
        let (sender, outbox) = mpsc::unbounded_channel();
        tokio::spawn(Session::start(self.clone(), hello, sender, inbox));
        Ok(Response::new(UnboundedReceiverStream::new(outbox)))
    }
}

/// One agent's connection.
struct Session {
    agents: Agents,
    id: u64,
    hello: wire::Hello,
    /// Of the switches that the site has.
    dpids: BTreeMap<String, Dpid>,
    sent: Vec<wire::Switch>,
    outbox: mpsc::UnboundedSender<ToAgent>,
}

/// Greater than those of an earlier controller: milliseconds since the epoch, and one more for each.
fn generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    LAST.fetch_max(now, Ordering::Relaxed);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Session {
    async fn start(
        agents: Agents,
        hello: wire::Hello,
        outbox: mpsc::UnboundedSender<ToAgent>,
        mut inbox: Streaming<wire::FromAgent>,
    ) {
        let name = hello.name.clone();
        let id = agents.sessions.fetch_add(1, Ordering::Relaxed);
        let (alive, mut ended) = mpsc::unbounded_channel();
        let mut session = Session { agents, id, hello, dpids: BTreeMap::new(), sent: Vec::new(), outbox };
        session.enter(alive).await;
        let mut versions = session.agents.handle.version.clone();
        session.tell_desired();
        let why = loop {
            tokio::select! {
                message = inbox.message() => match message {
                    Ok(Some(message)) => session.take(message).await,
                    Ok(None) => break "it has closed the connection".to_owned(),
                    Err(status) => break status.message().to_owned(),
                },
                changed = versions.changed() => match changed {
                    Ok(()) => session.tell_desired(),
                    Err(_) => return,
                },
                // Nobody sends on it: it ends when another session of that agent, or a revocation, takes its place.
                _ = ended.recv() => break "another connection has taken its place, or it was revoked".to_owned(),
            }
        };
        if session.agents.leave(&name, id) {
            session.event(Event::AgentDown { agent: name, why }).await;
        }
    }

    async fn event(&self, event: Event) {
        // When the hub is gone, the process ends.
        let _ = self.agents.handle.inputs.send(Input::Event(event)).await;
    }

    async fn trouble(&self, what: String) {
        self.event(Event::AgentTrouble { agent: self.hello.name.clone(), what }).await;
    }

    async fn enter(&mut self, alive: mpsc::UnboundedSender<()>) {
        let (agents, hello) = (self.agents.clone(), self.hello.clone());
        {
            let mut live = agents.live();
            live.sessions.insert(hello.name.clone(), (self.id, alive));
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
        for presented in &hello.switches {
            let Some(id) = desired::find(&agents.site, &presented.name) else {
                self.trouble(format!("the site file has no switch {:?}", presented.name)).await;
                continue;
            };
            let Some(switch) = agents.site.topology.switch(id) else { continue };
            self.dpids.insert(presented.name.clone(), switch.dpid);
            if let Some(what) = presented::contradicts(switch, &presented.datapath) {
                self.trouble(what).await;
            }
            let ports = presented
                .ports
                .iter()
                .map(|p| {
                    let selection = match p.selection() {
                        wire::Selection::Queue => Selection::Queue,
                        wire::Selection::Dscp => Selection::Dscp,
                        wire::Selection::RateLimiter => Selection::RateLimiter,
                        wire::Selection::Mark => Selection::Mark,
                        wire::Selection::None => Selection::None,
                    };
                    (PortNo(p.number), selection)
                })
                .collect();
            let agent = hello.name.clone();
            self.event(Event::PortsManaged { agent, switch: switch.dpid, ports }).await;
        }
    }

    /// Sends the desired state if it is another one than before.
    fn tell_desired(&mut self) {
        let snapshot = self.agents.handle.snapshot.load_full();
        let switches = desired::of(&self.agents.site, &snapshot.classes, &self.hello.switches);
        if switches == self.sent {
            return;
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
        // An agent whose connection just ended gets it when it is back.
        let _ = self.outbox.send(Ok(wire::ToAgent { message: Some(message) }));
    }

    async fn take(&mut self, message: wire::FromAgent) {
        match message.message {
            Some(wire::from_agent::Message::Applied(applied)) => {
                let faults: Vec<String> = applied.faults.iter().map(fault).collect();
                for fault in &faults {
                    self.trouble(fault.clone()).await;
                }
                if let Some(view) = self.agents.live().views.get_mut(&self.hello.name) {
                    (view.applied, view.took_ms, view.faults) = (applied.generation, applied.took_ms, faults);
                }
            }
            Some(wire::from_agent::Message::Report(report)) => self.report(report).await,
            Some(wire::from_agent::Message::Hello(_)) | None => {}
        }
    }

    async fn report(&mut self, report: wire::Report) {
        for what in report.faults.iter().map(fault) {
            self.trouble(what).await;
        }
        let (mut views, mut ends) = (Vec::new(), Vec::new());
        for switch in report.switches {
            let id = desired::find(&self.agents.site, &switch.name);
            let presented = self.hello.switches.iter().find(|s| s.name == switch.name);
            for port in &switch.ports {
                let at = presented.and_then(|s| s.ports.iter().find(|p| p.number == port.number));
                let end = (port.speed_bit_per_s, port.half_duplex);
                ends.extend(id.map(|id| (id, PortNo(port.number), end)));
                views.push(PortView {
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
        if let Some(view) = self.agents.live().views.get_mut(&self.hello.name) {
            view.ports = views;
        }
        for what in ends.into_iter().filter_map(|(switch, port, end)| self.agents.compare(switch, port, end))
        {
            self.trouble(what).await;
        }
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
        interface: PortSample {
            port: PortNo(p.number),
            rx_packets: p.rx_packets,
            tx_packets: p.tx_packets,
            rx_bytes: p.rx_bytes,
            tx_bytes: p.tx_bytes,
            rx_dropped: p.rx_dropped,
            tx_dropped: p.tx_dropped,
            rx_errors: p.rx_errors,
            tx_errors: p.tx_errors,
        },
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
