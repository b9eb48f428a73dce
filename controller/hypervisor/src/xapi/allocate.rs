//! Creates a VM from a template, completely or not at all.
//!
//! 1. A VM that runs already is a success; the rest of an interrupted attempt is removed first. A
//!    VM that was created for another request is not touched. Until it carries our tag, a clone is
//!    known by its name ([`Pool::making`]).
//! 2. The template and the network are checked before anything is created.
//! 3. Clone, tag, memory and CPUs, interface, disks (`VM.provision`), start on the chosen host.
//! 4. If any of that fails or is cancelled, the VM is removed with its disks.
//!
//! The interface gets the Ethernet address that the switches expect and is locked to its addresses
//! ([`locking`]); the template's own interfaces are removed. Without DHCP, the guest finds its
//! address in `vm-data/tandem/` of its xenstore.

use super::config;
use super::errors::Deed;
use super::kept;
use super::locking;
use super::pool::{HostRef, Pool, TAG};
use super::records::{NULL, Texts, Vm};
use super::rpc::Value;
use super::task::{self, TaskError, Timeouts};
use crate::VmmError;
use crate::config::Image;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{ServerId, VmId, VmSpec};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The most names of templates in an error.
const NAMES: usize = 30;

/// Creates a VM from its template and starts it, unless `cancel` is triggered.
///
/// When it cannot be created; then nothing of it is left, or the error says what is.
pub(super) async fn allocate(
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
        kept::check_made_for(&deed, vm, &there.record, spec.origin.placed_at)?;
        if there.record.power_state == "Running" {
            if there.record.resident_on == host.reference {
                locking::ensure(pool, &deed, &there.record, spec.address).await?;
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
    let limits = pool.cfg.limits;
    let timeouts = Timeouts { limit: limits.make, cancel_limit: limits.cancel, cancel: cancel.clone() };
    let making =
        Making { pool, deed: &deed, timeouts, vm, spec, image: config::image(images, spec.image.as_deref()) };
    let made = making.make(&host, &template, &network).await;
    let Err(why) = made else { return made };
    match undo(pool, &deed, vm).await {
        Ok(()) => Err(why),
        Err(left) => Err(VmmError::Failed {
            host: deed.host.to_owned(),
            what: deed.what.clone(),
            why: format!(
                "{why}; and what was made of it could not be removed: {left}. The next attempt removes it"
            ),
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

/// Removes clones of interrupted attempts, which do not have our tag yet.
async fn remove_unfinished(pool: &Pool, deed: &Deed<'_>, vm: VmId) -> Result<(), VmmError> {
    let left: Vec<String> = pool
        .session
        .ask("VM.get_by_name_label", vec![json!(pool.making(vm))])
        .await
        .map_err(|e| deed.failed(e))?;
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
        Ok(None) => {
            return Err(none("", "the request names none, and the hypervisors file has no default", known()));
        }
        Err(image) => {
            return Err(none(image, "its [[image]] in the hypervisors file has no `template`", known()));
        }
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

/// A VM that is being created.
struct Making<'a> {
    pool: &'a Pool,
    deed: &'a Deed<'a>,
    timeouts: Timeouts,
    vm: VmId,
    spec: &'a VmSpec,
    image: Option<&'a Image>,
}

impl Making<'_> {
    async fn call(&self, method: &str, params: Vec<Value>) -> Result<Value, VmmError> {
        if self.timeouts.cancel.is_cancelled() {
            return Err(VmmError::Cancelled);
        }
        self.pool.session.call(method, params).await.map_err(|e| self.deed.failed(e))
    }

    async fn long(&self, method: &str, params: Vec<Value>) -> Result<Value, VmmError> {
        let done = task::run(&self.pool.session, method, params, &self.timeouts, &mut |_| {}).await;
        done.map_err(|e| self.deed.ended(e))
    }

    async fn make(
        &self,
        host: &HostRef,
        (template, original): &(String, Vm),
        network: &str,
    ) -> Result<Option<Ipv4Addr>, VmmError> {
        let it = self.clone_of(template).await?;
        // A template that was made from a VM of ours has that VM's tag.
        self.call("VM.remove_from_other_config", vec![json!(it), json!(TAG)]).await?;
        // A VM with our tag always has the record of its request.
        kept::keep(self.pool, self.deed, &it, self.spec).await?;
        let tag = vec![json!(it), json!(TAG), json!(self.pool.mark(self.vm))];
        self.call("VM.add_to_other_config", tag).await?;
        let name = self.spec.name.clone().unwrap_or_else(|| self.vm.to_string());
        self.call("VM.set_name_label", vec![json!(it), json!(name)]).await?;
        self.call("VM.set_affinity", vec![json!(it), json!(host.reference)]).await?;
        self.resources(&it, original).await?;
        self.interface(&it, network).await?;
        self.fixed_address(&it).await?;
        self.long("VM.provision", vec![json!(it)]).await?;
        let start = vec![json!(it), json!(host.reference), json!(false), json!(false)];
        self.long("VM.start_on", start).await?;
        let asked = self.pool.session.ask("VM.get_record", vec![json!(it)]).await;
        let record: Vm = asked.map_err(|e| self.deed.failed(e))?;
        address(self.pool, &record).await.map_err(|e| self.deed.failed(e))
    }

    async fn clone_of(&self, template: &str) -> Result<String, VmmError> {
        let params = vec![json!(template), json!(self.pool.making(self.vm))];
        let session = &self.pool.session;
        match task::run(session, "VM.clone", params, &self.timeouts, &mut |_| {}).await {
            Ok(Value::String(it)) => Ok(it),
            Ok(other) => Err(VmmError::BadAnswer {
                host: self.deed.host.to_owned(),
                what: self.deed.what.clone(),
                why: format!("VM.clone gave {other}, which is no VM"),
            }),
            Err(error @ (TaskError::InDoubt(_) | TaskError::Hung(_))) => {
                cloned(self.pool, self.deed, template, self.vm).await?;
                Err(self.deed.ended(error))
            }
            Err(error) => Err(self.deed.ended(error)),
        }
    }

    /// Sets the limits for later resizing: those of the template or of the image in the hypervisors
    /// file, whichever is larger.
    async fn resources(&self, it: &str, original: &Vm) -> Result<(), VmmError> {
        let ram = i64::try_from(self.spec.resources.ram.0).unwrap_or(i64::MAX);
        let least = original.memory_static_min.min(ram);
        let said = self.image.and_then(|i| i.max_ram).map_or(0, |b| i64::try_from(b.0).unwrap_or(i64::MAX));
        let most = original.memory_static_max.max(said).max(ram);
        let limits = vec![json!(it), json!(least), json!(most), json!(ram), json!(ram)];
        self.call("VM.set_memory_limits", limits).await?;
        let cpus = i64::from(self.spec.resources.cpu.max(1));
        let said = self.image.and_then(|i| i.max_cpu).map_or(0, i64::from);
        let most = original.vcpus_max.max(said).max(cpus);
        // The CPUs at the start must never exceed the maximum.
        if most > original.vcpus_max {
            self.call("VM.set_VCPUs_max", vec![json!(it), json!(most)]).await?;
        }
        self.call("VM.set_VCPUs_at_startup", vec![json!(it), json!(cpus)]).await?;
        Ok(())
    }

    async fn interface(&self, it: &str, network: &str) -> Result<(), VmmError> {
        let asked = self.pool.session.ask("VM.get_VIFs", vec![json!(it)]).await;
        let cloned: Vec<String> = asked.map_err(|e| self.deed.failed(e))?;
        for vif in cloned {
            self.call("VIF.destroy", vec![json!(vif)]).await?;
        }
        let mut vif = json!({
            "device": "0",
            "VM": it,
            "network": network,
            "MAC": self.spec.mac.to_string(),
            "MTU": 1500,
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        });
        for (field, value) in locking::fields(self.spec.address) {
            vif[field] = value;
        }
        self.call("VIF.create", vec![vif]).await.map(drop)
    }

    async fn fixed_address(&self, it: &str) -> Result<(), VmmError> {
        let Some(fixed) = self.spec.fixed_address else { return Ok(()) };
        let data = [
            ("address", fixed.address.to_string()),
            ("prefix-length", fixed.prefix_len.to_string()),
            ("router", fixed.router.to_string()),
        ];
        for (key, value) in data {
            let key = format!("vm-data/tandem/{key}");
            self.call("VM.remove_from_xenstore_data", vec![json!(it), json!(key)]).await?;
            self.call("VM.add_to_xenstore_data", vec![json!(it), json!(key), json!(value)]).await?;
        }
        Ok(())
    }
}

/// Waits until a clone whose creation is uncertain can be removed, or has not appeared.
async fn cloned(pool: &Pool, deed: &Deed<'_>, template: &str, vm: VmId) -> Result<(), VmmError> {
    let start = Instant::now();
    let session = &pool.session;
    loop {
        let original: Vm =
            session.ask("VM.get_record", vec![json!(template)]).await.map_err(|e| deed.failed(e))?;
        let named = session.ask("VM.get_by_name_label", vec![json!(pool.making(vm))]).await;
        let there: Vec<String> = named.map_err(|e| deed.failed(e))?;
        let busy = original.current_operations.values().any(|o| o == "clone");
        let limit = if busy { pool.cfg.limits.cancel } else { pool.cfg.limits.doubt };
        if !there.is_empty() || start.elapsed() > limit {
            return Ok(());
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The address in the report of the guest's tools.
///
/// When the pool does not answer.
pub(super) async fn address(pool: &Pool, record: &Vm) -> Result<Option<Ipv4Addr>, super::session::CallError> {
    if record.guest_metrics.is_empty() || record.guest_metrics == NULL {
        return Ok(None);
    }
    let asked = pool.session.ask("VM_guest_metrics.get_networks", vec![json!(record.guest_metrics)]).await;
    let networks: Texts = match asked {
        // The record is recreated whenever the guest starts.
        Err(error) if error.code() == "HANDLE_INVALID" => return Ok(None),
        other => other?,
    };
    let named = networks.get("0/ipv4/0").or_else(|| networks.get("0/ip"));
    Ok(named.and_then(|text| text.parse().ok()))
}
