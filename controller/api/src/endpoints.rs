//! The table of endpoints: method, path, body, reply and statuses of each.
//!
//! A handler takes its path and its summary from here, and a test of the controller holds the rest
//! of the table against the document that is derived from the handlers. Every request may also be
//! answered 400, 401, 403, 405, 408, 413 and 415 when it cannot be read or may not be asked
//! ([`crate::error::Code`]), and 503 while the controller is stopping or has too many connections.

use crate::agents::{AgentEntry, AgentSwitches, NewAgentToken};
use crate::classes::ClassShare;
use crate::groups::{Created, NewGroup};
use crate::migrations::{MigrationOptions, NewMigration, NewPlan};
use crate::overrides::{PathPin, PortState};
use crate::overview::Overview;
use crate::rules::CountedRules;
use crate::tokens::{NewToken, Token, TokenSecret};
use crate::views::{
    ClassView, Explanation, GroupRecord, HostView, HotspotView, LinkView, MigrationView, Notice,
    OverrideView, Plan, PlanView, Rule, ServerView, StrayView, SwitchView, VmRecord, VmView,
};
use crate::vm_groups::{NewVmGroup, VmGroup};
use crate::vms::{AdoptVm, NewVm, VmSize};
use hyper::Method;
use serde::Serialize;
use std::fmt::{Display, Write};
use std::marker::PhantomData;

/// An endpoint that takes a `B` as its body and answers an `A`. `()` is none.
pub struct Endpoint<B, A> {
    /// The method.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// One sentence on what it does.
    pub summary: &'static str,
    /// The statuses that it may answer; the first is that of success.
    pub statuses: &'static [u16],
    types: PhantomData<fn(&B) -> A>,
}

/// A request that is about to be sent.
#[derive(Debug)]
pub struct Request<A> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Result<String, serde_json::Error>>,
    answer: PhantomData<fn() -> A>,
}

impl<B: Serialize, A> Endpoint<B, A> {
    /// A request without parameters and without a body.
    pub fn request(&self) -> Request<A> {
        self.at(&[])
    }

    /// A request with these parameters in its path, in their order.
    pub fn at(&self, parameters: &[&dyn Display]) -> Request<A> {
        let mut path = String::with_capacity(self.path.len());
        let mut values = parameters.iter();
        for part in self.path.split_inclusive('}') {
            match part.split_once('{') {
                // A parameter that the caller has left out keeps its braces, which is answered with
                // 400 or 404.
                Some((before, name)) => match values.next() {
                    Some(value) => {
                        path.push_str(before);
                        path.push_str(&segment(&value.to_string()));
                    }
                    None => {
                        let _ = write!(path, "{before}%7B{}", segment(name.trim_end_matches('}')));
                    }
                },
                None => path.push_str(part),
            }
        }
        Request { method: self.method.clone(), path, body: None, answer: PhantomData }
    }

    /// A request with a body, for an endpoint without parameters.
    pub fn with(&self, body: &B) -> Request<A> {
        self.at_with(&[], body)
    }

    /// A request with parameters in its path and with a body.
    pub fn at_with(&self, parameters: &[&dyn Display], body: &B) -> Request<A> {
        Request { body: Some(serde_json::to_string(body)), ..self.at(parameters) }
    }
}

impl<A> Request<A> {
    /// The same with a parameter behind the question mark.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl Display) -> Request<A> {
        let mark = if self.path.contains('?') { '&' } else { '?' };
        let _ = write!(self.path, "{mark}{name}={}", segment(&value.to_string()));
        self
    }

    /// The same for a part of the snapshot that is newer than this version; the controller waits
    /// for it for at most 10 s.
    #[must_use]
    pub fn after(self, version: u64) -> Request<A> {
        self.query("after", version)
    }
}

