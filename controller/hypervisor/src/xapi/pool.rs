//! A pool: its hosts that are servers of the site, and its VMs with our tag.
//!
//! References are cached: a host's or VM's is looked up again when XAPI no longer knows it. A VM is
//! ours if its `other_config` has [`TAG`] with the site's name and its id: several sites may share
//! a pool.

use super::config::{PoolConfig, ServerConfig};
use super::errors::Deed;
use super::records::{Host, NULL, Network, Vm};
use super::session::{CallError, Session};
use crate::VmmError;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tandem_model::{PortNo, ServerId, VmId};

/// The key in a VM's `other_config` that has the site's name and the VM's id: `mine/7`.
pub const TAG: &str = "tandem-vm";

/// A VM of ours, with its present record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// Its id.
    pub vm: VmId,
    /// XAPI's reference.
    pub reference: String,
    /// Its record.
    pub record: Vm,
}

/// A host that is a server of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRef {
    /// XAPI's reference.
    pub reference: String,
    /// Its record.
    pub record: Host,
}

/// A pool: its session, and its hosts that are servers of the site.
pub struct Pool {
    /// Its configuration.
    pub cfg: PoolConfig,
    /// Its session.
    pub session: Arc<Session>,
    site: String,
    vms: Mutex<BTreeMap<VmId, String>>,
    hosts: Mutex<BTreeMap<ServerId, HostRef>>,
    /// The last references of VMs that we have removed ourselves: XAPI's events about them come
    /// afterwards.
    removed: Mutex<VecDeque<String>>,
}

/// The most such references. A pool's events are a second or two late.
const MOST_REMOVED: usize = 1024;

impl Pool {
    /// For the VMs of a site; sends nothing yet.
    pub fn new(cfg: PoolConfig, site: &str) -> Pool {
        Pool {
            session: Arc::new(Session::new(cfg.access.clone())),
            cfg,
            site: site.to_owned(),
            vms: Mutex::default(),
            hosts: Mutex::default(),
            removed: Mutex::default(),
        }
    }

    /// Records that we are about to remove a VM; references are never reused.
    pub fn note_removal(&self, reference: &str) {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        if removed.iter().any(|r| r == reference) {
            return;
        }
        if removed.len() == MOST_REMOVED {
            removed.pop_front();
        }
        removed.push_back(reference.to_owned());
    }

