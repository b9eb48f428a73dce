//! The agents' server: it enrols agents, and passes their messages to the core as events and the
//! core's messages back. The core decides what an agent sets up (`controller/core/src/agents/`).
//!
//! ```text
//! listen --TLS--> calls --attach--> session --translate--> AgentUp, AgentHello, AgentSamples ... --> event loop
//!                                      ^------ the latest AgentDesired (ConfigureAgent) <---------------+
//! Agents connect over TCP with mutual TLS, with the controller's own [`authority`]; over a Unix
//! socket this user and root are trusted (`SO_PEERCRED`). TLS is handled here and not inside the
//! RPC library, so that every refusal is logged with its reason and its peer.
//!
//! An agent speaks for the switches that the authority's registry gives it or, if there are none,
//! for the one with its own name; one on the Unix socket speaks for all. It gets no other switches,
//! and its claims of others are refused and reported (`claims`). This is admission, and stays here:
//! the core only gets the switches that an agent may speak for.

pub mod authority;
pub mod bounds;
mod calls;
mod claims;
mod connection;
mod limits;
mod listen;
mod session;
mod shown;
mod translate;

use crate::event_loop::Handle;
use crate::openflow_server::{Address, Listener};
use authority::Authority;
use connection::Connection;
use limits::Limits;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tandem_agent_protocol::agent::agents_server::AgentsServer;
use tandem_agent_protocol::agent::enrolment_server::EnrolmentServer;
use tandem_api::agents::{AgentView, CardView};
use tandem_model::Site;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

/// How long a peer may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A silent agent that does not answer a ping counts as gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a reply may take to begin; the stream behind it may last for ever.
const ANSWER: Duration = Duration::from_secs(30);
/// The most calls at a time on one connection: an agent has its stream and now and then a renewal.
const CALLS: u32 = 8;
/// Desired states that wait for an agent. Only the latest one matters, so this is for several
/// changes of the classes' shares in a row. An agent that does not take them is disconnected, and
/// gets the latest when it comes back.
const ORDERS: usize = 8;
/// Accepted connections that wait to be served.
const ACCEPTED: usize = 64;

/// The figures of an agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentFigures {
    /// Its name.
    pub name: String,
    /// Connected now.
    pub connected: bool,
    /// Number of its switches.
    pub switches: usize,
    /// The generation that it was sent last.
    pub generation: u64,
    /// The generation that it has applied.
    pub applied: u64,
    /// How long that took, in milliseconds.
    pub took_ms: f64,
    /// Number of its faults.
    pub faults: usize,
    /// The cards of its switches; empty while it is not connected.
    pub cards: Vec<CardView>,
}

impl From<&AgentView> for AgentFigures {
    fn from(view: &AgentView) -> AgentFigures {
        AgentFigures {
            name: view.name.clone(),
            connected: view.connected,
            switches: view.switches.len(),
            generation: view.generation,
            applied: view.applied,
            took_ms: view.took_ms,
            faults: view.faults.len(),
            cards: if view.connected { view.cards.clone() } else { Vec::new() },
        }
    }
}

/// The connected agents, and the last view of each.
#[derive(Default)]
struct Live {
    views: BTreeMap<String, AgentView>,
    /// Dropping the sender ends the session.
    sessions: BTreeMap<String, (u64, oneshot::Sender<()>)>,
    /// The number of the latest session of all agents.
    last_session: u64,
    /// The session that speaks for each switch.
    claims: BTreeMap<String, u64>,
}

/// State shared by the server and its sessions.
#[derive(Clone)]
pub struct Agents {
    /// The authority, which decides about admission.
    pub authority: Arc<Authority>,
    /// TCP addresses for agents, which tokens have.
    pub addresses: Arc<Vec<Address>>,
    handle: Handle,
    site: Arc<Site>,
    live: Arc<Mutex<Live>>,
    limits: Limits,
}

impl Agents {
    /// Creates the server's state for a site.
    pub fn new(authority: Authority, addresses: Vec<Address>, handle: Handle, site: Arc<Site>) -> Agents {
        Agents {
            authority: Arc::new(authority),
            addresses: Arc::new(addresses),
            handle,
            site,
            live: Arc::default(),
            limits: Limits::new(),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The views of all agents seen since the start, by name.
    pub fn views(&self) -> Vec<AgentView> {
        self.live().views.values().cloned().collect()
    }

    /// The figures of the same agents.
    pub fn figures(&self) -> Vec<AgentFigures> {
        self.live().views.values().map(AgentFigures::from).collect()
    }

    /// Changes the view of an agent that was seen before.
    fn update_view(&self, agent: &str, change: impl FnOnce(&mut AgentView)) {
        if let Some(view) = self.live().views.get_mut(agent) {
            change(view);
        }
    }

    /// Ends an agent's connection, if it has one.
    pub fn disconnect(&self, name: &str) {
        self.live().sessions.remove(name);
    }

    /// Starts a session, and ends an earlier one of that agent. Its number is larger than that of
    /// every session before it.
    fn enter(&self, name: &str, alive: oneshot::Sender<()>) -> u64 {
        let mut live = self.live();
        live.last_session += 1;
        let id = live.last_session;
        let earlier = live.sessions.insert(name.to_owned(), (id, alive));
        if let Some((earlier, _)) = &earlier {
            live.claims.retain(|_, by| by != earlier);
        }
        id
    }

    /// Ends a session, unless another one has replaced it.
    fn leave(&self, name: &str, session: u64) {
        let mut live = self.live();
        live.claims.retain(|_, by| *by != session);
        if live.sessions.get(name).is_none_or(|(current, _)| *current == session) {
            live.sessions.remove(name);
            if let Some(view) = live.views.get_mut(name) {
                view.connected = false;
            }
        }
    }

    /// Serves agents until the event loop has ended.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn serve(self, listeners: Vec<Listener>) -> anyhow::Result<impl Future<Output = ()>> {
        let acceptor = listen::acceptor(&self.authority)?;
        let (sender, incoming) = mpsc::channel::<std::io::Result<Connection>>(ACCEPTED);
        for listener in listeners {
            tokio::spawn(listen::accept(listener, acceptor.clone(), self.clone(), sender.clone()));
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
}
