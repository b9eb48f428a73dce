//! Calls that are executed at once.

use super::model::{State, refuse};
use super::wire::Refusal;
use serde_json::{Map, Value, json};

pub(crate) fn text(params: &[Value], n: usize) -> Result<&str, Refusal> {
    params.get(n).and_then(Value::as_str).map_or_else(|| refuse(&["FIELD_TYPE_ERROR", &n.to_string()]), Ok)
}

pub(crate) fn flag(params: &[Value], n: usize) -> Result<bool, Refusal> {
    params.get(n).and_then(Value::as_bool).map_or_else(|| refuse(&["FIELD_TYPE_ERROR", &n.to_string()]), Ok)
}

fn map(params: &[Value], n: usize) -> Result<&Map<String, Value>, Refusal> {
    params.get(n).and_then(Value::as_object).map_or_else(|| refuse(&["FIELD_TYPE_ERROR", &n.to_string()]), Ok)
}

/// A number (JSON-RPC), or decimal text (XML-RPC, where a 64-bit integer is sent so).
fn int(params: &[Value], n: usize) -> Result<i64, Refusal> {
    let value = params.get(n);
    let read = value.and_then(|v| v.as_i64().or_else(|| v.as_str()?.parse().ok()));
    read.map_or_else(|| refuse(&["FIELD_TYPE_ERROR", &n.to_string()]), Ok)
}

/// The data model's types of an interface's fields (XenAPI, class VIF).
fn may_be(field: &str, value: &Value) -> Result<(), Refusal> {
    let is_good = match field {
        "locking_mode" => {
            ["network_default", "locked", "unlocked", "disabled"].iter().any(|mode| value == mode)
        }
        _ => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
    };
    if is_good { Ok(()) } else { refuse(&["INVALID_VALUE", field, &value.to_string()]) }
}