    /// The removal failed: later events about the VM are reported again.
    pub fn forget_removal(&self, reference: &str) {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).retain(|r| r != reference);
    }

    /// Whether we have removed the VM ourselves.
    pub fn is_removed_by_us(&self, reference: &str) -> bool {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|r| r == reference)
    }

    /// The tag of a VM.
    pub fn mark(&self, vm: VmId) -> String {
        format!("{}/{}", self.site, vm.0)
    }

    /// The id in a VM's tag.
    pub fn tag(&self, record: &Vm) -> Option<VmId> {
        let (site, id) = record.other_config.get(TAG)?.rsplit_once('/')?;
        (site == self.site).then_some(())?;
        id.parse().ok().map(VmId)
    }

    /// The name of a VM while it is created, before it has a tag.
    pub fn making(&self, vm: VmId) -> String {
        format!("tandem: {vm} of {} is being made", self.site)
    }

    /// The configuration of one of its servers.
    pub fn server(&self, server: ServerId) -> Option<&ServerConfig> {
        self.cfg.servers.iter().find(|s| s.server == server)
    }

    /// The context of errors on a server, by its name.
    pub fn deed<'a>(&'a self, server: ServerId, vm: Option<VmId>, what: impl Into<String>) -> Deed<'a> {
        let host = self.server(server).map_or(self.cfg.access.name.as_str(), |s| s.name.as_str());
        Deed { host, user: &self.cfg.access.user, vm, what: what.into() }
    }

    /// The host of a server.
    ///
    /// When the pool does not answer, or has no such host.
    pub async fn host(&self, server: ServerId) -> Result<HostRef, VmmError> {
        let known = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(&server).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let deed = self.deed(server, None, "looking for its host");
        let all: BTreeMap<String, Host> =
            self.session.ask("host.get_all_records", Vec::new()).await.map_err(|e| deed.failed(e))?;
        self.session.learn(all.values().map(|h| h.address.clone()).collect()).await;
        let mut found = BTreeMap::new();
        for cfg in &self.cfg.servers {
            let named = |h: &&str, r: &Host| *h == r.uuid || *h == r.name_label || *h == r.address;
            let matching = all.iter().find(|(_, r)| named(&cfg.host.as_str(), r));
            if let Some((reference, record)) = matching {
                found.insert(cfg.server, HostRef { reference: reference.clone(), record: record.clone() });
            }
        }
        let answer = found.get(&server).cloned();
        *self.hosts.lock().unwrap_or_else(PoisonError::into_inner) = found;
        answer.ok_or_else(|| {
            let names: Vec<&str> = all.values().map(|h| h.name_label.as_str()).collect();
            let wanted = self.server(server).map_or("", |s| s.host.as_str());
            VmmError::Refused {
                what: format!("{}: {}", deed.host, deed.what),
                why: format!(
                    "pool {} has no host {wanted:?}, it has {}; correct `host` in the hypervisors file",
                    self.cfg.access.name,
                    names.join(", ")
                ),
            }
        })
    }

    /// The server of a host.
    pub fn server_of(&self, host: &str) -> Option<ServerId> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().find(|(_, h)| h.reference == host).map(|(s, _)| *s)
    }

    /// Drops the cached references to hosts.
    pub fn forget_hosts(&self) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// All VMs of ours in the pool, with unfinished clones of templates.
    ///
    /// When the pool does not answer.
    pub async fn ours(&self) -> Result<Vec<Ours>, CallError> {
        let all: BTreeMap<String, Vm> = self.session.ask("VM.get_all_records", Vec::new()).await?;
        let mut found: Vec<Ours> = all
            .into_iter()
            .filter(|(_, r)| !r.is_a_snapshot && !r.is_control_domain)
            .filter_map(|(reference, record)| Some(Ours { vm: self.tag(&record)?, reference, record }))
            .collect();
        found.sort_by_key(|o| o.vm);
        *self.vms.lock().unwrap_or_else(PoisonError::into_inner) =
            found.iter().map(|o| (o.vm, o.reference.clone())).collect();
        Ok(found)
    }

    /// A VM of ours; `None` when the pool does not have it.
    ///
    /// When the pool does not answer.
    pub async fn find(&self, vm: VmId) -> Result<Option<Ours>, CallError> {
        let known = self.vms.lock().unwrap_or_else(PoisonError::into_inner).get(&vm).cloned();
        if let Some(reference) = known {
            match self.session.ask::<Vm>("VM.get_record", vec![json!(reference)]).await {
                Ok(record) if self.tag(&record) == Some(vm) => {
                    return Ok(Some(Ours { vm, reference, record }));
                }
                Ok(_) => {}
                Err(error) if error.code() == "HANDLE_INVALID" => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.ours().await?.into_iter().find(|o| o.vm == vm))
    }

    /// A VM of ours that has to exist.
    ///
    /// When it does not, or the pool does not answer.
    pub async fn must_find(&self, server: ServerId, vm: VmId, what: &str) -> Result<Ours, VmmError> {
        let deed = self.deed(server, Some(vm), what);
        let found = self.find(vm).await.map_err(|e| deed.failed(e))?;
        found.ok_or_else(|| VmmError::GoneBehindOurBack { host: deed.host.to_owned(), vm })
    }

    /// The network behind a port of a server.
    ///
    /// When none is configured or the pool does not have it.
    pub async fn network(&self, server: ServerId, port: PortNo) -> Result<String, VmmError> {
        let deed = self.deed(server, None, format!("looking for the network of port {port}"));
        let refused = |why| VmmError::Refused { what: format!("{}: {}", deed.host, deed.what), why };
        let uplinks = self.server(server).map(|s| s.uplinks.as_slice()).unwrap_or_default();
        let Some((_, name)) = uplinks.iter().find(|(p, _)| *p == port) else {
            return Err(refused(
                "the hypervisors file names none; add it to `networks` of the server".to_owned(),
            ));
        };
        let all: BTreeMap<String, Network> =
            self.session.ask("network.get_all_records", Vec::new()).await.map_err(|e| deed.failed(e))?;
        let by_name = all.iter().find(|(_, n)| n.name_label == *name);
        let found = by_name.or_else(|| all.iter().find(|(_, n)| n.bridge == *name));
        found.map(|(reference, _)| reference.clone()).ok_or_else(|| {
            let names: Vec<&str> = all.values().map(|n| n.name_label.as_str()).collect();
            refused(format!(
                "pool {} has no network {name:?}, it has {}",
                self.cfg.access.name,
                names.join(", ")
            ))
        })
    }
}

/// The VM's host, or its preferred one while it does not run.
pub fn place(record: &Vm) -> &str {
    if record.resident_on == NULL || record.resident_on.is_empty() {
        &record.affinity
    } else {
        &record.resident_on
    }
}
