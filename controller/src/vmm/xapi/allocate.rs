//! A VM from a template: all of it, or nothing.
//!
//! 1. One that runs already is as good; what an attempt that was cut has left is removed first. Until it carries our tag it is known by its
//!    name ([`making`]).
//! 2. The template and the network are looked for before anything is made.
//! 3. Clone, tag, memory and CPUs, interface, disks (`VM.provision`), start on the chosen host.
//! 4. If any of that fails, or is not wanted any more, the VM is removed with its disks.
//!
//! The interface gets the Ethernet address that the switches expect, and the template's own interfaces are removed. Where DHCP is off,
//! the guest finds its address in `vm-data/tandem/` of its xenstore.

use super::config;
use super::failure::Deed;
use super::pool::{HostRef, Pool, TAG};
use super::records::{NULL, Texts, Vm};
use super::rpc::Value;
use super::task::{self, Patience, TaskError};
use crate::vmm::VmmError;
use crate::vmm::hosts::Image;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{ServerId, VmId, VmSpec};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The name of a VM that is being made.
pub fn making(vm: VmId) -> String {
    format!("tandem: {vm} is being made")
}

/// Names of templates that an error lists, at most.
const NAMES: usize = 30;

/// See the module. `cancel` is no longer wanted.
///
/// # Errors
/// When it cannot be made; then nothing of it is left, or the error says what is.
pub async fn allocate(
    pool: &Pool,
    images: &[Image],
    server: ServerId,
    vm: VmId,
    spec: &VmSpec,
    cancel: &CancellationToken,
) -> Result<Option<Ipv4Addr>, VmmError> {
    let deed = pool.deed(server, Some(vm), format!("making {vm}"));
    let host = pool.host(server).await?;
    // 1.
    if let Some(there) = pool.find(vm).await.map_err(|e| deed.failed(e))? {
        if there.record.power_state == "Running" {
            if there.record.resident_on == host.reference {
                return address(pool, &there.record).await.map_err(|e| deed.failed(e));
            }
            return Err(VmmError::Refused {
                what: format!("{}: {}", deed.host, deed.what),
                why: format!(
                    "it runs on another host of pool {} already; stop it there first",
                    pool.cfg.access.name
                ),
            });
        }
        super::destroy::remove(pool, &deed, &there.reference).await?;
    }
    remove_unfinished(pool, &deed, vm).await?;
    // 2.
    let template = template(pool, images, &deed, spec.image.as_deref()).await?;
    let network = pool.network(server, spec.uplink_port).await?;
    // 3. and 4.
    let made = make(pool, &deed, &host, &template, &network, vm, spec, cancel).await;
    let Err(why) = made else { return made };
    match undo(pool, &deed, vm).await {
        Ok(()) => Err(why),
        Err(left) => Err(VmmError::Failed {
            host: deed.host.to_owned(),
            what: deed.what.clone(),
            why: format!("{why}; and what was made of it could not be removed: {left}. The next attempt removes it"),
        }),
    }
}

async fn undo(pool: &Pool, deed: &Deed<'_>, vm: VmId) -> Result<(), VmmError> {
    let half = pool.find(vm).await.map_err(|e| deed.failed(e))?;
    if let Some(half) = half {
        super::destroy::remove(pool, deed, &half.reference).await?;
    }
    remove_unfinished(pool, deed, vm).await
}

/// Clones that were cut before they got our tag.
async fn remove_unfinished(pool: &Pool, deed: &Deed<'_>, vm: VmId) -> Result<(), VmmError> {
    let left: Vec<String> =
        pool.session.ask("VM.get_by_name_label", vec![json!(making(vm))]).await.map_err(|e| deed.failed(e))?;
    for reference in left {
        super::destroy::remove(pool, deed, &reference).await?;
    }
    Ok(())
}

