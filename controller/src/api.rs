//! The HTTP API. Reads come from the published snapshot, writes are questions to the core that wait for its answer.
//!
//! Every answer carries the snapshot's version in `tandem-version`; `?after=N` waits (at most 10 s) until there is a newer one
//! than N. Who may ask what is decided before, in [`crate::http`].

use crate::http::extract::{Body, PathOf, QueryOf};
use crate::hub::Handle;
use crate::{limits, openapi};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tandem_core::Snapshot;
use tandem_model as model;
use tandem_model::text::escaped;
use tandem_model::{
    Adoption, BitRate, Bytes, ClassId, GroupId, PortNo, Request, Resources, ServerId, Share, SwitchId, VmId,
    VmRequest,
};

/// How long `?after=N` waits at most.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The body of `POST /api/v1/vms`; what is left out is the site's default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VmBody {
    /// CPU cores.
    pub cpu: Option<u32>,
    /// Bytes of RAM.
    pub ram: Option<u64>,
    /// Bytes of disk.
    pub disk: Option<u64>,
    /// Network, bit/s.
    pub net: Option<u64>,
    /// Service class, by its name.
    pub class: Option<String>,
    /// Seconds to live once it runs.
    pub timeout: Option<f64>,
    /// A name for people.
    pub name: Option<String>,
    /// What it is made from, by the name that its hypervisor knows.
    pub image: Option<String>,
}

/// The body of `PATCH /api/v1/vms/{vm}`; what is left out stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SizeBody {
    /// CPU cores.
    pub cpu: Option<u32>,
    /// Bytes of RAM.
    pub ram: Option<u64>,
    /// Bytes of disk.
    pub disk: Option<u64>,
    /// Network, bit/s.
    pub net: Option<u64>,
}

impl SizeBody {
    pub(crate) fn resources(&self, default: Resources) -> Resources {
        Resources {
            cpu: self.cpu.unwrap_or(default.cpu),
            ram: self.ram.map_or(default.ram, Bytes),
            disk: self.disk.map_or(default.disk, Bytes),
            net: self.net.map_or(default.net, BitRate),
        }
    }
}

/// The body of `POST /api/v1/groups`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupBody {
    /// Addresses of the VMs.
    pub members: Vec<Ipv4Addr>,
}

/// An error's body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One sentence.
    pub error: String,
    /// For a rejection: what was short where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<tandem_model::Rejection>,
}

#[derive(Debug, Deserialize)]
struct After {
    after: Option<u64>,
}

/// A part of the snapshot, as it is or as it is after `?after=N`.
pub(crate) fn view(f: fn(&Snapshot) -> Response) -> MethodRouter<Handle> {
    get(move |State(hub): State<Handle>, QueryOf(q): QueryOf<After>| async move {
        let snapshot = awaited(&hub, q.after).await;
        versioned(f(&snapshot), &snapshot)
    })
}

/// The API over a hub.
pub fn router(hub: Handle) -> Router {
    Router::new()
        .route("/api/v1/overview", view(|s| Json(overview(s)).into_response()))
        .route("/api/v1/switches", view(|s| Json(&*s.switches).into_response()))
        .route("/api/v1/classes", view(|s| Json(&*s.classes).into_response()).put(set_classes))
        .route("/api/v1/links", view(|s| Json(&*s.links).into_response()))
        .route("/api/v1/surprises", view(|s| Json(&*s.surprises).into_response()))
        .route("/api/v1/servers", view(|s| Json(&*s.servers).into_response()))
        .route("/api/v1/hosts", view(|s| Json(&s.hosts).into_response()))
        .route("/api/v1/notices", view(|s| Json(&*s.notices).into_response()))
        .route("/api/v1/vms", view(|s| Json(&*s.vms).into_response()).post(request_vm))
        .route("/api/v1/vms/{vm}/pin", axum::routing::put(pin_path).delete(unpin_path))
        .route("/api/v1/ports/{switch}/{port}", axum::routing::put(set_port))
        .route("/api/v1/overrides", view(|s| Json(&*s.overrides).into_response()))
        .route("/api/v1/vms/{vm}", get(show_vm).patch(resize_vm).delete(delete_vm))
        .route("/api/v1/strays", view(|s| Json(&*s.strays).into_response()))
        .route("/api/v1/strays/{vm}", axum::routing::delete(stop_stray))
        .route("/api/v1/strays/{vm}/adopt", post(adopt_vm))
        .route("/api/v1/groups", view(|s| Json(&*s.groups).into_response()).post(create_group))
        .route("/api/v1/groups/{group}", axum::routing::delete(delete_group))
        .route("/api/v1/rules/{switch}", get(rules))
        .route("/api/v1/poll", post(poll))
        .route("/api/v1/openapi.json", get(|| async { Json(openapi::document()) }))
        .fallback(|| async {
            error(StatusCode::NOT_FOUND, "there is nothing here; /api/v1/openapi.json says what there is")
        })
        .with_state(hub)
}

