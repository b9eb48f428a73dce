//! The connection of one agent: its messages go to the core as events, and the core's messages go
//! to the agent.

use crate::agents::connection::Peer;
use crate::agents::{Agents, ORDERS, bounds, claims, translate};
use crate::event_loop::{AgentLine, Input};
use std::collections::{BTreeMap, BTreeSet};
use tandem_agent_protocol::agent as wire;
use tandem_api::agents::AgentView;
use tandem_model::{AgentDesired, Dpid, Event};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Status, Streaming};

/// A message to an agent, or the reason for the end of its stream.
pub(super) type ToAgent = Result<wire::ToAgent, Status>;

/// Why a session was ended from outside.
const REPLACED: &str = "another connection has taken its place, or it was revoked or enrolled anew";

/// An agent's connection, from its hello on.
pub(super) struct Session {
    pub(super) agents: Agents,
    pub(super) id: u64,
    pub(super) peer: Peer,
    /// Its hello, reduced to the switches that it may speak for.
    pub(super) hello: wire::Hello,
    /// Its switches that belong to the site.
    dpids: BTreeMap<String, Dpid>,
    outbox: mpsc::Sender<ToAgent>,
}

impl Session {
    /// Serves an agent after its hello, until its connection ends.
    pub(super) async fn start(
        agents: Agents,
        peer: Peer,
        hello: wire::Hello,
        outbox: mpsc::Sender<ToAgent>,
        inbox: Streaming<wire::FromAgent>,
    ) {
        let name = hello.name.clone();
        // No message is sent on it: the sender is dropped when another session of that agent, or a
        // revocation, ends this one.
        let (alive, ended) = oneshot::channel();
        let id = agents.enter(&name, alive);
        let mut session = Session { agents, id, peer, hello, dpids: BTreeMap::new(), outbox };
        let (orders, desired) = watch::channel(None);
        let why = match session.enter(orders).await {
            Ok(()) => session.serve(inbox, desired, ended).await,
            Err(why) => why,
        };
        let _ = session.outbox.try_send(Err(Status::aborted(why.clone())));
        session.agents.leave(&name, id);
        session.send(Input::AgentDetached(name, id, why)).await;
    }

    /// Passes messages both ways; returns the reason for the end.
    async fn serve(
        &mut self,
        mut inbox: Streaming<wire::FromAgent>,
        mut desired: watch::Receiver<Option<Box<AgentDesired>>>,
        mut ended: oneshot::Receiver<()>,
    ) -> String {
        loop {
            let done = tokio::select! {
                message = inbox.message() => match message {
                    Ok(Some(message)) => self.take(message).await,
                    Ok(None) => return "it has closed the connection".to_owned(),
                    Err(status) => return bounds::line(status.message()),
                },
                changed = desired.changed() => match changed {
                    Ok(()) => {
                        let latest = desired.borrow_and_update().clone();
                        latest.map_or(Ok(()), |latest| self.tell(*latest))
                    }
                    // The event loop has replaced this session, or it has ended with the process.
                    Err(_) => return REPLACED.to_owned(),
                },
                _ = &mut ended => return REPLACED.to_owned(),
            };
            if let Err(why) = done {
                return why;
            }
        }
    }

    async fn send(&self, input: Input) {
        // When the event loop has ended, the process ends.
        let _ = self.agents.handle.inputs.send(input).await;
    }

    async fn event(&self, event: Event) {
        self.send(Input::Agent(self.hello.name.clone(), self.id, event)).await;
    }

    pub(super) async fn trouble(&self, what: String) {
        self.event(Event::AgentTrouble { agent: self.hello.name.clone(), what }).await;
    }

