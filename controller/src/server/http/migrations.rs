//! Migrations: `/api/v1/migrations`.

use super::Api;
use super::extract::{After, Body, PathOf, QueryOf};
use super::lookup::{self, server_if_named};
use super::respond::{HandlerResult, PART, core, json, part};
use crate::event_loop::Handle;
use axum::extract::State;
use axum::response::Response;
use tandem_api::ApiError;
use tandem_api::endpoints::{CANCEL_MIGRATION, MIGRATE, MIGRATIONS, SHOW_MIGRATION};
use tandem_api::groups::Created;
use tandem_api::migrations::NewMigration;
use tandem_api::views;
use tandem_model::{MigrationId, MoveOptions, Request};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, cancel))
}

#[utoipa::path(get, path = MIGRATIONS.path, summary = MIGRATIONS.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::MigrationView>)))]
pub(super) async fn list(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.migrations)).await
}

#[utoipa::path(post, path = MIGRATE.path, summary = MIGRATE.summary, request_body = NewMigration,
    responses(
    (status = 202, description = "its id", body = Created),
    (status = 400, description = "the request makes no sense", body = ApiError),
    (status = 404, description = "no such VM or server", body = ApiError),
    (status = 409,
        description = "it cannot be moved there; says what is short or in the way", body = ApiError),
    (status = 503, description = "the store could not be written", body = ApiError),
))]
pub(super) async fn create(
    State(event_loop): State<Handle>,
    Body(body): Body<NewMigration>,
) -> HandlerResult {
    let snapshot = event_loop.snapshot.load_full();
    let to = server_if_named(&snapshot, body.to.as_deref())?;
    let vm = lookup::vm(&snapshot, body.vm.meant())?;
    let options = MoveOptions { manner: body.mode, force: body.force, priority: body.priority };
    core(&event_loop, Request::MigrateVm { vm, to, options }).await
}

#[utoipa::path(get, path = SHOW_MIGRATION.path, summary = SHOW_MIGRATION.summary,
    params(("migration" = u64, Path)), responses(
    (status = 200, description = "the migration", body = views::MigrationView),
    (status = 404, description = "no such migration", body = ApiError),
))]
pub(super) async fn show(State(event_loop): State<Handle>, PathOf(id): PathOf<u64>) -> HandlerResult {
    let snapshot = event_loop.snapshot.load();
    let found = snapshot.migrations.iter().find(|m| m.record.id == MigrationId(id));
    let migration = found.ok_or_else(|| {
        let error = ApiError::not_found(format!("there is no mig{id}, or it ended long ago"));
        error.advise("/api/v1/migrations lists the latest")
    })?;
    Ok(json(migration))
}

#[utoipa::path(delete, path = CANCEL_MIGRATION.path, summary = CANCEL_MIGRATION.summary,
    params(("migration" = u64, Path)), responses(
    (status = 204, description = "the VM is where it was"),
    (status = 404, description = "no such migration", body = ApiError),
    (status = 409, description = "it is too late", body = ApiError),
    (status = 503,
        description = "the VM was lost on the way, or the store could not be written", body = ApiError),
))]
pub(super) async fn cancel(State(event_loop): State<Handle>, PathOf(id): PathOf<u64>) -> HandlerResult {
    core(&event_loop, Request::CancelMigration { migration: MigrationId(id) }).await
}
