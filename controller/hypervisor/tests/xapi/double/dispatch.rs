//! The execution of a call: first the scripted faults, then the session check, then the method.

use super::model::{State, refuse};
use super::wire::{Call, Refusal, xml_value};
use super::{Fault, MASTER, SLAVE, Shared, calls, deeds, lock, server};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep, sleep_until};

/// Operations take this many steps.
const STEPS: u32 = 5;
const STEP: Duration = Duration::from_millis(20);

/// The result of a call.
pub(crate) enum Outcome {
    Answer(Result<Value, Refusal>),
    /// The reply is cut in the middle.
    Half(Result<Value, Refusal>),
    /// There is no reply.
    Nothing,
}

fn fault(shared: &Shared, method: &str) -> Option<Fault> {
    let mut scripts = lock(&shared.scripts);
    let at = scripts.iter().position(|s| s.method == method)?;
    if scripts[at].skip > 0 {
        scripts[at].skip -= 1;
        return None;
    }
    Some(scripts.remove(at).fault)
}

/// `address`: the address of the host that was called.
pub(crate) async fn dispatch(shared: &Arc<Shared>, address: &str, call: Call) -> Outcome {
    lock(&shared.heard).push(call.method.clone());
    let mut fault = fault(shared, &call.method);
    match &fault {
        Some(Fault::Refuse(words)) => return Outcome::Answer(refuse(words)),
        Some(Fault::CutBefore) => return Outcome::Nothing,
        Some(Fault::Slow(time)) => sleep(*time).await,
        Some(Fault::EndSessions) => shared.with(|s| s.sessions.clear()),
        _ => {}
    }
    let half = matches!(fault, Some(Fault::CutAfter));
    let answer = answer(shared, address, call, fault.take()).await;
    if half { Outcome::Half(answer) } else { Outcome::Answer(answer) }
}

async fn answer(
    shared: &Arc<Shared>,
    address: &str,
    call: Call,
    fault: Option<Fault>,
) -> Result<Value, Refusal> {
    let Call { method, mut params, .. } = call;
    if address == SLAVE {
        return refuse(&["HOST_IS_SLAVE", MASTER]);
    }
    if method == "session.login_with_password" {
        let (user, password) = (calls::text(&params, 0)?, calls::text(&params, 1)?);
        return shared.with(|s| {
            if user != "root" || password != s.password {
                return refuse(&["SESSION_AUTHENTICATION_FAILED", user, "Authentication failure"]);
            }
            let reference = s.add("session", json!({"originator": "test"}));
            s.remove("session", &reference);
            s.sessions.insert(reference.clone());
            Ok(json!(reference))
        });
    }
    let session = calls::text(&params, 0)?.to_owned();
    if !shared.with(|s| s.sessions.contains(&session)) {
        return refuse(&["SESSION_INVALID", &session]);
    }
    params.remove(0);
    match method.as_str() {
        "session.logout" => {
            shared.with(|s| s.sessions.remove(&session));
            Ok(json!(""))
        }
        "event.from" => events(shared, &params).await,
        "host.migrate_receive" => {
            let host = calls::text(&params, 0)?;
            shared.with(|s| s.get("host", host).map(drop))?;
            let url = format!("http://{MASTER}:{}/services/xenops?session_id={session}", shared.port);
            Ok(json!({"host": host, "session_id": session, "xenops": url, "SM": url, "master": url}))
        }
        "VM.assert_can_migrate" => {
            shared.with(|s| calls::call(s, &method, &params))?;
            let target = params[1]["host"].as_str().unwrap_or_default().to_owned();
            let vm = calls::text(&params, 0)?.to_owned();
            let needed = shared.with(|s| s.int("VM", &vm, "memory_dynamic_max"));
            let free = server::of(&params[1]).unwrap_or(shared.clone()).with(|s| s.free_memory(&target));
            if needed > free {
                return refuse(&["HOST_NOT_ENOUGH_FREE_MEMORY", &needed.to_string(), &free.to_string()]);
            }
            Ok(json!(""))
        }
        _ => {
            let (plain, is_async) = match method.strip_prefix("Async.") {
                Some(plain) => (plain, true),
                None => (method.as_str(), false),
            };
            let Some(operation) = deeds::operation(plain) else {
                return shared.with(|s| calls::call(s, plain, &params));
            };
            let deed = shared.with(|s| deeds::begin(s, operation, &params))?;
            if !is_async {
                return carry_out(shared, None, deed, fault).await;
            }
            let task = shared.with(|s| {
                let record = json!({"name_label": method, "status": "pending", "progress": 0.0, "result": "", "error_info": [],
                    "created": "20240102T03:04:05Z", "other_config": {}});
                let task = s.add("task", record);
                if operation == "clone" {
                    s.operation(&deed.vm, &task, Some(operation));
                }
                task
            });
            let (shared, named) = (shared.clone(), task.clone());
            tokio::spawn(async move {
                let ended = carry_out(&shared, Some(&named), deed, fault).await;
                shared.with(|s| end(s, &named, ended));
            });
            Ok(json!(task))
        }
    }
}

