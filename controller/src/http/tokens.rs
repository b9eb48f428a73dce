//! The API of tokens. They are made, listed and revoked over the Unix socket only: a token makes no tokens.

use super::extract::{Body, PathOf};
use super::guard::Local;
use crate::api::error;
use crate::store::tokens::Tokens;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The most minutes that a token may be good for: a hundred years.
const MOST_MINUTES: u64 = 100 * 366 * 24 * 60;

/// The body of `POST /api/v1/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// For people.
    pub name: String,
    /// May it only read?
    #[serde(default)]
    pub read_only: bool,
    /// How long it is good, in minutes; until it is revoked, if left out.
    #[serde(default)]
    pub minutes: Option<u64>,
}

/// The routes.
pub fn router(tokens: Tokens) -> Router {
    Router::new()
        .route("/api/v1/tokens", get(list).post(create))
        .route("/api/v1/tokens/{name}", delete(revoke))
        .layer(axum::middleware::from_fn(here_only))
        .with_state(tokens)
}

async fn here_only(
    Extension(Local(local)): Extension<Local>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    if local {
        return next.run(request).await;
    }
    error(StatusCode::FORBIDDEN, "tokens are made, listed and revoked over the controller's Unix socket only")
}

async fn list(State(tokens): State<Tokens>) -> Response {
    Json(tokens.all()).into_response()
}

async fn create(State(tokens): State<Tokens>, Body(new): Body<NewToken>) -> Response {
    if let Err(why) = tandem_model::text::check_name(&new.name) {
        return error(StatusCode::BAD_REQUEST, why.to_string());
    }
    let minutes = match new.minutes {
        Some(minutes) if !(1..=MOST_MINUTES).contains(&minutes) => {
            let why = format!(
                "a token is good for 1 to {MOST_MINUTES} minutes; leave it out for one without an end"
            );
            return error(StatusCode::BAD_REQUEST, why);
        }
        minutes => minutes.and_then(|m| i64::try_from(m * 60).ok()),
    };
    match tokens.create(&new.name, new.read_only, minutes) {
        Ok(secret) => {
            tracing::info!(kind = "token", "a token {:?} was made (read only: {})", new.name, new.read_only);
            (StatusCode::CREATED, Json(json!({ "name": new.name, "token": secret }))).into_response()
        }
        Err(why) => error(StatusCode::CONFLICT, format!("{why:#}")),
    }
}

async fn revoke(State(tokens): State<Tokens>, PathOf(name): PathOf<String>) -> Response {
    match tokens.revoke(&name) {
        Ok(true) => {
            tracing::info!(kind = "token", "the token {name:?} is revoked");
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(false) => {
            let shown = tandem_model::text::escaped(&name);
            error(
                StatusCode::NOT_FOUND,
                format!("there is no token \"{shown}\"; tandem token list shows them"),
            )
        }
        Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, format!("{why:#}")),
    }
}
