//! Calls that take time: checked at the start, executed at the end; in between they can be
//! cancelled, hang or fail.

use super::calls::{fits, flag, needs, quiet, text};
use super::model::{NULL, State, refuse};
use super::wire::Refusal;
use serde_json::{Value, json};

/// An operation that has started.
pub(crate) struct Deed {
    /// Its VM, and its name.
    pub(crate) vm: String,
    pub(crate) operation: &'static str,
    params: Vec<Value>,
}

impl Deed {
    /// The destination of `migrate_send`, as returned by `host.migrate_receive`.
    pub(crate) fn dest(&self) -> &Value {
        static NOWHERE: Value = Value::Null;
        if self.operation == "migrate_send" { self.params.get(1).unwrap_or(&NOWHERE) } else { &NOWHERE }
    }
}

/// The operation's name, for methods that take time.
pub(crate) fn operation(method: &str) -> Option<&'static str> {
    Some(match method {
        "VM.clone" => "clone",
        "VM.provision" => "provision",
        "VM.start" => "start",
        "VM.start_on" => "start_on",
        "VM.clean_shutdown" => "clean_shutdown",
        "VM.hard_shutdown" => "hard_shutdown",
        "VM.pause" => "pause",
        "VM.unpause" => "unpause",
        "VM.suspend" => "suspend",
        "VM.resume_on" => "resume_on",
        "VM.pool_migrate" => "pool_migrate",
        "VM.migrate_send" => "migrate_send",
        _ => return None,
    })
}

/// Checks a call. `params` without the session.
pub(crate) fn begin(s: &State, operation: &'static str, params: &[Value]) -> Result<Deed, Refusal> {
    let vm = text(params, 0)?;
    s.get("VM", vm)?;
    // A template may be cloned several times at once.
    if operation != "clone" {
        quiet(s, vm)?;
    }
    match operation {
        "clone" => {
            text(params, 1)?;
        }
        "provision" => needs(s, vm, "Halted")?,
        "start" => {
            flag(params, 1)?;
            flag(params, 2)?;
            needs(s, vm, "Halted")?;
            if !s.all("host").any(|(h, _)| fits(s, vm, h).is_ok()) {
                return refuse(&["NO_HOSTS_AVAILABLE", vm]);
            }
        }
        "start_on" | "resume_on" => {
            flag(params, 2)?;
            flag(params, 3)?;
            needs(s, vm, if operation == "start_on" { "Halted" } else { "Suspended" })?;
            fits(s, vm, text(params, 1)?)?;
        }
        "hard_shutdown" => {
            if s.text("VM", vm, "power_state") == "Halted" {
                return refuse(&["VM_BAD_POWER_STATE", vm, "Running", "Halted"]);
            }
        }
        "unpause" => needs(s, vm, "Paused")?,
        "pool_migrate" => {
            needs(s, vm, "Running")?;
            if !params.get(2).is_some_and(Value::is_object) {
                return refuse(&["FIELD_TYPE_ERROR", "options"]);
            }
            fits(s, vm, text(params, 1)?)?;
        }
        "migrate_send" => {
            needs(s, vm, if flag(params, 2)? { "Running" } else { "Halted" })?;
            let disks = params.get(3).and_then(Value::as_object);
            for vbd in s.list("VM", vm, "VBDs") {
                let vdi = s.text("VBD", &vbd, "VDI");
                if !disks.is_some_and(|d| d.contains_key(&vdi)) {
                    return refuse(&["VDI_NOT_IN_MAP", &vdi]);
                }
            }
        }
        _ => needs(s, vm, "Running")?,
    }
    Ok(Deed { vm: vm.to_owned(), operation, params: params.to_vec() })
}

