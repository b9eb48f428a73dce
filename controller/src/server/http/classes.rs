//! Service classes: `/api/v1/classes`.

use super::Api;
use super::extract::{After, Body, QueryOf};
use super::lookup;
use super::respond::{HandlerResult, PART, core, json, part};
use crate::event_loop::Handle;
use axum::extract::State;
use axum::response::Response;
use tandem_api::classes::ClassShare;
use tandem_api::endpoints::{CLASSES, SET_SHARES};
use tandem_api::views;
use tandem_api::{ApiError, limits};
use tandem_model::{Request, Share};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, set))
}

#[utoipa::path(get, path = CLASSES.path, summary = CLASSES.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::ClassView>)))]
pub(super) async fn list(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.classes)).await
}

/// Classes that are left out keep what they have.
#[utoipa::path(put, path = SET_SHARES.path, summary = SET_SHARES.summary,
    request_body = Vec<ClassShare>, responses(
    (status = 204, description = "every switch has been told"),
    (status = 400, description = "a share or a ceiling that is no percentage", body = ApiError),
    (status = 404, description = "no such class", body = ApiError),
    (status = 409,
        description = "they add up to more than 100%, or one is above its ceiling", body = ApiError),
    (status = 503, description = "the store could not be written", body = ApiError),
))]
pub(super) async fn set(
    State(event_loop): State<Handle>,
    Body(body): Body<Vec<ClassShare>>,
) -> HandlerResult {
    let snapshot = event_loop.snapshot.load_full();
    let mut shares: Vec<Share> = snapshot.classes.iter().map(|c| c.share).collect();
    for class in body {
        limits::percent("share", class.share).map_err(ApiError::invalid)?;
        class.ceiling.map_or(Ok(()), |c| limits::percent("ceiling", c)).map_err(ApiError::invalid)?;
        let id = lookup::class(&snapshot, &class.name)?;
        if let Some(share) = shares.get_mut(usize::from(id.0)) {
            *share = Share { share: class.share, ceiling: class.ceiling.unwrap_or(share.ceiling) };
        }
    }
    core(&event_loop, Request::SetShares { shares }).await
}
