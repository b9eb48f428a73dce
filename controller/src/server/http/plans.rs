//! Plans: `/api/v1/plans`, and what they are made for: hotspots, and servers out of service.

use super::Api;
use super::extract::{After, Body, PathOf, QueryOf};
use super::lookup;
use super::respond::{Failure, HandlerResult, PART, core, json, part};
use crate::event_loop::Handle;
use axum::extract::State;
use axum::response::Response;
use tandem_api::ApiError;
use tandem_api::endpoints::{
    APPLY_PLAN, EVACUATE, HOTSPOTS, MAKE_PLAN, PLANS, RETURN_SERVER, SHOW_PLAN, STOP_PLAN,
};
use tandem_api::migrations::{Goal, MigrationOptions, NewPlan};
use tandem_api::views;
use tandem_core::Snapshot;
use tandem_model::{MoveOptions, PlanGoal, PlanId, Request};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, make))
        .routes(routes!(show))
        .routes(routes!(apply))
        .routes(routes!(stop))
        .routes(routes!(hotspots))
        .routes(routes!(evacuate, return_to_service))
}

#[utoipa::path(get, path = PLANS.path, summary = PLANS.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::PlanView>)))]
pub(super) async fn list(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.plans)).await
}

#[utoipa::path(get, path = HOTSPOTS.path, summary = HOTSPOTS.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::HotspotView>)))]
pub(super) async fn hotspots(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.hotspots)).await
}

/// What a request's plan is to achieve.
fn goal(plan: &NewPlan, snapshot: &Snapshot) -> Result<PlanGoal, Failure> {
    let missing = |what: &str| ApiError::invalid(format!("say which: {what} is missing"));
    Ok(match plan.goal {
        Goal::KeepPolicy => PlanGoal::KeepPolicy,
        Goal::Relieve => PlanGoal::Relieve,
        Goal::Evacuate => {
            let name = plan.server.as_deref().ok_or_else(|| missing("server"))?;
            PlanGoal::Evacuate { server: lookup::server(snapshot, name)? }
        }
        Goal::Move => {
            let vm = lookup::vm(snapshot, plan.vm.as_ref().ok_or_else(|| missing("vm"))?.meant())?;
            PlanGoal::Move { vm, to: lookup::server_if_named(snapshot, plan.to.as_deref())? }
        }
    })
}

#[utoipa::path(post, path = MAKE_PLAN.path, summary = MAKE_PLAN.summary, request_body = NewPlan,
    responses(
    (status = 200, description = "the plan", body = views::Plan),
    (status = 400, description = "the request makes no sense", body = ApiError),
    (status = 404, description = "no such VM or server", body = ApiError),
))]
pub(super) async fn make(State(event_loop): State<Handle>, Body(body): Body<NewPlan>) -> HandlerResult {
    let options = MoveOptions { manner: body.mode, force: body.force, priority: body.priority };
    let aim = goal(&body, &event_loop.snapshot.load())?;
    core(&event_loop, Request::Plan { aim, options }).await
}

#[utoipa::path(get, path = SHOW_PLAN.path, summary = SHOW_PLAN.summary,
    params(("plan" = u64, Path)), responses(
    (status = 200, description = "the plan", body = views::PlanView),
    (status = 404, description = "no such plan", body = ApiError),
))]
pub(super) async fn show(State(event_loop): State<Handle>, PathOf(id): PathOf<u64>) -> HandlerResult {
    let snapshot = event_loop.snapshot.load();
    let plan = snapshot.plans.iter().find(|p| p.plan.id == PlanId(id)).ok_or_else(|| {
        let error = ApiError::not_found(format!("there is no plan{id}, or it is too old"));
        error.advise("/api/v1/plans lists the latest")
    })?;
    Ok(json(plan))
}

#[utoipa::path(post, path = APPLY_PLAN.path, summary = APPLY_PLAN.summary,
    params(("plan" = u64, Path)), responses(
    (status = 200, description = "the plan, begun", body = views::Plan),
    (status = 404, description = "no such plan", body = ApiError),
    (status = 409,
        description = "it has begun already, or the data centre has changed and it no longer holds", body = ApiError),
))]
pub(super) async fn apply(State(event_loop): State<Handle>, PathOf(id): PathOf<u64>) -> HandlerResult {
    core(&event_loop, Request::ApplyPlan { plan: PlanId(id) }).await
}

#[utoipa::path(post, path = STOP_PLAN.path, summary = STOP_PLAN.summary,
    params(("plan" = u64, Path)), responses(
    (status = 204, description = "no more moves of it begin"),
    (status = 404, description = "no such plan", body = ApiError),
    (status = 409, description = "it was never begun", body = ApiError),
))]
pub(super) async fn stop(State(event_loop): State<Handle>, PathOf(id): PathOf<u64>) -> HandlerResult {
    core(&event_loop, Request::StopPlan { plan: PlanId(id) }).await
}

/// One that is out of service already is planned for again: VMs that found no room may have some
/// now.
#[utoipa::path(put, path = EVACUATE.path, summary = EVACUATE.summary,
    params(("server" = String, Path)),
    request_body = MigrationOptions, responses(
    (status = 200, description = "the plan, begun", body = views::Plan),
    (status = 404, description = "no such server", body = ApiError),
    (status = 503, description = "the store could not be written", body = ApiError),
))]
pub(super) async fn evacuate(
    State(event_loop): State<Handle>,
    PathOf(server): PathOf<String>,
    Body(options): Body<MigrationOptions>,
) -> HandlerResult {
    let server = lookup::server(&event_loop.snapshot.load(), &server)?;
    core(&event_loop, Request::EvacuateServer { server, options: options.into() }).await
}

#[utoipa::path(delete, path = RETURN_SERVER.path, summary = RETURN_SERVER.summary,
    params(("server" = String, Path)), responses(
    (status = 204, description = "done"),
    (status = 404, description = "no such server", body = ApiError),
    (status = 409, description = "it is in service", body = ApiError),
    (status = 503, description = "the store could not be written", body = ApiError),
))]
pub(super) async fn return_to_service(
    State(event_loop): State<Handle>,
    PathOf(server): PathOf<String>,
) -> HandlerResult {
    let server = lookup::server(&event_loop.snapshot.load(), &server)?;
    core(&event_loop, Request::ReturnServer { server }).await
}
