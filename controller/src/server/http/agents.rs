//! Agents on the switches: `/api/v1/agents`.

use super::Api;
use super::extract::{Body, PathOf};
use super::respond::{Failure, HandlerResult, json};
use crate::agents::Agents;
use crate::agents::authority::Refusal;
use crate::openflow_server::Address;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use tandem_agent_protocol::token::Token;
use tandem_api::agents::{AgentEntry, AgentSwitches, AgentView, NewAgentToken};
use tandem_api::endpoints::{AGENT_SWITCHES, AGENT_TOKEN, AGENTS, REVOKE_AGENT};
use tandem_api::tokens::TokenSecret;
use tandem_api::{ApiError, limits};
use tandem_model::text::{check_name, escaped};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(token))
        .routes(routes!(allow))
        .routes(routes!(revoke))
}

/// How long a token is good if nothing else is said, in minutes.
const MINUTES: u32 = 60;
/// How long it may be good at most: a year.
const MOST_MINUTES: u32 = 366 * 24 * 60;

/// Why the registry of agents refuses something, as an answer.
fn refused(why: Refusal) -> Failure {
    let text = why.to_string();
    match why {
        Refusal::Registry(_) => ApiError::unavailable(text),
        Refusal::Taken { .. } => ApiError::conflict(text),
        _ => ApiError::invalid(text),
    }
    .into()
}

#[utoipa::path(get, path = AGENTS.path, summary = AGENTS.summary, responses(
    (status = 200, description = "agents", body = Vec<AgentEntry>),
    (status = 503, description = "the registry of agents cannot be read", body = ApiError),
))]
pub(super) async fn list(State(agents): State<Agents>) -> HandlerResult {
    let enrolled = agents.authority.enrolled().map_err(refused)?;
    let mut views = agents.views();
    for e in &enrolled {
        if !views.iter().any(|v| v.name == e.name) {
            views.push(AgentView { name: e.name.clone(), ..AgentView::default() });
        }
    }
    views.sort_by(|a, b| a.name.cmp(&b.name));
    let list: Vec<AgentEntry> = views
        .into_iter()
        .map(|agent| {
            let certificate = enrolled.iter().find(|e| e.name == agent.name).cloned();
            AgentEntry { agent, certificate }
        })
        .collect();
    Ok(json(&list))
}

#[utoipa::path(post, path = AGENT_TOKEN.path, summary = AGENT_TOKEN.summary,
    request_body = NewAgentToken, responses(
    (status = 201, description = "the token", body = TokenSecret),
    (status = 400,
        description = "no name, no time, or it is not known where agents reach this controller", body = ApiError),
    (status = 409, description = "another agent has one of the switches", body = ApiError),
    (status = 503, description = "the registry of agents cannot be written", body = ApiError),
))]
pub(super) async fn token(State(agents): State<Agents>, Body(body): Body<NewAgentToken>) -> HandlerResult {
    let minutes = body.minutes.unwrap_or(MINUTES);
    if !(1..=MOST_MINUTES).contains(&minutes) {
        let why = format!("a token is good for 1 to {MOST_MINUTES} minutes, and {minutes} is not among them");
        return Err(ApiError::invalid(why).into());
    }
    body.address.as_deref().map_or(Ok(()), limits::host_and_port).map_err(ApiError::invalid)?;
    let listening = agents.addresses.iter().find_map(|a| match a {
        Address::Tcp(a) if !a.starts_with("0.0.0.0:") && !a.starts_with("[::]:") => Some(a.clone()),
        _ => None,
    });
    let Some(address) = body.address.or(listening) else {
        let why = "say where agents reach this controller (--address HOST:PORT): it listens on all addresses, or on no TCP address at all";
        return Err(ApiError::invalid(why).into());
    };
    check_switches(body.switches.as_deref().unwrap_or_default())?;
    let good_for = time::Duration::minutes(minutes.into());
    let made = agents.authority.token(&body.name, good_for, body.switches.as_deref());
    let secret = made.map_err(refused)?;
    let authority = agents.authority.certificate().to_owned();
    let token = Token { address, secret, authority }.to_string();
    Ok((StatusCode::CREATED, Json(TokenSecret { name: body.name, token })).into_response())
}

/// An agent whose switches have changed is disconnected: it comes back at once, and is asked anew
/// what it has.
#[utoipa::path(put, path = AGENT_SWITCHES.path, summary = AGENT_SWITCHES.summary,
    params(("name" = String, Path)),
    request_body = AgentSwitches, responses(
    (status = 204, description = "it speaks for them"),
    (status = 400, description = "no name of a switch", body = ApiError),
    (status = 404, description = "no such agent", body = ApiError),
    (status = 409, description = "another agent has one of them", body = ApiError),
    (status = 503, description = "the registry of agents cannot be written", body = ApiError),
))]
pub(super) async fn allow(
    State(agents): State<Agents>,
    PathOf(name): PathOf<String>,
    Body(body): Body<AgentSwitches>,
) -> HandlerResult {
    check_switches(&body.switches)?;
    let before = agents.authority.switches(&name).ok().flatten();
    if !agents.authority.allow(&name, &body.switches).map_err(refused)? {
        return Err(not_enrolled(&name));
    }
    if before.as_ref() != Some(&body.switches) {
        agents.disconnect(&name);
        tracing::info!(kind = "agent-switches", "agent {name} speaks for {}", body.switches.join(", "));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[utoipa::path(delete, path = REVOKE_AGENT.path, summary = REVOKE_AGENT.summary,
    params(("name" = String, Path)), responses(
    (status = 204, description = "it is let in no longer"),
    (status = 404, description = "no such agent", body = ApiError),
    (status = 503, description = "the registry of agents cannot be written", body = ApiError),
))]
pub(super) async fn revoke(State(agents): State<Agents>, PathOf(name): PathOf<String>) -> HandlerResult {
    if !agents.authority.revoke(&name).map_err(refused)? {
        return Err(not_enrolled(&name));
    }
    agents.disconnect(&name);
    tracing::info!(kind = "agent-revoked", "agent {name} is revoked");
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn not_enrolled(name: &str) -> Failure {
    ApiError::not_found(format!("no agent {name:?} is enrolled")).into()
}

/// Names that no switch can have are refused.
fn check_switches(switches: &[String]) -> Result<(), Failure> {
    for name in switches {
        if let Err(why) = check_name(name) {
            return Err(ApiError::invalid(format!("{} can be no switch's name: {why}", escaped(name))).into());
        }
    }
    Ok(())
}
