//! The state of the double: objects of the public data model's classes, sessions, tasks, and a log
//! of changes.
//!
//! Objects are records as on the wire; getters, setters and maps work on any field of any class, as
//! in the data model. Methods with rules of their own are in `calls.rs` and `deeds.rs`.

use super::wire::Refusal;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const NULL: &str = "OpaqueRef:NULL";
pub(crate) const GIB: i64 = 1 << 30;

/// A change: its number, class, `add`, `mod` or `del`, and reference.
pub(crate) type Change = (u64, String, &'static str, String);

#[derive(Default)]
pub(crate) struct State {
    /// Objects by class and reference.
    pub(crate) objects: BTreeMap<String, BTreeMap<String, Map<String, Value>>>,
    pub(crate) sessions: BTreeSet<String>,
    pub(crate) log: Vec<Change>,
    /// Tasks that were cancelled.
    pub(crate) cancelled: BTreeSet<String>,
    pub(crate) numbers: u64,
    pub(crate) password: String,
    /// False for XCP 1.6: no JSON-RPC.
    pub(crate) json: bool,
}

pub(crate) fn refuse<T>(words: &[&str]) -> Result<T, Refusal> {
    Err(words.iter().map(|w| (*w).to_owned()).collect())
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn log(&mut self, class: &str, operation: &'static str, reference: &str) {
        let number = self.number();
        self.log.push((number, class.to_owned(), operation, reference.to_owned()));
    }

    /// The number of the last change.
    pub(crate) fn last(&self) -> u64 {
        self.log.last().map_or(0, |c| c.0)
    }

    pub(crate) fn add(&mut self, class: &str, mut record: Value) -> String {
        let n = self.number();
        let reference = format!("OpaqueRef:{class}-{n}");
        let map = record.as_object_mut().expect("a record");
        map.entry("uuid").or_insert_with(|| json!(format!("uuid-{class}-{n}")));
        let map = map.clone();
        self.objects.entry(class.to_owned()).or_default().insert(reference.clone(), map);
        self.log(class, "add", &reference);
        reference
    }

    pub(crate) fn all(&self, class: &str) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
        self.objects.get(class).into_iter().flatten()
    }

    pub(crate) fn get(&self, class: &str, reference: &str) -> Result<&Map<String, Value>, Refusal> {
        let found = self.objects.get(class).and_then(|c| c.get(reference));
        found.map_or_else(|| refuse(&["HANDLE_INVALID", class, reference]), Ok)
    }

    pub(crate) fn field(&self, class: &str, reference: &str, field: &str) -> Result<Value, Refusal> {
        let record = self.get(class, reference)?;
        record
            .get(field)
            .cloned()
            .map_or_else(|| refuse(&["MESSAGE_METHOD_UNKNOWN", &format!("{class}.get_{field}")]), Ok)
    }

    pub(crate) fn text(&self, class: &str, reference: &str, field: &str) -> String {
        let value = self.field(class, reference, field).unwrap_or_default();
        value.as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn int(&self, class: &str, reference: &str, field: &str) -> i64 {
        self.field(class, reference, field).ok().and_then(|v| v.as_i64()).unwrap_or(0)
    }

    pub(crate) fn list(&self, class: &str, reference: &str, field: &str) -> Vec<String> {
        let value = self.field(class, reference, field).unwrap_or_default();
        let list = value.as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    }

    /// Changes an existing record.
    pub(crate) fn change(
        &mut self,
        class: &str,
        reference: &str,
        change: impl FnOnce(&mut Map<String, Value>),
    ) {
        if let Some(record) = self.objects.get_mut(class).and_then(|c| c.get_mut(reference)) {
            change(record);
            self.log(class, "mod", reference);
        }
    }

    pub(crate) fn set(&mut self, class: &str, reference: &str, field: &str, value: Value) {
        self.change(class, reference, |r| {
            r.insert(field.to_owned(), value);
        });
    }

    pub(crate) fn remove(&mut self, class: &str, reference: &str) {
        if self.objects.get_mut(class).and_then(|c| c.remove(reference)).is_some() {
            self.log(class, "del", reference);
        }
    }

    fn in_list(&mut self, class: &str, reference: &str, field: &str, item: &str, there: bool) {
        let item = json!(item);
        self.change(class, reference, |r| {
            if let Some(Value::Array(list)) = r.get_mut(field) {
                list.retain(|i| *i != item);
                if there {
                    list.push(item);
                }
            }
        });
    }

    pub(crate) fn operation(&mut self, vm: &str, task: &str, operation: Option<&str>) {
        self.change("VM", vm, |r| {
            if let Some(Value::Object(map)) = r.get_mut("current_operations") {
                map.remove(task);
                if let Some(operation) = operation {
                    map.insert(task.to_owned(), json!(operation));
                }
            }
        });
    }

    pub(crate) fn free_memory(&self, host: &str) -> i64 {
        let used: i64 = self
            .all("VM")
            .filter(|(_, r)| r["resident_on"] == host)
            .filter_map(|(_, r)| r["memory_dynamic_max"].as_i64())
            .sum();
        self.int("host", host, "memory_total") - used
    }

    pub(crate) fn add_host(&mut self, name: &str, address: &str, memory: i64) -> String {
        let host = json!({"name_label": name, "address": address, "enabled": true, "memory_total": memory, "other_config": {},
            "API_version_major": 2, "API_version_minor": 21});
        self.add("host", host)
    }

    pub(crate) fn add_sr(&mut self, name: &str, hosts: &[&str]) -> String {
        let sr =
            json!({"name_label": name, "type": "ext", "content_type": "user", "shared": hosts.len() > 1});
        let sr = self.add("SR", sr);
        for host in hosts {
            self.add("PBD", json!({"host": host, "SR": sr, "currently_attached": true}));
        }
        sr
    }

    pub(crate) fn add_template(&mut self, name: &str, sr: &str, network: &str) -> String {
        let vm = self.add_vm(name, GIB / 2);
        self.set("VM", &vm, "is_a_template", json!(true));
        self.add_disk(&vm, sr);
        self.add_vif(&vm, network, "02:00:00:00:00:01", "0");
        vm
    }

    pub(crate) fn add_vm(&mut self, name: &str, memory: i64) -> String {
        let vm = json!({"name_label": name, "name_description": "", "power_state": "Halted", "is_a_template": false,
            "is_a_snapshot": false, "is_control_domain": false, "resident_on": NULL, "affinity": NULL,
            "other_config": {}, "xenstore_data": {}, "current_operations": {}, "VIFs": [], "VBDs": [],
            "memory_static_min": 16 << 20, "memory_static_max": memory, "memory_dynamic_min": memory,
            "memory_dynamic_max": memory, "VCPUs_max": 2, "VCPUs_at_startup": 1, "guest_metrics": NULL});
        self.add("VM", vm)
    }

    pub(crate) fn add_disk(&mut self, vm: &str, sr: &str) -> String {
        let vdi =
            self.add("VDI", json!({"SR": sr, "VBDs": [], "virtual_size": 8 * GIB, "name_label": "root"}));
        let vbd = self.add("VBD", json!({"VM": vm, "VDI": vdi, "type": "Disk", "userdevice": "0"}));
        self.in_list("VM", vm, "VBDs", &vbd, true);
        self.in_list("VDI", &vdi, "VBDs", &vbd, true);
        vdi
    }

    pub(crate) fn remove_disk(&mut self, vdi: &str) {
        for vbd in self.list("VDI", vdi, "VBDs") {
            let vm = self.text("VBD", &vbd, "VM");
            self.in_list("VM", &vm, "VBDs", &vbd, false);
            self.remove("VBD", &vbd);
        }
        self.remove("VDI", vdi);
    }

    pub(crate) fn add_vif(&mut self, vm: &str, network: &str, mac: &str, device: &str) -> String {
        let vif = json!({"VM": vm, "network": network, "MAC": mac, "device": device, "MTU": 1500});
        let vif = self.add("VIF", vif);
        self.in_list("VM", vm, "VIFs", &vif, true);
        vif
    }

    pub(crate) fn remove_vif(&mut self, vif: &str) {
        let vm = self.text("VIF", vif, "VM");
        self.in_list("VM", &vm, "VIFs", vif, false);
        self.remove("VIF", vif);
    }

    /// Removes a VM with its interfaces; its disks stay, as with VM.destroy.
    pub(crate) fn remove_vm(&mut self, vm: &str) {
        for vif in self.list("VM", vm, "VIFs") {
            self.remove_vif(&vif);
        }
        for vbd in self.list("VM", vm, "VBDs") {
            let vdi = self.text("VBD", &vbd, "VDI");
            self.in_list("VDI", &vdi, "VBDs", &vbd, false);
            self.remove("VBD", &vbd);
        }
        let guest = self.text("VM", vm, "guest_metrics");
        self.remove("VM_guest_metrics", &guest);
        self.remove("VM", vm);
    }

    /// The state that must be equal when nothing is left over: everything except sessions, tasks
    /// and the log.
    pub(crate) fn things(&self) -> BTreeMap<String, BTreeMap<String, Map<String, Value>>> {
        let kept = self.objects.iter().filter(|(class, all)| *class != "task" && !all.is_empty());
        kept.map(|(class, all)| (class.clone(), all.clone())).collect()
    }
}
