//! What a driver is: the types that it and the router speak in, and the two traits of the two
//! kinds.
//!
//! A [`Hypervisor`] has some of the site's servers; a VM can be moved between servers of the same
//! one. It keeps no state that a restart needs: what it made carries our tag and is found again by
//! [`Hypervisor::list`], and a migration that a killed controller left is looked up by
//! [`Hypervisor::resolve`]. Every call may be repeated; one for what is already so is answered as
//! done. A call that is given up (dropped, at the router's time-out) leaves nothing behind that a
//! repeated call or `resolve` does not clean up.

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

/// What a driver can do, for people and for the router. What it cannot is refused with that reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Moves VMs while they run.
    pub live: bool,
    /// Moves VMs that are stopped for it.
    pub cold: bool,
    /// A live move takes local disks along.
    pub storage: bool,
    /// A move can be given up.
    pub cancel: bool,
    /// A move says how far it is.
    pub progress: bool,
    /// A move keeps to a highest rate, which can be changed.
    pub rate: bool,
    /// Running VMs get other resources.
    pub resize: bool,
    /// Loads are counted.
    pub loads: bool,
    /// Knows the addresses of its VMs by itself; otherwise switches learn them.
    pub addresses: bool,
}

/// What state a VM that was found is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FoundState {
    /// It runs.
    Running,
    /// It is there, paused or suspended: of a migration that was cut, or by somebody's hand.
    Paused,
    /// It came with a migration that has not ended: it has never run there.
    Incoming,
    /// Its definition is there, but it does not run.
    Halted,
    /// It has crashed or is on its way to its end.
    Dying,
}

/// A VM of ours that is on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredVm {
    /// Which, by our tag.
    pub vm: VmId,
    /// Where.
    pub server: ServerId,
    /// Its state.
    pub state: FoundState,
    /// Its name there, for people.
    pub name: String,
    /// What is kept with it: what it was last asked for with. `None` where an older version has
    /// made it.
    pub spec: Option<Box<VmSpec>>,
}

/// What a server and its VMs have used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLoad {
    /// The server itself, the hypervisor's own share included.
    pub server: LoadSample,
    /// Its VMs.
    pub vms: Vec<(VmId, LoadSample)>,
}

/// Which move: enough to find what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationKey {
    /// Its id; what is left on hosts is named after it.
    pub migration: MigrationId,
    /// Which VM.
    pub vm: VmId,
    /// Where it runs, or ran.
    pub from: ServerId,
    /// Where it goes.
    pub to: ServerId,
}

/// A move that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrateOrder {
    /// Which, and from where to where.
    pub key: MigrationKey,
    /// Live or cold.
    pub manner: MigrationMode,
    /// As it will be there.
    pub spec: VmSpec,
    /// Pre-copy ends when the rest can be sent in this time, where the hypervisor can be told.
    pub downtime: Duration,
    /// Pre-copy ends after so many rounds, where the hypervisor can be told.
    pub rounds: u32,
}

/// What is heard of a move while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationReport {
    /// How far it is; a few times a second at most.
    Progress(Progress),
    /// The VM was paused for the last of its memory: it can no longer be cancelled. Reported once,
    /// before the VM runs elsewhere.
    Suspended,
}

/// How a move is followed and steered while it is under way.
#[derive(Debug, Clone)]
pub struct MigrationControl {
    /// Reports go here. A reader that has gone is no reason to stop.
    pub reports: mpsc::Sender<MigrationReport>,
    /// The highest rate of the transfer now; it may change at any time.
    pub rate: watch::Receiver<BitRate>,
    /// Give it up, if it can be: the driver returns when all is cleaned up, with where the VM is.
    pub cancel: CancellationToken,
}

/// A move that ended well: the VM runs at its new server, and nothing of it is left on the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// How long it was silent, where the hypervisor knows.
    pub downtime: Option<Duration>,
}

/// Something happened to a VM of ours that we did not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDown {
    /// Where it was.
    pub server: ServerId,
    /// Which VM: it does not run any more.
    pub vm: VmId,
    /// What happened, in words.
    pub why: String,
}