fn overview(s: &Snapshot) -> serde_json::Value {
    let connected = s.switches.iter().filter(|x| x.connected && x.role.is_some()).count();
    let declared = s.switches.iter().filter(|x| x.role.is_some() && !x.legacy).count();
    serde_json::json!({
        "site": s.site.name,
        "version": s.version,
        "policy": s.policy,
        "world": s.world,
        "switches": { "declared": declared, "connected": connected },
        "links": { "declared": s.links.len(), "usable": s.links.iter().filter(|l| l.state == "declared" || l.state == "confirmed").count() },
        "servers": s.servers.len(),
        "vms": s.vms.len(),
        "counters": s.counters,
        "defaults": s.site.vm.default,
    })
}

async fn awaited(hub: &Handle, after: Option<u64>) -> Arc<Snapshot> {
    if let Some(after) = after {
        let mut version = hub.version.clone();
        let _ = tokio::time::timeout(LONGEST_WAIT, version.wait_for(|v| *v > after)).await;
    }
    hub.snapshot.load_full()
}

fn versioned(mut response: Response, snapshot: &Snapshot) -> Response {
    response.headers_mut().insert("tandem-version", HeaderValue::from(snapshot.version));
    response
}

pub(crate) fn error(status: StatusCode, text: impl Into<String>) -> Response {
    (status, Json(ErrorBody { error: text.into(), rejection: None })).into_response()
}

pub(crate) fn answer(answer: Option<model::Response>) -> Response {
    match answer {
        None => error(StatusCode::SERVICE_UNAVAILABLE, "the controller is stopping"),
        Some(model::Response::VmRunning { vm }) => (StatusCode::CREATED, Json(vm)).into_response(),
        Some(model::Response::GroupCreated { group }) => {
            (StatusCode::CREATED, Json(serde_json::json!({ "id": group }))).into_response()
        }
        Some(model::Response::Planned { plan }) => (StatusCode::OK, Json(plan)).into_response(),
        Some(model::Response::Migrating { migration }) => {
            (StatusCode::ACCEPTED, Json(serde_json::json!({ "id": migration }))).into_response()
        }
        Some(model::Response::Done) => StatusCode::NO_CONTENT.into_response(),
        Some(model::Response::NotFound { what }) => {
            error(StatusCode::NOT_FOUND, format!("there is no {what}"))
        }
        // The data centre or the store could not do it; it may be asked again.
        Some(model::Response::Failed { why }) => error(StatusCode::SERVICE_UNAVAILABLE, why),
        Some(model::Response::Conflict { why }) => error(StatusCode::CONFLICT, why),
        Some(model::Response::Rejected { rejection }) => {
            let body = ErrorBody { error: rejection.summary.clone(), rejection: Some(rejection) };
            (StatusCode::CONFLICT, Json(body)).into_response()
        }
    }
}

async fn request_vm(State(hub): State<Handle>, Body(body): Body<VmBody>) -> Response {
    let snapshot = hub.snapshot.load_full();
    let size = SizeBody { cpu: body.cpu, ram: body.ram, disk: body.disk, net: body.net };
    let checked = limits::resources(&size, snapshot.site.vm.default)
        .and_then(|resources| Ok((resources, body.timeout.map(limits::lifetime).transpose()?)))
        .and_then(|ok| body.name.as_deref().map_or(Ok(()), limits::name).map(|()| ok))
        .and_then(|ok| body.image.as_deref().map_or(Ok(()), limits::image).map(|()| ok));
    let (resources, timeout) = match checked {
        Ok(checked) => checked,
        Err(why) => return error(StatusCode::BAD_REQUEST, why),
    };
    let class = match body.class.as_deref().map(|name| class_named(&snapshot, name)).transpose() {
        Ok(class) => class,
        Err(why) => return error(StatusCode::NOT_FOUND, why),
    };
    let request = VmRequest { resources, class, timeout, name: body.name, image: body.image };
    answer(hub.ask(Request::RequestVm { request }).await)
}

