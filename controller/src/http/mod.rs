//! The HTTP server: who may speak to it, how long and how much, and how errors look.
//!
//! ```text
//! listener --(cap on connections, peer's user)--> connection (time-outs) --> guard (Host, Origin, header, token) --> routes
//! ```
//!
//! [`listen`] owns sockets and connections, [`guard`] decides on each request before any route sees it, [`extract`] reads paths,
//! queries and bodies so that what cannot be read is a 400 with a reason in JSON. [`tokens`] are the routes of `tandem token`.

pub mod extract;
pub mod guard;
pub mod listen;
pub mod tokens;

use crate::agents::{self, Agents};
use crate::hub::Handle;
use crate::store::tokens::Tokens;
use crate::{api, metrics, moves};
use axum::Router;
use axum::http::StatusCode;

/// All routes.
pub fn routes(hub: &Handle, agents: &Agents, tokens: Tokens) -> Router {
    api::router(hub.clone())
        .merge(agents::api::router(agents.clone()))
        .merge(moves::router(hub.clone()))
        .merge(metrics::router(hub.clone(), agents.clone()))
        .merge(tokens::router(tokens))
        .method_not_allowed_fallback(|| async {
            api::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "that cannot be done here; /api/v1/openapi.json says what can",
            )
        })
        .layer(axum::extract::DefaultBodyLimit::max(extract::LARGEST_BODY))
}
