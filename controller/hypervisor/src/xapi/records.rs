//! The part of XAPI's data model that is used here: records as they come, with integers as numbers
//! or as text.

use super::rpc::integer;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What stands where a reference leads nowhere.
pub const NULL: &str = "OpaqueRef:NULL";

/// A map of texts, as `other_config` is.
pub type Texts = BTreeMap<String, String>;

/// A VM or a template.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Vm {
    /// The same for ever, and after a move to another pool too.
    pub uuid: String,
    /// For people.
    pub name_label: String,
    /// `Halted`, `Paused`, `Running` or `Suspended`.
    pub power_state: String,
    /// True for what VMs are made from.
    pub is_a_template: bool,
    /// True for a host's own domain.
    #[serde(default)]
    pub is_control_domain: bool,
    /// True for what is a picture of a VM.
    #[serde(default)]
    pub is_a_snapshot: bool,
    /// The host that it runs on, or [`NULL`].
    pub resident_on: String,
    /// The host that it would rather run on, or [`NULL`].
    #[serde(default)]
    pub affinity: String,
    /// Anything, ours too.
    #[serde(default)]
    pub other_config: Texts,
    /// Tasks that are under way with it, and what they do.
    #[serde(default)]
    pub current_operations: Texts,
    /// Its interfaces.
    #[serde(rename = "VIFs", default)]
    pub vifs: Vec<String>,
    /// Its block devices.
    #[serde(rename = "VBDs", default)]
    pub vbds: Vec<String>,
    /// Bytes that it can be given while it runs, at most.
    #[serde(deserialize_with = "integer")]
    pub memory_static_max: i64,
    /// Bytes that it cannot do without.
    #[serde(deserialize_with = "integer")]
    pub memory_static_min: i64,
    /// Bytes that it has at most now.
    #[serde(deserialize_with = "integer")]
    pub memory_dynamic_max: i64,
    /// CPUs that it can be given while it runs, at most.
    #[serde(rename = "VCPUs_max", deserialize_with = "integer")]
    pub vcpus_max: i64,
    /// What its guest says, or [`NULL`].
    #[serde(default)]
    pub guest_metrics: String,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Host {
    /// The same for ever.
    pub uuid: String,
    /// For people.
    pub name_label: String,
    /// Of its management interface.
    pub address: String,
    /// False while it is not to be given VMs.
    pub enabled: bool,
}

/// A network of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Network {
    /// For people.
    pub name_label: String,
    /// On every host of the pool.
    pub bridge: String,
}

/// A host's interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pif {
    /// Whose.
    pub host: String,
    /// On which network.
    pub network: String,
    /// True for the one that XAPI is reached by.
    #[serde(default)]
    pub management: bool,
}

/// A VM's interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Vif {
    /// Which one of the VM's.
    pub device: String,
    /// On which network.
    pub network: String,
    /// Ethernet address.
    #[serde(rename = "MAC")]
    pub mac: String,
    /// What may be sent: `network_default`, `locked`, `unlocked`, `disabled`.
    #[serde(default)]
    pub locking_mode: String,
    /// Addresses that it may send from while it is locked.
    #[serde(default)]
    pub ipv4_allowed: Vec<String>,
    /// The same of IPv6.
    #[serde(default)]
    pub ipv6_allowed: Vec<String>,
}

/// What ties a disk to a VM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Vbd {
    /// `Disk` or `CD`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The disk, or [`NULL`].
    #[serde(rename = "VDI")]
    pub vdi: String,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Vdi {
    /// Where it is stored.
    #[serde(rename = "SR")]
    pub sr: String,
    /// What ties it to VMs.
    #[serde(rename = "VBDs", default)]
    pub vbds: Vec<String>,
}

/// Where disks are stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Sr {
    /// `lvm`, `ext`, `nfs`, `iso` ...
    #[serde(rename = "type")]
    pub kind: String,
    /// `iso` for pictures of CDs.
    #[serde(default)]
    pub content_type: String,
}

/// A long call that is under way, or has ended.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Task {
    /// `pending`, `success`, `failure`, `cancelling` or `cancelled`.
    pub status: String,
    /// From 0 to 1.
    #[serde(default)]
    pub progress: f64,
    /// What it gave, as XML-RPC's `<value>`.
    #[serde(default)]
    pub result: String,
    /// Why it failed: a code and what belongs to it.
    #[serde(default)]
    pub error_info: Vec<String>,
}

/// What who waits for changes is answered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct EventBatch {
    /// Where to go on.
    pub token: String,
    /// What has changed since.
    pub events: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Change {
    /// Of which class, in small letters.
    pub class: String,
    /// `add`, `mod` or `del`.
    pub operation: String,
    /// Of what.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Its record now; not with `del`.
    #[serde(default)]
    pub snapshot: Option<super::rpc::Value>,
}

/// What ties storage to a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pbd {
    /// The host.
    pub host: String,
    /// The storage.
    #[serde(rename = "SR")]
    pub sr: String,
    /// True while the host can use it.
    #[serde(default)]
    pub currently_attached: bool,
}
