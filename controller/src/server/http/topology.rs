//! The data centre as it is: counts, switches, links, servers, hosts, notices, rules.

use super::Api;
use super::extract::{After, PathOf, QueryOf};
use super::lookup::{no_switch, switch};
use super::respond::{HandlerResult, PART, core, json, part, with_version};
use crate::event_loop::Handle;
use axum::extract::State;
use axum::response::Response;
use tandem_api::ApiError;
use tandem_api::endpoints::{
    HOSTS, LINKS, NOTICES, OVERVIEW, POLL, RULE_COUNTERS, RULES, SERVERS, SURPRISES, SWITCHES,
};
use tandem_api::overview::{LinkCount, Overview, SwitchCount};
use tandem_api::rules::CountedRules;
use tandem_api::views;
use tandem_core::Snapshot;
use tandem_model::Request;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The endpoints of this noun.
pub(super) fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(overview))
        .routes(routes!(switches))
        .routes(routes!(links))
        .routes(routes!(surprises))
        .routes(routes!(servers))
        .routes(routes!(hosts))
        .routes(routes!(notices))
        .routes(routes!(rules))
        .routes(routes!(rule_counters))
        .routes(routes!(poll))
}

fn counts(s: &Snapshot) -> Overview {
    let connected = s.switches.iter().filter(|x| x.connected && x.role.is_some()).count();
    let declared = s.switches.iter().filter(|x| x.role.is_some() && !x.legacy).count();
    let usable = s.links.iter().filter(|l| l.state == "declared" || l.state == "confirmed").count();
    Overview {
        site: s.site.name.clone(),
        version: s.version,
        policy: s.policy.clone(),
        world: s.world.clone(),
        switches: SwitchCount { declared, connected },
        links: LinkCount { declared: s.links.len(), usable },
        servers: s.servers.len(),
        vms: s.vms.len(),
        counters: s.counters,
        defaults: s.site.vm.default,
    }
}

#[utoipa::path(get, path = OVERVIEW.path, summary = OVERVIEW.summary, params(After),
    responses((status = 200, description = "counts", body = Overview)))]
pub(super) async fn overview(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&counts(s))).await
}

#[utoipa::path(get, path = SWITCHES.path, summary = SWITCHES.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::SwitchView>)))]
pub(super) async fn switches(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.switches)).await
}

#[utoipa::path(get, path = LINKS.path, summary = LINKS.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::LinkView>)))]
pub(super) async fn links(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.links)).await
}

#[utoipa::path(get, path = SURPRISES.path, summary = SURPRISES.summary, params(After),
    responses((status = 200, description = PART, body = Vec<String>)))]
pub(super) async fn surprises(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.surprises)).await
}

#[utoipa::path(get, path = SERVERS.path, summary = SERVERS.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::ServerView>)))]
pub(super) async fn servers(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.servers)).await
}

#[utoipa::path(get, path = HOSTS.path, summary = HOSTS.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::HostView>)))]
pub(super) async fn hosts(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&s.hosts)).await
}

#[utoipa::path(get, path = NOTICES.path, summary = NOTICES.summary, params(After),
    responses((status = 200, description = PART, body = Vec<views::Notice>)))]
pub(super) async fn notices(State(event_loop): State<Handle>, query: QueryOf<After>) -> Response {
    part(&event_loop, query, |s| json(&*s.notices)).await
}

#[utoipa::path(get, path = RULES.path, summary = RULES.summary,
    params(("switch" = String, Path, description = "its name or datapath id")),
    responses((status = 200, description = PART, body = Vec<views::Rule>),
        (status = 404, description = "no such switch", body = ApiError)))]
pub(super) async fn rules(State(event_loop): State<Handle>, PathOf(switch): PathOf<String>) -> HandlerResult {
    let snapshot = event_loop.snapshot.load_full();
    let rules = snapshot.rules_of(&switch).ok_or_else(|| no_switch(&switch))?;
    Ok(with_version(json(&**rules), &snapshot))
}

#[utoipa::path(get, path = RULE_COUNTERS.path, summary = RULE_COUNTERS.summary,
    params(("switch" = String, Path, description = "its name or datapath id")),
    responses(
        (status = 200, description = "as of the last reading", body = CountedRules),
        (status = 404, description = "no such switch", body = ApiError)))]
pub(super) async fn rule_counters(
    State(event_loop): State<Handle>,
    PathOf(name): PathOf<String>,
) -> HandlerResult {
    let snapshot = event_loop.snapshot.load_full();
    let id = switch(&snapshot, &name)?;
    let rules = snapshot.rules_of(&name).ok_or_else(|| no_switch(&name))?;
    let reading = snapshot.rule_reading(id).ok_or_else(|| no_switch(&name))?;
    Ok(with_version(json(&CountedRules::of(rules, reading)), &snapshot))
}

#[utoipa::path(post, path = POLL.path, summary = POLL.summary,
    responses((status = 204, description = "done")))]
pub(super) async fn poll(State(event_loop): State<Handle>) -> HandlerResult {
    core(&event_loop, Request::PollNow).await
}