/// A name as one segment of a path (RFC 3986 2.1).
fn segment(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    // A segment of dots would be taken as a relative path.
    if name == "." || name == ".." {
        return name.replace('.', "%2E");
    }
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// An endpoint in the list of all.
#[derive(Debug, Clone)]
pub struct Row {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// The statuses that it may answer; the first is that of success.
    pub statuses: &'static [u16],
    /// Its body's type; `()` is none.
    pub body: &'static str,
    /// Its answer's type; `()` is none.
    pub answer: &'static str,
}

/// Text for Prometheus, which is no JSON: there is nothing that reads it here.
#[derive(Debug, Clone, Copy)]
pub struct OpenMetrics;

/// A stream of server-sent events, which is no JSON as a whole: [`crate::Client::events`] reads it.
#[derive(Debug, Clone, Copy)]
pub struct ServerSentEvents;

macro_rules! endpoints {
    ($( $name:ident: $method:ident $path:literal, $body:ty => $answer:ty, $statuses:tt, $summary:literal; )*) => {
        $(
            #[doc = $summary]
            pub const $name: Endpoint<$body, $answer> = Endpoint {
                method: Method::$method,
                path: $path,
                summary: $summary,
                statuses: &$statuses,
                types: PhantomData,
            };
        )*

        /// All of them.
        pub fn all() -> Vec<Row> {
            vec![$(
                Row {
                    method: $name.method,
                    path: $name.path,
                    summary: $name.summary,
                    statuses: $name.statuses,
                    body: stringify!($body),
                    answer: stringify!($answer),
                },
            )*]
        }
    };
}

endpoints! {
    // The data centre as it is.
    OVERVIEW: GET "/api/v1/overview", () => Overview, [200],
        "counts of everything";
    SWITCHES: GET "/api/v1/switches", () => Vec<SwitchView>, [200],
        "switches with their ports";
    LINKS: GET "/api/v1/links", () => Vec<LinkView>, [200],
        "declared links with their load";
    SURPRISES: GET "/api/v1/surprises", () => Vec<String>, [200],
        "what is wired otherwise than declared";
    SERVERS: GET "/api/v1/servers", () => Vec<ServerView>, [200],
        "servers and what is reserved on them";
    HOSTS: GET "/api/v1/hosts", () => Vec<HostView>, [200],
        "hosts as the network shows them";
    NOTICES: GET "/api/v1/notices", () => Vec<Notice>, [200],
        "the latest notices";
    RULES: GET "/api/v1/rules/{switch}", () => Vec<Rule>, [200, 404],
        "our rules in a switch";
    RULE_COUNTERS: GET "/api/v1/rules/{switch}/counters", () => CountedRules, [200, 404],
        "our rules in a switch, with what it has counted of each";
    EVENTS: GET "/api/v1/events", () => ServerSentEvents, [200, 400, 503],
        "what changes, as it happens, in server-sent events";
    POLL: POST "/api/v1/poll", () => (), [204],
        "read all counters now";

    // VMs.
    VMS: GET "/api/v1/vms", () => Vec<VmView>, [200],
        "all VMs";
    REQUEST_VM: POST "/api/v1/vms", NewVm => VmRecord, [201, 400, 404, 409, 503],
        "request a VM; answered when it runs";
    REQUEST_VM_GROUP: POST "/api/v1/vms/group", NewVmGroup => VmGroup, [201, 400, 404, 409, 503],
        "request VMs that may talk to each other, all or none; answered when all run and are connected";
    DRY_RUN_VMS: POST "/api/v1/vms/dry-run", NewVmGroup => Explanation, [200, 400, 404],
        "say what a request for VMs would lead to, without changing anything";
    SHOW_VM: GET "/api/v1/vms/{vm}", () => VmView, [200, 404],
        "one VM";
    RESIZE_VM: PATCH "/api/v1/vms/{vm}", VmSize => (), [204, 400, 404, 409, 503],
        "resize a running VM";
    DELETE_VM: DELETE "/api/v1/vms/{vm}", () => (), [204, 404, 503],
        "stop a VM; answered when it is gone";
    STRAYS: GET "/api/v1/strays", () => Vec<StrayView>, [200],
        "VMs at hypervisors that there is no record of: they are left alone";
    STOP_STRAY: DELETE "/api/v1/strays/{vm}", () => (), [204, 404, 409, 503],
        "stop a VM that there is no record of; answered when it is gone";
    ADOPT_VM: POST "/api/v1/strays/{vm}/adopt", AdoptVm => VmRecord, [201, 400, 404, 409, 503],
        "take up a VM that there is no record of, as it runs";

    // Groups and classes.
    GROUPS: GET "/api/v1/groups", () => Vec<GroupRecord>, [200],
        "all VM groups";
    CREATE_GROUP: POST "/api/v1/groups", NewGroup => Created, [201, 400, 404, 409, 503],
        "let VMs talk to each other";
    DELETE_GROUP: DELETE "/api/v1/groups/{group}", () => (), [204, 404, 503],
        "isolate the VMs again";
    CLASSES: GET "/api/v1/classes", () => Vec<ClassView>, [200],
        "service classes with their shares";
    SET_SHARES: PUT "/api/v1/classes", Vec<ClassShare> => (), [204, 400, 404, 409, 503],
        "give classes other shares; those left out keep theirs";

    // What is decided by hand.
    OVERRIDES: GET "/api/v1/overrides", () => Vec<OverrideView>, [200],
        "what the operator has decided by hand: ports that are off, paths that are pinned";
    SET_PORT: PUT "/api/v1/ports/{switch}/{port}", PortState => (), [204, 404, 409, 503],
        "switch a port off, or on again";
    PIN_PATH: PUT "/api/v1/vms/{vm}/pin", PathPin => (), [204, 400, 404, 409, 503],
        "let a VM's path to its gateway go by these switches";
    UNPIN_PATH: DELETE "/api/v1/vms/{vm}/pin", () => (), [204, 404, 409, 503],
        "let a VM's path go where routing takes it";

    // Migrations, plans, maintenance.
    MIGRATIONS: GET "/api/v1/migrations", () => Vec<MigrationView>, [200],
        "migrations under way, and the last that have ended";
    MIGRATE: POST "/api/v1/migrations", NewMigration => Created, [202, 400, 404, 409, 503],
        "move a VM; answered once both places are reserved";
    SHOW_MIGRATION: GET "/api/v1/migrations/{migration}", () => MigrationView, [200, 404],
        "one migration";
    CANCEL_MIGRATION: DELETE "/api/v1/migrations/{migration}", () => (), [204, 404, 409, 503],
        "leave the VM where it is; answered when all is as it was";
    PLANS: GET "/api/v1/plans", () => Vec<PlanView>, [200],
        "the latest plans, and how far they are";
    MAKE_PLAN: POST "/api/v1/plans", NewPlan => Plan, [200, 400, 404],
        "think moves through, without moving anything";
    SHOW_PLAN: GET "/api/v1/plans/{plan}", () => PlanView, [200, 404],
        "one plan";
    APPLY_PLAN: POST "/api/v1/plans/{plan}/apply", () => Plan, [200, 404, 409],
        "carry a plan out";
    STOP_PLAN: POST "/api/v1/plans/{plan}/stop", () => (), [204, 404, 409],
        "begin no more moves of a plan; those under way go on";
    HOTSPOTS: GET "/api/v1/hotspots", () => Vec<HotspotView>, [200],
        "servers and links that are used too much";
    EVACUATE: PUT "/api/v1/servers/{server}/evacuation", MigrationOptions => Plan, [200, 404, 503],
        "take a server out of service: no more VMs, and those it has are moved away";
    RETURN_SERVER: DELETE "/api/v1/servers/{server}/evacuation", () => (), [204, 404, 409, 503],
        "let a server have VMs again";

    // Agents and tokens.
    AGENTS: GET "/api/v1/agents", () => Vec<AgentEntry>, [200, 503],
        "agents, with their certificates and what they reported";
    AGENT_TOKEN: POST "/api/v1/agents/tokens", NewAgentToken => TokenSecret, [201, 400, 409, 503],
        "a token by which one agent can enrol, once";
    AGENT_SWITCHES: PUT "/api/v1/agents/{name}/switches", AgentSwitches => (), [204, 400, 404, 409, 503],
        "say which switches an agent speaks for: all of them";
    REVOKE_AGENT: DELETE "/api/v1/agents/{name}", () => (), [204, 404, 503],
        "let an agent in no longer";
    TOKENS: GET "/api/v1/tokens", () => Vec<Token>, [200, 403],
        "tokens, without their secrets; over the Unix socket only";
    CREATE_TOKEN: POST "/api/v1/tokens", NewToken => TokenSecret, [201, 400, 403, 409, 503],
        "a token for the API over TCP; its secret is shown this once; over the Unix socket only";
    REVOKE_TOKEN: DELETE "/api/v1/tokens/{name}", () => (), [204, 403, 404, 503],
        "let a token in no longer, from the next request on; over the Unix socket only";

    // For programs.
    METRICS: GET "/metrics", () => OpenMetrics, [200, 404],
        "every figure, for Prometheus (docs/monitoring.md)";
    OPENAPI: GET "/api/v1/openapi.json", () => serde_json::Value, [200],
        "this document";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_one_segment_each_whatever_they_are() {
        let path = |name: &str| SET_PORT.at(&[&name, &3]).path;
        assert_eq!(path("edge1"), "/api/v1/ports/edge1/3");
        assert_eq!(path("a/b c?"), "/api/v1/ports/a%2Fb%20c%3F/3");
        assert_eq!(path(".."), "/api/v1/ports/%2E%2E/3");
        assert_eq!(APPLY_PLAN.at(&[&7]).path, "/api/v1/plans/7/apply");
        assert_eq!(APPLY_PLAN.request().path, "/api/v1/plans/%7Bplan/apply");
        assert_eq!(STOP_STRAY.at(&[&7]).query("server", "a&b").path, "/api/v1/strays/7?server=a%26b");
        assert_eq!(LINKS.request().after(9).path, "/api/v1/links?after=9");
    }

    /// The table of docs/api.md.
    fn table() -> String {
        let mut text = "| method | path | | statuses |\n|---|---|---|---|\n".to_owned();
        for row in all() {
            let statuses: Vec<String> = row.statuses.iter().map(ToString::to_string).collect();
            let statuses = statuses.join(", ");
            let _ = writeln!(text, "| {} | `{}` | {} | {statuses} |", row.method, row.path, row.summary);
        }
        text
    }

    #[test]
    fn the_documentation_has_this_table() {
        let text = include_str!("../../../docs/api.md");
        let after = text.split_once("says what it should be -->\n").map(|(_, after)| after);
        let there = after.and_then(|t| t.split_once("<!-- end of endpoints -->")).map(|(there, _)| there);
        assert_eq!(
            there.expect("the marks around the table"),
            table(),
            "docs/api.md should have:\n{}",
            table()
        );
    }

    #[test]
    fn an_endpoint_is_there_once_and_its_first_status_is_success() {
        let rows = all();
        for (n, row) in rows.iter().enumerate() {
            let same = |other: &Row| other.path == row.path && other.method == row.method;
            assert!(!rows[..n].iter().any(same), "{} {}", row.method, row.path);
            assert!((200..300).contains(&row.statuses[0]) && row.statuses.is_sorted(), "{}", row.path);
        }
    }
}
