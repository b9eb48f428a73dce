//! Tokens for the API over TCP: `/api/v1/tokens`. They are made, listed and revoked over the Unix
//! socket only: a token makes no tokens.

use super::Api;
use super::extract::{Body, PathOf};
use super::guard::OverUnixSocket;
use super::respond::{Failure, HandlerResult, json};
use crate::store::tokens::{CreateError, Tokens};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use tandem_api::ApiError;
use tandem_api::endpoints::{CREATE_TOKEN, REVOKE_TOKEN, TOKENS};
use tandem_api::tokens::{NewToken, Token, TokenSecret};
use tandem_model::text::escaped;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// The most minutes that a token may be good for: a hundred years.
const MOST_MINUTES: u64 = 100 * 366 * 24 * 60;

#[utoipa::path(get, path = TOKENS.path, summary = TOKENS.summary, responses(
    (status = 200, description = "tokens", body = Vec<Token>),
    (status = 403, description = "not over TCP", body = ApiError),
))]
pub(super) async fn list(_: OverUnixSocket, State(tokens): State<Tokens>) -> HandlerResult {
    Ok(json(&tokens.all()))
}

#[utoipa::path(post, path = CREATE_TOKEN.path, summary = CREATE_TOKEN.summary,
    request_body = NewToken, responses(
    (status = 201, description = "the token", body = TokenSecret),
    (status = 400, description = "no name, or no time", body = ApiError),
    (status = 403, description = "not over TCP", body = ApiError),
    (status = 409, description = "there is one of that name, or too many", body = ApiError),
    (status = 503, description = "the tokens cannot be written", body = ApiError),
))]
pub(super) async fn create(
    _: OverUnixSocket,
    State(tokens): State<Tokens>,
    Body(new): Body<NewToken>,
) -> HandlerResult {
    let seconds = match new.minutes {
        Some(minutes) if !(1..=MOST_MINUTES).contains(&minutes) => {
            let why = format!("a token is good for 1 to {MOST_MINUTES} minutes");
            return Err(ApiError::invalid(why).advise("leave it out for one without an end").into());
        }
        minutes => minutes.and_then(|m| i64::try_from(m * 60).ok()),
    };
    let secret = tokens.create(&new.name, new.read_only, seconds).map_err(refused)?;
    tracing::info!(kind = "token", "a token {:?} was made (read only: {})", new.name, new.read_only);
    Ok((StatusCode::CREATED, Json(TokenSecret { name: new.name, token: secret })).into_response())
}

fn refused(why: CreateError) -> Failure {
    let text = match &why {
        // With its cause, which says what the system said.
        CreateError::NotWritten(error) => format!("{error:#}"),
        other => other.to_string(),
    };
    match why {
        CreateError::Name(_) | CreateError::Lifetime(_) => ApiError::invalid(text),
        CreateError::Taken(_) | CreateError::Full => ApiError::conflict(text),
        CreateError::NotWritten(_) => ApiError::unavailable(text),
    }
    .into()
}

#[utoipa::path(delete, path = REVOKE_TOKEN.path, summary = REVOKE_TOKEN.summary,
    params(("name" = String, Path)), responses(
    (status = 204, description = "it is let in no longer"),
    (status = 403, description = "not over TCP", body = ApiError),
    (status = 404, description = "no such token", body = ApiError),
    (status = 503,
        description = "the tokens cannot be written; it is good as before", body = ApiError),
))]
pub(super) async fn revoke(
    _: OverUnixSocket,
    State(tokens): State<Tokens>,
    PathOf(name): PathOf<String>,
) -> HandlerResult {
    let there = tokens.revoke(&name).map_err(|why| ApiError::unavailable(format!("{why:#}")))?;
    if !there {
        let error = ApiError::not_found(format!("there is no token \"{}\"", escaped(&name)));
        return Err(error.advise("tandem token list shows them").into());
    }
    tracing::info!(kind = "token", "the token {name:?} is revoked");
    Ok(StatusCode::NO_CONTENT.into_response())
}
