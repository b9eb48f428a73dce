//! The HTTP API of migrations, plans, hotspots and servers' maintenance. As in [`crate::api`], reads come from the snapshot and writes are
//! questions to the core.

use crate::api::{answer, error, view};
use crate::http::extract::{Body, PathOf};
use crate::hub::Handle;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tandem_core::Snapshot;
use tandem_model::text::escaped;
use tandem_model::{MigrationId, MigrationMode, MoveOptions, PlanGoal, PlanId, Request, ServerId, VmId};

/// The body of `POST /api/v1/migrations`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationBody {
    /// Which VM.
    pub vm: u64,
    /// Where to, by the server's name; where the allocation policy wants it, if left out.
    #[serde(default)]
    pub to: Option<String>,
    /// Live or cold.
    #[serde(default)]
    pub manner: Option<MigrationMode>,
    /// Also if it is not expected to converge.
    #[serde(default)]
    pub force: bool,
}

/// How VMs are moved; what is left out is the site's `[migration]`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct How {
    /// Live or cold.
    pub manner: Option<MigrationMode>,
    /// Also those that are not expected to converge.
    pub force: bool,
}

impl From<How> for MoveOptions {
    fn from(how: How) -> MoveOptions {
        MoveOptions { manner: how.manner, force: how.force }
    }
}

/// What a plan is to achieve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AimWord {
    /// Every VM where the allocation policy would place it today.
    KeepPolicy,
    /// No server and no link that is hot.
    Relieve,
    /// An empty `server`.
    Evacuate,
    /// One `vm` elsewhere, or `to` a server.
    Move,
}

/// The body of `POST /api/v1/plans`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanBody {
    /// What it is to achieve.
    pub aim: AimWord,
    /// The server to be evacuated, by its name.
    #[serde(default)]
    pub server: Option<String>,
    /// The VM to be moved.
    #[serde(default)]
    pub vm: Option<u64>,
    /// Where to, by the server's name; where the allocation policy wants it, if left out.
    #[serde(default)]
    pub to: Option<String>,
    /// Live or cold.
    #[serde(default)]
    pub manner: Option<MigrationMode>,
    /// Also those that are not expected to converge.
    #[serde(default)]
    pub force: bool,
}

impl PlanBody {
    fn aim(&self, snapshot: &Snapshot) -> Result<PlanGoal, Bad> {
        let missing = |what: &str| (StatusCode::BAD_REQUEST, format!("say which: {what} is missing"));
        Ok(match self.aim {
            AimWord::KeepPolicy => PlanGoal::KeepPolicy,
            AimWord::Relieve => PlanGoal::Relieve,
            AimWord::Evacuate => {
                let name = self.server.as_deref().ok_or_else(|| missing("server"))?;
                PlanGoal::Evacuate { server: server_named(snapshot, name)? }
            }
            AimWord::Move => {
                let vm = VmId(self.vm.ok_or_else(|| missing("vm"))?);
                PlanGoal::Move { vm, to: target(snapshot, self.to.as_deref())? }
            }
        })
    }
}

/// What is wrong with a request.
type Bad = (StatusCode, String);

/// The routes.
pub fn router(hub: Handle) -> Router {
    Router::new()
        .route("/api/v1/migrations", view(|s| Json(&*s.migrations).into_response()).post(migrate))
        .route("/api/v1/migrations/{migration}", get(show_migration).delete(cancel))
        .route("/api/v1/plans", view(|s| Json(&*s.plans).into_response()).post(plan))
        .route("/api/v1/plans/{plan}", get(show_plan))
        .route("/api/v1/plans/{plan}/apply", post(apply))
        .route("/api/v1/plans/{plan}/stop", post(stop))
        .route("/api/v1/hotspots", view(|s| Json(&*s.hotspots).into_response()))
        .route("/api/v1/servers/{server}/evacuation", put(evacuate).delete(give_back))
        .with_state(hub)
}

fn server_named(snapshot: &Snapshot, name: &str) -> Result<ServerId, Bad> {
    let found = snapshot.servers.iter().find(|s| s.name == name).map(|s| s.id);
    found.ok_or_else(|| {
        (StatusCode::NOT_FOUND, format!("there is no server {}; /api/v1/servers lists them", escaped(name)))
    })
}

fn target(snapshot: &Snapshot, to: Option<&str>) -> Result<Option<ServerId>, Bad> {
    to.map(|name| server_named(snapshot, name)).transpose()
}

async fn migrate(State(hub): State<Handle>, Body(body): Body<MigrationBody>) -> Response {
    let MigrationBody { vm, to, manner, force } = body;
    let to = target(&hub.snapshot.load(), to.as_deref());
    match to {
        Ok(to) => answer(
            hub.ask(Request::MigrateVm { vm: VmId(vm), to, options: MoveOptions { manner, force } }).await,
        ),
        Err((status, why)) => error(status, why),
    }
}

async fn show_migration(State(hub): State<Handle>, PathOf(id): PathOf<u64>) -> Response {
    match hub.snapshot.load().migrations.iter().find(|m| m.record.id == MigrationId(id)) {
        Some(migration) => Json(migration).into_response(),
        None => error(
            StatusCode::NOT_FOUND,
            format!("there is no mig{id}, or it ended long ago; /api/v1/migrations lists the latest"),
        ),
    }
}

async fn cancel(State(hub): State<Handle>, PathOf(id): PathOf<u64>) -> Response {
    answer(hub.ask(Request::CancelMigration { migration: MigrationId(id) }).await)
}

async fn plan(State(hub): State<Handle>, Body(body): Body<PlanBody>) -> Response {
    let options = MoveOptions { manner: body.manner, force: body.force };
    let aim = body.aim(&hub.snapshot.load());
    match aim {
        Ok(aim) => answer(hub.ask(Request::Plan { aim, options }).await),
        Err((status, why)) => error(status, why),
    }
}

async fn show_plan(State(hub): State<Handle>, PathOf(id): PathOf<u64>) -> Response {
    match hub.snapshot.load().plans.iter().find(|p| p.plan.id == PlanId(id)) {
        Some(plan) => Json(plan).into_response(),
        None => error(
            StatusCode::NOT_FOUND,
            format!("there is no plan{id}, or it is too old; /api/v1/plans lists the latest"),
        ),
    }
}

async fn apply(State(hub): State<Handle>, PathOf(id): PathOf<u64>) -> Response {
    answer(hub.ask(Request::ApplyPlan { plan: PlanId(id) }).await)
}

async fn stop(State(hub): State<Handle>, PathOf(id): PathOf<u64>) -> Response {
    answer(hub.ask(Request::StopPlan { plan: PlanId(id) }).await)
}

async fn evacuate(
    State(hub): State<Handle>,
    PathOf(server): PathOf<String>,
    Body(how): Body<How>,
) -> Response {
    let server = server_named(&hub.snapshot.load(), &server);
    match server {
        Ok(server) => answer(hub.ask(Request::EvacuateServer { server, options: how.into() }).await),
        Err((status, why)) => error(status, why),
    }
}

async fn give_back(State(hub): State<Handle>, PathOf(server): PathOf<String>) -> Response {
    let server = server_named(&hub.snapshot.load(), &server);
    match server {
        Ok(server) => answer(hub.ask(Request::ReturnServer { server }).await),
        Err((status, why)) => error(status, why),
    }
}