fn class_named(snapshot: &Snapshot, name: &str) -> Result<ClassId, String> {
    let classes = &snapshot.site.classes;
    let at = (0u16..).zip(classes).find(|(_, c)| c.name == name);
    at.map(|(n, _)| ClassId(n)).ok_or_else(|| {
        let names: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
        let there = if names.is_empty() { "none ([[class]])".to_owned() } else { names.join(", ") };
        format!("there is no class \"{}\"; the site file has {there}", escaped(name))
    })
}

/// One class's new share, in percent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassBody {
    /// The class's name.
    pub name: String,
    /// Guaranteed.
    pub share: f64,
    /// At most; as it is if left out.
    #[serde(default)]
    pub ceiling: Option<f64>,
}

/// Classes that are left out keep what they have.
async fn set_classes(State(hub): State<Handle>, Body(body): Body<Vec<ClassBody>>) -> Response {
    let snapshot = hub.snapshot.load_full();
    let mut shares: Vec<Share> = snapshot.classes.iter().map(|c| c.share).collect();
    for class in body {
        let checked = limits::percent("share", class.share);
        let checked = checked.and(class.ceiling.map_or(Ok(()), |c| limits::percent("ceiling", c)));
        if let Err(why) = checked {
            return error(StatusCode::BAD_REQUEST, why);
        }
        match class_named(&snapshot, &class.name).map(|id| shares.get_mut(usize::from(id.0))) {
            Ok(Some(share)) => {
                *share = Share { share: class.share, ceiling: class.ceiling.unwrap_or(share.ceiling) };
            }
            Ok(None) => {}
            Err(why) => return error(StatusCode::NOT_FOUND, why),
        }
    }
    answer(hub.ask(Request::SetShares { shares }).await)
}

async fn show_vm(State(hub): State<Handle>, PathOf(vm): PathOf<u64>) -> Response {
    let snapshot = hub.snapshot.load_full();
    match snapshot.vms.iter().find(|v| v.record.id == VmId(vm)) {
        Some(vm) => versioned(Json(vm).into_response(), &snapshot),
        None => error(StatusCode::NOT_FOUND, format!("there is no vm{vm}")),
    }
}

async fn resize_vm(
    State(hub): State<Handle>,
    PathOf(vm): PathOf<u64>,
    Body(body): Body<SizeBody>,
) -> Response {
    let snapshot = hub.snapshot.load_full();
    let Some(view) = snapshot.vms.iter().find(|v| v.record.id == VmId(vm)) else {
        return error(StatusCode::NOT_FOUND, format!("there is no vm{vm}"));
    };
    let resources = match limits::resources(&body, view.record.request.resources) {
        Ok(resources) => resources,
        Err(why) => return error(StatusCode::BAD_REQUEST, why),
    };
    answer(hub.ask(Request::ResizeVm { vm: VmId(vm), resources }).await)
}

async fn delete_vm(State(hub): State<Handle>, PathOf(vm): PathOf<u64>) -> Response {
    answer(hub.ask(Request::DeleteVm { vm: VmId(vm) }).await)
}

/// The body of `POST /api/v1/strays/{vm}/adopt`: what is not kept with the VM.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdoptBody {
    /// The server where it is, by its name; only needed where there are several VMs with its id.
    pub server: Option<String>,
    /// CPU cores.
    pub cpu: Option<u32>,
    /// Bytes of RAM.
    pub ram: Option<u64>,
    /// Bytes of disk.
    pub disk: Option<u64>,
    /// Network, bit/s.
    pub net: Option<u64>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Service class, by its name.
    pub class: Option<String>,
    /// Seconds to live from now on.
    pub timeout: Option<f64>,
    /// A name for people.
    pub name: Option<String>,
    /// What it was made from.
    pub image: Option<String>,
}

/// Which server a stray is on, where there are several with its id.
#[derive(Debug, Deserialize)]
struct OnServer {
    server: Option<String>,
}

fn server_named(snapshot: &Snapshot, name: Option<&str>) -> Result<Option<ServerId>, String> {
    let Some(name) = name else { return Ok(None) };
    let found = snapshot.servers.iter().find(|s| s.name == name);
    found
        .map(|s| Some(s.id))
        .ok_or_else(|| format!("there is no server {}; /api/v1/servers lists them", escaped(name)))
}

