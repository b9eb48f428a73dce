//! Reads what a request says. What cannot be read is answered with a reason in JSON and a status
//! between 400 and 499.

use super::respond::Failure;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tandem_api::{ApiError, Code};
use tandem_model::text::escaped_to;
use utoipa::IntoParams;

/// Bytes that a body may have: a group of all VMs of a large data centre.
pub const LARGEST_BODY: usize = 1024 * 1024;
/// How long a client may take to send a body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of a parser's words that an answer repeats.
const SHOWN: usize = 400;

fn bad(code: Code, text: &str) -> Failure {
    ApiError::new(code, escaped_to(text, SHOWN).to_string()).into()
}

/// Waits for a part of the snapshot that is newer.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// The version of the snapshot that is known; a newer one is waited for, 10 s at most.
    pub after: Option<u64>,
}

/// A path's parameters.
#[derive(Debug, Clone, Copy)]
pub struct PathOf<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathOf<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let read: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        read.map(|Path(value)| PathOf(value)).map_err(|why| bad(Code::Invalid, &why.body_text()))
    }
}

/// What is behind the question mark.
#[derive(Debug, Clone, Copy)]
pub struct QueryOf<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let read: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        read.map(|Query(value)| QueryOf(value)).map_err(|why| bad(Code::Invalid, &why.body_text()))
    }
}

/// A body in JSON.
#[derive(Debug, Clone, Copy)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;
    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let read = axum::Json::<T>::from_request(request, state);
        match tokio::time::timeout(BODY_TIMEOUT, read).await {
            Ok(Ok(axum::Json(value))) => Ok(Body(value)),
            Ok(Err(why)) => Err(bad(code_of(&why), &why.body_text())),
            Err(_) => {
                let why = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
                Err(bad(Code::Timeout, &why))
            }
        }
    }
}

/// What kind of error it is that a body cannot be read. One that broke off is the client's doing,
/// too.
fn code_of(why: &JsonRejection) -> Code {
    match why.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedType,
        _ => Code::Invalid,
    }
}