/// Executes an operation. `other` is the destination pool of `migrate_send`, if it is another one.
pub(crate) fn finish(s: &mut State, deed: &Deed, other: Option<&mut State>) -> Result<Value, Refusal> {
    let vm = deed.vm.as_str();
    s.get("VM", vm)?;
    let state = |s: &mut State, state: &str, host: &str| {
        s.change("VM", vm, |r| {
            r.insert("power_state".into(), json!(state));
            r.insert("resident_on".into(), json!(host));
        });
    };
    match deed.operation {
        "clone" => {
            let name = text(&deed.params, 1)?;
            let mut record = s.get("VM", vm)?.clone();
            record.remove("uuid");
            record.insert("name_label".into(), json!(name));
            for empty in ["VIFs", "VBDs"] {
                record.insert(empty.into(), json!([]));
            }
            record.insert("current_operations".into(), json!({}));
            let new = s.add("VM", Value::Object(record));
            for vbd in s.list("VM", vm, "VBDs") {
                let sr = s.text("VDI", &s.text("VBD", &vbd, "VDI"), "SR");
                s.add_disk(&new, &sr);
            }
            for vif in s.list("VM", vm, "VIFs") {
                let (network, device) = (s.text("VIF", &vif, "network"), s.text("VIF", &vif, "device"));
                s.add_vif(&new, &network, "02:00:00:00:00:99", &device);
            }
            return Ok(json!(new));
        }
        "provision" => s.set("VM", vm, "is_a_template", json!(false)),
        "start" | "start_on" | "resume_on" => {
            let host = match deed.operation {
                "start" => s.all("host").map(|(h, _)| h.clone()).find(|h| fits(s, vm, h).is_ok()),
                _ => Some(text(&deed.params, 1)?.to_owned()),
            };
            let Some(host) = host else { return refuse(&["NO_HOSTS_AVAILABLE", vm]) };
            if s.field("VM", vm, "is_a_template")? == true {
                return refuse(&["VM_IS_TEMPLATE", vm]);
            }
            fits(s, vm, &host)?;
            let guest = json!({"networks": {"0/ip": "10.9.0.101", "0/ipv4/0": "10.9.0.101"}});
            let guest = s.add("VM_guest_metrics", guest);
            s.set("VM", vm, "guest_metrics", json!(guest));
            state(s, "Running", &host);
        }
        "clean_shutdown" | "hard_shutdown" => {
            let guest = s.text("VM", vm, "guest_metrics");
            s.remove("VM_guest_metrics", &guest);
            s.set("VM", vm, "guest_metrics", json!(NULL));
            state(s, "Halted", NULL);
        }
        "pause" => s.set("VM", vm, "power_state", json!("Paused")),
        "unpause" => s.set("VM", vm, "power_state", json!("Running")),
        "suspend" => state(s, "Suspended", NULL),
        "pool_migrate" => {
            let host = text(&deed.params, 1)?.to_owned();
            fits(s, vm, &host)?;
            state(s, "Running", &host);
        }
        "migrate_send" => return send(s, deed, other),
        _ => {}
    }
    Ok(json!(""))
}

/// Copies disks to the storage in the map; within the pool the VM stays the same, in another one it
/// is created again with the same UUID.
fn send(s: &mut State, deed: &Deed, other: Option<&mut State>) -> Result<Value, Refusal> {
    let vm = deed.vm.as_str();
    let host = deed.params[1]["host"].as_str().unwrap_or_default().to_owned();
    let live = flag(&deed.params, 2)?;
    let disks = deed.params[3].as_object().cloned().unwrap_or_default();
    let Some(other) = other else {
        for (vdi, sr) in &disks {
            s.set("VDI", vdi, "SR", sr.clone());
        }
        if live {
            s.set("VM", vm, "resident_on", json!(host));
        }
        return Ok(json!(vm));
    };
    let memory = s.int("VM", vm, "memory_dynamic_max");
    let free = other.free_memory(&host);
    if memory > free {
        return refuse(&["HOST_NOT_ENOUGH_FREE_MEMORY", &memory.to_string(), &free.to_string()]);
    }
    let mut record = s.get("VM", vm)?.clone();
    for empty in ["VIFs", "VBDs"] {
        record.insert(empty.into(), json!([]));
    }
    record.insert("current_operations".into(), json!({}));
    record.insert("affinity".into(), json!(NULL));
    record.insert("resident_on".into(), json!(if live { host.as_str() } else { NULL }));
    if live {
        let guest = s.get("VM_guest_metrics", &s.text("VM", vm, "guest_metrics")).cloned();
        let guest = other.add("VM_guest_metrics", json!(guest.unwrap_or_default()));
        record.insert("guest_metrics".into(), json!(guest));
    }
    let new = other.add("VM", Value::Object(record));
    for vif in s.list("VM", vm, "VIFs") {
        let Some(network) = deed.params[4][&vif].as_str() else {
            return refuse(&["VIF_NOT_IN_MAP", &vif]);
        };
        other.add_vif(&new, network, &s.text("VIF", &vif, "MAC"), &s.text("VIF", &vif, "device"));
    }
    for (vdi, sr) in &disks {
        other.add_disk(&new, sr.as_str().unwrap_or_default());
        s.remove_disk(vdi);
    }
    s.remove_vm(vm);
    Ok(json!(new))
}
