//! The stream of events, in the form of server-sent events (WHATWG HTML, 9.2): each has an `event:`
//! with its kind, an `id:` with its number and a `data:` with all of it in JSON.
//!
//! A stream waits at the log of events and copies what is new out of it; its connection's own
//! time-out ends one that takes nothing.

use super::Api;
use super::extract::QueryOf;
use super::respond::{Failure, HandlerResult};
use crate::event_loop::Handle;
use crate::site_events::{EventLog, STREAMS, Unseen};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tandem_api::ApiError;
use tandem_api::endpoints::EVENTS;
use tandem_api::events::{Change, EventView};
use tandem_model::Site;
use tokio::time::{Instant, interval_at};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{IntervalStream, WatchStream};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(events))
}

/// So often is a comment sent when nothing happens, so that both ends, and whoever is between them,
/// see that the connection is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a client sends when it comes back (WHATWG HTML, 9.2.4).
const LAST_EVENT_ID: &str = "last-event-id";

/// Where a stream begins, and whether it ends.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsFrom {
    /// The number of the last event that is known; those after it are given. 0 is before all that
    /// are kept. Without it, and without a `Last-Event-ID`, the stream begins with what comes next.
    after: Option<u64>,
    /// False to end the stream behind the events that are there already.
    follow: Option<bool>,
}

#[utoipa::path(get, path = EVENTS.path, summary = EVENTS.summary, params(EventsFrom,
    ("Last-Event-ID" = Option<u64>, Header, description = "as `after`; it goes before it")),
    responses(
        (status = 200, description = "server-sent events", body = EventView, content_type = "text/event-stream"),
        (status = 400, description = "no number of an event", body = ApiError),
        (status = 503, description = "there are too many streams", body = ApiError)))]
pub(super) async fn events(
    State(event_loop): State<Handle>,
    QueryOf(from): QueryOf<EventsFrom>,
    headers: HeaderMap,
) -> HandlerResult {
    let known = last_known(&headers)?.or(from.after);
    let log = event_loop.events.clone();
    let Some(permit) = log.stream() else {
        let error = ApiError::unavailable(format!("there are {STREAMS} streams of events already"));
        return Err(error.advise("close one, or try again later").into());
    };
    let mut last = known.unwrap_or_else(|| log.last());
    let site = event_loop.snapshot.load().site.clone();
    if from.follow == Some(false) {
        return Ok(stream_of(Body::from(next(&log, &site, &mut last))));
    }
    let pauses = IntervalStream::new(interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE)).map(|_| true);
    let news = WatchStream::new(log.watch()).map(|_| false);
    let mut is_first = true;
    let pieces = news.merge(pauses).filter_map(move |is_pause| {
        // The stream counts as one as long as this is kept.
        let _permit = &permit;
        let mut text = next(&log, &site, &mut last);
        if text.is_empty() && (is_pause || is_first) {
            text.push_str(":\n\n");
        }
        is_first = false;
        (!text.is_empty()).then(|| Ok::<_, Infallible>(Bytes::from(text)))
    });
    Ok(stream_of(Body::from_stream(pieces)))
}

fn stream_of(body: Body) -> Response {
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (head, body).into_response()
}

/// The number that a client comes back with.
fn last_known(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    // What a client sends that has seen none yet.
    if value.is_empty() {
        return Ok(None);
    }
    let number = value.to_str().ok().and_then(|v| v.parse().ok());
    number.map(Some).ok_or_else(|| {
        let error = ApiError::invalid("Last-Event-ID is no number of an event");
        error.advise("send the `id` of the last event, or leave it out").into()
    })
}

/// What is new after `last`, as text of the stream.
fn next(log: &Arc<EventLog>, site: &Site, last: &mut u64) -> String {
    let unseen = if *last == 0 { log.all() } else { log.after(*last) };
    let before = *last;
    *last = unseen.last;
    text(&unseen, site, before)
}

fn text(unseen: &Unseen, site: &Site, before: u64) -> String {
    let mut text = String::new();
    if unseen.is_missed {
        // The number of the event before those that follow: coming back with it misses nothing more.
        let id = unseen.events.first().map_or(unseen.last, |e| e.id - 1);
        let at = unseen.events.first().map_or_else(crate::clock::wall, |e| e.at);
        push(&mut text, &EventView { id, at, change: Change::Missed {} });
        tracing::debug!("a client of the events has missed some after {before}");
    }
    for event in &unseen.events {
        let change = Change::of(site, &event.event);
        push(&mut text, &EventView { id: event.id, at: event.at, change });
    }
    text
}

fn push(text: &mut String, event: &EventView) {
    // Numbers and texts: writing them cannot fail. JSON has no line breaks of its own.
    if let Ok(data) = serde_json::to_string(event) {
        let _ = write!(text, "event: {}\nid: {}\ndata: {data}\n\n", event.change.kind(), event.id);
    }
}