fn end(s: &mut State, task: &str, ended: Result<Value, Refusal>) {
    s.change("task", task, |r| {
        r.insert("progress".into(), json!(1.0));
        match ended {
            Ok(value) => {
                r.insert("status".into(), json!("success"));
                let result = if value == "" { String::new() } else { xml_value(&value) };
                r.insert("result".into(), json!(result));
            }
            Err(words) => {
                let status = if words[0] == "TASK_CANCELLED" { "cancelled" } else { "failure" };
                r.insert("status".into(), json!(status));
                r.insert("error_info".into(), json!(words));
            }
        }
    });
    s.cancelled.remove(task);
}

async fn carry_out(
    shared: &Arc<Shared>,
    task: Option<&str>,
    deed: deeds::Deed,
    fault: Option<Fault>,
) -> Result<Value, Refusal> {
    let own = task.unwrap_or("OpaqueRef:task-of-a-call").to_owned();
    shared.with(|s| s.operation(&deed.vm, &own, Some(deed.operation)));
    let done = steps(shared, &own, &deed, fault).await;
    shared.with(|s| s.operation(&deed.vm, &own, None));
    done
}

async fn steps(
    shared: &Arc<Shared>,
    task: &str,
    deed: &deeds::Deed,
    fault: Option<Fault>,
) -> Result<Value, Refusal> {
    let cancelled = || shared.with(|s| s.cancelled.contains(task));
    for step in 1..=STEPS {
        sleep(STEP).await;
        shared.with(|s| s.set("task", task, "progress", json!(f64::from(step) / f64::from(STEPS + 1))));
        if step == 2 {
            match &fault {
                Some(Fault::Hang) => {
                    while !cancelled() {
                        sleep(STEP).await;
                    }
                }
                Some(Fault::HangDeaf) => {
                    let mut released = shared.released.subscribe();
                    let _ = released.wait_for(|r| *r).await;
                }
                Some(Fault::FailLater(words)) => return refuse(words),
                Some(Fault::Meanwhile(change)) => shared.with(change),
                _ => {}
            }
        }
        // A hanging task that ignored its cancellation ends well.
        if cancelled() && !matches!(fault, Some(Fault::HangDeaf)) {
            return refuse(&["TASK_CANCELLED", task]);
        }
    }
    let other = server::of(deed.dest()).filter(|o| !Arc::ptr_eq(o, shared));
    match other {
        Some(other) => other.with(|theirs| shared.with(|s| deeds::finish(s, deed, Some(theirs)))),
        None => shared.with(|s| deeds::finish(s, deed, None)),
    }
}