async fn template(
    pool: &Pool,
    images: &[Image],
    deed: &Deed<'_>,
    asked: Option<&str>,
) -> Result<(String, Vm), VmmError> {
    let none = |image: &str, why: &str, known: Vec<String>| VmmError::NoSuchTemplate {
        host: format!("pool {}", pool.cfg.access.name),
        image: image.to_owned(),
        why: why.to_owned(),
        known,
    };
    let all: BTreeMap<String, Vm> =
        pool.session.ask("VM.get_all_records", Vec::new()).await.map_err(|e| deed.failed(e))?;
    let templates = || all.iter().filter(|(_, r)| r.is_a_template && !r.is_a_snapshot);
    let known = || {
        let mut names: Vec<String> = templates().map(|(_, r)| r.name_label.clone()).collect();
        names.sort();
        names.dedup();
        let more = names.len().saturating_sub(NAMES);
        names.truncate(NAMES);
        if more > 0 {
            names.push(format!("and {more} more"));
        }
        names
    };
    let name = match config::template(images, asked) {
        Ok(Some(name)) => name,
        Ok(None) => return Err(none("", "the request names none, and the hypervisors file has no default", known())),
        Err(image) => return Err(none(image, "its [[image]] in the hypervisors file has no `template`", known())),
    };
    let mut named: Vec<(&String, &Vm)> = templates().filter(|(_, r)| r.name_label == name).collect();
    match (named.pop(), named.is_empty()) {
        (Some((reference, record)), true) => Ok((reference.clone(), record.clone())),
        (None, _) => Err(none(asked.unwrap_or(name), "", known())),
        (Some(_), false) => {
            Err(none(name, "several templates have this name; give them different ones", known()))
        }
    }
}

#[allow(clippy::too_many_arguments)]
async fn make(
    pool: &Pool,
    deed: &Deed<'_>,
    host: &HostRef,
    (template, original): &(String, Vm),
    network: &str,
    vm: VmId,
    spec: &VmSpec,
    cancel: &CancellationToken,
) -> Result<Option<Ipv4Addr>, VmmError> {
    let limits = pool.cfg.limits;
    let patience =
        Patience { limit: limits.make, cancel_limit: limits.cancel, cancel: cancel.clone() };
    let call = async |method: &str, params: Vec<Value>| {
        if cancel.is_cancelled() {
            return Err(VmmError::Cancelled);
        }
        pool.session.call(method, params).await.map_err(|e| deed.failed(e))
    };
    let long = async |method: &str, params: Vec<Value>| {
        task::run(&pool.session, method, params, &patience, &mut |_| {}).await.map_err(|e| deed.ended(e))
    };
    let clone = vec![json!(template), json!(making(vm))];
    let clone = match task::run(&pool.session, "VM.clone", clone, &patience, &mut |_| {}).await {
        Err(error @ (TaskError::InDoubt(_) | TaskError::Hung(_))) => {
            cloned(pool, deed, template, vm).await?;
            return Err(deed.ended(error));
        }
        other => other.map_err(|e| deed.ended(e))?,
    };
    let Value::String(it) = clone else {
        return Err(VmmError::BadAnswer {
            host: deed.host.to_owned(),
            what: deed.what.clone(),
            why: "VM.clone gave no VM".to_owned(),
        });
    };
    // A template of ours would carry another VM's tag.
    call("VM.remove_from_other_config", vec![json!(it), json!(TAG)]).await?;
    call("VM.add_to_other_config", vec![json!(it), json!(TAG), json!(vm.0.to_string())]).await?;
    let name = spec.name.clone().unwrap_or_else(|| vm.to_string());
    call("VM.set_name_label", vec![json!(it), json!(name)]).await?;
    call("VM.set_affinity", vec![json!(it), json!(host.reference)]).await?;
    resources(&call, &it, original, spec).await?;
    interfaces(pool, deed, &call, &it, network, spec).await?;
    if let Some(fixed) = spec.fixed_address {
        let data = [
            ("address", fixed.address.to_string()),
            ("prefix-length", fixed.prefix_len.to_string()),
            ("router", fixed.router.to_string()),
        ];
        for (key, value) in data {
            let key = format!("vm-data/tandem/{key}");
            call("VM.remove_from_xenstore_data", vec![json!(it), json!(key)]).await?;
            call("VM.add_to_xenstore_data", vec![json!(it), json!(key), json!(value)]).await?;
        }
    }
    long("VM.provision", vec![json!(it)]).await?;
    let start = vec![json!(it), json!(host.reference), json!(false), json!(false)];
    long("VM.start_on", start).await?;
    let record: Vm =
        pool.session.ask("VM.get_record", vec![json!(it)]).await.map_err(|e| deed.failed(e))?;
    address(pool, &record).await.map_err(|e| deed.failed(e))
}

