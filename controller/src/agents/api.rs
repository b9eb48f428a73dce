//! The agents' part of the HTTP API: `/api/v1/agents`.

use super::{AgentView, Agents};
use crate::api::error;
use crate::http::extract::{Body, PathOf};
use crate::limits;
use crate::openflow_server::Address;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tandem_agent_protocol::token::Token;
use tandem_model::text::{check_name, escaped};

/// How long a token is good if nothing else is said.
const MINUTES: u32 = 60;
/// How long it may be good at most: a year.
const MOST_MINUTES: u32 = 366 * 24 * 60;

/// The body of `POST /api/v1/agents/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBody {
    /// The agent's name, as its agent.toml has it.
    pub name: String,
    /// How long the token is good, in minutes.
    #[serde(default)]
    pub minutes: Option<u32>,
    /// Where the agent reaches the controller: host and port.
    #[serde(default)]
    pub address: Option<String>,
    /// The switches that it may speak for; left out: those that it was given before, or the one that is called as it is.
    #[serde(default)]
    pub switches: Option<Vec<String>>,
}

/// The body of `PUT /api/v1/agents/{name}/switches`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchesBody {
    /// All switches that it may speak for.
    pub switches: Vec<String>,
}

/// The routes.
pub fn router(agents: Agents) -> Router {
    Router::new()
        .route("/api/v1/agents", get(list))
        .route("/api/v1/agents/tokens", post(token))
        .route("/api/v1/agents/{name}", delete(revoke))
        .route("/api/v1/agents/{name}/switches", put(allow))
        .with_state(agents)
}

/// Who is enrolled, and who is or was connected.
async fn list(State(agents): State<Agents>) -> Response {
    let enrolled = match agents.authority.enrolled() {
        Ok(enrolled) => enrolled,
        Err(why) => return error(StatusCode::SERVICE_UNAVAILABLE, format!("{why:#}")),
    };
    let mut views = agents.views();
    for e in &enrolled {
        if !views.iter().any(|v| v.name == e.name) {
            views.push(AgentView { name: e.name.clone(), ..AgentView::default() });
        }
    }
    views.sort_by(|a, b| a.name.cmp(&b.name));
    let list: Vec<_> = views
        .into_iter()
        .map(|view| {
            let certificate = enrolled.iter().find(|e| e.name == view.name);
            json!({ "agent": view, "certificate": certificate })
        })
        .collect();
    Json(list).into_response()
}

async fn token(State(agents): State<Agents>, Body(body): Body<TokenBody>) -> Response {
    let minutes = body.minutes.unwrap_or(MINUTES);
    if !(1..=MOST_MINUTES).contains(&minutes) {
        let why = format!("a token is good for 1 to {MOST_MINUTES} minutes, and {minutes} is not among them");
        return error(StatusCode::BAD_REQUEST, why);
    }
    if let Err(why) = body.address.as_deref().map_or(Ok(()), limits::host_and_port) {
        return error(StatusCode::BAD_REQUEST, why);
    }
    let listening = agents.addresses.iter().find_map(|a| match a {
        Address::Tcp(a) if !a.starts_with("0.0.0.0:") && !a.starts_with("[::]:") => Some(a.clone()),
        _ => None,
    });
    let Some(address) = body.address.or(listening) else {
        let why = "say where agents reach this controller (--address HOST:PORT): it listens on all addresses, or on no TCP address at all";
        return error(StatusCode::BAD_REQUEST, why);
    };
    let good_for = time::Duration::minutes(minutes.into());
    if let Some(why) = body.switches.as_deref().and_then(no_name) {
        return error(StatusCode::BAD_REQUEST, why);
    }
    match agents.authority.token(&body.name, good_for, body.switches.as_deref()) {
        Ok(secret) => {
            let authority = agents.authority.certificate().to_owned();
            let token = Token { address, secret, authority }.to_string();
            (StatusCode::CREATED, Json(json!({ "name": body.name, "token": token }))).into_response()
        }
        Err(why) => error(StatusCode::BAD_REQUEST, format!("{why:#}")),
    }
}

/// Says which switches an agent may speak for; it is told at once.
async fn allow(
    State(agents): State<Agents>,
    PathOf(name): PathOf<String>,
    Body(body): Body<SwitchesBody>,
) -> Response {
    if let Some(why) = no_name(&body.switches) {
        return error(StatusCode::BAD_REQUEST, why);
    }
    let before = agents.authority.switches(&name).ok().flatten();
    match agents.authority.allow(&name, &body.switches) {
        Ok(true) => {
            if before.as_ref() != Some(&body.switches) {
                // It comes back at once, and is asked anew what it has.
                agents.disconnect(&name);
                tracing::info!(
                    kind = "agent-switches",
                    "agent {name} speaks for {}",
                    body.switches.join(", ")
                );
            }
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(false) => error(StatusCode::NOT_FOUND, format!("no agent {name:?} is enrolled")),
        Err(why) => error(StatusCode::CONFLICT, format!("{why:#}")),
    }
}

/// What is said of a list with a name that no switch can have.
fn no_name(switches: &[String]) -> Option<String> {
    let bad = switches.iter().find_map(|s| Some((s, check_name(s).err()?)));
    bad.map(|(name, why)| format!("{} can be no switch's name: {why}", escaped(name)))
}

async fn revoke(State(agents): State<Agents>, PathOf(name): PathOf<String>) -> Response {
    match agents.authority.revoke(&name) {
        Ok(true) => {
            agents.disconnect(&name);
            tracing::info!(kind = "agent-revoked", "agent {name} is revoked");
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(false) => error(StatusCode::NOT_FOUND, format!("no agent {name:?} is enrolled")),
        Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, format!("{why:#}")),
    }
}
