//! The interface of drivers: the types that a driver and the router exchange, and the traits of the
//! two kinds of drivers.
//!
//! A [`Hypervisor`] has some of the site's servers; a VM can be moved between servers of the same
//! driver. It has no state that a restart needs: its VMs carry our tag and are found by
//! [`Hypervisor::list`], and [`Hypervisor::resolve`] finds a migration that a killed controller has
//! left. Every call may be repeated, and succeeds if there is nothing to do. A call that is dropped
//! (at the router's time-out) leaves nothing behind that a repeated call or `resolve` does not
//! clean up.

use crate::VmmError;
use crate::errors::{MigrateError, VmLocation};
use crate::owner::Owner;
use crate::router::ServiceLink;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tandem_model::{
    BitRate, FoundVm, LoadSample, MigrationId, MigrationMode, PortNo, Progress, Resources, ServerId, Time,
    VmId, VmSpec,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
pub use tonic::async_trait;

/// The capabilities of a driver, for people and for the router. Requests beyond them are refused
/// with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Moves running VMs.
    pub live: bool,
    /// Stops VMs to move them.
    pub cold: bool,
    /// A live move copies local disks too.
    pub storage: bool,
    /// A move can be cancelled.
    pub cancel: bool,
    /// A move reports its progress.
    pub progress: bool,
    /// A move has a rate limit, which can be changed.
    pub rate: bool,
    /// Running VMs can be given other resources.
    pub resize: bool,
    /// It counts loads.
    pub loads: bool,
    /// It knows the addresses of its VMs; otherwise switches learn them.
    pub addresses: bool,
}

/// The state of a VM that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FoundState {
    /// It runs.
    Running,
    /// It is paused or suspended: by a migration that was interrupted, or by somebody else.
    Paused,
    /// It belongs to a migration that has not ended, and has never run there.
    Incoming,
    /// It is defined, but does not run.
    Halted,
    /// It has crashed or is being destroyed.
    Dying,
}

/// A VM with our tag on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredVm {
    /// Its id, from the tag.
    pub vm: VmId,
    /// Its server.
    pub server: ServerId,
    /// Its state.
    pub state: FoundState,
    /// Its name on the host.
    pub name: String,
    /// The specification stored with it: that of its last request. `None` if an older version has
    /// created it.
    pub spec: Option<Box<VmSpec>>,
}

/// The resources used by a server and its VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLoad {
    /// The whole server, with the hypervisor's own share.
    pub server: LoadSample,
    /// Its VMs.
    pub vms: Vec<(VmId, LoadSample)>,
}

/// Identifies a move, and suffices to find what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationKey {
    /// Its id, which is part of the names of its files on hosts.
    pub migration: MigrationId,
    /// The VM.
    pub vm: VmId,
    /// The source server.
    pub from: ServerId,
    /// The target server.
    pub to: ServerId,
}

/// A requested move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrateOrder {
    /// The VM and its servers.
    pub key: MigrationKey,
    /// Live or cold.
    pub manner: MigrationMode,
    /// The VM's specification after the move.
    pub spec: VmSpec,
    /// Pre-copy ends when the rest can be sent in this time, if the hypervisor supports that
    /// setting.
    pub downtime: Duration,
    /// Pre-copy ends after this many rounds, if the hypervisor supports that setting.
    pub rounds: u32,
}

/// A report about a move that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationReport {
    /// Its progress; at most a few times a second.
    Progress(Progress),
    /// The VM was paused for the last round: the move can no longer be cancelled. Reported once,
    /// before the VM runs on the target.
    Suspended,
}

/// Reports and controls of a move that is under way.
#[derive(Debug, Clone)]
pub struct MigrationControl {
    /// Reports are sent here. If the receiver is gone, the move goes on.
    pub reports: mpsc::Sender<MigrationReport>,
    /// The present rate limit of the transfer; it may change at any time.
    pub rate: watch::Receiver<BitRate>,
    /// Cancels the move, if that is possible: the driver returns after the clean-up, with the VM's
    /// location.
    pub cancel: CancellationToken,
}

/// A move that succeeded: the VM runs on the target, and nothing of it is left on the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// How long the VM was paused, if the hypervisor reports it.
    pub downtime: Option<Duration>,
}

/// A VM of ours stopped, and not by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDown {
    /// Its server.
    pub server: ServerId,
    /// The VM, which no longer runs.
    pub vm: VmId,
    /// The reason, as text.
    pub why: String,
}

