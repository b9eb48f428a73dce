//! Reads what a request says. What cannot be read is answered with a reason in JSON and a status between 400 and 499.

use crate::api::error;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tandem_model::text::escaped_to;

/// Bytes that a body may have: a group of all VMs of a large data centre.
pub const LARGEST_BODY: usize = 1024 * 1024;
/// How long a client may take to send a body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of a parser's words that an answer repeats.
const SHOWN: usize = 400;

fn bad(status: StatusCode, text: &str) -> Response {
    error(status, escaped_to(text, SHOWN).to_string())
}

/// A path's parameters.
#[derive(Debug, Clone, Copy)]
pub struct PathOf<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathOf<T> {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(PathOf(value)),
            Err(PathRejection::FailedToDeserializePathParams(why)) => {
                Err(bad(StatusCode::BAD_REQUEST, &why.body_text()))
            }
            Err(why) => Err(bad(StatusCode::BAD_REQUEST, &why.body_text())),
        }
    }
}

/// What is behind the question mark.
#[derive(Debug, Clone, Copy)]
pub struct QueryOf<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let read: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        read.map(|Query(value)| QueryOf(value)).map_err(|why| bad(StatusCode::BAD_REQUEST, &why.body_text()))
    }
}

/// A body in JSON.
#[derive(Debug, Clone, Copy)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Response;
    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let read = axum::Json::<T>::from_request(request, state);
        match tokio::time::timeout(BODY_TIMEOUT, read).await {
            Ok(Ok(axum::Json(value))) => Ok(Body(value)),
            Ok(Err(why)) => {
                let status = match &why {
                    JsonRejection::JsonDataError(_) | JsonRejection::JsonSyntaxError(_) => {
                        StatusCode::BAD_REQUEST
                    }
                    other => other.status(),
                };
                // A body that broke off is the client's doing, too.
                let status = if status.is_client_error() { status } else { StatusCode::BAD_REQUEST };
                Err(bad(status, &why.body_text()))
            }
            Err(_) => {
                let why = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
                Err(bad(StatusCode::REQUEST_TIMEOUT, &why))
            }
        }
    }
}