    /// Reports the agent's switches. Its desired states come by `orders`.
    async fn enter(&mut self, orders: AgentLine) -> Result<(), String> {
        // From now on a revocation ends this session; one just before is detected here.
        if let Peer::Certified(name, serial, _) = &self.peer {
            self.agents.authority.admits(name, serial).map_err(|why| why.to_string())?;
        }
        let refused = self.claim().map_err(|why| why.to_string())?;
        let presented: BTreeSet<&str> = self.hello.switches.iter().map(|s| s.name.as_str()).collect();
        let declared = self.agents.site.topology.switches.iter();
        let known = declared.filter(|s| presented.contains(s.name.as_str()));
        self.dpids = known.map(|s| (s.name.clone(), s.dpid)).collect();
        let agent = self.hello.name.clone();
        let view = AgentView {
            name: agent.clone(),
            connected: true,
            version: self.hello.version.clone(),
            machine: self.hello.machine.clone(),
            switches: self.hello.switches.iter().map(|s| s.name.clone()).collect(),
            applied: self.hello.generation,
            ..AgentView::default()
        };
        self.agents.live().views.insert(agent.clone(), view);
        self.send(Input::AgentAttached(agent.clone(), self.id, orders)).await;
        self.event(Event::AgentUp { agent: agent.clone() }).await;
        self.say_claims(refused).await;
        let switches = self.hello.switches.iter().map(translate::presented).collect();
        self.event(Event::AgentHello { agent, switches }).await;
        Ok(())
    }

    /// Sends a desired state. An agent that does not take it is disconnected, and gets the latest
    /// when it comes back.
    fn tell(&mut self, desired: AgentDesired) -> Result<(), String> {
        let generation = desired.generation;
        let message = wire::to_agent::Message::Desired(translate::desired(desired));
        self.agents.update_view(&self.hello.name, |view| view.generation = generation);
        match self.outbox.try_send(Ok(wire::ToAgent { message: Some(message) })) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(format!(
                "it has not taken the last {ORDERS} desired states; it gets the latest when it is back"
            )),
            // The connection has just ended: the agent gets it when it is back.
            Err(mpsc::error::TrySendError::Closed(_)) => Err("its connection has ended".into()),
        }
    }

    async fn take(&mut self, message: wire::FromAgent) -> Result<(), String> {
        match message.message {
            Some(wire::from_agent::Message::Applied(applied)) => {
                let applied = bounds::applied(applied).map_err(|why| why.to_string())?;
                let faults: Vec<String> = applied.faults.iter().map(translate::fault).collect();
                for fault in &faults {
                    self.trouble(fault.clone()).await;
                }
                self.agents.update_view(&self.hello.name, |view| {
                    view.applied = applied.generation;
                    view.took_ms = applied.took_ms;
                    view.faults = faults;
                });
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
        for what in report.faults.iter().map(translate::fault) {
            self.trouble(what).await;
        }
        let mut ports = Vec::new();
        let mut cards = Vec::new();
        let mut foreign = BTreeSet::new();
        for mut switch in report.switches {
            let Some(has) = self.hello.switches.iter().find(|s| s.name == switch.name) else {
                foreign.insert(switch.name);
                continue;
            };
            // Ports that were not in its hello are ignored.
            let numbers: BTreeSet<u32> = has.ports.iter().map(|p| p.number).collect();
            let mut seen = BTreeSet::new();
            switch.ports.retain(|p| numbers.contains(&p.number) && seen.insert(p.number));
            cards.extend(switch.card.as_ref().map(|card| translate::card_view(&switch.name, card)));
            ports.extend(switch.ports.iter().map(|p| translate::port_view(has, p)));
            let Some(dpid) = self.dpids.get(&switch.name).copied() else { continue };
            let agent = Some(self.hello.name.clone());
            let samples = switch.ports.into_iter().map(translate::sample).collect();
            self.event(Event::AgentSamples { agent, switch: dpid, ports: samples }).await;
        }
        self.say_claims(foreign.into_iter().map(claims::Claim::not_its).collect()).await;
        self.agents.update_view(&self.hello.name, |view| {
            view.ports = ports;
            view.cards = cards;
        });
    }
}