/// `event.from`: all objects at first, then those changed since the token, or none at the time-out.
async fn events(shared: &Arc<Shared>, params: &[Value]) -> Result<Value, Refusal> {
    let classes: Vec<String> = params
        .first()
        .and_then(Value::as_array)
        .map(|l| l.iter().filter_map(|c| c.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    let token = calls::text(params, 1)?.to_owned();
    let Some(timeout) = params.get(2).and_then(Value::as_f64) else {
        return refuse(&["FIELD_TYPE_ERROR", "timeout"]);
    };
    let since: u64 = token.split(',').next().and_then(|t| t.parse().ok()).unwrap_or(0);
    let wanted = |class: &str, reference: &str| {
        classes.iter().any(|c| {
            c == "*"
                || c.eq_ignore_ascii_case(class)
                || c.split_once('/').is_some_and(|(c, r)| c.eq_ignore_ascii_case(class) && r == reference)
        })
    };
    let deadline = Instant::now() + Duration::from_secs_f64(timeout.clamp(0.0, 3600.0));
    let mut changed = shared.changed.subscribe();
    loop {
        let (last, found) = shared.with(|s| (s.last(), gather(s, since, &wanted)));
        let over = Instant::now() >= deadline;
        if !found.is_empty() || over {
            let token = format!("{last:020},{last:020}");
            return Ok(json!({"token": token, "valid_ref_counts": {}, "events": found}));
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = sleep_until(deadline) => {}
        }
    }
}

fn gather(s: &State, since: u64, wanted: &dyn Fn(&str, &str) -> bool) -> Vec<Value> {
    // One event for each object: its last change.
    let mut latest: BTreeMap<&str, &super::model::Change> = BTreeMap::new();
    for change in s.log.iter().filter(|c| c.0 > since && wanted(&c.1, &c.3)) {
        latest.insert(&change.3, change);
    }
    let mut changes: Vec<_> = latest.into_values().collect();
    changes.sort_by_key(|c| c.0);
    let event = |(number, class, operation, reference): &super::model::Change| {
        let mut event = json!({"id": number.to_string(), "timestamp": "0.0", "class": class.to_lowercase(),
            "operation": operation, "ref": reference});
        if let Ok(record) = s.get(class, reference) {
            event["snapshot"] = Value::Object(record.clone());
        }
        event
    };
    changes.into_iter().map(event).collect()
}

/// `/rrd_updates` of one host: a quarter of a CPU for each VM, a constant kilobyte a second.
pub(crate) fn rrd(s: &State, address: &str, query: &str) -> Result<String, Refusal> {
    let pairs: BTreeMap<&str, &str> = query.split('&').filter_map(|p| p.split_once('=')).collect();
    let session = pairs.get("session_id").copied().unwrap_or_default();
    if !s.sessions.contains(session) {
        return refuse(&["SESSION_INVALID", session]);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let start: u64 = pairs.get("start").and_then(|t| t.parse().ok()).unwrap_or(now);
    let Some((host, record)) = s.all("host").find(|(_, r)| r["address"] == address) else {
        return refuse(&["HANDLE_INVALID", "host", address]);
    };
    let mut columns: Vec<(String, String)> = Vec::new();
    let mut add = |whose: &str, r: &Map<String, Value>, name: &str, value: String| {
        columns.push((format!("AVERAGE:{whose}:{}:{name}", r["uuid"].as_str().unwrap_or_default()), value));
    };
    if pairs.get("host") == Some(&"true") {
        let total = record["memory_total"].as_i64().unwrap_or(0);
        add("host", record, "cpu0", "0.5".into());
        add("host", record, "cpu1", "0.25".into());
        add("host", record, "memory_total_kib", (total / 1024).to_string());
        add("host", record, "memory_free_kib", (s.free_memory(host) / 1024).to_string());
        add("host", record, "pif_eth0_rx", "2000".into());
        add("host", record, "pif_aggr_rx", "9999".into());
    }
    for (_, vm) in s.all("VM").filter(|(_, r)| r["resident_on"] == host.as_str()) {
        add("vm", vm, "cpu0", "0.25".into());
        add("vm", vm, "memory", vm["memory_dynamic_max"].to_string());
        add("vm", vm, "vif_0_rx", "1000".into());
        add("vm", vm, "vif_0_tx", "NaN".into());
    }
    let legend: String = columns.iter().map(|(name, _)| format!("<entry>{name}</entry>")).collect();
    let cells: String = columns.iter().map(|(_, value)| format!("<v>{value}</v>")).collect();
    // Newest first, as with XAPI.
    let moments = (start / 5 + 1..=now / 5).rev().take(120).map(|n| n * 5);
    let rows: String = moments.map(|t| format!("<row><t>{t}</t>{cells}</row>")).collect();
    Ok(format!(
        "<xport><meta><start>{start}</start><step>5</step><end>{}</end><legend>{legend}</legend></meta><data>{rows}</data></xport>",
        now / 5 * 5
    ))
}
