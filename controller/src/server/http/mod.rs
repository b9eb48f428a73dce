//! The HTTP server: who may speak to it, how long and how much, the endpoints, and how errors look.
//!
//! ```text
//! listener --(cap on connections, peer's user)--> connection (time-outs) --> guard (Host, Origin, header, token) --> an endpoint
//! ```
//!
//! [`listen`] owns sockets and connections, [`guard`] decides on each request before any endpoint
//! sees it, [`extract`] reads paths, queries and bodies so that what cannot be read is a 400 with a
//! reason in JSON. There is a file for each noun with its handlers; `endpoints` is the table of
//! them, and the OpenAPI document is derived from it. Reads come from the published snapshot;
//! writes are questions to the core that wait for its answer ([`respond`]).
//!
//! A handler decides no status by a text: what is not as asked for is a [`tandem_api::ApiError`],
//! whose status follows from its code.

mod agents;
mod classes;
mod events;
pub mod extract;
mod groups;
pub mod guard;
pub mod listen;
mod lookup;
mod metrics;
mod migrations;
mod openapi;
mod overrides;
mod plans;
pub mod respond;
mod strays;
mod tokens;
mod topology;
mod vm_groups;
mod vms;

use crate::agents::Agents;
use crate::event_loop::Handle;
use crate::store::tokens::Tokens;
use axum::Router;
use axum::extract::FromRef;
use respond::Failure;
use tandem_api::{ApiError, Code};
use utoipa_axum::router::OpenApiRouter;

/// What handlers may use; each names what it needs of it.
#[derive(Clone)]
pub struct Api {
    event_loop: Handle,
    agents: Agents,
    tokens: Tokens,
}

impl Api {
    /// Of these parts.
    pub fn new(event_loop: Handle, agents: Agents, tokens: Tokens) -> Api {
        Api { event_loop, agents, tokens }
    }
}

impl FromRef<Api> for Handle {
    fn from_ref(api: &Api) -> Handle {
        api.event_loop.clone()
    }
}

impl FromRef<Api> for Agents {
    fn from_ref(api: &Api) -> Agents {
        api.agents.clone()
    }
}

impl FromRef<Api> for Tokens {
    fn from_ref(api: &Api) -> Tokens {
        api.tokens.clone()
    }
}

/// The endpoints of every noun. Its file has its own, a line for each path with the handlers of its
/// methods.
fn endpoints() -> OpenApiRouter<Api> {
    let all = [
        topology::endpoints(),
        events::endpoints(),
        vms::endpoints(),
        vm_groups::endpoints(),
        strays::endpoints(),
        groups::endpoints(),
        classes::endpoints(),
        overrides::endpoints(),
        migrations::endpoints(),
        plans::endpoints(),
        agents::endpoints(),
        tokens::endpoints(),
        metrics::endpoints(),
        openapi::endpoints(),
    ];
    all.into_iter().fold(OpenApiRouter::with_openapi(openapi::about()), OpenApiRouter::merge)
}

/// All endpoints, behind no guard.
pub fn routes(api: Api) -> Router {
    let (router, _) = endpoints().split_for_parts();
    router
        .fallback(|| async { refusal(Code::NotFound, "there is nothing here", "says what there is") })
        .method_not_allowed_fallback(|| async {
            refusal(Code::MethodNotAllowed, "that cannot be done here", "says what can")
        })
        .layer(axum::extract::DefaultBodyLimit::max(extract::LARGEST_BODY))
        .with_state(api)
}

fn refusal(code: Code, error: &str, document: &str) -> Failure {
    ApiError::new(code, error).advise(format!("/api/v1/openapi.json {document}")).into()
}
