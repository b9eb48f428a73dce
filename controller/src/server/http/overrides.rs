//! What is decided by hand: ports that are off, paths that are pinned.

use super::Api;
use super::extract::{After, Body, PathOf, QueryOf};
use super::lookup;
use super::respond::{HandlerResult, PART, core, json, part};
use super::vms::VM;
use crate::event_loop::Handle;
use axum::extract::State;
use axum::response::Response;
use tandem_api::endpoints::{OVERRIDES, PIN_PATH, SET_PORT, UNPIN_PATH};
use tandem_api::overrides::{PathPin, PortState};
use tandem_api::views;
use tandem_api::vm_ref::meant;
use tandem_api::{ApiError, VmRef, limits};
use tandem_model::{PortNo, Request, SwitchId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(set_port)).routes(routes!(pin_path, unpin_path))
}

#[utoipa::path(get, path = OVERRIDES.path, summary = OVERRIDES.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::OverrideView>)))]
pub(super) async fn list(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.overrides)).await
}

#[utoipa::path(put, path = SET_PORT.path, summary = SET_PORT.summary,
    params(("switch" = String, Path, description = "its name or datapath id"), ("port" = u32, Path)),
    request_body = PortState, responses(
    (status = 204, description = "done"),
    (status = 404, description = "no such switch or port", body = ApiError),
    (status = 409,
        description = "it was not switched off here, or its switch has no OpenFlow", body = ApiError),
    (status = 503, description = "the store could not be written", body = ApiError),
))]
pub(super) async fn set_port(
    State(event_loop): State<Handle>,
    PathOf((switch, port)): PathOf<(String, u32)>,
    Body(body): Body<PortState>,
) -> HandlerResult {
    let switch = lookup::switch(&event_loop.snapshot.load(), &switch)?;
    core(&event_loop, Request::SetPort { switch, port: PortNo(port), up: body.up }).await
}

#[utoipa::path(put, path = PIN_PATH.path, summary = PIN_PATH.summary, params(("vm" = VmRef, Path, description = VM)),
    request_body = PathPin, responses(
    (status = 204, description = "its path goes by them"),
    (status = 400, description = "no switch, or too many", body = ApiError),
    (status = 404, description = "no such VM or switch", body = ApiError),
    (status = 409,
        description = "no live way by them, or no room on a link; says which", body = ApiError),
    (status = 503, description = "the store could not be written", body = ApiError),
))]
pub(super) async fn pin_path(
    State(event_loop): State<Handle>,
    PathOf(vm): PathOf<String>,
    Body(body): Body<PathPin>,
) -> HandlerResult {
    if body.switches.is_empty() || body.switches.len() > limits::LONGEST_PATH {
        let why = format!("a path goes by 1 to {} switches", limits::LONGEST_PATH);
        return Err(ApiError::invalid(why).into());
    }
    let snapshot = event_loop.snapshot.load_full();
    let via: Result<Vec<SwitchId>, _> =
        body.switches.iter().map(|name| lookup::switch(&snapshot, name)).collect();
    let vm = lookup::vm(&snapshot, meant(&vm))?;
    core(&event_loop, Request::PinPath { vm, via: via? }).await
}

#[utoipa::path(delete, path = UNPIN_PATH.path, summary = UNPIN_PATH.summary,
    params(("vm" = VmRef, Path, description = VM)), responses(
    (status = 204, description = "done"),
    (status = 404, description = "no such VM", body = ApiError),
    (status = 409, description = "its path is not pinned, or it is being moved", body = ApiError),
    (status = 503, description = "the store could not be written", body = ApiError),
))]
pub(super) async fn unpin_path(
    State(event_loop): State<Handle>,
    PathOf(vm): PathOf<String>,
) -> HandlerResult {
    let vm = lookup::vm(&event_loop.snapshot.load(), meant(&vm))?;
    core(&event_loop, Request::UnpinPath { vm }).await
}