/// Waits until a clone that may or may not be under way is there to be removed, or is not.
async fn cloned(pool: &Pool, deed: &Deed<'_>, template: &str, vm: VmId) -> Result<(), VmmError> {
    let deadline = Instant::now() + pool.cfg.limits.cancel;
    while Instant::now() < deadline {
        let original: Vm =
            pool.session.ask("VM.get_record", vec![json!(template)]).await.map_err(|e| deed.failed(e))?;
        let there: Vec<String> = pool
            .session
            .ask("VM.get_by_name_label", vec![json!(making(vm))])
            .await
            .map_err(|e| deed.failed(e))?;
        if !there.is_empty() || !original.current_operations.values().any(|o| o == "clone") {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// What the template may grow to stays above what is asked for: so far a VM can be resized while it runs.
async fn resources(
    call: &impl AsyncFn(&str, Vec<Value>) -> Result<Value, VmmError>,
    it: &str,
    original: &Vm,
    spec: &VmSpec,
) -> Result<(), VmmError> {
    let ram = i64::try_from(spec.resources.ram.0).unwrap_or(i64::MAX);
    let least = original.memory_static_min.min(ram);
    let most = original.memory_static_max.max(ram);
    call("VM.set_memory_limits", vec![json!(it), json!(least), json!(most), json!(ram), json!(ram)]).await?;
    let cpus = i64::from(spec.resources.cpu.max(1));
    // At no moment may there be more at the start than at most.
    if cpus > original.vcpus_max {
        call("VM.set_VCPUs_max", vec![json!(it), json!(cpus)]).await?;
    }
    call("VM.set_VCPUs_at_startup", vec![json!(it), json!(cpus)]).await?;
    Ok(())
}

async fn interfaces(
    pool: &Pool,
    deed: &Deed<'_>,
    call: &impl AsyncFn(&str, Vec<Value>) -> Result<Value, VmmError>,
    it: &str,
    network: &str,
    spec: &VmSpec,
) -> Result<(), VmmError> {
    let cloned: Vec<String> =
        pool.session.ask("VM.get_VIFs", vec![json!(it)]).await.map_err(|e| deed.failed(e))?;
    for vif in cloned {
        call("VIF.destroy", vec![json!(vif)]).await?;
    }
    let vif = json!({
        "device": "0",
        "VM": it,
        "network": network,
        "MAC": spec.mac.to_string(),
        "MTU": 1500,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
        "locking_mode": "network_default",
        "ipv4_allowed": [],
        "ipv6_allowed": [],
    });
    call("VIF.create", vec![vif]).await.map(drop)
}

/// What the guest's tools say.
///
/// # Errors
/// When the pool cannot be asked.
pub async fn address(pool: &Pool, record: &Vm) -> Result<Option<Ipv4Addr>, super::session::CallError> {
    if record.guest_metrics.is_empty() || record.guest_metrics == NULL {
        return Ok(None);
    }
    let asked = pool.session.ask("VM_guest_metrics.get_networks", vec![json!(record.guest_metrics)]).await;
    let networks: Texts = match asked {
        // The record is written anew whenever the guest starts.
        Err(error) if error.code() == "HANDLE_INVALID" => return Ok(None),
        other => other?,
    };
    let named = networks.get("0/ipv4/0").or_else(|| networks.get("0/ip"));
    Ok(named.and_then(|text| text.parse().ok()))
}
