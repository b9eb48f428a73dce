//! VMs: `/api/v1/vms`.

use super::Api;
use super::extract::{After, Body, PathOf, QueryOf};
use super::lookup;
use super::respond::{Failure, HandlerResult, PART, core, json, part, with_version};
use super::vm_groups::requested;
use crate::event_loop::Handle;
use axum::extract::State;
use axum::response::Response;
use std::time::Duration;
use tandem_api::endpoints::{DELETE_VM, REQUEST_VM, RESIZE_VM, SHOW_VM, VMS};
use tandem_api::views;
use tandem_api::vm_ref::meant;
use tandem_api::vms::{NewVm, VmSize};
use tandem_api::{ApiError, VmRef, limits};
use tandem_model::{Request, VmId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What a path has for a VM.
pub(super) const VM: &str = "its number, such as 7 or vm7, or its name";

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, request)).routes(routes!(show, resize, delete))
}

#[utoipa::path(get, path = VMS.path, summary = VMS.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::VmView>)))]
pub(super) async fn list(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.vms)).await
}

/// Checks the words of a request that no snapshot is needed for; the time that it says.
pub(super) fn check_words(
    timeout: Option<f64>,
    name: Option<&str>,
    image: Option<&str>,
) -> Result<Option<Duration>, Failure> {
    let checked = timeout.map(limits::lifetime).transpose().and_then(|timeout| {
        name.map_or(Ok(()), limits::vm_name)?;
        image.map_or(Ok(()), limits::image)?;
        Ok(timeout)
    });
    checked.map_err(|why| ApiError::invalid(why).into())
}

#[utoipa::path(post, path = REQUEST_VM.path, summary = REQUEST_VM.summary, request_body = NewVm,
    responses(
    (status = 201, description = "it runs", body = views::VmRecord),
    (status = 400, description = "the request makes no sense", body = ApiError),
    (status = 404, description = "no such class, server or edge switch", body = ApiError),
    (status = 409,
        description = "another VM has its name, or no room: which resource on which servers or links was short", body = ApiError),
    (status = 503,
        description = "it was tried and failed, and everything was undone", body = ApiError),
))]
pub(super) async fn request(State(event_loop): State<Handle>, Body(body): Body<NewVm>) -> HandlerResult {
    let snapshot = event_loop.snapshot.load_full();
    let request = requested(&snapshot, body, None)?;
    core(&event_loop, Request::RequestVm { request }).await
}

fn no_vm(vm: VmId) -> Failure {
    ApiError::not_found(format!("there is no {vm}")).into()
}

#[utoipa::path(get, path = SHOW_VM.path, summary = SHOW_VM.summary, params(("vm" = VmRef, Path, description = VM)),
    responses((status = 200, description = PART, body = views::VmView),
        (status = 404, description = "no such VM", body = ApiError)))]
pub(super) async fn show(State(event_loop): State<Handle>, PathOf(vm): PathOf<String>) -> HandlerResult {
    let snapshot = event_loop.snapshot.load_full();
    let vm = lookup::vm(&snapshot, meant(&vm))?;
    let view = snapshot.vms.iter().find(|v| v.record.id == vm).ok_or_else(|| no_vm(vm))?;
    Ok(with_version(json(view), &snapshot))
}

#[utoipa::path(patch, path = RESIZE_VM.path, summary = RESIZE_VM.summary,
    params(("vm" = VmRef, Path, description = VM)),
    request_body = VmSize, responses(
    (status = 204, description = "it has them"),
    (status = 400, description = "something other than a size", body = ApiError),
    (status = 404, description = "no such VM", body = ApiError),
    (status = 409, description = "no room, or it does not run", body = ApiError),
    (status = 503, description = "it was tried and undone", body = ApiError),
))]
pub(super) async fn resize(
    State(event_loop): State<Handle>,
    PathOf(vm): PathOf<String>,
    Body(body): Body<VmSize>,
) -> HandlerResult {
    let snapshot = event_loop.snapshot.load_full();
    let vm = lookup::vm(&snapshot, meant(&vm))?;
    let view = snapshot.vms.iter().find(|v| v.record.id == vm).ok_or_else(|| no_vm(vm))?;
    let resources = limits::resources(&body, view.record.request.resources).map_err(ApiError::invalid)?;
    core(&event_loop, Request::ResizeVm { vm, resources }).await
}

#[utoipa::path(delete, path = DELETE_VM.path, summary = DELETE_VM.summary,
    params(("vm" = VmRef, Path, description = VM)), responses(
    (status = 204, description = "it is gone"),
    (status = 404, description = "no such VM", body = ApiError),
    (status = 503, description = "the store could not be written; it runs on", body = ApiError),
))]
pub(super) async fn delete(State(event_loop): State<Handle>, PathOf(vm): PathOf<String>) -> HandlerResult {
    let vm = lookup::vm(&event_loop.snapshot.load(), meant(&vm))?;
    core(&event_loop, Request::DeleteVm { vm }).await
}
