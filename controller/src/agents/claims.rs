//! Checks which switches an agent may speak for: those that the registry gives it, and no others.

use crate::agents::authority::Refusal;
use crate::agents::connection::Peer;
use crate::agents::session::Session;
use std::collections::BTreeSet;

/// A switch that an agent claims without being allowed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    switch: String,
    why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// The registry does not give it to that agent.
    NotIts,
    /// Another connected agent speaks for it.
    Another(String),
}

impl Claim {
    pub(super) fn not_its(switch: String) -> Claim {
        Claim { switch, why: Why::NotIts }
    }
}

/// The most switches in a notice.
const NAMED: usize = 8;

impl Session {
    /// Reduces the hello to the switches that the agent may speak for, and records these; returns
    /// the others.
    pub(super) fn claim(&mut self) -> Result<Vec<Claim>, Refusal> {
        let given: Option<BTreeSet<String>> = match &self.peer {
            Peer::Certified(name, _, _) => {
                let given = self.agents.authority.switches(name)?;
                Some(given.map_or_else(|| BTreeSet::from([name.clone()]), BTreeSet::from_iter))
            }
            // This user and root may do anything here anyway.
            Peer::Local => None,
            Peer::Unknown(_) | Peer::Refused(_) => Some(BTreeSet::new()),
        };
        let mut refused = Vec::new();
        let mut seen = BTreeSet::new();
        let agents = self.agents.clone();
        let mut live = agents.live();
        let id = self.id;
        self.hello.switches.retain(|switch| {
            let name = &switch.name;
            if !seen.insert(name.clone()) {
                return false;
            }
            if given.as_ref().is_some_and(|g| !g.contains(name)) {
                refused.push(Claim::not_its(name.clone()));
                return false;
            }
            let by = *live.claims.entry(name.clone()).or_insert(id);
            if by != id {
                let other = live.sessions.iter().find(|(_, (session, _))| *session == by);
                let other = other.map(|(agent, _)| agent.clone()).unwrap_or_default();
                refused.push(Claim { switch: name.clone(), why: Why::Another(other) });
            }
            by == id
        });
        Ok(refused)
    }

    /// Reports the refused switches of an agent: once a minute for each agent.
    pub(super) async fn say_claims(&self, claims: Vec<Claim>) {
        let agent = &self.hello.name;
        if claims.is_empty() || !self.agents.limits.may_say_claim(agent) {
            return;
        }
        let names = |list: Vec<&str>| {
            let more = list.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more}", list[..list.len().min(NAMED)].join(", "))
        };
        let foreign: Vec<&str> =
            claims.iter().filter(|c| c.why == Why::NotIts).map(|c| c.switch.as_str()).collect();
        if let Some(first) = foreign.first() {
            self.trouble(format!(
                "it speaks for {}, which it was not given: what it says of that is refused. If that is right: tandem agent allow {agent} \
                 --switch {first}, with all of its switches",
                names(foreign.clone())
            ))
            .await;
        }
        for claim in &claims {
            if let Why::Another(other) = &claim.why {
                let switch = &claim.switch;
                self.trouble(format!(
                    "it speaks for {switch}, for which agent {other} speaks already: what it says of that is refused; stop one of the two"
                ))
                .await;
                break;
            }
        }
    }
}
