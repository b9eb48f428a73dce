//! The part of XAPI's data model that is used here: records, with integers as numbers or as text.

use super::rpc::integer;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The null reference.
pub const NULL: &str = "OpaqueRef:NULL";

/// A map of texts, as `other_config` is.
pub type Texts = BTreeMap<String, String>;

/// A VM or a template.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Vm {
    /// Unchanged for the VM's life, also after a move to another pool.
    pub uuid: String,
    /// A name for people.
    pub name_label: String,
    /// `Halted`, `Paused`, `Running` or `Suspended`.
    pub power_state: String,
    /// True for a template.
    pub is_a_template: bool,
    /// True for a host's own domain.
    #[serde(default)]
    pub is_control_domain: bool,
    /// True for a snapshot.
    #[serde(default)]
    pub is_a_snapshot: bool,
    /// The host that it runs on, or [`NULL`].
    pub resident_on: String,
    /// Its preferred host, or [`NULL`].
    #[serde(default)]
    pub affinity: String,
    /// Keys and values of any program, also ours.
    #[serde(default)]
    pub other_config: Texts,
    /// Operations under way, by task.
    #[serde(default)]
    pub current_operations: Texts,
    /// Its interfaces.
    #[serde(rename = "VIFs", default)]
    pub vifs: Vec<String>,
    /// Its block devices.
    #[serde(rename = "VBDs", default)]
    pub vbds: Vec<String>,
    /// The most bytes of memory that it can be given while it runs.
    #[serde(deserialize_with = "integer")]
    pub memory_static_max: i64,
    /// The fewest bytes of memory that it needs.
    #[serde(deserialize_with = "integer")]
    pub memory_static_min: i64,
    /// The present upper limit of its memory in bytes.
    #[serde(deserialize_with = "integer")]
    pub memory_dynamic_max: i64,
    /// The most CPUs that it can be given while it runs.
    #[serde(rename = "VCPUs_max", deserialize_with = "integer")]
    pub vcpus_max: i64,
    /// The report of its guest, or [`NULL`].
    #[serde(default)]
    pub guest_metrics: String,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Host {
    /// Unchanged for the host's life.
    pub uuid: String,
    /// A name for people.
    pub name_label: String,
    /// Address of its management interface.
    pub address: String,
    /// False while it accepts no VMs.
    pub enabled: bool,
}

/// A network of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Network {
    /// A name for people.
    pub name_label: String,
    /// Its bridge on every host of the pool.
    pub bridge: String,
}

/// A host's interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pif {
    /// Its host.
    pub host: String,
    /// Its network.
    pub network: String,
    /// True for the interface that XAPI is reached by.
    #[serde(default)]
    pub management: bool,
}

/// A VM's interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Vif {
    /// Its number in the VM.
    pub device: String,
    /// Its network.
    pub network: String,
    /// Ethernet address.
    #[serde(rename = "MAC")]
    pub mac: String,
    /// The filter for sent packets: `network_default`, `locked`, `unlocked`, `disabled`.
    #[serde(default)]
    pub locking_mode: String,
    /// IPv4 addresses that it may send from while locked.
    #[serde(default)]
    pub ipv4_allowed: Vec<String>,
    /// IPv6 addresses that it may send from while locked.
    #[serde(default)]
    pub ipv6_allowed: Vec<String>,
}

/// The connection of a disk to a VM.
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
    /// Its storage repository.
    #[serde(rename = "SR")]
    pub sr: String,
    /// Its connections to VMs.
    #[serde(rename = "VBDs", default)]
    pub vbds: Vec<String>,
}

/// A storage repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Sr {
    /// `lvm`, `ext`, `nfs`, `iso` ...
    #[serde(rename = "type")]
    pub kind: String,
    /// `iso` for CD images.
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
    /// Its result, as XML-RPC's `<value>`.
    #[serde(default)]
    pub result: String,
    /// The reason of a failure: a code and its arguments.
    #[serde(default)]
    pub error_info: Vec<String>,
}

/// The reply to a poll for changes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct EventBatch {
    /// Start of the next poll.
    pub token: String,
    /// Changes since the last poll.
    pub events: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Change {
    /// Its class, in lower case.
    pub class: String,
    /// `add`, `mod` or `del`.
    pub operation: String,
    /// The changed object.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Its present record; absent with `del`.
    #[serde(default)]
    pub snapshot: Option<super::rpc::Value>,
}

/// The connection of a storage repository to a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pbd {
    /// The host.
    pub host: String,
    /// The storage repository.
    #[serde(rename = "SR")]
    pub sr: String,
    /// Whether the host can use it.
    #[serde(default)]
    pub currently_attached: bool,
}