async fn adopt_vm(
    State(hub): State<Handle>,
    PathOf(vm): PathOf<u64>,
    Body(body): Body<AdoptBody>,
) -> Response {
    let snapshot = hub.snapshot.load_full();
    let size = SizeBody { cpu: body.cpu, ram: body.ram, disk: body.disk, net: body.net };
    let checked = limits::resources(&size, snapshot.site.vm.default)
        .and_then(|_| body.timeout.map(limits::lifetime).transpose())
        .and_then(|ok| body.name.as_deref().map_or(Ok(()), limits::name).map(|()| ok))
        .and_then(|ok| body.image.as_deref().map_or(Ok(()), limits::image).map(|()| ok));
    let timeout = match checked {
        Ok(timeout) => timeout,
        Err(why) => return error(StatusCode::BAD_REQUEST, why),
    };
    let class = body.class.as_deref().map(|name| class_named(&snapshot, name)).transpose();
    let (class, server) = match (class, server_named(&snapshot, body.server.as_deref())) {
        (Ok(class), Ok(server)) => (class, server),
        (Err(why), _) | (_, Err(why)) => return error(StatusCode::NOT_FOUND, why),
    };
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
    answer(hub.ask(Request::AdoptVm { vm: VmId(vm), server, known }).await)
}

async fn stop_stray(
    State(hub): State<Handle>,
    PathOf(vm): PathOf<u64>,
    QueryOf(q): QueryOf<OnServer>,
) -> Response {
    match server_named(&hub.snapshot.load(), q.server.as_deref()) {
        Ok(server) => answer(hub.ask(Request::StopStray { vm: VmId(vm), server }).await),
        Err(why) => error(StatusCode::NOT_FOUND, why),
    }
}

async fn create_group(State(hub): State<Handle>, Body(body): Body<GroupBody>) -> Response {
    let different: std::collections::BTreeSet<&Ipv4Addr> = body.members.iter().collect();
    if different.len() < 2 {
        return error(StatusCode::BAD_REQUEST, "a group needs the addresses of at least two different VMs");
    }
    answer(hub.ask(Request::CreateGroup { members: body.members }).await)
}

async fn delete_group(State(hub): State<Handle>, PathOf(group): PathOf<u64>) -> Response {
    answer(hub.ask(Request::DeleteGroup { group: GroupId(group) }).await)
}

async fn rules(State(hub): State<Handle>, PathOf(switch): PathOf<String>) -> Response {
    let snapshot = hub.snapshot.load_full();
    match snapshot.rules_of(&switch) {
        Some(rules) => versioned(Json(&**rules).into_response(), &snapshot),
        None => error(StatusCode::NOT_FOUND, no_switch(&switch)),
    }
}

/// The body of `PUT /api/v1/ports/{switch}/{port}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortBody {
    /// On?
    pub up: bool,
}

/// The body of `PUT /api/v1/vms/{vm}/pin`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinBody {
    /// Switches by name or datapath id, in the path's order from the server on.
    pub switches: Vec<String>,
}

fn switch_named(snapshot: &Snapshot, name: &str) -> Result<SwitchId, String> {
    let found = snapshot.switch_named(name);
    found.ok_or_else(|| no_switch(name))
}

fn no_switch(name: &str) -> String {
    format!("there is no switch {}; /api/v1/switches lists them", escaped(name))
}

async fn set_port(
    State(hub): State<Handle>,
    PathOf((switch, port)): PathOf<(String, u32)>,
    Body(body): Body<PortBody>,
) -> Response {
    match switch_named(&hub.snapshot.load(), &switch) {
        Ok(switch) => answer(hub.ask(Request::SetPort { switch, port: PortNo(port), up: body.up }).await),
        Err(why) => error(StatusCode::NOT_FOUND, why),
    }
}

async fn pin_path(State(hub): State<Handle>, PathOf(vm): PathOf<u64>, Body(body): Body<PinBody>) -> Response {
    if body.switches.is_empty() || body.switches.len() > limits::LONGEST_PATH {
        let why = format!("a path goes by 1 to {} switches", limits::LONGEST_PATH);
        return error(StatusCode::BAD_REQUEST, why);
    }
    let snapshot = hub.snapshot.load_full();
    let via: Result<Vec<SwitchId>, String> =
        body.switches.iter().map(|name| switch_named(&snapshot, name)).collect();
    match via {
        Ok(via) => answer(hub.ask(Request::PinPath { vm: VmId(vm), via }).await),
        Err(why) => error(StatusCode::NOT_FOUND, why),
    }
}

async fn unpin_path(State(hub): State<Handle>, PathOf(vm): PathOf<u64>) -> Response {
    answer(hub.ask(Request::UnpinPath { vm: VmId(vm) }).await)
}

async fn poll(State(hub): State<Handle>) -> Response {
    answer(hub.ask(Request::PollNow).await)
}
