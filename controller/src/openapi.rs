//! The API's description in OpenAPI 3.1.

use serde_json::{Value, json};

fn operation(summary: &str, answers: Value, body: Option<&str>, parameters: &[(&str, &str, &str)]) -> Value {
    let mut value = json!({ "summary": summary, "responses": answers });
    if let Some(schema) = body {
        value["requestBody"] = json!({ "content": { "application/json": { "schema": { "$ref": format!("#/components/schemas/{schema}") } } } });
    }
    if !parameters.is_empty() {
        let list: Vec<Value> = parameters
            .iter()
            .map(|(name, place, kind)| {
                json!({ "name": name, "in": place, "required": *place == "path", "schema": { "type": kind } })
            })
            .collect();
        value["parameters"] = json!(list);
    }
    value
}

fn ok(text: &str) -> Value {
    let header = json!({ "tandem-version": { "description": "the snapshot's version", "schema": { "type": "integer" } } });
    json!({ "200": { "description": text, "headers": header, "content": { "application/json": {} } } })
}

fn with_errors(mut answers: Value, codes: &[(&str, &str)]) -> Value {
    for (code, text) in codes {
        answers[*code] = json!({
            "description": text,
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } }
        });
    }
    answers
}

/// The document.
pub fn document() -> Value {
    let after = [("after", "query", "integer")];
    let list = |summary: &str| json!({ "get": operation(summary, ok(summary), None, &after) });
    let not_found = [("404", "no such VM, group or switch")];
    let mut vms = list("all VMs");
    vms["post"] = operation(
        "request a VM; answered when it runs",
        with_errors(
            json!({ "201": { "description": "it runs" } }),
            &[
                ("400", "the request makes no sense"),
                ("409", "no room; says which resource on which servers or links was short"),
                ("503", "it was tried and failed, and everything was undone; or the controller is stopping"),
            ],
        ),
        Some("VmRequest"),
        &[],
    );
    let mut groups = list("all VM groups");
    groups["post"] = operation(
        "let VMs talk to each other",
        with_errors(json!({ "201": { "description": "the group's id" } }), &not_found),
        Some("GroupRequest"),
        &[],
    );
    let done = || json!({ "204": { "description": "done" } });
    let vm = [("vm", "path", "integer")];
    let local = "; over the Unix socket only";
    let tokens = json!({
        "get": operation(&format!("tokens, without their secrets{local}"), ok("tokens"), None, &[]),
        "post": operation(
            &format!("a token for the API over TCP; its secret is shown this once{local}"),
            with_errors(
                json!({ "201": { "description": "the token" } }),
                &[("400", "no name, or no time"), ("403", "not over TCP"), ("409", "there is one of that name")],
            ),
            Some("NewToken"),
            &[],
        ),
    });
    let token = json!({ "delete": operation(
        &format!("let a token in no longer, from the next request on{local}"),
        with_errors(done(), &[("403", "not over TCP"), ("404", "no such token")]),
        None,
        &[("name", "path", "string")],
    ) });
    let new_token = json!({ "type": "object", "required": ["name"], "additionalProperties": false, "properties": {
        "name": { "type": "string", "minLength": 1, "maxLength": 63 },
        "read_only": { "type": "boolean" },
        "minutes": { "type": "integer", "minimum": 1, "description": "how long it is good; until it is revoked if left out" },
    } });
    let mut document = json!({
        "openapi": "3.1.0",
        "info": { "title": "Tandem", "version": env!("CARGO_PKG_VERSION"),
                  "description": "One controller for a data centre's virtual machines and its network. `?after=N` waits up to 10 s for a newer snapshot than N. Whatever is no GET needs the header `X-Tandem-Request: 1`; the Host must be a name of the controller, and an Origin the same. Over TCP it needs a token (`tandem token create`) as `Authorization: Bearer TOKEN`. What cannot be read is 400, a wrong or missing token 401, what may not be asked 403, each with a reason as in the schema Error." },
        "paths": {
            "/api/v1/overview": list("counts of everything"),
            "/api/v1/switches": list("switches with their ports"),
            "/api/v1/classes": {
                "get": operation("service classes with their shares", ok("classes"), None, &after),
                "put": operation("give classes other shares; those left out keep theirs", with_errors(done(), &[("404", "no such class"), ("409", "they add up to more than 100%, or one is above its ceiling"), ("503", "the store could not be written")]), Some("Classes"), &[]),
            },
            "/api/v1/agents": { "get": operation("agents, with their certificates and what they reported", ok("agents"), None, &[]) },
            "/api/v1/agents/tokens": { "post": operation("a token by which one agent can enrol, once", with_errors(json!({ "201": { "description": "the token" } }), &[("400", "it is not known where agents reach this controller")]), Some("AgentToken"), &[]) },
            "/api/v1/agents/{name}/switches": { "put": operation("say which switches an agent speaks for: all of them", with_errors(done(), &[("400", "no name of a switch"), ("404", "no such agent"), ("409", "another agent has one of them")]), Some("AgentSwitches"), &[("name", "path", "string")]) },
            "/api/v1/agents/{name}": { "delete": operation("let an agent in no longer", with_errors(done(), &[("404", "no such agent")]), None, &[("name", "path", "string")]) },
            "/api/v1/links": list("declared links with their load"),
            "/api/v1/surprises": list("what is wired otherwise than declared"),
            "/api/v1/servers": list("servers and what is reserved on them"),
            "/api/v1/hosts": list("hosts as the network shows them"),
            "/api/v1/notices": list("the latest notices"),
            "/api/v1/vms": vms,
            "/api/v1/vms/{vm}": {
                "get": operation("one VM", with_errors(ok("the VM"), &not_found), None, &vm),
                "patch": operation("resize a running VM", with_errors(done(), &[("400", "something other than a size"), ("404", "no such VM"), ("409", "no room, or it does not run"), ("503", "it was tried and undone")]), Some("VmSize"), &vm),
                "delete": operation("stop a VM; answered when it is gone", with_errors(done(), &not_found), None, &vm),
            },
            "/api/v1/strays": list("VMs at hypervisors that there is no record of: they are left alone"),
            "/api/v1/strays/{vm}": {
                "delete": operation("stop a VM that there is no record of; answered when it is gone", with_errors(done(), &[("404", "no such VM or server"), ("409", "there are several with its id; `server` says which"), ("503", "its hypervisor does not answer")]), None, &[("vm", "path", "integer"), ("server", "query", "string")]),
            },
            "/api/v1/strays/{vm}/adopt": {
                "post": operation("take up a VM that there is no record of, as it runs", with_errors(json!({ "201": { "description": "it is a VM like any other" } }), &[("400", "the request makes no sense"), ("404", "no such VM, server or class"), ("409", "something must be said that is not kept with it, or it cannot be adopted; says why"), ("503", "the store could not be written")]), Some("Adoption"), &vm),
            },
            "/api/v1/vms/{vm}/pin": {
                "put": operation("let a VM's path to its gateway go by these switches", with_errors(done(), &[("404", "no such VM or switch"), ("409", "no live way by them, or no room on a link; says which"), ("503", "the store could not be written")]), Some("Pin"), &vm),
                "delete": operation("let a VM's path go where routing takes it", with_errors(done(), &[("404", "no such VM"), ("409", "its path is not pinned")]), None, &vm),
            },
            "/api/v1/ports/{switch}/{port}": {
                "put": operation("switch a port off, or on again", with_errors(done(), &[("404", "no such switch or port"), ("409", "it was not switched off here, or its switch has no OpenFlow"), ("503", "the store could not be written")]), Some("Port"), &[("switch", "path", "string"), ("port", "path", "integer")]),
            },
            "/api/v1/migrations": {
                "get": operation("migrations under way, and the last that have ended", ok("migrations"), None, &after),
                "post": operation("move a VM; answered once both places are reserved", with_errors(json!({ "202": { "description": "its id" } }), &[("400", "the request makes no sense"), ("404", "no such server"), ("409", "it cannot be moved there; says what is short or in the way")]), Some("Migration"), &[]),
            },
            "/api/v1/migrations/{migration}": {
                "get": operation("one migration", with_errors(ok("the migration"), &[("404", "no such migration")]), None, &[("migration", "path", "integer")]),
                "delete": operation("leave the VM where it is; answered when all is as it was", with_errors(done(), &[("404", "no such migration"), ("409", "it is too late")]), None, &[("migration", "path", "integer")]),
            },
            "/api/v1/plans": {
                "get": operation("the latest plans, and how far they are", ok("plans"), None, &after),
                "post": operation("think moves through, without moving anything", with_errors(ok("the plan"), &[("400", "the request makes no sense"), ("404", "no such server")]), Some("Plan"), &[]),
            },
            "/api/v1/plans/{plan}": { "get": operation("one plan", with_errors(ok("the plan"), &[("404", "no such plan")]), None, &[("plan", "path", "integer")]) },
            "/api/v1/plans/{plan}/apply": { "post": operation("carry a plan out", with_errors(ok("the plan"), &[("404", "no such plan"), ("409", "the data centre has changed and it no longer holds")]), None, &[("plan", "path", "integer")]) },
            "/api/v1/plans/{plan}/stop": { "post": operation("begin no more moves of a plan; those under way go on", with_errors(done(), &[("404", "no such plan")]), None, &[("plan", "path", "integer")]) },
            "/api/v1/hotspots": list("servers and links that are used too much"),
            "/api/v1/servers/{server}/evacuation": {
                "put": operation("take a server out of service: no more VMs, and those it has are moved away", with_errors(ok("the plan, begun"), &[("404", "no such server"), ("409", "it is out of service already")]), Some("How"), &[("server", "path", "string")]),
                "delete": operation("let a server have VMs again", with_errors(done(), &[("404", "no such server"), ("409", "it is in service")]), None, &[("server", "path", "string")]),
            },
            "/api/v1/overrides": list("what the operator has decided by hand: ports that are off, paths that are pinned"),
            "/api/v1/groups": groups,
            "/api/v1/groups/{group}": {
                "delete": operation("isolate the VMs again", with_errors(done(), &not_found), None, &[("group", "path", "integer")]),
            },
            "/api/v1/rules/{switch}": {
                "get": operation("our rules in a switch", with_errors(ok("rules"), &not_found), None, &[("switch", "path", "string")]),
            },
            "/api/v1/poll": { "post": operation("read all counters now", done(), None, &[]) },
            "/metrics": { "get": { "summary": "every figure, for Prometheus (docs/monitoring.md)", "responses": {
                "200": { "description": "OpenMetrics text", "content": { "application/openmetrics-text": {} } },
                "404": { "description": "switched off in the site file: [modules] metrics = false" },
            } } },
            "/api/v1/openapi.json": { "get": operation("this document", ok("this document"), None, &[]) },
        },
        "components": { "schemas": {
            "VmRequest": { "type": "object", "additionalProperties": false, "properties": {
                "cpu": { "type": "integer", "description": "cores" },
                "ram": { "type": "integer", "description": "bytes" },
                "disk": { "type": "integer", "description": "bytes" },
                "net": { "type": "integer", "description": "bit/s, each direction" },
                "class": { "type": "string", "description": "a class of the site file, by its name" },
                "timeout": { "type": "number", "description": "seconds to live once it runs" },
                "name": { "type": "string" },
                "image": { "type": "string", "description": "what it is made from, by the name that its hypervisor knows" },
            } },
            "Migration": { "type": "object", "required": ["vm"], "properties": {
                "vm": { "type": "integer" },
                "to": { "type": "string", "description": "a server by its name; where the allocation policy wants it, if left out" },
                "manner": { "type": "string", "enum": ["live", "cold"], "description": "the site's [migration] manner if left out" },
                "force": { "type": "boolean", "description": "also if it is not expected to converge" },
            } },
            "Plan": { "type": "object", "required": ["aim"], "properties": {
                "aim": { "type": "string", "enum": ["keep-policy", "relieve", "evacuate", "move"] },
                "server": { "type": "string", "description": "to be evacuated, by its name" },
                "vm": { "type": "integer", "description": "to be moved" },
                "to": { "type": "string", "description": "where to, by its name" },
                "manner": { "type": "string", "enum": ["live", "cold"] },
                "force": { "type": "boolean" },
            } },
            "How": { "type": "object", "properties": {
                "manner": { "type": "string", "enum": ["live", "cold"] },
                "force": { "type": "boolean" },
            } },
            "Adoption": { "type": "object", "additionalProperties": false, "description": "what is not kept with the VM, by the names that it lacks; the rest is left out", "properties": {
                "server": { "type": "string" },
                "cpu": { "type": "integer", "minimum": 1, "description": "cores" },
                "ram": { "type": "integer", "minimum": 1, "description": "bytes" },
                "disk": { "type": "integer", "minimum": 0, "description": "bytes" },
                "net": { "type": "integer", "minimum": 0, "description": "bit/s" },
                "address": { "type": "string", "format": "ipv4" },
                "class": { "type": "string" },
                "timeout": { "type": "number", "description": "seconds from now on" },
                "name": { "type": "string" },
                "image": { "type": "string" },
            } },
            "VmSize": { "type": "object", "additionalProperties": false, "description": "what is left out stays", "properties": {
                "cpu": { "type": "integer", "description": "cores" },
                "ram": { "type": "integer", "description": "bytes" },
                "disk": { "type": "integer", "description": "bytes" },
                "net": { "type": "integer", "description": "bit/s, each direction" },
            } },
            "Classes": { "type": "array", "items": { "type": "object", "required": ["name", "share"], "properties": {
                "name": { "type": "string" },
                "share": { "type": "number", "description": "guaranteed, percent of a port's rate" },
                "ceiling": { "type": "number", "description": "at most, percent of a port's rate" },
            } } },
            "Port": { "type": "object", "required": ["up"], "additionalProperties": false, "properties": {
                "up": { "type": "boolean" },
            } },
            "Pin": { "type": "object", "required": ["switches"], "additionalProperties": false, "properties": {
                "switches": { "type": "array", "items": { "type": "string" }, "description": "names or datapath ids, in the path's order from the server on" },
            } },
            "AgentToken": { "type": "object", "required": ["name"], "properties": {
                "name": { "type": "string", "description": "as the host's agent.toml has it" },
                "minutes": { "type": "integer", "description": "how long it is good; 60 if left out" },
                "address": { "type": "string", "description": "where the agent reaches the controller, host:port" },
                "switches": { "type": "array", "items": { "type": "string" }, "description": "those that it may speak for; left out: those that it had, or the one that is called as it is" },
            } },
            "AgentSwitches": { "type": "object", "required": ["switches"], "properties": {
                "switches": { "type": "array", "items": { "type": "string" }, "description": "all that it may speak for" },
            } },
            "GroupRequest": { "type": "object", "required": ["members"], "properties": {
                "members": { "type": "array", "items": { "type": "string", "format": "ipv4" } },
            } },
            "Error": { "type": "object", "required": ["error"], "properties": {
                "error": { "type": "string" },
                "rejection": { "type": "object", "description": "summary, counts per resource, nearest misses" },
            } },
        } },
    });
    document["paths"]["/api/v1/tokens"] = tokens;
    document["paths"]["/api/v1/tokens/{name}"] = token;
    document["components"]["schemas"]["NewToken"] = new_token;
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The routes as they are written in the sources, with their methods.
    fn routes() -> BTreeSet<(String, String)> {
        let sources = [
            include_str!("api.rs"),
            include_str!("agents/api.rs"),
            include_str!("metrics.rs"),
            include_str!("moves.rs"),
            include_str!("http/tokens.rs"),
        ];
        let mut found = BTreeSet::new();
        for (path, handlers) in
            sources.iter().flat_map(|s| s.split(".route(\"").skip(1)).filter_map(|r| r.split_once('"'))
        {
            let line = handlers.lines().next().unwrap_or_default();
            for method in ["get", "put", "post", "patch", "delete"] {
                let called = line.contains(&format!("{method}("));
                if called || method == "get" && line.contains("view(") {
                    found.insert((path.to_owned(), method.to_owned()));
                }
            }
        }
        found
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            described.extend(methods.as_object().expect("methods").keys().map(|m| (path.clone(), m.clone())));
        }
        assert!(described.len() > 20);
        assert_eq!(described, routes());
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let document = document();
        let text = document.to_string();
        for name in text.split("#/components/schemas/").skip(1).filter_map(|t| t.split('"').next()) {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