/// A driver: hosts of one kind that can move VMs among themselves.
///
/// Calls come from many tasks at once, but never two for the same VM. `server` is always one of
/// [`Hypervisor::servers`].
#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// What it is, for people: `xl`, `xapi pool lab`.
    fn name(&self) -> &str;

    /// Which servers of the site it has.
    fn servers(&self) -> &[ServerId];

    /// What it can do with a server's VMs; may depend on what was found there when it was last
    /// reached.
    fn capabilities(&self, server: ServerId) -> Capabilities;

    /// Has the server's host or pool serve this controller and no other. Its record of that is
    /// written if nobody has one, or with `take_over`, and nothing else is. Gives another
    /// controller that has tried since this was asked last, once.
    ///
    /// # Errors
    /// [`VmmError::Owned`] when it serves another one, which is then told by its own next call of
    /// this; or when it cannot be asked.
    async fn claim(
        &self,
        _server: ServerId,
        _owner: &Owner,
        _take_over: bool,
    ) -> Result<Option<Owner>, VmmError> {
        Ok(None)
    }

    /// Puts there what the driver needs, and removes what waits there for a migration that nobody
    /// carries any more.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn prepare(&self, _server: ServerId) -> Result<(), VmmError> {
        Ok(())
    }

    /// The VMs on a server that carry our tag, in every state. Changes nothing, whatever is there,
    /// and writes nothing.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn list(&self, server: ServerId) -> Result<Vec<DiscoveredVm>, VmmError>;

    /// Makes a VM from its image and starts it; one that runs already is as good. Gives its address
    /// where the hypervisor knows it.
    ///
    /// # Errors
    /// When it cannot be started; then nothing of it is left. [`VmmError::NotMeant`] when there is
    /// one that was made for another request, whatever state it is in; [`VmmError::MadeForUnknown`]
    /// when nothing says for which.
    async fn allocate(&self, server: ServerId, vm: VmId, spec: &VmSpec)
    -> Result<Option<Ipv4Addr>, VmmError>;

    /// Lets a VM shut down, stops it hard after a while, and removes it with its disks. One that is
    /// not there is as good.
    ///
    /// With `placed_at`, only the one that was made for that request. One of an earlier release,
    /// which does not say for which, is given its tag when its controller connects; without one it
    /// is not touched.
    ///
    /// # Errors
    /// When it may still be there. [`VmmError::NotMeant`] and [`VmmError::MadeForUnknown`] when
    /// what is there is not meant.
    async fn destroy(&self, server: ServerId, vm: VmId, placed_at: Option<Time>) -> Result<(), VmmError>;

    /// Keeps this with a VM, in place of what was kept before: [`DiscoveredVm::spec`]. Nothing else
    /// of the VM changes.
    ///
    /// # Errors
    /// When it cannot be written.
    async fn tag(&self, _server: ServerId, _vm: VmId, _spec: &VmSpec) -> Result<(), VmmError> {
        Ok(())
    }

    /// Gives a running VM other resources.
    ///
    /// # Errors
    /// When it cannot have them; then it has what it had.
    async fn resize(&self, server: ServerId, vm: VmId, resources: Resources) -> Result<(), VmmError>;

    /// Moves a running VM's interface to another uplink of its server.
    ///
    /// # Errors
    /// When that cannot be done; then it is where it was.
    async fn attach(&self, server: ServerId, vm: VmId, uplink: PortNo) -> Result<(), VmmError>;

    /// A VM's address, where the hypervisor knows it.
    ///
    /// # Errors
    /// When the server cannot be asked, or has no such VM.
    async fn address(&self, server: ServerId, vm: VmId) -> Result<Option<Ipv4Addr>, VmmError>;

    /// What a server and its VMs have used.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn load(&self, server: ServerId) -> Result<ServerLoad, VmmError>;

    /// Whether a VM can be moved so: disks that the other server cannot reach, memory that it does
    /// not have, a manner that is not possible. Changes nothing.
    ///
    /// # Errors
    /// Why not.
    async fn can_migrate(&self, order: &MigrateOrder) -> Result<(), VmmError>;

    /// Moves a VM, and returns when it has ended. One with this id that is under way on the hosts
    /// (the controller was restarted, or the connection was cut) is taken up again. The router has
    /// called [`Hypervisor::can_migrate`] and [`Hypervisor::resolve`] before.
    ///
    /// # Errors
    /// When it was not moved: why, and where it runs now. What was left on either side is cleaned
    /// up, as far as the hosts answer.
    async fn migrate(&self, order: &MigrateOrder, control: MigrationControl) -> Result<Moved, MigrateError>;

    /// Finds out where the VM of a move is, and cleans up what the move has left on either side: a
    /// VM that waits for its memory is removed, one that was paused for a move that failed runs
    /// again. A move that is still under way is left alone, and so is told; with `stop` it is given
    /// up instead. Nothing was left when nothing is known of the move: then this only says where
    /// the VM is.
    async fn resolve(&self, key: MigrationKey, stop: bool) -> ResolveOutcome;

    /// Tells at once of VMs of ours that somebody else stops or removes, until nobody reads it any
    /// more. What a driver that cannot hear of such things has missed is found by
    /// [`Hypervisor::list`].
    async fn watch(&self, vm_down: mpsc::Sender<VmDown>) {
        vm_down.closed().await;
    }
}

/// A driver that keeps the order of what it does where its VMs are: a service of servers, on which
/// orders go as they are, and whose reports are events.
///
/// It may have any number of the site's servers; all that is known of them comes by one connection.
/// An order may be repeated, and one for what is already so is answered as done; a migration that
/// has ended is answered as it ended. The answers for one VM come in the order of its orders.
#[async_trait]
pub trait HypervisorService: Send + Sync + 'static {
    /// What it is, for people.
    fn name(&self) -> &str;

    /// Which servers of the site it has.
    fn servers(&self) -> &[ServerId];

    /// Keeps attached to the service, and attaches again whenever it has been away, until the link
    /// is closed. Every attachment begins with [`ServiceLink::up`] and ends with
    /// [`ServiceLink::down`]; an attempt that fails is a `down` too.
    async fn attach(&self, owner: &Owner, link: ServiceLink);
}

/// What a service says when it is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceHello {
    /// Its name, for people.
    pub world: String,
    /// The VMs that run there.
    pub vms: Vec<FoundVm>,
    /// It can generate traffic.
    pub traffic: bool,
}

/// A driver, by who keeps the order of what it does.
#[derive(Clone)]
pub enum Driver {
    /// The router does: it makes one call after the other for each VM.
    Called(Arc<dyn Hypervisor>),
    /// The driver does: it is given orders as they come.
    Service(Arc<dyn HypervisorService>),
}

/// What became of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveOutcome {
    /// It is under way on the hosts: [`Hypervisor::migrate`] takes it up.
    UnderWay,
    /// It is not; this is where the VM is, and the reason where something is not as it should be.
    Ended(VmLocation, Option<VmmError>),
}
