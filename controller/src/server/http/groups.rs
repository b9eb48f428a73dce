//! Groups of VMs that may talk to each other: `/api/v1/groups`.

use super::Api;
use super::extract::{After, Body, PathOf, QueryOf};
use super::lookup;
use super::respond::{HandlerResult, PART, core, json, part};
use crate::event_loop::Handle;
use axum::extract::State;
use axum::response::Response;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use tandem_api::ApiError;
use tandem_api::endpoints::{CREATE_GROUP, DELETE_GROUP, GROUPS};
use tandem_api::groups::{Created, NewGroup};
use tandem_api::views;
use tandem_model::{GroupId, Request};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(delete))
}

#[utoipa::path(get, path = GROUPS.path, summary = GROUPS.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::GroupRecord>)))]
pub(super) async fn list(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.groups)).await
}

#[utoipa::path(post, path = CREATE_GROUP.path, summary = CREATE_GROUP.summary,
    request_body = NewGroup, responses(
    (status = 201, description = "the group's id", body = Created),
    (status = 400, description = "fewer than two different VMs", body = ApiError),
    (status = 404, description = "no running VM has one of the names, numbers or addresses", body = ApiError),
    (status = 409, description = "more than one of them is being moved", body = ApiError),
    (status = 503,
        description = "the store could not be written, or a switch has refused rules", body = ApiError),
))]
pub(super) async fn create(State(event_loop): State<Handle>, Body(body): Body<NewGroup>) -> HandlerResult {
    let snapshot = event_loop.snapshot.load_full();
    let members: Result<Vec<Ipv4Addr>, _> =
        body.members.iter().map(|member| lookup::member(&snapshot, member)).collect();
    let members = members?;
    let different: BTreeSet<&Ipv4Addr> = members.iter().collect();
    if different.len() < 2 {
        let why = "a group needs at least two different VMs";
        return Err(ApiError::invalid(why).into());
    }
    core(&event_loop, Request::CreateGroup { members }).await
}

#[utoipa::path(delete, path = DELETE_GROUP.path, summary = DELETE_GROUP.summary,
    params(("group" = u64, Path)), responses(
    (status = 204, description = "it is gone"),
    (status = 404, description = "no such group", body = ApiError),
    (status = 503, description = "the store could not be written", body = ApiError),
))]
pub(super) async fn delete(State(event_loop): State<Handle>, PathOf(group): PathOf<u64>) -> HandlerResult {
    core(&event_loop, Request::DeleteGroup { group: GroupId(group) }).await
}