/// `params` without the session.
pub(crate) fn call(s: &mut State, method: &str, params: &[Value]) -> Result<Value, Refusal> {
    let (class, name) = method.split_once('.').unwrap_or(("", method));
    let done = Ok(json!(""));
    match method {
        "VM.set_memory_limits" => {
            let vm = text(params, 0)?;
            let [static_min, static_max, dynamic_min, dynamic_max] =
                [int(params, 1)?, int(params, 2)?, int(params, 3)?, int(params, 4)?];
            if !(static_min <= dynamic_min && dynamic_min <= dynamic_max && dynamic_max <= static_max) {
                return refuse(&[
                    "MEMORY_CONSTRAINT_VIOLATION",
                    "static_min <= dynamic_min <= dynamic_max <= static_max",
                ]);
            }
            needs(s, vm, "Halted")?;
            for (field, n) in [
                ("memory_static_min", static_min),
                ("memory_static_max", static_max),
                ("memory_dynamic_min", dynamic_min),
                ("memory_dynamic_max", dynamic_max),
            ] {
                s.set("VM", vm, field, json!(n));
            }
            done
        }
        "VM.set_memory_dynamic_range" => {
            let (vm, min, max) = (text(params, 0)?, int(params, 1)?, int(params, 2)?);
            if max > s.int("VM", vm, "memory_static_max") {
                return refuse(&["MEMORY_CONSTRAINT_VIOLATION", "dynamic_max <= static_max"]);
            }
            s.set("VM", vm, "memory_dynamic_min", json!(min));
            s.set("VM", vm, "memory_dynamic_max", json!(max));
            done
        }
        "VM.set_VCPUs_max" | "VM.set_VCPUs_at_startup" | "VM.set_VCPUs_number_live" => {
            let (vm, n) = (text(params, 0)?, int(params, 1)?);
            let (max, start) = (s.int("VM", vm, "VCPUs_max"), s.int("VM", vm, "VCPUs_at_startup"));
            let bad = match name {
                "set_VCPUs_max" => n < start,
                _ => n > max || n < 1,
            };
            if bad {
                return refuse(&["INVALID_VALUE", name, &n.to_string()]);
            }
            let field = if name == "set_VCPUs_max" { "VCPUs_max" } else { "VCPUs_at_startup" };
            s.set("VM", vm, field, json!(n));
            done
        }
        "VM.destroy" => {
            let vm = text(params, 0)?;
            s.get("VM", vm)?;
            needs(s, vm, "Halted")?;
            quiet(s, vm)?;
            s.remove_vm(vm);
            done
        }
        "VM.assert_can_boot_here" => {
            let (vm, host) = (text(params, 0)?, text(params, 1)?);
            fits(s, vm, host)?;
            done
        }
        "VM.get_possible_hosts" => {
            let vm = text(params, 0)?;
            s.get("VM", vm)?;
            let hosts: Vec<String> = s.all("host").map(|(r, _)| r.clone()).collect();
            Ok(json!(hosts.iter().filter(|h| fits(s, vm, h).is_ok()).collect::<Vec<_>>()))
        }
        "VM.assert_can_migrate" => {
            let vm = text(params, 0)?;
            map(params, 1)?;
            if flag(params, 2)? {
                needs(s, vm, "Running")?;
            }
            for n in 3..=5 {
                map(params, n)?;
            }
            done
        }
        "VIF.create" => {
            let record = map(params, 0)?;
            let word = |k: &str| record.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (vm, network) = (word("VM"), word("network"));
            s.get("VM", &vm)?;
            s.get("network", &network)?;
            let taken =
                s.list("VM", &vm, "VIFs").iter().any(|v| s.text("VIF", v, "device") == word("device"));
            if taken {
                return refuse(&["DEVICE_ALREADY_EXISTS", &word("device")]);
            }
            let vif = s.add_vif(&vm, &network, &word("MAC"), &word("device"));
            // Missing fields have the data model's defaults (XenAPI, class VIF).
            for (field, otherwise) in [
                ("locking_mode", json!("network_default")),
                ("ipv4_allowed", json!([])),
                ("ipv6_allowed", json!([])),
            ] {
                let value = record.get(field).cloned().unwrap_or(otherwise);
                may_be(field, &value)?;
                s.set("VIF", &vif, field, value);
            }
            Ok(json!(vif))
        }
        "VIF.destroy" => {
            let vif = text(params, 0)?;
            s.get("VIF", vif)?;
            s.remove_vif(vif);
            done
        }
        "VIF.set_locking_mode" | "VIF.set_ipv4_allowed" | "VIF.set_ipv6_allowed" => {
            let (vif, field) = (text(params, 0)?, method.trim_start_matches("VIF.set_"));
            s.get("VIF", vif)?;
            let value = params.get(1).cloned().unwrap_or_default();
            may_be(field, &value)?;
            s.set("VIF", vif, field, value);
            done
        }
        "VIF.move" => {
            let (vif, network) = (text(params, 0)?, text(params, 1)?);
            s.get("VIF", vif)?;
            s.get("network", network)?;
            s.set("VIF", vif, "network", json!(network));
            done
        }
        "VDI.destroy" => {
            let vdi = text(params, 0)?;
            s.get("VDI", vdi)?;
            for vbd in s.list("VDI", vdi, "VBDs") {
                if s.text("VM", &s.text("VBD", &vbd, "VM"), "power_state") != "Halted" {
                    return refuse(&["VDI_IN_USE", vdi, "destroy"]);
                }
            }
            s.remove_disk(vdi);
            done
        }
        "host.compute_free_memory" => {
            let host = text(params, 0)?;
            s.get("host", host)?;
            Ok(json!(s.free_memory(host)))
        }
        "task.cancel" => {
            let task = text(params, 0)?;
            s.get("task", task)?;
            s.cancelled.insert(task.to_owned());
            s.set("task", task, "status", json!("cancelling"));
            done
        }
        "task.destroy" => {
            let task = text(params, 0)?;
            s.get("task", task)?;
            s.remove("task", task);
            done
        }
        _ => generic(s, class, name, params),
    }
}

