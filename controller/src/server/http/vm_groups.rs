//! VMs that are requested together, and dry runs: `/api/v1/vms/group`, `/api/v1/vms/dry-run`.

use super::Api;
use super::extract::Body;
use super::lookup;
use super::respond::{Failure, HandlerResult, core};
use super::vms::check_words;
use crate::event_loop::Handle;
use axum::extract::State;
use tandem_api::endpoints::{DRY_RUN_VMS, REQUEST_VM_GROUP};
use tandem_api::vm_groups::{NewVmGroup, VmGroup};
use tandem_api::vms::NewVm;
use tandem_api::{ApiError, limits, views};
use tandem_core::Snapshot;
use tandem_model::{BitRate, Constraints, Request, Spread, VmGroupRequest, VmRequest};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(request)).routes(routes!(dry_run))
}

/// What a body asks for, with names resolved; `group` keeps its VMs apart if it is to.
pub(super) fn requested(
    snapshot: &Snapshot,
    vm: NewVm,
    group: Option<&Spread>,
) -> Result<VmRequest, Failure> {
    let resources = limits::resources(&vm.size(), snapshot.site.vm.default).map_err(ApiError::invalid)?;
    let timeout = check_words(vm.timeout, vm.name.as_deref(), vm.image.as_deref())?;
    let class = lookup::class_if_named(snapshot, vm.class.as_deref())?;
    let traffic = vm.traffic.as_deref().map(limits::traffic).transpose().map_err(ApiError::invalid)?;
    let own = match (vm.spread, vm.tag) {
        (Some(level), Some(tag)) => {
            limits::name(&tag).map_err(ApiError::invalid)?;
            Some(Spread { level, tag })
        }
        (None, None) => None,
        (Some(_), None) => {
            let error = ApiError::invalid("spread says how far apart, and tag from whom");
            return Err(error.advise("say both, or leave both out").into());
        }
        (None, Some(_)) => {
            let error = ApiError::invalid("tag says from whom a VM is kept apart, and spread how far");
            return Err(error.advise("say both, or leave both out").into());
        }
    };
    let on = vm.on.as_deref().map(|name| lookup::place(snapshot, name)).transpose()?;
    let constraints = Constraints { on, spread: own.or_else(|| group.cloned()) };
    Ok(VmRequest {
        resources,
        class,
        timeout,
        name: vm.name,
        image: vm.image,
        traffic,
        constraints,
        requester: None,
    })
}

/// The same of a group.
fn requested_group(snapshot: &Snapshot, body: NewVmGroup, least: usize) -> Result<VmGroupRequest, Failure> {
    let count = body.members.len();
    if !(least..=limits::GROUP_MEMBERS).contains(&count) {
        let most = limits::GROUP_MEMBERS;
        return Err(
            ApiError::invalid(format!("members are {least} to {most} VMs, and {count} are not")).into()
        );
    }
    if let Some(name) = &body.name {
        limits::name(name).map_err(ApiError::invalid)?;
    }
    let rate = body.rate.map(limits::rate).transpose().map_err(ApiError::invalid)?.map(BitRate);
    let tag = body.name.clone().unwrap_or_else(|| "this request".to_owned());
    let spread = body.spread.map(|level| Spread { level, tag });
    let members = body.members.into_iter().map(|vm| requested(snapshot, vm, spread.as_ref()));
    let members = members.collect::<Result<_, _>>()?;
    Ok(VmGroupRequest { name: body.name.unwrap_or_default(), members, rate })
}

#[utoipa::path(post, path = REQUEST_VM_GROUP.path, summary = REQUEST_VM_GROUP.summary,
    request_body = NewVmGroup, responses(
    (status = 201, description = "all run, and may talk to each other", body = VmGroup),
    (status = 400, description = "the request makes no sense", body = ApiError),
    (status = 404, description = "no such class, server or edge switch", body = ApiError),
    (status = 409,
        description = "no room for one of them, which is named, so there is none of them; or there is another group of that name",
        body = ApiError),
    (status = 503,
        description = "one of them could not be started or connected, and everything was undone", body = ApiError),
))]
pub(super) async fn request(State(event_loop): State<Handle>, Body(body): Body<NewVmGroup>) -> HandlerResult {
    if body.name.is_none() {
        return Err(ApiError::invalid("a group of VMs has a name").into());
    }
    let request = Box::new(requested_group(&event_loop.snapshot.load_full(), body, 2)?);
    core(&event_loop, Request::RequestVmGroup { request }).await
}

#[utoipa::path(post, path = DRY_RUN_VMS.path, summary = DRY_RUN_VMS.summary,
    request_body = NewVmGroup, responses(
    (status = 200, description = "what it would lead to", body = views::Explanation),
    (status = 400, description = "the request makes no sense", body = ApiError),
    (status = 404, description = "no such class, server or edge switch", body = ApiError),
))]
pub(super) async fn dry_run(State(event_loop): State<Handle>, Body(body): Body<NewVmGroup>) -> HandlerResult {
    let request = Box::new(requested_group(&event_loop.snapshot.load_full(), body, 1)?);
    core(&event_loop, Request::ExplainVms { request }).await
}
