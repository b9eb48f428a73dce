//! VMs that run without a record of them: `/api/v1/strays`.

use super::Api;
use super::extract::{After, Body, PathOf, QueryOf};
use super::lookup::{class_if_named, server_if_named};
use super::respond::{HandlerResult, PART, core, json, part};
use super::vms::check_words;
use crate::event_loop::Handle;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use tandem_api::endpoints::{ADOPT_VM, STOP_STRAY, STRAYS};
use tandem_api::views;
use tandem_api::vms::AdoptVm;
use tandem_api::{ApiError, limits};
use tandem_model::{Adoption, BitRate, Bytes, Request, VmId};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(stop)).routes(routes!(adopt))
}

/// Which server a stray is on, where there are several with its id.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OnServer {
    /// The server's name; only needed where there are several with its id.
    server: Option<String>,
}

#[utoipa::path(get, path = STRAYS.path, summary = STRAYS.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::StrayView>)))]
pub(super) async fn list(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.strays)).await
}

#[utoipa::path(post, path = ADOPT_VM.path, summary = ADOPT_VM.summary, params(("vm" = u64, Path)),
    request_body = AdoptVm, responses(
    (status = 201, description = "it is a VM like any other", body = views::VmRecord),
    (status = 400, description = "the request makes no sense", body = ApiError),
    (status = 404, description = "no such VM, server or class", body = ApiError),
    (status = 409,
        description = "something must be said that is not kept with it, or it cannot be adopted; says why", body = ApiError),
    (status = 503, description = "the store could not be written", body = ApiError),
))]
pub(super) async fn adopt(
    State(event_loop): State<Handle>,
    PathOf(vm): PathOf<u64>,
    Body(body): Body<AdoptVm>,
) -> HandlerResult {
    let snapshot = event_loop.snapshot.load_full();
    limits::resources(&body.size(), snapshot.site.vm.default).map_err(ApiError::invalid)?;
    let timeout = check_words(body.timeout, body.name.as_deref(), body.image.as_deref())?;
    let class = class_if_named(&snapshot, body.class.as_deref())?;
    let server = server_if_named(&snapshot, body.server.as_deref())?;
    let known = Adoption {
        cpu: body.cpu,
        ram: body.ram.map(Bytes),
        disk: body.disk.map(Bytes),
        net: body.net.map(BitRate),
        address: body.address,
        class,
        timeout,
        name: body.name,
        image: body.image,
    };
    core(&event_loop, Request::AdoptVm { vm: VmId(vm), server, known }).await
}

#[utoipa::path(delete, path = STOP_STRAY.path, summary = STOP_STRAY.summary,
    params(("vm" = u64, Path), OnServer), responses(
    (status = 204, description = "it is gone"),
    (status = 404, description = "no such VM or server", body = ApiError),
    (status = 409,
        description = "there are several with its id; `server` says which", body = ApiError),
    (status = 503, description = "its hypervisor does not answer", body = ApiError),
))]
pub(super) async fn stop(
    State(event_loop): State<Handle>,
    PathOf(vm): PathOf<u64>,
    QueryOf(on): QueryOf<OnServer>,
) -> HandlerResult {
    let server = server_if_named(&event_loop.snapshot.load(), on.server.as_deref())?;
    core(&event_loop, Request::StopStray { vm: VmId(vm), server }).await
}
