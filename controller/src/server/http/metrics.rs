//! `GET /metrics`: all figures for Prometheus.

use super::Api;
use super::respond::HandlerResult;
use crate::agents::Agents;
use crate::event_loop::Handle;
use crate::server::metrics::exposition;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use tandem_api::endpoints::METRICS;
use tandem_api::{ApiError, Code};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(scrape))
}

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[utoipa::path(get, path = METRICS.path, summary = METRICS.summary, responses(
    (status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text"),
    (status = 404,
        description = "switched off in the site file: [modules] metrics = false", body = ApiError),
))]
pub(super) async fn scrape(State(event_loop): State<Handle>, State(agents): State<Agents>) -> HandlerResult {
    let snapshot = event_loop.snapshot.load_full();
    if !snapshot.site.modules.metrics {
        let why = "metrics are switched off in the site file: [modules] metrics = false";
        return Err(ApiError::not_found(why).into());
    }
    let text = exposition(snapshot, agents.figures())
        .map_err(|why| ApiError::new(Code::Internal, format!("the metrics cannot be written: {why}")))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