/// The methods of every class in the data model.
fn generic(s: &mut State, class: &str, name: &str, params: &[Value]) -> Result<Value, Refusal> {
    let unknown = || refuse(&["MESSAGE_METHOD_UNKNOWN", &format!("{class}.{name}")]);
    if !s.objects.contains_key(class) {
        return unknown();
    }
    match name {
        "get_all" => return Ok(json!(s.all(class).map(|(r, _)| r).collect::<Vec<_>>())),
        "get_all_records" => {
            let all: Map<String, Value> =
                s.all(class).map(|(r, m)| (r.clone(), Value::Object(m.clone()))).collect();
            return Ok(Value::Object(all));
        }
        "get_record" => return Ok(Value::Object(s.get(class, text(params, 0)?)?.clone())),
        "get_by_name_label" => {
            let label = text(params, 0)?;
            let named = s.all(class).filter(|(_, m)| m.get("name_label").is_some_and(|n| n == label));
            return Ok(json!(named.map(|(r, _)| r).collect::<Vec<_>>()));
        }
        "get_by_uuid" => {
            let uuid = text(params, 0)?;
            let found = s.all(class).find(|(_, m)| m["uuid"] == uuid).map(|(r, _)| r.clone());
            return found.map_or_else(|| refuse(&["UUID_INVALID", class, uuid]), |r| Ok(json!(r)));
        }
        _ => {}
    }
    let it = text(params, 0)?;
    s.get(class, it)?;
    if let Some(field) = name.strip_prefix("get_") {
        return s.field(class, it, field);
    }
    if let Some(field) = name.strip_prefix("set_") {
        s.field(class, it, field)?;
        let value = params.get(1).cloned().unwrap_or_default();
        s.set(class, it, field, value);
        return Ok(json!(""));
    }
    let (adds, field) = match (name.strip_prefix("add_to_"), name.strip_prefix("remove_from_")) {
        (Some(field), _) => (true, field),
        (_, Some(field)) => (false, field),
        _ => return unknown(),
    };
    let Value::Object(mut entries) = s.field(class, it, field)? else { return unknown() };
    let key = text(params, 1)?;
    if adds {
        if entries.contains_key(key) {
            return refuse(&["MAP_DUPLICATE_KEY", class, field, it, key]);
        }
        entries.insert(key.to_owned(), json!(text(params, 2)?));
    } else {
        entries.remove(key);
    }
    s.set(class, it, field, Value::Object(entries));
    Ok(json!(""))
}

pub(crate) fn needs(s: &State, vm: &str, state: &str) -> Result<(), Refusal> {
    s.get("VM", vm)?;
    let is = s.text("VM", vm, "power_state");
    if is == state { Ok(()) } else { refuse(&["VM_BAD_POWER_STATE", vm, state, &is]) }
}

pub(crate) fn quiet(s: &State, vm: &str) -> Result<(), Refusal> {
    let Value::Object(busy) = s.field("VM", vm, "current_operations")? else { return Ok(()) };
    match busy.values().next() {
        Some(what) => refuse(&["OTHER_OPERATION_IN_PROGRESS", "VM", vm, what.as_str().unwrap_or_default()]),
        None => Ok(()),
    }
}

/// Whether a host could run a VM: it is enabled, reaches its disks, and has the memory.
pub(crate) fn fits(s: &State, vm: &str, host: &str) -> Result<(), Refusal> {
    s.get("VM", vm)?;
    if s.get("host", host)?["enabled"] != true {
        return refuse(&["HOST_DISABLED", host]);
    }
    for vbd in s.list("VM", vm, "VBDs") {
        let sr = s.text("VDI", &s.text("VBD", &vbd, "VDI"), "SR");
        let attached = s.all("PBD").any(|(_, p)| p["host"] == host && p["SR"] == sr.as_str());
        if !attached {
            return refuse(&["VM_REQUIRES_SR", vm, &sr]);
        }
    }
    let (needed, free) = (s.int("VM", vm, "memory_dynamic_max"), s.free_memory(host));
    if s.text("VM", vm, "resident_on") != host && needed > free {
        return refuse(&["HOST_NOT_ENOUGH_FREE_MEMORY", &needed.to_string(), &free.to_string()]);
    }
    Ok(())
}
