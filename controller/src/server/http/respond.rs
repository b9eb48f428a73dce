//! How handlers answer: with a part of the snapshot, with what the core has said, or with an error
//! that carries its status.

use super::extract::{After, QueryOf};
use crate::event_loop::Handle;
use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tandem_api::groups::Created;
use tandem_api::vm_groups::VmGroup;
use tandem_api::{ApiError, VERSION_HEADER};
use tandem_core::Snapshot;
use tandem_model as model;

/// How long `?after=N` waits at most.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// An error as an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub Box<ApiError>);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure(Box::new(error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0.status(), Json(self.0)).into_response()
    }
}

/// What a handler gives.
pub type HandlerResult = Result<Response, Failure>;

/// How a handler describes an answer that is a part of the snapshot. The document says of each of
/// them that the snapshot's version is in a header.
pub(super) const PART: &str = "as the latest snapshot has it";

/// A part of the snapshot: of the latest one, or of the first one after `?after=N`.
pub(super) async fn part(
    event_loop: &Handle,
    query: QueryOf<After>,
    read: fn(&Snapshot) -> Response,
) -> Response {
    let snapshot = awaited(event_loop, query.0.after).await;
    with_version(read(&snapshot), &snapshot)
}

/// A part of the snapshot as JSON.
pub(super) fn json(part: &(impl Serialize + ?Sized)) -> Response {
    Json(part).into_response()
}

async fn awaited(event_loop: &Handle, after: Option<u64>) -> Arc<Snapshot> {
    if let Some(after) = after {
        let mut version = event_loop.version.clone();
        // When it takes too long, the latest one is given: its version tells.
        let _ = tokio::time::timeout(LONGEST_WAIT, version.wait_for(|v| *v > after)).await;
    }
    event_loop.snapshot.load_full()
}

/// An answer that says which snapshot it is from.
pub(super) fn with_version(mut response: Response, snapshot: &Snapshot) -> Response {
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(snapshot.version));
    response
}

/// Asks the core, and answers with what it says.
pub(super) async fn core(event_loop: &Handle, request: model::Request) -> HandlerResult {
    use model::Response as Core;
    let Some(response) = event_loop.ask(request).await else {
        return Err(ApiError::unavailable("the controller is stopping").into());
    };
    match response {
        Core::VmRunning { vm } => Ok((StatusCode::CREATED, Json(vm)).into_response()),
        Core::VmGroupRunning { group, vms } => {
            Ok((StatusCode::CREATED, Json(VmGroup { group: group.0, vms })).into_response())
        }
        Core::Explained { explanation } => Ok((StatusCode::OK, Json(explanation)).into_response()),
        Core::GroupCreated { group } => {
            Ok((StatusCode::CREATED, Json(Created { id: group.0 })).into_response())
        }
        Core::Planned { plan } => Ok((StatusCode::OK, Json(plan)).into_response()),
        Core::Migrating { migration } => {
            Ok((StatusCode::ACCEPTED, Json(Created { id: migration.0 })).into_response())
        }
        Core::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        Core::NameTaken { name, vm } => Err(ApiError::name_taken(&name, vm).into()),
        Core::NotFound { what } => Err(ApiError::not_found(format!("there is no {what}")).into()),
        // The data centre or the store could not do it; it may be asked again.
        Core::Failed { why } => Err(ApiError::unavailable(why).into()),
        Core::Conflict { why } => Err(ApiError::conflict(why).into()),
        Core::Rejected { rejection } => Err(ApiError::rejected(rejection).into()),
    }
}