/// A driver: hosts of one kind that can move VMs among each other.
///
/// Calls come from many tasks at once, but never two for the same VM. `server` is always one of
/// [`Hypervisor::servers`].
#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// Its name, for people: `xl`, `xapi pool lab`.
    fn name(&self) -> &str;

    /// Its servers.
    fn servers(&self) -> &[ServerId];

    /// Its capabilities for a server's VMs; they may depend on what was found when the server was
    /// last reached.
    fn capabilities(&self, server: ServerId) -> Capabilities;

    /// Claims the server's host or pool for this controller. The record of the owner is written if
    /// there is none, or with `take_over`; nothing else is written. Returns another controller that
    /// has tried since the last call, once.
    ///
    /// [`VmmError::Owned`] when it serves another controller, which gets to know of this try by its
    /// next call; or when the server does not answer.
    async fn claim(
        &self,
        _server: ServerId,
        _owner: &Owner,
        _take_over: bool,
    ) -> Result<Option<Owner>, VmmError> {
        Ok(None)
    }

    /// Installs what the driver needs on the host, and removes incoming domains of migrations that
    /// have ended.
    ///
    /// When the server does not answer.
    async fn prepare(&self, _server: ServerId) -> Result<(), VmmError> {
        Ok(())
    }

    /// The VMs with our tag on a server, in every state. Reads only.
    ///
    /// When the server does not answer.
    async fn list(&self, server: ServerId) -> Result<Vec<DiscoveredVm>, VmmError>;

    /// Creates a VM from its image and starts it, unless it runs already. Returns its address if
    /// the hypervisor knows it.
    ///
    /// When it cannot be started; nothing of it is left then. [`VmmError::NotMeant`] when there is
    /// one that was created for another request, whatever its state; [`VmmError::MadeForUnknown`]
    /// when its request is unknown.
    async fn allocate(&self, server: ServerId, vm: VmId, spec: &VmSpec)
    -> Result<Option<Ipv4Addr>, VmmError>;

    /// Shuts a VM down, forces it off after a while, and removes it with its disks. Succeeds if it
    /// does not exist.
    ///
    /// With `placed_at`, only if it was created for that request. A VM of an earlier release,
    /// without that record, gets it when its controller connects; until then it is not touched.
    ///
    /// When it may still exist. [`VmmError::NotMeant`] and [`VmmError::MadeForUnknown`] when the
    /// existing one is not the one requested.
    async fn destroy(&self, server: ServerId, vm: VmId, placed_at: Option<Time>) -> Result<(), VmmError>;

    /// Stores this specification with a VM, replacing the former one: [`DiscoveredVm::spec`].
    /// Nothing else of the VM changes.
    ///
    /// # Errors
    /// When it cannot be written.
    async fn tag(&self, _server: ServerId, _vm: VmId, _spec: &VmSpec) -> Result<(), VmmError> {
        Ok(())
    }

    /// Gives other resources to a running VM.
    ///
    /// When that is not possible; its resources are unchanged then.
    async fn resize(&self, server: ServerId, vm: VmId, resources: Resources) -> Result<(), VmmError>;

    /// Moves a running VM's interface to another uplink of its server.
    ///
    /// When that is not possible; the interface stays on its uplink then.
    async fn attach(&self, server: ServerId, vm: VmId, uplink: PortNo) -> Result<(), VmmError>;

    /// A VM's address, if the hypervisor knows it.
    ///
    /// When the server does not answer, or has no such VM.
    async fn address(&self, server: ServerId, vm: VmId) -> Result<Option<Ipv4Addr>, VmmError>;

    /// The resources used by a server and its VMs.
    ///
    /// When the server does not answer.
    async fn load(&self, server: ServerId) -> Result<ServerLoad, VmmError>;

    /// Checks whether a VM can be moved: whether the target reaches its disks and has the memory,
    /// and whether the mode is supported. Changes nothing.
    ///
    /// Why the VM cannot be moved.
    async fn can_migrate(&self, order: &MigrateOrder) -> Result<(), VmmError>;

    /// Moves a VM, and returns when the move has ended. A move with this id that is under way on
    /// the hosts (the controller was restarted, or the connection was lost) is continued. The
    /// router calls [`Hypervisor::can_migrate`] and [`Hypervisor::resolve`] before.
    ///
    /// When it was not moved: the reason, and where it runs now. The rest of the move is cleaned up
    /// as far as the hosts answer.
    async fn migrate(&self, order: &MigrateOrder, control: MigrationControl) -> Result<Moved, MigrateError>;

    /// Finds the VM of a move, and cleans up what the move has left on either side: an incoming VM
    /// is removed, one that was paused for a failed move resumes. A move that is still under way is
    /// reported and left alone; with `stop` it is cancelled. If the move is unknown on the hosts,
    /// this only locates the VM.
    async fn resolve(&self, key: MigrationKey, stop: bool) -> ResolveOutcome;

    /// Reports VMs of ours that somebody else stops or removes, until the receiver is gone.
    /// [`Hypervisor::list`] finds those that a driver has missed.
    async fn watch(&self, vm_down: mpsc::Sender<VmDown>) {
        vm_down.closed().await;
    }
}

/// A driver that keeps the order of its calls itself: a service with servers, which gets the core's
/// orders as they are, and reports events.
///
/// It may have any number of the site's servers, over one connection. An order may be repeated, and
/// succeeds if there is nothing to do; for a migration that has ended, the result is repeated.
/// Results for one VM come in the order of its orders.
#[async_trait]
pub trait HypervisorService: Send + Sync + 'static {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// Its servers.
    fn servers(&self) -> &[ServerId];

    /// Stays attached to the service, and attaches again whenever the service has been unreachable,
    /// until the link is closed. Every attachment begins with [`ServiceLink::up`] and ends with
    /// [`ServiceLink::down`]; an attempt that fails is a `down` too.
    async fn attach(&self, owner: &Owner, link: ServiceLink);
}

/// The first message of a service after attaching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceHello {
    /// Its name, for people.
    pub world: String,
    /// The VMs that run there.
    pub vms: Vec<FoundVm>,
    /// It can generate traffic.
    pub traffic: bool,
}

/// A driver, by what keeps the order of its calls.
#[derive(Clone)]
pub enum Driver {
    /// The router: it makes one call after the other for each VM.
    Called(Arc<dyn Hypervisor>),
    /// The driver itself: it gets orders as they come.
    Service(Arc<dyn HypervisorService>),
}

/// The result of [`Hypervisor::resolve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveOutcome {
    /// The move is under way on the hosts: [`Hypervisor::migrate`] continues it.
    UnderWay,
    /// The move is not under way; this is where the VM is, with an error if something is not in
    /// order.
    Ended(VmLocation, Option<VmmError>),
}
